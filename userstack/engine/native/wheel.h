/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers in a hierarchical wheel: six levels of 64 slots. A timer is on the level of the highest
 * 6-bit digit in which its tick differs from now, in the slot of that digit; when time reaches the
 * slot, its timers move to a lower level. Add and remove are O(1), a timer moves at most five
 * times.
 */
#ifndef DMM_USERSTACK_NATIVE_WHEEL_H
#define DMM_USERSTACK_NATIVE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define WHEEL_LEVELS 6
#define WHEEL_TICK_NS (1ull << 16)

struct timer {
	LIST_ENTRY(timer) entry;
	uint64_t tick; /* 0: not armed */
};
LIST_HEAD(timer_list, timer);

struct wheel {
	uint64_t now; /* in ticks */
	uint64_t busy[WHEEL_LEVELS];
	struct timer_list slot[WHEEL_LEVELS][64];
};

void wheel_init(struct wheel *w, uint64_t now_ns);
/* Fires at due_ns, or a tick later. The timer may be armed already. */
void wheel_arm(struct wheel *w, struct timer *t, uint64_t due_ns);
void wheel_disarm(struct wheel *w, struct timer *t);
/* A timer that is due, which is disarmed by that; NULL: no more. */
struct timer *wheel_expire(struct wheel *w, uint64_t now_ns);
/* When something is to be done; UINT64_MAX: never. */
uint64_t wheel_next(const struct wheel *w);

#endif
