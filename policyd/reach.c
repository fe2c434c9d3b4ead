// SPDX-License-Identifier: Apache-2.0
/*
 * A rule that covers another holds any one point of it. So the earlier rules are found by points:
 * each is kept, for each field that it restricts, under the blocks (prefixes) that its ranges are
 * made of, together with which fields it restricts. For a rule and each set of restricted fields
 * that can cover it, the field with the fewest earlier rules at the rule's point is the one whose
 * rules are compared.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/reach.h"
#include "policyd/reach_shape.h"

#define BLOCKS_MAX 64	     /* of one field of one rule; with more it is kept aside */
#define WORK_MAX 300000000UL /* steps of comparing: some seconds */
#define MASKS (1u << SHAPE_FIELDS)

/* Fields with more than a few values. */
#define MASK_POINTS \
	(1u << SHAPE_GROUP | 1u << SHAPE_REMOTE | 1u << SHAPE_REMOTE_PORT | 1u << SHAPE_LOCAL | \
	 1u << SHAPE_LOCAL_PORT | 1u << SHAPE_UID | 1u << SHAPE_PROGRAM)

struct numbers {
	unsigned *list; /* of rules, rising */
	size_t n;
};

struct cell_key {
	u128 prefix;
	unsigned mask, field, len, pad;
};
struct cell {
	struct cell_key key;
	struct numbers rules;
};

/* The earlier rules that restrict the same fields. */
struct family {
	struct numbers all, aside[SHAPE_FIELDS];
	bool has_len[SHAPE_FIELDS][129]; /* of blocks that there are */
	unsigned len[SHAPE_FIELDS][129], n_len[SHAPE_FIELDS];
};

struct scan {
	const struct dmm_policy *policy;
	struct shapes shapes;
	struct shape *shape;
	struct family *family[MASKS];
	struct index cells;
	struct cell **cell;
	size_t n_cells, work;
};

/* ---- the earlier rules ---- */

static int numbers_push(struct numbers *n, size_t rule)
{
	if ((n->n & (n->n - 1)) == 0) {
		unsigned *list = reallocarray(n->list, n->n ? n->n * 2 : 1, sizeof(*list));

		if (!list)
			return -ENOMEM;
		n->list = list;
	}
	n->list[n->n++] = (unsigned)rule;
	return 0;
}

static int cell_new(struct scan *s, const struct cell_key *key, size_t *ret)
{
	struct cell *c = calloc(1, sizeof(*c)), **list;

	if (!c)
		return -ENOMEM;
	c->key = *key;
	if ((s->n_cells & (s->n_cells - 1)) == 0) {
		list = reallocarray(s->cell, s->n_cells ? s->n_cells * 2 : 1, sizeof(*list));
		if (!list) {
			free(c);
			return -ENOMEM;
		}
		s->cell = list;
	}
	*ret = s->n_cells;
	s->cell[s->n_cells++] = c;
	return index_put(&s->cells, &c->key, sizeof(c->key), *ret, NULL);
}

static int cell_add(struct scan *s, const struct cell_key *key, size_t rule)
{
	size_t at;
	int r = 0;

	if (!index_get(&s->cells, key, sizeof(*key), &at))
		r = cell_new(s, key, &at);
	return r < 0 ? r : numbers_push(&s->cell[at]->rules, rule);
}

/* The blocks of all ranges of a field, at most BLOCKS_MAX of them; 0: there are more. */
static unsigned blocks_of(const struct shape_part *part, struct cell_key *ret)
{
	const struct range *range;
	unsigned n = 0;

	for (size_t i = 0; (range = shape_range(part, i)); i++) {
		u128 lo = range->lo, last;

		do {
			if (n == BLOCKS_MAX)
				return 0;
			ret[n].len = range_block(lo, range->hi);
			ret[n].prefix = lo;
			last = lo | (ret[n].len ? ~range_prefix(~(u128)0, ret[n].len) : ~(u128)0);
			lo = last + 1;
			n++;
		} while (last < range->hi);
	}
	return n;
}

static void keep_len(struct family *family, unsigned field, unsigned len)
{
	if (family->has_len[field][len])
		return;
	family->has_len[field][len] = true;
	family->len[field][family->n_len[field]++] = len;
}

