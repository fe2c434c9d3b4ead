// SPDX-License-Identifier: GPL-2.0-only
/* Runs the classifier on a socket that the test describes. */
#include "bpf/dmm_match.bpf.h"

char LICENSE[] SEC("license") = "GPL";

struct question {
	struct dmm_addr remote, local;
	__u32 group, role, proto;
	__u32 rule; /* out */
};

SEC("syscall")
int dmm_ask(struct question *q)
{
	struct selector sel = {};
	struct choice c = {};

	sel.remote = q->remote;
	sel.local = q->local;
	sel.group = q->group;
	sel.role = q->role;
	sel.proto = q->proto;
	q->rule = choose(&sel, &c) ? c.rule : 0xfffe;
	return 0;
}
