/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator says of a rule whose stack nRD chooses: `use: {auto: …}`. */
#ifndef DMM_POLICYD_NRD_SETTINGS_H
#define DMM_POLICYD_NRD_SETTINGS_H

#include "bpf/dmm_abi.h"

enum nrd_objective {
	NRD_NONE,	 /* the rule is not auto; all other settings are 0 */
	NRD_LATENCY,	 /* the lowest quantile of round trip or connect times */
	NRD_THROUGHPUT,	 /* the highest median of the rate of connections */
	NRD_RELIABILITY, /* the fewest failed connections and segments sent again */
	NRD_COST,	 /* the first of the list that keeps the sla and does not fail */
	NRD_OBJECTIVES
};

struct nrd_settings {
	dmm_u8 objective;     /* enum nrd_objective */
	dmm_u8 canary;	      /* percent of new connections that a trial takes, 1 … 50 */
	dmm_u16 min_gain;     /* percent that a stack must be better by to be taken, 0 … 1000 */
	dmm_u16 sla_permille; /* the quantile of the sla: 500, 900, 950, 990, 999; 0: no sla */
	dmm_u16 pad;
	dmm_u32 sla_us;	     /* that quantile of the latency is to be no more */
	dmm_u32 dwell_ms;    /* a stack that was taken stays at least that long, if it works */
	dmm_u32 cooldown_ms; /* a stack that was not better is tried again after that */
};

#define NRD_CANARY 5
#define NRD_CANARY_MAX 50
#define NRD_MIN_GAIN 10
#define NRD_MIN_GAIN_MAX 1000
#define NRD_DWELL_MS 30000
#define NRD_COOLDOWN_MS 300000

/* Words of the language by enum nrd_objective - 1, NULL-terminated. */
extern const char *const nrd_objective_words[];

#endif
