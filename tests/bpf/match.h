/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What the program dmm_ask is run with. */
#ifndef DMM_TESTS_MATCH_H
#define DMM_TESTS_MATCH_H

#include "bpf/dmm_abi.h"

struct answer {
	dmm_u64 use;	     /* stacks, one in a byte */
	dmm_u32 rule, found; /* found: DMM_MEMO_*; fixed: use is not filled in */
	dmm_u32 why, pad;    /* enum dmm_reason */
};

struct question {
	struct dmm_addr remote, local;
	dmm_u32 group, role, proto, pad;
	dmm_u64 cookie;
	struct answer first, again; /* out: the second may be remembered */
};

#endif
