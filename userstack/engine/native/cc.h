/* SPDX-License-Identifier: Apache-2.0 */
/* Congestion control: how the window grows, and how far it shrinks. When it shrinks is
 * recovery.c's. */
#ifndef DMM_USERSTACK_NATIVE_CC_H
#define DMM_USERSTACK_NATIVE_CC_H

#include <stdbool.h>
#include <stdint.h>

struct engine_conn;

struct cubic {
	uint64_t epoch;	 /* 0: begins with the next ACK */
	double w_max, k; /* segments, seconds */
	double w_est;	 /* segments: what Reno would have */
	double credit;	 /* of a segment */
	/* HyStart++, RFC 9406 */
	uint32_t round_end, last_min_us, min_us, css_min_us;
	uint8_t samples, css_rounds;
};

struct dctcp {
	uint32_t window_end;
	uint32_t acked, marked; /* bytes in this window */
	uint32_t credit;
	double alpha;
};

union cc_state {
	struct cubic cubic;
	struct dctcp dctcp;
	uint32_t newreno_credit;
};

struct cc_ops {
	const char *name;
	void (*init)(struct engine_conn *c);
	/* bytes were acknowledged while the window was in use; rtt_us 0: no sample. */
	void (*grow)(struct engine_conn *c, uint32_t bytes, uint32_t rtt_us);
	/* Congestion: the new ssthresh, in bytes. ecn: no loss, a mark. */
	uint32_t (*shrink)(struct engine_conn *c, bool ecn);
	/* Every ACK, with what it says of marks. NULL: not wanted. */
	void (*mark)(struct engine_conn *c, uint32_t bytes, bool marked);
	/* The sender was idle, or the last shrink() was a mistake: NULL: nothing. */
	void (*restart)(struct engine_conn *c);
};

extern const struct cc_ops cc_cubic, cc_newreno, cc_dctcp;

/* NULL: there is none of this name. */
const struct cc_ops *cc_find(const char *name);

/* RFC 6928. */
uint32_t cc_initial_window(uint32_t mss);
/* Slow start's part of the growth; returns the bytes that are left for avoidance. */
uint32_t cc_slow_start(struct engine_conn *c, uint32_t bytes);
/* Reno's avoidance: the new window. */
uint32_t cc_avoidance(uint32_t cwnd, uint32_t mss, uint32_t bytes, uint32_t *credit);
uint32_t cc_half(struct engine_conn *c, bool ecn);

#endif
