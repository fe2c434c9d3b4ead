// SPDX-License-Identifier: Apache-2.0
/* What the RFCs say of how connections end. */
#include <CUnit/CUnit.h>

#include "tests/conform/peer.h"

/* RFC 9293, figure 13. */
static void test_simultaneous_close(void)
{
	peer_meet(&peer_usual);
	engine_native.shutdown(peer.conn);
	CU_ASSERT(peer_take()->flags & TCP_FIN);
	GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 1, .ack = 1);
	peer_expect_ack(2);
	CU_ASSERT_EQUAL(peer.conn->state, TCP_CLOSING);
	GIVE(.flags = TCP_ACK, .seq = 2, .ack = 2);
	CU_ASSERT_EQUAL(peer.conn->state, TCP_TIME_WAIT);
	engine_native.close(peer.conn);
	peer_pass(59 * SECOND);
	CU_ASSERT_EQUAL(peer.released, 0);
	peer_pass(2 * SECOND);
	CU_ASSERT_EQUAL(peer.released, 1);
	peer_stop();
}

static void into_time_wait(const struct given *syn, uint32_t tsval)
{
	peer_meet(syn);
	engine_native.shutdown(peer.conn);
	GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 1, .ack = 2, .ts = syn->ts, .tsval = tsval);
	CU_ASSERT_EQUAL(peer.conn->state, TCP_TIME_WAIT);
	engine_native.close(peer.conn);
	peer_forget();
}

/* RFC 6191: the peer's clock says that a SYN is new, whatever its number. */
static void test_time_wait_clock(void)
{
	const struct segment *s;

	into_time_wait(&peer_with_ts, 5000);
	GIVE(.flags = TCP_SYN, .seq = (uint32_t)-5000, .mss = MSS, .ts = true, .tsval = 4999);
	peer_expect_ack(2);
	CU_ASSERT_EQUAL(peer.released, 0);
	GIVE(.flags = TCP_SYN, .seq = (uint32_t)-5000, .mss = MSS, .ts = true, .tsval = 5001);
	CU_ASSERT_EQUAL(peer.released, 1);
	s = peer_take();
	CU_ASSERT(s && s->flags == (TCP_SYN | TCP_ACK));
	peer_stop();
	into_time_wait(&peer_with_ts, 5000);
	for (unsigned i = 0; i < 100; i++) /* RFC 1337 */
		GIVE(.flags = TCP_RST, .seq = i);
	peer_quiet();
	CU_ASSERT_EQUAL(peer.released, 0);
	peer_stop();
}

/* RFC 9293, 3.10.7.4: the numbers of a connection that begins in TIME-WAIT are beyond those of the
 * one before, however much that sent. */
static void test_time_wait_number(void)
{
	const struct segment *s;
	uint32_t end;

	peer_meet(&peer_usual);
	for (unsigned sent = 0; sent < 40; sent++) { /* faster than the clock of the numbers */
		peer_send(10000);
		peer_ack(1 + (sent + 1) * 10000);
	}
	engine_native.shutdown(peer.conn);
	end = peer.conn->snd_nxt;
	GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 1, .ack = 400002);
	engine_native.close(peer.conn);
	CU_ASSERT_EQUAL(peer.conn->state, TCP_TIME_WAIT);
	peer_forget();
	GIVE(.flags = TCP_SYN, .seq = 70000, .mss = MSS);
	s = peer_take();
	CU_ASSERT_FATAL(s && s->flags == (TCP_SYN | TCP_ACK));
	CU_ASSERT(seq_lt(end, peer.iss));
	GIVE(.flags = TCP_ACK, .seq = 70001, .ack = 1);
	CU_ASSERT_EQUAL(peer.accepted, 2);
	peer_send(10);
	peer_expect(1, 10);
	peer_stop();
}

static bool succeed(void)
{
	struct conn_key key = peer.conn->key;

	return engine_native.succeed(peer.e, &key.remote, &key.local, peer.now);
}

