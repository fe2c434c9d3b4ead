// SPDX-License-Identifier: Apache-2.0
/* What the RFCs say of single segments: handshakes, acceptance, ACKs, windows, ECN. */
#include <CUnit/CUnit.h>
#include <errno.h>

#include "lib/base/util.h"
#include "tests/conform/peer.h"

/* ---- handshakes ---- */

static void test_options(void)
{
	const struct segment *s;

	peer_start();
	GIVE(.flags = TCP_SYN, .mss = 1000, .sack_ok = true, .scale = 3, .ts = true, .tsval = 77);
	s = peer_take();
	CU_ASSERT_FATAL(s != NULL);
	CU_ASSERT_EQUAL(s->flags, TCP_SYN | TCP_ACK);
	CU_ASSERT_EQUAL(s->mss, 1460);
	CU_ASSERT(s->sack_ok && s->has_scale && s->has_ts);
	CU_ASSERT_EQUAL(s->scale, TCP_WSCALE);
	CU_ASSERT_EQUAL(s->ts_echo, 77);
	CU_ASSERT_EQUAL(s->window, 65535); /* not scaled in a SYN */
	peer_stop();
	/* What was not offered is not answered, and not used. */
	peer_start();
	GIVE(.flags = TCP_SYN);
	s = peer_take();
	CU_ASSERT_FATAL(s != NULL);
	CU_ASSERT_FALSE(s->sack_ok || s->has_scale || s->has_ts);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1);
	peer_send(1000);
	peer_expect(1, 536);
	peer_stop();
	/* A window scale beyond 14 is 14; an MSS of next to nothing is not believed. */
	peer_start();
	peer_join(&(struct given){.mss = 1, .scale = 200});
	CU_ASSERT_EQUAL(peer.conn->snd_scale, 14);
	CU_ASSERT_EQUAL(peer.conn->mss, TCP_MSS_MIN);
	peer_stop();
}

/* Our SYN-ACK is lost: it comes again with the peer's SYN, and by itself. */
static void test_syn_ack_lost(void)
{
	peer_start();
	GIVE(.flags = TCP_SYN, .mss = MSS);
	peer_forget();
	GIVE(.flags = TCP_SYN, .mss = MSS);
	CU_ASSERT_EQUAL(peer.head - peer.tail, 1);
	peer_forget();
	peer_pass(1100 * MS);
	CU_ASSERT_EQUAL(peer.head - peer.tail, 1);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1);
	CU_ASSERT_EQUAL(peer.accepted, 1);
	peer_stop();
}

/* An ACK of something else does not establish anything. */
static void test_wrong_ack(void)
{
	const struct segment *s;

	peer_start();
	GIVE(.flags = TCP_SYN, .mss = MSS);
	peer_forget();
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 2);
	s = peer_take();
	CU_ASSERT(s && s->flags == TCP_RST && s->seq == 2);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 0);
	CU_ASSERT_EQUAL(peer.accepted, 0);
	peer_stop();
}

static void call(bool ecn)
{
	peer_start();
	peer.e->tune.ecn = ecn;
	CU_ASSERT_EQUAL_FATAL(peer_dial(NULL), 0);
	peer_forget();
}

/* Both call each other: RFC 9293, figure 7. */
static void test_simultaneous_open(void)
{
	const struct segment *s;

	call(false);
	GIVE(.flags = TCP_SYN, .mss = MSS);
	s = peer_take();
	CU_ASSERT(s && s->flags == (TCP_SYN | TCP_ACK) && s->seq == 0 && s->ack == 1);
	GIVE(.flags = TCP_SYN | TCP_ACK, .seq = 0, .ack = 2, .mss = MSS);
	CU_ASSERT(!peer.connected);
	peer_forget();
	GIVE(.flags = TCP_SYN | TCP_ACK, .seq = 0, .ack = 1, .mss = MSS);
	CU_ASSERT(peer.connected);
	peer_data(1, 100);
	CU_ASSERT_EQUAL(peer_unread(), 100);
	peer_stop();
}

