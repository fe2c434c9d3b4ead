/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON as people write it into configuration files, and where its values are written, which jansson
 * does not tell. Comments and trailing commas are blanked, so that lines and columns stay; on the
 * same way the place of each key and value is kept. A walk of the tree in the order of the text
 * meets them in the same order: jansson keeps the order of keys.
 */
#ifndef DMM_POLICYD_IMPORT_JSON_H
#define DMM_POLICYD_IMPORT_JSON_H

#include <jansson.h>

#include "policyd/import.h"

struct place {
	unsigned line, column;
};

/* Of every key and value, in the order of the text. The owner frees list. */
struct places {
	struct place *list;
	size_t n, room, next;
};

/* Make plain JSON of the text, of the same length with the same lines. 0, -EINVAL with a
 * diagnostic, or -ENOMEM. What is no JSON stays so: jansson refuses it. */
int places_scan(struct import *im, char *text, size_t len, struct places *ret);

/* The place of the next key or value. */
void places_next(const struct import *im, struct places *p, struct policy_pos *ret);

/* Over the places inside of v. */
void places_skip(const json_t *v, struct places *p);

#endif
