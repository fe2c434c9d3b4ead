/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of etcd's v3 API through its JSON gateway, in the loop of its owner: no thread, nothing
 * blocks. One endpoint is used at a time. When it fails, all that is outstanding on it ends with
 * -EAGAIN and the next one is used; who asked asks again after etcd_backoff_ns(). A call is sent
 * once: whether one that ended with -EAGAIN was carried out is not known, so that calls are written
 * to be harmless when they are done twice.
 *
 * etcd: API reference, "etcd3 API" and "gRPC gateway", https://etcd.io/docs/v3.4/dev-guide/.
 */
#ifndef DMM_POLICYD_ETCD_ETCD_H
#define DMM_POLICYD_ETCD_ETCD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "policyd/etcd/settings.h"

#define ETCD_ANSWER_MAX (16 << 20) /* bytes of one answer */
#define ETCD_CONNECT_MS 2000
#define ETCD_BACKOFF_MIN_NS 100000000ULL
#define ETCD_BACKOFF_MAX_NS 10000000000ULL

struct etcd;

/* settings stay in use. 0 or -errno, logged: a file cannot be read. Nothing is sent yet. */
int etcd_open(struct etcd **ret, int epfd, const struct etcd_settings *settings);
/* Nobody is called any more. Not from within a callback. */
void etcd_close(struct etcd *e);

struct etcd_answer {
	/* 0; -EAGAIN: the endpoint failed; -ENOENT, -EACCES, -EINVAL: etcd's own answer; -EPROTO:
	 * it is no etcd */
	int error;
	const char *why;    /* "" or a sentence */
	const json_t *body; /* NULL with an error */
};
typedef void (*etcd_fn)(void *ctx, const struct etcd_answer *a);

/*
 * Call "kv/range" and the like. Takes body over. fn is called once, from etcd_run(), unless it is
 * cancelled; -ENOMEM: never.
 */
int etcd_call(struct etcd *e, const char *method, json_t *body, etcd_fn fn, void *ctx);

/* The same for "watch": fn is called for each message, the last time with an error. */
int etcd_stream(struct etcd *e, const char *method, json_t *body, etcd_fn fn, void *ctx);

/* Forget all calls and streams of ctx. */
void etcd_cancel(struct etcd *e, const void *ctx);

/* Leave the endpoint in use: it answers, and not as it should. */
void etcd_leave(struct etcd *e, const char *why);

/* Send and receive what can be, without waiting; call back. */
void etcd_run(struct etcd *e);
/* When etcd_run() has something to do by time alone; UINT64_MAX: never. */
uint64_t etcd_next_ns(const struct etcd *e);

/* How long to wait after a failure, with some chance in it so that many do not come at once. */
uint64_t etcd_backoff_ns(const struct etcd *e);
const char *etcd_endpoint(const struct etcd *e); /* that is in use */

/* Bytes and messages since etcd_open(), without what HTTP and TLS add. */
struct etcd_traffic {
	dmm_u64 sent, received, calls, messages, failovers;
};
void etcd_traffic(const struct etcd *e, struct etcd_traffic *ret);

#endif
