/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions of nRD as text, one line each. */
#ifndef DMM_POLICYD_NRD_SAY_H
#define DMM_POLICYD_NRD_SAY_H

#include <stdio.h>

#include "policyd/nrd/nrd.h"

/*
 * What was decided, for which rule and prefix, why, and what was known of both stacks, without the
 * time:
 *
 *   cdn 10.1.2.0/24: take kernel in place of edge0: better; kernel: p90 of connect times 500 us
 *   (451 to 560) of 57 connections, 0 failed; edge0: …
 */
void say_decision(const struct nrd_decision *d, FILE *out);

#endif
