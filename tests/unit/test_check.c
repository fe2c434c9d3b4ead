// SPDX-License-Identifier: Apache-2.0
/* policy_check() where a file in tests/data would be too long: limits, and who shadows whom. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "lib/base/addr.h"
#include "policyd/check.h"
#include "policyd/policy.h"
#include "policyd/reach.h"
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
	check_shadow("{name: x, match: {role: client}, use: s},"
		     "{name: y, match: {remote: 10.0.0.0/8}, use: s}",
		     true); /* a listener knows no remote */
	check_shadow(
		"{name: x, match: {local: [\"::/1\", \"8000::/1\"]}, use: s}, {name: y, use: s}",
		true);
	check_shadow("{name: x, match: {remote_port: 80-85}, use: s},"
		     "{name: z, match: {remote_port: 86-90}, use: s},"
		     "{name: y, match: {remote_port: 80-90, proto: tcp}, use: s}",
		     true);
	check_shadow("{name: x, match: {remote_port: 80-85}, use: s},"
		     "{name: z, match: {remote_port: 87-90}, use: s},"
		     "{name: y, match: {remote_port: 80-90, proto: tcp}, use: s}",
		     false);
	check_shadow("{name: x, match: {local: \"::/0\"}, use: s},"
		     "{name: y, match: {local_port: 1}, use: s}",
		     true);
}

/* A set that is too long to be kept item by item covers all the same. */
static void test_shadow_long_set(void)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	fputs("sets: {odd: [", out);
	for (unsigned i = 1; i < 400; i += 2)
		fprintf(out, "%u,", i);
	fputs("]}\nrules:\n"
	      "  - {name: x, match: {local_port: odd, uid: 0-9}, use: kernel}\n"
	      "  - {name: y, match: {local_port: [1, 201, 399], uid: 5}, use: kernel}\n"
	      "  - {name: z, match: {local_port: [1, 200], uid: 5}, use: kernel}\n",
	      out);
	fclose(out);
	policy_diags_fini(&diags);
	{
		struct dmm_policy *p = NULL;

		CU_ASSERT_EQUAL_FATAL(policy_parse_text("t", text, len, &p, &diags), 0);
		CU_ASSERT_EQUAL(policy_check(p, &diags), 0);
		CU_ASSERT_EQUAL(diags.n, 1);
		CU_ASSERT_TRUE(said("rule \"y\" is never reached: rule \"x\""));
		policy_free(p);
	}
	free(text);
}

/* A rule that is called unreachable is never the answer for any socket. */
static void test_shadow_property(void)
{
	struct dmm_class *c = class_new();
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
	class_free(c);
}

/* ---- what the image does not know yet: by a matcher of its own ---- */

struct socket_of {
	const char *group, *program;
	dmm_u32 uid;
	struct eval_socket s;
};

static const struct policy_set *set_of(const struct dmm_policy *p, const char *name)
{
	for (size_t i = 0; i < p->n_sets; i++)
		if (strcmp(p->sets[i].name, name) == 0)
			return &p->sets[i];
	return NULL;
}

static bool in_prefixes(const struct policy_prefix *list, size_t n, const dmm_u8 *ip)
{
	for (size_t i = 0; i < n; i++)
		if (addr_in_prefix(ip, list[i].ip, list[i].plen))
			return true;
	return false;
}

static bool in_ports(const struct policy_ports *list, size_t n, dmm_u16 port)
{
	for (size_t i = 0; i < n; i++)
		if (port >= list[i].lo && port <= list[i].hi)
			return true;
	return false;
}

static bool fits_address(const struct dmm_policy *p, const struct policy_prefix *list, size_t n,
			 char (*sets)[DMM_NAME_LEN], size_t n_sets, const dmm_u8 *ip)
{
	if (in_prefixes(list, n, ip) || n + n_sets == 0)
		return true;
	for (size_t i = 0; i < n_sets; i++)
		if (in_prefixes(set_of(p, sets[i])->prefix, set_of(p, sets[i])->n_prefix, ip))
			return true;
	return false;
}