static void test_syn_sent(void)
{
	const struct segment *s;

	call(false);
	GIVE(.flags = TCP_SYN | TCP_ACK, .ack = 7); /* of an old connection: RFC 9293, figure 9 */
	s = peer_take();
	CU_ASSERT(s && s->flags == TCP_RST && s->seq == 7);
	GIVE(.flags = TCP_RST, .seq = 0); /* without an ACK anybody can send it */
	GIVE(.flags = TCP_RST | TCP_ACK, .seq = 0, .ack = 9);
	CU_ASSERT_FALSE(peer.failed);
	GIVE(.flags = TCP_RST | TCP_ACK, .seq = 0, .ack = 1);
	CU_ASSERT(peer.failed && peer.error == ECONNREFUSED);
	engine_native.abort(peer.conn);
	peer_stop();
}

/* RFC 4987: beyond so many half-open ones nothing is kept, and yet every option works. */
static void test_cookies(void)
{
	const struct segment *s;
	struct segment syn_ack;
	uint32_t iss;

	peer_start();
	peer.e->tune.half_open_max = 10;
	for (unsigned i = 0; i < 1000; i++) {
		peer.port = (uint16_t)(6000 + i);
		GIVE(.flags = TCP_SYN, .mss = MSS);
	}
	CU_ASSERT_EQUAL(peer.e->conns.used, 10);
	peer_forget();
	peer.port = 5000;
	GIVE(.flags = TCP_SYN, .mss = 1400, .sack_ok = true, .scale = 9, .ts = true, .tsval = 5);
	s = peer_take();
	CU_ASSERT_FATAL(s != NULL);
	syn_ack = *s;
	iss = peer.iss;
	CU_ASSERT_EQUAL(peer.e->conns.used, 10);
	peer_pass(3 * SECOND);
	peer_forget();
	peer.iss = iss + 1; /* a guess */
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .ts = true, .tsval = 6, .tsecr = syn_ack.ts);
	s = peer_take();
	CU_ASSERT(s && s->flags & TCP_RST);
	CU_ASSERT_EQUAL(peer.accepted, 0);
	peer.iss = iss;
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .ts = true, .tsval = 6, .tsecr = syn_ack.ts,
	     .len = 50);
	CU_ASSERT_EQUAL_FATAL(peer.accepted, 1);
	CU_ASSERT_EQUAL(peer_unread(), 50);
	CU_ASSERT(peer.conn->sack && peer.conn->timestamps);
	CU_ASSERT_EQUAL(peer.conn->snd_scale, 9);
	CU_ASSERT_EQUAL(peer.conn->mss, 1360);
	peer_forget();
	peer_send(3000);
	peer_expect(1, 1360 - 12);
	CU_ASSERT(seq_lt(syn_ack.ts, conn_ts(peer.conn)));
	peer_stop();
}

/* ---- acceptance: RFC 5961, 7323 ---- */

/* Nothing but one ACK comes of it, and the connection lives. */
static void challenged(void)
{
	const struct segment *s = peer_expect_ack(1);

	CU_ASSERT_EQUAL(s->seq, peer.conn->snd_nxt - peer.iss);
	peer_quiet();
	CU_ASSERT_FALSE(peer.failed);
	CU_ASSERT_EQUAL(peer_unread(), 0);
	peer_pass(SECOND); /* the next challenge is allowed */
	peer_forget();
}

static void test_challenges(void)
{
	peer_meet(&peer_usual);
	GIVE(.flags = TCP_RST, .seq = 2);
	challenged();
	GIVE(.flags = TCP_RST | TCP_ACK, .seq = 60000, .ack = 1);
	challenged();
	GIVE(.flags = TCP_SYN, .seq = 1);
	challenged();
	GIVE(.flags = TCP_SYN, .seq = 30000);
	challenged();
	for (unsigned i = 0; i < 100; i++) /* outside of the window, too: RFC 5961, 4.2 */
		GIVE(.flags = TCP_SYN, .seq = (uint32_t)-1000 + i);
	CU_ASSERT_EQUAL(peer_expect_ack(1)->sacks, 0);
	peer_quiet();
	peer_pass(SECOND);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 2, .len = 10); /* of what was never sent */
	challenged();
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = (uint32_t)-10000000, .len = 10); /* long ago */
	challenged();
	/* Nor do they come without end. */
	for (unsigned i = 0; i < 1000; i++)
		GIVE(.flags = TCP_RST, .seq = 2 + i);
	CU_ASSERT_EQUAL(peer.head - peer.tail, 1);
	peer_forget();
	GIVE(.flags = TCP_RST, .seq = 200000); /* outside: silence */
	peer_quiet();
	GIVE(.flags = TCP_RST, .seq = 1);
	CU_ASSERT(peer.failed && peer.error == ECONNRESET);
	engine_native.abort(peer.conn);
	peer_stop();
}

