/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the path delivers (draft-ietf-ccwg-bbr-06, section 4.1): each segment remembers what had
 * been delivered when it left; when it arrives, what was delivered since then, over the time that
 * it took to send or to acknowledge that, whichever is longer, is a sample. Only a congestion
 * control that has sample() pays for it.
 */
#ifndef DMM_USERSTACK_NATIVE_RATE_H
#define DMM_USERSTACK_NATIVE_RATE_H

#include <stdbool.h>
#include <stdint.h>

struct engine_conn;
struct sent;

/* The state of the connection when a segment was sent, last if more than once. */
struct sent_rate {
	uint64_t first_at; /* when that was sent which had arrived last */
	uint64_t delivered_at;
	uint32_t delivered, lost;
	uint32_t flying; /* with this segment */
	bool limited;
};

/* Of an ACK that says of new bytes that they arrived. Counters wrap. */
struct rate_sample {
	uint64_t rate;	    /* bytes a second; 0: it tells of none */
	uint64_t rtt;	    /* nanoseconds, the shortest; 0: none that is certain */
	uint32_t delivered; /* bytes of the interval that rate is of */
	uint32_t prior;	    /* rate.delivered when that interval began */
	uint32_t lost;	    /* bytes, since then */
	uint32_t flying;    /* when the newest segment was sent that arrived, with it */
	uint32_t before;    /* flying, before this ACK */
	uint32_t bytes;	    /* that arrived by this ACK */
	bool limited;	    /* the application gave too little to tell of the path */
};

struct rate {
	uint64_t pace; /* bytes a second, as the congestion control wants it; 0: it does not know */
	uint64_t delivered_at, first_at;
	uint32_t delivered, lost;
	uint32_t limited_end; /* if limited: until more than that is delivered */
	bool limited;
	/* the ACK that is looked at: of what arrived, that which was sent last */
	bool any;
	uint32_t newest_end;
	uint64_t send_elapsed, rtt;
	struct sent_rate newest;
};

/* For the congestion control: samples of what goes from now on are not of the path alone. */
void rate_limit(struct engine_conn *c);
/* A chance for the host to send, or an ACK: has it got nothing to send? */
void rate_check(struct engine_conn *c);
void rate_sent(struct engine_conn *c, struct sent *t);
void rate_delivered(struct engine_conn *c, struct sent *t);
void rate_lost(struct engine_conn *c, struct sent *t);
/* An ACK was looked at: its sample, if it has one, goes to the congestion control. */
void rate_finish(struct engine_conn *c, uint32_t flying_before, uint32_t bytes);

#endif
