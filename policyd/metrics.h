/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot as Prometheus text or as OpenMetrics. Labels are bounded by the limits of the ABI:
 * stacks, rules, roles, reasons, maps, programs.
 */
#ifndef DMM_POLICYD_METRICS_H
#define DMM_POLICYD_METRICS_H

#include <stdio.h>

#include "policyd/telemetry.h"

enum metrics_format {
	METRICS_TEXT,	     /* exposition format 0.0.4 */
	METRICS_OPENMETRICS, /* OpenMetrics 1.0.0 */
};

/* What an Accept header, or none (NULL), asks for: OpenMetrics only when it is liked better. */
enum metrics_format metrics_negotiate(const char *accept);
const char *metrics_content_type(enum metrics_format format);

/* Write all families. 0, or -EIO when out has failed. */
int metrics_write(const struct telemetry *t, enum metrics_format format, FILE *out);

/* Call cb for each family; labels: "stack,role" or "". Names and help are what metrics_write()
 * uses. */
void metrics_list(void (*cb)(const char *name, const char *type, const char *labels,
			     const char *help, void *ctx),
		  void *ctx);

/* Write text as a label value: backslash, quote and newline escaped, no quotes around. */
void metrics_escape(const char *text, FILE *out);

#endif