static int keep_field(struct scan *s, size_t rule, unsigned field)
{
	struct shape *shape = &s->shape[rule];
	struct family *family = s->family[shape->mask];
	struct cell_key blocks[BLOCKS_MAX] = {0};
	unsigned n = blocks_of(&shape->part[field], blocks);
	int r = 0;

	if (n == 0)
		return numbers_push(&family->aside[field], rule);
	for (unsigned i = 0; r == 0 && i < n; i++) {
		blocks[i].mask = shape->mask;
		blocks[i].field = field;
		keep_len(family, field, blocks[i].len);
		r = cell_add(s, &blocks[i], rule);
	}
	return r;
}

static int keep(struct scan *s, size_t rule)
{
	unsigned mask = s->shape[rule].mask;
	int r;

	if (!s->family[mask])
		s->family[mask] = calloc(1, sizeof(*s->family[mask]));
	if (!s->family[mask])
		return -ENOMEM;
	r = numbers_push(&s->family[mask]->all, rule);
	for (unsigned f = 0; r == 0 && f < SHAPE_FIELDS; f++)
		if (mask & MASK_POINTS & 1u << f)
			r = keep_field(s, rule, f);
	return r;
}

/* ---- the rule that covers ---- */

/* Those that hold the point in the field: the lists, at most 129 and the one aside. */
static size_t holders(const struct scan *s, unsigned mask, unsigned field, u128 point,
		      const struct numbers *ret[130], size_t *ret_sum)
{
	const struct family *family = s->family[mask];
	size_t n = 0, at;

	ret[n++] = &family->aside[field];
	*ret_sum = ret[0]->n;
	for (unsigned i = 0; i < family->n_len[field]; i++) {
		struct cell_key key = {.mask = mask, .field = field};

		key.len = family->len[field][i];
		key.prefix = range_prefix(point, key.len);
		if (index_get(&s->cells, &key, sizeof(key), &at)) {
			ret[n] = &s->cell[at]->rules;
			*ret_sum += ret[n++]->n;
		}
	}
	return n;
}

/* The first rule of the list, before *by, that covers b. */
static void look_through(struct scan *s, const struct numbers *list, const struct shape *b,
			 size_t *by)
{
	for (size_t i = 0; i < list->n && list->list[i] < *by && s->work < WORK_MAX; i++)
		if (shape_covers(&s->shape[list->list[i]], b, &s->work))
			*by = list->list[i];
}

static void look_in_family(struct scan *s, unsigned mask, const struct shape *b, size_t *by)
{
	const struct numbers *best[130] = {&s->family[mask]->all}, *list[130];
	size_t fewest = s->family[mask]->all.n, sum, n = 1, k;

	for (unsigned f = 0; f < SHAPE_FIELDS; f++) {
		if (!(mask & MASK_POINTS & 1u << f))
			continue;
		k = holders(s, mask, f, shape_range(&b->part[f], 0)->lo, list, &sum);
		if (sum < fewest) {
			fewest = sum;
			n = k;
			memcpy(best, list, k * sizeof(list[0]));
		}
	}
	for (size_t i = 0; i < n; i++)
		look_through(s, best[i], b, by);
}

/* The first of the rules that are kept that covers b; SIZE_MAX: none. */
static size_t coverer(struct scan *s, const struct shape *b)
{
	size_t by = SIZE_MAX;

	/* All subsets of the fields that b restricts. */
	for (unsigned mask = b->mask;; mask = (mask - 1) & b->mask) {
		if (s->family[mask])
			look_in_family(s, mask, b, &by);
		if (!mask)
			return by;
	}
}

/* Item i of a field: a range of its own, or a whole set. */
static struct ranges item(const struct shape_part *p, size_t i)
{
	if (i < p->own.n)
		return (struct ranges){&p->own.list[i], 1};
	return *p->set[i - p->own.n];
}

