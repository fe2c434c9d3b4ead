// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life of a carrier, as sock_ops sees it, in the cgroups of groups and of instances; and
 * sk_msg, which moves bytes between the two ends of a spliced carrier.
 *
 * The connecting end publishes its tuple before its SYN leaves (CONNECT_CB), so that the accepting
 * end finds the flow (PASSIVE_ESTABLISHED_CB). An application's listener is announced to its
 * instance through dmm_listen and an event (LISTEN_CB), and withdrawn when it closes (STATE_CB).
 */
#include "bpf/dmm_match.bpf.h"
#include "bpf/dmm_monitor.bpf.h"

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, DMM_MAX_PAIRS);
	__type(key, __u64);
	__type(value, __u64);
} dmm_splice SEC(".maps");

static __always_inline void local_name(struct bpf_sock_ops *ctx, struct dmm_addr *ret)
{
	__u32 w0, w1, w2, w3;

	if (ctx->family == AF_INET) {
		addr_set_v4(ret, ctx->local_ip4, ctx->local_port);
		return;
	}
	/* one register for each word, as in dmm_connect6 */
	w0 = ctx->local_ip6[0];
	barrier_var(w0);
	w1 = ctx->local_ip6[1];
	barrier_var(w1);
	w2 = ctx->local_ip6[2];
	barrier_var(w2);
	w3 = ctx->local_ip6[3];
	barrier_var(w3);
	addr_set_v6(ret, w0, w1, w2, w3, ctx->local_port);
}

static __always_inline void remote_name(struct bpf_sock_ops *ctx, struct dmm_addr *ret)
{
	__u16 port = bpf_ntohl(ctx->remote_port);
	__u32 w0, w1, w2, w3;

	if (ctx->family == AF_INET) {
		addr_set_v4(ret, ctx->remote_ip4, port);
		return;
	}
	w0 = ctx->remote_ip6[0];
	barrier_var(w0);
	w1 = ctx->remote_ip6[1];
	barrier_var(w1);
	w2 = ctx->remote_ip6[2];
	barrier_var(w2);
	w3 = ctx->remote_ip6[3];
	barrier_var(w3);
	addr_set_v6(ret, w0, w1, w2, w3, port);
}

/* The connecting end's tuple: of its own socket, or of the accepting end turned round. */
static __always_inline void tuple_of(struct bpf_sock_ops *ctx, bool connecting,
				     struct dmm_tuple *ret)
{
	__builtin_memset(ret, 0, sizeof(*ret));
	ret->netns = bpf_get_netns_cookie(ctx);
	local_name(ctx, connecting ? &ret->src : &ret->dst);
	remote_name(ctx, connecting ? &ret->dst : &ret->src);
}

/* Ask for state changes. Never again not to: an accepted socket has what its listener asked for,
 * but another program on it may have asked as well, and that cannot be told apart. */
static __always_inline void watch_state(struct bpf_sock_ops *ctx)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* Carriers run on loopback, where bbr's pacing only costs. */
static __always_inline void carrier_settings(struct bpf_sock_ops *ctx)
{
	char cubic[] = "cubic";
	int rto_min_us = 8000; /* what the hold filter drops behind a handshake comes again soon */

	bpf_setsockopt(ctx, SOL_TCP, TCP_CONGESTION, cubic, sizeof(cubic));
	bpf_setsockopt(ctx, SOL_TCP, TCP_BPF_RTO_MIN, &rto_min_us, sizeof(rto_min_us));
}

/*
 * The application has given up, or its kernel has: the instance shall not go on. Which thread's it
 * is only that knows. As for SYNs, the last part of a ring is kept for listeners: what is not told
 * the instance finds by its clock.
 */
