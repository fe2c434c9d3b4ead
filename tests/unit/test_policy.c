// SPDX-License-Identifier: Apache-2.0
/* Text to policy: what is taken, what is refused and in which words. Files: tests/data. */
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policyd/check.h"
#include "policyd/index.h"
#include "policyd/json.h"
#include "policyd/node.h"
#include "policyd/policy.h"
#include "policyd/value.h"
#include "tests/unit/policy_gen.h"

static struct dmm_policy *parse(const char *text)
{
	struct policy_diags d = {0};
	struct dmm_policy *p = NULL;
	int r = policy_parse_text("t", text, strlen(text), &p, &d);

	if (r < 0)
		policy_diags_print(&d, stderr);
	policy_diags_fini(&d);
	CU_ASSERT_EQUAL_FATAL(r, 0);
	return p;
}

/* Everything that parse and check say about a file. */
static char *complaints(const char *file)
{
	struct policy_diags d = {0};
	struct dmm_policy *p = NULL;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (policy_parse_file(file, &p, &d) == 0)
		policy_check(p, &d);
	policy_diags_print(&d, out);
	fclose(out);
	policy_diags_fini(&d);
	policy_free(p);
	return text;
}

/* The lines "# expect: …" of a file, in order. A line that ends with a blank is a beginning. */
static bool as_expected(const char *file, const char *text)
{
	static const char mark[] = "# expect: ";
	FILE *f = fopen(file, "re");
	char line[1024];
	bool good = true;

	while (f && fgets(line, sizeof(line), f)) {
		char *want = line + sizeof(mark) - 1;
		size_t n = strlen(line) - sizeof(mark) + 1;

		if (strncmp(line, mark, sizeof(mark) - 1) != 0)
			continue;
		if (n > 1 && want[n - 2] == ' ')
			n--;
		good = good && strncmp(text, want, n) == 0;
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	fclose(f);
	return good && !*text;
}

static void test_golden(void)
{
	glob_t g;

	CU_ASSERT_EQUAL_FATAL(glob("bad-*.yaml", 0, NULL, &g), 0);
	CU_ASSERT(g.gl_pathc > 15);
	for (size_t i = 0; i < g.gl_pathc; i++) {
		char *text = complaints(g.gl_pathv[i]);
		bool good = as_expected(g.gl_pathv[i], text);

		CU_ASSERT_TRUE(good);
		if (!good)
			fprintf(stderr, "%s says:\n%s", g.gl_pathv[i], text);
		free(text);
	}
	globfree(&g);
}

static void check_auto(const struct dmm_policy *p)
{
	const struct nrd_settings *s = &p->rules[2].nrd;

	CU_ASSERT_EQUAL(s->objective, NRD_LATENCY);
	CU_ASSERT_EQUAL(s->canary, NRD_CANARY);
	CU_ASSERT_EQUAL(s->min_gain, NRD_MIN_GAIN);
	CU_ASSERT_EQUAL(s->dwell_ms, NRD_DWELL_MS);
	CU_ASSERT_EQUAL(s->cooldown_ms, NRD_COOLDOWN_MS);
	CU_ASSERT_EQUAL(s->sla_permille, 0);
	CU_ASSERT_EQUAL(p->rules[2].n_use, 2);
	CU_ASSERT_STRING_EQUAL(p->rules[2].use[1], "kernel");
	s = &p->rules[3].nrd;
	CU_ASSERT_EQUAL(s->objective, NRD_COST);
	CU_ASSERT_EQUAL(s->canary, 10);
	CU_ASSERT_EQUAL(s->min_gain, 25);
	CU_ASSERT_EQUAL(s->dwell_ms, 60000);
	CU_ASSERT_EQUAL(s->cooldown_ms, 1500);
	CU_ASSERT_EQUAL(s->sla_permille, 990);
	CU_ASSERT_EQUAL(s->sla_us, 2000);
	CU_ASSERT_EQUAL(p->rules[0].nrd.objective, NRD_NONE);
	CU_ASSERT_EQUAL(p->rules[0].nrd.canary, 0);
}

static void test_good_sets(void)
{
	struct policy_diags d = {0};
	const struct policy_match *m;
	const struct dmm_rule *r;
	struct dmm_policy *p;

	CU_ASSERT_EQUAL_FATAL(policy_parse_file("good-sets.yaml", &p, &d), 0);
	CU_ASSERT_EQUAL(policy_check(p, &d), 0);
	CU_ASSERT_EQUAL(d.n, 0);
	CU_ASSERT_EQUAL_FATAL(p->n_rules, 4);
	r = &p->rules[0];
	m = &r->match;
	CU_ASSERT_EQUAL_FATAL(p->n_sets, 3);
	CU_ASSERT_STRING_EQUAL(p->sets[0].name, "databases");
	CU_ASSERT_EQUAL(p->sets[0].n_prefix, 2);
	CU_ASSERT_EQUAL(p->sets[0].prefix[1].plen, 32);
	CU_ASSERT_EQUAL(p->sets[0].n_ports, 0);
	CU_ASSERT_EQUAL(p->sets[1].n_prefix, 1);
	CU_ASSERT_EQUAL(p->sets[2].n_ports, 3);
	CU_ASSERT_EQUAL(p->sets[2].ports[2].hi, 8999);
	CU_ASSERT_EQUAL(m->n_remote, 1);
	CU_ASSERT_EQUAL_FATAL(m->n_remote_set, 2);
	CU_ASSERT_STRING_EQUAL(m->remote_set[1], "one");
	CU_ASSERT_EQUAL(m->n_remote_port, 1);
	CU_ASSERT_STRING_EQUAL(m->remote_port_set[0], "web-ports");
	CU_ASSERT_EQUAL(m->n_local, 0);
	CU_ASSERT_STRING_EQUAL(m->local_set[0], "one");
	CU_ASSERT_EQUAL(m->n_local_port, 0);
	CU_ASSERT_EQUAL(m->n_local_port_set, 1);
	CU_ASSERT_EQUAL_FATAL(m->n_uid, 3);
	CU_ASSERT_EQUAL(m->uid[1].hi, 1999);
	CU_ASSERT_EQUAL(m->uid[2].lo, 1); /* daemon's number, as everywhere */
	CU_ASSERT_EQUAL_FATAL(m->n_program, 2);
	CU_ASSERT_STRING_EQUAL(m->program[1], "tmux: server");
	CU_ASSERT_EQUAL_FATAL(r->n_use, 3);
	CU_ASSERT_STRING_EQUAL(r->use[2], "kernel");
	CU_ASSERT_EQUAL(r->weight[0], 5);
	CU_ASSERT_EQUAL(r->weight[1], 0);
	CU_ASSERT_EQUAL(r->weight[2], 95);
	CU_ASSERT_FALSE(r->capture);
	CU_ASSERT_TRUE(p->rules[1].capture);
	CU_ASSERT_EQUAL(r->congestion, DMM_CONGESTION_NONE);
	CU_ASSERT_EQUAL(p->rules[1].congestion, DMM_CONGESTION_DCTCP);
	CU_ASSERT_FALSE(r->telemetry);
	CU_ASSERT_TRUE(p->rules[1].telemetry);
	CU_ASSERT_FALSE(p->rules[2].telemetry); /* auto: it is measured anyway */
	check_auto(p);
	policy_free(p);
	policy_diags_fini(&d);
}

static void test_good(void)
{
	struct policy_diags d = {0};
	struct dmm_policy *p;
	const struct policy_match *m;

	CU_ASSERT_EQUAL_FATAL(policy_parse_file("good.yaml", &p, &d), 0);
	CU_ASSERT_EQUAL(policy_check(p, &d), 0);
	CU_ASSERT_EQUAL(d.n, 0);
	CU_ASSERT_EQUAL(p->n_groups, 3);
	CU_ASSERT_STRING_EQUAL(p->groups[1].cgroup, "dmm/db");
	CU_ASSERT_EQUAL(p->groups[1].pos.line, 4);
	CU_ASSERT_EQUAL(p->n_stacks, 3);
	CU_ASSERT_EQUAL(p->stacks[0].rec.kind, DMM_KIND_USERSPACE);
	CU_ASSERT_EQUAL(p->stacks[0].rec.poll, DMM_POLL_BUSY);
	CU_ASSERT_STRING_EQUAL(p->stacks[0].rec.mode, "native");
	CU_ASSERT_STRING_EQUAL(p->stacks[1].rec.driver, "xsk");
	CU_ASSERT_STRING_EQUAL(p->stacks[1].rec.mode, "auto");
	CU_ASSERT_EQUAL(p->stacks[1].rec.queue, 2);
	CU_ASSERT_EQUAL(p->stacks[2].rec.pacing_bps, 1000000000ULL);
	CU_ASSERT_EQUAL(p->stacks[2].rec.mark, 16);
	CU_ASSERT_EQUAL(p->stacks[2].rec.priority, 1);
	CU_ASSERT_EQUAL(p->stacks[2].rec.tos, 17);
	CU_ASSERT_EQUAL(p->stacks[2].rec.user_timeout_ms, 30000);
	CU_ASSERT_EQUAL(p->stacks[2].rec.keepalive_s, 60);
	CU_ASSERT_EQUAL_FATAL(p->n_rules, 4);
	m = &p->rules[0].match;
	CU_ASSERT_EQUAL(m->n_group, 2);
	CU_ASSERT_EQUAL(m->roles, 1);
	CU_ASSERT_EQUAL(m->proto, IPPROTO_TCP);
	CU_ASSERT_EQUAL(m->n_remote, 3);
	CU_ASSERT_EQUAL(m->remote[2].plen, 128);
	CU_ASSERT_EQUAL(m->remote_port[1].hi, 8999);
	CU_ASSERT_EQUAL(m->n_local, 1);
	CU_ASSERT_EQUAL(p->rules[0].n_use, 3);
	CU_ASSERT_EQUAL(p->rules[0].carrier, DMM_CARRIER_SPLICE);
	CU_ASSERT_FALSE(p->rules[0].strict);
	CU_ASSERT_STRING_EQUAL(p->rules[1].name, "rule-2");
	CU_ASSERT_EQUAL(p->rules[1].carrier, DMM_CARRIER_TCP);
	CU_ASSERT_STRING_EQUAL(p->rules[2].use[0], "reject-unreachable");
	CU_ASSERT(p->rules[2].disabled);
	m = &p->rules[3].match;
	CU_ASSERT_EQUAL(m->roles, 0);
	CU_ASSERT_EQUAL(m->proto, 0);
	CU_ASSERT_EQUAL(m->n_remote, 0);
	CU_ASSERT_EQUAL(p->n_def, 2);
	CU_ASSERT_STRING_EQUAL(p->daemon.http, "[::1]:9464");
	CU_ASSERT_EQUAL(p->daemon.etcd.n_endpoint, 3);
	CU_ASSERT_STRING_EQUAL(p->daemon.etcd.endpoint[1], "https://[2001:db8::2]:2379");
	CU_ASSERT_STRING_EQUAL(p->daemon.etcd.prefix, "/site/dmm");
	CU_ASSERT_EQUAL(p->daemon.etcd.lease_s, 20);
	CU_ASSERT_STRING_EQUAL(p->daemon.etcd.password_file, "/etc/dmm/etcd.password");
	policy_free(p);
	policy_diags_fini(&d);
}

static void test_empty(void)
{
	static const char *const texts[] = {"",
					    "\n",
					    "# only a comment\n",
					    "---\n",
					    "~",
					    "{}",
					    "rules:\ngroups:\nstacks:\ndaemon:\n"};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct dmm_policy *p = parse(texts[i]);

		CU_ASSERT_EQUAL(p->n_rules + p->n_groups + p->n_stacks, 0);
		CU_ASSERT_STRING_EQUAL(p->def[0], "kernel");
		policy_free(p);
	}
}

