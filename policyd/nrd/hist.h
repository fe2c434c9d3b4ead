/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts of a positive quantity in buckets that grow: four a power of two, so that a bucket is at
 * most a quarter wide. 0 counts as 1; what is beyond the last bucket counts in it. No floating
 * point is needed to add, so that a BPF program can fill the same buckets.
 */
#ifndef DMM_POLICYD_NRD_HIST_H
#define DMM_POLICYD_NRD_HIST_H

#include "bpf/dmm_telemetry.h"

#define HIST_PER_OCTAVE 4
#define HIST_BUCKETS DMM_HIST_BUCKETS

struct hist {
	dmm_u32 count[HIST_BUCKETS];
};

unsigned hist_bucket(dmm_u64 value);
double hist_edge(unsigned bucket); /* the least value of the bucket */

void hist_add(struct hist *h, dmm_u64 value);
void hist_sum(struct hist *h, const struct hist *more); /* h has the counts of both */
dmm_u64 hist_total(const struct hist *h);

/* The value below which the share 0 … 1 of the counts lies; those of a bucket are taken as spread
 * evenly. 0 when there are none. */
double hist_quantile(const struct hist *h, double share);

#endif
