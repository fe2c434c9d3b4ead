// SPDX-License-Identifier: Apache-2.0
/* What is wrong with a policy that reads well: names that lead nowhere, limits, contradictions. */
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/check.h"
#include "policyd/diag.h"
#include "policyd/measure.h"
#include "policyd/policy_keys.h"
#include "policyd/reach.h"
#include "policyd/value.h"
#include "policyd/words.h"

#define INSTANCES_CGROUP "dmm/instances"
#define BUILT_IN (1 + DMM_REJECTS) /* stacks: kernel, and those that reject */

static const struct policy_stack *find_stack(const struct check *c, const char *name)
{
	size_t at;

	return index_get_name(&c->stacks, name, &at) ? &c->p->stacks[at] : NULL;
}

static bool stack_exists(const struct check *c, const char *name)
{
	return strcmp(name, "kernel") == 0 || policy_reject(name) < DMM_REJECTS ||
	       find_stack(c, name);
}

const char *check_place(const struct policy_pos *pos, char *buf, size_t len)
{
	if (pos->file[0])
		snprintf(buf, len, " (%.80s:%u)", pos->file, pos->line);
	else
		buf[0] = '\0';
	return buf;
}

/* ---- groups ---- */

static void check_cgroup(const struct check *c, const struct policy_group *g)
{
	if (!g->cgroup[0])
		diag_error_at(c->diags, &g->pos, "group \"%s\" has no cgroup", g->name);
	else if (path_above(g->cgroup, INSTANCES_CGROUP) || path_above(INSTANCES_CGROUP, g->cgroup))
		diag_error_at(c->diags, &g->pos,
			      "group \"%s\": cgroup \"%s\" overlaps " INSTANCES_CGROUP
			      ", where the instances run",
			      g->name, g->cgroup);
}

static void check_groups(const struct check *c)
{
	const struct dmm_policy *p = c->p;
	char at[DMM_PATH_LEN];

	for (size_t i = 0; i < p->n_groups && i < DMM_MAX_GROUPS; i++) {
		const struct policy_group *g = &p->groups[i];

		if (!value_is_name(g->name))
			diag_error_at(c->diags, &g->pos, "\"%s\" is not a name for a group",
				      g->name);
		check_cgroup(c, g);
		for (size_t j = 0; j < i; j++) {
			const struct policy_group *o = &p->groups[j];

			if (strcmp(g->name, o->name) == 0)
				diag_error_at(c->diags, &g->pos, "group \"%s\" is there already%s",
					      g->name, check_place(&o->pos, at, sizeof(at)));
			else if (path_above(g->cgroup, o->cgroup) ||
				 path_above(o->cgroup, g->cgroup))
				diag_error_at(c->diags, &g->pos,
					      "groups \"%s\" and \"%s\": one cgroup is inside the "
					      "other; a process can be in one group only",
					      o->name, g->name);
		}
	}
	if (p->n_groups >= DMM_MAX_GROUPS)
		diag_error_at(c->diags, &p->groups[DMM_MAX_GROUPS - 1].pos,
			      "%zu groups; at most %d are possible", p->n_groups,
			      DMM_MAX_GROUPS - 1);
}

/* ---- stacks ---- */

static void check_same_queue(const struct check *c, const struct policy_stack *s,
			     const struct policy_stack *o)
{
	dmm_u32 a = s->rec.queue, b = o->rec.queue;
	char at[DMM_PATH_LEN], what[32] = "";

	if (s->rec.kind != DMM_KIND_USERSPACE || o->rec.kind != DMM_KIND_USERSPACE ||
	    strcmp(s->rec.interface, o->rec.interface) != 0 || (a && b && a != b))
		return;
	if (a || b)
		snprintf(what, sizeof(what), "queue %u of ", (a ? a : b) - 1);
	diag_error_at(c->diags, &s->pos, "stack \"%s\": %s%s belongs to stack \"%s\"%s already",
		      s->rec.name, what, s->rec.interface, o->rec.name,
		      check_place(&o->pos, at, sizeof(at)));
}

