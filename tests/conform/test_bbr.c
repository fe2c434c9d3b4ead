// SPDX-License-Identifier: Apache-2.0
/* BBR over links in virtual time: what it takes of them, what it leaves to others, how long queues
 * become. Rates are in bytes a second; a bandwidth-delay product is 50 000 bytes. */
#include <CUnit/CUnit.h>
#include <stdio.h>

#include "lib/base/util.h"
#include "tests/conform/peer.h"
#include "tests/conform/sim.h"

#define RATE 1250000 /* 10 Mbit/s */
#define RTT (40 * MS)
#define BDP 50000
#define ENDLESS (1ull << 40)

static struct sim sim;

/* Data goes one way; ACKs have a link of their own. */
static void start(uint64_t seed, uint32_t queue, unsigned loss)
{
	struct sim_link link = {.delay = RTT / 2, .rate = RATE, .queue = queue};

	sim_start(&sim, seed, &link);
	sim.end[0].link.loss = loss;
	sim.end[1].link.rate = 0;
}

static struct sim_app *flow(const char *congestion)
{
	sim.congestion = congestion;
	return sim_connect(&sim, ENDLESS, false);
}

/* It will not close when it has nothing to send. */
static struct sim_app *quiet_flow(void)
{
	struct sim_app *a = flow("bbr");

	a->total = 0;
	a->more = true;
	return a;
}

static void stop(void)
{
	for (unsigned i = 0; i < sim.end[0].apps; i++)
		engine_native.abort(sim.end[0].app[i].conn);
	sim_stop(&sim);
}

static const struct bbr *bbr_of(const struct sim_app *a)
{
	return a->conn->cc_state.bbr;
}

static uint64_t bw_max(const struct sim_app *a)
{
	return MAX(bbr_of(a)->bw_max[0], bbr_of(a)->bw_max[1]);
}

static uint64_t received(const struct sim_app *a)
{
	for (unsigned i = 0; i < sim.end[1].apps; i++)
		if (sim.end[1].app[i].conn->key.remote.port == a->conn->key.local.port)
			return sim.end[1].app[i].received;
	return 0;
}

/* Which share of the link it gets, in the given seconds. */
static double share(const struct sim_app *a, unsigned seconds)
{
	uint64_t before = received(a);

	sim_run(&sim, seconds * SECOND);
	return (double)(received(a) - before) / RATE / seconds;
}

static bool until(const struct sim_app *a, enum bbr_state state, uint64_t ns)
{
	for (; ns >= MS && bbr_of(a)->state != state; ns -= MS)
		sim_run(&sim, MS);
	return bbr_of(a)->state == state;
}

/* A queue of half of what the path holds. */
static void test_full(void)
{
	struct sim_app *a;

	start(1, BDP / 2, 0);
	a = flow("bbr");
	CU_ASSERT(share(a, 20) > 0.88);
	/* what is not payload: 52 of 1500 bytes */
	CU_ASSERT(bw_max(a) > RATE * 0.94 && bw_max(a) < RATE * 1.02);
	stop();
}

static double share_with_loss(const char *congestion, unsigned loss)
{
	double got = 0;

	for (uint64_t seed = 1; seed <= 4; seed++) {
		start(seed, BDP, loss);
		got += share(flow(congestion), 30);
		stop();
	}
	return got / 4;
}

static void test_loss(void)
{
	double none = share_with_loss("bbr", 0);

	CU_ASSERT(share_with_loss("bbr", 10) > 0.8 * none);
	CU_ASSERT(share_with_loss("newreno", 10) < 0.45 * none);
	/* More than the 2 % that it takes for a full path. */
	CU_ASSERT(share_with_loss("bbr", 30) > 0.6 * none);
	CU_ASSERT(share_with_loss("newreno", 30) < 0.25 * none);
}

/* A queue of a second. What stands in it is what probing left there. */
static void test_queue(void)
{
	uint64_t sum = 0;
	struct sim_app *a;
	unsigned n;

	start(1, 1250000, 0);
	a = flow("bbr");
	sim_run(&sim, 3 * SECOND);
	for (n = 0; n < 1000; n++) {
		sim_run(&sim, 20 * MS);
		CU_ASSERT(a->conn->srtt_us < 100000);
		CU_ASSERT(a->conn->cwnd < 3 * BDP);
		sum += a->conn->srtt_us;
	}
	CU_ASSERT(sum / n < 60000);
	CU_ASSERT_EQUAL(a->conn->resent, 0);
	stop();
}

