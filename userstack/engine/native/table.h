/* SPDX-License-Identifier: Apache-2.0 */
/* Connections by their addresses: open addressing, with a keyed hash that a peer cannot aim at. */
#ifndef DMM_USERSTACK_NATIVE_TABLE_H
#define DMM_USERSTACK_NATIVE_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "bpf/dmm_abi.h"

struct engine_conn;

/* Compared as bytes. */
struct conn_key {
	struct dmm_addr remote, local;
};

struct table_slot {
	uint32_t hash;
	struct engine_conn *conn; /* NULL: empty */
};

struct table {
	struct table_slot *slot;
	size_t size, used;	    /* size: a power of two, at least twice used */
	struct engine_conn *recent; /* found last: packets come in trains */
};

int table_init(struct table *t);
void table_fini(struct table *t);
uint32_t table_hash(const uint8_t secret[16], const struct conn_key *key);
struct engine_conn *table_find(struct table *t, const uint8_t secret[16],
			       const struct conn_key *key);
/* Fetch into the cache where it will look for a hash, or, when that is there, the connection. */
static inline void table_fetch(const struct table *t, uint32_t hash)
{
	__builtin_prefetch(&t->slot[hash & (t->size - 1)]);
}
void table_fetch_conn(const struct table *t, uint32_t hash);
/* -ENOMEM. The connection is not in there. */
int table_add(struct table *t, uint32_t hash, struct engine_conn *c);
void table_del(struct table *t, uint32_t hash, const struct engine_conn *c);

#endif