static void check_stacks(const struct check *c)
{
	const struct dmm_policy *p = c->p;
	char at[DMM_PATH_LEN];

	for (size_t i = 0; i < p->n_stacks && i < DMM_MAX_STACKS; i++) {
		const struct policy_stack *s = &p->stacks[i];

		if (strcmp(s->rec.name, "kernel") == 0 || policy_reject(s->rec.name) < DMM_REJECTS)
			diag_error_at(c->diags, &s->pos,
				      "stack \"%s\" is built in and cannot be defined again",
				      s->rec.name);
		else if (!value_is_name(s->rec.name))
			diag_error_at(c->diags, &s->pos, "\"%s\" is not a name for a stack",
				      s->rec.name);
		for (size_t j = 0; j < i; j++) {
			const struct policy_stack *o = &p->stacks[j];

			if (strcmp(s->rec.name, o->rec.name) == 0)
				diag_error_at(c->diags, &s->pos, "stack \"%s\" is there already%s",
					      s->rec.name, check_place(&o->pos, at, sizeof(at)));
			else
				check_same_queue(c, s, o);
		}
	}
	if (p->n_stacks > DMM_MAX_STACKS - BUILT_IN)
		diag_error_at(c->diags, &p->stacks[DMM_MAX_STACKS - BUILT_IN].pos,
			      "%zu stacks; at most %d are possible beside those built in",
			      p->n_stacks, DMM_MAX_STACKS - BUILT_IN);
}

/* ---- rules ---- */

static void check_use_name(const struct check *c, const struct policy_pos *pos, const char *what,
			   const char *name)
{
	const char *nearest = NULL;
	unsigned best = UINT_MAX;

	if (stack_exists(c, name))
		return;
	for (size_t i = 0; !diag_full(c->diags) && i < c->p->n_stacks; i++)
		if (diag_nearer(name, c->p->stacks[i].rec.name, &best))
			nearest = c->p->stacks[i].rec.name;
	if (diag_nearer(name, "kernel", &best))
		nearest = "kernel";
	for (int i = 0; i < DMM_REJECTS; i++)
		if (diag_nearer(name, policy_reject_names[i], &best))
			nearest = policy_reject_names[i];
	if (nearest)
		diag_error_at(c->diags, pos, "%s uses unknown stack \"%s\"; did you mean \"%s\"?",
			      what, name, nearest);
	else
		diag_error_at(c->diags, pos, "%s uses unknown stack \"%s\"; define it in stacks",
			      what, name);
}

/* The stacks of a list, in order of preference; weight NULL: none has one. alone: what a reject is
 * not to be, in such a list. */
static void check_use(const struct check *c, const struct policy_pos *pos, const char *what,
		      const char (*use)[DMM_NAME_LEN], unsigned n, const dmm_u16 *weight,
		      const char *alone)
{
	bool kernel = false;

	if (n == 0 || n > DMM_MAX_USE) {
		diag_error_at(c->diags, pos, "%s names %u stacks; 1 to %d are possible", what, n,
			      DMM_MAX_USE);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		check_use_name(c, pos, what, use[i]);
		if ((n > 1 || weight) && policy_reject(use[i]) < DMM_REJECTS)
			diag_error_at(c->diags, pos, "%s: \"%s\" stands alone, %s", what, use[i],
				      alone);
		for (unsigned j = 0; j < i; j++)
			if (strcmp(use[i], use[j]) == 0)
				diag_error_at(c->diags, pos, "%s names stack \"%s\" twice", what,
					      use[i]);
		if (kernel && !(weight && weight[i]))
			diag_warn_at(c->diags, pos,
				     "%s: \"%s\" is never used: the kernel stack before it takes "
				     "every socket",
				     what, use[i]);
		kernel |= strcmp(use[i], "kernel") == 0;
	}
}

/* NULL: the list is one of preference. */
static const dmm_u16 *weights_of(const struct check *c, const struct dmm_rule *r)
{
	unsigned sum = 0, n = MIN(r->n_use, DMM_MAX_USE);

	for (unsigned i = 0; i < n; i++)
		sum += r->weight[i];
	if (sum > POLICY_MAX_WEIGHT)
		diag_error_at(c->diags, &r->pos,
			      "rule \"%s\": the sum of the weights is %u; at most %d is possible",
			      r->name, sum, POLICY_MAX_WEIGHT);
	return sum ? r->weight : NULL;
}

static bool uses_userspace(const struct check *c, const struct dmm_rule *r)
{
	for (unsigned i = 0; i < r->n_use; i++) {
		const struct policy_stack *s = find_stack(c, r->use[i]);

		if (s && s->rec.kind == DMM_KIND_USERSPACE)
			return true;
	}
	return false;
}

