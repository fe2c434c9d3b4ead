// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/diag.h"
#include "policyd/keys.h"

int keys_error(const struct keys_at *at, const struct node *v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	diag_addv(at->diags, true, at->file, v->line, v->column, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static void add_of(const struct keys_at *at, bool error, const struct key *k, const struct node *v,
		   const char *fmt, va_list ap)
{
	const struct policy_pos none = {0};
	struct policy_pos pos = none;
	char text[200];

	vsnprintf(text, sizeof(text), fmt, ap);
	snprintf(pos.file, sizeof(pos.file), "%s", at->file);
	pos.line = v->line;
	pos.column = v->column;
	if (error)
		diag_error_at(at->diags, &pos, "%s%s%s: %s", k->name, at->object[0] ? " of " : "",
			      at->object, text);
	else
		diag_warn_at(at->diags, &pos, "%s%s%s: %s", k->name, at->object[0] ? " of " : "",
			     at->object, text);
}

int keys_error_of(const struct keys_at *at, const struct key *k, const struct node *v,
		  const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_of(at, true, k, v, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

void keys_warn_of(const struct keys_at *at, const struct key *k, const struct node *v,
		  const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_of(at, false, k, v, fmt, ap);
	va_end(ap);
}

const struct key *keys_find(const struct key *keys, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(keys[i].name, name) == 0)
			return &keys[i];
	return NULL;
}

bool keys_seen(uint32_t seen, const struct key *keys, size_t n, const char *name)
{
	return seen & 1u << (keys_find(keys, n, name) - keys);
}

static int unknown_key(const struct keys_at *at, const struct key *keys, size_t n,
		       const struct node *key)
{
	const char *in = at->object[0] ? " in " : "", *nearest = NULL;
	unsigned best = UINT_MAX;
	char known[160] = "";
	size_t len = 0;

	for (size_t i = 0; i < n; i++)
		if (diag_nearer(key->value, keys[i].name, &best))
			nearest = keys[i].name;
	if (nearest)
		return keys_error(at, key, "unknown key \"%s\"%s%s; did you mean \"%s\"?",
				  key->value, in, at->object, nearest);
	for (size_t i = 0; i < n && len < sizeof(known); i++)
		len += (size_t)snprintf(known + len, sizeof(known) - len, "%s%s", i ? ", " : "",
					keys[i].name);
	return keys_error(at, key, "unknown key \"%.60s\"%s%s; known keys: %s", key->value, in,
			  at->object, known);
}

int keys_read(const struct keys_at *at, const struct key *keys, size_t n, const struct node *v,
	      void *obj, uint32_t *ret_seen)
{
	unsigned line[KEYS_MAX];
	int err = 0, r;

	*ret_seen = 0;
	if (v->type != NODE_MAP)
		return keys_error(at, v, "%s must be a mapping of keys to values",
				  at->object[0] ? at->object : "the policy");
	for (size_t i = 0; i + 1 < v->n; i += 2) {
		const struct node *key = v->child[i];
		const struct key *k = keys_find(keys, n, key->value);
		size_t row = (size_t)(k - keys);

		if (!k) {
			err = unknown_key(at, keys, n, key);
			continue;
		}
		if (*ret_seen & 1u << row) {
			err = keys_error(at, key, "duplicate key \"%s\"%s%s, first on line %u",
					 k->name, at->object[0] ? " in " : "", at->object,
					 line[row]);
			continue;
		}
		*ret_seen |= 1u << row;
		line[row] = key->line;
		r = k->read(at, k, v->child[i + 1], obj);
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			err = r;
	}
	return err;
}

const struct node *keys_item(const struct node *v, size_t i)
{
	if (v->type == NODE_LIST)
		return i < v->n ? v->child[i] : NULL;
	return i == 0 ? v : NULL;
}
