// SPDX-License-Identifier: Apache-2.0
/* A checked policy to the image of the maps. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/compile.h"
#include "policyd/measure.h"
#include "policyd/records.h"

int class_stack(const struct dmm_class *c, const char *name)
{
	for (int i = 0; i < DMM_MAX_STACKS; i++)
		if (c->stack[i].kind != DMM_KIND_FREE && strcmp(c->stack[i].name, name) == 0)
			return i;
	return -ENOENT;
}

int class_group(const struct dmm_class *c, const char *name)
{
	for (int i = 1; i < DMM_MAX_GROUPS; i++)
		if (c->group[i].name[0] && strcmp(c->group[i].name, name) == 0)
			return i;
	return -ENOENT;
}

/*
 * An id for a name: the one that it had; else one that nothing had, as sockets live on that carry
 * the ids of the previous generation; else any that is free now.
 */
static int stack_id(const struct dmm_class *c, const struct dmm_class *prev, const char *name)
{
	int id = prev ? class_stack(prev, name) : -ENOENT, free_now = -E2BIG;

	if (id > 0)
		return id;
	for (id = 1; id < DMM_MAX_STACKS; id++) {
		if (c->stack[id].kind != DMM_KIND_FREE)
			continue;
		if (!prev || prev->stack[id].kind == DMM_KIND_FREE)
			return id;
		if (free_now < 0)
			free_now = id;
	}
	return free_now;
}

static int group_id(const struct dmm_class *c, const struct dmm_class *prev, const char *name)
{
	int id = prev ? class_group(prev, name) : -ENOENT, free_now = -E2BIG;

	if (id > 0)
		return id;
	for (id = 1; id < DMM_MAX_GROUPS; id++) {
		if (c->group[id].name[0])
			continue;
		if (!prev || !prev->group[id].name[0])
			return id;
		if (free_now < 0)
			free_now = id;
	}
	return free_now;
}

static bool policy_uses(const struct dmm_policy *p, const char *name)
{
	for (size_t i = 0; i < p->n_rules; i++)
		if (p->rules[i].n_use && strcmp(p->rules[i].use[0], name) == 0)
			return true;
	return p->n_def && strcmp(p->def[0], name) == 0;
}

static int put_stack(const struct dmm_class *prev, const struct dmm_stack_rec *rec,
		     struct dmm_class *ret)
{
	int id = stack_id(ret, prev, rec->name);

	if (id < 0)
		return id;
	ret->stack[id] = *rec;
	if ((dmm_u32)id >= ret->hdr.stacks)
		ret->hdr.stacks = (dmm_u32)id + 1;
	return 0;
}

/* Names that stay take their ids first, so that no new name gets one of them. */
static int put_stacks(const struct dmm_policy *p, const struct dmm_class *prev,
		      struct dmm_class *ret)
{
	struct dmm_stack_rec reject[DMM_REJECTS] = {0};

