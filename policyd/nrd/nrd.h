/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nRD, Neuro Resource Discovery: which stack carries the connections of a rule, decided from what
 * was measured of them, per rule and remote prefix. Nothing here does I/O, reads a clock or draws a
 * number that its caller did not give: the same calls give the same decisions.
 *
 * Each decision is a controlled experiment. A trial gives a small share of new connections, chosen
 * by chance, to a challenger, and compares only what both carried since it began: whatever changes
 * on the way to the far side changes for both. The challenger is taken when the bounds of bound.h
 * lie apart and the gain is worth it; the old stack keeps the small share then, in the other role,
 * and comes back if it turns out better. docs/nrd.md has the whole of it.
 *
 * What a prefix has too few connections to decide for itself, its rule decides for all such
 * prefixes together.
 */
#ifndef DMM_POLICYD_NRD_NRD_H
#define DMM_POLICYD_NRD_NRD_H

#include <stddef.h>
#include <stdio.h>

#include "policyd/nrd/judge.h"

#define NRD_PLEN4 120 /* prefixes that are told apart: IPv4 /24, of the v4-mapped form … */
#define NRD_PLEN6 48  /* … and IPv6 /48 */
#define NRD_MAX_PATHS 8192
#define NRD_LOG 1024	   /* decisions that are kept */
#define NRD_WEIGHTS 1000   /* the sum of the weights of a choice */
#define NRD_STACK_NONE 255 /* no place in the rule's list */

struct nrd;

/* A rule whose stack is chosen here. */
struct nrd_rule {
	char name[DMM_NAME_LEN];
	struct nrd_settings set;
	char stack[DMM_MAX_USE][DMM_NAME_LEN]; /* the first is used until something is known */
	unsigned n_stacks;
};

enum nrd_action {
	NRD_TRY,     /* a trial of `to` beside `from` begins */
	NRD_TAKE,    /* `to` won it */
	NRD_REJECT,  /* `to` lost it */
	NRD_GIVE_UP, /* it went on for too long */
	NRD_REVERT,  /* `from` was taken and is worse than `to`, which is taken back */
	NRD_CONFIRM, /* `to` was taken and stays */
	NRD_ESCAPE,  /* `from` fails: `to` takes all, without a trial */
	NRD_STAY,    /* `from` fails, and there is nowhere to go */
	NRD_CHANGE,  /* `from` is not what it was: trials of the others begin at once */
	NRD_OWN,     /* the prefix decides for itself now */
	NRD_FOLLOW,  /* the prefix does what its rule decides again */
	NRD_RETURN,  /* `to` was left because it had no carrier: it takes all again */
	NRD_ACTIONS
};
extern const char *const nrd_action_words[NRD_ACTIONS], *const nrd_reason_words[NRD_REASONS];

/* A decision and all that went into it. */
struct nrd_decision {
	dmm_u64 number; /* 1 is the first */
	dmm_u64 at_ns;	/* of the turn, by the caller's clock */
	char rule[DMM_NAME_LEN], from[DMM_NAME_LEN], to[DMM_NAME_LEN]; /* "": none */
	dmm_u8 prefix[16], plen; /* plen 0: for all prefixes that do not decide for themselves */
	dmm_u8 action, reason;
	struct nrd_settings set;
	struct evidence before, after; /* of from and of to */
};

struct nrd_counters {
	dmm_u64 reports, refused[REPORT_REFUSALS];
	dmm_u64 bounded; /* reports of which something was left out */
	dmm_u64 decisions, evicted, clock_jumps;
	dmm_u64 paths; /* that are in the table now */
};

/* seed: any number. max_paths: prefixes in the table, 1 … NRD_MAX_PATHS. NULL: no memory. */
struct nrd *nrd_new(size_t max_paths, dmm_u64 seed);
void nrd_free(struct nrd *n);

/*
 * The auto rules, in place of those before; they are copied. A rule that is the same but for its
 * place keeps all that is known of it. Rules are numbered as they come here. 0 or -ENOMEM: nothing
 * changed.
 */
int nrd_configure(struct nrd *n, const struct nrd_rule *rules, size_t n_rules);
int nrd_find(const struct nrd *n, const char *rule);		     /* its number, or -ENOENT */
const struct nrd_rule *nrd_rule(const struct nrd *n, size_t number); /* NULL beyond the last */

