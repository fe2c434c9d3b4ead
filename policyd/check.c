// SPDX-License-Identifier: Apache-2.0
/* What is wrong with a policy that reads well: names that lead nowhere, limits, contradictions. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/diag.h"
#include "policyd/reach.h"
#include "policyd/value.h"

#define INSTANCES_CGROUP "dmm/instances"
#define BUILT_IN (1 + DMM_REJECTS) /* stacks: kernel, and those that reject */

struct check {
	const struct dmm_policy *p;
	struct policy_diags *diags;
};

static const struct policy_stack *find_stack(const struct dmm_policy *p, const char *name)
{
	for (size_t i = 0; i < p->n_stacks; i++)
		if (strcmp(p->stacks[i].rec.name, name) == 0)
			return &p->stacks[i];
	return NULL;
}

static bool stack_exists(const struct dmm_policy *p, const char *name)
{
	return strcmp(name, "kernel") == 0 || policy_reject(name) < DMM_REJECTS ||
	       find_stack(p, name);
}

/* "dmm.yaml:3" or "the command line" for messages about another place. */
static const char *place(const struct policy_pos *pos, char *buf, size_t len)
{
	if (pos->file[0])
		snprintf(buf, len, " (%.80s:%u)", pos->file, pos->line);
	else
		buf[0] = '\0';
	return buf;
}

/* ---- groups ---- */

/* a is b or an ancestor of b. */
static bool path_above(const char *a, const char *b)
{
	size_t n = strlen(a);

	return strncmp(a, b, n) == 0 && (b[n] == '\0' || b[n] == '/');
}

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

	for (size_t i = 0; i < p->n_groups; i++) {
		const struct policy_group *g = &p->groups[i];

		if (!value_is_name(g->name))
			diag_error_at(c->diags, &g->pos, "\"%s\" is not a name for a group",
				      g->name);
		check_cgroup(c, g);
		for (size_t j = 0; j < i; j++) {
			const struct policy_group *o = &p->groups[j];

			if (strcmp(g->name, o->name) == 0)
				diag_error_at(c->diags, &g->pos, "group \"%s\" is there already%s",
					      g->name, place(&o->pos, at, sizeof(at)));
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
	char at[DMM_PATH_LEN];

	if (s->rec.kind == DMM_KIND_USERSPACE && o->rec.kind == DMM_KIND_USERSPACE &&
	    strcmp(s->rec.interface, o->rec.interface) == 0 && s->rec.queue == o->rec.queue)
		diag_error_at(c->diags, &s->pos,
			      "stack \"%s\": queue %u of %s belongs to stack \"%s\"%s already",
			      s->rec.name, s->rec.queue, s->rec.interface, o->rec.name,
			      place(&o->pos, at, sizeof(at)));
}

static void check_stacks(const struct check *c)
{
	const struct dmm_policy *p = c->p;
	char at[DMM_PATH_LEN];

	for (size_t i = 0; i < p->n_stacks; i++) {
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
					      s->rec.name, place(&o->pos, at, sizeof(at)));
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

	if (stack_exists(c->p, name))
		return;
	for (size_t i = 0; i < c->p->n_stacks; i++)
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

static void check_use(const struct check *c, const struct policy_pos *pos, const char *what,
		      const char (*use)[DMM_NAME_LEN], unsigned n)
{
	if (n == 0 || n > DMM_MAX_USE) {
		diag_error_at(c->diags, pos, "%s names %u stacks; 1 to %d are possible", what, n,
			      DMM_MAX_USE);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		check_use_name(c, pos, what, use[i]);
		if (n > 1 && policy_reject(use[i]) < DMM_REJECTS)
			diag_error_at(c->diags, pos,
				      "%s: \"%s\" stands alone, not in a list of stacks", what,
				      use[i]);
		for (unsigned j = 0; j < i; j++)
			if (strcmp(use[i], use[j]) == 0)
				diag_error_at(c->diags, pos, "%s names stack \"%s\" twice", what,
					      use[i]);
		if (i + 1 < n && strcmp(use[i], "kernel") == 0)
			diag_warn_at(c->diags, pos,
				     "%s: what follows \"kernel\" is never used: the kernel stack "
				     "takes every socket",
				     what);
	}
}

static void check_group_names(const struct check *c, const struct dmm_rule *r)
{
	for (size_t i = 0; i < r->match.n_group; i++) {
		const char *name = r->match.group[i], *nearest = NULL;
		unsigned best = UINT_MAX;
		bool found = false;

		for (size_t j = 0; j < c->p->n_groups; j++) {
			found |= strcmp(c->p->groups[j].name, name) == 0;
			if (diag_nearer(name, c->p->groups[j].name, &best))
				nearest = c->p->groups[j].name;
		}
		if (found)
			continue;
		if (nearest)
			diag_error_at(c->diags, &r->pos,
				      "rule \"%s\" matches unknown group \"%s\"; did you mean "
				      "\"%s\"?",
				      r->name, name, nearest);
		else
			diag_error_at(c->diags, &r->pos,
				      "rule \"%s\" matches unknown group \"%s\"; define it in "
				      "groups",
				      r->name, name);
	}
}

static bool uses_userspace(const struct dmm_policy *p, const struct dmm_rule *r)
{
	for (unsigned i = 0; i < r->n_use; i++) {
		const struct policy_stack *s = find_stack(p, r->use[i]);

		if (s && s->rec.kind == DMM_KIND_USERSPACE)
			return true;
	}
	return false;
}

static bool uses_kernel(const struct dmm_policy *p, const struct dmm_rule *r)
{
	for (unsigned i = 0; i < r->n_use; i++) {
		const struct policy_stack *s = find_stack(p, r->use[i]);

		if (strcmp(r->use[i], "kernel") == 0 || (s && s->rec.kind == DMM_KIND_KERNEL))
			return true;
	}
	return false;
}

/* A prefix of IPv6 so short that it holds the v4-mapped addresses too. */
static void check_prefixes(const struct check *c, const struct dmm_rule *r, const char *key,
			   const struct policy_prefix *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].plen > 0 && list[i].plen <= 80 && list[i].ip[0] == 0 &&
		    memcmp(list[i].ip, list[i].ip + 1, 15) == 0)
			diag_warn_at(c->diags, &r->pos,
				     "rule \"%s\": %s ::/%u holds every IPv4 address too (as "
				     "::ffff:a.b.c.d)",
				     r->name, key, list[i].plen);
}