static __always_inline void event_left(const struct dmm_flow *flow, const struct dmm_tuple *t)
{
	struct dmm_event *ev;
	void *ring;

	for (__u32 thread = 0; thread < DMM_MAX_THREADS; thread++) {
		__u32 index = DMM_EVENTS_INDEX(flow->stack, thread);

		ring = bpf_map_lookup_elem(&dmm_events, &index);
		if (!ring)
			return;
		if (bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) >= DMM_EVENT_RING_FULL)
			continue;
		ev = bpf_ringbuf_reserve(ring, sizeof(*ev), 0);
		if (!ev)
			continue;
		__builtin_memset(ev, 0, sizeof(*ev));
		ev->type = DMM_EV_LEFT;
		ev->tuple = *t;
		ev->flow = *flow;
		bpf_ringbuf_submit(ev, 0);
	}
}

static __always_inline void forget(struct bpf_sock_ops *ctx, __u64 cookie,
				   const struct dmm_flow *flow)
{
	struct dmm_tuple t;

	tuple_of(ctx, true, &t);
	if (flow && flow->role == DMM_ROLE_CLIENT && ctx->args[0] == TCP_SYN_SENT)
		event_left(flow, &t);
	bpf_map_delete_elem(&dmm_tuple, &t);
	bpf_map_delete_elem(&dmm_pending, &cookie);
}

static __always_inline bool nonblocking(struct sock *sk)
{
	return sk && (BPF_CORE_READ(sk, sk_socket, file, f_flags) & O_NONBLOCK);
}

/*
 * A socket that splice would not change: it never blocks in recv(), and has no option that a
 * message which did not come by TCP would miss. Only asked for rules that want splice.
 */
static __always_inline bool splice_gate(struct tcp_sock *tp, struct sock *owner)
{
	struct sock *sk = (struct sock *)tp;

	if (!nonblocking(owner))
		return false;
	if (BPF_CORE_READ(sk, __sk_common.skc_flags) &
	    1UL << bpf_core_enum_value(enum sock_flags, SOCK_ZEROCOPY))
		return false;
	if (BPF_CORE_READ_BITFIELD_PROBED(tp, recvmsg_inq))
		return false;
	return BPF_CORE_READ(sk, sk_rcvlowat) <= 1 && BPF_CORE_READ(sk, sk_peek_off) < 0;
}

/* Connected to where the carrier listeners are: 127.0.0.1, also v4-mapped, or ::1. */
static __always_inline bool to_loopback(struct bpf_sock_ops *ctx)
{
	__u32 w2;

	if (ctx->family == AF_INET)
		return ctx->remote_ip4 == bpf_htonl(0x7f000001);
	w2 = ctx->remote_ip6[2];
	barrier_var(w2);
	return ctx->remote_ip6[3] == bpf_htonl(w2 ? 0x7f000001 : 1);
}

/* An application's socket says itself whether it is a carrier: the others pay for no map look-up,
 * and those that go to another host not even for that of their storage. */
static __always_inline bool may_be_carrier(struct bpf_sock_ops *ctx, bool instance)
{
	struct bpf_sock *sk = ctx->sk;
	struct dmm_sock *st;

	if (instance)
		return true;
	if (!to_loopback(ctx))
		return false;
	st = sk ? bpf_sk_storage_get(&dmm_sock, sk, NULL, 0) : NULL;
	return st && (st->flags & DMM_SF_PENDING);
}

static __always_inline void on_connect(struct bpf_sock_ops *ctx, bool instance)
{
	struct dmm_tuple t;
	__u64 cookie;

	if (!may_be_carrier(ctx, instance))
		return;
	cookie = bpf_get_socket_cookie(ctx);
	if (!bpf_map_lookup_elem(&dmm_pending, &cookie))
		return;
	tuple_of(ctx, true, &t);
	if (bpf_map_update_elem(&dmm_tuple, &t, &cookie, BPF_ANY))
		count(DMM_C_TUPLE_FAIL);
	watch_state(ctx);
	carrier_settings(ctx);
}

