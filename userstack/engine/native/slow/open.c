// SPDX-License-Identifier: Apache-2.0
/* Handshakes: RFC 9293, 3.5, from both ends at once too. */
#include <errno.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "userstack/engine/isn.h"
#include "userstack/engine/native/native.h"

#define ISN_BEYOND 0x10000u /* the last number of the connection before */

/* A SYN, or a SYN with an ACK if the peer's has come: then it has what both can. */
void open_send_syn(struct engine_conn *c)
{
	bool answer = c->state == TCP_SYN_RCVD;
	struct packet k = {
		.key = &c->key, .tos = c->tos, .label = c->label, .seq = c->iss, .flags = TCP_SYN};

	if (answer) {
		k.flags |= TCP_ACK;
		k.ack = c->rcv_nxt;
		c->rcv_acked = c->rcv_nxt;
	}
	if (!answer && c->backoff) /* some drop who asks for it: RFC 3168, 6.1.1.1 */
		c->ecn = false;
	if (c->ecn)
		k.flags |= answer ? TCP_ECE : TCP_ECE | TCP_CWR;
	k.window = (uint16_t)MIN(c->rcv_buf, 65535u);
	packet_option_mss(&k, c->e);
	if (!answer || c->sack)
		packet_option_sack_ok(&k);
	if (!answer || c->timestamps)
		packet_option_ts(&k, conn_ts(c), c->ts_recent);
	if (!answer || c->rcv_scale)
		packet_option_scale(&k);
	c->segments++;
	c->sent_at = c->e->now;
	conn_set_due(c, DUE_RETRANSMIT, c->e->now + (RTO_INITIAL << c->backoff));
	packet_send(c->e, &k);
}

uint32_t open_peer_mss(const struct conn_key *key, const struct segment *s)
{
	if (s->mss)
		return s->mss;
	return addr_is_v4(key->remote.ip) ? TCP_MSS_DEFAULT : TCP_MSS_DEFAULT6;
}

/* What both ends can, as the peer's SYN says. */
static void open_negotiate(struct engine_conn *c, const struct segment *s)
{
	c->irs = s->seq;
	c->rcv_nxt = c->rcv_read = c->rcv_acked = c->tune_seq = s->seq + 1;
	c->rcv_adv = c->rcv_nxt + MIN(c->rcv_buf, 65535u);
	c->mss_peer = MAX(open_peer_mss(&c->key, s), TCP_MSS_MIN);
	mtu_start(c);
	c->rcv_mss = c->mss;
	c->sack = s->sack_ok;
	c->timestamps = s->has_ts;
	c->ts_recent = s->ts;
	c->ts_recent_at = c->e->now;
	if (s->has_scale) {
		c->snd_scale = s->scale;
		c->rcv_scale = TCP_WSCALE;
	}
	c->snd_wnd = c->snd_wnd_max = s->window;
	c->snd_wl1 = s->seq;
	c->cwnd = cc_initial_window(c->mss);
	cc_begin(c, c->cc);
}

static void open_from(struct engine_conn *c)
{
	c->snd_una = c->iss;
	c->snd_nxt = c->snd_end = c->recover = c->fack = c->ecn_from = c->iss + 1;
	c->snd_wl2 = c->reorder_end = c->iss;
}

static void open_number(struct engine_conn *c)
{
	c->iss = isn_make(c->e->c.secret, &c->key.local, &c->key.remote, c->e->now);
	c->ts_offset = engine_ts_offset(c->e, &c->key);
	open_from(c);
}

int open_connect(struct engine *e, const struct conn_key *key, const struct cc_ops *cc, uint8_t tos,
		 void *user, struct engine_conn **ret)
{
	struct engine_conn *c = conn_new(e, key);

	if (!c)
		return -ENOMEM;
	c->state = TCP_SYN_SENT;
	c->user = user;
	c->host_knows = c->connecting = true;
	c->cc = cc;
	c->tos = tos;
	/* asked for, until there is an answer; some controls live by it (RFC 8257) */
	c->ecn = e->tune.ecn || cc->mark;
	open_number(c);
	*ret = c;
	open_send_syn(c);
	return 0;
}

/* A connection that a SYN asked for, in SYN-RECEIVED. */
static struct engine_conn *open_passive(struct engine_listener *l, const struct conn_key *key,
					const struct segment *syn)
{
	struct engine_conn *c = conn_new(l->e, key);

	if (!c)
		return NULL;
	c->state = TCP_SYN_RCVD;
	c->listener = l;
	c->tos = l->tos;
	conn_move(c, &l->e->half_open);
	open_number(c);
	open_negotiate(c, syn);
	c->ecn = segment_asks_ecn(syn);
	return c;
}

/* RFC 9293, 3.10.7.4, TIME-WAIT: nothing of the connection before is taken for this one's. */
static void open_beyond(struct engine_conn *c, const struct engine_conn *before)
{
	if (!before || seq_lt(before->snd_nxt, c->iss))
		return;
	c->iss = before->snd_nxt + ISN_BEYOND;
	open_from(c);
}

