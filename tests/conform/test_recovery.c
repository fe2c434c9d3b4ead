// SPDX-License-Identifier: Apache-2.0
/* Loss and what is done about it, segment by segment: SACK, RACK-TLP, RTO, F-RTO, NewReno, PRR. */
#include <CUnit/CUnit.h>
#include <errno.h>

#include "tests/conform/peer.h"

static void join(bool sack)
{
	peer_start();
	peer_join(&(struct given){.mss = MSS, .sack_ok = sack, .scale = 7});
}

static uint32_t at(unsigned segment) /* its first byte */
{
	return 1 + segment * MSS;
}

static void expect_burst(unsigned from, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		peer_expect(at(from + i), MSS);
}

/* RFC 6928: ten segments, then what is acknowledged twice over. */
static void test_slow_start(void)
{
	join(true);
	peer_send(40 * MSS);
	expect_burst(0, 10);
	peer_quiet();
	peer_pass(10 * MS);
	peer_ack(at(2));
	expect_burst(10, 4);
	peer_ack(at(10));
	expect_burst(14, 16);
	peer_quiet();
	peer_stop();
}

/* Three segments above a hole: it is sent again at once, for there was no reordering yet. */
static void test_fast_retransmit(void)
{
	join(true);
	peer_send(10 * MSS);
	expect_burst(0, 10);
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{at(1), at(2)}});
	peer_quiet();
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{at(1), at(3)}});
	peer_quiet();
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{at(1), at(4)}});
	peer_expect(at(0), MSS);
	peer_quiet();
	CU_ASSERT_EQUAL(peer.conn->ssthresh, 7 * MSS); /* CUBIC: 0.7 */
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = at(10));
	CU_ASSERT_EQUAL(peer.conn->cwnd, 7 * MSS);
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_OPEN);
	peer_pass(10 * SECOND);
	peer_quiet();
	peer_stop();
}

/* RFC 8985, 6.2, step 4: what counts is segments, however long. */
static void test_short_segments(void)
{
	join(true);
	for (unsigned i = 0; i < 10; i++) {
		peer_send(100);
		peer_expect(1 + i * 100, 100);
	}
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{101, 301}});
	peer_quiet();
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{101, 401}});
	peer_expect(1, 100);
	peer_quiet();
	peer_stop();
	/* Those that are acknowledged count no longer. */
	join(true);
	for (unsigned i = 0; i < 10; i++)
		peer_send(100);
	peer_forget();
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{101, 301}});
	peer_ack(301);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 301, .sacks = 1, .sack = {{401, 501}});
	peer_quiet();
	CU_ASSERT_EQUAL(peer.conn->sacked_n, 1);
	peer_stop();
}

/* Fewer than three: a quarter of the round trip decides (RFC 8985, 6.2). */
static void test_rack_timer(void)
{
	join(true);
	peer_send(3 * MSS);
	expect_burst(0, 3);
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{at(1), at(2)}});
	peer_pass(2 * MS);
	peer_quiet();
	peer_pass(1 * MS);
	peer_expect(at(0), MSS);
	peer_quiet();
	peer_stop();
}

/* A lost retransmission is noticed by what was sent after it. */
static void test_rack_again(void)
{
	join(true);
	peer_send(20 * MSS);
	expect_burst(0, 10);
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{at(1), at(5)}});
	peer_expect(at(0), MSS); /* lost again */
	peer_pass(1 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{at(1), at(10)}});
	peer_expect(at(10), MSS);
	peer_forget();
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 2,
	     .sack = {{at(10), at(11)}, {at(1), at(10)}});
	peer_expect(at(0), MSS);
	peer_stop();
}

/* The tail is lost: the last segment goes again after two round trips, not after an RTO. */
static void test_tail_loss(void)
{
	uint32_t cwnd;

	join(true);
	peer_send(4 * MSS);
	expect_burst(0, 4);
	peer_pass(10 * MS);
	peer_ack(at(1));
	cwnd = peer.conn->cwnd;
	peer_pass(20 * MS);
	peer_quiet();
	peer_pass(5 * MS);
	peer_expect(at(3), MSS);
	peer_quiet();
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = at(1), .sacks = 1, .sack = {{at(3), at(4)}});
	peer_pass(3 * MS);
	peer_expect(at(1), MSS);
	CU_ASSERT(peer.conn->ssthresh < cwnd);
	peer_ack(at(2));
	peer_expect(at(2), MSS);
	peer_stop();
}

