// SPDX-License-Identifier: Apache-2.0
/*
 * When the congestion window shrinks and how it gets there: fast recovery with proportional rate
 * reduction (RFC 6937), timeouts, and the undoing of both if they were a mistake: by timestamps
 * (RFC 4015), DSACK (RFC 3708), or what arrives after a timeout (F-RTO, RFC 5682).
 */
#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

#define REORDER_KEEP 16 /* recoveries that a wider reordering window outlives: RFC 8985 */

static void undo_remember(struct engine_conn *c)
{
	c->undo_cwnd = c->cwnd;
	c->undo_ssthresh = c->ssthresh;
	c->undo_again = 0;
	c->undo_from = c->snd_una;
	c->undo_ok = true;
}

void recovery_enter(struct engine_conn *c, enum congestion how)
{
	if (c->congestion == CONGESTION_OPEN) {
		undo_remember(c);
		c->ssthresh = c->cc->shrink(c, how);
		c->prr_from = MAX(c->snd_nxt - c->snd_una, c->mss);
		c->prr_delivered = c->prr_out = 0;
		c->cwr_out = c->ecn;
		c->ecn_from = c->snd_nxt;
	}
	c->congestion = (uint8_t)how;
	c->tlp_out = false;
	c->recover = c->snd_nxt;
	c->recover_at = c->e->now;
	c->due[DUE_PACE] = NEVER;
}

static void recovery_leave(struct engine_conn *c)
{
	if (!c->rate && c->congestion != CONGESTION_LOSS)
		c->cwnd = MAX(c->ssthresh, 2 * c->mss);
	c->congestion = CONGESTION_OPEN;
	c->dupacks = 0;
	c->frto = 0;
	if (c->reorder_keep && !--c->reorder_keep)
		c->reorder_mult = 1;
}

static void recovery_undo(struct engine_conn *c)
{
	struct sent *t;

	c->cwnd = MAX(c->cwnd, c->undo_cwnd);
	c->ssthresh = MAX(c->ssthresh, c->undo_ssthresh);
	c->undo_ok = false;
	c->congestion = CONGESTION_OPEN;
	c->dupacks = 0;
	c->frto = 0;
	c->cwr_out = false;
	if (c->cc->undo)
		c->cc->undo(c);
	while ((t = TAILQ_FIRST(&c->missing)))
		sent_set_state(c, t, SENT_FLYING);
}

/* The peer says that it got something twice. When all that was sent again came twice, nothing was
 * lost; and segments overtake each other further than we think. What was acknowledged before, or
 * sent again by the probe of a tail, is none of that. True: it was the last of all. */
static bool recovery_dsack(struct engine_conn *c, const struct delivery *d)
{
	if (seq_le(c->reorder_end, c->snd_una) && c->reorder_mult < UINT8_MAX) {
		c->reorder_mult++;
		c->reorder_end = c->snd_nxt;
		c->reorder_keep = REORDER_KEEP;
	}
	if (!c->undo_again || seq_le(d->dsack_end, c->undo_from))
		return false;
	if (c->tlp_again && d->dsack_end == c->tlp_end)
		return false;
	return !--c->undo_again;
}

static bool recovery_was_mistake(const struct engine_conn *c, const struct segment *s,
				 const struct delivery *d, bool needless)
{
	if (!c->undo_ok)
		return false;
	if (needless)
		return true;
	/* what arrived was sent before anything was sent again */
	return c->timestamps && d->acked && c->undo_again && s->ts_echo &&
	       seq_lt(s->ts_echo, c->undo_ts);
}

/* cwnd follows what arrives, in proportion, down to ssthresh. */
static void recovery_prr(struct engine_conn *c, const struct delivery *d, bool lost)
{
	uint32_t flying = conn_flying(c), limit;
	int64_t send;

	c->prr_delivered += d->bytes;
	if (!c->sack && d->dup)
		c->prr_delivered += c->mss;
	if (flying > c->ssthresh) {
		send = (int64_t)(((uint64_t)c->prr_delivered * c->ssthresh + c->prr_from - 1) /
				 c->prr_from) -
		       c->prr_out;
	} else {
		limit = c->prr_delivered > c->prr_out ? c->prr_delivered - c->prr_out : 0;
		limit = MAX(limit, d->bytes);
		if (d->acked && !lost)
			limit += c->mss;
		send = MIN(c->ssthresh - flying, limit);
	}
	if (!c->prr_out && c->congestion == CONGESTION_RECOVER)
		send = MAX(send, (int64_t)c->mss); /* the fast retransmission itself */
	c->cwnd = flying + (uint32_t)MAX(send, 0);
}

