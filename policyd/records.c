// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/records.h"

/* The lists of a match. Names of groups and sets are numbers in the image. */
enum kind { PLAIN, GROUPS, SETS };
struct list {
	enum kind kind;
	size_t items, n, size; /* offsets in struct policy_match, size of an item */
};
#define LIST(kind, field) \
	{ \
		kind, offsetof(struct policy_match, field), \
			offsetof(struct policy_match, n_##field), \
			sizeof(*((struct policy_match *)0)->field) \
	}
static const struct list lists[] = {
	LIST(GROUPS, group),	  LIST(PLAIN, remote),	       LIST(PLAIN, local),
	LIST(PLAIN, remote_port), LIST(PLAIN, local_port),     LIST(SETS, remote_set),
	LIST(SETS, local_set),	  LIST(SETS, remote_port_set), LIST(SETS, local_port_set),
	LIST(PLAIN, uid),	  LIST(PLAIN, program),
};

void records_fini(struct records *r)
{
	free(r->byte);
	*r = (struct records){0};
}

/* ---- writing ---- */

static int put(struct records *r, const void *bytes, size_t n)
{
	if (n > r->room - r->n) {
		size_t room = MAX(2 * r->room, r->n + n + 4096);
		dmm_u8 *byte = realloc(r->byte, room);

		if (!byte)
			return -ENOMEM;
		r->byte = byte;
		r->room = room;
	}
	if (n)
		memcpy(r->byte + r->n, bytes, n);
	r->n += n;
	return 0;
}

static int put_u32(struct records *r, size_t v)
{
	dmm_u32 n = (dmm_u32)v;

	return v > UINT32_MAX ? -E2BIG : put(r, &n, sizeof(n));
}

static int put_group(struct records *r, const struct dmm_class *c, const char *name)
{
	int id = class_group(c, name);
	dmm_u8 byte = (dmm_u8)id;

	return id < 0 ? id : put(r, &byte, 1);
}

static int put_set_name(struct records *r, const struct index *sets, const char *name)
{
	size_t at;
	dmm_u16 n;

	if (!index_get_name(sets, name, &at))
		return -ENOENT;
	n = (dmm_u16)at;
	return put(r, &n, sizeof(n));
}

int records_put_match(struct records *r, const struct dmm_class *c, const struct index *sets,
		      const struct policy_match *m)
{
	dmm_u8 head[2] = {m->roles, m->proto};
	dmm_u16 present = 0;
	int e;

	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
		if (*(const size_t *)((const char *)m + lists[i].n))
			present |= (dmm_u16)(1u << i);
	e = put(r, head, sizeof(head));
	if (e == 0)
		e = put(r, &present, sizeof(present));
	for (unsigned i = 0; e == 0 && i < ARRAY_SIZE(lists); i++) {
		size_t n = *(const size_t *)((const char *)m + lists[i].n);
		const char *items = *(char *const *)((const char *)m + lists[i].items);

		if (!n)
			continue;
		e = put_u32(r, n);
		if (e == 0 && lists[i].kind == PLAIN)
			e = put(r, items, n * lists[i].size);
		for (size_t k = 0; e == 0 && lists[i].kind != PLAIN && k < n; k++)
			e = lists[i].kind == GROUPS
				    ? put_group(r, c, items + k * lists[i].size)
				    : put_set_name(r, sets, items + k * lists[i].size);
	}
	return e;
}

int records_put_auto(struct records *r, const struct nrd_settings *s)
{
	dmm_u8 there = s->objective != NRD_NONE;
	int e = put(r, &there, 1);

	return e == 0 && there ? put(r, s, sizeof(*s)) : e;
}

int records_put_set(struct records *r, const struct policy_set *s, dmm_u32 file)
{
	int e = put(r, s->name, sizeof(s->name));

	if (e == 0)
		e = put_u32(r, file);
	if (e == 0)
		e = put_u32(r, file ? s->pos.line : 0);
	if (e == 0)
		e = put_u32(r, s->n_prefix);
	if (e == 0)
		e = put(r, s->prefix, s->n_prefix * sizeof(*s->prefix));
	if (e == 0)
		e = put_u32(r, s->n_ports);
	return e == 0 ? put(r, s->ports, s->n_ports * sizeof(*s->ports)) : e;
}

int records_put_file(struct records *r, const char *name)
{
	return put(r, name, strnlen(name, DMM_PATH_LEN - 1) + 1);
}

/* ---- reading ---- */

static int get(struct records *r, void *ret, size_t n)
{
	if (n > r->n - r->at)
		return -EPROTO;
	if (n)
		memcpy(ret, r->byte + r->at, n);
	r->at += n;
	return 0;
}

/* A list of *ret_n items, newly allocated. */
static int get_list(struct records *r, size_t size, size_t stored, void *ret, size_t *ret_n)
{
	dmm_u32 n;
	void *list;
	int e = get(r, &n, sizeof(n));

	if (e < 0)
		return e;
	if (n > (r->n - r->at) / stored)
		return -EPROTO;
	if (n == 0)
		return 0;
	list = calloc(n, size);
	if (!list)
		return -ENOMEM;
	memcpy(ret, &list, sizeof(list));
	*ret_n = n;
	return 0;
}

static int get_group(struct records *r, const struct dmm_class *c, char *ret)
{
	dmm_u8 id;
	int e = get(r, &id, 1);

	if (e < 0)
		return e;
	if (id == 0 || id >= DMM_MAX_GROUPS || !c->group[id].name[0])
		return -EPROTO;
	snprintf(ret, DMM_NAME_LEN, "%.*s", DMM_NAME_LEN - 1, c->group[id].name);
	return 0;
}

static int get_set_name(struct records *r, const struct dmm_policy *p, char *ret)
{
	dmm_u16 at;
	int e = get(r, &at, sizeof(at));

	if (e < 0)
		return e;
	if (at >= p->n_sets)
		return -EPROTO;
	memcpy(ret, p->sets[at].name, DMM_NAME_LEN);
	return 0;
}

/* Of an item in the image. */
static size_t stored_size(const struct list *l)
{
	static const size_t stored[] = {[GROUPS] = 1, [SETS] = 2};

	return l->kind == PLAIN ? l->size : stored[l->kind];
}

static int get_items(struct records *r, const struct dmm_class *c, const struct dmm_policy *p,
		     const struct list *l, struct policy_match *m)
{
	size_t n = 0;
	char *items = NULL;
	int e = get_list(r, l->size, stored_size(l), &items, &n);

	memcpy((char *)m + l->items, &items, sizeof(items));
	*(size_t *)((char *)m + l->n) = n;
	if (e == 0 && l->kind == PLAIN)
		return get(r, items, n * l->size);
	for (size_t i = 0; e == 0 && i < n; i++)
		e = l->kind == GROUPS ? get_group(r, c, items + i * l->size)
				      : get_set_name(r, p, items + i * l->size);
	return e;
}

/* What no parser makes, but a map could hold. */
static int check_match(const struct policy_match *m)
{
	for (size_t i = 0; i < m->n_remote; i++)
		if (m->remote[i].plen > 128)
			return -EPROTO;
	for (size_t i = 0; i < m->n_local; i++)
		if (m->local[i].plen > 128)
			return -EPROTO;
	for (size_t i = 0; i < m->n_program; i++)
		if (m->program[i][DMM_PROGRAM_LEN - 1])
			return -EPROTO;
	return 0;
}

int records_get_match(struct records *r, const struct dmm_class *c, const struct dmm_policy *p,
		      struct policy_match *ret)
{
	dmm_u16 present = 0;
	dmm_u8 head[2];
	int e = get(r, head, sizeof(head));

	if (e == 0)
		e = get(r, &present, sizeof(present));
	if (e < 0)
		return e;
	if (present >> ARRAY_SIZE(lists) || head[0] >> DMM_ROLES)
		return -EPROTO;
	ret->roles = head[0];
	ret->proto = head[1];
	for (unsigned i = 0; e == 0 && i < ARRAY_SIZE(lists); i++)
		if (present >> i & 1)
			e = get_items(r, c, p, &lists[i], ret);
	return e == 0 ? check_match(ret) : e;
}

int records_get_auto(struct records *r, struct nrd_settings *ret)
{
	dmm_u8 there = 0;
	int e = get(r, &there, 1);

	if (e < 0 || !there)
		return e;
	e = get(r, ret, sizeof(*ret));
	return e == 0 && (ret->objective == NRD_NONE || ret->objective >= NRD_OBJECTIVES) ? -EPROTO
											  : e;
}

static int skip(struct records *r, size_t n)
{
	if (n > r->n - r->at)
		return -EPROTO;
	r->at += n;
	return 0;
}

int records_skip_rule(struct records *r)
{
	dmm_u16 present = 0;
	dmm_u8 there = 0;
	dmm_u32 n;
	int e = skip(r, 2);

	if (e == 0)
		e = get(r, &present, sizeof(present));
	for (unsigned i = 0; e == 0 && present >> i; i++) {
		if (!(present >> i & 1))
			continue;
		if (i >= ARRAY_SIZE(lists))
			return -EPROTO;
		e = get(r, &n, sizeof(n));
		if (e == 0)
			e = skip(r, n * stored_size(&lists[i]));
	}
	if (e == 0)
		e = get(r, &there, 1);
	return e == 0 && there ? skip(r, sizeof(struct nrd_settings)) : e;
}

int records_get_set(struct records *r, struct policy_set *ret, dmm_u32 *ret_file)
{
	dmm_u32 line = 0;
	int e = get(r, ret->name, sizeof(ret->name));

	ret->name[DMM_NAME_LEN - 1] = '\0';
	if (e == 0)
		e = get(r, ret_file, sizeof(*ret_file));
	if (e == 0)
		e = get(r, &line, sizeof(line));
	ret->pos.line = line;
	if (e == 0)
		e = get_list(r, sizeof(*ret->prefix), sizeof(*ret->prefix), &ret->prefix,
			     &ret->n_prefix);
	if (e == 0)
		e = get(r, ret->prefix, ret->n_prefix * sizeof(*ret->prefix));
	if (e == 0)
		e = get_list(r, sizeof(*ret->ports), sizeof(*ret->ports), &ret->ports,
			     &ret->n_ports);
	if (e == 0)
		e = get(r, ret->ports, ret->n_ports * sizeof(*ret->ports));
	for (size_t i = 0; e == 0 && i < ret->n_prefix; i++)
		if (ret->prefix[i].plen > 128)
			e = -EPROTO;
	return e;
}

int records_get_file(struct records *r, char ret[DMM_PATH_LEN])
{
	const dmm_u8 *end = r->at < r->n ? memchr(r->byte + r->at, 0, r->n - r->at) : NULL;
	size_t len = end ? (size_t)(end - (r->byte + r->at)) + 1 : 0;

	if (!end || len > DMM_PATH_LEN)
		return -EPROTO;
	return get(r, ret, len);
}