/* RFC 8985, 7.2: what waits for the ACK of a single segment longer than an RTO is probed at the
 * time of that; the timeout is one RTO later, and the first. */
static void test_tail_alone(void)
{
	uint32_t cwnd;

	join(true);
	cwnd = peer.conn->cwnd;
	peer_send(100);
	peer_expect(1, 100);
	peer_pass(215 * MS); /* the handshake had 10 ms: an RTO of 210 */
	peer_expect(1, 100);
	CU_ASSERT_EQUAL(peer.conn->cwnd, cwnd);
	peer_pass(200 * MS);
	peer_quiet();
	peer_pass(15 * MS);
	peer_expect(1, 100);
	CU_ASSERT_EQUAL(peer.conn->cwnd, MSS);
	peer_pass(410 * MS);
	peer_quiet();
	peer_pass(20 * MS);
	peer_expect(1, 100);
	peer_stop();
}

static void probe_tail(void)
{
	join(true);
	peer_send(4 * MSS);
	expect_burst(0, 4);
	peer_pass(10 * MS);
	peer_ack(at(3));
	peer_pass(300 * MS);
	peer_expect(at(3), MSS);
}

/* Only the last segment was lost and the probe repaired it: congestion control hears of it, when
 * the ACK of what follows says that the probe was not one too many (RFC 8985, 7.4.2). */
static void test_tail_repaired(void)
{
	probe_tail();
	peer_ack(at(4));
	CU_ASSERT_EQUAL(peer.conn->ssthresh, UINT32_MAX);
	peer_send(2 * MSS);
	peer_ack(at(5));
	CU_ASSERT(peer.conn->ssthresh < 10 * MSS);
	peer_ack(at(6));
	CU_ASSERT_EQUAL(peer.conn->cwnd, peer.conn->ssthresh);
	peer_stop();
	/* It was there, its ACK was late; the probe's is behind it: nothing happened. */
	for (unsigned way = 0; way < 5; way++) {
		probe_tail();
		if (way)
			peer_ack(at(4));
		if (way > 2)
			peer_send(MSS);
		if (way % 2)
			peer_ack(at(4));
		else
			GIVE(.flags = TCP_ACK, .seq = 1, .ack = at(4), .sacks = 1,
			     .sack = {{at(3), at(4)}});
		if (way <= 2)
			peer_send(MSS);
		peer_ack(at(5));
		CU_ASSERT_EQUAL(peer.conn->ssthresh, UINT32_MAX);
		peer_stop();
	}
	/* It was more than that, and congestion control has heard of it. */
	probe_tail();
	peer_ack(at(4));
	peer_send(5 * MSS);
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = at(4), .sacks = 1, .sack = {{at(5), at(9)}});
	CU_ASSERT_EQUAL(peer.conn->ssthresh, 7 * MSS);
	peer_ack(at(9));
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_OPEN);
	CU_ASSERT_EQUAL(peer.conn->ssthresh, 7 * MSS);
	peer_stop();
}

/* RFC 6298: one second without a sample, doubled each time. */
static void test_rto(void)
{
	join(false);
	peer_send(1000);
	peer_expect(at(0), 1000);
	peer_pass(205 * MS); /* srtt 10 ms, and 200 */
	peer_quiet();
	peer_pass(15 * MS);
	peer_expect(at(0), 1000);
	peer_pass(400 * MS);
	peer_quiet();
	peer_pass(20 * MS);
	peer_expect(at(0), 1000);
	CU_ASSERT_EQUAL(peer.conn->cwnd, MSS);
	peer_ack(1001);
	CU_ASSERT_EQUAL(peer.conn->timeouts, 0);
	peer_stop();
}