static bool same_list(const void *a, size_t n_a, const void *b, size_t n_b, size_t size)
{
	return n_a == n_b && (n_a == 0 || memcmp(a, b, n_a * size) == 0);
}
#define SAME_LIST(a, b, field) \
	CU_ASSERT_TRUE(same_list((a)->field, (a)->n_##field, (b)->field, (b)->n_##field, \
				 sizeof((a)->field[0])))

static void check_same_rule(const struct dmm_rule *a, const struct dmm_rule *b)
{
	const struct policy_match *m = &a->match, *o = &b->match;

	CU_ASSERT_STRING_EQUAL(a->name, b->name);
	SAME_LIST(m, o, group);
	SAME_LIST(m, o, remote);
	SAME_LIST(m, o, local);
	SAME_LIST(m, o, remote_port);
	SAME_LIST(m, o, local_port);
	SAME_LIST(m, o, remote_set);
	SAME_LIST(m, o, local_set);
	SAME_LIST(m, o, remote_port_set);
	SAME_LIST(m, o, local_port_set);
	SAME_LIST(m, o, uid);
	SAME_LIST(m, o, program);
	CU_ASSERT_EQUAL(m->roles, o->roles);
	CU_ASSERT_EQUAL(m->proto, o->proto);
	CU_ASSERT_TRUE(same_list(a->use, a->n_use, b->use, b->n_use, DMM_NAME_LEN));
	CU_ASSERT_EQUAL(memcmp(a->weight, b->weight, sizeof(a->weight)), 0);
	CU_ASSERT_EQUAL(memcmp(&a->nrd, &b->nrd, sizeof(a->nrd)), 0);
	CU_ASSERT_EQUAL(a->strict, b->strict);
	CU_ASSERT_EQUAL(a->disabled, b->disabled);
	CU_ASSERT_EQUAL(a->capture, b->capture);
	CU_ASSERT_EQUAL(a->telemetry, b->telemetry);
	CU_ASSERT_EQUAL(a->carrier, b->carrier);
	CU_ASSERT_EQUAL(a->congestion, b->congestion);
}

