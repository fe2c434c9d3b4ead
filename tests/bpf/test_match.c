// SPDX-License-Identifier: Apache-2.0
/*
 * The classifier in the kernel, eval_rule() in userspace and the plainest reading of the policy
 * give the same answer: random policies, random sockets, and sockets at and around every end of
 * every range.
 */
#include <CUnit/Basic.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "match.skel.h"

#include "lib/base/log.h"
#include "loader/maps.h"
#include "tests/bpf/match.h"
#include "tests/unit/policy_gen.h"
#include "tests/bpf/run.h"

/* How many, and what they come to at least; DMM_MATCH_POLICIES asks for another number. */
static unsigned policies = 600;
#define PAIRS_EACH 166
#define SOCKETS 100

struct tally {
	const struct dmm_policy *policy;
	const struct dmm_class *class;
	struct rng *rng;
	unsigned long pairs, hits, fixed, wrong_rule, wrong_eval, wrong_use;
};

static char path[64];
static struct tree tree;
static struct match_bpf *skel;

static dmm_u64 pack_use(const dmm_u8 *use)
{
	dmm_u64 packed = 0;

	for (unsigned i = 0; i < DMM_MAX_USE; i++)
		packed |= (dmm_u64)use[i] << 8 * i;
	return packed;
}

/* As a process of this user and name. */
static int ask(const struct eval_socket *s, struct question *q)
{
	LIBBPF_OPTS(bpf_test_run_opts, o, .ctx_in = q, .ctx_size_in = sizeof(*q));
	char name[DMM_PROGRAM_LEN] = {0};
	int r;

	q->remote = s->remote;
	q->local = s->local;
	q->group = s->group;
	q->role = s->role;
	q->proto = s->proto;
	memcpy(name, s->program, sizeof(name) - 1);
	prctl(PR_SET_NAME, name);
	if (setresuid(s->uid, 0, 0) < 0)
		return -errno;
	r = bpf_prog_test_run_opts(bpf_program__fd(skel->progs.dmm_ask), &o);
	return setresuid(0, 0, 0) < 0 ? -errno : r;
}

/* What is fixed has to be the first of the list, for all sockets, and without settings. */
static bool wrong_use(const struct tally *t, const struct answer *a, const dmm_u8 *use)
{
	const struct dmm_rule_rec *rule = a->rule < DMM_MAX_RULES ? &t->class->rule[a->rule] : NULL;
	const struct dmm_stack_rec *stack = &t->class->stack[DMM_MEMO_STACK(a->found)];
	struct dmm_stack_rec bare = {.kind = DMM_KIND_KERNEL};

	if (!(a->found & DMM_MEMO_FIXED))
		return a->use != pack_use(use);
	memcpy(bare.name, stack->name, sizeof(bare.name));
	return DMM_MEMO_STACK(a->found) != use[0] || memcmp(stack, &bare, sizeof(bare)) != 0 ||
	       (rule && (rule->keep ||
			 memcmp(rule->weight, (dmm_u16[DMM_MAX_USE]){0}, sizeof(rule->weight))));
}

static void compare(const struct gen_socket *g, void *ctx)
{
	struct tally *t = ctx;
	struct eval_socket s = g->s;
	struct question q = {.cookie = rng_below(t->rng, 1 << 30)};
	unsigned want = naive_rule(t->policy, g);
	dmm_u8 use[DMM_MAX_USE];

	if (g->group)
		s.group = (dmm_u8)class_group(t->class, g->group);
	CU_ASSERT_EQUAL_FATAL(ask(&s, &q), 0);
	t->pairs++;
	/* by name: edits leave free places */
	t->wrong_rule +=
		strcmp(gen_rule_at(t->class, q.first.rule), gen_rule_named(t->policy, want)) != 0 ||
		q.again.rule != q.first.rule;
	t->wrong_eval += eval_rule(t->class, &s) != q.first.rule;
	if (want != DMM_RULE_NONE && q.first.rule >= t->class->hdr.rules)
		return;
	if (want == DMM_RULE_NONE) {
		memcpy(use, t->class->hdr.use, sizeof(use));
	} else {
		t->hits++;
		eval_use(&t->class->rule[q.first.rule], DMM_DRAW(q.cookie), use);
	}
	t->wrong_use += wrong_use(t, &q.first, use) || wrong_use(t, &q.again, use);
	t->fixed += (q.again.found & DMM_MEMO_FIXED) != 0;
}

/* The groups' ids count, not the groups: nothing is to be attached. */
static void put_in_force(struct dmm_class *c)
{
	struct dmm_group_rec group[DMM_MAX_GROUPS];

	memcpy(group, c->group, sizeof(group));
	memset(c->group, 0, sizeof(c->group));
	CU_ASSERT_EQUAL_FATAL(maps_commit(&tree, c, NULL), 0);
	memcpy(c->group, group, sizeof(group));
}