/* RFC 6191, from our side: the host opens a new connection between the same ports. */
static void test_succeed(void)
{
	const struct segment *s;
	struct engine_conn *c;
	struct conn_key key;
	uint32_t ts;

	peer_meet(&peer_with_ts);
	CU_ASSERT_FALSE(succeed());
	engine_native.shutdown(peer.conn);
	peer_forget();
	GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 1, .ack = 2, .ts = true, .tsval = 5000);
	s = peer_expect_ack(2);
	ts = s->ts;
	peer_pass(2 * SECOND);
	CU_ASSERT_FALSE(succeed()); /* the host has it still */
	engine_native.close(peer.conn);
	/* The peer did not hear the ACK: the wait begins again. */
	GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 1, .ack = 2, .ts = true, .tsval = 5001);
	peer_pass(SECOND - 1);
	CU_ASSERT_FALSE(succeed());
	peer_pass(1);
	key = peer.conn->key;
	peer_forget();
	CU_ASSERT(succeed());
	CU_ASSERT_EQUAL(peer.released, 1);
	CU_ASSERT_FALSE(engine_native.succeed(peer.e, &key.remote, &key.local, peer.now));
	CU_ASSERT_EQUAL(engine_native.connect(peer.e, &key.remote, &key.local, &peer_options, &peer,
					      peer.now, &c),
			0);
	s = peer_take();
	CU_ASSERT(s && s->flags == TCP_SYN && seq_lt(ts, s->ts));
	engine_native.abort(c);
	peer_stop();
	/* Without timestamps nothing tells the old segments from the new ones. */
	into_time_wait(&peer_usual, 0);
	peer_pass(59 * SECOND);
	CU_ASSERT_FALSE(succeed());
	peer_stop();
}

/* RFC 1122, 4.2.2.13: bytes for somebody who has left. */
static void test_data_after_close(void)
{
	const struct segment *s;

	peer_meet(&peer_usual);
	engine_native.close(peer.conn);
	CU_ASSERT(peer_take()->flags & TCP_FIN);
	peer_data(1, 100);
	s = peer_take();
	CU_ASSERT(s && s->flags & TCP_RST);
	CU_ASSERT_EQUAL(peer.released, 1);
	peer_stop();
	/* Unread bytes at close() are a reset too. */
	peer_meet(&peer_usual);
	peer_data(1, 100);
	peer_forget();
	engine_native.close(peer.conn);
	s = peer_take();
	CU_ASSERT(s && s->flags & TCP_RST);
	CU_ASSERT_EQUAL(peer.released, 1);
	peer_stop();
}

/* RFC 7323, 3.2: a reset of a connection with timestamps has one, too. */
static void test_reset_clock(void)
{
	const struct segment *s;

	peer_meet(&peer_with_ts);
	engine_native.abort(peer.conn);
	s = peer_take();
	CU_ASSERT(s && s->flags == (TCP_RST | TCP_ACK) && s->has_ts && s->ts_echo == 1010);
	peer_stop();
	peer_meet(&peer_usual);
	engine_native.abort(peer.conn);
	s = peer_take();
	CU_ASSERT(s && s->flags == (TCP_RST | TCP_ACK) && !s->has_ts);
	peer_stop();
}

/* What the windows let go is not held back by pacing when a reset is to follow it. */
static void test_last_words(void)
{
	const struct segment *s;
	unsigned n = 0;

	peer_meet(&peer_usual);
	peer.e->tune.pacing = true;
	peer_send(20 * MSS);
	while (peer_take())
		n++;
	CU_ASSERT(n > 0 && n < 10);
	engine_native.abort(peer.conn);
	while ((s = peer_take()) && !(s->flags & TCP_RST))
		n++;
	CU_ASSERT_EQUAL(n, 10); /* the initial window */
	CU_ASSERT_FATAL(s != NULL);
	CU_ASSERT_EQUAL(s->seq, 1 + 10 * MSS);
	peer_quiet();
	peer_stop();
}

/* The peer never sends its FIN. */
static void test_orphan(void)
{
	peer_meet(&peer_usual);
	engine_native.close(peer.conn);
	peer_ack(2);
	CU_ASSERT_EQUAL(peer.conn->state, TCP_FIN_WAIT_2);
	peer_pass(61 * SECOND);
	CU_ASSERT_EQUAL(peer.released, 1);
	peer_stop();
}

