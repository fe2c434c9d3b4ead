// SPDX-License-Identifier: Apache-2.0
/* JSON with comments and trailing commas, and where its values are written. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/diag.h"
#include "policyd/import_json.h"

struct scan {
	char *text;
	size_t len, at, line_start;
	unsigned line;
	size_t comma; /* one that the next ] or } would make a trailing one; SIZE_MAX: none */
	char last;    /* what stood before, beside blanks and comments; 'v': a value or a key */
	struct places *places;
};

static int scan_place(struct scan *s)
{
	struct places *p = s->places;

	if (p->n == p->room) {
		size_t room = p->room ? 2 * p->room : 64;
		struct place *list = realloc(p->list, room * sizeof(*list));

		if (!list)
			return -ENOMEM;
		p->list = list;
		p->room = room;
	}
	p->list[p->n++] = (struct place){s->line, (unsigned)(s->at - s->line_start) + 1};
	return 0;
}

static void scan_step(struct scan *s, bool blank)
{
	char *c = &s->text[s->at++];

	if (*c == '\n') {
		s->line++;
		s->line_start = s->at;
	} else if (blank) {
		*c = ' ';
	}
}

static bool scan_is(const struct scan *s, const char *word)
{
	size_t n = strlen(word);

	return s->len - s->at >= n && memcmp(s->text + s->at, word, n) == 0;
}

/* Over a comment, if here is one. -EINVAL: it has no end. */
static int scan_comment(struct scan *s, struct import *im)
{
	struct place begin = {s->line, (unsigned)(s->at - s->line_start) + 1};

	if (scan_is(s, "#") || scan_is(s, "//")) {
		while (s->at < s->len && s->text[s->at] != '\n')
			scan_step(s, true);
	} else if (scan_is(s, "/*")) {
		scan_step(s, true);
		scan_step(s, true);
		while (s->at < s->len && !scan_is(s, "*/"))
			scan_step(s, true);
		if (s->at == s->len)
			return diag_error(&im->diags, im->file, begin.line, begin.column,
					  "a comment without an end");
		scan_step(s, true);
		scan_step(s, true);
	}
	return 0;
}

/* Over a string, a number or a word. An unclosed string ends with its line: jansson refuses it. */
static void scan_scalar(struct scan *s)
{
	if (s->text[s->at] != '"') {
		while (s->at < s->len && !strchr(" \t\r\n,:[]{}\"#/", s->text[s->at]))
			scan_step(s, false);
		return;
	}
	scan_step(s, false);
	while (s->at < s->len && s->text[s->at] != '"' && s->text[s->at] != '\n') {
		if (s->text[s->at] == '\\' && s->at + 1 < s->len && s->text[s->at + 1] != '\n')
			scan_step(s, false);
		scan_step(s, false);
	}
	if (s->at < s->len && s->text[s->at] == '"')
		scan_step(s, false);
}

/* Over what is here, which is neither blank nor comment. */
static int scan_token(struct scan *s)
{
	char c = s->text[s->at];
	int r = 0;

	if (c == ',')
		s->comma = s->last == 'v' || s->last == ']' || s->last == '}' ? s->at : SIZE_MAX;
	else if ((c == ']' || c == '}') && s->comma != SIZE_MAX)
		s->text[s->comma] = ' ';
	if (c != ',')
		s->comma = SIZE_MAX;
	if (!strchr(",:]}", c) || c == '\0')
		r = scan_place(s);
	if (strchr(",:[]{}/", c)) { /* NUL and a lone / too: jansson refuses them */
		s->last = c;
		scan_step(s, false);
	} else {
		s->last = 'v';
		scan_scalar(s);
	}
	return r;
}

int places_scan(struct import *im, char *text, size_t len, struct places *ret)
{
	struct scan s = {.text = text, .len = len, .line = 1, .comma = SIZE_MAX, .places = ret};
	int r = 0;

	while (r == 0 && s.at < len) {
		size_t before = s.at;

		if (memchr(" \t\r\n", text[s.at], 4))
			scan_step(&s, false);
		else
			r = scan_comment(&s, im);
		if (r == 0 && s.at == before)
			r = scan_token(&s);
	}
	return r;
}

void places_next(const struct import *im, struct places *p, struct policy_pos *ret)
{
	struct place at = {0};

	if (p->next < p->n)
		at = p->list[p->next++];
	import_pos(im, at.line, at.column, ret);
}

void places_skip(const json_t *v, struct places *p)
{
	const char *key;
	json_t *item;
	size_t i;

	json_array_foreach (v, i, item) {
		p->next++;
		places_skip(item, p);
	}
	/* Without const, which the macro does not take; it only looks. */
	json_object_foreach ((json_t *)v, key, item) {
		p->next += 2;
		places_skip(item, p);
	}
}
