/* SPDX-License-Identifier: Apache-2.0 */
/* Texts by name, in the order of their names: the documents of a revision. */
#ifndef DMM_POLICYD_FLEET_TEXTS_H
#define DMM_POLICYD_FLEET_TEXTS_H

#include <stdbool.h>
#include <stddef.h>

#include "bpf/dmm_abi.h"

#define TEXTS_MAX 1024	       /* documents */
#define TEXTS_BYTES (8u << 20) /* of all of them */

struct texts {
	struct text {
		char *name, *text;
	} * list;
	size_t n, bytes;
};

/* text "": take it out. 0, -ENOMEM, -E2BIG: beyond a bound; nothing changed then. */
int texts_put(struct texts *t, const char *name, const char *text);
int texts_copy(const struct texts *from, struct texts *ret); /* 0 or -ENOMEM */
void texts_fini(struct texts *t);

/* Texts that follow a store: all of them are read in pages at first, and again when it is another,
 * and what was there before stays until the last page. */
struct texts_followed {
	struct texts now, pages;
	bool paging;
};
void texts_follow_begin(struct texts_followed *c); /* all of them will come */
int texts_follow_put(struct texts_followed *c, const char *name,
		     const char *text);		   /* as texts_put() */
void texts_follow_whole(struct texts_followed *c); /* they have, or the revision has */
void texts_follow_fini(struct texts_followed *c);

/*
 * A file that holds them, with the revision and the store that they are of. It is written aside and
 * renamed. Reading: -ENOENT, or -EBADMSG: it is none.
 */
int texts_save(const struct texts *t, dmm_u64 revision, dmm_u64 cluster, const char *path);
int texts_load(struct texts *t, dmm_u64 *ret_revision, dmm_u64 *ret_cluster, const char *path);

#endif
