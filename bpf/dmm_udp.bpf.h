/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * UDP through an instance. Its carrier is a pair of UDP sockets over loopback: the application's
 * own, and one of the instance's, of this flow alone. So the port of the instance's end names the
 * flow, also while datagrams of an earlier connect() are under way. The carrier goes to the address
 * that the kernel would send from: the application's end has its true address and port, and only
 * the far end is another than it is told.
 */
#ifndef DMM_UDP_BPF_H
#define DMM_UDP_BPF_H

#include "bpf/dmm_match.bpf.h"
#include "bpf/dmm_plain.bpf.h"

#define IP_PMTUDISC_DO 2
#define IP_PMTUDISC_OMIT 5

/* Bits of inet_sock.inet_flags, of Linux 6.6 and later: what IP_PKTINFO and the like ask to be told
 * of each datagram (it would be told of loopback), IP_RECVERR, IPV6_DONTFRAG, IPV6_RECVERR. */
#define INET_FLAGS_TOLD 0x1ff
#define INET_FLAGS_RECVERR (1 << 9)
#define INET_FLAGS_DONTFRAG (1 << 25)
#define INET_FLAGS_RECVERR6 (1 << 26)

/* Of a size of its own that a datagram may have: only the sender's kernel can refuse it at once. */
static __always_inline bool udp_refuses_long(__u8 pmtudisc)
{
	return pmtudisc >= IP_PMTUDISC_DO && pmtudisc != IP_PMTUDISC_OMIT;
}

static __always_inline bool udp_supported6(struct ipv6_pinfo *np)
{
	if (!np)
		return true;
	if (BPF_CORE_READ_BITFIELD_PROBED(np, hop_limit) != -1)
		return false;
	if (BPF_CORE_READ(np, rxopt.all) || BPF_CORE_READ(np, opt))
		return false;
	if (bpf_core_field_exists(np->recverr) && BPF_CORE_READ_BITFIELD_PROBED(np, recverr))
		return false;
	if (bpf_core_field_exists(np->dontfrag) && BPF_CORE_READ_BITFIELD_PROBED(np, dontfrag))
		return false;
	return !udp_refuses_long(BPF_CORE_READ_BITFIELD_PROBED(np, pmtudisc));
}

/* Things about a UDP socket that an instance could not honour. */
static __always_inline bool udp_supported(struct bpf_sock *sk, struct inet_sock *inet)
{
	unsigned long flags;

	if (sk->bound_dev_if || sk->mark)
		return false;
	if (BPF_CORE_READ(inet, uc_ttl) != -1 || BPF_CORE_READ(inet, inet_opt) ||
	    udp_refuses_long(BPF_CORE_READ(inet, pmtudisc)))
		return false;
	if (bpf_core_field_exists(inet->inet_flags)) {
		flags = BPF_CORE_READ(inet, inet_flags);
		if (flags & (INET_FLAGS_TOLD | INET_FLAGS_RECVERR | INET_FLAGS_DONTFRAG |
			     INET_FLAGS_RECVERR6))
			return false;
	} else if (BPF_CORE_READ(inet, cmsg_flags) ||
		   BPF_CORE_READ_BITFIELD_PROBED(inet, recverr)) {
		return false;
	}
	return sk->family == AF_INET || !bpf_core_field_exists(inet->pinet6) ||
	       udp_supported6(BPF_CORE_READ(inet, pinet6));
}

/* A carrier of the instance that waits for a flow: it is this flow's now. 0: there is none. */
__noinline __u32 udp_take(__u32 stack)
{
	struct dmm_udp_free *f = bpf_map_lookup_elem(&dmm_udp_free, &stack);
	__u32 carrier = 0, i;

	if (!f)
		return 0;
	for (int try = 0; try < 8 && !carrier; try++) {
		i = __sync_fetch_and_add(&f->next, 1);
		carrier = __sync_lock_test_and_set(&f->carrier[i % DMM_UDP_FREE], 0);
	}
	return carrier;
}

