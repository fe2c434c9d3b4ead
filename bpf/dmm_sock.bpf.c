// SPDX-License-Identifier: GPL-2.0-only
/*
 * The cgroup hooks of a group. connect4/6 decide: they walk the rule's list, keep the verdict and,
 * for an instance, rewrite the destination to its carrier listener, or one of its UDP carriers. The
 * name hooks tell the application the addresses that it would see without DMM, and so do those of
 * recvmsg() for UDP. sock_release forgets connects that failed, and tells of UDP sockets.
 *
 * Much of it is in functions that are not static: the verifier looks at such a one once, and its
 * caller gets a number about which nothing is known, not one state for every combination. That
 * leaves it a ninth of the instructions to look at.
 */
#include "bpf/dmm_monitor.bpf.h"
#include "bpf/dmm_udp.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/*
 * What connect4 and connect6 have in common. On the stack and not in a per-CPU map: these hooks can
 * be preempted by another task's connect() on the same CPU.
 */
struct work {
	struct selector sel;
	struct choice choice;
	__u64 since_ns;
};

enum outcome { GO_UNDECIDED, GO_KERNEL, GO_INSTANCE, GO_REFUSED };

/* One walk through a rule's list of stacks. */
struct walk {
	struct bpf_sock_addr *ctx;
	struct work *w;
	__u32 why;   /* the reason to give: the rule's, or why its first stack was passed over */
	__u32 stack; /* what the socket gets */
	enum outcome outcome;
	bool kernel_own;     /* a socket of the kernel's own, as a subflow of MPTCP */
	bool fresh;	     /* a TCP socket that none of these programs has seen before */
	__u16 reject;	     /* enum dmm_reject */
	struct dmm_addr via; /* where to go instead: the carrier listener, or the UDP carrier */
};

/* The carrier listener must be that stack's instance's own: only that has a storage that says so.
 */
__noinline int listener_alive(struct bpf_sock_addr *ctx, __u32 v4, __u32 port, __u32 stack)
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
		ok = st && (st->flags & DMM_SF_INSTANCE) && st->stack == stack;
	}
	bpf_sk_release(l);
	return ok;
}

/* Does this end of a carrier belong to an open connection between the two ends of sel? */
static __always_inline bool same_connection(struct bpf_sock *sk, const struct selector *sel)
{
	struct dmm_sock *st = bpf_sk_storage_get(&dmm_sock, sk, NULL, 0);

	return st && addr_same(&st->remote, &sel->remote) &&
	       (sk->state == TCP_ESTABLISHED || sk->state == TCP_CLOSE_WAIT ||
		sk->state == TCP_SYN_SENT);
}

/*
 * A socket that was bound to a port can have one carrier at a time from there to each listener,
 * while its connections go to many addresses. Is there one, or its TIME-WAIT? That of the very
 * connection that is asked for does not count: at the carrier, too, connect() gets EADDRNOTAVAIL,
 * while the kernel's stack would send a SYN to a far side that has the connection.
 */
