// SPDX-License-Identifier: GPL-2.0-only
/*
 * `flows`: two iterators over the live sockets that have a verdict, in all network namespaces:
 * those with socket storage, and those that were left on the kernel stack. What changes with every
 * packet is read from the sockets themselves. And what changes the second ones' group.
 *
 * Some kernels refuse iterators over the elements of a map. The loader takes the dmm_file_ ones
 * there: they go through the open files of all processes instead. They meet a socket once for each
 * descriptor, and one that nobody has a descriptor of (closed and not yet gone, or not yet
 * accepted) never.
 */
#include "bpf/dmm_maps.bpf.h"
#include "bpf/dmm_flows.h"
#include "bpf/dmm_plain.bpf.h"

char LICENSE[] SEC("license") = "GPL";

DMM_ARRAY(dmm_regroup_args, struct dmm_regroup, 1, 0);

/* The kernel's own name of a socket that no carrier names. */
static __always_inline void local_of(struct sock *sk, struct dmm_addr *ret)
{
	struct sock_common *c = &sk->__sk_common;

	if (BPF_CORE_READ(c, skc_family) == AF_INET)
		addr_set_v4(ret, BPF_CORE_READ(c, skc_rcv_saddr), 0);
	else
		BPF_CORE_READ_INTO((void *)ret->ip, c, skc_v6_rcv_saddr);
	ret->port = BPF_CORE_READ(c, skc_num);
}

static __always_inline void describe(struct dmm_flow_row *row, struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;

	row->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	row->tcp_state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (!row->sock.local.port && (row->sock.carrier == DMM_CARRIER_UDP ||
				      !(row->sock.flags & (DMM_SF_CARRIER | DMM_SF_PENDING))))
		local_of(sk, &row->sock.local);
	if (row->sock.proto != IPPROTO_TCP)
		return;
	row->rx_bytes = BPF_CORE_READ(tp, bytes_received);
	row->tx_bytes = BPF_CORE_READ(tp, bytes_acked);
	row->srtt_us = BPF_CORE_READ(tp, srtt_us) >> 3;
	row->retrans = BPF_CORE_READ(tp, total_retrans);
}

static __always_inline void write_row(struct bpf_iter_meta *meta, struct sock *sk,
				      const struct dmm_sock *st)
{
	struct dmm_flow_row row;
	struct dmm_pair *pair;
	__u64 cookie;

	__builtin_memset(&row, 0, sizeof(row));
	bpf_probe_read_kernel(&row.sock, sizeof(row.sock), st);
	row.sock.kernel_sk = 0;
	describe(&row, sk);
	cookie = row.sock.cookie;
	pair = bpf_map_lookup_elem(&dmm_pair, &cookie);
	if (pair) {
		row.sock.carrier = DMM_CARRIER_SPLICE;
		row.rx_bytes += pair->rx;
		row.tx_bytes += pair->tx;
	}
	bpf_seq_write(meta->seq, &row, sizeof(row));
}

/* Not an instance's own, and not of UDP that is not connected any more. */
static __always_inline bool is_flow(const struct dmm_sock *st, struct sock *sk)
{
	return !(st->flags & DMM_SF_INSTANCE) &&
	       (st->carrier != DMM_CARRIER_UDP || BPF_CORE_READ(sk, __sk_common.skc_dport));
}

SEC("iter/bpf_sk_storage_map")
int dmm_flows(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct dmm_sock *st = ctx->value;
	struct sock *sk = ctx->sk;

	if (st && sk && is_flow(st, sk))
		write_row(ctx->meta, sk, st);
	return 0;
}

/* Where it is connected to. False: nowhere. */
static __always_inline bool remote_of(struct sock *sk, __u32 proto, struct dmm_addr *ret)
{
	struct sock_common *c = &sk->__sk_common;

	if (BPF_CORE_READ(c, skc_family) == AF_INET)
		addr_set_v4(ret, BPF_CORE_READ(c, skc_daddr), 0);
	else
		BPF_CORE_READ_INTO((void *)ret->ip, c, skc_v6_daddr);
	ret->port = bpf_ntohs(BPF_CORE_READ(c, skc_dport));
	return ret->port || (proto != IPPROTO_TCP && !ip_is_any(ret->ip));
}

/* The image that has the rules of a generation, or NULL. To be asked again when all is read. */
static __always_inline void *image_with(__u64 generation)
{
	struct dmm_meta *meta;
	__u32 key = 0, slot = generation & 1;
	__u64 now;

	meta = bpf_map_lookup_elem(&dmm_meta, &key);
	if (!meta)
		return NULL;
	now = *(volatile __u64 *)&meta->generation;
	if ((now != generation && now != generation + 1) ||
	    *(volatile __u64 *)&meta->building > generation + 1)
		return NULL;
	return bpf_map_lookup_elem(&dmm_image, &slot);
}

