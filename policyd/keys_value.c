// SPDX-License-Identifier: Apache-2.0
/* Readers of fields: one node into one member of an object. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/addr.h"
#include "policyd/diag.h"
#include "policyd/index.h"
#include "policyd/keys.h"
#include "policyd/value.h"

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
	if (v->type == NODE_LIST && v->n > KEYS_MAX_LIST)
		return keys_error_of(at, k, v, "%zu items; at most %d are possible", v->n,
				     KEYS_MAX_LIST);
	return 0;
}

/* A list as it grows. There is room for all that the text has, so that seen may point into it. */
struct list {
	char *item;
	size_t n, size;
	struct index seen;
};

static const struct list no_list;

static int list_begin(struct list *l, const struct node *v, size_t size)
{
	size_t room = v->type == NODE_LIST ? v->n : 1;

	*l = (struct list){.size = size, .item = calloc(room ? room : 1, size)};
	return l->item ? 0 : -ENOMEM;
}

/* Items that are there already are left out. */
static int list_push(const struct keys_at *at, const struct key *k, const struct node *v,
		     struct list *l, const void *item)
{
	char *to = l->item + l->n * l->size;
	int r;

	memcpy(to, item, l->size);
	r = index_put(&l->seen, to, l->size, l->n, NULL);
	if (r == 0)
		l->n++;
	else if (r > 0)
		keys_warn_of(at, k, v, "\"%s\" is there twice", v->value);
	return r < 0 ? r : 0;
}

