// SPDX-License-Identifier: Apache-2.0
/*
 * BBR, version 3 (draft-ietf-ccwg-bbr-06): a model of the path, of the rate at which it delivers
 * and of its round trip without a queue, says how fast to send and how much may be under way. Loss
 * is a sign only if it is more than 2 % of what is under way.
 *
 * bbr-model.c is the model. Here is the state machine that probes for it, and what follows for the
 * pace and the window. What differs from the draft:
 * - One segment alone is never too much loss, though it is more than 2 % of a short path.
 * - The extra bytes of aggregated ACKs are kept for five to ten round trips, in two halves.
 * - The draft says nothing of ECN as in RFC 3168: marks are what too much loss is, and outside of
 *   probing a reduction by BBR_BETA.
 */
#include "lib/base/util.h"
#include "userstack/engine/native/bbr-model.h"
#include "userstack/engine/native/native.h"

#define STARTUP_LOSSES 6
#define FULL_ROUNDS 3
#define DRAIN_ROUNDS 3
#define RENO_ROUNDS 63
#define PROBE_RTT_TIME (200 * MS)

/* In percent. */
static const struct {
	uint16_t pace, cwnd;
} gains[] = {
	[BBR_STARTUP] = {277, 200},  [BBR_DRAIN] = {50, 200},	[BBR_DOWN] = {90, 200},
	[BBR_CRUISE] = {100, 200},   [BBR_REFILL] = {100, 200}, [BBR_UP] = {125, 225},
	[BBR_PROBE_RTT] = {100, 50},
};

static void full_reset(struct bbr *b, uint64_t rate)
{
	b->bw_full = rate;
	b->full_count = 0;
	b->full_now = false;
}

/* ---- entering a state ---- */

/* 2 to 3 s, and one round trip more or less: flows are not to probe all at once. */
static void pick_wait(const struct engine_conn *c, struct bbr *b)
{
	uint64_t x = ((uint64_t)c->hash << 32 | b->round) * 0x9e3779b97f4a7c15ull;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	b->rounds_since_up = x >> 63;
	b->cycle_wait = 2 * SECOND + (x >> 32) % SECOND;
}

static void start_down(struct engine_conn *c, struct bbr *b)
{
	bbr_signals_reset(b);
	b->up_each = UINT32_MAX;
	pick_wait(c, b);
	b->cycle_at = c->e->now;
	b->acks = BBR_ACKS_STOPPING;
	bbr_round_begin(b);
	b->state = BBR_DOWN;
}

static void start_refill(struct bbr *b)
{
	bbr_short_reset(b);
	b->up_rounds = 0;
	b->up_acked = 0;
	b->careful = false;
	b->acks = BBR_ACKS_REFILLING;
	bbr_round_begin(b);
	b->state = BBR_REFILL;
}

/* inflight_long grows by 1, 2, 4, … segments in a round trip. */
static void up_steeper(const struct engine_conn *c, struct bbr *b)
{
	b->up_each = MAX(c->cwnd >> b->up_rounds, c->mss);
	b->up_rounds = MIN(b->up_rounds + 1, 30);
}

static void start_up(const struct engine_conn *c, struct bbr *b, const struct rate_sample *s)
{
	b->probe_sample = true;
	b->acks = BBR_ACKS_STARTING;
	bbr_round_begin(b);
	full_reset(b, s->rate);
	b->state = BBR_UP;
	up_steeper(c, b);
}

static void start_drain(struct bbr *b)
{
	b->state = BBR_DRAIN;
	b->drain_round = b->round;
}

/* ---- more under way than the path takes ---- */

static void startup_too_high(struct bbr *b)
{
	b->full_ever = true;
	b->inflight_long = MAX(bbr_bdp(b, 100), b->inflight_latest);
	start_drain(b);
}

static void probe_too_high(struct engine_conn *c, struct bbr *b, uint32_t flying, bool limited)
{
	b->too_high = true;
	b->probe_sample = false;
	if (!limited)
		b->inflight_long = MAX(flying, bbr_target(c, b) / 100 * BBR_BETA);
	if (b->state == BBR_UP)
		start_down(c, b);
}