/* What was sent twice tells no round trip (Karn), and until one is known the timeout stays as long
 * as it was (RFC 6298, section 5): else on a path that became longer everything would go twice for
 * ever. */
static void test_rto_kept(void)
{
	for (unsigned sack = 0; sack < 2; sack++) {
		join(sack);
		for (unsigned i = 0; i < 3; i++) {
			peer_send(100);
			peer_pass(SECOND);
			peer_expect(1 + i * 100, 100);
			CU_ASSERT_EQUAL(!peer_take(), i == 2);
			peer_forget();
			peer_ack(101 + i * 100);
		}
		CU_ASSERT_EQUAL(peer.conn->backoff, 0);
		CU_ASSERT(peer.conn->srtt_us > 100000);
		peer_stop();
	}
}

static void check_user_timeout(void)
{
	CU_ASSERT(peer.failed && peer.error == ETIMEDOUT);
	engine_native.abort(peer.conn);
	CU_ASSERT_EQUAL(peer.released, 1);
	peer_stop();
}

/* RFC 5482: bytes wait so long for their ACK, whether the peer is silent or has no room. */
static void test_user_timeout(void)
{
	join(true);
	peer.e->tune.user_timeout = 30 * SECOND;
	peer_send(MSS);
	peer_pass(29 * SECOND);
	CU_ASSERT_FALSE(peer.failed);
	peer_pass(2 * SECOND);
	check_user_timeout();
	for (unsigned flying = 0; flying < 2; flying++) {
		join(true);
		peer.e->tune.user_timeout = 30 * SECOND;
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .no_window = !flying);
		peer_pass(3600 * SECOND); /* nothing waits */
		peer_send(3000);
		for (unsigned i = 0; i < 29; i++) {
			GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .no_window = true);
			peer_pass(SECOND);
			CU_ASSERT_FATAL(!peer.failed);
		}
		if (flying) { /* a part of it arrives: that is progress */
			GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1001, .no_window = true);
			peer_pass(29 * SECOND);
			CU_ASSERT_FALSE(peer.failed);
		}
		peer_pass(2 * SECOND);
		check_user_timeout();
	}
}

/* RFC 5682: the path was only slow. What arrives after the timeout was sent before it. */
static void test_frto(void)
{
	uint32_t cwnd;

	join(true);
	peer_send(30 * MSS);
	peer_pass(10 * MS);
	peer_ack(at(10)); /* 20 more */
	peer_forget();
	cwnd = peer.conn->cwnd;
	peer_pass(26 * MS); /* the probe of the tail: the window is open, nothing new waits */
	peer_expect(at(29), MSS);
	peer_pass(300 * MS);
	peer_expect(at(10), MSS);
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_LOSS);
	peer_quiet();
	peer_ack(at(12)); /* the second of these was sent once */
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_OPEN);
	CU_ASSERT(peer.conn->cwnd >= cwnd);
	CU_ASSERT_EQUAL(peer.conn->lost, 0);
	peer_quiet();
	peer_stop();
}

/* The same, but it was lost: what the timeout sent again is all that arrives. */
static void test_frto_real(void)
{
	join(true);
	peer_send(40 * MSS);
	peer_pass(10 * MS);
	peer_ack(at(10)); /* 20 more, ten are left */
	peer_forget();
	peer_pass(400 * MS);
	peer_forget();
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_LOSS);
	peer_ack(at(11)); /* step 2: new data, no retransmission */
	peer_expect(at(31), MSS);
	peer_expect(at(32), MSS);
	peer_quiet();
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = at(11), .sacks = 1, .sack = {{at(31), at(32)}});
	peer_expect(at(11), MSS); /* step 3: now the rest goes again */
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_LOSS);
	peer_stop();
}

/* RFC 5681, 6582, 3042 for peers without SACK. */
static void test_newreno(void)
{
	join(false);
	peer_send(30 * MSS);
	expect_burst(0, 10);
	peer_pass(10 * MS);
	peer_ack(at(1));
	expect_burst(10, 2);
	peer_ack(at(1));
	expect_burst(12, 1); /* limited transmit */
	peer_ack(at(1));
	expect_burst(13, 1);
	peer_quiet();
	peer_ack(at(1));
	peer_expect(at(1), MSS);
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_RECOVER);
	peer_forget();
	peer_pass(10 * MS);
	peer_ack(at(4)); /* a part of it: the next hole */
	peer_expect(at(4), MSS);
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_RECOVER);
	peer_forget();
	peer_ack(peer.conn->snd_nxt - peer.iss);
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_OPEN);
	peer_stop();
}

