// SPDX-License-Identifier: Apache-2.0
/* What changes between two classes, object by object, in the words in which they are written. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/fields.h"
#include "policyd/index.h"

/* One object of either side. */
struct entry {
	const char *name;
	struct fields fields;
};

struct side {
	struct dmm_policy *policy;
	struct entry *list;
	size_t n;
	struct index by_name;
};

struct differ {
	FILE *out;
	int lines;
};

static void line_begin(struct differ *d, char sign, const char *kind, const char *name)
{
	d->lines++;
	if (d->out)
		fprintf(d->out, "%c %s%s%s", sign, kind, *name ? " " : "", name);
}

static void line_whole(struct differ *d, char sign, const char *kind, const struct entry *e)
{
	line_begin(d, sign, kind, e->name);
	if (!d->out)
		return;
	fputc(' ', d->out);
	fields_print(&e->fields, d->out);
	fputc('\n', d->out);
}

static const struct entry *side_find(const struct side *s, const char *name)
{
	size_t i;

	return index_get_name(&s->by_name, name, &i) ? &s->list[i] : NULL;
}

static bool field_same(const struct fields *f, const struct field *field)
{
	const struct field *other = fields_find(f, field->key);

	return other && strcmp(other->value, field->value) == 0;
}

/* "~ rule x: use=edge0,kernel -> kernel, strict=true is gone" */
static void line_changed(struct differ *d, const char *kind, const struct entry *a,
			 const struct entry *b)
{
	const char *separator = ": ";
	bool same = a->fields.n == b->fields.n;

	for (size_t i = 0; i < b->fields.n && same; i++)
		same = field_same(&a->fields, &b->fields.list[i]);
	if (same)
		return;
	line_begin(d, '~', kind, a->name);
	if (!d->out)
		return;
	for (size_t i = 0; i < a->fields.n; i++) {
		const struct field *old = &a->fields.list[i];
		const struct field *now = fields_find(&b->fields, old->key);

		if (now && strcmp(now->value, old->value) == 0)
			continue;
		fprintf(d->out, "%s%s=%s -> %s", separator, old->key, old->value,
			now ? now->value : "(none)");
		separator = ", ";
	}
	for (size_t i = 0; i < b->fields.n; i++) {
		const struct field *now = &b->fields.list[i];

		if (fields_find(&a->fields, now->key))
			continue;
		fprintf(d->out, "%s%s=(none) -> %s", separator, now->key, now->value);
		separator = ", ";
	}
	fputc('\n', d->out);
}

static void diff_entries(struct differ *d, const char *kind, const struct side *a,
			 const struct side *b)
{
	for (size_t i = 0; i < a->n; i++)
		if (!side_find(b, a->list[i].name))
			line_whole(d, '-', kind, &a->list[i]);
	for (size_t i = 0; i < b->n; i++) {
		const struct entry *old = side_find(a, b->list[i].name);

		if (old)
			line_changed(d, kind, old, &b->list[i]);
		else
			line_whole(d, '+', kind, &b->list[i]);
	}
}

/* Where the rules of b stand in a; SIZE_MAX: not at all. */
struct order {
	size_t *old;
	size_t *end; /* end[l]: of the rising sequences of l + 1 rules, the end of the lowest one */
	size_t *before; /* the rule before this one in its sequence, SIZE_MAX: none */
	bool *stays;
};

/* Mark the longest sequence of rules of b that rises in a, too. */
static void order_longest(struct order *o, size_t n)
{
	size_t length = 0;

	for (size_t i = 0; i < n; i++) {
		size_t lo = 0, hi = length;

		if (o->old[i] == SIZE_MAX)
			continue;
		while (lo < hi) {
			size_t mid = (lo + hi) / 2;

			if (o->old[o->end[mid]] < o->old[i])
				lo = mid + 1;
			else
				hi = mid;
		}
		o->before[i] = lo ? o->end[lo - 1] : SIZE_MAX;
		o->end[lo] = i;
		length = MAX(length, lo + 1);
	}
	for (size_t i = length ? o->end[length - 1] : SIZE_MAX; i != SIZE_MAX; i = o->before[i])
		o->stays[i] = true;
}

/* Rules that both have, but in another order: the fewest that need to be moved. */
static int diff_order(struct differ *d, const struct side *a, const struct side *b)
{
	_cleanup_free_ size_t *room = calloc(b->n * 3 + 1, sizeof(*room));
	_cleanup_free_ bool *stays = calloc(b->n + 1, sizeof(*stays));
	struct order o = {.old = room, .stays = stays};

	if (!room || !stays)
		return -ENOMEM;
	o.end = room + b->n;
	o.before = o.end + b->n;
	for (size_t i = 0; i < b->n; i++) {
		const struct entry *e = side_find(a, b->list[i].name);

		o.old[i] = e ? (size_t)(e - a->list) : SIZE_MAX;
	}
	order_longest(&o, b->n);
	for (size_t i = 0; i < b->n; i++)
		if (o.old[i] != SIZE_MAX && !stays[i]) {
			line_begin(d, '~', "rule", b->list[i].name);
			if (d->out)
				fprintf(d->out, ": moved from place %zu to %zu\n", o.old[i] + 1,
					i + 1);
		}
	return 0;
}

/* ---- the sides ---- */

static void side_clear(struct side *s)
{
	for (size_t i = 0; i < s->n; i++)
		fields_fini(&s->list[i].fields);
	s->n = 0;
	index_fini(&s->by_name);
}

static int side_groups(struct side *s)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->policy->n_groups; i++) {
		s->list[i].name = s->policy->groups[i].name;
		r = fields_of_group(&s->policy->groups[i], &s->list[i].fields);
		s->n = i + 1;
	}
	return r;
}

