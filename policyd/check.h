/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of policy_check() share. */
#ifndef DMM_POLICYD_CHECK_H
#define DMM_POLICYD_CHECK_H

#include "policyd/index.h"
#include "policyd/policy.h"

struct check {
	const struct dmm_policy *p;
	struct policy_diags *diags;
	struct index groups, stacks, sets, rules; /* by name */
};

/* " (dmm.yaml:3)" for messages about another place; "" on a command line. */
const char *check_place(const struct policy_pos *pos, char *buf, size_t len);

/* Names, kinds and number of the sets. 0 or -ENOMEM. */
int check_sets(struct check *c);
/* Groups and sets that the match names, and what can never match. */
void check_match(const struct check *c, const struct dmm_rule *r);

#endif