__noinline int carrier_taken(struct bpf_sock_addr *ctx, __u32 v4, const struct selector *sel,
			     __u32 port)
{
	struct bpf_sock_tuple t = {};
	const struct dmm_addr *local;
	struct bpf_sock *other;
	const __u32 *ip;
	bool taken;

	if (!sel)
		return false;
	local = &sel->local;
	ip = (const __u32 *)local->ip;
	if (v4) {
		t.ipv4.saddr = bpf_htonl(0x7f000001);
		t.ipv4.daddr = ip[3] ? ip[3] : bpf_htonl(0x7f000001);
		t.ipv4.sport = bpf_htons(port);
		t.ipv4.dport = bpf_htons(local->port);
		other = bpf_skc_lookup_tcp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		t.ipv6.saddr[3] = bpf_htonl(1);
		__builtin_memcpy(t.ipv6.daddr, ip, 16);
		if (ip_is_any(local->ip))
			t.ipv6.daddr[3] = bpf_htonl(1);
		t.ipv6.sport = bpf_htons(port);
		t.ipv6.dport = bpf_htons(local->port);
		other = bpf_skc_lookup_tcp(ctx, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!other)
		return false;
	taken = other->state != TCP_LISTEN && !same_connection(other, sel);
	bpf_sk_release(other);
	return taken;
}

/* The carrier listener to go to: in turn; from a port that was bound, as the far end says. */
static __always_inline __u16 carrier_port(const struct walk *k, const struct dmm_stack_rt *rt,
					  bool v4)
{
	const struct selector *sel = &k->w->sel;
	__u32 turn = sel->local.port ? sel->remote.port + sel->remote.ip[15]
				     : DMM_CARRIER_TURN(k->w->choice.cookie);

	turn %= DMM_CARRIER_PORTS;
	return v4 ? rt->port4[turn] : rt->port6[turn];
}

enum { ADDR_V4 = 1, ADDR_ANY = 2, ADDR_SPECIAL = 4 };

__noinline int addr_class(const struct dmm_addr *a)
{
	if (!a)
		return 0;
	return (ip_is_v4(a->ip) ? ADDR_V4 : 0) | (ip_is_any(a->ip) ? ADDR_ANY : 0) |
	       (ip_is_special(a->ip) ? ADDR_SPECIAL : 0);
}

/* Is there a carrier for this connection? */
static __always_inline __u32 try_tcp(struct walk *k, __u32 id, const struct dmm_stack_rt *rt,
				     bool v4)
{
	const struct selector *sel = &k->w->sel;
	__u16 port = carrier_port(k, rt, v4);

	if (!port)
		return DMM_REASON_NO_LISTENER;
	if (!listener_alive(k->ctx, v4, port, id))
		return DMM_REASON_STACK_DOWN;
	if (sel->local.port && carrier_taken(k->ctx, v4, sel, port))
		return DMM_REASON_UNSUPPORTED;
	if (v4)
		addr_set_v4(&k->via, bpf_htonl(0x7f000001), port);
	else
		addr_set_v6(&k->via, 0, 0, 0, bpf_htonl(1), port);
	return DMM_REASON_RULE;
}

/* The same of UDP: it goes to the address that the kernel would send from, so that its own end has
 * that. */
static __always_inline __u32 try_udp(struct walk *k, const struct dmm_route *route, bool any)
{
	const __u32 *w = (const __u32 *)(any ? route->source : k->w->sel.local.ip);

	addr_set_v6(&k->via, w[0], w[1], w[2], w[3], 0);
	if (addr_class(&k->via) & (ADDR_ANY | ADDR_SPECIAL)) /* a link-local one has a scope */
		return DMM_REASON_NO_ROUTE;
	return DMM_REASON_RULE;
}

/* The socket's part of try_instance(). */
__noinline int may_carry(struct bpf_sock_addr *ctx, __u32 proto)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return false;
	if (proto == IPPROTO_TCP)
		return ctx->type == SOCK_STREAM && socket_supported(sk);
	return proto == IPPROTO_UDP && ctx->type == SOCK_DGRAM &&
	       udp_supported(sk, (struct inet_sock *)address_of(sk));
}

static __always_inline __u32 announce(struct walk *k, __u32 id)
{
	const struct work *w = k->w;
	struct dmm_flow flow = {};
	__u32 carrier;

	flow.remote = w->sel.remote;
	flow.local = w->sel.local;
	flow.cookie = w->choice.cookie;
	flow.since_ns = w->since_ns;
	flow.stack = id;
	flow.group = w->sel.group;
	flow.role = DMM_ROLE_CLIENT;
	if (w->sel.proto == IPPROTO_UDP) {
		carrier = udp_take(id);
		if (!carrier)
			return DMM_REASON_MAP_FULL;
		k->via.port = DMM_UDP_PORT(carrier);
		flow.thread = DMM_UDP_THREAD(carrier);
		if (!udp_alive(k->ctx, &k->via, id))
			return DMM_REASON_STACK_DOWN;
		__builtin_memcpy(flow.local.ip, k->via.ip, 16);
		flow.carrier = DMM_CARRIER_UDP;
		flow.kernel_sk = address_of(k->ctx->sk);
		return udp_announce(k->ctx, &flow, k->via.port);
	}
	flow.carrier = w->choice.carrier;
	flow.measure = w->choice.measure;
	flow.congestion = w->choice.congestion;
	if (bpf_map_update_elem(&dmm_pending, &w->choice.cookie, &flow, BPF_ANY))
		return DMM_REASON_MAP_FULL;
	return DMM_REASON_RULE;
}

/*
 * Can instance `id` carry this connect()? Returns the reason why not, or DMM_REASON_RULE with the
 * connection recorded in dmm_pending, or dmm_udp, and k->via where to go.
 */
