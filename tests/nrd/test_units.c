// SPDX-License-Identifier: Apache-2.0
/* The parts of nRD, each alone. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/nrd/say.h"
#include "tests/nrd/sim.h"
#include "tests/unit/unit.h"

static const struct nrd_settings latency = {.objective = NRD_LATENCY,
					    .canary = NRD_CANARY,
					    .min_gain = NRD_MIN_GAIN,
					    .dwell_ms = NRD_DWELL_MS,
					    .cooldown_ms = NRD_COOLDOWN_MS};

/* ---- histograms and bounds ---- */

static void test_buckets(void)
{
	unsigned last = 0;

	for (dmm_u64 v = 0; v < 1ULL << 28; v += 1 + v / 50) {
		unsigned b = hist_bucket(v);

		CU_ASSERT(b >= last && b < HIST_BUCKETS);
		CU_ASSERT(hist_edge(b) <= (double)MAX(v, 1));
		CU_ASSERT(hist_edge(b + 1) > (double)v);
		last = b;
	}
	CU_ASSERT_EQUAL(hist_bucket(1ULL << 28), HIST_BUCKETS - 1);
	CU_ASSERT_EQUAL(hist_bucket(UINT64_MAX), HIST_BUCKETS - 1);
}

static void test_quantile(void)
{
	struct hist h = {0};

	CU_ASSERT_EQUAL(hist_quantile(&h, 0.5), 0);
	for (dmm_u64 v = 1; v <= 10000; v++)
		hist_add(&h, v);
	CU_ASSERT_EQUAL(hist_total(&h), 10000);
	for (double q = 0.05; q < 1; q += 0.05)
		CU_ASSERT_DOUBLE_EQUAL(hist_quantile(&h, q), q * 10000, q * 10000 * 0.03);
}

