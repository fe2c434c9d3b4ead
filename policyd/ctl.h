/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dmm-policy: one table of verbs, one of options. A verb reads and writes the maps itself: it works
 * without the daemon. Text on standard output is for people, JSON (-j) is the contract.
 */
#ifndef DMM_POLICYD_CTL_H
#define DMM_POLICYD_CTL_H

#include <jansson.h>

#include "policyd/policy.h"

/* The exit status, each with a row of ctl_exits. */
enum ctl_exit { CTL_OK, CTL_FAILED, CTL_USAGE, CTL_NOT_YET, CTL_EXITS };
extern const char *const ctl_exits[CTL_EXITS]; /* what it means, for help and man page */

/* What a word of the command line names: for completion. */
enum ctl_names {
	CTL_N_NONE,
	CTL_N_RULE,
	CTL_N_STACK,
	CTL_N_GROUP,
	CTL_N_FILE,
	CTL_N_FORMAT, /* of import --from */
	CTL_N_PROTO,
	CTL_N_VERB,	  /* of help: a verb, or a topic */
	CTL_N_ADD,	  /* the name of a rule, then its keys and their values */
	CTL_N_PROPERTIES, /* of a socket, and their values */
	CTL_N_SHELL,
	CTL_N_EVENT,
};

/* Options, by their bit in ctl_verb.options. */
enum ctl_option {
	CTL_FILE = 1 << 0,
	CTL_DRY_RUN = 1 << 1,
	CTL_REPLACE = 1 << 2,
	CTL_FORCE = 1 << 3,
	CTL_YAML = 1 << 4,
	CTL_STACK = 1 << 5,
	CTL_GROUP = 1 << 6,
	CTL_RULE = 1 << 7,
	CTL_PROTO = 1 << 13,
	CTL_PID = 1 << 14,
	CTL_FD = 1 << 15,
	CTL_CONFIRM = 1 << 16,
	CTL_FROM = 1 << 20,
	CTL_MAP = 1 << 21,
	CTL_OLD = 1 << 22,
	CTL_TERMINATE = 1 << 23,
	CTL_TIMEOUT = 1 << 24,
	CTL_COUNT = 1 << 25,
	CTL_DELAY = 1 << 26,
	CTL_BATCH = 1 << 27,
	/* of every verb */
	CTL_JSON = 1 << 8,
	CTL_PRETTY = 1 << 9,
	CTL_BPFFS = 1 << 10,
	CTL_HELP = 1 << 11,
	CTL_VERSION = 1 << 12,
};
#define CTL_COMMON (CTL_JSON | CTL_PRETTY | CTL_BPFFS | CTL_HELP | CTL_VERSION)

#define CTL_MAX_MAP DMM_MAX_STACKS /* --map of one command */

struct ctl {
	unsigned given; /* enum ctl_option bits */
	const char *file, *stack, *group, *rule, *bpffs, *proto;
	unsigned pid, fd;
	unsigned confirm_s; /* apply --confirm-within */
	unsigned timeout_s; /* 0: none */
	unsigned count;	    /* 0: no end */
	unsigned delay_ms;
	char how[128];	 /* the command, for the history */
	bool confirmed;	 /* it may change what waits to be confirmed */
	dmm_u64 only_if; /* not 0: the generation that must be in force */
	const char *from, *map[CTL_MAX_MAP];
	unsigned n_map; /* given; what is beyond CTL_MAX_MAP is not kept */
};

struct ctl_verb {
	const char *words;	/* "stack list" */
	const char *args;	/* "NAME…", for help */
	const char *help;	/* one line */
	unsigned options;	/* beside CTL_COMMON */
	int min_args, max_args; /* words after the verb; max -1: any number */
	int (*run)(const struct ctl *c, int argc, char **argv); /* enum ctl_exit */
	enum ctl_names names;					/* what its arguments are */
};
extern const struct ctl_verb ctl_verbs[];
extern const size_t ctl_n_verbs;

struct ctl_option_row {
	const char *name;
	char letter;	 /* 0: none */
	const char *arg; /* NULL: none */
	unsigned bit;
	const char *help;
	enum ctl_names names; /* what its argument is */
};
extern const struct ctl_option_row ctl_options[];
extern const size_t ctl_n_options;
#define CTL_MAX_OPTIONS 48

/* The verb that the words mean, whole or abbreviated; *ret_words of them belong to it. NULL: none,
 * or several: then *ret_candidates is how many. */
