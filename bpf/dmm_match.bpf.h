/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a socket gets: the rule of the generation in force, and what its stacks can do for it.
 */
#ifndef DMM_MATCH_BPF_H
#define DMM_MATCH_BPF_H

#include "bpf/dmm_memo.bpf.h"

/* What a socket gets in the generation of `slot`. */
struct choice {
	__u64 generation, cookie; /* cookie: of the socket, the caller's to fill */
	__u32 rule;		  /* index, or DMM_RULE_NONE */
	__u32 slot;		  /* NO_SLOT: there is no policy yet */
	__u64 use; /* the i-th stack id in bits 8i … 8i+7: the stack cannot be indexed by a variable
		    */
	__u8 n_use, strict, carrier;
	__u8 keep; /* why it stays on the kernel stack, enum dmm_reason; 0: the list decides */
	__u8 why;  /* enum dmm_reason of who gets what the list names first: a rule, nRD, the
		      default */
	__u8 congestion; /* as in dmm_rule_rec, and so is measure */
	__u16 measure;
	__u32 found; /* DMM_MEMO_*; with DMM_MEMO_FIXED use is not filled in */
};
#define NO_SLOT 2

static __always_inline __u64 pack_use(const __u8 *use)
{
	__u64 packed = 0;

#pragma unroll
	for (int i = 0; i < DMM_MAX_USE; i++)
		packed |= (__u64)use[i] << (8 * i);
	return packed;
}

/* The stack that the socket draws comes first, the others follow in their order. */
static __noinline __u64 draw_use(const __u16 *weight, __u64 use, __u64 cookie)
{
	__u32 sum = 0, at, end = 0;
	__u64 below;

#pragma unroll
	for (int i = 0; i < DMM_MAX_USE; i++)
		sum += weight[i];
	if (!sum)
		return use;
	at = (__u64)DMM_DRAW(cookie) * sum >> 32;
#pragma unroll
	for (int i = 0; i < DMM_MAX_USE; i++) {
		end += weight[i];
		if (at < end) {
			below = (1ULL << (8 * i)) - 1;
			return (use >> (8 * i) & 0xff) | (use & below) << 8 |
			       (use & ~(below << 8 | 0xff));
		}
	}
	return use;
}

/* What nRD has chosen for this rule and prefix, plen 0: for all others of the rule. */
static __always_inline const struct dmm_choice *choice_of(struct dmm_choice_key *key, __u64 use)
{
	const struct dmm_choice *c = bpf_map_lookup_elem(&dmm_choice, key);

	return c && pack_use(c->use) == use ? c : NULL;
}

/* The list in the order that nRD has chosen for a connecting socket; 0: it has not. */
__noinline __u64 chosen_use(__u32 measure, __u64 use, __u64 cookie, const struct dmm_addr *remote)
{
	struct dmm_choice_key key = {.measure = DMM_MEASURE_NUMBER(measure)};
	const struct dmm_choice *c;

	if (!remote)
		return 0;
	if (ip_is_v4(remote->ip)) {
		__builtin_memcpy(key.ip, remote->ip, DMM_CHOICE_PLEN4 / 8);
		key.plen = DMM_CHOICE_PLEN4;
	} else {
		__builtin_memcpy(key.ip, remote->ip, DMM_CHOICE_PLEN6 / 8);
		key.plen = DMM_CHOICE_PLEN6;
	}
	c = choice_of(&key, use);
	if (!c) {
		__builtin_memset(key.ip, 0, sizeof(key.ip));
		key.plen = 0;
		c = choice_of(&key, use);
	}
	return c ? draw_use(c->weight, use, cookie) : 0;
}

static __always_inline void choose_default(struct choice *c, const struct dmm_class_hdr *hdr)
{
	c->use = pack_use(hdr->use);
	c->n_use = hdr->n_use;
	c->strict = hdr->strict;
	c->keep = 0;
	c->carrier = DMM_CARRIER_TCP;
	c->why = DMM_REASON_DEFAULT;
	c->measure = 0;
	c->congestion = DMM_CONGESTION_NONE;
}