/* The states follow each other as they should, and after ProbeRTT comes the next. */
static void test_states(void)
{
	uint64_t began;
	struct sim_app *a;

	start(1, BDP, 0);
	a = flow("bbr");
	sim_run(&sim, 100 * MS);
	CU_ASSERT_EQUAL(bbr_of(a)->state, BBR_STARTUP);
	CU_ASSERT(until(a, BBR_DRAIN, SECOND));
	CU_ASSERT(bw_max(a) > RATE * 0.94);
	CU_ASSERT(until(a, BBR_CRUISE, SECOND));
	CU_ASSERT(a->conn->flying <= BDP);
	CU_ASSERT(until(a, BBR_REFILL, 4 * SECOND));
	CU_ASSERT(until(a, BBR_UP, RTT * 2));
	CU_ASSERT(until(a, BBR_DOWN, SECOND));
	CU_ASSERT(until(a, BBR_PROBE_RTT, 6 * SECOND));
	began = sim.now;
	CU_ASSERT(until(a, BBR_CRUISE, SECOND));
	CU_ASSERT(sim.now - began >= 200 * MS && sim.now - began < 400 * MS);
	CU_ASSERT(until(a, BBR_PROBE_RTT, 6 * SECOND));
	CU_ASSERT(sim.now - began > 4 * SECOND);
	sim_run(&sim, 100 * MS);
	CU_ASSERT(a->conn->flying <= BDP * 6 / 10);
	stop();
}

/* A path that holds much and queues little: what is lost ends Startup, before the rate does not
 * grow any more, and says how much may be under way. */
static void test_startup_loses(void)
{
	struct sim_app *a;

	start(1, BDP, 0);
	sim.end[0].link.rate = 10 * RATE;
	a = flow("bbr");
	sim_run(&sim, 100 * MS);
	CU_ASSERT(until(a, BBR_CRUISE, SECOND));
	CU_ASSERT(bbr_of(a)->full_count < 3);
	CU_ASSERT(bbr_of(a)->inflight_long < 20 * BDP);
	CU_ASSERT(share(a, 10) > 8);
	stop();
}

/* A longer path is known as such after ten seconds, when ProbeRTT has seen it, too. */
static void test_longer(void)
{
	struct sim_app *a;

	start(1, BDP, 0);
	a = flow("bbr");
	sim_run(&sim, 8 * SECOND);
	CU_ASSERT(bbr_of(a)->min_rtt < RTT + 3 * MS);
	sim.end[0].link.delay += 40 * MS;
	sim_run(&sim, 16 * SECOND);
	CU_ASSERT(bbr_of(a)->min_rtt > RTT + 40 * MS && bbr_of(a)->min_rtt < RTT + 45 * MS);
	CU_ASSERT(share(a, 10) > 0.85);
	stop();
}

/* A path that becomes ten times as fast, and then a tenth of that again. */
static void test_changes(void)
{
	struct sim_app *a;

	start(1, BDP, 0);
	a = flow("bbr");
	sim_run(&sim, 5 * SECOND);
	sim.end[0].link.rate = 10 * RATE;
	sim.end[0].link.queue = 10 * BDP;
	sim_run(&sim, 25 * SECOND);
	CU_ASSERT(share(a, 5) > 0.85 * 10);
	sim.end[0].link.rate = RATE;
	sim_run(&sim, 10 * SECOND);
	CU_ASSERT(share(a, 10) > 0.85);
	CU_ASSERT(a->conn->srtt_us < 4 * 40000);
	stop();
}

/* The link is dead for four seconds. */
static void test_dead(void)
{
	struct sim_app *a;

	start(1, BDP, 0);
	a = flow("bbr");
	sim_run(&sim, 5 * SECOND);
	sim.end[0].link.down = true;
	sim_run(&sim, 4 * SECOND);
	CU_ASSERT_EQUAL(a->conn->congestion, CONGESTION_LOSS);
	sim.end[0].link.down = false;
	sim_run(&sim, 10 * SECOND);
	CU_ASSERT_EQUAL(a->conn->congestion, CONGESTION_OPEN);
	CU_ASSERT(share(a, 10) > 0.85);
	stop();
}

/* 20 kB at a time, then nothing for a while: samples of that are lower than what is known. */
static void test_limited(void)
{
	struct sim_app *a;
	uint64_t before;

	start(1, BDP, 0);
	a = quiet_flow();
	a->total = 4 * RATE;
	sim_run(&sim, 6 * SECOND);
	CU_ASSERT_EQUAL(received(a), a->total);
	before = bw_max(a);
	CU_ASSERT(before > RATE * 0.94);
	for (unsigned i = 0; i < 200; i++) {
		a->total += 20000;
		sim_run(&sim, 150 * MS);
		CU_ASSERT_EQUAL(received(a), a->total); /* no slower than the path */
	}
	CU_ASSERT_EQUAL(bw_max(a), before);
	CU_ASSERT(bbr_of(a)->state != BBR_PROBE_RTT); /* it is quiet often enough */
	stop();
}

