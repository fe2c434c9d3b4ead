/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of tests that need one, whichever: of two stacks, everything else as it is by default.
 */
#ifndef DMM_TESTS_NRD_RULE_H
#define DMM_TESTS_NRD_RULE_H

#include "policyd/nrd/nrd.h"

static const struct nrd_rule nrd_rule_cdn = {
	.name = "cdn",
	.set = {.objective = NRD_LATENCY,
		.canary = NRD_CANARY,
		.min_gain = NRD_MIN_GAIN,
		.dwell_ms = NRD_DWELL_MS,
		.cooldown_ms = NRD_COOLDOWN_MS},
	.stack = {"edge0", "kernel"},
	.n_stacks = 2,
};

#endif
