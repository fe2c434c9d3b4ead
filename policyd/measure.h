/* SPDX-License-Identifier: Apache-2.0 */
/* Which rules telemetry measures, and the numbers that it knows them by. */
#ifndef DMM_POLICYD_MEASURE_H
#define DMM_POLICYD_MEASURE_H

#include "policyd/policy.h"

/* Is the rule measured? All are whose stack nRD chooses, others that say `telemetry: true`. */
bool measure_wanted(const struct dmm_rule *r);

/*
 * Fill rec[i].measure for each rule i of p. A name that was measured in prev (may be NULL) keeps
 * its number; a new one gets a number that nothing had, as samples of sockets of the generation
 * before may still come, or, when there is none, one that is free now. -E2BIG: more than
 * DMM_MAX_MEASURED. -ENOMEM.
 */
int measure_numbers(const struct dmm_policy *p, const struct dmm_class *prev,
		    struct dmm_rule_rec *rec);

#endif
