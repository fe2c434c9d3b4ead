// SPDX-License-Identifier: Apache-2.0
/*
 * Type of service and traffic class: RFC 2474, and 3168, whose bits are TCP's own. That everything
 * which is sent for a connection has the connection's, peer.c looks at in all of these tests.
 */
#include <CUnit/CUnit.h>

#include "lib/base/util.h"
#include "tests/conform/peer.h"

#define ANOTHER 0x28u

/* What the engine sends from now on has it. */
static void change(uint8_t tos)
{
	engine_native.set_tos(peer.conn, tos);
	peer.tos = tos & (uint8_t)~IP_CE;
}

/* The next segment is there, and peer.c has looked at it. */
static const struct segment *expect(uint8_t flags)
{
	static const struct segment none;
	const struct segment *s = peer_take();

	CU_ASSERT(s && (s->flags & flags) == flags);
	return s ? s : &none;
}

/* From the first segment to the last, answered by a cookie too. */
static void test_tos_accepted(void)
{
	for (unsigned cookie = 0; cookie < 2; cookie++) {
		peer_start();
		peer.e->tune.half_open_max = cookie ? 0 : 10;
		GIVE(.flags = TCP_SYN, .mss = MSS);
		expect(TCP_SYN | TCP_ACK);
		if (!cookie) {
			peer_pass(1500 * MS);
			expect(TCP_SYN | TCP_ACK); /* again */
		}
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .len = MSS);
		expect(TCP_ACK);
		peer_send(100);
		CU_ASSERT_EQUAL(expect(TCP_ACK)->len, 100);
		engine_native.abort(peer.conn);
		expect(TCP_RST);
		CU_ASSERT_EQUAL(peer.last_tos, PEER_TOS);
		peer_stop();
	}
}

static void test_tos_dialled(void)
{
	peer_start();
	CU_ASSERT_EQUAL_FATAL(peer_dial(NULL), 0);
	expect(TCP_SYN);
	peer_pass(1500 * MS);
	expect(TCP_SYN);
	GIVE(.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = MSS);
	expect(TCP_ACK);
	engine_native.shutdown(peer.conn);
	expect(TCP_FIN);
	peer_stop();
}

/* What is sent again has what the application wants now. */
static void test_tos_changed(void)
{
	peer_meet(&peer_usual);
	peer_send(100);
	expect(TCP_ACK);
	change(ANOTHER | IP_CE);
	peer_pass(5 * SECOND);
	CU_ASSERT_EQUAL(expect(TCP_ACK)->seq, 1);
	CU_ASSERT_EQUAL(peer.last_tos, ANOTHER);
	peer_forget();
	change(0);
	peer_data(1, 2 * MSS);
	expect(TCP_ACK);
	peer_stop();
}

/* It changes nothing about ECN. */
static void test_tos_ecn(void)
{
	struct given syn = peer_usual;

	syn.flags = TCP_ECE | TCP_CWR;
	peer_start();
	peer_join(&syn);
	peer_send(MSS);
	CU_ASSERT_EQUAL(expect(TCP_ACK)->ecn, IP_ECT0);
	change(ANOTHER | 1);
	peer_send(MSS);
	CU_ASSERT_EQUAL(expect(TCP_ACK)->ecn, IP_ECT0);
	peer_data(1, 2 * MSS);
	CU_ASSERT_EQUAL(expect(TCP_ACK)->ecn, 0);
	peer_stop();
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"type of service of what is accepted", test_tos_accepted},
		{"type of service of what is dialled", test_tos_dialled},
		{"another type of service", test_tos_changed},
		{"type of service and ECN", test_tos_ecn},
		CU_TEST_INFO_NULL,
	};

	return peer_run("type of service", tests);
}
