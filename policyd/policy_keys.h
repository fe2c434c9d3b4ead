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

#define POLICY_VERSION 1
#define POLICY_MAX_RULES 65536
#define POLICY_MAX_SETS 1024
#define POLICY_MAX_WEIGHT 65535 /* also of the sum */

/* The rows of a rule, of its match, and of its use where that is a mapping. */
#define POLICY_RULE_KEYS 11
#define POLICY_MATCH_KEYS 9
#define POLICY_USE_KEYS 8
#define POLICY_SLA_KEYS 5
extern const struct key policy_rule_keys[POLICY_RULE_KEYS], policy_match_keys[POLICY_MATCH_KEYS],
	policy_use_keys[POLICY_USE_KEYS], policy_sla_keys[POLICY_SLA_KEYS];
extern const struct key policy_weight_key; /* a value of weights */

extern const char *const policy_role_words[];	 /* by enum dmm_role */
extern const char *const policy_reject_words[];	 /* by enum dmm_reject */
extern const char *const policy_carrier_words[]; /* by enum dmm_carrier - 1 */

/* The key of a quantile in permille: "p99"; NULL: there is none. */
const char *policy_sla_key(unsigned permille);

/* Read one rule. number: what to call it in messages as long as it has no name. ret is to be
 * finished with policy_rule_fini() in any case. */
int policy_read_rule(const char *file, struct policy_diags *diags, const struct node *v,
		     size_t number, struct dmm_rule *ret);

#endif