static __always_inline void on_active(struct bpf_sock_ops *ctx, bool instance)
{
	struct bpf_sock *sk = ctx->sk;
	struct dmm_flow *flow;
	struct dmm_sock *st;
	struct tcp_sock *tp;
	__u64 cookie;

	if (!may_be_carrier(ctx, instance))
		return;
	cookie = bpf_get_socket_cookie(ctx);
	flow = bpf_map_lookup_elem(&dmm_pending, &cookie);
	if (!flow || !sk)
		return;
	count(DMM_C_ACTIVE_CARRIER);
	st = bpf_sk_storage_get(&dmm_sock, sk, NULL,
				flow->role == DMM_ROLE_SERVER ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	if (!st)
		return;
	if (flow->role == DMM_ROLE_SERVER) {
		st->flags = DMM_SF_INSTANCE;
		st->cookie = cookie;
		st->stack = flow->stack;
	} else {
		st->local = flow->local;
		st->congestion = flow->congestion;
		st->flags |= DMM_SF_CARRIER;
	}
	if (flow->carrier != DMM_CARRIER_SPLICE)
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || !splice_gate(tp, (struct sock *)tp)) {
		count(DMM_C_SPLICE_GATED);
		return;
	}
	flow->kernel_sk = (__u64)tp;
	if (bpf_sock_hash_update(ctx, &dmm_splice, &cookie, BPF_ANY))
		count(DMM_C_SPLICE_FAIL);
	else
		flow->gated = 1;
}

/* Join the two ends. `owner` is the socket whose descriptor tells whether the accepting end blocks.
 */
static __always_inline void splice_join(struct bpf_sock_ops *ctx, struct dmm_flow *flow,
					__u64 cookie, struct sock *owner)
{
	struct dmm_pair mine = {}, theirs = {};
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;
	__u64 peer = flow->cookie;

	tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	if (!tp || !splice_gate(tp, owner)) {
		count(DMM_C_SPLICE_GATED);
		return;
	}
	if (bpf_sock_hash_update(ctx, &dmm_splice, &cookie, BPF_ANY)) {
		count(DMM_C_SPLICE_FAIL);
		return;
	}
	mine.peer = peer;
	mine.peer_sk = flow->kernel_sk;
	theirs.peer = cookie;
	theirs.peer_sk = (__u64)tp;
	watch_state(ctx);
	if (bpf_map_update_elem(&dmm_pair, &cookie, &mine, BPF_ANY) ||
	    bpf_map_update_elem(&dmm_pair, &peer, &theirs, BPF_ANY))
		count(DMM_C_SPLICE_FAIL);
	else
		count(DMM_C_SPLICE_PAIRED);
}

/* Why did a connection not come through the instance of its listener? */
static __always_inline __u32 why_plain(__u64 listener)
{
	struct dmm_listener *l = bpf_map_lookup_elem(&dmm_listen, &listener);

	return l && l->off ? l->off : DMM_REASON_NO_ROUTE;
}

static __always_inline void count_server(const struct dmm_sock *st)
{
	__u32 stack = st->stack % DMM_MAX_STACKS, reason = st->reason % DMM_REASON_SPACE;

	count_verdict(stack, DMM_ROLE_SERVER, reason);
	count_fallback(st->wanted, stack, reason);
}

/* A connection that reached a managed listener by the kernel's own path. */
static __always_inline void on_plain_accept(struct bpf_sock_ops *ctx, struct dmm_sock *st)
{
	struct sock *listener = (struct sock *)st->kernel_sk;

	if (st->carrier == DMM_CARRIER_NONE && listener) /* the one setting that is not inherited */
		set_u32(ctx, SOL_SOCKET, SO_PRIORITY, BPF_CORE_READ(listener, sk_priority));
	st->flags = 0;
	st->kernel_sk = 0;
	st->since_ns = bpf_ktime_get_ns();
	if (st->carrier != DMM_CARRIER_NONE) {
		/* the listener is an instance's, this peer came another way */
		st->carrier = DMM_CARRIER_NONE;
		st->stack = DMM_STACK_KERNEL;
		st->reason = why_plain(st->cookie); /* so far it is the listener's */
	}
	st->cookie = bpf_get_socket_cookie(ctx);
	local_name(ctx, &st->local);
	remote_name(ctx, &st->remote);
	count_server(st);
	monitor_tell(st);
}

