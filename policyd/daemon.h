/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dmm-policyd: puts the operator's policy in force, keeps the instances running, tells what it
 * sees. Nothing of a socket's way depends on it: the policy lies in the maps, the instances run in
 * sessions of their own, and the next daemon takes both over. The maps are the truth: dmm-policy
 * may change them at any time, which is seen by the generation.
 */
#ifndef DMM_POLICYD_DAEMON_H
#define DMM_POLICYD_DAEMON_H

#include <limits.h>

#include "policyd/chooser.h"
#include "policyd/http.h"
#include "policyd/policy.h"
#include "policyd/share.h"
#include "policyd/supervise.h"
#include "policyd/telemetry.h"
#include "policyd/trend.h"

struct daemon_options {
	const char *config;  /* dmm.yaml; policy.d beside it */
	const char *bpffs;   /* path of the tree */
	const char *socket;  /* Unix socket; NULL: as the configuration says */
	const char *program; /* path of dmm-stackd */
};

struct daemon {
	const struct daemon_options *opt;
	int epfd, signal_fd, link_fd;
	struct loop_source signals, links;
	struct tree tree;
	struct supervisor sup;
	struct share share;
	struct chooser chooser;
	struct http *http;
	dmm_u64 generation; /* of class */
	struct dmm_class *class;
	struct telemetry *telemetry;	     /* filled anew for each use */
	uint64_t watchdog_ns, watchdog_next; /* 0: the service manager does not watch */
	struct trend *trend;
	uint64_t trend_ns; /* when its next sample is due */
	bool keep_failed;  /* what nRD knows could not be kept, and it was said */
	uint64_t sweep_ns; /* when daemon_sweep() has something to do again */
	bool stop;
};

/*
 * Read and check the configuration. Diagnostics go to diags. 0 or -errno; *ret is NULL then. A
 * class of it is not made yet.
 */
int daemon_config(const struct daemon_options *opt, struct dmm_policy **ret,
		  struct policy_diags *diags);

/* Bring up everything, policy first. d is zeroed by the caller; daemon_fini() follows in any case.
 */
int daemon_init(struct daemon *d, const struct daemon_options *opt, struct dmm_policy *p);
void daemon_fini(struct daemon *d);

/* Compile p, with what hosts share behind it, and put it in force. -EWOULDBLOCK: somebody else
 * holds the lock for seconds. */
int daemon_commit(struct daemon *d, struct dmm_policy *p);

/* Read the configuration again and put it in force. Any failure leaves the policy in force. */
int daemon_reload(struct daemon *d, struct policy_diags *diags);

/* Follow the generation in force, if it changed. 0 or -errno. */
int daemon_follow(struct daemon *d);

/* The file of that name in $DMM_STATE, or beside the sockets of a run directory of its own, or in
 * what lasts. The tree is in the name, as in that of its history. make: the directory, too. */
int daemon_state_path(const struct daemon *d, const char *name, const char *suffix, bool make,
		      char ret[PATH_MAX]);

/* Take a snapshot into d->telemetry. */
int daemon_measure(struct daemon *d);

/* Serve until d->stop. */
int daemon_run(struct daemon *d);

/* What is served over HTTP; the context is struct daemon. */
extern const struct http_route daemon_routes[];

/* Stop the instances of the tree and remove it. */
int daemon_teardown(const char *bpffs);

#endif