/* As it is compiled, after a number of edits. */
static void compare_policy(struct tally *t, struct dmm_policy *p, int edits)
{
	struct dmm_class *c = class_new();

	CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
	t->policy = p;
	t->class = c;
	put_in_force(c);
	for (int i = 0; i < edits; i++) {
		gen_edit(t->rng, p, c);
		put_in_force(c);
	}
	for (int i = 0; i < SOCKETS; i++) {
		struct gen_socket g;

		gen_socket(t->rng, p, &g);
		compare(&g, t);
	}
	naive_boundaries(t->rng, p, compare, t);
	class_free(c);
}

static void check_tally(const struct tally *t)
{
	CU_ASSERT_EQUAL(t->wrong_rule, 0);
	CU_ASSERT_EQUAL(t->wrong_eval, 0);
	CU_ASSERT_EQUAL(t->wrong_use, 0);
	CU_ASSERT(t->hits > t->pairs / 4);
	printf("%lu pairs, %lu of them decided by a rule, %lu fixed; ", t->pairs, t->hits,
	       t->fixed);
}

static void test_same(void)
{
	struct tally t = {0};

	for (uint64_t seed = 0; seed < policies; seed++) {
		struct rng r = {.state = seed * 7919};
		struct dmm_policy *p = gen_policy_full(&r);

		t.rng = &r;
		compare_policy(&t, p, 0);
		policy_free(p);
	}
	check_tally(&t);
	CU_ASSERT(t.pairs >= (unsigned long)policies * PAIRS_EACH);
	CU_ASSERT(t.fixed >= (unsigned long)policies * 5 / 3);
}

/* Rules that fill several chunks. */
static void test_large(void)
{
	struct tally t = {0};

	for (uint64_t seed = 0; seed < 2; seed++) {
		struct rng r = {.state = seed * 101 + 5};
		struct dmm_policy *p = gen_policy_full(&r);

		gen_more_rules(&r, p, 1200);
		t.rng = &r;
		compare_policy(&t, p, 0);
		policy_free(p);
	}
	check_tally(&t);
}

/* Rule by rule in place, each edit a commit: places that are free, classes that nothing leads to.
 */
static void test_edited(void)
{
	struct tally t = {0};

	for (uint64_t seed = 0; seed < 60; seed++) {
		struct rng r = {.state = seed * 7919 + 1};
		struct dmm_policy *p = gen_policy_full(&r);

		gen_more_rules(&r, p, seed % 20 ? 12 : 600);
		t.rng = &r;
		compare_policy(&t, p, 8);
		policy_free(p);
	}
	check_tally(&t);
}

/* Each decision is counted once, for its rule: more rules than are read at once. */
static void test_hits(void)
{
	static dmm_u64 before[DMM_MAX_RULES + 1], after[DMM_MAX_RULES + 1];
	static dmm_u64 asked[DMM_MAX_RULES + 1];
	struct dmm_class *c = class_new();
	struct rng r = {.state = 11};
	struct dmm_policy *p = gen_policy_full(&r);
	unsigned late = 0;

	gen_more_rules(&r, p, 3000);
	for (size_t i = 0; i < 1500; i++) /* for the others to be reached */
		p->rules[i].match.proto = IPPROTO_SCTP;
	for (size_t i = 0; i < p->n_rules; i++) /* no more than DMM_MAX_MEASURED can be */
		p->rules[i].telemetry = false;
	CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
	put_in_force(c);
	CU_ASSERT_EQUAL_FATAL(maps_hits(&tree, before), 0);
	for (int i = 0; i < 500; i++) {
		struct question q = {0};
		struct gen_socket g;

		gen_socket(&r, p, &g);
		CU_ASSERT_EQUAL_FATAL(ask(&g.s, &q), 0);
		asked[q.first.rule < DMM_MAX_RULES ? q.first.rule : DMM_MAX_RULES]++;
		asked[q.again.rule < DMM_MAX_RULES ? q.again.rule : DMM_MAX_RULES]++;
		late += q.first.rule >= 1500 && q.first.rule < 3000;
	}
	CU_ASSERT_EQUAL_FATAL(maps_hits(&tree, after), 0);
	for (unsigned i = 0; i <= DMM_MAX_RULES; i++)
		if (after[i] - before[i] != asked[i])
			CU_FAIL("a count differs");
	CU_ASSERT(late > 0);
	policy_free(p);
	class_free(c);
}

