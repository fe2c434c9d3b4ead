/* SPDX-License-Identifier: Apache-2.0 */
/* Of two stacks that carried connections at the same time: which is better? */
#ifndef DMM_POLICYD_NRD_JUDGE_H
#define DMM_POLICYD_NRD_JUDGE_H

#include "policyd/nrd/arm.h"

enum verdict { VERDICT_OPEN, VERDICT_BETTER, VERDICT_WORSE };

/* Why: a closed list, told by `nrd why`. */
enum nrd_reason {
	REASON_NONE,
	REASON_VALUE,	   /* the bounds of what the objective compares lie apart, by min_gain */
	REASON_NO_GAIN,	   /* min_gain is out of reach */
	REASON_FAILS_LESS, /* the bounds of the failure rates lie apart */
	REASON_FAILS_MORE,
	REASON_ALL_FAIL,  /* connections one after the other */
	REASON_KEEPS_SLA, /* where the other breaks it */
	REASON_BREAKS_SLA,
	REASON_CHEAPER, /* earlier in the list, keeps the sla, does not fail */
	REASON_DEARER,
	REASON_CHANGED, /* the stack in use is not what it was */
	REASON_TIME,	/* it is time to look again, or it took too long */
	REASON_ADVISED, /* another host had good of it */
	REASON_BUSY,	/* enough connections to decide for itself */
	REASON_QUIET,
	REASON_FULL,	   /* the table is */
	REASON_NO_CARRIER, /* its interface has none, or is not there */
	REASON_CARRIER,	   /* which it had lost, is there again */
	NRD_REASONS
};

/*
 * Is the challenger better than the incumbent? gain: by how many percent it must be; its value is
 * out of the question once it cannot be. Reasons are said of the challenger.
 */
enum verdict judge(const struct nrd_settings *s, const struct evidence *incumbent,
		   const struct evidence *challenger, unsigned gain, enum nrd_reason *ret);

/* Confidently beyond the sla; false where there is none. */
bool judge_breaks_sla(const struct nrd_settings *s, const struct evidence *e);

#endif