/* RFC 6937: in recovery segments leave in proportion to those that arrive, down to ssthresh. */
static void test_prr(void)
{
	unsigned n = 0;

	join(true);
	peer_send(44 * MSS);
	peer_pass(10 * MS);
	peer_ack(at(10)); /* 20 in flight */
	peer_forget();
	peer_pass(10 * MS);
	for (unsigned i = 11; i < 30; i++) { /* only the first is missing */
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = at(10), .sacks = 1,
		     .sack = {{at(11), at(i + 1)}});
		CU_ASSERT(peer.head - peer.tail <= 2);
		for (; peer_take(); n++)
			;
	}
	CU_ASSERT(n >= 12 && n <= 15); /* 0.7 of 20 */
	peer_ack(at(30));
	CU_ASSERT_EQUAL(peer.conn->cwnd, peer.conn->ssthresh);
	peer_stop();
}

/* RFC 3708: everything that was sent again came twice. */
static void test_dsack_undo(void)
{
	uint32_t cwnd;

	join(true);
	peer_send(10 * MSS);
	peer_pass(10 * MS);
	peer_forget();
	cwnd = peer.conn->cwnd;
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{at(1), at(4)}});
	peer_expect(at(0), MSS);
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_RECOVER);
	peer_ack(at(4)); /* it was late */
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = at(4), .sacks = 1, .sack = {{at(0), at(1)}});
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_OPEN);
	CU_ASSERT(peer.conn->cwnd >= cwnd);
	CU_ASSERT_EQUAL(peer.conn->reorder_mult, 2);
	peer_stop();
}

/* A probe of the tail that was one too many has nothing to do with a later mistake. */
static void test_dsack_undo_after_tail(void)
{
	probe_tail();
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = at(4), .sacks = 1, .sack = {{at(3), at(4)}});
	peer_send(10 * MSS);
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = at(4), .sacks = 1, .sack = {{at(5), at(14)}});
	CU_ASSERT_EQUAL(peer.conn->undo_again, 1);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = at(13), .sacks = 2,
	     .sack = {{at(4), at(5)}, {at(13), at(14)}});
	CU_ASSERT_EQUAL(peer.conn->undo_again, 0);
	CU_ASSERT(peer.conn->cwnd >= 10 * MSS);
	peer_stop();
}

/* RFC 3708: what came twice, but was not sent again in this recovery, tells nothing of it. */
static void test_dsack_of_others(void)
{
	for (unsigned sent = 0; sent < 2; sent++) {
		join(true);
		peer_send(10 * MSS);
		peer_pass(10 * MS);
		peer_ack(at(2));
		peer.conn->pace_at = sent ? 0 : peer.now + SECOND;
		peer.e->tune.pacing = !sent;
		peer_forget();
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = at(2), .sacks = 1,
		     .sack = {{at(3), at(6)}});
		CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_RECOVER);
		CU_ASSERT_EQUAL(peer.conn->undo_again, sent);
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = at(2), .sacks = 2,
		     .sack = {{at(1), at(2)}, {at(3), at(6)}});
		CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_RECOVER);
		CU_ASSERT_EQUAL(peer.conn->undo_again, sent);
		peer_stop();
	}
}

/* RFC 2018, 8: a SACK may be taken back; after a timeout it is not relied on. */
static void test_renege(void)
{
	join(true);
	peer_send(5 * MSS);
	peer_pass(10 * MS);
	peer_forget();
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{at(1), at(5)}});
	peer_expect(at(0), MSS);
	peer_ack(at(1)); /* and the others are gone */
	peer_forget();
	peer_pass(SECOND);
	peer_expect(at(1), MSS);
	peer_ack(at(2));
	peer_forget();
	peer_pass(5 * SECOND);
	CU_ASSERT(peer.head != peer.tail);
	peer_stop();
}