static __always_inline void choose_rule(struct choice *c, const struct dmm_rule_rec *r,
					const struct selector *sel)
{
	__u64 use = pack_use(r->use), chosen = 0;

	c->measure = r->measure;
	if ((c->measure & DMM_MEASURE_AUTO) && sel->role == DMM_ROLE_CLIENT)
		chosen = chosen_use(c->measure, use, c->cookie, &sel->remote);
	c->why = chosen ? DMM_REASON_NRD : DMM_REASON_RULE;
	c->use = chosen ? chosen : draw_use(r->weight, use, c->cookie);
	c->n_use = r->n_use;
	c->strict = r->strict;
	c->keep = r->keep & DMM_KEEP_OFF ? DMM_REASON_ADMIN_OFF : r->keep ? DMM_REASON_CAPTURE : 0;
	c->carrier = r->carrier;
	c->congestion = r->congestion;
}

static __always_inline struct dmm_stack_rec *stack_of(__u32 slot, __u32 id)
{
	__u32 key = slot * DMM_MAX_STACKS + id;

	return bpf_map_lookup_elem(&dmm_stack, &key);
}

/* Switched off by the operator, whatever its kind. */
static __always_inline bool stack_off(__u32 id)
{
	struct dmm_stack_rt *rt = bpf_map_lookup_elem(&dmm_stackrt, &id);

	return rt && rt->off;
}

static __always_inline bool has_settings(const struct dmm_stack_rec *rec)
{
	return rec->congestion[0] || rec->pacing_bps || rec->mark || rec->priority || rec->tos ||
	       rec->user_timeout_ms || rec->keepalive_s;
}

/* DMM_MEMO_FIXED and the stack, if the first of a list is one that every socket can have, or 0. */
__noinline __u32 fixed_stack(__u32 slot, __u32 id)
{
	struct dmm_stack_rec *rec;

	if (id >= DMM_MAX_STACKS)
		return 0;
	rec = stack_of(slot, id);
	if (!rec || rec->kind != DMM_KIND_KERNEL || has_settings(rec))
		return 0;
	return DMM_MEMO_FIXED | id << DMM_MEMO_STACK_SHIFT;
}

/* What was read before this was there before what is read after it. On x86 it is, unless the
 * compiler changes the order; elsewhere an atomic operation is the barrier that there is. */
static __always_inline void loads_ordered(void)
{
#ifdef __TARGET_ARCH_x86
	barrier();
#else
	__u64 own = 0;

	__sync_val_compare_and_swap(&own, 0, 0);
#endif
}

/* Was what was read from the slot of the generation whole? A commit says before it writes. */
static __always_inline bool slot_was_whole(const struct choice *c)
{
	struct dmm_meta *meta;
	__u32 key = 0;

	loads_ordered();
	meta = bpf_map_lookup_elem(&dmm_meta, &key);
	return meta && *(volatile __u64 *)&meta->building <= c->generation + 1;
}

/* The stack of c->found. */
static __always_inline void choose_fixed(struct choice *c)
{
	c->keep = 0;
	c->measure = 0;
	c->why = c->rule == DMM_RULE_NONE ? DMM_REASON_DEFAULT : DMM_REASON_RULE;
}

/* What the rule says, or the default. False: it is not there, as the slot is being written. */
static __always_inline bool choose_list(struct choice *c, void *image,
					const struct dmm_class_hdr *hdr, const struct selector *sel,
					bool *ret_draws)
{
	struct dmm_rule_rec *r;

	*ret_draws = false;
	if (c->rule >= DMM_MAX_RULES) {
		choose_default(c, hdr);
		return true;
	}
	r = (void *)cell_at(image, DMM_RULE_CELL + c->rule);
	if (!r)
		return false;
	choose_rule(c, r, sel);
	for (int i = 0; i < DMM_MAX_USE; i++)
		*ret_draws |= r->weight[i] != 0;
	return true;
}

/* Zero: done, with c->slot; else what was read was not whole. Not static: behind it the verifier
 * knows nothing of *c, which is one state and not one for every way through here. */
