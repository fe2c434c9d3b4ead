// SPDX-License-Identifier: Apache-2.0
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "policyd/value.h"

bool value_is_name(const char *text)
{
	size_t n = strlen(text);

	if (n == 0 || n >= DMM_NAME_LEN || text[0] == '-' || text[0] == '.')
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isascii((unsigned char)text[i]) ||
		    (!isalnum((unsigned char)text[i]) && !strchr("_-.", text[i])))
			return false;
	return true;
}

bool value_is_set_name(const char *text)
{
	return value_is_name(text) && !isdigit((unsigned char)text[0]);
}

int value_parse_number(const char *text, dmm_u64 max, dmm_u64 *ret)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	const char *digits = hex ? text + 2 : text;
	unsigned long long v;
	char *end;

	if (hex ? !isxdigit((unsigned char)digits[0]) || strpbrk(digits, "xX")
		: !isdigit((unsigned char)digits[0]))
		return -EINVAL;
	errno = 0;
	v = strtoull(digits, &end, hex ? 16 : 10);
	if (*end || end == digits)
		return -EINVAL;
	if (errno == ERANGE || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

/* "N" or "N-M", N <= M <= max. */
static int parse_range(const char *text, dmm_u64 max, dmm_u64 *ret_lo, dmm_u64 *ret_hi)
{
	const char *dash = strchr(text, '-');
	char lo[VALUE_STRLEN];
	size_t n = dash ? (size_t)(dash - text) : strlen(text);

	if (n >= sizeof(lo))
		return -EINVAL;
	memcpy(lo, text, n);
	lo[n] = '\0';
	if (value_parse_number(lo, max, ret_lo) < 0)
		return -EINVAL;
	*ret_hi = *ret_lo;
	if (dash && value_parse_number(dash + 1, max, ret_hi) < 0)
		return -EINVAL;
	return *ret_hi < *ret_lo ? -EINVAL : 0;
}

int value_parse_uids(const char *text, struct policy_uids *ret)
{
	dmm_u64 a, b;

	if (parse_range(text, UINT32_MAX - 1, &a, &b) < 0)
		return -EINVAL;
	ret->lo = (dmm_u32)a;
	ret->hi = (dmm_u32)b;
	return 0;
}

char *value_format_uids(const struct policy_uids *u, char *ret, size_t len)
{
	if (u->lo == u->hi)
		snprintf(ret, len, "%u", u->lo);
	else
		snprintf(ret, len, "%u-%u", u->lo, u->hi);
	return ret;
}

int value_parse_ports(const char *text, struct policy_ports *ret)
{
	dmm_u64 a, b;

	if (parse_range(text, 65535, &a, &b) < 0 || a == 0)
		return -EINVAL;
	ret->lo = (dmm_u16)a;
	ret->hi = (dmm_u16)b;
	return 0;
}

char *value_format_ports(const struct policy_ports *p, char *ret, size_t len)
{
	if (p->lo == p->hi)
		snprintf(ret, len, "%u", p->lo);
	else
		snprintf(ret, len, "%u-%u", p->lo, p->hi);
	return ret;
}

/* Largest first. */
static const struct {
	const char *suffix;
	dmm_u64 bps;
} rate_units[] = {
	{"tbit", 1000000000000ULL}, {"gbit", 1000000000ULL}, {"mbit", 1000000ULL},
	{"kbit", 1000ULL},	    {"bit", 1ULL},	     {"", 1ULL},
};

#define RATE_MAX (8ULL * UINT32_MAX * 1000000ULL)

int value_parse_rate(const char *text, dmm_u64 *ret)
{
	dmm_u64 whole, fraction = 0, scale = 1, unit = 0, bps;
	const char *end = text + strspn(text, "0123456789");
	char digits[20];

	if (end == text || (size_t)(end - text) >= sizeof(digits) - 1)
		return -EINVAL;
	memcpy(digits, text, (size_t)(end - text));
	digits[end - text] = '\0';
	whole = strtoull(digits, NULL, 10);
	if (*end == '.')
		for (end++; *end >= '0' && *end <= '9'; end++) {
			if (scale == 1000000000)
				return -EINVAL;
			scale *= 10;
			fraction = fraction * 10 + (dmm_u64)(*end - '0');
		}
	for (size_t i = 0; i < ARRAY_SIZE(rate_units) && !unit; i++)
		if (strcasecmp(end, rate_units[i].suffix) == 0)
			unit = rate_units[i].bps;
	if (!unit)
		return -EINVAL;
	if (__builtin_mul_overflow(whole, unit, &bps) || bps > RATE_MAX)
		return -ERANGE;
	/* At most 10^9 * 10^12: no overflow before the division. */
	bps += (dmm_u64)((unsigned __int128)fraction * unit / scale);
	if (bps == 0)
		return -EINVAL;
	*ret = bps;
	return 0;
}

char *value_format_rate(dmm_u64 bps, char *ret, size_t len)
{
	size_t i = 0;

	while (i < ARRAY_SIZE(rate_units) - 1 && (bps % rate_units[i].bps || !bps))
		i++;
	if (rate_units[i].bps == 1)
		snprintf(ret, len, "%llu", bps);
	else
		snprintf(ret, len, "%llu%s", bps / rate_units[i].bps, rate_units[i].suffix);
	return ret;
}

static const struct {
	const char *suffix;
	dmm_u64 us;
} time_units[] = {
	{"h", 3600000000ULL}, {"m", 60000000ULL}, {"s", 1000000ULL}, {"ms", 1000ULL}, {"us", 1ULL},
};

#define DURATION_MAX (366 * 24 * time_units[0].us)

int value_parse_duration(const char *text, dmm_u64 *ret_us)
{
	size_t n = strspn(text, "0123456789");
	char digits[12];
	dmm_u64 v;

	if (n == 0 || n >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, text, n);
	digits[n] = '\0';
	v = strtoull(digits, NULL, 10);
	for (size_t i = 0; i < ARRAY_SIZE(time_units); i++) {
		if (strcmp(text + n, time_units[i].suffix) != 0)
			continue;
		if (v > DURATION_MAX / time_units[i].us)
			return -ERANGE;
		*ret_us = v * time_units[i].us;
		return 0;
	}
	return -EINVAL;
}

char *value_format_duration(dmm_u64 us, char *ret, size_t len)
{
	size_t i = 0;

	while (i < ARRAY_SIZE(time_units) - 1 && (us % time_units[i].us || !us))
		i++;
	snprintf(ret, len, "%llu%s", us / time_units[i].us, time_units[i].suffix);
	return ret;
}

int value_parse_percent(const char *text, dmm_u64 max, dmm_u64 *ret)
{
	size_t n = strlen(text);
	char digits[8];

	if (n && text[n - 1] == '%')
		n--;
	if (n == 0 || n >= sizeof(digits) || strspn(text, "0123456789") != n)
		return -EINVAL;
	memcpy(digits, text, n);
	digits[n] = '\0';
	return value_parse_number(digits, max, ret);
}

int value_parse_endpoint(const char *text, struct dmm_addr *ret)
{
	const char *colon = strrchr(text, ':');
	char ip[ADDR_STRLEN];
	size_t n;
	dmm_u64 port;
	bool v6;

	if (!colon || colon == text)
		return -EINVAL;
	n = (size_t)(colon - text);
	v6 = text[0] == '[' && text[n - 1] == ']';
	if (v6) {
		text++;
		n -= 2;
	}
	if (n >= sizeof(ip))
		return -EINVAL;
	memcpy(ip, text, n);
	ip[n] = '\0';
	if (v6 != (strchr(ip, ':') != NULL) || addr_parse_ip(ip, ret->ip) < 0 ||
	    value_parse_number(colon + 1, 65535, &port) < 0 || port == 0)
		return -EINVAL;
	ret->port = (dmm_u16)port;
	ret->pad = 0;
	return 0;
}
