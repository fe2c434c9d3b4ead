/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What an instance runs the programs beside the hold filter with. */
#ifndef DMM_HOLD_H
#define DMM_HOLD_H

#include "bpf/dmm_abi.h"

/* dmm_set_local: the engine's address, and the congestion control that it uses, into the record of
 * a connect that is still the same. */
struct dmm_set_local {
	dmm_u64 cookie, since_ns; /* as in struct dmm_flow */
	struct dmm_addr remote, local;
	dmm_u32 congestion, pad;
};

/* dmm_set_off: the member `off` of an announced listener. */
struct dmm_set_off {
	dmm_u64 cookie;
	dmm_u32 off, pad;
};

/* dmm_udp_port, with a struct dmm_udp_key, returns the application's port of that flow, 0: not
 * known yet, and these bits: its socket has left it, or there is none; is not connected there. */
#define DMM_UDP_LEFT 0x10000
#define DMM_UDP_MOVED 0x20000

#endif
