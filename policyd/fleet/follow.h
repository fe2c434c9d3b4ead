/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys below a prefix as they are and as they change, whole revisions only: what one
 * transaction wrote is told together. A watch that breaks goes on where it ended; where etcd has
 * forgotten that (compaction), or is another one, all is read again, and told as such.
 */
#ifndef DMM_POLICYD_FLEET_FOLLOW_H
#define DMM_POLICYD_FLEET_FOLLOW_H

#include "policyd/etcd/etcd.h"

struct follow_ops {
	void (*begin)(void *ctx); /* all keys follow; what is not among them is gone */
	/* key: behind the prefix, "" for a key that is the prefix. value "": it is gone, or is no
	 * text. */
	void (*change)(void *ctx, const char *key, const char *value);
	void (*whole)(void *ctx, dmm_u64 revision); /* this is the state of that revision */
};

struct follow {
	struct etcd *e;
	const struct follow_ops *ops;
	void *ctx;
	char prefix[192];
	dmm_u64 revision, cluster; /* that was told; 0: nothing yet */
	dmm_u64 reading;	   /* revision that pages are read of; 0: none are */
	char *at;		   /* the page begins behind this key */
	bool busy, watching;	   /* a page, or the watch, is on its way */
	bool current;		   /* the watch stands */
	bool again;		   /* all is to be read */
	uint64_t next_ns;
	dmm_u64 reads, resumes, compactions;
};

/* revision and cluster: where to go on; 0: from the beginning. */
void follow_init(struct follow *f, struct etcd *e, const char *prefix, const struct follow_ops *ops,
		 void *ctx, dmm_u64 revision, dmm_u64 cluster);
void follow_fini(struct follow *f);
void follow_run(struct follow *f, uint64_t now);
/* When it has something to do by time alone; UINT64_MAX: never. */
static inline uint64_t follow_next_ns(const struct follow *f)
{
	return f->busy || f->current ? UINT64_MAX : f->next_ns;
}

#endif