static bool uses_kernel(const struct check *c, const struct dmm_rule *r)
{
	for (unsigned i = 0; i < r->n_use; i++) {
		const struct policy_stack *s = find_stack(c, r->use[i]);

		if (strcmp(r->use[i], "kernel") == 0 || (s && s->rec.kind == DMM_KIND_KERNEL))
			return true;
	}
	return false;
}

/* Where the first of its stacks that cannot do it is an instance, that is said; that the kernel has
 * settings of its own is no news. */
static void check_congestion(const struct check *c, const struct dmm_rule *r, const char *what)
{
	const char *word = words_congestion[r->congestion];
	const struct policy_stack *lacks = NULL;
	bool has = false;

	for (unsigned i = 0; i < r->n_use; i++) {
		const struct policy_stack *s = find_stack(c, r->use[i]);

		if (s && policy_congestion_of_rules(&s->rec))
			has = true;
		else if (s && s->rec.kind == DMM_KIND_USERSPACE && !lacks)
			lacks = s;
	}
	if (r->match.proto == IPPROTO_UDP)
		diag_warn_at(c->diags, &r->pos, "%s: congestion has no meaning for UDP", what);
	else if (lacks)
		diag_warn_at(c->diags, &r->pos,
			     "%s: congestion %s is not for stack \"%s\": engine %s has no choice",
			     what, word, lacks->rec.name, lacks->rec.engine);
	else if (!has)
		diag_warn_at(
			c->diags, &r->pos,
			"%s: congestion %s has no meaning: no stack of it is a userspace one; a "
			"kernel stack has a congestion of its own",
			what, word);
}

/* What nRD chooses among: in any order, each known, and no reject. */
static void check_auto(const struct check *c, const struct dmm_rule *r, const char *what)
{
	const struct nrd_settings *s = &r->nrd;
	dmm_u16 same[DMM_MAX_USE] = {1, 1, 1, 1, 1, 1};

	check_use(c, &r->pos, what, (const char(*)[DMM_NAME_LEN])r->use, r->n_use, same,
		  "not among others");
	if (r->n_use == 1)
		diag_warn_at(c->diags, &r->pos, "%s: auto has nothing to choose from", what);
	if (s->objective == NRD_COST && !s->sla_permille)
		diag_warn_at(c->diags, &r->pos,
			     "%s: without an sla, objective cost takes the first stack unless it "
			     "fails",
			     what);
}

static void check_rule(const struct check *c, const struct dmm_rule *r)
{
	const dmm_u16 *weights = weights_of(c, r);
	char what[DMM_NAME_LEN + 10];

	snprintf(what, sizeof(what), "rule \"%s\"", r->name);
	if (!value_is_name(r->name))
		diag_error_at(c->diags, &r->pos, "\"%s\" is not a name for a rule", r->name);
	if (r->nrd.objective)
		check_auto(c, r, what);
	else
		check_use(c, &r->pos, what, (const char(*)[DMM_NAME_LEN])r->use, r->n_use, weights,
			  weights ? "without a weight" : "not in a list of stacks");
	check_match(c, r);
	if (r->carrier == DMM_CARRIER_SPLICE && !uses_userspace(c, r))
		diag_warn_at(c->diags, &r->pos,
			     "%s: carrier splice has no meaning: no stack of "
			     "it is a userspace one",
			     what);
	if (r->congestion)
		check_congestion(c, r, what);
	if (r->strict && uses_kernel(c, r))
		diag_warn_at(c->diags, &r->pos,
			     "%s: strict has no meaning with a kernel stack in the list", what);
}

/* How many there are. */
static void check_numbers(const struct check *c)
{
	const struct dmm_policy *p = c->p;
	size_t measured = 0;

	if (p->n_rules > DMM_MAX_RULES)
		diag_error_at(c->diags, &p->rules[DMM_MAX_RULES].pos,
			      "%zu rules; at most %d are possible", p->n_rules, DMM_MAX_RULES);
	for (size_t i = 0; i < p->n_rules; i++)
		if (measure_wanted(&p->rules[i]) && ++measured == DMM_MAX_MEASURED + 1)
			diag_error_at(c->diags, &p->rules[i].pos,
				      "rule \"%s\": more than %d rules are measured; no more are "
				      "possible",
				      p->rules[i].name, DMM_MAX_MEASURED);
}

