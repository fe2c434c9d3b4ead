// SPDX-License-Identifier: Apache-2.0
/* Everything that a segment can mean to a connection: RFC 9293, 3.10.7, with RFC 5961 and 7323. */
#include <errno.h>

#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

#define PAWS_IDLE (24ull * 24 * 3600 * SECOND)

/* An old duplicate is told by the peer's clock. */
static bool input_in_time(struct engine_conn *c, const struct segment *s)
{
	if (!c->timestamps || !s->has_ts || (s->flags & TCP_RST) || !seq_lt(s->ts, c->ts_recent))
		return true;
	if (c->e->now - c->ts_recent_at > PAWS_IDLE)
		return true;
	engine_drop(c->e, ENGINE_DROP_CLOCK);
	if (s->len && seq_lt(s->seq, c->rcv_nxt)) /* what is not here is no duplicate */
		gap_duplicate(c, s->seq, s->seq + MIN(c->rcv_nxt - s->seq, s->len));
	if (segment_space(s) && !(s->flags & TCP_SYN)) { /* RFC 7323, 5.3: each is answered */
		c->ack_now = true;
		conn_queue(c);
	} else {
		close_challenge(c);
	}
	return false;
}

/*
 * It has something of the window, or is an ACK from it. As in Linux an ACK is good down to what was
 * acknowledged last: then two of them may overtake each other.
 */
static bool input_in_window(struct engine_conn *c, const struct segment *s)
{
	uint32_t end = s->seq + segment_space(s);

	if (seq_le(c->rcv_acked, end) && seq_le(s->seq, seq_max(c->rcv_adv, c->rcv_nxt)))
		return true;
	engine_drop(c->e, s->flags & (TCP_RST | TCP_SYN) ? ENGINE_DROP_RESET : ENGINE_DROP_WINDOW);
	if (s->flags & TCP_RST)
		return false;
	if (s->flags & TCP_SYN) { /* wherever it is: RFC 5961, 4.2 */
		close_challenge(c);
	} else if (seq_lt(s->seq, c->rcv_nxt) &&
		   segment_space(s)) { /* sent again: our ACK was lost */
		gap_duplicate(c, s->seq, end);
		c->ack_now = true;
		conn_queue(c);
	} else if (segment_space(s) || s->seq == c->rcv_nxt - 1) { /* a probe of the window, or of
								    * whether we live */
		c->ack_now = true;
		conn_queue(c);
	} else {
		close_challenge(c);
	}
	return false;
}

/* RFC 5961, section 3: only the exact number resets. */
static void input_reset(struct engine_conn *c, const struct segment *s)
{
	if (s->seq != c->rcv_nxt) {
		engine_drop(c->e, ENGINE_DROP_RESET);
		close_challenge(c);
		return;
	}
	switch (c->state) {
	case TCP_SYN_RCVD:
		conn_fail(c, ECONNREFUSED);
		return;
	case TCP_CLOSING:
	case TCP_LAST_ACK:
		conn_end(c);
		return;
	default:
		conn_fail(c, ECONNRESET);
	}
}

/* RFC 5961, section 5. An ACK of what was never sent, or was acknowledged long ago, is not ours. */
static bool input_ack_valid(struct engine_conn *c, const struct segment *s)
{
	if (c->state == TCP_SYN_RCVD) {
		if (s->ack == c->snd_nxt)
			return true;
		close_refuse(c->e, &c->key, s, ENGINE_DROP_ACK);
		return false;
	}
	if (seq_le(c->snd_una - c->snd_wnd_max, s->ack) && seq_le(s->ack, c->snd_nxt))
		return true;
	close_challenge(c);
	return engine_drop(c->e, ENGINE_DROP_ACK);
}

/* RFC 8257, 3.2: the sender is to know how much was marked. An ACK is of segments that all were, or
 * all were not. */
static void input_marks(struct engine_conn *c, const struct segment *s)
{
	bool marked = s->ecn == IP_CE;

	if (!s->len || marked == c->ece_out)
		return;
	if (c->rcv_acked != c->rcv_nxt)
		output_ack(c);
	c->ece_out = marked;
	c->quick = MAX(c->quick, 1);
}

/* RFC 3168, 6.1: a mark is told until the sender says that it heard. */
static void input_ecn(struct engine_conn *c, const struct segment *s)
{
	if (!c->ecn)
		return;
	if (c->cc->mark) {
		input_marks(c, s);
		return;
	}
	if (s->flags & TCP_CWR)
		c->ece_out = false;
	if (s->ecn != IP_CE || !s->len) /* an ACK has no capacity to be marked: 6.1.4 */
		return;
	c->ece_out = true;
	c->quick = MAX(c->quick, 2);
}

