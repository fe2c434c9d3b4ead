// SPDX-License-Identifier: Apache-2.0
/* Links that take less than the interface: told by ICMP, or not; and telling lies. */
#include <CUnit/CUnit.h>

#include "lib/base/util.h"
#include "tests/conform/peer.h"
#include "tests/conform/sim.h"

#define RATE 1250000ull /* bytes a second */

static struct sim sim;
static const struct sim_link usual = {.delay = 5 * MS, .rate = RATE, .queue = 100000};

static struct engine_conn *begin(const struct sim_link *link, uint64_t total, bool v6)
{
	sim_start(&sim, 1, link);
	return sim_connect(&sim, total, v6)->conn;
}

static void end(uint64_t total)
{
	CU_ASSERT(sim_run(&sim, 1000 * SECOND));
	CU_ASSERT_EQUAL(sim.end[1].app[0].received, total);
	CU_ASSERT_FALSE(sim.end[1].app[0].bad);
	sim_rest(&sim, 300 * SECOND);
	sim_stop(&sim);
}

/* What was too big goes again at once, and it was no congestion. */
static void test_told(void)
{
	struct sim_link link = usual;

	link.mtu = 1400;
	link.tell_mtu = true;
	for (unsigned v6 = 0; v6 < 2; v6++) {
		const struct engine_conn *c = begin(&link, 3000000, v6);

		sim_run(&sim, 100 * MS);
		CU_ASSERT_EQUAL(c->mtu, 1400);
		CU_ASSERT_EQUAL(c->ssthresh, UINT32_MAX);
		CU_ASSERT(sim.drops <= 10); /* the initial window, once */
		sim_run(&sim, 2 * SECOND);
		c = sim_connect(&sim, 1000, v6)->conn; /* the next one knows */
		sim_run(&sim, 100 * MS);
		CU_ASSERT_EQUAL(c->mtu, 1400);
		CU_ASSERT(sim.drops <= 10);
		end(3000000);
	}
}

/* Less than we are ready to believe: routers cut what we send, each packet with an ID of its own
 * (RFC 6864). Until more passes. */
static void test_told_little(void)
{
	struct sim_link link = usual;
	const struct engine_conn *c;
	uint64_t drops;

	link.mtu = 400;
	link.tell_mtu = true;
	for (uint64_t seed = 0; seed < 4; seed++) { /* some ports cut into segments */
		sim_start(&sim, seed, &link);
		c = sim_connect(&sim, 3000000, false)->conn;
		sim_run(&sim, 100 * MS);
		CU_ASSERT_EQUAL(c->mtu, MTU_LEAST4);
		CU_ASSERT_EQUAL(c->ssthresh, UINT32_MAX);
		CU_ASSERT(sim.drops <= 10);
		CU_ASSERT(sim.end[0].cut > 0);
		sim_run(&sim, 2 * SECOND);
		drops = sim.drops;
		c = sim_connect(&sim, 1000, false)->conn; /* the next one knows */
		sim_run(&sim, 100 * MS);
		CU_ASSERT(c->mtu == MTU_LEAST4 && c->no_df);
		CU_ASSERT_EQUAL(sim.drops, drops);
		end(3000000);
	}
	/* As little as the segments that the peer takes have anyway. */
	peer_v6 = false;
	peer_meet(&(struct given){.mss = 400, .sack_ok = true});
	peer_send(800);
	peer_forget();
	engine_native.too_big(peer.conn, peer.iss + 1, 500);
	peer_quiet();
	engine_native.too_big(peer.conn, peer.iss + 1, 300);
	peer_expect(1, 400);
	peer_expect(401, 400);
	peer_quiet();
	CU_ASSERT(peer.conn->mtu == 440 && peer.conn->no_df);
	peer_stop();
}

/* Nobody tells: after two timeouts a size is used that passes everywhere, then larger ones are
 * tried. */
static void test_black_hole(void)
{
	static const uint32_t mtus[] = {1300, 1400, 1480, 1499, 700};
	struct sim_link link = usual;

	for (unsigned i = 0; i < 2 * ARRAY_SIZE(mtus); i++) {
		bool v6 = i & 1;
		const struct engine_conn *c;

		link.mtu = mtus[i / 2];
		if (v6 && link.mtu < 1280)
			continue;
		c = begin(&link, 10000000, v6);
		sim_run(&sim, link.mtu < 1280 ? 10 * SECOND : 4 * SECOND);
		CU_ASSERT(c->mtu <= link.mtu && c->mtu + 16 > link.mtu);
		CU_ASSERT_EQUAL(c->mtu_high, c->mtu);
		sim_run(&sim, SECOND);
		CU_ASSERT(sim.end[1].app[0].received > 1500000);
		end(10000000);
	}
}

/* It was not the size, there was no path at all for a while. */
static void test_outage(void)
{
	const struct engine_conn *c = begin(&usual, 10000000, false);

	sim_run(&sim, SECOND);
	sim.end[0].link.down = true;
	sim_run(&sim, 10 * SECOND);
	CU_ASSERT(c->mtu < 1500);
	CU_ASSERT_PTR_NULL(engine_path_known(sim.end[0].e, c->key.remote.ip));
	sim.end[0].link.down = false;
	sim_run(&sim, 10 * SECOND);
	CU_ASSERT_EQUAL(c->mtu, 1500);
	end(10000000);
}

