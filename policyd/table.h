/* SPDX-License-Identifier: Apache-2.0 */
/* Text in columns, and numbers and times as people read them. */
#ifndef DMM_POLICYD_TABLE_H
#define DMM_POLICYD_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TABLE_COLUMNS 16

/* What a cell says of the state of its row; shown by colour. */
enum table_tint { TINT_NONE, TINT_GOOD, TINT_WARN, TINT_BAD };

struct table_cell {
	char *text;
	enum table_tint tint;
};

struct table {
	size_t columns, cells;
	struct table_cell *cell; /* row after row; the first row is the header */
	bool failed;		 /* out of memory: cells are missing */
};

/* What a table is printed for. */
struct table_look {
	size_t width; /* columns of the terminal; 0: as wide as it has to be */
	bool colour;
};

/*
 * Columns by their headers. Signs before a header say what becomes of its column:
 *   >  aligned to the right
 *   ~  cut where the terminal is too narrow
 *   ?  left out where that is not enough, the last such column first
 *   +  wrapped at its blanks; for the last column
 * Nothing is cut, left out or wrapped when the output is not a terminal.
 */
void table_init(struct table *t, const char *const *headers, size_t columns);
/* The next cell of the current row. */
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Of the cell that was added last. */
void table_tint(struct table *t, enum table_tint tint);

/* Print and free. */
void table_print(struct table *t, FILE *out);
void table_print_as(struct table *t, FILE *out, const struct table_look *look);

/* Of a terminal: its width ($COLUMNS, or what the terminal says) and colour unless $NO_COLOR; of
 * anything else: neither. */
struct table_look table_look(FILE *out);

#define TABLE_TEXT 24
/* "1.5K", "23M": powers of 1024. */
const char *text_bytes(uint64_t n, char buf[TABLE_TEXT]);
/* "350ms", "12s", "3m20s", "5h01m", "2d3h". */
const char *text_age(uint64_t ns, char buf[TABLE_TEXT]);

#endif
