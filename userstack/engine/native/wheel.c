// SPDX-License-Identifier: Apache-2.0
#include "lib/base/util.h"
#include "userstack/engine/native/wheel.h"

#define DIGIT 6

void wheel_init(struct wheel *w, uint64_t now_ns)
{
	*w = (struct wheel){.now = now_ns / WHEEL_TICK_NS};
}

static void wheel_put(struct wheel *w, struct timer *t)
{
	uint64_t differ = (t->tick ^ w->now) | 1;
	unsigned level = (63u - (unsigned)__builtin_clzll(differ)) / DIGIT, slot;

	/* Beyond the wheel, which spans 52 days: it fires early, and its owner finds nothing due.
	 */
	if (level >= WHEEL_LEVELS) {
		level = WHEEL_LEVELS - 1;
		t->tick = w->now | ((1ull << WHEEL_LEVELS * DIGIT) - 1);
	}
	slot = (unsigned)(t->tick >> level * DIGIT) & 63;
	LIST_INSERT_HEAD(&w->slot[level][slot], t, entry);
	w->busy[level] |= 1ull << slot;
}

/* Where t is can be told from its tick only as long as `now` is what it was then; but a slot that
 * is empty and marked busy does no harm. */
void wheel_disarm(struct wheel *w, struct timer *t)
{
	(void)w;
	if (!t->tick)
		return;
	LIST_REMOVE(t, entry);
	t->tick = 0;
}

void wheel_arm(struct wheel *w, struct timer *t, uint64_t due_ns)
{
	wheel_disarm(w, t);
	t->tick = MAX(due_ns / WHEEL_TICK_NS, w->now) + 1;
	wheel_put(w, t);
}

/* The first slot in time that may have timers: when it begins. */
static bool wheel_first(const struct wheel *w, unsigned *ret_level, unsigned *ret_slot,
			uint64_t *ret_tick)
{
	unsigned above;

	for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
		if (!w->busy[level])
			continue;
		above = (level + 1) * DIGIT;
		*ret_level = level;
		*ret_slot = (unsigned)__builtin_ctzll(w->busy[level]);
		*ret_tick = (w->now >> above << above) | (uint64_t)*ret_slot << level * DIGIT;
		return true;
	}
	return false;
}

struct timer *wheel_expire(struct wheel *w, uint64_t now_ns)
{
	uint64_t until = now_ns / WHEEL_TICK_NS, tick;
	unsigned level, slot;
	struct timer *t;

	while (wheel_first(w, &level, &slot, &tick) && tick <= until) {
		w->now = MAX(w->now, tick);
		if (!level && (t = LIST_FIRST(&w->slot[0][slot]))) {
			wheel_disarm(w, t);
			return t;
		}
		w->busy[level] &= ~(1ull << slot);
		while ((t = LIST_FIRST(&w->slot[level][slot]))) {
			LIST_REMOVE(t, entry);
			wheel_put(w, t);
		}
	}
	w->now = MAX(w->now, until);
	return NULL;
}

uint64_t wheel_next(const struct wheel *w)
{
	unsigned level, slot;
	uint64_t tick;

	return wheel_first(w, &level, &slot, &tick) ? tick * WHEEL_TICK_NS : UINT64_MAX;
}
