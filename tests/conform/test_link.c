// SPDX-License-Identifier: Apache-2.0
/*
 * Transfers over links that misbehave. Whatever the link does, as long as something gets through,
 * all bytes arrive, in order, and both ends close; and no memory is left.
 */
#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <stdio.h>

#include "lib/base/util.h"
#include "tests/conform/sim.h"
#include "userstack/engine/isn.h"

#define SEEDS 2000

static struct sim sim;

static void check_app(const struct sim_app *a, uint64_t sent, uint64_t received)
{
	CU_ASSERT_FALSE(a->bad || a->failed);
	CU_ASSERT(a->closed);
	CU_ASSERT_EQUAL(a->sent, sent);
	CU_ASSERT_EQUAL(a->received, received);
}

static void check_empty(const struct sim *s)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct engine *e = s->end[i].e;

		CU_ASSERT_EQUAL(e->chunks.used, 0);
		CU_ASSERT_EQUAL(e->sents.used + e->rated.used + e->bbrs.used, 0);
		CU_ASSERT_EQUAL(e->gaps.used, 0);
		CU_ASSERT_EQUAL(e->conns.used, 0);
		CU_ASSERT_EQUAL(e->table.used, 0);
	}
}

static void transfer_start(uint64_t seed, const struct sim_link *link)
{
	static const char *const congestion[] = {NULL, "newreno", "bbr", "dctcp"};

	sim_start(&sim, seed, link);
	sim.congestion = congestion[seed / 8 % ARRAY_SIZE(congestion)];
}

/* Both directions; returns the virtual seconds it took. */
static double transfer_started(uint64_t seed, uint64_t up, uint64_t down, uint64_t limit)
{
	struct sim_app *a;
	uint64_t began;
	unsigned failures = CU_get_number_of_failures();

	sim.server_total = down;
	began = sim.now;
	a = sim_connect(&sim, up, seed & 1);
	CU_ASSERT(sim_run(&sim, limit));
	CU_ASSERT_EQUAL_FATAL(sim.end[1].apps, 1);
	check_app(a, up, down);
	check_app(&sim.end[1].app[0], down, up);
	began = MAX(a->done_at, sim.end[1].app[0].done_at) - began;
	sim_rest(&sim, 300 * SECOND); /* TIME-WAIT */
	check_empty(&sim);
	sim_stop(&sim);
	if (CU_get_number_of_failures() != failures)
		printf("seed %llu failed\n", (unsigned long long)seed);
	return (double)began / 1e9;
}

/* With the one or the other congestion control. */
static double transfer(uint64_t seed, const struct sim_link *link, uint64_t up, uint64_t down,
		       uint64_t limit)
{
	transfer_start(seed, link);
	return transfer_started(seed, up, down, limit);
}

static void test_clean(void)
{
	struct sim_link link = {.delay = 5 * MS};
	double s = transfer(1, &link, 10000000, 10000000, 100 * SECOND);

	CU_ASSERT(s < 2);
}

/* Where the port cuts, most of the bytes go in packets that are to be cut. */
static void test_super(void)
{
	struct sim_link link = {.delay = 5 * MS};

	for (uint64_t seed = 0; seed < 8; seed++) {
		transfer(seed, &link, 10000000, 100000, 100 * SECOND);
		if (sim.super)
			CU_ASSERT(sim.end[0].supers > 10000000 / sim.super / 2);
		CU_ASSERT_EQUAL(!sim.end[0].supers, !sim.super);
	}
}

/* Also after something was lost. */
static void test_super_again(void)
{
	struct sim_link link = {.delay = 5 * MS, .rate = 12500000, .queue = 1000000};
	uint64_t before;

	sim_start(&sim, 2, &link);
	CU_ASSERT_FATAL(sim.super > 0);
	sim_connect(&sim, 40000000, false);
	sim_run(&sim, 500 * MS);
	sim.end[0].link.loss = 100;
	sim_run(&sim, 100 * MS);
	sim.end[0].link.loss = 0;
	sim_run(&sim, 500 * MS);
	CU_ASSERT(sim.drops > 0);
	before = sim.end[0].supers;
	CU_ASSERT(sim_run(&sim, 100 * SECOND));
	CU_ASSERT(sim.end[0].supers > before);
	sim_rest(&sim, 300 * SECOND);
	sim_stop(&sim);
}

/* Where the port makes checksums, all are left to it. */
static void test_partial(void)
{
	struct sim_link link = {.delay = 5 * MS};
	uint64_t uncut = 0;

	for (uint64_t seed = 0; seed < 16; seed++) {
		transfer(seed, &link, 1000000, 100000, 100 * SECOND);
		CU_ASSERT_EQUAL(!sim.end[0].partials, !sim.partial);
		if (!sim.partial || sim.super)
			continue;
		CU_ASSERT_EQUAL(sim.end[0].partials, sim.end[0].packets);
		uncut++;
	}
	CU_ASSERT(uncut);
}

