/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the operator wants, as plain structs, and the pure functions over it:
 *
 *   text --policy_parse--> struct dmm_policy --policy_check--> diagnostics
 *        --class_compile--> struct dmm_class --(loader/maps.h)--> the maps
 *   maps --maps_read--> struct dmm_class --class_decompile--> struct dmm_policy --policy_format-->
 * text
 *
 * The round trip is the identity, but for the order and the spelling of keys. No function here does
 * I/O beside reading the files that it is given, and asking the system for a user that they name.
 */
#ifndef DMM_POLICYD_POLICY_H
#define DMM_POLICYD_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "bpf/dmm_abi.h"
#include "loader/maps.h"
#include "policyd/etcd/settings.h"
#include "policyd/nrd/settings.h"

struct policy_prefix {
	dmm_u8 ip[16];
	dmm_u8 plen; /* bits of the v4-mapped form */
};
struct policy_ports {
	dmm_u16 lo, hi; /* inclusive */
};
struct policy_uids {
	dmm_u32 lo, hi; /* inclusive */
};

/* Where something was written. file "" : on a command line. */
struct policy_pos {
	char file[DMM_PATH_LEN];
	unsigned line, column; /* 1-based; 0: unknown */
};

/* Prefixes or ports under a name; of one kind, and not empty. */
struct policy_set {
	char name[DMM_NAME_LEN];
	struct policy_pos pos;
	struct policy_prefix *prefix;
	size_t n_prefix;
	struct policy_ports *ports;
	size_t n_ports;
};

/* All lists: n == 0 means any. A set adds what it holds to the list of the same field. */
struct policy_match {
	char (*group)[DMM_NAME_LEN];
	size_t n_group;
	dmm_u8 roles; /* bits 1 << enum dmm_role; 0: any */
	dmm_u8 proto; /* IPPROTO_*; 0: any */
	struct policy_prefix *remote, *local;
	size_t n_remote, n_local;
	struct policy_ports *remote_port, *local_port;
	size_t n_remote_port, n_local_port;
	char (*remote_set)[DMM_NAME_LEN], (*local_set)[DMM_NAME_LEN];
	char (*remote_port_set)[DMM_NAME_LEN], (*local_port_set)[DMM_NAME_LEN];
	size_t n_remote_set, n_local_set, n_remote_port_set, n_local_port_set;
	struct policy_uids *uid; /* of the process that calls connect() or listen() */
	size_t n_uid;
	char (*program)[DMM_PROGRAM_LEN]; /* its name, as ps(1) shows it for the process */
	size_t n_program;
};

struct dmm_rule {
	char name[DMM_NAME_LEN]; /* unique; "rule-N" where the text gives none */
	struct policy_pos pos;
	struct policy_match match;
	char use[DMM_MAX_USE]
		[DMM_NAME_LEN]; /* stack names in order of preference; a reject stands alone */
	unsigned n_use;
	/* All 0: use is an order of preference. Else each connection takes stack i first with the
	 * probability weight[i] / sum, then the others in their order. */
	dmm_u16 weight[DMM_MAX_USE];
	/* Not NRD_NONE: nRD chooses among use, of which the first is taken until it knows more;
	 * there are no weights then. */
	struct nrd_settings nrd;
	dmm_u8 origin;	/* enum dmm_origin; NRD: shared by hosts, see fleet/shared.h */
	bool strict;	/* no kernel stack when the list is exhausted: connect() fails */
	bool disabled;	/* what matches stays on the kernel stack, reason admin-off */
	bool capture;	/* the same, reason capture: for tcpdump to see it */
	bool telemetry; /* its connections are measured; those of nRD's rules are anyway: false */
	dmm_u8 carrier; /* DMM_CARRIER_TCP (default) or DMM_CARRIER_SPLICE */
	dmm_u8 congestion; /* enum dmm_congestion */
};

/* The built-in stacks that reject, by enum dmm_reject: "reject", "reject-unreachable" … */
extern const char *const policy_reject_names[DMM_REJECTS];
/* DMM_REJECTS: the name is none of them. */
enum dmm_reject policy_reject(const char *name);

struct policy_group {
	char name[DMM_NAME_LEN];
	char cgroup[DMM_PATH_LEN]; /* below the cgroup2 mount; default "dmm/<name>" */
	struct policy_pos pos;
};

struct policy_stack {
	struct dmm_stack_rec rec;
	struct policy_pos pos;
};

/* Can a rule name the congestion control of what this stack carries? Of a plug-in nobody knows:
 * it says so itself. */
bool policy_congestion_of_rules(const struct dmm_stack_rec *s);

/* dmm-policyd's own settings; not part of what the maps hold. */
struct policy_daemon {
	char http[64];		   /* "127.0.0.1:9464"; "": no TCP */
	char http_name[64];	   /* that it is asked for by, beside address and host name */
	char socket[DMM_PATH_LEN]; /* Unix socket, default /run/dmm/policyd.sock */
	char group[DMM_NAME_LEN];  /* who may read by it; "": root */
	struct etcd_settings etcd;
};