void open_listen(struct engine_listener *l, const struct conn_key *key, struct segment *s,
		 const struct engine_conn *before)
{
	struct engine *e = l->e;
	struct engine_conn *c;
	struct segment syn;

	if (s->flags & TCP_RST) {
		engine_drop(e, ENGINE_DROP_STRANGER);
		return;
	}
	if ((s->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && !(s->flags & TCP_FIN)) {
		if (e->half_open_n >= e->tune.half_open_max) {
			cookie_answer(l, key, s);
		} else if ((c = open_passive(l, key, s))) {
			open_beyond(c, before);
			open_send_syn(c);
		} else {
			engine_drop(e, ENGINE_DROP_ROOM);
		}
		return;
	}
	if (!(s->flags & TCP_ACK)) { /* RFC 9293, 3.10.7.2: nothing that anybody means */
		engine_drop(e, ENGINE_DROP_ACK);
		return;
	}
	if (s->flags & TCP_SYN || !cookie_check(e, key, s, &syn)) {
		close_refuse(e, key, s, ENGINE_DROP_STRANGER);
		return;
	}
	c = open_passive(l, key, &syn);
	if (!c) {
		engine_drop(e, ENGINE_DROP_ROOM);
		return;
	}
	c->iss = s->ack - 1;
	open_from(c);
	slow_input(c, s);
}

/* The peer finds that something was lost when we do, and asks again: that is one loss. */
void open_send_syn_again(struct engine_conn *c)
{
	if (c->e->now - c->sent_at >= RTO_INITIAL / 2 && c->syn_lost < UINT8_MAX)
		c->syn_lost++;
	c->syn_again = true;
	c->resent++;
	conn_change_path(c);
	open_send_syn(c);
}

/* What the handshake tells of the path. Of a SYN that was sent more than once the ACK does not say
 * which one it is for, if not by timestamps. That one was lost may have been a long round trip and
 * a timer of one second; two are congestion (RFC 5681, 3.1; as in Linux). */
static void open_measure(struct engine_conn *c, const struct segment *s)
{
	uint64_t rtt = c->syn_again ? rtt_echoed(c, s) : c->e->now - c->sent_at;

	if (rtt)
		rtt_sample(c, rtt);
	if (c->syn_lost > 1)
		c->cwnd = c->mss;
}

void open_established(struct engine_conn *c, const struct segment *s)
{
	if (c->sent_at) /* else it was a cookie, and its clock is late */
		open_measure(c, s);
	c->state = TCP_ESTABLISHED;
	c->snd_una = s->ack;
	c->backoff = 0;
	c->due[DUE_RETRANSMIT] = NEVER;
	c->snd_wnd = c->snd_wnd_max = conn_told_window(c, s);
	c->snd_wl1 = s->seq;
	c->snd_wl2 = s->ack;
	c->sent_at = 0;
	c->progress_at = c->e->now;
	if (c->e->tune.keepalive)
		conn_set_due(c, DUE_LIFE, c->e->now + c->e->tune.keepalive);
	if (c->connecting) {
		c->connecting = false;
		conn_event(c, ENGINE_CONNECTED, 0);
		return;
	}
	conn_move(c, &c->e->unreported);
	conn_event(c, 0, 0);
}

/* The answer to our SYN. Bytes that come with it are not taken, and come again; that one to come is
 * urgent is heard (RFC 9293, 3.10.7.3). */
void open_answered(struct engine_conn *c, const struct segment *s)
{
	open_established(c, s);
	receive_urgent(c, s);
	c->ack_now = true;
	output_conn(c);
}

/* The peer still has an earlier connection of these ports, as after a restart of ours, or one that
 * waits out its time and finds our clock behind: our reset ends it, and the SYN need not wait for
 * its timer. Once, or whoever sends such ACKs could make us send (as in Linux). */
static void open_refuse_old(struct engine_conn *c, const struct segment *s)
{
	close_refuse(c->e, &c->key, s, ENGINE_DROP_ACK);
	if (!c->syn_again)
		open_send_syn_again(c);
}

void open_syn_sent(struct engine_conn *c, const struct segment *s)
{
	bool ack = s->flags & TCP_ACK;
	uint8_t ecn = s->flags & (TCP_ECE | TCP_CWR);

	if (s->flags & TCP_RST) {
		if (ack && s->ack == c->snd_nxt)
			conn_fail(c, ECONNREFUSED);
		else
			engine_drop(c->e, ENGINE_DROP_RESET);
		return;
	}
	if (ack && s->ack != c->snd_nxt) {
		open_refuse_old(c, s);
		return;
	}
	if (!(s->flags & TCP_SYN)) {
		engine_drop(c->e, ENGINE_DROP_ACK);
		return;
	}
	open_negotiate(c, s);
	c->ecn &= ecn == (ack ? TCP_ECE : TCP_ECE | TCP_CWR);
	if (!ack) { /* both called each other; whose ACK comes is not known (RFC 6298, 3) */
		c->state = TCP_SYN_RCVD;
		c->backoff = 0;
		c->syn_again = true;
		open_send_syn(c);
		return;
	}
	open_answered(c, s);
}
