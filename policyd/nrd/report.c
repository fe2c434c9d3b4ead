// SPDX-License-Identifier: Apache-2.0
#include "lib/base/util.h"
#include "policyd/nrd/random.h"
#include "policyd/nrd/report.h"

const char *const report_failure_words[DMM_FAILURES + 1] = {
	[DMM_FAIL_REFUSED] = "refused",
	[DMM_FAIL_TIMEOUT] = "timeout",
	[DMM_FAIL_UNREACHABLE] = "unreachable",
	[DMM_FAIL_RESET] = "reset",
	[DMM_FAIL_OTHER] = "other",
};

const char *const report_refusal_words[REPORT_REFUSALS] = {
	[REPORT_TAKEN] = "taken",
	[REPORT_NO_RULE] = "no such rule is auto",
	[REPORT_NO_STACK] = "the rule has no such stack",
	[REPORT_EMPTY] = "of no connection",
	[REPORT_CONTRADICTS] = "contradicts itself",
};

void report_add(struct report *r, const struct report_sample *s)
{
	r->connections += !s->again;
	if (s->error)
		r->failed[dmm_failure_of((dmm_u32)s->error)]++;
	r->segments += s->segments;
	r->resent += s->resent;
	if (s->connect_us)
		hist_add(&r->hist[REPORT_CONNECT], s->connect_us);
	if (s->srtt_us)
		hist_add(&r->hist[REPORT_SRTT], s->srtt_us);
	if (s->bytes >= REPORT_RATE_BYTES && s->life_us)
		hist_add(&r->hist[REPORT_RATE], s->bytes * 1000 / s->life_us);
}

dmm_u32 report_failed(const struct report *r)
{
	dmm_u64 n = 0;

	for (unsigned i = 0; i < DMM_FAILURES; i++)
		n += r->failed[i];
	return (dmm_u32)MIN(n, UINT32_MAX);
}

void report_settle(struct report *r)
{
	dmm_u64 n = MAX(r->connections, report_failed(r));

	for (unsigned i = 0; i < REPORT_METRICS; i++)
		n = MAX(n, hist_total(&r->hist[i]));
	r->connections = (dmm_u32)MIN(n, UINT32_MAX);
}

enum report_refusal report_judge(const struct report *r)
{
	if (!r->connections)
		return REPORT_EMPTY;
	if (report_failed(r) > r->connections || r->resent > r->segments)
		return REPORT_CONTRADICTS;
	for (unsigned i = 0; i < REPORT_METRICS; i++)
		if (hist_total(&r->hist[i]) > r->connections)
			return REPORT_CONTRADICTS;
	return REPORT_TAKEN;
}

static bool drop_absurd(struct hist *h)
{
	bool any = false;

	for (unsigned i = hist_bucket(REPORT_ABSURD_US); i < HIST_BUCKETS; i++) {
		any |= h->count[i] != 0;
		h->count[i] = 0;
	}
	return any;
}

static dmm_u64 scale(dmm_u64 n, double by, dmm_u64 *random)
{
	double v = (double)n * by;
	dmm_u64 whole = (dmm_u64)v;

	return whole + (n && random_share(random) < v - (double)whole);
}

static void scale_segments(struct report *r, double by, dmm_u64 *random)
{
	r->segments = scale(r->segments, by, random);
	r->resent = MIN(scale(r->resent, by, random), r->segments);
}

/* A connection that says that it had billions does not outweigh all others. */
static bool bound_segments(struct report *r, dmm_u64 *random)
{
	dmm_u64 most = (dmm_u64)r->connections * REPORT_SEGMENTS;

	if (r->segments <= most)
		return false;
	scale_segments(r, (double)most / (double)r->segments, random);
	return true;
}

bool report_bound(struct report *r, dmm_u32 most, dmm_u64 *random)
{
	bool any = drop_absurd(&r->hist[REPORT_CONNECT]);
	double by = (double)most / r->connections;

	any |= drop_absurd(&r->hist[REPORT_SRTT]);
	any |= bound_segments(r, random);
	if (r->connections <= most)
		return any;
	r->connections = most;
	for (unsigned i = 0; i < DMM_FAILURES; i++)
		r->failed[i] = (dmm_u32)scale(r->failed[i], by, random);
	for (unsigned m = 0; m < REPORT_METRICS; m++)
		for (unsigned i = 0; i < HIST_BUCKETS; i++)
			r->hist[m].count[i] = (dmm_u32)scale(r->hist[m].count[i], by, random);
	scale_segments(r, by, random);
	return true;
}