static int check_rules(struct check *c)
{
	const struct dmm_policy *p = c->p;
	char at[DMM_PATH_LEN];
	size_t old;

	for (size_t i = 0; i < p->n_rules; i++) {
		const struct dmm_rule *r = &p->rules[i];
		int added = index_put_name(&c->rules, r->name, i, &old);

		if (added < 0)
			return added;
		check_rule(c, r);
		if (added > 0)
			diag_error_at(c->diags, &r->pos, "rule \"%s\" is there already%s", r->name,
				      check_place(&p->rules[old].pos, at, sizeof(at)));
	}
	return 0;
}

/* ---- rules that never decide ---- */

static bool same_use(const struct dmm_rule *a, const struct dmm_rule *b)
{
	return a->n_use == b->n_use && a->strict == b->strict && a->carrier == b->carrier &&
	       a->congestion == b->congestion && a->disabled == b->disabled &&
	       a->capture == b->capture && a->telemetry == b->telemetry &&
	       memcmp(a->weight, b->weight, sizeof(a->weight)) == 0 &&
	       memcmp(&a->nrd, &b->nrd, sizeof(a->nrd)) == 0 &&
	       memcmp(a->use, b->use, a->n_use * sizeof(a->use[0])) == 0;
}

static void say_unreached(void *ctx, const struct reach_finding *f)
{
	const struct check *c = ctx;
	const struct dmm_rule *r = &c->p->rules[f->rule], *by = &c->p->rules[f->by];
	char at[DMM_PATH_LEN];
	const char *how = f->several	    ? "and others take its sockets first"
			  : !f->same	    ? "takes its sockets first"
			  : same_use(r, by) ? "says the same"
					    : "matches the same sockets and says otherwise";

	diag_warn_at(c->diags, &r->pos, "rule \"%s\" is never reached: rule \"%s\"%s %s", r->name,
		     by->name, check_place(&by->pos, at, sizeof(at)), how);
}

/* Names that lead nowhere would be in the way: only for a policy without errors. added: a rule, or
 * SIZE_MAX for all of them. */
static int check_reach(const struct check *c, size_t added)
{
	const struct policy_pos nowhere = {0};
	bool all;
	int r = added == SIZE_MAX ? reach_scan(c->p, say_unreached, (void *)c, &all)
				  : reach_added(c->p, added, say_unreached, (void *)c, &all);

	if (r == 0 && !all)
		diag_warn_at(c->diags, &nowhere,
			     "too many rules overlap: not all that are never reached were looked "
			     "for");
	return r;
}

static int put_names(struct check *c)
{
	const struct dmm_policy *p = c->p;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < p->n_groups; i++)
		r = index_put_name(&c->groups, p->groups[i].name, i, NULL);
	for (size_t i = 0; r >= 0 && i < p->n_stacks; i++)
		r = index_put_name(&c->stacks, p->stacks[i].rec.name, i, NULL);
	return r < 0 ? r : 0;
}

static int check_all(struct check *c)
{
	const struct dmm_policy *p = c->p;
	const struct policy_pos nowhere = {0};
	int r = put_names(c);

	if (r < 0)
		return r;
	check_groups(c);
	check_stacks(c);
	check_numbers(c);
	r = check_sets(c);
	if (r == 0)
		r = check_rules(c);
	check_use(c, &nowhere, "default", (const char(*)[DMM_NAME_LEN])p->def, p->n_def, NULL,
		  "not in a list of stacks");
	return r;
}

static int check_added(struct check *c, size_t rule)
{
	int r = put_names(c);

	for (size_t i = 0; r >= 0 && i < c->p->n_sets; i++)
		r = index_put_name(&c->sets, c->p->sets[i].name, i, NULL);
	if (r < 0)
		return r;
	check_numbers(c);
	check_rule(c, &c->p->rules[rule]);
	return 0;
}

static int check(const struct dmm_policy *p, size_t added, struct policy_diags *reterr)
{
	struct check c = {.p = p, .diags = reterr};
	size_t errors = reterr->errors;
	int r = added == SIZE_MAX ? check_all(&c) : check_added(&c, added);

	if (r == 0)
		r = reterr->errors > errors ? -EINVAL : check_reach(&c, added);
	index_fini(&c.groups);
	index_fini(&c.stacks);
	index_fini(&c.sets);
	index_fini(&c.rules);
	return r;
}

int policy_check(const struct dmm_policy *p, struct policy_diags *reterr)
{
	return check(p, SIZE_MAX, reterr);
}

int policy_check_added(const struct dmm_policy *p, size_t rule, struct policy_diags *reterr)
{
	return check(p, rule, reterr);
}
