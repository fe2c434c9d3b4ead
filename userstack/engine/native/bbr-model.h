/* SPDX-License-Identifier: Apache-2.0 */
/* The model of a path that BBR has. For cc-bbr.c alone. */
#ifndef DMM_USERSTACK_NATIVE_BBR_MODEL_H
#define DMM_USERSTACK_NATIVE_BBR_MODEL_H

#include "userstack/engine/native/native.h"

#define BBR_INFINITE UINT32_MAX
#define BBR_LOSS 2   /* percent of what is under way, from which on it is too much */
#define BBR_BETA 70  /* percent: no reduction goes below that */
#define BBR_LEAST 4u /* segments under way */

void bbr_model_init(const struct engine_conn *c, struct bbr *b);
void bbr_round_begin(struct bbr *b);
/* Latest deliveries, rounds, the highest rate, and once in a round trip with losses the short-term
 * bounds, unless it probes; then at the end of what an ACK does the rest of it. */
void bbr_signals(const struct engine_conn *c, struct bbr *b, const struct rate_sample *s,
		 bool probes);
void bbr_signals_advance(struct bbr *b, const struct rate_sample *s);
void bbr_signals_reset(struct bbr *b);
void bbr_short_reset(struct bbr *b);
void bbr_short_shrink(const struct engine_conn *c, struct bbr *b);
/* A cycle of ProbeBW is over. */
void bbr_bw_advance(struct bbr *b);
void bbr_aggregation(const struct engine_conn *c, struct bbr *b, const struct rate_sample *s);
void bbr_min_rtt(const struct engine_conn *c, struct bbr *b, const struct rate_sample *s);
void bbr_note_loss(const struct engine_conn *c, struct bbr *b, const struct sent *t);
bool bbr_too_high(const struct engine_conn *c, uint32_t lost, uint32_t flying);

/* What the path holds without a queue, in percent. */
uint32_t bbr_bdp(const struct bbr *b, unsigned percent);
/* The same, with what sending and receiving in bursts takes; and what aggregated ACKs take. */
uint32_t bbr_inflight(const struct engine_conn *c, const struct bbr *b, unsigned percent);
uint32_t bbr_inflight_most(const struct engine_conn *c, const struct bbr *b, unsigned percent);
/* inflight_long, with some room for others. */
uint32_t bbr_headroom(const struct engine_conn *c, const struct bbr *b);
uint32_t bbr_target(const struct engine_conn *c, const struct bbr *b);

/* Recovery begins, or something is lost; it was a mistake. */
void bbr_save_cwnd(const struct engine_conn *c, struct bbr *b);
void bbr_remember(const struct engine_conn *c, struct bbr *b);
void bbr_restore(struct engine_conn *c, struct bbr *b);

#endif
