// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/check.h"
#include "policyd/image.h"
#include "tests/unit/policy_gen.h"

static struct dmm_policy *parse(const char *text)
{
	struct policy_diags d = {0};
	struct dmm_policy *p = NULL;
	int r = policy_parse_text("t.yaml", text, strlen(text), &p, &d);

	if (r == 0)
		r = policy_check(p, &d);
	if (r < 0)
		policy_diags_print(&d, stderr);
	policy_diags_fini(&d);
	CU_ASSERT_EQUAL_FATAL(r, 0);
	return p;
}

static struct dmm_class *compile(const char *text, const struct dmm_class *prev)
{
	struct dmm_class *c = class_new();
	struct dmm_policy *p = parse(text);

	CU_ASSERT_EQUAL_FATAL(class_compile(p, prev, c), 0);
	policy_free(p);
	return c;
}

static void test_image(void)
{
	char file[DMM_PATH_LEN];
	struct dmm_class *c =
		compile("groups: {web: {cgroup: a/b}}\n"
			"stacks: {e0: {engine: lwip, port: {interface: eth1}}}\n"
			"rules:\n"
			"  - name: x\n"
			"    match: {group: web, remote: [10.0.0.0/8, \"2001:db8::/32\"], "
			"remote_port: [80, 8000-8999]}\n"
			"    use: [e0, kernel]\n"
			"  - {name: y, use: reject}\n"
			"default: e0\n",
			NULL);

	CU_ASSERT_EQUAL(c->hdr.rules, 2);
	CU_ASSERT_EQUAL(c->hdr.stacks, 3);
	CU_ASSERT_EQUAL(c->hdr.n_use, 1);
	CU_ASSERT_EQUAL(c->hdr.use[0], 1);
	CU_ASSERT_STRING_EQUAL(c->stack[0].name, "kernel");
	CU_ASSERT_EQUAL(c->stack[0].kind, DMM_KIND_KERNEL);
	CU_ASSERT_EQUAL(class_stack(c, "e0"), 1);
	CU_ASSERT_EQUAL(c->stack[2].kind, DMM_KIND_REJECT);
	CU_ASSERT_STRING_EQUAL(c->group[1].cgroup, "a/b");
	CU_ASSERT_EQUAL(c->hdr.fields, 1u << DMM_FIELD_HEAD | 1u << DMM_FIELD_REMOTE |
					       1u << DMM_FIELD_REMOTE_PORT);
	CU_ASSERT_EQUAL(class_file(c, 0, file), 0);
	CU_ASSERT_STRING_EQUAL(file, "t.yaml");
	CU_ASSERT_EQUAL(c->rule[0].line, 4);
	CU_ASSERT_EQUAL(c->rule[1].use[0], 2);
	class_free(c);
}

static void test_ids_stay(void)
{
	struct dmm_class *a = compile("groups: {a: , b: , c: }\n"
				      "stacks: {s1: {kind: kernel}, s2: {kind: kernel}}\n"
				      "rules: [{use: reject}]\n",
				      NULL);
	struct dmm_class *b;

	a->group[2].cgroup_id = 77;
	a->group[2].made = 1;
	b = compile("groups: {z: , c: , b: {cgroup: dmm/b}}\n"
		    "stacks: {s0: {kind: kernel}, s2: {kind: kernel, mark: 1}}\n",
		    a);
	CU_ASSERT_EQUAL(class_group(b, "b"), 2);
	CU_ASSERT_EQUAL(class_group(b, "c"), 3);
	CU_ASSERT_EQUAL(class_group(b, "z"), 4); /* not 1: sockets of "a" may live */
	CU_ASSERT_EQUAL(b->group[2].cgroup_id, 77);
	CU_ASSERT_EQUAL(b->group[2].made, 1);
	CU_ASSERT_EQUAL(class_stack(b, "s2"), 2);
	CU_ASSERT_EQUAL(class_stack(b, "s0"), 4); /* 1 was s1's, 3 is reject's */
	CU_ASSERT_EQUAL(class_stack(b, "reject"), -ENOENT);
	class_free(a);
	class_free(b);
}

