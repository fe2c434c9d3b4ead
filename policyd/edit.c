// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/edit.h"
#include "policyd/measure.h"
#include "policyd/records.h"

#define CELL sizeof(struct dmm_cell)

/* With more intervals to change, or rules to move, a whole compile is better. */
#define INTERVALS_MAX 8192
#define MOVES_MAX 16

int edit_begin(struct class_edit *e, struct dmm_class *c)
{
	int r;

	*e = (struct class_edit){.c = c};
	if (!c->image || c->hdr.whole > c->hdr.cells || c->hdr.cells < DMM_RULE_CELL)
		return -ENOSPC;
	r = class_frame(c, &e->frame);
	if (r == 0)
		r = shapes_init(&e->shapes, e->frame);
	for (size_t i = 0; r >= 0 && i < e->frame->n_sets; i++)
		r = index_put_name(&e->sets, e->frame->sets[i].name, i, NULL);
	e->image.cell = c->image;
	e->image.n = c->hdr.cells;
	e->image.room = c->room;
	return r < 0 ? r : 0;
}

void edit_end(struct class_edit *e)
{
	if (e->image.cell) {
		e->c->hdr.cells = (dmm_u32)e->image.n;
		memcpy(e->image.cell, &e->c->hdr, sizeof(e->c->hdr));
		e->image.cell = NULL; /* it is the class's */
	}
	image_fini(&e->image);
	if (e->frame)
		shapes_fini(&e->shapes);
	policy_free(e->frame);
	index_fini(&e->sets);
}

/* The cells may have moved: where they are now. */
static struct dmm_class *class_now(const struct class_edit *e)
{
	e->c->image = e->image.cell;
	e->c->room = e->image.room;
	e->c->rule = (struct dmm_rule_rec *)&e->image.cell[DMM_RULE_CELL];
	return e->c;
}

static int settle(struct class_edit *e, int r)
{
	class_now(e);
	if (r == 0 && e->image.n - e->c->hdr.whole > e->c->hdr.whole / 8)
		r = -ENOSPC; /* too much is left behind */
	return r == -E2BIG ? -ENOSPC : r;
}

static size_t rule_room(const struct class_edit *e)
{
	return MIN(e->c->hdr.match_cell - DMM_RULE_CELL, (size_t)DMM_MAX_RULES);
}

dmm_u32 edit_find(const struct class_edit *e, const char *name)
{
	for (dmm_u32 i = 0; i < e->c->hdr.rules; i++)
		if (class_live(e->c, i) && strcmp(e->c->rule[i].name, name) == 0)
			return i;
	return DMM_RULE_NONE;
}

/* ---- one field ---- */

/* Whoever restricts the field first: the others are its wild class. */
static int restrict_field(struct class_edit *e, enum dmm_field field, dmm_u32 but)
{
	_cleanup_free_ struct image_rules *rules = calloc(1, sizeof(*rules));
	const struct dmm_class *c = class_now(e);
	int r;

	if (!rules)
		return -ENOMEM;
	for (dmm_u32 i = 0; i < c->hdr.rules; i++)
		if (i != but && class_live(c, i))
			image_rules_put(rules, i, true);
	r = image_class(&e->image, rules, &e->c->hdr.wild[field]);
	e->c->hdr.fields |= 1u << field;
	return r;
}

/* The rule does not restrict the field. */
static int change_wild(struct class_edit *e, enum dmm_field field, dmm_u32 rule, bool in)
{
	dmm_ref *wild = &e->c->hdr.wild[field];

	if (!(e->c->hdr.fields & 1u << field))
		return 0;
	return image_class_change(&e->image, *wild, rule, in, wild);
}

struct sweep {
	struct class_edit *e;
	struct image_interval *list;
	size_t n, changed;
	dmm_u32 rule;
	bool in;
};

static int sweep_put(struct sweep *s, u128 last, dmm_ref class, bool change)
{
	int r = 0;

	if (change && ++s->changed > INTERVALS_MAX)
		return -ENOSPC;
	if (change)
		r = image_class_change(&s->e->image, class, s->rule, s->in, &class);
	if (r < 0)
		return r;
	if (s->n && s->list[s->n - 1].class == class)
		s->list[s->n - 1].last = last;
	else
		s->list[s->n++] = (struct image_interval){.last = last, .class = class};
	return 0;
}

