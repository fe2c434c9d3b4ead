// SPDX-License-Identifier: GPL-2.0-only
/*
 * Socket filter of an instance's carrier listeners: holds an application's SYN until the far side
 * has answered. The SYN is copied to the instance's event ring and dropped; the instance sends it
 * again, marked, when the connection exists, or answers it with a reset or an ICMP error.
 *
 * Every carrier has the filter, accepted ones by inheritance: it also tells of urgent bytes, of the
 * type of service that the application wants, and of its keepalives.
 * Carriers of UDP have others, dmm_local and dmm_first.
 */
#include "bpf/dmm_hold.h"
#include "bpf/dmm_maps.bpf.h"

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 dmm_stack_id;
const volatile __u64 dmm_netns;

/* Did an urgent byte ever come over a carrier? It is told before the byte can be read: until then
 * the instance need not ask any carrier for its mark. */
__u32 dmm_urgent;

/* Did a packet ever have a type of service, or an end of the instance? Until then no carrier's end
 * has to be looked at. */
__u32 dmm_tos_seen;

/* How often a type of service was told. It is before the bytes that have it can be read. */
__u32 dmm_tos_told;

/* The instance's own, as large as those in dmm_events; the loader puts the same map there. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, DMM_EVENT_RING);
} dmm_ring SEC(".maps");

static __always_inline void hold_count(enum dmm_hold_counter c)
{
	percpu_add(&dmm_holdctr, dmm_stack_id * DMM_HOLD_SPACE + c, 1);
}

struct tcp_head {
	__be16 source, dest;
	__be32 seq, ack_seq;
	__u8 doff, flags;
	__be16 window, check, urg;
};
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_URG 0x20
#define TCP_FLAGS 0x3f /* without those of ECN: with AccECN every segment may have them */

/* Those in which the instance has a carrier; and may have one soon. */
#define CARRIER_STATES \
	(1u << BPF_TCP_ESTABLISHED | 1u << BPF_TCP_FIN_WAIT1 | 1u << BPF_TCP_FIN_WAIT2 | \
	 1u << BPF_TCP_CLOSE_WAIT)
#define TOS_STATES (CARRIER_STATES | 1u << BPF_TCP_SYN_SENT)

static __always_inline int addrs4(struct __sk_buff *skb, struct dmm_tuple *t)
{
	__be32 ip[2];

	if (bpf_skb_load_bytes_relative(skb, 12, ip, sizeof(ip), BPF_HDR_START_NET))
		return -1;
	addr_set_v4(&t->src, ip[0], 0);
	addr_set_v4(&t->dst, ip[1], 0);
	return 0;
}

static __always_inline int addrs6(struct __sk_buff *skb, struct dmm_tuple *t)
{
	__be32 ip[8];

	if (bpf_skb_load_bytes_relative(skb, 8, ip, sizeof(ip), BPF_HDR_START_NET))
		return -1;
	addr_set_v6(&t->src, ip[0], ip[1], ip[2], ip[3], 0);
	addr_set_v6(&t->dst, ip[4], ip[5], ip[6], ip[7], 0);
	return 0;
}

/* Copy the IP and TCP headers: of a plain SYN they are all there is. The length is tried downward,
 * as the helper copies all or nothing. */
static __always_inline void copy_headers(struct __sk_buff *skb, struct dmm_event *ev, __u32 l4_off,
					 __u32 tcp_len)
{
	__u32 len = l4_off + tcp_len;

	ev->l4_off = l4_off;
	if (len > DMM_SYN_HDR)
		len = DMM_SYN_HDR;
	if (len < 40)
		return;
	len &= 0xff;
	if (len > DMM_SYN_HDR)
		return;
	if (bpf_skb_load_bytes_relative(skb, 0, ev->hdr, len, BPF_HDR_START_NET) == 0)
		ev->hdr_len = len;
}

/*
 * The ring is also what tells of listeners, and anybody on this host can send a SYN here: strangers
 * get half of it, and no SYN gets the last part.
 */
static __always_inline bool ring_has_room(bool known)
{
	__u64 used = bpf_ringbuf_query(&dmm_ring, BPF_RB_AVAIL_DATA);

	return used < (known ? DMM_EVENT_RING_FULL : DMM_EVENT_RING / 2);
}

static __always_inline struct dmm_flow *find_flow(struct dmm_tuple *t)
{
	__u64 *cookie = bpf_map_lookup_elem(&dmm_tuple, t);
	struct dmm_flow *flow = cookie ? bpf_map_lookup_elem(&dmm_pending, cookie) : NULL;

	if (flow && flow->stack == dmm_stack_id)
		return flow;
	hold_count(DMM_H_STRANGER);
	return NULL;
}

