// SPDX-License-Identifier: Apache-2.0
/* When an ACK goes out, and what its SACK says. */
#include <CUnit/CUnit.h>

#include "tests/conform/peer.h"

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
/* What there was no memory for is not told, whatever was there behind it. */
static void test_sack_no_memory(void)
{
	struct pool *chunks;
	const struct segment *s;
	uint32_t end;

	peer_meet(&peer_usual);
	chunks = &peer.e->chunks;
	peer_data(101, 100);
	peer_data(9001, 100);
	peer_forget();
	chunks->limit = chunks->used;
	peer_data(201, 8800);
	s = peer_expect_ack(1);
	CU_ASSERT_EQUAL(s->sacks, 2);
	end = s->sack[0].to;
	CU_ASSERT(s->sack[0].from == 101 && end >= 201 && end < 9001);
	chunks->limit = SIZE_MAX;
	peer_data(1, 100);
	peer_expect_ack(end);
	peer_data(end, 9001 - end);
	peer_expect_ack(9101);
	peer_check_stream();
	peer_stop();
}

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

/* RFC 2883, 4.2: of a segment that is here in part, that part. */
static void test_dsack_part(void)
{
	const struct segment *s;

	peer_meet(&peer_usual);
	peer_data(301, 100);
	peer_data(501, 100);
	peer_forget();
	peer_data(251, 100);
	s = peer_expect_ack(1);
	CU_ASSERT(s->sacks == 3 && s->sack[0].from == 301 && s->sack[0].to == 351);
	CU_ASSERT(s->sack[1].from == 251 && s->sack[1].to == 401);
	peer_data(351, 200); /* of two islands: the first is told */
	s = peer_expect_ack(1);
	CU_ASSERT(s->sacks == 2 && s->sack[0].from == 351 && s->sack[0].to == 401);
	CU_ASSERT(s->sack[1].from == 251 && s->sack[1].to == 601);
	peer_data(1, 300); /* in order */
	s = peer_expect_ack(601);
	CU_ASSERT(s->sacks == 1 && s->sack[0].from == 251 && s->sack[0].to == 301);
	peer_data(651, 100);
	CU_ASSERT_EQUAL(peer_expect_ack(601)->sacks, 1);
	peer_data(601, 50); /* what only fills the gap is none */
	CU_ASSERT_EQUAL(peer_expect_ack(751)->sacks, 0);
	peer_stop();
}

/* RFC 5681, 3.2: who has no SACK waits for the third duplicate, also of segments that come at once.
 */
static void test_count_of_dups(void)
{
	struct given syn = {.mss = MSS};

	for (unsigned sack = 0; sack < 2; sack++) {
		syn.sack_ok = sack;
		peer_meet(&syn);
		for (unsigned i = 1; i <= 5; i++)
			GIVE(.flags = TCP_ACK, .seq = 1 + i * 100, .ack = 1, .len = 100,
			     .batch = i < 5);
		for (unsigned i = 0; i < (sack ? 1 : 5); i++)
			peer_expect_ack(1);
		peer_quiet();
		peer_stop();
	}
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
	peer_check_stream();
	peer_stop();
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"delayed ACKs", test_delayed_ack},
		{"SACK", test_sack},
		{"SACK without memory", test_sack_no_memory},
		{"SACK beside data", test_sack_beside_data},
		{"duplicate ACKs of a batch", test_count_of_dups},
		{"DSACK", test_dsack},
		{"DSACK of a part", test_dsack_part},
		{"islands", test_islands},
		CU_TEST_INFO_NULL,
	};

	return peer_run("acks", tests);
}
