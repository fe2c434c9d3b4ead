// SPDX-License-Identifier: Apache-2.0
/*
 * nRD in worlds that change, against one who knows the truth and against naive choosers. Each row
 * states what is asserted of every seed: how soon the best stack is in use, how often the stack in
 * use may change, and what connections may cost above the least.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "tests/nrd/sim.h"
#include "tests/unit/unit.h"

#define SEEDS 8
#define FIRST 7919 /* the seed that naive choosers run with, too */
#define SETTINGS(what, ...) \
	{ \
		.objective = what, .canary = NRD_CANARY, .min_gain = NRD_MIN_GAIN, \
		.dwell_ms = NRD_DWELL_MS, .cooldown_ms = NRD_COOLDOWN_MS, __VA_ARGS__ \
	}
#define SCENARIO(world_, seconds_, ...) \
	.sc = {.name = #world_, .world = world_, .seconds = seconds_, __VA_ARGS__}
#define LATENCY(...) SCENARIO(__VA_ARGS__, .set = SETTINGS(NRD_LATENCY))
#define THROUGHPUT(...) SCENARIO(__VA_ARGS__, .set = SETTINGS(NRD_THROUGHPUT))
#define RELIABILITY(...) SCENARIO(__VA_ARGS__, .set = SETTINGS(NRD_RELIABILITY))
#define COST(us, ...) \
	SCENARIO(__VA_ARGS__, .set = SETTINGS(NRD_COST, .sla_permille = 990, .sla_us = us))
#define HOSTS .hosts = 5, .rate = 40

struct expect {
	struct sim_scenario sc;
	unsigned right_by;   /* the second from which the best stack is in use; 0: not asserted */
	unsigned switches;   /* at most */
	double regret, late; /* at most; late: of the last quarter of the time */
	const struct chooser *beats[5]; /* whose regret is at least twice as high; up to NULL */
};

static void all_same(struct sim *s, unsigned path)
{
	(void)path;
	for (unsigned i = 0; i < s->sc->stacks; i++)
		s->stack[i] = (struct sim_stack){.us = 200, .spread = 0.4, .kbs = 1e5};
}

/* ---- worlds ---- */

static void second_better(struct sim *s, unsigned path)
{
	all_same(s, path);
	s->stack[1].us = 130;
}

static void second_worse(struct sim *s, unsigned path)
{
	all_same(s, path);
	s->stack[1].us = 250;
}

static void last_of_five_better(struct sim *s, unsigned path)
{
	all_same(s, path);
	for (unsigned i = 1; i < 4; i++)
		s->stack[i].us = 200 + 100 * i;
	s->stack[4].us = 120;
}

static void becomes_slow(struct sim *s, unsigned path)
{
	all_same(s, path);
	s->stack[0].us = s->second < 300 ? 200 : 600;
	s->stack[1].us = 250;
}

static void all_become_slow(struct sim *s, unsigned path)
{
	all_same(s, path);
	for (unsigned i = 0; i < s->sc->stacks && s->second >= 300; i++)
		s->stack[i].us = 600;
}

static void lossy(struct sim *s, unsigned path)
{
	all_same(s, path);
	s->stack[0].fail = 0.04;
	s->stack[0].resend = 0.05;
}

static void dies(struct sim *s, unsigned path)
{
	all_same(s, path);
	s->stack[0].fail = s->second < 300 ? 0 : 1;
	s->stack[1].us = 250;
}

static void far_side_dies(struct sim *s, unsigned path)
{
	all_same(s, path);
	for (unsigned i = 0; i < s->sc->stacks; i++)
		s->stack[i].fail = s->second < 300 || s->second >= 900 ? 0 : 1;
}

/* A part of the far side is gone, whatever stack one takes. */
static void far_side_limps(struct sim *s, unsigned path)
{
	all_same(s, path);
	for (unsigned i = 0; i < s->sc->stacks; i++)
		s->stack[i].fail = s->second < 300 ? 0 : 0.35;
}

static void challenger_dead(struct sim *s, unsigned path)
{
	all_same(s, path);
	s->stack[1].us = 50;
	s->stack[1].fail = 1;
}

static void oscillates(struct sim *s, unsigned path)
{
	all_same(s, path);
	s->stack[s->second / 60 % 2].us = 500;
}

/* Best as long as it carries little. */
static void bends_under_load(struct sim *s, unsigned path)
{
	all_same(s, path);
	s->stack[1].us = s->load[1] > 0.5 ? 800 : 100;
}

static void second_faster(struct sim *s, unsigned path)
{
	all_same(s, path);
	s->stack[1].kbs = 2e5;
}

/* p99 of the first, the cheapest: 507 us, later 2535 us, then again as before. */
static void cheap_breaks_sla(struct sim *s, unsigned path)
{
	all_same(s, path);
	s->stack[0].us = s->second < 400 || s->second >= 1200 ? 200 : 1000;
	s->stack[1].us = 100;
}

/* Every second prefix has the other best stack. */
static void prefixes_differ(struct sim *s, unsigned path)
{
	all_same(s, path);
	s->stack[1].us = path % 2 ? 500 : 80;
}

/* ---- what is told ---- */

static void absurd_values(struct sim *s, struct report *r)
{
	if (r->source == 0 && s->second % 3 == 0)
		for (unsigned i = 0; i < r->connections; i++)
			hist_add(&r->hist[REPORT_SRTT], UINT64_MAX - i);
	if (r->source == 0 && s->second % 3 == 1)
		r->connections = UINT_MAX;
	if (r->source == 0 && s->second % 3 == 2)
		r->failed[DMM_FAIL_OTHER] = UINT_MAX;
}

/* One host: the better stack is terrible, the worse one marvellous, a billion times. */
static void one_host_lies(struct sim *s, struct report *r)
{
	(void)s;
	if (r->source)
		return;
	memset(r->hist, 0, sizeof(r->hist));
	memset(r->failed, 0, sizeof(r->failed));
	r->connections = 1000000000;
	r->hist[REPORT_CONNECT].count[hist_bucket(r->stack ? 50000000 : 1)] = 1000000000;
}

/* One host: the stack in use fails, and so does the other. */
static void one_host_cries(struct sim *s, struct report *r)
{
	(void)s;
	if (r->source)
		return;
	r->connections = 1000000;
	r->failed[DMM_FAIL_TIMEOUT] = 1000000;
	memset(r->hist, 0, sizeof(r->hist));
}

static dmm_u64 clock_jumps(const struct sim *s)
{
	dmm_u64 at = 5000000000000ULL + s->second * 1000000000ULL;

	if (s->second >= 100 && s->second < 200)
		return at + 86400000000000ULL; /* a day ahead */
	if (s->second >= 250)
		return at - 4000000000000ULL; /* an hour back */
	return at;
}

static dmm_u64 clock_stands(const struct sim *s)
{
	return 5000000000000ULL + MIN(s->second, 100) * 1000000000ULL;
}

static unsigned carrier_lost(const struct sim *s)
{
	return s->second >= 300 && s->second < 600;
}

static unsigned carrier_of_other_lost(const struct sim *s)
{
	return s->second >= 300 && s->second < 600 ? 2 : 0;
}

/* For ten minutes it goes every other 5 s. */
static unsigned carrier_flaps(const struct sim *s)
{
	return s->second >= 300 && s->second < 900 && s->second / 5 % 2;
}

static unsigned all_carriers_lost(const struct sim *s)
{
	return s->second >= 300 && s->second < 600 ? 3 : 0;
}

/* ---- rows ---- */

static const struct expect expects[] = {
	/* Nothing to gain: stay. */
	{LATENCY(all_same, 1800), .right_by = 1, .regret = 0.001, .late = 0.001},
	{RELIABILITY(all_same, 1800), .right_by = 1, .regret = 0.001, .late = 0.001},
	{THROUGHPUT(all_same, 1800), .right_by = 1, .regret = 0.001, .late = 0.001},
	/* Something to gain: take it, and soon. */
	{LATENCY(second_better, 1800), .right_by = 90, .switches = 1, .regret = 0.03, .late = 0.005,
	 .beats = {&chooser_first, &chooser_robin}},
	{LATENCY(second_better, 1800, .rate = 4), .right_by = 900, .switches = 1, .regret = 0.25,
	 .late = 0.02, .beats = {&chooser_first}},
	{LATENCY(last_of_five_better, 1800, .stacks = 5), .right_by = 300, .switches = 2,
	 .regret = 0.1, .late = 0.01, .beats = {&chooser_first, &chooser_robin}},
	{THROUGHPUT(second_faster, 1800), .right_by = 90, .switches = 1, .regret = 0.05,
	 .late = 0.005, .beats = {&chooser_first, &chooser_robin}},
	{RELIABILITY(lossy, 1800), .right_by = 120, .switches = 1, .regret = 1, .late = 0.05,
	 .beats = {&chooser_first, &chooser_robin}},
	/* What changes. */
	{LATENCY(becomes_slow, 1800), .right_by = 345, .switches = 1, .regret = 0.05, .late = 0.03,
	 .beats = {&chooser_first, &chooser_robin, &chooser_greedy}},
	{LATENCY(all_become_slow, 1800), .right_by = 1, .regret = 0.001, .late = 0.001},
	{LATENCY(oscillates, 7200), .switches = 16, .regret = 0.85, .late = 0.85},
	{LATENCY(bends_under_load, 7200), .switches = 12, .regret = 1.1, .late = 1.1},
	/* What fails. */
	{LATENCY(dies, 1800), .right_by = 303, .switches = 1, .regret = 0.05, .late = 0.03,
	 .beats = {&chooser_first, &chooser_robin}},
	{LATENCY(second_worse, 1800, .no_carrier = carrier_lost), .right_by = 601, .switches = 2,
	 .regret = 0.001, .late = 0.001, .beats = {&chooser_first, &chooser_robin}},
	{LATENCY(second_worse, 1800, .no_carrier = carrier_flaps), .right_by = 1860, .switches = 12,
	 .regret = 0.5, .late = 0.5, .beats = {&chooser_first}},
	{LATENCY(far_side_dies, 3600), .switches = 2, .regret = 1, .late = 1},
	{LATENCY(far_side_limps, 3600), .switches = 2, .regret = 1, .late = 1},
	{LATENCY(challenger_dead, 3600), .right_by = 1, .regret = 0.01, .late = 0.01,
	 .beats = {&chooser_robin, &chooser_last}},
	/* The operator's bound. */
	{COST(1500, cheap_breaks_sla, 3600), .right_by = 3000, .switches = 4, .regret = 4,
	 .late = 0.5, .beats = {&chooser_first, &chooser_robin}},
	/* Bad input. */
	{LATENCY(second_better, 1800, HOSTS, .lie = absurd_values), .right_by = 120, .switches = 1,
	 .regret = 0.05, .late = 0.005, .beats = {&chooser_first, &chooser_robin}},
	{LATENCY(second_better, 1800, HOSTS, .lie = one_host_lies), .right_by = 120, .switches = 1,
	 .regret = 0.05, .late = 0.005, .beats = {&chooser_first, &chooser_robin}},
	{LATENCY(second_better, 1800, HOSTS, .lie = one_host_cries), .right_by = 120, .switches = 1,
	 .regret = 0.05, .late = 0.005, .beats = {&chooser_first, &chooser_robin}},
	/* The liar is always the first to have many. */
	{SCENARIO(second_better, 1800, HOSTS, .lie = one_host_lies,
		  .set = {.objective = NRD_LATENCY,
			  .canary = 1,
			  .min_gain = 10,
			  .dwell_ms = NRD_DWELL_MS,
			  .cooldown_ms = NRD_COOLDOWN_MS}),
	 .right_by = 400, .switches = 1, .regret = 0.15, .late = 0.005, .beats = {&chooser_first}},
	/* Bad clocks. */
	{LATENCY(becomes_slow, 1800, .clock = clock_jumps), .right_by = 345, .switches = 1,
	 .regret = 0.05, .late = 0.03, .beats = {&chooser_first, &chooser_robin}},
	{LATENCY(becomes_slow, 1800, .clock = clock_stands), .switches = 1, .regret = 0.5,
	 .late = 0.5},
};

struct worst {
	unsigned right, switches;
	double regret, late;
};

static void check_seed(const struct expect *e, dmm_u64 seed, struct worst *w)
{
	struct sim s;

	sim_run(&s, &e->sc, &chooser_nrd, seed);
	CU_ASSERT(s.switches <= e->switches);
	CU_ASSERT(s.regret <= e->regret);
	CU_ASSERT(s.late <= e->late);
	if (e->right_by)
		CU_ASSERT(s.right_at <= e->right_by);
	for (unsigned i = 0; seed == FIRST && i < ARRAY_SIZE(e->beats) && e->beats[i]; i++) {
		struct sim other;

		sim_run(&other, &e->sc, e->beats[i], seed);
		CU_ASSERT(2 * s.regret <= other.regret);
		sim_end(&other);
	}
	w->right = MAX(w->right, s.right_at);
	w->switches = MAX(w->switches, s.switches);
	w->regret = MAX(w->regret, s.regret);
	w->late = MAX(w->late, s.late);
	sim_end(&s);
}

static void test_scenarios(void)
{
	printf("\n    %-20s %-9s %8s %8s %8s %8s\n", "world", "", "right by", "switches", "regret",
	       "late");
	for (size_t i = 0; i < ARRAY_SIZE(expects); i++) {
		const struct expect *e = &expects[i];
		unsigned failures = CU_get_number_of_failures();
		struct worst w = {0};

		for (dmm_u64 seed = 1; seed <= SEEDS; seed++)
			check_seed(e, seed * FIRST, &w);
		printf("    %-20s %-9s %8d %8u %8.3f %8.3f%s\n", e->sc.name,
		       e->sc.lie	  ? "liar"
		       : e->sc.no_carrier ? "carrier"
		       : e->sc.clock	  ? "clock"
					  : nrd_objective_words[e->sc.set.objective - 1],
		       (int)w.right, w.switches, w.regret, w.late,
		       CU_get_number_of_failures() > failures ? "  <-" : "");
	}
}

/* The same seed is the same run, to the last decision; another one is not. */
static void test_same_run(void)
{
	static const struct expect e = {LATENCY(oscillates, 900)};
	struct sim a, b, c;
	bool differs = false;

	sim_run(&a, &e.sc, &chooser_nrd, 1);
	sim_run(&b, &e.sc, &chooser_nrd, 1);
	sim_run(&c, &e.sc, &chooser_nrd, 2);
	CU_ASSERT_EQUAL(a.counters.decisions, b.counters.decisions);
	CU_ASSERT(a.counters.decisions > 5);
	for (size_t i = 0; nrd_decision(a.n, i); i++) {
		const struct nrd_decision *other = nrd_decision(c.n, i);

		CU_ASSERT_EQUAL(memcmp(nrd_decision(a.n, i), nrd_decision(b.n, i), sizeof(*other)),
				0);
		differs |= !other || memcmp(nrd_decision(a.n, i), other, sizeof(*other)) != 0;
	}
	CU_ASSERT_TRUE(differs);
	sim_end(&a);
	sim_end(&b);
	sim_end(&c);
}

/* The first decision of that kind, NULL: there is none. */
static const struct nrd_decision *first_of(const struct sim *s, enum nrd_action action)
{
	const struct nrd_decision *d = NULL;

	for (size_t i = 0; (d = nrd_decision(s->n, i)) && d->action != action; i++)
		;
	return d;
}

/* No connection is lost to a link that is known to be down, and the log says why. */
static void test_carrier(void)
{
	struct expect e = {LATENCY(second_worse, 1200, .no_carrier = carrier_lost)};
	const struct nrd_decision *d;
	struct sim s;

	sim_run(&s, &e.sc, &chooser_nrd, 1);
	CU_ASSERT_EQUAL(s.failed, 0);
	d = first_of(&s, NRD_ESCAPE);
	CU_ASSERT_TRUE(d && d->reason == REASON_NO_CARRIER && strcmp(d->to, "s1") == 0);
	d = first_of(&s, NRD_RETURN);
	CU_ASSERT_TRUE(d && d->reason == REASON_CARRIER && strcmp(d->to, "s0") == 0);
	sim_end(&s);

	/* who is compared with it, and who would be, gets nothing either */
	e.sc.no_carrier = carrier_of_other_lost;
	for (dmm_u64 seed = 1; seed <= SEEDS; seed++) {
		sim_run(&s, &e.sc, &chooser_nrd, seed);
		CU_ASSERT_EQUAL(s.failed, 0);
		CU_ASSERT_EQUAL(s.switches, 0);
		sim_end(&s);
	}

	/* nowhere to go is said once, of the rule and of its prefix, and all goes on as it was */
	e.sc.no_carrier = all_carriers_lost;
	sim_run(&s, &e.sc, &chooser_nrd, 1);
	d = first_of(&s, NRD_STAY);
	CU_ASSERT_TRUE(d && d->reason == REASON_NO_CARRIER);
	CU_ASSERT_EQUAL(s.action[NRD_STAY], 2);
	CU_ASSERT_EQUAL(s.switches, 0);
	sim_end(&s);
}

/* Of equal stacks, without a gain that is asked for, a trial is lost or won by chance only. */
static void test_false_alarms(void)
{
	static const struct sim_scenario sc = {.world = all_same,
					       .seconds = 3600,
					       .rate = 50,
					       .set = {.objective = NRD_LATENCY,
						       .canary = 20,
						       .dwell_ms = 10000,
						       .cooldown_ms = 10000}};
	unsigned trials = 0, taken = 0;

	for (dmm_u64 seed = 1; seed <= 20; seed++) {
		struct sim s;

		sim_run(&s, &sc, &chooser_nrd, seed);
		trials += (unsigned)s.action[NRD_TRY];
		taken += (unsigned)s.action[NRD_TAKE];
		sim_end(&s);
	}
	printf("\n    %u of %u trials of equal stacks were won", taken, trials);
	CU_ASSERT(trials >= 200);
	CU_ASSERT(taken <= trials * BOUND_DOUBT);
}

/* Thousands of prefixes, in halves that want different stacks, and room for some of them. */
static void test_many_prefixes(void)
{
	static struct sim_scenario sc = {.world = prefixes_differ,
					 .seconds = 300,
					 .paths = 2000,
					 .rate = 10,
					 .set = SETTINGS(NRD_LATENCY)};
	struct nrd_view v;
	unsigned wrong = 0;
	struct sim s;
	dmm_u8 ip[16];

	sim_run(&s, &sc, &chooser_nrd, 1);
	for (unsigned p = 0; p < sc.paths; p++) {
		sim_address(p, ip);
		CU_ASSERT_EQUAL(nrd_view(s.n, 0, ip, &v), 0);
		wrong += v.now != (p % 2 ? 0 : 1);
	}
	printf("\n    %u of %u prefixes wrong after %u s", wrong, sc.paths, sc.seconds);
	CU_ASSERT(wrong <= sc.paths / 50);
	CU_ASSERT_EQUAL(s.counters.evicted, 0);
	sim_end(&s);
	sc.table = 50;
	sc.seconds = 60;
	sim_run(&s, &sc, &chooser_nrd, 1);
	CU_ASSERT(s.counters.paths <= 50);
	CU_ASSERT(s.counters.evicted > 400);
	sim_end(&s);
}

/* What few have decided together, quiet prefixes get from their rule. */
static void test_quiet_prefixes(void)
{
	static const struct sim_scenario sc = {.world = second_better,
					       .seconds = 900,
					       .paths = 100,
					       .rate = 1,
					       .set = SETTINGS(NRD_LATENCY)};
	struct nrd_view v;
	struct sim s;

	sim_run(&s, &sc, &chooser_nrd, 1);
	CU_ASSERT_EQUAL(s.action[NRD_OWN], 0);
	CU_ASSERT_EQUAL(nrd_view(s.n, 0, NULL, &v), 0);
	CU_ASSERT_EQUAL(v.now, 1);
	CU_ASSERT(s.right_at < 120);
	sim_end(&s);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"worlds", test_scenarios},
		{"the same seed is the same run", test_same_run},
		{"links without a carrier", test_carrier},
		{"false alarms", test_false_alarms},
		{"thousands of prefixes", test_many_prefixes},
		{"quiet prefixes", test_quiet_prefixes},
		CU_TEST_INFO_NULL,
	};

	return unit_run("nrd scenarios", tests);
}
