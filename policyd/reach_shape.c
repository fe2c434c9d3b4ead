// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/reach_shape.h"

#define U128_MAX (~(u128)0)

static u128 number_of(const dmm_u8 bytes[16])
{
	u128 n = 0;

	for (int i = 0; i < 16; i++)
		n = n << 8 | bytes[i];
	return n;
}

static struct range range_of_prefix(const struct policy_prefix *p)
{
	struct range r = {.lo = number_of(p->ip)};

	r.hi = r.lo | (p->plen ? p->plen == 128 ? 0 : U128_MAX >> p->plen : U128_MAX);
	return r;
}

static int make(struct ranges *r, size_t n)
{
	r->n = 0;
	r->list = n ? calloc(n, sizeof(r->list[0])) : NULL;
	return n && !r->list ? -ENOMEM : 0;
}

static void put(struct ranges *r, u128 lo, u128 hi)
{
	r->list[r->n++] = (struct range){lo, hi};
}

static int make_prefixes(struct ranges *r, const struct policy_prefix *list, size_t n)
{
	if (make(r, n) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		r->list[r->n++] = range_of_prefix(&list[i]);
	ranges_settle(r);
	return 0;
}

static int make_ports(struct ranges *r, const struct policy_ports *list, size_t n)
{
	if (make(r, n) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		put(r, list[i].lo, list[i].hi);
	ranges_settle(r);
	return 0;
}

/* ---- the policy ---- */

int shapes_init(struct shapes *s, const struct dmm_policy *p)
{
	int r = 0;

	*s = (struct shapes){.policy = p, .set = calloc(p->n_sets + 1, sizeof(*s->set))};
	if (!s->set)
		return -ENOMEM;
	for (size_t i = 0; r >= 0 && i < p->n_groups; i++)
		r = index_put_name(&s->groups, p->groups[i].name, i, NULL);
	for (size_t i = 0; r >= 0 && i < p->n_sets; i++) {
		const struct policy_set *set = &p->sets[i];

		r = index_put_name(&s->sets, set->name, i, NULL);
		if (r >= 0 && set->n_ports)
			r = make_ports(&s->set[i], set->ports, set->n_ports);
		else if (r >= 0)
			r = make_prefixes(&s->set[i], set->prefix, set->n_prefix);
	}
	return r < 0 ? r : 0;
}

void shapes_fini(struct shapes *s)
{
	for (size_t i = 0; s->set && i < s->policy->n_sets; i++)
		free(s->set[i].list);
	free(s->set);
	index_fini(&s->groups);
	index_fini(&s->sets);
	*s = (struct shapes){0};
}

/* ---- a rule ---- */

static int add_sets(const struct shapes *s, const char (*names)[DMM_NAME_LEN], size_t n,
		    struct shape_part *part)
{
	size_t at;

	if (n == 0)
		return 0;
	part->set = calloc(n, sizeof(*part->set));
	if (!part->set)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (!index_get_name(&s->sets, names[i], &at))
			return -ENOENT;
		part->set[part->n_set++] = &s->set[at];
	}
	return 0;
}

static int add_groups(const struct shapes *s, const struct policy_match *m, struct ranges *ret)
{
	size_t at;

	if (make(ret, m->n_group) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_group; i++) {
		if (!index_get_name(&s->groups, m->group[i], &at))
			return -ENOENT;
		put(ret, 2 * at, 2 * at);
	}
	ranges_settle(ret);
	return 0;
}

static int add_programs(const struct policy_match *m, struct ranges *ret)
{
	if (make(ret, m->n_program) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_program; i++) {
		u128 n = number_of((const dmm_u8 *)m->program[i]);

		put(ret, n, n);
	}
	ranges_settle(ret);
	return 0;
}

static int add_uids(const struct policy_match *m, struct ranges *ret)
{
	if (make(ret, m->n_uid) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_uid; i++)
		put(ret, m->uid[i].lo, m->uid[i].hi);
	ranges_settle(ret);
	return 0;
}

/* One number, 0: any. */
static int add_one(unsigned n, struct ranges *ret)
{
	if (!n)
		return 0;
	if (make(ret, 1) < 0)
		return -ENOMEM;
	put(ret, n, n);
	return 0;
}

#define ADD_SETS(s, m, field, part) \
	add_sets(s, (const char(*)[DMM_NAME_LEN])(m)->field##_set, (m)->n_##field##_set, part)

static int add_lists(const struct shapes *s, const struct policy_match *m, struct shape *ret)
{
	struct shape_part *part = ret->part;
	int r = add_groups(s, m, &part[SHAPE_GROUP].own);

	if (r == 0)
		r = make_prefixes(&part[SHAPE_REMOTE].own, m->remote, m->n_remote);
	if (r == 0)
		r = ADD_SETS(s, m, remote, &part[SHAPE_REMOTE]);
	if (r == 0)
		r = make_ports(&part[SHAPE_REMOTE_PORT].own, m->remote_port, m->n_remote_port);
	if (r == 0)
		r = ADD_SETS(s, m, remote_port, &part[SHAPE_REMOTE_PORT]);
	if (r == 0)
		r = make_prefixes(&part[SHAPE_LOCAL].own, m->local, m->n_local);
	if (r == 0)
		r = ADD_SETS(s, m, local, &part[SHAPE_LOCAL]);
	if (r == 0)
		r = make_ports(&part[SHAPE_LOCAL_PORT].own, m->local_port, m->n_local_port);
	if (r == 0)
		r = ADD_SETS(s, m, local_port, &part[SHAPE_LOCAL_PORT]);
	if (r == 0)
		r = add_uids(m, &part[SHAPE_UID].own);
	if (r == 0)
		r = add_programs(m, &part[SHAPE_PROGRAM].own);
	return r == 0 ? add_one(m->proto, &part[SHAPE_PROTO].own) : r;
}

static bool covered_by(const struct range *b, const struct shape_part *a, size_t *work);

/* Is the list all that there is? */
static bool is_all(const struct shape_part *part, enum shape_field field)
{
	struct range all = {0, field == SHAPE_UID ? UINT32_MAX - 1 : U128_MAX};
	size_t work = 0;

	if (field != SHAPE_REMOTE && field != SHAPE_LOCAL && field != SHAPE_UID)
		return false;
	return covered_by(&all, part, &work);
}

int shape_of(const struct shapes *s, const struct dmm_rule *rule, struct shape *ret)
{
	unsigned roles = rule->match.roles ? rule->match.roles : (1u << DMM_ROLES) - 1;
	int r;

	*ret = (struct shape){0};
	r = add_lists(s, &rule->match, ret);
	if (r < 0)
		return r;
	for (unsigned f = 0; f < SHAPE_FIELDS; f++)
		if (ret->part[f].own.n || ret->part[f].n_set)
			ret->mask |= 1u << f;
	if (ret->mask & (1u << SHAPE_REMOTE | 1u << SHAPE_REMOTE_PORT))
		roles &= 1u << DMM_ROLE_CLIENT;
	if (!roles)
		return -ENOENT;
	if (roles != (1u << DMM_ROLES) - 1) {
		r = add_one(roles, &ret->part[SHAPE_ROLE].own);
		ret->mask |= 1u << SHAPE_ROLE;
	}
	for (unsigned f = 0; f < SHAPE_FIELDS; f++)
		if (ret->mask & 1u << f && is_all(&ret->part[f], f))
			ret->mask &= ~(1u << f);
	return r;
}

void shape_fini(struct shape *s)
{
	for (unsigned f = 0; f < SHAPE_FIELDS; f++) {
		free(s->part[f].own.list);
		free(s->part[f].set);
	}
	*s = (struct shape){0};
}

const struct range *shape_range(const struct shape_part *p, size_t i)
{
	if (i < p->own.n)
		return &p->own.list[i];
	i -= p->own.n;
	for (size_t k = 0; k < p->n_set; i -= p->set[k++]->n)
		if (i < p->set[k]->n)
			return &p->set[k]->list[i];
	return NULL;
}

static const struct range *part_find(const struct shape_part *p, u128 at, size_t *work)
{
	const struct range *found = ranges_find(&p->own, at);

	(*work)++;
	for (size_t k = 0; !found && k < p->n_set; k++, (*work)++)
		found = ranges_find(p->set[k], at);
	return found;
}

const struct range *shape_find(const struct shape *s, enum shape_field field, u128 at)
{
	size_t work = 0;

	return s->mask & 1u << field ? part_find(&s->part[field], at, &work) : NULL;
}

/* From one range of a into the next one that it touches. */
static bool covered_by(const struct range *b, const struct shape_part *a, size_t *work)
{
	u128 at = b->lo;

	for (;;) {
		const struct range *found = part_find(a, at, work);

		if (!found)
			return false;
		if (found->hi >= b->hi)
			return true;
		at = found->hi + 1;
	}
}

static bool has_set(const struct shape_part *p, const struct ranges *set)
{
	for (size_t k = 0; k < p->n_set; k++)
		if (p->set[k] == set)
			return true;
	return false;
}

static bool part_covers(const struct shape_part *a, const struct shape_part *b, size_t *work)
{
	for (size_t i = 0; i < b->own.n; i++)
		if (!covered_by(&b->own.list[i], a, work))
			return false;
	for (size_t k = 0; k < b->n_set; k++) {
		if (has_set(a, b->set[k]))
			continue;
		for (size_t i = 0; i < b->set[k]->n; i++)
			if (!covered_by(&b->set[k]->list[i], a, work))
				return false;
	}
	return true;
}

bool shape_covers(const struct shape *a, const struct shape *b, size_t *work)
{
	(*work)++;
	if (a->mask & ~b->mask)
		return false;
	for (unsigned f = 0; f < SHAPE_FIELDS; f++)
		if (a->mask & 1u << f && !part_covers(&a->part[f], &b->part[f], work))
			return false;
	return true;
}

static const struct ranges *part_list(const struct shape_part *p, size_t i)
{
	return i ? p->set[i - 1] : &p->own;
}

static bool part_meets(const struct shape_part *a, const struct shape_part *b)
{
	for (size_t i = 0; i <= a->n_set; i++)
		for (size_t k = 0; k <= b->n_set; k++)
			if (ranges_meet(part_list(a, i), part_list(b, k)))
				return true;
	return false;
}

bool shape_meets(const struct shape *a, const struct shape *b)
{
	for (unsigned f = 0; f < SHAPE_FIELDS; f++)
		if (a->mask & 1u << f && !part_meets(&a->part[f], &b->part[f]))
			return false;
	return true;
}
