/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hosts tell one another, as JSON:
 *
 *   {"nrd": 1, "host": "a", "sequence": 17, "issued": 1790000000,
 *    "reports": [{"rule": "cdn", "stack": "edge0", "remote": "10.1.2.0", "connections": 10,
 *                 "failed": {"timeout": 1}, "segments": 200, "resent": 2,
 *                 "connect_us": {"28": 9}, "srtt_us": {…}, "rate_kbs": {…}}],
 *    "advice": [{"rule": "cdn", "remote": "10.1.2.0", "stack": "edge0"}]}
 *
 * Keys of histograms are numbers of buckets, see hist.h. A document is taken whole or not at all:
 * one that is malformed, too large, from the future, old or already seen, that has unknown keys, or
 * that speaks of a rule which the operator did not leave to nRD or of a stack that is not in its
 * list, changes nothing. Advice is tried, never obeyed.
 */
#ifndef DMM_POLICYD_NRD_DOCUMENT_H
#define DMM_POLICYD_NRD_DOCUMENT_H

#include "policyd/nrd/nrd.h"

#define DOCUMENT_VERSION 1
#define DOCUMENT_MAX (1 << 20) /* bytes */
#define DOCUMENT_ENTRIES 4096  /* reports and advice */
#define DOCUMENT_AHEAD_S 5     /* clocks may differ that much */
#define DOCUMENT_OLD_S 600
#define DOCUMENT_HOSTS 256 /* that are known at one time */

/* Who has told what so far; zero at first. Its number is the source of a host's reports. */
struct document_hosts {
	struct {
		char name[64];
		dmm_u64 sequence; /* the last one */
		dmm_u64 issued;
	} host[DOCUMENT_HOSTS];
	unsigned n;
};

/*
 * Take a document in. now_s: seconds since 1970. 0; -EINVAL: it was refused, for the reason in
 * reterr, one sentence; -ENOMEM.
 */
int document_take(struct nrd *n, struct document_hosts *hosts, const char *text, size_t len,
		  dmm_u64 now_s, char reterr[256]);

/* The same of a document that is for many hosts: what it advises of rules which `elsewhere` says
 * are not this host's is left out. *ret_taken grows by what was not. */
typedef bool (*document_elsewhere_fn)(void *ctx, const char *rule);
int document_take_advice(struct nrd *n, struct document_hosts *hosts, const char *text, size_t len,
			 dmm_u64 now_s, document_elsewhere_fn elsewhere, void *ctx,
			 dmm_u64 *ret_taken, char reterr[256]);

/* The document of a host with these reports, whose rules are those of n, to be freed; at most `max`
 * bytes: the last ones are left out. NULL: no memory. */
char *document_write(const struct nrd *n, const struct report *reports, size_t n_reports,
		     const char *host, dmm_u64 sequence, dmm_u64 issued, size_t max);

#endif
