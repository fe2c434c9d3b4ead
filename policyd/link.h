/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of network interfaces of this namespace, and of the host's pressure. */
#ifndef DMM_POLICYD_LINK_H
#define DMM_POLICYD_LINK_H

#include <stdbool.h>

#include "bpf/dmm_abi.h"

struct link_state {
	bool known;	     /* there is such an interface */
	bool up;	     /* it is up and has a carrier */
	dmm_u64 speed_bytes; /* a second; 0: unknown, as of virtual ones */
	dmm_u64 rx_drops, tx_drops, rx_errors, tx_errors;
};

/* Fill ret for each of n names; "" and names that nobody has: not known. 0 or -errno. */
int link_read(const char (*name)[16], unsigned n, struct link_state *ret);

enum { PRESSURE_CPU, PRESSURE_IO, PRESSURE_MEMORY, PRESSURES };
extern const char *const pressure_words[PRESSURES];

/* How long some task has waited for each since the host started, in microseconds (the kernel's
 * Documentation/accounting/psi.rst, "some total"). False: the kernel does not tell. */
bool pressure_read(dmm_u64 ret_us[PRESSURES]);

#endif
