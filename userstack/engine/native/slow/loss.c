// SPDX-License-Identifier: Apache-2.0
/*
 * What of that which was sent is where: flying, arrived out of order (SACKED), or lost. A segment
 * is lost when one that was sent later has arrived and some time has passed (RACK, RFC 8985).
 */
#include <string.h>

#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

#define TAIL_ACK_DELAY (200 * MS) /* what a peer may wait with an ACK of a single segment */
#define DUP_THRESH 3		  /* segments that tell of a loss before them: RFC 5681, 8985 */

static uint32_t *sent_account(struct engine_conn *c, enum sent_state state)
{
	return state == SENT_FLYING ? &c->flying : state == SENT_SACKED ? &c->sacked : &c->lost;
}

/* By time of transmission; almost always that is the end. */
static void flight_insert(struct engine_conn *c, struct sent *t)
{
	struct sent *after = TAILQ_LAST(&c->flight, sent_list);

	while (after && after->at > t->at)
		after = TAILQ_PREV(after, sent_list, time_entry);
	if (after)
		TAILQ_INSERT_AFTER(&c->flight, after, t, time_entry);
	else
		TAILQ_INSERT_HEAD(&c->flight, t, time_entry);
}

/* By sequence; almost always that is the end, too. */
static void missing_insert(struct engine_conn *c, struct sent *t)
{
	struct sent *after = TAILQ_LAST(&c->missing, sent_list);

	while (after && seq_lt(t->seq, after->seq))
		after = TAILQ_PREV(after, sent_list, time_entry);
	if (after)
		TAILQ_INSERT_AFTER(&c->missing, after, t, time_entry);
	else
		TAILQ_INSERT_HEAD(&c->missing, t, time_entry);
}

static void sent_unlist(struct engine_conn *c, struct sent *t)
{
	if (t->state == SENT_FLYING)
		TAILQ_REMOVE(&c->flight, t, time_entry);
	else if (t->state == SENT_LOST)
		TAILQ_REMOVE(&c->missing, t, time_entry);
}

void sent_set_state(struct engine_conn *c, struct sent *t, enum sent_state state)
{
	uint32_t len = t->end - t->seq;

	*sent_account(c, t->state) -= len;
	*sent_account(c, state) += len;
	c->sacked_n += (state == SENT_SACKED) - (t->state == SENT_SACKED);
	sent_unlist(c, t);
	if (state == SENT_FLYING)
		flight_insert(c, t);
	else if (state == SENT_LOST)
		missing_insert(c, t);
	t->state = state;
}

void sent_free(struct engine_conn *c, struct sent *t)
{
	*sent_account(c, t->state) -= t->end - t->seq;
	c->sacked_n -= t->state == SENT_SACKED;
	sent_unlist(c, t);
	if (c->sack_at == t)
		c->sack_at = NULL;
	TAILQ_REMOVE(&c->sent, t, entry);
	pool_put(conn_sents(c), t);
}

void sent_cut(struct engine_conn *c, struct sent *t, uint32_t at)
{
	*sent_account(c, t->state) -= at - t->seq;
	t->seq = at;
}

bool sent_split(struct engine_conn *c, struct sent *t, uint32_t at)
{
	struct pool *pool = conn_sents(c);
	struct sent *rest = pool_get(pool);

	if (!rest)
		return false;
	memcpy(rest, t, pool->size);
	rest->seq = t->end = at;
	t->fin = false;
	TAILQ_INSERT_AFTER(&c->sent, t, rest, entry);
	if (t->state == SENT_FLYING)
		TAILQ_INSERT_AFTER(&c->flight, t, rest, time_entry);
	else if (t->state == SENT_LOST)
		TAILQ_INSERT_AFTER(&c->missing, t, rest, time_entry);
	return true;
}

/* RFC 2883, section 4: the first block is about bytes that are acknowledged, or in the second one.
 */
static bool sack_is_duplicate(const struct segment *s)
{
	if (seq_le(s->sack[0].to, s->ack))
		return true;
	return s->sacks > 1 && seq_le(s->sack[1].from, s->sack[0].from) &&
	       seq_le(s->sack[0].to, s->sack[1].to);
}

