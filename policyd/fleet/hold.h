/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A key that one program holds at a time, for as long as it gives a sign of life: how hosts
 * register and how a leader is elected. The key is created in a transaction, and is gone with its
 * lease. Whoever holds it can have a write depend on that (hold_guard()), so that one that was cut
 * off and does not know yet writes nothing.
 */
#ifndef DMM_POLICYD_FLEET_HOLD_H
#define DMM_POLICYD_FLEET_HOLD_H

#include "policyd/etcd/etcd.h"

enum hold_step { HOLD_GRANT, HOLD_CREATE, HOLD_KEEP };

struct hold {
	struct etcd *e;
	char key[192];
	char *value;
	bool changed; /* value is not what the key has */
	dmm_u32 lease_s;
	enum hold_step step;
	bool busy;	   /* an answer is waited for */
	dmm_u64 lease;	   /* 0: none */
	dmm_u64 created;   /* revision that the key was created by; 0: somebody else holds it */
	uint64_t sent_ns;  /* when the call was sent that is waited for */
	uint64_t until_ns; /* the lease lives at least as long */
	uint64_t next_ns;  /* when there is something to do */
	char other[128];   /* begin of the value of who holds it, "": unknown */
	const char *why;   /* it is not held, NULL: it is */
};

/* value is taken over. */
void hold_init(struct hold *h, struct etcd *e, const char *key, char *value, dmm_u32 lease_s);
/* Give the key back, if etcd hears it. */
void hold_fini(struct hold *h);

/* Another value, which is taken over. */
void hold_change(struct hold *h, char *value);

void hold_run(struct hold *h, uint64_t now);
bool hold_held(const struct hold *h, uint64_t now);

/* kv/txn that does `then` if the key is still held by this program. Takes `then` over. */
json_t *hold_guard(const struct hold *h, json_t *then);
/* Such a transaction did not go through: begin anew. */
void hold_lost(struct hold *h, uint64_t now);

#endif
