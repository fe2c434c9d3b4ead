// SPDX-License-Identifier: GPL-2.0-only
/* Runs the classifier on a socket that the test describes: user and program are the test's own. And
 * what others may have attached beside DMM. */
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

/* Accepted sockets that it was told the end of, as it asked for. */
__u64 other_closed;

SEC("sockops")
int other_sockops(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		bpf_sock_ops_cb_flags_set(ctx,
					  ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	if (ctx->op == BPF_SOCK_OPS_STATE_CB && ctx->args[1] == TCP_CLOSE)
		__sync_fetch_and_add(&other_closed, 1);
	return 1;
}