/* The first segment that begins at `from` or later. It is looked for where something was SACKED
 * last; without that at the end. */
static struct sent *sack_find(struct engine_conn *c, uint32_t from)
{
	struct sent *t = c->sack_at ? c->sack_at : TAILQ_LAST(&c->sent, sent_list), *before;

	while (t && seq_lt(t->seq, from))
		t = TAILQ_NEXT(t, entry);
	while (t && (before = TAILQ_PREV(t, sent_list, entry)) && seq_le(from, before->seq))
		t = before;
	return t;
}

/* The segments from `from` to `to` have arrived. Returns where the last whole one ends. */
static uint32_t sack_range(struct engine_conn *c, struct delivery *d, uint32_t from, uint32_t to)
{
	struct sent *t = sack_find(c, from);

	for (; t && seq_le(t->end, to); t = TAILQ_NEXT(t, entry)) {
		from = t->end;
		c->sack_at = t;
		if (t->state == SENT_SACKED)
			continue;
		ack_delivered(c, d, t, c->e->now);
		d->sacked += t->end - t->seq;
		sent_set_state(c, t, SENT_SACKED);
	}
	return from;
}

/* Of a range that was said before only what is new; so an ACK costs what it tells, whatever the
 * window is. */
static uint32_t sack_begin(const struct engine_conn *c, uint32_t from, uint32_t to)
{
	for (unsigned i = 0; i < ARRAY_SIZE(c->sack_done); i++)
		if (c->sack_done[i].from == from && seq_lt(from, c->sack_done[i].to) &&
		    seq_le(c->sack_done[i].to, to))
			return c->sack_done[i].to;
	return from;
}

void loss_sack(struct engine_conn *c, const struct segment *s, struct delivery *d)
{
	uint32_t done[ARRAY_SIZE(c->sack_done)][2] = {0};
	unsigned i = 0;

	if (!c->sacked) /* from long ago */
		memset(c->sack_done, 0, sizeof(c->sack_done));
	if (sack_is_duplicate(s)) {
		d->dsack = true;
		d->dsack_end = s->sack[0].to;
		i = 1;
	}
	for (; i < s->sacks; i++) {
		uint32_t from = s->sack[i].from, to = s->sack[i].to;

		if (!seq_lt(from, to) || seq_lt(from, c->snd_una) || seq_lt(c->snd_nxt, to))
			continue; /* nonsense, or long ago */
		done[i][0] = from;
		done[i][1] = sack_range(c, d, sack_begin(c, from, to), to);
	}
	memcpy(c->sack_done, done, sizeof(done));
}

/* RFC 8985, 6.2 step 4: how long a segment may be overtaken. */
static uint64_t reorder_window(const struct engine_conn *c)
{
	uint64_t us = (uint64_t)c->reorder_mult * c->min_rtt_us / 4;

	if (!c->reorder_seen && (c->congestion >= CONGESTION_RECOVER || c->sacked_n >= DUP_THRESH))
		return 0;
	return MIN(us, c->srtt_us) * 1000;
}

static void sent_set_lost(struct engine_conn *c, struct sent *t)
{
	sent_set_state(c, t, SENT_LOST);
	if (c->rate)
		rate_lost(c, t);
}

/* False: it was too large, which is no congestion. */
static bool loss_mark(struct engine_conn *c, struct sent *t)
{
	if (mtu_exceeded(c, t)) {
		mtu_lost(c, t);
		return false;
	}
	sent_set_lost(c, t);
	return true;
}

/* Without SACK: the first segment, after three hints, or in recovery with every ACK of a part. */
static bool loss_detect_reno(struct engine_conn *c)
{
	struct sent *t = TAILQ_FIRST(&c->sent);

	if (!t || t->state != SENT_FLYING || c->congestion == CONGESTION_LOSS)
		return false;
	if (c->congestion == CONGESTION_RECOVER ? t->at >= c->recover_at : c->dupacks < DUP_THRESH)
		return false;
	return loss_mark(c, t);
}

