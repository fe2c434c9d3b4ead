// SPDX-License-Identifier: Apache-2.0
/* Random edits of a policy, and the same ones of its class. */
#include <errno.h>
#include <string.h>

#include "policyd/edit.h"
#include "tests/unit/policy_gen.h"

const char *gen_rule_at(const struct dmm_class *c, unsigned place)
{
	return place < c->hdr.rules ? c->rule[place].name : "";
}

const char *gen_rule_named(const struct dmm_policy *p, unsigned number)
{
	return number < p->n_rules ? p->rules[number].name : "";
}

static void policy_del(struct dmm_policy *p, size_t i)
{
	policy_rule_fini(&p->rules[i]);
	p->n_rules--;
	memmove(&p->rules[i], &p->rules[i + 1], (p->n_rules - i) * sizeof(p->rules[0]));
}

/* A rule of the policy's groups, stacks and sets. */
static struct dmm_rule gen_rule(struct rng *r, struct dmm_policy *p)
{
	struct dmm_policy more = *p;
	struct dmm_rule rule;

	more.rules = NULL;
	more.n_rules = 0;
	gen_more_rules(r, &more, 1);
	rule = more.rules[rng_below(r, (uint32_t)more.n_rules)];
	for (size_t i = 0; i < more.n_rules; i++)
		if (strcmp(more.rules[i].name, rule.name) != 0)
			policy_rule_fini(&more.rules[i]);
	free(more.rules);
	snprintf(rule.name, sizeof(rule.name), "e%u", rng_below(r, 1u << 30));
	return rule;
}

static int gen_del(struct rng *r, struct dmm_policy *p, struct class_edit *e)
{
	size_t i = rng_below(r, (uint32_t)p->n_rules);
	int k = edit_del(e, edit_find(e, p->rules[i].name));

	policy_del(p, i);
	return k;
}

/* Another rule at its place, or the same one that does something else. */
static int gen_replace(struct rng *r, struct dmm_policy *p, struct class_edit *e)
{
	size_t i = rng_below(r, (uint32_t)p->n_rules);
	dmm_u32 at = edit_find(e, p->rules[i].name);

	if (rng_below(r, 3) == 0) {
		p->rules[i].disabled = !p->rules[i].disabled;
	} else {
		policy_rule_fini(&p->rules[i]);
		p->rules[i] = gen_rule(r, p);
	}
	return edit_put(e, at, &p->rules[i]);
}

static int gen_add(struct rng *r, struct dmm_policy *p, struct class_edit *e)
{
	size_t i = rng_below(r, (uint32_t)p->n_rules + 1);
	struct dmm_rule rule = gen_rule(r, p);
	dmm_u32 before = DMM_RULE_NONE, at;
	int k;

	if (rng_below(r, 3) == 0)
		i = p->n_rules;
	if (i < p->n_rules)
		before = edit_find(e, p->rules[i].name);
	k = edit_place(e, before, &at);
	if (k == 0)
		k = edit_put(e, at, &rule);
	p->rules = realloc(p->rules, (p->n_rules + 1) * sizeof(*p->rules));
	memmove(&p->rules[i + 1], &p->rules[i], (p->n_rules - i) * sizeof(*p->rules));
	p->rules[i] = rule;
	p->n_rules++;
	return k;
}

bool gen_edit(struct rng *r, struct dmm_policy *p, struct dmm_class *c)
{
	struct class_edit e;
	int k = edit_begin(&e, c);

	switch (p->n_rules ? rng_below(r, 3) : 1) {
	case 0:
		k = k < 0 ? k : 0;
		if (k == 0)
			k = gen_del(r, p, &e);
		else
			policy_del(p, 0);
		break;
	case 1:
		if (k == 0)
			k = gen_add(r, p, &e);
		break;
	default:
		if (k == 0)
			k = gen_replace(r, p, &e);
	}
	edit_end(&e);
	if (k < 0) {
		CU_ASSERT_EQUAL_FATAL(k, -ENOSPC);
		CU_ASSERT_EQUAL_FATAL(class_compile(p, NULL, c), 0);
	}
	return k == 0;
}