/*
 * Handshakes that were let go, by the application's end. The kernel (6.18 at least) takes a
 * connection out of its table as a request and puts it in as a socket, in two steps: a packet that
 * another CPU looks up between them ends at the listener, which answers with a reset. Without the
 * hold one CPU, the application's, does all of it in turn; here the handshake runs where the
 * instance does, and the application's first data elsewhere. So, of what comes to the listener (a
 * request's packets do, too), the first ACK goes through, and others right behind it are dropped.
 * What is in them the instance sends again, which is over in the time that the handshake needs; it
 * would take the application's kernel 16 ms.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct dmm_tuple);
	__type(value, __u64); /* when its first ACK came; 0: not yet */
} dmm_shake SEC(".maps");
#define SHAKE_NS 4000000ULL /* less than the 8 ms that carriers retransmit after */

static __always_inline int shake_begin(struct __sk_buff *skb, const struct tcp_head *th, bool v4)
{
	struct dmm_tuple t = {.netns = dmm_netns};
	__u64 none = 0;

	if (v4 ? addrs4(skb, &t) : addrs6(skb, &t))
		return -1;
	t.src.port = bpf_ntohs(th->source);
	t.dst.port = bpf_ntohs(th->dest);
	bpf_map_update_elem(&dmm_shake, &t, &none, 0);
	return -1;
}

static __always_inline void shake_again(struct __sk_buff *skb, const struct tcp_head *th,
					const struct dmm_tuple *t, bool v4)
{
	__u32 tcp_len = (th->doff >> 4) * 4, len = skb->len - tcp_len;
	struct dmm_again *a;

	if (skb->len < tcp_len || len > DMM_AGAIN_MAX ||
	    (!len && !(th->flags & (TCP_FIN | TCP_RST))))
		return; /* of an ACK alone another will come */
	if (skb->mark == DMM_MARK || !ring_has_room(false))
		return;
	a = bpf_ringbuf_reserve(&dmm_ring, sizeof(*a), 0);
	if (!a)
		return;
	__builtin_memset(&a->ev, 0, sizeof(a->ev));
	a->ev.type = DMM_EV_AGAIN;
	a->ev.tuple = *t;
	copy_headers(skb, &a->ev, v4 ? 20 : 40, tcp_len);
	len &= DMM_AGAIN_MAX;
	a->len = len;
	/* Linux 6.1 wants bounds of this very register, and learns none from a test for 0. */
	asm volatile("" : "+r"(len));
	if ((__s32)len > 0 && bpf_skb_load_bytes(skb, tcp_len, a->data, len)) {
		bpf_ringbuf_discard(a, 0);
		return;
	}
	bpf_ringbuf_submit(a, 0);
	hold_count(DMM_H_AGAIN);
}

static __always_inline int shake_ack(struct __sk_buff *skb, const struct tcp_head *th, bool v4)
{
	struct dmm_tuple t = {.netns = dmm_netns};
	struct bpf_sock *sk = skb->sk;
	__u64 *first, now;

	if (!sk || sk->state != BPF_TCP_LISTEN || (v4 ? addrs4(skb, &t) : addrs6(skb, &t)))
		return -1;
	t.src.port = bpf_ntohs(th->source);
	t.dst.port = bpf_ntohs(th->dest);
	first = bpf_map_lookup_elem(&dmm_shake, &t);
	if (!first)
		return -1;
	now = bpf_ktime_get_ns();
	if (*first && now - *first < SHAKE_NS) {
		shake_again(skb, th, &t, v4);
		return 0;
	}
	*first = now;
	return -1;
}

static __always_inline __u8 packet_tos(struct __sk_buff *skb, bool v4)
{
	__u8 ip[2];

	if (bpf_skb_load_bytes_relative(skb, 0, ip, sizeof(ip), BPF_HDR_START_NET))
		return 0;
	return (v4 ? ip[1] : ip[0] << 4 | ip[1] >> 4) & DMM_TOS_MASK;
}

/* What is set of the instance's end, without the bits of ECN. */
static __always_inline __u8 own_tos(const void *sk, bool v4)
{
	struct inet_sock *inet = (struct inet_sock *)address_of(sk);
	__u8 tos = v4 || !bpf_core_field_exists(inet->pinet6) ? BPF_CORE_READ(inet, tos)
							      : BPF_CORE_READ(inet, pinet6, tclass);

	return tos & DMM_TOS_MASK;
}