static double normal(dmm_u64 *random)
{
	double u = 1 - random_share(random), v = random_share(random);

	return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

static double log_normal(dmm_u64 *random)
{
	return 1000 * exp(0.5 * normal(random));
}

static double pareto(dmm_u64 *random)
{
	return 100 / pow(1 - random_share(random), 1 / 1.5);
}

/* The worst of two services: far from any smooth curve. */
static double two_humps(dmm_u64 *random)
{
	return random_share(random) < 0.3 ? 5000 + 100 * normal(random) : log_normal(random) / 8;
}

/* How often the truth is ever outside of the bounds while values come in, of 400 runs. */
static unsigned ever_wrong(double (*draw)(dmm_u64 *), double q, dmm_u64 seed)
{
	static double all[200000];
	unsigned wrong = 0;
	struct hist truth = {0};
	double value;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		hist_add(&truth, (dmm_u64)draw(&seed));
	value = hist_quantile(&truth, q);
	for (unsigned run = 0; run < 400; run++) {
		struct hist h = {0};
		bool out = false;

		for (unsigned i = 1; i <= 3000 && !out; i++) {
			struct interval v;

			hist_add(&h, (dmm_u64)draw(&seed));
			if (i % (1 + i / 10))
				continue;
			v = bound_quantile(&h, q);
			out = value < v.lo || value > v.hi;
		}
		wrong += out;
	}
	return wrong;
}

static void test_quantile_bounds(void)
{
	static const double quantiles[] = {0.5, 0.9, 0.99};
	static double (*const draws[])(dmm_u64 *) = {log_normal, pareto, two_humps};

	for (unsigned d = 0; d < ARRAY_SIZE(draws); d++)
		for (unsigned i = 0; i < ARRAY_SIZE(quantiles); i++) {
			unsigned wrong = ever_wrong(draws[d], quantiles[i], 17 + d);

			CU_ASSERT(wrong <= 400 * BOUND_DOUBT);
			printf("\n    quantile %.2f of %u: outside in %u of 400 runs", quantiles[i],
			       d, wrong);
		}
}

/* Bounds are of use: they come to lie within a few percent. */
static void test_bounds_narrow(void)
{
	struct hist h = {0};
	dmm_u64 random = 3;
	struct interval v;

	for (unsigned i = 0; i < 30; i++)
		hist_add(&h, (dmm_u64)log_normal(&random));
	v = bound_quantile(&h, 0.99);
	CU_ASSERT(isinf(v.hi));
	v = bound_quantile(&h, 0.5);
	CU_ASSERT_FALSE(isinf(v.hi));
	for (unsigned i = 0; i < 20000; i++)
		hist_add(&h, (dmm_u64)log_normal(&random));
	v = bound_quantile(&h, 0.9);
	CU_ASSERT(v.lo > 0.94 * v.mid && v.hi < 1.06 * v.mid && v.lo < v.mid && v.mid < v.hi);
	v = bound_quantile(&h, 0.99);
	CU_ASSERT(v.lo > 0.8 * v.mid && v.hi < 1.2 * v.mid);
}

static void test_rate_bounds(void)
{
	static const double chances[] = {0, 0.01, 0.2, 0.5, 0.99, 1};
	dmm_u64 random = 5;

	for (unsigned c = 0; c < ARRAY_SIZE(chances); c++) {
		unsigned wrong = 0;

		for (unsigned run = 0; run < 400; run++) {
			unsigned k = 0;
			bool out = false;

			for (unsigned n = 1; n <= 2000; n++) {
				struct interval v;

				k += random_share(&random) < chances[c];
				if (n % (1 + n / 10))
					continue;
				v = bound_rate(k, n);
				CU_ASSERT(v.lo >= 0 && v.lo <= v.mid && v.mid <= v.hi && v.hi <= 1);
				out |= chances[c] < v.lo || chances[c] > v.hi;
			}
			wrong += out;
		}
		CU_ASSERT(wrong <= 400 * BOUND_DOUBT);
	}
	CU_ASSERT_EQUAL(bound_rate(0, 0).hi, 1);
	CU_ASSERT_EQUAL(bound_rate(7, 5).mid, 1); /* rounding may do that */
}

/* ---- reports ---- */

static struct report report_of(unsigned n, unsigned failed, dmm_u32 us)
{
	struct report r = {0};

	sim_address(0, r.remote);
	for (unsigned i = 0; i < n; i++)
		report_add(&r, &(struct report_sample){.error = i < failed ? ETIMEDOUT : 0,
						       .connect_us = i < failed ? 0 : us,
						       .segments = 10,
						       .resent = 1});
	return r;
}

static void test_report_add(void)
{
	static const struct {
		int error;
		enum dmm_failure is;
	} errors[] = {{ECONNREFUSED, DMM_FAIL_REFUSED},
		      {ETIMEDOUT, DMM_FAIL_TIMEOUT},
		      {ENETUNREACH, DMM_FAIL_UNREACHABLE},
		      {EHOSTUNREACH, DMM_FAIL_UNREACHABLE},
		      {ECONNRESET, DMM_FAIL_RESET},
		      {EPIPE, DMM_FAIL_RESET},
		      {EIO, DMM_FAIL_OTHER}};
	struct report r = {0};

	for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
		dmm_u32 before = r.failed[errors[i].is];

		report_add(&r, &(struct report_sample){.error = errors[i].error});
		CU_ASSERT_EQUAL(r.failed[errors[i].is], before + 1);
	}
	CU_ASSERT_EQUAL(report_failed(&r), 7);
	report_add(&r, &(struct report_sample){.connect_us = 100, .bytes = 100, .life_us = 1});
	CU_ASSERT_EQUAL(hist_total(&r.hist[REPORT_RATE]), 0); /* too small to tell */
	report_add(&r, &(struct report_sample){.bytes = 10000000, .life_us = 1000000});
	CU_ASSERT_EQUAL(r.hist[REPORT_RATE].count[hist_bucket(10000)], 1);
	CU_ASSERT_EQUAL(r.connections, 9);
	CU_ASSERT_EQUAL(report_judge(&r), REPORT_TAKEN);
}

