/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long an instance that has nothing to do looks for work before it sleeps. To be woken takes
 * tens of microseconds; where work comes sooner than that, it is found sooner by looking. The
 * average of the last pauses says which it is: who waits long sleeps at once, and uses no CPU.
 * Times are nanoseconds of one clock.
 */
#ifndef DMM_USERSTACK_SPIN_H
#define DMM_USERSTACK_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define SPIN_NS 50000ULL /* the longest search */

struct spin {
	uint64_t worked_at; /* when there was work last */
	uint64_t pause_ns;  /* the average between work and work */
};

/* It begins asleep. */
void spin_init(struct spin *s);
/* There is work. */
void spin_worked(struct spin *s, uint64_t now);
/* There is none: look again? Else sleep. */
bool spin_again(const struct spin *s, uint64_t now);

#endif