static bool fits_port(const struct dmm_policy *p, const struct policy_ports *list, size_t n,
		      char (*sets)[DMM_NAME_LEN], size_t n_sets, dmm_u16 port)
{
	if (in_ports(list, n, port) || n + n_sets == 0)
		return true;
	for (size_t i = 0; i < n_sets; i++)
		if (in_ports(set_of(p, sets[i])->ports, set_of(p, sets[i])->n_ports, port))
			return true;
	return false;
}

static bool fits_who(const struct policy_match *m, const struct socket_of *s)
{
	bool group = !m->n_group, uid = !m->n_uid, program = !m->n_program;

	for (size_t i = 0; i < m->n_group; i++)
		group |= s->group && strcmp(m->group[i], s->group) == 0;
	for (size_t i = 0; i < m->n_uid; i++)
		uid |= s->uid >= m->uid[i].lo && s->uid <= m->uid[i].hi;
	for (size_t i = 0; i < m->n_program; i++)
		program |= strcmp(m->program[i], s->program) == 0;
	return group && uid && program;
}

static bool fits(const struct dmm_policy *p, const struct policy_match *m,
		 const struct socket_of *s)
{
	bool far = m->n_remote || m->n_remote_set || m->n_remote_port || m->n_remote_port_set;

	if ((m->roles && !(m->roles & 1u << s->s.role)) || (m->proto && m->proto != s->s.proto) ||
	    (far && s->s.role != DMM_ROLE_CLIENT))
		return false;
	return fits_who(m, s) &&
	       fits_address(p, m->remote, m->n_remote, m->remote_set, m->n_remote_set,
			    s->s.remote.ip) &&
	       fits_address(p, m->local, m->n_local, m->local_set, m->n_local_set, s->s.local.ip) &&
	       fits_port(p, m->remote_port, m->n_remote_port, m->remote_port_set,
			 m->n_remote_port_set, s->s.remote.port) &&
	       fits_port(p, m->local_port, m->n_local_port, m->local_port_set, m->n_local_port_set,
			 s->s.local.port);
}

static size_t decides(const struct dmm_policy *p, const struct socket_of *s)
{
	size_t i = 0;

	while (i < p->n_rules && !fits(p, &p->rules[i].match, s))
		i++;
	return i;
}

struct found {
	struct reach_finding by_rule[64];
	bool is[64];
	unsigned long n, several;
};

static void note(void *ctx, const struct reach_finding *f)
{
	struct found *found = ctx;

	found->is[f->rule] = true;
	found->by_rule[f->rule] = *f;
	found->n++;
	found->several += f->several;
}

/* As above, with all fields. */
static void test_reach_property(void)
{
	static const char *const programs[] = {"nginx", "7", "curl"};
	static const dmm_u32 uids[] = {0, 5, 999, 1000, 1500, 70000};
	unsigned long found = 0;

	for (uint64_t seed = 0; seed < 3000; seed++) {
		struct rng r = {.state = seed * 77};
		struct dmm_policy *p = gen_policy_full(&r);
		struct found f = {0};
		bool all;

		CU_ASSERT_EQUAL_FATAL(reach_scan(p, note, &f, &all), 0);
		CU_ASSERT_TRUE(all);
		found += f.n;
		for (int i = 0; i < 100; i++) {
			struct gen_socket g;
			struct socket_of s;
			size_t rule;

			gen_socket(&r, p, &g);
			s = (struct socket_of){g.group, programs[rng_below(&r, 3)],
					       uids[rng_below(&r, 6)], g.s};
			rule = decides(p, &s);
			CU_ASSERT_FALSE_FATAL(rule < p->n_rules && f.is[rule]);
		}
		policy_free(p);
	}
	CU_ASSERT(found > 100);
}

#define SMALL 8 /* ports 0 … 7 (0: not bound) and users 0 … 7 */

static uint64_t points_of(const struct dmm_policy *p, size_t rule)
{
	uint64_t points = 0;

	for (unsigned i = 0; i < SMALL * SMALL; i++) {
		struct socket_of s = {.program = "", .uid = i / SMALL};

		s.s.local.port = (dmm_u16)(i % SMALL);
		if (fits(p, &p->rules[rule].match, &s))
			points |= 1ULL << i;
	}
	return points;
}

/* Rules over few ports and users, where all that there is can be tried: 7 stands for the rest. */
static struct dmm_policy *small_policy(struct rng *r)
{
	static const char *const sets[] = {"a: [1, 2]", "b: [2-4, 6]", "c: [1-3, 4-6]"};
	char text[4096] = "sets: {";
	struct policy_diags d = {0};
	struct dmm_policy *p = NULL;

