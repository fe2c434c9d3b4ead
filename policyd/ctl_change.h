/* SPDX-License-Identifier: Apache-2.0 */
/* A change of the policy under way: what the verbs that make one share. */
#ifndef DMM_POLICYD_CTL_CHANGE_H
#define DMM_POLICYD_CTL_CHANGE_H

#include "policyd/ctl.h"

struct edit {
	struct ctl_state state;
	struct dmm_policy *policy; /* as it is to be; NULL: not read back */
	bool of_rules;		   /* it is the policy in force but for single rules */
	struct policy_diags diags;
	int lock;
};

/* Functions return enum ctl_exit, with a message unless it is CTL_OK. */

/* Lock and read. With make, the tree is made if it is not there. ctl_edit_end() in any case. */
int ctl_edit_begin(const struct ctl *c, bool make, struct edit *e);
void ctl_edit_end(struct edit *e);

/* The policy in force as e->policy, for changes of single rules. */
int ctl_edit_policy(struct edit *e);
/* Check e->policy, and say what is new: all of it, or a rule that was added. */
int ctl_edit_check(struct edit *e);
int ctl_edit_check_rule(struct edit *e, const char *name);
/* Compile e->policy, compare it with prev, put it in force. */
int ctl_edit_compile(const struct ctl *c, struct edit *e, const struct dmm_class *prev);
/* Put next in force unless it is the same as what is, and print the changes. */
int ctl_edit_put(const struct ctl *c, struct edit *e, const struct dmm_class *next,
		 const char *changes, int lines, bool same);

#endif
