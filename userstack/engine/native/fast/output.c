// SPDX-License-Identifier: Apache-2.0
/* Which segments a connection sends when it has its turn. */
#include <arpa/inet.h>
#include <string.h>

#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

#define OUTPUT_IOV 20
#define PACE_RTT_MIN_US 2000 /* a shorter path has no queue worth smoothing for */
#define PACE_BURST (1 * MS)

uint32_t output_window_edge(const struct engine_conn *c)
{
	uint32_t used = c->rcv_nxt - c->rcv_read;
	uint32_t room = used < c->rcv_buf ? c->rcv_buf - used : 0, edge;

	if (!c->rcv_scale)
		room = MIN(room, 65535u);
	/* No silly windows (RFC 9293, 3.8.6.2.2): it opens by a segment at least. */
	edge = c->rcv_nxt + room;
	if (!seq_lt(c->rcv_adv + MIN(c->rcv_buf / 2, MAX(c->rcv_mss, c->mss)) - 1, edge))
		edge = c->rcv_adv;
	return seq_max(c->rcv_adv, edge);
}

/* The window to be put into a segment. What was promised once is not taken back, but for the bytes
 * that the scale cannot express (RFC 7323, 2.4): they are still accepted. */
static uint16_t output_window(struct engine_conn *c)
{
	uint32_t edge = output_window_edge(c), window = edge - c->rcv_nxt;

	window = MIN(window >> c->rcv_scale, 65535u);
	c->rcv_adv = seq_max(c->rcv_adv, c->rcv_nxt + (window << c->rcv_scale));
	return (uint16_t)window;
}

static void put_sack(struct packet *k, const struct range *r, unsigned n)
{
	uint8_t *p = k->options + k->options_len;
	uint32_t v[2];

	if (!n)
		return;
	memcpy(p, (uint8_t[]){1, 1, 5, (uint8_t)(2 + 8 * n)}, 4);
	for (unsigned i = 0; i < n; i++) {
		v[0] = htonl(r[i].from);
		v[1] = htonl(r[i].to);
		memcpy(p + 4 + 8 * i, v, 8);
	}
	k->options_len += 4 + 8 * n;
}

static void put_urgent(const struct engine_conn *c, struct packet *k)
{
	uint32_t ahead = c->snd_up - k->seq;

	if (!c->urgent_out || ahead - 1 >= 0xffff)
		return;
	k->flags |= TCP_URG;
	k->urgent = (uint16_t)ahead;
}

/* What every segment of the connection has; and it acknowledges. */
static struct packet output_packet(struct engine_conn *c, uint32_t seq, uint8_t flags)
{
	struct packet k = {.key = &c->key, .seq = seq, .ack = c->rcv_nxt, .flags = flags};

	k.tos = c->tos;
	k.label = c->label;
	k.no_df = c->no_df;
	k.window = output_window(c);
	if (c->ece_out)
		k.flags |= TCP_ECE;
	if (c->timestamps)
		packet_option_ts(&k, conn_ts(c), c->ts_recent);
	c->segments++;
	c->rcv_acked = c->rcv_nxt;
	/* Data says nothing of what is out of order, and is no duplicate ACK (RFC 5681, section 2)
	 */
	c->ack_now &= c->gaps || c->dsack;
	c->due[DUE_ACK] = NEVER;
	return k;
}

void output_ack(struct engine_conn *c)
{
	struct packet k = output_packet(c, c->snd_nxt, TCP_ACK);
	struct range sack[4];

	c->ack_now = false;
	if (c->sack)
		put_sack(&k, sack, gap_sack(c, sack, c->timestamps ? 3 : 4));
	packet_send(c->e, &k);
}

/* len bytes from seq on, and a FIN behind them; if that is more than a segment, to be cut. */
static void output_segment(struct engine_conn *c, uint32_t seq, size_t len, uint32_t mss, bool fin,
			   bool again)
{
	struct packet k = output_packet(c, seq, TCP_ACK);
	struct iovec iov[OUTPUT_IOV];

	k.no_df &= mss <= conn_payload(c); /* what tries the path is lost, not cut */
	k.mss = len > mss ? mss : 0;
	k.data = iov;
	k.data_n = stream_iov(&c->tx, seq, &len, iov, OUTPUT_IOV);
	if (fin)
		k.flags |= TCP_FIN;
	if (len && seq + len == c->snd_end)
		k.flags |= TCP_PSH;
	if (len)
		put_urgent(c, &k);
	if (c->ecn && len && !again) {
		k.tos |= IP_ECT0;
		k.flags |= c->cwr_out ? TCP_CWR : 0;
		c->cwr_out = false;
	}
	packet_send(c->e, &k);
	c->sent_at = c->e->now;
	c->quick = 0; /* a dialogue: what we send carries the ACKs */
	if (c->congestion == CONGESTION_RECOVER || c->congestion == CONGESTION_REDUCE)
		c->prr_out += (uint32_t)len + fin;
}

