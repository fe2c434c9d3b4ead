// SPDX-License-Identifier: Apache-2.0
/* A checked policy to the image of the maps. */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "policyd/policy.h"

int class_stack(const struct dmm_class *c, const char *name)
{
	for (int i = 0; i < DMM_MAX_STACKS; i++)
		if (c->stack[i].kind != DMM_KIND_FREE && strcmp(c->stack[i].name, name) == 0)
			return i;
	return -ENOENT;
}

int class_group(const struct dmm_class *c, const char *name)
{
	for (int i = 1; i < DMM_MAX_GROUPS; i++)
		if (c->group[i].name[0] && strcmp(c->group[i].name, name) == 0)
			return i;
	return -ENOENT;
}

/*
 * An id for a name: the one that it had; else one that nothing had, as sockets live on that carry
 * the ids of the previous generation; else any that is free now.
 */
static int stack_id(const struct dmm_class *c, const struct dmm_class *prev, const char *name)
{
	int id = prev ? class_stack(prev, name) : -ENOENT, free_now = -E2BIG;

	if (id > 0)
		return id;
	for (id = 1; id < DMM_MAX_STACKS; id++) {
		if (c->stack[id].kind != DMM_KIND_FREE)
			continue;
		if (!prev || prev->stack[id].kind == DMM_KIND_FREE)
			return id;
		if (free_now < 0)
			free_now = id;
	}
	return free_now;
}

static int group_id(const struct dmm_class *c, const struct dmm_class *prev, const char *name)
{
	int id = prev ? class_group(prev, name) : -ENOENT, free_now = -E2BIG;

	if (id > 0)
		return id;
	for (id = 1; id < DMM_MAX_GROUPS; id++) {
		if (c->group[id].name[0])
			continue;
		if (!prev || !prev->group[id].name[0])
			return id;
		if (free_now < 0)
			free_now = id;
	}
	return free_now;
}

static bool policy_uses(const struct dmm_policy *p, const char *name)
{
	for (size_t i = 0; i < p->n_rules; i++)
		if (p->rules[i].n_use && strcmp(p->rules[i].use[0], name) == 0)
			return true;
	return p->n_def && strcmp(p->def[0], name) == 0;
}

static int put_stack(const struct dmm_class *prev, const struct dmm_stack_rec *rec,
		     struct dmm_class *ret)
{
	int id = stack_id(ret, prev, rec->name);

	if (id < 0)
		return id;
	ret->stack[id] = *rec;
	if ((dmm_u32)id >= ret->hdr.stacks)
		ret->hdr.stacks = (dmm_u32)id + 1;
	return 0;
}

/* Names that stay take their ids first, so that no new name gets one of them. */
static int put_stacks(const struct dmm_policy *p, const struct dmm_class *prev,
		      struct dmm_class *ret)
{
	struct dmm_stack_rec reject[DMM_REJECTS] = {0};

