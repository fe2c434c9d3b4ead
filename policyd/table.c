// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/base/text.h"
#include "lib/base/util.h"
#include "policyd/table.h"

static void push(struct table *t, char *text)
{
	struct table_cell *cell;

	if (!text)
		t->failed = true;
	if (t->failed) {
		free(text);
		return;
	}
	cell = realloc(t->cell, (t->cells + 1) * sizeof(*cell));
	if (!cell) {
		t->failed = true;
		free(text);
		return;
	}
	t->cell = cell;
	cell[t->cells++] = (struct table_cell){.text = text};
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
	if (text)
		text_clean(text, strlen(text), text);
	push(t, text);
}

void table_tint(struct table *t, enum table_tint tint)
{
	if (!t->failed && t->cells)
		t->cell[t->cells - 1].tint = tint;
}

struct table_look table_look(FILE *out)
{
	const char *columns = getenv("COLUMNS"), *term = getenv("TERM"), *no = getenv("NO_COLOR");
	struct table_look look = {0};
	struct winsize size;

	if (!isatty(fileno(out)))
		return look;
	if (columns)
		look.width = (size_t)strtoul(columns, NULL, 10);
	if (!look.width && ioctl(fileno(out), TIOCGWINSZ, &size) == 0)
		look.width = size.ws_col;
	if (!look.width)
		look.width = 80;
	look.colour = !(no && *no) && term && *term && strcmp(term, "dumb") != 0;
	return look;
}

/* ---- layout ---- */

#define GAP 2 /* blanks between columns */
#define LEAST_MIN \
	15 /* characters that a cut or wrapped cell keeps: an address and a port of IPv4 */

struct column {
	size_t width, least; /* as it is shown; what it can be cut to */
	bool right, cut, optional, wrap, hidden;
};

static bool is_continuation(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* Columns that UTF-8 text takes, as far as DMM's own words go: one a character. */
static size_t text_width(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += !is_continuation(*text);
	return n;
}

/* Bytes of the first `width` characters. */
static size_t text_head(const char *text, size_t width)
{
	size_t i = 0;

	for (; text[i]; i++)
		if (!is_continuation(text[i]) && width-- == 0)
			break;
	return i;
}

/* Take the signs off a header. */
static void column_read(struct column *col, char *header)
{
	size_t signs = strspn(header, ">~?+");

	for (size_t i = 0; i < signs; i++) {
		col->right |= header[i] == '>';
		col->cut |= header[i] == '~';
		col->optional |= header[i] == '?';
		col->wrap |= header[i] == '+';
	}
	memmove(header, header + signs, strlen(header + signs) + 1);
	col->least = MAX((size_t)LEAST_MIN, text_width(header));
}

static size_t row_width(const struct column *col, size_t n, bool least)
{
	size_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		size_t w = col[i].width;

		if (least && (col[i].cut || col[i].wrap))
			w = MIN(w, col[i].least);
		sum += col[i].hidden ? 0 : w + (sum ? GAP : 0);
	}
	return sum;
}

/* Leave columns out until the others can be cut to what there is, take narrow ones back in, then
 * cut the widest first. */
static void layout_fit(struct column *col, size_t n, size_t limit)
{
	for (size_t i = n; i-- > 0 && row_width(col, n, true) > limit;)
		col[i].hidden = col[i].optional;
	for (size_t i = 0; i < n; i++) {
		bool was = col[i].hidden;

		col[i].hidden = false;
		col[i].hidden = was && row_width(col, n, true) > limit;
	}
	while (row_width(col, n, false) > limit) {
		struct column *widest = NULL;

		for (size_t i = 0; i < n; i++)
			if (!col[i].hidden && (col[i].cut || col[i].wrap) &&
			    col[i].width > col[i].least &&
			    (!widest || col[i].width > widest->width))
				widest = &col[i];
		if (!widest)
			return; /* the terminal wraps it */
		widest->width--;
	}
}