/* The next len bytes are a segment, which is still to be sent. False: no memory to remember it by.
 */
static bool output_add(struct engine_conn *c, uint32_t len, bool fin)
{
	struct sent *t = pool_get(conn_sents(c));

	if (!t)
		return false;
	*t = (struct sent){
		.at = c->e->now,
		.seq = c->snd_nxt,
		.end = c->snd_nxt + len + fin,
		.fin = fin,
		.state = SENT_FLYING,
	};
	if (TAILQ_EMPTY(&c->sent))
		c->rto_from = c->progress_at = c->e->now;
	TAILQ_INSERT_TAIL(&c->sent, t, entry);
	TAILQ_INSERT_TAIL(&c->flight, t, time_entry);
	c->flying += t->end - t->seq;
	if (c->rate)
		rate_sent(c, t);
	c->snd_nxt = t->end;
	c->fin_sent |= fin;
	return true;
}

/* The same, and sent. */
static bool output_new_segment(struct engine_conn *c, uint32_t len, bool fin)
{
	uint32_t seq = c->snd_nxt;

	if (!output_add(c, len, fin))
		return false;
	output_segment(c, seq, len, len, fin, false);
	return true;
}

static bool output_in_window(const struct engine_conn *c, uint32_t seq)
{
	return seq_lt(seq, c->snd_una + c->snd_wnd);
}

bool output_again(struct engine_conn *c, struct sent *t)
{
	uint32_t len = t->end - t->seq - t->fin, payload = conn_payload(c);

	if (output_in_window(c, t->seq))
		payload = MIN(payload, c->snd_una + c->snd_wnd - t->seq);
	if (len > payload) { /* the path or the peer takes less than it did */
		if (!sent_split(c, t, t->seq + payload))
			return false;
		len = payload;
	}
	if (t->state == SENT_FLYING)
		sent_set_state(c, t, SENT_LOST);
	t->at = c->e->now;
	t->again = true;
	c->resent++;
	sent_set_state(c, t, SENT_FLYING);
	if (c->rate)
		rate_sent(c, t);
	if (!c->undo_again++)
		c->undo_ts = conn_ts(c);
	if (t == TAILQ_FIRST(&c->sent))
		c->rto_from = c->e->now;
	output_segment(c, t->seq, len, len, t->fin, true);
	return true;
}

/* Pacing. True: not yet; the timer is set. */
static bool output_wait(struct engine_conn *c)
{
	if (c->pace_at <= c->e->now + PACE_BURST)
		return false;
	conn_set_due(c, DUE_PACE, c->pace_at - PACE_BURST / 2);
	return true;
}

/* In bytes a second; 0: no limit. A congestion control that has its own says so; of a window it is
 * twice what that makes in slow start, else 1.2 of it. */
static uint64_t output_rate(const struct engine_conn *c)
{
	uint64_t rate;

	if (c->rate)
		return c->rate->pace;
	if (c->srtt_us < PACE_RTT_MIN_US)
		return 0;
	rate = (uint64_t)c->cwnd * 1000000 / c->srtt_us;
	return MAX(c->cwnd < c->ssthresh ? 2 * rate : rate * 6 / 5, 1ull);
}

/* len bytes went: when is the next to go? */
static void output_pace(struct engine_conn *c, uint32_t len)
{
	uint64_t rate;

	if (!c->e->tune.pacing || c->unpaced)
		return;
	rate = output_rate(c);
	if (rate)
		c->pace_at = MAX(c->pace_at, c->e->now) + len * SECOND / rate;
}

static bool output_fits(struct engine_conn *c, uint32_t len)
{
	uint32_t flying = conn_flying(c);

	if (!flying || flying + len <= c->cwnd)
		return true;
	c->cwnd_full = true;
	c->full_end = c->snd_nxt;
	return false;
}

/* In the order of the sequence, which is that of the need; what the peer took the window back from
 * waits for it, but for the first, which asks for it (RFC 9293, 3.8.6). False: no more may be sent
 * now. */
static bool output_lost(struct engine_conn *c)
{
	struct sent *t;

	if (c->frto == 2)
		return true;
	while ((t = TAILQ_FIRST(&c->missing))) {
		if (t->seq != c->snd_una && !output_in_window(c, t->seq))
			return false;
		if (!output_fits(c, MIN(t->end - t->seq, c->mss)) || output_wait(c))
			return false;
		if (!output_again(c, t))
			return false;
		output_pace(c, t->end - t->seq);
	}
	return true;
}

