/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each stack carried over the last hour, for the web page: a sample every TREND_S seconds,
 * kept in memory, taken only while somebody could look at the page.
 */
#ifndef DMM_POLICYD_TREND_H
#define DMM_POLICYD_TREND_H

#include <jansson.h>

#include "policyd/telemetry.h"

#define TREND_S 5
#define TREND_KEEP 720

struct trend;

struct trend *trend_new(void); /* NULL: no memory */
void trend_free(struct trend *t);

/* Keep what was measured at a time, in ms since 1970; the oldest sample goes. */
void trend_add(struct trend *t, const struct telemetry *now, dmm_u64 at_ms);

/* [{"at_ms": …, "stacks": {NAME: {"sockets": open now, "decided": ever, "bytes": ever}, …}}, …],
 * the oldest first; bytes of instances, and of connections over a kernel stack that are measured,
 * when they have ended. */
json_t *trend_json(const struct trend *t);

#endif
