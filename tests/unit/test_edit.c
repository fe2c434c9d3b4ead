// SPDX-License-Identifier: Apache-2.0
/* A class that was edited rule by rule is what a whole compile of the edited policy makes. */
#include <string.h>

#include "policyd/edit.h"
#include "tests/unit/policy_gen.h"

struct tally {
	const struct dmm_policy *policy;
	const struct dmm_class *class;
	unsigned long edits, no_room, pairs, hits, wrong;
};

static void compare(const struct gen_socket *g, void *ctx)
{
	struct tally *t = ctx;
	unsigned want = naive_rule(t->policy, g);
	struct eval_socket s = g->s;

	if (g->group)
		s.group = (dmm_u8)class_group(t->class, g->group);
	t->pairs++;
	t->hits += want != DMM_RULE_NONE;
	t->wrong += strcmp(gen_rule_at(t->class, eval_rule(t->class, &s)),
			   gen_rule_named(t->policy, want)) != 0;
}

/* What is read back from both is the same, and so is what sockets get. */
static void compare_whole(struct tally *t, struct rng *r, int sockets)
{
	struct dmm_class *whole = class_new();
	struct dmm_policy *back = NULL;
	char *is, *want = policy_text(t->policy);

	CU_ASSERT_EQUAL_FATAL(class_decompile(t->class, &back), 0);
	is = policy_text(back);
	CU_ASSERT_STRING_EQUAL(is, want);
	CU_ASSERT_EQUAL_FATAL(class_compile(t->policy, t->class, whole), 0);
	CU_ASSERT_TRUE(class_equal(whole, t->class));
	CU_ASSERT_EQUAL(class_diff(whole, t->class, NULL), 0);
	for (int i = 0; i < sockets; i++) {
		struct gen_socket g;

		gen_socket(r, t->policy, &g);
		compare(&g, t);
	}
	if (sockets > 10)
		naive_boundaries(r, t->policy, compare, t);
	free(is);
	free(want);
	policy_free(back);
	class_free(whole);
}

static void edit_often(struct tally *t, struct rng *r, size_t rules, int edits)
{
	struct dmm_policy *p = gen_policy_full(r);
	struct dmm_class *c = class_new();

	gen_more_rules(r, p, rules);
	CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
	t->policy = p;
	t->class = c;
	for (int i = 0; i < edits; i++) {
		t->edits++;
		t->no_room += !gen_edit(r, p, c);
		compare_whole(t, r, 10);
	}
	compare_whole(t, r, 20);
	policy_free(p);
	class_free(c);
}

static void check(const struct tally *t)
{
	CU_ASSERT_EQUAL(t->wrong, 0);
	CU_ASSERT(t->hits > t->pairs / 4);
	CU_ASSERT(t->no_room < t->edits * 2 / 3);
	printf("%lu edits, %lu of them without room, %lu sockets; ", t->edits, t->no_room,
	       t->pairs);
}

static void test_small(void)
{
	struct tally t = {0};

	for (uint64_t seed = 0; seed < 300; seed++) {
		struct rng r = {.state = seed * 7919 + 1};

		edit_often(&t, &r, rng_below(&r, 30), 12);
	}
	CU_ASSERT(t.no_room > 0);
	check(&t);
}

/* Several chunks. */
static void test_large(void)
{
	struct tally t = {0};

	for (uint64_t seed = 0; seed < 2; seed++) {
		struct rng r = {.state = seed * 101 + 3};

		edit_often(&t, &r, 1300, 40);
	}
	check(&t);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"small policies", test_small},
		{"policies of several chunks", test_large},
		CU_TEST_INFO_NULL,
	};

	return unit_run("edit", tests);
}