bool loss_detect(struct engine_conn *c)
{
	uint64_t window, lost_at, wait = 0;
	struct sent *t, *next;
	bool lost = false;

	c->due[DUE_REORDER] = NEVER;
	if (!c->sack)
		return loss_detect_reno(c);
	if (!c->rack_at)
		return false;
	window = reorder_window(c);
	for (t = TAILQ_FIRST(&c->flight); t; t = next) {
		next = TAILQ_NEXT(t, time_entry);
		if (t->at > c->rack_at || (t->at == c->rack_at && seq_le(c->rack_end, t->end)))
			break;
		lost_at = t->at + c->rack_rtt_us * 1000ull + window;
		if (lost_at > c->e->now) { /* so are those behind it: until then, all of them */
			wait = c->rack_at + c->rack_rtt_us * 1000ull + window;
			break;
		}
		lost |= loss_mark(c, t);
	}
	if (wait)
		conn_set_due(c, DUE_REORDER, wait);
	return lost;
}

/* A timeout: all that is not known to have arrived. If the first segment was SACKED, the peer has
 * changed its mind (RFC 2018, section 8). */
void loss_all(struct engine_conn *c)
{
	bool reneged = !TAILQ_EMPTY(&c->sent) && TAILQ_FIRST(&c->sent)->state == SENT_SACKED;
	struct sent *t;

	memset(c->sack_done, 0, sizeof(c->sack_done));
	TAILQ_FOREACH(t, &c->sent, entry)
	if (t->state == SENT_FLYING || (reneged && t->state == SENT_SACKED))
		sent_set_lost(c, t);
}

/* RFC 8985, 7.3: a probe is sent if nothing says yet that anything is wrong, and the round trip is
 * known. */
static bool tail_may_probe(const struct engine_conn *c)
{
	return c->sack && c->congestion == CONGESTION_OPEN && !c->tlp_out && !c->sacked &&
	       !c->lost && c->flying && c->srtt_us && !c->backoff && !c->no_room;
}

/* Nothing is under way. */
static void loss_arm_window(struct engine_conn *c, uint64_t rto)
{
	if (!seq_lt(c->snd_nxt, c->snd_end) || c->due[DUE_PACE] != NEVER) {
		c->probe = PROBE_NONE;
		c->due[DUE_RETRANSMIT] = NEVER;
		return;
	}
	if (c->probe != PROBE_WINDOW)
		c->progress_at = c->e->now;
	else if (c->due[DUE_RETRANSMIT] != NEVER)
		return;
	c->probe = PROBE_WINDOW;
	conn_set_due(c, DUE_RETRANSMIT, MIN(c->e->now + rto, timer_end(c)));
}

/* Set the timer for what is under way, or what cannot go. */
void loss_arm(struct engine_conn *c)
{
	uint64_t rto = MIN(conn_rto(c) << MIN(c->backoff + c->no_room, 16), RTO_MAX), due, tail;

	if (c->state == TCP_CLOSED)
		return;
	if (TAILQ_EMPTY(&c->sent)) {
		loss_arm_window(c, rto);
		return;
	}
	due = c->rto_from + rto;
	c->probe = PROBE_RTO;
	if (tail_may_probe(c)) {
		tail = c->rto_from + c->srtt_us * 2000ull + 2 * MS;
		if (c->flying <= c->mss)
			tail += TAIL_ACK_DELAY;
		due = MIN(tail, due); /* a single segment on a short path: where the RTO would be */
		c->probe = PROBE_TAIL;
	}
	conn_set_due(c, DUE_RETRANSMIT, MIN(due, timer_end(c)));
}

/* RFC 8985, 7.4.2: was the probe the repair of a loss? Then congestion control is to know. The ACK
 * of its end may be a late one of the first transmission; then another tells that the probe came,
 * too, before one of what follows does. */
void loss_tail_acked(struct engine_conn *c, const struct segment *s, const struct delivery *d)
{
	bool needless = (d->dsack && d->dsack_end == c->tlp_end) || (d->dup && !s->sacks);

	if (!c->tlp_out || seq_lt(s->ack, c->tlp_end))
		return;
	if (c->tlp_again && !needless && s->ack == c->tlp_end)
		return;
	c->tlp_out = false;
	if (!c->tlp_again || needless || c->congestion != CONGESTION_OPEN)
		return;
	recovery_enter(c, CONGESTION_RECOVER);
	c->congestion = CONGESTION_REDUCE; /* nothing is missing any more */
}
