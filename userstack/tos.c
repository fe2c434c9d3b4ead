// SPDX-License-Identifier: Apache-2.0
/*
 * The type of service (IPv4) or traffic class (IPv6) that an application wants, at any time, for
 * what goes to the far side: its packets over the carrier have it, the first being the SYN. Our end
 * of the carrier is given the same: of packets that differ from it the hold filter tells.
 */
#include <netinet/in.h>
#include <sys/socket.h>

#include "lib/base/addr.h"
#include "userstack/net/frame.h"
#include "userstack/stack.h"

/* Of the carrier: that of the application's socket may be IPv6 and this IPv4. */
static bool tos_is_v6(const struct flow *f)
{
	return !addr_is_v4(f->rec.role == DMM_ROLE_SERVER ? f->rec.local.ip : f->tuple.src.ip);
}

void tos_give(struct stack *s, struct flow *f)
{
	int tos = f->tos;

	if (f->watch.fd < 0 || f->own_tos == tos)
		return;
	f->own_tos = f->tos;
	if (tos)
		hold_use_tos(s->hold);
	if (tos_is_v6(f))
		setsockopt(f->watch.fd, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
	else
		setsockopt(f->watch.fd, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
}

void tos_set(struct stack *s, struct flow *f, uint8_t tos)
{
	tos &= DMM_TOS_MASK;
	if (f->tos != tos && f->owned && f->owned->conn && s->c.engine->set_tos)
		s->c.engine->set_tos(f->owned->conn, tos);
	f->tos = tos;
	tos_give(s, f);
}

void tos_event(struct stack *s, const struct dmm_event *ev)
{
	struct flow *f = flow_of_ends(s, &ev->tuple, ev->flow.cookie);

	if (f)
		tos_set(s, f, frame_tos(ev->hdr));
}