/* Go through one field of b, all else as it is, from one rule's range into the next one's. */
static size_t sweep(struct scan *s, const struct shape *b, unsigned field)
{
	const struct range whole = b->part[field].own.list[0];
	struct range rest = whole;
	struct shape one = *b;
	size_t first = SIZE_MAX;

	one.part[field].own = (struct ranges){&rest, 1};
	for (int step = 0; step < REACH_COMBINATIONS; step++) {
		const struct range *found;
		size_t by;

		rest.hi = rest.lo;
		by = coverer(s, &one);
		if (by == SIZE_MAX)
			return SIZE_MAX;
		first = MIN(first, by);
		found = shape_find(&s->shape[by], field, rest.lo);
		if (!found || found->hi >= whole.hi)
			return first;
		rest.lo = found->hi + 1;
	}
	return SIZE_MAX;
}

/* b has one item a field: covered by one rule, or by several along one field? */
static size_t coverer_or_sweep(struct scan *s, const struct shape *b)
{
	size_t by = coverer(s, b);

	for (unsigned f = 0; by == SIZE_MAX && f < SHAPE_FIELDS; f++)
		if (b->mask & MASK_POINTS & 1u << f && b->part[f].own.n == 1 &&
		    b->part[f].own.list[0].lo != b->part[f].own.list[0].hi)
			by = sweep(s, b, f);
	return by;
}

/* Is each combination of b's items covered? The first of the rules that do it, or SIZE_MAX. */
static size_t coverers(struct scan *s, const struct shape *b)
{
	size_t first = SIZE_MAX, combinations = 1;

	for (unsigned f = 0; f < SHAPE_FIELDS; f++) {
		size_t n = b->part[f].own.n + b->part[f].n_set;

		if (b->mask & 1u << f)
			combinations *= MIN(n, REACH_COMBINATIONS + 1);
		if (combinations > REACH_COMBINATIONS)
			return SIZE_MAX;
	}
	for (size_t c = 0; c < combinations; c++) {
		struct shape one = {.mask = b->mask};
		size_t rest = c, by;

		for (unsigned f = 0; f < SHAPE_FIELDS; f++) {
			size_t n = b->part[f].own.n + b->part[f].n_set;

			if (!(b->mask & 1u << f))
				continue;
			one.part[f].own = item(&b->part[f], rest % n);
			rest /= n;
		}
		by = coverer_or_sweep(s, &one);
		if (by == SIZE_MAX)
			return SIZE_MAX;
		first = MIN(first, by);
	}
	return first;
}

/* ---- all of it ---- */

static int scan_rule(struct scan *s, size_t rule, reach_fn fn, void *ctx)
{
	struct reach_finding f = {.rule = rule};
	struct shape *shape = &s->shape[rule];
	int r = shape_of(&s->shapes, &s->policy->rules[rule], shape);

	if (r < 0) /* it takes no socket from later ones */
		return r == -ENOMEM ? r : 0;
	f.by = coverer(s, shape);
	if (f.by != SIZE_MAX) {
		f.same = shape_covers(shape, &s->shape[f.by], &s->work);
		fn(ctx, &f);
		return 0; /* what it would cover is covered by the other one */
	}
	f.by = coverers(s, shape);
	f.several = true;
	if (f.by != SIZE_MAX)
		fn(ctx, &f);
	return keep(s, rule);
}

static void scan_fini(struct scan *s)
{
	for (unsigned mask = 0; mask < MASKS; mask++) {
		struct family *family = s->family[mask];

		if (!family)
			continue;
		free(family->all.list);
		for (unsigned f = 0; f < SHAPE_FIELDS; f++)
			free(family->aside[f].list);
		free(family);
	}
	for (size_t i = 0; i < s->n_cells; i++) {
		free(s->cell[i]->rules.list);
		free(s->cell[i]);
	}
	free(s->cell);
	index_fini(&s->cells);
	for (size_t i = 0; s->shape && i < s->policy->n_rules; i++)
		shape_fini(&s->shape[i]);
	free(s->shape);
	shapes_fini(&s->shapes);
}

int reach_scan(const struct dmm_policy *p, reach_fn fn, void *ctx, bool *ret_all)
{
	struct scan s = {.policy = p, .shape = calloc(p->n_rules + 1, sizeof(*s.shape))};
	int r = shapes_init(&s.shapes, p);

	if (!s.shape)
		r = -ENOMEM;
	for (size_t i = 0; r == 0 && i < p->n_rules && s.work < WORK_MAX; i++)
		r = scan_rule(&s, i, fn, ctx);
	*ret_all = s.work < WORK_MAX;
	scan_fini(&s);
	return r;
}
