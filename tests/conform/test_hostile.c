// SPDX-License-Identifier: Apache-2.0
/*
 * Peers that mean harm, and peers that mean nothing: random segments near and far from the window,
 * half-true SACKs, ACKs of the future, tiny windows, floods. Nothing crashes, the accounts stay
 * right, memory stays bounded, what is delivered is a prefix of what was sent, and others are not
 * disturbed.
 */
#include <CUnit/CUnit.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/util.h"
#include "tests/conform/invariant.h"
#include "tests/conform/peer.h"

#define SEEDS 300
#define STEPS 400

static struct rng rng;

static unsigned below(unsigned n)
{
	return rng_below(&rng, n);
}

static void check(void)
{
	const struct table *t = &peer.e->table;

	for (size_t k = 0; k < t->size; k++)
		if (t->slot[k].conn)
			invariant_conn(t->slot[k].conn);
}

/* A number of interest: near `base`, or near something beyond. */
static uint32_t number(uint32_t base, uint32_t span)
{
	switch (below(6)) {
	case 0:
		return base;
	case 1:
		return base + below(3) - 1;
	case 2:
		return base + span;
	case 3:
		return base + below(span + 1);
	case 4:
		return base - below(100000);
	default:
		return (uint32_t)rng_below(&rng, UINT32_MAX);
	}
}

static void random_segment(void)
{
	const struct engine_conn *c = peer.conn;
	struct given g = {.flags = TCP_ACK};
	uint32_t una = c->snd_una - peer.iss, nxt = c->snd_nxt - peer.iss;

	if (!below(4))
		g.flags = (uint8_t)below(256);
	if (below(10))
		g.flags &= (uint8_t) ~(TCP_RST | TCP_FIN); /* let it live a while */
	g.seq = number(c->rcv_nxt - peer.isn, c->rcv_adv - c->rcv_nxt);
	g.ack = number(una, nxt - una);
	g.len = below(3) ? 0 : below(3000);
	g.window = below(4) ? 0 : 1 + below(65535);
	g.no_window = !below(5);
	g.ts = below(4) ? c->timestamps : !c->timestamps;
	g.tsval = number(c->ts_recent, 10);
	g.tsecr = number(conn_ts(c), 10);
	g.ce = !below(8);
	g.sacks = below(3) ? 0 : below(4);
	for (unsigned i = 0; i < g.sacks; i++) {
		g.sack[i][0] = number(una, nxt - una);
		g.sack[i][1] = below(2) ? g.sack[i][0] + below(20000) : number(una, nxt - una);
	}
	peer_give(&g);
}

/* Bytes that arrived are right: the peer's byte is its number. */
static void read_some(void)
{
	struct iovec v[8];
	unsigned n = engine_native.peek(peer.conn, v, 8);
	uint32_t at = peer.conn->rcv_read - peer.isn;
	size_t len = 0;

	for (unsigned i = 0; i < n; i++)
		for (size_t j = 0; j < v[i].iov_len; j++, len++)
			if (((uint8_t *)v[i].iov_base)[j] != (uint8_t)(at + len))
				CU_FAIL_FATAL("another byte than was sent");
	engine_native.consume(peer.conn, below(2) ? len : below((unsigned)len + 1));
}

static void host_turn(void)
{
	static const uint8_t data[8192];

	if (peer.failed)
		return;
	switch (below(8)) {
	case 0:
		engine_native.send(peer.conn, data, below(sizeof(data)));
		break;
	case 1:
		read_some();
		break;
	case 2:
		peer_pass(below(1000) * MS);
		break;
	case 3:
		engine_native.too_big(peer.conn, peer.conn->snd_una + below(5000), below(1600));
		break;
	case 4:
		if (!below(20))
			engine_native.shutdown(peer.conn);
		break;
	case 5:
		engine_native.send_urgent(peer.conn, data);
		break;
	default:
		break;
	}
}

static void test_random(void)
{
	for (unsigned seed = 1; seed <= SEEDS; seed++) {
		unsigned failures = CU_get_number_of_failures();
		struct given syn = {.mss = MSS, .tsval = 1000};

		rng.state = seed;
		syn.sack_ok = below(4);
		syn.ts = below(2);
		syn.scale = (int)below(10);
		syn.flags = below(2) ? TCP_ECE | TCP_CWR : 0;
		peer_start();
		peer_join(&syn);
		for (unsigned i = 0; i < STEPS && !peer.failed; i++) {
			random_segment();
			host_turn();
			check();
			CU_ASSERT(peer.head - peer.tail < 200);
			peer_forget();
			CU_ASSERT_EQUAL(peer.released, 0);
		}
		engine_native.abort(peer.conn);
		peer_pass(200 * SECOND);
		CU_ASSERT_EQUAL(peer.released, 1);
		CU_ASSERT_EQUAL(peer.e->sents.used + peer.e->chunks.used + peer.e->gaps.used, 0);
		peer_stop();
		if (CU_get_number_of_failures() != failures)
			printf("seed %u failed\n", seed);
	}
}

