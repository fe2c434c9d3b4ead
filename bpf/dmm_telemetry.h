/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What connections of measured rules were like: part of the ABI of dmm_abi.h. */
#ifndef DMM_TELEMETRY_H
#define DMM_TELEMETRY_H

#include "bpf/dmm_abi.h"

/*
 * dmm_measured, socket storage: a connecting TCP socket of a rule that is measured. Made at
 * connect(), read at each change of its state: all other sockets have none.
 */
struct dmm_measured {
	dmm_u64 begin_ns;	/* its SYN left */
	dmm_u64 established_ns; /* 0: not yet */
	dmm_u8 remote[16];
	dmm_u16 measure; /* as in dmm_rule_rec */
	dmm_u8 stack;
	dmm_u8 carrier; /* enum dmm_carrier: not NONE: its instance tells how it ended */
	dmm_u8 pad[4];
};

/*
 * Histograms of telemetry: four buckets a power of two, so that a bucket is at most a quarter wide,
 * from 1 to 2^28: of microseconds, four minutes. 0 counts as 1, what is beyond counts in the last.
 */
#define DMM_HIST_BUCKETS 112
static inline dmm_u32 dmm_hist_bucket(dmm_u64 value)
{
	dmm_u32 exponent = 0, v, step;

	if (value <= 1)
		return 0;
	if (value >> (DMM_HIST_BUCKETS / 4))
		return DMM_HIST_BUCKETS - 1;
	v = (dmm_u32)value; /* clang has no instruction for this on BPF */
	for (step = 16; step; step /= 2) {
		if (v >> step) {
			exponent += step;
			v >>= step;
		}
	}
	v = (dmm_u32)(exponent >= 2 ? value >> (exponent - 2) : value << (2 - exponent));
	return exponent * 4 + (v & 3);
}

/* enum dmm_failure: how a connection failed. */
enum dmm_failure {
	DMM_FAIL_REFUSED,     /* ECONNREFUSED */
	DMM_FAIL_TIMEOUT,     /* ETIMEDOUT */
	DMM_FAIL_UNREACHABLE, /* EHOSTUNREACH, ENETUNREACH */
	DMM_FAIL_RESET,	      /* ECONNRESET, EPIPE: after it was established */
	DMM_FAIL_OTHER,
	DMM_FAILURES
};
static inline enum dmm_failure dmm_failure_of(dmm_u32 error)
{
	switch (error) { /* Linux' numbers */
	case 111:
		return DMM_FAIL_REFUSED;
	case 110:
		return DMM_FAIL_TIMEOUT;
	case 101:
	case 113:
		return DMM_FAIL_UNREACHABLE;
	case 32:
	case 104:
		return DMM_FAIL_RESET;
	default:
		return DMM_FAIL_OTHER;
	}
}

/*
 * dmm_measures[stack id], per CPU: what all measured connections of a stack were like since the
 * tree was made. dmm_carried[stack id], mmapable: the same of those that an instance carried, once
 * they were established, written by that instance alone; 0: its engine does not tell. Both
 * together are the stack's. Histograms are of microseconds.
 */
struct dmm_measures {
	dmm_u64 connections; /* established or failed */
	dmm_u64 failed[DMM_FAILURES];
	dmm_u64 ended;	 /* of those established */
	dmm_u64 life_us; /* of these, from connect() on */
	dmm_u64 rx_bytes, tx_bytes;
	dmm_u64 segments, resent;	   /* sent; of these, again */
	dmm_u64 connect[DMM_HIST_BUCKETS]; /* from the SYN to the answer, of those established */
	dmm_u64 srtt[DMM_HIST_BUCKETS];	   /* smoothed round trip at the end of a connection */
};

/*
 * dmm_samples[n % DMM_SAMPLE_SLOTS], mmapable: sample number n, of one measured connection, written
 * by a program, or by the instance that carried it. Nobody takes them out, as of dmm_monitor. The
 * seq of slot DMM_SAMPLE_SLOTS is how many ever were. Zero: not known, or not told by this sample.
 */
struct dmm_sample {
	dmm_u64 seq;	 /* n + 1 once all of it is there; 0: never, or being written */
	dmm_u16 measure; /* DMM_MEASURE_NUMBER of the rule */
	dmm_u8 stack;	 /* id */
	dmm_u8 kind;	 /* enum dmm_sample_kind */
	dmm_u32 error;	 /* errno; 0: it worked */
	dmm_u8 remote[16];
	dmm_u32 connect_us;
	dmm_u32 srtt_us;
	dmm_u64 bytes; /* in both directions */
	dmm_u64 life_us;
	dmm_u32 segments, resent;
};
enum dmm_sample_kind {
	DMM_SAMPLE_BEGIN = 1, /* it was established, or failed to be: error, connect_us */
	DMM_SAMPLE_END	      /* one that was established ended: the other members */
};
#define DMM_SAMPLE_SLOTS 16384

/* Write s, all but its seq, as sample number n into its slot. 0: it is lost, as somebody has not
 * finished there yet. An instance that is killed in here loses the slot for good. */
static inline int dmm_sample_put(struct dmm_sample *slot, dmm_u64 n, const struct dmm_sample *s)
{
	/* exchanges and not stores: they are barriers, too */
	if (__sync_lock_test_and_set(&slot->seq, 0) == 0 && n >= DMM_SAMPLE_SLOTS)
		return 0;
	slot->measure = s->measure;
	slot->stack = s->stack;
	slot->kind = s->kind;
	slot->error = s->error;
	__builtin_memcpy(slot->remote, s->remote, sizeof(slot->remote));
	slot->connect_us = s->connect_us;
	slot->srtt_us = s->srtt_us;
	slot->bytes = s->bytes;
	slot->life_us = s->life_us;
	slot->segments = s->segments;
	slot->resent = s->resent;
	__sync_lock_test_and_set(&slot->seq, n + 1);
	return 1;
}

DMM_ASSERT(measured, sizeof(struct dmm_measured) == 40);
DMM_ASSERT(measures, sizeof(struct dmm_measures) == 8 * (12 + 2 * DMM_HIST_BUCKETS));
DMM_ASSERT(sample, sizeof(struct dmm_sample) == 64);

#endif