/* Bytes of new data that the peer has room for. */
static uint32_t output_sendable(const struct engine_conn *c)
{
	uint32_t edge = seq_min(c->snd_una + c->snd_wnd, c->snd_end);

	return seq_lt(c->snd_nxt, edge) ? edge - c->snd_nxt : 0;
}

/* RFC 9293, 3.8.6.2.1; RFC 896. */
static bool output_small_enough(const struct engine_conn *c, uint32_t len)
{
	if (len < c->snd_end - c->snd_nxt) /* the window cuts it */
		return len >= c->snd_wnd_max / 2;
	return !c->e->tune.nagle || c->fin_queued || c->snd_una == c->snd_nxt;
}

/* The payload of a segment that finds out whether larger ones pass; 0: none. Enough is to follow it
 * that its loss is noticed. */
static uint32_t output_mtu_probe(struct engine_conn *c, uint32_t left)
{
	uint32_t mtu = mtu_to_try(c), payload = mtu ? mtu - conn_headers(c) : 0;

	if (payload > left || payload + 3 * c->mss > c->snd_end - c->snd_nxt)
		return 0;
	return conn_flying(c) + payload <= c->cwnd ? payload : 0;
}

/* Segments that are sent as one packet, if the port cuts it. */
struct train {
	uint32_t seq, len;
	bool fin;
};

/* Payload of the longest. */
static uint32_t output_train_max(const struct engine_conn *c, uint32_t payload)
{
	uint32_t super = c->e->c.super, headers = conn_headers(c);

	if (super < headers + 2 * payload || c->urgent_out || c->cwr_out)
		return payload;
	return (super - headers) / payload * payload;
}

static void output_train(struct engine_conn *c, struct train *t, uint32_t payload)
{
	if (t->len || t->fin)
		output_segment(c, t->seq, t->len, payload, t->fin, false);
	*t = (struct train){.seq = c->snd_nxt};
}

static void output_new(struct engine_conn *c)
{
	uint32_t payload = conn_payload(c), left = output_sendable(c), len;
	uint32_t probe = left > payload ? output_mtu_probe(c, left) : 0;
	struct train train = {.seq = c->snd_nxt};
	bool fin = false;

	/* After a pause nothing is known of the path any more (RFC 5681, 4.1). */
	if (left && !c->rate && !c->flying && c->sent_at && c->e->now - c->sent_at > conn_rto(c)) {
		c->cwnd = MIN(c->cwnd, cc_initial_window(c->mss));
		if (c->cc->restart)
			c->cc->restart(c);
	}
	for (; left || (c->fin_queued && !c->fin_sent && c->snd_nxt == c->snd_end); left -= len) {
		len = probe ? probe : MIN(left, payload);
		fin = c->fin_queued && c->snd_nxt + len == c->snd_end;
		if (len < payload && !fin && !output_small_enough(c, len))
			break;
		if (!output_fits(c, len) || output_wait(c))
			break;
		if (!output_add(c, len, fin)) {
			conn_set_due(c, DUE_PACE, c->e->now + 10 * MS);
			break;
		}
		train.len += len;
		train.fin = fin;
		if (probe) {
			c->mtu_probe = probe + conn_headers(c);
			output_train(c, &train, probe);
		} else if (train.len + payload > output_train_max(c, payload)) {
			output_train(c, &train, payload);
		}
		probe = 0;
		output_pace(c, len);
		if (fin)
			break;
	}
	output_train(c, &train, payload);
}

bool output_probe_new(struct engine_conn *c)
{
	uint32_t len = MIN(output_sendable(c), conn_payload(c));

	return len && output_new_segment(c, len, c->fin_queued && c->snd_nxt + len == c->snd_end);
}

/* An old number makes the peer answer with an ACK, which has its window. That an urgent byte waits
 * for it is told all the same, as in Linux, and not with an old number, of which nothing counts. */
void output_window_probe(struct engine_conn *c)
{
	struct packet k;

	if (c->urgent_out) {
		k = output_packet(c, c->snd_una, TCP_ACK);
		put_urgent(c, &k);
		packet_send(c->e, &k);
	}
	k = output_packet(c, c->snd_una - 1, TCP_ACK);
	packet_send(c->e, &k);
}

void output_conn(struct engine_conn *c)
{
	if (c->out_queued)
		TAILQ_REMOVE(&c->e->out, c, out_entry);
	c->out_queued = false;
	if (conn_synchronized(c) && c->state != TCP_FIN_WAIT_2 && c->state != TCP_TIME_WAIT) {
		if (output_lost(c))
			output_new(c);
		loss_arm(c);
	}
	if (c->ack_now)
		output_ack(c);
}