	for (int i = 0; i < DMM_REJECTS; i++) {
		strcpy(reject[i].name, policy_reject_names[i]);
		reject[i].kind = DMM_KIND_REJECT;
		reject[i].reject = (dmm_u8)i;
	}
	strcpy(ret->stack[DMM_STACK_KERNEL].name, "kernel");
	ret->stack[DMM_STACK_KERNEL].kind = DMM_KIND_KERNEL;
	ret->hdr.stacks = 1;
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < p->n_stacks + DMM_REJECTS; i++) {
			const struct dmm_stack_rec *rec =
				i < p->n_stacks ? &p->stacks[i].rec : &reject[i - p->n_stacks];
			bool old = prev && class_stack(prev, rec->name) > 0;
			int r = 0;

			if (rec->kind == DMM_KIND_REJECT && !policy_uses(p, rec->name))
				continue;
			if (old == (pass == 0))
				r = put_stack(prev, rec, ret);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int put_group(const struct dmm_class *prev, const struct policy_group *g,
		     struct dmm_class *ret)
{
	int id = group_id(ret, prev, g->name);
	struct dmm_group_rec *rec;

	if (id < 0)
		return id;
	rec = &ret->group[id];
	memcpy(rec->name, g->name, sizeof(rec->name));
	memcpy(rec->cgroup, g->cgroup, sizeof(rec->cgroup));
	if (prev && strcmp(prev->group[id].name, g->name) == 0 &&
	    strcmp(prev->group[id].cgroup, g->cgroup) == 0) {
		rec->cgroup_id = prev->group[id].cgroup_id;
		rec->made = prev->group[id].made;
	}
	return 0;
}

static int put_groups(const struct dmm_policy *p, const struct dmm_class *prev,
		      struct dmm_class *ret)
{
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < p->n_groups; i++) {
			bool old = prev && class_group(prev, p->groups[i].name) > 0;
			int r = 0;

			if (old == (pass == 0))
				r = put_group(prev, &p->groups[i], ret);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int put_use(const struct dmm_class *c, const char (*use)[DMM_NAME_LEN], unsigned n,
		   dmm_u8 *ret)
{
	for (unsigned i = 0; i < n; i++) {
		int id = class_stack(c, use[i]);

		if (id < 0)
			return id;
		ret[i] = (dmm_u8)id;
	}
	return 0;
}

/* ---- what each rule matches, field by field ---- */

struct field_items {
	struct image_items items[DMM_TABLES];
	struct image_rules *wild; /* DMM_FIELDS */
	struct image_rules *head; /* DMM_HEADS; groups that no rule names have those of group 0 */
};

#define V4_FIRST ((u128)0xffff << 32)
#define V4_LAST (V4_FIRST | 0xffffffff)

const struct compile_numbers compile_numbers[COMPILE_NUMBERS] = {
	{SHAPE_REMOTE, DMM_FIELD_REMOTE, DMM_TABLE_REMOTE4, DMM_TABLE_REMOTE6, UINT32_MAX},
	{SHAPE_LOCAL, DMM_FIELD_LOCAL, DMM_TABLE_LOCAL4, DMM_TABLE_LOCAL6, UINT32_MAX},
	{SHAPE_REMOTE_PORT, DMM_FIELD_REMOTE_PORT, DMM_TABLE_REMOTE_PORT, 0, UINT32_MAX},
	{SHAPE_LOCAL_PORT, DMM_FIELD_LOCAL_PORT, DMM_TABLE_LOCAL_PORT, 0, UINT32_MAX},
	{SHAPE_UID, DMM_FIELD_UID, DMM_TABLE_UID, 0, UINT32_MAX},
	{SHAPE_PROGRAM, DMM_FIELD_PROGRAM, DMM_TABLE_PROGRAM, 0, ~(u128)0},
};

static int add_range(struct image_items *items, const struct compile_numbers *n,
		     const struct range *range, dmm_u32 rule)
{
	u128 lo = range->lo, hi = range->hi;
	int r = 0;

	if (!n->wide)
		return image_item_add(&items[n->table], lo, hi, rule);
	if (lo <= V4_LAST && hi >= V4_FIRST)
		r = image_item_add(&items[n->table], MAX(lo, V4_FIRST) - V4_FIRST,
				   MIN(hi, V4_LAST) - V4_FIRST, rule);
	if (r == 0 && (lo < V4_FIRST || hi > V4_LAST))
		r = image_item_add(&items[n->wide], lo, hi, rule);
	return r;
}

int compile_items(const struct shape *s, const struct compile_numbers *n, dmm_u32 rule,
		  struct image_items items[DMM_TABLES])
{
	const struct shape_part *part = &s->part[n->shape];
	const struct range *range;
	int r = 0;

	for (size_t i = 0; r == 0 && (range = shape_range(part, i)); i++)
		r = add_range(items, n, range, rule);
	return r;
}

static int add_numbers(struct field_items *f, const struct shape *s, dmm_u32 rule)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < COMPILE_NUMBERS; i++) {
		const struct compile_numbers *n = &compile_numbers[i];

		if (s->mask & 1u << n->shape)
			r = compile_items(s, n, rule, f->items);
		else
			image_rules_put(&f->wild[n->field], rule, true);
	}
	return r;
}

