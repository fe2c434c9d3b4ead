// SPDX-License-Identifier: GPL-2.0-only
/*
 * The cgroup hooks of a group. connect4/6 decide: they walk the rule's list, keep the verdict in
 * socket storage and, for an instance, rewrite the destination to its carrier listener. The name
 * hooks tell the application the addresses that it would see without DMM. sock_release forgets a
 * connect that never sent its SYN.
 */
#include "bpf/dmm_match.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/*
 * What connect4 and connect6 have in common. On the stack and not in a per-CPU map: these hooks can
 * be preempted by another task's connect() on the same CPU.
 */
struct work {
	struct selector sel;
	struct choice choice;
	struct dmm_flow flow;
};

enum outcome { GO_UNDECIDED, GO_KERNEL, GO_INSTANCE, GO_REFUSED };

/* One walk through a rule's list of stacks. */
struct walk {
	struct bpf_sock_addr *ctx;
	struct dmm_sock *st;
	struct work *w;
	__u32 why; /* the reason to give: the rule's, or why its first stack was passed over */
	enum outcome outcome;
	__u16 port;	/* carrier listener to go to */
	__u8 tcp;	/* a TCP socket */
	__u8 reachable; /* the destination is one that an instance may have a route to */
	__u8 v4;
	__u8 bound; /* the application chose its address */
};

