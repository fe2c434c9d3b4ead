/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An object of the policy as the keys and values that would be written for it: what YAML, JSON, the
 * words of the command line and the diff are made from. Keys that have their default are left out.
 */
#ifndef DMM_POLICYD_FIELDS_H
#define DMM_POLICYD_FIELDS_H

#include "policyd/policy.h"

enum field_type { FIELD_TEXT, FIELD_LIST, FIELD_NUMBER, FIELD_BOOL, FIELD_MAP };

struct field {
	const char *parent; /* the key of the mapping that it is in, NULL: of the object itself */
	const char *key;
	enum field_type type;
	char *value; /* items are separated by commas; those of a map are "key:value" */
};

#define FIELDS_MAX 24

struct fields {
	struct field list[FIELDS_MAX];
	size_t n;
};

/* The name is not among the fields. 0 or -ENOMEM; fields_fini() in any case. */
int fields_of_group(const struct policy_group *g, struct fields *ret);
int fields_of_stack(const struct dmm_stack_rec *s, struct fields *ret);
int fields_of_set(const struct policy_set *s, struct fields *ret); /* one: items */
int fields_of_rule(const struct dmm_rule *r, struct fields *ret);
int fields_of_use(const char (*use)[DMM_NAME_LEN], unsigned n, const char *key, struct fields *ret);
int fields_of_daemon(const struct policy_daemon *d, struct fields *ret);
void fields_fini(struct fields *f);

const struct field *fields_find(const struct fields *f, const char *key);

/* "key=value key=value", as `dmm-policy add` takes them. */
void fields_print(const struct fields *f, FILE *out);

#endif
