// SPDX-License-Identifier: Apache-2.0
/*
 * Any text through the parser; what it takes is written as text that reads back and is written the
 * same, whatever the check says. What the check takes goes on through compile, decompile, format
 * and back: that must give the same image.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/check.h"
#include "policyd/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The image of the text that p is written as. */
static void again(const struct dmm_policy *p, const struct dmm_class *prev, struct dmm_class *ret)
{
	struct policy_diags diags = {0};
	struct dmm_policy *q;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out || policy_format(p, out) < 0 || fclose(out) != 0)
		abort();
	if (policy_parse_text("again", text, len, &q, &diags) < 0)
		abort();
	if (class_compile(q, prev, ret) < 0)
		abort();
	policy_free(q);
	policy_diags_fini(&diags);
	free(text);
}

static char *format(const struct dmm_policy *p)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out || policy_format(p, out) < 0 || fclose(out) != 0)
		abort();
	return text;
}

static void same_text(const struct dmm_policy *p)
{
	struct policy_diags diags = {0};
	struct dmm_policy *q = NULL;
	char *a = format(p), *b;

	if (policy_parse_text("again", a, strlen(a), &q, &diags) < 0)
		abort();
	b = format(q);
	if (strcmp(a, b) != 0)
		abort();
	policy_free(q);
	policy_diags_fini(&diags);
	free(a);
	free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct dmm_class a, b;
	struct policy_diags diags = {0};
	struct dmm_policy *p = NULL, *q;

	if (policy_parse_text("fuzz", (const char *)data, size, &p, &diags) == 0) {
		same_text(p);
		policy_check(p, &diags);
	}
	if (p && policy_check(p, &diags) == 0) {
		if (class_compile(p, NULL, &a) < 0 || class_decompile(&a, &q) < 0)
			abort();
		if (class_compile(q, &a, &b) < 0 || !class_equal(&a, &b))
			abort();
		again(q, &a, &b);
		if (class_diff(&a, &b, NULL) != 0)
			abort();
		policy_free(q);
	}
	policy_free(p);
	policy_diags_fini(&diags);
	return 0;
}
