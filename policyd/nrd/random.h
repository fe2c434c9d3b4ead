/* SPDX-License-Identifier: Apache-2.0 */
/* A small generator (SplitMix64: Steele, Lea and Flood, OOPSLA 2014), so that a run with the same
 * seed is the same run. */
#ifndef DMM_POLICYD_NRD_RANDOM_H
#define DMM_POLICYD_NRD_RANDOM_H

#include "bpf/dmm_abi.h"

static inline dmm_u64 random_next(dmm_u64 *state)
{
	dmm_u64 z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

/* 0 … 1, 1 excluded. */
static inline double random_share(dmm_u64 *state)
{
	return (double)(random_next(state) >> 11) / 9007199254740992.0;
}

#endif
