/* SPDX-License-Identifier: Apache-2.0 */
/* Which rules can never decide. */
#ifndef DMM_POLICYD_REACH_H
#define DMM_POLICYD_REACH_H

#include "policyd/policy.h"

/*
 * True if every record of the rule is covered by one record of an earlier rule; *ret_by is the
 * first such rule. What only several records cover together is not found: false negatives are
 * possible.
 */
bool rule_is_shadowed(const struct dmm_class *c, unsigned rule, unsigned *ret_by);

#endif
