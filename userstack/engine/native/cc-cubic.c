// SPDX-License-Identifier: Apache-2.0
/* CUBIC (RFC 9438), with HyStart++ (RFC 9406). Windows are in bytes, so that they outlive
 * another size of the segments; time is in seconds. */
#include <math.h>

#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

#define CUBIC_C 0.4
#define CUBIC_BETA 0.7
#define RENO_ALPHA (3 * (1 - CUBIC_BETA) / (1 + CUBIC_BETA))
#define HYSTART_SAMPLES 8
#define HYSTART_MIN_US 4000u
#define HYSTART_MAX_US 16000u
#define HYSTART_CSS_ROUNDS 5
#define HYSTART_CSS_DIVISOR 4

/* Slow start begins, or may: what was measured before tells nothing of it, and where its first
 * round ends must not be a number from long ago. */
static void hystart_begin(const struct engine_conn *c, struct cubic *q)
{
	q->round_end = c->snd_nxt;
	q->last_min_us = q->min_us = UINT32_MAX;
	q->samples = q->css_rounds = 0;
}

static bool cubic_init(struct engine_conn *c)
{
	c->cc_state.cubic = (struct cubic){0};
	hystart_begin(c, &c->cc_state.cubic);
	return true;
}

/* The delay grows: the queue does. First slow start becomes slower; if it was no mistake, it ends.
 */
static void hystart(struct engine_conn *c, uint32_t rtt_us)
{
	struct cubic *q = &c->cc_state.cubic;
	uint32_t thresh;

	if (seq_lt(q->round_end, c->snd_una)) { /* a round is over */
		if (q->css_rounds && ++q->css_rounds > HYSTART_CSS_ROUNDS)
			c->ssthresh = c->cwnd;
		q->last_min_us = q->min_us;
		q->min_us = UINT32_MAX;
		q->samples = 0;
		q->round_end = c->snd_nxt;
	}
	if (!rtt_us)
		return;
	q->min_us = MIN(q->min_us, rtt_us);
	if (q->samples < HYSTART_SAMPLES)
		q->samples++;
	if (q->samples < HYSTART_SAMPLES || q->last_min_us == UINT32_MAX)
		return;
	if (q->css_rounds) {
		if (q->min_us < q->css_min_us)
			q->css_rounds = 0; /* it shrank again: go on as before */
		return;
	}
	thresh = MIN(MAX(q->last_min_us / 8, HYSTART_MIN_US), HYSTART_MAX_US);
	if (q->min_us >= q->last_min_us + thresh) {
		q->css_min_us = q->min_us;
		q->css_rounds = 1;
	}
}

static void cubic_begin(struct engine_conn *c, struct cubic *q)
{
	q->epoch = q->grew_at = c->e->now;
	q->mss = c->mss;
	q->w_est = c->cwnd;
	q->credit = 0;
	q->w_max = MAX(q->w_max, c->cwnd);
	q->k = cbrt((double)(q->w_max - c->cwnd) / c->mss / CUBIC_C);
}

/* Section 4.2: the window t seconds after the epoch began. */
static double cubic_window(const struct cubic *q, double t)
{
	t -= q->k;
	return CUBIC_C * t * t * t * q->mss + q->w_max;
}

static void cubic_avoid(struct engine_conn *c, uint32_t bytes)
{
	struct cubic *q = &c->cc_state.cubic;
	double cwnd = c->cwnd, share = bytes / cwnd, t, target;
	uint32_t segments;

	if (!q->epoch || q->mss != c->mss)
		cubic_begin(c, q);
	/* Without an ACK in two round trips it was not in use: that does not count (section 4.2) */
	if (c->e->now - q->grew_at > 2000ull * c->srtt_us)
		q->epoch += c->e->now - q->grew_at;
	q->grew_at = c->e->now;
	t = (double)(c->e->now - q->epoch) / 1e9;
	q->w_est += (q->w_est < q->prior ? RENO_ALPHA : 1.0) * c->mss * share;
	/* Section 4.3: where Reno would be faster, as it would */
	if (cubic_window(q, t) < q->w_est) {
		c->cwnd = MAX(c->cwnd, (uint32_t)q->w_est);
		return;
	}
	target = MIN(MAX(cubic_window(q, t + c->srtt_us / 1e6), cwnd), 1.5 * cwnd);
	q->credit += (target - cwnd) * share;
	segments = (uint32_t)(q->credit / c->mss);
	c->cwnd += segments * c->mss;
	q->credit -= (double)segments * c->mss;
}

static void cubic_grow(struct engine_conn *c, uint32_t bytes, uint32_t rtt_us)
{
	if (c->cwnd < c->ssthresh) {
		hystart(c, rtt_us);
		if (c->cc_state.cubic.css_rounds)
			c->cwnd += bytes / HYSTART_CSS_DIVISOR;
		else
			bytes = cc_slow_start(c, bytes);
	}
	if (bytes && c->cwnd >= c->ssthresh)
		cubic_avoid(c, bytes);
}

static uint32_t cubic_shrink(struct engine_conn *c, enum congestion how)
{
	struct cubic *q = &c->cc_state.cubic;

	q->w_max_before = q->w_max;
	q->prior_before = q->prior;
	q->prior = c->cwnd;
	if (how == CONGESTION_LOSS) /* section 4.8: from where avoidance begins */
		q->w_max = 0;
	else if (c->cwnd < q->w_max) /* fast convergence: who loses again makes room for others */
		q->w_max = (uint32_t)(c->cwnd * (1 + CUBIC_BETA) / 2);
	else
		q->w_max = c->cwnd;
	q->epoch = 0;
	hystart_begin(c, q);
	return MAX((uint32_t)(c->cwnd * CUBIC_BETA + 0.5), 2 * c->mss);
}

static void cubic_restart(struct engine_conn *c)
{
	c->cc_state.cubic.epoch = 0;
	hystart_begin(c, &c->cc_state.cubic);
}

/* Section 4.9: it goes on towards where it was going. */
static void cubic_undo(struct engine_conn *c)
{
	struct cubic *q = &c->cc_state.cubic;

	q->w_max = q->w_max_before;
	q->prior = q->prior_before;
	cubic_restart(c);
}

const struct cc_ops cc_cubic = {
	.name = "cubic",
	.init = cubic_init,
	.grow = cubic_grow,
	.shrink = cubic_shrink,
	.restart = cubic_restart,
	.undo = cubic_undo,
};