/* When every id was used, those of the past are taken again. */
static void test_ids_wrap(void)
{
	struct dmm_class *prev = NULL;

	for (int round = 0; round < 4; round++) {
		struct dmm_class *c;
		char text[4096] = "stacks:\n";

		for (int i = 0; i < DMM_MAX_STACKS - 4; i++)
			snprintf(text + strlen(text), sizeof(text) - strlen(text),
				 "  r%ds%d: {kind: kernel}\n", round, i);
		c = compile(text, prev);
		CU_ASSERT(class_stack(c, "kernel") == 0);
		CU_ASSERT(c->hdr.stacks <= DMM_MAX_STACKS);
		class_free(prev);
		prev = c;
	}
	class_free(prev);
}

/* policy -> class -> policy -> class, and policy -> text -> policy. */
static void test_round_trip(void)
{
	struct dmm_class *a = class_new(), *b = class_new();

	for (uint64_t seed = 0; seed < 2000; seed++) {
		struct rng r = {.state = seed * 7919};
		struct dmm_policy *p = gen_policy_full(&r), *q = NULL, *s = NULL;
		struct policy_diags d = {0};
		char *text, *again;

		CU_ASSERT_EQUAL_FATAL(policy_check(p, &d), 0);
		CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, a), 0);
		CU_ASSERT_EQUAL_FATAL(class_decompile(a, &q), 0);
		CU_ASSERT_EQUAL_FATAL(class_compile(q, NULL, b), 0);
		CU_ASSERT_TRUE(class_equal(a, b));
		text = policy_text(p);
		again = policy_text(q);
		CU_ASSERT_STRING_EQUAL(text, again);
		policy_free(q);
		if (policy_parse_text("", text, strlen(text), &s, &d) < 0) {
			policy_diags_print(&d, stderr);
			CU_FAIL_FATAL("does not read back");
		}
		free(again);
		again = policy_text(s);
		CU_ASSERT_STRING_EQUAL(text, again);
		/* The same but for the lines that the rules now stand on. */
		CU_ASSERT_EQUAL_FATAL(class_compile(s, a, b), 0);
		CU_ASSERT_EQUAL(class_diff(a, b, NULL), 0);
		free(text);
		free(again);
		policy_free(p);
		policy_free(s);
		policy_diags_fini(&d);
	}
	class_free(a);
	class_free(b);
}

/* n rules of one port each. */
static struct dmm_policy *many_rules(size_t n)
{
	struct dmm_policy *p = policy_new();

	p->rules = calloc(n, sizeof(*p->rules));
	p->n_rules = n;
	for (size_t i = 0; i < n; i++) {
		struct dmm_rule *r = &p->rules[i];

		snprintf(r->name, sizeof(r->name), "r%zu", i);
		strcpy(r->use[0], "kernel");
		r->n_use = 1;
		r->match.remote_port = calloc(1, sizeof(*r->match.remote_port));
		r->match.n_remote_port = 1;
		r->match.remote_port[0] = (struct policy_ports){(dmm_u16)i, (dmm_u16)i};
	}
	return p;
}

static void test_limits(void)
{
	struct dmm_class *c = class_new();
	struct dmm_policy *p = many_rules(DMM_MAX_RULES), *q;
	struct eval_socket s = {.proto = 6, .remote.port = 65535};

	CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
	CU_ASSERT_EQUAL(c->hdr.rules, 65536);
	CU_ASSERT_EQUAL(eval_rule(c, &s), 65535);
	s.remote.port = 40000;
	CU_ASSERT_EQUAL(eval_rule(c, &s), 40000);
	CU_ASSERT_EQUAL_FATAL(class_decompile(c, &q), 0);
	CU_ASSERT_EQUAL(q->n_rules, 65536);
	CU_ASSERT_EQUAL(q->rules[65535].match.remote_port[0].lo, 65535);
	policy_free(q);
	policy_free(p);
	p = many_rules(DMM_MAX_RULES + 1);
	CU_ASSERT_EQUAL(class_compile(p, NULL, c), -E2BIG);
	policy_free(p);
	p = many_rules(1);
	strcpy(p->rules[0].use[0], "nowhere");
	CU_ASSERT_EQUAL(class_compile(p, NULL, c), -ENOENT);
	policy_free(p);
	class_free(c);
}

