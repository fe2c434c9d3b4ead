// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/text.h"
#include "lib/base/util.h"
#include "policyd/diag.h"

static struct policy_diag *diag_push(struct policy_diags *d, bool error)
{
	struct policy_diag *list;

	if (error)
		d->errors++;
	if (d->n >= DIAG_MAX)
		return NULL;
	list = realloc(d->list, (d->n + 1) * sizeof(*list));
	if (!list)
		return NULL;
	d->list = list;
	list[d->n] = (struct policy_diag){.error = error};
	return &list[d->n++];
}

void diag_addv(struct policy_diags *d, bool error, const char *file, unsigned line, unsigned column,
	       const char *fmt, va_list ap)
{
	struct policy_diag *diag = diag_push(d, error);

	if (!diag)
		return;
	snprintf(diag->pos.file, sizeof(diag->pos.file), "%s", file);
	diag->pos.line = line;
	diag->pos.column = column;
	vsnprintf(diag->text, sizeof(diag->text), fmt, ap);
	text_clean(diag->text, sizeof(diag->text) - 1, diag->text);
	text_clean(diag->pos.file, sizeof(diag->pos.file) - 1, diag->pos.file);
}

int diag_error(struct policy_diags *d, const char *file, unsigned line, unsigned column,
	       const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	diag_addv(d, true, file, line, column, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

int diag_error_at(struct policy_diags *d, const struct policy_pos *pos, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	diag_addv(d, true, pos->file, pos->line, pos->column, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

void diag_warn_at(struct policy_diags *d, const struct policy_pos *pos, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	diag_addv(d, false, pos->file, pos->line, pos->column, fmt, ap);
	va_end(ap);
}

void policy_diags_fini(struct policy_diags *d)
{
	free(d->list);
	*d = (struct policy_diags){0};
}

void policy_diags_print(const struct policy_diags *d, FILE *out)
{
	size_t kept_errors = 0;

	for (size_t i = 0; i < d->n; i++) {
		const struct policy_diag *diag = &d->list[i];

		if (diag->pos.file[0])
			fprintf(out, "%s:", diag->pos.file);
		if (diag->pos.file[0] && diag->pos.line)
			fprintf(out, "%u:", diag->pos.line);
		if (diag->pos.file[0] && diag->pos.line && diag->pos.column)
			fprintf(out, "%u:", diag->pos.column);
		fprintf(out, "%s%s: %s\n", diag->pos.file[0] ? " " : "",
			diag->error ? "error" : "warning", diag->text);
		kept_errors += diag->error;
	}
	if (d->errors > kept_errors)
		fprintf(out, "error: %zu more errors\n", d->errors - kept_errors);
}

#define WORD_MAX 40

/* Edits (insert, delete, replace, swap of neighbours) from a to b, both at most WORD_MAX long. */
static unsigned edit_distance(const char *a, const char *b)
{
	unsigned row[3][WORD_MAX + 1];
	unsigned *before = row[0], *above = row[1], *now = row[2];
	size_t n = strlen(a), m = strlen(b);

	for (size_t j = 0; j <= m; j++)
		above[j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned *last = before;

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);

			best = MIN(best, MIN(above[j], now[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = MIN(best, before[j - 2] + 1);
			now[j] = best;
		}
		before = above;
		above = now;
		now = last;
	}
	return above[m];
}

bool diag_nearer(const char *word, const char *known, unsigned *best)
{
	size_t len = strlen(word);
	unsigned d;

	if (len > WORD_MAX || strlen(known) > WORD_MAX)
		return false;
	d = edit_distance(word, known);
	/* A third of the letters wrong, but not another word altogether. */
	if (d > 1 && d > MAX(len, strlen(known)) / 3)
		return false;
	if (d >= strlen(known) || d >= *best)
		return false;
	*best = d;
	return true;
}