static __always_inline void on_passive(struct bpf_sock_ops *ctx, bool instance)
{
	struct dmm_flow *flow = NULL;
	struct bpf_sock *sk = ctx->sk;
	__u64 *connecting, cookie;
	struct sock *owner = NULL;
	struct dmm_sock *st;
	struct dmm_tuple t;

	if (!sk)
		return;
	tuple_of(ctx, false, &t);
	connecting = bpf_map_lookup_elem(&dmm_tuple, &t);
	if (connecting)
		flow = bpf_map_lookup_elem(&dmm_pending, connecting);
	if (flow && flow->role != (instance ? DMM_ROLE_CLIENT : DMM_ROLE_SERVER))
		flow = NULL;
	st = bpf_sk_storage_get(&dmm_sock, sk, NULL, flow ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	if (!flow) {
		if (connecting) /* of a connection that is over */
			bpf_map_delete_elem(&dmm_tuple, &t);
		if (st && st->cookie == bpf_get_socket_cookie(ctx))
			return; /* these programs are attached above as well, and have seen it */
		if (st && !instance)
			on_plain_accept(ctx, st);
		else if (st)
			st->flags = 0; /* a stranger's: not the listener's identity */
		return;
	}
	cookie = bpf_get_socket_cookie(ctx);
	count(DMM_C_PASSIVE_CARRIER);
	carrier_settings(ctx);
	if (st) {
		owner = (struct sock *)st->kernel_sk;
		st->kernel_sk = 0;
		st->cookie = cookie;
		st->since_ns = bpf_ktime_get_ns();
		st->flags = instance ? DMM_SF_INSTANCE : DMM_SF_CARRIER;
		st->remote = flow->remote;
		st->local = flow->local;
		st->congestion = flow->congestion;
		st->carrier = DMM_CARRIER_TCP;
		st->stack = flow->stack;
		if (!instance) {
			count_server(st);
			monitor_tell(st);
		}
	} else {
		count(DMM_C_STORAGE_FAIL);
	}
	if (flow->gated)
		splice_join(ctx, flow, cookie, owner);
	cookie = *connecting;
	bpf_map_delete_elem(&dmm_tuple, &t);
	bpf_map_delete_elem(&dmm_pending, &cookie);
}

/* Each thread of the instance listens. */
static __always_inline void event_listen(struct dmm_listener *l, __u32 type)
{
	struct dmm_event *ev;
	void *ring;

	for (__u32 thread = 0; thread < DMM_MAX_THREADS; thread++) {
		__u32 index = DMM_EVENTS_INDEX(l->stack, thread);

		ring = bpf_map_lookup_elem(&dmm_events, &index);
		if (!ring)
			return; /* there are no more; who starts reads dmm_listen */
		ev = bpf_ringbuf_reserve(ring, sizeof(*ev), 0);
		if (!ev) {
			count(DMM_C_EVENT_LOST);
			continue;
		}
		__builtin_memset(ev, 0, sizeof(*ev));
		ev->type = type;
		ev->listener = *l;
		bpf_ringbuf_submit(ev, 0);
	}
}

static __always_inline __u32 try_listen(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
					const struct selector *sel, __u32 id)
{
	__u32 reason;

	if (!socket_supported(sk))
		return DMM_REASON_UNSUPPORTED;
	if (!instance_ready(id, bpf_get_netns_cookie(ctx), &reason))
		return reason;
	if (!ip_is_any(sel->local.ip) && route_type(id, sel->local.ip) != DMM_ROUTE_LOCAL)
		return DMM_REASON_NO_ROUTE;
	return DMM_REASON_RULE;
}

/* Walks the list for a listener, as walk_step of dmm_sock.bpf.c does for a connect(). */
struct listen_walk {
	struct bpf_sock_ops *ctx;
	struct bpf_sock *sk;
	struct selector *sel;
	struct choice *choice;
	__u32 why, stack, instance;
	bool priority; /* the kernel stack has one */
};

static long listen_step(__u32 i, void *data)
{
	struct listen_walk *k = data;
	struct dmm_stack_rec *rec;
	__u32 id, r;

	if (i >= k->choice->n_use)
		return 1;
	id = k->choice->use >> (8 * i) & 0xff;
	if (id >= DMM_MAX_STACKS)
		return 0;
	rec = stack_of(k->choice->slot, id);
	if (!rec)
		return 0;
	k->stack = id;
	if (stack_off(id)) {
		r = DMM_REASON_ADMIN_OFF;
		goto next;
	}
	if (rec->kind == DMM_KIND_KERNEL) {
		kernel_settings(k->ctx, rec); /* accepted sockets inherit them */
		k->priority = rec->priority;
		return 1;
	}
	/* a listen() that has succeeded cannot be refused any more: reject is for clients */
	r = rec->kind == DMM_KIND_USERSPACE ? try_listen(k->ctx, k->sk, k->sel, id)
					    : DMM_REASON_UNSUPPORTED;
	k->instance = r == DMM_REASON_RULE;
	if (k->instance)
		return 1;
next:
	if (k->why == k->choice->why)
		k->why = r;
	k->stack = DMM_STACK_KERNEL;
	return 0;
}

/* What the kernel answers with, and accepted sockets inherit. */
static __always_inline void listener_tos(const struct inet_sock *inet, struct dmm_listener *l)
{
	l->tos = inet->tos;
	if (bpf_core_field_exists(inet->pinet6) && inet->pinet6)
		l->tclass = inet->pinet6->tclass;
}

/* Not inlined: the search for the rule has had the same part of the stack. */
static __noinline void announce(struct bpf_sock_ops *ctx, struct bpf_sock *sk, struct dmm_sock *st,
				__u32 carrier, __u32 congestion)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct dmm_listener l = {};

	l.local = st->local;
	l.cookie = st->cookie;
	l.netns = bpf_get_netns_cookie(ctx);
	l.stack = st->stack;
	l.group = st->group;
	l.carrier = carrier;
	l.congestion = congestion;
	l.family = ctx->family == AF_INET ? 4 : 6;
	l.nonblock = nonblocking((struct sock *)tp);
	if (tp) {
		listener_tos(&tp->inet_conn.icsk_inet, &l);
		l.v6only = BPF_CORE_READ_BITFIELD_PROBED((struct sock_common *)tp, skc_ipv6only);
	}
	if (bpf_map_update_elem(&dmm_listen, &st->cookie, &l, BPF_ANY)) {
		count(DMM_C_LISTEN_FULL);
		st->stack = DMM_STACK_KERNEL;
		st->carrier = DMM_CARRIER_NONE;
		st->reason = DMM_REASON_MAP_FULL;
		return;
	}
	st->kernel_sk = (__u64)tp;
	st->flags = DMM_SF_LISTEN;
	watch_state(ctx);
	event_listen(&l, DMM_EV_LISTEN);
}

