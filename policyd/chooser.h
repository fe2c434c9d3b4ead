/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nRD inside the daemon: samples of connections in (loader/measure.h), choices of stacks out, once
 * a second. What it has chosen lies in the maps, goes on without the daemon, and is taken over by
 * the next one.
 */
#ifndef DMM_POLICYD_CHOOSER_H
#define DMM_POLICYD_CHOOSER_H

#include "loader/measure.h"
#include "policyd/nrd/gather.h"
#include "policyd/nrd/nrd.h"
#include "policyd/policy.h"

struct chooser {
	struct nrd *nrd; /* NULL: closed */
	const struct tree *tree;
	const struct dmm_class *class; /* that it was configured by */
	struct samples samples;
	struct report *report; /* of this turn, a hash table */
	unsigned n_reports;
	struct gather *gather; /* the same, of shared rules, until they are told; NULL: nobody is */
	dmm_u32 *rule;	       /* by number of the auto rule: its place in the class */
	size_t n_rules;
	dmm_u16 auto_of[DMM_MAX_MEASURED + 1]; /* by number of telemetry: that of the auto rule + 1;
						  0: none */
	dmm_u64 turn_ns, next_ns;	       /* the last turn; when the next one is due */
	dmm_u64 told;			       /* the last decision that was logged */
	dmm_u64 samples_n, samples_lost, sample_ns; /* read, missed; when one was read last */
	/* decisions that were logged, by number of telemetry */
	dmm_u32 decided[DMM_MAX_MEASURED + 1][NRD_ACTIONS];
	dmm_u64 sla_broken[DMM_MAX_MEASURED + 1]; /* the same; as nrd_sla_broken() */
	/* chooser_keep.c: the last decision in the file; when it is due, and may be, again */
	dmm_u64 kept, keep_ns, keep_after_ns;
	bool stale;	    /* the map may hold choices that are nobody's */
	dmm_u32 no_carrier; /* stacks, bits by number */
};

/* 0 or -errno. The tree stays open. */
int chooser_open(struct chooser *c, const struct tree *t);
void chooser_close(struct chooser *c);

/* Take on what another daemon kept in a file; malformed, it is refused whole and said. Before
 * anything is configured. */
void chooser_load(struct chooser *c, const char *path);
/* Keep it: whole or not at all. 0 or -errno. To be called when something was decided, or a minute
 * has passed, and at the end. */
int chooser_save(struct chooser *c, const char *path);
bool chooser_is_unsaved(const struct chooser *c);

/* Another class is in force, which stays until the next. Rules that are the same keep what is known
 * of them; of those that are new here, choices in the maps are taken over. */
int chooser_configure(struct chooser *c, const struct dmm_class *class);

/* These stacks, bits by number, have no carrier now: what follows from it is due at once. */
void chooser_links(struct chooser *c, dmm_u32 no_carrier, dmm_u64 now);

/* Do what is due. */
void chooser_run(struct chooser *c, dmm_u64 now);
dmm_u64 chooser_next_ns(const struct chooser *c); /* when it is; UINT64_MAX: never */

#endif
