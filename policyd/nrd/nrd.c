// SPDX-License-Identifier: Apache-2.0
#include <errno.h>

#include "lib/base/util.h"
#include "policyd/nrd/path.h"

#define OWN_TRIAL \
	10 /* connections of a trial in one dwell that make a prefix decide for itself … */
#define QUIET_DWELLS 20 /* … and it follows its rule again after so many with a quarter of that */

struct nrd *nrd_new(size_t max_paths, dmm_u64 seed)
{
	struct nrd *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->max_paths = MAX(1, MIN(max_paths, NRD_MAX_PATHS));
	for (n->hash_size = 16; n->hash_size < n->max_paths; n->hash_size *= 2)
		;
	n->hash = calloc(n->hash_size, sizeof(*n->hash));
	n->log = calloc(NRD_LOG, sizeof(*n->log));
	TAILQ_INIT(&n->following);
	TAILQ_INIT(&n->own);
	n->t = 1;
	n->random = seed;
	if (n->hash && n->log)
		return n;
	nrd_free(n);
	return NULL;
}

static void rule_free(struct rule *r)
{
	if (r)
		path_free(r->all);
	free(r);
}

void nrd_free(struct nrd *n)
{
	struct path *p;

	if (!n)
		return;
	while ((p = TAILQ_FIRST(&n->following)) || (p = TAILQ_FIRST(&n->own)))
		path_drop(n, p);
	for (size_t i = 0; i < n->n_rules; i++)
		rule_free(n->rule[i]);
	free(n->rule);
	free(n->hash);
	free(n->log);
	free(n);
}

/* ---- rules ---- */

static struct rule *rule_new(struct nrd *n, const struct nrd_rule *c)
{
	static const dmm_u8 any[16];
	struct rule *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->c = *c;
	r->all = path_new(n, r, any, 0);
	if (!r->all) {
		free(r);
		return NULL;
	}
	choose_begin(n, r->all);
	return r;
}

static bool same_rule(const struct nrd_rule *a, const struct nrd_rule *b)
{
	return strcmp(a->name, b->name) == 0 && memcmp(&a->set, &b->set, sizeof(a->set)) == 0 &&
	       a->n_stacks == b->n_stacks &&
	       memcmp(a->stack, b->stack, a->n_stacks * sizeof(a->stack[0])) == 0;
}

static void drop_paths(struct nrd *n, struct path_list *list, const struct rule *r)
{
	struct path *p = TAILQ_FIRST(list), *next;

	for (; p; p = next) {
		next = TAILQ_NEXT(p, entry);
		if (p->rule == r)
			path_drop(n, p);
	}
}

/* The old rule that c is, out of the old list. */
static struct rule *take_old(struct nrd *n, const struct nrd_rule *c, size_t likely)
{
	for (size_t k = 0; k < n->n_rules; k++) {
		struct rule **old = &n->rule[(likely + k) % n->n_rules], *r = *old;

		if (r && same_rule(&r->c, c)) {
			*old = NULL;
			return r;
		}
	}
	return NULL;
}

int nrd_configure(struct nrd *n, const struct nrd_rule *rules, size_t n_rules)
{
	struct rule **list = calloc(n_rules + 1, sizeof(*list)), **fresh;
	size_t made = 0;

	fresh = calloc(n_rules + 1, sizeof(*fresh));
	for (; list && fresh && made < n_rules; made++) {
		fresh[made] = rule_new(n, &rules[made]);
		if (!fresh[made])
			break;
	}
	if (!list || !fresh || made < n_rules) {
		for (size_t i = 0; fresh && i < made; i++)
			rule_free(fresh[i]);
		free(fresh);
		free(list);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n_rules; i++) {
		list[i] = take_old(n, &rules[i], i);
		if (list[i])
			rule_free(fresh[i]);
		else
			list[i] = fresh[i];
		list[i]->number = (unsigned)i;
	}
	for (size_t i = 0; i < n->n_rules; i++) {
		if (!n->rule[i])
			continue;
		drop_paths(n, &n->following, n->rule[i]);
		drop_paths(n, &n->own, n->rule[i]);
		rule_free(n->rule[i]);
	}
	free(n->rule);
	free(fresh);
	n->rule = list;
	n->n_rules = n_rules;
	return 0;
}

