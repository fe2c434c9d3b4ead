/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of etcd's v3 API as JSON: keys and values are in base64, 64-bit numbers are texts. All
 * functions that make JSON return NULL when there is no memory, which json_pack() and etcd_call()
 * hand on.
 */
#ifndef DMM_POLICYD_ETCD_KV_H
#define DMM_POLICYD_ETCD_KV_H

#include <jansson.h>
#include <stdbool.h>

#include "bpf/dmm_abi.h"

json_t *kv_base64(const char *text);

/* Bodies of kv/put, kv/range, lease/…, watch. lease 0: none. */
json_t *kv_put(const char *key, const char *value, dmm_u64 lease);
json_t *kv_get(const char *key);
json_t *kv_get_all(const char *prefix);
json_t *kv_delete_all(const char *prefix);
json_t *kv_grant(dmm_u32 seconds);
json_t *kv_lease(dmm_u64 lease);			    /* keepalive and revoke */
json_t *kv_watch_all(const char *prefix, dmm_u64 revision); /* from this one on */

/* A transaction: `then` is done if the key was created by that revision (0: it is not there). Both
 * lists are of kv_do_…(); they are taken over. */
json_t *kv_txn(const char *key, dmm_u64 created, json_t *then, json_t *otherwise);
/* The same about the revision that changed the key last. */
json_t *kv_txn_unchanged(const char *key, dmm_u64 changed, json_t *then, json_t *otherwise);
json_t *kv_do_put(const char *key, const char *value, dmm_u64 lease);
json_t *kv_do_get(const char *key);
json_t *kv_do_delete(const char *key);

/* A number of an answer; 0 if it is not there. */
dmm_u64 kv_number(const json_t *o, const char *name);
dmm_u64 kv_revision(const json_t *answer); /* of the store, from the header */
dmm_u64 kv_cluster(const json_t *answer);
/* A key or value as a text, to be freed. NULL: it is none (no base64, or a NUL in it), or -ENOMEM.
 */
char *kv_text(const json_t *kv, const char *name);

#endif
