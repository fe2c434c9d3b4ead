/* SPDX-License-Identifier: Apache-2.0 */
/* The objects of the policy language, for those who read it from elsewhere than a file, or print
 * it. */
#ifndef DMM_POLICYD_POLICY_KEYS_H
#define DMM_POLICYD_POLICY_KEYS_H

#include "policyd/keys.h"

struct policy_object {
	const char *name; /* "match of a rule" */
	const struct key *keys;
	size_t n;
};
extern const struct policy_object policy_objects[];
extern const size_t policy_n_objects;

/* The rows of a rule and of its match. */
#define POLICY_RULE_KEYS 7
#define POLICY_MATCH_KEYS 7
extern const struct key policy_rule_keys[POLICY_RULE_KEYS], policy_match_keys[POLICY_MATCH_KEYS];

extern const char *const policy_role_words[];	 /* by enum dmm_role */
extern const char *const policy_reject_words[];	 /* by enum dmm_reject */
extern const char *const policy_carrier_words[]; /* by enum dmm_carrier - 1 */

/* Read one rule. number: what to call it in messages as long as it has no name. ret is to be
 * finished with policy_rule_fini() in any case. */
int policy_read_rule(const char *file, struct policy_diags *diags, const struct node *v,
		     size_t number, struct dmm_rule *ret);

#endif