/* Go through old intervals and the rule's, which rise, at once. */
static int sweep_all(struct sweep *s, const struct image_interval *old, size_t n,
		     const struct ranges *ranges)
{
	const struct range *range = ranges->list, *end = ranges->list + ranges->n;
	u128 at = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		while (r == 0) {
			bool inside;
			u128 last = old[i].last;

			while (range < end && range->hi < at)
				range++;
			inside = range < end && range->lo <= at;
			if (inside)
				last = MIN(last, range->hi);
			else if (range < end && range->lo <= last)
				last = range->lo - 1;
			r = sweep_put(s, last, old[i].class, inside);
			at = last + 1;
			if (last == old[i].last)
				break;
		}
	}
	return r;
}

static int change_table(struct class_edit *e, enum dmm_table_id id, bool wide,
			const struct image_items *items, dmm_u32 rule, bool in)
{
	_cleanup_free_ struct range *list = calloc(items->n + 1, sizeof(*list));
	_cleanup_free_ struct image_interval *old = NULL;
	struct sweep s = {.e = e, .rule = rule, .in = in};
	struct ranges ranges = {.list = list, .n = items->n};
	size_t n;
	int r;

	if (items->n == 0)
		return 0;
	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < items->n; i++)
		list[i] = (struct range){items->list[i].lo, items->list[i].hi};
	ranges_settle(&ranges);
	r = image_get_tree(&e->image, id, wide, &old, &n);
	if (r < 0)
		return r;
	s.list = calloc(n + 2 * ranges.n + 1, sizeof(*s.list));
	r = s.list ? sweep_all(&s, old, n, &ranges) : -ENOMEM;
	if (r == 0)
		r = image_put_tree(&e->image, id, s.list, s.n, wide);
	free(s.list);
	return r;
}

static int change_numbers(struct class_edit *e, const struct compile_numbers *f,
			  const struct shape *s, dmm_u32 rule, bool in)
{
	struct image_items items[DMM_TABLES] = {0};
	int r;

	if (!(s->mask & 1u << f->shape))
		return change_wild(e, f->field, rule, in);
	r = compile_items(s, f, rule, items);
	if (r == 0 && !(e->c->hdr.fields & 1u << f->field))
		r = restrict_field(e, f->field, rule);
	if (r == 0)
		r = change_table(e, f->table, f->last > UINT32_MAX, &items[f->table], rule, in);
	if (r == 0 && f->wide)
		r = change_table(e, f->wide, true, &items[f->wide], rule, in);
	free(items[f->table].list);
	if (f->wide)
		free(items[f->wide].list);
	return r;
}

static void mark_head(void *ctx, unsigned head)
{
	((bool *)ctx)[head] = true;
}

static int change_head(struct class_edit *e, const struct shape *s, dmm_u32 rule, bool in)
{
	bool heads[DMM_HEADS] = {0};
	int r = 0;

	compile_heads(e->c, e->frame, s, mark_head, heads);
	if (!(e->c->hdr.fields & 1u << DMM_FIELD_HEAD))
		r = restrict_field(e, DMM_FIELD_HEAD, rule);
	for (unsigned i = 0; r == 0 && i < DMM_HEADS; i++) {
		const struct dmm_table *t =
			(const void *)&e->image.cell[DMM_TABLE_CELL(DMM_TABLE_HEAD)];
		dmm_u32 at = t->level[0] + i / 16;
		dmm_ref ref;

		if (!heads[e->c->group[i >> 3].name[0] ? i : i & 7])
			continue;
		if (at >= e->image.n)
			return -EPROTO;
		r = image_class_change(&e->image, e->image.cell[at].w[i % 16], rule, in, &ref);
		if (r == 0)
			e->image.cell[at].w[i % 16] = ref;
	}
	return r;
}

/* ---- one rule ---- */

