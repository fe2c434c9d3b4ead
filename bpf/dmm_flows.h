/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* One live socket as the flows iterator writes it. */
#ifndef DMM_FLOWS_H
#define DMM_FLOWS_H

#include "bpf/dmm_abi.h"

struct dmm_flow_row {
	struct dmm_sock sock;
	dmm_u64 netns;	  /* inode number of its network namespace */
	dmm_u64 rx_bytes; /* payload received by the application's side, splice included */
	dmm_u64 tx_bytes; /* payload acknowledged or spliced */
	dmm_u32 srtt_us;  /* of the kernel socket: of the carrier when there is one */
	dmm_u32 retrans;
	dmm_u8 tcp_state; /* as in the kernel's tcp_states.h: 1 ESTABLISHED, 10 LISTEN … */
	dmm_u8 pad[7];
};

/* One live socket as dmm_file_stacks writes it; the other iterators write only the stack. */
struct dmm_flow_stack {
	dmm_u64 cookie;
	dmm_u8 stack;
	dmm_u8 pad[7];
};

/* What the program dmm_regroup is run with, and, in dmm_regroup_args, dmm_regroup_sk and
 * dmm_file_regroup. */
struct dmm_regroup {
	dmm_u32 from, to; /* groups; to DMM_GROUP_NONE: free the slots */
};

/* What the program dmm_plain_names is run with. */
struct dmm_plain_names {
	dmm_u64 generation; /* that will not be in the images any more */
};

#endif
