// SPDX-License-Identifier: Apache-2.0
/* eval_rule() over a compiled class against a plain reading of the policy itself. */
#include <string.h>

#include "tests/unit/policy_gen.h"

static bool bits_agree(const dmm_u8 *a, const dmm_u8 *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if ((a[i / 8] >> (7 - i % 8) & 1) != (b[i / 8] >> (7 - i % 8) & 1))
			return false;
	return true;
}

static bool in_prefixes(const dmm_u8 *ip, const struct policy_prefix *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (bits_agree(ip, list[i].ip, list[i].plen))
			return true;
	return n == 0;
}

static bool in_ports(unsigned port, const struct policy_ports *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (port >= list[i].lo && port <= list[i].hi)
			return true;
	return n == 0;
}

static bool in_groups(const char *group, const struct policy_match *m)
{
	for (size_t i = 0; i < m->n_group; i++)
		if (group && strcmp(group, m->group[i]) == 0)
			return true;
	return m->n_group == 0;
}

static unsigned naive(const struct dmm_policy *p, const struct gen_socket *g)
{
	const struct eval_socket *s = &g->s;
	bool known = s->role == DMM_ROLE_CLIENT;

	for (unsigned i = 0; i < p->n_rules; i++) {
		const struct policy_match *m = &p->rules[i].match;

		if (!known && (m->n_remote || m->n_remote_port))
			continue;
		if (m->roles && !(m->roles >> s->role & 1))
			continue;
		if (m->proto && m->proto != s->proto)
			continue;
		if (in_groups(g->group, m) && in_prefixes(s->remote.ip, m->remote, m->n_remote) &&
		    in_prefixes(s->local.ip, m->local, m->n_local) &&
		    in_ports(s->remote.port, m->remote_port, m->n_remote_port) &&
		    in_ports(s->local.port, m->local_port, m->n_local_port))
			return i;
	}
	return DMM_RULE_NONE;
}

static void test_property(void)
{
	struct dmm_class *c = malloc(sizeof(*c));
	unsigned long hits = 0, misses = 0, wrong = 0;

	for (uint64_t seed = 0; seed < 3000; seed++) {
		struct rng r = {.state = seed};
		struct dmm_policy *p = gen_policy(&r);

		CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
		for (int i = 0; i < 300; i++) {
			struct gen_socket g;
			unsigned want, got;

			gen_socket(&r, p, &g);
			want = naive(p, &g);
			if (g.group)
				g.s.group = (dmm_u8)class_group(c, g.group);
			got = eval_rule(c, &g.s);
			wrong += got != want;
			if (want == DMM_RULE_NONE)
				misses++;
			else
				hits++;
		}
		policy_free(p);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	/* A test in which nothing ever matches proves nothing. */
	CU_ASSERT(hits > 100000);
	CU_ASSERT(misses > 100000);
	free(c);
}

static unsigned eval_text(const char *text, const struct eval_socket *s)
{
	struct dmm_class *c = malloc(sizeof(*c));
	struct policy_diags d = {0};
	struct dmm_policy *p = NULL;
	unsigned rule;

	CU_ASSERT_EQUAL_FATAL(policy_parse_text("t", text, strlen(text), &p, &d), 0);
	CU_ASSERT_EQUAL_FATAL(policy_check(p, &d), 0);
	CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
	rule = eval_rule(c, s);
	policy_diags_fini(&d);
	policy_free(p);
	free(c);
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
