// SPDX-License-Identifier: Apache-2.0
#include "lib/base/util.h"
#include "userstack/engine/native/bbr-model.h"

#define MIN_RTT_KEEP (10 * SECOND)
#define PROBE_RTT_EVERY (5 * SECOND)
#define QUANTUM_MOST 65536u
#define QUANTUM_TIME_MS 1
#define HEADROOM 15 /* percent */
#define EXTRA_ROUNDS 5
#define INFLIGHT_MOST (1u << 30)

void bbr_model_init(const struct engine_conn *c, struct bbr *b)
{
	*b = (struct bbr){
		.bw_short = UINT64_MAX,
		.min_rtt = UINT64_MAX,
		.probe_rtt = UINT64_MAX,
		.min_rtt_at = c->e->now,
		.probe_rtt_at = c->e->now,
		.extra_at = c->e->now,
		.inflight_short = BBR_INFINITE,
		.inflight_long = BBR_INFINITE,
		.up_each = UINT32_MAX,
		.undo.state = BBR_NO_STATE,
	};
}

void bbr_round_begin(struct bbr *b)
{
	b->round_end = b->rate.delivered;
}

/* ---- the rate ---- */

static uint64_t bw_max(const struct bbr *b)
{
	return MAX(b->bw_max[0], b->bw_max[1]);
}

void bbr_bw_advance(struct bbr *b)
{
	if (!b->bw_max[1])
		return;
	b->bw_max[0] = b->bw_max[1];
	b->bw_max[1] = 0;
}

/* A sample that the application limited says of the path that it is as fast at least. */
static void update_max(struct bbr *b, const struct rate_sample *s)
{
	b->round_start = seq_le(b->round_end, s->prior);
	if (b->round_start) {
		bbr_round_begin(b);
		b->round++;
		b->rounds_since_up++;
	}
	if (s->rate >= bw_max(b) || !s->limited)
		b->bw_max[1] = MAX(b->bw_max[1], s->rate);
}

static void short_begin(const struct engine_conn *c, struct bbr *b)
{
	if (b->bw_short == UINT64_MAX)
		b->bw_short = bw_max(b);
	if (b->inflight_short == BBR_INFINITE)
		b->inflight_short = c->cwnd;
}

void bbr_short_shrink(const struct engine_conn *c, struct bbr *b)
{
	short_begin(c, b);
	b->bw_short = b->bw_short / 100 * BBR_BETA;
	b->inflight_short = b->inflight_short / 100 * BBR_BETA;
}

void bbr_short_reset(struct bbr *b)
{
	b->bw_short = UINT64_MAX;
	b->inflight_short = BBR_INFINITE;
}

/* Down to what was delivered in spite of the losses. */
static void short_adapt(const struct engine_conn *c, struct bbr *b)
{
	bbr_short_shrink(c, b);
	b->bw_short = MAX(b->bw_short, b->bw_latest);
	b->inflight_short = MAX(b->inflight_short, b->inflight_latest);
}

void bbr_signals(const struct engine_conn *c, struct bbr *b, const struct rate_sample *s,
		 bool probes)
{
	b->bw_latest = MAX(b->bw_latest, s->rate);
	b->inflight_latest = MAX(b->inflight_latest, s->delivered);
	b->loss_round_start = seq_le(b->loss_round_end, s->prior);
	update_max(b, s);
	if (!b->loss_round_start)
		return;
	b->loss_round_end = b->rate.delivered;
	if (b->loss_in_round && !probes)
		short_adapt(c, b);
	b->loss_in_round = false;
}

void bbr_signals_advance(struct bbr *b, const struct rate_sample *s)
{
	if (b->loss_round_start) {
		b->bw_latest = s->rate;
		b->inflight_latest = s->delivered;
	}
	b->bw = MIN(bw_max(b), b->bw_short);
}

void bbr_signals_reset(struct bbr *b)
{
	b->loss_in_round = false;
	b->bw_latest = 0;
	b->inflight_latest = 0;
}

/* ---- the round trip ---- */

/* min_rtt is what was seen in ten seconds, so that two ProbeRTT are in that; probe_rtt is of five:
 * when it was not reached again for so long, it is time for the next. */
void bbr_min_rtt(const struct engine_conn *c, struct bbr *b, const struct rate_sample *s)
{
	uint64_t now = c->e->now;

	b->probe_rtt_expired = now > b->probe_rtt_at + PROBE_RTT_EVERY;
	if (s->rtt && (s->rtt < b->probe_rtt || b->probe_rtt_expired)) {
		b->probe_rtt = s->rtt;
		b->probe_rtt_at = now;
	}
	if (b->probe_rtt < b->min_rtt || now > b->min_rtt_at + MIN_RTT_KEEP) {
		b->min_rtt = b->probe_rtt;
		b->min_rtt_at = b->probe_rtt_at;
	}
}

/* ---- what is under way ---- */

