// SPDX-License-Identifier: Apache-2.0
/*
 * From the intervals of rules to a table: a walk over all ends, keeping the set of rules that hold
 * there, cuts the numbers into intervals of one class each. They become the leaves of a static
 * tree; the levels above them are built from the last numbers of what is below.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/compile.h"

struct event {
	u128 at;
	dmm_u32 rule;
	bool in;
};

struct cutting {
	struct image *im;
	struct event *event;
	size_t n_events;
	struct image_interval *interval;
	size_t n;
	struct image_rules *rules;
	dmm_u32 *count; /* items of a rule that hold here */
};

int image_item_add(struct image_items *items, u128 lo, u128 hi, dmm_u32 rule)
{
	if (items->n == items->room) {
		size_t room = items->room ? 2 * items->room : 1024;
		struct image_item *list = realloc(items->list, room * sizeof(*list));

		if (!list)
			return -ENOMEM;
		items->list = list;
		items->room = room;
	}
	items->list[items->n++] = (struct image_item){.lo = lo, .hi = hi, .rule = rule};
	return 0;
}

static int by_place(const void *x, const void *y)
{
	const struct event *a = x, *b = y;

	return a->at < b->at ? -1 : a->at > b->at;
}

static int cut_here(struct cutting *c, u128 last)
{
	dmm_ref class;
	int r = image_class(c->im, c->rules, &class);

	if (r < 0)
		return r;
	if (c->n && c->interval[c->n - 1].class == class)
		c->interval[c->n - 1].last = last;
	else
		c->interval[c->n++] = (struct image_interval){.last = last, .class = class};
	return 0;
}

static void count_rule(struct cutting *c, const struct event *e)
{
	if (e->in && c->count[e->rule]++ == 0)
		image_rules_put(c->rules, e->rule, true);
	else if (!e->in && --c->count[e->rule] == 0)
		image_rules_put(c->rules, e->rule, false);
}

static int cut(struct cutting *c, u128 last)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->n_events; i++) {
		const struct event *e = &c->event[i];

		if (e->at && (i == 0 || e->at != e[-1].at))
			r = cut_here(c, e->at - 1);
		count_rule(c, e);
	}
	return r == 0 ? cut_here(c, last) : r;
}

static void put_event(struct cutting *c, u128 at, dmm_u32 rule, bool in)
{
	c->event[c->n_events++] = (struct event){.at = at, .rule = rule, .in = in};
}

/* ---- the tree ---- */

static void put_key(struct dmm_cell *cell, unsigned k, u128 key, bool wide)
{
	if (wide) {
		cell->q[2 * k] = (dmm_u64)(key >> 64);
		cell->q[2 * k + 1] = (dmm_u64)key;
	} else {
		cell->w[k] = (dmm_u32)key;
	}
}

/* Cells of the levels of a tree with n intervals, leaves first. */
static unsigned tree_levels(size_t n, bool wide, size_t cells[DMM_WIDE_LEVELS])
{
	unsigned depth = 0;

	n = (n + (wide ? 2 : 7)) / (wide ? 3 : 8);
	while (depth < DMM_WIDE_LEVELS) {
		cells[depth++] = n;
		if (n == 1)
			break;
		n = (n + (wide ? 3 : 15)) / (wide ? 4 : 16);
	}
	return n == 1 && (wide || depth <= DMM_NARROW_LEVELS) ? depth : 0;
}

static size_t tree_cells(size_t n, bool wide)
{
	size_t cells[DMM_WIDE_LEVELS], sum = 0;

	for (unsigned i = 0, depth = tree_levels(n, wide, cells); i < depth; i++)
		sum += cells[i];
	return sum;
}

static void put_leaves(struct dmm_cell *cell, const struct image_interval *list, size_t n,
		       bool wide)
{
	unsigned keys = wide ? 3 : 8, first = wide ? 12 : 8;
	size_t all = (n + keys - 1) / keys * keys;

	for (size_t i = 0; i < all; i++) {
		put_key(&cell[i / keys], i % keys, list[MIN(i, n - 1)].last, wide);
		cell[i / keys].w[first + i % keys] = i < n ? list[i].class : 0;
	}
}

