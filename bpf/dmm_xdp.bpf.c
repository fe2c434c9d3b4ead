// SPDX-License-Identifier: GPL-2.0-only
/*
 * Steering: gives the packets of an instance's flows and listening ports to its AF_XDP sockets.
 * Everything else goes on to the kernel: other protocols, VLANs, frames that cannot be parsed.
 *
 * Two ways to sit in an interface's receive path: dmm_xdp is XDP on the interface itself, where a
 * queue without a socket falls back to the kernel; dmm_tc is at its tc ingress and copies owned
 * packets into a ring that the instance reads. Behind generic XDP every packet of the interface is
 * copied before the program can look at it; tc looks first, so that others' packets pay nothing.
 *
 * Each thread of an instance has its own flows and its own ring. With XDP it also has its own
 * queues, whose sockets take nothing else: what comes on another thread's queue goes on to tc,
 * which is then behind XDP, and into the ring of the thread that has the flow.
 */
#include <linux/if_ether.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "bpf/dmm_maps.bpf.h"

char LICENSE[] SEC("license") = "GPL";

#define IP_MORE 0x2000
#define IP_OFFSET 0x1fff

#define TC_NEXT (-1) /* TCX_NEXT, and TC_ACT_UNSPEC before there was tcx */

#define TC_TAKEN 2 /* TCX_DROP: to tcx there is nothing between this and passing on */

const volatile struct dmm_steer dmm_steer;

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, DMM_MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

DMM_HASH(dmm_xflow, struct dmm_xflow_key, __u8, 262144);
/* A listener takes one entry for each address of the interface that it answers on. */
DMM_HASH(dmm_xport, struct dmm_xport_key, struct dmm_xport_value, 4 * DMM_MAX_LISTENS);

/* Which thread a connection to a listening port has begun with, where queues say it: what follows
 * its SYN may come on another one, and is no flow before the engine has accepted it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct dmm_xflow_key);
	__type(value, __u8);
} dmm_xsyn SEC(".maps");

/* Which thread has a packet whose first fragment was given to it: the others tell no ports. */
struct xfrag_key {
	__u8 remote[16], local[16];
	__be32 id;
	__u32 proto; /* 0 of IPv6 */
};
struct xfrag {
	__u64 since; /* ns */
	__u64 thread;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct xfrag_key);
	__type(value, struct xfrag);
} dmm_xfrag SEC(".maps");
#define XFRAG_NS 2000000000ULL /* then another packet may have its number */

/* Bit p % 64 of entry p / 64: some flow or listener has the local port p; of UDP in the second
 * half. A look at it is all that packets to other ports, the kernel's, cost. */
DMM_ARRAY(dmm_xbits, __u64, DMM_XBITS_WORDS, BPF_F_MMAPABLE);

static __always_inline void counted(enum dmm_xdp_counter what)
{
	percpu_add(&dmm_xdpctr, dmm_steer.stack * DMM_XDP_SPACE + what, 1);
}

static __always_inline bool is_owned(enum dmm_xdp_counter what)
{
	return what == DMM_X_FLOW || what == DMM_X_PORT || what == DMM_X_ICMP;
}

/* What it is if it is owned, else the other. PASS_SHORT: perhaps it is not pulled yet. */
static __always_inline enum dmm_xdp_counter owned_or(enum dmm_xdp_counter what,
						     enum dmm_xdp_counter other)
{
	return is_owned(what) || what == DMM_X_PASS_SHORT ? what : other;
}

static __always_inline void key_v4(__u8 *ret, __be32 ip)
{
	__u32 *w = (__u32 *)ret;

	w[0] = 0;
	w[1] = 0;
	w[2] = bpf_htonl(0xffff);
	w[3] = ip;
}

static __always_inline bool port_concerns(__u8 proto, __u16 port)
{
	__u32 index = DMM_XBITS_INDEX(proto, port);
	__u64 *bits = bpf_map_lookup_elem(&dmm_xbits, &index);

	return bits && (*bits >> (port % 64) & 1);
}