/* Each segment that is lost is asked when it was too much: losses are noticed late. */
static void bbr_lost(struct engine_conn *c, struct sent *t)
{
	const struct sent_rate *sent = sent_rate(t);
	struct bbr *b = c->cc_state.bbr;
	uint32_t lost = b->rate.lost - sent->lost, len = t->end - t->seq, before, prefix;
	uint8_t state = b->state;

	bbr_note_loss(c, b, t);
	if (!b->probe_sample || !bbr_too_high(c, lost, sent->flying))
		return;
	/* with so much of this segment it was */
	before = sent->flying - MIN(len, sent->flying);
	prefix = before / 100 * BBR_LOSS;
	prefix = prefix > lost - len ? (prefix - (lost - len)) * 100 / (100 - BBR_LOSS) : 0;
	probe_too_high(c, b, before + MIN(prefix, len), sent->limited);
	if (state == BBR_UP)
		b->undo.state = BBR_UP;
}

/* ---- Startup and Drain ---- */

/* Three round trips without a quarter more. */
static void check_full(struct bbr *b, const struct rate_sample *s)
{
	if (b->full_now || !b->round_start || s->limited)
		return;
	if (s->rate >= b->bw_full + b->bw_full / 4) {
		full_reset(b, s->rate);
		return;
	}
	b->full_now = ++b->full_count >= FULL_ROUNDS;
	b->full_ever |= b->full_now;
}

/* For a whole round trip of fast recovery, at several places. */
static bool startup_loses(const struct engine_conn *c, const struct bbr *b,
			  const struct rate_sample *s)
{
	if (c->congestion != CONGESTION_RECOVER || !bbr_too_high(c, s->lost, s->flying))
		return false;
	return !c->sack || (b->loss_round_start && b->lost_ranges >= STARTUP_LOSSES);
}

static void check_startup(struct engine_conn *c, struct bbr *b, const struct rate_sample *s)
{
	if (b->state == BBR_STARTUP && !b->full_ever && startup_loses(c, b, s)) {
		startup_too_high(b);
		b->undo.state = BBR_STARTUP;
	}
	if (b->loss_round_start)
		b->lost_ranges = 0;
	if (b->state == BBR_STARTUP && b->full_ever)
		start_drain(b);
	if (b->state == BBR_DRAIN &&
	    (conn_flying(c) <= bbr_inflight(c, b, 100) || b->round - b->drain_round > DRAIN_ROUNDS))
		start_down(c, b);
}

/* ---- ProbeBW ---- */

static bool in_probe_bw(const struct bbr *b)
{
	return b->state >= BBR_DOWN && b->state <= BBR_UP;
}

/* Not more often than Reno would lose something where it does well. */
static bool time_to_probe(const struct engine_conn *c, const struct bbr *b)
{
	return c->e->now > b->cycle_at + b->cycle_wait ||
	       b->rounds_since_up >= MIN(bbr_target(c, b) / c->mss, RENO_ROUNDS);
}

static bool time_to_cruise(const struct engine_conn *c, const struct bbr *b)
{
	uint32_t flying = conn_flying(c);

	return flying <= bbr_headroom(c, b) && flying <= bbr_inflight(c, b, 100);
}

static bool time_to_go_down(struct engine_conn *c, struct bbr *b, const struct rate_sample *s)
{
	/* It was too much the last time: to get there is enough for now. */
	if (b->too_high && s->before + c->mss > b->inflight_long) {
		b->careful = true;
		return true;
	}
	if (c->cwnd_full && c->cwnd >= b->inflight_long)
		full_reset(b, s->rate); /* that is no limit of the path */
	else
		return b->full_now;
	return false;
}

static void long_upward(struct engine_conn *c, struct bbr *b, const struct rate_sample *s)
{
	if (!c->cwnd_full || c->cwnd < b->inflight_long)
		return;
	b->up_acked += s->bytes;
	if (b->up_acked >= b->up_each) {
		b->inflight_long += b->up_acked / b->up_each * c->mss;
		b->up_acked %= b->up_each;
	}
	if (b->round_start)
		up_steeper(c, b);
}

