/* SPDX-License-Identifier: Apache-2.0 */
/* Single values of the policy language: text to value and back. -EINVAL: not of the form. */
#ifndef DMM_POLICYD_VALUE_H
#define DMM_POLICYD_VALUE_H

#include "policyd/policy.h"

#define VALUE_STRLEN 80 /* room for any formatted value */

/* 1 … DMM_NAME_LEN - 1 of letters, digits, "_", "-", "."; the first a letter, digit or "_". */
bool value_is_name(const char *text);

/* The same, but the first no digit: what begins with one is an address, a prefix or a port. */
bool value_is_set_name(const char *text);

/* Decimal, or hexadecimal with 0x. -ERANGE: above max. */
int value_parse_number(const char *text, dmm_u64 max, dmm_u64 *ret);

/* "443", "8000-8999"; 1 … 65535. */
int value_parse_ports(const char *text, struct policy_ports *ret);
char *value_format_ports(const struct policy_ports *p, char *ret, size_t len);

/* "1000", "1000-1999"; 0 … 4294967294. */
int value_parse_uids(const char *text, struct policy_uids *ret);
char *value_format_uids(const struct policy_uids *u, char *ret, size_t len);

/* "1gbit", "2.5mbit", "64000": bits per second, not 0. */
int value_parse_rate(const char *text, dmm_u64 *ret);
char *value_format_rate(dmm_u64 bps, char *ret, size_t len);

/* "250us", "2ms", "30s", "5m", "1h" in microseconds; at most a year. */
int value_parse_duration(const char *text, dmm_u64 *ret_us);
char *value_format_duration(dmm_u64 us, char *ret, size_t len);

/* "5%", "5". -ERANGE: above max. */
int value_parse_percent(const char *text, dmm_u64 max, dmm_u64 *ret);

/* "127.0.0.1:9464", "[::1]:9464". */
int value_parse_endpoint(const char *text, struct dmm_addr *ret);

#endif