/* An image beyond its limit is refused before any memory is asked for, and stays as it is. */
static void test_too_large(void)
{
	struct image im = {0};
	dmm_u32 at = 7;

	CU_ASSERT_EQUAL(image_append(&im, (size_t)DMM_MAX_CELLS + 1, &at), -E2BIG);
	CU_ASSERT_EQUAL(image_append(&im, 3, &at), 0);
	CU_ASSERT_EQUAL(at, 0);
	CU_ASSERT_EQUAL(image_append(&im, DMM_MAX_CELLS - 2, &at), -E2BIG);
	CU_ASSERT_EQUAL(im.n, 3);
	CU_ASSERT_EQUAL(image_append(&im, 1, &at), 0);
	CU_ASSERT_EQUAL(at, 3);
	image_fini(&im);
}

/* The tables of rules that match the same are taken over, and are what they would be. */
static void test_same_match(void)
{
	struct dmm_class *a = class_new(), *b = class_new(), *whole = class_new();

	for (uint64_t seed = 0; seed < 300; seed++) {
		struct rng r = {.state = seed * 31};
		struct dmm_policy *p = gen_policy_full(&r);
		size_t i = p->n_rules ? rng_below(&r, (uint32_t)p->n_rules) : 0;

		CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, a), 0);
		if (p->n_rules) {
			p->rules[i].disabled = !p->rules[i].disabled;
			if (p->rules[i].match.n_uid && rng_below(&r, 2))
				p->rules[i].match.uid[0].hi++;
		}
		CU_ASSERT_EQUAL_FATAL(class_compile(p, a, b), 0);
		CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, whole), 0);
		CU_ASSERT_EQUAL_FATAL(b->hdr.cells, whole->hdr.cells);
		CU_ASSERT_EQUAL(memcmp(b->image, whole->image, b->hdr.cells * sizeof(*b->image)),
				0);
		policy_free(p);
	}
	class_free(a);
	class_free(b);
	class_free(whole);
}

/* Nothing that a map could hold makes class_decompile() do more than refuse. */
static void test_garbage(void)
{
	struct dmm_class *c = class_new();
	unsigned refused = 0, taken = 0;

	for (uint64_t seed = 0; seed < 3000; seed++) {
		struct rng r = {.state = seed};
		struct dmm_policy *p = gen_policy_full(&r), *q;
		struct dmm_class_hdr was;

		CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
		was = c->hdr;
		for (int i = 0; i < 4; i++) {
			dmm_u8 *at[] = {(dmm_u8 *)&c->hdr + rng_below(&r, sizeof(c->hdr)),
					(dmm_u8 *)c->image +
						rng_below(&r, was.table_cell * sizeof(*c->image)),
					(dmm_u8 *)&c->image[was.match_cell] +
						rng_below(&r, was.match_len + 1),
					(dmm_u8 *)c->stack + rng_below(&r, 4 * sizeof(*c->stack)),
					(dmm_u8 *)c->group + rng_below(&r, 4 * sizeof(*c->group))};

			*at[rng_below(&r, 5)] = (dmm_u8)rng_below(&r, 256);
		}
		c->hdr.cells = MIN(c->hdr.cells, was.cells); /* maps_read() sees to that */
		if (class_decompile(c, &q) == 0) {
			taken++;
			policy_free(q);
		} else {
			refused++;
		}
		policy_free(p);
	}
	CU_ASSERT(taken > 0);
	CU_ASSERT(refused > 0);
	class_fini(c); /* generation 0 */
	{
		struct dmm_policy *q;

		CU_ASSERT_EQUAL_FATAL(class_decompile(c, &q), 0);
		CU_ASSERT_EQUAL(q->n_def, 1);
		CU_ASSERT_STRING_EQUAL(q->def[0], "kernel");
		policy_free(q);
	}
	class_free(c);
}

static void check_diff(const char *a, const char *b, const char *want)
{
	struct dmm_class *ca = compile(a, NULL), *cb = compile(b, ca);
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int lines = class_diff(ca, cb, out), n = 0;

	fclose(out);
	for (const char *c = text; *c; c++)
		n += *c == '\n';
	CU_ASSERT_EQUAL(lines, n);
	CU_ASSERT_EQUAL(class_diff(ca, cb, NULL), n);
	CU_ASSERT_STRING_EQUAL(text, want);
	if (strcmp(text, want) != 0)
		fprintf(stderr, "want:\n%sgot:\n%s", want, text);
	free(text);
	class_free(ca);
	class_free(cb);
}