/* What was told of a shared rule does not make it the operator's. */
static void test_origin(void)
{
	struct dmm_policy *p = parse("rules: [{name: a, use: kernel, origin: nrd}, "
				     "{name: b, use: kernel, origin: operator}]");

	CU_ASSERT_EQUAL_FATAL(p->n_rules, 1);
	CU_ASSERT_STRING_EQUAL(p->rules[0].name, "b");
	CU_ASSERT_EQUAL(p->rules[0].origin, DMM_ORIGIN_OPERATOR);
	policy_free(p);
}

static void test_names_given(void)
{
	struct dmm_policy *p = parse("rules: [{use: kernel}, {name: rule-3, use: kernel}, "
				     "{use: kernel}]");

	CU_ASSERT_STRING_EQUAL(p->rules[0].name, "rule-1");
	CU_ASSERT_STRING_EQUAL(p->rules[2].name, "rule-4");
	policy_free(p);
}

/* Text reads back as the policy that it was written for, and that is written the same. */
static void test_text_round_trip(void)
{
	for (uint64_t seed = 0; seed < 2000; seed++) {
		struct rng r = {.state = seed * 104729};
		struct dmm_policy *p = gen_policy_full(&r), *q;
		struct policy_diags d = {0};
		char *a = policy_text(p), *b;
		int err = policy_check(p, &d);

		CU_ASSERT_EQUAL(err, 0);
		if (err < 0)
			policy_diags_print(&d, stderr);
		q = parse(a);
		b = policy_text(q);
		CU_ASSERT_STRING_EQUAL(a, b);
		/* policy_text() could leave out the same of both. */
		CU_ASSERT_EQUAL_FATAL(p->n_rules, q->n_rules);
		CU_ASSERT_EQUAL(p->n_sets, q->n_sets);
		for (size_t i = 0; i < p->n_rules; i++)
			check_same_rule(&p->rules[i], &q->rules[i]);
		free(a);
		free(b);
		policy_free(p);
		policy_free(q);
		policy_diags_fini(&d);
	}
}

