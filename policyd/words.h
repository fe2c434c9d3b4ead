/* SPDX-License-Identifier: Apache-2.0 */
/* The words for the numbers of the ABI, as people and programs read them. NULL: a number without.
 */
#ifndef DMM_POLICYD_WORDS_H
#define DMM_POLICYD_WORDS_H

#include "bpf/dmm_abi.h"
#include "bpf/dmm_counters.h"

#define WORDS_TCP_STATES 13

extern const char *const words_reason[DMM_REASON_COUNT];
extern const char *const words_role[DMM_ROLES];
extern const char *const words_ring[DMM_RING_COUNT];
extern const char *const words_kind[DMM_KINDS];
extern const char *const words_carrier[DMM_CARRIERS];
extern const char *const words_congestion[DMM_CONGESTIONS + 1]; /* NONE has none; then NULL */
extern const char *const words_poll[DMM_POLL_SLEEP + 2];	/* NULL-terminated */
extern const char *const words_xdp_mode[DMM_XDP_MODES];
extern const char *const words_tcp_state[WORDS_TCP_STATES]; /* by the kernel's number */

#endif
