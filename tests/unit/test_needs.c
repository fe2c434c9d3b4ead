// SPDX-License-Identifier: Apache-2.0
/* What is attached to a group, against what its sockets get. */
#include <string.h>

#include "loader/needs.h"
#include "tests/unit/policy_gen.h"

struct tally {
	const struct dmm_policy *policy;
	const struct dmm_class *class;
	dmm_u8 needs[DMM_MAX_GROUPS];
	unsigned long sockets, missing;
};

static bool to_instance(const struct dmm_class *c, unsigned rule)
{
	const dmm_u8 *use = rule == DMM_RULE_NONE ? c->hdr.use : c->rule[rule].use;
	unsigned n = rule == DMM_RULE_NONE ? c->hdr.n_use : c->rule[rule].n_use;

	for (unsigned i = 0; i < n; i++)
		if (c->stack[use[i]].kind == DMM_KIND_USERSPACE)
			return true;
	return false;
}

static void compare(const struct gen_socket *g, void *ctx)
{
	static const struct dmm_addr unknown;
	struct tally *t = ctx;
	struct gen_socket s = *g;
	dmm_u8 needs, want = NEED_DECIDE;
	unsigned rule;

	if (s.s.role == DMM_ROLE_SERVER) {
		s.s.proto = 6; /* UDP has no listeners */
		s.s.remote = unknown;
	}
	if (!s.group)
		return;
	rule = naive_rule(t->policy, &s);
	needs = t->needs[class_group(t->class, s.group)];
	if (s.s.role == DMM_ROLE_SERVER && rule != DMM_RULE_NONE)
		want |= NEED_EVENTS;
	if (to_instance(t->class, rule))
		want |= s.s.proto == 17 ? NEED_NAMES | NEED_UDP : NEED_EVENTS | NEED_NAMES;
	t->sockets++;
	t->missing += (needs & want) != want;
}

static void test_property(void)
{
	struct dmm_class *c = class_new();
	struct tally t = {.class = c};

	for (uint64_t seed = 0; seed < 500; seed++) {
		struct rng r = {.state = seed};
		struct dmm_policy *p = seed & 1 ? gen_policy_full(&r) : gen_policy(&r);

		CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
		needs_of_groups(c, t.needs);
		t.policy = p;
		for (int i = 0; i < 100; i++) {
			struct gen_socket g;

			gen_socket(&r, p, &g);
			compare(&g, &t);
		}
		naive_boundaries(&r, p, compare, &t);
		policy_free(p);
	}
	CU_ASSERT_EQUAL(t.missing, 0);
	CU_ASSERT(t.sockets > 50000);
	class_free(c);
}

/* What one group needs by this policy. */
static unsigned needs_by(const char *rules)
{
	char text[1024];
	struct dmm_class *c = class_new();
	struct policy_diags d = {0};
	dmm_u8 needs[DMM_MAX_GROUPS];
	struct dmm_policy *p = NULL;
	unsigned ret;

	snprintf(text, sizeof(text),
		 "groups: {web: , other: }\n"
		 "stacks: {e0: {engine: lwip, port: {interface: eth1}}, k: {kind: kernel, mark: "
		 "1}}\n"
		 "%s\n",
		 rules);
	CU_ASSERT_EQUAL_FATAL(policy_parse_text("t", text, strlen(text), &p, &d), 0);
	CU_ASSERT_EQUAL_FATAL(policy_check(p, &d), 0);
	CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
	needs_of_groups(c, needs);
	policy_diags_fini(&d);
	policy_free(p);
	ret = needs[class_group(c, "web")];
	class_free(c);
	return ret;
}

#define ALL (NEED_DECIDE | NEED_EVENTS | NEED_NAMES | NEED_UDP)

static void test_least(void)
{
	static const struct {
		const char *rules;
		unsigned needs;
	} cases[] = {
		{"", NEED_DECIDE},
		{"default: k", NEED_DECIDE | NEED_EVENTS},
		{"default: reject", NEED_DECIDE | NEED_EVENTS},
		{"default: [e0, kernel]", ALL},
		{"default: [kernel, e0]", ALL},
		{"rules: [{match: {group: other}, use: [e0, kernel]}]", NEED_DECIDE},
		{"rules: [{match: {group: web}, use: [e0, kernel]}]", ALL},
		{"rules: [{use: kernel}]", NEED_DECIDE | NEED_EVENTS},
		{"rules: [{match: {role: client}, use: k}]", NEED_DECIDE},
		{"rules: [{match: {role: client}, use: e0}]", ALL},
		{"rules: [{match: {proto: tcp}, use: e0}]", ALL & ~NEED_UDP},
		{"rules: [{match: {proto: udp}, use: e0}]", ALL & ~NEED_EVENTS},
		{"rules: [{match: {role: server}, use: kernel}]", NEED_DECIDE | NEED_EVENTS},
		{"rules: [{match: {proto: udp}, use: kernel}]", NEED_DECIDE},
		{"rules: [{match: {remote: 10.0.0.0/8}, use: k}]", NEED_DECIDE},
		{"rules: [{match: {remote: \"::/0\"}, use: k}]", NEED_DECIDE | NEED_EVENTS},
		{"rules: [{match: {remote_port: 1-65535}, use: k}]", NEED_DECIDE},
		{"rules: [{match: {local_port: 80}, use: kernel}]", NEED_DECIDE | NEED_EVENTS},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned needs = needs_by(cases[i].rules);

		if (needs != cases[i].needs)
			printf("%s: %u and not %u\n", cases[i].rules, needs, cases[i].needs);
		CU_ASSERT_EQUAL(needs, cases[i].needs);
	}
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"random policies and sockets: nothing is missing", test_property},
		{"and nothing is too much", test_least},
		CU_TEST_INFO_NULL,
	};

	return unit_run("needs", tests);
}
