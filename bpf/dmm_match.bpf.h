/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The classifier: which rule does a socket get. First record that fits decides. policyd/eval.c is
 * its twin in userspace; a property test compares the two.
 */
#ifndef DMM_MATCH_BPF_H
#define DMM_MATCH_BPF_H

#include "bpf/dmm_maps.bpf.h"

struct selector {
	struct dmm_addr remote, local;
	__u32 first; /* index of the generation's first record */
	__u32 rule;  /* out */
	__u8 group, role, proto;
};

static __always_inline bool prefix_fits(const __u8 *ip, const __u8 *prefix, __u32 plen)
{
	const __u32 *a = (const __u32 *)ip, *p = (const __u32 *)prefix; /* 4-byte aligned only */
	__u64 hi = (__u64)bpf_ntohl(a[0] ^ p[0]) << 32 | bpf_ntohl(a[1] ^ p[1]);
	__u64 lo = (__u64)bpf_ntohl(a[2] ^ p[2]) << 32 | bpf_ntohl(a[3] ^ p[3]);

	if (plen == 0)
		return true;
	if (plen < 64)
		return hi >> (64 - plen) == 0;
	if (hi)
		return false;
	return plen == 64 || lo >> ((128 - plen) & 63) == 0;
}

static __always_inline bool match_fits(const struct dmm_match *m, const struct selector *s)
{
	if (m->group && m->group != s->group)
		return false;
	if (!(m->roles & (1 << (s->role & 1))))
		return false;
	if (m->proto && m->proto != s->proto)
		return false;
	if (s->role != DMM_ROLE_CLIENT) { /* a listener knows no remote */
		if (m->remote_plen || m->remote_port_lo || m->remote_port_hi != 65535)
			return false;
	} else {
		if (s->remote.port < m->remote_port_lo || s->remote.port > m->remote_port_hi)
			return false;
		if (!prefix_fits(s->remote.ip, m->remote, m->remote_plen))
			return false;
	}
	if (s->local.port < m->local_port_lo || s->local.port > m->local_port_hi)
		return false;
	return prefix_fits(s->local.ip, m->local, m->local_plen);
}

static long match_step(__u32 i, void *ctx)
{
	struct selector *s = ctx;
	__u32 index = s->first + i;
	struct dmm_match *m = bpf_map_lookup_elem(&dmm_match, &index);

	if (!m || !match_fits(m, s))
		return 0;
	s->rule = m->rule;
	return 1;
}

/* What a socket gets in the generation of `slot`. */
struct choice {
	__u64 generation;
	__u32 rule; /* index, or DMM_RULE_NONE */
	__u32 slot;
	__u64 use; /* the i-th stack id in bits 8i … 8i+7: the stack cannot be indexed by a variable
		    */
	__u8 n_use, strict, carrier;
	__u8 keep; /* why it stays on the kernel stack, enum dmm_reason; 0: the list decides */
	char name[DMM_NAME_LEN];
};

static __always_inline __u64 pack_use(const __u8 *use)
{
	__u64 packed = 0;

#pragma unroll
	for (int i = 0; i < DMM_MAX_USE; i++)
		packed |= (__u64)use[i] << (8 * i);
	return packed;
}

/*
 * Decide in the generation in force. The generation is read once: all that follows is of one slot.
 * The commit waits an RCU grace period before it writes a slot again, so the slot stays as it is
 * until this program ends. False: there is no policy yet.
 */
static __always_inline bool choose(struct selector *s, struct choice *c)
{
	struct dmm_class_hdr *hdr;
	struct dmm_rule_rec *r;
	struct dmm_meta *meta;
	__u32 key = 0;

	meta = bpf_map_lookup_elem(&dmm_meta, &key);
	if (!meta)
		return false;
	c->generation = *(volatile __u64 *)&meta->generation;
	if (c->generation == 0)
		return false;
	c->slot = c->generation & 1;
	hdr = bpf_map_lookup_elem(&dmm_class, &c->slot);
	if (!hdr)
		return false;
	s->first = c->slot * DMM_MAX_MATCHES;
	s->rule = DMM_RULE_NONE;
	bpf_loop(hdr->matches, match_step, s, 0);
	c->rule = s->rule;
	percpu_add(&dmm_hits,
		   c->slot * (DMM_MAX_RULES + 1) +
			   (s->rule < DMM_MAX_RULES ? s->rule : DMM_MAX_RULES),
		   1);
	if (s->rule < DMM_MAX_RULES) {
		key = c->slot * DMM_MAX_RULES + s->rule;
		r = bpf_map_lookup_elem(&dmm_rule, &key);
		if (!r)
			return false;
		c->use = pack_use(r->use);
		c->n_use = r->n_use;
		c->strict = r->strict;
		c->keep = r->off ? DMM_REASON_ADMIN_OFF : r->capture ? DMM_REASON_CAPTURE : 0;
		c->carrier = r->carrier;
		__builtin_memcpy(c->name, r->name, DMM_NAME_LEN);
		return true;
	}
	c->use = pack_use(hdr->use);
	c->n_use = hdr->n_use;
	c->strict = hdr->strict;
	c->keep = 0;
	c->carrier = DMM_CARRIER_TCP;
	__builtin_memset(c->name, 0, DMM_NAME_LEN);
	return true;
}