/* JSON is YAML: what json_policy() writes reads back as the same policy. */
static void test_json(void)
{
	for (uint64_t seed = 0; seed < 500; seed++) {
		struct rng r = {.state = seed};
		struct dmm_policy *p = gen_policy_full(&r), *q;
		json_t *o = json_policy(p);
		char *json = json_dumps(o, seed & 1 ? JSON_INDENT(2) : JSON_COMPACT), *a, *b;

		q = parse(json);
		a = policy_text(p);
		b = policy_text(q);
		CU_ASSERT_STRING_EQUAL(a, b);
		if (strcmp(a, b) != 0) {
			fprintf(stderr, "%s\n%s\n%s\n", json, a, b);
			seed = 500;
		}
		free(a);
		free(b);
		free(json);
		json_decref(o);
		policy_free(p);
		policy_free(q);
	}
}

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fputs(text, f);
	fclose(f);
}

static void test_dir(void)
{
	char dir[] = "/tmp/dmm-test-policy-XXXXXX", sub[64], main_file[64], command[128];
	struct policy_diags d = {0};
	struct dmm_policy *p;

	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
	snprintf(sub, sizeof(sub), "%s/policy.d", dir);
	snprintf(main_file, sizeof(main_file), "%s/dmm.yaml", dir);
	CU_ASSERT_EQUAL(policy_parse_dir(main_file, &p, &d), -ENOENT);
	policy_diags_fini(&d);
	write_file(dir, "dmm.yaml", "groups: {web: }\nrules: [{name: m, use: kernel}]\n");
	CU_ASSERT_EQUAL_FATAL(policy_parse_dir(main_file, &p, &d), 0);
	CU_ASSERT_EQUAL(p->n_rules, 1);
	policy_free(p);
	mkdir(sub, 0755);
	write_file(sub, "20-b.yaml", "rules: [{name: b, use: kernel}]\n");
	write_file(sub, "10-a.yaml",
		   "rules: [{name: a, use: kernel}, {use: kernel}]\n"
		   "default: reject\n");
	write_file(sub, "30-c.yaml~", "nonsense: 1\n");
	write_file(sub, ".hidden.yaml", "nonsense: 1\n");
	CU_ASSERT_EQUAL_FATAL(policy_parse_dir(main_file, &p, &d), 0);
	CU_ASSERT_EQUAL_FATAL(p->n_rules, 4);
	CU_ASSERT_STRING_EQUAL(p->rules[1].name, "a");
	CU_ASSERT_STRING_EQUAL(p->rules[2].name, "rule-3");
	CU_ASSERT_STRING_EQUAL(p->rules[3].name, "b");
	CU_ASSERT_STRING_EQUAL(p->def[0], "reject");
	policy_free(p);
	write_file(sub, "40-d.yaml", "default: kernel\nbad: 1\n");
	write_file(sub, "50-e.yaml", "rules: {}\n");
	CU_ASSERT_EQUAL(policy_parse_dir(main_file, &p, &d), -EINVAL);
	CU_ASSERT_EQUAL(d.errors, 3);
	CU_ASSERT_PTR_NOT_NULL(strstr(d.list[0].text, "set already in"));
	policy_diags_fini(&d);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	CU_ASSERT_EQUAL(system(command), 0);
}

