// SPDX-License-Identifier: Apache-2.0
/* What is kept for the page: the last samples in order, with the names that the stacks had. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/trend.h"
#include "tests/unit/unit.h"

static struct telemetry t;
static struct dmm_class class;

static json_int_t number(json_t *list, size_t i, const char *stack, const char *key)
{
	json_t *s = json_object_get(json_object_get(json_array_get(list, i), "stacks"), stack);

	return json_is_integer(json_object_get(s, key))
		       ? json_integer_value(json_object_get(s, key))
		       : -1;
}

static void test_kept(void)
{
	struct trend *trend = trend_new();
	const unsigned n = TREND_KEEP + 10;
	json_t *list;

	CU_ASSERT_PTR_NOT_NULL_FATAL(trend);
	list = trend_json(trend);
	CU_ASSERT_EQUAL(json_array_size(list), 0);
	json_decref(list);
	t.class = &class;
	class.stack[0].kind = DMM_KIND_KERNEL;
	strcpy(class.stack[0].name, "kernel");
	class.stack[1].kind = DMM_KIND_USERSPACE;
	for (unsigned i = 0; i < n; i++) {
		strcpy(class.stack[1].name, i + 1 < n ? "edge0" : "other");
		t.stack[0].active = i;
		t.stack[1].counter[DMM_I_APP_RX_BYTES] = i;
		t.stack[1].counter[DMM_I_APP_TX_BYTES] = 1;
		t.verdict[DMM_VERDICT_INDEX(1, DMM_ROLE_SERVER, DMM_REASON_RULE)] = 2 * i;
		t.verdict[DMM_VERDICT_INDEX(1, DMM_ROLE_CLIENT, DMM_REASON_DEFAULT)] = i;
		trend_add(trend, &t, 1000 + i);
	}
	list = trend_json(trend);
	CU_ASSERT_EQUAL_FATAL(json_array_size(list), TREND_KEEP);
	for (unsigned k = 0; k + 1 < TREND_KEEP; k++) {
		json_t *at = json_object_get(json_array_get(list, k), "at_ms");

		CU_ASSERT_EQUAL(json_integer_value(at), 1010 + k);
		CU_ASSERT_EQUAL(number(list, k, "kernel", "sockets"), 10 + k);
		CU_ASSERT_EQUAL(number(list, k, "kernel", "bytes"), -1);
		CU_ASSERT_EQUAL(number(list, k, "edge0", "bytes"), 11 + k);
		CU_ASSERT_EQUAL(number(list, k, "edge0", "decided"), 3 * (10 + k));
	}
	CU_ASSERT_EQUAL(number(list, TREND_KEEP - 1, "edge0", "bytes"), -1);
	CU_ASSERT_EQUAL(number(list, TREND_KEEP - 1, "other", "bytes"), n);
	json_decref(list);
	t.stack[0].measured.ended = 1;
	t.stack[0].measured.rx_bytes = 70;
	t.stack[0].measured.tx_bytes = 7;
	trend_add(trend, &t, 1000 + n);
	list = trend_json(trend);
	CU_ASSERT_EQUAL(number(list, TREND_KEEP - 1, "kernel", "bytes"), 77);
	json_decref(list);
	trend_free(trend);
}

int main(void)
{
	static CU_TestInfo tests[] = {
		{"the last samples in order", test_kept},
		CU_TEST_INFO_NULL,
	};

	return unit_run("trend", tests);
}
