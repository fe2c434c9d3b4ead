/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers by keys of bytes, so that nothing over the rules of a policy takes the square of their
 * number. Keys are not copied: they must stay where they are. All zero is an empty index.
 */
#ifndef DMM_POLICYD_INDEX_H
#define DMM_POLICYD_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct index_slot {
	const void *key; /* NULL: free */
	size_t len, value;
	uint64_t hash;
};

struct index {
	struct index_slot *slot;
	size_t room, n; /* room is a power of two, at most three quarters of it are used */
};

/* 0; 1 when the key is there already, *ret_old (may be NULL) is its value, which stays; -ENOMEM. */
int index_put(struct index *x, const void *key, size_t len, size_t value, size_t *ret_old);
bool index_get(const struct index *x, const void *key, size_t len, size_t *ret);
void index_fini(struct index *x);

/* The same for names. */
int index_put_name(struct index *x, const char *name, size_t value, size_t *ret_old);
bool index_get_name(const struct index *x, const char *name, size_t *ret);

#endif
