/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of one size. They are carved out of slabs and go to a free list, last in first out: in
 * the steady state nothing is allocated. Slabs are kept until pool_fini().
 */
#ifndef DMM_USERSTACK_NATIVE_POOL_H
#define DMM_USERSTACK_NATIVE_POOL_H

#include <stddef.h>

struct pool {
	size_t size;	   /* of an object */
	unsigned per_slab; /* objects */
	size_t limit;	   /* objects at most */
	size_t made, used;
	void *free, *slabs;
};

void pool_init(struct pool *p, size_t size, unsigned per_slab, size_t limit);
void pool_fini(struct pool *p);
/* Not zeroed. NULL: no memory, or the limit is reached. */
void *pool_get(struct pool *p);
void pool_put(struct pool *p, void *object);

#endif