/* RFC 9293, 3.10.7.2: neither a SYN nor an ACK nor a reset. Nor does a SYN end what it begins. */
static void test_listen_odd(void)
{
	static const uint8_t odd[] = {0,
				      TCP_PSH,
				      TCP_FIN,
				      TCP_FIN | TCP_PSH | TCP_URG,
				      TCP_SYN | TCP_FIN,
				      TCP_SYN | TCP_RST,
				      TCP_RST};

	peer_start();
	for (unsigned i = 0; i < ARRAY_SIZE(odd); i++) {
		GIVE(.flags = odd[i], .len = 1);
		peer_quiet();
	}
	GIVE(.flags = TCP_ACK | TCP_PSH, .ack = 1);
	CU_ASSERT_EQUAL(peer_take()->flags, TCP_RST);
	CU_ASSERT_EQUAL(peer.e->table.used, 0);
	peer_stop();
}

static void test_paws(void)
{
	const struct segment *s;

	peer_meet(&peer_with_ts);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10, .ts = true, .tsval = 2000);
	CU_ASSERT_EQUAL(peer_unread(), 10);
	peer_pass(SECOND);
	peer_forget();
	GIVE(.flags = TCP_ACK, .seq = 11, .ack = 1, .len = 10, .ts = true, .tsval = 1999);
	CU_ASSERT_EQUAL(peer_unread(), 10);
	CU_ASSERT_EQUAL(peer_expect_ack(11)->sacks, 0); /* it was not taken */
	peer_pass(SECOND);
	GIVE(.flags = TCP_ACK, .seq = 6, .ack = 1, .len = 10, .ts = true, .tsval = 1999);
	s = peer_expect_ack(11);
	CU_ASSERT(s->sacks == 1 && s->sack[0].from == 6 && s->sack[0].to == 11);
	GIVE(.flags = TCP_ACK, .seq = 11, .ack = 1, .len = 10, .ts = true, .tsval = 2000);
	CU_ASSERT_EQUAL(peer_unread(), 20);
	/* After 24 days of silence the clock says nothing (5.5). */
	peer_pass(25ull * 24 * 3600 * SECOND);
	GIVE(.flags = TCP_ACK, .seq = 21, .ack = 1, .len = 10, .ts = true, .tsval = 1);
	CU_ASSERT_EQUAL(peer_unread(), 30);
	peer_stop();
}

/* The timestamp that is echoed is that of the segment that an ACK waits for (RFC 7323, 4.3). */
static void test_ts_echo(void)
{
	peer_meet(&peer_with_ts);
	peer.conn->quick = 0;
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .len = MSS, .ts = true, .tsval = 2000);
	GIVE(.flags = TCP_ACK, .seq = 1 + MSS, .ack = 1, .len = MSS, .ts = true, .tsval = 2010);
	CU_ASSERT_EQUAL(peer_expect_ack(1 + 2 * MSS)->ts_echo, 2000);
	GIVE(.flags = TCP_ACK, .seq = 1 + 3 * MSS, .ack = 1, .len = MSS, .ts = true, .tsval = 2020);
	CU_ASSERT_EQUAL(peer_expect_ack(1 + 2 * MSS)->ts_echo, 2000);
	GIVE(.flags = TCP_ACK, .seq = 1 + 2 * MSS, .ack = 1, .len = MSS, .ts = true, .tsval = 2030);
	CU_ASSERT_EQUAL(peer_expect_ack(1 + 4 * MSS)->ts_echo, 2030);
	peer_stop();
}

/* What is there to be read is what was sent. */
static void check_stream(void)
{
	struct iovec v[32];
	unsigned n = engine_native.peek(peer.conn, v, 32);
	uint32_t at = 1;

	for (unsigned i = 0; i < n; i++)
		for (size_t j = 0; j < v[i].iov_len; j++, at++)
			if (((uint8_t *)v[i].iov_base)[j] != (uint8_t)at)
				CU_FAIL_FATAL("another byte than was sent");
	CU_ASSERT_EQUAL(at, 1 + peer_unread());
}

