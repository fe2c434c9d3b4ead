/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policyd/etcd/etcd.h over a store in this process, in time of its own: for tests of what is built
 * on it, and for a simulation of many hosts. Programs that link it get it in place of the real
 * client, and clock_gettime() tells its time. Calls go through the same JSON as to etcd.
 */
#ifndef DMM_TESTS_MEMORY_ETCD_H
#define DMM_TESTS_MEMORY_ETCD_H

#include "policyd/etcd/etcd.h"

/* A store with nothing in it, at time 0. latency: there and back; service: of the store for each
 * message in and out, one after the other. */
void memory_begin(uint64_t latency_ns, uint64_t service_ns, uint64_t seed);
void memory_end(void);

/* Call `wake` of a client at `at`, beside what its answers cause. */
typedef void (*memory_wake_fn)(void *ctx);
void memory_wake(struct etcd *e, memory_wake_fn fn, void *ctx);
void memory_wake_at(struct etcd *e, uint64_t at_ns);

/* Let time pass, until `end_ns`. */
void memory_run(uint64_t end_ns);
uint64_t memory_now(void);

/* What can go wrong. */
void memory_cut(struct etcd *e, bool cut); /* nothing of it arrives, either way */
void memory_restart(void);		   /* all streams end, at once; the store stays */
void memory_compact(void);		   /* what was before now is forgotten */
void memory_lose(void);			   /* another store, empty, of another cluster */
void memory_drop_answers(struct etcd *e, unsigned n); /* the next n are carried out and not told */

/* Look and write past all clients. value NULL: take it out. */
const char *memory_get(const char *key);
void memory_put(const char *key, const char *value);
size_t memory_count(const char *prefix);

#endif
