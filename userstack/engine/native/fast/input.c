// SPDX-License-Identifier: Apache-2.0
/* A packet comes in: whose is it, and is it the usual kind? */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

#define EXPECT_FROM 256 /* connections: fewer are in the cache anyway */

/* Addresses and ports. Returns the length of the IP header; 0: this is nothing for us. */
static size_t input_key(const uint8_t *p, size_t len, struct conn_key *ret, uint8_t *ret_proto,
			uint8_t *ret_ecn)
{
	size_t hdr = 20;
	uint32_t v4;

	*ret = (struct conn_key){0};
	if (len >= 40 + 8 && p[0] >> 4 == 6) {
		hdr = 40;
		*ret_proto = p[6];
		*ret_ecn = p[1] >> 4 & 3;
		memcpy(ret->remote.ip, p + 8, 16);
		memcpy(ret->local.ip, p + 24, 16);
	} else if (len >= 20 + 8 && p[0] == 0x45) {
		*ret_proto = p[9];
		*ret_ecn = p[1] & 3;
		memcpy(&v4, p + 12, 4);
		addr_from_v4(ret->remote.ip, v4);
		memcpy(&v4, p + 16, 4);
		addr_from_v4(ret->local.ip, v4);
	} else {
		return 0;
	}
	ret->remote.port = be16(p + hdr);
	ret->local.port = be16(p + hdr + 2);
	return hdr;
}

/* An established connection gets its next bytes, or an ACK, and nothing is out of the ordinary. */
static bool input_usual(struct engine_conn *c, const struct segment *s)
{
	if (c->state != TCP_ESTABLISHED || (s->flags & (uint8_t)~TCP_PSH) != TCP_ACK)
		return false;
	if (s->seq != c->rcv_nxt || s->len > conn_window(c) || c->gaps || c->fin_seen ||
	    s->ecn == IP_CE || c->ece_out || s->has_ts != c->timestamps)
		return false;
	if (s->has_ts && seq_lt(s->ts, c->ts_recent))
		return false;
	return seq_le(c->snd_una, s->ack) && seq_le(s->ack, c->snd_nxt);
}

/*
 * Every second segment is acknowledged at once, in the turn that it came in; a single one when the
 * timer says so, or with what the host sends. A sender that has just begun needs every ACK. What is
 * longer than a segment can be is several that came as one.
 */
static void receive_ack(struct engine_conn *c, uint32_t len)
{
	bool several = len > c->e->c.mtu - conn_plain_headers(c);

	if (!several)
		c->rcv_mss = MAX(c->rcv_mss, len);
	if (several || c->quick || c->rcv_nxt - c->rcv_acked >= 2 * c->rcv_mss || c->gaps) {
		c->quick = (uint8_t)(c->quick - !!c->quick);
		c->ack_now = true;
		conn_queue(c);
	} else if (c->due[DUE_ACK] == NEVER) {
		conn_set_due(c, DUE_ACK, c->e->now + c->e->tune.delayed_ack);
	}
}

/* Bytes that no other wait before, for the host to take where they lie. Returns how many it did. */
static uint32_t receive_direct(struct engine_conn *c, const uint8_t *data, uint32_t len)
{
	const struct engine_host *h = c->e->c.host;
	uint32_t n;

	if (!h->received || !c->host_knows || c->closed || c->marks || conn_unread(c))
		return 0;
	n = (uint32_t)h->received(h->ctx, c->user, data, len);
	c->rcv_nxt += n;
	c->rcv_read += n;
	if (n)
		conn_tune_receive(c);
	return n;
}

static void receive_usual(struct engine_conn *c, const uint8_t *data, uint32_t len)
{
	uint32_t n = receive_direct(c, data, len);

	if (n < len)
		receive_data(c, data + n, len - n);
	else
		receive_ack(c, len);
}

/* One step for this packet, the other for one of some packets ago. */
void native_expect(struct engine *e, const uint8_t *pkt, size_t len)
{
	uint32_t *expected = &e->expected[e->expected_n++ % EXPECTED];
	struct conn_key key;
	uint8_t proto, ecn;

	if (e->table.used < EXPECT_FROM || !input_key(pkt, len, &key, &proto, &ecn) ||
	    proto != IPPROTO_TCP)
		return;
	table_fetch_conn(&e->table, *expected);
	*expected = table_hash(e->c.secret, &key);
	table_fetch(&e->table, *expected);
}

void native_input(struct engine *e, const uint8_t *pkt, size_t len, uint64_t now)
{
	struct engine_listener *l;
	struct engine_conn *c;
	struct conn_key key;
	struct segment s;
	size_t hdr;
	uint8_t proto, ecn;

	e->now = now;
	hdr = input_key(pkt, len, &key, &proto, &ecn);
	if (hdr && proto == IPPROTO_UDP) {
		udp_input(e, &key, pkt + hdr, len - hdr);
		return;
	}
	if (!hdr || proto != IPPROTO_TCP || !segment_parse(pkt + hdr, len - hdr, &s)) {
		engine_drop(e, ENGINE_DROP_SEGMENT);
		return;
	}
	s.ecn = ecn;
	c = table_find(&e->table, e->c.secret, &key);
	if (c) {
		c->received_at = now;
		if (!input_usual(c, &s)) {
			if (!slow_input(c, &s))
				return;
		} else {
			receive_timestamp(c, &s);
			ack_receive(c, &s);
			if (s.len)
				receive_usual(c, s.data, s.len);
			return;
		}
	}
	l = engine_listener(e, &key.local);
	if (!engine_is_local(e, key.local.ip))
		engine_drop(e, ENGINE_DROP_STRANGER);
	else if (l)
		open_listen(l, &key, &s, c);
	else
		close_refuse(e, &key, &s, ENGINE_DROP_STRANGER);
}

void receive_timestamp(struct engine_conn *c, const struct segment *s)
{
	if (!c->timestamps || !s->has_ts || !seq_le(s->seq, c->rcv_acked))
		return;
	c->ts_recent = s->ts;
	c->ts_recent_at = c->e->now;
}

void receive_data(struct engine_conn *c, const uint8_t *data, uint32_t len)
{
	uint32_t stored =
		(uint32_t)stream_write(&c->rx, &c->e->chunks, c->rcv_read, c->rcv_nxt, data, len);

	c->rcv_nxt += stored;
	if (stored < len) /* the peer sends it again */
		engine_drop(c->e, ENGINE_DROP_ROOM);
	if (c->gaps)
		gap_close(c);
	if (stored)
		conn_event(c, ENGINE_READABLE, 0);
	receive_ack(c, len);
}

/* Before the segment's bytes are taken. */
void receive_urgent(struct engine_conn *c, const struct segment *s)
{
	uint32_t up = s->seq + s->urgent - 1;
	uint32_t *last = c->marks ? &c->mark[c->marks - 1] : NULL;

	if (!(s->flags & TCP_URG) || !s->urgent || c->eof)
		return;
	if (seq_lt(up, c->rcv_read) || (last && seq_le(up, *last)))
		return; /* read already; or known: each segment on the way to it tells */
	/* As long as its byte is not here a pointer moves on: 0xffff says "further than I can say",
	 * in every segment until the byte is near enough. */
	if (last && seq_le(c->rcv_nxt, *last))
		*last = up;
	else if (c->marks < URGENT_MARKS)
		c->mark[c->marks++] = up;
}