	for (int i = 0; i < DMM_REJECTS; i++) {
		strcpy(reject[i].name, policy_reject_names[i]);
		reject[i].kind = DMM_KIND_REJECT;
		reject[i].reject = (dmm_u8)i;
	}
	strcpy(ret->stack[DMM_STACK_KERNEL].name, "kernel");
	ret->stack[DMM_STACK_KERNEL].kind = DMM_KIND_KERNEL;
	ret->hdr.stacks = 1;
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < p->n_stacks + DMM_REJECTS; i++) {
			const struct dmm_stack_rec *rec =
				i < p->n_stacks ? &p->stacks[i].rec : &reject[i - p->n_stacks];
			bool old = prev && class_stack(prev, rec->name) > 0;
			int r = 0;

			if (rec->kind == DMM_KIND_REJECT && !policy_uses(p, rec->name))
				continue;
			if (old == (pass == 0))
				r = put_stack(prev, rec, ret);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int put_group(const struct dmm_class *prev, const struct policy_group *g,
		     struct dmm_class *ret)
{
	int id = group_id(ret, prev, g->name);
	struct dmm_group_rec *rec;

	if (id < 0)
		return id;
	rec = &ret->group[id];
	memcpy(rec->name, g->name, sizeof(rec->name));
	memcpy(rec->cgroup, g->cgroup, sizeof(rec->cgroup));
	if (prev && strcmp(prev->group[id].name, g->name) == 0 &&
	    strcmp(prev->group[id].cgroup, g->cgroup) == 0) {
		rec->cgroup_id = prev->group[id].cgroup_id;
		rec->made = prev->group[id].made;
	}
	return 0;
}

static int put_groups(const struct dmm_policy *p, const struct dmm_class *prev,
		      struct dmm_class *ret)
{
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < p->n_groups; i++) {
			bool old = prev && class_group(prev, p->groups[i].name) > 0;
			int r = 0;

			if (old == (pass == 0))
				r = put_group(prev, &p->groups[i], ret);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int put_use(const struct dmm_class *c, const char (*use)[DMM_NAME_LEN], unsigned n,
		   dmm_u8 *ret)
{
	for (unsigned i = 0; i < n; i++) {
		int id = class_stack(c, use[i]);

		if (id < 0)
			return id;
		ret[i] = (dmm_u8)id;
	}
	return 0;
}

/* The size of a list as a factor: an empty one is one item, "any". */
static size_t factor(size_t n)
{
	return n ? n : 1;
}

size_t policy_match_records(const struct policy_match *m)
{
	size_t lists[] = {m->n_group, m->n_remote, m->n_remote_port, m->n_local, m->n_local_port};
	size_t n = 1;

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		if (__builtin_mul_overflow(n, factor(lists[i]), &n))
			return SIZE_MAX;
	return n;
}

/* Combination k of the lists. The first list varies slowest. */
static int put_match(const struct policy_match *m, size_t k, unsigned rule, struct dmm_class *ret)
{
	struct dmm_match *rec = &ret->match[ret->hdr.matches];
	size_t local_port = k % factor(m->n_local_port);
	size_t local = (k /= factor(m->n_local_port)) % factor(m->n_local);
	size_t remote_port = (k /= factor(m->n_local)) % factor(m->n_remote_port);
	size_t remote = (k /= factor(m->n_remote_port)) % factor(m->n_remote);
	size_t group = k / factor(m->n_remote);

	*rec = (struct dmm_match){.rule = (dmm_u16)rule,
				  .roles = m->roles ? m->roles : (1u << DMM_ROLES) - 1,
				  .proto = m->proto,
				  .remote_port_hi = 65535,
				  .local_port_hi = 65535};
	if (m->n_group) {
		int id = class_group(ret, m->group[group]);

		if (id < 0)
			return id;
		rec->group = (dmm_u8)id;
	}
	if (m->n_remote) {
		rec->remote_plen = m->remote[remote].plen;
		memcpy(rec->remote, m->remote[remote].ip, 16);
	}
	if (m->n_remote_port) {
		rec->remote_port_lo = m->remote_port[remote_port].lo;
		rec->remote_port_hi = m->remote_port[remote_port].hi;
	}
	if (m->n_local) {
		rec->local_plen = m->local[local].plen;
		memcpy(rec->local, m->local[local].ip, 16);
	}
	if (m->n_local_port) {
		rec->local_port_lo = m->local_port[local_port].lo;
		rec->local_port_hi = m->local_port[local_port].hi;
	}
	ret->hdr.matches++;
	return 0;
}

static int put_rule(const struct dmm_rule *rule, unsigned index, struct dmm_class *ret)
{
	struct dmm_rule_rec *rec = &ret->rule[index];
	size_t n = policy_match_records(&rule->match);

	if (n > DMM_MAX_MATCHES - ret->hdr.matches)
		return -E2BIG;
	memcpy(rec->name, rule->name, sizeof(rec->name));
	memcpy(rec->file, rule->pos.file, sizeof(rec->file));
	rec->line = rec->file[0] ? rule->pos.line : 0;
	rec->n_use = (dmm_u8)rule->n_use;
	rec->strict = rule->strict;
	rec->off = rule->disabled;
	rec->capture = rule->capture;
	rec->carrier = rule->carrier;
	for (size_t k = 0; k < n; k++) {
		int r = put_match(&rule->match, k, index, ret);

		if (r < 0)
			return r;
	}
	return put_use(ret, rule->use, rule->n_use, rec->use);
}

int class_compile(const struct dmm_policy *p, const struct dmm_class *prev, struct dmm_class *ret)
{
	int r;

	memset(ret, 0, sizeof(*ret));
	if (p->n_rules > DMM_MAX_RULES)
		return -E2BIG;
	r = put_stacks(p, prev, ret);
	if (r == 0)
		r = put_groups(p, prev, ret);
	for (size_t i = 0; r == 0 && i < p->n_rules; i++)
		r = put_rule(&p->rules[i], (unsigned)i, ret);
	if (r < 0)
		return r;
	ret->hdr.rules = (dmm_u32)p->n_rules;
	ret->hdr.n_use = (dmm_u8)p->n_def;
	return put_use(ret, p->def, p->n_def, ret->hdr.use);
}
