// SPDX-License-Identifier: Apache-2.0
/* policy_check() where a file in tests/data would be too long: limits, and who shadows whom. */
#include <errno.h>
#include <string.h>

#include "policyd/policy.h"
#include "tests/unit/policy_gen.h"

static struct policy_diags diags;

static int check(const char *text)
{
	struct dmm_policy *p = NULL;
	int r;

	policy_diags_fini(&diags);
	CU_ASSERT_EQUAL_FATAL(policy_parse_text("t", text, strlen(text), &p, &diags), 0);
	r = policy_check(p, &diags);
	CU_ASSERT_EQUAL(r, diags.errors ? -EINVAL : 0);
	policy_free(p);
	return r;
}

static bool said(const char *words)
{
	for (size_t i = 0; i < diags.n; i++)
		if (strstr(diags.list[i].text, words))
			return true;
	for (size_t i = 0; i < diags.n; i++)
		fprintf(stderr, "said: %s\n", diags.list[i].text);
	return false;
}

/* n entries "  <prefix><i><suffix>\n" below head. */
static char *many(const char *head, const char *prefix, const char *suffix, unsigned n)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	fprintf(out, "%s\n", head);
	for (unsigned i = 0; i < n; i++)
		fprintf(out, "  %s%u%s\n", prefix, i, suffix);
	fclose(out);
	return text;
}

static void check_many(const char *head, const char *prefix, const char *suffix, unsigned max,
		       const char *words)
{
	char *text = many(head, prefix, suffix, max);

	CU_ASSERT_EQUAL(check(text), 0);
	free(text);
	text = many(head, prefix, suffix, max + 1);
	CU_ASSERT_EQUAL(check(text), -EINVAL);
	CU_ASSERT_TRUE(said(words));
	free(text);
}

static void test_limits(void)
{
	check_many("groups:", "g", ":", DMM_MAX_GROUPS - 1, "64 groups; at most 63");
	check_many("stacks:", "s", ": {kind: kernel}", DMM_MAX_STACKS - 4, "29 stacks; at most 28");
	/* 4 lists of 8: 4096 combinations. */
	CU_ASSERT_EQUAL(
		check("rules:\n"
		      "  - name: big\n"
		      "    use: kernel\n"
		      "    match:\n"
		      "      remote: [1.0.0.0, 1.0.0.1, 1.0.0.2, 1.0.0.3, 1.0.0.4, 1.0.0.5, "
		      "1.0.0.6, 1.0.0.7]\n"
		      "      local: [1.0.0.0, 1.0.0.1, 1.0.0.2, 1.0.0.3, 1.0.0.4, 1.0.0.5, "
		      "1.0.0.6, 1.0.0.7]\n"
		      "      remote_port: [1, 2, 3, 4, 5, 6, 7, 8]\n"
		      "      local_port: [1, 2, 3, 4, 5, 6, 7, 8]\n"),
		-EINVAL);
	CU_ASSERT_TRUE(said("rule \"big\": its lists make 4096 combinations; 2048 of 2048"));
}

static void check_shadow(const char *rules, bool shadowed)
{
	char text[1024];

	snprintf(text, sizeof(text), "groups: {a: , b: }\nstacks: {s: {kind: kernel}}\nrules: [%s]",
		 rules);
	CU_ASSERT_EQUAL(check(text), 0);
	if (shadowed) {
		CU_ASSERT_TRUE(said("rule \"y\" is never reached"));
	} else {
		CU_ASSERT_EQUAL(diags.n, 0);
		if (diags.n)
			fprintf(stderr, "%s: %s\n", rules, diags.list[0].text);
	}
}

static void test_shadow(void)
{
	check_shadow("{name: x, use: s}, {name: y, use: s}", true);
	check_shadow("{name: x, match: {group: a}, use: s}, {name: y, use: s}", false);
	check_shadow("{name: x, match: {group: a}, use: s},"
		     "{name: y, match: {group: [a, b]}, use: s}",
		     false);
	check_shadow("{name: x, match: {group: [a, b]}, use: s},"
		     "{name: y, match: {group: [b, a], remote_port: 80}, use: s}",
		     true);
	check_shadow("{name: x, match: {role: client}, use: s}, {name: y, use: s}", false);
	check_shadow("{name: x, match: {role: client}, use: s},"
		     "{name: y, match: {role: client, proto: tcp}, use: s}",
		     true);
	check_shadow("{name: x, match: {proto: tcp}, use: s},"
		     "{name: y, match: {proto: udp}, use: s}",
		     false);
	check_shadow("{name: x, match: {remote_port: 1-65535}, use: s},"
		     "{name: y, match: {role: client}, use: s}",
		     false); /* an unknown remote has no port */
	check_shadow("{name: x, match: {remote: 10.0.0.0/8}, use: s},"
		     "{name: y, match: {remote: 10.2.0.0/16, remote_port: 80-90}, use: s}",
		     true);
	check_shadow("{name: x, match: {remote: 10.0.0.0/8, remote_port: 80-85}, use: s},"
		     "{name: y, match: {remote: 10.2.0.0/16, remote_port: 80-90}, use: s}",
		     false);
	check_shadow("{name: x, match: {remote: 0.0.0.0/0}, use: s},"
		     "{name: y, match: {remote: \"2001:db8::/32\"}, use: s}",
		     false);
	check_shadow("{name: x, match: {local: \"::/0\"}, use: s},"
		     "{name: y, match: {local_port: 1}, use: s}",
		     true);
}

/* A rule that is called unreachable is never the answer for any socket. */
static void test_shadow_property(void)
{
	struct dmm_class *c = malloc(sizeof(*c));
	unsigned long found = 0;

	for (uint64_t seed = 0; seed < 1500; seed++) {
		struct rng r = {.state = seed * 31};
		struct dmm_policy *p = gen_policy(&r);
		bool shadowed[16] = {0};

		policy_diags_fini(&diags);
		CU_ASSERT_EQUAL_FATAL(policy_check(p, &diags), 0);
		for (size_t i = 0; i < diags.n; i++) {
			unsigned rule;

			if (strstr(diags.list[i].text, "is never reached") &&
			    sscanf(diags.list[i].text, "rule \"r%u\" is never reached", &rule) ==
				    1) {
				shadowed[rule] = true;
				found++;
			}
		}
		CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
		for (int i = 0; i < 200; i++) {
			struct gen_socket g;
			unsigned rule;

			gen_socket(&r, p, &g);
			if (g.group)
				g.s.group = (dmm_u8)class_group(c, g.group);
			rule = eval_rule(c, &g.s);
			CU_ASSERT_FALSE_FATAL(rule != DMM_RULE_NONE && shadowed[rule]);
		}
		policy_free(p);
	}
	CU_ASSERT(found > 100);
	free(c);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"limits", test_limits},
		{"who shadows whom", test_shadow},
		{"a rule called unreachable never decides", test_shadow_property},
		CU_TEST_INFO_NULL,
	};
	int r = unit_run("check", tests);

	policy_diags_fini(&diags);
	return r;
}