/* roles and proto of one group. */
static void heads_of_group(const struct shape *s, unsigned group, compile_head_fn fn, void *ctx)
{
	const struct range *roles = shape_range(&s->part[SHAPE_ROLE], 0);
	const struct range *proto = shape_range(&s->part[SHAPE_PROTO], 0);
	static const unsigned protos[] = {6, 17, 0};

	for (unsigned role = 0; role < DMM_ROLES; role++)
		for (unsigned i = 0; i < ARRAY_SIZE(protos); i++)
			if ((!roles || (unsigned)roles->lo >> role & 1) &&
			    (!proto || proto->lo == protos[i]))
				fn(ctx, DMM_HEAD_INDEX(group, role, protos[i]));
}

void compile_heads(const struct dmm_class *c, const struct dmm_policy *p, const struct shape *s,
		   compile_head_fn fn, void *ctx)
{
	const struct range *group;

	if (!(s->mask & 1u << SHAPE_GROUP)) {
		heads_of_group(s, 0, fn, ctx);
		for (size_t i = 0; i < p->n_groups; i++)
			heads_of_group(s, (unsigned)class_group(c, p->groups[i].name), fn, ctx);
		return;
	}
	for (size_t i = 0; (group = shape_range(&s->part[SHAPE_GROUP], i)); i++) {
		const char *name = p->groups[(size_t)group->lo / 2].name;

		heads_of_group(s, (unsigned)class_group(c, name), fn, ctx);
	}
}

struct head_rule {
	struct field_items *f;
	dmm_u32 rule;
};

static void add_head(void *ctx, unsigned head)
{
	const struct head_rule *h = ctx;

	image_rules_put(&h->f->head[head], h->rule, true);
}

static void add_heads(struct field_items *f, const struct dmm_class *c, const struct dmm_policy *p,
		      const struct shape *s, dmm_u32 rule)
{
	struct head_rule h = {f, rule};

	if (s->mask & COMPILE_HEAD_MASK)
		compile_heads(c, p, s, add_head, &h);
	else
		image_rules_put(&f->wild[DMM_FIELD_HEAD], rule, true);
}

#define PLACE_EVERY 8 /* with fewer free places adding takes longer, with more deciding does */

dmm_u32 compile_place(size_t i, size_t n)
{
	size_t spare = DMM_MAX_RULES - n;

	return (dmm_u32)(spare ? i + i / MAX(n / spare + 1, (size_t)PLACE_EVERY) : i);
}

static int add_rules(struct field_items *f, const struct dmm_class *c, const struct dmm_policy *p)
{
	struct shapes shapes;
	int r = shapes_init(&shapes, p);

	for (size_t i = 0; r == 0 && i < p->n_rules; i++) {
		dmm_u32 at = compile_place(i, p->n_rules);
		struct shape s;

		r = shape_of(&shapes, &p->rules[i], &s);
		if (r == 0) {
			add_heads(f, c, p, &s, at);
			r = add_numbers(f, &s, at);
		} else if (r == -ENOENT) {
			r = 0; /* matches nothing: in no class of the head, and not wild there */
			for (unsigned w = DMM_FIELD_HEAD + 1; w < DMM_FIELDS; w++)
				image_rules_put(&f->wild[w], at, true);
		}
		shape_fini(&s);
	}
	shapes_fini(&shapes);
	return r;
}

/* ---- tables and classes ---- */

static int put_heads(struct image *im, struct field_items *f, const struct dmm_class *c)
{
	dmm_u32 first;
	int r = image_append(im, DMM_HEADS / 16, &first);

	for (unsigned i = 0; r == 0 && i < DMM_HEADS; i++) {
		unsigned from = c->group[i >> 3].name[0] ? i : i & 7;
		dmm_ref ref;

		r = image_class(im, &f->head[from], &ref);
		if (r == 0)
			im->cell[first + i / 16].w[i % 16] = ref;
	}
	if (r == 0)
		((struct dmm_table *)&im->cell[DMM_TABLE_CELL(DMM_TABLE_HEAD)])->level[0] = first;
	return r;
}

