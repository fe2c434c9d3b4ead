// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "policyd/nrd/say.h"
#include "tests/nrd/sim.h"

#define START_NS 5000000000000ULL
#define FAIL_COSTS 20 /* times a connection that works */
#define CONN_BYTES 1000000
#define CONN_SEGMENTS 20

void sim_address(unsigned path, dmm_u8 ret[16])
{
	addr_from_v4(ret, htonl(0x0a000001u + (path << 8)));
}

static double quantile_factor(const struct sim *s, double spread)
{
	double z = s->sc->set.sla_permille == 990 ? 2.326 : 1.282;

	return exp(z * spread);
}

double sim_cost(const struct sim *s, unsigned stack)
{
	const struct sim_stack *k = &s->stack[stack];
	double us = k->us * quantile_factor(s, k->spread), cost = us;

	if (s->sc->set.objective == NRD_THROUGHPUT)
		cost = 1e9 / k->kbs;
	else if (s->sc->set.objective == NRD_RELIABILITY)
		cost = 1 + 100 * (k->fail + k->resend);
	else if (s->sc->set.objective == NRD_COST)
		cost = 1 + stack + (s->sc->set.sla_us && us > s->sc->set.sla_us ? 100 : 0);
	return cost * (1 + FAIL_COSTS * k->fail);
}

static unsigned best_stack(const struct sim *s)
{
	unsigned best = 0;

	for (unsigned i = 1; i < s->sc->stacks; i++)
		if (sim_cost(s, i) < sim_cost(s, best))
			best = i;
	return best;
}

/* ---- choosers ---- */

static unsigned by_weight(struct sim *s, const dmm_u16 weight[DMM_MAX_USE])
{
	unsigned at = (unsigned)(random_share(&s->random) * NRD_WEIGHTS), i = 0;

	while (i + 1 < s->sc->stacks && at >= weight[i])
		at -= weight[i++];
	return i;
}

static unsigned pick_nrd(struct sim *s, unsigned path)
{
	return by_weight(s, s->weight[path]);
}

static unsigned pick_oracle(struct sim *s, unsigned path)
{
	(void)path;
	return best_stack(s);
}

static unsigned pick_robin(struct sim *s, unsigned path)
{
	(void)path;
	return s->robin++ % s->sc->stacks;
}

static unsigned pick_first(struct sim *s, unsigned path)
{
	(void)s;
	(void)path;
	return 0;
}

static unsigned pick_last(struct sim *s, unsigned path)
{
	(void)path;
	return s->sc->stacks - 1;
}

/* The least mean that was ever seen, each tried ten times first. */
static unsigned pick_greedy(struct sim *s, unsigned path)
{
	unsigned best = 0;

	(void)path;
	for (unsigned i = 0; i < s->sc->stacks; i++) {
		if (s->seen[i] < 10)
			return i;
		if (s->seen_us[i] / s->seen[i] < s->seen_us[best] / s->seen[best])
			best = i;
	}
	return best;
}

const struct chooser chooser_nrd = {"nRD", pick_nrd, true},
		     chooser_oracle = {"oracle", pick_oracle, false},
		     chooser_greedy = {"greedy", pick_greedy, false},
		     chooser_robin = {"round robin", pick_robin, false},
		     chooser_first = {"first", pick_first, false},
		     chooser_last = {"last", pick_last, false};

/* ---- one connection ---- */

