/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of one size, from malloc(). Some that are not in use are kept, last in first out: in the
 * steady state nothing is allocated. How many is in proportion to those in use, so memory that a
 * crowd of connections took goes back when they do.
 */
#ifndef DMM_USERSTACK_NATIVE_POOL_H
#define DMM_USERSTACK_NATIVE_POOL_H

#include <stddef.h>

struct pool {
	size_t size;  /* of an object */
	size_t limit; /* objects in use at most */
	size_t used, spare;
	void *free;
};

void pool_init(struct pool *p, size_t size, size_t limit);
/* Objects in use are lost. */
void pool_fini(struct pool *p);
/* Not zeroed. NULL: no memory, or the limit is reached. */
void *pool_get(struct pool *p);
void pool_put(struct pool *p, void *object);

#endif