/* The rule comes into all classes that it belongs to, or out of them. */
static int change_classes(struct class_edit *e, const struct dmm_rule *rule, dmm_u32 at, bool in)
{
	struct shape s;
	int r = shape_of(&e->shapes, rule, &s);

	if (r == -ENOENT) { /* matches nothing: in no class of the head, and not wild there */
		s.mask = 0;
		r = e->c->hdr.fields & 1u << DMM_FIELD_HEAD ? 0
							    : restrict_field(e, DMM_FIELD_HEAD, at);
	} else if (r == 0 && s.mask & COMPILE_HEAD_MASK) {
		r = change_head(e, &s, at, in);
	} else if (r == 0) {
		r = change_wild(e, DMM_FIELD_HEAD, at, in);
	}
	for (unsigned i = 0; r == 0 && i < COMPILE_NUMBERS; i++)
		r = change_numbers(e, &compile_numbers[i], &s, at, in);
	shape_fini(&s);
	return r;
}

/* The bytes of the match before the one at a place. */
static int match_offset(const struct class_edit *e, dmm_u32 at, struct records *ret)
{
	const struct dmm_class *c = class_now(e);
	int r = 0;

	*ret = (struct records){.byte = (dmm_u8 *)&c->image[c->hdr.match_cell],
				.n = c->hdr.match_len};
	for (dmm_u32 i = 0; r == 0 && i < at; i++)
		if (class_live(c, i))
			r = records_skip_rule(ret);
	return r;
}

/* Put other bytes where the match of the place is, or would be. */
static int splice_match(struct class_edit *e, dmm_u32 at, const dmm_u8 *bytes, size_t n)
{
	struct dmm_class_hdr *hdr = &e->c->hdr;
	size_t room = (hdr->set_cell - hdr->match_cell) * CELL, from, len;
	struct records m;
	int r = match_offset(e, at, &m);

	from = m.at;
	if (r == 0 && class_live(e->c, at))
		r = records_skip_rule(&m);
	if (r < 0)
		return r;
	len = m.n - (m.at - from) + n;
	if (len > room)
		return -ENOSPC;
	memmove(m.byte + from + n, m.byte + m.at, m.n - m.at);
	if (n)
		memcpy(m.byte + from, bytes, n);
	if (len < m.n)
		memset(m.byte + len, 0, m.n - len);
	hdr->match_len = (dmm_u32)len;
	return 0;
}

/* A stack that only this rule uses, and that is in the class for those who use it alone. */
static bool last_of_reject(const struct class_edit *e, dmm_u32 at)
{
	const struct dmm_class *c = e->c;
	dmm_u8 id = c->rule[at].use[0];

	if (id >= DMM_MAX_STACKS || c->stack[id].kind != DMM_KIND_REJECT || c->hdr.use[0] == id)
		return false;
	for (dmm_u32 i = 0; i < c->hdr.rules; i++)
		if (i != at && class_live(c, i) && c->rule[i].use[0] == id)
			return false;
	return true;
}

static int del(struct class_edit *e, dmm_u32 at)
{
	struct dmm_rule old;
	int r = class_rule(class_now(e), e->frame, at, &old);

	if (r == 0 && last_of_reject(e, at))
		r = -ENOSPC;
	/* where no rule restricts anything the first place decides, free or not */
	if (r == 0 && !e->c->hdr.fields)
		r = restrict_field(e, DMM_FIELD_HEAD, DMM_RULE_NONE);
	if (r == 0)
		r = change_classes(e, &old, at, false);
	if (r == 0)
		r = splice_match(e, at, NULL, 0);
	if (r == 0)
		memset(&e->image.cell[DMM_RULE_CELL + at], 0, CELL);
	policy_rule_fini(&old);
	return r;
}

int edit_del(struct class_edit *e, dmm_u32 at)
{
	return settle(e, del(e, at));
}

/* The number of a file that the class knows. */
static int file_number(const struct class_edit *e, const char *name, dmm_u32 *ret)
{
	const struct dmm_class_hdr *hdr = &e->c->hdr;
	struct records files = {.byte = (dmm_u8 *)&e->image.cell[hdr->file_cell],
				.n = hdr->file_len};
	char file[DMM_PATH_LEN];

	*ret = 0;
	while (name[0]) {
		if (records_get_file(&files, file) < 0)
			return -ENOSPC;
		(*ret)++;
		if (strcmp(file, name) == 0)
			break;
	}
	return 0;
}

