// SPDX-License-Identifier: Apache-2.0
#include <stddef.h>

#include "policyd/words.h"

#define REASON_WORD(name, text, help) [DMM_REASON_##name] = text,
const char *const words_reason[DMM_REASON_COUNT] = {DMM_REASONS(REASON_WORD)};

#define RING_WORD(name, text, help) [DMM_RING_##name] = text,
const char *const words_ring[DMM_RING_COUNT] = {DMM_RINGS(RING_WORD)};
const char *const words_role[DMM_ROLES] = {
	[DMM_ROLE_CLIENT] = "client",
	[DMM_ROLE_SERVER] = "server",
};
const char *const words_kind[DMM_KINDS] = {
	[DMM_KIND_KERNEL] = "kernel",
	[DMM_KIND_USERSPACE] = "userspace",
	[DMM_KIND_REJECT] = "reject",
};
const char *const words_carrier[DMM_CARRIERS] = {
	[DMM_CARRIER_NONE] = "none",
	[DMM_CARRIER_TCP] = "tcp",
	[DMM_CARRIER_SPLICE] = "splice",
	[DMM_CARRIER_UDP] = "udp",
};
const char *const words_xdp_mode[DMM_XDP_MODES] = {
	[DMM_XDP_NONE] = "none",	 [DMM_XDP_GENERIC] = "generic", [DMM_XDP_NATIVE] = "native",
	[DMM_XDP_ZEROCOPY] = "zerocopy", [DMM_XDP_TC] = "tc",
};
const char *const words_tcp_state[WORDS_TCP_STATES] = {
	[1] = "established", [2] = "syn-sent",	[3] = "syn-recv", [4] = "fin-wait-1",
	[5] = "fin-wait-2",  [6] = "time-wait", [7] = "closed",	  [8] = "close-wait",
	[9] = "last-ack",    [10] = "listen",	[11] = "closing", [12] = "syn-recv",
};
const char *const words_congestion[] = {NULL, DMM_CONGESTION_WORDS, NULL};
const char *const words_poll[] = {DMM_POLL_WORDS, NULL};