/* True: a state was entered. */
static bool adapt_long(struct engine_conn *c, struct bbr *b, const struct rate_sample *s)
{
	if (b->acks == BBR_ACKS_STARTING && b->round_start)
		b->acks = BBR_ACKS_FEEDBACK;
	if (b->acks == BBR_ACKS_STOPPING && b->round_start) {
		b->probe_sample = false;
		b->acks = BBR_ACKS_PLAIN;
		if (in_probe_bw(b) && !s->limited)
			bbr_bw_advance(b);
		if (in_probe_bw(b) && b->careful && !b->too_high) {
			start_refill(b); /* that far it was right: now further */
			return true;
		}
	}
	if (b->inflight_long == BBR_INFINITE || bbr_too_high(c, s->lost, s->flying))
		return false;
	b->inflight_long = MAX(b->inflight_long, s->flying);
	if (b->state == BBR_UP)
		long_upward(c, b, s);
	return false;
}

static void probe_bw(struct engine_conn *c, struct bbr *b, const struct rate_sample *s)
{
	if (!b->full_ever || adapt_long(c, b, s))
		return;
	switch ((enum bbr_state)b->state) {
	case BBR_DOWN:
	case BBR_CRUISE:
		if (time_to_probe(c, b))
			start_refill(b);
		else if (b->state == BBR_DOWN && time_to_cruise(c, b))
			b->state = BBR_CRUISE;
		break;
	case BBR_REFILL:
		if (b->round_start)
			start_up(c, b, s);
		break;
	case BBR_UP:
		if (time_to_go_down(c, b, s)) {
			b->too_high = false;
			start_down(c, b);
		}
		break;
	case BBR_STARTUP:
	case BBR_DRAIN:
	case BBR_PROBE_RTT:
	case BBR_NO_STATE:
		break;
	}
}

/* ---- ProbeRTT ---- */

static uint32_t probe_rtt_cwnd(const struct engine_conn *c, const struct bbr *b)
{
	return MAX(bbr_bdp(b, gains[BBR_PROBE_RTT].cwnd), BBR_LEAST * c->mss);
}

static void probe_rtt_end(struct engine_conn *c, struct bbr *b)
{
	if (!b->probe_rtt_done || c->e->now <= b->probe_rtt_done)
		return;
	b->probe_rtt_at = c->e->now;
	c->cwnd = MAX(c->cwnd, b->cwnd_before);
	bbr_short_reset(b);
	b->state = BBR_STARTUP;
	if (!b->full_ever)
		return;
	start_down(c, b);
	b->state = BBR_CRUISE; /* there is no queue */
}

/* What is sent now tells nothing of the rate. */
static void probe_rtt_go_on(struct engine_conn *c, struct bbr *b)
{
	rate_limit(c);
	if (!b->probe_rtt_done && conn_flying(c) <= probe_rtt_cwnd(c, b)) {
		b->probe_rtt_done = c->e->now + PROBE_RTT_TIME;
		b->probe_rtt_round = false;
		bbr_round_begin(b);
	} else if (b->probe_rtt_done) {
		b->probe_rtt_round |= b->round_start;
		if (b->probe_rtt_round)
			probe_rtt_end(c, b);
	}
}

static void check_probe_rtt(struct engine_conn *c, struct bbr *b)
{
	if (b->state != BBR_PROBE_RTT && b->probe_rtt_expired && !b->idle) {
		bbr_save_cwnd(c, b);
		b->state = BBR_PROBE_RTT;
		b->probe_rtt_done = 0;
		b->acks = BBR_ACKS_STOPPING;
		bbr_round_begin(b);
	}
	if (b->state == BBR_PROBE_RTT)
		probe_rtt_go_on(c, b);
	b->idle = false;
}

/* ---- what follows ---- */

/* Until the path was full once, only more: samples of an application that sends little are low. The
 * first rate is that of the initial window. One percent is left, so that no queue stays. */
static void set_pace(const struct engine_conn *c, struct bbr *b, unsigned gain)
{
	uint64_t rate = b->bw / 100 * gain / 100 * 99, srtt_us = c->srtt_us ? c->srtt_us : 1000;

	if (!b->rtt_known) {
		b->rtt_known = c->srtt_us;
		b->rate.pace = cc_initial_window(c->mss) * 1000000ull / srtt_us *
			       gains[BBR_STARTUP].pace / 100;
	}
	if (rate > b->rate.pace || (b->full_ever && b->bw))
		b->rate.pace = MAX(rate, 1ull);
}