/* sock_ops has no helper for the current process, but listen() is a system call of one. */
static __always_inline void listener_process(struct dmm_sock *st)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	st->pid = BPF_CORE_READ(task, tgid);
	BPF_CORE_READ_STR_INTO(&st->comm, task, comm);
}

static __always_inline void on_listen(struct bpf_sock_ops *ctx, const struct dmm_cgroup_val *cg)
{
	struct bpf_sock *sk = ctx->sk;
	struct listen_walk k = {};
	struct selector sel = {};
	struct choice c = {};
	struct dmm_sock *st;

	count(DMM_C_LISTENS);
	if (!sk)
		return;
	local_name(ctx, &sel.local);
	sel.group = cg->group;
	sel.role = DMM_ROLE_SERVER;
	sel.proto = IPPROTO_TCP;
	c.cookie = bpf_get_socket_cookie(ctx);
	if (!choose(&sel, &c)) {
		count_verdict(DMM_STACK_KERNEL, DMM_ROLE_SERVER, c.why);
		count_fallback(DMM_MAX_STACKS, DMM_STACK_KERNEL, c.why);
		return;
	}
	st = bpf_sk_storage_get(&dmm_sock, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!st) {
		count(DMM_C_STORAGE_FAIL);
		return;
	}
	if (st->flags & DMM_SF_PENDING) /* it was a client before, whose SYN never left */
		bpf_map_delete_elem(&dmm_pending, &st->cookie);
	__builtin_memset(st, 0, sizeof(*st));
	k.ctx = ctx;
	k.sk = sk;
	k.sel = &sel;
	k.choice = &c;
	k.why = c.why;
	if (cg->flags & DMM_CG_OFF)
		k.why = DMM_REASON_ADMIN_OFF;
	else if (c.keep)
		k.why = c.keep;
	else
		bpf_loop(DMM_MAX_USE, listen_step, &k, 0);
	st->generation = c.generation;
	st->cookie = c.cookie;
	st->since_ns = bpf_ktime_get_ns();
	st->rule = c.rule;
	rule_name(&c, st->rule_name);
	st->stack = k.stack;
	st->reason = k.why;
	st->role = DMM_ROLE_SERVER;
	st->group = cg->group;
	st->proto = IPPROTO_TCP;
	st->wanted = wanted_of(&c);
	st->local = sel.local;
	listener_process(st);
	if (k.priority)
		st->kernel_sk = (__u64)bpf_skc_to_tcp_sock(sk);
	if (k.instance) {
		st->carrier = DMM_CARRIER_TCP;
		announce(ctx, sk, st, c.carrier, c.congestion);
	}
	count_server(st);
	monitor_tell(st);
}

