// SPDX-License-Identifier: Apache-2.0
/*
 * What one rule more changes. A rule takes part in covering another only if it restricts no other
 * fields and meets it in all of them. So the rule, those that it can help to cover, and all that
 * can help with these or with the rule itself, are a policy for themselves, which mostly is a small
 * one: it is gone through with the rule and without it.
 */
#include <errno.h>
#include <stdlib.h>

#include "lib/base/util.h"
#include "policyd/reach.h"
#include "policyd/reach_shape.h"

#define COVERED_MAX 64 /* by the rule; with more all rules are looked at */

struct added {
	const struct dmm_policy *policy;
	size_t rule;
	struct shapes shapes;
	struct shape
		covered[1 + COVERED_MAX]; /* the rule, then later ones that it can help cover */
	size_t at[1 + COVERED_MAX], n;
	bool *part, all; /* of the small policy */
	struct dmm_policy small, before;
	size_t *number; /* of the rules of the small one */
	bool *known;	/* is found without the rule */
	reach_fn fn;
	void *ctx;
};

/* Can a help to cover b? */
static bool helps(const struct shape *a, const struct shape *b)
{
	return !(a->mask & ~b->mask) && shape_meets(a, b);
}

/* Call with the shape of each rule that has one. */
static int each_shape(struct added *a, size_t from, size_t to,
		      void (*fn)(struct added *a, size_t i, struct shape *s))
{
	int r = 0;

	for (size_t i = from; r != -ENOMEM && i < to; i++) {
		struct shape s;

		r = shape_of(&a->shapes, &a->policy->rules[i], &s);
		if (r == 0)
			fn(a, i, &s);
		shape_fini(&s);
	}
	return r == -ENOMEM ? r : 0;
}

static void look_behind(struct added *a, size_t i, struct shape *s)
{
	if (a->all || !helps(&a->covered[0], s))
		return;
	a->all = a->n == ARRAY_SIZE(a->covered);
	if (a->all)
		return;
	a->part[i] = true;
	a->at[a->n] = i;
	a->covered[a->n++] = *s;
	*s = (struct shape){0};
}

static void look_before(struct added *a, size_t i, struct shape *s)
{
	for (size_t k = 0; !a->part[i] && k < a->n; k++)
		a->part[i] = i < a->at[k] && helps(s, &a->covered[k]);
}

static int choose_rules(struct added *a)
{
	size_t n = a->policy->n_rules;
	int r = shape_of(&a->shapes, &a->policy->rules[a->rule], &a->covered[0]);

	a->n = 1;
	a->at[0] = a->rule;
	a->part[a->rule] = true;
	if (r < 0) /* it takes no socket from anybody, and nobody from it */
		return r == -ENOMEM ? r : 0;
	r = each_shape(a, a->rule + 1, n, look_behind);
	return r == 0 && !a->all ? each_shape(a, 0, a->at[a->n - 1], look_before) : r;
}

static int make_policies(struct added *a)
{
	const struct dmm_policy *p = a->policy;

	a->small = a->before = *p;
	a->small.n_rules = a->before.n_rules = 0;
	a->small.rules = calloc(p->n_rules, sizeof(*p->rules));
	a->before.rules = calloc(p->n_rules, sizeof(*p->rules));
	a->number = calloc(p->n_rules, sizeof(*a->number));
	a->known = calloc(p->n_rules, sizeof(*a->known));
	if (!a->small.rules || !a->before.rules || !a->number || !a->known)
		return -ENOMEM;
	for (size_t i = 0; i < p->n_rules; i++) {
		if (!a->part[i] && !a->all)
			continue;
		a->number[a->small.n_rules] = i;
		a->small.rules[a->small.n_rules++] = p->rules[i];
		if (i != a->rule)
			a->before.rules[a->before.n_rules++] = p->rules[i];
	}
	return 0;
}

static void note_known(void *ctx, const struct reach_finding *f)
{
	struct added *a = ctx;
	size_t later = a->number[f->rule] >= a->rule; /* where the rule is not in between */

	a->known[a->number[f->rule + later]] = true;
}

static void tell_new(void *ctx, const struct reach_finding *f)
{
	const struct added *a = ctx;
	struct reach_finding found = *f;

	found.rule = a->number[f->rule];
	found.by = a->number[f->by];
	if (!a->known[found.rule])
		a->fn(a->ctx, &found);
}

int reach_added(const struct dmm_policy *p, size_t rule, reach_fn fn, void *ctx, bool *ret_all)
{
	_cleanup_free_ struct added *a = calloc(1, sizeof(*a));
	bool all_before = true;
	int r;

	if (!a)
		return -ENOMEM;
	*a = (struct added){.policy = p, .rule = rule, .fn = fn, .ctx = ctx};
	a->part = calloc(p->n_rules, sizeof(*a->part));
	r = shapes_init(&a->shapes, p);
	if (!a->part)
		r = -ENOMEM;
	if (r == 0)
		r = choose_rules(a);
	if (r == 0)
		r = make_policies(a);
	if (r == 0)
		r = reach_scan(&a->before, note_known, a, &all_before);
	if (r == 0)
		r = reach_scan(&a->small, tell_new, a, ret_all);
	*ret_all = *ret_all && all_before;
	for (size_t i = 0; i < a->n; i++)
		shape_fini(&a->covered[i]);
	shapes_fini(&a->shapes);
	free(a->part);
	free(a->small.rules);
	free(a->before.rules);
	free(a->number);
	free(a->known);
	return r;
}
