/* SPDX-License-Identifier: Apache-2.0 */
/* What BBR (cc-bbr.c) knows of a path, and what it does with it at the moment. */
#ifndef DMM_USERSTACK_NATIVE_BBR_H
#define DMM_USERSTACK_NATIVE_BBR_H

#include "userstack/engine/native/rate.h"

enum bbr_state {
	BBR_STARTUP, /* twice as fast in each round trip, until the path is full */
	BBR_DRAIN,   /* what that queued goes */
	/* ProbeBW: slower, as fast as the path, the same with all that it takes, faster */
	BBR_DOWN,
	BBR_CRUISE,
	BBR_REFILL,
	BBR_UP,
	BBR_PROBE_RTT, /* half of what the path holds, so that no queue is in what is measured */
	BBR_NO_STATE,
};

/* Which segments those are that ACKs tell of. */
enum bbr_acks {
	BBR_ACKS_PLAIN,
	BBR_ACKS_REFILLING,
	BBR_ACKS_STARTING, /* to probe; what arrives was sent before that */
	BBR_ACKS_FEEDBACK,
	BBR_ACKS_STOPPING,
};

/* Undo: what a recovery changed that turns out to be a mistake. */
struct bbr_undo {
	uint64_t bw_short;
	uint32_t inflight_short, inflight_long;
	uint8_t state; /* enum bbr_state: the one that a loss ended; NO_STATE: none */
};

/*
 * Rates are in bytes a second, times in nanoseconds, inflight in bytes. _short: what congestion
 * allows until the next probe; _long: what it is known to allow. Both are as large as can be when
 * nothing is known. _latest: the highest of this round trip of looking for losses.
 */
struct bbr {
	struct rate rate;
	uint64_t bw_max[2]; /* the highest sample of the last cycle of ProbeBW, and of this one */
	uint64_t bw, bw_short, bw_latest;
	uint64_t bw_full; /* what is to grow by a quarter, or the path is full */
	uint64_t min_rtt, min_rtt_at;
	uint64_t probe_rtt, probe_rtt_at; /* the same of a shorter time: what ProbeRTT waits for */
	uint64_t probe_rtt_done;	  /* 0: there is still too much under way */
	uint64_t cycle_at, cycle_wait;	  /* of ProbeBW */
	uint64_t extra_at;
	uint32_t inflight_short, inflight_long, inflight_latest;
	uint32_t extra_bytes, extra[2]; /* acknowledged beyond what bw tells: now, and at most */
	uint32_t extra_round;
	/* packet-timed round trips; ends are of rate.delivered */
	uint32_t round, round_end, loss_round_end, drain_round;
	uint32_t rounds_since_up;
	uint32_t up_acked, up_each; /* inflight_long grows by a segment for so many bytes */
	uint32_t lost_end;
	uint32_t cwnd_before; /* recovery, or ProbeRTT */
	struct bbr_undo undo;
	uint8_t state, acks; /* enum bbr_state, enum bbr_acks */
	uint8_t full_count, up_rounds;
	uint8_t lost_ranges; /* in this round trip, that do not touch */
	bool rtt_known;
	bool round_start, loss_round_start;
	bool full_now, full_ever;
	bool loss_in_round;
	bool recovering;	/* undo and cwnd_before are of this recovery */
	bool probe_sample;	/* not responded yet to what probing for bandwidth caused */
	bool too_high, careful; /* the last probe was; and this one stopped before it could be */
	bool idle;		/* it was, when sending began again */
	bool probe_rtt_expired, probe_rtt_round;
};

#endif