/* What ends is not another connection, unless nothing else tells of it. */
static void test_report_settle(void)
{
	struct report r = {0};

	report_add(&r, &(struct report_sample){.connect_us = 100});
	report_add(&r, &(struct report_sample){.srtt_us = 100, .again = true});
	report_settle(&r);
	CU_ASSERT_EQUAL(r.connections, 1);
	report_add(&r, &(struct report_sample){.srtt_us = 100, .error = ECONNRESET, .again = true});
	CU_ASSERT_EQUAL(report_judge(&r), REPORT_CONTRADICTS);
	report_settle(&r);
	CU_ASSERT_EQUAL(r.connections, 2);
	CU_ASSERT_EQUAL(report_judge(&r), REPORT_TAKEN);
}

static void test_report_judge(void)
{
	struct report r = report_of(10, 0, 100);

	CU_ASSERT_EQUAL(report_judge(&r), REPORT_TAKEN);
	r.failed[DMM_FAIL_REFUSED] = 11;
	CU_ASSERT_EQUAL(report_judge(&r), REPORT_CONTRADICTS);
	r.failed[DMM_FAIL_REFUSED] = UINT32_MAX;
	r.failed[DMM_FAIL_OTHER] = UINT32_MAX; /* no sum wraps */
	CU_ASSERT_EQUAL(report_judge(&r), REPORT_CONTRADICTS);
	r = report_of(10, 0, 100);
	r.resent = r.segments + 1;
	CU_ASSERT_EQUAL(report_judge(&r), REPORT_CONTRADICTS);
	r = report_of(10, 0, 100);
	r.hist[REPORT_SRTT].count[3] = r.hist[REPORT_SRTT].count[4] = UINT32_MAX;
	CU_ASSERT_EQUAL(report_judge(&r), REPORT_CONTRADICTS);
	r = report_of(0, 0, 0);
	CU_ASSERT_EQUAL(report_judge(&r), REPORT_EMPTY);
}

static void test_report_bound(void)
{
	double connections = 0, failed = 0, slow = 0;
	dmm_u64 random = 11;
	struct report r = report_of(10, 0, REPORT_ABSURD_US + (REPORT_ABSURD_US >> 2));

	CU_ASSERT_TRUE(report_bound(&r, REPORT_MAX, &random));
	CU_ASSERT_EQUAL(hist_total(&r.hist[REPORT_CONNECT]), 0);
	r = report_of(REPORT_MAX, 3, 100);
	CU_ASSERT_FALSE(report_bound(&r, REPORT_MAX, &random));
	CU_ASSERT_EQUAL(report_failed(&r), 3);
	/* A rare value keeps its weight on average. */
	for (unsigned i = 0; i < 100; i++) {
		r = report_of(100 * REPORT_MAX, 100, 100);
		r.hist[REPORT_CONNECT].count[hist_bucket(5000)] = 20;
		report_bound(&r, REPORT_MAX, &random);
		connections += r.connections;
		failed += report_failed(&r);
		slow += r.hist[REPORT_CONNECT].count[hist_bucket(5000)];
	}
	CU_ASSERT_EQUAL(connections, 100 * REPORT_MAX);
	CU_ASSERT_DOUBLE_EQUAL(failed / 100, 1, 0.35);
	CU_ASSERT_DOUBLE_EQUAL(slow / 100, 0.2, 0.15);
}

