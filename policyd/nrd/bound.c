// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "policyd/nrd/bound.h"

#define STEPS 24 /* of bisection: 6e-8 */

double bound_level(double n)
{
	return log(2 / BOUND_DOUBT) + log1p(log1p(n));
}

static double part(double p, double q)
{
	return p > 0 ? p * log(p / q) : 0;
}

static double kl(double p, double q)
{
	return part(p, q) + part(1 - p, 1 - q);
}

/* The chance beyond p, towards end, at which p stops being plausible. */
static double rate_end(double p, double n, double end)
{
	double in = p, out = end, need = bound_level(n) / n;

	for (unsigned i = 0; i < STEPS; i++) {
		double at = (in + out) / 2;

		if (kl(p, at) < need)
			in = at;
		else
			out = at;
	}
	return out;
}

struct interval bound_rate(double k, double n)
{
	double p = n > 0 ? fmin(k / n, 1) : 0;

	if (n <= 0)
		return (struct interval){0, 0, 1};
	return (struct interval){p > 0 ? rate_end(p, n, 0) : 0, p, p < 1 ? rate_end(p, n, 1) : 1};
}

/* The share that lies below the true quantile is plausible up to here, from q towards end. */
static double rank_end(double q, double n, double end)
{
	double in = q, out = end, need = bound_level(n) / n;

	for (unsigned i = 0; i < STEPS; i++) {
		double at = (in + out) / 2;

		if (kl(at, q) < need)
			in = at;
		else
			out = at;
	}
	return out;
}

struct interval bound_quantile(const struct hist *h, double q)
{
	double n = (double)hist_total(h), need;
	struct interval v = {0, 0, INFINITY};

	if (n <= 0)
		return v;
	need = bound_level(n) / n;
	v.mid = hist_quantile(h, q);
	if (kl(0, q) > need)
		v.lo = hist_quantile(h, rank_end(q, n, 0));
	if (kl(1, q) > need)
		v.hi = hist_quantile(h, rank_end(q, n, 1));
	return v;
}
