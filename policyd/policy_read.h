/* SPDX-License-Identifier: Apache-2.0 */
/* Building one policy from the nodes of one or more texts. */
#ifndef DMM_POLICYD_POLICY_READ_H
#define DMM_POLICYD_POLICY_READ_H

#include "policyd/policy_keys.h"

struct policy_builder {
	struct dmm_policy *policy;
	struct policy_diags *diags;
	struct policy_pos def, daemon; /* where these were set: one place only */
};

/* Add what root says. 0, -EINVAL with diagnostics, -ENOMEM. */
int policy_read(struct policy_builder *b, const char *file, const struct node *root);

/* The rows of a stack and of its port. */
#define POLICY_STACK_KEYS 13
#define POLICY_PORT_KEYS 4
extern const struct key policy_stack_keys[POLICY_STACK_KEYS], policy_port_keys[POLICY_PORT_KEYS];

/* The daemon's own, and those of its etcd. */
#define POLICY_DAEMON_KEYS 5
#define POLICY_ETCD_KEYS 9
extern const struct key policy_daemon_keys[POLICY_DAEMON_KEYS], policy_etcd_keys[POLICY_ETCD_KEYS];

/* Keys of a stack that only one kind has, NULL-terminated. */
extern const char *const policy_kernel_only[], *const policy_user_only[];

/* Read one stack; its name is set already. */
int policy_read_stack(const struct keys_at *at, const struct node *v, struct policy_stack *ret);

/* A stack or a list of them. */
int policy_read_stack_names(const struct keys_at *at, const struct key *k, const struct node *v,
			    char (*ret)[DMM_NAME_LEN], unsigned *ret_n);

/* What a rule uses: the reader of that key. */
int policy_read_use(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);

/* Give "rule-N" to the rules that have no name. 0 or -ENOMEM. */
int policy_name_rules(struct dmm_policy *p);

#endif
