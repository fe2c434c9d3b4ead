/* SPDX-License-Identifier: Apache-2.0 */
/* What a rule matches, every field alike: numbers in ranges. */
#ifndef DMM_POLICYD_REACH_SHAPE_H
#define DMM_POLICYD_REACH_SHAPE_H

#include "policyd/index.h"
#include "policyd/policy.h"
#include "policyd/ranges.h"

enum shape_field {
	SHAPE_GROUP, /* by its place in the policy, doubled: none is next to another */
	SHAPE_ROLE,
	SHAPE_PROTO,
	SHAPE_REMOTE,
	SHAPE_REMOTE_PORT,
	SHAPE_LOCAL,
	SHAPE_LOCAL_PORT,
	SHAPE_UID,
	SHAPE_PROGRAM, /* its bytes as a number */
	SHAPE_FIELDS
};

/* A list of the rule, and sets that are added to it. */
struct shape_part {
	struct ranges own;
	const struct ranges **set;
	size_t n_set;
};

struct shape {
	unsigned mask; /* bit 1 << enum shape_field: the field is restricted; else it is any */
	struct shape_part part[SHAPE_FIELDS];
};

/* Of a policy: what its rules have in common. */
struct shapes {
	const struct dmm_policy *policy;
	struct index groups, sets;
	struct ranges *set; /* by their place in the policy */
};

int shapes_init(struct shapes *s, const struct dmm_policy *p);
void shapes_fini(struct shapes *s);

/*
 * The shape of a rule. What can only be of one kind is said: a remote is only known to clients, a
 * list of all there is is no restriction. 0; -ENOENT: the rule matches nothing or has a name that
 * leads nowhere; -ENOMEM. shape_fini() in any case.
 */
int shape_of(const struct shapes *s, const struct dmm_rule *rule, struct shape *ret);
void shape_fini(struct shape *s);

/* The ranges of a field one after the other; NULL behind the last. */
const struct range *shape_range(const struct shape_part *p, size_t i);

/* The range of a restricted field that holds the number; NULL: none, or the field is any. */
const struct range *shape_find(const struct shape *s, enum shape_field field, u128 at);

/* Do both take a value in common in each field that a restricts? b restricts it, too. */
bool shape_meets(const struct shape *a, const struct shape *b);

/* Does every socket that b matches match a? *work grows by what was compared. */
bool shape_covers(const struct shape *a, const struct shape *b, size_t *work);

#endif
