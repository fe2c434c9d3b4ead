/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's view of one interface, followed by netlink: link, addresses, routes, neighbours. And
 * what follows from it: where to send an IP packet. The kernel stays the one who speaks ARP and ND.
 * One thread. Functions block only as long as a netlink request to the kernel takes.
 */
#ifndef DMM_USERSTACK_NET_H
#define DMM_USERSTACK_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "bpf/dmm_abi.h"
#include "userstack/net/frame.h"
#include "userstack/net/route.h"

struct net;

struct net_host {
	void *ctx;
	/* Own addresses came and went. */
	void (*addr)(void *ctx, const dmm_u8 ip[16], bool add);
	/* What to publish: type is an enum dmm_route_type, -1: withdrawn; source: as in struct
	 * dmm_route. NULL: another thread does, and sources are not asked for. */
	void (*route)(void *ctx, const dmm_u8 ip[16], unsigned plen, int type,
		      const dmm_u8 source[16]);
	/* Put the IP packet on the wire; left as with net_output(). */
	void (*send)(void *ctx, const uint8_t dst[6], const struct iovec *iov, unsigned n,
		     struct frame_offload left);
	/* The next hop of this packet does not answer. */
	void (*unreachable)(void *ctx, const uint8_t *pkt, size_t len);
	/* The interface is gone, was down for NET_DOWN_NS, or lost its XDP program: why, for the
	 * log. */
	void (*gone)(void *ctx, const char *why);
	/* Counted: packets that waited for a neighbour, were dropped for one, had no route. */
	volatile dmm_u64 *neigh_miss, *neigh_fail, *no_route;
};

#define NET_DOWN_NS 5000000000ULL

/* Read everything; addresses and routes are reported before it returns. -ENODEV, -ENOTSUP (not
 * Ethernet). Failures are logged. h stays as long as the net. */
int net_open(struct net **ret, int ifindex, const struct net_host *h, uint64_t now);
void net_close(struct net *n);

/* To poll for POLLIN, then call net_process(). */
int net_fd(const struct net *n);
void net_process(struct net *n, uint64_t now);
/* Do what is due. *ret_next: when to call again at the latest. */
void net_poll(struct net *n, uint64_t now, uint64_t *ret_next);

const uint8_t *net_mac(const struct net *n);
uint32_t net_mtu(const struct net *n);
/* Own address number i; NULL: there are no more. */
const dmm_u8 *net_addr(const struct net *n, unsigned i);
bool net_is_local(const struct net *n, const dmm_u8 ip[16]);

/* The source address that the kernel would take towards dst, through the interface. -ENETUNREACH.
 */
int net_source(struct net *n, const dmm_u8 dst[16], dmm_u8 ret[16]);

/* Route a packet that begins with its IP header and give it to send(), now or when the neighbour is
 * known. iov[0] holds the whole IP header. */
void net_output(struct net *n, const struct iovec *iov, unsigned k, struct frame_offload left,
		uint64_t now);

#endif
