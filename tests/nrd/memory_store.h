/* SPDX-License-Identifier: Apache-2.0 */
/* The store of memory_etcd.c, and what both parts of it know. */
#ifndef DMM_TESTS_MEMORY_STORE_H
#define DMM_TESTS_MEMORY_STORE_H

#include "tests/nrd/memory_etcd.h"

#define SECOND_NS 1000000000ULL

struct key {
	char *key, *value;
	dmm_u64 lease, created, changed;
};

struct event {		   /* of the log: changes in the order of their revisions */
	char *key, *value; /* value NULL: gone */
	dmm_u64 revision;
};

struct lease {
	dmm_u64 id;
	uint64_t ttl_ns, until_ns;
};

struct call {
	struct call *next; /* of the client */
	struct etcd *e;	   /* NULL: cancelled */
	char method[32];
	json_t *body;
	etcd_fn fn;
	const void *ctx;
	bool stream, watching;
	unsigned refs; /* of the queue, and of the list of watches */
};

/* Who watches the same prefix. */
struct topic {
	char *from, *to;
	struct call **list;
	size_t n;
	size_t *event; /* of the log, that are below the prefix */
	size_t n_events;
};

enum step { STEP_ARRIVE, STEP_TELL, STEP_WAKE, STEP_EXPIRE };

struct todo {
	uint64_t at_ns, number;
	enum step step;
	struct call *call;
	struct etcd *e;
	json_t *answer;
	int error;
};

struct etcd {
	struct etcd_settings none;
	struct etcd *next;
	memory_wake_fn wake;
	void *ctx;
	uint64_t wake_ns;
	bool cut;
	unsigned fails, drop;
	struct call *calls;
	struct etcd_traffic traffic;
};

struct memory {
	uint64_t now_ns, latency_ns, service_ns, busy_ns, random, number;
	struct key *keys;
	size_t n_keys;
	struct event *events;
	size_t n_events;
	struct lease *leases;
	size_t n_leases;
	dmm_u64 revision, compacted, cluster, next_lease;
	struct todo *todo; /* a heap */
	size_t n_todo;
	struct topic topic[8];
	size_t n_topics;
	struct etcd *clients;
};
extern struct memory memory;

/* Room for one more, doubled at powers of two. */
void *memory_grow(void *list, size_t n, size_t size);
/* An answer or a message leaves the store when it has got round to it. */
void memory_answer(struct call *c, json_t *body, int error);

/* A call arrives at the store, which answers it now or later. */
void store_arrive(struct call *c);
void store_expire(void); /* leases whose time is over end */

size_t store_find(const char *key, bool *ret_there);
void store_put(const char *key, const char *value, dmm_u64 lease);
void store_delete(const char *key);
/* All that was logged since `from` goes to who watches it. */
void store_publish(size_t from);

#endif
