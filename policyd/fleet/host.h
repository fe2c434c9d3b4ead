/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host among others: it registers below <prefix>/hosts/ for as long as it lives, takes the policy
 * below <prefix>/policy/ as it changes, tells its reports below <prefix>/reports/, and hears what
 * is advised in <prefix>/advice. Without etcd it keeps the last policy that it took, over restarts
 * too, and says so.
 */
#ifndef DMM_POLICYD_FLEET_HOST_H
#define DMM_POLICYD_FLEET_HOST_H

#include <limits.h>

#include "policyd/fleet/follow.h"
#include "policyd/fleet/hold.h"
#include "policyd/fleet/texts.h"

#define HOST_REPORT_NS 10000000000ULL /* reports go out no more often */
#define HOST_REPORT_MAX 65536	      /* bytes of one */

/*
 * Put the documents in force. 0; -EINVAL: they were refused for the reason in reterr, and nothing
 * changed; anything else: not now, it is tried again.
 */
typedef int (*host_apply_fn)(void *ctx, const struct texts *documents, dmm_u64 revision,
			     char reterr[320]);

/* A document of advice. 0, or -errno with the reason in reterr: it was refused whole. */
typedef int (*host_advise_fn)(void *ctx, const char *text, char reterr[256]);

struct host {
	struct etcd *e;
	struct hold hold;
	struct follow follow;
	host_apply_fn apply;
	host_advise_fn advise;
	void *ctx;
	char state[PATH_MAX]; /* file; "": none */
	char report_key[192];

	struct texts_followed told; /* as of follow.revision */
	struct texts good;	    /* that were put in force last */
	bool overfull, due;
	dmm_u64 applied; /* revision in force; 0: none */
	dmm_u64 refused; /* 0: none since then */
	char why[320];
	uint64_t apply_ns; /* not before */

	uint64_t changed_s; /* seconds since 1970: connected, or not, since then */
	bool connected;

	char *report; /* that waits */
	bool reporting;
	uint64_t report_ns; /* the next not before */
	dmm_u64 reports;

	struct follow advice;
	dmm_u64 advised, advice_refused; /* documents */
	char advice_why[256];		 /* that the last one was refused; "": it was taken */
};

/*
 * name: of the host; facts: its value, taken over; state: a file to keep the policy in. What it has
 * is there as `good` at once, not in force yet. 0 or -ENOMEM.
 */
int host_init(struct host *h, struct etcd *e, const char *prefix, const char *name, char *facts,
	      dmm_u32 lease_s, const char *state, host_apply_fn apply, host_advise_fn advise,
	      void *ctx);
void host_fini(struct host *h); /* before etcd_close() */

void host_run(struct host *h, uint64_t now);
uint64_t host_next_ns(const struct host *h);

/* What is in force may have changed by other hands: look at it again. */
void host_again(struct host *h);

/* Tell this, in place of what waits still. Taken over; -E2BIG: it is too long. */
int host_report(struct host *h, char *text);

/* "connected since …" or "disconnected since …, policy of revision 7 kept", … */
void host_say(const struct host *h, char *ret, size_t len);

#endif