/* What overlaps is cut, what is beyond the window too. */
static void test_trim(void)
{
	peer_meet(&peer_usual);
	peer_data(1, 100);
	peer_forget();
	peer_data(51, 100);
	CU_ASSERT_EQUAL(peer_unread(), 150);
	peer_data(1, 65000);
	CU_ASSERT_EQUAL(peer_unread(), 65000);
	peer_forget();
	peer_data(60001, 6000);
	CU_ASSERT_EQUAL(peer.conn->rcv_nxt, peer.conn->rcv_adv);
	CU_ASSERT(peer_unread() >= 65535 && peer_unread() < 66000);
	CU_ASSERT_EQUAL(peer_expect_ack(1 + peer_unread())->window, 0);
	check_stream();
	peer_stop();
}

/* ---- ACKs and SACK ---- */

static void test_delayed_ack(void)
{
	peer_meet(&peer_usual);
	peer.conn->quick = 0;
	peer_data(1, MSS);
	peer_quiet();
	peer_pass(9 * MS);
	peer_quiet();
	peer_pass(2 * MS);
	peer_expect_ack(1 + MSS);
	peer_data(1 + MSS, MSS);
	peer_quiet();
	peer_data(1 + 2 * MSS, MSS);
	peer_expect_ack(1 + 3 * MSS);
	/* Two that offload put together are two, also of a peer that has small ones. */
	peer_data(1 + 3 * MSS, 2 * MSS);
	peer_expect_ack(1 + 5 * MSS);
	peer_data(1 + 5 * MSS, 2 * 1000);
	peer_expect_ack(1 + 5 * MSS + 2000);
	/* It goes with data. */
	peer_data(1 + 5 * MSS + 2000, 10);
	peer_send(5);
	CU_ASSERT_EQUAL(peer_take()->ack, 1 + 5 * MSS + 2010);
	peer_pass(100 * MS);
	CU_ASSERT(peer.head - peer.tail <= 1); /* the tail probe of that */
	peer_stop();
}

static void test_sack(void)
{
	const struct segment *s;

	peer_meet(&peer_usual);
	peer_data(1 + 2 * MSS, MSS);
	s = peer_expect_ack(1);
	CU_ASSERT(s->sacks == 1 && s->sack[0].from == 1 + 2 * MSS && s->sack[0].to == 1 + 3 * MSS);
	peer_data(1 + 6 * MSS, MSS);
	peer_data(1 + 4 * MSS, MSS);
	peer_take();
	s = peer_expect_ack(1); /* the latest first */
	CU_ASSERT_EQUAL(s->sacks, 3);
	CU_ASSERT_EQUAL(s->sack[0].from, 1 + 4 * MSS);
	CU_ASSERT_EQUAL(s->sack[1].from, 1 + 6 * MSS);
	CU_ASSERT_EQUAL(s->sack[2].from, 1 + 2 * MSS);
	peer_data(1 + 3 * MSS, MSS); /* joins two */
	s = peer_expect_ack(1);
	CU_ASSERT(s->sacks == 2 && s->sack[0].from == 1 + 2 * MSS && s->sack[0].to == 1 + 5 * MSS);
	peer_data(1, 2 * MSS);
	s = peer_expect_ack(1 + 5 * MSS);
	CU_ASSERT(s->sacks == 1 && s->sack[0].from == 1 + 6 * MSS);
	peer_data(1 + 5 * MSS, MSS);
	CU_ASSERT_EQUAL(peer_expect_ack(1 + 7 * MSS)->sacks, 0);
	CU_ASSERT_EQUAL(peer_unread(), 7 * MSS);
	peer_stop();
}

/* Bytes that go out at the same moment neither stand in for a duplicate ACK nor carry SACK. */
static void test_sack_beside_data(void)
{
	struct given syn = peer_usual;
	const struct segment *s;

	for (unsigned sack = 0; sack < 2; sack++) {
		syn.sack_ok = sack;
		peer_meet(&syn);
		peer_send(20 * MSS);
		peer_forget();
		/* it acknowledges, so there is more to send, and has lost something */
		GIVE(.flags = TCP_ACK, .seq = 1 + MSS, .ack = 1 + 5 * MSS, .len = MSS);
		while ((s = peer_take()) && s->len)
			;
		CU_ASSERT_FATAL(s != NULL);
		CU_ASSERT(s->flags == TCP_ACK && s->ack == 1);
		CU_ASSERT_EQUAL(s->sacks, sack);
		peer_quiet();
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1 + 10 * MSS, .len = MSS);
		CU_ASSERT_EQUAL(peer_take()->ack, 1 + 2 * MSS);
		while ((s = peer_take()))
			CU_ASSERT_EQUAL(s->len, MSS); /* that tells all */
		peer_stop();
	}
}