const struct ctl_verb *ctl_find_verb(int argc, char **argv, int *ret_words, int *ret_candidates);

/* Do both act on the same kind of object? "stack list", "stack disable". */
bool ctl_same_object(const struct ctl_verb *a, const struct ctl_verb *b);

/* Words of `verb` that argv begins with, abbreviated unless exact; -1: it is another verb. */
int ctl_words_match(const char *verb, int argc, char **argv, bool exact);

/* Kinds of events of monitor, NULL-terminated. */
extern const char *const ctl_events[];
/* Topics of help beside the verbs, NULL-terminated. */
extern const char *const ctl_help_topics[];

/*
 * Print what the last of these words, which may be empty, can become, one a line: verbs, options,
 * and what the policy in force names. argv is all that follows "dmm-policy". A line ":file" stands
 * for names of files.
 */
void ctl_complete(int argc, char **argv, FILE *out);

/* CTL_USAGE, with a message: argv is none of the verbs, or the beginning of several. */
int ctl_unknown_verb(int argc, char **argv, int candidates);

/* The program. Returns its exit status. */
int ctl_run(int argc, char **argv);

/* ---- the verbs ---- */

int ctl_show(const struct ctl *c, int argc, char **argv);
int ctl_add(const struct ctl *c, int argc, char **argv);
int ctl_del(const struct ctl *c, int argc, char **argv);
int ctl_apply(const struct ctl *c, int argc, char **argv);
int ctl_history(const struct ctl *c, int argc, char **argv);
int ctl_rollback(const struct ctl *c, int argc, char **argv);
int ctl_confirm(const struct ctl *c, int argc, char **argv);
int ctl_validate(const struct ctl *c, int argc, char **argv);
int ctl_import(const struct ctl *c, int argc, char **argv);
int ctl_explain(const struct ctl *c, int argc, char **argv);
int ctl_rule_disable(const struct ctl *c, int argc, char **argv);
int ctl_rule_enable(const struct ctl *c, int argc, char **argv);
int ctl_capture_on(const struct ctl *c, int argc, char **argv);
int ctl_capture_off(const struct ctl *c, int argc, char **argv);
int ctl_stack_disable(const struct ctl *c, int argc, char **argv);
int ctl_stack_drain(const struct ctl *c, int argc, char **argv);
int ctl_stack_enable(const struct ctl *c, int argc, char **argv);
int ctl_group_disable(const struct ctl *c, int argc, char **argv);
int ctl_group_enable(const struct ctl *c, int argc, char **argv);
int ctl_stack_list(const struct ctl *c, int argc, char **argv);
int ctl_group_list(const struct ctl *c, int argc, char **argv);
int ctl_flows(const struct ctl *c, int argc, char **argv);
int ctl_top(const struct ctl *c, int argc, char **argv);
int ctl_monitor(const struct ctl *c, int argc, char **argv);
int ctl_nrd_status(const struct ctl *c, int argc, char **argv);
int ctl_nrd_why(const struct ctl *c, int argc, char **argv);
int ctl_nrd_history(const struct ctl *c, int argc, char **argv);
int ctl_stats(const struct ctl *c, int argc, char **argv);
int ctl_probe(const struct ctl *c, int argc, char **argv);
int ctl_detach(const struct ctl *c, int argc, char **argv);
int ctl_completion(const struct ctl *c, int argc, char **argv);
int ctl_help(const struct ctl *c, int argc, char **argv);
int ctl_version(const struct ctl *c, int argc, char **argv);

/* ---- words of a command line ---- */

struct ctl_place {
	enum { PLACE_NONE, PLACE_FIRST, PLACE_LAST, PLACE_BEFORE, PLACE_AFTER } where;
	const char *rule; /* of BEFORE, AFTER */
};

/* "web-out group web remote=10.0.0.0/8 use edge0,kernel before x" as a rule. -EINVAL with
 * diagnostics; ret is to be finished with policy_rule_fini() in any case. */
int ctl_words_rule(int argc, char **argv, struct dmm_rule *ret, struct ctl_place *ret_place,
		   struct policy_diags *diags);

/* ---- shared ---- */

/* The tree and the class in force. CTL_OK, or CTL_FAILED with a message. */
struct ctl_state {
	struct tree tree;
	struct dmm_class *class;
	dmm_u64 generation;
};
int ctl_state_open(const struct ctl *c, struct ctl_state *ret);
void ctl_state_close(struct ctl_state *s);

