// SPDX-License-Identifier: GPL-2.0-only
/* Runs the classifier on a socket that the test describes. User and program are the test's own. */
#include "bpf/dmm_match.bpf.h"

char LICENSE[] SEC("license") = "GPL";

struct question {
	struct dmm_addr remote, local;
	__u32 group, role, proto;
	__u32 rule; /* out */
	__u64 cookie;
	__u64 use; /* out */
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
	c.cookie = q->cookie;
	q->rule = choose(&sel, &c) ? c.rule : 0xfffffffe;
	q->use = c.use;
	return 0;
}
