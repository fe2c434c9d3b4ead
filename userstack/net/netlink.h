/* SPDX-License-Identifier: Apache-2.0 */
/* rtnetlink about one interface: dumps, requests, events. Used by net.c only. 0 or -errno. */
#ifndef DMM_USERSTACK_NETLINK_H
#define DMM_USERSTACK_NETLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "bpf/dmm_abi.h"
#include "userstack/net/route.h"

#define NETLINK_ADDRS 64

struct mnl_socket;

struct netlink {
	struct mnl_socket *events, *requests;
	int ifindex;
	uint32_t seq;
};

struct netlink_link {
	char name[16];
	uint8_t mac[6];
	uint32_t mtu;
	uint32_t super_max; /* bytes of the largest packet that its offloads make */
	bool up;	    /* by the administrator */
	bool ethernet;
	bool xdp; /* a program is attached */
};

struct netlink_addrs {
	dmm_u8 ip[NETLINK_ADDRS][16];
	unsigned n;
};

typedef void (*netlink_neigh_fn)(void *ctx, const dmm_u8 ip[16], uint16_t state,
				 const uint8_t *mac);

int netlink_open(struct netlink *nl, int ifindex);
void netlink_close(struct netlink *nl);

int netlink_get_link(struct netlink *nl, struct netlink_link *ret);
int netlink_get_addrs(struct netlink *nl, struct netlink_addrs *ret);
/* Adds to t. */
int netlink_get_routes(struct netlink *nl, struct route_table *t);
int netlink_get_neighs(struct netlink *nl, netlink_neigh_fn cb, void *ctx);
/* The source address the kernel would take. -ENETUNREACH: not through the interface. */
int netlink_get_source(struct netlink *nl, const dmm_u8 dst[16], dmm_u8 ret[16]);
/* Tell the kernel that the neighbour is in use: it resolves or confirms it. */
void netlink_neigh_use(struct netlink *nl, const dmm_u8 ip[16]);

/* Take all waiting events: neighbours by cb; returns 1 if anything else changed, else 0. -ENOBUFS:
 * events were lost. */
int netlink_events(struct netlink *nl, netlink_neigh_fn cb, void *ctx);

bool netlink_addrs_has(const struct netlink_addrs *a, const dmm_u8 ip[16]);

#endif
