/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source addresses of routes. The kernel is asked for them one by one, so many in each turn:
 * packets do not wait for thousands of answers. Until a route has its turn it is published without.
 */
#ifndef DMM_USERSTACK_SOURCE_H
#define DMM_USERSTACK_SOURCE_H

#include "userstack/net/route.h"

#define SOURCES_TURN 64

struct sources {
	void *ctx;
	/* What the kernel would send from; all 0: it does not say. */
	void (*ask)(void *ctx, const struct route *r, dmm_u8 ret[16]);
	void (*publish)(void *ctx, const struct route *r, const dmm_u8 source[16]);
	const struct route_table *t; /* NULL: none yet */
	unsigned next;		     /* of t, to be asked in the next turn; t->n: all are known */
	unsigned left;		     /* questions of this turn */
};

/* The table is t now, not `was`; both are sealed. Who waited still does. A turn begins. */
void sources_table(struct sources *s, const struct route_table *was, const struct route_table *t);
/* A route of the table is new, or its source may be. */
void sources_publish(struct sources *s, const struct route *r);
/* True: there is more for another turn. */
bool sources_wait(const struct sources *s);
void sources_turn(struct sources *s);

#endif
