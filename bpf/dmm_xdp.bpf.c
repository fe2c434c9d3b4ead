// SPDX-License-Identifier: GPL-2.0-only
/*
 * Steering: gives the packets of an instance's flows and listening ports to its AF_XDP sockets.
 * Everything else goes on to the kernel: other protocols, VLAN tags, IP options, extension headers,
 * fragments, frames that cannot be parsed. A queue without a socket falls back to the kernel too.
 */
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include "bpf/dmm_maps.bpf.h"

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 dmm_stack_id;

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64); /* receive queues */
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

DMM_HASH(dmm_xflow, struct dmm_xflow_key, __u8, 262144);
/* A listener takes one entry, or one for each address if it is of one family only. */
DMM_HASH(dmm_xport, struct dmm_xport_key, __u8, 4 * DMM_MAX_LISTENS);

struct ip_key {
	__u8 ip[16];
};
DMM_HASH(dmm_xaddr, struct ip_key, __u8, 256);

static __always_inline int pass(enum dmm_xdp_counter why)
{
	percpu_add(&dmm_xdpctr, dmm_stack_id * DMM_XDP_SPACE + why, 1);
	return XDP_PASS;
}

static __always_inline int give(struct xdp_md *ctx, enum dmm_xdp_counter why)
{
	int r = bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);

	return pass(r == XDP_REDIRECT ? why : DMM_X_PASS_NOXSK) == XDP_PASS ? r : XDP_ABORTED;
}

static __always_inline void key_v4(__u8 *ret, __be32 ip)
{
	__u32 *w = (__u32 *)ret;

	w[0] = 0;
	w[1] = 0;
	w[2] = bpf_htonl(0xffff);
	w[3] = ip;
}

static __always_inline bool port_owned(const struct dmm_xflow_key *k)
{
	struct dmm_xport_key p = {.port = k->local_port, .proto = k->proto};

	__builtin_memcpy(p.local, k->local, 16);
	if (bpf_map_lookup_elem(&dmm_xport, &p))
		return true;
	__builtin_memset(p.local, 0, 16);
	return bpf_map_lookup_elem(&dmm_xport, &p) && bpf_map_lookup_elem(&dmm_xaddr, k->local);
}

/*
 * Does the kernel have this very connection? One that it accepted before the port was given to the
 * instance, or that has the port as its own end by chance. Only the instance's flows that are not
 * accepted yet, the last ACK of the handshake, pay for the look-up.
 */
