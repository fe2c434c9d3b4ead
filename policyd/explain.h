/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a socket gets what it gets: the walk through a rule's list of stacks as the BPF programs do
 * it (bpf/dmm_sock.bpf.c, walk_step()), over the maps as they are now.
 */
#ifndef DMM_POLICYD_EXPLAIN_H
#define DMM_POLICYD_EXPLAIN_H

#include "policyd/policy.h"

struct explain_step {
	dmm_u8 stack;
	bool reached; /* false: an earlier one was taken, or none is asked at all */
	bool taken;
	unsigned share; /* per mille of connections that are offered it first, where weighted */
	dmm_u8 why_not; /* enum dmm_reason, when reached and not taken */
};

struct explanation {
	dmm_u8 proto;  /* of the socket */
	unsigned rule; /* index, or DMM_RULE_NONE */
	struct explain_step step[DMM_MAX_USE];
	unsigned n;
	dmm_u8 stack; /* what the socket gets, enum dmm_reason with it */
	dmm_u8 reason;
	bool refused;	/* connect() fails */
	bool weighted;	/* the rule has weights */
	bool group_off; /* the whole group is switched off */
};

/*
 * cookie: of the socket, which decides where weights send it; 0: any, and the stack of the largest
 * weight is taken for it. netns: cookie of the socket's network namespace. What only the socket
 * itself knows (options, a bound device) is not asked: explain says what a plain one would get.
 */
void explain_socket(const struct tree *t, const struct dmm_class *c, const struct eval_socket *s,
		    dmm_u64 cookie, dmm_u64 netns, struct explanation *ret);

/* The congestion control that a socket gets with its stack: the rule's, the stack's, or NULL: that
 * of its engine, or of the kernel; or it is not TCP. */
const char *explain_congestion(const struct dmm_class *c, const struct explanation *e);

/* What a reason means, one clause. */
const char *explain_reason(unsigned reason);

#endif
