// SPDX-License-Identifier: Apache-2.0
/* What an acknowledgment does: it frees what arrived, measures time, opens windows. */
#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

#define MIN_RTT_WINDOW (10 * SECOND)

/* RFC 6298, section 2, in microseconds. */
void rtt_sample(struct engine_conn *c, uint64_t rtt)
{
	uint32_t us = (uint32_t)MIN(MAX(rtt / 1000, 1ull), 100000000ull), off;

	if (!c->min_rtt_us || us <= c->min_rtt_us || c->e->now - c->min_rtt_at > MIN_RTT_WINDOW) {
		c->min_rtt_us = us;
		c->min_rtt_at = c->e->now;
	}
	if (!c->srtt_us) {
		c->srtt_us = us;
		c->rttvar_us = us / 2;
		return;
	}
	off = us > c->srtt_us ? us - c->srtt_us : c->srtt_us - us;
	c->rttvar_us = (uint32_t)((3ull * c->rttvar_us + off) / 4);
	c->srtt_us = (uint32_t)MAX((7ull * c->srtt_us + us) / 8, 1ull);
}

uint64_t rtt_echoed(const struct engine_conn *c, const struct segment *s)
{
	uint32_t ms;

	if (!c->timestamps || !s->has_ts || !s->ts_echo)
		return 0;
	ms = conn_ts(c) - s->ts_echo;
	return ms < 100000 ? MAX(ms, 1u) * MS : 0;
}

/* Without backoff. */
uint64_t conn_rto(const struct engine_conn *c)
{
	uint64_t rto = c->syn_lost ? RTO_SYN_AGAIN : RTO_INITIAL;

	if (c->srtt_us)
		rto = c->srtt_us * 1000ull + MAX(4000ull * c->rttvar_us, RTO_VAR_MIN);
	return MIN(rto, RTO_MAX);
}

/* A segment arrived at the far side, as it said the first time. */
void ack_delivered(struct engine_conn *c, struct delivery *d, struct sent *t, uint64_t now)
{
	uint64_t rtt = now - t->at;

	d->bytes += t->end - t->seq;
	if (c->rate)
		rate_delivered(c, t);
	if (!t->again) {
		if (mtu_exceeded(c, t))
			mtu_passed(c, t);
		d->rtt = d->rtt ? MIN(d->rtt, MAX(rtt, 1ull)) : MAX(rtt, 1ull);
		if (!seq_lt(c->recover, t->end))
			d->original = true;
		if (seq_lt(t->end, d->fack))
			c->reorder_seen = true;
	}
	c->fack = seq_max(c->fack, t->end);
	/* Which transmission arrived is not known: hardly the last one, if that was just now. */
	if (t->again && rtt / 1000 < c->min_rtt_us)
		return;
	if (t->at > c->rack_at || (t->at == c->rack_at && seq_lt(c->rack_end, t->end))) {
		c->rack_at = t->at;
		c->rack_end = t->end;
		c->rack_rtt_us = (uint32_t)MIN(rtt / 1000, (uint64_t)UINT32_MAX);
	}
}

/* RFC 9293, 3.10.7.4: only a segment that is not older than the last one may say it. One that may
 * be as old opens the window, or closes it. */
static bool ack_window(struct engine_conn *c, const struct segment *s)
{
	uint32_t window = conn_told_window(c, s);

	if (!seq_lt(c->snd_wl1, s->seq) &&
	    !(c->snd_wl1 == s->seq && (seq_lt(c->snd_wl2, s->ack) ||
				       (c->snd_wl2 == s->ack && (!window || window > c->snd_wnd)))))
		return false;
	c->snd_wl1 = s->seq;
	c->snd_wl2 = s->ack;
	if (window == c->snd_wnd)
		return false;
	if (!c->snd_wnd) /* what timed out until now had no room: that tells nothing of the path */
		c->no_room = c->timeouts = 0;
	c->snd_wnd = window;
	c->snd_wnd_max = MAX(c->snd_wnd_max, window);
	return true;
}

/* Bytes that are done leave the buffer. */
static void ack_buffer(struct engine_conn *c)
{
	if (c->urgent_out && seq_le(c->snd_up, c->snd_una))
		c->urgent_out = false;
	if (seq_le(c->snd_end, c->snd_una))
		stream_empty(&c->tx, &c->e->chunks);
	else
		stream_trim(&c->tx, &c->e->chunks, c->snd_una);
	/* A window's worth can wait while another one is under way. */
	c->snd_buf = MIN(MAX(c->snd_buf, 2 * c->cwnd), SEND_BUFFER_MAX);
	if (!c->want_room || c->fin_queued || !conn_room(c))
		return;
	c->want_room = false;
	conn_event(c, ENGINE_WRITABLE, 0);
}