static __always_inline bool kernel_has(struct xdp_md *ctx, const struct dmm_xflow_key *k)
{
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk;
	bool has;

	if (ip_is_v4(k->local)) {
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
	has = sk->state != TCP_LISTEN;
	bpf_sk_release(sk);
	return has;
}

static __always_inline int steer_tcp(struct xdp_md *ctx, void *l4, void *end,
				     struct dmm_xflow_key *k)
{
	struct tcphdr *th = l4;

	if ((void *)(th + 1) > end)
		return pass(DMM_X_PASS_SHORT);
	k->remote_port = th->source;
	k->local_port = th->dest;
	k->proto = IPPROTO_TCP;
	if (bpf_map_lookup_elem(&dmm_xflow, k))
		return give(ctx, DMM_X_FLOW);
	if (port_owned(k) && ((th->syn && !th->ack) || !kernel_has(ctx, k)))
		return give(ctx, DMM_X_PORT);
	return pass(DMM_X_PASS_MISS);
}

/* The first bytes of the TCP header that an ICMP error quotes: ports and sequence number. */
struct quoted_tcp {
	__be16 source, dest;
	__be32 seq;
};

/* The quoted packet is one that we sent: its source is our end. */
static __always_inline int steer_quoted(struct xdp_md *ctx, void *l4, void *end,
					struct dmm_xflow_key *k)
{
	struct quoted_tcp *q = l4;

	if ((void *)(q + 1) > end)
		return pass(DMM_X_PASS_SHORT);
	k->remote_port = q->dest;
	k->local_port = q->source;
	k->proto = IPPROTO_TCP;
	if (bpf_map_lookup_elem(&dmm_xflow, k))
		return give(ctx, DMM_X_ICMP);
	return pass(DMM_X_PASS_PROTO);
}

struct icmp_head {
	__u8 type, code;
	__be16 check;
	__be32 rest;
};

static __always_inline int steer_icmp4(struct xdp_md *ctx, void *l4, void *end)
{
	struct dmm_xflow_key k = {};
	struct icmp_head *ih = l4;
	struct iphdr *in = (void *)(ih + 1);

	if ((void *)(in + 1) > end || ih->type != 3)
		return pass(DMM_X_PASS_PROTO);
	if (in->ihl != 5 || in->protocol != IPPROTO_TCP)
		return pass(DMM_X_PASS_PROTO);
	key_v4(k.remote, in->daddr);
	key_v4(k.local, in->saddr);
	return steer_quoted(ctx, in + 1, end, &k);
}

static __always_inline int steer_icmp6(struct xdp_md *ctx, void *l4, void *end)
{
	struct dmm_xflow_key k = {};
	struct icmp_head *ih = l4;
	struct ipv6hdr *in = (void *)(ih + 1);

	if ((void *)(in + 1) > end || (ih->type != 1 && ih->type != 2))
		return pass(DMM_X_PASS_PROTO);
	if (in->nexthdr != IPPROTO_TCP)
		return pass(DMM_X_PASS_PROTO);
	__builtin_memcpy(k.remote, &in->daddr, 16);
	__builtin_memcpy(k.local, &in->saddr, 16);
	return steer_quoted(ctx, in + 1, end, &k);
}

static __always_inline int steer4(struct xdp_md *ctx, void *l3, void *end)
{
	struct dmm_xflow_key k = {};
	struct iphdr *ip = l3;

	if ((void *)(ip + 1) > end)
		return pass(DMM_X_PASS_SHORT);
	if (ip->version != 4 || ip->ihl < 5)
		return pass(DMM_X_PASS_SHORT);
	if (ip->ihl != 5)
		return pass(DMM_X_PASS_OPTION);
	if (ip->frag_off & bpf_htons(0x3fff))
		return pass(DMM_X_PASS_FRAG);
	if (ip->protocol == IPPROTO_ICMP)
		return steer_icmp4(ctx, ip + 1, end);
	if (ip->protocol != IPPROTO_TCP)
		return pass(DMM_X_PASS_PROTO);
	key_v4(k.remote, ip->saddr);
	key_v4(k.local, ip->daddr);
	return steer_tcp(ctx, ip + 1, end, &k);
}

static __always_inline int steer6(struct xdp_md *ctx, void *l3, void *end)
{
	struct dmm_xflow_key k = {};
	struct ipv6hdr *ip = l3;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return pass(DMM_X_PASS_SHORT);
	if (ip->nexthdr == IPPROTO_ICMPV6)
		return steer_icmp6(ctx, ip + 1, end);
	switch (ip->nexthdr) {
	case IPPROTO_TCP:
		break;
	case 44: /* fragment */
		return pass(DMM_X_PASS_FRAG);
	case 0:	  /* hop-by-hop */
	case 43:  /* routing */
	case 51:  /* authentication */
	case 60:  /* destination options */
	case 135: /* mobility */
		return pass(DMM_X_PASS_OPTION);
	default:
		return pass(DMM_X_PASS_PROTO);
	}
	__builtin_memcpy(k.remote, &ip->saddr, 16);
	__builtin_memcpy(k.local, &ip->daddr, 16);
	return steer_tcp(ctx, ip + 1, end, &k);
}

SEC("xdp.frags")
int dmm_xdp(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > end)
		return pass(DMM_X_PASS_SHORT);
	switch (eth->h_proto) {
	case bpf_htons(ETH_P_IP):
		return steer4(ctx, eth + 1, end);
	case bpf_htons(ETH_P_IPV6):
		return steer6(ctx, eth + 1, end);
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		return pass(DMM_X_PASS_VLAN);
	}
	return pass(DMM_X_PASS_PROTO);
}
