/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Congestion control: how the window grows, and how far it shrinks. When it shrinks is
 * recovery.c's. One with sample() has a model of the path instead: it sets conn.rate when it
 * begins, and rules conn.cwnd and conn.rate->pace itself, in recovery too; of the others' functions
 * it has shrink().
 */
#ifndef DMM_USERSTACK_NATIVE_CC_H
#define DMM_USERSTACK_NATIVE_CC_H

#include <stdbool.h>
#include <stdint.h>

struct engine_conn;
struct sent;
struct rate_sample;
struct bbr; /* bbr.h */

/* How the congestion window is ruled. */
enum congestion {
	CONGESTION_OPEN,
	CONGESTION_REDUCE,  /* the window shrinks, nothing is missing; of shrink(): ECN */
	CONGESTION_RECOVER, /* fast recovery */
	CONGESTION_LOSS,    /* after an RTO */
};

struct cubic {
	uint64_t epoch;	       /* 0: begins with the next ACK */
	uint64_t grew_at;      /* in this epoch */
	uint32_t mss;	       /* as it was when the epoch began */
	uint32_t w_max, prior; /* cwnd when it shrank last: to aim at, and as it was */
	uint32_t w_max_before, prior_before;
	double k, w_est, credit; /* in seconds; what Reno would have; bytes that cwnd may grow */
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
	struct bbr *bbr;
};

struct cc_ops {
	const char *name;
	/* Nothing has been sent. False: no memory. */
	bool (*init)(struct engine_conn *c);
	/* The connection ends, or wants another one: also without init(). NULL: nothing to free. */
	void (*fini)(struct engine_conn *c);
	/* bytes were acknowledged while the window was in use; rtt_us 0: no sample. */
	void (*grow)(struct engine_conn *c, uint32_t bytes, uint32_t rtt_us);
	/* Congestion: the new ssthresh, in bytes. how: anything but CONGESTION_OPEN. */
	uint32_t (*shrink)(struct engine_conn *c, enum congestion how);
	/* Every ACK, with what it says of marks. NULL: not wanted. */
	void (*mark)(struct engine_conn *c, uint32_t bytes, bool marked);
	/* The sender was idle. NULL: nothing. */
	void (*restart)(struct engine_conn *c);
	/* The last shrink() was a mistake; conn.cwnd is as before. NULL: nothing. */
	void (*undo)(struct engine_conn *c);
	/* An ACK that says of new bytes that they arrived, after all else that it does. */
	void (*sample)(struct engine_conn *c, const struct rate_sample *s);
	/* Before shrink(), of each segment; with sample(). */
	void (*lost)(struct engine_conn *c, struct sent *t);
};

extern const struct cc_ops cc_cubic, cc_newreno, cc_dctcp, cc_bbr;

/* NULL: there is none of this name. */
const struct cc_ops *cc_find(const char *name);

/* From now on c has this one; or NewReno, which needs nothing, if there is no memory for it. */
void cc_begin(struct engine_conn *c, const struct cc_ops *cc);
void cc_end(struct engine_conn *c);

/* RFC 6928. */
uint32_t cc_initial_window(uint32_t mss);
/* Slow start's part of the growth; returns the bytes that are left for avoidance. */
uint32_t cc_slow_start(struct engine_conn *c, uint32_t bytes);
/* Reno's avoidance: the new window. */
uint32_t cc_avoidance(uint32_t cwnd, uint32_t mss, uint32_t bytes, uint32_t *credit);
uint32_t cc_half(struct engine_conn *c, enum congestion how);

#endif