static int side_stacks(struct side *s)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->policy->n_stacks; i++) {
		s->list[i].name = s->policy->stacks[i].rec.name;
		r = fields_of_stack(&s->policy->stacks[i].rec, &s->list[i].fields);
		s->n = i + 1;
	}
	return r;
}

static int side_sets(struct side *s)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->policy->n_sets; i++) {
		s->list[i].name = s->policy->sets[i].name;
		r = fields_of_set(&s->policy->sets[i], &s->list[i].fields);
		s->n = i + 1;
	}
	return r;
}

static int side_rules(struct side *s)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->policy->n_rules; i++) {
		s->list[i].name = s->policy->rules[i].name;
		r = fields_of_rule(&s->policy->rules[i], &s->list[i].fields);
		s->n = i + 1;
	}
	return r;
}

static int side_default(struct side *s)
{
	s->list[0].name = "";
	s->n = 1;
	return fields_of_use((const char(*)[DMM_NAME_LEN])s->policy->def, s->policy->n_def, "use",
			     &s->list[0].fields);
}

static const struct {
	const char *name;
	int (*read)(struct side *s);
} kinds[] = {
	{"group", side_groups}, {"stack", side_stacks},	   {"set", side_sets},
	{"rule", side_rules},	{"default", side_default},
};

static int side_open(struct side *s, const struct dmm_class *c)
{
	const struct dmm_policy *p;
	int r = class_decompile(c, &s->policy);

	if (r < 0)
		return r;
	p = s->policy;
	s->list = calloc(MAX(MAX(p->n_rules, p->n_sets), MAX(p->n_groups, p->n_stacks)) + 1,
			 sizeof(*s->list));
	return s->list ? 0 : -ENOMEM;
}

/* The objects of one kind. */
static int side_read(struct side *s, int (*read)(struct side *s))
{
	int r = read(s);

	for (size_t i = 0; r >= 0 && i < s->n; i++)
		r = index_put_name(&s->by_name, s->list[i].name, i, NULL);
	return r < 0 ? r : 0;
}

static void side_close(struct side *s)
{
	side_clear(s);
	free(s->list);
	policy_free(s->policy);
}

int rule_diff(const struct dmm_rule *old, const struct dmm_rule *now, FILE *out)
{
	struct differ d = {.out = out};
	struct entry a = {.name = old ? old->name : ""}, b = {.name = now ? now->name : ""};
	int r = old ? fields_of_rule(old, &a.fields) : 0;

	if (r == 0 && now)
		r = fields_of_rule(now, &b.fields);
	if (r == 0 && old && now)
		line_changed(&d, "rule", &a, &b);
	else if (r == 0)
		line_whole(&d, old ? '-' : '+', "rule", old ? &a : &b);
	fields_fini(&a.fields);
	fields_fini(&b.fields);
	return r < 0 ? r : d.lines;
}

int class_diff(const struct dmm_class *a, const struct dmm_class *b, FILE *out)
{
	struct differ d = {.out = out};
	struct side old = {0}, now = {0};
	int r;

	if (class_equal(a, b))
		return 0;
	r = side_open(&old, a);
	if (r == 0)
		r = side_open(&now, b);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++) {
		r = side_read(&old, kinds[i].read);
		if (r == 0)
			r = side_read(&now, kinds[i].read);
		if (r == 0)
			diff_entries(&d, kinds[i].name, &old, &now);
		if (r == 0 && strcmp(kinds[i].name, "rule") == 0)
			r = diff_order(&d, &old, &now);
		side_clear(&old);
		side_clear(&now);
	}
	side_close(&old);
	side_close(&now);
	return r < 0 ? r : d.lines;
}

static bool same_part(const struct dmm_class *a, dmm_u32 a_cell, dmm_u32 a_len,
		      const struct dmm_class *b, dmm_u32 b_cell, dmm_u32 b_len)
{
	return a_len == b_len &&
	       (!a_len || memcmp(&a->image[a_cell], &b->image[b_cell], a_len) == 0);
}

/* Wherever there are free places. */
static bool same_rules(const struct dmm_class *a, const struct dmm_class *b)
{
	dmm_u32 i = 0, j = 0;

	for (;; i++, j++) {
		while (i < a->hdr.rules && !class_live(a, i))
			i++;
		while (j < b->hdr.rules && !class_live(b, j))
			j++;
		if (i >= a->hdr.rules || j >= b->hdr.rules)
			return i >= a->hdr.rules && j >= b->hdr.rules;
		if (memcmp(&a->rule[i], &b->rule[j], sizeof(a->rule[i])) != 0)
			return false;
	}
}

/* Tables follow from the records before them. */
static bool same_records(const struct dmm_class *a, const struct dmm_class *b)
{
	const struct dmm_class_hdr *x = &a->hdr, *y = &b->hdr;

	if (x->n_use != y->n_use || x->strict != y->strict ||
	    memcmp(x->use, y->use, sizeof(x->use)) != 0)
		return false;
	return same_rules(a, b) &&
	       same_part(a, x->match_cell, x->match_len, b, y->match_cell, y->match_len) &&
	       same_part(a, x->set_cell, x->set_len, b, y->set_cell, y->set_len) &&
	       same_part(a, x->file_cell, x->file_len, b, y->file_cell, y->file_len);
}

bool class_equal(const struct dmm_class *a, const struct dmm_class *b)
{
	if (a->hdr.stacks != b->hdr.stacks || !same_records(a, b) ||
	    memcmp(a->stack, b->stack, a->hdr.stacks * sizeof(a->stack[0])) != 0)
		return false;
	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++)
		if (strcmp(a->group[i].name, b->group[i].name) != 0 ||
		    strcmp(a->group[i].cgroup, b->group[i].cgroup) != 0)
			return false;
	return true;
}