/* Nobody is left who would wait for a peer that has no room, or says so: it has as long as one that
 * says nothing. */
static void test_orphan_without_room(void)
{
	for (unsigned flying = 0; flying < 2; flying++)
		for (unsigned answers = 0; answers < 2; answers++) {
			peer_meet(&peer_usual);
			if (flying)
				peer_send(3000);
			GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .no_window = true);
			if (!flying)
				peer_send(3000);
			for (unsigned i = 0; i < 10; i++) { /* the application can wait */
				peer_pass(20 * SECOND);
				GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .no_window = true);
			}
			engine_native.close(peer.conn);
			for (unsigned i = 0; i < 99; i++) {
				CU_ASSERT_EQUAL_FATAL(peer.released, 0);
				peer_pass(SECOND);
				if (answers)
					GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1,
					     .no_window = true);
			}
			CU_ASSERT_EQUAL(peer.released, 0);
			peer_pass(2 * SECOND);
			CU_ASSERT_EQUAL(peer.released, 1);
			peer_stop();
		}
	/* As long as it takes something, it may go on. */
	peer_meet(&peer_usual);
	peer_send(3000);
	engine_native.close(peer.conn);
	for (unsigned i = 1; i <= 20; i++) {
		peer_pass(50 * SECOND);
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1 + 10 * i, .no_window = true);
	}
	CU_ASSERT_EQUAL(peer.released, 0);
	peer_pass(101 * SECOND);
	CU_ASSERT_EQUAL(peer.released, 1);
	peer_stop();
}

/* A FIN out of order waits for what is before it; what is behind it is nothing. */
static void test_early_fin(void)
{
	peer_meet(&peer_usual);
	GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 101, .ack = 1, .len = 100);
	CU_ASSERT_FALSE(peer.eof);
	peer_data(1, 100);
	CU_ASSERT(peer.eof);
	CU_ASSERT_EQUAL(peer_unread(), 200);
	peer_data(202, 100);
	CU_ASSERT_EQUAL(peer_unread(), 200);
	peer_stop();
	/* One that comes behind bytes that followed it is a lie. */
	peer_meet(&peer_usual);
	peer.conn->quick = 0;
	peer_data(1, 100);
	GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 50, .ack = 1);
	peer_data(101, 100);
	CU_ASSERT_EQUAL(peer_unread(), 200);
	CU_ASSERT_FALSE(peer.eof);
	peer_data(301, 100); /* the same out of order */
	GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 350, .ack = 1);
	peer_data(201, 100);
	CU_ASSERT_EQUAL(peer_unread(), 400);
	CU_ASSERT_FALSE(peer.eof);
	GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 401, .ack = 1);
	CU_ASSERT(peer.eof);
	peer_stop();
}

/* A FIN out of order is acknowledged as bytes are (RFC 5681, 4.2), and SACK has its number. */
static void test_early_fin_told(void)
{
	const struct segment *s;

	peer_meet(&peer_usual);
	GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 11, .ack = 1, .len = 10);
	s = peer_expect_ack(1);
	CU_ASSERT(s->sacks == 1 && s->sack[0].from == 11 && s->sack[0].to == 22);
	peer_data(1, 10);
	peer_expect_ack(22);
	CU_ASSERT(peer.eof);
	GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 11, .ack = 1, .len = 10);
	s = peer_expect_ack(22);
	CU_ASSERT(s->sacks == 1 && s->sack[0].from == 11 && s->sack[0].to == 22);
	peer_stop();
	/* by itself */
	peer_meet(&peer_usual);
	for (unsigned i = 0; i < 2; i++) {
		GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 21, .ack = 1);
		s = peer_expect_ack(1);
		CU_ASSERT(s->sacks == 1 && s->sack[0].from == 21 && s->sack[0].to == 22);
	}
	peer_data(11, 10);
	s = peer_expect_ack(1);
	CU_ASSERT(s->sacks == 1 && s->sack[0].from == 11 && s->sack[0].to == 22);
	CU_ASSERT_FALSE(peer.eof);
	peer_data(1, 10);
	peer_expect_ack(22);
	CU_ASSERT(peer.eof);
	CU_ASSERT_EQUAL(peer_unread(), 20);
	CU_ASSERT_PTR_NULL(peer.conn->gaps);
	peer_stop();
	/* beyond the window */
	peer_meet(&peer_usual);
	GIVE(.flags = TCP_ACK | TCP_FIN, .seq = peer.conn->rcv_adv - peer.isn, .ack = 1);
	CU_ASSERT_EQUAL(peer_expect_ack(1)->sacks, 0);
	peer_stop();
	/* an old one */
	peer_meet(&peer_usual);
	GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 0, .ack = 1);
	peer_expect_ack(1);
	CU_ASSERT_FALSE(peer.eof);
	peer_stop();
}

