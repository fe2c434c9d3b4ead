/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image while it is made (its layout: struct dmm_cell in bpf/dmm_abi.h): cells that are appended
 * to, and the classes and chunks that are there already, so that equal ones are shared.
 *
 * Functions return 0 or -ENOMEM, or -E2BIG beyond DMM_MAX_CELLS.
 */
#ifndef DMM_POLICYD_IMAGE_H
#define DMM_POLICYD_IMAGE_H

#include "policyd/policy.h"
#include "policyd/ranges.h"

struct image_known {
	dmm_u32 *cell; /* 0: free */
	size_t room, n;
};

struct image {
	struct dmm_cell *cell;
	size_t n, room;
	struct image_known chunks, classes;
};

/* A set of rules, and the chunks that it has in the image as far as they are known. */
struct image_rules {
	dmm_u64 bits[DMM_MAX_RULES / 64];
	dmm_u64 some[2];	   /* chunks that are not empty */
	dmm_u64 changed[2];	   /* chunks that are not in the image yet */
	dmm_u32 chunk[DMM_CHUNKS]; /* their cells */
};

/* An interval of a table, by its last number, and its class. */
struct image_interval {
	u128 last;
	dmm_ref class;
};

/* One interval that a rule takes. */
struct image_item {
	u128 lo, hi; /* inclusive */
	dmm_u32 rule;
};
struct image_items {
	struct image_item *list;
	size_t n, room;
};

void image_fini(struct image *im);

/* n cells of zeros behind the others; *ret is the first. Moves im->cell. */
int image_append(struct image *im, size_t n, dmm_u32 *ret);

void image_rules_put(struct image_rules *r, dmm_u32 rule, bool in);
int image_class(struct image *im, struct image_rules *r, dmm_ref *ret);
/* A class with or without one rule; it is shared with what was made since the image was opened. */
int image_class_change(struct image *im, dmm_ref class, dmm_u32 rule, bool in, dmm_ref *ret);

int image_item_add(struct image_items *items, u128 lo, u128 hi, dmm_u32 rule);

/*
 * A table over the numbers 0 … last from the items, which are sorted. last is of 32 bits: narrow;
 * else wide. The same rule may have items that overlap.
 */
int image_table(struct image *im, struct image_items *items, u128 last, enum dmm_table_id id);

/* The tree of a table from its intervals, with some room, where the table was if it fits there. */
int image_put_tree(struct image *im, enum dmm_table_id id, const struct image_interval *list,
		   size_t n, bool wide);
/* The intervals of a table; *ret is the caller's to free in any case. -EPROTO: it is no tree. */
int image_get_tree(const struct image *im, enum dmm_table_id id, bool wide,
		   struct image_interval **ret, size_t *ret_n);

#endif
