// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/table.h"

static void push(struct table *t, char *text)
{
	char **cell;

	if (!text)
		t->failed = true;
	if (t->failed) {
		free(text);
		return;
	}
	cell = realloc(t->cell, (t->cells + 1) * sizeof(char *));
	if (!cell) {
		t->failed = true;
		free(text);
		return;
	}
	t->cell = cell;
	cell[t->cells++] = text;
}

void table_init(struct table *t, const char *const *headers, size_t columns)
{
	*t = (struct table){.columns = columns};
	for (size_t i = 0; i < columns; i++)
		push(t, strdup(headers[i]));
}

void table_cell(struct table *t, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	for (char *c = text; c && *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	push(t, text);
}

/* Columns that UTF-8 text takes, as far as DMM's own words go: one a character. */
static size_t text_width(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

void table_print(struct table *t, FILE *out)
{
	size_t width[TABLE_COLUMNS] = {0}, n = t->columns;
	bool right[TABLE_COLUMNS] = {0};

	for (size_t i = 0; i < t->cells; i++) {
		if (i < n && t->cell[i][0] == '>') {
			right[i] = true;
			memmove(t->cell[i], t->cell[i] + 1, strlen(t->cell[i]));
		}
		width[i % n] = MAX(width[i % n], text_width(t->cell[i]));
	}
	for (size_t i = 0; i < t->cells; i++) {
		const char *text = t->cell[i];
		bool last = i % n == n - 1 || i + 1 == t->cells;
		int pad = (int)(width[i % n] - text_width(text));

		fprintf(out, "%*s%s%*s%s", right[i % n] ? pad : 0, "", text,
			right[i % n] || last ? 0 : pad, "", last ? "\n" : "  ");
	}
	for (size_t i = 0; i < t->cells; i++)
		free(t->cell[i]);
	free(t->cell);
	if (t->failed)
		fputs("(out of memory: the table is not whole)\n", out);
	*t = (struct table){0};
}

const char *text_bytes(uint64_t n, char buf[TABLE_TEXT])
{
	static const char unit[] = "KMGTPE";
	double v = (double)n;
	int u = -1;

	if (n < 1024) {
		snprintf(buf, TABLE_TEXT, "%u", (unsigned)n);
		return buf;
	}
	for (; v >= 1000 && u < 5; u++)
		v /= 1024;
	snprintf(buf, TABLE_TEXT, v < 10 ? "%.1f%c" : "%.0f%c", v, unit[u < 0 ? 0 : u]);
	return buf;
}

const char *text_age(uint64_t ns, char buf[TABLE_TEXT])
{
	unsigned long long s = ns / 1000000000ULL;

	if (s < 1)
		snprintf(buf, TABLE_TEXT, "%llums", (unsigned long long)(ns / 1000000ULL));
	else if (s < 60)
		snprintf(buf, TABLE_TEXT, "%llus", s);
	else if (s < 3600)
		snprintf(buf, TABLE_TEXT, "%llum%02llus", s / 60, s % 60);
	else if (s < 86400)
		snprintf(buf, TABLE_TEXT, "%lluh%02llum", s / 3600, s / 60 % 60);
	else
		snprintf(buf, TABLE_TEXT, "%llud%lluh", s / 86400, s / 3600 % 24);
	return buf;
}