static __always_inline void copy_name(void *image, __u32 rule, char *ret)
{
	__u32 index = DMM_RULE_CELL + rule;
	struct dmm_rule_rec *r = bpf_map_lookup_elem(image, &index);

	if (r)
		bpf_probe_read_kernel(ret, DMM_NAME_LEN, r->name);
}

/* Stays empty for the default, and if nobody knows it any more. */
static __always_inline void name_of_rule(const struct dmm_plain *p, struct dmm_sock *s)
{
	void *image;

	if (s->rule >= DMM_MAX_RULES)
		return;
	image = image_with(s->generation);
	if (image) {
		copy_name(image, s->rule, s->rule_name);
		if (image_with(s->generation))
			return;
		__builtin_memset(s->rule_name, 0, sizeof(s->rule_name));
	}
	if (p->named_cookie == s->cookie && p->named_generation == s->generation)
		bpf_probe_read_kernel(s->rule_name, sizeof(s->rule_name), p->rule_name);
}

/* The socket may go at any time: the cookies, read last, say that what was read is its own. */
static __always_inline void write_plain_row(struct bpf_iter_meta *meta, struct dmm_plain *p)
{
	struct dmm_flow_row row;
	bool connected;
	__u64 sk;

	if (!p->cookie || !p->sk)
		return;
	__builtin_memset(&row, 0, sizeof(row));
	row.sock.cookie = plain_cookie(p);
	plain_ordered(p);
	sk = p->sk;
	row.sock.generation = p->generation;
	row.sock.since_ns = p->since_ns;
	row.sock.rule = p->rule;
	row.sock.stack = p->stack;
	row.sock.reason = p->reason;
	row.sock.role = DMM_ROLE_CLIENT;
	row.sock.group = p->group;
	row.sock.proto = p->proto;
	row.sock.pid = p->pid;
	bpf_probe_read_kernel(row.sock.comm, sizeof(row.sock.comm), p->comm);
	name_of_rule(p, &row.sock);
	connected = remote_of((struct sock *)sk, row.sock.proto, &row.sock.remote);
	describe(&row, (struct sock *)sk);
	if (!connected || !plain_lives(sk, row.sock.cookie))
		return;
	plain_ordered(p);
	if (plain_cookie(p) != row.sock.cookie)
		return; /* given back meanwhile, and perhaps another's now */
	bpf_seq_write(meta->seq, &row, sizeof(row));
}

SEC("iter/bpf_map_elem")
int dmm_plain_flows(struct bpf_iter__bpf_map_elem *ctx)
{
	struct dmm_plain *p = ctx->value;

	if (p)
		write_plain_row(ctx->meta, p);
	return 0;
}

/* The same two, of each socket no more than its stack. Counting takes a small part of the time
 * then. */
SEC("iter/bpf_sk_storage_map")
int dmm_stacks(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct dmm_sock *st = ctx->value;
	struct sock *sk = ctx->sk;

	if (st && sk && is_flow(st, sk))
		bpf_seq_write(ctx->meta->seq, &st->stack, sizeof(st->stack));
	return 0;
}

/* False: it is nobody's, or of a socket that is not connected. */
static __always_inline bool plain_stack(struct dmm_plain *p, struct dmm_flow_stack *ret)
{
	struct dmm_addr remote = {};
	__u64 sk;

	if (!p->cookie || !p->sk)
		return false;
	ret->cookie = plain_cookie(p);
	plain_ordered(p);
	sk = p->sk;
	ret->stack = p->stack;
	if (!remote_of((struct sock *)sk, p->proto, &remote) || !plain_lives(sk, ret->cookie))
		return false;
	plain_ordered(p);
	return plain_cookie(p) == ret->cookie;
}

SEC("iter/bpf_map_elem")
int dmm_plain_stacks(struct bpf_iter__bpf_map_elem *ctx)
{
	struct dmm_plain *p = ctx->value;
	struct dmm_flow_stack s = {};

	if (p && plain_stack(p, &s))
		bpf_seq_write(ctx->meta->seq, &s.stack, sizeof(s.stack));
	return 0;
}

/* Of the verdicts of a generation whose image goes: the names of their rules stay. */
static long name_slot(struct bpf_map *map, __u32 *index, struct dmm_plain *p,
		      struct dmm_plain_names *n)
{
	__u64 cookie = plain_cookie(p);
	__u32 rule = p->rule;
	void *image;

	if (!cookie || cookie == DMM_PLAIN_BUSY || p->generation != n->generation ||
	    rule >= DMM_MAX_RULES)
		return 0;
	image = image_with(n->generation);
	if (!image) /* a commit that failed has begun with it: it has called this before */
		return 1;
	p->named_cookie = 0;
	copy_name(image, rule, p->rule_name);
	p->named_generation = n->generation;
	plain_ordered(p);
	if (plain_cookie(p) == cookie)
		p->named_cookie = cookie;
	return 0;
}

SEC("syscall")
int dmm_plain_names(struct dmm_plain_names *n)
{
	struct dmm_plain_names copy = *n;

	bpf_for_each_map_elem(&dmm_plain, name_slot, &copy, 0);
	return 0;
}