/* RFC 2883, section 4. */
static void test_dsack(void)
{
	const struct segment *s;

	peer_meet(&peer_usual);
	peer_data(1, 2 * MSS);
	peer_forget();
	peer_data(1, MSS);
	s = peer_expect_ack(1 + 2 * MSS);
	CU_ASSERT(s->sacks == 1 && s->sack[0].from == 1 && s->sack[0].to == 1 + MSS);
	peer_data(1 + 3 * MSS, MSS);
	peer_forget();
	peer_data(1 + 3 * MSS, MSS); /* a duplicate above a hole: inside the second block */
	s = peer_expect_ack(1 + 2 * MSS);
	CU_ASSERT_EQUAL(s->sacks, 2);
	CU_ASSERT(s->sack[0].from == 1 + 3 * MSS && s->sack[1].from == 1 + 3 * MSS);
	peer_data(1 + 4 * MSS, MSS); /* told once */
	CU_ASSERT_EQUAL(peer_expect_ack(1 + 2 * MSS)->sacks, 1);
	peer_stop();
}

/* Islands without end: memory stays bounded, and the stream comes together. */
static void test_islands(void)
{
	peer_meet(&peer_usual);
	for (uint32_t at = 3; at < 60000; at += 2) {
		peer_data(at, 1);
		peer_forget();
	}
	CU_ASSERT_EQUAL(peer.conn->gaps->n, GAP_RANGES);
	CU_ASSERT(peer.e->chunks.used <= GAP_RANGES);
	peer_forget();
	for (uint32_t at = 1; at < 60000; at += 1000)
		peer_data(at, 1000);
	CU_ASSERT_EQUAL(peer_unread(), 60000);
	CU_ASSERT_PTR_NULL(peer.conn->gaps);
	check_stream();
	peer_stop();
}

/* ---- windows ---- */

static void test_zero_window(void)
{
	peer_meet(&peer_usual);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .no_window = true);
	peer_send(3000);
	peer_quiet();
	peer_pass(215 * MS);
	CU_ASSERT_EQUAL(peer_expect_ack(1)->seq, 0); /* an old number, which is to be answered */
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .no_window = true);
	peer_pass(400 * MS);
	peer_quiet();
	peer_pass(40 * MS); /* twice as long */
	peer_expect_ack(1);
	/* Answered, it goes on for ever. */
	for (unsigned i = 0; i < 200; i++) {
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .no_window = true);
		peer_pass(60 * SECOND);
	}
	CU_ASSERT_FALSE(peer.failed);
	peer_forget();
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .window = 100);
	peer_expect(1, MSS);
	peer_expect(1 + MSS, MSS);
	peer_expect(1 + 2 * MSS, 80);
	peer_stop();
	/* Not answered, it ends. */
	peer_meet(&peer_usual);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .no_window = true);
	peer_send(3000);
	peer_pass(1000 * SECOND);
	CU_ASSERT(peer.failed && peer.error == ETIMEDOUT);
	engine_native.abort(peer.conn);
	peer_stop();
}

/* A window that is taken back, over bytes that are under way: they come again when there is room,
 * and until then that is no reason to end (RFC 9293, 3.8.6, SHLD-16 and 17). */
static void test_shrunk_window(void)
{
	peer_meet(&peer_usual);
	peer_send(3000);
	peer_forget();
	for (unsigned i = 0; i < 200; i++) {
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .no_window = true);
		peer_pass(10 * SECOND);
		CU_ASSERT_FATAL(!peer.failed);
	}
	CU_ASSERT(peer_take() != NULL); /* it asks */
	peer_forget();
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .window = 100);
	peer_pass(60 * SECOND);
	peer_expect(1, MSS);
	peer_forget();
	peer_ack(3001);
	CU_ASSERT_EQUAL(peer.conn->snd_una, peer.conn->snd_nxt);
	/* A peer that does not answer is gone. */
	peer_send(3000);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 3001, .no_window = true);
	peer_pass(1000 * SECOND);
	CU_ASSERT(peer.failed && peer.error == ETIMEDOUT);
	engine_native.abort(peer.conn);
	peer_stop();
}