/* A connecting end that gave up, a listener that closed, a spliced socket that ended. */
static __always_inline void on_close(struct bpf_sock_ops *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct bpf_sock *sk = ctx->sk;
	struct dmm_listener *l, gone;
	struct dmm_flow *flow;
	struct dmm_sock *st;

	bpf_map_delete_elem(&dmm_pair, &cookie);
	flow = bpf_map_lookup_elem(&dmm_pending, &cookie);
	if (ctx->args[0] == TCP_SYN_SENT || flow)
		forget(ctx, cookie, flow);
	if (ctx->args[0] != TCP_LISTEN || !sk)
		return;
	st = bpf_sk_storage_get(&dmm_sock, sk, NULL, 0);
	if (!st || !(st->flags & DMM_SF_LISTEN))
		return;
	l = bpf_map_lookup_elem(&dmm_listen, &cookie);
	if (!l)
		return;
	gone = *l;
	bpf_map_delete_elem(&dmm_listen, &cookie);
	event_listen(&gone, DMM_EV_UNLISTEN);
}

/* Only an instance's own listeners carry this mark, and of which stack it is they know before: see
 * listener_alive(). */
static __always_inline void on_instance_listen(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct dmm_sock *st;
	struct tcp_sock *tp;

	st = sk ? bpf_sk_storage_get(&dmm_sock, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
	if (!st)
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	st->flags = DMM_SF_INSTANCE;
	st->kernel_sk = (__u64)tp;
}

/* Called several times for each connection: what is not ours ends first. */
static __always_inline bool op_is_ours(__u32 op)
{
	return op == BPF_SOCK_OPS_TCP_CONNECT_CB || op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB ||
	       op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB || op == BPF_SOCK_OPS_TCP_LISTEN_CB ||
	       op == BPF_SOCK_OPS_STATE_CB;
}

SEC("sockops")
int dmm_sockops(struct bpf_sock_ops *ctx)
{
	struct dmm_cgroup_val *cg;
	bool instance;

	if (!op_is_ours(ctx->op))
		return 1;
	cg = bpf_get_local_storage(&dmm_cgroup, 0);
	instance = cg->flags & DMM_CG_INSTANCE;
	/* attached, but not in force yet, or not any more: only what is a carrier already */
	if (!instance && cg->group == DMM_GROUP_NONE && ctx->op == BPF_SOCK_OPS_TCP_LISTEN_CB)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		on_connect(ctx, instance);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		on_active(ctx, instance);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		on_passive(ctx, instance);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		if (instance)
			on_instance_listen(ctx);
		else
			on_listen(ctx, cg);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == TCP_CLOSE)
			on_close(ctx);
		break;
	}
	return 1;
}

