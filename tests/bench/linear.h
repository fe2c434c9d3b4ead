/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Rules of the linear scan, between linear.bpf.c and classify.c: in network byte order. */
#ifndef DMM_BENCH_LINEAR_H
#define DMM_BENCH_LINEAR_H

#define LINEAR_MAX 65536

struct linear_rule {
	unsigned net, mask;
	unsigned short port[2];
};

#endif
