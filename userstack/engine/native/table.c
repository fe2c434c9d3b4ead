// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "userstack/engine/isn.h"
#include "userstack/engine/native/native.h"
#include "userstack/engine/native/table.h"

#define TABLE_MIN 1024

int table_init(struct table *t)
{
	*t = (struct table){.slot = calloc(TABLE_MIN, sizeof(*t->slot)), .size = TABLE_MIN};
	return t->slot ? 0 : -ENOMEM;
}

void table_fini(struct table *t)
{
	free(t->slot);
	t->slot = NULL;
}

uint32_t table_hash(const uint8_t secret[16], const struct conn_key *key)
{
	uint64_t m[5];
	unsigned n = 4;

	memcpy(m, key->remote.ip, 16);
	memcpy(m + 2, key->local.ip, 16);
	if (addr_is_v4(key->remote.ip)) { /* the other halves are the same for all */
		m[0] = m[1];
		m[1] = m[3];
		n = 2;
	}
	m[n++] = (uint64_t)key->remote.port << 16 | key->local.port;
	return (uint32_t)sip_hash(secret, m, n);
}

struct engine_conn *table_find(struct table *t, const uint8_t secret[16],
			       const struct conn_key *key)
{
	const struct table_slot *s;
	uint32_t hash;

	if (t->recent && !memcmp(&t->recent->key, key, sizeof(*key)))
		return t->recent;
	hash = table_hash(secret, key);
	for (size_t i = hash; (s = &t->slot[i & (t->size - 1)])->conn; i++)
		if (s->hash == hash) {
			conn_prefetch(s->conn);
			if (!memcmp(&s->conn->key, key, sizeof(*key)))
				return t->recent = s->conn;
		}
	return NULL;
}

void table_fetch_conn(const struct table *t, uint32_t hash)
{
	const struct table_slot *s = &t->slot[hash & (t->size - 1)];

	if (s->conn && s->hash == hash)
		conn_prefetch(s->conn);
}

static void table_put(struct table *t, struct table_slot what)
{
	size_t i = what.hash;

	while (t->slot[i & (t->size - 1)].conn)
		i++;
	t->slot[i & (t->size - 1)] = what;
}

static int table_grow(struct table *t)
{
	struct table_slot *old = t->slot, *slot = calloc(t->size * 2, sizeof(*slot));
	size_t n = t->size;

	if (!slot)
		return -ENOMEM;
	t->slot = slot;
	t->size = n * 2;
	for (size_t i = 0; i < n; i++)
		if (old[i].conn)
			table_put(t, old[i]);
	free(old);
	return 0;
}

int table_add(struct table *t, uint32_t hash, struct engine_conn *c)
{
	if (2 * (t->used + 1) > t->size && table_grow(t) < 0)
		return -ENOMEM;
	table_put(t, (struct table_slot){hash, c});
	t->used++;
	return 0;
}

/* What follows in the cluster moves up, unless it would come before its own place. */
void table_del(struct table *t, uint32_t hash, const struct engine_conn *c)
{
	size_t mask = t->size - 1, hole = hash & mask, i;

	if (t->recent == c)
		t->recent = NULL;
	while (t->slot[hole].conn != c)
		hole = (hole + 1) & mask;
	for (i = (hole + 1) & mask; t->slot[i].conn; i = (i + 1) & mask) {
		if (((i - t->slot[i].hash) & mask) < ((i - hole) & mask))
			continue;
		t->slot[hole] = t->slot[i];
		hole = i;
	}
	t->slot[hole].conn = NULL;
	t->used--;
}