/* RFC 9293, 3.10.7.4: what is not acceptable is answered, in TIME-WAIT too; what is, is not. */
static void test_time_wait_acks(void)
{
	into_time_wait(&peer_usual, 0);
	GIVE(.flags = TCP_ACK, .seq = 2, .ack = 2);
	peer_quiet();
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 2); /* a keepalive */
	peer_expect_ack(2);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 2); /* not too often */
	peer_quiet();
	peer_pass(SECOND);
	GIVE(.flags = TCP_ACK, .seq = 1 << 24, .ack = 2);
	peer_expect_ack(2);
	peer_stop();
}

/* RFC 9293, 3.10.7.4: a reset before anybody was told; the listener goes on. */
static void test_reset_half_open(void)
{
	const struct segment *s;

	peer_start();
	GIVE(.flags = TCP_SYN, .mss = MSS);
	CU_ASSERT(peer_take()->flags & TCP_SYN);
	GIVE(.flags = TCP_RST, .seq = 2); /* RFC 5961: not the exact number */
	peer_expect_ack(1);
	CU_ASSERT_EQUAL(peer.e->half_open_n, 1);
	GIVE(.flags = TCP_RST, .seq = 1);
	CU_ASSERT_EQUAL(peer.e->half_open_n, 0);
	CU_ASSERT_EQUAL(peer.e->conns.used, 0);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1);
	s = peer_take();
	CU_ASSERT(s && s->flags & TCP_RST);
	CU_ASSERT_EQUAL(peer.accepted, 0);
	peer_join(&peer_usual);
	peer_stop();
}

/* The same: both have closed, nothing is left that could fail. */
static void test_reset_closing(void)
{
	for (unsigned both = 0; both < 2; both++) {
		peer_meet(&peer_usual);
		if (both) {
			engine_native.close(peer.conn);
			GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 1, .ack = 1);
			CU_ASSERT_EQUAL(peer.conn->state, TCP_CLOSING);
		} else {
			GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 1, .ack = 1);
			engine_native.close(peer.conn);
			CU_ASSERT_EQUAL(peer.conn->state, TCP_LAST_ACK);
		}
		CU_ASSERT_EQUAL(peer.released, 0);
		peer_forget();
		GIVE(.flags = TCP_RST, .seq = 2);
		peer_quiet();
		CU_ASSERT_EQUAL(peer.released, 1);
		CU_ASSERT_FALSE(peer.failed);
		peer_stop();
	}
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"simultaneous close", test_simultaneous_close},
		{"TIME-WAIT and the peer's clock", test_time_wait_clock},
		{"TIME-WAIT and our numbers", test_time_wait_number},
		{"a successor of one in TIME-WAIT", test_succeed},
		{"bytes after close()", test_data_after_close},
		{"the clock in a reset", test_reset_clock},
		{"the last words before a reset", test_last_words},
		{"a FIN that never comes", test_orphan},
		{"no room for the last bytes", test_orphan_without_room},
		{"a FIN that comes early", test_early_fin},
		{"a FIN that comes early is told of", test_early_fin_told},
		{"ACKs in TIME-WAIT", test_time_wait_acks},
		{"a reset before the handshake ends", test_reset_half_open},
		{"a reset after both have closed", test_reset_closing},
		CU_TEST_INFO_NULL,
	};

	return peer_run("endings", tests);
}
