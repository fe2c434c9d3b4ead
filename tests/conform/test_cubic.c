// SPDX-License-Identifier: Apache-2.0
/* CUBIC's window in avoidance, beside the formulas of RFC 9438, section 4. Windows in segments, C
 * is 0.4, the factor of a loss 0.7. */
#include <CUnit/CUnit.h>
#include <math.h>

#include "lib/base/util.h"
#include "tests/conform/peer.h"

static struct engine_conn *c;

static double window(void)
{
	return (double)c->cwnd / c->mss;
}

/* A loss at a window of so many segments. */
static void lose_at(double segments)
{
	c->cwnd = (uint32_t)(segments * c->mss);
	c->cwnd = c->ssthresh = cc_cubic.shrink(c, CONGESTION_RECOVER);
}

static void begin(double segments, uint64_t rtt)
{
	peer_meet(&peer_usual);
	c = peer.conn;
	c->srtt_us = (uint32_t)(rtt / 1000);
	lose_at(segments);
}

/* A window's worth of ACKs in a round trip, one for each segment. */
static void round_trip(uint64_t rtt)
{
	unsigned n = (unsigned)window();

	for (unsigned i = 0; i < n; i++) {
		c->e->now += rtt / n;
		cc_cubic.grow(c, c->mss, 0);
	}
}

static double cubic(double t, double w_max, double from)
{
	double k = cbrt((w_max - from) / 0.4);

	return w_max + 0.4 * pow(t - k, 3);
}

/* 4.4 and 4.5: slower towards what it had when it lost, and then faster away from it. */
static void test_long(void)
{
	const uint64_t rtt = 100 * MS;
	uint64_t from;
	double t = 0;

	begin(1000, rtt);
	CU_ASSERT_DOUBLE_EQUAL(window(), 700, 0.01);
	from = c->e->now;
	while (t < 14) { /* K is 9.1 s */
		round_trip(rtt);
		t = (double)(c->e->now - from) / 1e9;
		/* of the last round trip it may be the beginning or the end */
		CU_ASSERT(window() >= cubic(t, 1000, 700) - 1.5);
		CU_ASSERT(window() <= cubic(t + 0.1, 1000, 700) + 1.5);
	}
	CU_ASSERT(window() > 1040);
	peer_stop();
}

/* 4.7, fast convergence: who loses before it was back where it lost last aims lower. */
static void test_convergence(void)
{
	const uint64_t rtt = 100 * MS;
	uint64_t from;
	double t = 0;

	begin(1000, rtt);
	lose_at(800);
	CU_ASSERT_DOUBLE_EQUAL(window(), 560, 0.01);
	from = c->e->now;
	while (t < 4) {
		round_trip(rtt);
		t = (double)(c->e->now - from) / 1e9;
		CU_ASSERT(window() >= cubic(t, 680, 560) - 1.5);
		CU_ASSERT(window() <= cubic(t + 0.1, 680, 560) + 1.5);
	}
	peer_stop();
}

/* 4.3: on a short path it is no slower than Reno: 9/17 of a segment a round trip until it has what
 * it had when it lost, then one. */
static void test_short(void)
{
	const uint64_t rtt = 5 * MS;
	double reno;

	begin(50, rtt);
	lose_at(40); /* what counts is 40, not what is aimed at */
	reno = window();
	for (unsigned i = 0; i < 40; i++) {
		double n = floor(window()), before = window();

		round_trip(rtt);
		reno += (reno < 40 ? 9.0 / 17 : 1) * n / before;
		CU_ASSERT_DOUBLE_EQUAL(window(), reno, 0.6);
	}
	CU_ASSERT(reno > 55 && window() > 55);
	peer_stop();
}

/* 4.9: a loss that was none; it goes on towards the same window. */
static void test_undo(void)
{
	const uint64_t rtt = 100 * MS;
	uint64_t from;

	begin(1000, rtt);
	c->cwnd = 900 * c->mss;
	(void)cc_cubic.shrink(c, CONGESTION_RECOVER);
	cc_cubic.undo(c);
	from = c->e->now;
	for (unsigned i = 0; i < 40; i++)
		round_trip(rtt);
	CU_ASSERT_DOUBLE_EQUAL(window(), cubic((double)(c->e->now - from) / 1e9, 1000, 900), 2);
	peer_stop();
	/* and, as Reno, slowly until it has what it had when one was lost */
	begin(50, 5 * MS);
	c->cwnd = 40 * c->mss;
	(void)cc_cubic.shrink(c, CONGESTION_RECOVER);
	cc_cubic.undo(c);
	for (unsigned i = 0; i < 10; i++)
		round_trip(5 * MS);
	CU_ASSERT_DOUBLE_EQUAL(window(), 40 + 10 * 9.0 / 17, 0.6);
	peer_stop();
}

/* 4.8: after a timeout there is nothing to go back to. */
static void test_timeout(void)
{
	const uint64_t rtt = 100 * MS;

	begin(1000, rtt);
	c->cwnd = 1000 * c->mss;
	c->cwnd = c->ssthresh = cc_cubic.shrink(c, CONGESTION_LOSS);
	for (unsigned i = 0; i < 50; i++)
		round_trip(rtt);
	CU_ASSERT_DOUBLE_EQUAL(window(), cubic(5, 700, 700), 4);
	peer_stop();
}

/* 4.4: a target that is far away is not jumped to: half as much again in a round trip. */
static void test_far(void)
{
	begin(10, 10 * SECOND);
	round_trip(10 * SECOND);
	CU_ASSERT(window() > 9 && window() < 1.6 * 7);
	peer_stop();
}

/* 4.2: a time in which the application had nothing to send does not count. */
static void test_pause(void)
{
	const uint64_t rtt = 100 * MS;

	begin(100, rtt);
	for (unsigned i = 0; i < 20; i++) {
		round_trip(rtt);
		c->e->now += 10 * SECOND;
	}
	CU_ASSERT_DOUBLE_EQUAL(window(), cubic(2, 100, 70), 2);
	peer_stop();
}

/* Segments of another size: the window does not jump. */
static void test_mss(void)
{
	uint32_t before;

	begin(50, 5 * MS);
	for (unsigned i = 0; i < 20; i++)
		round_trip(5 * MS);
	before = c->cwnd;
	c->mss *= 4;
	cc_cubic.grow(c, c->mss, 0);
	CU_ASSERT(c->cwnd >= before && c->cwnd < before + c->mss);
	peer_stop();
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a long path", test_long},
		{"fast convergence", test_convergence},
		{"a short path, as Reno", test_short},
		{"a loss that was none", test_undo},
		{"a timeout", test_timeout},
		{"a target far away", test_far},
		{"pauses", test_pause},
		{"segments of another size", test_mss},
		CU_TEST_INFO_NULL,
	};

	return peer_run("cubic", tests);
}
