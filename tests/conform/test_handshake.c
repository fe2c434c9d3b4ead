// SPDX-License-Identifier: Apache-2.0
/* What a handshake leaves behind: what of the path is known after it, and what it promised. */
#include <CUnit/CUnit.h>

#include "tests/conform/peer.h"

static void call(void)
{
	peer_start();
	CU_ASSERT_EQUAL_FATAL(peer_dial(NULL), 0);
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
	peer_forget();
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
	GIVE(.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = MSS, .scale = 7, .window = 3000);
	CU_ASSERT_FATAL(peer.connected);
	CU_ASSERT(peer.conn->snd_wnd > 2800 && peer.conn->snd_wnd <= 3000);
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

int main(void)
{
	CU_TestInfo tests[] = {
		{"a SYN sent again", test_syn_again},
		{"a SYN lost twice", test_syn_lost},
		{"a SYN that is echoed", test_syn_echoed},
		{"the window of a SYN", test_window_of_syn},
		{"a SYN that no longer asks for ECN", test_ecn_taken_back},
		CU_TEST_INFO_NULL,
	};

	return unit_run("handshake", tests);
}