static __always_inline __u32 try_instance(struct walk *k, __u32 id)
{
	const struct work *w = k->w;
	int remote = addr_class(&w->sel.remote), local = addr_class(&w->sel.local);
	bool udp = w->sel.proto == IPPROTO_UDP;
	const struct dmm_route *route;
	struct dmm_stack_rt *rt;
	__u32 reason;

	if (!may_carry(k->ctx, w->sel.proto))
		return DMM_REASON_UNSUPPORTED;
	rt = instance_ready(id, bpf_get_netns_cookie(k->ctx), &reason);
	if (!rt)
		return reason;
	if (udp && !rt->udp)
		return DMM_REASON_UNSUPPORTED;
	route = route_of(id, w->sel.remote.ip);
	if (!w->sel.remote.port || (remote & ADDR_SPECIAL) || !route ||
	    route->type != DMM_ROUTE_VIA)
		return DMM_REASON_NO_ROUTE;
	/* the application chose its address */
	if (!(local & ADDR_ANY) &&
	    (((local ^ remote) & ADDR_V4) || route_type(id, w->sel.local.ip) != DMM_ROUTE_LOCAL))
		return DMM_REASON_UNSUPPORTED;
	reason = udp ? try_udp(k, route, local & ADDR_ANY) : try_tcp(k, id, rt, remote & ADDR_V4);
	if (reason != DMM_REASON_RULE)
		return reason;
	if (!bpf_sk_storage_get(&dmm_sock, k->ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE)) {
		count(DMM_C_STORAGE_FAIL);
		return DMM_REASON_INTERNAL;
	}
	k->fresh = false; /* whatever it gets now, it is told there */
	return announce(k, id);
}

static __always_inline long walk_end(struct walk *k, __u32 stack, __u32 reason, enum outcome o)
{
	k->stack = stack;
	k->why = reason;
	k->outcome = o;
	return 1;
}

__noinline int set_up(struct bpf_sock_addr *ctx, struct dmm_stack_rec *rec)
{
	if (rec)
		kernel_settings(ctx, rec);
	return 0;
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
	rec = stack_of(k->w->choice.slot, id);
	if (!rec)
		return 0;
	if (stack_off(id)) {
		r = DMM_REASON_ADMIN_OFF;
		goto next;
	}
	if (rec->kind == DMM_KIND_KERNEL) {
		set_up(k->ctx, rec);
		return walk_end(k, id, k->why, GO_KERNEL);
	}
	k->reject = rec->reject;
	if (rec->kind == DMM_KIND_REJECT)
		return walk_end(k, id, DMM_REASON_REJECTED, GO_REFUSED);
	if (rec->kind != DMM_KIND_USERSPACE)
		return 0;
	r = try_instance(k, id);
	if (r == DMM_REASON_RULE)
		return walk_end(k, id, k->why, GO_INSTANCE);
next:
	if (k->why == k->w->choice.why)
		k->why = r;
	return 0;
}

static __always_inline void decide(struct walk *k)
{
	const struct choice *c = &k->w->choice;
	__u32 id;

	bpf_loop(DMM_MAX_USE, walk_step, k, 0);
	if (k->outcome != GO_UNDECIDED)
		return;
	if (k->why == c->why)
		k->why = DMM_REASON_INTERNAL;
	/* strict: refused, on the account of the stack that was wanted */
	id = c->strict ? c->use & 0xff : DMM_STACK_KERNEL;
	k->stack = id < DMM_MAX_STACKS ? id : DMM_STACK_KERNEL;
	k->outcome = c->strict ? GO_REFUSED : GO_KERNEL;
}

/* ---- where the verdict is kept ---- */

static __always_inline void keep_in_storage(struct dmm_sock *st, const struct walk *k)
{
	const struct work *w = k->w;

	__builtin_memset(st, 0, sizeof(*st));
	st->generation = w->choice.generation;
	st->cookie = w->choice.cookie;
	st->since_ns = w->since_ns;
	st->rule = w->choice.rule;
	st->stack = k->stack;
	st->reason = k->why;
	st->role = DMM_ROLE_CLIENT;
	st->group = w->sel.group;
	st->proto = w->sel.proto;
	st->wanted = wanted_of(&w->choice);
	st->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(st->comm, sizeof(st->comm));
	rule_name(&w->choice, st->rule_name);
	st->remote = w->sel.remote;
	if (k->outcome != GO_INSTANCE)
		return;
	st->via = k->via;
	if (w->sel.proto == IPPROTO_UDP) {
		st->flags = DMM_SF_CARRIER | DMM_SF_UDP;
		st->carrier = DMM_CARRIER_UDP;
	} else {
		st->flags = DMM_SF_PENDING;
		st->carrier = DMM_CARRIER_TCP;
	}
}

