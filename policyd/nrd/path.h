/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of nRD: what is known of a rule, or of one prefix of it, and its state as a chooser. */
#ifndef DMM_POLICYD_NRD_PATH_H
#define DMM_POLICYD_NRD_PATH_H

#include <sys/queue.h>

#include "policyd/nrd/nrd.h"

#define SECOND 1000000000ULL
#define MS 1000000ULL
#define TURN_MAX (10 * SECOND) /* the most that one turn lets pass */

enum phase {
	PHASE_STEADY, /* one stack carries all */
	PHASE_TRIAL,  /* `other`, the challenger, carries the canary's share */
	PHASE_GUARD,  /* `now` was taken; `other`, if any, is what was before, with that share */
};

struct choice {
	struct arm arm;
	dmm_u64 banned_until; /* it failed or was worse when it was taken */
	dmm_u64 rest_until;   /* it lost a trial */
	dmm_u64 tried_at;
	dmm_u64 advice_until; /* other advice is not listened to before */
	bool advised;	      /* to be tried before the others */
	dmm_u8 bans, losses;  /* in a row: each makes the next pause longer */
};

struct path {
	TAILQ_ENTRY(path) entry; /* of nrd.following or nrd.own: least recently reported first */
	struct path *next;	 /* in the hash */
	struct rule *rule;
	dmm_u8 prefix[16], plen;
	bool own;      /* decides for itself; always true of a rule's own path */
	dmm_u32 count; /* connections in the window that began at count_since */
	dmm_u64 count_since;

	enum phase phase;
	dmm_u8 now, other;
	dmm_u8 home;	    /* left because it has no carrier; NRD_STACK_NONE: none was */
	dmm_u8 stuck;	    /* enum nrd_reason: why there is nowhere to go, which was told */
	dmm_u8 damp;	    /* switches that followed too soon on another */
	bool changed;	    /* seen to, and no trial since */
	unsigned turns;	    /* of this phase that brought something about other */
	dmm_u64 since;	    /* the phase, or the window of a steady one, began */
	dmm_u64 hold_until; /* until then only a stack that fails or is worse than before is left */
	dmm_u64 switched_at; /* 0: never */
	dmm_u64 changed_at;
	dmm_u64 look_at;      /* no trial before */
	struct evidence base; /* what now was when it was last compared; connections 0: unknown */
	dmm_u64 last;	      /* number of its last decision */
	struct choice choice[DMM_MAX_USE];
};

TAILQ_HEAD(path_list, path);

struct rule {
	struct nrd_rule c;
	unsigned number;
	struct path *all; /* the path of prefixes that do not decide for themselves */
	dmm_u64 sla_broken;
	unsigned no_carrier; /* bits by place in the list */
};

struct nrd {
	struct rule **rule;
	size_t n_rules;
	struct path **hash;
	size_t hash_size, max_paths;
	struct path_list following, own;
	dmm_u64 t;    /* own time: the sum of the turns; never 0 */
	dmm_u64 last; /* the caller's clock at the last turn */
	dmm_u64 random;
	struct nrd_decision *log; /* a ring of NRD_LOG: decision number N is at N % NRD_LOG */
	struct nrd_counters counters;
	unsigned told; /* decisions of this turn */
};

/* path.c */
struct path *path_new(struct nrd *n, struct rule *r, const dmm_u8 prefix[16], dmm_u8 plen);
void path_free(struct path *p);
struct path *path_find(const struct nrd *n, const struct rule *r, const dmm_u8 ip[16]);
/* That, or a new one; an old one makes room. NULL: no memory. */
struct path *path_get(struct nrd *n, struct rule *r, const dmm_u8 ip[16]);
void path_touch(struct nrd *n, struct path *p); /* it was reported of */
void path_drop(struct nrd *n, struct path *p);	/* out of the table */
/* The path that decides for the prefix of p. */
struct path *path_decider(struct path *p);
bool path_no_carrier(const struct path *p, unsigned place);
void path_weights(const struct path *p, dmm_u16 ret[DMM_MAX_USE]);

/* choose.c */
void choose_begin(struct nrd *n, struct path *p); /* p decides for itself from now on */
void choose_turn(struct nrd *n, struct path *p);
bool choose_advise(struct nrd *n, struct path *p, unsigned stack);
void choose_evidence(const struct path *p, unsigned place, struct evidence *ret);

/* log.c: the decision is of p, about the stacks at these places; NRD_STACK_NONE: none. */
struct nrd_decision *log_decision(struct nrd *n, struct path *p, enum nrd_action action,
				  enum nrd_reason reason, unsigned from, unsigned to);

#endif