/* Of a packet that comes to an end of the instance. */
static __always_inline bool carrier_event(struct __sk_buff *skb, const struct tcp_head *th, bool v4,
					  __u32 type)
{
	struct dmm_event *ev;

	if (!ring_has_room(false))
		return false;
	ev = bpf_ringbuf_reserve(&dmm_ring, sizeof(*ev), 0);
	if (!ev)
		return false;
	__builtin_memset(ev, 0, sizeof(*ev));
	ev->type = type;
	ev->flow.cookie = bpf_get_socket_cookie(skb);
	ev->tuple.netns = dmm_netns;
	if (v4 ? addrs4(skb, &ev->tuple) : addrs6(skb, &ev->tuple)) {
		bpf_ringbuf_discard(ev, 0);
		return false;
	}
	ev->tuple.src.port = bpf_ntohs(th->source);
	ev->tuple.dst.port = bpf_ntohs(th->dest);
	copy_headers(skb, ev, v4 ? 20 : 40, (th->doff >> 4) * 4);
	bpf_ringbuf_submit(ev, 0);
	return true;
}

/*
 * An application says what it wants by setsockopt(), at any time, and no program is called for that
 * which would not be called for all of its sockets. But its packets have it: one that differs from
 * what the instance has set of its own end is told. The instance sets the same there, and nothing
 * more is told; what finds no room in the ring the next packet tells. A reset has the type of
 * service of what it answers.
 */
static __always_inline void look_at_tos(struct __sk_buff *skb, const struct tcp_head *th, bool v4,
					__u8 tos)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk || th->flags & TCP_RST || !(TOS_STATES >> (sk->state & 31) & 1))
		return;
	if (tos != own_tos(sk, v4) && carrier_event(skb, th, v4, DMM_EV_TOS))
		__sync_fetch_and_add(&dmm_tos_told, 1);
}

/* Without options of IP, which an application may set at any time: the instance can send no packet
 * again that has some. */
static __always_inline bool is_plain(struct __sk_buff *skb, bool v4)
{
	__u8 b;

	if (bpf_skb_load_bytes_relative(skb, v4 ? 0 : 6, &b, 1, BPF_HDR_START_NET))
		return false;
	return b == (v4 ? 0x45 : IPPROTO_TCP);
}

/*
 * SO_KEEPALIVE asks for the far side, not for the instance, which would always answer. So what asks
 * is dropped and told, and the instance sends it again when the far side has answered it: whether,
 * how often and for how long to ask stays the application's kernel's. It is an ACK with an old
 * number (RFC 9293, 3.8.4). So is a question for a window that was closed, but then there are bytes
 * that the instance has not read.
 */
static __always_inline bool is_keepalive(struct __sk_buff *skb, const struct tcp_head *th, bool v4)
{
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *tp;
	__u32 next;

	if ((th->flags & TCP_FLAGS) != TCP_ACK || skb->len != (th->doff >> 4) * 4 ||
	    skb->mark == DMM_MARK)
		return false;
	if (!sk || !(CARRIER_STATES >> (sk->state & 31) & 1))
		return false;
	tp = (struct tcp_sock *)address_of(sk);
	next = BPF_CORE_READ(tp, rcv_nxt);
	return bpf_ntohl(th->seq) == next - 1 && /* a FIN may count as one */
	       next - BPF_CORE_READ(tp, copied_seq) <= 1 && is_plain(skb, v4);
}

SEC("socket")
int dmm_hold(struct __sk_buff *skb)
{
	bool v4 = skb->protocol == bpf_htons(0x0800);
	struct dmm_tuple t = {.netns = dmm_netns};
	struct dmm_event *ev = NULL;
	struct dmm_flow *flow;
	struct tcp_head th;
	__u8 tos;

	if (bpf_skb_load_bytes(skb, 0, &th, sizeof(th)))
		return 0;
	if (th.flags & TCP_URG)
		dmm_urgent = 1;
	tos = packet_tos(skb, v4);
	if (tos && !dmm_tos_seen) /* it is written once: all CPUs read it */
		dmm_tos_seen = 1;
	if ((th.flags & (TCP_SYN | TCP_ACK)) != TCP_SYN) { /* and all that follows */
		if (dmm_tos_seen)
			look_at_tos(skb, &th, v4, tos);
		if (is_keepalive(skb, &th, v4) && carrier_event(skb, &th, v4, DMM_EV_KEEPALIVE))
			return 0;
		return shake_ack(skb, &th, v4);
	}
	if (skb->mark == DMM_MARK) {
		hold_count(DMM_H_RELEASED);
		return shake_begin(skb, &th, v4);
	}
	hold_count(DMM_H_HELD);
	if (v4 ? addrs4(skb, &t) : addrs6(skb, &t))
		return 0;
	t.src.port = bpf_ntohs(th.source);
	t.dst.port = bpf_ntohs(th.dest);
	flow = find_flow(&t);
	if (ring_has_room(flow))
		ev = bpf_ringbuf_reserve(&dmm_ring, sizeof(*ev), 0);
	if (!ev) {
		hold_count(DMM_H_LOST); /* the application's kernel sends it again in a second */
		return 0;
	}
	__builtin_memset(ev, 0, sizeof(*ev));
	ev->type = DMM_EV_SYN;
	ev->isn = bpf_ntohl(th.seq);
	ev->tuple = t;
	if (flow) {
		ev->flow = *flow;
		ev->known = 1;
	}
	copy_headers(skb, ev, v4 ? 20 : 40, (th.doff >> 4) * 4);
	bpf_ringbuf_submit(ev, 0);
	return 0;
}