/* Switched off by the operator, whatever its kind. */
static __always_inline bool stack_off(__u32 id)
{
	struct dmm_stack_rt *rt = bpf_map_lookup_elem(&dmm_stackrt, &id);

	return rt && rt->off;
}

static __always_inline struct dmm_stack_rec *stack_of(const struct choice *c, __u32 id)
{
	__u32 key = c->slot * DMM_MAX_STACKS + id;

	return bpf_map_lookup_elem(&dmm_stack, &key);
}

/* The setsockopt hooks want option values on the stack. */
static __always_inline long set_u32(void *ctx, int level, int name, __u32 value)
{
	return bpf_setsockopt(ctx, level, name, &value, sizeof(value));
}

/* A kernel stack's settings. ctx is of a connect hook or of sock_ops. One that cannot be had, as a
 * congestion control whose module is gone, is counted, and the connection goes on without. */
static __always_inline void kernel_settings(void *ctx, struct dmm_stack_rec *rec)
{
	char cc[sizeof(rec->congestion)];
	long failed = 0;
	__u64 rate;

	if (rec->congestion[0]) {
		__builtin_memcpy(cc, rec->congestion, sizeof(cc));
		failed |= bpf_setsockopt(ctx, SOL_TCP, TCP_CONGESTION, cc, sizeof(cc));
	}
	if (rec->pacing_bps) {
		rate = rec->pacing_bps / 8;
		failed |= set_u32(ctx, SOL_SOCKET, SO_MAX_PACING_RATE,
				  rate > 0xffffffff ? 0xffffffff : (__u32)rate);
	}
	if (rec->mark)
		failed |= set_u32(ctx, SOL_SOCKET, SO_MARK, rec->mark);
	if (rec->priority)
		failed |= set_u32(ctx, SOL_SOCKET, SO_PRIORITY, rec->priority - 1);
	if (rec->tos) /* one of them is not of the socket's family */
		failed |= set_u32(ctx, SOL_IP, IP_TOS, rec->tos - 1) &
			  set_u32(ctx, SOL_IPV6, IPV6_TCLASS, rec->tos - 1);
	if (rec->user_timeout_ms)
		failed |= set_u32(ctx, SOL_TCP, TCP_USER_TIMEOUT, rec->user_timeout_ms);
	if (rec->keepalive_s) {
		failed |= set_u32(ctx, SOL_TCP, TCP_KEEPIDLE, rec->keepalive_s);
		failed |= set_u32(ctx, SOL_SOCKET, SO_KEEPALIVE, 1);
	}
	if (failed)
		count(DMM_C_SETTINGS_FAIL);
}

static __always_inline __u32 route_type(__u32 stack, const __u8 *ip)
{
	struct dmm_route_key key = {.plen = 32 + 128, .stack = stack};
	__u32 *type;

	__builtin_memcpy(key.ip, ip, 16);
	type = bpf_map_lookup_elem(&dmm_route, &key);
	return type ? *type : DMM_ROUTE_OTHER;
}

/* Multicast, broadcast, link-local and unspecified addresses: never an instance's business. */
static __always_inline bool ip_is_special(const __u8 *ip)
{
	if (ip_is_v4(ip))
		return ip[12] == 0 || ip[12] == 127 || ip[12] >= 224 ||
		       (ip[12] == 169 && ip[13] == 254);
	return ip[0] == 0xff || (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80) || ip_is_any(ip);
}

/* Is the instance alive and in this namespace? Its runtime record, or a reason. */
static __always_inline struct dmm_stack_rt *instance_ready(__u32 id, __u64 netns, __u32 *reason)
{
	struct dmm_stack_rt *rt = bpf_map_lookup_elem(&dmm_stackrt, &id);

	*reason = DMM_REASON_STACK_DOWN;
	if (!rt || rt->state != DMM_STATE_UP)
		return NULL;
	if (rt->heartbeat_ns + DMM_HEARTBEAT_DEAD_NS < bpf_ktime_get_ns())
		return NULL;
	*reason = DMM_REASON_NO_LISTENER;
	if (rt->netns != netns)
		return NULL;
	return rt;
}

/* IP options go with every packet of the kernel's, and would be in the way of a held SYN. */
static __always_inline bool has_ip_options(struct tcp_sock *tp)
{
	struct inet_sock *inet = &tp->inet_conn.icsk_inet;

	if (inet->inet_opt)
		return true;
	return bpf_core_field_exists(inet->pinet6) && inet->pinet6 && inet->pinet6->opt;
}

/* Things about a TCP socket that an instance could not honour. */
static __always_inline bool socket_supported(struct bpf_sock *sk)
{
	struct tcp_sock *tp;

	if (sk->bound_dev_if || sk->mark)
		return false;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return false;
	if (bpf_core_field_exists(tp->is_mptcp) && tp->is_mptcp)
		return false;
	if (bpf_core_field_exists(tp->md5sig_info) && tp->md5sig_info)
		return false;
	if (bpf_core_field_exists(tp->ao_info) && tp->ao_info)
		return false;
	if (has_ip_options(tp))
		return false;
	return !BPF_CORE_READ_BITFIELD(tp, repair);
}

#endif