/* One level above n nodes, whose last numbers are last[]; they become those of the new level. */
static void put_level(struct dmm_cell *cell, u128 *last, size_t n, bool wide)
{
	unsigned keys = wide ? 4 : 16;
	size_t cells = (n + keys - 1) / keys;

	for (size_t i = 0; i < cells * keys; i++)
		put_key(&cell[i / keys], i % keys, last[MIN(i, n - 1)], wide);
	for (size_t i = 0; i < cells; i++)
		last[i] = last[MIN((i + 1) * keys, n) - 1];
}

int image_put_tree(struct image *im, enum dmm_table_id id, const struct image_interval *list,
		   size_t n, bool wide)
{
	size_t cells[DMM_WIDE_LEVELS];
	unsigned keys = wide ? 3 : 8, depth = tree_levels(n, wide, cells);
	struct dmm_table *t = (struct dmm_table *)&im->cell[DMM_TABLE_CELL(id)];
	dmm_u32 at = t->depth ? t->level[t->depth - 1] : 0, room = t->room;
	_cleanup_free_ u128 *last = NULL;
	int r;

	if (!depth)
		return -E2BIG;
	last = calloc(cells[0], sizeof(*last));
	if (!last)
		return -ENOMEM;
	if (tree_cells(n, wide) > room) {
		room = (dmm_u32)tree_cells(n + EDIT_ROOM(n), wide);
		r = image_append(im, room, &at);
		if (r < 0)
			return r;
	}
	t = (struct dmm_table *)&im->cell[DMM_TABLE_CELL(id)];
	*t = (struct dmm_table){.depth = depth, .room = room};
	for (size_t i = 0; i < cells[0]; i++)
		last[i] = list[MIN((i + 1) * keys, n) - 1].last;
	for (unsigned l = 0; l < depth; at += (dmm_u32)cells[l++]) {
		t->level[depth - 1 - l] = at;
		if (l == 0)
			put_leaves(&im->cell[at], list, n, wide);
		else
			put_level(&im->cell[at], last, cells[l - 1], wide);
	}
	return 0;
}

int image_get_tree(const struct image *im, enum dmm_table_id id, bool wide,
		   struct image_interval **ret, size_t *ret_n)
{
	const struct dmm_table *t = (const struct dmm_table *)&im->cell[DMM_TABLE_CELL(id)];
	u128 end = wide ? ~(u128)0 : UINT32_MAX;
	unsigned keys = wide ? 3 : 8, first = wide ? 12 : 8;
	size_t at = t->depth && t->depth <= DMM_WIDE_LEVELS ? t->level[t->depth - 1] : im->n, n = 0;
	size_t cells = at < im->n && t->room <= im->n - at ? t->room : 0;
	struct image_interval *list = calloc(cells * keys + 1, sizeof(*list));

	*ret = list;
	*ret_n = 1;
	if (!list)
		return -ENOMEM;
	list[0] = (struct image_interval){.last = end};
	for (size_t i = 0; i < cells * keys; i++) {
		const struct dmm_cell *cell = &im->cell[at + i / keys];
		unsigned k = i % keys;

		list[n].last = wide ? (u128)cell->q[2 * k] << 64 | cell->q[2 * k + 1] : cell->w[k];
		list[n].class = cell->w[first + k];
		if (list[n++].last == end)
			break;
	}
	if (n)
		*ret_n = n;
	return n && list[n - 1].last != end ? -EPROTO : 0;
}

int image_table(struct image *im, struct image_items *items, u128 last, enum dmm_table_id id)
{
	struct cutting c = {.im = im};
	int r = -ENOMEM;

	if (items->n == 0)
		return 0;
	c.event = calloc(2 * items->n, sizeof(*c.event));
	c.interval = calloc(2 * items->n + 1, sizeof(*c.interval));
	c.rules = calloc(1, sizeof(*c.rules));
	c.count = calloc(DMM_MAX_RULES, sizeof(*c.count));
	if (c.event && c.interval && c.rules && c.count) {
		for (size_t i = 0; i < items->n; i++) {
			const struct image_item *it = &items->list[i];

			put_event(&c, it->lo, it->rule, true);
			if (it->hi < last)
				put_event(&c, it->hi + 1, it->rule, false);
		}
		qsort(c.event, c.n_events, sizeof(*c.event), by_place);
		r = cut(&c, last);
		if (r == 0)
			r = image_put_tree(im, id, c.interval, c.n, last > 0xffffffff);
	}
	free(c.event);
	free(c.interval);
	free(c.rules);
	free(c.count);
	return r;
}
