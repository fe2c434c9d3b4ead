/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One rule of a class at a time, in place: what one rule among very many does is changed in
 * milliseconds. The result is the same policy as a whole compile makes; only places and what is
 * left behind differ.
 *
 *	r = edit_begin(&e, c);
 *	if (r == 0)
 *		r = edit_del(&e, edit_find(&e, "old"));
 *	edit_end(&e);
 *
 * Functions return 0, -ENOMEM, or -ENOSPC: there is no room, or the change is more than an edit can
 * do: then c is spoiled, to be read again, and class_compile() does it. -EPROTO: c is no image that
 * class_compile() makes.
 */
#ifndef DMM_POLICYD_EDIT_H
#define DMM_POLICYD_EDIT_H

#include "policyd/compile.h"
#include "policyd/index.h"

struct class_edit {
	struct dmm_class *c;
	struct dmm_policy *frame; /* all of c's policy but its rules */
	struct shapes shapes;
	struct index sets;
	struct image image; /* c's while it is edited */
};

/* c belongs to the edit until edit_end(), which is called in any case. */
int edit_begin(struct class_edit *e, struct dmm_class *c);
void edit_end(struct class_edit *e);

/* The place of the rule of this name, DMM_RULE_NONE: none. */
dmm_u32 edit_find(const struct class_edit *e, const char *name);

/* A free place for a rule before the one at `before`; DMM_RULE_NONE: behind all others. Rules in
 * the way move to a free place that is near. */
int edit_place(struct class_edit *e, dmm_u32 before, dmm_u32 *ret);

/* Take the rule at a place away. */
int edit_del(struct class_edit *e, dmm_u32 at);

/* Put a rule, which would pass policy_check() in this policy, at a place that is free, or that the
 * rule that it replaces has. */
int edit_put(struct class_edit *e, dmm_u32 at, const struct dmm_rule *rule);

#endif