static __always_inline enum dmm_xport port_owned(const struct dmm_xflow_key *k)
{
	struct dmm_xport_key p = {.port = k->local_port, .proto = k->proto};
	struct dmm_xport_value *v;

	__builtin_memcpy(p.local, k->local, 16);
	v = bpf_map_lookup_elem(&dmm_xport, &p);
	if (!v)
		return DMM_XPORT_NONE;
	return v->owned == (1 << dmm_steer.threads) - 1 ? DMM_XPORT_OWNED : DMM_XPORT_LEFT;
}

static __always_inline __u32 thread_of_queue(__u32 queue)
{
	return queue & (dmm_steer.threads - 1);
}

static __always_inline __u32 thread_of_hash(const struct dmm_xflow_key *k)
{
	const __u32 *r = (const __u32 *)k->remote, *l = (const __u32 *)k->local;
	__u32 h = (r[1] ^ r[2] ^ r[3]) * 0x85ebca6b ^ (l[2] ^ l[3]);

	h = (h ^ ((__u32)k->remote_port << 16 | k->local_port)) * 0x9e3779b1;
	return h >> 28 & (dmm_steer.threads - 1);
}

/* The thread of a connection to a listening port: the same for all of its packets. */
static __always_inline __u32 thread_of_new(const struct dmm_xflow_key *k, bool syn, __u32 queue)
{
	__u8 *begun, thread;

	if (dmm_steer.threads == 1)
		return 0;
	if (!dmm_steer.queues)
		return thread_of_hash(k);
	begun = bpf_map_lookup_elem(&dmm_xsyn, k);
	if (begun)
		return *begun;
	thread = thread_of_queue(queue);
	if (syn)
		bpf_map_update_elem(&dmm_xsyn, k, &thread, BPF_ANY);
	return thread;
}

/* Is this the ACK that completes a handshake of which the kernel kept nothing but a SYN cookie? */
static __always_inline bool is_cookie(struct bpf_sock *sk, void *l3, bool v4, struct tcphdr *th)
{
	__u32 len = v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

	return th->ack && !th->syn && !th->rst &&
	       bpf_tcp_check_syncookie(sk, l3, len, th, sizeof(*th)) == 0;
}

/*
 * Does the kernel have this very connection? One that it accepted while the port was its own, and
 * be it in TIME-WAIT, or that has the port as its own end by chance. Whoever has the addresses gets
 * all of their packets, the next SYN too: neither side could tell its own from late ones. Only what
 * is not a flow of the instance yet pays for the look-up: SYN and last ACK of a handshake.
 */
static __always_inline bool kernel_has(void *ctx, const struct dmm_xflow_key *k, void *l3, bool v4,
				       struct tcphdr *th)
{
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk;
	bool has;

