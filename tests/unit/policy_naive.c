// SPDX-License-Identifier: Apache-2.0
/*
 * The plainest reading of a policy, which shares nothing with what is tested against it, and
 * sockets at all ends of its ranges.
 */
#include <string.h>

#include "lib/base/addr.h"
#include "tests/unit/policy_gen.h"

typedef unsigned __int128 u128;

static bool bits_agree(const dmm_u8 *a, const dmm_u8 *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if ((a[i / 8] >> (7 - i % 8) & 1) != (b[i / 8] >> (7 - i % 8) & 1))
			return false;
	return true;
}

static const struct policy_set *set_named(const struct dmm_policy *p, const char *name)
{
	for (size_t i = 0; i < p->n_sets; i++)
		if (strcmp(p->sets[i].name, name) == 0)
			return &p->sets[i];
	return NULL;
}

static bool in_prefixes(const struct dmm_policy *p, const dmm_u8 *ip,
			const struct policy_prefix *list, size_t n,
			const char (*sets)[DMM_NAME_LEN], size_t n_sets)
{
	bool in = n + n_sets == 0;

	for (size_t i = 0; i < n; i++)
		in |= bits_agree(ip, list[i].ip, list[i].plen);
	for (size_t k = 0; k < n_sets; k++) {
		const struct policy_set *s = set_named(p, sets[k]);

		for (size_t i = 0; i < s->n_prefix; i++)
			in |= bits_agree(ip, s->prefix[i].ip, s->prefix[i].plen);
	}
	return in;
}

static bool in_ports(const struct dmm_policy *p, unsigned port, const struct policy_ports *list,
		     size_t n, const char (*sets)[DMM_NAME_LEN], size_t n_sets)
{
	bool in = n + n_sets == 0;

	for (size_t i = 0; i < n; i++)
		in |= port >= list[i].lo && port <= list[i].hi;
	for (size_t k = 0; k < n_sets; k++) {
		const struct policy_set *s = set_named(p, sets[k]);

		for (size_t i = 0; i < s->n_ports; i++)
			in |= port >= s->ports[i].lo && port <= s->ports[i].hi;
	}
	return in;
}

static bool in_groups(const char *group, const struct policy_match *m)
{
	for (size_t i = 0; i < m->n_group; i++)
		if (group && strcmp(group, m->group[i]) == 0)
			return true;
	return m->n_group == 0;
}

static bool in_uids(dmm_u32 uid, const struct policy_match *m)
{
	for (size_t i = 0; i < m->n_uid; i++)
		if (uid >= m->uid[i].lo && uid <= m->uid[i].hi)
			return true;
	return m->n_uid == 0;
}

static bool in_programs(const char *program, const struct policy_match *m)
{
	for (size_t i = 0; i < m->n_program; i++)
		if (strcmp(program, m->program[i]) == 0)
			return true;
	return m->n_program == 0;
}

#define SETS(m, field) (const char(*)[DMM_NAME_LEN])(m)->field##_set, (m)->n_##field##_set

static bool fits(const struct dmm_policy *p, const struct policy_match *m,
		 const struct gen_socket *g)
{
	const struct eval_socket *s = &g->s;

	if (s->role != DMM_ROLE_CLIENT &&
	    (m->n_remote || m->n_remote_port || m->n_remote_set || m->n_remote_port_set))
		return false;
	return (!m->roles || m->roles >> s->role & 1) && (!m->proto || m->proto == s->proto) &&
	       in_groups(g->group, m) && in_uids(s->uid, m) && in_programs(s->program, m) &&
	       in_prefixes(p, s->remote.ip, m->remote, m->n_remote, SETS(m, remote)) &&
	       in_prefixes(p, s->local.ip, m->local, m->n_local, SETS(m, local)) &&
	       in_ports(p, s->remote.port, m->remote_port, m->n_remote_port,
			SETS(m, remote_port)) &&
	       in_ports(p, s->local.port, m->local_port, m->n_local_port, SETS(m, local_port));
}

unsigned naive_rule(const struct dmm_policy *p, const struct gen_socket *g)
{
	for (unsigned i = 0; i < p->n_rules; i++)
		if (fits(p, &p->rules[i].match, g))
			return i;
	return DMM_RULE_NONE;
}

/* ---- sockets at the ends of ranges ---- */

enum { BELOW, LOWEST, HIGHEST, ABOVE, PLACES };

static u128 place(u128 lo, u128 hi, unsigned where, u128 last)
{
	switch (where) {
	case BELOW:
		return lo ? lo - 1 : lo;
	case LOWEST:
		return lo;
	case HIGHEST:
		return hi;
	default:
		return hi < last ? hi + 1 : hi;
	}
}

