/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator says of the etcd that hosts share: `daemon: {etcd: {endpoints: …}}`. */
#ifndef DMM_POLICYD_ETCD_SETTINGS_H
#define DMM_POLICYD_ETCD_SETTINGS_H

#include "bpf/dmm_abi.h"

#define ETCD_ENDPOINTS 7 /* members of a cluster, at most */
#define ETCD_PREFIX "/dmm"
#define ETCD_LEASE_S 15

struct etcd_settings {
	char endpoint[ETCD_ENDPOINTS][128]; /* "https://10.0.0.1:2379" */
	unsigned n_endpoint;		    /* 0: etcd is not used */
	char prefix[64];		    /* of all keys */
	char name[64];			    /* of this host; "": its host name */
	dmm_u32 lease_s;		    /* who is silent for that long is gone */
	/* absolute paths; "": none */
	char ca[DMM_PATH_LEN], cert[DMM_PATH_LEN], key[DMM_PATH_LEN];
	char user[64], password_file[DMM_PATH_LEN];
};

#endif
