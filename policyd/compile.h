/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a whole compile (class_compile(), policyd/policy.h) shares with the edit of one rule
 * (policyd/edit.h).
 */
#ifndef DMM_POLICYD_COMPILE_H
#define DMM_POLICYD_COMPILE_H

#include "policyd/image.h"
#include "policyd/reach_shape.h"

/* Room for edits behind n cells or records. */
#define EDIT_ROOM(n) ((n) / 16 + 4)

/* The place of rule i of n: behind every few of them one is left free, for rules that are added
 * between others. */
dmm_u32 compile_place(size_t i, size_t n);

/* A field that has numbers, and its tables; addresses have two. */
struct compile_numbers {
	enum shape_field shape;
	enum dmm_field field;
	enum dmm_table_id table, wide; /* wide: of IPv6, 0: none */
	u128 last;		       /* number of the table */
};
#define COMPILE_NUMBERS 6
extern const struct compile_numbers compile_numbers[COMPILE_NUMBERS];

/* The intervals of a rule in the tables of a field that it restricts. 0 or -ENOMEM. */
int compile_items(const struct shape *s, const struct compile_numbers *n, dmm_u32 rule,
		  struct image_items items[DMM_TABLES]);

/* A rule that restricts one of these is in classes of DMM_FIELD_HEAD. */
#define COMPILE_HEAD_MASK (1u << SHAPE_GROUP | 1u << SHAPE_ROLE | 1u << SHAPE_PROTO)
/* Call fn for each DMM_HEAD_INDEX that such a rule takes; what group 0 has, group ids without a
 * name have, too. */
typedef void (*compile_head_fn)(void *ctx, unsigned head);
void compile_heads(const struct dmm_class *c, const struct dmm_policy *p, const struct shape *s,
		   compile_head_fn fn, void *ctx);

/* The record of a rule. -ENOENT: it uses a stack that c does not have. */
int compile_record(const struct dmm_class *c, const struct dmm_rule *rule, dmm_u32 file,
		   struct dmm_rule_rec *ret);

#endif