int nrd_find(const struct nrd *n, const char *rule)
{
	for (size_t i = 0; i < n->n_rules; i++)
		if (strcmp(n->rule[i]->c.name, rule) == 0)
			return (int)i;
	return -ENOENT;
}

const struct nrd_rule *nrd_rule(const struct nrd *n, size_t number)
{
	return number < n->n_rules ? &n->rule[number]->c : NULL;
}

void nrd_links(struct nrd *n, size_t rule, unsigned no_carrier)
{
	if (rule < n->n_rules)
		n->rule[rule]->no_carrier = no_carrier;
}

dmm_u64 nrd_sla_broken(const struct nrd *n, size_t number)
{
	const struct rule *r = number < n->n_rules ? n->rule[number] : NULL;

	return r && r->c.set.sla_us ? r->sla_broken : NRD_NO_SLA;
}

/* ---- reports ---- */

static enum report_refusal take(struct nrd *n, struct report *r)
{
	enum report_refusal refusal;
	struct path *p;
	bool bounded;

	if (r->rule >= n->n_rules)
		return REPORT_NO_RULE;
	if (r->stack >= n->rule[r->rule]->c.n_stacks)
		return REPORT_NO_STACK;
	refusal = report_judge(r);
	if (refusal != REPORT_TAKEN)
		return refusal;
	p = path_get(n, n->rule[r->rule], r->remote);
	if (!p)
		return REPORT_TAKEN; /* no memory: the next report will tell again */
	path_touch(n, p);
	p->count += MIN(r->connections, REPORT_MAX);
	if (arm_count(&path_decider(p)->choice[r->stack].arm, r, &n->random, &bounded) < 0)
		return REPORT_TAKEN;
	n->counters.bounded += bounded;
	return REPORT_TAKEN;
}

enum report_refusal nrd_report(struct nrd *n, struct report *r)
{
	enum report_refusal refusal = take(n, r);

	n->counters.reports++;
	n->counters.refused[refusal] += refusal != REPORT_TAKEN;
	return refusal;
}

void nrd_resume(struct nrd *n, unsigned rule, const dmm_u8 *ip, unsigned stack)
{
	struct path *p;

	if (rule >= n->n_rules || stack >= n->rule[rule]->c.n_stacks)
		return;
	p = ip ? path_get(n, n->rule[rule], ip) : n->rule[rule]->all;
	if (!p)
		return;
	p->now = (dmm_u8)stack;
	if (!p->own) {
		TAILQ_REMOVE(&n->following, p, entry);
		TAILQ_INSERT_TAIL(&n->own, p, entry);
	}
	choose_begin(n, p);
}

bool nrd_advise(struct nrd *n, unsigned rule, const dmm_u8 *ip, unsigned stack)
{
	struct path *p;

	if (rule >= n->n_rules || stack >= n->rule[rule]->c.n_stacks)
		return false;
	p = ip ? path_find(n, n->rule[rule], ip) : NULL;
	return choose_advise(n, p ? path_decider(p) : n->rule[rule]->all, stack);
}

/* ---- turns ---- */

static dmm_u32 busy_count(const struct path *p)
{
	return OWN_TRIAL * 100 / p->rule->c.set.canary;
}

/* A prefix begins with what its rule chose. */
static void path_own(struct nrd *n, struct path *p)
{
	TAILQ_REMOVE(&n->following, p, entry);
	p->now = p->rule->all->now;
	p->home = p->rule->all->home;
	choose_begin(n, p);
	TAILQ_INSERT_TAIL(&n->own, p, entry);
	log_decision(n, p, NRD_OWN, REASON_BUSY, NRD_STACK_NONE, p->now);
}

