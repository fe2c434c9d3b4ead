/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of another system as a policy of ours.
 *
 *   text --import_text--> struct dmm_policy with diagnostics --import_print--> YAML that
 *   policy_parse_text() reads back as the same rules
 *
 * What has no equivalent is an error with its line, never left out in silence; the rest is
 * translated all the same. No function here does I/O beside import_print().
 */
#ifndef DMM_POLICYD_IMPORT_H
#define DMM_POLICYD_IMPORT_H

#include "policyd/policy.h"

/* "nstack-dpdk=edge0": a name of the other system, and the stack of ours that it stands for. */
struct import_map {
	const char *from;
	size_t from_len;
	const char *to;
	bool used; /* the file has the name */
};

/* The text must stay. -EINVAL: not NAME=STACK. */
int import_map_parse(const char *text, struct import_map *ret);

/* A name that no map has: there must be a stack of this name. */
struct import_stack {
	char name[DMM_NAME_LEN];
	unsigned line; /* where it is first; 0: in no line, it is the default */
};

struct import_format;

struct import {
	/* the caller's */
	const char *file; /* for messages */
	struct import_map *map;
	size_t n_map;
	/* the result */
	const struct import_format *format;
	struct dmm_policy *policy; /* n_def 0: the other system has no default in this file */
	struct policy_diags diags;
	struct import_stack *stacks;
	size_t n_stacks;
};

struct import_format {
	const char *name;		 /* of --from */
	const char *rule;		 /* rules are called rule-1, rule-2 … */
	const char *const *kernel_names; /* of the kernel's stack, NULL-terminated */
	const char *note;		 /* comment lines for the reader of the YAML */
	/* Translate text[0 … len - 1], which may be changed; text[len] is NUL. 0, or -EINVAL with
	 * diagnostics, or -ENOMEM. */
	int (*read)(struct import *im, char *text, size_t len);
};
extern const struct import_format import_formats[];
extern const size_t import_n_formats;

const struct import_format *import_find_format(const char *name);

/*
 * 0; -EINVAL: not all of it could be translated, diags say what, policy holds the rest; -ENOMEM.
 * import_fini() in any case.
 */
int import_text(struct import *im, const struct import_format *format, const char *text,
		size_t len);
void import_fini(struct import *im);

/* Comments (which rule comes from which line, which stacks are to be defined) and the policy. */
int import_print(const struct import *im, FILE *out);

/* ---- for the readers of formats ---- */

void import_pos(const struct import *im, unsigned line, unsigned column, struct policy_pos *ret);

/* Our name of a stack. -EINVAL with a diagnostic: it cannot be one and no map has it. */
int import_stack(struct import *im, const struct policy_pos *pos, const char *name,
		 char ret[DMM_NAME_LEN]);

/* One prefix more; host bits are masked, with a warning. */
int import_add_prefix(struct import *im, const struct policy_pos *pos, const char *text,
		      struct policy_prefix **list, size_t *n);

/* A rule behind the others; takes match over, also on failure. */
int import_add_rule(struct import *im, const struct policy_pos *pos, struct policy_match *match,
		    const char *use);

int import_rd(struct import *im, char *text, size_t len);  /* FD.io DMM's rd_config.json */
int import_vma(struct import *im, char *text, size_t len); /* libvma.conf */

#endif