/* Segments are no more than connections may have, and few that were sent again do not vanish. */
static void test_report_segments(void)
{
	double resent = 0;
	dmm_u64 random = 12;
	struct report r = report_of(2, 0, 100);

	r.segments = INT64_MAX;
	r.resent = INT64_MAX / 4;
	CU_ASSERT_TRUE(report_bound(&r, REPORT_MAX, &random));
	CU_ASSERT_EQUAL(r.segments, 2 * REPORT_SEGMENTS);
	CU_ASSERT(r.resent >= REPORT_SEGMENTS / 2 && r.resent <= REPORT_SEGMENTS / 2 + 1);
	for (unsigned i = 0; i < 400; i++) {
		r = report_of(100 * REPORT_MAX, 0, 100);
		r.segments = 20ULL * r.connections;
		r.resent = 50;
		report_bound(&r, REPORT_MAX, &random);
		CU_ASSERT_EQUAL(r.segments, 20 * REPORT_MAX);
		resent += (double)r.resent;
	}
	CU_ASSERT_DOUBLE_EQUAL(resent / 400, 0.5, 0.1);
}

/* ---- rules and the table ---- */

static struct nrd_rule rule_of(const char *name)
{
	struct nrd_rule r = {.set = latency, .n_stacks = 2, .stack = {"edge0", "kernel"}};

	snprintf(r.name, sizeof(r.name), "%s", name);
	return r;
}

/* One second of what two stacks carry to path; the second one twice as fast. */
static void feed(struct nrd *n, unsigned rule, unsigned path, unsigned count)
{
	for (unsigned i = 0; i < 2; i++) {
		struct report r = report_of(i ? MAX(1, count / 10) : count, 0, i ? 500 : 1000);

		r.rule = rule;
		r.stack = i;
		sim_address(path, r.remote);
		CU_ASSERT_EQUAL(nrd_report(n, &r), REPORT_TAKEN);
	}
}

static dmm_u64 run_seconds(struct nrd *n, dmm_u64 from, unsigned seconds, unsigned rule,
			   unsigned path, unsigned count)
{
	for (unsigned i = 0; i < seconds; i++) {
		feed(n, rule, path, count);
		nrd_turn(n, from += 1000000000ULL);
	}
	return from;
}

static unsigned now_of(struct nrd *n, unsigned rule, unsigned path)
{
	struct nrd_view v;
	dmm_u8 ip[16];

	sim_address(path, ip);
	CU_ASSERT_EQUAL_FATAL(nrd_view(n, rule, ip, &v), 0);
	return v.now;
}

static void test_refused(void)
{
	struct nrd *n = nrd_new(10, 1);
	struct nrd_rule rule = rule_of("a");
	struct nrd_counters c;
	struct report r = report_of(1, 0, 100);

	CU_ASSERT_EQUAL(nrd_report(n, &r), REPORT_NO_RULE);
	CU_ASSERT_EQUAL(nrd_configure(n, &rule, 1), 0);
	r.stack = 2;
	CU_ASSERT_EQUAL(nrd_report(n, &r), REPORT_NO_STACK);
	r.stack = UINT32_MAX;
	CU_ASSERT_EQUAL(nrd_report(n, &r), REPORT_NO_STACK);
	r.stack = 0;
	r.resent = 99;
	CU_ASSERT_EQUAL(nrd_report(n, &r), REPORT_CONTRADICTS);
	nrd_counters(n, &c);
	CU_ASSERT_EQUAL(c.reports, 4);
	CU_ASSERT_EQUAL(c.refused[REPORT_NO_STACK], 2);
	CU_ASSERT_EQUAL(c.paths, 0);
	nrd_free(n);
}