/* A window that the application closed opens by enough to be worth it, and is never taken back. */
static void test_receive_window(void)
{
	const struct segment *s;
	uint32_t edge = 1 + 65535;

	peer_meet(&peer_usual);
	for (uint32_t at = 1; at < 60000; at += 1000)
		peer_data(at, 1000);
	while ((s = peer_take())) {
		uint32_t now = s->ack + ((uint32_t)s->window << TCP_WSCALE);

		CU_ASSERT(seq_le(edge, now + (1 << TCP_WSCALE)));
		edge = now;
	}
	peer_data(60001, peer.conn->rcv_adv - peer.conn->rcv_nxt);
	edge = 1 + peer_unread();
	peer_forget();
	peer_data(edge, 1); /* a probe: refused, answered */
	CU_ASSERT_EQUAL(peer_expect_ack(edge)->window, 0);
	CU_ASSERT_EQUAL(1 + peer_unread(), edge);
	engine_native.consume(peer.conn, 100);
	peer_pass(MS);
	peer_quiet(); /* silly */
	engine_native.consume(peer.conn, 30000);
	peer_pass(MS);
	s = peer_expect_ack(edge);
	CU_ASSERT((uint32_t)s->window << TCP_WSCALE >= 29900);
	peer_stop();
}

/* RFC 896, when it is asked for. */
static void test_nagle(void)
{
	peer_meet(&peer_usual);
	peer_send(10);
	peer_send(10);
	peer_expect(1, 10);
	peer_expect(11, 10);
	peer_stop();
	peer_meet(&peer_usual);
	peer.e->tune.nagle = true;
	peer_send(10);
	peer_expect(1, 10);
	peer_send(10);
	peer_send(10);
	peer_quiet();
	peer_send(2 * MSS);
	peer_expect(11, MSS);
	peer_expect(11 + MSS, MSS);
	peer_quiet();
	peer_ack(11 + 2 * MSS);
	peer_expect(11 + 2 * MSS, 20);
	peer_stop();
}

/* RFC 5681, 4.1: after a pause the window is that of the beginning. */
static void test_idle_restart(void)
{
	peer_meet(&peer_usual);
	peer_send(30 * MSS);
	peer_pass(10 * MS);
	peer_ack(1 + 10 * MSS);
	peer_pass(10 * MS);
	peer_ack(1 + 30 * MSS);
	CU_ASSERT(peer.conn->cwnd > 20 * MSS);
	peer_pass(10 * SECOND);
	peer_forget();
	peer_send(30 * MSS);
	CU_ASSERT_EQUAL(peer.head - peer.tail, 10);
	peer_stop();
}

static void test_keepalive(void)
{
	peer_start();
	peer.e->tune.keepalive = 100 * SECOND;
	peer_join(&peer_usual);
	peer_pass(99 * SECOND);
	peer_quiet();
	peer_pass(2 * SECOND);
	CU_ASSERT_EQUAL(peer_expect_ack(1)->seq, 0);
	peer_ack(1);
	peer_pass(99 * SECOND);
	peer_quiet();
	peer_pass(1000 * SECOND); /* nobody answers */
	CU_ASSERT(peer.failed && peer.error == ETIMEDOUT);
	engine_native.abort(peer.conn);
	peer_stop();
}

/* ---- ECN: RFC 3168 ---- */

