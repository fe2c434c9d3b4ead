/* SPDX-License-Identifier: Apache-2.0 */
/* Text in columns, and numbers and times as people read them. */
#ifndef DMM_POLICYD_TABLE_H
#define DMM_POLICYD_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TABLE_COLUMNS 16

struct table {
	size_t columns, cells;
	char **cell; /* row after row; the first row is the header */
	bool failed; /* out of memory: cells are missing */
};

/* Columns by their headers; a header that begins with ">" is of a column aligned to the right. */
void table_init(struct table *t, const char *const *headers, size_t columns);
/* The next cell of the current row. */
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Print and free. */
void table_print(struct table *t, FILE *out);

#define TABLE_TEXT 24
/* "1.5K", "23M": powers of 1024. */
const char *text_bytes(uint64_t n, char buf[TABLE_TEXT]);
/* "350ms", "12s", "3m20s", "5h01m", "2d3h". */
const char *text_age(uint64_t ns, char buf[TABLE_TEXT]);

#endif