/* Parse text, which is freed; the first thing that is said must have the words in it. */
static void check_refused(char *text, size_t len, const char *words)
{
	struct policy_diags d = {0};
	struct dmm_policy *p = NULL;

	CU_ASSERT_EQUAL(policy_parse_text("t", text, len, &p, &d), -EINVAL);
	CU_ASSERT_FATAL(d.n > 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(d.list[0].text, words));
	policy_diags_fini(&d);
	free(text);
}

/* head, n times each, tail */
static char *repeat(const char *head, const char *each, size_t n, const char *tail, size_t *ret_len)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_len);

	fputs(head, out);
	for (size_t i = 0; i < n; i++)
		fputs(each, out);
	fputs(tail, out);
	fclose(out);
	return text;
}

static void test_bounds(void)
{
	struct policy_diags d = {0};
	struct dmm_policy *p = NULL;
	size_t len;
	char *text;

	text = repeat("", " ", NODE_MAX_BYTES + 1, "", &len);
	check_refused(text, len, "larger than");
	text = repeat("rules: [", "a,", NODE_MAX_NODES, "]", &len);
	check_refused(text, len, "more than 4194304 values");
	/* A mistake on every line is not a message on every line. */
	text = repeat("", "x: \n", 100000, "", &len);
	CU_ASSERT_EQUAL(policy_parse_text("t", text, len, &p, &d), -EINVAL);
	CU_ASSERT(d.n <= 100);
	CU_ASSERT(d.errors > 90000);
	policy_diags_fini(&d);
	free(text);
	/* More rules, list items, sets than there can be. */
	text = repeat("rules: [", "{use: kernel},", 65537, "]", &len);
	check_refused(text, len, "65537 rules; at most 65536");
	text = repeat("rules: [{use: kernel, match: {uid: [", "1,", 65537, "]}}]", &len);
	check_refused(text, len, "65537 items; at most 65536");
	text = repeat("sets: {", "a: 1,", 1025, "}", &len);
	check_refused(text, len, "1025 entries; at most 1024");
	/* Terminal escapes do not get through. */
	CU_ASSERT_EQUAL(policy_parse_text("t", "\"\\e[31m\\n\": 1", 12, &p, &d), -EINVAL);
	CU_ASSERT_PTR_NULL(strchr(d.list[0].text, '\033'));
	policy_diags_fini(&d);
	CU_ASSERT_EQUAL(policy_parse_text("t", "default: \"a\\0b\"", 15, &p, &d), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(d.list[0].text, "NUL"));
	policy_diags_fini(&d);
}