/* A path that takes more again: found after ten minutes (RFC 8201, section 4). */
static void test_raise(void)
{
	struct sim_link link = {.delay = 50 * MS, .rate = 10000, .queue = 20000, .mtu = 1400};
	const struct engine_conn *c;

	link.tell_mtu = true;
	c = begin(&link, 7000000, false);
	sim_run(&sim, 100 * SECOND);
	CU_ASSERT_EQUAL(c->mtu, 1400);
	sim.end[0].link.mtu = 0;
	sim_run(&sim, 400 * SECOND);
	CU_ASSERT_EQUAL(c->mtu, 1400);
	sim_run(&sim, 150 * SECOND);
	CU_ASSERT(c->mtu > 1450); /* probes are lost by congestion, too */
	end(7000000);
	/* also after routers cut */
	link.mtu = 400;
	c = begin(&link, 7000000, false);
	sim_run(&sim, 100 * SECOND);
	CU_ASSERT(c->mtu == MTU_LEAST4 && c->no_df);
	sim.end[0].link.mtu = 0;
	sim_run(&sim, 550 * SECOND);
	CU_ASSERT(c->mtu > MTU_LEAST4 && !c->no_df);
	end(7000000);
}

#define SMALL 1240u /* payload where the path takes less than the link, and IPv6 passes */

static void test_too_big(void)
{
	uint32_t small = peer_mtu(SMALL);

	peer_meet(&peer_usual);
	peer_send(3 * MSS);
	peer_forget();
	engine_native.too_big(peer.conn, peer.iss - 5, small); /* not in flight: RFC 5927 */
	engine_native.too_big(peer.conn, peer.conn->snd_nxt, small);
	peer_pass(MS);
	peer_quiet();
	CU_ASSERT_EQUAL(peer.conn->mss, MSS);
	engine_native.too_big(peer.conn, peer.iss + 1, small);
	peer_pass(MS);
	for (uint32_t at = 1; at < 1 + 3 * MSS;) {
		const struct segment *s = peer_take();

		CU_ASSERT_FATAL(s && s->seq == at && s->len <= SMALL);
		at += s->len;
	}
	peer_quiet();
	CU_ASSERT_EQUAL(peer.conn->ssthresh, UINT32_MAX); /* that was no congestion */
	engine_native.too_big(peer.conn, peer.iss + 1, 68);
	CU_ASSERT(peer.conn->mss >= 512);
	peer_stop();
	/* A segment that is smaller than what is said to be the limit cannot have been too big. */
	peer_meet(&peer_usual);
	peer_send(SMALL - 60);
	engine_native.too_big(peer.conn, peer.iss + 1, small);
	CU_ASSERT_EQUAL(peer.conn->mss, MSS);
	peer_stop();
}

/* RFC 8899: larger segments are tried. That one is lost is no congestion. */
static void test_probe(void)
{
	peer_meet(&peer_usual);
	peer_send(MSS);
	engine_native.too_big(peer.conn, peer.iss + 1, peer_mtu(SMALL));
	peer_pass(10 * MS);
	peer_ack(1 + MSS);
	peer_forget();
	peer.conn->mtu_raise_at = peer.now;
	peer_send(9000);
	peer_expect(1 + MSS, MSS);
	for (uint32_t at = 1 + 2 * MSS; at < 1 + MSS + 9000; at += SMALL)
		peer_expect(at, MIN(1 + MSS + 9000 - at, SMALL));
	peer_quiet();
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1 + MSS, .sacks = 1,
	     .sack = {{1 + 2 * MSS, 1 + 2 * MSS + 5 * SMALL}});
	peer_expect(1 + MSS, SMALL);
	peer_expect(1 + MSS + SMALL, MSS - SMALL);
	peer_quiet();
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_OPEN);
	CU_ASSERT_EQUAL(peer.conn->mtu, peer_mtu(SMALL));
	peer_pass(10 * MS);
	peer_ack(1 + MSS + 9000);
	peer_send(9000); /* any packet may be lost: once more */
	peer_expect(1 + MSS + 9000, MSS);
	peer_forget();
	peer_pass(10 * MS);
	peer_ack(1 + MSS + 18000);
	CU_ASSERT_EQUAL(peer.conn->mtu, peer_mtu(MSS));
	peer_stop();
}

int main(void)
{
	CU_TestInfo links[] = {
		{"told by ICMP", test_told},
		{"told by ICMP that it takes little", test_told_little},
		{"a black hole", test_black_hole},
		{"an outage", test_outage},
		{"larger packets after ten minutes", test_raise},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo segments[] = {
		{"too big", test_too_big},
		{"a larger one", test_probe},
		CU_TEST_INFO_NULL,
	};

	return unit_run("links", links) | peer_run("segments", segments);
}