/* A gigabyte was sent and acknowledged. What is in use moves on with it. */
static void carry_gigabyte(void)
{
	struct engine_conn *c = peer.conn;
	const uint32_t n = 1u << 30;

	CU_ASSERT_EQUAL_FATAL(c->snd_una, c->snd_end);
	peer.iss += n;
	c->snd_una += n;
	c->snd_nxt += n;
	c->snd_end += n;
	c->snd_wl2 += n;
	c->fack += n;
	c->rack_end += n;
}

/* Bytes go and are acknowledged, a gigabyte, and again, until every number of the beginning is more
 * than half of the sequence space behind. Returns the number of the next byte. */
static uint32_t carry_much(uint32_t next)
{
	for (unsigned i = 0; i < 3; i++) {
		carry_gigabyte();
		peer_send(MSS);
		peer_pass(10 * MS);
		peer_ack(next += MSS);
	}
	peer_forget();
	return next;
}

static void test_wrap(void)
{
	uint32_t next;

	join(true);
	next = carry_much(at(0)); /* a peer that gets things twice is believed, however late */
	peer_send(MSS);
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = next + MSS, .sacks = 1,
	     .sack = {{next - MSS, next}});
	CU_ASSERT_EQUAL(peer.conn->reorder_mult, 2);
	peer_stop();

	peer_start();
	peer_join(&(struct given){.flags = TCP_ECE | TCP_CWR, .mss = MSS, .sack_ok = true});
	next = carry_much(at(0)); /* and one whose path is congested */
	peer_send(2 * MSS);
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK | TCP_ECE, .seq = 1, .ack = next + MSS);
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_REDUCE);
	peer_stop();
}

static void send_full(void)
{
	size_t room = conn_room(peer.conn);

	peer_send(room < 65536 ? room : 65536);
}

/* n round trips of ms milliseconds, with all that the congestion window takes. */
static void rounds(unsigned n, uint64_t ms)
{
	for (; n; n--) {
		uint32_t end = peer.conn->snd_nxt - peer.iss;

		peer_pass(ms * MS);
		for (uint32_t ack = peer.conn->snd_una - peer.iss + MSS; ack <= end; ack += MSS) {
			peer_ack(ack);
			send_full();
		}
		peer_forget();
	}
}

/* RFC 9406: a queue that grows ends slow start; also the one after a pause, whenever that is. */
static void test_hystart(void)
{
	join(true);
	peer.window = 65535;
	send_full();
	rounds(2, 10);
	CU_ASSERT_EQUAL(peer.conn->cc_state.cubic.css_rounds, 0);
	rounds(1, 40);
	CU_ASSERT(peer.conn->cc_state.cubic.css_rounds > 0);
	peer_stop();
	join(true);
	peer.window = 65535;
	peer_send(10 * MSS);
	peer_pass(10 * MS);
	peer_ack(at(10));
	peer.conn->ssthresh = peer.conn->cwnd; /* slow start is over, it never comes to an end */
	carry_much(at(10));
	peer_pass(10 * SECOND);
	peer.conn->ssthresh = UINT32_MAX;
	send_full();
	rounds(2, 10);
	CU_ASSERT_EQUAL(peer.conn->cc_state.cubic.css_rounds, 0);
	rounds(1, 40);
	CU_ASSERT(peer.conn->cc_state.cubic.css_rounds > 0);
	peer_stop();
}

/* A hole at the beginning of a long window, then one in its middle; each ACK tells of one segment
 * more. All that arrived is known, only what is missing goes again. */
static void test_long_window(void)
{
	const unsigned n = 2000, hole = 1000;

	join(true);
	peer.conn->snd_buf = 4u << 20;
	peer.conn->cwnd = 4u << 20;
	for (unsigned sent = 0; sent < n; sent += 40)
		peer_send(40 * MSS);
	expect_burst(0, n);
	peer_pass(10 * MS);
	for (unsigned i = 2; i <= hole; i++)
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{at(1), at(i)}});
	for (unsigned i = hole + 2; i <= n; i++)
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 2,
		     .sack = {{at(hole + 1), at(i)}, {at(1), at(hole)}});
	CU_ASSERT_EQUAL(peer.conn->sacked, (n - 2) * MSS);
	peer_expect(at(0), MSS);
	peer_expect(at(hole), MSS);
	peer_quiet();
	peer_ack(at(n));
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_OPEN);
	peer_stop();
}

