/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of an image that only userspace reads: the match of each rule as it was written and
 * what nRD is to do with it, the sets and the names of files, one after the other as bytes.
 */
#ifndef DMM_POLICYD_RECORDS_H
#define DMM_POLICYD_RECORDS_H

#include "policyd/index.h"
#include "policyd/policy.h"

struct records {
	dmm_u8 *byte;
	size_t n, room, at; /* at: where the next is read */
};

void records_fini(struct records *r);

/* Append. -ENOMEM, -ENOENT: a name leads nowhere. */
int records_put_match(struct records *r, const struct dmm_class *c, const struct index *sets,
		      const struct policy_match *m);
int records_put_auto(struct records *r, const struct nrd_settings *s);
int records_put_set(struct records *r, const struct policy_set *s, dmm_u32 file);
int records_put_file(struct records *r, const char *name);

/* Read what comes next. -EPROTO: it is no such thing; -ENOMEM. What was read so far is the
 * caller's to free in any case. */
int records_get_match(struct records *r, const struct dmm_class *c, const struct dmm_policy *p,
		      struct policy_match *ret);
int records_get_auto(struct records *r, struct nrd_settings *ret);
/* Leave out what records_put_match() and records_put_auto() wrote of a rule. */
int records_skip_rule(struct records *r);
int records_get_set(struct records *r, struct policy_set *ret, dmm_u32 *ret_file);
int records_get_file(struct records *r, char ret[DMM_PATH_LEN]);

#endif