/* A stack that was in use is in use again, of a rule and of a prefix alone. */
static void test_resume(void)
{
	static const dmm_u8 ip[16] = {[10] = 0xff, 0xff, 10, 1, 2, 3};
	struct nrd *n = nrd_new(10, 1);
	struct nrd_rule rule = rule_of("a");
	struct nrd_view v;

	CU_ASSERT_EQUAL(nrd_configure(n, &rule, 1), 0);
	nrd_resume(n, 0, ip, 1);
	CU_ASSERT_EQUAL(nrd_view(n, 0, ip, &v), 0);
	CU_ASSERT_EQUAL(v.now, 1);
	CU_ASSERT_EQUAL(v.plen, NRD_PLEN4);
	CU_ASSERT_EQUAL(nrd_view(n, 0, NULL, &v), 0);
	CU_ASSERT_EQUAL(v.now, 0);
	nrd_resume(n, 0, NULL, 1);
	CU_ASSERT_EQUAL(nrd_view(n, 0, NULL, &v), 0);
	CU_ASSERT_EQUAL(v.now, 1);
	nrd_resume(n, 0, NULL, 9); /* no such stack */
	nrd_resume(n, 1, NULL, 0);
	CU_ASSERT_EQUAL(nrd_view(n, 0, NULL, &v), 0);
	CU_ASSERT_EQUAL(v.now, 1);
	nrd_free(n);
}

/* A turn counts in which the stack in use breaks the sla for certain; without news none does. */
static void test_sla(void)
{
	struct nrd *n = nrd_new(10, 1);
	struct nrd_rule rules[2] = {rule_of("a"), rule_of("b")};
	dmm_u64 t = 1, before;

	rules[0].set.sla_permille = 900;
	rules[0].set.sla_us = 700; /* the first stack has 1000, the second 500 */
	rules[0].set.dwell_ms = 3600000;
	CU_ASSERT_EQUAL(nrd_configure(n, rules, 2), 0);
	CU_ASSERT_EQUAL(nrd_sla_broken(n, 0), 0);
	CU_ASSERT_EQUAL(nrd_sla_broken(n, 1), NRD_NO_SLA);
	CU_ASSERT_EQUAL(nrd_sla_broken(n, 2), NRD_NO_SLA);
	for (unsigned i = 0; i < 5; i++, t += 1000000000ULL) {
		struct report r = report_of(100, 0, 1000);

		CU_ASSERT_EQUAL(nrd_report(n, &r), REPORT_TAKEN);
		nrd_turn(n, t);
	}
	before = nrd_sla_broken(n, 0);
	CU_ASSERT(before >= 4 && before <= 10); /* the rule's path, and that of the prefix */
	for (unsigned i = 0; i < 5; i++)
		nrd_turn(n, t += 1000000000ULL);
	CU_ASSERT_EQUAL(nrd_sla_broken(n, 0), before);
	rules[0].set.sla_us = 2000;
	CU_ASSERT_EQUAL(nrd_configure(n, rules, 2), 0);
	run_seconds(n, t, 5, 0, 0, 100);
	CU_ASSERT_EQUAL(nrd_sla_broken(n, 0), 0);
	nrd_free(n);
}

static void test_configure(void)
{
	struct nrd *n = nrd_new(10, 1);
	struct nrd_rule rules[3] = {rule_of("a"), rule_of("b"), rule_of("c")};
	dmm_u64 t = run_seconds((nrd_configure(n, rules, 2), n), 1, 120, 1, 0, 200);

	CU_ASSERT_EQUAL(nrd_find(n, "b"), 1);
	CU_ASSERT_EQUAL(nrd_find(n, "c"), -ENOENT);
	CU_ASSERT_EQUAL(now_of(n, 1, 0), 1);
	CU_ASSERT_EQUAL(now_of(n, 0, 0), 0);
	/* elsewhere in the list, and beside a new one: what is known stays */
	rules[0] = rule_of("c");
	rules[2] = rules[1];
	rules[1] = rule_of("a");
	CU_ASSERT_EQUAL(nrd_configure(n, rules, 3), 0);
	CU_ASSERT_EQUAL(nrd_find(n, "b"), 2);
	CU_ASSERT_EQUAL(now_of(n, 2, 0), 1);
	t = run_seconds(n, t, 1, 2, 0, 200);
	CU_ASSERT_EQUAL(now_of(n, 2, 0), 1);
	/* other settings: all anew, and its prefixes are gone */
	rules[2].set.canary = 6;
	CU_ASSERT_EQUAL(nrd_configure(n, rules, 3), 0);
	CU_ASSERT_EQUAL(now_of(n, 2, 0), 0);
	rules[0] = rule_of("z");
	CU_ASSERT_EQUAL(nrd_configure(n, rules, 1), 0);
	CU_ASSERT_PTR_NULL(nrd_rule(n, 1));
	CU_ASSERT_EQUAL(nrd_configure(n, NULL, 0), 0);
	nrd_turn(n, t);
	nrd_free(n);
}

