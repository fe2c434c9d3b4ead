/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reports of many turns, summed up by rule, stack and prefix, for other hosts to hear of. Bounded:
 * beyond GATHER_MAX of them nothing more is taken until they were told.
 */
#ifndef DMM_POLICYD_NRD_GATHER_H
#define DMM_POLICYD_NRD_GATHER_H

#include "policyd/nrd/report.h"

#define GATHER_MAX 64

struct gather {
	struct report report[GATHER_MAX];
	unsigned n;
};

void gather_add(struct gather *g, const struct report *r);

#endif
