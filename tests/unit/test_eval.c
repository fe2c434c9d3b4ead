// SPDX-License-Identifier: Apache-2.0
/* eval_rule() over a compiled class against a plain reading of the policy itself. */
#include <string.h>

#include "tests/unit/policy_gen.h"

struct tally {
	const struct dmm_policy *policy;
	const struct dmm_class *class;
	unsigned long hits, misses, wrong;
};

static void compare(const struct gen_socket *g, void *ctx)
{
	struct tally *t = ctx;
	struct eval_socket s = g->s;
	unsigned want = naive_rule(t->policy, g);

	if (g->group)
		s.group = (dmm_u8)class_group(t->class, g->group);
	t->wrong += eval_rule(t->class, &s) != want;
	if (want == DMM_RULE_NONE)
		t->misses++;
	else
		t->hits++;
}

static void test_property(void)
{
	struct dmm_class *c = class_new();
	struct tally t = {.class = c};

	for (uint64_t seed = 0; seed < 3000; seed++) {
		struct rng r = {.state = seed};
		struct dmm_policy *p = seed & 1 ? gen_policy_full(&r) : gen_policy(&r);

		CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
		t.policy = p;
		for (int i = 0; i < 200; i++) {
			struct gen_socket g;

			gen_socket(&r, p, &g);
			compare(&g, &t);
		}
		naive_boundaries(&r, p, compare, &t);
		policy_free(p);
	}
	CU_ASSERT_EQUAL(t.wrong, 0);
	/* A test in which nothing ever matches proves nothing. */
	CU_ASSERT(t.hits > 100000);
	CU_ASSERT(t.misses > 100000);
	class_free(c);
}

static unsigned eval_text(const char *text, const struct eval_socket *s)
{
	struct dmm_class *c = class_new();
	struct policy_diags d = {0};
	struct dmm_policy *p = NULL;
	unsigned rule;

	CU_ASSERT_EQUAL_FATAL(policy_parse_text("t", text, strlen(text), &p, &d), 0);
	CU_ASSERT_EQUAL_FATAL(policy_check(p, &d), 0);
	CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
	rule = eval_rule(c, s);
	policy_diags_fini(&d);
	policy_free(p);
	class_free(c);
	return rule;
}

static void test_edges(void)
{
	const struct eval_socket listener = {.role = DMM_ROLE_SERVER, .proto = 6};
	struct eval_socket v6 = {.proto = 6, .remote = {.ip = {0x20, 1}, .port = 443}};
	struct eval_socket v4 = {
		.proto = 6,
		.remote = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1}, .port = 443}};

	/* An unknown remote fits no restriction of the remote, but ::/0 is none. */
	CU_ASSERT_EQUAL(eval_text("rules: [{match: {remote: 0.0.0.0/0}, use: reject}]", &listener),
			DMM_RULE_NONE);
	CU_ASSERT_EQUAL(
		eval_text("rules: [{match: {remote_port: 1-65535}, use: reject}]", &listener),
		DMM_RULE_NONE);
	CU_ASSERT_EQUAL(eval_text("rules: [{match: {remote: \"::/0\"}, use: reject}]", &listener),
			0);
	/* 0.0.0.0/0 is IPv4, ::/0 both. */
	CU_ASSERT_EQUAL(eval_text("rules: [{match: {remote: 0.0.0.0/0}, use: reject}]", &v4), 0);
	CU_ASSERT_EQUAL(eval_text("rules: [{match: {remote: 0.0.0.0/0}, use: reject}]", &v6),
			DMM_RULE_NONE);
	CU_ASSERT_EQUAL(eval_text("rules: [{match: {remote: \"::/0\"}, use: reject}]", &v4), 0);
	CU_ASSERT_EQUAL(eval_text("rules: [{match: {remote: \"::/0\"}, use: reject}]", &v6), 0);
	/* The first that fits, not the closest. */
	CU_ASSERT_EQUAL(eval_text("rules: [{match: {remote: 11.0.0.0/8}, use: reject}, "
				  "{match: {remote: 10.0.0.0/8}, use: kernel}, "
				  "{match: {remote: 10.0.0.1}, use: reject}]",
				  &v4),
			1);
	CU_ASSERT_EQUAL(eval_text("default: reject", &v4), DMM_RULE_NONE);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"random policies and sockets, against a plain reading", test_property},
		{"edges", test_edges},
		CU_TEST_INFO_NULL,
	};

	return unit_run("eval", tests);
}
