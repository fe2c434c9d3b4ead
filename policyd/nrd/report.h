/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was measured of connections of one rule that one stack carried to one remote prefix: a
 * single one, or many that were counted together. Who sends it may lie or be broken, so that it is
 * judged before it is believed: what contradicts itself is refused whole, absurd values are left
 * out, and one report counts for no more than REPORT_MAX connections.
 */
#ifndef DMM_POLICYD_NRD_REPORT_H
#define DMM_POLICYD_NRD_REPORT_H

#include <stdbool.h>

#include "policyd/nrd/hist.h"

#define REPORT_MAX 256		    /* connections of one report that count */
#define REPORT_SEGMENTS 1000	    /* of a connection that count, on average of its report */
#define REPORT_ABSURD_US 120000000U /* no handshake and no round trip takes two minutes */
#define REPORT_RATE_BYTES 65536	    /* fewer bytes say nothing of a connection's rate */

enum report_metric {
	REPORT_CONNECT, /* microseconds from connect() to its result */
	REPORT_SRTT,	/* microseconds, smoothed; where the stack tells */
	REPORT_RATE,	/* kilobytes a second of a connection's life, where it moved enough */
	REPORT_METRICS
};

/* By enum dmm_failure, NULL behind them. */
extern const char *const report_failure_words[DMM_FAILURES + 1];

struct report {
	unsigned rule;	   /* as nrd_rule() numbers it */
	unsigned stack;	   /* place in the rule's list */
	dmm_u64 source;	   /* which host; 0: this one */
	dmm_u8 remote[16]; /* an address of the prefix, v4-mapped */
	dmm_u32 connections;
	/* By enum dmm_failure. The far side may be the cause: only what fails more often on one
	 * stack than on another tells something of it. */
	dmm_u32 failed[DMM_FAILURES];
	dmm_u64 segments, resent;
	struct hist hist[REPORT_METRICS];
};

/* One connection. Zero: not known. */
struct report_sample {
	dmm_u32 connect_us, srtt_us;
	dmm_u64 bytes, life_us; /* moved in both directions, while established */
	dmm_u64 segments, resent;
	int error;  /* errno; 0: it worked */
	bool again; /* it was counted before, when it began */
};
void report_add(struct report *r, const struct report_sample *s);

/* All samples are in: there are as many connections as it has values of, although some may have
 * been counted in an earlier report. */
void report_settle(struct report *r);

enum report_refusal {
	REPORT_TAKEN,
	REPORT_NO_RULE,	    /* no auto rule has this number */
	REPORT_NO_STACK,    /* the rule does not have it */
	REPORT_EMPTY,	    /* of no connection */
	REPORT_CONTRADICTS, /* more failures or values than connections, more resent than sent */
	REPORT_REFUSALS
};
extern const char *const report_refusal_words[REPORT_REFUSALS];

dmm_u32 report_failed(const struct report *r);

/* Does it agree with itself? REPORT_TAKEN or why not. */
enum report_refusal report_judge(const struct report *r);

/*
 * Leave absurd values out and scale all counts down to `most` connections, and segments to
 * REPORT_SEGMENTS for each, rounding by chance so that rare values keep their weight on average.
 * *random is the state of a generator. True if it changed anything.
 */
bool report_bound(struct report *r, dmm_u32 most, dmm_u64 *random);

#endif