static void check_rule(const struct check *c, const struct dmm_rule *r)
{
	const struct policy_match *m = &r->match;
	char what[DMM_NAME_LEN + 10];

	snprintf(what, sizeof(what), "rule \"%s\"", r->name);
	if (!value_is_name(r->name))
		diag_error_at(c->diags, &r->pos, "\"%s\" is not a name for a rule", r->name);
	check_use(c, &r->pos, what, (const char(*)[DMM_NAME_LEN])r->use, r->n_use);
	check_group_names(c, r);
	check_prefixes(c, r, "remote", m->remote, m->n_remote);
	check_prefixes(c, r, "local", m->local, m->n_local);
	if (m->roles == 1u << DMM_ROLE_SERVER && (m->n_remote || m->n_remote_port))
		diag_warn_at(c->diags, &r->pos,
			     "%s never matches: a server's rule is chosen at listen(), when there "
			     "is no remote yet",
			     what);
	if (r->carrier == DMM_CARRIER_SPLICE && !uses_userspace(c->p, r))
		diag_warn_at(c->diags, &r->pos,
			     "%s: carrier splice has no meaning: no stack of "
			     "it is a userspace one",
			     what);
	if (r->strict && uses_kernel(c->p, r))
		diag_warn_at(c->diags, &r->pos,
			     "%s: strict has no meaning with a kernel stack in the list", what);
}

static void check_rules(const struct check *c)
{
	const struct dmm_policy *p = c->p;
	size_t records = 0, n;
	char at[DMM_PATH_LEN];

	for (size_t i = 0; i < p->n_rules; i++) {
		const struct dmm_rule *r = &p->rules[i];

		check_rule(c, r);
		for (size_t j = 0; j < i; j++)
			if (strcmp(r->name, p->rules[j].name) == 0) {
				diag_error_at(c->diags, &r->pos, "rule \"%s\" is there already%s",
					      r->name, place(&p->rules[j].pos, at, sizeof(at)));
				break;
			}
		n = policy_match_records(&r->match);
		if (n > DMM_MAX_MATCHES - records) {
			diag_error_at(c->diags, &r->pos,
				      "rule \"%s\": its lists make %zu combinations; %zu of %d are "
				      "left",
				      r->name, n, DMM_MAX_MATCHES - records, DMM_MAX_MATCHES);
			n = 0;
		}
		records += n;
	}
	if (p->n_rules > DMM_MAX_RULES)
		diag_error_at(c->diags, &p->rules[DMM_MAX_RULES].pos,
			      "%zu rules; at most %d are possible", p->n_rules, DMM_MAX_RULES);
}

/* On the image, which knows no names that lead nowhere: only for a policy without errors. */
static int check_reach(const struct check *c)
{
	_cleanup_free_ struct dmm_class *image = malloc(sizeof(*image));
	char at[DMM_PATH_LEN];
	unsigned by;
	int r;

	if (!image)
		return -ENOMEM;
	r = class_compile(c->p, NULL, image);
	if (r < 0)
		return r;
	for (size_t i = 0; i < c->p->n_rules; i++)
		if (rule_is_shadowed(image, (unsigned)i, &by))
			diag_warn_at(c->diags, &c->p->rules[i].pos,
				     "rule \"%s\" is never reached: rule \"%s\"%s takes its "
				     "sockets first",
				     c->p->rules[i].name, c->p->rules[by].name,
				     place(&c->p->rules[by].pos, at, sizeof(at)));
	return 0;
}

int policy_check(const struct dmm_policy *p, struct policy_diags *reterr)
{
	const struct check c = {.p = p, .diags = reterr};
	const struct policy_pos nowhere = {0};
	size_t errors = reterr->errors;

	check_groups(&c);
	check_stacks(&c);
	check_rules(&c);
	check_use(&c, &nowhere, "default", (const char(*)[DMM_NAME_LEN])p->def, p->n_def);
	if (reterr->errors > errors)
		return -EINVAL;
	return check_reach(&c);
}
