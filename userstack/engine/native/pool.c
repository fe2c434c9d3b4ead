// SPDX-License-Identifier: Apache-2.0
#include <stdbool.h>
#include <stdlib.h>

#include "userstack/engine/native/pool.h"

#define POOL_ALIGN 64 /* a cache line, which is also the head of a slab */

void pool_init(struct pool *p, size_t size, unsigned per_slab, size_t limit)
{
	*p = (struct pool){.size = (size + 15) & ~(size_t)15, .per_slab = per_slab, .limit = limit};
}

void pool_fini(struct pool *p)
{
	void *slab, *next;

	for (slab = p->slabs; slab; slab = next) {
		next = *(void **)slab;
		free(slab);
	}
	p->slabs = p->free = NULL;
}

static bool pool_grow(struct pool *p)
{
	size_t bytes = POOL_ALIGN + p->size * p->per_slab;
	char *slab;

	if (p->made + p->per_slab > p->limit)
		return false;
	slab = aligned_alloc(POOL_ALIGN, (bytes + POOL_ALIGN - 1) & ~(size_t)(POOL_ALIGN - 1));
	if (!slab)
		return false;
	*(void **)slab = p->slabs;
	p->slabs = slab;
	p->made += p->per_slab;
	for (unsigned i = p->per_slab; i--;) {
		void **object = (void **)(slab + POOL_ALIGN + i * p->size);

		*object = p->free;
		p->free = object;
	}
	return true;
}

void *pool_get(struct pool *p)
{
	void *object;

	if (!p->free && !pool_grow(p))
		return NULL;
	object = p->free;
	p->free = *(void **)object;
	p->used++;
	return object;
}

void pool_put(struct pool *p, void *object)
{
	*(void **)object = p->free;
	p->free = object;
	p->used--;
}
