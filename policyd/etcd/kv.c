// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/etcd/kv.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* ---- base64, RFC 4648 section 4 ---- */

static json_t *encode(const void *data, size_t len)
{
	const unsigned char *in = data;
	_cleanup_free_ char *out = malloc((len + 2) / 3 * 4 + 1);
	char *to = out;

	if (!out)
		return NULL;
	for (size_t i = 0; i < len; i += 3) {
		size_t left = len - i;
		unsigned v = (unsigned)in[i] << 16 | (left > 1 ? (unsigned)in[i + 1] << 8 : 0) |
			     (left > 2 ? in[i + 2] : 0);

		*to++ = digits[v >> 18];
		*to++ = digits[v >> 12 & 63];
		*to++ = left > 1 ? digits[v >> 6 & 63] : '=';
		*to++ = left > 2 ? digits[v & 63] : '=';
	}
	return json_stringn(out, (size_t)(to - out));
}

json_t *kv_base64(const char *text)
{
	return encode(text, strlen(text));
}

/* -1: none. */
static int digit_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

char *kv_text(const json_t *kv, const char *name)
{
	const json_t *v = json_object_get(kv, name);
	const char *in = json_is_string(v) ? json_string_value(v) : "";
	size_t len = strlen(in), n = 0;
	char *out = malloc(len / 4 * 3 + 1);
	unsigned bits = 0, have = 0;

	if (!out)
		return NULL;
	while (len > 0 && in[len - 1] == '=')
		len--;
	for (size_t i = 0; i < len; i++) {
		int digit = digit_of(in[i]);

		if (digit < 0)
			goto bad;
		bits = bits << 6 | (unsigned)digit;
		have += 6;
		if (have < 8)
			continue;
		have -= 8;
		out[n] = (char)(bits >> have & 0xff);
		if (!out[n++])
			goto bad;
	}
	out[n] = '\0';
	return out;
bad:
	free(out);
	return NULL;
}

/* ---- requests ---- */

/* All keys that begin with a text lie before this one: the next text of its length. */
static json_t *end_of(const char *prefix)
{
	_cleanup_free_ char *end = strdup(prefix);
	size_t n = end ? strlen(end) : 0;

	if (n == 0)
		return NULL;
	end[n - 1]++; /* prefixes are ASCII and end with a slash */
	return kv_base64(end);
}

static json_t *number(dmm_u64 n)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", n);
	return json_string(text);
}

json_t *kv_put(const char *key, const char *value, dmm_u64 lease)
{
	json_t *put = json_pack("{s:o, s:o}", "key", kv_base64(key), "value", kv_base64(value));

	if (lease)
		json_object_set_new(put, "lease", number(lease));
	return put;
}

json_t *kv_get(const char *key)
{
	return json_pack("{s:o}", "key", kv_base64(key));
}

json_t *kv_get_all(const char *prefix)
{
	return json_pack("{s:o, s:o}", "key", kv_base64(prefix), "range_end", end_of(prefix));
}

json_t *kv_delete_all(const char *prefix)
{
	return kv_get_all(prefix);
}

json_t *kv_grant(dmm_u32 seconds)
{
	return json_pack("{s:o}", "TTL", number(seconds));
}

json_t *kv_lease(dmm_u64 lease)
{
	return json_pack("{s:o}", "ID", number(lease));
}

json_t *kv_watch_all(const char *prefix, dmm_u64 revision)
{
	return json_pack("{s:{s:o, s:o, s:o}}", "create_request", "key", kv_base64(prefix),
			 "range_end", end_of(prefix), "start_revision", number(revision));
}

static json_t *txn(json_t *compare, json_t *then, json_t *otherwise)
{
	return json_pack("{s:[o], s:o, s:o}", "compare", compare, "success", then, "failure",
			 otherwise);
}

json_t *kv_txn(const char *key, dmm_u64 created, json_t *then, json_t *otherwise)
{
	return txn(json_pack("{s:s, s:s, s:o, s:o}", "target", "CREATE", "result", "EQUAL", "key",
			     kv_base64(key), "create_revision", number(created)),
		   then, otherwise);
}

json_t *kv_txn_unchanged(const char *key, dmm_u64 changed, json_t *then, json_t *otherwise)
{
	return txn(json_pack("{s:s, s:s, s:o, s:o}", "target", "MOD", "result", "EQUAL", "key",
			     kv_base64(key), "mod_revision", number(changed)),
		   then, otherwise);
}

json_t *kv_do_put(const char *key, const char *value, dmm_u64 lease)
{
	return json_pack("{s:o}", "request_put", kv_put(key, value, lease));
}

json_t *kv_do_get(const char *key)
{
	return json_pack("{s:o}", "request_range", kv_get(key));
}

json_t *kv_do_delete(const char *key)
{
	return json_pack("{s:o}", "request_delete_range", kv_get(key));
}

/* ---- answers ---- */

dmm_u64 kv_number(const json_t *o, const char *name)
{
	const json_t *v = json_object_get(o, name);

	if (json_is_integer(v))
		return json_integer_value(v) > 0 ? (dmm_u64)json_integer_value(v) : 0;
	return json_is_string(v) ? strtoull(json_string_value(v), NULL, 10) : 0;
}

dmm_u64 kv_revision(const json_t *answer)
{
	return kv_number(json_object_get(answer, "header"), "revision");
}

dmm_u64 kv_cluster(const json_t *answer)
{
	return kv_number(json_object_get(answer, "header"), "cluster_id");
}