__noinline int choose_once(const struct selector *sel, struct choice *c)
{
	struct dmm_class_hdr *hdr;
	struct dmm_meta *meta;
	__u32 key = 0, slot, found;
	void *image;
	bool draws;

	if (!sel || !c)
		return 0;
	meta = bpf_map_lookup_elem(&dmm_meta, &key);
	if (!meta)
		return 0;
	c->generation = *(volatile __u64 *)&meta->generation;
	if (c->generation == 0)
		return 0;
	slot = c->generation & 1;
	image = image_of(slot);
	if (!image)
		return 0;
	hdr = (void *)cell_at(image, 0);
	if (!hdr)
		return 0;
	if (!(hdr->groups >> (sel->group % DMM_MAX_GROUPS) & 1)) /* it is to come, or gone */
		return !slot_was_whole(c);
	found = memo_find(sel, c->generation, hdr->fields);
	if (found == MEMO_MISS)
		c->rule = search_rule(slot, sel);
	else
		c->rule = found & DMM_MEMO_DEFAULT ? DMM_RULE_NONE : DMM_MEMO_RULE(found);
	if (c->rule >= DMM_MAX_RULES)
		c->rule = DMM_RULE_NONE;
	c->found = found == MEMO_MISS ? 0 : found;
	if ((c->found & DMM_MEMO_FIXED) && !stack_off(DMM_MEMO_STACK(found))) {
		choose_fixed(c);
	} else {
		c->found = 0;
		if (!choose_list(c, image, hdr, sel, &draws))
			return 1;
		if (found == MEMO_MISS) {
			found = c->rule == DMM_RULE_NONE ? DMM_MEMO_DEFAULT : c->rule;
			if (!c->keep && !c->measure && !draws && c->n_use)
				found |= fixed_stack(slot, c->use & 0xff);
			if (slot_was_whole(c))
				memo_keep(sel, c->generation, hdr->fields, found);
		}
	}
	if (!slot_was_whole(c))
		return 1;
	percpu_add(&dmm_hits, c->rule < DMM_MAX_RULES ? c->rule : DMM_MAX_RULES, 1);
	c->slot = slot;
	return 0;
}

#define CHOOSE_TRIES 8

/*
 * Decide in the generation in force. The generation is read once: all that follows is of one slot.
 * A commit that begins to write the slot again meanwhile is noticed (struct dmm_meta), and the
 * decision is made anew. False: there is none, c->why says the reason: no policy with this group,
 * or all tries were in vain.
 */
static __always_inline bool choose(const struct selector *sel, struct choice *c)
{
	int i = 0;

	c->slot = NO_SLOT;
	while (i < CHOOSE_TRIES && choose_once(sel, c))
		i++;
	if (c->slot == NO_SLOT)
		c->why = i < CHOOSE_TRIES ? DMM_REASON_NOT_MANAGED : DMM_REASON_CHANGING;
	return c->slot != NO_SLOT;
}

/* The stack that was named first, or DMM_MAX_STACKS. */
static __always_inline __u32 wanted_of(const struct choice *c)
{
	if (c->slot == NO_SLOT)
		return DMM_MAX_STACKS;
	if (c->found & DMM_MEMO_FIXED)
		return DMM_MEMO_STACK(c->found);
	return c->n_use ? c->use & 0xff : DMM_MAX_STACKS;
}

/* The name of the rule, as indices change meaning with the generation. Zeros: none, or it is gone
 * already. */
static __always_inline void rule_name(const struct choice *c, char *ret)
{
	struct dmm_rule_rec *r = NULL;
	void *image;

	if (c->rule < DMM_MAX_RULES && (image = image_of(c->slot)))
		r = (void *)cell_at(image, DMM_RULE_CELL + c->rule);
	if (r)
		__builtin_memcpy(ret, r->name, DMM_NAME_LEN);
	if (!r || !slot_was_whole(c))
		__builtin_memset(ret, 0, DMM_NAME_LEN);
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

static __always_inline const struct dmm_route *route_of(__u32 stack, const __u8 *ip)
{
	struct dmm_route_key key = {.plen = 32 + 128, .stack = stack};

	__builtin_memcpy(key.ip, ip, 16);
	return bpf_map_lookup_elem(&dmm_route, &key);
}

static __always_inline __u32 route_type(__u32 stack, const __u8 *ip)
{
	const struct dmm_route *r = route_of(stack, ip);

	return r ? r->type : DMM_ROUTE_OTHER;
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

/* What says how far packets of the socket may go, or come from: it would be the carrier's. A type
 * of service is, too, but who asks for one, as ssh does, only wishes for it. */
static __always_inline bool has_ttl(struct tcp_sock *tp)
{
	struct inet_sock *inet = &tp->inet_conn.icsk_inet;
	struct ipv6_pinfo *np;

	if (inet->uc_ttl != -1 || inet->min_ttl)
		return true;
	if (!bpf_core_field_exists(inet->pinet6))
		return false;
	np = inet->pinet6;
	return np && (BPF_CORE_READ_BITFIELD(np, hop_limit) != -1 || np->min_hopcount);
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
	if (has_ip_options(tp) || has_ttl(tp))
		return false;
	return !BPF_CORE_READ_BITFIELD(tp, repair);
}

#endif