/* The part of the segment that is new and in the window. */
static void input_trim(struct engine_conn *c, struct segment *s)
{
	uint32_t old, end = s->seq + s->len;
	bool data = s->len;

	if (seq_lt(s->seq, c->rcv_nxt) && s->len) {
		old = MIN(c->rcv_nxt - s->seq, s->len);
		gap_duplicate(c, s->seq, s->seq + old);
		c->ack_now = true; /* ours was lost, or is late */
		conn_queue(c);
		s->seq += old;
		s->data += old;
		s->len -= old;
	}
	if (seq_lt(c->rcv_adv, end)) {
		s->len = seq_lt(s->seq, c->rcv_adv) ? c->rcv_adv - s->seq : 0;
		s->flags &= (uint8_t)~TCP_FIN;
		c->ack_now = true; /* a probe of the window: tell it */
		conn_queue(c);
	}
	if (c->fin_seen && seq_lt(c->fin_seq, s->seq + s->len))
		s->len = seq_lt(s->seq, c->fin_seq) ? c->fin_seq - s->seq : 0;
	if (data && !s->len)
		engine_drop(c->e, ENGINE_DROP_WINDOW);
}

/* One that would be before bytes that are here is none. Only behind the bytes that come next is it
 * taken without room for it. */
static bool input_is_end(const struct engine_conn *c, const struct segment *s)
{
	uint32_t seq = s->seq + s->len;

	if (s->seq != c->rcv_nxt && !seq_lt(seq, c->rcv_adv))
		return false;
	return seq_le(c->rcv_nxt, seq) &&
	       (!c->gaps || seq_le(c->gaps->range[c->gaps->n - 1].to, seq));
}

/* A FIN has a number as bytes have: out of order it waits for what is before it, and is told of. */
static bool input_end_early(const struct engine_conn *c, const struct segment *s)
{
	return (s->flags & TCP_FIN) && c->fin_seen && c->fin_seq == s->seq + s->len &&
	       s->seq != c->rcv_nxt;
}

static void input_data(struct engine_conn *c, struct segment *s)
{
	if (c->state > TCP_FIN_WAIT_2)
		return;
	if (c->closed && s->len && seq_lt(c->rcv_nxt, s->seq + s->len)) {
		close_reset(c); /* RFC 1122, 4.2.2.13: nobody will read it */
		return;
	}
	input_trim(c, s);
	if ((s->flags & TCP_FIN) && !c->fin_seen && input_is_end(c, s)) {
		c->fin_seen = true;
		c->fin_seq = s->seq + s->len;
	}
	if (s->len && s->seq == c->rcv_nxt)
		receive_data(c, s->data, s->len);
	else if (s->len || input_end_early(c, s))
		gap_receive(c, s->seq, s->data, s->len);
	else if (s->flags & TCP_FIN) { /* old, or a lie: RFC 9293, 3.10.7.4 */
		c->ack_now = true;
		conn_queue(c);
	}
	if (c->fin_seen && c->rcv_nxt == c->fin_seq)
		close_fin_received(c);
}

/* The peer's SYN once more. True: it is done with. */
static bool input_syn_again(struct engine_conn *c, const struct segment *s)
{
	if (c->state != TCP_SYN_RCVD || s->seq != c->irs || !(s->flags & TCP_SYN))
		return false;
	if (!(s->flags & TCP_ACK)) { /* our SYN-ACK was lost */
		/* or did not come because of what was asked for: RFC 3168, 6.1.1 */
		c->ecn &= segment_asks_ecn(s);
		open_send_syn_again(c);
		return true;
	}
	/* RFC 9293, figure 8: the answer of a peer that called at the same time */
	if (s->ack != c->snd_nxt || (s->flags & TCP_RST) || !input_in_time(c, s))
		return false;
	receive_timestamp(c, s);
	open_answered(c, s);
	return true;
}

bool slow_input(struct engine_conn *c, struct segment *s)
{
	bool fin_again;

	if (c->state == TCP_SYN_SENT) {
		open_syn_sent(c, s);
		return false;
	}
	if (c->state == TCP_TIME_WAIT)
		return close_time_wait_input(c, s);
	if (input_syn_again(c, s))
		return false;
	if (!input_in_time(c, s) || !input_in_window(c, s))
		return false;
	if (s->flags & TCP_RST) {
		input_reset(c, s);
		return false;
	}
	/* RFC 5961, section 4, in SYN-RECEIVED too, where RFC 9293, 3.10.7.4, has a passive end
	 * return to LISTEN: whoever guesses a number in the window could end handshakes so. A peer
	 * that began anew answers with a reset, which does it. */
	if (s->flags & TCP_SYN) {
		close_challenge(c);
		return engine_drop(c->e, ENGINE_DROP_RESET);
	}
	if (!(s->flags & TCP_ACK))
		return engine_drop(c->e, ENGINE_DROP_ACK);
	if (!input_ack_valid(c, s))
		return false;
	if (c->state == TCP_SYN_RCVD)
		open_established(c, s);
	receive_timestamp(c, s);
	input_ecn(c, s);
	fin_again = c->eof && (s->flags & TCP_FIN);
	ack_receive(c, s);
	if (c->state == TCP_CLOSED)
		return false;
	if (fin_again) {
		gap_duplicate(c, s->seq, c->rcv_nxt);
		c->ack_now = true;
		conn_queue(c);
	}
	receive_urgent(c, s);
	input_data(c, s);
	return false;
}
