/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hear the verdicts of all sockets as they are made. Any number may do it at once; while nobody
 * does, the programs tell nothing. Never blocks: poll it.
 */
#ifndef DMM_LOADER_MONITOR_H
#define DMM_LOADER_MONITOR_H

#include "loader/ring.h"
#include "loader/tree.h"

struct monitor {
	struct tree *tree;
	struct ring ring;      /* of struct dmm_monitor_slot */
	dmm_u64 kept_until_ns; /* as monitor_keep() put it off last */
};

/* From now on. The tree has to stay open. 0 or -errno. */
int monitor_open(struct monitor *ret, struct tree *t);
void monitor_close(struct monitor *m);

/* Go on listening: to be called at least once a second. Returns how many nanoseconds it came too
 * late, 0 if it did not: verdicts of that time were told only if somebody else listened. */
dmm_u64 monitor_keep(struct monitor *m);

/* The next verdict, if there is one. *ret_lost grows by how many were overwritten before, or were
 * begun and not there RING_WAIT_NS later. */
bool monitor_next(struct monitor *m, struct dmm_sock *ret, dmm_u64 *ret_lost);

#endif