/* Who had the same struct sock before is gone. */
static __always_inline bool plain_is_free(const struct dmm_plain *p, __u64 cookie, __u64 sk)
{
	__u64 owner = *(const volatile __u64 *)&p->sk;

	return cookie != DMM_PLAIN_BUSY && (!cookie || owner == sk || !plain_lives(owner, cookie));
}

/*
 * The index of a slot that is now this socket's to write: its own if it has one, which no fresh
 * socket has, else the first that is free. Behind one that was never used there is none in use that
 * is its own.
 */
__noinline __u32 plain_claim(__u64 sk, __u64 cookie, __u32 fresh)
{
	__u32 at, found = PLAIN_NO_SLOT;
	__u64 now, was = 0;
	struct dmm_plain *p;

	for (__u32 way = 0; way < DMM_PLAIN_WAYS; way++) {
		p = plain_way(sk, way, &at);
		if (!p)
			break;
		now = plain_cookie(p);
		if (now == cookie || (found == PLAIN_NO_SLOT && plain_is_free(p, now, sk))) {
			found = at;
			was = now;
		}
		if (now == cookie || now == 0 || (fresh && found != PLAIN_NO_SLOT))
			break;
	}
	p = bpf_map_lookup_elem(&dmm_plain, &found);
	if (!p || __sync_val_compare_and_swap(&p->cookie, was, DMM_PLAIN_BUSY) != was)
		return PLAIN_NO_SLOT; /* somebody was faster: storage will do */
	return found;
}

__noinline int plain_forget(__u64 sk, __u64 cookie)
{
	struct dmm_plain *p = plain_find(sk, cookie);

	if (p)
		p->sk = 0;
	return 0;
}

static __always_inline bool keep_in_slot(const struct walk *k)
{
	const struct work *w = k->w;
	struct dmm_plain *p;
	__u32 index;
	__u64 sk;

	if (k->kernel_own) /* its struct socket becomes another's */
		return false;
	sk = address_of(k->ctx->sk);
	index = plain_claim(sk, w->choice.cookie, k->fresh);
	p = bpf_map_lookup_elem(&dmm_plain, &index);
	if (!p)
		return false;
	p->sk = sk;
	p->generation = w->choice.generation;
	p->since_ns = w->since_ns;
	p->rule = w->choice.rule;
	p->stack = k->stack;
	p->reason = k->why;
	p->group = w->sel.group;
	p->proto = w->sel.proto;
	p->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(p->comm, sizeof(p->comm));
	__sync_lock_test_and_set(&p->cookie, w->choice.cookie);
	return true;
}

__noinline int count_client(__u32 stack, __u32 reason, __u32 wanted)
{
	count_verdict(stack % DMM_MAX_STACKS, DMM_ROLE_CLIENT, reason % DMM_REASON_SPACE);
	count_fallback(wanted, stack % DMM_MAX_STACKS, reason % DMM_REASON_SPACE);
	return 0;
}

static __always_inline void tell_monitor(const struct walk *k)
{
	struct dmm_monitor_slot *slot;
	__u64 seq;

	slot = monitor_begin(&seq);
	if (!slot)
		return;
	keep_in_storage(&slot->sock, k);
	monitor_end(slot, seq);
}

/* Storage that is there is used again: it holds what the socket got before. NULL: in a slot; but of
 * a socket that was refused nobody else knows where it wanted to go. */
