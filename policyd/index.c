// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/index.h"

/* FNV-1a, with the high bits folded in: the low ones choose the slot. */
static uint64_t hash_bytes(const void *key, size_t len)
{
	const unsigned char *byte = key;
	uint64_t h = 0xcbf29ce484222325ULL;

	for (size_t i = 0; i < len; i++)
		h = (h ^ byte[i]) * 0x100000001b3ULL;
	return h ^ h >> 32;
}

/* The slot of the key, or the free one where it belongs. */
static struct index_slot *slot_of(const struct index *x, const void *key, size_t len, uint64_t hash)
{
	size_t i = hash & (x->room - 1);

	for (;; i = (i + 1) & (x->room - 1)) {
		struct index_slot *s = &x->slot[i];

		if (!s->key || (s->hash == hash && s->len == len && memcmp(s->key, key, len) == 0))
			return s;
	}
}

static int grow(struct index *x)
{
	struct index more = {.room = x->room ? x->room * 2 : 16, .n = x->n};

	more.slot = calloc(more.room, sizeof(*more.slot));
	if (!more.slot)
		return -ENOMEM;
	for (size_t i = 0; i < x->room; i++) {
		const struct index_slot *s = &x->slot[i];

		if (s->key)
			*slot_of(&more, s->key, s->len, s->hash) = *s;
	}
	free(x->slot);
	*x = more;
	return 0;
}

int index_put(struct index *x, const void *key, size_t len, size_t value, size_t *ret_old)
{
	uint64_t hash = hash_bytes(key, len);
	struct index_slot *s;

	if (x->n >= x->room / 4 * 3 && grow(x) < 0)
		return -ENOMEM;
	s = slot_of(x, key, len, hash);
	if (s->key) {
		if (ret_old)
			*ret_old = s->value;
		return 1;
	}
	*s = (struct index_slot){.key = key, .len = len, .value = value, .hash = hash};
	x->n++;
	return 0;
}

bool index_get(const struct index *x, const void *key, size_t len, size_t *ret)
{
	const struct index_slot *s = NULL;

	if (x->room)
		s = slot_of(x, key, len, hash_bytes(key, len));
	if (!s || !s->key)
		return false;
	if (ret)
		*ret = s->value;
	return true;
}

void index_fini(struct index *x)
{
	free(x->slot);
	*x = (struct index){0};
}

int index_put_name(struct index *x, const char *name, size_t value, size_t *ret_old)
{
	return index_put(x, name, strlen(name), value, ret_old);
}

bool index_get_name(const struct index *x, const char *name, size_t *ret)
{
	return index_get(x, name, strlen(name), ret);
}
