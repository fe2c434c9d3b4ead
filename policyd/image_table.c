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
#include "policyd/image.h"

struct event {
	u128 at;
	dmm_u32 rule;
	bool in;
};

struct interval {
	u128 last;
	dmm_ref class;
};

struct cutting {
	struct image *im;
	struct event *event;
	size_t n_events;
	struct interval *interval;
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
		c->interval[c->n++] = (struct interval){.last = last, .class = class};
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

static int put_leaves(const struct cutting *c, bool wide, dmm_u32 *ret)
{
	unsigned keys = wide ? 3 : 8, first = wide ? 12 : 8;
	size_t cells = (c->n + keys - 1) / keys;
	u128 end = c->interval[c->n - 1].last;
	int r = image_append(c->im, cells, ret);

	for (size_t i = 0; r == 0 && i < cells * keys; i++) {
		struct dmm_cell *cell = &c->im->cell[*ret + i / keys];

		put_key(cell, i % keys, i < c->n ? c->interval[i].last : end, wide);
		cell->w[first + i % keys] = i < c->n ? c->interval[i].class : 0;
	}
	return r;
}

/* One level above n nodes, whose last numbers are last[]; they become those of the new level. */
static int put_level(struct image *im, u128 *last, size_t *n, bool wide, dmm_u32 *ret)
{
	unsigned keys = wide ? 4 : 16;
	size_t cells = (*n + keys - 1) / keys;
	u128 end = last[*n - 1];
	int r = image_append(im, cells, ret);

	for (size_t i = 0; r == 0 && i < cells * keys; i++)
		put_key(&im->cell[*ret + i / keys], i % keys, i < *n ? last[i] : end, wide);
	for (size_t i = 0; r == 0 && i < cells; i++)
		last[i] = last[MIN((i + 1) * keys, *n) - 1];
	*n = cells;
	return r;
}

static int put_tree(const struct cutting *c, bool wide, enum dmm_table_id id)
{
	unsigned keys = wide ? 3 : 8, depth = 0;
	size_t n = (c->n + keys - 1) / keys;
	u128 *last = calloc(n, sizeof(*last));
	dmm_u32 level[DMM_WIDE_LEVELS]; /* leaves first */
	struct dmm_table *t;
	int r;

	if (!last)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		last[i] = c->interval[MIN((i + 1) * keys, c->n) - 1].last;
	r = put_leaves(c, wide, &level[depth++]);
	while (r == 0 && n > 1) {
		if (depth == (wide ? DMM_WIDE_LEVELS : DMM_NARROW_LEVELS))
			r = -E2BIG;
		else
			r = put_level(c->im, last, &n, wide, &level[depth++]);
	}
	free(last);
	if (r < 0)
		return r;
	t = (struct dmm_table *)&c->im->cell[DMM_TABLE_CELL(id)];
	t->depth = depth;
	for (unsigned i = 0; i < depth; i++)
		t->level[i] = level[depth - 1 - i];
	return 0;
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
			r = put_tree(&c, last > 0xffffffff, id);
	}
	free(c.event);
	free(c.interval);
	free(c.rules);
	free(c.count);
	return r;
}