static int put_fields(struct image *im, struct field_items *f, size_t rules)
{
	struct dmm_class_hdr *hdr;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < DMM_FIELDS; i++) {
		size_t wild = 0;
		dmm_ref ref;

		for (size_t w = 0; w < ARRAY_SIZE(f->wild[i].bits); w++)
			wild += (size_t)__builtin_popcountll(f->wild[i].bits[w]);
		if (wild == rules)
			continue; /* no rule restricts it */
		r = image_class(im, &f->wild[i], &ref);
		hdr = (struct dmm_class_hdr *)im->cell;
		hdr->fields |= 1u << i;
		hdr->wild[i] = ref;
	}
	return r;
}

static int put_tables(struct image *im, const struct dmm_policy *p, const struct dmm_class *c)
{
	struct field_items f = {.wild = calloc(DMM_FIELDS, sizeof(*f.wild)),
				.head = calloc(DMM_HEADS, sizeof(*f.head))};
	int r = f.wild && f.head ? add_rules(&f, c, p) : -ENOMEM;

	if (r == 0)
		r = put_fields(im, &f, p->n_rules);
	if (r == 0)
		r = put_heads(im, &f, c);
	for (size_t i = 0; r == 0 && i < COMPILE_NUMBERS; i++) {
		const struct compile_numbers *n = &compile_numbers[i];

		r = image_table(im, &f.items[n->table], n->last, n->table);
		if (r == 0 && n->wide)
			r = image_table(im, &f.items[n->wide], ~(u128)0, n->wide);
	}
	for (unsigned i = 0; i < DMM_TABLES; i++)
		free(f.items[i].list);
	free(f.wild);
	free(f.head);
	return r;
}

/* ---- records ---- */

#define CELL sizeof(struct dmm_cell)

/* Byte streams of an image that is made. */
struct parts {
	struct dmm_rule_rec *rule;
	struct records match, sets, files;
	struct index file, set;
	size_t n_files;
	const char *last; /* the name that was asked for last, and its number */
	dmm_u32 last_number;
};

/* Number of a file name, from 1 on; 0 for "". */
static int file_number(struct parts *ps, const struct policy_pos *pos, dmm_u32 *ret)
{
	size_t old;
	int r;

	*ret = 0;
	if (!pos->file[0])
		return 0;
	if (ps->last && strcmp(ps->last, pos->file) == 0) {
		*ret = ps->last_number;
		return 0;
	}
	r = index_put_name(&ps->file, pos->file, ps->n_files, &old);
	if (r < 0)
		return r;
	*ret = r > 0 ? (dmm_u32)old + 1 : (dmm_u32)++ps->n_files;
	ps->last = pos->file;
	ps->last_number = *ret;
	if (r > 0)
		return 0;
	return *ret > UINT16_MAX ? -E2BIG : records_put_file(&ps->files, pos->file);
}

int compile_record(const struct dmm_class *c, const struct dmm_rule *rule, dmm_u32 file,
		   struct dmm_rule_rec *ret)
{
	*ret = (struct dmm_rule_rec){0};
	memcpy(ret->name, rule->name, sizeof(ret->name));
	ret->file = (dmm_u16)file;
	ret->line = file ? rule->pos.line : 0;
	memcpy(ret->weight, rule->weight, sizeof(ret->weight));
	ret->n_use = (dmm_u8)rule->n_use;
	ret->strict = rule->strict;
	ret->keep = (dmm_u8)((rule->disabled ? DMM_KEEP_OFF : 0) |
			     (rule->capture ? DMM_KEEP_CAPTURE : 0));
	ret->carrier = rule->carrier;
	ret->congestion = rule->congestion;
	ret->origin = rule->origin;
	return put_use(c, rule->use, rule->n_use, ret->use);
}

