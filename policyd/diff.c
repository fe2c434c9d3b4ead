// SPDX-License-Identifier: Apache-2.0
/* What changes between two classes, object by object, in the words in which they are written. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/fields.h"

/* One object of either side. */
struct entry {
	const char *name;
	struct fields fields;
};

struct side {
	struct dmm_policy *policy;
	struct entry *list;
	size_t n;
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
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->list[i].name, name) == 0)
			return &s->list[i];
	return NULL;
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

/*
 * Rules that both have, but in another order: the fewest that need to be moved, that is all but the
 * longest sequence that rises in both.
 */
static int diff_order(struct differ *d, const struct side *a, const struct side *b)
{
	size_t n = 0, *old, *length, *before, best = 0, end = 0;
	bool *stays;

	old = calloc(b->n * 3 + 1, sizeof(*old));
	stays = calloc(b->n + 1, sizeof(*stays));
	if (!old || !stays) {
		free(old);
		free(stays);
		return -ENOMEM;
	}
	length = old + b->n;
	before = length + b->n;
	for (size_t i = 0; i < b->n; i++) {
		const struct entry *e = side_find(a, b->list[i].name);

		old[i] = e ? (size_t)(e - a->list) : SIZE_MAX;
		if (!e)
			continue;
		n++;
		length[i] = 1;
		before[i] = SIZE_MAX;
		for (size_t j = 0; j < i; j++)
			if (old[j] < old[i] && length[j] + 1 > length[i]) {
				length[i] = length[j] + 1;
				before[i] = j;
			}
		if (length[i] > best) {
			best = length[i];
			end = i;
		}
	}
	for (size_t i = end; n && i != SIZE_MAX; i = before[i])
		stays[i] = true;
	for (size_t i = 0; i < b->n; i++)
		if (old[i] != SIZE_MAX && !stays[i]) {
			line_begin(d, '~', "rule", b->list[i].name);
			if (d->out)
				fprintf(d->out, ": moved from place %zu to %zu\n", old[i] + 1,
					i + 1);
		}
	free(old);
	free(stays);
	return 0;
}

/* ---- the sides ---- */

static void side_clear(struct side *s)
{
	for (size_t i = 0; i < s->n; i++)
		fields_fini(&s->list[i].fields);
	s->n = 0;
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
	{"group", side_groups},
	{"stack", side_stacks},
	{"rule", side_rules},
	{"default", side_default},
};

static int side_open(struct side *s, const struct dmm_class *c)
{
	size_t room = c->hdr.rules + DMM_MAX_GROUPS + DMM_MAX_STACKS;
	int r = class_decompile(c, &s->policy);

	if (r < 0)
		return r;
	s->list = calloc(room, sizeof(*s->list));
	return s->list ? 0 : -ENOMEM;
}

static void side_close(struct side *s)
{
	side_clear(s);
	free(s->list);
	policy_free(s->policy);
}

int class_diff(const struct dmm_class *a, const struct dmm_class *b, FILE *out)
{
	struct differ d = {.out = out};
	struct side old = {0}, now = {0};
	int r = side_open(&old, a);

	if (r == 0)
		r = side_open(&now, b);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++) {
		r = kinds[i].read(&old);
		if (r == 0)
			r = kinds[i].read(&now);
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

/* Tables follow from the records before them. */
static bool same_records(const struct dmm_class *a, const struct dmm_class *b)
{
	const struct dmm_class_hdr *x = &a->hdr, *y = &b->hdr;

	if (x->rules != y->rules || x->n_use != y->n_use || x->strict != y->strict ||
	    memcmp(x->use, y->use, sizeof(x->use)) != 0 || x->match_len != y->match_len ||
	    x->set_len != y->set_len || x->file_len != y->file_len)
		return false;
	return x->rules == 0 && x->set_len == 0
		       ? true
		       : memcmp(&a->image[DMM_RULE_CELL], &b->image[DMM_RULE_CELL],
				(x->table_cell - DMM_RULE_CELL) * sizeof(*a->image)) == 0;
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
