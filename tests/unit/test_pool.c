// SPDX-License-Identifier: Apache-2.0
/* Pools of the native engine: limits, and memory that goes back. */
#include <CUnit/CUnit.h>

#include "tests/unit/unit.h"
#include "userstack/engine/native/pool.h"

#define SIZE 65536u
#define KEPT (8388608u / SIZE)

static void *object[10000];

static void test_limit(void)
{
	struct pool p;

	pool_init(&p, 100, 3);
	for (unsigned i = 0; i < 3; i++)
		CU_ASSERT_PTR_NOT_NULL(object[i] = pool_get(&p));
	CU_ASSERT_PTR_NULL(pool_get(&p));
	pool_put(&p, object[1]);
	CU_ASSERT_PTR_EQUAL(pool_get(&p), object[1]);
	for (unsigned i = 0; i < 3; i++)
		pool_put(&p, object[i]);
	CU_ASSERT_EQUAL(p.used, 0);
	pool_fini(&p);
}

/* Some are kept for those that come next, but not what a crowd needed. */
static void test_shrink(void)
{
	struct pool p;

	pool_init(&p, SIZE, 10000);
	for (unsigned i = 0; i < 10000; i++)
		object[i] = pool_get(&p);
	for (unsigned i = 0; i < 100; i++)
		pool_put(&p, object[i]);
	CU_ASSERT_EQUAL(p.spare, 100);
	for (unsigned i = 100; i < 9900; i++)
		pool_put(&p, object[i]);
	CU_ASSERT_EQUAL(p.used, 100);
	CU_ASSERT(p.spare >= KEPT && p.spare <= KEPT + 25);
	for (unsigned i = 9900; i < 10000; i++)
		pool_put(&p, object[i]);
	CU_ASSERT(p.spare <= KEPT);
	pool_fini(&p);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"the limit", test_limit},
		{"memory goes back", test_shrink},
		CU_TEST_INFO_NULL,
	};

	return unit_run("pool", tests);
}
