/* SPDX-License-Identifier: Apache-2.0 */
/* Diagnostics with a position, and "did you mean". */
#ifndef DMM_POLICYD_DIAG_H
#define DMM_POLICYD_DIAG_H

#include <stdarg.h>

#include "policyd/policy.h"

#define DIAG_MAX 100 /* of one run; the rest is counted, not kept */

/* What is added now is only counted. */
static inline bool diag_full(const struct policy_diags *d)
{
	return d->n >= DIAG_MAX;
}

/* Add one. Characters that a terminal would act on are replaced. Line and column 0: unknown. */
void diag_addv(struct policy_diags *d, bool error, const char *file, unsigned line, unsigned column,
	       const char *fmt, va_list ap) __attribute__((format(printf, 6, 0)));

/* Add an error; always -EINVAL, so that a caller can return it. */
int diag_error(struct policy_diags *d, const char *file, unsigned line, unsigned column,
	       const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* The same at a position that was kept. */
int diag_error_at(struct policy_diags *d, const struct policy_pos *pos, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void diag_warn_at(struct policy_diags *d, const struct policy_pos *pos, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* True if `known` is near enough to `word` to be meant by it; *best (start with UINT_MAX) is the
 * distance of the nearest so far and is lowered. */
bool diag_nearer(const char *word, const char *known, unsigned *best);

#endif
