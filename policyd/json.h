/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON that programs read: of the HTTP API and of `dmm-policy -j`. Names and meanings stay;
 * keys may be added. Numbers are numbers in base units, addresses and prefixes are text. Each
 * function returns a new reference, or NULL when memory is out.
 */
#ifndef DMM_POLICYD_JSON_H
#define DMM_POLICYD_JSON_H

#include <jansson.h>

#include "policyd/nrd/nrd.h"
#include "policyd/policy.h"
#include "policyd/telemetry.h"

/* {"groups": {…}, "stacks": {…}, "rules": […], "default": […]}: policy_parse_text() reads it back.
 */
json_t *json_policy(const struct dmm_policy *p);

/* Text that others chose, of at most size bytes: what is no UTF-8, and the control characters
 * beyond ASCII, are "?". */
json_t *json_text(const char *s, size_t size);

/* One live socket. Names of groups and stacks come from c. */
json_t *json_flow(const struct dmm_flow_row *f, const struct dmm_class *c);

/* [{"name", "id", "kind", …}, …]: configuration and state of each stack. */
json_t *json_stacks(const struct telemetry *t);

/* [{"name", "id", "cgroup", "cgroup_id"}, …] */
json_t *json_groups(const struct dmm_class *c);

/* {"generation", "counters": {…}, "verdicts": […], "rules": […], "instances": {…}, "maps": {…}} */
json_t *json_stats(const struct telemetry *t);

/* {"number", "age_s", "rule", "remote", "action", "reason", "from", "to", "text", …}: text is all
 * of it in one line. now: of the clock of nrd_turn(). */
json_t *json_nrd_decision(const struct nrd_decision *d, dmm_u64 now);
/* {"rule", "remote", "phase", "in_use", "stacks": […], "last", …}: what nRD has chosen for an
 * address, or (NULL) all that have no choice of their own, and what it thinks of the stacks. */
json_t *json_nrd_view(const struct nrd *n, unsigned rule, const dmm_u8 *ip, dmm_u64 now);

/* [{"file", "line", "column", "severity", "text"}, …] */
json_t *json_diags(const struct policy_diags *d);

#endif