/* A stack was in use before the caller was started again: it is again, for an address or (NULL) the
 * rule's own path. What it was like is measured anew. */
void nrd_resume(struct nrd *n, unsigned rule, const dmm_u8 *ip, unsigned stack);

/* Take a report in; r is changed to what of it counted. */
enum report_refusal nrd_report(struct nrd *n, struct report *r);

/* What is known of interfaces now: the stacks of these places in the rule's list (bits, the first
 * is the lowest) have no carrier. They are left with the next turn, and are not tried. Nothing of
 * it is kept: who loads or configures tells it again. */
void nrd_links(struct nrd *n, size_t rule, unsigned no_carrier);

/*
 * Somebody else had good of a stack: it is tried next, ahead of its turn, and what is measured here
 * decides. At most once a cooldown, so that a bad adviser costs a trial. ip NULL: for the rule's
 * own path. False: not listened to.
 */
bool nrd_advise(struct nrd *n, unsigned rule, const dmm_u8 *ip, unsigned stack);

/*
 * Decide what can be decided. To be called every second or so, and with CLOCK_MONOTONIC; a clock
 * that jumps, either way, is one long turn of at most ten seconds. Returns how many decisions there
 * were.
 */
unsigned nrd_turn(struct nrd *n, dmm_u64 now_ns);

/* What new connections of a rule to an address get: shares of NRD_WEIGHTS by place in its list. A
 * stack with 0 serves only when the others cannot. */
void nrd_weights(const struct nrd *n, unsigned rule, const dmm_u8 ip[16], dmm_u16 ret[DMM_MAX_USE]);

/* The choices in force: one for each rule, plen 0, and one for each prefix that decides for itself.
 */
struct nrd_choice {
	unsigned rule;
	dmm_u8 prefix[16], plen;
	dmm_u16 weight[DMM_MAX_USE];
};
void nrd_choices(const struct nrd *n, void (*each)(void *ctx, const struct nrd_choice *c),
		 void *ctx);

/* In how many turns so far the stack in use broke the sla, with confidence: of the rule's own path
 * and of each prefix that decides for itself. NRD_NO_SLA: it has none. */
#define NRD_NO_SLA (~0ULL)
dmm_u64 nrd_sla_broken(const struct nrd *n, size_t number);

/* What is thought of the stacks of a rule, now, for an address (NULL: of the rule's own). */
struct nrd_view {
	const char *phase; /* "steady", "trial", "guard" */
	dmm_u8 prefix[16], plen;
	dmm_u8 now, other; /* places in the list; other NRD_STACK_NONE: no trial */
	struct evidence arm[DMM_MAX_USE];
	bool no_carrier[DMM_MAX_USE];
	dmm_u64 banned_ns[DMM_MAX_USE];	 /* how much longer it is not tried; 0: it may be */
	const struct nrd_decision *last; /* of this rule or prefix; NULL: none that is kept */
};
int nrd_view(const struct nrd *n, unsigned rule, const dmm_u8 *ip, struct nrd_view *ret);

/*
 * All of that, for who is started again: written, and read into an nRD that has no rules and has
 * decided nothing. Rules that nrd_configure() then brings the same keep what is known of them.
 * -EBADMSG: it is malformed, -EPROTO: of another version; nothing was taken then. mono_ns, real_ns:
 * CLOCK_MONOTONIC and CLOCK_REALTIME now, as the first begins anew with the host.
 */
int nrd_save(const struct nrd *n, dmm_u64 mono_ns, dmm_u64 real_ns, FILE *out);
int nrd_load(struct nrd *n, const void *data, size_t len, dmm_u64 mono_ns, dmm_u64 real_ns);

/* The decisions that are kept, oldest first: i from 0; NULL beyond the last. */
const struct nrd_decision *nrd_decision(const struct nrd *n, size_t i);
void nrd_counters(const struct nrd *n, struct nrd_counters *ret);

/* The prefix of an address that is told apart; returns its length. */
dmm_u8 nrd_prefix(const dmm_u8 ip[16], dmm_u8 ret[16]);

#endif
