/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was in force before: the class of each generation in a file, below the run directory
 * of the tree, so that it goes with the maps when the host starts anew. And the commit that writes
 * it, for the daemon and the command line.
 */
#ifndef DMM_POLICYD_HISTORY_H
#define DMM_POLICYD_HISTORY_H

#include <limits.h>

#include "policyd/policy.h"

/* What is kept, the oldest go first; the one in force and the one before stay in any case. */
#define HISTORY_MAX 100		  /* generations */
#define HISTORY_BYTES (64u << 20) /* of their files, which are in memory where /run is */

struct history_entry {
	dmm_u64 generation;
	dmm_u64 when_ns; /* CLOCK_REALTIME of the commit */
	dmm_u64 bytes;	 /* of its file */
	char how[128];	 /* "apply -f x.yaml", "add web" … */
};

/* maps_commit(), then the history. A history that cannot be written is a warning. */
int history_commit(struct tree *t, const struct dmm_class *c, const char *how,
		   dmm_u64 *ret_generation);

/* Oldest first; *ret is the caller's to free. */
int history_list(const struct tree *t, struct history_entry **ret, size_t *ret_n);

bool history_has(const struct tree *t, dmm_u64 generation);
/* The policy of a generation, with the files and lines that its rules came from. -ENOENT: it is not
 * kept; -EPROTO: its file is not whole, or of another build. */
int history_read(const struct tree *t, dmm_u64 generation, struct dmm_policy **ret);

/* ---- a change that has to be confirmed ---- */

struct history_pending {
	dmm_u64 generation; /* that waits */
	dmm_u64 before;	    /* to go back to */
	dmm_u64 until_ns;   /* CLOCK_REALTIME */
	int guard;	    /* process that goes back then */
};

/* -ENOENT: none. One whose guard is gone does not count: the guard holds a lock of the file, as its
 * number may be another process' by now. */
int history_pending(const struct tree *t, struct history_pending *ret);
/* The file, with the lock, to be inherited by the guard, or -errno; then what it says. */
int history_pending_open(const struct tree *t);
int history_pending_set(int fd, const struct history_pending *p);
/* It is confirmed: end the guard. */
void history_pending_end(const struct tree *t);

#endif
