// SPDX-License-Identifier: Apache-2.0
/* The classifier of bpf/dmm_match.bpf.h in userspace: what `explain` says, and the BPF tests'
 * oracle. */
#include "lib/base/addr.h"
#include "policyd/policy.h"

static bool match_fits(const struct dmm_match *m, const struct eval_socket *s)
{
	if (m->group && m->group != s->group)
		return false;
	if (!(m->roles & 1u << (s->role & 1)))
		return false;
	if (m->proto && m->proto != s->proto)
		return false;
	if (s->role != DMM_ROLE_CLIENT) { /* a listener knows no remote */
		if (m->remote_plen || m->remote_port_lo || m->remote_port_hi != 65535)
			return false;
	} else {
		if (s->remote.port < m->remote_port_lo || s->remote.port > m->remote_port_hi)
			return false;
		if (!addr_in_prefix(s->remote.ip, m->remote, m->remote_plen))
			return false;
	}
	if (s->local.port < m->local_port_lo || s->local.port > m->local_port_hi)
		return false;
	return addr_in_prefix(s->local.ip, m->local, m->local_plen);
}

unsigned eval_rule(const struct dmm_class *c, const struct eval_socket *s)
{
	for (dmm_u32 i = 0; i < c->hdr.matches; i++)
		if (match_fits(&c->match[i], s))
			return c->match[i].rule;
	return DMM_RULE_NONE;
}