uint32_t bbr_bdp(const struct bbr *b, unsigned percent)
{
	double bytes = (double)b->bw * (double)b->min_rtt / SECOND * percent / 100;

	return bytes < INFLIGHT_MOST ? (uint32_t)bytes : INFLIGHT_MOST;
}

/* What is sent at once: a millisecond of it. */
static uint32_t quantum(const struct engine_conn *c, const struct bbr *b)
{
	uint64_t bytes = MIN(b->rate.pace * QUANTUM_TIME_MS / 1000, (uint64_t)QUANTUM_MOST);

	return MAX((uint32_t)bytes, 2 * c->mss);
}

/* One burst is being sent, one is on the way, one is not acknowledged yet: where round trips are
 * shorter than that takes, it is this that keeps the path full. */
static uint32_t with_bursts(const struct engine_conn *c, const struct bbr *b, uint32_t inflight)
{
	inflight = MAX(inflight, 3 * quantum(c, b));
	return MAX(inflight, BBR_LEAST * c->mss) + (b->state == BBR_UP ? 2 * c->mss : 0);
}

uint32_t bbr_inflight(const struct engine_conn *c, const struct bbr *b, unsigned percent)
{
	if (b->min_rtt == UINT64_MAX)
		return cc_initial_window(c->mss);
	return with_bursts(c, b, bbr_bdp(b, percent));
}

uint32_t bbr_inflight_most(const struct engine_conn *c, const struct bbr *b, unsigned percent)
{
	if (b->min_rtt == UINT64_MAX)
		return cc_initial_window(c->mss);
	return with_bursts(c, b, bbr_bdp(b, percent) + MAX(b->extra[0], b->extra[1]));
}

uint32_t bbr_headroom(const struct engine_conn *c, const struct bbr *b)
{
	uint32_t room = MAX(b->inflight_long / 100 * HEADROOM, c->mss);

	if (b->inflight_long == BBR_INFINITE)
		return BBR_INFINITE;
	return MAX(b->inflight_long - MIN(room, b->inflight_long), BBR_LEAST * c->mss);
}

uint32_t bbr_target(const struct engine_conn *c, const struct bbr *b)
{
	return MIN(bbr_bdp(b, 100), c->cwnd);
}

/* The window is to reach over the silence between ACKs that come together: by what they are more
 * than the rate tells. */
void bbr_aggregation(const struct engine_conn *c, struct bbr *b, const struct rate_sample *s)
{
	double expected = (double)b->bw * (double)(c->e->now - b->extra_at) / SECOND;

	if (b->extra_bytes <= expected) {
		b->extra_bytes = 0;
		b->extra_at = c->e->now;
		expected = 0;
	}
	b->extra_bytes += s->bytes;
	if (b->round_start && b->round - b->extra_round >= (b->full_ever ? EXTRA_ROUNDS : 1)) {
		b->extra_round = b->round;
		b->extra[0] = b->full_ever ? b->extra[1] : 0;
		b->extra[1] = 0;
	}
	b->extra[1] = MAX(b->extra[1], MIN(b->extra_bytes - (uint32_t)expected, c->cwnd));
}

/* ---- loss ---- */

bool bbr_too_high(const struct engine_conn *c, uint32_t lost, uint32_t flying)
{
	if (!c->sack) /* it tells of one in a round trip */
		return lost;
	return lost > c->mss && (uint64_t)lost * 100 > (uint64_t)flying * BBR_LOSS;
}

void bbr_note_loss(const struct engine_conn *c, struct bbr *b, const struct sent *t)
{
	bbr_remember(c, b);
	if (!b->loss_in_round)
		b->loss_round_end = b->rate.delivered;
	b->loss_in_round = true;
	if (t->seq != b->lost_end && b->lost_ranges < UINT8_MAX)
		b->lost_ranges++;
	b->lost_end = t->end;
}

void bbr_save_cwnd(const struct engine_conn *c, struct bbr *b)
{
	if (b->recovering || b->state == BBR_PROBE_RTT)
		b->cwnd_before = MAX(b->cwnd_before, c->cwnd);
	else
		b->cwnd_before = c->cwnd;
}

void bbr_remember(const struct engine_conn *c, struct bbr *b)
{
	if (b->recovering)
		return;
	bbr_save_cwnd(c, b);
	b->recovering = true;
	b->undo = (struct bbr_undo){
		.bw_short = b->bw_short,
		.inflight_short = b->inflight_short,
		.inflight_long = b->inflight_long,
		.state = BBR_NO_STATE,
	};
}

void bbr_restore(struct engine_conn *c, struct bbr *b)
{
	b->recovering = false;
	b->loss_in_round = false;
	b->bw_short = MAX(b->bw_short, b->undo.bw_short);
	b->inflight_short = MAX(b->inflight_short, b->undo.inflight_short);
	b->inflight_long = MAX(b->inflight_long, b->undo.inflight_long);
	b->undo.state = BBR_NO_STATE;
	c->cwnd = MAX(c->cwnd, b->cwnd_before);
}
