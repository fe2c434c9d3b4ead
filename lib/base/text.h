/* SPDX-License-Identifier: Apache-2.0 */
/* Text that others chose, as the names of programs, which can hold any byte. */
#ifndef DMM_BASE_TEXT_H
#define DMM_BASE_TEXT_H

#include <stddef.h>

/*
 * Make s, of at most size bytes and perhaps without a NUL, UTF-8 that a terminal only shows: what
 * is no UTF-8 and what is a control character becomes '?', byte by byte. ret has room for size + 1
 * bytes. Returns ret.
 */
char *text_clean(const char *s, size_t size, char *ret);

/* The same, but the control characters of ASCII stay: for JSON, which escapes them. */
char *text_utf8(const char *s, size_t size, char *ret);

#endif
