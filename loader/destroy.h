/* SPDX-License-Identifier: Apache-2.0 */
/*
 * End live sockets from outside (SOCK_DESTROY of sock_diag), in whatever network namespace they
 * are: the application's next call fails with ECONNABORTED, and the other end gets a reset.
 */
#ifndef DMM_LOADER_DESTROY_H
#define DMM_LOADER_DESTROY_H

#include <stddef.h>

#include "bpf/dmm_abi.h"

struct destroy {
	dmm_u64 cookie;
	dmm_u64 netns; /* inode number of its network namespace */
	dmm_u32 pid;   /* that may still be in that namespace; only a hint */
	dmm_u8 proto;  /* IPPROTO_TCP, IPPROTO_UDP */
	int error;     /* out: 0: ended; -ENOENT: it had ended before; else -errno of what failed.
			  -ENXIO: its network namespace cannot be found */
};

/* For callers of one thread: it visits the namespaces. 0, or -errno when it could not come back or
 * nothing could be tried. */
int destroy_sockets(struct destroy *list, size_t n);

/* Can this kernel do it? 0, or -EOPNOTSUPP. */
int destroy_probe(void);

#endif