static int put_rule(const struct dmm_rule *rule, const struct dmm_class *c, struct parts *ps,
		    struct dmm_rule_rec *ret)
{
	dmm_u32 file;
	int r = file_number(ps, &rule->pos, &file);

	if (r == 0)
		r = compile_record(c, rule, file, ret);
	if (r == 0)
		r = records_put_match(&ps->match, c, &ps->set, &rule->match);
	return r == 0 ? records_put_auto(&ps->match, &rule->nrd) : r;
}

static int parts_make(struct parts *ps, const struct dmm_policy *p, const struct dmm_class *c)
{
	dmm_u32 file;
	int r = 0;

	ps->rule = calloc(p->n_rules + 1, sizeof(*ps->rule));
	if (!ps->rule)
		return -ENOMEM;
	for (size_t i = 0; r >= 0 && i < p->n_sets; i++) {
		r = index_put_name(&ps->set, p->sets[i].name, i, NULL);
		if (r >= 0)
			r = file_number(ps, &p->sets[i].pos, &file);
		if (r >= 0)
			r = records_put_set(&ps->sets, &p->sets[i], file);
	}
	for (size_t i = 0; r >= 0 && i < p->n_rules; i++)
		r = put_rule(&p->rules[i], c, ps, &ps->rule[i]);
	return r < 0 ? r : 0;
}

static void parts_fini(struct parts *ps)
{
	free(ps->rule);
	records_fini(&ps->match);
	records_fini(&ps->sets);
	records_fini(&ps->files);
	index_fini(&ps->file);
	index_fini(&ps->set);
}

/* room: bytes more than there are now. */
static int put_bytes(struct image *im, const struct records *rec, size_t room, dmm_u32 *ret_cell,
		     dmm_u32 *ret_len)
{
	int r = rec->n > UINT32_MAX ? -E2BIG
				    : image_append(im, (rec->n + room + CELL - 1) / CELL, ret_cell);

	if (r < 0)
		return r;
	*ret_len = (dmm_u32)rec->n;
	if (rec->n)
		memcpy(&im->cell[*ret_cell], rec->byte, rec->n);
	return 0;
}

/* Records, with some room for rules that are added later. */
static int put_parts(struct image *im, const struct parts *ps, size_t n, struct dmm_class_hdr *hdr)
{
	size_t room = MIN(hdr->rules + EDIT_ROOM(n), (size_t)DMM_MAX_RULES);
	dmm_u32 first;
	int r = image_append(im, DMM_RULE_CELL + room, &first);

	if (r == 0) {
		for (size_t i = 0; i < n; i++)
			memcpy(&im->cell[DMM_RULE_CELL + compile_place(i, n)], &ps->rule[i],
			       sizeof(*ps->rule));
		r = put_bytes(im, &ps->match, CELL * EDIT_ROOM(ps->match.n / CELL),
			      &hdr->match_cell, &hdr->match_len);
	}
	if (r == 0)
		r = put_bytes(im, &ps->sets, 0, &hdr->set_cell, &hdr->set_len);
	if (r == 0)
		r = put_bytes(im, &ps->files, 0, &hdr->file_cell, &hdr->file_len);
	hdr->table_cell = (dmm_u32)im->n;
	return r;
}

/* ---- all of it ---- */

/* Do both match the same, so that the tables of one are those of the other? */
static bool same_match(const struct parts *ps, size_t rules, const struct dmm_class *c,
		       const struct dmm_class *prev)
{
	const struct dmm_class_hdr *old = &prev->hdr;
	size_t live = 0;

	for (dmm_u32 i = 0; i < old->rules; i++)
		live += class_live(prev, i);
	if (live != rules || old->match_len != ps->match.n || old->set_len != ps->sets.n ||
	    old->file_cell > old->table_cell || old->table_cell > old->cells ||
	    ps->files.n > (size_t)(old->table_cell - old->file_cell) * CELL)
		return false;
	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++)
		if (strcmp(c->group[i].name, prev->group[i].name) != 0)
			return false;
	return (!ps->match.n ||
		memcmp(ps->match.byte, &prev->image[old->match_cell], ps->match.n) == 0) &&
	       (!ps->sets.n || memcmp(ps->sets.byte, &prev->image[old->set_cell], ps->sets.n) == 0);
}

