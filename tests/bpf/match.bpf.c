// SPDX-License-Identifier: GPL-2.0-only
/* Runs the classifier on a socket that the test describes. User and program are the test's own. */
#include "bpf/dmm_match.bpf.h"
#include "tests/bpf/match.h"

char LICENSE[] SEC("license") = "GPL";

static __noinline void answer(const struct selector *sel, __u64 cookie, struct answer *ret)
{
	struct choice c = {.cookie = cookie};

	ret->rule = choose(sel, &c) ? c.rule : 0xfffffffe;
	ret->use = c.use;
	ret->found = c.found;
	ret->why = c.why;
}

SEC("syscall")
int dmm_ask(struct question *q)
{
	struct selector sel = {};
	struct answer a;

	sel.remote = q->remote;
	sel.local = q->local;
	sel.group = q->group;
	sel.role = q->role;
	sel.proto = q->proto;
	answer(&sel, q->cookie, &a);
	q->first = a;
	answer(&sel, q->cookie, &a);
	q->again = a;
	return 0;
}
