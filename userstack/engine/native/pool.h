/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of one size. Some that are not in use are kept, last in first out: in the steady state
 * nothing is allocated. How many is in proportion to those in use, so memory that a crowd of
 * connections took goes back when they do.
 *
 * Behind that are slabs: 2 MiB each, at a multiple of it, so that an object tells its slab. All but
 * the first few ask for huge pages (madvise(2), where the system allows it): what is spread over
 * many of the small kind costs a walk through the page table at nearly every access. A slab that
 * nobody uses any more is the kernel's again.
 */
#ifndef DMM_USERSTACK_NATIVE_POOL_H
#define DMM_USERSTACK_NATIVE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

struct slab;
LIST_HEAD(slab_list, slab);

struct pool {
	size_t size;  /* of an object */
	size_t limit; /* objects in use at most */
	size_t used, spare;
	void *free;
	size_t slabs;
	struct slab_list room; /* those with a place left */
};

void pool_init(struct pool *p, size_t size, size_t limit);
/* Objects in use are lost. */
void pool_fini(struct pool *p);
/* Not zeroed. NULL: no memory, or the limit is reached. */
void *pool_get(struct pool *p);
void pool_put(struct pool *p, void *object);

#endif