	if (v4) {
		__builtin_memcpy(&t.ipv4.saddr, k->remote + 12, 4);
		__builtin_memcpy(&t.ipv4.daddr, k->local + 12, 4);
		t.ipv4.sport = k->remote_port;
		t.ipv4.dport = k->local_port;
		sk = bpf_skc_lookup_tcp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		__builtin_memcpy(t.ipv6.saddr, k->remote, 16);
		__builtin_memcpy(t.ipv6.daddr, k->local, 16);
		t.ipv6.sport = k->remote_port;
		t.ipv6.dport = k->local_port;
		sk = bpf_skc_lookup_tcp(ctx, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return false;
	has = sk->state != TCP_LISTEN || is_cookie(sk, l3, v4, th);
	bpf_sk_release(sk);
	return has;
}

/* Where a packet came from, and whose it is. */
struct way {
	__u32 queue;
	__u32 thread; /* if it is owned */
	bool tagged;  /* the frame has a tag that is to be taken off */
};

/* What is looked at of a packet. */
struct packet {
	void *l3, *l4, *end;
	bool v4;
	bool first; /* of several fragments */
	__be32 id;  /* of all of them */
};

/* RFC 791, 3.2: every network passes fragments of 8 bytes on. What is looked at of TCP in one that
 * is shorter than its header is what an ICMP error quotes, too. Of IPv6 the first has all headers;
 * what has not the kernel discards, and says so (RFC 8200, 4.5). */
struct ports {
	__be16 source, dest;
	__be32 rest;
};

static __always_inline enum dmm_xdp_counter steer_short(const struct packet *p,
							struct dmm_xflow_key *k, struct way *way)
{
	struct ports *ports = p->l4;
	__u8 *flow;

	if (!p->v4 || !p->first || (void *)(ports + 1) > p->end)
		return DMM_X_PASS_SHORT;
	k->remote_port = ports->source;
	k->local_port = ports->dest;
	flow = bpf_map_lookup_elem(&dmm_xflow, k);
	if (!flow || DMM_XFLOW_HOW(*flow) != DMM_XFLOW_LIVE)
		return DMM_X_PASS_MISS;
	way->thread = DMM_XFLOW_THREAD(*flow);
	return DMM_X_FLOW;
}

static __always_inline enum dmm_xdp_counter steer_tcp(void *ctx, const struct packet *p,
						      struct dmm_xflow_key *k, struct way *way)
{
	struct tcphdr *th = p->l4;
	enum dmm_xport port;
	__u8 *flow;

	if ((void *)(th + 1) > p->end)
		return steer_short(p, k, way);
	if (!port_concerns(IPPROTO_TCP, bpf_ntohs(th->dest)))
		return DMM_X_PASS_MISS;
	k->remote_port = th->source;
	k->local_port = th->dest;
	flow = bpf_map_lookup_elem(&dmm_xflow, k);
	if (flow)
		way->thread = DMM_XFLOW_THREAD(*flow);
	if (flow && DMM_XFLOW_HOW(*flow) == DMM_XFLOW_LIVE)
		return DMM_X_FLOW;
	port = port_owned(k);
	if (!flow && port == DMM_XPORT_NONE)
		return DMM_X_PASS_MISS;
	if (th->syn && !th->ack && port != DMM_XPORT_OWNED)
		return DMM_X_PASS_MISS;
	if (kernel_has(ctx, k, p->l3, p->v4, th))
		return DMM_X_PASS_MISS;
	if (flow)
		return DMM_X_FLOW;
	way->thread = thread_of_new(k, th->syn && !th->ack, way->queue);
	return DMM_X_PORT;
}

static __always_inline bool is_flow(const struct dmm_xflow_key *k, struct way *way)
{
	__u8 *flow = bpf_map_lookup_elem(&dmm_xflow, k);

	if (flow)
		way->thread = DMM_XFLOW_THREAD(*flow);
	return flow;
}

/* The kernel has no socket of these addresses: the application's is connected to its instance. */
static __always_inline enum dmm_xdp_counter steer_udp(void *l4, void *end, struct dmm_xflow_key *k,
						      struct way *way)
{
	struct udphdr *uh = l4;

	if ((void *)(uh + 1) > end)
		return DMM_X_PASS_SHORT;
	if (!port_concerns(IPPROTO_UDP, bpf_ntohs(uh->dest)))
		return DMM_X_PASS_MISS;
	k->remote_port = uh->source;
	k->local_port = uh->dest;
	return is_flow(k, way) ? DMM_X_FLOW : DMM_X_PASS_MISS;
}

static __always_inline struct xfrag_key xfrag_key(const struct packet *p,
						  const struct dmm_xflow_key *k)
{
	struct xfrag_key f = {.id = p->id, .proto = p->v4 ? k->proto : 0};

	__builtin_memcpy(f.remote, k->remote, 16);
	__builtin_memcpy(f.local, k->local, 16);
	return f;
}

/* k has addresses and, of IPv4, protocol. */
static __always_inline enum dmm_xdp_counter
steer_rest(const struct packet *p, const struct dmm_xflow_key *k, struct way *way)
{
	struct xfrag_key key = xfrag_key(p, k);
	struct xfrag *first = bpf_map_lookup_elem(&dmm_xfrag, &key);

	if (!first || bpf_ktime_get_ns() - first->since > XFRAG_NS)
		return DMM_X_PASS_FRAG;
	way->thread = first->thread;
	return DMM_X_FLOW;
}

/* It is this, were it all of its packet. Nobody cuts a SYN: what is of no flow is the kernel's, and
 * so is what follows, whoever had this number before. */
static __always_inline enum dmm_xdp_counter steer_first(const struct packet *p,
							const struct dmm_xflow_key *k,
							const struct way *way,
							enum dmm_xdp_counter what)
{
	struct xfrag_key key = xfrag_key(p, k);
	struct xfrag first = {bpf_ktime_get_ns(), way->thread};

	if (what != DMM_X_FLOW) {
		bpf_map_delete_elem(&dmm_xfrag, &key);
		return DMM_X_PASS_FRAG;
	}
	bpf_map_update_elem(&dmm_xfrag, &key, &first, BPF_ANY);
	return what;
}

/* k has addresses and protocol. */
static __always_inline enum dmm_xdp_counter steer_l4(void *ctx, const struct packet *p,
						     struct dmm_xflow_key *k, struct way *way)
{
	enum dmm_xdp_counter what = DMM_X_PASS_PROTO;

	if (k->proto == IPPROTO_TCP)
		what = steer_tcp(ctx, p, k, way);
	else if (k->proto == IPPROTO_UDP)
		what = steer_udp(p->l4, p->end, k, way);
	return p->first && what != DMM_X_PASS_SHORT ? steer_first(p, k, way, what) : what;
}

/* The quoted packet is one that we sent: its source is our end. */
static __always_inline enum dmm_xdp_counter steer_quoted(void *l4, void *end,
							 struct dmm_xflow_key *k, struct way *way)
{
	struct ports *q = l4;

	if ((void *)(q + 1) > end)
		return DMM_X_PASS_SHORT;
	k->remote_port = q->dest;
	k->local_port = q->source;
	return is_flow(k, way) ? DMM_X_ICMP : DMM_X_PASS_PROTO;
}

/* Errors are: unreachable (3; 1 of ICMPv6), too big (2 of ICMPv6), time exceeded (11; 3), parameter
 * problem (12; 4). */
struct icmp_head {
	__u8 type, code;
	__be16 check;
	__be32 rest;
};

static __always_inline enum dmm_xdp_counter steer_icmp4(void *l4, void *end, struct way *way)
{
	struct dmm_xflow_key k = {};
	struct icmp_head *ih = l4;
	struct iphdr *in = (void *)(ih + 1);

	if ((void *)(ih + 1) > end)
		return DMM_X_PASS_SHORT;
	if (ih->type != 3 && ih->type != 11 && ih->type != 12)
		return DMM_X_PASS_PROTO;
	/* about fragments: that is nothing to TCP, nor to UDP */
	if (ih->type == 11 && ih->code == 1)
		return DMM_X_PASS_PROTO;
	if ((void *)(in + 1) > end) /* perhaps not pulled yet */
		return DMM_X_PASS_SHORT;
	k.proto = in->protocol;
	if (in->ihl != 5 || (k.proto != IPPROTO_TCP && k.proto != IPPROTO_UDP))
		return DMM_X_PASS_PROTO;
	key_v4(k.remote, in->daddr);
	key_v4(k.local, in->saddr);
	return steer_quoted(in + 1, end, &k, way);
}

static __always_inline enum dmm_xdp_counter steer_icmp6(void *l4, void *end, struct way *way)
{
	struct dmm_xflow_key k = {};
	struct icmp_head *ih = l4;
	struct ipv6hdr *in = (void *)(ih + 1);

	if ((void *)(ih + 1) > end)
		return DMM_X_PASS_SHORT;
	if (!ih->type || ih->type > 4)
		return DMM_X_PASS_PROTO;
	if ((void *)(in + 1) > end)
		return DMM_X_PASS_SHORT;
	k.proto = in->nexthdr;
	if (k.proto != IPPROTO_TCP && k.proto != IPPROTO_UDP)
		return DMM_X_PASS_PROTO;
	__builtin_memcpy(k.remote, &in->daddr, 16);
	__builtin_memcpy(k.local, &in->saddr, 16);
	if (ip_is_v4(k.local)) /* one of IPv6 cannot be about those */
		return DMM_X_PASS_PROTO;
	return steer_quoted(in + 1, end, &k, way);
}

static __always_inline enum dmm_xdp_counter steer4(void *ctx, void *l3, void *end, struct way *way)
{
	struct packet p = {.l3 = l3, .end = end, .v4 = true};
	struct dmm_xflow_key k = {};
	struct iphdr *ip = l3;
	enum dmm_xdp_counter what;

	if ((void *)(ip + 1) > end)
		return DMM_X_PASS_SHORT;
	if (ip->version != 4 || ip->ihl < 5)
		return DMM_X_PASS_SHORT;
	p.l4 = l3 + ip->ihl * 4;
	p.first = ip->frag_off & bpf_htons(IP_MORE);
	p.id = ip->id;
	k.proto = ip->protocol;
	key_v4(k.remote, ip->saddr);
	key_v4(k.local, ip->daddr);
	if (ip->frag_off & bpf_htons(IP_OFFSET))
		return steer_rest(&p, &k, way);
	if (k.proto == IPPROTO_ICMP && !p.first)
		return steer_icmp4(p.l4, end, way);
	what = steer_l4(ctx, &p, &k, way);
	return ip->ihl == 5 || p.first ? what : owned_or(what, DMM_X_PASS_OPTION);
}

/* The beginning of extension headers that are skipped: hop-by-hop options, destination options,
 * and a routing header that has served. */
struct extension {
	__u8 next, len; /* in units of 8 bytes, but for the first */
	__u8 type, segments_left;
	__be32 rest;
};
#define EXTENSIONS 3	    /* at most, and of */
#define EXTENSIONS_MAX 128u /* bytes */

struct fragment_header {
	__u8 next, zero;
	__be16 offset; /* and flags */
	__be32 id;
};

static __always_inline bool is_skipped(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS;
}

/* Such that are not skipped: authentication, mobility. */
static __always_inline bool is_extension(__u8 next)
{
	return is_skipped(next) || next == 51 /* authentication */ || next == IPPROTO_MH;
}

static __always_inline enum dmm_xdp_counter steer6(void *ctx, void *l3, void *end, struct way *way)
{
	struct packet p = {.l3 = l3, .end = end};
	struct dmm_xflow_key k = {};
	struct fragment_header *fh;
	struct ipv6hdr *ip = l3;
	enum dmm_xdp_counter what;
	struct extension *x;
	__u64 at = sizeof(*ip);
	__u8 next;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return DMM_X_PASS_SHORT;
	next = ip->nexthdr;
#pragma unroll
	for (int i = 0; i < EXTENSIONS; i++) {
		if (!is_skipped(next))
			break;
		x = l3 + at;
		if ((void *)(x + 1) > end)
			return DMM_X_PASS_SHORT;
		if (next == IPPROTO_ROUTING && x->segments_left)
			return DMM_X_PASS_OPTION;
		next = x->next;
		at += 8 * ((__u64)x->len + 1);
		if (at > sizeof(*ip) + EXTENSIONS_MAX)
			return DMM_X_PASS_OPTION;
	}
	__builtin_memcpy(k.remote, &ip->saddr, 16);
	__builtin_memcpy(k.local, &ip->daddr, 16);
	p.l4 = l3 + at;
	if (next == IPPROTO_FRAGMENT) {
		fh = p.l4;
		if ((void *)(fh + 1) > end)
			return DMM_X_PASS_SHORT;
		next = fh->next;
		p.first = fh->offset & bpf_htons(1);
		p.id = fh->id;
		p.l4 = fh + 1;
		if (fh->offset & bpf_htons(0xfff8))
			return steer_rest(&p, &k, way);
	}
	if (next == IPPROTO_ICMPV6 && !p.first)
		return steer_icmp6(p.l4, end, way);
	k.proto = next;
	what = steer_l4(ctx, &p, &k, way);
	if (p.first || (ip->nexthdr == next && !is_extension(next)))
		return what;
	return owned_or(what, DMM_X_PASS_OPTION);
}

/* A tag of VLAN 0 tells a priority and no VLAN (IEEE 802.1Q): the kernel takes such a frame as one
 * without a tag. */
#define VLAN 0x0fff
struct tag {
	__be16 tci;
	__be16 proto; /* of what is behind it */
};

/* What a frame is to the instance: one of its own (is_owned), or why it is not. */
static __always_inline enum dmm_xdp_counter steer(void *ctx, void *frame, void *end,
						  struct way *way)
{
	struct ethhdr *eth = frame;
	void *l3 = eth + 1;
	struct tag *tag = l3;
	__be16 proto;

	if ((void *)(eth + 1) > end)
		return DMM_X_PASS_SHORT;
	proto = eth->h_proto;
	if (proto == bpf_htons(ETH_P_8021Q)) {
		if ((void *)(tag + 1) > end)
			return DMM_X_PASS_SHORT;
		if (bpf_ntohs(tag->tci) & VLAN)
			return DMM_X_PASS_VLAN;
		way->tagged = true;
		proto = tag->proto;
		l3 = tag + 1;
	}
	switch (proto) {
	case bpf_htons(ETH_P_IP):
		return steer4(ctx, l3, end, way);
	case bpf_htons(ETH_P_IPV6):
		return steer6(ctx, l3, end, way);
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		return DMM_X_PASS_VLAN;
	}
	return DMM_X_PASS_PROTO;
}

static __always_inline bool untag(struct xdp_md *ctx)
{
	__u8 *frame = (void *)(long)ctx->data, macs[2 * ETH_ALEN];

	if (frame + ETH_HLEN + sizeof(struct tag) > (__u8 *)(long)ctx->data_end)
		return false;
	__builtin_memcpy(macs, frame, sizeof(macs));
	__builtin_memcpy(frame + sizeof(struct tag), macs, sizeof(macs));
	return bpf_xdp_adjust_head(ctx, sizeof(struct tag)) == 0;
}

SEC("xdp.frags")
int dmm_xdp(struct xdp_md *ctx)
{
	struct way way = {.queue = ctx->rx_queue_index};
	enum dmm_xdp_counter what;
	int r = XDP_PASS;

	what = steer(ctx, (void *)(long)ctx->data, (void *)(long)ctx->data_end, &way);
	if (is_owned(what)) {
		if (thread_of_queue(way.queue) == way.thread)
			r = bpf_redirect_map(&xsks_map, way.queue, XDP_PASS);
		if (r == XDP_REDIRECT && way.tagged && !untag(ctx))
			r = XDP_PASS;
		if (r != XDP_REDIRECT && dmm_steer.threads > 1)
			return XDP_PASS; /* it is tc's to give, and to count */
		if (r != XDP_REDIRECT)
			what = DMM_X_PASS_NOXSK;
	}
	counted(what);
	return r;
}

struct dmm_frame_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, DMM_FRAMES_SIZE);
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, DMM_MAX_THREADS);
	__type(key, __u32);
	__array(values, struct dmm_frame_ring);
} dmm_frames SEC(".maps");