/* The list becomes the member at these offsets; none if it is empty. */
static void list_end(struct list *l, void *obj, size_t offset, size_t n_offset)
{
	char *fitting = l->n ? realloc(l->item, l->n * l->size) : NULL;

	if (!l->n)
		free(l->item);
	else if (fitting)
		l->item = fitting;
	if (!l->n)
		l->item = NULL;
	memcpy((char *)obj + offset, &l->item, sizeof(l->item));
	memcpy((char *)obj + n_offset, &l->n, sizeof(l->n));
	index_fini(&l->seen);
	*l = no_list;
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

/* Read one item into item, of the size of the list's. */
typedef int (*item_fn)(const struct keys_at *at, const struct key *k, const struct node *v,
		       void *item);

static int read_name(const struct keys_at *at, const struct key *k, const struct node *v,
		     void *item)
{
	struct key one = *k;

	one.offset = 0;
	one.size = DMM_NAME_LEN;
	return key_read_name(at, &one, v, item);
}

static bool is_set(const struct key *k, const struct node *v)
{
	return k->n_set_offset && v->type == NODE_SCALAR && !node_is_null(v) &&
	       value_is_set_name(v->value);
}

/* The item of a list, or of the list of sets beside it. */
static int read_item(const struct keys_at *at, const struct key *k, const struct node *v,
		     item_fn read, struct list *list, struct list *sets)
{
	union {
		char name[DMM_NAME_LEN];
		struct policy_prefix prefix;
	} item = {0};
	bool set = is_set(k, v);
	int r = set ? read_name(at, k, v, &item) : read(at, k, v, &item);

	return r < 0 ? r : list_push(at, k, v, set ? sets : list, &item);
}

static int read_list(const struct keys_at *at, const struct key *k, const struct node *v, void *obj,
		     item_fn read)
{
	struct list list, sets;
	const struct node *item;
	int err = check_items(at, k, v), r;

	if (err < 0)
		return err;
	if (list_begin(&list, v, k->size) < 0)
		return -ENOMEM;
	sets = no_list;
	if (k->n_set_offset)
		err = list_begin(&sets, v, DMM_NAME_LEN);
	for (size_t i = 0; err != -ENOMEM && (item = keys_item(v, i)); i++) {
		r = read_item(at, k, item, read, &list, &sets);
		err = r < 0 ? r : err;
	}
	list_end(&list, obj, k->offset, k->n_offset);
	if (k->n_set_offset)
		list_end(&sets, obj, k->set_offset, k->n_set_offset);
	return err;
}

int key_read_names(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	return read_list(at, k, v, obj, read_name);
}

static int read_prefix(const struct keys_at *at, const struct key *k, const struct node *v,
		       void *item)
{
	const char *text = scalar(at, k, v);
	struct policy_prefix *ret = item;
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

/* ::/0 takes every address, known or not, of both families: the same as no list. */
static void drop_any(const struct key *k, void *obj)
{
	struct policy_prefix *list;
	struct list none = no_list;
	char *sets = NULL;
	bool any = false;
	size_t n;

	memcpy(&list, field(k, obj), sizeof(list));
	memcpy(&n, (char *)obj + k->n_offset, sizeof(n));
	for (size_t i = 0; i < n; i++)
		any |= list[i].plen == 0;
	if (!any)
		return;
	free(list);
	list_end(&none, obj, k->offset, k->n_offset);
	if (!k->n_set_offset)
		return;
	memcpy(&sets, (char *)obj + k->set_offset, sizeof(sets));
	free(sets);
	list_end(&none, obj, k->set_offset, k->n_set_offset);
}

int key_read_prefixes(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj)
{
	int r = read_list(at, k, v, obj, read_prefix);

	drop_any(k, obj);
	return r;
}

static int read_ports(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *item)
{
	const char *text = scalar(at, k, v);

	if (!text)
		return -EINVAL;
	if (value_parse_ports(text, item) < 0)
		return keys_error_of(at, k, v,
				     "\"%.60s\" is not a port or a range of ports from 1 to 65535",
				     text);
	return 0;
}

int key_read_ports(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	return read_list(at, k, v, obj, read_ports);
}

/* The number of a user of this host. What is kept is the number: a name that changes later changes
 * nothing. */
static int user_by_name(const char *name, dmm_u32 *ret)
{
	struct passwd entry, *found = NULL;
	char buf[4096];

	if (getpwnam_r(name, &entry, buf, sizeof(buf), &found) != 0 || !found)
		return -ENOENT;
	*ret = found->pw_uid;
	return 0;
}

static int read_uids(const struct keys_at *at, const struct key *k, const struct node *v,
		     void *item)
{
	const char *text = scalar(at, k, v);
	struct policy_uids *ret = item;

	if (!text)
		return -EINVAL;
	if (value_is_set_name(text)) {
		if (user_by_name(text, &ret->lo) < 0)
			return keys_error_of(at, k, v,
					     "\"%s\" is no user of this host; a number works on "
					     "every host",
					     text);
		ret->hi = ret->lo;
		return 0;
	}
	if (value_parse_uids(text, ret) < 0)
		return keys_error_of(
			at, k, v,
			"\"%.60s\" is not a user's number from 0 to %u, a range such as "
			"1000-1999 or a user's name",
			text, UINT32_MAX - 1);
	return 0;
}

int key_read_uids(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	return read_list(at, k, v, obj, read_uids);
}

static int read_program(const struct keys_at *at, const struct key *k, const struct node *v,
			void *item)
{
	const char *text = scalar(at, k, v), *slash = text ? strrchr(text, '/') : NULL;
	struct key one = *k;

	if (!text)
		return -EINVAL;
	if (slash)
		return keys_error_of(at, k, v, "\"%.100s\": a name without its path; \"%.15s\"?",
				     text, slash + 1);
	if (strlen(text) >= DMM_PROGRAM_LEN)
		return keys_error_of(
			at, k, v,
			"\"%.60s\" is longer than the %d characters that the kernel keeps; "
			"did you mean \"%.15s\"?",
			text, DMM_PROGRAM_LEN - 1, text);
	/* What show prints must read back; a name that the kernel cut need not be UTF-8. */
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
			return keys_error_of(at, k, v, "has a character that is not ASCII text");
	if (!*text || strchr(text, ','))
		return keys_error_of(at, k, v, "\"%s\" is not the name of a program", text);
	one.offset = 0;
	return key_read_text(at, &one, v, item);
}

int key_read_programs(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj)
{
	return read_list(at, k, v, obj, read_program);
}