static void path_follow(struct nrd *n, struct path *p)
{
	log_decision(n, p, NRD_FOLLOW, REASON_QUIET, p->now, p->rule->all->now);
	path_drop(n, p);
}

static void count_turn(struct nrd *n, struct path *p)
{
	dmm_u64 dwell = p->rule->c.set.dwell_ms * MS, past = n->t - p->count_since;

	if (!p->own && p->count >= busy_count(p)) {
		path_own(n, p);
	} else if (p->own && past >= QUIET_DWELLS * dwell && p->count < busy_count(p) / 4) {
		path_follow(n, p);
		return;
	}
	if (past >= (p->own ? QUIET_DWELLS * dwell : dwell)) {
		p->count = 0;
		p->count_since = n->t;
	}
}

static void lists_turn(struct nrd *n)
{
	struct path *p, *next;

	for (p = TAILQ_FIRST(&n->own); p; p = next) {
		next = TAILQ_NEXT(p, entry);
		choose_turn(n, p);
		count_turn(n, p);
	}
	for (p = TAILQ_FIRST(&n->following); p; p = next) {
		next = TAILQ_NEXT(p, entry);
		count_turn(n, p);
	}
}

unsigned nrd_turn(struct nrd *n, dmm_u64 now_ns)
{
	dmm_u64 past = now_ns - n->last;

	if (!n->last)
		past = 0;
	else if (now_ns < n->last || past > TURN_MAX)
		n->counters.clock_jumps++;
	if (n->last && now_ns < n->last)
		past = 0;
	n->last = now_ns;
	n->t += MIN(past, TURN_MAX);
	n->told = 0;
	for (size_t i = 0; i < n->n_rules; i++)
		choose_turn(n, n->rule[i]->all);
	lists_turn(n);
	return n->told;
}

/* ---- what comes out ---- */

void nrd_weights(const struct nrd *n, unsigned rule, const dmm_u8 ip[16], dmm_u16 ret[DMM_MAX_USE])
{
	struct path *p = path_find(n, n->rule[rule], ip);

	path_weights(p ? path_decider(p) : n->rule[rule]->all, ret);
}

static void tell_choice(const struct path *p, void (*each)(void *ctx, const struct nrd_choice *c),
			void *ctx)
{
	struct nrd_choice c = {.rule = p->rule->number, .plen = p->plen};

	memcpy(c.prefix, p->prefix, sizeof(c.prefix));
	path_weights(p, c.weight);
	each(ctx, &c);
}

void nrd_choices(const struct nrd *n, void (*each)(void *ctx, const struct nrd_choice *c),
		 void *ctx)
{
	const struct path *p;

	for (size_t i = 0; i < n->n_rules; i++)
		tell_choice(n->rule[i]->all, each, ctx);
	TAILQ_FOREACH(p, &n->own, entry)
	tell_choice(p, each, ctx);
}

int nrd_view(const struct nrd *n, unsigned rule, const dmm_u8 *ip, struct nrd_view *ret)
{
	static const char *const phases[] = {"steady", "trial", "guard"};
	struct path *p;

	if (rule >= n->n_rules)
		return -ENOENT;
	p = ip ? path_find(n, n->rule[rule], ip) : NULL;
	p = p ? path_decider(p) : n->rule[rule]->all;
	*ret = (struct nrd_view){
		.phase = phases[p->phase], .plen = p->plen, .now = p->now, .other = p->other};
	memcpy(ret->prefix, p->prefix, sizeof(ret->prefix));
	for (unsigned i = 0; i < p->rule->c.n_stacks; i++) {
		const struct choice *c = &p->choice[i];

		choose_evidence(p, i, &ret->arm[i]);
		ret->no_carrier[i] = path_no_carrier(p, i);
		ret->banned_ns[i] = c->banned_until > n->t ? c->banned_until - n->t : 0;
	}
	if (p->last && p->last + NRD_LOG > n->counters.decisions)
		ret->last = &n->log[p->last % NRD_LOG];
	return 0;
}

void nrd_counters(const struct nrd *n, struct nrd_counters *ret)
{
	*ret = n->counters;
}