static void test_rule_text(void)
{
	struct policy_diags d = {0};
	struct dmm_rule rule;

	CU_ASSERT_EQUAL(
		policy_parse_rule("{name: x, match: {remote: 10.0.0.0/8}, use: [a, b]}", &rule, &d),
		0);
	CU_ASSERT_EQUAL(rule.n_use, 2);
	CU_ASSERT_STRING_EQUAL(rule.pos.file, "");
	policy_rule_fini(&rule);
	CU_ASSERT_EQUAL(policy_parse_rule("{match: {remote: [10.0.0.0/8, 1x]}, use: a}", &rule, &d),
			-EINVAL);
	CU_ASSERT_EQUAL(policy_parse_rule("", &rule, &d), -EINVAL);
	CU_ASSERT_EQUAL(policy_parse_rule("[", &rule, &d), -EINVAL);
	policy_diags_fini(&d);
}

static void check_rate(const char *text, dmm_u64 want, const char *back)
{
	char buf[VALUE_STRLEN];
	dmm_u64 bps = 0;

	CU_ASSERT_EQUAL(value_parse_rate(text, &bps), want ? 0 : -EINVAL);
	CU_ASSERT_EQUAL(bps, want);
	if (want)
		CU_ASSERT_STRING_EQUAL(value_format_rate(bps, buf, sizeof(buf)), back);
}