/* After a pause it goes on as fast as the path, not with all of a window at once. */
static void test_pause(void)
{
	struct sim_app *a;

	start(1, BDP, 0);
	a = quiet_flow();
	a->total = 4 * RATE;
	sim_run(&sim, 26 * SECOND);
	CU_ASSERT_EQUAL(received(a), a->total);
	CU_ASSERT(a->conn->cwnd > BDP);
	a->total += RATE;
	sim_run(&sim, 40 * MS); /* the application looks every 20 ms */
	CU_ASSERT(a->conn->flying > RATE / 1000 * 18 && a->conn->flying < RATE / 1000 * 44);
	CU_ASSERT(bbr_of(a)->state != BBR_PROBE_RTT);
	sim_run(&sim, 960 * MS);
	CU_ASSERT(received(a) > a->total - RATE / 5);
	stop();
}

/* An application that sends little learns of the rate what it can, and stays in Startup. */
static void test_startup_limited(void)
{
	struct sim_app *a;

	start(1, BDP, 0);
	a = quiet_flow();
	for (unsigned i = 0; i < 100; i++) {
		a->total += 5000;
		sim_run(&sim, 100 * MS);
	}
	CU_ASSERT_EQUAL(bbr_of(a)->state, BBR_STARTUP);
	a->total += 4 * RATE;
	sim_run(&sim, 2 * SECOND);
	CU_ASSERT(bw_max(a) > RATE * 0.94);
	stop();
}

/* The second comes when the first has all of it. */
static void test_two(void)
{
	static const uint32_t queues[] = {BDP / 2, BDP, 20 * BDP};
	struct sim_app *a, *b;
	uint64_t from[2];
	double ratio;

	for (unsigned i = 0; i < ARRAY_SIZE(queues); i++) {
		start(i + 1, queues[i], 0);
		a = flow("bbr");
		sim_run(&sim, 5 * SECOND);
		b = flow("bbr");
		sim_run(&sim, 20 * SECOND);
		from[0] = received(a);
		from[1] = received(b);
		sim_run(&sim, 60 * SECOND);
		ratio = (double)(received(a) - from[0]) / (double)(received(b) - from[1]);
		CU_ASSERT(ratio > 0.5 && ratio < 2);
		CU_ASSERT(a->conn->srtt_us < 3 * 40000);
		stop();
	}
}

static void test_beside_cubic(void)
{
	static const uint32_t queues[] = {BDP / 2, BDP, 2 * BDP, 8 * BDP};
	struct sim_app *a, *b;
	uint64_t from;
	double got;

	for (unsigned i = 0; i < ARRAY_SIZE(queues); i++) {
		start(i + 1, queues[i], 0);
		a = flow("bbr");
		b = flow("cubic");
		sim_run(&sim, 10 * SECOND);
		from = received(b);
		got = share(a, 60);
		CU_ASSERT(got > 0.25);
		CU_ASSERT((double)(received(b) - from) / RATE / 60 > 0.25);
		stop();
	}
}

/* Segments that are overtaken by many are sent again in vain, and that is noticed. */
static void test_reordered(void)
{
	struct sim_app *a;

	start(1, BDP, 0);
	sim.end[0].link.reorder = 20;
	a = flow("bbr");
	sim_run(&sim, 2 * SECOND);
	CU_ASSERT(share(a, 20) > 0.85);
	stop();
}

static uint32_t at(unsigned segment)
{
	return 1 + segment * MSS;
}

static struct bbr *meet(const struct given *syn)
{
	peer_start();
	peer.congestion = "bbr";
	peer_join(syn);
	return peer.conn->cc_state.bbr;
}

/* Probing seems to have been too much; then both segments turn out to have come twice. */
static void test_undo(void)
{
	struct bbr *b;

	b = meet(&peer_usual);
	peer_send(10 * MSS);
	peer_pass(10 * MS);
	b->state = BBR_UP;
	b->full_ever = b->probe_sample = true;
	b->inflight_long = 20 * MSS;
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{at(2), at(8)}});
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_RECOVER);
	CU_ASSERT(b->too_high && b->state != BBR_UP);
	b->inflight_long = 5 * MSS; /* which an application that gives more would have caused */
	peer_pass(1 * MS);
	peer_ack(at(8));
	for (unsigned i = 0; i < 2; i++)
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = at(8), .sacks = 1,
		     .sack = {{at(i), at(i + 1)}});
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_OPEN);
	CU_ASSERT(b->state == BBR_REFILL || b->state == BBR_UP);
	CU_ASSERT_EQUAL(b->inflight_long, 20 * MSS);
	CU_ASSERT_FALSE(b->recovering);
	peer_stop();
}