/* A socket that is asked about over and over: memo entries of two writers would show. */
static int ask_port(dmm_u16 port, dmm_u32 *ret)
{
	struct eval_socket s = {.proto = IPPROTO_TCP, .role = DMM_ROLE_CLIENT};
	struct question q = {0};
	int r;

	s.remote.ip[10] = s.remote.ip[11] = 0xff;
	s.remote.ip[12] = 10;
	s.remote.port = port;
	r = ask(&s, &q);
	*ret = q.first.rule;
	return r;
}

/* Words of different entries of one line change places. */
static void tear_memo(void)
{
	int fd = tree.map[TREE_MEMO];
	unsigned torn = 0;

	for (dmm_u32 line = 0; line < 1u << DMM_MEMO_LINES_BITS; line++) {
		struct dmm_memo m;
		dmm_u64 what;

		CU_ASSERT_EQUAL_FATAL(bpf_map_lookup_elem(fd, &line, &m), 0);
		if (!m.entry[0].what || !m.entry[1].what)
			continue;
		what = m.entry[0].what;
		m.entry[0].what = m.entry[1].what;
		m.entry[1].what = what;
		CU_ASSERT_EQUAL_FATAL(bpf_map_update_elem(fd, &line, &m, 0), 0);
		torn++;
	}
	CU_ASSERT(torn > 100);
}

/* An entry with words of two is not taken. */
static void test_torn(void)
{
	struct policy_diags d = {0};
	struct dmm_class *c = class_new();
	struct dmm_policy *p = NULL;
	dmm_u32 rule, wrong = 0;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	fprintf(out, "rules:\n");
	for (unsigned i = 0; i < 50; i++)
		fprintf(out, "  - {match: {remote_port: %u-%u}, use: kernel}\n", 1 + i * 1000,
			1000 + i * 1000);
	fclose(out);
	CU_ASSERT_EQUAL_FATAL(policy_parse_text("t", text, len, &p, &d), 0);
	CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
	put_in_force(c);
	for (int torn = 0; torn < 2; torn++) {
		for (unsigned port = 1; port <= 50000; port += 3) {
			CU_ASSERT_EQUAL_FATAL(ask_port((dmm_u16)port, &rule), 0);
			wrong += rule >= DMM_MAX_RULES ||
				 strcmp(gen_rule_at(c, rule), p->rules[(port - 1) / 1000].name) !=
					 0;
		}
		if (!torn)
			tear_memo();
	}
	CU_ASSERT_EQUAL(wrong, 0);
	policy_free(p);
	class_free(c);
	free(text);
}

/* A slot that is written over whenever it is looked at: a reason of its own, and nothing else. */
static void test_changing(void)
{
	struct dmm_class *c = class_new();
	struct policy_diags d = {0};
	struct dmm_policy *p = NULL;
	struct eval_socket s = {.proto = IPPROTO_TCP, .role = DMM_ROLE_CLIENT};
	struct question q = {0};
	dmm_u64 building;

	CU_ASSERT_EQUAL_FATAL(policy_parse_text("t", "rules: [{use: kernel}]", 22, &p, &d), 0);
	CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
	put_in_force(c);
	building = tree.meta->building;
	tree.meta->building = tree.meta->generation + 2;
	CU_ASSERT_EQUAL(ask(&s, &q), 0);
	CU_ASSERT_EQUAL(q.first.why, DMM_REASON_CHANGING);
	CU_ASSERT_EQUAL(q.again.why, DMM_REASON_CHANGING);
	tree.meta->building = building;
	CU_ASSERT_EQUAL(ask(&s, &q), 0);
	CU_ASSERT_EQUAL(q.first.why, DMM_REASON_RULE);
	policy_free(p);
	class_free(c);
}

static int setup(void)
{
	snprintf(path, sizeof(path), "/sys/fs/bpf/dmm-match-%d", getpid());
	if (tree_install(&tree, path) < 0)
		return -1;
	skel = match_bpf__open();
	if (!skel || tree_reuse_maps(&tree, skel->obj) < 0)
		return -1;
	return match_bpf__load(skel);
}

static int teardown(void)
{
	match_bpf__destroy(skel);
	tree_close(&tree);
	return tree_teardown(path);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"BPF, eval and a plain reading agree", test_same},
		{"the same with many rules", test_large},
		{"the same after edits of single rules", test_edited},
		{"hits", test_hits},
		{"entries of two writers", test_torn},
		{"a slot that is always written over", test_changing},
		CU_TEST_INFO_NULL,
	};
	const char *fewer = getenv("DMM_MATCH_POLICIES");
	int r = bpf_skip();

	if (fewer)
		policies = (unsigned)atoi(fewer);
	log_init("test_match", LOG_L_INFO);
	return r ? r : bpf_run("match", setup, teardown, tests);
}
