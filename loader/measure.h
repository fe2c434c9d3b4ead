/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telemetry and choices in the tree's maps: samples of connections (struct dmm_sample), what the
 * connections of a stack were like (struct dmm_measures), and what nRD has chosen (struct
 * dmm_choice). Nothing here blocks.
 */
#ifndef DMM_LOADER_MEASURE_H
#define DMM_LOADER_MEASURE_H

#include "loader/ring.h"
#include "loader/tree.h"

/* The samples of a tree, from now on. Any number of readers and writers; the tree stays open.
 * -errno. */
struct samples {
	struct ring ring;
	struct dmm_sample *slot; /* mmapped; NULL: closed */
};
int samples_open(struct samples *ret, const struct tree *t);
void samples_close(struct samples *s);
bool samples_next(struct samples *s, struct dmm_sample *ret, dmm_u64 *ret_lost);
/* Tell one; its seq does not matter. */
void samples_put(struct samples *s, const struct dmm_sample *sample);

/* What all measured connections of a stack were like, dmm_carried included. */
int measures_read(const struct tree *t, unsigned stack, struct dmm_measures *ret);

/* Choices. Replacing one is atomic. The functions that change something hold no lock: the daemon of
 * the tree alone does. -E2BIG: the map is full; -ENOENT. */
int choice_put(const struct tree *t, const struct dmm_choice_key *key, const struct dmm_choice *c);
/* Whatever lies there, of whichever list of stacks. */
bool choice_get(const struct tree *t, const struct dmm_choice_key *key, struct dmm_choice *ret);
int choice_del(const struct tree *t, const struct dmm_choice_key *key);
/* The choice for an address, or for all (ip NULL); use: of the rule. False: none is in force. */
bool choice_find(const struct tree *t, unsigned measure, const dmm_u8 *ip,
		 const dmm_u8 use[DMM_MAX_USE], struct dmm_choice *ret);
/* The key that an address of a rule is chosen for by; ip NULL: for all. */
void choice_key(unsigned measure, const dmm_u8 *ip, struct dmm_choice_key *ret);
/* The key after *key, or the first after NULL. False: there is none. */
bool choice_next(const struct tree *t, const struct dmm_choice_key *key,
		 struct dmm_choice_key *ret);

#endif