/* No SACK: one hole is all that is known in a round trip. A mark; a tail; a timeout. */
static void test_signs(void)
{
	const struct given plain = {.mss = MSS},
			   ecn = {.flags = TCP_ECE | TCP_CWR, .mss = MSS, .sack_ok = true};
	struct bbr *b;

	b = meet(&plain);
	peer_send(10 * MSS);
	peer_pass(10 * MS);
	peer_ack(at(1));
	for (unsigned i = 0; i < 3; i++)
		peer_ack(at(1));
	peer_ack(at(3));
	CU_ASSERT(b->full_ever && b->state != BBR_STARTUP);
	peer_stop();

	b = meet(&ecn);
	peer_send(10 * MSS);
	peer_pass(10 * MS);
	GIVE(.flags = TCP_ACK | TCP_ECE, .seq = 1, .ack = at(4));
	CU_ASSERT(b->full_ever && b->state != BBR_STARTUP);
	CU_ASSERT(b->inflight_long < 14 * MSS);
	peer_stop();

	b = meet(&ecn); /* one segment that its probe repaired: that is not too much */
	peer_send(MSS);
	peer_pass(300 * MS);
	CU_ASSERT(peer.conn->tlp_again);
	peer_ack(at(1));
	peer_send(MSS);
	peer_ack(at(2));
	CU_ASSERT_FALSE(peer.conn->tlp_out);
	CU_ASSERT(!b->full_ever && b->state == BBR_STARTUP);
	CU_ASSERT(peer.conn->cwnd >= 10 * MSS);
	peer_stop();

	meet(&peer_usual);
	peer_send(10 * MSS);
	peer_pass(400 * MS);
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_LOSS);
	CU_ASSERT_EQUAL(peer.conn->cwnd, MSS);
	peer_ack(at(1));
	CU_ASSERT_EQUAL(peer.conn->cwnd, 4 * MSS);
	peer_ack(at(10));
	CU_ASSERT_EQUAL(peer.conn->congestion, CONGESTION_OPEN);
	CU_ASSERT(peer.conn->cwnd >= 10 * MSS);
	peer_stop();
}

/* Marks in place of losses: it gives way to them as it would to losses. */
static void test_marks(void)
{
	struct sim_app *a;

	start(1, 20 * BDP, 0);
	sim.end[0].e->tune.ecn = true;
	sim.end[0].link.mark = BDP / 2;
	a = flow("bbr");
	sim_run(&sim, 3 * SECOND);
	CU_ASSERT(sim.marks > 0);
	CU_ASSERT(bbr_of(a)->full_ever);
	CU_ASSERT(bbr_of(a)->inflight_long < 2 * BDP);
	CU_ASSERT(share(a, 10) > 0.8);
	CU_ASSERT_EQUAL(a->conn->resent, 0);
	stop();
}

/* Round trips far below what a burst takes: a rate that was once low does not stay so. */
static void test_short(void)
{
	struct sim_app *a;

	start(1, 1u << 20, 0);
	for (unsigned i = 0; i < 2; i++) {
		sim.end[i].link.delay = 25000;
		sim.end[i].link.rate = 0;
	}
	sim.end[0].link.rate = 125000000;
	a = flow("bbr");
	sim_run(&sim, SECOND / 2);
	CU_ASSERT(bw_max(a) > 125000000 * 0.8);
	for (unsigned i = 0; i < 100; i++) { /* whoever acts is late */
		sim.end[1].link.delay = (i & 1 ? 250 : 25) * 1000;
		sim_run(&sim, 5 * MS);
	}
	CU_ASSERT(share(a, 1) > 0.85 * 100);
	stop();
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a slow link with a short queue is full", test_full},
		{"random losses", test_loss},
		{"a long queue stays short", test_queue},
		{"the states", test_states},
		{"Startup loses", test_startup_loses},
		{"a path that becomes longer", test_longer},
		{"a path that becomes faster, and slower", test_changes},
		{"a link that was dead", test_dead},
		{"limited by the application", test_limited},
		{"a pause", test_pause},
		{"limited from the beginning", test_startup_limited},
		{"two of them share", test_two},
		{"beside CUBIC", test_beside_cubic},
		{"reordering", test_reordered},
		{"undo", test_undo},
		{"hints", test_signs},
		{"marks", test_marks},
		{"short round trips", test_short},
		CU_TEST_INFO_NULL,
	};

	return unit_run("bbr", tests);
}