/* The carrier listener must be the instance's own: only that has a storage that says so. */
static __always_inline bool listener_alive(struct bpf_sock_addr *ctx, bool v4, __u16 port)
{
	struct bpf_sock_tuple t = {};
	struct dmm_sock *st;
	struct bpf_sock *l;
	bool ok = false;

	if (v4) {
		t.ipv4.daddr = bpf_htonl(0x7f000001);
		t.ipv4.dport = bpf_htons(port);
		l = bpf_sk_lookup_tcp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		t.ipv6.daddr[3] = bpf_htonl(1);
		t.ipv6.dport = bpf_htons(port);
		l = bpf_sk_lookup_tcp(ctx, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!l)
		return false;
	if (l->state == TCP_LISTEN) {
		st = bpf_sk_storage_get(&dmm_sock, l, NULL, 0);
		ok = st && (st->flags & DMM_SF_INSTANCE);
	}
	bpf_sk_release(l);
	return ok;
}

/*
 * Can instance `id` carry this connect()? Returns the reason why not, or DMM_REASON_RULE with the
 * connection recorded in dmm_pending and k->port the carrier listener to go to.
 */
static __always_inline __u32 try_instance(struct walk *k, __u32 id)
{
	struct bpf_sock *sk = k->ctx->sk;
	struct dmm_sock *st = k->st;
	struct work *w = k->w;
	struct dmm_stack_rt *rt;
	__u32 reason;

	if (!k->tcp || !sk || !socket_supported(sk))
		return DMM_REASON_UNSUPPORTED;
	rt = instance_ready(id, bpf_get_netns_cookie(k->ctx), &reason);
	if (!rt)
		return reason;
	if (!k->reachable || route_type(id, w->sel.remote.ip) != DMM_ROUTE_VIA)
		return DMM_REASON_NO_ROUTE;
	if (k->bound && (ip_is_v4(w->sel.local.ip) != k->v4 ||
			 route_type(id, w->sel.local.ip) != DMM_ROUTE_LOCAL))
		return DMM_REASON_UNSUPPORTED;
	k->port = k->v4 ? rt->port4 : rt->port6;
	if (!k->port)
		return DMM_REASON_NO_LISTENER;
	if (!listener_alive(k->ctx, k->v4, k->port))
		return DMM_REASON_STACK_DOWN;
	w->flow.remote = w->sel.remote;
	w->flow.local = w->sel.local;
	w->flow.cookie = st->cookie;
	w->flow.since_ns = st->since_ns;
	w->flow.rule = w->choice.rule;
	w->flow.stack = id;
	w->flow.group = w->sel.group;
	w->flow.carrier = w->choice.carrier;
	w->flow.role = DMM_ROLE_CLIENT;
	if (bpf_map_update_elem(&dmm_pending, &st->cookie, &w->flow, BPF_ANY))
		return DMM_REASON_MAP_FULL;
	st->flags |= DMM_SF_PENDING;
	st->carrier = DMM_CARRIER_TCP;
	return DMM_REASON_RULE;
}

/* A fresh verdict in the socket's storage; a socket that connects again starts anew. */
static __always_inline void verdict_init(struct bpf_sock_addr *ctx, struct dmm_sock *st,
					 struct work *w)
{
	if (st->flags & DMM_SF_PENDING)
		bpf_map_delete_elem(&dmm_pending, &st->cookie);
	__builtin_memset(st, 0, sizeof(*st));
	st->cookie = bpf_get_socket_cookie(ctx);
	st->since_ns = bpf_ktime_get_ns();
	st->role = DMM_ROLE_CLIENT;
	st->group = w->sel.group;
	st->proto = w->sel.proto;
	st->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(st->comm, sizeof(st->comm));
	st->remote = w->sel.remote;
}

static __always_inline void verdict_set(struct dmm_sock *st, struct work *w, __u32 stack,
					__u32 reason)
{
	st->stack = stack;
	st->reason = reason;
	st->rule = w->choice.rule;
	st->generation = w->choice.generation;
	__builtin_memcpy(st->rule_name, w->choice.name, DMM_NAME_LEN);
	count_verdict(stack, DMM_ROLE_CLIENT, reason);
}

static __always_inline long walk_end(struct walk *k, __u32 stack, __u32 reason, enum outcome o)
{
	verdict_set(k->st, k->w, stack, reason);
	k->outcome = o;
	return 1;
}

/* bpf_loop and not a loop of C: the verifier then looks at one stack, not at every combination. */
static long walk_step(__u32 i, void *data)
{
	struct walk *k = data;
	struct dmm_stack_rec *rec;
	__u32 id, r;

	if (i >= k->w->choice.n_use)
		return 1;
	id = k->w->choice.use >> (8 * i) & 0xff;
	if (id >= DMM_MAX_STACKS)
		return 0;
	rec = stack_of(&k->w->choice, id);
	if (!rec)
		return 0;
	if (rec->kind == DMM_KIND_KERNEL) {
		kernel_settings(k->ctx, rec);
		return walk_end(k, id, k->why, GO_KERNEL);
	}
	if (rec->kind == DMM_KIND_REJECT)
		return walk_end(k, id, DMM_REASON_REJECTED, GO_REFUSED);
	if (rec->kind != DMM_KIND_USERSPACE)
		return 0;
	r = try_instance(k, id);
	if (r == DMM_REASON_RULE)
		return walk_end(k, id, k->why, GO_INSTANCE);
	if (k->why == DMM_REASON_RULE || k->why == DMM_REASON_DEFAULT)
		k->why = r;
	return 0;
}

static __always_inline enum outcome decide(struct bpf_sock_addr *ctx, struct dmm_sock *st,
					   struct work *w, __u16 *ret_port)
{
	struct walk k = {
		.ctx = ctx,
		.st = st,
		.w = w,
		.why = w->choice.rule == DMM_RULE_NONE ? DMM_REASON_DEFAULT : DMM_REASON_RULE,
		.v4 = ip_is_v4(w->sel.remote.ip),
		.bound = !ip_is_any(w->sel.local.ip),
		.reachable = !ip_is_special(w->sel.remote.ip) && w->sel.remote.port,
	};
	__u32 id;

	k.tcp = w->sel.proto == IPPROTO_TCP && ctx->type == SOCK_STREAM;
	bpf_loop(DMM_MAX_USE, walk_step, &k, 0);
	if (k.outcome == GO_UNDECIDED) {
		if (k.why == DMM_REASON_RULE || k.why == DMM_REASON_DEFAULT)
			k.why = DMM_REASON_INTERNAL;
		/* strict: refused, on the account of the stack that was wanted */
		id = w->choice.strict ? w->choice.use & 0xff : DMM_STACK_KERNEL;
		verdict_set(st, w, id < DMM_MAX_STACKS ? id : DMM_STACK_KERNEL, k.why);
		k.outcome = w->choice.strict ? GO_REFUSED : GO_KERNEL;
	}
	*ret_port = k.port;
	return k.outcome;
}

static __always_inline enum outcome on_connect(struct bpf_sock_addr *ctx, struct work *w,
					       __u16 *ret_port, struct dmm_sock **ret_st)
{
	struct dmm_cgroup_val *cg = bpf_get_local_storage(&dmm_cgroup, 0);
	struct bpf_sock *sk = ctx->sk;
	struct dmm_sock *st;

	count(DMM_C_CONNECTS);
	if (!sk)
		return GO_KERNEL;
	st = bpf_sk_storage_get(&dmm_sock, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!st) {
		count(DMM_C_STORAGE_FAIL);
		count_verdict(DMM_STACK_KERNEL, DMM_ROLE_CLIENT, DMM_REASON_INTERNAL);
		return GO_KERNEL;
	}
	*ret_st = st;
	w->sel.group = cg->group;
	w->sel.role = DMM_ROLE_CLIENT;
	w->sel.proto = ctx->protocol;
	w->sel.local.port = sk->src_port;
	verdict_init(ctx, st, w);
	if (cg->group == DMM_GROUP_NONE || !choose(&w->sel, &w->choice)) {
		st->rule = DMM_RULE_NONE;
		st->reason = DMM_REASON_NOT_MANAGED;
		count_verdict(DMM_STACK_KERNEL, DMM_ROLE_CLIENT, DMM_REASON_NOT_MANAGED);
		return GO_KERNEL;
	}
	return decide(ctx, st, w, ret_port);
}

static __always_inline int refuse(const struct dmm_sock *st)
{
	/* reject speaks for the far side; strict says that there is no way to it */
	bpf_set_retval(st && st->reason == DMM_REASON_REJECTED ? -ECONNREFUSED : -ENETUNREACH);
	return 0;
}

SEC("cgroup/connect4")
int dmm_connect4(struct bpf_sock_addr *ctx)
{
	struct work work = {}, *w = &work;
	struct dmm_sock *st = NULL;
	struct bpf_sock *sk;
	enum outcome o;
	__u16 port = 0;

	sk = ctx->sk;
	if (!sk)
		return 1;
	addr_set_v4(&w->sel.remote, ctx->user_ip4, bpf_ntohs(ctx->user_port));
	addr_set_v4(&w->sel.local, sk->src_ip4, 0);
	o = on_connect(ctx, w, &port, &st);
	if (o == GO_REFUSED)
		return refuse(st);
	if (o == GO_INSTANCE && st) {
		addr_set_v4(&st->via, bpf_htonl(0x7f000001), port);
		ctx->user_ip4 = bpf_htonl(0x7f000001);
		ctx->user_port = bpf_htons(port);
	}
	return 1;
}

SEC("cgroup/connect6")
int dmm_connect6(struct bpf_sock_addr *ctx)
{
	__u32 a0 = ctx->user_ip6[0], a1, a2, a3;
	struct work work = {}, *w = &work;
	struct dmm_sock *st = NULL;
	struct bpf_sock *sk;
	enum outcome o;
	__u16 port = 0;

	/* each word through a register of its own: clang else merges the accesses into a pointer
	 * that the verifier refuses */
	barrier_var(a0);
	a1 = ctx->user_ip6[1];
	barrier_var(a1);
	a2 = ctx->user_ip6[2];
	barrier_var(a2);
	a3 = ctx->user_ip6[3];
	barrier_var(a3);
	sk = ctx->sk;
	if (!sk)
		return 1;
	addr_set_v6(&w->sel.remote, a0, a1, a2, a3, bpf_ntohs(ctx->user_port));
	a0 = sk->src_ip6[0];
	barrier_var(a0);
	a1 = sk->src_ip6[1];
	barrier_var(a1);
	a2 = sk->src_ip6[2];
	barrier_var(a2);
	a3 = sk->src_ip6[3];
	barrier_var(a3);
	addr_set_v6(&w->sel.local, a0, a1, a2, a3, 0);
	o = on_connect(ctx, w, &port, &st);
	if (o == GO_REFUSED)
		return refuse(st);
	if (o != GO_INSTANCE || !st)
		return 1;
	ctx->user_ip6[0] = 0;
	ctx->user_ip6[1] = 0;
	if (ip_is_v4(w->sel.remote.ip)) {
		addr_set_v4(&st->via, bpf_htonl(0x7f000001), port);
		ctx->user_ip6[2] = bpf_htonl(0xffff);
		ctx->user_ip6[3] = bpf_htonl(0x7f000001);
	} else {
		addr_set_v6(&st->via, 0, 0, 0, bpf_htonl(1), port);
		ctx->user_ip6[2] = 0;
		ctx->user_ip6[3] = bpf_htonl(1);
	}
	ctx->user_port = bpf_htons(port);
	return 1;
}

/*
 * The name to tell, or NULL to leave the kernel's. Only for a socket that is connected to where it
 * was sent: after connect(AF_UNSPEC) there is no destination port, and the kernel's answer is true.
 */
static __always_inline const struct dmm_addr *name_of(struct bpf_sock_addr *ctx, bool peer)
{
	struct bpf_sock *sk = ctx->sk;
	struct dmm_flow *flow;
	struct dmm_sock *st;

	if (!sk || !sk->dst_port)
		return NULL;
	st = bpf_sk_storage_get(&dmm_sock, sk, NULL, 0);
	if (!st || !(st->flags & (DMM_SF_CARRIER | DMM_SF_PENDING)))
		return NULL;
	if (st->via.port && sk->dst_port != bpf_htons(st->via.port))
		return NULL;
	if (peer)
		return &st->remote;
	if (st->local.port)
		return &st->local;
	/* still connecting: the engine may have chosen already */
	flow = bpf_map_lookup_elem(&dmm_pending, &st->cookie);
	return flow && flow->local.port ? &flow->local : NULL;
}

static __always_inline int tell4(struct bpf_sock_addr *ctx, bool peer)
{
	const struct dmm_addr *a = name_of(ctx, peer);

	if (a) {
		ctx->user_ip4 = *(const __u32 *)&a->ip[12];
		ctx->user_port = bpf_htons(a->port);
	}
	return 1;
}

static __always_inline int tell6(struct bpf_sock_addr *ctx, bool peer)
{
	const struct dmm_addr *a = name_of(ctx, peer);
	const __u32 *w;

	if (!a)
		return 1;
	w = (const __u32 *)a->ip;
	ctx->user_ip6[0] = w[0];
	ctx->user_ip6[1] = w[1];
	ctx->user_ip6[2] = w[2];
	ctx->user_ip6[3] = w[3];
	ctx->user_port = bpf_htons(a->port);
	return 1;
}

SEC("cgroup/getpeername4")
int dmm_peername4(struct bpf_sock_addr *ctx)
{
	return tell4(ctx, true);
}

SEC("cgroup/getpeername6")
int dmm_peername6(struct bpf_sock_addr *ctx)
{
	return tell6(ctx, true);
}

SEC("cgroup/getsockname4")
int dmm_sockname4(struct bpf_sock_addr *ctx)
{
	return tell4(ctx, false);
}

SEC("cgroup/getsockname6")
int dmm_sockname6(struct bpf_sock_addr *ctx)
{
	return tell6(ctx, false);
}

/* Once the SYN has left, dmm_sockops (STATE) forgets: the accepting end may still ask for the flow.
 */
SEC("cgroup/sock_release")
int dmm_release(struct bpf_sock *sk)
{
	struct dmm_sock *st = bpf_sk_storage_get(&dmm_sock, sk, NULL, 0);

	if (st && (st->flags & DMM_SF_PENDING) && sk->state == TCP_CLOSE)
		bpf_map_delete_elem(&dmm_pending, &st->cookie);
	return 1;
}