/* The same with everything that is counted; closed by ctl_state_close(). */
struct telemetry;
int ctl_telemetry_open(const struct ctl *c, struct ctl_state *ret, struct telemetry *m);

/* The i-th rule, stack or group in force; "": not in use, NULL: no more. */
const char *ctl_name(const struct dmm_class *class, enum ctl_names kind, unsigned i);
/* Say that there is no such rule, stack or group, and which may be meant. */
void ctl_unknown_name(const struct dmm_class *class, enum ctl_names kind, const char *name);

/* Live sockets as a list. */
struct ctl_sockets {
	struct dmm_flow_row *row;
	size_t n;
};
/* CTL_FAILED with a message: --stack or --group names what is not in force. */
int ctl_choice_check(const struct ctl *c, const struct ctl_state *s);
/* Those that the options --stack, --group, --rule, --pid and --old choose. CTL_OK, or CTL_FAILED
 * with a message. ret->row is the caller's to free in any case. */
int ctl_sockets_read(const struct ctl *c, struct ctl_state *s, struct ctl_sockets *ret);
/* Is it one of those? */
bool ctl_socket_chosen(const struct ctl *c, const struct ctl_state *s, const struct dmm_sock *k);
/* Cells of a table. */
struct table;
void ctl_endpoint_cell(struct table *t, const struct dmm_addr *a);
const char *ctl_stack_name(const struct dmm_class *class, unsigned id);
const char *ctl_group_name(const struct dmm_class *class, unsigned id);
const char *ctl_rule_name(const struct dmm_sock *s);
/* A table of them. */
void ctl_sockets_print(const struct ctl_state *s, const struct ctl_sockets *l);

/* How the end of sockets went. */
struct ctl_ended {
	size_t ended, gone, kept; /* gone: by themselves; kept: listening */
	struct ctl_sockets failed;
	int *error; /* of each that failed */
};
/* End all of l that are connected. CTL_OK, or CTL_FAILED with a message when none could be tried.
 * ret is to be finished in any case. */
int ctl_sockets_end(struct ctl_sockets *l, struct ctl_ended *ret);
void ctl_ended_fini(struct ctl_ended *e);
/* One line, and one for each that could not be ended. */
void ctl_ended_print(const struct ctl_ended *e);
json_t *ctl_ended_json(const struct ctl_ended *e, const struct dmm_class *class);
/* flows --terminate, of l. */
int ctl_terminate(const struct ctl *c, const struct ctl_state *s, struct ctl_sockets *l);

/* Switch a stack off or on; s holds the writers' lock. 0, or -errno with a message. */
int ctl_switch_stack(struct ctl_state *s, const char *name, bool off, bool *ret_changed);

/* Put p in force, as apply does; takes p over. */
int ctl_put(const struct ctl *c, struct dmm_policy *p);

/* CTL_FAILED with a message: a generation waits to be confirmed. */
int ctl_refuse_pending(const struct ctl_state *s);
/* CTL_FAILED with a message: what is in force could not be gone back to. */
int ctl_may_guard(const struct ctl_state *s);
/* Leave a process behind that goes back to `before` in c->confirm_s seconds. */
int ctl_guard(const struct ctl *c, struct ctl_state *s, dmm_u64 generation, dmm_u64 before);

/* The i-th property that explain takes; NULL: no more. */
const char *ctl_explain_key(size_t i);
/* explain: the sockets of a process. */
int ctl_explain_live(const struct ctl *c, struct ctl_state *s);
struct explanation;
json_t *ctl_explanation_json(const struct dmm_class *class, dmm_u64 generation,
			     const struct explanation *e);
void ctl_explanation_print(const struct dmm_class *class, dmm_u64 generation,
			   const struct explanation *e);

/* The JSON Schema (draft 7) of a policy file; NULL: out of memory. */
json_t *ctl_schema(void);

/* Print and drop o. CTL_OK, CTL_FAILED when standard output fails. */
int ctl_print_json(const struct ctl *c, json_t *o);

/* Tell the daemon that the maps changed. Silent when there is none. */
void ctl_poke_daemon(void);

/* What the daemon answers to GET path, an object; NULL, with a message: it does not, or it is an
 * error. */
json_t *ctl_ask_daemon(const char *path);

/* Configuration at boot, when no file is named. */
#define CTL_CONFIG "/etc/dmm/dmm.yaml"

#endif