/* ACKs of what was not sent yet move nothing (RFC 9293, 3.10.7.4). */
static void test_optimistic(void)
{
	uint32_t cwnd;

	peer_start();
	peer_join(&(struct given){.mss = MSS, .sack_ok = true, .scale = 7});
	peer_send(40 * MSS);
	cwnd = peer.conn->cwnd;
	for (unsigned i = 11; i < 1000; i++)
		peer_ack(1 + i * MSS);
	CU_ASSERT_EQUAL(peer.conn->snd_una - peer.iss, 1);
	CU_ASSERT_EQUAL(peer.conn->cwnd, cwnd);
	peer_stop();
}

/* An ACK for every byte of a segment does not open the window faster than one for all of it. */
static void test_ack_division(void)
{
	peer_start();
	peer_join(&(struct given){.mss = MSS, .sack_ok = true, .scale = 7});
	peer_send(40 * MSS);
	for (unsigned i = 1; i <= MSS; i++)
		peer_ack(1 + i);
	CU_ASSERT(peer.conn->cwnd <= 11 * MSS);
	peer_stop();
}

/* A window of a few bytes does not make us send crumbs. */
static void test_tiny_window(void)
{
	unsigned n = 0;

	peer_start();
	peer_join(&(struct given){.mss = MSS, .sack_ok = true});
	peer_send(40 * MSS);
	peer_forget();
	peer.window = 10;
	for (unsigned i = 1; i <= 10; i++)
		peer_ack(1 + i * MSS);
	peer_forget();
	for (unsigned i = 0; i < 1000; i++) {
		peer_ack(1 + 10 * MSS);
		peer_pass(MS);
		for (; peer_take(); n++)
			;
	}
	CU_ASSERT(n < 10);
	peer_stop();
}

/* SYNs without end, from everywhere: memory stays where it is, and who exists is served. */
static void test_syn_flood(void)
{
	uint32_t iss;
	size_t made;

	peer_start();
	peer_join(&(struct given){.mss = MSS, .sack_ok = true, .scale = 7});
	iss = peer.iss;
	made = peer.e->tune.half_open_max + 64;
	for (unsigned i = 0; i < 200000; i++) {
		peer.port = (uint16_t)(1024 + i % 60000);
		if (peer.port == 5000)
			continue;
		GIVE(.flags = TCP_SYN, .seq = i, .mss = MSS);
		peer_forget();
	}
	CU_ASSERT(peer.e->conns.used <= made);
	peer.port = 5000;
	peer.iss = iss;
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100);
	CU_ASSERT_EQUAL(conn_unread(peer.conn), 100);
	peer_stop();
}

/* Connections by the hundred thousand: found as fast, and each takes its kilobyte at most. */
static void test_many(void)
{
	const unsigned many = 100000;
	size_t idle;

	peer_start();
	peer.e->tune.half_open_max = many;
	for (unsigned i = 0; i < many; i++) {
		peer.isn = i;
		peer.port = (uint16_t)(i % 50000 + 1024);
		peer.remote = i / 50000;
		GIVE(.flags = TCP_SYN, .mss = MSS, .sack_ok = true, .scale = 7);
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1);
		peer_forget();
	}
	CU_ASSERT_EQUAL(peer.accepted, many);
	CU_ASSERT_EQUAL(peer.e->table.used, many);
	idle = peer.e->conns.size + peer.e->table.size * sizeof(struct table_slot) / many;
	CU_ASSERT(idle <= 1024);
	CU_ASSERT_EQUAL(peer.e->chunks.used + peer.e->sents.used, 0);
	peer.deaf = true;
	peer_stop();
	CU_ASSERT_EQUAL(peer.released, many);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"random segments", test_random},
		{"ACKs of the future", test_optimistic},
		{"ACK division", test_ack_division},
		{"a tiny window", test_tiny_window},
		{"SYN flood", test_syn_flood},
		{"a hundred thousand connections", test_many},
		CU_TEST_INFO_NULL,
	};

	return peer_run("hostile", tests);
}