static void test_ecn(void)
{
	const struct segment *s;
	struct given syn = peer_usual;
	uint32_t end;

	syn.flags = TCP_ECE | TCP_CWR;
	peer_start();
	peer_join(&syn);
	CU_ASSERT(peer.conn->ecn);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .len = MSS, .ce = true);
	CU_ASSERT(peer_take()->flags & TCP_ECE);
	peer_data(1 + MSS, MSS);
	peer_data(1 + 2 * MSS, MSS);
	while ((s = peer_take()))
		CU_ASSERT(s->flags & TCP_ECE);
	GIVE(.flags = TCP_ACK | TCP_CWR, .seq = 1 + 3 * MSS, .ack = 1, .len = MSS);
	peer_data(1 + 4 * MSS, MSS);
	while ((s = peer_take()))
		CU_ASSERT_FALSE(s->flags & TCP_ECE);
	peer_send(20 * MSS);
	while ((s = peer_take()))
		CU_ASSERT_EQUAL(s->ecn, IP_ECT0);
	/* One reduction in a window, told by CWR. */
	GIVE(.flags = TCP_ACK | TCP_ECE, .seq = 1 + 5 * MSS, .ack = 1 + 2 * MSS);
	CU_ASSERT_EQUAL(peer.conn->ssthresh, 7 * MSS);
	GIVE(.flags = TCP_ACK | TCP_ECE, .seq = 1 + 5 * MSS, .ack = 1 + 6 * MSS);
	CU_ASSERT_EQUAL(peer.conn->ssthresh, 7 * MSS);
	s = peer_take();
	CU_ASSERT(s && s->flags & TCP_CWR);
	s = peer_take();
	CU_ASSERT(s && !(s->flags & TCP_CWR));
	/* A timeout is told too, with the first new bytes (6.1.2). */
	peer_forget();
	end = peer.conn->snd_nxt - peer.iss;
	peer_pass(SECOND);
	for (unsigned i = 7; i <= 20; i++)
		GIVE(.flags = TCP_ACK, .seq = 1 + 5 * MSS, .ack = 1 + i * MSS);
	while ((s = peer_take()) && s->seq != end)
		CU_ASSERT(!(s->flags & TCP_CWR) && !s->ecn);
	CU_ASSERT(s && s->flags & TCP_CWR && s->ecn == IP_ECT0);
	peer_stop();
	/* Not asked for, not used. */
	peer_meet(&peer_usual);
	peer_send(MSS);
	s = peer_take();
	CU_ASSERT(!s->ecn && !peer.conn->ecn);
	peer_stop();
}

static void test_ecn_asked(void)
{
	const struct segment *s;
	static const struct {
		uint8_t answer, want; /* beside SYN and ACK */
		bool ecn;
	} rows[] = {{TCP_ACK, 0, false},
		    {TCP_ACK | TCP_ECE, 0, true},
		    {TCP_ACK | TCP_ECE | TCP_CWR, 0, false},
		    {TCP_ECE | TCP_CWR, TCP_ECE, true}, /* it calls, too */
		    {0, 0, false}};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		call(true);
		GIVE(.flags = TCP_SYN | rows[i].answer, .ack = rows[i].answer & TCP_ACK ? 1 : 0,
		     .mss = MSS);
		CU_ASSERT_EQUAL(peer.conn->ecn, rows[i].ecn);
		s = peer_take();
		CU_ASSERT(s && (s->flags & (TCP_ECE | TCP_CWR)) == rows[i].want);
		peer_stop();
	}
	/* A SYN that asks for it does not pass everywhere. */
	call(true);
	peer_pass(1500 * MS);
	s = peer_take();
	CU_ASSERT(s && s->flags == TCP_SYN);
	GIVE(.flags = TCP_SYN | TCP_ACK | TCP_ECE, .ack = 1, .mss = MSS);
	CU_ASSERT(peer.connected && !peer.conn->ecn);
	peer_stop();
}

/* The next segment: an ACK, with a mark or without. */
static void expect_mark(uint32_t ack, bool marked)
{
	CU_ASSERT_EQUAL(!!(peer_expect_ack(ack)->flags & TCP_ECE), marked);
}

/* RFC 8257, 3.2: what is marked is told exactly, also of ACKs that are delayed. */
static void test_ecn_exact(void)
{
	struct given syn = peer_usual;

	syn.flags = TCP_ECE | TCP_CWR;
	peer_start();
	peer.congestion = "dctcp";
	peer_join(&syn);
	peer_send(100); /* and the ACKs at the beginning are over */
	peer_forget();
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 101, .len = MSS);
	peer_quiet();
	GIVE(.flags = TCP_ACK, .seq = 1 + MSS, .ack = 101, .len = MSS, .ce = true);
	expect_mark(1 + MSS, false);
	expect_mark(1 + 2 * MSS, true);
	GIVE(.flags = TCP_ACK | TCP_CWR, .seq = 1 + 2 * MSS, .ack = 101, .len = MSS, .ce = true);
	peer_quiet();
	GIVE(.flags = TCP_ACK, .seq = 1 + 3 * MSS, .ack = 101, .len = MSS);
	expect_mark(1 + 3 * MSS, true);
	expect_mark(1 + 4 * MSS, false);
	GIVE(.flags = TCP_ACK, .seq = 1 + 4 * MSS, .ack = 101, .len = MSS);
	peer_quiet();
	GIVE(.flags = TCP_ACK, .seq = 1 + 5 * MSS, .ack = 101, .len = MSS);
	expect_mark(1 + 6 * MSS, false);
	peer_quiet();
	peer_stop();
}

