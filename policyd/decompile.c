// SPDX-License-Identifier: Apache-2.0
/* The image of the maps back to the policy: the records hold it as it was written. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/policy.h"
#include "policyd/records.h"

static void copy_name(char ret[DMM_NAME_LEN], const char *name)
{
	snprintf(ret, DMM_NAME_LEN, "%.*s", DMM_NAME_LEN - 1, name);
}

struct files {
	char (*name)[DMM_PATH_LEN];
	size_t n;
};

static bool part_fits(const struct dmm_class *c, dmm_u32 cell, dmm_u32 len)
{
	return cell <= c->hdr.cells &&
	       len <= (size_t)(c->hdr.cells - cell) * sizeof(struct dmm_cell);
}

/* To read only. */
static struct records part_of(const struct dmm_class *c, dmm_u32 cell, dmm_u32 len)
{
	return (struct records){.byte = c->image ? (dmm_u8 *)&c->image[cell] : NULL,
				.n = c->image ? len : 0};
}

static bool class_fits(const struct dmm_class *c)
{
	const struct dmm_class_hdr *h = &c->hdr;

	if (!c->image)
		return h->rules == 0 && h->cells == 0 && h->stacks <= DMM_MAX_STACKS;
	return h->rules <= DMM_MAX_RULES && h->stacks <= DMM_MAX_STACKS &&
	       h->cells >= DMM_RULE_CELL + h->rules && part_fits(c, h->match_cell, h->match_len) &&
	       part_fits(c, h->set_cell, h->set_len) && part_fits(c, h->file_cell, h->file_len);
}

static int read_use(const struct dmm_class *c, const dmm_u8 *use, unsigned n,
		    char (*ret)[DMM_NAME_LEN])
{
	if (n > DMM_MAX_USE)
		return -EPROTO;
	for (unsigned i = 0; i < n; i++) {
		if (use[i] >= DMM_MAX_STACKS || c->stack[use[i]].kind == DMM_KIND_FREE)
			return -EPROTO;
		copy_name(ret[i], c->stack[use[i]].name);
	}
	return 0;
}

static int file_name(const struct files *f, dmm_u32 number, char ret[DMM_PATH_LEN])
{
	ret[0] = '\0';
	if (number > f->n)
		return -EPROTO;
	if (number)
		memcpy(ret, f->name[number - 1], DMM_PATH_LEN);
	return 0;
}

static int read_rule(const struct dmm_class *c, const struct files *f, struct records *match,
		     const struct dmm_policy *p, const struct dmm_rule_rec *rec,
		     struct dmm_rule *rule)
{
	int r;

	if (rec->congestion >= DMM_CONGESTIONS)
		return -EPROTO;
	copy_name(rule->name, rec->name);
	rule->pos.line = rec->line;
	rule->strict = rec->strict;
	rule->disabled = rec->keep & DMM_KEEP_OFF;
	rule->capture = rec->keep & DMM_KEEP_CAPTURE;
	rule->telemetry = rec->measure && !(rec->measure & DMM_MEASURE_AUTO);
	rule->carrier = rec->carrier;
	rule->congestion = rec->congestion;
	rule->origin = rec->origin;
	rule->n_use = rec->n_use;
	memcpy(rule->weight, rec->weight, sizeof(rule->weight));
	r = file_name(f, rec->file, rule->pos.file);
	if (r == 0)
		r = read_use(c, rec->use, rec->n_use, rule->use);
	if (r == 0)
		r = records_get_match(match, c, p, &rule->match);
	return r == 0 ? records_get_auto(match, &rule->nrd) : r;
}

static int read_rules(const struct dmm_class *c, const struct files *f, struct dmm_policy *p)
{
	struct records match = part_of(c, c->hdr.match_cell, c->hdr.match_len);
	int r = 0;

	p->rules = calloc(c->hdr.rules + 1, sizeof(*p->rules));
	if (!p->rules)
		return -ENOMEM;
	for (dmm_u32 i = 0; r == 0 && i < c->hdr.rules; i++)
		if (class_live(c, i))
			r = read_rule(c, f, &match, p, &c->rule[i], &p->rules[p->n_rules++]);
	return r == 0 && match.at != match.n ? -EPROTO : r;
}

