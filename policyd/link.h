/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of the interfaces of stacks, those of this namespace, and of the host's
 * pressure. */
#ifndef DMM_POLICYD_LINK_H
#define DMM_POLICYD_LINK_H

#include <stdbool.h>

#include "loader/maps.h"

struct link_state {
	bool known;	     /* there is such an interface */
	bool up;	     /* it is up and has a carrier */
	dmm_u64 speed_bytes; /* a second; 0: unknown, as of virtual ones */
	dmm_u64 rx_drops, tx_drops, rx_errors, tx_errors;
};

/* Fill ret by the number of the stack; without an interface, or with one that is not there: not
 * known. 0 or -errno. */
int link_read(const struct dmm_class *class, struct link_state ret[DMM_MAX_STACKS]);

/* The stacks whose interface has no carrier, is down or is not there, as bits by number. */
int link_lost(const struct dmm_class *class, dmm_u32 *ret);

/* A descriptor that is readable when a link may have changed, until link_watch_clear(). -errno. */
int link_watch_open(void);
void link_watch_clear(int fd);

enum { PRESSURE_CPU, PRESSURE_IO, PRESSURE_MEMORY, PRESSURES };
extern const char *const pressure_words[PRESSURES];

/* How long some task has waited for each since the host started, in microseconds (the kernel's
 * Documentation/accounting/psi.rst, "some total"). False: the kernel does not tell. */
bool pressure_read(dmm_u64 ret_us[PRESSURES]);

#endif
