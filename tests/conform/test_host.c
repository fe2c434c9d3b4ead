// SPDX-License-Identifier: Apache-2.0
/* Memory between host and engine: where bytes are put, where they are taken from, how much of it.
 */
#include <CUnit/CUnit.h>

#include "lib/base/util.h"
#include "tests/conform/peer.h"

/* Room for bytes to send, in the engine's memory: what is not used is given back with all else. */
static void test_reserve(void)
{
	const struct engine_ops *e = &engine_native;
	struct iovec iov[8];

	peer_meet(&peer_usual);
	CU_ASSERT(e->reserve(peer.conn, 20000, iov, 8) >= 5);
	e->commit(peer.conn, 0);
	CU_ASSERT_EQUAL(peer.e->chunks.used, 0);
	peer_quiet();
	CU_ASSERT(e->reserve(peer.conn, 20000, iov, 8) >= 5);
	e->commit(peer.conn, 10);
	peer_expect(1, 10);
	CU_ASSERT(peer.e->chunks.used >= 5);
	peer_ack(11);
	CU_ASSERT_EQUAL(peer.e->chunks.used, 0);
	e->shutdown(peer.conn);
	CU_ASSERT_EQUAL(e->reserve(peer.conn, 1, iov, 8), 0);
	peer_stop();
}

/* n times the peer's 60 000 bytes come, and all that is there is read, every ns. */
static void read_every(uint64_t ns, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		for (unsigned k = 0; k < 60; k++)
			peer_data(peer.conn->rcv_nxt - peer.conn->irs, 1000);
		peer_pass(ns);
		engine_native.consume(peer.conn, peer_unread());
		peer_forget();
	}
}

/* The receive buffer is for what is read in a round trip, here of 10 ms, not for what has gathered
 * before a host that comes late. */
static void test_right_size(void)
{
	peer_meet(&peer_usual);
	read_every(20 * MS, 20);
	CU_ASSERT_EQUAL(peer.conn->rcv_buf, BUFFER_INITIAL);
	read_every(10 * MS, 20);
	CU_ASSERT(peer.conn->rcv_buf > 100000 && peer.conn->rcv_buf <= 130000);
	peer_stop();
}

static size_t takes, taken;

static size_t take_some(void *ctx, void *user, const void *data, size_t len)
{
	(void)ctx;
	(void)user;
	(void)data;
	taken = MIN(len, takes);
	return taken;
}

/* The host takes bytes where they lie, if they are the next for it. */
static void test_received(void)
{
	peer_meet(&peer_usual);
	peer.host.received = take_some;
	takes = 5000;
	peer_data(1, 1000);
	CU_ASSERT(taken == 1000 && peer_unread() == 0);
	CU_ASSERT_EQUAL(peer.e->chunks.used, 0);
	peer_forget();
	takes = 400;
	peer_data(1001, 1000);
	CU_ASSERT(taken == 400 && peer_unread() == 600);
	CU_ASSERT_EQUAL(peer_take()->ack, 2001);
	taken = 0;
	peer_data(2001, 1000); /* some wait before these */
	CU_ASSERT(taken == 0 && peer_unread() == 1600);
	engine_native.consume(peer.conn, 1600);
	peer_data(3002, 1000); /* a hole */
	CU_ASSERT_EQUAL(taken, 0);
	peer_data(3001, 1);
	CU_ASSERT(taken == 0 && peer_unread() == 1001);
	engine_native.consume(peer.conn, 1001);
	GIVE(.flags = TCP_ACK | TCP_FIN, .seq = 4002, .ack = 1, .len = 10);
	CU_ASSERT(peer.eof && taken == 0 && peer_unread() == 10);
	peer_stop();
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"room reserved", test_reserve},
		{"right size", test_right_size},
		{"taken where it lies", test_received},
		CU_TEST_INFO_NULL,
	};

	return peer_run("host", tests);
}
