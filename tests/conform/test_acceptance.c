// SPDX-License-Identifier: Apache-2.0
/* Which segments are taken, and what of them: RFC 9293, 5961, 7323. */
#include <CUnit/CUnit.h>
#include <errno.h>

#include "lib/base/util.h"
#include "tests/conform/peer.h"

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

/* A SYN in the window of a handshake does not end it; the reset of a peer that began anew does, and
 * what it calls with next is taken. */
static void test_half_open(void)
{
	const struct segment *s;

	peer_start();
	GIVE(.flags = TCP_SYN, .mss = 1000);
	peer_forget();
	GIVE(.flags = TCP_SYN, .seq = 100, .mss = 1000);
	CU_ASSERT_EQUAL(peer_expect_ack(1)->seq, 1);
	peer_quiet();
	CU_ASSERT_EQUAL(peer.e->half_open_n, 1);
	GIVE(.flags = TCP_RST, .seq = 1);
	CU_ASSERT_EQUAL(peer.e->half_open_n, 0);
	GIVE(.flags = TCP_SYN, .seq = 100, .mss = 1000);
	s = peer_take();
	CU_ASSERT(s && s->flags == (TCP_SYN | TCP_ACK) && s->ack == 101);
	GIVE(.flags = TCP_RST, .seq = 101);
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
	for (unsigned i = 0; i < 3; i++) { /* 5.3, R1: each that has something is answered */
		GIVE(.flags = TCP_ACK, .seq = 11, .ack = 1, .len = 10, .ts = true, .tsval = 1999);
		peer_expect_ack(11);
	}
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
	peer_check_stream();
	peer_stop();
}

/* Whatever does nothing is counted, once, by its cause. */
static void test_dropped(void)
{
	static const struct {
		enum engine_drop why;
		struct given g;
	} rows[] = {
		{ENGINE_DROP_WINDOW, {.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100}},
		{ENGINE_DROP_WINDOW, {.flags = TCP_ACK, .seq = 10000000, .ack = 1, .len = 100}},
		{ENGINE_DROP_CLOCK,
		 {.flags = TCP_ACK, .seq = 101, .ack = 1, .len = 9, .tsval = 4000}},
		{ENGINE_DROP_ACK,
		 {.flags = TCP_ACK, .seq = 101, .ack = 2, .len = 9, .tsval = 6000}},
		{ENGINE_DROP_ACK, {.flags = TCP_PSH, .seq = 101, .len = 9, .tsval = 6000}},
		{ENGINE_DROP_RESET, {.flags = TCP_RST, .seq = 102}},
		{ENGINE_DROP_RESET, {.flags = TCP_RST, .seq = 10000000}},
		{ENGINE_DROP_RESET, {.flags = TCP_SYN, .seq = 101, .tsval = 6000}},
		{ENGINE_DROP_RESET, {.flags = TCP_SYN, .seq = 10000000, .tsval = 6000}},
	};
	unsigned all = 0;

	peer_meet(&peer_with_ts);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100, .ts = true, .tsval = 5000);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct given g = rows[i].g;
		unsigned before = peer.dropped[rows[i].why];

		g.ts = true;
		g.tsval = g.tsval ? g.tsval : 5000;
		peer_give(&g);
		CU_ASSERT_EQUAL(peer.dropped[rows[i].why], before + 1);
	}
	CU_ASSERT_EQUAL(peer_unread(), 100);
	peer.port++;
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1); /* of no connection */
	CU_ASSERT_EQUAL(peer.dropped[ENGINE_DROP_STRANGER], 1);
	peer.port--;
	for (unsigned i = 0; i < 1000; i++)
		GIVE(.flags = TCP_ACK, .seq = 1000 + 20 * i, .ack = 1, .len = 10, .ts = true,
		     .tsval = 5000);
	CU_ASSERT(peer.dropped[ENGINE_DROP_ROOM] > 0);
	for (unsigned i = 0; i < ENGINE_DROP_COUNT; i++)
		all += i == ENGINE_DROP_ROOM ? 0 : peer.dropped[i];
	CU_ASSERT_EQUAL(all, ARRAY_SIZE(rows) + 1);
	peer_stop();
}

/* Who answers a handshake wrongly is no stranger. */
static void test_dropped_early(void)
{
	static const struct {
		enum engine_drop why;
		struct given g;
	} rows[] = {
		{ENGINE_DROP_ACK, {.flags = TCP_SYN | TCP_ACK, .ack = 7}},
		{ENGINE_DROP_ACK, {.flags = TCP_ACK, .ack = 7}},
		{ENGINE_DROP_ACK, {.flags = TCP_FIN}},
		{ENGINE_DROP_RESET, {.flags = TCP_RST | TCP_ACK, .ack = 7}},
		{ENGINE_DROP_RESET, {.flags = TCP_RST}},
	};
	unsigned all = 0;

	peer_start();
	CU_ASSERT_EQUAL_FATAL(peer_dial(NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		unsigned before = peer.dropped[rows[i].why];

		peer_give(&rows[i].g);
		CU_ASSERT_EQUAL(peer.dropped[rows[i].why], before + 1);
	}
	peer.port++;
	GIVE(.flags = TCP_SYN, .mss = MSS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 7);
	CU_ASSERT_EQUAL(peer.dropped[ENGINE_DROP_ACK], 4);
	for (unsigned i = 0; i < ENGINE_DROP_COUNT; i++)
		all += peer.dropped[i];
	CU_ASSERT_EQUAL(all, ARRAY_SIZE(rows) + 1);
	peer_stop();
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"challenge ACKs", test_challenges},
		{"challenge ACKs in a handshake", test_half_open},
		{"odd flags to a listener", test_listen_odd},
		{"old timestamps", test_paws},
		{"the timestamp that is echoed", test_ts_echo},
		{"overlaps", test_trim},
		{"what is dropped is counted", test_dropped},
		{"what is dropped in a handshake", test_dropped_early},
		CU_TEST_INFO_NULL,
	};

	return peer_run("acceptance", tests);
}
