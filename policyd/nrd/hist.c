// SPDX-License-Identifier: Apache-2.0
#include "policyd/nrd/hist.h"

unsigned hist_bucket(dmm_u64 value)
{
	return dmm_hist_bucket(value);
}

double hist_edge(unsigned bucket)
{
	return (double)(4 + bucket % 4) * (double)(1ULL << bucket / 4) / 4;
}

void hist_add(struct hist *h, dmm_u64 value)
{
	h->count[hist_bucket(value)]++;
}

void hist_sum(struct hist *h, const struct hist *more)
{
	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		h->count[i] += more->count[i];
}

dmm_u64 hist_total(const struct hist *h)
{
	dmm_u64 n = 0;

	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		n += h->count[i];
	return n;
}

double hist_quantile(const struct hist *h, double share)
{
	double rank = share * (double)hist_total(h), seen = 0;
	unsigned last = 0;

	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		double n = h->count[i];

		if (!h->count[i])
			continue;
		if (seen + n >= rank)
			return hist_edge(i) + (hist_edge(i + 1) - hist_edge(i)) * (rank - seen) / n;
		seen += n;
		last = i + 1;
	}
	return last ? hist_edge(last) : 0;
}