/* ---- ICMP ---- */

static void test_too_big(void)
{
	peer_meet(&peer_usual);
	peer_send(3 * MSS);
	peer_forget();
	engine_native.too_big(peer.conn, peer.iss - 5, 1000); /* not in flight: RFC 5927 */
	engine_native.too_big(peer.conn, peer.conn->snd_nxt, 1000);
	peer_pass(MS);
	peer_quiet();
	CU_ASSERT_EQUAL(peer.conn->mss, MSS);
	engine_native.too_big(peer.conn, peer.iss + 1, 1000);
	peer_pass(MS);
	for (uint32_t at = 1; at < 1 + 3 * MSS;) {
		const struct segment *s = peer_take();

		CU_ASSERT_FATAL(s && s->seq == at && s->len <= 960);
		at += s->len;
	}
	peer_quiet();
	CU_ASSERT_EQUAL(peer.conn->ssthresh, UINT32_MAX); /* that was no congestion */
	engine_native.too_big(peer.conn, peer.iss + 1, 68);
	CU_ASSERT(peer.conn->mss >= 512);
	peer_stop();
	/* A segment that is smaller than what is said to be the limit cannot have been too big. */
	peer_meet(&peer_usual);
	peer_send(900);
	engine_native.too_big(peer.conn, peer.iss + 1, 1000);
	CU_ASSERT_EQUAL(peer.conn->mss, MSS);
	peer_stop();
}

/* RFC 8899: larger segments are tried. That one is lost is no congestion. */
static void test_probe(void)
{
	peer_meet(&peer_usual);
	peer_send(MSS);
	engine_native.too_big(peer.conn, peer.iss + 1, 1000);
	peer_pass(10 * MS);
	peer_ack(1 + MSS);
	peer_forget();
	peer.conn->mtu_raise_at = peer.now;
	peer_send(9000);
	peer_expect(1 + MSS, MSS);
	for (uint32_t at = 1 + 2 * MSS; at < 1 + MSS + 9000; at += 960)
		peer_expect(at, MIN(1 + MSS + 9000 - at, 960));
	peer_quiet();
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1 + MSS, .sacks = 1,
	     .sack = {{1 + 2 * MSS, 1 + 2 * MSS + 5 * 960}});
	peer_expect(1 + MSS, 960);
	peer_expect(1 + MSS + 960, 500);
	peer_quiet();
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_OPEN);
	CU_ASSERT_EQUAL(peer.conn->mtu, 1000);
	peer_pass(10 * MS);
	peer_ack(1 + MSS + 9000);
	peer_send(9000); /* any packet may be lost: once more */
	peer_expect(1 + MSS + 9000, MSS);
	peer_forget();
	peer_pass(10 * MS);
	peer_ack(1 + MSS + 18000);
	CU_ASSERT_EQUAL(peer.conn->mtu, 1500);
	peer_stop();
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"options", test_options},
		{"a lost SYN-ACK", test_syn_ack_lost},
		{"an ACK of something else", test_wrong_ack},
		{"simultaneous open", test_simultaneous_open},
		{"answers to a SYN", test_syn_sent},
		{"SYN cookies", test_cookies},
		{"challenge ACKs", test_challenges},
		{"odd flags to a listener", test_listen_odd},
		{"old timestamps", test_paws},
		{"the timestamp that is echoed", test_ts_echo},
		{"overlaps", test_trim},
		{"delayed ACKs", test_delayed_ack},
		{"SACK", test_sack},
		{"SACK beside data", test_sack_beside_data},
		{"DSACK", test_dsack},
		{"islands", test_islands},
		{"a closed window", test_zero_window},
		{"a window taken back", test_shrunk_window},
		{"our window", test_receive_window},
		{"Nagle", test_nagle},
		{"after a pause", test_idle_restart},
		{"keepalive", test_keepalive},
		{"ECN", test_ecn},
		{"ECN asked for", test_ecn_asked},
		{"each mark", test_ecn_exact},
		{"too big", test_too_big},
		{"a larger one", test_probe},
		CU_TEST_INFO_NULL,
	};

	return unit_run("segments", tests);
}
