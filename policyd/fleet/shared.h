/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A policy that hosts share, as documents below <prefix>/policy/, one a name, in the policy
 * language (which JSON is too):
 *
 *   version: 1
 *   hosts: {name: [web-*], stack: edge0, address: 10.0.0.0/8, rdma: true}
 *   rules: [{name: cdn, match: …, use: …}]
 *
 * `hosts` says which hosts it is for; all of its keys must agree, and none of it means every host.
 * The rules of all documents for a host, in the order of the documents' names, come behind those of
 * its operator: what the operator's rules match they never see. They are taken whole or not at all,
 * together with all others of the revision.
 */
#ifndef DMM_POLICYD_FLEET_SHARED_H
#define DMM_POLICYD_FLEET_SHARED_H

#include "policyd/fleet/texts.h"
#include "policyd/policy.h"

#define SHARED_DOCUMENT_MAX (1 << 20) /* bytes of one */
#define SHARED_RULES 4096	      /* of all documents for one host */

/* What a host says of itself. */
struct host_facts {
	char name[64];
	char (*stack)[DMM_NAME_LEN]; /* configured, "kernel" is not among them */
	size_t n_stack;
	struct policy_prefix *address; /* each a whole address */
	size_t n_address;
	char (*rdma)[DMM_NAME_LEN]; /* devices */
	size_t n_rdma;
};
/* Ask the system; stacks are those of p. 0 or -ENOMEM; host_facts_fini() in any case. */
int host_facts_read(struct host_facts *ret, const char *name, const struct dmm_policy *p);
void host_facts_fini(struct host_facts *f);
/* JSON, to be freed. NULL: no memory. */
char *host_facts_format(const struct host_facts *f);

/*
 * Put the rules for this host behind those of p, in place of shared ones that it has, and check the
 * whole. 0; -EINVAL with the reason, one sentence, in reterr: p is to be thrown away; -ENOMEM.
 */
int shared_merge(struct dmm_policy *p, const struct texts *documents, const struct host_facts *f,
		 char reterr[320]);

/* Take the shared rules out of p; those of the operator stay in their order. */
void shared_remove(struct dmm_policy *p);

/* Bring the shared rules behind all others: where a rule was added by hand. */
void shared_last(struct dmm_policy *p);

/* Read one document by itself, as its author wants to know: the rules go to ret, which is empty. */
int shared_check(const char *name, const char *text, struct dmm_policy *ret,
		 struct policy_diags *diags);

#endif
