// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <math.h>

#include "lib/base/util.h"
#include "policyd/nrd/arm.h"

#define QUIET 8	       /* a group with so many times fewer connections than the median has no say */
#define FEW 8	       /* values of a metric that are needed to go by it */
#define MOST_RESENT 10 /* segments of a connection that count: they are lost together */
#define RATE_UNIT 1e9  /* a rate in kilobytes a second becomes the microseconds for a gigabyte */

unsigned settings_permille(const struct nrd_settings *s)
{
	return s->sla_permille ? s->sla_permille : 900;
}

int arm_count(struct arm *a, struct report *r, dmm_u64 *random, bool *ret_bounded)
{
	struct arm_part **slot = &a->part[r->source % ARM_GROUPS], *p;
	dmm_u32 failed;

	if (!*slot)
		*slot = calloc(1, sizeof(**slot));
	p = *slot;
	if (!p)
		return -ENOMEM;
	*ret_bounded =
		report_bound(r, MIN(REPORT_MAX, ARM_TURN_MAX - MIN(p->turn, ARM_TURN_MAX)), random);
	failed = MIN(report_failed(r), r->connections);
	if (!r->connections)
		return 0;
	p->connections += r->connections;
	p->turn += r->connections;
	p->turn_failed += failed;
	p->failed += failed;
	p->run = failed == r->connections ? p->run + failed : 0;
	p->segments += r->segments;
	p->resent += r->resent;
	for (unsigned m = 0; m < REPORT_METRICS; m++)
		hist_sum(&p->hist[m], &r->hist[m]);
	a->fresh = true;
	return 0;
}

void arm_turn(struct arm *a)
{
	a->fresh = false;
	for (unsigned g = 0; g < ARM_GROUPS; g++)
		if (a->part[g])
			a->part[g]->turn = a->part[g]->turn_failed = 0;
}

void arm_reset(struct arm *a)
{
	for (unsigned g = 0; g < ARM_GROUPS; g++)
		if (a->part[g])
			*a->part[g] = (struct arm_part){.turn = a->part[g]->turn,
							.turn_failed = a->part[g]->turn_failed};
}

void arm_fini(struct arm *a)
{
	for (unsigned g = 0; g < ARM_GROUPS; g++)
		free(a->part[g]);
	*a = (struct arm){0};
}

/* ---- the median of the groups ---- */

struct bounds {
	double v[ARM_GROUPS];
	unsigned n;
};

static void bounds_add(struct bounds *b, double v)
{
	unsigned i = b->n++;

	for (; i && b->v[i - 1] > v; i--)
		b->v[i] = b->v[i - 1];
	b->v[i] = v;
}

static double bounds_median(const struct bounds *b)
{
	double low = b->v[(b->n - 1) / 2], high = b->v[b->n / 2];

	return low == high ? low : (low + high) / 2;
}

unsigned arm_voices(const struct arm *const *arms, unsigned n)
{
	dmm_u32 count[ARM_GROUPS] = {0};
	struct bounds counts = {0};
	unsigned voices = 0;

	for (unsigned g = 0; g < ARM_GROUPS; g++) {
		for (unsigned i = 0; i < n; i++)
			count[g] += arms[i]->part[g] ? arms[i]->part[g]->connections : 0;
		if (count[g])
			bounds_add(&counts, count[g]);
	}
	for (unsigned g = 0; g < ARM_GROUPS; g++)
		if (count[g] && count[g] * QUIET >= counts.v[counts.n / 2])
			voices |= 1u << g;
	return voices;
}

bool arm_has(const struct arm *a, unsigned voices, enum report_metric m)
{
	unsigned has = 0;

	for (unsigned g = 0; g < ARM_GROUPS; g++) {
		const struct arm_part *p = a->part[g];
		dmm_u64 values = p ? hist_total(&p->hist[m]) : 0;

		has += (voices >> g & 1) && values >= FEW &&
		       2 * values >= p->connections - p->failed;
	}
	return 2 * has > (unsigned)__builtin_popcount(voices);
}

