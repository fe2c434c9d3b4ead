/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of the kernel's routes: longest prefix match over IPv4 and IPv6. Pure data, no I/O. */
#ifndef DMM_USERSTACK_ROUTE_H
#define DMM_USERSTACK_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "bpf/dmm_abi.h"

struct route {
	dmm_u8 dst[16]; /* bits beyond plen are zero */
	uint8_t plen;	/* of the v4-mapped form; an IPv4 route has 96 at least */
	uint8_t type;	/* enum dmm_route_type */
	bool v4;
	bool local_table; /* the kernel asks it before the main table */
	bool has_gateway, has_source;
	uint32_t metric;
	dmm_u8 gateway[16]; /* next hop; without: the destination itself */
	dmm_u8 source[16];  /* preferred source address */
};

struct route_table {
	struct route *route; /* after route_table_seal(): by falling plen, then by dst */
	unsigned n, room;
	unsigned start[129 + 1]; /* routes with plen p: start[p] … start[p] + count[p] - 1 */
	unsigned count[129];
};

void route_table_init(struct route_table *t);
void route_table_fini(struct route_table *t);

/* Add a copy of r. -ENOMEM. The table cannot be searched until it is sealed. */
int route_table_add(struct route_table *t, const struct route *r);
/* Sort; of several routes to one prefix only the best stays: local table, then lowest metric,
 * then DMM_ROUTE_VIA. */
void route_table_seal(struct route_table *t);

/* The route to ip, which is never one of the other family; NULL: none. */
const struct route *route_lookup(const struct route_table *t, const dmm_u8 ip[16]);

/* Which route of t has the prefix of r, or comes after where it would be; t->n: none. */
unsigned route_table_place(const struct route_table *t, const struct route *r);

/* Call cb for each route of b whose prefix a has not, or has otherwise, and with add false for each
 * of a whose prefix b has not. Both are sealed. */
void route_table_diff(const struct route_table *a, const struct route_table *b,
		      void (*cb)(void *ctx, const struct route *r, bool add), void *ctx);

#endif
