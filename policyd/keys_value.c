// SPDX-License-Identifier: Apache-2.0
/* Readers of fields: one node into one member of an object. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/addr.h"
#include "policyd/diag.h"
#include "policyd/keys.h"
#include "policyd/value.h"

#define LIST_MAX DMM_MAX_MATCHES /* items of one list: more cannot be compiled */

static void *field(const struct key *k, void *obj)
{
	return (char *)obj + k->offset;
}

/* The text of a scalar, or NULL with a diagnostic. */
static const char *scalar(const struct keys_at *at, const struct key *k, const struct node *v)
{
	if (v->type == NODE_SCALAR && !node_is_null(v))
		return v->value;
	keys_error_of(at, k, v, "expected %s, found %s", k->value,
		      v->type == NODE_SCALAR ? "nothing"
		      : v->type == NODE_LIST ? "a list"
					     : "a mapping");
	return NULL;
}

/* The same for an item of a scalar-or-list. */
static int check_items(const struct keys_at *at, const struct key *k, const struct node *v)
{
	if (v->type == NODE_LIST && v->n == 0)
		return keys_error_of(at, k, v, "an empty list; leave the key out for \"any\"");
	if (v->type == NODE_LIST && v->n > LIST_MAX)
		return keys_error_of(at, k, v, "%zu items; at most %d are possible", v->n,
				     LIST_MAX);
	return 0;
}

/* Grow the list that k describes by one item. Items that are there already are left out. */
static int list_push(const struct keys_at *at, const struct key *k, const struct node *v, void *obj,
		     const void *item)
{
	size_t *n = (size_t *)((char *)obj + k->n_offset);
	char *list;

	memcpy(&list, field(k, obj), sizeof(list));
	for (size_t i = 0; i < *n; i++)
		if (memcmp(list + i * k->size, item, k->size) == 0) {
			keys_warn_of(at, k, v, "\"%s\" is there twice", v->value);
			return 0;
		}
	list = realloc(list, (*n + 1) * k->size);
	if (!list)
		return -ENOMEM;
	memcpy(field(k, obj), &list, sizeof(list));
	memcpy(list + (*n)++ * k->size, item, k->size);
	return 0;
}

static void list_clear(const struct key *k, void *obj)
{
	char *list, *none = NULL;

	memcpy(&list, field(k, obj), sizeof(list));
	free(list);
	memcpy(field(k, obj), &none, sizeof(none));
	*(size_t *)((char *)obj + k->n_offset) = 0;
}

int key_read_text(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	const char *text = scalar(at, k, v);

	if (!text)
		return -EINVAL;
	if (strlen(text) >= k->size)
		return keys_error_of(at, k, v, "longer than %zu characters", k->size - 1);
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return keys_error_of(at, k, v, "has a control character");
	memset(field(k, obj), 0, k->size);
	strcpy(field(k, obj), text);
	return 0;
}

int key_read_name(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	const char *text = scalar(at, k, v);

	if (!text)
		return -EINVAL;
	if (!value_is_name(text))
		return keys_error_of(at, k, v,
				     "\"%.60s\" is not a name (letters, digits, _ - . and at most "
				     "%d characters)",
				     text, DMM_NAME_LEN - 1);
	return key_read_text(at, k, v, obj);
}

/* Normalised: no slashes at the ends, none doubled. */
int key_read_cgroup(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	char *path = field(k, obj), *out = path;
	int r = key_read_text(at, k, v, obj);

	if (r < 0)
		return r;
	for (const char *in = path; *in; in++)
		if (*in != '/' || (out > path && out[-1] != '/'))
			*out++ = *in;
	if (out > path && out[-1] == '/')
		out--;
	memset(out, 0, k->size - (size_t)(out - path));
	for (const char *c = path; *c; c += strcspn(c, "/"), c += *c == '/') {
		size_t len = strcspn(c, "/");

		if (len <= 2 && strspn(c, ".") >= len)
			return keys_error_of(at, k, v, "\"%.100s\" must not contain . or ..",
					     v->value);
	}
	if (!*path)
		return keys_error_of(at, k, v, "the root cgroup cannot be a group");
	return 0;
}

static int word_index(const struct keys_at *at, const struct key *k, const struct node *v)
{
	const char *text = scalar(at, k, v), *nearest = NULL;
	unsigned best = UINT_MAX;

	if (!text)
		return -EINVAL;
	for (int i = 0; k->words[i]; i++) {
		if (strcmp(k->words[i], text) == 0)
			return i;
		if (diag_nearer(text, k->words[i], &best))
			nearest = k->words[i];
	}
	if (nearest)
		return keys_error_of(at, k, v, "\"%s\" is none of %s; did you mean \"%s\"?", text,
				     k->value, nearest);
	return keys_error_of(at, k, v, "\"%.60s\" is none of %s", text, k->value);
}