static void test_log(void)
{
	struct nrd *n = nrd_new(10, 1);
	struct nrd_rule rule = rule_of("a");
	const struct nrd_decision *d;
	struct nrd_view v;
	bool taken = false;
	size_t i;

	nrd_configure(n, &rule, 1);
	CU_ASSERT_PTR_NULL(nrd_decision(n, 0));
	run_seconds(n, 1, 120, 0, 0, 200);
	for (i = 0; (d = nrd_decision(n, i)); i++) {
		CU_ASSERT_EQUAL(d->number, i + 1);
		CU_ASSERT_STRING_EQUAL(d->rule, "a");
		if (d->action != NRD_TAKE)
			continue;
		taken = true;
		CU_ASSERT_STRING_EQUAL(d->from, "edge0");
		CU_ASSERT_STRING_EQUAL(d->to, "kernel");
		CU_ASSERT_EQUAL(d->reason, REASON_VALUE);
		CU_ASSERT(d->after.value.hi < d->before.value.lo);
		CU_ASSERT_DOUBLE_EQUAL(d->before.value.mid, 1000, 200);
		CU_ASSERT_DOUBLE_EQUAL(d->after.value.mid, 500, 100);
		CU_ASSERT(d->before.connections >= 8 && d->after.connections >= 8);
	}
	CU_ASSERT_TRUE(taken);
	CU_ASSERT_EQUAL(nrd_view(n, 0, NULL, &v), 0);
	CU_ASSERT_EQUAL(v.plen, 0);
	CU_ASSERT_EQUAL(nrd_view(n, 7, NULL, &v), -ENOENT);
	nrd_free(n);
}

static bool same_view(const struct nrd *a, const struct nrd *b, const dmm_u8 *ip)
{
	struct nrd_view x, y;

	CU_ASSERT_EQUAL_FATAL(nrd_view(a, 0, ip, &x) | nrd_view(b, 0, ip, &y), 0);
	return strcmp(x.phase, y.phase) == 0 && x.plen == y.plen && x.now == y.now &&
	       x.other == y.other && memcmp(x.arm, y.arm, sizeof(x.arm)) == 0 &&
	       memcmp(x.banned_ns, y.banned_ns, sizeof(x.banned_ns)) == 0 && !x.last == !y.last &&
	       (!x.last || x.last->number == y.last->number);
}