struct dmm_asleep dmm_asleep[DMM_MAX_THREADS];

/* Ethernet, IPv6, extensions, fragment, ICMPv6, IPv6, ports and sequence number: the longest that
 * is looked at. */
#define TC_HEADERS (14 + 40 + EXTENSIONS_MAX + 8 + 8 + 40 + 8)

/* Sizes of records: full frames of an MTU of 1500; of jumbo ones; and, in steps, of whatever
 * offload puts together. What a record does not use is not touched, but nobody else has it. */
#define GIVE_SMALL 2040
#define GIVE_STEP 16376
#define GIVE_LARGE (sizeof(struct dmm_frame) + DMM_FRAME_MAX)

/* Into a record of this size, which is a constant to the kernel. Returns what, or why not. */
static __always_inline enum dmm_xdp_counter give(struct __sk_buff *skb, void *ring, __u64 size,
						 enum dmm_xdp_counter what)
{
	struct dmm_frame *f = bpf_ringbuf_reserve(ring, size, 0);
	__u64 len = skb->len;

	if (!f)
		return DMM_X_DROP_FULL;
	if (len < ETH_HLEN)
		goto none;
	barrier_var(len); /* Linux 6.1 does not follow both bounds in one comparison */
	if (len > size - sizeof(*f) || bpf_skb_load_bytes(skb, 0, f->data, len) < 0)
		goto none;
	f->len = len;
	f->segment = skb->gso_size;
	bpf_ringbuf_submit(f, BPF_RB_NO_WAKEUP);
	return what;
none:
	bpf_ringbuf_discard(f, BPF_RB_NO_WAKEUP);
	return DMM_X_DROP_LONG;
}

