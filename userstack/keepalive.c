// SPDX-License-Identifier: Apache-2.0
/*
 * SO_KEEPALIVE of applications. Their kernel asks over the carrier, as often and as long as the
 * application wants; the hold filter drops that and tells of it. The engine asks the far side, and
 * when that has answered the same packet is let go: our end of the carrier answers it. If nobody
 * does the application's kernel gives up by itself, with ETIMEDOUT.
 */
#include "userstack/stack.h"

/* False: there is nobody to ask; the application gets to know why another way, or does already. */
static bool keepalive_ask(struct stack *s, const struct flow *f)
{
	return s->c.engine->ask && f->state == FLOW_OPEN && !f->lost && f->owned &&
	       f->owned->conn && s->c.engine->ask(f->owned->conn);
}

/* Where one is let go, failing is as if it were lost. */
void keepalive_event(struct stack *s, const struct dmm_event *ev)
{
	struct flow *f = flow_of_ends(s, &ev->tuple, ev->flow.cookie);
	struct inject_syn keepalive;

	if (!f || !keepalive_ask(s, f)) {
		inject_copy(&keepalive, ev);
		inject_release(&s->inject, &ev->tuple, &keepalive);
		return;
	}
	STACK_COUNT(s, KEEPALIVE, 1);
	inject_copy(&f->syn, ev);
	f->tuple = ev->tuple;
	f->asked = true;
}

void keepalive_answer(struct stack *s, struct flow *f)
{
	if (!f->asked)
		return;
	f->asked = false;
	inject_release(&s->inject, &f->tuple, &f->syn);
}
