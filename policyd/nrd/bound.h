/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How sure counts make us, for any number of them, with no assumption on the distribution.
 *
 * All bounds come from one inequality (Chernoff, Hoeffding 1963): of n independent trials with
 * chance q, a share of x or more succeeds with a probability of at most exp(-n kl(x, q)), where kl
 * is the divergence of two coins. Turned to the chance it gives the bounds of a rate, as in KL-UCB
 * (Garivier and Cappé, "The KL-UCB Algorithm for Bounded Stochastic Bandits and Beyond", COLT
 * 2011); applied to the share of values below a quantile it gives the ranks between which the
 * quantile lies (Howard and Ramdas, "Sequential estimation of quantiles with applications to A/B
 * testing and best-arm identification", Bernoulli 28(3), 2022). As the counts are looked at again
 * and again while they grow, the level has the iterated logarithm that this paper asks for in its
 * leading order; the tests measure how often the bounds are wrong.
 */
#ifndef DMM_POLICYD_NRD_BOUND_H
#define DMM_POLICYD_NRD_BOUND_H

#include "policyd/nrd/hist.h"

#define BOUND_DOUBT 0.05 /* the chance of a wrong bound that is accepted */

struct interval {
	double lo, mid, hi; /* mid: the estimate; hi is INFINITY while too little is known */
};

/* The divergence that n counts must show. */
double bound_level(double n);

/* A chance, of which k of n came true. n 0: 0 … 1. */
struct interval bound_rate(double k, double n);

/* The quantile q of what h counts. */
struct interval bound_quantile(const struct hist *h, double q);

#endif
