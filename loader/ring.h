/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a ring of slots in memory that many write and nobody takes anything out of (dmm_monitor,
 * dmm_samples). A slot begins with its seq: n + 1 once record number n is all there.
 */
#ifndef DMM_LOADER_RING_H
#define DMM_LOADER_RING_H

#include <stdbool.h>
#include <stddef.h>

#include "bpf/dmm_abi.h"

struct ring {
	const volatile char *slot;
	size_t size; /* of a slot */
	dmm_u64 slots;
	const volatile dmm_u64 *told; /* how many ever were */
	dmm_u64 next;		      /* the number of the next to read */
	dmm_u64 missing_since_ns;     /* when it was first seen to be unfinished */
};

#define RING_WAIT_NS 1000000000ULL /* by then one that was begun is finished, or never will be */

/* The next record, with its seq. False: none yet. *ret_lost grows by those that were written again
 * before they were read. */
bool ring_next(struct ring *r, void *ret, dmm_u64 *ret_lost);

#endif