	for (int i = 0; i < 3; i++)
		snprintf(text + strlen(text), 64, "%s%s", i ? ", " : "", sets[i]);
	strcat(text, "}\nrules:\n");
	for (int i = 0; i < 10; i++) {
		unsigned lo = 1 + rng_below(r, 6), hi = lo + rng_below(r, 7 - lo);
		unsigned u = rng_below(r, 7), v = u + rng_below(r, 7 - u);
		static const char *const set[] = {"a", "b", "c"};
		char *end = text + strlen(text);

		switch (rng_below(r, 4)) {
		case 0:
			sprintf(end, "  - {match: {local_port: %u-%u}, use: kernel}\n", lo, hi);
			break;
		case 1:
			sprintf(end, "  - {match: {uid: [%u-%u, %u]}, use: kernel}\n", u, v,
				rng_below(r, 7));
			break;
		case 2:
			sprintf(end,
				"  - {match: {local_port: [%u, %u-%u], uid: [%u-%u]}, use: "
				"kernel}\n",
				1 + rng_below(r, 6), lo, hi, u, v);
			break;
		default:
			sprintf(end,
				"  - {match: {local_port: [%s, %u], uid: %u-%u}, use: kernel}\n",
				set[rng_below(r, 3)], lo, u, v);
		}
	}
	CU_ASSERT_EQUAL_FATAL(policy_parse_text("t", text, strlen(text), &p, &d), 0);
	policy_diags_fini(&d);
	return p;
}

/* One rule that covers is always found, several never in vain. */
static void test_reach_exact(void)
{
	unsigned long single = 0, several = 0;

	for (uint64_t seed = 0; seed < 4000; seed++) {
		struct rng r = {.state = seed * 13};
		struct dmm_policy *p = small_policy(&r);
		uint64_t points[16], before = 0;
		struct found f = {0};
		bool all;

		CU_ASSERT_EQUAL_FATAL(reach_scan(p, note, &f, &all), 0);
		for (size_t i = 0; i < p->n_rules; i++) {
			size_t by = 0;

			points[i] = points_of(p, i);
			while (by < i && points[i] & ~points[by])
				by++;
			CU_ASSERT_EQUAL(by < i, f.is[i] && !f.by_rule[i].several);
			if (by < i && f.is[i]) {
				CU_ASSERT_EQUAL(f.by_rule[i].by, by);
				CU_ASSERT_EQUAL(f.by_rule[i].same, points[i] == points[by]);
			}
			CU_ASSERT_FALSE(f.is[i] && points[i] & ~before);
			before |= points[i];
		}
		single += f.n - f.several;
		several += f.several;
		policy_free(p);
	}
	CU_ASSERT(single > 1000);
	CU_ASSERT(several > 100);
}

/* The policy without one rule; the rules are those of p. */
static struct dmm_policy without(const struct dmm_policy *p, size_t rule)
{
	struct dmm_policy few = *p;

	few.rules = calloc(p->n_rules, sizeof(*few.rules));
	few.n_rules = 0;
	for (size_t i = 0; i < p->n_rules; i++)
		if (i != rule)
			few.rules[few.n_rules++] = p->rules[i];
	return few;
}

/* What is found of a rule that is added is what is found with it and not without it. */
static void check_added_rule(const struct dmm_policy *p, const struct found *with, size_t rule,
			     unsigned long *found)
{
	struct dmm_policy few = without(p, rule);
	struct found before = {0}, added = {0};
	bool all;

	CU_ASSERT_EQUAL_FATAL(reach_scan(&few, note, &before, &all), 0);
	CU_ASSERT_EQUAL_FATAL(reach_added(p, rule, note, &added, &all), 0);
	CU_ASSERT_TRUE(all);
	for (size_t i = 0; i < p->n_rules; i++) {
		const struct reach_finding *a = &added.by_rule[i], *w = &with->by_rule[i];
		bool known = i != rule && before.is[i - (i > rule)];

		CU_ASSERT_EQUAL(added.is[i], with->is[i] && !known);
		if (added.is[i])
			CU_ASSERT(a->by == w->by && a->several == w->several && a->same == w->same);
	}
	*found += added.n;
	free(few.rules);
}