static void test_values(void)
{
	struct dmm_addr a;
	dmm_u64 n;

	struct policy_uids u;
	char buf[VALUE_STRLEN];

	CU_ASSERT_EQUAL(value_parse_uids("1000-1999", &u), 0);
	CU_ASSERT_STRING_EQUAL(value_format_uids(&u, buf, sizeof(buf)), "1000-1999");
	CU_ASSERT_EQUAL(value_parse_uids("4294967294", &u), 0);
	CU_ASSERT_STRING_EQUAL(value_format_uids(&u, buf, sizeof(buf)), "4294967294");
	CU_ASSERT_EQUAL(value_parse_uids("4294967295", &u), -EINVAL);
	CU_ASSERT_EQUAL(value_parse_uids("1-", &u), -EINVAL);
	CU_ASSERT_EQUAL(value_parse_uids("-1", &u), -EINVAL);
	CU_ASSERT_EQUAL(value_parse_uids("2-1", &u), -EINVAL);
	CU_ASSERT_FALSE(value_is_set_name("1x"));
	CU_ASSERT_TRUE(value_is_set_name("_1"));
	check_rate("1gbit", 1000000000, "1gbit");
	check_rate("2.5Mbit", 2500000, "2500kbit");
	check_rate("64000", 64000, "64kbit");
	check_rate("999", 999, "999");
	check_rate("0.001gbit", 1000000, "1mbit");
	check_rate("1gbps", 0, NULL);
	check_rate("", 0, NULL);
	check_rate("0", 0, NULL);
	check_rate("-1", 0, NULL);
	check_rate("1.5", 1, "1");
	CU_ASSERT_EQUAL(value_parse_rate("99999999999999999tbit", &n), -ERANGE);
	CU_ASSERT_EQUAL(value_parse_number("0x10", 255, &n), 0);
	CU_ASSERT_EQUAL(n, 16);
	CU_ASSERT_EQUAL(value_parse_number("256", 255, &n), -ERANGE);
	CU_ASSERT_EQUAL(value_parse_number("0x", 255, &n), -EINVAL);
	CU_ASSERT_EQUAL(value_parse_number("ff", 255, &n), -EINVAL);
	CU_ASSERT_EQUAL(value_parse_number("1 ", 255, &n), -EINVAL);
	CU_ASSERT_EQUAL(value_parse_number("99999999999999999999999", 255, &n), -ERANGE);
	CU_ASSERT_EQUAL(value_parse_endpoint("127.0.0.1:80", &a), 0);
	CU_ASSERT_EQUAL(a.port, 80);
	CU_ASSERT_EQUAL(value_parse_endpoint("[::1]:80", &a), 0);
	CU_ASSERT_EQUAL(value_parse_endpoint("::1:80", &a), -EINVAL);
	CU_ASSERT_EQUAL(value_parse_endpoint("127.0.0.1:0", &a), -EINVAL);
	CU_ASSERT_EQUAL(value_parse_endpoint(":80", &a), -EINVAL);
	CU_ASSERT_EQUAL(value_parse_endpoint("[]:80", &a), -EINVAL);
	CU_ASSERT_TRUE(value_is_name("web-1.a_B"));
	CU_ASSERT_FALSE(value_is_name("-x"));
	CU_ASSERT_FALSE(value_is_name(""));
	CU_ASSERT_FALSE(value_is_name("a,b"));
	CU_ASSERT_FALSE(value_is_name("abcdefghijklmnopqrstuvwxyz012345"));
}

/* The example that the documentation shows is one that is taken, without a warning. */
static void test_example(void)
{
	char path[PATH_MAX];
	char *text;

	snprintf(path, sizeof(path), "%s/docs/dmm.yaml.example", getenv("DMM_SOURCE_ROOT"));
	text = complaints(path);
	CU_ASSERT_STRING_EQUAL(text, "");
	if (*text)
		fputs(text, stderr);
	free(text);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"files with mistakes, and what is said about them", test_golden},
		{"every key of the language", test_good},
		{"sets, users, programs, weights, capture", test_good_sets},
		{"rules that hosts share", test_origin},
		{"empty texts", test_empty},
		{"rules without names", test_names_given},
		{"text and back", test_text_round_trip},
		{"JSON", test_json},
		{"policy.d", test_dir},
		{"bounds", test_bounds},
		{"one rule from a text", test_rule_text},
		{"values", test_values},
		{"the example of the documentation", test_example},
		CU_TEST_INFO_NULL,
	};

	char here[PATH_MAX];

	if (!getenv("DMM_SOURCE_ROOT") && getcwd(here, sizeof(here)))
		setenv("DMM_SOURCE_ROOT", here, 1);
	if (chdir(getenv("DMM_SOURCE_ROOT")) < 0 || chdir("tests/data") < 0) {
		perror("tests/data");
		return EXIT_FAILURE;
	}
	return unit_run("policy", tests);
}