static int read_sets(const struct dmm_class *c, const struct files *f, struct dmm_policy *p)
{
	struct records sets = part_of(c, c->hdr.set_cell, c->hdr.set_len);
	size_t room = 0;
	int r = 0;

	while (r == 0 && sets.at < sets.n) {
		dmm_u32 file;

		if (p->n_sets == room) {
			size_t more = room ? 2 * room : 16;
			struct policy_set *list = realloc(p->sets, more * sizeof(*list));

			if (!list)
				return -ENOMEM;
			p->sets = list;
			room = more;
		}
		p->sets[p->n_sets] = (struct policy_set){0};
		r = records_get_set(&sets, &p->sets[p->n_sets], &file);
		if (r == 0)
			r = file_name(f, file, p->sets[p->n_sets].pos.file);
		p->n_sets++;
	}
	return r;
}

static int read_files(const struct dmm_class *c, struct files *f)
{
	struct records files = part_of(c, c->hdr.file_cell, c->hdr.file_len);
	int r = 0;

	f->n = 0;
	for (size_t i = 0; i < files.n; i++)
		f->n += !files.byte[i];
	f->name = calloc(f->n + 1, sizeof(*f->name));
	if (!f->name)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < f->n; i++)
		r = records_get_file(&files, f->name[i]);
	return r;
}

int class_file(const struct dmm_class *c, unsigned rule, char ret[DMM_PATH_LEN])
{
	struct records files;

	ret[0] = '\0';
	if (rule >= c->hdr.rules || !part_fits(c, c->hdr.file_cell, c->hdr.file_len))
		return -ENOENT;
	files = part_of(c, c->hdr.file_cell, c->hdr.file_len);
	for (unsigned n = c->rule[rule].file; n; n--)
		if (records_get_file(&files, ret) < 0)
			return -ENOENT;
	return ret[0] ? 0 : -ENOENT;
}

static int read_stacks(const struct dmm_class *c, struct dmm_policy *p)
{
	p->stacks = calloc(DMM_MAX_STACKS, sizeof(*p->stacks));
	if (!p->stacks)
		return -ENOMEM;
	for (unsigned id = 1; id < c->hdr.stacks; id++)
		if (c->stack[id].kind == DMM_KIND_KERNEL || c->stack[id].kind == DMM_KIND_USERSPACE)
			p->stacks[p->n_stacks++].rec = c->stack[id];
	return 0;
}

static int read_groups(const struct dmm_class *c, struct dmm_policy *p)
{
	p->groups = calloc(DMM_MAX_GROUPS, sizeof(*p->groups));
	if (!p->groups)
		return -ENOMEM;
	for (unsigned id = 1; id < DMM_MAX_GROUPS; id++) {
		struct policy_group *g = &p->groups[p->n_groups];

		if (!c->group[id].name[0])
			continue;
		copy_name(g->name, c->group[id].name);
		snprintf(g->cgroup, sizeof(g->cgroup), "%.*s", DMM_PATH_LEN - 1,
			 c->group[id].cgroup);
		p->n_groups++;
	}
	return 0;
}

static int read_all(const struct dmm_class *c, bool rules, struct dmm_policy *p)
{
	struct files files = {0};
	int r = read_stacks(c, p);

	if (r == 0)
		r = read_groups(c, p);
	if (r == 0)
		r = read_files(c, &files);
	if (r == 0)
		r = read_sets(c, &files, p);
	if (r == 0 && rules)
		r = read_rules(c, &files, p);
	free(files.name);
	if (r == 0 && c->hdr.n_use) { /* 0: the empty class of generation 0 */
		p->n_def = c->hdr.n_use;
		r = read_use(c, c->hdr.use, c->hdr.n_use, p->def);
	}
	return r;
}

static int decompile(const struct dmm_class *c, bool rules, struct dmm_policy **ret)
{
	struct dmm_policy *p;
	int r;

	if (!class_fits(c))
		return -EPROTO;
	p = policy_new();
	if (!p)
		return -ENOMEM;
	r = read_all(c, rules, p);
	if (r < 0) {
		policy_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

int class_decompile(const struct dmm_class *c, struct dmm_policy **ret)
{
	return decompile(c, true, ret);
}

int class_frame(const struct dmm_class *c, struct dmm_policy **ret)
{
	return decompile(c, false, ret);
}

int class_rule(const struct dmm_class *c, const struct dmm_policy *frame, unsigned at,
	       struct dmm_rule *ret)
{
	struct records match = part_of(c, c->hdr.match_cell, c->hdr.match_len);
	struct files files = {0};
	int r = class_live(c, at) ? read_files(c, &files) : -ENOENT;

	*ret = (struct dmm_rule){0};
	for (unsigned i = 0; r == 0 && i < at; i++)
		if (class_live(c, i))
			r = records_skip_rule(&match);
	if (r == 0)
		r = read_rule(c, &files, &match, frame, &c->rule[at], ret);
	free(files.name);
	return r;
}
