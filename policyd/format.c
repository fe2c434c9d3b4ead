// SPDX-License-Identifier: Apache-2.0
/* A policy as YAML that reads back as the same policy. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/fields.h"

/* Words of these characters mean themselves in YAML, also inside [] and {}. */
static bool is_plain(const char *text, size_t len)
{
	static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789_-./";

	return len > 0 && strspn(text, safe) >= len && text[0] != '-' && text[0] != '.' &&
	       !(len == 4 && strncasecmp(text, "null", 4) == 0);
}

static void print_word(FILE *out, const char *text, size_t len)
{
	if (is_plain(text, len)) {
		fprintf(out, "%.*s", (int)len, text);
		return;
	}
	fputc('"', out);
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '"' || text[i] == '\\')
			fputc('\\', out);
		fputc(text[i], out);
	}
	fputc('"', out);
}

static void print_map(FILE *out, const char *item)
{
	fputc('{', out);
	for (;;) {
		size_t key = strcspn(item, ":"), len = strcspn(item, ",");

		print_word(out, item, key);
		fprintf(out, ": %.*s", (int)(len - key - 1), item + key + 1);
		item += len;
		if (!*item)
			break;
		item++;
		fputs(", ", out);
	}
	fputc('}', out);
}

static void print_value(FILE *out, const struct field *f)
{
	const char *item = f->value;
	bool list = f->type == FIELD_LIST && strchr(item, ',');

	if (f->type == FIELD_MAP) {
		print_map(out, item);
		return;
	}
	if (f->type != FIELD_LIST) {
		print_word(out, item, strlen(item));
		return;
	}
	if (list)
		fputc('[', out);
	for (;;) {
		size_t len = strcspn(item, ",");

		print_word(out, item, len);
		item += len;
		if (!*item)
			break;
		item++;
		fputs(", ", out);
	}
	if (list)
		fputc(']', out);
}

/* The fields one a line; those of a nested mapping together in braces. */
static void print_block(FILE *out, const struct fields *f, const char *indent)
{
	for (size_t i = 0; i < f->n; i++) {
		const char *parent = f->list[i].parent;

		fputs(indent, out);
		if (!parent) {
			fprintf(out, "%s: ", f->list[i].key);
			print_value(out, &f->list[i]);
			fputc('\n', out);
			continue;
		}
		fprintf(out, "%s: {", parent);
		for (size_t first = i;; i++) {
			fprintf(out, "%s%s: ", i > first ? ", " : "", f->list[i].key);
			print_value(out, &f->list[i]);
			if (i + 1 == f->n || !f->list[i + 1].parent ||
			    strcmp(f->list[i + 1].parent, parent) != 0)
				break;
		}
		fputs("}\n", out);
	}
}

/* One named object of a section; begin: what stands before the first one's name. Takes f over. */
static void format_named(FILE *out, const char *begin, const char *name, struct fields *f)
{
	fprintf(out, "%s  ", begin);
	print_word(out, name, strlen(name));
	fputs(":\n", out);
	print_block(out, f, "    ");
	fields_fini(f);
}

static int format_groups(const struct dmm_policy *p, FILE *out)
{
	for (size_t i = 0; i < p->n_groups; i++) {
		struct fields f;
		int r = fields_of_group(&p->groups[i], &f);

		format_named(out, i ? "" : "groups:\n", p->groups[i].name, &f);
		if (r < 0)
			return r;
	}
	return 0;
}

static int format_stacks(const struct dmm_policy *p, FILE *out)
{
	for (size_t i = 0; i < p->n_stacks; i++) {
		const struct dmm_stack_rec *rec = &p->stacks[i].rec;
		struct fields f;
		int r = fields_of_stack(rec, &f);

		format_named(out, i ? "" : "stacks:\n", rec->name, &f);
		if (r < 0)
			return r;
	}
	return 0;
}

static int format_sets(const struct dmm_policy *p, FILE *out)
{
	for (size_t i = 0; i < p->n_sets; i++) {
		struct fields f;
		int r = fields_of_set(&p->sets[i], &f);

		fprintf(out, "%s  ", i ? "" : "sets:\n");
		print_word(out, p->sets[i].name, strlen(p->sets[i].name));
		fputs(": ", out);
		if (f.n)
			print_value(out, &f.list[0]);
		fputc('\n', out);
		fields_fini(&f);
		if (r < 0)
			return r;
	}
	return 0;
}

static int format_rules(const struct dmm_policy *p, FILE *out)
{
	for (size_t i = 0; i < p->n_rules; i++) {
		struct fields f;
		int r;

		/* not the operator's to write, nor to take back from a file */
		if (p->rules[i].origin == DMM_ORIGIN_NRD) {
			fprintf(out, "# rule %s is shared, see %s\n", p->rules[i].name,
				p->rules[i].pos.file);
			continue;
		}
		r = fields_of_rule(&p->rules[i], &f);
		fprintf(out, "%s  - name: ", i ? "" : "rules:\n");
		print_word(out, p->rules[i].name, strlen(p->rules[i].name));
		fputc('\n', out);
		print_block(out, &f, "    ");
		fields_fini(&f);
		if (r < 0)
			return r;
	}
	return 0;
}

static int format_daemon(const struct dmm_policy *p, FILE *out)
{
	struct fields f;
	int r;

	if (!p->daemon.http[0] && !p->daemon.group[0] && !p->daemon.etcd.n_endpoint &&
	    strcmp(p->daemon.socket, "/run/dmm/policyd.sock") == 0)
		return 0;
	r = fields_of_daemon(&p->daemon, &f);
	fputs("daemon:\n", out);
	print_block(out, &f, "  ");
	fields_fini(&f);
	return r;
}

int policy_format(const struct dmm_policy *p, FILE *out)
{
	struct fields f;
	int r;

	r = format_groups(p, out);
	if (r == 0)
		r = format_stacks(p, out);
	if (r == 0)
		r = format_sets(p, out);
	if (r == 0)
		r = format_rules(p, out);
	if (r == 0)
		r = fields_of_use((const char(*)[DMM_NAME_LEN])p->def, p->n_def, "default", &f);
	if (r == 0) {
		print_block(out, &f, "");
		fields_fini(&f);
		r = format_daemon(p, out);
	}
	return r == 0 && ferror(out) ? -EIO : r;
}