static __always_inline struct dmm_sock *keep(const struct walk *k, struct bpf_sock *sk)
{
	struct dmm_sock *st = NULL;
	bool udp;

	count_client(k->stack, k->why, wanted_of(&k->w->choice));
	tell_monitor(k);
	if (!k->fresh || k->outcome == GO_INSTANCE)
		st = bpf_sk_storage_get(&dmm_sock, sk, NULL, 0);
	if (!st) {
		if (k->outcome != GO_REFUSED) {
			if (keep_in_slot(k))
				return NULL;
			count(DMM_C_PLAIN_FULL);
		}
		st = bpf_sk_storage_get(&dmm_sock, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	}
	if (!st) {
		count(DMM_C_STORAGE_FAIL);
		return NULL;
	}
	if (!k->fresh)
		plain_forget(address_of(sk), k->w->choice.cookie);     /* one of them is enough */
	if (k->outcome != GO_INSTANCE && (st->flags & DMM_SF_PENDING)) /* of the time before */
		bpf_map_delete_elem(&dmm_pending, &k->w->choice.cookie);
	udp = st->flags & DMM_SF_UDP;
	if (udp && k->outcome == GO_REFUSED) /* what it has it keeps */
		return st;
	if (udp)
		udp_leave(bpf_get_netns_cookie(k->ctx), st, (struct sock *)address_of(sk), false);
	keep_in_storage(st, k);
	if (udp)
		st->flags |= DMM_SF_UDP;
	return st;
}

/* dmm_measure goes on from here. */
static __always_inline void measure(const struct walk *k, struct bpf_sock *sk)
{
	const struct work *w = k->w;
	struct dmm_measured *m;

	percpu_add(
		&dmm_steered,
		DMM_STEERED_INDEX(DMM_MEASURE_NUMBER(w->choice.measure), k->stack % DMM_MAX_STACKS),
		1);
	m = bpf_sk_storage_get(&dmm_measured, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!m) {
		count(DMM_C_MEASURE_FAIL);
		return;
	}
	m->begin_ns = 0;
	m->established_ns = 0;
	__builtin_memcpy(m->remote, w->sel.remote.ip, sizeof(m->remote));
	m->measure = w->choice.measure;
	m->stack = k->stack;
	m->carrier = k->outcome == GO_INSTANCE ? DMM_CARRIER_TCP : DMM_CARRIER_NONE;
}

/* A socket gets its cookie when it is first asked for it, by these programs at the latest. */
static __always_inline void look_at(struct walk *k, struct bpf_sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct sock *s;

	if (!tp)
		return;
	s = &tp->inet_conn.icsk_inet.sk;
	k->kernel_own = BPF_CORE_READ_BITFIELD(s, sk_kern_sock);
	k->fresh = s->__sk_common.skc_cookie.counter == 0;
}

/* sel.remote and sel.local are the caller's to fill. */
static __always_inline struct dmm_sock *on_connect(struct walk *k)
{
	struct dmm_cgroup_val *cg = bpf_get_local_storage(&dmm_cgroup, 0);
	struct bpf_sock_addr *ctx = k->ctx;
	struct bpf_sock *sk = ctx->sk;
	struct work *w = k->w;
	bool measured = false, again;

	count(DMM_C_CONNECTS);
	k->outcome = GO_KERNEL;
	w->choice.slot = NO_SLOT;
	w->choice.why = DMM_REASON_NOT_MANAGED;
	if (!sk)
		return NULL;
	look_at(k, sk);
	again = !k->fresh;
	w->choice.cookie = bpf_get_socket_cookie(ctx);
	w->since_ns = bpf_ktime_get_coarse_ns(); /* to show an age: a tick is fine enough */
	w->sel.group = cg->group;
	w->sel.role = DMM_ROLE_CLIENT;
	w->sel.proto = ctx->protocol;
	w->sel.local.port = sk->src_port;
	if (cg->group == DMM_GROUP_NONE || !choose(&w->sel, &w->choice)) {
		w->choice.rule = DMM_RULE_NONE;
		k->why = w->choice.why;
	} else if (cg->flags & DMM_CG_OFF) {
		k->why = DMM_REASON_ADMIN_OFF;
	} else if (w->choice.keep) {
		k->why = w->choice.keep;
	} else {
		k->why = w->choice.why;
		if (w->choice.found & DMM_MEMO_FIXED) {
			k->stack = DMM_MEMO_STACK(w->choice.found);
		} else {
			k->outcome = GO_UNDECIDED;
			decide(k);
		}
		measured = w->choice.measure && w->sel.proto == IPPROTO_TCP &&
			   k->outcome != GO_REFUSED;
	}
	if (measured)
		measure(k, sk);
	else if (again && w->sel.proto == IPPROTO_TCP) /* what it was measured as before */
		bpf_sk_storage_delete(&dmm_measured, sk);
	return keep(k, sk);
}

static __always_inline int refuse(const struct walk *k)
{
	int r = -ENETUNREACH; /* strict: there is no way to it */

	if (k->why == DMM_REASON_REJECTED && k->reject == DMM_REJECT_REFUSED)
		r = -ECONNREFUSED;
	else if (k->why == DMM_REASON_REJECTED && k->reject == DMM_REJECT_PERMISSION)
		r = -EPERM;
	bpf_set_retval(r);
	return 0;
}

SEC("cgroup/connect4")
int dmm_connect4(struct bpf_sock_addr *ctx)
{
	struct work work = {}, *w = &work;
	struct walk k = {.ctx = ctx, .w = w};
	struct dmm_sock *st;
	struct bpf_sock *sk;

	sk = ctx->sk;
	if (!sk)
		return 1;
	addr_set_v4(&w->sel.remote, ctx->user_ip4, bpf_ntohs(ctx->user_port));
	addr_set_v4(&w->sel.local, sk->src_ip4, 0);
	st = on_connect(&k);
	if (k.outcome == GO_REFUSED)
		return refuse(&k);
	if (k.outcome == GO_INSTANCE && st) {
		ctx->user_ip4 = *(const __u32 *)&st->via.ip[12];
		ctx->user_port = bpf_htons(st->via.port);
	}
	return 1;
}

static __always_inline void tell_addr6(struct bpf_sock_addr *ctx, const struct dmm_addr *a)
{
	const __u32 *w = (const __u32 *)a->ip;

	ctx->user_ip6[0] = w[0];
	ctx->user_ip6[1] = w[1];
	ctx->user_ip6[2] = w[2];
	ctx->user_ip6[3] = w[3];
	ctx->user_port = bpf_htons(a->port);
}

SEC("cgroup/connect6")
int dmm_connect6(struct bpf_sock_addr *ctx)
{
	__u32 a0 = ctx->user_ip6[0], a1, a2, a3;
	struct work work = {}, *w = &work;
	struct walk k = {.ctx = ctx, .w = w};
	struct dmm_sock *st;
	struct bpf_sock *sk;

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
	st = on_connect(&k);
	if (k.outcome == GO_REFUSED)
		return refuse(&k);
	if (k.outcome == GO_INSTANCE && st)
		tell_addr6(ctx, &st->via);
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
	if (st && (st->flags & DMM_SF_UDP)) /* its own end has the carrier, too */
		return peer ? udp_peer(ctx, st, bpf_ntohs(sk->dst_port)) : NULL;
	if (!st || !(st->flags & (DMM_SF_CARRIER | DMM_SF_PENDING)))
		return NULL;
	if (st->via.port && sk->dst_port != bpf_htons(st->via.port))
		return NULL;
	if (peer)
		return &st->remote;
	if (st->local.port)
		return &st->local;
	/* still connecting: what the application or the engine has chosen already, else nothing */
	flow = bpf_map_lookup_elem(&dmm_pending, &st->cookie);
	return flow ? &flow->local : &st->local;
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

	if (a)
		tell_addr6(ctx, a);
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

/* Called for each datagram whose source is asked for. */
SEC("cgroup/recvmsg4")
int dmm_recvmsg4(struct bpf_sock_addr *ctx)
{
	const struct dmm_addr *a;
	struct dmm_addr from;

	addr_set_v4(&from, ctx->user_ip4, bpf_ntohs(ctx->user_port));
	a = udp_source(ctx, &from);
	if (a) {
		ctx->user_ip4 = *(const __u32 *)&a->ip[12];
		ctx->user_port = bpf_htons(a->port);
	}
	return 1;
}

SEC("cgroup/recvmsg6")
int dmm_recvmsg6(struct bpf_sock_addr *ctx)
{
	__u32 w0 = ctx->user_ip6[0], w1, w2, w3;
	const struct dmm_addr *a;
	struct dmm_addr from;

	barrier_var(w0); /* as in dmm_connect6 */
	w1 = ctx->user_ip6[1];
	barrier_var(w1);
	w2 = ctx->user_ip6[2];
	barrier_var(w2);
	w3 = ctx->user_ip6[3];
	barrier_var(w3);
	addr_set_v6(&from, w0, w1, w2, w3, bpf_ntohs(ctx->user_port));
	a = udp_source(ctx, &from);
	if (a)
		tell_addr6(ctx, a);
	return 1;
}

/*
 * A connect that never sent its SYN is forgotten; once it has left, dmm_sockops (STATE) forgets it:
 * the accepting end may still ask for the flow.
 */
SEC("cgroup/sock_release")
int dmm_release(struct bpf_sock *sk)
{
	struct dmm_sock *st;

	st = bpf_sk_storage_get(&dmm_sock, sk, NULL, 0);
	if (st && (st->flags & DMM_SF_PENDING) && sk->state == TCP_CLOSE)
		bpf_map_delete_elem(&dmm_pending, &st->cookie);
	if (st && (st->flags & DMM_SF_UDP))
		udp_leave(bpf_get_netns_cookie(sk), st, (struct sock *)address_of(sk), true);
	return 1;
}