/* The record is there before it is asked who sleeps, and who goes to sleep says so before looking
 * for records: one of both sees the other. A record of nothing carries the wake-up. */
static __always_inline void wake(void *ring, __u32 thread)
{
	struct dmm_asleep *asleep = &dmm_asleep[thread % DMM_MAX_THREADS];
	struct dmm_frame *f;

	if (!asleep->yes)
		return;
	asleep->yes = 0;
	f = bpf_ringbuf_reserve(ring, sizeof(*f), 0);
	if (f)
		bpf_ringbuf_discard(f, BPF_RB_FORCE_WAKEUP);
}

/* Likewise, into the ring of this thread. */
static __always_inline enum dmm_xdp_counter take(struct __sk_buff *skb, __u32 thread,
						 enum dmm_xdp_counter what)
{
	__u32 size = skb->len + sizeof(struct dmm_frame);
	void *ring = bpf_map_lookup_elem(&dmm_frames, &thread);

	if (!ring) /* they are there before the program is attached */
		return DMM_X_DROP_FULL;
	if (size <= GIVE_SMALL)
		what = give(skb, ring, GIVE_SMALL, what);
	else if (size <= GIVE_STEP)
		what = give(skb, ring, GIVE_STEP, what);
	else if (size <= 2 * GIVE_STEP)
		what = give(skb, ring, 2 * GIVE_STEP, what);
	else if (size <= 3 * GIVE_STEP)
		what = give(skb, ring, 3 * GIVE_STEP, what);
	else
		what = give(skb, ring, GIVE_LARGE, what);
	wake(ring, thread);
	return what;
}

SEC("tc")
int dmm_tc(struct __sk_buff *skb)
{
	struct way way = {.queue = skb->queue_mapping ? skb->queue_mapping - 1 : 0};
	enum dmm_xdp_counter what;
	bool owned;

	what = skb->vlan_present && (skb->vlan_tci & VLAN)
		       ? DMM_X_PASS_VLAN
		       : steer(skb, (void *)(long)skb->data, (void *)(long)skb->data_end, &way);
	if (what == DMM_X_PASS_SHORT && skb->len > skb->data_end - skb->data &&
	    bpf_skb_pull_data(skb, skb->len < TC_HEADERS ? skb->len : TC_HEADERS) == 0)
		what = steer(skb, (void *)(long)skb->data, (void *)(long)skb->data_end, &way);
	if (way.tagged) /* one was taken off before: this is the second */
		what = DMM_X_PASS_VLAN;
	owned = is_owned(what);
	if (owned)
		what = take(skb, way.thread, what);
	if (is_owned(what) && dmm_steer.queues)
		counted(DMM_X_WRONG_QUEUE);
	if (owned || !dmm_steer.queues) /* else XDP has counted it */
		counted(what);
	return owned ? TC_TAKEN : TC_NEXT;
}