static double normal(dmm_u64 *random)
{
	double u = 1 - random_share(random), v = random_share(random);

	return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

static void connection(struct sim *s, unsigned stack, struct report_sample *ret)
{
	const struct sim_stack *k = &s->stack[stack];
	double us = k->us * exp(k->spread * normal(&s->random));

	*ret = (struct report_sample){0};
	if (random_share(&s->random) < k->fail) {
		ret->error = ETIMEDOUT;
		s->failed++;
		return;
	}
	ret->connect_us = (dmm_u32)(us + 0.5);
	ret->segments = CONN_SEGMENTS;
	for (unsigned i = 0; k->resend > 0 && i < CONN_SEGMENTS; i++)
		ret->resent += random_share(&s->random) < k->resend;
	if (k->kbs > 0) {
		double kbs = k->kbs * exp(0.3 * normal(&s->random));

		ret->bytes = CONN_BYTES;
		ret->life_us = (dmm_u64)(CONN_BYTES * 1000.0 / kbs);
	}
}

static void account(struct sim *s, unsigned stack, const struct report_sample *c)
{
	double least = sim_cost(s, best_stack(s)), regret = (sim_cost(s, stack) - least) / least;
	double n = (double)s->sc->rate * s->sc->paths * MAX(1, s->sc->hosts) * s->sc->seconds;

	s->regret += regret / n;
	if (s->second >= s->sc->seconds * 3 / 4)
		s->late += 4 * regret / n;
	s->carried[stack]++;
	s->seen[stack]++;
	s->seen_us[stack] += c->error ? 1e6 : c->connect_us;
}

/* ---- one second ---- */

static void host_second(struct sim *s, unsigned path, unsigned host, struct report *reports)
{
	memset(reports, 0, s->sc->stacks * sizeof(*reports));
	for (unsigned i = 0; i < s->sc->rate; i++) {
		unsigned stack = s->chooser->pick(s, path);
		struct report_sample c;

		connection(s, stack, &c);
		account(s, stack, &c);
		report_add(&reports[stack], &c);
	}
	for (unsigned i = 0; s->chooser->nrd && i < s->sc->stacks; i++) {
		struct report *r = &reports[i];

		r->stack = i;
		r->source = host;
		sim_address(path, r->remote);
		if (s->sc->lie)
			s->sc->lie(s, r);
		if (r->connections)
			nrd_report(s->n, r);
	}
}

/* How the stacks behave to a path now. */
static void look(struct sim *s, unsigned path)
{
	s->sc->world(s, path);
	for (unsigned i = 0; i < s->sc->stacks; i++)
		if (s->no_carrier >> i & 1)
			s->stack[i].fail = 1;
}

static void take_notes(struct sim *s)
{
	struct nrd_view v;
	dmm_u8 ip[16];

	sim_address(0, ip);
	look(s, 0);
	s->best = best_stack(s);
	if (nrd_view(s->n, 0, ip, &v) < 0)
		return;
	s->switches += v.now != s->now;
	s->now = v.now;
	if (s->now != s->best)
		s->right_at = UINT32_MAX;
	else if (s->right_at == UINT32_MAX)
		s->right_at = s->second + 1;
}

static dmm_u64 clock_of(const struct sim *s)
{
	return s->sc->clock ? s->sc->clock(s) : START_NS + s->second * 1000000000ULL;
}

/* A change of a link is told when it is, and makes a turn. */
static void links(struct sim *s)
{
	unsigned was = s->no_carrier;

	if (s->sc->no_carrier)
		s->no_carrier = s->sc->no_carrier(s);
	if (s->no_carrier == was)
		return;
	nrd_links(s->n, 0, s->no_carrier);
	nrd_turn(s->n, clock_of(s));
}

static void second(struct sim *s, struct report *reports)
{
	unsigned total = 0;

	links(s);
	for (unsigned p = 0; p < s->sc->paths; p++) {
		dmm_u8 ip[16];

		sim_address(p, ip);
		nrd_weights(s->n, 0, ip, s->weight[p]);
		look(s, p);
		for (unsigned h = 0; h < MAX(1, s->sc->hosts); h++)
			host_second(s, p, h, reports);
	}
	for (unsigned i = 0; i < s->sc->stacks; i++)
		total += s->carried[i];
	for (unsigned i = 0; i < s->sc->stacks; i++) {
		s->load[i] = (double)s->carried[i] / total;
		s->carried[i] = 0;
	}
	nrd_turn(s->n, clock_of(s));
	take_notes(s);
}

/* NRD_TRACE=1: every decision that is kept, with the second. */
static void trace(const struct sim *s)
{
	const struct nrd_decision *d;

	for (size_t i = 0; (d = nrd_decision(s->n, i)); i++) {
		printf("%6.0f ", ((double)d->at_ns - (double)START_NS) / 1e9);
		say_decision(d, stdout);
	}
}

void sim_run(struct sim *s, const struct sim_scenario *sc, const struct chooser *c, dmm_u64 seed)
{
	struct nrd_rule rule = {.name = "r", .set = sc->set};
	struct report *reports = calloc(DMM_MAX_USE, sizeof(*reports));

	*s = (struct sim){.own = *sc, .chooser = c, .random = seed ^ 0x5eed, .right_at = 0};
	s->own.stacks = sc->stacks ? sc->stacks : 2;
	s->own.paths = sc->paths ? sc->paths : 1;
	s->own.rate = sc->rate ? sc->rate : 100;
	sc = s->sc = &s->own;
	rule.n_stacks = sc->stacks;
	for (unsigned i = 0; i < sc->stacks; i++)
		snprintf(rule.stack[i], DMM_NAME_LEN, "s%u", i);
	s->n = nrd_new(sc->table ? sc->table : NRD_MAX_PATHS, seed);
	s->weight = calloc(sc->paths, sizeof(*s->weight));
	if (!s->n || !reports || !s->weight || nrd_configure(s->n, &rule, 1) < 0)
		abort();
	for (s->second = 0; s->second < sc->seconds; s->second++)
		second(s, reports);
	nrd_counters(s->n, &s->counters);
	for (size_t i = 0; nrd_decision(s->n, i); i++)
		s->action[nrd_decision(s->n, i)->action]++;
	if (c->nrd && getenv("NRD_TRACE"))
		trace(s);
	free(reports);
}

void sim_end(struct sim *s)
{
	nrd_free(s->n);
	free(s->weight);
}