struct dmm_policy {
	struct policy_group *groups;
	size_t n_groups;
	struct policy_stack *stacks; /* without the built-in "kernel" */
	size_t n_stacks;
	struct policy_set *sets;
	size_t n_sets;
	struct dmm_rule *rules;
	size_t n_rules;
	char def[DMM_MAX_USE][DMM_NAME_LEN]; /* default: kernel */
	unsigned n_def;
	struct policy_daemon daemon;
};

struct policy_diag {
	struct policy_pos pos;
	bool error;	/* else a warning */
	char text[256]; /* one sentence, names the object, says what to try */
};
struct policy_diags {
	struct policy_diag *list;
	size_t n, errors;
};

struct dmm_policy *policy_new(void); /* empty, default kernel */
void policy_free(struct dmm_policy *p);
void policy_diags_fini(struct policy_diags *d);
/* "file:line:column: error: text", one line each. */
void policy_diags_print(const struct policy_diags *d, FILE *out);

/*
 * Read YAML (or JSON) from a file, or from text. All errors of a document are collected in reterr,
 * not only the first. 0, or -EINVAL with diagnostics, or another -errno (the file cannot be read,
 * with a diagnostic too). policy_parse_dir() reads <path> and then <dir>/policy.d/NAME.yaml in the
 * order of their names, as one policy.
 */
int policy_parse_file(const char *path, struct dmm_policy **ret, struct policy_diags *reterr);
int policy_parse_dir(const char *path, struct dmm_policy **ret, struct policy_diags *reterr);
int policy_parse_text(const char *name, const char *text, size_t len, struct dmm_policy **ret,
		      struct policy_diags *reterr);

/* One rule from a YAML flow mapping, as on a command line: "{match: {…}, use: […]}". */
int policy_parse_rule(const char *text, struct dmm_rule *ret, struct policy_diags *reterr);
void policy_rule_fini(struct dmm_rule *r);

/* The place of the rule of this name. -ENOENT: there is none. */
int policy_find_rule(const struct dmm_policy *p, const char *name, size_t *ret);

/* Unknown stacks and groups, duplicates, unreachable rules (named), limits, nested groups, two
 * stacks on one interface and queue, unknown engines and congestion controls by name form. -EINVAL
 * if there are errors. */
int policy_check(const struct dmm_policy *p, struct policy_diags *reterr);

/* The same of a policy that passed without this one of its rules: what is new. */
int policy_check_added(const struct dmm_policy *p, size_t rule, struct policy_diags *reterr);

/*
 * The image of p. Names that prev (may be NULL) has keep their ids; tables are taken over from prev
 * if all rules match what they matched there. p must have passed policy_check(). ret is all zero
 * or another class, which it replaces; class_fini() in any case. -E2BIG: beyond a limit of the ABI.
 */
int class_compile(const struct dmm_policy *p, const struct dmm_class *prev, struct dmm_class *ret);

/* Ids by name, or -ENOENT. */
int class_stack(const struct dmm_class *c, const char *name);
int class_group(const struct dmm_class *c, const char *name);

/* The name of the file that a rule was read from. -ENOENT: none. */
int class_file(const struct dmm_class *c, unsigned rule, char ret[DMM_PATH_LEN]);

/* The policy that c is the image of. daemon settings are defaults.
 * -EPROTO: c is no image that class_compile() makes. */
int class_decompile(const struct dmm_class *c, struct dmm_policy **ret);

/* The same without its rules. */
int class_frame(const struct dmm_class *c, struct dmm_policy **ret);
/* The rule at a place; frame: of class_frame(). -ENOENT: the place is free. policy_rule_fini() in
 * any case. */
int class_rule(const struct dmm_class *c, const struct dmm_policy *frame, unsigned at,
	       struct dmm_rule *ret);

/* YAML on out. */
int policy_format(const struct dmm_policy *p, FILE *out);

/* A socket as the classifier sees it. Unknown fields are zero. */
struct eval_socket {
	dmm_u8 group, role, proto, pad;
	struct dmm_addr remote, local;
	dmm_u32 uid;		       /* EVAL_NO_UID: unknown */
	char program[DMM_PROGRAM_LEN]; /* padded with zeros */
};
#define EVAL_NO_UID 0xffffffffu

/* The place of the rule that a socket gets, DMM_RULE_NONE for the default: the same answer as the
 * BPF programs give. */
unsigned eval_rule(const struct dmm_class *c, const struct eval_socket *s);

/* The stacks of a rule in the order in which a socket that draws `draw` (DMM_DRAW) is offered them.
 */
void eval_use(const struct dmm_rule_rec *rule, dmm_u32 draw, dmm_u8 ret[DMM_MAX_USE]);

/* True if the two hold the same, cgroup ids and what was created aside. */
bool class_equal(const struct dmm_class *a, const struct dmm_class *b);

/* What changes from a to b, as lines "+ rule web-out …", "- stack edge0 …", "~ group …" on out.
 * Returns the number of lines. out may be NULL. */
int class_diff(const struct dmm_class *a, const struct dmm_class *b, FILE *out);
/* The same for one rule; NULL: it is not there before, or after. */
int rule_diff(const struct dmm_rule *old, const struct dmm_rule *now, FILE *out);

#endif
