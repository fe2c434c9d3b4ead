// SPDX-License-Identifier: Apache-2.0
#include "lib/base/util.h"
#include "userstack/spin.h"

#define PAUSE_MAX_NS (20 * SPIN_NS)  /* so that the average is not ruled by one night */
#define PAUSE_SHARE 8		     /* the average is of about so many */
#define PAUSE_SHORT_NS (2 * SPIN_NS) /* a pause slept through has the waking up in it */

void spin_init(struct spin *s)
{
	*s = (struct spin){.pause_ns = PAUSE_MAX_NS};
}

void spin_worked(struct spin *s, uint64_t now)
{
	uint64_t pause = MIN(now - s->worked_at, PAUSE_MAX_NS);

	s->pause_ns = (s->pause_ns * (PAUSE_SHARE - 1) + pause) / PAUSE_SHARE;
	s->worked_at = now;
}

bool spin_again(const struct spin *s, uint64_t now)
{
	return s->pause_ns < PAUSE_SHORT_NS && now - s->worked_at < SPIN_NS;
}
