// SPDX-License-Identifier: Apache-2.0
#include <stdint.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, len) ((void)(p), (void)(len))
#define ASAN_UNPOISON_MEMORY_REGION(p, len) ((void)(p), (void)(len))
#endif

#include "userstack/engine/native/pool.h"

#define SPARE_BYTES (8u << 20) /* what one busy connection takes and gives in each round trip */
#define SLAB ((size_t)2 << 20)
#define SLABS_SMALL 2 /* of a pool, whose pages are small: a few connections take little memory */

struct slab {
	LIST_ENTRY(slab) entry; /* in pool.room, unless all of it is in use */
	void *free;
	size_t used, fresh; /* fresh: offset of what was never in use */
};

/* What is large begins with a line of the cache. */
void pool_init(struct pool *p, size_t size, size_t limit)
{
	size_t align = size < 512 ? 8 : 64;

	*p = (struct pool){.size = (size + align - 1) & ~(align - 1), .limit = limit};
	LIST_INIT(&p->room);
}

static struct slab *slab_of(void *object)
{
	return (struct slab *)((uintptr_t)object & ~(SLAB - 1));
}

static bool slab_full(const struct pool *p, const struct slab *s)
{
	return !s->free && s->fresh + p->size > SLAB;
}

static struct slab *slab_new(struct pool *p)
{
	uint8_t *m =
		mmap(NULL, 2 * SLAB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct slab *s;
	size_t before;

	if (m == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)m & (SLAB - 1);
	s = (struct slab *)(m + before);
	if (before)
		munmap(m, before);
	munmap((uint8_t *)s + SLAB, SLAB - before);
	if (p->slabs >= SLABS_SMALL)
		madvise(s, SLAB, MADV_HUGEPAGE);
	s->fresh = (sizeof(*s) + 63) & ~(size_t)63;
	LIST_INSERT_HEAD(&p->room, s, entry);
	p->slabs++;
	return s;
}

static void *slab_get(struct pool *p)
{
	struct slab *s = LIST_FIRST(&p->room);
	void *object;

	if (!s)
		s = slab_new(p);
	if (!s)
		return NULL;
	object = s->free;
	if (object) {
		s->free = *(void **)object;
	} else {
		object = (uint8_t *)s + s->fresh;
		s->fresh += p->size;
	}
	s->used++;
	if (slab_full(p, s))
		LIST_REMOVE(s, entry);
	return object;
}

static void slab_put(struct pool *p, void *object)
{
	struct slab *s = slab_of(object);

	if (slab_full(p, s))
		LIST_INSERT_HEAD(&p->room, s, entry);
	*(void **)object = s->free;
	s->free = object;
	if (--s->used)
		return;
	LIST_REMOVE(s, entry);
	p->slabs--;
	ASAN_UNPOISON_MEMORY_REGION(s, SLAB);
	munmap(s, SLAB);
}

/* Nobody may touch a free object but for the link to the next, at its beginning. */
static void object_close(const struct pool *p, void *object)
{
	ASAN_POISON_MEMORY_REGION((void **)object + 1, p->size - sizeof(void *));
}
static void object_open(const struct pool *p, void *object)
{
	ASAN_UNPOISON_MEMORY_REGION(object, p->size);
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
		slab_put(p, pool_take(p));
}

void *pool_get(struct pool *p)
{
	void *object;

	if (p->spare)
		object = pool_take(p);
	else
		object = p->used < p->limit ? slab_get(p) : NULL;
	if (!object)
		return NULL;
	object_open(p, object);
	p->used++;
	return object;
}

/* Two go for one that comes, so that what is spare shrinks with what is used. */
void pool_put(struct pool *p, void *object)
{
	*(void **)object = p->free;
	object_close(p, object);
	p->free = object;
	p->spare++;
	p->used--;
	for (unsigned i = 0; i < 2 && p->spare > SPARE_BYTES / p->size + p->used / 4; i++)
		slab_put(p, pool_take(p));
}
