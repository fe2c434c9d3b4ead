/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hear the verdicts of all sockets as they are made. Any number may do it at once; while nobody
 * does, the programs tell nothing. Never blocks: poll it.
 */
#ifndef DMM_LOADER_MONITOR_H
#define DMM_LOADER_MONITOR_H

#include "loader/tree.h"

struct monitor {
	struct tree *tree;
	volatile struct dmm_monitor_slot *slot; /* mmapped */
	dmm_u64 next;				/* number of the verdict to be read */
};

/* From now on. The tree has to stay open. 0 or -errno. */
int monitor_open(struct monitor *ret, struct tree *t);
void monitor_close(struct monitor *m);

/* Go on listening: to be called at least once a second. */
void monitor_keep(struct monitor *m);

/* The next verdict, if there is one. *ret_lost grows by how many were overwritten before. */
bool monitor_next(struct monitor *m, struct dmm_sock *ret, dmm_u64 *ret_lost);

#endif