/* The image of prev with other records; the rules keep their places. */
static int take_over(struct image *im, const struct parts *ps, const struct dmm_class *prev,
		     struct dmm_class_hdr *hdr)
{
	dmm_u32 first, n = 0, stacks = hdr->stacks;
	struct dmm_cell *files;
	int r = image_append(im, prev->hdr.cells, &first);

	if (r < 0)
		return r;
	memcpy(im->cell, prev->image, prev->hdr.cells * sizeof(*im->cell));
	*hdr = prev->hdr;
	hdr->stacks = stacks;
	for (dmm_u32 i = 0; i < hdr->rules; i++)
		if (class_live(prev, i))
			memcpy(&im->cell[DMM_RULE_CELL + i], &ps->rule[n++], sizeof(*ps->rule));
	files = &im->cell[hdr->file_cell];
	memset(files, 0, (hdr->table_cell - hdr->file_cell) * sizeof(*files));
	if (ps->files.n)
		memcpy(files, ps->files.byte, ps->files.n);
	hdr->file_len = (dmm_u32)ps->files.n;
	return 0;
}

static int put_whole(struct image *im, const struct parts *ps, const struct dmm_policy *p,
		     struct dmm_class *c)
{
	struct dmm_class_hdr *hdr = &c->hdr;
	int r;

	hdr->rules = p->n_rules ? compile_place(p->n_rules - 1, p->n_rules) + 1 : 0;
	r = put_parts(im, ps, p->n_rules, hdr);
	if (r < 0)
		return r;
	memcpy(im->cell, hdr, sizeof(*hdr));
	r = put_tables(im, p, c);
	memcpy(hdr, im->cell, sizeof(*hdr));
	hdr->whole = hdr->cells = (dmm_u32)im->n;
	return r;
}

static dmm_u64 group_bits(const struct dmm_class *c)
{
	dmm_u64 bits = 1 << DMM_GROUP_NONE;

	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++)
		bits |= (dmm_u64)(c->group[i].name[0] != '\0') << i;
	return bits;
}

static int put_image(struct image *im, const struct dmm_policy *p, const struct dmm_class *prev,
		     struct dmm_class *c)
{
	struct dmm_class_hdr *hdr = &c->hdr;
	struct parts ps = {0};
	int r = parts_make(&ps, p, c);

	if (r == 0)
		r = measure_numbers(p, prev, ps.rule);
	if (r == 0)
		r = prev && prev->image && same_match(&ps, p->n_rules, c, prev)
			    ? take_over(im, &ps, prev, hdr)
			    : put_whole(im, &ps, p, c);
	hdr->abi = DMM_ABI_VERSION;
	hdr->groups = group_bits(c);
	hdr->n_use = (dmm_u8)p->n_def;
	memset(hdr->use, 0, sizeof(hdr->use));
	if (r == 0)
		r = put_use(c, p->def, p->n_def, hdr->use);
	if (r == 0)
		memcpy(im->cell, hdr, sizeof(*hdr));
	parts_fini(&ps);
	return r;
}

int class_compile(const struct dmm_policy *p, const struct dmm_class *prev, struct dmm_class *ret)
{
	struct image im = {0};
	int r;

	class_fini(ret);
	if (p->n_rules > DMM_MAX_RULES || p->n_sets > UINT16_MAX)
		return -E2BIG;
	r = put_stacks(p, prev, ret);
	if (r == 0)
		r = put_groups(p, prev, ret);
	if (r == 0)
		r = put_image(&im, p, prev, ret);
	if (r == 0) {
		ret->image = im.cell;
		ret->room = im.room;
		ret->rule = (struct dmm_rule_rec *)&im.cell[DMM_RULE_CELL];
		im.cell = NULL;
	}
	image_fini(&im);
	return r;
}
