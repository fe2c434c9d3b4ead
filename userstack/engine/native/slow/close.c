// SPDX-License-Identifier: Apache-2.0
/* How connections end: FIN, reset, TIME-WAIT. And the refusal of what belongs to none. */
#include <errno.h>

#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

#define CHALLENGE_EVERY (500 * MS)
#define SUCCEED_AFTER SECOND
#define ORPHAN_FIN_WAIT (60 * SECOND) /* for a peer's FIN when nobody waits for it, as in Linux */

static void close_send_reset(struct engine *e, const struct conn_key *key, uint32_t seq,
			     uint32_t ack, uint8_t flags)
{
	struct packet k = {.key = key, .seq = seq, .ack = ack, .flags = TCP_RST | flags};

	packet_send(e, &k);
}

/* RFC 9293, 3.5.2. */
void close_refuse(struct engine *e, const struct conn_key *key, const struct segment *s,
		  enum engine_drop why)
{
	engine_drop(e, why);
	if (s->flags & TCP_RST)
		return;
	if (s->flags & TCP_ACK)
		close_send_reset(e, key, s->ack, 0, 0);
	else
		close_send_reset(e, key, 0, s->seq + segment_space(s), TCP_ACK);
}

void close_reset(struct engine_conn *c)
{
	struct packet k = {.key = &c->key,
			   .tos = c->tos,
			   .label = c->label,
			   .seq = c->snd_nxt,
			   .ack = c->rcv_nxt,
			   .flags = TCP_RST | TCP_ACK};

	if (c->timestamps)
		packet_option_ts(&k, conn_ts(c), c->ts_recent);
	if (c->state == TCP_SYN_RCVD || (conn_synchronized(c) && c->state < TCP_CLOSING))
		packet_send(c->e, &k);
	conn_end(c);
}

/* RFC 5961: ask whether it was meant. Seldom, and for each connection by itself: then nobody can
 * tell from what one gets what another one got. */
void close_challenge(struct engine_conn *c)
{
	if (c->e->now < c->challenge_at)
		return;
	c->challenge_at = c->e->now + CHALLENGE_EVERY;
	c->ack_now = true;
	conn_queue(c);
}

int close_shutdown(struct engine_conn *c)
{
	if (c->fin_queued)
		return 0;
	if (!conn_synchronized(c))
		return -ENOTCONN;
	c->fin_queued = true;
	c->state = c->state == TCP_CLOSE_WAIT ? TCP_LAST_ACK : TCP_FIN_WAIT_1;
	output_conn(c);
	return 0;
}

/* The host hears nothing from now on. */
static void close_silence(struct engine_conn *c)
{
	c->closed = true;
	if (c->event_queued)
		TAILQ_REMOVE(&c->e->events, c, event_entry);
	c->event_queued = false;
}

void close_close(struct engine_conn *c)
{
	bool unread = conn_synchronized(c) && conn_unread(c);

	close_silence(c);
	if (!conn_synchronized(c) || (unread && c->state < TCP_CLOSING)) {
		close_reset(c);
		return;
	}
	stream_fini(&c->rx, &c->e->chunks);
	gap_free(c);
	if (c->state == TCP_FIN_WAIT_2)
		conn_set_due(c, DUE_LIFE, c->e->now + ORPHAN_FIN_WAIT);
	close_shutdown(c);
}

/* An application that resets expects its last words to be on their way, as they are where nothing
 * paces: what the windows let go goes first. */
static void close_flush(struct engine_conn *c)
{
	c->unpaced = true;
	c->pace_at = 0;
	output_conn(c);
}

/* Both FINs are out, or it failed: then there is nobody to tell. */
void close_abort(struct engine_conn *c)
{
	close_silence(c);
	if (conn_synchronized(c) && c->state < TCP_CLOSING)
		close_flush(c);
	if (c->state >= TCP_CLOSING)
		stream_fini(&c->rx, &c->e->chunks);
	else
		close_reset(c);
}

void close_time_wait(struct engine_conn *c)
{
	struct engine *e = c->e;

	c->state = TCP_TIME_WAIT;
	cc_end(c);
	for (unsigned i = 0; i < DUES; i++)
		c->due[i] = NEVER;
	conn_set_due(c, DUE_LIFE, e->now + TIME_WAIT);
	if (e->time_wait_n >= e->tune.time_wait_max)
		conn_end(TAILQ_FIRST(&e->time_wait));
	conn_move(c, &e->time_wait);
}

void close_fin_received(struct engine_conn *c)
{
	c->rcv_nxt++;
	c->eof = true;
	gap_free(c); /* what is beyond is nonsense */
	c->ack_now = true;
	conn_queue(c);
	conn_event(c, ENGINE_EOF, 0);
	if (c->state == TCP_ESTABLISHED)
		c->state = TCP_CLOSE_WAIT;
	else if (c->state == TCP_FIN_WAIT_1)
		c->state = TCP_CLOSING;
	else
		close_time_wait(c);
}

void close_fin_acked(struct engine_conn *c)
{
	if (c->state == TCP_FIN_WAIT_1) {
		c->state = TCP_FIN_WAIT_2;
		if (c->closed)
			conn_set_due(c, DUE_LIFE, c->e->now + ORPHAN_FIN_WAIT);
	} else if (c->state == TCP_CLOSING) {
		close_time_wait(c);
	} else if (c->state == TCP_LAST_ACK) {
		conn_end(c);
	}
}

/* Later by its timestamps than all of the old one (RFC 6191), and late enough that a peer whose FIN
 * was acknowledged in vain has sent it again, as Linux has it (tcp_tw_reuse). */
bool close_succeed(struct engine_conn *c)
{
	if (c->state != TCP_TIME_WAIT || !c->closed || !c->timestamps ||
	    c->e->now + TIME_WAIT < c->due[DUE_LIFE] + SUCCEED_AFTER)
		return false;
	conn_end(c);
	return true;
}

/*
 * - A SYN that is later than all of the connection, by its number or by the peer's clock, opens a
 * new one (RFC 6191; RFC 1122, 4.2.2.13), whose numbers begin beyond those of this one.
 * - Any other SYN is answered with an ACK. If it is not a duplicate, the peer resets what it does
 * not know (RFC 9293, 3.10.7.3), and its next SYN finds the state gone.
 * - A reset that no such SYN asked for is ignored (RFC 1337).
 * - An ACK is, too, if its number is not outside of the window.
 */
bool close_time_wait_input(struct engine_conn *c, const struct segment *s)
{
	if (s->flags & TCP_RST) {
		if (!c->challenged || s->seq != c->rcv_nxt)
			return engine_drop(c->e, ENGINE_DROP_RESET);
		conn_end(c);
		return false;
	}
	if ((s->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		bool later = c->timestamps && s->has_ts && s->ts != c->ts_recent
				     ? seq_lt(c->ts_recent, s->ts)
				     : seq_le(c->rcv_nxt, s->seq);

		if (later) {
			conn_end(c);
			return true;
		}
		c->challenged = true;
		engine_drop(c->e, ENGINE_DROP_RESET);
	} else if (s->flags & TCP_FIN) {
		conn_set_due(c, DUE_LIFE, c->e->now + TIME_WAIT);
	} else if (!segment_space(s)) {
		if (seq_lt(s->seq, c->rcv_nxt) || seq_lt(c->rcv_adv, s->seq))
			close_challenge(c);
		return false;
	}
	output_ack(c);
	return false;
}
