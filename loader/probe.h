/* SPDX-License-Identifier: Apache-2.0 */
/* What this kernel can do, found by trying and not by its version. */
#ifndef DMM_LOADER_PROBE_H
#define DMM_LOADER_PROBE_H

#include <stdbool.h>

struct probe {
	const char *name;    /* "cgroup-connect" */
	const char *purpose; /* what DMM uses it for */
	const char *advice;  /* what to do when it is missing */
	bool required;	     /* DMM does not run without it */
	int error;	     /* 0: available; else -errno of the attempt */
};

/* Try everything. *ret is a static table of *ret_n rows. 0, or -errno when nothing could be tried.
 */
int probe_run(const struct probe **ret, unsigned *ret_n);

/* Does AF_XDP take frames of more than one buffer (Linux 6.6)? 0, or -errno. */
int probe_af_xdp_frags(void);

/* Does this kernel iterate over the elements of a map? 0, or -errno. */
int probe_map_iterator(void);

#endif