/* Members of struct dmm_plain that change as one. */
union plain_word {
	__u64 word;
	struct {
		__u32 rule;
		__u8 stack, reason, group, proto;
	};
};
_Static_assert(__builtin_offsetof(struct dmm_plain, rule) % 8 == 0 &&
		       __builtin_offsetof(struct dmm_plain, group) -
				       __builtin_offsetof(struct dmm_plain, rule) ==
			       __builtin_offsetof(union plain_word, group),
	       "the same place");

/* Sockets come and go meanwhile: what another one has taken over since it was read stays its own.
 */
static long regroup_slot(struct bpf_map *map, __u32 *index, struct dmm_plain *p,
			 struct dmm_regroup *r)
{
	union plain_word was, is;
	__u64 cookie = plain_cookie(p), sk = *(volatile __u64 *)&p->sk;

	if (!cookie || cookie == DMM_PLAIN_BUSY)
		return 0;
	was.word = *(volatile __u64 *)&p->rule;
	is = was;
	if (was.group != r->from)
		return 0;
	is.group = r->to;
	if (r->to != DMM_GROUP_NONE)
		__sync_val_compare_and_swap((__u64 *)&p->rule, was.word, is.word);
	else if (plain_cookie(p) == cookie)
		__sync_val_compare_and_swap(&p->sk, sk, 0);
	return 0;
}

/* In place: its instance writes another member of it at the same time. */
static long regroup_listener(struct bpf_map *map, __u64 *cookie, struct dmm_listener *l,
			     struct dmm_regroup *r)
{
	if (l->group == r->from)
		l->group = r->to;
	return 0;
}

SEC("syscall")
int dmm_regroup(struct dmm_regroup *r)
{
	struct dmm_regroup copy = *r;

	bpf_for_each_map_elem(&dmm_plain, regroup_slot, &copy, 0);
	if (copy.to != DMM_GROUP_NONE)
		bpf_for_each_map_elem(&dmm_listen, regroup_listener, &copy, 0);
	return 0;
}

/* The same for one with socket storage; nobody else writes this member. */
static __always_inline void regroup_storage(struct dmm_sock *st)
{
	struct dmm_regroup *r;
	__u32 key = 0;

	r = bpf_map_lookup_elem(&dmm_regroup_args, &key);
	if (r && st->group == r->from)
		st->group = r->to;
}

/* Writes no rows. */
SEC("iter/bpf_sk_storage_map")
int dmm_regroup_sk(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct dmm_sock *st = ctx->value;

	if (st)
		regroup_storage(st);
	return 0;
}

/* ---- by the files of all processes ---- */

/* The socket that is open as this file, if it is of the Internet's families. */
static __always_inline struct sock *sock_of(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct socket *socket;
	struct sock *sk;
	__u16 family;

	if (!file)
		return NULL;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return NULL;
	sk = socket->sk;
	if (!sk)
		return NULL;
	family = sk->__sk_common.skc_family;
	return family == AF_INET || family == AF_INET6 ? sk : NULL;
}

/* Its slot, or NULL. */
static __always_inline struct dmm_plain *plain_of(struct sock *sk)
{
	__u64 cookie = sk->__sk_common.skc_cookie.counter;

	return cookie ? plain_find(address_of(sk), cookie) : NULL;
}

SEC("iter/task_file")
int dmm_file_flows(struct bpf_iter__task_file *ctx)
{
	struct sock *sk = sock_of(ctx);
	struct dmm_plain *p;
	struct dmm_sock *st;

	if (!sk)
		return 0;
	st = bpf_sk_storage_get(&dmm_sock, sk, NULL, 0);
	p = st ? NULL : plain_of(sk);
	if (st && is_flow(st, sk))
		write_row(ctx->meta, sk, st);
	if (p)
		write_plain_row(ctx->meta, p);
	return 0;
}

SEC("iter/task_file")
int dmm_file_stacks(struct bpf_iter__task_file *ctx)
{
	struct sock *sk = sock_of(ctx);
	struct dmm_flow_stack s = {};
	struct dmm_plain *p;
	struct dmm_sock *st;

	if (!sk)
		return 0;
	st = bpf_sk_storage_get(&dmm_sock, sk, NULL, 0);
	if (st) {
		if (!is_flow(st, sk))
			return 0;
		s.cookie = st->cookie;
		s.stack = st->stack;
	} else {
		p = plain_of(sk);
		if (!p || !plain_stack(p, &s))
			return 0;
	}
	bpf_seq_write(ctx->meta->seq, &s, sizeof(s));
	return 0;
}

SEC("iter/task_file")
int dmm_file_regroup(struct bpf_iter__task_file *ctx)
{
	struct sock *sk = sock_of(ctx);
	struct dmm_sock *st = sk ? bpf_sk_storage_get(&dmm_sock, sk, NULL, 0) : NULL;

	if (st)
		regroup_storage(st);
	return 0;
}