static void layout(struct table *t, struct column *col, const struct table_look *look)
{
	size_t n = t->columns;

	for (size_t i = 0; i < t->cells; i++) {
		if (i < n)
			column_read(&col[i], t->cell[i].text);
		col[i % n].width = MAX(col[i % n].width, text_width(t->cell[i].text));
	}
	if (look->width)
		layout_fit(col, n, look->width);
}

/* ---- printing ---- */

static const char *tint_begin(enum table_tint tint, bool header)
{
	static const char *const codes[] = {
		[TINT_GOOD] = "\033[32m",
		[TINT_WARN] = "\033[33m",
		[TINT_BAD] = "\033[31m",
	};

	return header ? "\033[1m" : codes[tint];
}

/* The text in its column, cut if it has to be. last: nothing stands behind it. */
static void print_cell(FILE *out, const struct column *col, const char *text, const char *tint,
		       bool last)
{
	size_t width = text_width(text), keep = strlen(text);
	bool cut = width > col->width && !col->wrap;
	int pad;

	if (cut) {
		keep = text_head(text, col->width - 1);
		width = col->width;
	}
	pad = (int)(col->width - MIN(width, col->width));
	fprintf(out, "%*s%s%.*s%s%s%*s", col->right ? pad : 0, "", tint ? tint : "", (int)keep,
		text, cut ? "…" : "", tint ? "\033[0m" : "", col->right || last ? 0 : pad, "");
}

/* Lines of at most the column's width, indented to where it begins. */
static void print_wrapped(FILE *out, const struct column *col, const char *text, size_t indent)
{
	while (text_width(text) > col->width) {
		size_t end = text_head(text, col->width);

		while (end > 0 && text[end] != ' ')
			end--;
		if (end == 0) /* one long word */
			end = text_head(text, col->width);
		fprintf(out, "%.*s\n%*s", (int)end, text, (int)indent, "");
		text += end + (text[end] == ' ');
	}
	fputs(text, out);
}

static void print_rows(const struct table *t, FILE *out, const struct column *col, bool colour)
{
	size_t n = t->columns, last = n - 1, indent = row_width(col, n, false) - col[n - 1].width;

	while (last > 0 && col[last].hidden)
		last--;
	for (size_t i = 0; i < t->cells; i++) {
		const struct table_cell *cell = &t->cell[i];
		const struct column *c = &col[i % n];
		const char *tint = colour ? tint_begin(cell->tint, i < n) : NULL;
		bool end = i % n == last || (i % n < last && i + 1 == t->cells);

		if (!c->hidden && c->wrap && i >= n)
			print_wrapped(out, c, cell->text, indent);
		else if (!c->hidden)
			print_cell(out, c, cell->text, tint, end);
		if (end)
			fputc('\n', out);
		else if (!c->hidden && i % n < last)
			fprintf(out, "%*s", GAP, "");
	}
}

/* What a narrow terminal does not show, it says so. */
static void print_hidden(const struct table *t, FILE *out, const struct column *col)
{
	const char *separator = "(too narrow for: ";

	for (size_t i = 0; i < t->columns; i++) {
		if (!col[i].hidden)
			continue;
		fprintf(out, "%s%s", separator, t->cell[i].text);
		separator = ", ";
	}
	if (*separator == ',')
		fputs(")\n", out);
}

void table_print_as(struct table *t, FILE *out, const struct table_look *look)
{
	struct column col[TABLE_COLUMNS] = {0};

	if (t->cells >= t->columns) {
		layout(t, col, look);
		print_rows(t, out, col, look->colour);
		print_hidden(t, out, col);
	}
	for (size_t i = 0; i < t->cells; i++)
		free(t->cell[i].text);
	free(t->cell);
	if (t->failed)
		fputs("(out of memory: the table is not whole)\n", out);
	*t = (struct table){0};
}

void table_print(struct table *t, FILE *out)
{
	struct table_look look = table_look(out);

	table_print_as(t, out, &look);
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