/* Of ACKs that come together each one counts: the window was in use when all of that was sent. */
static void test_batch(void)
{
	join(true);
	peer.conn->cc = &cc_newreno;
	cc_newreno.init(peer.conn);
	peer.conn->ssthresh = peer.conn->cwnd;
	peer_send(40 * MSS);
	expect_burst(0, 10);
	peer_pass(10 * MS);
	for (unsigned i = 2; i <= 10; i += 2)
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = at(i), .batch = i < 10);
	CU_ASSERT_EQUAL(peer.conn->cwnd, 11 * MSS);
	peer_stop();
	join(true); /* not used: nothing is known of a larger one */
	peer.conn->ssthresh = peer.conn->cwnd;
	peer_send(4 * MSS);
	for (unsigned i = 1; i <= 40; i++) {
		peer_ack(at(i));
		peer_send(MSS);
	}
	CU_ASSERT_EQUAL(peer.conn->cwnd, 10 * MSS);
	peer_stop();
}

/* RFC 6437: one flow label for all that a connection sends, another for another. A timeout takes a
 * new one, for perhaps it is the path. */
static void test_flow_label(void)
{
	uint32_t label;

	for (unsigned cookie = 0; peer_v6 && cookie < 2; cookie++) {
		peer_start();
		peer.e->tune.half_open_max = cookie ? 0 : 10;
		GIVE(.flags = TCP_SYN, .mss = MSS);
		label = peer.label;
		CU_ASSERT_NOT_EQUAL(label, 0);
		peer_ack(1);
		peer_send(3 * MSS);
		CU_ASSERT_EQUAL(peer.label, label);
		peer_data(1, 3 * MSS);
		CU_ASSERT_EQUAL(peer.label, label);
		peer_forget();
		peer_pass(1100 * MS);
		peer_expect(1, MSS);
		CU_ASSERT_NOT_EQUAL(peer.label, label);
		label = peer.label;
		peer_ack(1 + 3 * MSS);
		peer_send(MSS);
		CU_ASSERT_EQUAL(peer.label, label);
		engine_native.abort(peer.conn);
		CU_ASSERT_EQUAL(peer.label, label);
		peer.port++;
		GIVE(.flags = TCP_SYN, .mss = MSS);
		CU_ASSERT_NOT_EQUAL(peer.label, label);
		label = peer.label;
		peer_pass(1100 * MS);
		CU_ASSERT(cookie || peer.label != label);
		peer_stop();
	}
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"slow start", test_slow_start},
		{"ACKs in batches", test_batch},
		{"fast retransmit", test_fast_retransmit},
		{"three short segments", test_short_segments},
		{"the flow label", test_flow_label},
		{"RACK, by time", test_rack_timer},
		{"RACK, a lost retransmission", test_rack_again},
		{"tail loss probe", test_tail_loss},
		{"tail loss of a single segment", test_tail_alone},
		{"tail loss repaired", test_tail_repaired},
		{"retransmission timeout", test_rto},
		{"a longer path", test_rto_kept},
		{"user timeout", test_user_timeout},
		{"F-RTO, a mistake", test_frto},
		{"F-RTO, a loss", test_frto_real},
		{"NewReno", test_newreno},
		{"proportional rate reduction", test_prr},
		{"undo by DSACK", test_dsack_undo},
		{"undo by DSACK after a probe of the tail", test_dsack_undo_after_tail},
		{"a DSACK of something else", test_dsack_of_others},
		{"reneging", test_renege},
		{"numbers from long ago", test_wrap},
		{"the end of slow start", test_hystart},
		{"a long window", test_long_window},
		CU_TEST_INFO_NULL,
	};

	return peer_run("recovery", tests);
}
