// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program that passes everything, for the AF_XDP driver of DPDK: it takes every packet of the
 * interface unless it is given a program of its own to attach, with a map of this name. Each time
 * that it has attached it, it is taken off again, and at last comes the steering program.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

SEC("xdp")
int dmm_blank(struct xdp_md *ctx)
{
	return XDP_PASS;
}