/* The rate of the link is used, nearly all of it, also with a queue that is short. */
static void test_rate(void)
{
	struct sim_link link = {.delay = 10 * MS, .rate = 1250000, .queue = 50000};
	double s = transfer(2, &link, 5000000, 0, 100 * SECOND);

	CU_ASSERT(s < 5000000 / 1250000.0 * 1.25);
}

static void test_seeds(void)
{
	struct rng r = {77};

	for (unsigned seed = 1; seed <= SEEDS; seed++) {
		struct sim_link link = {
			.delay = rng_below(&r, 40) * MS + rng_below(&r, 1000) * 1000,
			.jitter = rng_below(&r, 3) ? 0 : rng_below(&r, 5000000),
			.rate = rng_below(&r, 2) ? 0 : 100000 + rng_below(&r, 10000000),
			.queue = 15000 + rng_below(&r, 300000),
			.loss = rng_below(&r, 3) ? 0 : rng_below(&r, 100),
			.burst = rng_below(&r, 4) ? 0 : rng_below(&r, 10),
			.reorder = rng_below(&r, 3) ? 0 : rng_below(&r, 200),
			.duplicate = rng_below(&r, 4) ? 0 : rng_below(&r, 100),
			.corrupt = rng_below(&r, 4) ? 0 : rng_below(&r, 30),
			.mtu = rng_below(&r, 4) ? 0 : 1280 + rng_below(&r, 220),
			.tell_mtu = rng_below(&r, 2),
		};

		transfer(seed, &link, rng_below(&r, 300000), rng_below(&r, 300000), 4000 * SECOND);
	}
}

#define WRAP_BYTES 4000000u
#define WRAP_MS 500u

/* May the first number of a connection be this? It becomes `to` when a good part went. */
static bool wrap_soon(uint32_t from, uint32_t to)
{
	return to - from < WRAP_BYTES && to - from > WRAP_BYTES / 8;
}

/* When the clock that an end tells is soon `to`. */
static uint64_t wrap_time(unsigned end, const struct conn_key *key, uint32_t to)
{
	uint32_t start = to - WRAP_MS - engine_ts_offset(sim.end[end].e, key);

	return sim.now + (uint64_t)(uint32_t)(start - (uint32_t)(sim.now / MS)) * MS;
}

/* A secret by which this end begins near `to`, at any time or when its clock is near clock_to. */
static void wrap_end(unsigned end, bool v6, uint32_t to, const uint32_t *clock_to)
{
	struct conn_key key = sim_key(end, v6);
	uint8_t *secret = sim.end[end].e->c.secret;
	uint64_t now = sim.now;

	do {
		for (unsigned i = 0; i < 16; i++)
			secret[i] = (uint8_t)rng_below(&sim.rng, 256);
		if (clock_to)
			now = wrap_time(end, &key, *clock_to);
	} while (!wrap_soon(isn_make(secret, &key.local, &key.remote, now), to));
	sim.now = now;
}

/* The numbers of both ends pass the middle or the end of their space on the way, and so does the
 * clock that one of them tells. */
static void wrap(unsigned seed, const struct sim_link *link)
{
	uint32_t to = seed & 2 ? 1u << 31 : 0, clock_to = seed & 4 ? 1u << 31 : 0;
	unsigned clock = seed >> 3 & 1;

	transfer_start(seed, link);
	wrap_end(clock, seed & 1, to, &clock_to);
	wrap_end(!clock, seed & 1, to, NULL);
	CU_ASSERT(transfer_started(seed, WRAP_BYTES, WRAP_BYTES, 4000 * SECOND) > WRAP_MS / 1000.0);
}

static void test_wrap(void)
{
	struct sim_link link = {.delay = 10 * MS, .rate = 6250000, .queue = 100000};

	for (unsigned seed = 0; seed < 32; seed++) {
		link.loss = seed & 16 ? 20 : 0;
		link.reorder = seed & 16 ? 30 : 0;
		wrap(seed, &link);
	}
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a clean link", test_clean},
		{"segments are cut by the port", test_super},
		{"segments are cut after a loss", test_super_again},
		{"checksums are made by the port", test_partial},
		{"a slow link is full", test_rate},
		{"random links", test_seeds},
		{"numbers and clocks wrap", test_wrap},
		CU_TEST_INFO_NULL,
	};

	return unit_run("link", tests);
}
