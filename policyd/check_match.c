// SPDX-License-Identifier: Apache-2.0
/* Sets, and what is wrong with the match of a rule. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "lib/base/addr.h"
#include "policyd/check.h"
#include "policyd/diag.h"
#include "policyd/policy_keys.h"
#include "policyd/value.h"

int check_sets(struct check *c)
{
	const struct dmm_policy *p = c->p;
	char at[DMM_PATH_LEN];
	size_t old;

	for (size_t i = 0; i < p->n_sets; i++) {
		const struct policy_set *s = &p->sets[i];
		int r = index_put_name(&c->sets, s->name, i, &old);

		if (r < 0)
			return r;
		if (!value_is_set_name(s->name))
			diag_error_at(c->diags, &s->pos, "\"%s\" is not a name for a set", s->name);
		else if (r > 0)
			diag_error_at(c->diags, &s->pos, "set \"%s\" is there already%s", s->name,
				      check_place(&p->sets[old].pos, at, sizeof(at)));
		if (!s->n_prefix == !s->n_ports)
			diag_error_at(c->diags, &s->pos, "set \"%s\" %s", s->name,
				      s->n_ports ? "has prefixes and ports" : "is empty");
	}
	if (p->n_sets > POLICY_MAX_SETS)
		diag_error_at(c->diags, &p->sets[POLICY_MAX_SETS].pos,
			      "%zu sets; at most %d are possible", p->n_sets, POLICY_MAX_SETS);
	return 0;
}

/* ---- names ---- */

static void unknown_set(const struct check *c, const struct dmm_rule *r, const char *key,
			const char *name)
{
	const char *nearest = NULL;
	unsigned best = UINT_MAX;

	for (size_t i = 0; !diag_full(c->diags) && i < c->p->n_sets; i++)
		if (diag_nearer(name, c->p->sets[i].name, &best))
			nearest = c->p->sets[i].name;
	if (nearest)
		diag_error_at(c->diags, &r->pos,
			      "rule \"%s\": %s names unknown set \"%s\"; did you mean \"%s\"?",
			      r->name, key, name, nearest);
	else
		diag_error_at(c->diags, &r->pos,
			      "rule \"%s\": %s names unknown set \"%s\"; define it in sets",
			      r->name, key, name);
}

static void check_set_names(const struct check *c, const struct dmm_rule *r, const char *key,
			    const char (*names)[DMM_NAME_LEN], size_t n, bool ports)
{
	size_t at;

	for (size_t i = 0; i < n; i++) {
		if (!index_get_name(&c->sets, names[i], &at))
			unknown_set(c, r, key, names[i]);
		else if (ports != (c->p->sets[at].n_ports > 0))
			diag_error_at(c->diags, &r->pos,
				      "rule \"%s\": %s names set \"%s\", which holds %s, not %s",
				      r->name, key, names[i], ports ? "prefixes" : "ports",
				      ports ? "ports" : "prefixes");
	}
}

static void unknown_group(const struct check *c, const struct dmm_rule *r, const char *name)
{
	const char *nearest = NULL;
	unsigned best = UINT_MAX;

	for (size_t i = 0; !diag_full(c->diags) && i < c->p->n_groups; i++)
		if (diag_nearer(name, c->p->groups[i].name, &best))
			nearest = c->p->groups[i].name;
	if (nearest)
		diag_error_at(c->diags, &r->pos,
			      "rule \"%s\" matches unknown group \"%s\"; did you mean \"%s\"?",
			      r->name, name, nearest);
	else
		diag_error_at(c->diags, &r->pos,
			      "rule \"%s\" matches unknown group \"%s\"; define it in groups",
			      r->name, name);
}

/* ---- addresses ---- */

enum { HAS_V4 = 1, HAS_V6 = 2 };

/* Families of the addresses that a prefix holds. Unbound sockets of both have the local address ::
 */
static unsigned families(const struct policy_prefix *p, bool local)
{
	dmm_u8 v4[16], none[16] = {0};

	addr_from_v4(v4, 0);
	if (p->plen >= 96 && addr_is_v4(p->ip))
		return HAS_V4;
	if (addr_in_prefix(v4, p->ip, p->plen) || (local && addr_in_prefix(none, p->ip, p->plen)))
		return HAS_V4 | HAS_V6;
	return HAS_V6;
}

/* Of a list and its sets; both if it is empty: any. */
static unsigned families_of(const struct check *c, const struct policy_prefix *list, size_t n,
			    const char (*sets)[DMM_NAME_LEN], size_t n_sets, bool local)
{
	unsigned found = n || n_sets ? 0 : HAS_V4 | HAS_V6;
	size_t at;

	for (size_t i = 0; i < n; i++)
		found |= families(&list[i], local);
	for (size_t k = 0; k < n_sets; k++) {
		if (!index_get_name(&c->sets, sets[k], &at) || !c->p->sets[at].n_prefix)
			return HAS_V4 | HAS_V6; /* said elsewhere */
		for (size_t i = 0; i < c->p->sets[at].n_prefix && found != (HAS_V4 | HAS_V6); i++)
			found |= families(&c->p->sets[at].prefix[i], local);
	}
	return found;
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

static void check_families(const struct check *c, const struct dmm_rule *r)
{
	const struct policy_match *m = &r->match;
	unsigned remote = families_of(c, m->remote, m->n_remote,
				      (const char(*)[DMM_NAME_LEN])m->remote_set, m->n_remote_set,
				      false);
	unsigned local = families_of(c, m->local, m->n_local,
				     (const char(*)[DMM_NAME_LEN])m->local_set, m->n_local_set,
				     true);

	if (!(remote & local))
		diag_warn_at(c->diags, &r->pos,
			     "rule \"%s\" never matches: its remote is all IPv%c and its local all "
			     "IPv%c",
			     r->name, remote == HAS_V4 ? '4' : '6', local == HAS_V4 ? '4' : '6');
}

#define CHECK_SETS(c, r, field, ports) \
	check_set_names(c, r, #field, (const char(*)[DMM_NAME_LEN])(r)->match.field##_set, \
			(r)->match.n_##field##_set, ports)

void check_match(const struct check *c, const struct dmm_rule *r)
{
	const struct policy_match *m = &r->match;

	for (size_t i = 0; i < m->n_group; i++)
		if (!index_get_name(&c->groups, m->group[i], NULL))
			unknown_group(c, r, m->group[i]);
	CHECK_SETS(c, r, remote, false);
	CHECK_SETS(c, r, remote_port, true);
	CHECK_SETS(c, r, local, false);
	CHECK_SETS(c, r, local_port, true);
	check_prefixes(c, r, "remote", m->remote, m->n_remote);
	check_prefixes(c, r, "local", m->local, m->n_local);
	check_families(c, r);
	if (m->roles == 1u << DMM_ROLE_SERVER &&
	    (m->n_remote || m->n_remote_port || m->n_remote_set || m->n_remote_port_set))
		diag_warn_at(c->diags, &r->pos,
			     "rule \"%s\" never matches: a server's rule is chosen at listen(), "
			     "when there is no remote yet",
			     r->name);
	if (m->roles == 1u << DMM_ROLE_SERVER && r->n_use == 1 &&
	    policy_reject(r->use[0]) < DMM_REJECTS)
		diag_warn_at(
			c->diags, &r->pos,
			"rule \"%s\": a listen() cannot be rejected; the kernel stack takes it",
			r->name);
}