static void set_cwnd(struct engine_conn *c, struct bbr *b, const struct rate_sample *s)
{
	uint32_t most = bbr_inflight_most(c, b, gains[b->state].cwnd), cap = BBR_INFINITE;

	if (b->full_ever)
		c->cwnd = MIN(c->cwnd + s->bytes, most);
	else if (c->cwnd < most || b->rate.delivered < cc_initial_window(c->mss))
		c->cwnd += s->bytes;
	if (b->state == BBR_PROBE_RTT)
		c->cwnd = MIN(c->cwnd, probe_rtt_cwnd(c, b));
	if (b->state == BBR_CRUISE || b->state == BBR_PROBE_RTT)
		cap = bbr_headroom(c, b);
	else if (in_probe_bw(b))
		cap = b->inflight_long;
	c->cwnd = MIN(c->cwnd, MIN(cap, b->inflight_short));
	c->cwnd = MAX(c->cwnd, BBR_LEAST * c->mss);
}

static void bbr_sample(struct engine_conn *c, const struct rate_sample *s)
{
	struct bbr *b = c->cc_state.bbr;

	if (b->recovering && c->congestion == CONGESTION_OPEN) {
		b->recovering = false;
		c->cwnd = MAX(c->cwnd, b->cwnd_before);
	}
	bbr_signals(c, b, s, b->state == BBR_STARTUP || b->state >= BBR_REFILL);
	bbr_aggregation(c, b, s);
	check_full(b, s);
	check_startup(c, b, s);
	probe_bw(c, b, s);
	bbr_min_rtt(c, b, s);
	check_probe_rtt(c, b);
	bbr_signals_advance(b, s);
	set_pace(c, b, gains[b->state].pace);
	set_cwnd(c, b, s);
}

/* ---- what else happens ---- */

static bool bbr_init(struct engine_conn *c)
{
	struct bbr *b = pool_get(&c->e->bbrs);

	if (!b)
		return false;
	bbr_model_init(c, b);
	set_pace(c, b, gains[BBR_STARTUP].pace);
	c->cc_state.bbr = b;
	c->rate = &b->rate;
	return true;
}

static void bbr_fini(struct engine_conn *c)
{
	if (!c->cc_state.bbr)
		return;
	pool_put(&c->e->bbrs, c->cc_state.bbr);
	c->cc_state.bbr = NULL;
	c->rate = NULL;
}

/* The draft knows no marks: they are what too much loss is, and where that would be no less, less
 * by BBR_BETA. */
static void bbr_marked(struct engine_conn *c, struct bbr *b)
{
	if (b->state == BBR_STARTUP)
		startup_too_high(b);
	else if (b->state == BBR_REFILL || b->state == BBR_UP)
		probe_too_high(c, b, 0, false);
	else
		bbr_short_shrink(c, b);
}

static uint32_t bbr_shrink(struct engine_conn *c, enum congestion how)
{
	struct bbr *b = c->cc_state.bbr;

	bbr_remember(c, b);
	if (how == CONGESTION_REDUCE)
		bbr_marked(c, b);
	return c->ssthresh;
}

/* As fast as the path, and no ProbeRTT: the queue had time to go. */
static void bbr_restart(struct engine_conn *c)
{
	struct bbr *b = c->cc_state.bbr;

	b->idle = true;
	b->extra_at = c->e->now;
	if (!b->rtt_known)
		set_pace(c, b, gains[BBR_STARTUP].pace);
	else if (in_probe_bw(b))
		set_pace(c, b, 100);
	else if (b->state == BBR_PROBE_RTT)
		probe_rtt_end(c, b);
}

static void bbr_undo(struct engine_conn *c)
{
	struct bbr *b = c->cc_state.bbr;
	uint8_t state = b->undo.state;

	if (!b->recovering)
		return;
	bbr_restore(c, b);
	full_reset(b, 0);
	if (state == BBR_STARTUP)
		b->full_ever = false;
	if (b->state == BBR_PROBE_RTT)
		return;
	if (state == BBR_STARTUP)
		b->state = BBR_STARTUP;
	else if (state == BBR_UP && b->state != BBR_UP)
		start_refill(b);
}

const struct cc_ops cc_bbr = {
	.name = "bbr",
	.init = bbr_init,
	.fini = bbr_fini,
	.shrink = bbr_shrink,
	.restart = bbr_restart,
	.undo = bbr_undo,
	.sample = bbr_sample,
	.lost = bbr_lost,
};