#define LO_IFINDEX 1 /* the first interface of every network namespace */

/* Of UDP carriers: nothing but what comes over loopback. */
SEC("socket")
int dmm_local(struct __sk_buff *skb)
{
	return skb->ifindex == LO_IFINDEX ? -1 : 0;
}

/* Is this from the socket of the flow? */
static __always_inline bool from_flow(const struct dmm_flow *flow, const __be16 port[2])
{
	struct sock *sk = (struct sock *)flow->kernel_sk;

	return BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) == flow->cookie &&
	       BPF_CORE_READ(sk, __sk_common.skc_num) == bpf_ntohs(port[0]) &&
	       BPF_CORE_READ(sk, __sk_common.skc_dport) == port[1];
}

/*
 * The same of one that was offered. This runs, as a rule, while the application sends: a port that
 * the kernel has chosen is learnt from the socket here, for it may have another as soon as send()
 * returns, if it connects to nothing (AF_UNSPEC). With RPS on lo it may run later, on another CPU.
 */
SEC("socket")
int dmm_first(struct __sk_buff *skb)
{
	struct dmm_udp_key key = {.netns = dmm_netns};
	struct dmm_flow *flow;
	__be16 port[2]; /* source and destination */

	if (skb->ifindex != LO_IFINDEX || bpf_skb_load_bytes(skb, 0, port, sizeof(port)))
		return 0;
	key.port = bpf_ntohs(port[1]);
	flow = bpf_map_lookup_elem(&dmm_udp, &key);
	if (flow && !flow->local.port && from_flow(flow, port))
		flow->local.port = bpf_ntohs(port[0]);
	return -1;
}

/* In place, in the kernel: to read the record, change it and write it back would undo what the
 * socket's next connect() puts there meanwhile. Returns whether it was. */
SEC("syscall")
int dmm_set_local(struct dmm_set_local *ctx)
{
	struct dmm_set_local a = *ctx;
	struct dmm_flow *flow = bpf_map_lookup_elem(&dmm_pending, &a.cookie);

	if (!flow || flow->since_ns != a.since_ns || !addr_same(&flow->remote, &a.remote))
		return 0;
	flow->local = a.local;
	flow->congestion = a.congestion;
	return 1;
}

/* The same of an announced listener, whose group may get another name meanwhile. */
SEC("syscall")
int dmm_set_off(struct dmm_set_off *ctx)
{
	struct dmm_set_off a = *ctx;
	struct dmm_listener *l = bpf_map_lookup_elem(&dmm_listen, &a.cookie);

	if (!l)
		return 0;
	l->off = a.off;
	return 1;
}

/* The port that the kernel gave the application's socket while it connected: read from the socket,
 * if it is still that one, and connected there. */
SEC("syscall")
int dmm_udp_port(struct dmm_udp_key *ctx)
{
	struct dmm_udp_key key = *ctx;
	struct dmm_flow *flow = bpf_map_lookup_elem(&dmm_udp, &key);
	__u32 bits, port;
	struct sock *sk;

	if (!flow)
		return DMM_UDP_LEFT;
	sk = (struct sock *)flow->kernel_sk;
	bits = flow->gated ? DMM_UDP_LEFT : 0;
	port = flow->local.port;
	if (BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) != flow->cookie)
		return DMM_UDP_LEFT | port; /* it is another's by now */
	if (BPF_CORE_READ(sk, __sk_common.skc_dport) != bpf_htons(key.port))
		bits |= DMM_UDP_MOVED;
	else if (!port)
		port = BPF_CORE_READ(sk, __sk_common.skc_num);
	return bits | port;
}
