// SPDX-License-Identifier: Apache-2.0
#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "policyd/reach.h"

/* True if every socket that b fits is one that a fits. A record with a restriction on the remote
 * does not fit an unknown remote; one that covers b has no restriction where b has none. */
static bool match_covers(const struct dmm_match *a, const struct dmm_match *b)
{
	return (!a->group || a->group == b->group) && !(b->roles & ~a->roles) &&
	       (!a->proto || a->proto == b->proto) && a->remote_plen <= b->remote_plen &&
	       addr_in_prefix(b->remote, a->remote, a->remote_plen) &&
	       a->local_plen <= b->local_plen &&
	       addr_in_prefix(b->local, a->local, a->local_plen) &&
	       a->remote_port_lo <= b->remote_port_lo && a->remote_port_hi >= b->remote_port_hi &&
	       a->local_port_lo <= b->local_port_lo && a->local_port_hi >= b->local_port_hi;
}

bool rule_is_shadowed(const struct dmm_class *c, unsigned rule, unsigned *ret_by)
{
	unsigned by = DMM_RULE_NONE, end = 0;

	while (end < c->hdr.matches && c->match[end].rule < rule)
		end++;
	for (unsigned i = end; i < c->hdr.matches && c->match[i].rule == rule; i++) {
		unsigned j = 0;

		while (j < end && !match_covers(&c->match[j], &c->match[i]))
			j++;
		if (j == end)
			return false;
		by = MIN(by, c->match[j].rule);
	}
	*ret_by = by;
	return by != DMM_RULE_NONE;
}
