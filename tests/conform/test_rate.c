// SPDX-License-Identifier: Apache-2.0
/* Samples of the delivery rate, segment by segment: draft-ietf-ccwg-bbr, section 4.1. */
#include <CUnit/CUnit.h>
#include <string.h>

#include "lib/base/util.h"
#include "tests/conform/peer.h"

/* A congestion control that keeps its window and writes down what it is told. */
static struct {
	struct rate rate;
	struct rate_sample last;
	unsigned samples, restarts;
	uint32_t lost;
} told;

static bool keep_init(struct engine_conn *c)
{
	memset(&told, 0, sizeof(told));
	c->rate = &told.rate;
	return true;
}

static void keep_fini(struct engine_conn *c)
{
	c->rate = NULL;
}

static uint32_t keep_shrink(struct engine_conn *c, enum congestion how)
{
	(void)how;
	return c->ssthresh;
}

static void keep_restart(struct engine_conn *c)
{
	(void)c;
	told.restarts++;
}

static void keep_sample(struct engine_conn *c, const struct rate_sample *s)
{
	(void)c;
	told.last = *s;
	told.samples++;
}

static void keep_lost(struct engine_conn *c, struct sent *t)
{
	(void)c;
	told.lost += t->end - t->seq;
}

static const struct cc_ops keep = {
	.name = "keep",
	.init = keep_init,
	.fini = keep_fini,
	.shrink = keep_shrink,
	.restart = keep_restart,
	.sample = keep_sample,
	.lost = keep_lost,
};

static void join(void)
{
	peer_meet(&peer_usual); /* the round trip is 10 ms */
	cc_begin(peer.conn, &keep);
}

static uint32_t at(unsigned segment)
{
	return 1 + segment * MSS;
}

/* As much as the window takes, and there is always more. */
static void fill(void)
{
	peer_send(40 * MSS);
	CU_ASSERT_EQUAL(peer.conn->flying, 10 * MSS);
}

/* All of a window arrives after one round trip. */
static void test_window(void)
{
	join();
	fill();
	peer_pass(10 * MS);
	peer_ack(at(10));
	CU_ASSERT_EQUAL(told.samples, 1);
	CU_ASSERT_EQUAL(told.last.bytes, 10 * MSS);
	CU_ASSERT_EQUAL(told.last.delivered, 10 * MSS);
	CU_ASSERT_EQUAL(told.last.prior, 0);
	CU_ASSERT_EQUAL(told.last.flying, 10 * MSS);
	CU_ASSERT_EQUAL(told.last.before, 10 * MSS);
	CU_ASSERT_EQUAL(told.last.rtt, 10 * MS);
	CU_ASSERT_EQUAL(told.last.rate, 10 * MSS * 100);
	CU_ASSERT_EQUAL(told.rate.delivered, 10 * MSS);
	peer_stop();
}

/* Segments left with 5 ms between them, and their ACKs come at once: the path did not deliver
 * faster than was sent. */
static void test_sent_slowly(void)
{
	join();
	peer.conn->cwnd = 40 * MSS;
	for (unsigned i = 0; i < 5; i++) {
		peer_send(MSS);
		peer_pass(5 * MS);
	}
	peer_pass(20 * MS);
	peer_ack(at(1)); /* what comes next is counted from here */
	peer_ack(at(5));
	CU_ASSERT_EQUAL(told.last.delivered, 5 * MSS);
	CU_ASSERT_EQUAL(told.last.rate, 5 * MSS * SECOND / (45 * MS)); /* the ACKs took longer */
	peer_stop();
	join();
	peer.conn->cwnd = 40 * MSS;
	peer_send(MSS);
	peer_pass(10 * MS);
	peer_ack(at(1));
	for (unsigned i = 0; i < 5; i++) {
		peer_send(MSS);
		peer_pass(5 * MS);
	}
	peer_ack(at(2));
	peer_ack(at(6)); /* 20 ms after the first of them, and 5 after the last was sent */
	CU_ASSERT_EQUAL(told.last.delivered, 5 * MSS);
	CU_ASSERT_EQUAL(told.last.rate, 5 * MSS * SECOND / (25 * MS));
	peer_stop();
}

