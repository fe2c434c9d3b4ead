// SPDX-License-Identifier: Apache-2.0
/* When there is something to send: the windows of both sides, Nagle, pauses, keepalive. */
#include <CUnit/CUnit.h>
#include <errno.h>

#include "tests/conform/peer.h"

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

/* A closed window does not keep the peer from hearing that an urgent byte waits for it. */
static void test_urgent_waits(void)
{
	const struct segment *s;

	peer_meet(&peer_usual);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .no_window = true);
	peer_send(3);
	CU_ASSERT_EQUAL(engine_native.send_urgent(peer.conn, "!"), 1);
	peer_quiet();
	peer_pass(215 * MS);
	s = peer_expect_ack(1);
	CU_ASSERT_EQUAL(s->flags, TCP_ACK | TCP_URG);
	CU_ASSERT_EQUAL(s->seq, 1);
	CU_ASSERT_EQUAL(s->urgent, 4);
	s = peer_expect_ack(1);
	CU_ASSERT_EQUAL(s->flags, TCP_ACK);
	CU_ASSERT_EQUAL(s->seq, 0);
	peer_quiet();
	peer_stop();
}

/* What was taken back a part of is sent again up to the edge. */
static void test_narrow_window(void)
{
	peer_meet(&(struct given){.mss = MSS});
	peer_send(3000);
	peer_forget();
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .no_window = true);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .window = 100);
	peer_pass(215 * MS);
	peer_expect(1, 100);
	peer_quiet();
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 101, .window = 1500);
	peer_expect(101, MSS - 100); /* as it was cut before */
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1 + MSS, .window = 140);
	peer_expect(1 + MSS, 140);
	peer_quiet();
	peer_ack(1 + MSS + 140);
	peer_expect(1 + MSS + 140, MSS - 140);
	peer_expect(1 + 2 * MSS, 80);
	peer_ack(3001);
	CU_ASSERT_EQUAL(peer.conn->snd_una, peer.conn->snd_nxt);
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

/* What timed out for want of room is no sign of a path that takes less. */
static void test_shrunk_window_mtu(void)
{
	peer_meet(&peer_usual);
	peer_send(3000);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .no_window = true);
	for (unsigned i = 0; i < 100 && peer.conn->timeouts < 3; i++)
		peer_pass(SECOND);
	CU_ASSERT_EQUAL(peer.conn->timeouts, 3);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .window = 5000);
	peer_forget();
	peer_pass(215 * MS);
	peer_expect(1, MSS);
	CU_ASSERT_EQUAL(peer.conn->timeouts, 1);
	CU_ASSERT_EQUAL(peer.conn->mss, MSS);
	peer_stop();
}

/* What timed out for want of room is forgotten when there is some, what timed out before that is
 * not: until a round trip is measured (RFC 6298, 5.7). */
static void test_closed_after_timeouts(void)
{
	for (unsigned probes = 0; probes < 2; probes++) {
		peer_meet(&(struct given){.mss = MSS});
		peer_send(100);
		peer_pass(640 * MS); /* after 210, and 420 */
		peer_forget();
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = 101, .no_window = true);
		peer_send(100);
		peer_pass(probes ? 900 * MS : 0);
		CU_ASSERT_EQUAL(!peer_take(), !probes);
		peer_ack(101);
		peer_expect(101, 100);
		peer_pass(830 * MS);
		peer_quiet();
		peer_pass(20 * MS);
		peer_expect(101, 100);
		peer_stop();
	}
	/* The same where the window is taken back. */
	peer_meet(&(struct given){.mss = MSS});
	peer_send(100);
	peer_pass(215 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .no_window = true);
	peer_pass(450 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .window = 5000);
	CU_ASSERT_EQUAL(peer.conn->resent, 2);
	peer_pass(370 * MS);
	CU_ASSERT_EQUAL(peer.conn->resent, 2);
	peer_pass(30 * MS);
	CU_ASSERT_EQUAL(peer.conn->resent, 3);
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
	/* Who has something under way asks by that, and the silence counts from its end. */
	peer_start();
	peer.e->tune.keepalive = SECOND;
	peer_join(&peer_usual);
	peer_pass(SECOND / 2);
	peer_send(100);
	peer_expect(1, 100);
	peer_pass(SECOND / 10);
	peer_quiet();
	for (unsigned i = 0; i < 4; i++)
		peer_pass(SECOND);
	for (const struct segment *s; (s = peer_take());)
		CU_ASSERT(s->seq == 1 && s->len == 100);
	CU_ASSERT_EQUAL(peer.conn->keepalives, 0);
	peer_ack(101);
	peer_pass(SECOND / 2);
	peer_quiet();
	peer_pass(2 * SECOND);
	CU_ASSERT_EQUAL(peer_expect_ack(1)->seq, 100);
	peer_stop();
}

/* The host asks whether the peer is there: once, and whatever comes is an answer. */
static void test_asked(void)
{
	peer_start();
	peer_join(&peer_usual);
	CU_ASSERT(engine_native.ask(peer.conn));
	CU_ASSERT_EQUAL(peer_expect_ack(1)->seq, 0);
	peer_pass(1000 * SECOND);
	peer_quiet();
	CU_ASSERT(!peer.alive && !peer.failed);
	peer_ack(1);
	peer_pass(MS);
	CU_ASSERT_EQUAL(peer.alive, 1);
	peer_ack(1);
	peer_pass(MS);
	CU_ASSERT_EQUAL(peer.alive, 1);
	/* also if there is something under way, and after our FIN */
	peer_send(100);
	peer_expect(1, 100);
	engine_native.shutdown(peer.conn);
	peer_pass(MS);
	peer_forget();
	CU_ASSERT(engine_native.ask(peer.conn));
	CU_ASSERT_EQUAL(peer_expect_ack(1)->seq, 0);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 102);
	peer_pass(MS);
	CU_ASSERT_EQUAL(peer.alive, 2);
	GIVE(.flags = TCP_ACK | TCP_RST, .seq = 1, .ack = 102);
	peer_pass(MS);
	CU_ASSERT(peer.failed);
	CU_ASSERT(!engine_native.ask(peer.conn));
	engine_native.abort(peer.conn);
	peer_stop();
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a closed window", test_zero_window},
		{"an urgent byte and no window", test_urgent_waits},
		{"timeouts, and a closed window", test_closed_after_timeouts},
		{"a window taken back", test_shrunk_window},
		{"the path and a window taken back", test_shrunk_window_mtu},
		{"a part of a window taken back", test_narrow_window},
		{"our window", test_receive_window},
		{"Nagle", test_nagle},
		{"after a pause", test_idle_restart},
		{"keepalive", test_keepalive},
		{"the host asks", test_asked},
		CU_TEST_INFO_NULL,
	};

	return peer_run("windows", tests);
}
