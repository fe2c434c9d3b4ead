/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot as Prometheus text (exposition format 0.0.4). Labels are bounded by the limits of the
 * ABI: stacks, rules, roles, reasons, maps.
 */
#ifndef DMM_POLICYD_METRICS_H
#define DMM_POLICYD_METRICS_H

#include <stdio.h>

#include "policyd/telemetry.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Write all families. 0, or -EIO when out has failed. */
int metrics_write(const struct telemetry *t, FILE *out);

/* Call cb for each family; labels: "stack,role" or "". Names and help are what metrics_write()
 * uses. */
void metrics_list(void (*cb)(const char *name, const char *type, const char *labels,
			     const char *help, void *ctx),
		  void *ctx);

/* Write text as a label value: backslash, quote and newline escaped, no quotes around. */
void metrics_escape(const char *text, FILE *out);

#endif