/* An ACK that comes too early is of the first transmission, and says nothing of the round trip. The
 * rate is that of what was sent since then. */
static void test_early(void)
{
	join();
	fill();
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{at(1), at(5)}});
	CU_ASSERT_EQUAL(told.lost, MSS);
	CU_ASSERT_EQUAL(told.rate.lost, MSS);
	CU_ASSERT_EQUAL(told.last.bytes, 4 * MSS);
	CU_ASSERT(told.last.rate > 0);
	peer_pass(1 * MS);
	peer_ack(at(5)); /* of the first transmission: it was only late */
	CU_ASSERT_EQUAL(told.last.bytes, MSS);
	CU_ASSERT_EQUAL(told.last.rtt, 0);
	CU_ASSERT_EQUAL(told.last.rate, MSS * SECOND / (10 * MS));
	peer_stop();
}

/* What was sent again is of the state when it was sent again; what was lost meanwhile is told. */
static void test_again(void)
{
	join();
	fill();
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{at(1), at(10)}});
	CU_ASSERT_EQUAL(told.last.lost, MSS);
	peer_pass(20 * MS);
	peer_ack(at(10));
	CU_ASSERT_EQUAL(told.last.prior, 9 * MSS);
	CU_ASSERT_EQUAL(told.last.delivered, MSS);
	CU_ASSERT_EQUAL(told.last.lost, 0);
	CU_ASSERT_EQUAL(told.last.rate, MSS * SECOND / (20 * MS));
	peer_stop();
}

/* A segment that is acknowledged in two parts is counted once. */
static void test_parts(void)
{
	join();
	fill();
	peer_pass(10 * MS);
	peer_ack(at(0) + 1000);
	CU_ASSERT_EQUAL(told.last.bytes, 1000);
	peer_ack(at(2));
	CU_ASSERT_EQUAL(told.last.bytes, 2 * MSS - 1000);
	CU_ASSERT_EQUAL(told.rate.delivered, 2 * MSS);
	peer_stop();
}

/* What follows a pause of the application is marked, for one round trip. */
static void test_limited(void)
{
	join();
	CU_ASSERT_EQUAL(told.restarts, 0);
	fill();
	CU_ASSERT(told.rate.limited); /* there was nothing before */
	CU_ASSERT_EQUAL(told.restarts, 1);
	peer_pass(10 * MS);
	peer_ack(at(10));
	CU_ASSERT(told.last.limited);
	CU_ASSERT_FALSE(told.rate.limited);
	for (unsigned i = 20; i <= 40; i += 10) {
		peer_pass(10 * MS);
		peer_ack(at(i));
		CU_ASSERT_FALSE(told.last.limited);
	}
	peer_pass(10 * MS);
	peer_send(2 * MSS);
	CU_ASSERT(told.rate.limited);
	CU_ASSERT_EQUAL(told.restarts, 2);
	peer_pass(10 * MS);
	peer_send(40 * MSS); /* late: what is under way stays marked */
	peer_ack(at(42));
	CU_ASSERT(told.last.limited);
	peer_pass(10 * MS);
	peer_ack(at(50));
	CU_ASSERT(told.last.limited); /* sent when the first two had not arrived */
	peer_pass(10 * MS);
	peer_ack(at(60));
	CU_ASSERT_FALSE(told.last.limited);
	peer_stop();
}

/* Written in pieces at the same time: nobody waited for the application. */
static void test_pieces(void)
{
	join();
	fill();
	peer_pass(10 * MS);
	peer.conn->cwnd = 100 * MSS;
	peer_ack(at(10));
	CU_ASSERT_EQUAL(peer.conn->flying, 30 * MSS);
	for (unsigned i = 0; i < 10; i++)
		peer_send(MSS);
	CU_ASSERT_EQUAL(told.restarts, 1);
	CU_ASSERT_FALSE(told.rate.limited);
	peer_stop();
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a window", test_window},
		{"sent slowly, acknowledged at once", test_sent_slowly},
		{"an early ACK", test_early},
		{"sent again", test_again},
		{"in parts", test_parts},
		{"limited by the application", test_limited},
		{"written in pieces", test_pieces},
		CU_TEST_INFO_NULL,
	};

	return peer_run("rate", tests);
}