/* Only what it does is another: its match stays. */
static bool same_match(struct class_edit *e, dmm_u32 at, const struct records *match)
{
	struct records m;
	size_t from;

	if (!class_live(e->c, at) || match_offset(e, at, &m) < 0)
		return false;
	from = m.at;
	return records_skip_rule(&m) == 0 && m.at - from == match->n &&
	       memcmp(m.byte + from, match->byte, match->n) == 0;
}

static int put_match(struct class_edit *e, dmm_u32 at, const struct dmm_rule *rule,
		     const struct records *match)
{
	int r;

	if (same_match(e, at, match))
		return 0;
	if (class_live(e->c, at)) {
		r = del(e, at);
		if (r < 0)
			return r;
	}
	if (at >= e->c->hdr.rules)
		e->c->hdr.rules = at + 1;
	r = change_classes(e, rule, at, true);
	return r == 0 ? splice_match(e, at, match->byte, match->n) : r;
}

int edit_put(struct class_edit *e, dmm_u32 at, const struct dmm_rule *rule)
{
	struct records match = {0};
	struct dmm_rule_rec rec;
	dmm_u32 file;
	int r = at < rule_room(e) ? file_number(e, rule->pos.file, &file) : -ENOSPC;

	if (measure_wanted(rule)) /* a whole compile gives it its number */
		r = -ENOSPC;
	if (r == 0)
		r = compile_record(e->c, rule, file, &rec);
	if (r == -ENOENT || (r == 0 && class_live(e->c, at) && last_of_reject(e, at) &&
			     rec.use[0] != e->c->rule[at].use[0]))
		r = -ENOSPC; /* a stack comes or goes */
	if (r == 0)
		r = records_put_match(&match, e->c, &e->sets, &rule->match);
	if (r == 0)
		r = records_put_auto(&match, &rule->nrd);
	if (r == 0)
		r = put_match(e, at, rule, &match);
	if (r == 0)
		memcpy(&e->image.cell[DMM_RULE_CELL + at], &rec, sizeof(rec));
	records_fini(&match);
	return settle(e, r);
}

/* ---- places ---- */

static int move(struct class_edit *e, dmm_u32 from, dmm_u32 to)
{
	struct dmm_rule rule;
	int r = class_rule(class_now(e), e->frame, from, &rule);

	if (r == 0)
		r = edit_put(e, to, &rule);
	if (r == 0)
		r = edit_del(e, from); /* last: so its stacks stay in use */
	policy_rule_fini(&rule);
	return r;
}

/* The free places next to `at` below and above it, or how far is too far. */
static dmm_u32 free_below(const struct class_edit *e, dmm_u32 at)
{
	dmm_u32 n = 1;

	while (n <= MOVES_MAX && n <= at && class_live(e->c, at - n))
		n++;
	return n <= at ? n : MOVES_MAX + 1;
}

static dmm_u32 free_above(const struct class_edit *e, dmm_u32 at)
{
	dmm_u32 n = 0;

	while (n <= MOVES_MAX && class_live(e->c, at + n))
		n++;
	return at + n < rule_room(e) ? n : MOVES_MAX + 1;
}

/* Behind all others. */
static dmm_u32 end_of(const struct class_edit *e)
{
	dmm_u32 at = e->c->hdr.rules;

	while (at > 0 && !class_live(e->c, at - 1))
		at--;
	return at;
}

int edit_place(struct class_edit *e, dmm_u32 before, dmm_u32 *ret)
{
	dmm_u32 at = before == DMM_RULE_NONE ? end_of(e) : before;
	dmm_u32 below = free_below(e, at), above = free_above(e, at);
	int r = 0;

	if (MIN(below, above) > MOVES_MAX)
		return -ENOSPC;
	*ret = below <= above ? at - 1 : at;
	if (below <= above)
		for (dmm_u32 to = at - below; r == 0 && to < at - 1; to++)
			r = move(e, to + 1, to);
	else
		for (dmm_u32 to = at + above; r == 0 && to > at; to--)
			r = move(e, to - 1, to);
	return r;
}
