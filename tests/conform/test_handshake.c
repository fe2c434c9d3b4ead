// SPDX-License-Identifier: Apache-2.0
/* Handshakes, and what they leave behind: what of the path is known, and what was promised. */
#include <CUnit/CUnit.h>
#include <errno.h>

#include "tests/conform/peer.h"

static void call(void)
{
	peer_start();
	CU_ASSERT_EQUAL_FATAL(peer_dial(NULL), 0);
	peer_forget();
}

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
	peer_send(2000);
	peer_expect(1, peer_v6 ? 1220 : 536); /* RFC 9293, MUST-15 */
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

/* Both call each other: RFC 9293, figure 7. */
static void test_simultaneous_open(void)
{
	const struct segment *s;

	call();
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

/* An urgent byte may be told of by the SYN-ACK already: its number is 2 then. */
static void test_urgent_answer(void)
{
	call();
	GIVE(.flags = TCP_SYN | TCP_ACK | TCP_URG, .ack = 1, .mss = MSS, .urgent = 3);
	CU_ASSERT(peer.connected);
	peer_data(1, 10);
	CU_ASSERT_EQUAL(peer.conn->marks, 1);
	CU_ASSERT_EQUAL(peer.conn->mark[0] - peer.isn, 2);
	peer_stop();
}

static void test_syn_sent(void)
{
	const struct segment *s;

	call();
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

/* The peer has a connection of before: our reset ends that, and the SYN goes behind it, once. */
static void test_syn_to_old(void)
{
	const struct segment *s;

	call();
	GIVE(.flags = TCP_RST | TCP_ACK, .ack = 9); /* a reset is not answered */
	peer_quiet();
	GIVE(.flags = TCP_ACK, .ack = 7);
	s = peer_take();
	CU_ASSERT(s && s->flags == TCP_RST && s->seq == 7);
	s = peer_take();
	CU_ASSERT(s && s->flags == TCP_SYN && s->seq == 0);
	GIVE(.flags = TCP_ACK, .ack = 7);
	s = peer_take();
	CU_ASSERT(s && s->flags == TCP_RST);
	peer_quiet();
	peer_pass(3 * SECOND); /* its timer runs on */
	s = peer_take();
	CU_ASSERT(s && s->flags == TCP_SYN && s->seq == 0);
	GIVE(.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = MSS);
	CU_ASSERT(peer.connected && peer.conn->cwnd > peer.conn->mss);
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

/* Ten segments, or as many, and the first one again after so long and not before. */
static void expect_first_again(unsigned n, uint64_t rto)
{
	peer_forget();
	peer_send(20 * MSS);
	for (unsigned i = 0; i < n; i++)
		peer_expect(1 + i * MSS, MSS);
	peer_quiet();
	peer_pass(rto - 10 * MS);
	peer_quiet();
	peer_pass(20 * MS);
	peer_expect(1, MSS);
	peer_stop();
}

/* RFC 6298, section 3 and 5.7: which of our SYNs is acknowledged is not known, and one second was
 * too little. */
static void test_syn_again(void)
{
	call();
	peer_pass(1100 * MS);
	GIVE(.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = MSS, .sack_ok = true);
	CU_ASSERT(peer.connected && !peer.conn->srtt_us);
	expect_first_again(10, 3 * SECOND);
	/* The same of a SYN-ACK, whoever finds that it was lost. */
	for (unsigned by_peer = 0; by_peer < 2; by_peer++) {
		peer_start();
		GIVE(.flags = TCP_SYN, .mss = MSS, .sack_ok = true);
		peer_pass(by_peer ? 900 * MS : 1100 * MS);
		if (by_peer)
			GIVE(.flags = TCP_SYN, .mss = MSS, .sack_ok = true);
		peer_pass(MS);
		peer_ack(1);
		CU_ASSERT(peer.accepted == 1 && !peer.conn->srtt_us);
		expect_first_again(10, 3 * SECOND);
	}
}

/* RFC 9293, MUST-23: a SYN is sent again for 3 minutes at least. One that somebody else sent is not
 * worth so much. */
static void test_no_answer(void)
{
	call();
	for (unsigned wait = 1; wait <= 64; wait *= 2) {
		peer_pass(wait * SECOND - 100 * MS);
		peer_quiet();
		peer_pass(110 * MS); /* timers are a little late */
		CU_ASSERT_EQUAL(peer.head - peer.tail, 1);
		peer_forget();
		CU_ASSERT_FALSE(peer.failed);
	}
	CU_ASSERT(peer.now >= 1000 * SECOND + 127 * SECOND);
	peer_pass(127 * SECOND);
	CU_ASSERT_FALSE(peer.failed);
	peer_pass(2 * SECOND);
	CU_ASSERT(peer.failed && peer.error == ETIMEDOUT);
	peer_quiet();
	engine_native.abort(peer.conn);
	peer_stop();
	peer_start();
	GIVE(.flags = TCP_SYN, .mss = MSS);
	peer_pass(62 * SECOND);
	CU_ASSERT_EQUAL(peer.head - peer.tail, 6);
	CU_ASSERT_EQUAL(peer.e->table.used, 1);
	peer_pass(2 * SECOND);
	CU_ASSERT_EQUAL(peer.e->table.used, 0);
	peer_stop();
}

/* Both ends find at about the same time that a SYN-ACK was lost: it is one loss. */
static void test_syn_ack_lost_once(void)
{
	peer_start();
	GIVE(.flags = TCP_SYN, .mss = MSS, .sack_ok = true);
	peer_pass(1100 * MS);
	GIVE(.flags = TCP_SYN, .mss = MSS, .sack_ok = true);
	peer_pass(MS);
	peer_ack(1);
	CU_ASSERT(peer.accepted == 1 && !peer.conn->srtt_us);
	expect_first_again(10, 3 * SECOND);
	/* The peer first, and its second answer is lost too: two. */
	peer_start();
	GIVE(.flags = TCP_SYN, .mss = MSS, .sack_ok = true);
	peer_pass(990 * MS);
	GIVE(.flags = TCP_SYN, .mss = MSS, .sack_ok = true);
	peer_pass(1100 * MS);
	peer_ack(1);
	expect_first_again(1, 3 * SECOND);
	/* A SYN that the path doubled says nothing of losses. */
	peer_start();
	GIVE(.flags = TCP_SYN, .mss = MSS, .sack_ok = true);
	GIVE(.flags = TCP_SYN, .mss = MSS, .sack_ok = true);
	peer_pass(MS);
	peer_ack(1);
	CU_ASSERT(peer.accepted == 1 && !peer.conn->srtt_us);
	expect_first_again(10, SECOND);
}

/* RFC 5681, 3.1: the initial window is a segment, if more than a long round trip was the reason. */
static void test_syn_lost(void)
{
	call();
	peer_pass(3100 * MS);
	GIVE(.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = MSS, .sack_ok = true);
	expect_first_again(1, 3 * SECOND);
	peer_start();
	GIVE(.flags = TCP_SYN, .mss = MSS, .sack_ok = true);
	peer_pass(3100 * MS);
	peer_ack(1);
	expect_first_again(1, 3 * SECOND);
}

/* RFC 7323, 4.1: with timestamps it is known which one was acknowledged. */
static void test_syn_echoed(void)
{
	const struct segment *s;
	uint32_t ts;

	call();
	peer_pass(1010 * MS);
	s = peer_take();
	CU_ASSERT_FATAL(s && s->flags == TCP_SYN);
	ts = s->ts;
	peer_pass(30 * MS);
	GIVE(.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = MSS, .sack_ok = true, .ts = true,
	     .tsval = 1, .tsecr = ts);
	CU_ASSERT(peer.conn->srtt_us >= 30000 && peer.conn->srtt_us <= 41000);
	peer_stop();
	/* An echo of nothing that we said tells nothing. */
	call();
	peer_pass(1100 * MS);
	GIVE(.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = MSS, .sack_ok = true, .ts = true,
	     .tsval = 1, .tsecr = ts + 500000);
	CU_ASSERT(peer.connected && !peer.conn->srtt_us);
	peer_stop();
}

/* RFC 7323, 2.2: the window of a SYN is never scaled, also where both called each other. */
static void test_window_of_syn(void)
{
	call();
	GIVE(.flags = TCP_SYN, .mss = MSS, .scale = 7);
	GIVE(.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = MSS, .scale = 7, .window = 3001);
	CU_ASSERT_FATAL(peer.connected);
	CU_ASSERT_EQUAL(peer.conn->snd_wnd, 3001);
	peer_ack(1); /* this one is scaled */
	CU_ASSERT_EQUAL(peer.conn->snd_wnd, peer.window << 7);
	peer_stop();
	call();
	GIVE(.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = MSS, .scale = 7, .window = 3001);
	CU_ASSERT_EQUAL(peer.conn->snd_wnd, 3001);
	peer_stop();
}

/* Where both call, our SYN goes out twice, the second time with an ACK: only timestamps tell the
 * round trip. Nothing was lost. */
static void test_both_call(void)
{
	const struct segment *s;
	uint32_t ts;

	for (unsigned clock = 0; clock < 2; clock++) {
		call();
		peer_pass(500 * MS);
		peer_forget();
		GIVE(.flags = TCP_SYN, .mss = MSS, .sack_ok = true, .ts = clock, .tsval = 1);
		s = peer_take();
		CU_ASSERT_FATAL(s && s->flags == (TCP_SYN | TCP_ACK));
		ts = s->ts;
		peer_pass(30 * MS);
		GIVE(.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = MSS, .ts = clock, .tsval = 9,
		     .tsecr = ts);
		CU_ASSERT_FATAL(peer.connected);
		CU_ASSERT_EQUAL(peer.conn->srtt_us / 5000, clock ? 6 : 0);
		CU_ASSERT_EQUAL(peer.conn->cwnd, 10 * MSS);
		s = peer_expect_ack(1);
		CU_ASSERT(s->seq == 1 && s->ts_echo == (clock ? 9 : 0));
		peer_stop();
	}
	call(); /* somebody waits, whoever called first: not given up after 63 s */
	GIVE(.flags = TCP_SYN, .mss = MSS);
	peer_pass(200 * SECOND);
	CU_ASSERT_FALSE(peer.failed);
	peer_pass(100 * SECOND);
	CU_ASSERT(peer.failed && peer.error == ETIMEDOUT);
	engine_native.abort(peer.conn);
	peer_stop();
}

/* RFC 9293, MUST-15: what a SYN without the option says of the MSS, remembered by a cookie too. */
static void test_no_mss(void)
{
	for (unsigned cookie = 0; cookie < 2; cookie++) {
		peer_start();
		peer.e->tune.half_open_max = cookie ? 0 : 10;
		peer_join(&(struct given){.sack_ok = true});
		peer_send(2000);
		peer_expect(1, peer_v6 ? 1220 : 536);
		peer_stop();
	}
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"options", test_options},
		{"a lost SYN-ACK", test_syn_ack_lost},
		{"an ACK of something else", test_wrong_ack},
		{"simultaneous open", test_simultaneous_open},
		{"an urgent byte with the answer", test_urgent_answer},
		{"answers to a SYN", test_syn_sent},
		{"a SYN to an old connection", test_syn_to_old},
		{"SYN cookies", test_cookies},
		{"a SYN sent again", test_syn_again},
		{"a SYN-ACK lost once", test_syn_ack_lost_once},
		{"a SYN lost twice", test_syn_lost},
		{"a SYN without an answer", test_no_answer},
		{"a SYN that is echoed", test_syn_echoed},
		{"the window of a SYN", test_window_of_syn},
		{"both call", test_both_call},
		{"a SYN without an MSS", test_no_mss},
		CU_TEST_INFO_NULL,
	};

	return peer_run("handshake", tests);
}