static void test_reach_added(void)
{
	unsigned long found[2] = {0};

	for (uint64_t seed = 0; seed < 600; seed++) {
		struct rng r = {.state = seed * 31};
		bool small = seed % 2, all;
		struct dmm_policy *p = small ? small_policy(&r) : gen_policy_full(&r);
		struct found with = {0};

		CU_ASSERT_EQUAL_FATAL(reach_scan(p, note, &with, &all), 0);
		for (size_t i = 0; i < p->n_rules; i++)
			check_added_rule(p, &with, i, &found[small]);
		policy_free(p);
	}
	CU_ASSERT(found[0] > 10 && found[1] > 1000);
}

/* A rule with a name that leads nowhere, and one that is the last that there is room for. */
static void test_added_errors(void)
{
	static const char text[] = "rules:\n  - {name: x, match: {remote_port: 80}, use: kernel}\n"
				   "  - {name: y, match: {group: nowhere}, use: gone}\n";
	struct dmm_policy *p = NULL;

	policy_diags_fini(&diags);
	CU_ASSERT_EQUAL_FATAL(policy_parse_text("t", text, strlen(text), &p, &diags), 0);
	CU_ASSERT_EQUAL(policy_check_added(p, 0, &diags), 0);
	CU_ASSERT_EQUAL(diags.n, 0);
	CU_ASSERT_EQUAL(policy_check_added(p, 1, &diags), -EINVAL);
	CU_ASSERT_TRUE(said("unknown stack \"gone\"") && said("nowhere"));
	policy_free(p);
}

/* ---- size ---- */

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* As many rules as there can be, each line made from its number. What takes the square of it takes
 * minutes. */
static void check_size(const char *head, const char *line, bool errors)
{
	struct policy_diags d = {0};
	struct dmm_policy *p = NULL;
	double begin = cpu_seconds();
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	fputs(head, out);
	for (unsigned i = 0; i < 65536; i++)
		fprintf(out, line, i, i >> 8, i & 255, i % 65535 + 1);
	fclose(out);
	CU_ASSERT_EQUAL_FATAL(policy_parse_text("t", text, len, &p, &d), 0);
	CU_ASSERT_EQUAL(p->n_rules, 65536);
	CU_ASSERT_EQUAL(policy_check(p, &d), errors ? -EINVAL : 0);
	for (size_t i = 0; i < d.n; i++)
		CU_ASSERT_PTR_NULL(strstr(d.list[i].text, "too many rules"));
	CU_ASSERT(cpu_seconds() - begin < 30);
	policy_free(p);
	policy_diags_fini(&d);
	free(text);
}

static void test_size(void)
{
	check_size("rules:\n",
		   "  - {name: r%u, match: {remote: 10.%u.%u.0/24, remote_port: %u}, "
		   "use: kernel}\n",
		   false);
	/* Without names, all with the same prefix. */
	check_size("rules:\n",
		   "  - {match: {uid: %u, program: p%u-%u, remote: 10.0.0.0/8, "
		   "remote_port: %u}, use: kernel}\n",
		   false);
	check_size(
		"sets: {s: [10.0.0.0/8, 192.0.2.0/24]}\nrules:\n",
		"  - {match: {uid: %u, remote: [s, 172.16.%u.%u], remote_port: %u}, use: kernel}\n",
		false);
	/* Each one repeats the first, or has names that are not known. */
	check_size("rules:\n", "  - {use: kernel}\n", false);
	check_size("rules:\n", "  - {match: {group: g%u, remote: s%u-%u}, use: x%u}\n", true);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"limits", test_limits},
		{"who shadows whom", test_shadow},
		{"who shadows whom: a long set", test_shadow_long_set},
		{"a rule called unreachable never decides", test_shadow_property},
		{"the same with users, programs and sets", test_reach_property},
		{"one rule that covers another is always found", test_reach_exact},
		{"of a rule that is added", test_reach_added},
		{"errors of a rule that is added", test_added_errors},
		{"65536 rules", test_size},
		CU_TEST_INFO_NULL,
	};
	int r = unit_run("check", tests);

	policy_diags_fini(&diags);
	return r;
}