/* Is that stack's instance still at the carrier? */
__noinline int udp_alive(struct bpf_sock_addr *ctx, const struct dmm_addr *via, __u32 stack)
{
	struct bpf_sock_tuple t = {};
	struct dmm_sock *st;
	struct bpf_sock *sk;
	const __u32 *w;
	bool alive;

	if (!via)
		return false;
	w = (const __u32 *)via->ip;
	if (ip_is_v4(via->ip)) {
		t.ipv4.saddr = t.ipv4.daddr = w[3];
		t.ipv4.dport = bpf_htons(via->port);
		sk = bpf_sk_lookup_udp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		__builtin_memcpy(t.ipv6.saddr, via->ip, 16);
		__builtin_memcpy(t.ipv6.daddr, via->ip, 16);
		t.ipv6.dport = bpf_htons(via->port);
		sk = bpf_sk_lookup_udp(ctx, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return false;
	st = bpf_sk_storage_get(&dmm_sock, sk, NULL, 0);
	alive = st && (st->flags & DMM_SF_INSTANCE) && st->stack == stack;
	bpf_sk_release(sk);
	return alive;
}

/* What was taken is not needed: it waits again, unless the instance has made others meanwhile. */
static __always_inline void udp_give_back(const struct dmm_flow *flow, __u32 port)
{
	__u32 stack = flow->stack, carrier = DMM_UDP_CARRIER(port, flow->thread);
	struct dmm_udp_free *f = bpf_map_lookup_elem(&dmm_udp_free, &stack);

	for (int i = 0; f && i < 8; i++)
		if (__sync_val_compare_and_swap(&f->carrier[(f->next - 1 - i) % DMM_UDP_FREE], 0,
						carrier) == 0)
			return;
}

static __always_inline bool udp_event(__u32 type, const struct dmm_flow *flow, __u32 port)
{
	__u32 index = DMM_EVENTS_INDEX(flow->stack, flow->thread);
	struct dmm_event *ev;
	void *ring;

	ring = bpf_map_lookup_elem(&dmm_events, &index);
	if (!ring)
		return false;
	ev = bpf_ringbuf_reserve(ring, sizeof(*ev), 0);
	if (!ev) {
		count(DMM_C_EVENT_LOST);
		return false;
	}
	__builtin_memset(ev, 0, sizeof(*ev));
	ev->type = type;
	ev->flow = *flow;
	ev->tuple.dst.port = port;
	bpf_ringbuf_submit(ev, 0);
	return true;
}

/* The flow is announced to its instance before the application can send. Returns the reason why
 * not, or DMM_REASON_RULE. */
static __always_inline __u32 udp_announce(struct bpf_sock_addr *ctx, const struct dmm_flow *flow,
					  __u32 port)
{
	struct dmm_udp_key key = {.netns = bpf_get_netns_cookie(ctx), .port = port};

	if (bpf_map_update_elem(&dmm_udp, &key, flow, BPF_ANY)) {
		udp_give_back(flow, port);
		return DMM_REASON_MAP_FULL;
	}
	if (udp_event(DMM_EV_UDP_OPEN, flow, port))
		return DMM_REASON_RULE;
	bpf_map_delete_elem(&dmm_udp, &key);
	udp_give_back(flow, port);
	return DMM_REASON_MAP_FULL;
}

/* Its socket is closed, or calls connect(): if that fails it stays where the kernel has it, else it
 * has left. What it has sent is still to go: so its port is left with the record, which the
 * instance removes. An event that is lost is found there, too. */
static __always_inline void udp_leave(__u64 netns, const struct dmm_sock *st, struct sock *sk,
				      bool closed)
{
	__u16 port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	struct dmm_udp_key key = {.netns = netns, .port = port ? port : st->via.port};
	struct dmm_flow *flow;

	flow = bpf_map_lookup_elem(&dmm_udp, &key);
	if (!flow || flow->cookie != st->cookie)
		return;
	if (port)
		flow->local.port = BPF_CORE_READ(sk, __sk_common.skc_num);
	flow->gated = closed;
	udp_event(DMM_EV_UDP_CLOSE, flow, key.port);
}

/* The flow of this socket with the carrier at port, or NULL. */
static __always_inline const struct dmm_flow *udp_flow(struct bpf_sock_addr *ctx,
						       const struct dmm_sock *st, __u16 port)
{
	struct dmm_udp_key key = {.netns = bpf_get_netns_cookie(ctx), .port = port};
	const struct dmm_flow *flow = bpf_map_lookup_elem(&dmm_udp, &key);

	return flow && flow->cookie == st->cookie ? flow : NULL;
}

/* The far end of the socket that is connected to the carrier at port; NULL: it is another's. */
static __always_inline const struct dmm_addr *udp_peer(struct bpf_sock_addr *ctx,
						       const struct dmm_sock *st, __u16 port)
{
	const struct dmm_flow *flow;

	if (port == st->via.port)
		return &st->remote;
	flow = udp_flow(ctx, st, port); /* of the connect() before one that failed */
	return flow ? &flow->remote : NULL;
}

/* Where a datagram really came from that this socket got from ip and port; NULL: from there. */
static __always_inline const struct dmm_addr *udp_source(struct bpf_sock_addr *ctx,
							 const struct dmm_addr *from)
{
	struct bpf_sock *sk = ctx->sk;
	const struct dmm_flow *flow;
	struct dmm_sock *st;

	st = sk ? bpf_sk_storage_get(&dmm_sock, sk, NULL, 0) : NULL;
	if (!st || !(st->flags & DMM_SF_UDP))
		return NULL;
	if (addr_same(from, &st->via))
		return &st->remote;
	flow = udp_flow(ctx, st, from->port);
	return flow && ip_same(from->ip, flow->local.ip) ? &flow->remote : NULL;
}

#endif