static void test_diff(void)
{
	check_diff("", "", "");
	check_diff("groups: {a: }", "groups: {b: {cgroup: x/y}}",
		   "- group a cgroup=dmm/a\n+ group b cgroup=x/y\n");
	check_diff("stacks: {s: {kind: kernel, congestion: bbr, mark: 3}}",
		   "stacks: {s: {kind: kernel, congestion: reno, pacing: 1gbit}}\ndefault: s",
		   "~ stack s: congestion=bbr -> reno, mark=3 -> (none), pacing=(none) -> 1gbit\n"
		   "~ default: use=kernel -> s\n");
	check_diff("rules: [{name: a, use: kernel}]",
		   "rules: [{name: a, match: {remote: [10.0.0.0/8, \"::1\"]}, use: reject}]",
		   "~ rule a: use=kernel -> reject, remote=(none) -> 10.0.0.0/8,::1\n");
	check_diff("rules: [{name: a, use: kernel}, {name: b, use: kernel}, {name: c, use: kernel},"
		   "{name: d, use: kernel}]",
		   "rules: [{name: d, use: kernel}, {name: a, use: kernel}, {name: n, use: reject},"
		   "{name: b, use: kernel}, {name: c, use: kernel}]",
		   "+ rule n use=reject\n~ rule d: moved from place 4 to 1\n");
	check_diff("rules: [{name: a, use: kernel, congestion: cubic}, {name: b, use: kernel}]",
		   "rules: [{name: a, use: kernel, congestion: dctcp}, {name: b, use: kernel}]",
		   "~ rule a: congestion=cubic -> dctcp\n");
	check_diff("rules: [{name: a, use: kernel}, {name: b, use: kernel}]",
		   "rules: [{name: b, use: kernel}]", "- rule a use=kernel\n");
	check_diff("sets: {x: [10.0.0.0/8], gone: [80]}\nrules: [{name: r, match: {remote: x, "
		   "remote_port: gone}, use: kernel}]",
		   "sets: {x: [10.0.0.0/9], new: [443, 8000-8999]}\nrules: [{name: r, match: "
		   "{remote: x, remote_port: new}, use: kernel}]",
		   "- set gone items=80\n~ set x: items=10.0.0.0/8 -> 10.0.0.0/9\n"
		   "+ set new items=443,8000-8999\n~ rule r: remote_port=gone -> new\n");
}

static char *diff_text(const struct dmm_class *a, const struct dmm_class *b, int *ret_lines)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	*ret_lines = class_diff(a, b, out);
	fclose(out);
	return text;
}

/* The first of all rules becomes the last: one line, and not one for each of the others. In a time
 * that the suite has: nothing takes the square of their number. */
static void test_diff_many(void)
{
	struct dmm_class *a = class_new(), *b = class_new();
	struct dmm_policy *p = many_rules(DMM_MAX_RULES);
	struct dmm_rule first;
	char *text;
	int lines;

	CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, a), 0);
	first = p->rules[0];
	memmove(p->rules, p->rules + 1, (p->n_rules - 1) * sizeof(first));
	p->rules[p->n_rules - 1] = first;
	CU_ASSERT_EQUAL_FATAL(class_compile(p, a, b), 0);
	text = diff_text(a, b, &lines);
	CU_ASSERT_EQUAL(lines, 1);
	CU_ASSERT_STRING_EQUAL(text, "~ rule r0: moved from place 1 to 65536\n");
	free(text);
	policy_free(p);
	class_free(a);
	class_free(b);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"the image of a policy", test_image},
		{"names that stay keep their ids", test_ids_stay},
		{"ids of the past are taken again when needed", test_ids_wrap},
		{"round trips of random policies", test_round_trip},
		{"limits", test_limits},
		{"an image that is too large", test_too_large},
		{"rules that match what they matched before", test_same_match},
		{"garbage in the maps", test_garbage},
		{"differences", test_diff},
		{"differences of the largest policies", test_diff_many},
		CU_TEST_INFO_NULL,
	};

	return unit_run("compile", tests);
}
