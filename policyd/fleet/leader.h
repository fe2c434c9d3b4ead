/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One of several dmm-nrd, of which one leads: it writes the documents below <prefix>/policy/ as it
 * was told, takes the reports of the hosts in, and writes what did well as advice. All that differs
 * is written in one transaction that depends on its being the leader still: one that was deposed
 * and does not know it yet writes nothing. The others wait, and know the policy already.
 */
#ifndef DMM_POLICYD_FLEET_LEADER_H
#define DMM_POLICYD_FLEET_LEADER_H

#include "policyd/fleet/follow.h"
#include "policyd/fleet/hold.h"
#include "policyd/fleet/texts.h"
#include "policyd/nrd/document.h"

#define LEADER_OPS 120			/* changes of one transaction; etcd takes 128 */
#define LEADER_BYTES (1200 * 1024)	/* of it, with base64; etcd takes 1.5 MiB */
#define LEADER_SHARDS 64		/* of DOCUMENT_HOSTS hosts each; by a hash of their names */
#define LEADER_ADVICE_NS 10000000000ULL /* advice changes no more often */

struct leader {
	struct etcd *e;
	const char *prefix;
	char name[128];
	struct hold hold;
	bool led; /* as it was said last */

	struct follow policy;
	struct texts want;
	struct texts_followed have;
	bool known;
	bool writing;
	dmm_u64 written;  /* revision of the last write: before it is seen there is another ... */
	uint64_t seen_ns; /* ... not before this */
	dmm_u64 writes;
	uint64_t write_ns; /* not before */

	struct follow reports; /* while it leads */
	struct nrd *nrd;
	struct document_hosts *hosts; /* of LEADER_SHARDS */
	uint64_t turn_ns;
	dmm_u64 now_s;		/* of this round */
	dmm_u64 taken, refused; /* reports */

	char *advice, *advised;	     /* to be written, and as it is; NULL: none */
	dmm_u64 sequence, advised_s; /* of the last advice: its number, and when */
	uint64_t advice_ns;
};

/* name: of this program, unique. 0 or -ENOMEM. prefix stays in use. */
int leader_init(struct leader *l, struct etcd *e, const char *prefix, const char *name,
		dmm_u32 lease_s, dmm_u64 seed);
void leader_fini(struct leader *l);

/*
 * What is to be in etcd, in place of what was before; and the rules of it that are left to nRD.
 * -E2BIG: one transaction cannot hold it. -ENOMEM. Nothing changed then.
 */
int leader_want(struct leader *l, const struct texts *documents, const struct nrd_rule *rules,
		size_t n_rules);

/* now_s: seconds since 1970. */
void leader_run(struct leader *l, uint64_t now, dmm_u64 now_s);
uint64_t leader_next_ns(const struct leader *l, uint64_t now);
bool leader_leads(const struct leader *l, uint64_t now);

#endif
