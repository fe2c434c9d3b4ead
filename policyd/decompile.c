// SPDX-License-Identifier: Apache-2.0
/*
 * The image of the maps back to the policy. The records of a rule are the product of its lists: the
 * distinct values of each member, in the order in which they first appear, are the lists.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/policy.h"
#include "policyd/policy_read.h"

static void copy_name(char ret[DMM_NAME_LEN], const char *name)
{
	snprintf(ret, DMM_NAME_LEN, "%.*s", DMM_NAME_LEN - 1, name);
}

/* Append item to the array that *list points to unless it is there. */
static int push_distinct(void *list, size_t *n, const void *item, size_t size)
{
	char *array;

	memcpy(&array, list, sizeof(array));
	for (size_t i = 0; i < *n; i++)
		if (memcmp(array + i * size, item, size) == 0)
			return 0;
	array = realloc(array, (*n + 1) * size);
	if (!array)
		return -ENOMEM;
	memcpy(list, &array, sizeof(array));
	memcpy(array + (*n)++ * size, item, size);
	return 0;
}

static int add_group(const struct dmm_class *c, unsigned id, struct policy_match *m)
{
	char name[DMM_NAME_LEN] = "";

	if (id == DMM_GROUP_NONE)
		return 0;
	if (id >= DMM_MAX_GROUPS || !c->group[id].name[0])
		return -EPROTO;
	copy_name(name, c->group[id].name);
	return push_distinct(&m->group, &m->n_group, name, sizeof(name));
}

static int add_prefix(struct policy_prefix **list, size_t *n, const dmm_u8 *ip, dmm_u8 plen)
{
	struct policy_prefix p = {.plen = plen};

	if (plen == 0)
		return 0;
	memcpy(p.ip, ip, 16);
	return push_distinct(list, n, &p, sizeof(p));
}

static int add_ports(struct policy_ports **list, size_t *n, dmm_u16 lo, dmm_u16 hi)
{
	struct policy_ports p = {.lo = lo, .hi = hi};

	return lo == 0 && hi == 65535 ? 0 : push_distinct(list, n, &p, sizeof(p));
}

static int add_record(const struct dmm_class *c, const struct dmm_match *rec, struct dmm_rule *rule)
{
	struct policy_match *m = &rule->match;
	int r;

	m->roles = rec->roles == (1u << DMM_ROLES) - 1 ? 0 : rec->roles;
	m->proto = rec->proto;
	r = add_group(c, rec->group, m);
	if (r == 0)
		r = add_prefix(&m->remote, &m->n_remote, rec->remote, rec->remote_plen);
	if (r == 0)
		r = add_prefix(&m->local, &m->n_local, rec->local, rec->local_plen);
	if (r == 0)
		r = add_ports(&m->remote_port, &m->n_remote_port, rec->remote_port_lo,
			      rec->remote_port_hi);
	if (r == 0)
		r = add_ports(&m->local_port, &m->n_local_port, rec->local_port_lo,
			      rec->local_port_hi);
	return r;
}

static int read_use(const struct dmm_class *c, const dmm_u8 *use, unsigned n,
		    char (*ret)[DMM_NAME_LEN])
{
	if (n > DMM_MAX_USE)
		return -EPROTO;
	for (unsigned i = 0; i < n; i++) {
		if (use[i] >= DMM_MAX_STACKS || c->stack[use[i]].kind == DMM_KIND_FREE)
			return -EPROTO;
		copy_name(ret[i], c->stack[use[i]].name);
	}
	return 0;
}

static int read_rules(const struct dmm_class *c, struct dmm_policy *p)
{
	size_t seen[DMM_MAX_RULES] = {0};
	int r = 0;

	p->rules = calloc(c->hdr.rules + 1, sizeof(*p->rules));
	if (!p->rules)
		return -ENOMEM;
	p->n_rules = c->hdr.rules;
	for (size_t i = 0; r == 0 && i < p->n_rules; i++) {
		const struct dmm_rule_rec *rec = &c->rule[i];
		struct dmm_rule *rule = &p->rules[i];

		copy_name(rule->name, rec->name);
		snprintf(rule->pos.file, sizeof(rule->pos.file), "%.*s", DMM_PATH_LEN - 1,
			 rec->file);
		rule->pos.line = rec->line;
		rule->strict = rec->strict;
		rule->disabled = rec->off;
		rule->capture = rec->capture;
		rule->carrier = rec->carrier;
		rule->n_use = rec->n_use;
		r = read_use(c, rec->use, rec->n_use, rule->use);
	}
	for (size_t i = 0; r == 0 && i < c->hdr.matches; i++) {
		if (c->match[i].rule >= p->n_rules)
			return -EPROTO;
		seen[c->match[i].rule]++;
		r = add_record(c, &c->match[i], &p->rules[c->match[i].rule]);
	}
	for (size_t i = 0; r == 0 && i < p->n_rules; i++)
		if (policy_match_records(&p->rules[i].match) != seen[i])
			return -EPROTO;
	return r;
}

static int read_stacks(const struct dmm_class *c, struct dmm_policy *p)
{
	p->stacks = calloc(DMM_MAX_STACKS, sizeof(*p->stacks));
	if (!p->stacks)
		return -ENOMEM;
	for (unsigned id = 1; id < c->hdr.stacks; id++)
		if (c->stack[id].kind == DMM_KIND_KERNEL || c->stack[id].kind == DMM_KIND_USERSPACE)
			p->stacks[p->n_stacks++].rec = c->stack[id];
	return 0;
}

static int read_groups(const struct dmm_class *c, struct dmm_policy *p)
{
	p->groups = calloc(DMM_MAX_GROUPS, sizeof(*p->groups));
	if (!p->groups)
		return -ENOMEM;
	for (unsigned id = 1; id < DMM_MAX_GROUPS; id++) {
		struct policy_group *g = &p->groups[p->n_groups];

		if (!c->group[id].name[0])
			continue;
		copy_name(g->name, c->group[id].name);
		snprintf(g->cgroup, sizeof(g->cgroup), "%.*s", DMM_PATH_LEN - 1,
			 c->group[id].cgroup);
		p->n_groups++;
	}
	return 0;
}

int class_decompile(const struct dmm_class *c, struct dmm_policy **ret)
{
	struct dmm_policy *p;
	int r;

	if (c->hdr.rules > DMM_MAX_RULES || c->hdr.matches > DMM_MAX_MATCHES ||
	    c->hdr.stacks > DMM_MAX_STACKS)
		return -EPROTO;
	p = policy_new();
	if (!p)
		return -ENOMEM;
	r = read_stacks(c, p);
	if (r == 0)
		r = read_groups(c, p);
	if (r == 0)
		r = read_rules(c, p);
	if (r == 0 && c->hdr.n_use) { /* 0: the empty class of generation 0 */
		p->n_def = c->hdr.n_use;
		r = read_use(c, c->hdr.use, c->hdr.n_use, p->def);
	}
	if (r < 0) {
		policy_free(p);
		return r;
	}
	*ret = p;
	return 0;
}