/* What is known goes on after a restart, also of the host; a file that is not whole does not. */
static void test_store(void)
{
	struct nrd *n = nrd_new(100, 1), *m;
	struct nrd_rule rule[2] = {rule_of("a"), rule_of("b")};
	const struct nrd_decision *d;
	struct nrd_counters c;
	dmm_u64 end;
	char *text = NULL;
	dmm_u8 ip[16];
	size_t len, i;
	FILE *f;

	nrd_configure(n, rule, 2);
	end = run_seconds(n, 1, 120, 0, 3, 200);
	f = open_memstream(&text, &len);
	CU_ASSERT_EQUAL(nrd_save(n, end, 7000, f), 0);
	fclose(f);

	m = nrd_new(100, 2);
	CU_ASSERT_EQUAL(nrd_load(m, text, len, end + 5, 7005), 0);
	CU_ASSERT_EQUAL(nrd_configure(m, rule, 1), 0); /* the other one goes */
	sim_address(3, ip);
	CU_ASSERT_TRUE(same_view(n, m, ip));
	CU_ASSERT_TRUE(same_view(n, m, NULL));
	for (i = 0; (d = nrd_decision(n, i)); i++)
		CU_ASSERT_TRUE_FATAL(nrd_decision(m, i) &&
				     memcmp(d, nrd_decision(m, i), sizeof(*d)) == 0);
	CU_ASSERT(i > 2);
	CU_ASSERT_PTR_NULL(nrd_decision(m, i));
	run_seconds(m, end, 30, 0, 3, 200);
	nrd_free(m);

	/* the host was started again 100 ns ago, 50 after it was written */
	m = nrd_new(100, 2);
	CU_ASSERT_EQUAL(nrd_load(m, text, len, 100, 7050), 0);
	CU_ASSERT_EQUAL(100 - nrd_decision(m, 0)->at_ns, 50 + end - nrd_decision(n, 0)->at_ns);
	nrd_free(m);

	for (size_t cut = 0; cut < len; cut += 1 + len / 200) {
		m = nrd_new(100, 2);
		CU_ASSERT_EQUAL(nrd_load(m, text, cut, 1, 1), -EBADMSG);
		text[cut] ^= 0x10;
		CU_ASSERT(nrd_load(m, text, len, 1, 1) < 0);
		text[cut] ^= 0x10;
		nrd_counters(m, &c);
		CU_ASSERT(c.decisions == 0 && c.paths == 0 && !nrd_rule(m, 0) &&
			  !nrd_decision(m, 0));
		nrd_free(m);
	}
	free(text);
	nrd_free(n);
}

/* A scan of addresses does not drive out what decides for itself. */
static void test_table(void)
{
	struct nrd *n = nrd_new(20, 1);
	struct nrd_rule rule = rule_of("a");
	struct nrd_counters c;
	dmm_u64 t;

	nrd_configure(n, &rule, 1);
	t = run_seconds(n, 1, 120, 0, 0, 200);
	CU_ASSERT_EQUAL(now_of(n, 0, 0), 1);
	for (unsigned i = 1; i <= 500; i++) {
		feed(n, 0, i, 1);
		nrd_counters(n, &c);
		CU_ASSERT(c.paths <= 20);
	}
	CU_ASSERT_EQUAL(c.evicted, 481);
	nrd_turn(n, t += 1000000000ULL);
	CU_ASSERT_EQUAL(now_of(n, 0, 0), 1);
	/* quiet for long: it does what its rule does again */
	for (unsigned i = 0; i < 1300; i++)
		nrd_turn(n, t += 1000000000ULL);
	CU_ASSERT_EQUAL(now_of(n, 0, 0), 0);
	nrd_free(n);
}

static void each_choice(void *ctx, const struct nrd_choice *c)
{
	unsigned *seen = ctx, sum = 0;

	for (unsigned i = 0; i < DMM_MAX_USE; i++)
		sum += c->weight[i];
	CU_ASSERT_EQUAL(sum, NRD_WEIGHTS);
	seen[c->plen != 0]++;
}

static void test_choices(void)
{
	struct nrd *n = nrd_new(20, 1);
	struct nrd_rule rules[2] = {rule_of("a"), rule_of("b")};
	unsigned seen[2] = {0};
	dmm_u16 weight[DMM_MAX_USE];
	dmm_u8 ip[16];

	nrd_configure(n, rules, 2);
	nrd_choices(n, each_choice, seen);
	CU_ASSERT_EQUAL(seen[0], 2);
	CU_ASSERT_EQUAL(seen[1], 0);
	run_seconds(n, 1, 120, 1, 3, 200);
	nrd_choices(n, each_choice, seen);
	CU_ASSERT_EQUAL(seen[0], 4);
	CU_ASSERT_EQUAL(seen[1], 1);
	sim_address(3, ip);
	nrd_weights(n, 1, ip, weight);
	CU_ASSERT(weight[1] >= 950);
	nrd_weights(n, 0, ip, weight);
	CU_ASSERT(weight[0] >= 950);
	nrd_free(n);
}