int key_read_word(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	int i = word_index(at, k, v);

	return i < 0 ? i : key_read_text(at, k, v, obj);
}

int key_read_index(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	int i = word_index(at, k, v);

	if (i < 0)
		return i;
	*(dmm_u8 *)field(k, obj) = (dmm_u8)i;
	return 0;
}

int key_read_bits(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	const struct node *item;
	dmm_u8 bits = 0;
	int err = check_items(at, k, v);

	for (size_t i = 0; err == 0 && (item = keys_item(v, i)); i++) {
		int index = word_index(at, k, item);

		if (index < 0)
			err = index;
		else
			bits |= (dmm_u8)(1u << index);
	}
	*(dmm_u8 *)field(k, obj) = bits;
	return err;
}

int key_read_bool(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	static const char *const no_yes[] = {"false", "true", "no", "yes", "off", "on", NULL};
	const char *text = scalar(at, k, v);

	if (!text)
		return -EINVAL;
	for (int i = 0; no_yes[i]; i++)
		if (strcasecmp(text, no_yes[i]) == 0) {
			*(bool *)field(k, obj) = i & 1;
			return 0;
		}
	return keys_error_of(at, k, v, "\"%.60s\" is neither true nor false", text);
}

int key_read_u32(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	const char *text = scalar(at, k, v);
	dmm_u64 n;

	if (!text)
		return -EINVAL;
	if (value_parse_number(text, UINT32_MAX, &n) < 0)
		return keys_error_of(at, k, v, "\"%.60s\" is not a number from 0 to %u", text,
				     UINT32_MAX);
	*(dmm_u32 *)field(k, obj) = (dmm_u32)n;
	return 0;
}

int key_read_rate(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	const char *text = scalar(at, k, v);

	if (!text)
		return -EINVAL;
	if (value_parse_rate(text, field(k, obj)) < 0)
		return keys_error_of(at, k, v,
				     "\"%.60s\" is not a rate; write 1gbit, 500mbit, 64kbit or "
				     "bits per second",
				     text);
	return 0;
}

int key_read_names(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	const struct node *item;
	int err = check_items(at, k, v);

	for (size_t i = 0; err != -ENOMEM && (item = keys_item(v, i)); i++) {
		struct key one = *k;
		char name[DMM_NAME_LEN] = "";
		int r;

		one.offset = 0;
		r = key_read_name(at, &one, item, name);
		if (r == 0)
			r = list_push(at, k, item, obj, name);
		if (r < 0)
			err = r;
	}
	return err;
}

static int read_prefix(const struct keys_at *at, const struct key *k, const struct node *v,
		       struct policy_prefix *ret)
{
	const char *text = scalar(at, k, v);
	char want[ADDR_STRLEN];
	unsigned plen;
	int r;

	if (!text)
		return -EINVAL;
	r = addr_parse_prefix(text, ret->ip, &plen);
	if (r == -ERANGE) {
		for (unsigned i = plen; i < 128; i++)
			ret->ip[i / 8] &= (dmm_u8) ~(0x80 >> (i % 8));
		return keys_error_of(at, k, v,
				     "\"%s\" has bits set beyond the prefix; did you mean %s?",
				     text, addr_format_prefix(ret->ip, plen, want, sizeof(want)));
	}
	if (r < 0)
		return keys_error_of(at, k, v,
				     "\"%.60s\" is not an address or prefix such as 10.0.0.0/8 or "
				     "2001:db8::/32",
				     text);
	ret->plen = (dmm_u8)plen;
	return 0;
}

int key_read_prefixes(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj)
{
	const struct node *item;
	int err = check_items(at, k, v);
	bool any = false;

	for (size_t i = 0; err != -ENOMEM && (item = keys_item(v, i)); i++) {
		struct policy_prefix p = {0};
		int r = read_prefix(at, k, item, &p);

		if (r == 0)
			r = list_push(at, k, item, obj, &p);
		if (r < 0)
			err = r;
		else
			any |= p.plen == 0;
	}
	if (any) /* ::/0 takes every address, known or not, of both families: the same as no list */
		list_clear(k, obj);
	return err;
}

int key_read_ports(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	const struct node *item;
	int err = check_items(at, k, v);

	for (size_t i = 0; err != -ENOMEM && (item = keys_item(v, i)); i++) {
		const char *text = scalar(at, k, item);
		struct policy_ports p;
		int r = -EINVAL;

		if (text && value_parse_ports(text, &p) < 0)
			keys_error_of(at, k, item,
				      "\"%.60s\" is not a port or a range of ports from 1 to 65535",
				      text);
		else if (text)
			r = list_push(at, k, item, obj, &p);
		if (r < 0)
			err = r;
	}
	return err;
}