/* Above this the receiver has enough to do: TCP's window holds the sender back. */
#define SPLICE_RMEM_MAX (1 << 20)
/* Smaller messages go by sk_msg only to a receiver that has read everything: each costs about
 * 1 KiB of kernel memory whatever its size. */
#define SPLICE_QUEUE_MIN (16 << 10)

static __always_inline bool splice_room(struct tcp_sock *peer, __u32 size)
{
	int rmem = BPF_CORE_READ((struct sock *)peer, sk_backlog.rmem_alloc.counter);

	return rmem == 0 || (size >= SPLICE_QUEUE_MIN && rmem < SPLICE_RMEM_MAX);
}

/*
 * From an application to its instance. Redirect a message when every byte that went by TCP has been
 * read: the receiver drains redirected data first, so anything else would overtake. A message that
 * is passed is TCP's, always right.
 */
SEC("sk_msg")
int dmm_msg(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct dmm_pair *pair, *other;
	struct tcp_sock *me, *peer;
	struct dmm_sock *st;
	__u32 size = msg->size;
	__u64 key;

	st = sk ? bpf_sk_storage_get(&dmm_sock, sk, NULL, 0) : NULL;
	me = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	if (!st || !me)
		return SK_PASS;
	/* Towards the application never: it would see two queues, and a short read would no longer
	 * mean that there is nothing more (which users of EPOLLET rely on). */
	if (st->flags & DMM_SF_INSTANCE)
		return SK_PASS;
	key = st->cookie;
	pair = bpf_map_lookup_elem(&dmm_pair, &key);
	if (!pair) {
		count(DMM_C_MSG_PASS_PEER);
		return SK_PASS;
	}
	peer = (struct tcp_sock *)pair->peer_sk;
	/* kTLS would hand its plaintext here, and reads what sk_msg brings as if it were decrypted
	 */
	if (me->inet_conn.icsk_ulp_ops || BPF_CORE_READ(peer, inet_conn.icsk_ulp_ops)) {
		count(DMM_C_MSG_PASS_PEER);
		return SK_PASS;
	}
	if (me->write_seq != BPF_CORE_READ(peer, copied_seq)) {
		count(DMM_C_MSG_PASS_DRAIN);
		return SK_PASS;
	}
	if (!splice_room(peer, size) || BPF_CORE_READ((struct sock *)peer, sk_rcvlowat) > 1) {
		count(DMM_C_MSG_PASS_MEM);
		return SK_PASS;
	}
	key = pair->peer;
	if (bpf_msg_redirect_hash(msg, &dmm_splice, &key, BPF_F_INGRESS) != SK_PASS) {
		count(DMM_C_MSG_PASS_PEER);
		return SK_PASS;
	}
	count(DMM_C_MSG_REDIRECT);
	__sync_fetch_and_add(&pair->tx, size);
	other = bpf_map_lookup_elem(&dmm_pair, &key);
	if (other)
		__sync_fetch_and_add(&other->rx, size);
	return SK_PASS;
}