double arm_turn_failed(const struct arm *a)
{
	struct bounds shares = {0};

	for (unsigned g = 0; g < ARM_GROUPS; g++)
		if (a->part[g] && a->part[g]->turn)
			bounds_add(&shares, (double)a->part[g]->turn_failed / a->part[g]->turn);
	return shares.n ? bounds_median(&shares) : 0;
}

bool arm_runs_dry(const struct arm *a, unsigned voices)
{
	unsigned dry = 0;

	for (unsigned g = 0; g < ARM_GROUPS; g++)
		dry += (voices >> g & 1) && a->part[g] && a->part[g]->run >= ARM_RUN;
	return 2 * dry > (unsigned)__builtin_popcount(voices);
}

struct medians {
	struct bounds lo, mid, hi;
};

/* unknown: the upper bound of one that knows nothing. */
static void medians_add(struct medians *m, struct interval v, bool known, double unknown)
{
	bounds_add(&m->lo, known ? v.lo : 0);
	bounds_add(&m->hi, known ? v.hi : unknown);
	if (known)
		bounds_add(&m->mid, v.mid);
}

static struct interval medians_end(const struct medians *m, double unknown)
{
	if (!m->mid.n)
		return (struct interval){0, 0, unknown};
	return (struct interval){bounds_median(&m->lo), bounds_median(&m->mid),
				 bounds_median(&m->hi)};
}

/* ---- what the objective compares ---- */

static struct interval slowness(const struct arm_part *p)
{
	struct interval rate = bound_quantile(&p->hist[REPORT_RATE], 0.5);

	return (struct interval){isinf(rate.hi) ? 0 : RATE_UNIT / fmax(rate.hi, 1),
				 RATE_UNIT / fmax(rate.mid, 1),
				 rate.lo > 0 ? RATE_UNIT / rate.lo : INFINITY};
}

static struct interval badness(const struct arm_part *p, struct interval fail)
{
	double n = fmin((double)p->segments, (double)p->connections * MOST_RESENT);
	double share = p->segments ? (double)p->resent / (double)p->segments : 0;
	struct interval again = bound_rate(share * n, n);

	if (!p->segments)
		return fail;
	return (struct interval){fail.lo + again.lo, fail.mid + again.mid, fail.hi + again.hi};
}

static void part_evidence(const struct arm_part *p, const struct nrd_settings *s,
			  struct evidence *ret)
{
	const struct hist *latency = &p->hist[ret->metric];

	ret->fail = bound_rate(p->failed, p->connections);
	ret->latency = bound_quantile(latency, settings_permille(s) / 1000.0);
	if (s->objective == NRD_THROUGHPUT) {
		ret->values += (dmm_u32)hist_total(&p->hist[REPORT_RATE]);
		ret->value = slowness(p);
	} else if (s->objective == NRD_RELIABILITY) {
		ret->values += p->connections;
		ret->value = badness(p, ret->fail);
	} else {
		ret->values += (dmm_u32)hist_total(latency);
		ret->value = ret->latency;
	}
}

void arm_evidence(const struct arm *a, unsigned voices, const struct nrd_settings *s,
		  unsigned place, enum report_metric latency, struct evidence *ret)
{
	static const struct arm_part nothing;
	struct medians fail = {0}, slow = {0}, value = {0};

	*ret = (struct evidence){.metric = (dmm_u8)latency, .place = (dmm_u8)place};
	for (unsigned g = 0; g < ARM_GROUPS; g++) {
		const struct arm_part *p = a->part[g] ? a->part[g] : &nothing;

		if (!(voices >> g & 1))
			continue;
		ret->connections += p->connections;
		ret->failed += p->failed;
		part_evidence(p, s, ret);
		medians_add(&fail, ret->fail, p->connections, 1);
		medians_add(&slow, ret->latency, p->connections, INFINITY);
		medians_add(&value, ret->value, p->connections, INFINITY);
	}
	ret->fail = medians_end(&fail, 1);
	ret->latency = medians_end(&slow, INFINITY);
	ret->value = medians_end(&value, INFINITY);
	if (s->objective == NRD_COST)
		ret->value = (struct interval){place, place, place};
}
