/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stack as a choice: what was measured of it since a moment that the chooser sets, and what is
 * thought of it then. Sources are dealt into groups, each is counted for itself, and of their
 * verdicts the median counts (median of means: Nemirovsky and Yudin 1983; Lugosi and Mendelson,
 * "Mean estimation and regression under heavy-tailed distributions", FoCM 2019): what one source
 * tells, however wrong, moves the result no further than to what its neighbours among the honest
 * groups say, as soon as there are three. With one source there is one group.
 */
#ifndef DMM_POLICYD_NRD_ARM_H
#define DMM_POLICYD_NRD_ARM_H

#include "policyd/nrd/bound.h"
#include "policyd/nrd/report.h"
#include "policyd/nrd/settings.h"

#define ARM_GROUPS 5
#define ARM_TURN_MAX 4096 /* connections that count of one group in one turn */
#define ARM_RUN 8 /* connections that fail one after the other before a stack is left at once */

struct arm_part {
	dmm_u32 connections, failed;
	dmm_u32 turn, turn_failed; /* since the last turn */
	dmm_u32 run;		   /* failed since the last that did not; reset with the rest */
	dmm_u64 segments, resent;
	struct hist hist[REPORT_METRICS];
};

struct arm {
	struct arm_part *part[ARM_GROUPS]; /* NULL: no source of this group ever */
	bool fresh;			   /* something was counted since the last turn */
};

/* What is known of an arm. Values are such that less is better. */
struct evidence {
	dmm_u32 connections, failed;
	dmm_u32 values;		 /* of the metric */
	dmm_u8 metric;		 /* enum report_metric that latency is taken from */
	dmm_u8 place;		 /* in the rule's list */
	struct interval fail;	 /* chance that a connection fails */
	struct interval latency; /* microseconds, at the quantile of the settings */
	struct interval value;	 /* what the objective compares */
};

/* Count r, which was judged. What is beyond REPORT_MAX, or ARM_TURN_MAX of a group, is left out:
 * *random rounds. True if anything was left out. -ENOMEM. */
int arm_count(struct arm *a, struct report *r, dmm_u64 *random, bool *ret_bounded);
void arm_turn(struct arm *a);  /* a new turn */
void arm_reset(struct arm *a); /* forget what was counted */
void arm_fini(struct arm *a);

/*
 * Which groups have a say, as bits: of those that reported of any of the n choices, the ones that
 * are not quiet beside the others. One that has a say and nothing to say yet of an arm knows
 * nothing of it: so a source cannot decide by being the first.
 */
unsigned arm_voices(const struct arm *const *arms, unsigned n);

bool arm_has(const struct arm *a, unsigned voices, enum report_metric m); /* most know it */
bool arm_runs_dry(const struct arm *a, unsigned voices); /* most saw ARM_RUN failures in a row */
double arm_turn_failed(const struct arm *a);		 /* share of this turn's connections */

/* place: of the stack in the rule's list, which is what NRD_COST compares. */
void arm_evidence(const struct arm *a, unsigned voices, const struct nrd_settings *s,
		  unsigned place, enum report_metric latency, struct evidence *ret);

/* Permille of the quantile that latency is compared at. */
unsigned settings_permille(const struct nrd_settings *s);

#endif
