/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which rules can never decide, as earlier ones take all of their sockets.
 *
 * Found exactly: what one earlier rule covers, whatever lists, sets, ranges and prefixes either of
 * them has, and how they are cut. Found as well: what several rules cover, if each combination of
 * the items of the rule's lists is covered by one of them, or by several that differ in one field
 * (80-90 after 80-85 and 86-90); at most REACH_COMBINATIONS of either.
 * Not found: an item that is cut in two fields at once, a rule for any group behind rules for each
 * of the groups, and what cannot be because an address of one family never meets one of the other.
 */
#ifndef DMM_POLICYD_REACH_H
#define DMM_POLICYD_REACH_H

#include "policyd/policy.h"

#define REACH_COMBINATIONS 64

struct reach_finding {
	size_t rule; /* is never reached */
	size_t by;   /* the rule that covers it; several: the first of them */
	bool several;
	bool same; /* by matches just the same */
};
typedef void (*reach_fn)(void *ctx, const struct reach_finding *f);

/*
 * Call fn for each rule of p that is never reached, in their order. p has no name that leads
 * nowhere. *ret_all is false if there was too much to compare: then not all were found. 0 or
 * -ENOMEM.
 */
int reach_scan(const struct dmm_policy *p, reach_fn fn, void *ctx, bool *ret_all);

/* The same for what is never reached because this rule is there: the rule itself, and later ones
 * that would be reached without it. */
int reach_added(const struct dmm_policy *p, size_t rule, reach_fn fn, void *ctx, bool *ret_all);

#endif