static void put_ip(const struct policy_prefix *p, unsigned where, dmm_u8 ret[16])
{
	u128 lo = 0, hi, n;

	for (int i = 0; i < 16; i++)
		lo = lo << 8 | p->ip[i];
	hi = p->plen == 128 ? lo : lo | ~(u128)0 >> p->plen;
	n = place(lo, hi, where, ~(u128)0);
	for (int i = 15; i >= 0; i--, n >>= 8)
		ret[i] = (dmm_u8)n;
}

/* A list and its sets as one. */
static const struct policy_prefix *prefix_at(const struct dmm_policy *p,
					     const struct policy_prefix *list, size_t n,
					     const char (*sets)[DMM_NAME_LEN], size_t n_sets,
					     size_t i)
{
	if (i < n)
		return &list[i];
	i -= n;
	for (size_t k = 0; k < n_sets; i -= set_named(p, sets[k++])->n_prefix)
		if (i < set_named(p, sets[k])->n_prefix)
			return &set_named(p, sets[k])->prefix[i];
	return NULL;
}

static const struct policy_ports *ports_at(const struct dmm_policy *p,
					   const struct policy_ports *list, size_t n,
					   const char (*sets)[DMM_NAME_LEN], size_t n_sets,
					   size_t i)
{
	if (i < n)
		return &list[i];
	i -= n;
	for (size_t k = 0; k < n_sets; i -= set_named(p, sets[k++])->n_ports)
		if (i < set_named(p, sets[k])->n_ports)
			return &set_named(p, sets[k])->ports[i];
	return NULL;
}

enum { REMOTE, LOCAL, REMOTE_PORT, LOCAL_PORT, UID, FIELDS };

/* Put a value at a place of item i of a field of the rule; false: there is no such item. */
static bool put_field(const struct dmm_policy *p, const struct policy_match *m, unsigned field,
		      size_t i, unsigned where, struct eval_socket *s)
{
	const struct policy_prefix *x;
	const struct policy_ports *y;

	switch (field) {
	case REMOTE:
		x = prefix_at(p, m->remote, m->n_remote, SETS(m, remote), i);
		if (x)
			put_ip(x, where, s->remote.ip);
		return x;
	case LOCAL:
		x = prefix_at(p, m->local, m->n_local, SETS(m, local), i);
		if (x)
			put_ip(x, where, s->local.ip);
		return x;
	case REMOTE_PORT:
		y = ports_at(p, m->remote_port, m->n_remote_port, SETS(m, remote_port), i);
		if (y)
			s->remote.port = (dmm_u16)place(y->lo, y->hi, where, 65535);
		return y;
	case LOCAL_PORT:
		y = ports_at(p, m->local_port, m->n_local_port, SETS(m, local_port), i);
		if (y)
			s->local.port = (dmm_u16)place(y->lo, y->hi, where, 65535);
		return y;
	default:
		if (i < m->n_uid)
			s->uid = (dmm_u32)place(m->uid[i].lo, m->uid[i].hi, where, UINT32_MAX - 1);
		return i < m->n_uid;
	}
}

/* One that the rule takes, as far as its first items go. */
static void fit(struct rng *r, const struct dmm_policy *p, const struct policy_match *m,
		struct gen_socket *g)
{
	gen_socket(r, p, g);
	g->s.role = m->roles == 1u << DMM_ROLE_SERVER ? DMM_ROLE_SERVER : DMM_ROLE_CLIENT;
	if (m->n_group)
		g->group = m->group[rng_below(r, (uint32_t)m->n_group)];
	if (m->proto)
		g->s.proto = m->proto;
	if (m->n_program)
		memcpy(g->s.program, m->program[rng_below(r, (uint32_t)m->n_program)],
		       DMM_PROGRAM_LEN);
	for (unsigned f = 0; f < FIELDS; f++)
		put_field(p, m, f, 0, rng_below(r, 2) ? LOWEST : HIGHEST, &g->s);
}

void naive_boundaries(struct rng *r, const struct dmm_policy *p,
		      void (*fn)(const struct gen_socket *g, void *ctx), void *ctx)
{
	for (size_t rule = 0; rule < p->n_rules; rule++) {
		const struct policy_match *m = &p->rules[rule].match;
		struct gen_socket g;

		for (unsigned field = 0; field < FIELDS; field++) {
			bool more = true;

			for (size_t i = 0; more; i++) {
				for (unsigned where = 0; where < PLACES && more; where++) {
					fit(r, p, m, &g);
					more = put_field(p, m, field, i, where, &g.s);
					if (more)
						fn(&g, ctx);
				}
			}
		}
	}
}
