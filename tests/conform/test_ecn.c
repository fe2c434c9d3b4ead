// SPDX-License-Identifier: Apache-2.0
/* ECN: RFC 3168, and 8257. */
#include <CUnit/CUnit.h>

#include "lib/base/util.h"
#include "tests/conform/peer.h"

static void test_ecn(void)
{
	const struct segment *s;
	struct given syn = peer_usual;
	uint32_t end;

	syn.flags = TCP_ECE | TCP_CWR;
	peer_start();
	peer_join(&syn);
	CU_ASSERT(peer.conn->ecn);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .ce = true); /* of an ACK it means nothing */
	CU_ASSERT_FALSE(peer.conn->ece_out);
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

/* A cookie has room for it in the timestamp, and without one the SYN-ACK must not promise it. */
static void test_ecn_cookie(void)
{
	for (unsigned ts = 0; ts < 2; ts++) {
		const struct segment *s;
		struct given syn = ts ? peer_with_ts : peer_usual;

		peer_start();
		peer.e->tune.half_open_max = 0;
		syn.flags = TCP_SYN | TCP_ECE | TCP_CWR;
		peer_give(&syn);
		s = peer_take();
		CU_ASSERT_FATAL(s && s->flags & TCP_SYN);
		CU_ASSERT_EQUAL(s->flags & (TCP_ECE | TCP_CWR), ts ? TCP_ECE : 0);
		peer_join(&syn);
		CU_ASSERT_EQUAL(peer.conn->ecn, ts);
		peer_send(MSS / 2);
		s = peer_take();
		CU_ASSERT(s && s->ecn == (ts ? IP_ECT0 : 0));
		peer_stop();
	}
}

static void call(void)
{
	peer_start();
	peer.e->tune.ecn = true;
	CU_ASSERT_EQUAL_FATAL(peer_dial(NULL), 0);
	peer_forget();
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
		call();
		GIVE(.flags = TCP_SYN | rows[i].answer, .ack = rows[i].answer & TCP_ACK ? 1 : 0,
		     .mss = MSS);
		CU_ASSERT_EQUAL(peer.conn->ecn, rows[i].ecn);
		s = peer_take();
		CU_ASSERT(s && (s->flags & (TCP_ECE | TCP_CWR)) == rows[i].want);
		peer_stop();
	}
	/* A SYN that asks for it does not pass everywhere. */
	call();
	peer_pass(1500 * MS);
	s = peer_take();
	CU_ASSERT(s && s->flags == TCP_SYN);
	GIVE(.flags = TCP_SYN | TCP_ACK | TCP_ECE, .ack = 1, .mss = MSS);
	CU_ASSERT(peer.connected && !peer.conn->ecn);
	peer_stop();
}

/* RFC 3168, 6.1.1: a peer that asks again without ECN had better not get packets that are to be
 * marked. */
static void test_ecn_taken_back(void)
{
	const struct segment *s;

	peer_start();
	GIVE(.flags = TCP_SYN | TCP_ECE | TCP_CWR, .mss = MSS);
	s = peer_take();
	CU_ASSERT(s && s->flags == (TCP_SYN | TCP_ACK | TCP_ECE));
	GIVE(.flags = TCP_SYN, .mss = MSS);
	s = peer_take();
	CU_ASSERT(s && s->flags == (TCP_SYN | TCP_ACK));
	peer_ack(1);
	peer_send(100);
	s = peer_take();
	CU_ASSERT(s && s->len == 100 && !s->ecn);
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

/* RFC 8257, 3.5: a loss is one, also where the probe of the tail repaired it and nothing is missing
 * any more. */
static void test_ecn_tail_lost(void)
{
	struct given syn = peer_usual;

	syn.flags = TCP_ECE | TCP_CWR;
	peer_start();
	peer.congestion = "dctcp";
	peer_join(&syn);
	peer.conn->cc_state.dctcp.alpha = 0.125; /* few marks came */
	peer_send(MSS);
	peer_expect(1, MSS);
	peer_pass(300 * MS);
	peer_expect(1, MSS);
	peer_ack(1 + MSS);
	peer_send(MSS);
	peer_ack(1 + 2 * MSS);
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_OPEN);
	CU_ASSERT_EQUAL(peer.conn->ssthresh, 5 * MSS);
	CU_ASSERT_EQUAL(peer.conn->cwnd, 5 * MSS);
	peer_stop();
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"ECN", test_ecn},
		{"ECN and SYN cookies", test_ecn_cookie},
		{"ECN asked for", test_ecn_asked},
		{"a SYN that no longer asks for ECN", test_ecn_taken_back},
		{"each mark", test_ecn_exact},
		{"a tail that was lost, among marks", test_ecn_tail_lost},
		CU_TEST_INFO_NULL,
	};

	return peer_run("ecn", tests);
}
