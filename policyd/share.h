/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's part in what hosts share over etcd: off unless the configuration names endpoints. */
#ifndef DMM_POLICYD_SHARE_H
#define DMM_POLICYD_SHARE_H

#include "policyd/fleet/host.h"
#include "policyd/nrd/document.h"
#include "policyd/policy.h"

struct daemon;

struct share {
	struct etcd_settings set; /* n_endpoint 0: off */
	char name[64];		  /* of this host */
	struct etcd *e;
	struct host host;
	dmm_u64 generation; /* of the policy that was looked at */
	char *facts;	    /* as they were told */
	uint64_t facts_ns;  /* when to look at them again */
	struct document_hosts advisers;
	dmm_u64 advice;	    /* entries that were taken, in all */
	dmm_u64 advised_ns; /* when; 0: never */
	dmm_u64 sequence;   /* of the last report */
};

/* Bring it in line with the settings. 0 or -errno, logged: it is off then. */
int share_configure(struct daemon *d, const struct etcd_settings *set, const struct dmm_policy *p);
void share_close(struct daemon *d);

/* Put the shared rules that are known behind the operator's, so that there is no moment without. */
void share_merge(struct daemon *d, struct dmm_policy *p);

/* Into d->telemetry. */
void share_measure(struct daemon *d);

void share_run(struct daemon *d, uint64_t now);
uint64_t share_next_ns(const struct daemon *d);

#endif