/* snd_una moves to ack. Returns whether our FIN was acknowledged. */
static bool ack_advance(struct engine_conn *c, uint32_t ack, struct delivery *d)
{
	bool fin = false;
	struct sent *t;

	while ((t = TAILQ_FIRST(&c->sent)) && seq_lt(t->seq, ack)) {
		if (seq_lt(ack, t->end)) { /* a part of it */
			struct sent rest = *t;

			t->end = ack;
			if (t->state != SENT_SACKED)
				ack_delivered(c, d, t, c->e->now);
			t->end = rest.end;
			sent_cut(c, t, ack);
			break;
		}
		if (t->state != SENT_SACKED)
			ack_delivered(c, d, t, c->e->now);
		fin |= t->fin;
		sent_free(c, t);
	}
	d->acked = ack - c->snd_una;
	c->snd_una = ack;
	/* Marks that are passed come along: one that is 2 GiB behind would be in the future. */
	c->recover = seq_max(c->recover, ack);
	c->ecn_from = seq_max(c->ecn_from, ack);
	c->reorder_end = seq_max(c->reorder_end, ack);
	c->timeouts = 0;
	c->progress_at = c->rto_from = c->e->now;
	return fin;
}

/* Peers without SACK tell of arrivals by saying the same again (RFC 5681, RFC 6582). */
static void ack_count_dups(struct engine_conn *c, const struct delivery *d)
{
	if (d->acked)
		c->dupacks = (uint8_t)(c->congestion == CONGESTION_RECOVER &&
						       c->dupacks > d->acked / c->mss
					       ? c->dupacks - d->acked / c->mss
					       : 0);
	else if (d->dup && c->dupacks < UINT8_MAX)
		c->dupacks++;
}

static void ack_measure(struct engine_conn *c, const struct segment *s, struct delivery *d)
{
	/* Bytes that were sent more than once: only the peer's echo tells which time it was. */
	if (!d->rtt && d->acked)
		d->rtt = rtt_echoed(c, s);
	if (!d->rtt)
		return;
	rtt_sample(c, d->rtt);
	/* Not before: the timeout may have been too short (RFC 6298, section 5). */
	c->backoff = c->no_room = 0;
}

/* Nothing is under way: a window that opens lets bytes go, and the probe of a tail may be told of.
 */
static void ack_idle(struct engine_conn *c, const struct segment *s, struct delivery *d,
		     bool window)
{
	if (window && seq_lt(c->snd_nxt, c->snd_end))
		conn_queue(c);
	if (!c->tlp_out)
		return;
	if (s->sacks)
		loss_sack(c, s, d);
	loss_tail_acked(c, s, d);
}

void ack_receive(struct engine_conn *c, const struct segment *s)
{
	bool outstanding = c->snd_una != c->snd_nxt, fin = false, lost;
	struct delivery d = {.fack = c->fack, .flying = c->flying};
	bool window = ack_window(c, s);

	c->keepalives = 0;
	if (c->asked) {
		c->asked = false;
		conn_event(c, ENGINE_ALIVE, 0);
	}
	/* Nothing to acknowledge, or no room for it: a peer that says so is there */
	if (conn_patient(c) && (!outstanding || !c->snd_wnd))
		c->progress_at = c->e->now;
	d.dup = s->ack == c->snd_una && !s->len && !window && !(s->flags & TCP_FIN);
	if (!outstanding) {
		ack_idle(c, s, &d, window);
		return;
	}
	if (c->rate)
		rate_check(c);
	d.ece = c->ecn && (s->flags & TCP_ECE);
	if (seq_lt(c->snd_una, s->ack))
		fin = ack_advance(c, s->ack, &d);
	if (c->sack && s->sacks)
		loss_sack(c, s, &d);
	if (c->cc->mark && c->ecn)
		c->cc->mark(c, d.bytes, d.ece);
	if (d.bytes)
		ack_measure(c, s, &d);
	if (!c->sack)
		ack_count_dups(c, &d);
	lost = loss_detect(c);
	loss_tail_acked(c, s, &d);
	recovery_ack(c, s, &d, lost);
	if (d.acked)
		ack_buffer(c);
	loss_arm(c);
	if (c->lost || seq_lt(c->snd_nxt, c->snd_end) || (c->fin_queued && !c->fin_sent))
		conn_queue(c);
	if (fin)
		close_fin_acked(c);
}
