// SPDX-License-Identifier: GPL-2.0-only
/*
 * `flows`: an iterator over every live socket that has a verdict, in all network namespaces. The
 * truth is read from the sockets themselves, so there is no table that could leak or lag.
 */
#include "bpf/dmm_maps.bpf.h"
#include "bpf/dmm_flows.h"

char LICENSE[] SEC("license") = "GPL";

/* The kernel's own name of a socket that no carrier names. */
static __always_inline void local_of(struct sock *sk, struct dmm_addr *ret)
{
	struct sock_common *c = &sk->__sk_common;

	if (c->skc_family == AF_INET)
		addr_set_v4(ret, c->skc_rcv_saddr, c->skc_num);
	else
		BPF_CORE_READ_INTO((void *)ret->ip, c, skc_v6_rcv_saddr);
	ret->port = c->skc_num;
}

SEC("iter/bpf_sk_storage_map")
int dmm_flows(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct dmm_sock *st = ctx->value;
	struct sock *sk = ctx->sk;
	struct dmm_flow_row row;
	struct dmm_pair *pair;
	struct tcp_sock *tp;
	__u64 cookie;

	if (!st || !sk || (st->flags & DMM_SF_INSTANCE))
		return 0;
	__builtin_memset(&row, 0, sizeof(row));
	bpf_probe_read_kernel(&row.sock, sizeof(row.sock), st);
	row.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	row.tcp_state = sk->__sk_common.skc_state;
	if (!row.sock.local.port && !(row.sock.flags & (DMM_SF_CARRIER | DMM_SF_PENDING)))
		local_of(sk, &row.sock.local);
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp) {
		row.rx_bytes = tp->bytes_received;
		row.tx_bytes = tp->bytes_acked;
		row.srtt_us = tp->srtt_us >> 3;
		row.retrans = tp->total_retrans;
	}
	cookie = row.sock.cookie;
	pair = bpf_map_lookup_elem(&dmm_pair, &cookie);
	if (pair) {
		row.sock.carrier = DMM_CARRIER_SPLICE;
		row.rx_bytes += pair->rx;
		row.tx_bytes += pair->tx;
	}
	row.sock.kernel_sk = 0;
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}
