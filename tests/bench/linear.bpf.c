// SPDX-License-Identifier: GPL-2.0-only
/* What the classifier is compared with: rules one after the other until one fits. */
#include "bpf/dmm_kernel.bpf.h"

#include "tests/bench/linear.h"

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LINEAR_MAX);
	__type(key, __u32);
	__type(value, struct linear_rule);
} linear_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} linear_count SEC(".maps");

struct search {
	__u32 ip, found;
	__u16 port;
};

static long linear_step(__u32 i, void *data)
{
	struct search *s = data;
	struct linear_rule *r = bpf_map_lookup_elem(&linear_rules, &i);

	if (!r || (s->ip & r->mask) != r->net || (s->port != r->port[0] && s->port != r->port[1]))
		return 0;
	s->found = i + 1;
	return 1;
}

SEC("cgroup/connect4")
int linear_connect4(struct bpf_sock_addr *ctx)
{
	struct search s = {.ip = ctx->user_ip4, .port = ctx->user_port};
	__u32 zero = 0, *n = bpf_map_lookup_elem(&linear_count, &zero);

	if (n)
		bpf_loop(*n, linear_step, &s, 0);
	return s.found || ctx->user_ip4; /* or the compiler leaves the search out */
}
