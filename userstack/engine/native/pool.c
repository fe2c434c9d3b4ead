// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>

#include "userstack/engine/native/pool.h"

#define SPARE_BYTES (8u << 20) /* what one busy connection takes and gives in each round trip */

void pool_init(struct pool *p, size_t size, size_t limit)
{
	*p = (struct pool){.size = size, .limit = limit};
}

static void *pool_take(struct pool *p)
{
	void *object = p->free;

	p->free = *(void **)object;
	p->spare--;
	return object;
}

void pool_fini(struct pool *p)
{
	while (p->spare)
		free(pool_take(p));
}

void *pool_get(struct pool *p)
{
	void *object;

	if (p->spare)
		object = pool_take(p);
	else
		object = p->used < p->limit ? malloc(p->size) : NULL;
	p->used += !!object;
	return object;
}

/* Two go for one that comes, so that what is spare shrinks with what is used. */
void pool_put(struct pool *p, void *object)
{
	*(void **)object = p->free;
	p->free = object;
	p->spare++;
	p->used--;
	for (unsigned i = 0; i < 2 && p->spare > SPARE_BYTES / p->size + p->used / 4; i++)
		free(pool_take(p));
}
