/* SPDX-License-Identifier: Apache-2.0 */
/* Random policies and sockets that have a good chance to meet, for property tests. */
#ifndef DMM_TESTS_POLICY_GEN_H
#define DMM_TESTS_POLICY_GEN_H

#include "policyd/policy.h"
#include "tests/unit/unit.h"

/* A policy that passes policy_check(). */
struct dmm_policy *gen_policy(struct rng *r);

/* The same with all that the language has: sets, users, programs, weights, capture. */
struct dmm_policy *gen_policy_full(struct rng *r);

/* As many rules of that kind more as are needed for n or some more. */
void gen_more_rules(struct rng *r, struct dmm_policy *p, size_t n);

/*
 * One random edit of both the policy and its class: a rule goes, comes, or becomes another. False:
 * there was no room, and the class is compiled anew.
 */
bool gen_edit(struct rng *r, struct dmm_policy *p, struct dmm_class *c);
/* The name of the rule at a place of the class, or with a number in the policy; "": none. */
const char *gen_rule_at(const struct dmm_class *c, unsigned place);
const char *gen_rule_named(const struct dmm_policy *p, unsigned number);

/* A socket of one of the groups of p, or of none: group is an index + 1, ids are the compiler's. */
struct gen_socket {
	const char *group;    /* NULL: none */
	struct eval_socket s; /* group is 0 */
};
void gen_socket(struct rng *r, const struct dmm_policy *p, struct gen_socket *ret);

/* The rule that decides, by the plainest reading of the policy; DMM_RULE_NONE: the default. */
unsigned naive_rule(const struct dmm_policy *p, const struct gen_socket *g);

/* Call fn for sockets at, just below and just above both ends of every range of every rule, which
 * the rule takes in the other fields. */
void naive_boundaries(struct rng *r, const struct dmm_policy *p,
		      void (*fn)(const struct gen_socket *g, void *ctx), void *ctx);

/* The policy as YAML, malloc()ed. */
char *policy_text(const struct dmm_policy *p);

#endif