/* After a timeout: what arrives tells whether anything was lost at all. True: nothing. */
static bool recovery_frto(struct engine_conn *c, const struct delivery *d)
{
	if (!c->frto)
		return false;
	if (d->original)
		return true;
	if (c->frto == 1 && d->acked && seq_lt(c->snd_una, c->recover) && output_probe_new(c)) {
		output_probe_new(c);
		c->frto = 2;
	} else if (d->bytes || d->dup) {
		c->frto = 0;
	}
	return false;
}

static void recovery_grow(struct engine_conn *c, const struct delivery *d)
{
	uint32_t us = (uint32_t)MIN(d->rtt / 1000, (uint64_t)UINT32_MAX);

	/* A window that was not used says nothing of what the path takes (RFC 7661). */
	if (d->acked && (c->cwnd_full || (c->cwnd < c->ssthresh && c->cwnd < 2 * d->flying)))
		c->cc->grow(c, d->acked, us);
}

/* Where the congestion control leaves it to us between its reductions. */
static void recovery_window(struct engine_conn *c, const struct delivery *d, bool lost)
{
	switch ((enum congestion)c->congestion) {
	case CONGESTION_OPEN:
		recovery_grow(c, d);
		break;
	case CONGESTION_LOSS:
		c->cc->grow(c, d->bytes, 0);
		break;
	case CONGESTION_RECOVER:
	case CONGESTION_REDUCE:
		recovery_prr(c, d, lost);
		break;
	}
}

void recovery_ack(struct engine_conn *c, const struct segment *s, const struct delivery *d,
		  bool lost)
{
	bool needless = d->dsack && recovery_dsack(c, d);

	if (c->congestion != CONGESTION_OPEN && c->congestion != CONGESTION_REDUCE &&
	    (recovery_was_mistake(c, s, d, needless) || recovery_frto(c, d)))
		recovery_undo(c);
	if (c->congestion != CONGESTION_OPEN && seq_le(c->recover, c->snd_una))
		recovery_leave(c);
	if (c->lost && (c->congestion == CONGESTION_OPEN || c->congestion == CONGESTION_REDUCE))
		recovery_enter(c, CONGESTION_RECOVER);
	else if (d->ece && c->congestion == CONGESTION_OPEN && seq_le(c->ecn_from, c->snd_una))
		recovery_enter(c, CONGESTION_REDUCE);
	if (c->rate)
		rate_finish(c, d->flying, d->bytes);
	else
		recovery_window(c, d, lost);
	/* ACKs come in batches, sending is after them: it was in use for all that was under way */
	if (seq_le(c->full_end, c->snd_una))
		c->cwnd_full = false;
}

void recovery_backoff(struct engine_conn *c)
{
	uint8_t *n = c->snd_wnd ? &c->backoff : &c->no_room;

	*n = (uint8_t)MIN(*n + 1, UINT8_MAX);
}

void recovery_timeout(struct engine_conn *c)
{
	struct sent *t;

	/* Only the first of several timeouts tells of congestion (RFC 5681, section 3.1). */
	if (c->congestion == CONGESTION_OPEN || c->congestion == CONGESTION_REDUCE)
		undo_remember(c);
	if (c->congestion != CONGESTION_LOSS) {
		c->ssthresh = c->cc->shrink(c, CONGESTION_LOSS);
		c->cwr_out = c->ecn; /* RFC 3168, 6.1.2: whatever it shrinks for */
		c->ecn_from = c->snd_nxt;
	}
	c->frto = c->sack && c->congestion == CONGESTION_OPEN && !c->timeouts;
	c->congestion = CONGESTION_LOSS;
	c->recover = c->snd_nxt;
	c->recover_at = c->e->now;
	c->cwnd = c->mss;
	c->dupacks = 0;
	c->tlp_out = false;
	c->pace_at = 0;
	c->rto_from = c->e->now;
	c->timeouts = (uint8_t)MIN(c->timeouts + 1, UINT8_MAX);
	recovery_backoff(c);
	conn_change_path(c);
	mtu_timeout(c);
	loss_all(c);
	t = TAILQ_FIRST(&c->sent);
	if (t)
		output_again(c, t);
}