static void check_said(const struct nrd_decision *d, const char *want)
{
	char text[1024] = "";
	FILE *out = fmemopen(text, sizeof(text), "w");

	say_decision(d, out);
	fclose(out);
	CU_ASSERT_STRING_EQUAL(text, want);
	if (strcmp(text, want) != 0)
		fprintf(stderr, "%sinstead of %s", text, want);
}

static void test_say(void)
{
	struct nrd_decision d = {
		.rule = "cdn",
		.from = "edge0",
		.to = "kernel",
		.plen = 120,
		.action = NRD_TAKE,
		.reason = REASON_VALUE,
		.set = latency,
		.before = {.connections = 949, .failed = 2, .latency = {930, 1000, 1080}},
		.after = {.connections = 57, .latency = {0, 500, INFINITY}}};

	sim_address(1, d.prefix);
	d.prefix[15] = 0;
	check_said(&d,
		   "cdn 10.0.1.0/24: take kernel in place of edge0: better; kernel: p90 of "
		   "connect times 500 us (0 to unknown) of 57 connections, 0 failed; edge0: p90 "
		   "of connect times 1000 us (930 to 1080) of 949 connections, 2 failed\n");
	d.plen = 0;
	d.action = NRD_TRY;
	d.reason = REASON_TIME;
	d.after = (struct evidence){0};
	d.set.objective = NRD_THROUGHPUT;
	d.before.value = (struct interval){1e4, 2e4, INFINITY};
	check_said(&d,
		   "cdn: try kernel beside edge0: time; kernel: nothing known yet; edge0: 50000 "
		   "kB/s (0 to 100000) of 949 connections, 2 failed\n");
	d.action = NRD_CHANGE;
	d.reason = REASON_CHANGED;
	d.to[0] = '\0';
	d.set.objective = NRD_RELIABILITY;
	d.before.value = (struct interval){0.01, 0.02, 0.03};
	d.after = (struct evidence){.connections = 100, .value = {0, 0.001, 0.01}};
	check_said(&d, "cdn: change of edge0: changed; edge0: 2.00 % failed or sent again (1.00 to "
		       "3.00) of 949 connections, 2 failed; before: 0.10 % failed or sent again "
		       "(0.00 to 1.00) of 100 connections, 0 failed\n");
}

static void test_prefix(void)
{
	dmm_u8 ip[16] = {0x20, 1, 0xd, 0xb8, 1, 2, 3, 4}, prefix[16];

	CU_ASSERT_EQUAL(nrd_prefix(ip, prefix), 48);
	CU_ASSERT_EQUAL(prefix[5], 2);
	CU_ASSERT_EQUAL(prefix[6], 0);
	sim_address(1, ip);
	CU_ASSERT_EQUAL(nrd_prefix(ip, prefix), 120);
	CU_ASSERT_EQUAL(prefix[14], 1);
	CU_ASSERT_EQUAL(prefix[15], 0);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"buckets", test_buckets},
		{"quantiles", test_quantile},
		{"bounds of quantiles, looked at all the time", test_quantile_bounds},
		{"bounds become narrow", test_bounds_narrow},
		{"bounds of rates", test_rate_bounds},
		{"a report is counted", test_report_add},
		{"what ends is counted once", test_report_settle},
		{"a report that contradicts itself", test_report_judge},
		{"a report that says too much", test_report_bound},
		{"segments of a report", test_report_segments},
		{"reports that are refused", test_refused},
		{"what was in use goes on", test_resume},
		{"turns that break an sla", test_sla},
		{"rules come, go and stay", test_configure},
		{"decisions tell what went into them", test_log},
		{"what is known is kept", test_store},
		{"the table is bounded", test_table},
		{"choices", test_choices},
		{"decisions as text", test_say},
		{"prefixes", test_prefix},
		CU_TEST_INFO_NULL,
	};

	return unit_run("nrd", tests);
}
