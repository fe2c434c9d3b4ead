// SPDX-License-Identifier: Apache-2.0
/*
 * Netlink: one socket for events, one for requests. Neighbour events are applied one by one; any
 * change of links, addresses or routes makes everything be read again a little later, and the
 * difference reported: whatever was lost or came in an odd order, the result is what the kernel
 * has.
 */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "userstack/net/neigh.h"
#include "userstack/net/net.h"
#include "userstack/net/netlink.h"
#include "userstack/net/source.h"

#define SETTLE_NS 20000000ULL /* changes come in bursts */
#define TICK_NS 1000000000ULL
#define CACHE 512
#define NET_SUPER_MAX 65536u

/* Where packets to one destination went last. */
struct dst_cache {
	dmm_u8 ip[16];
	uint32_t routes, neighs; /* generations that it was true in; routes 0: never */
	struct neigh *neigh;
};

struct net {
	struct netlink nl;
	const struct net_host *host;
	struct neigh_host neigh_host;
	struct netlink_link link;
	bool have_link;
	struct netlink_addrs addrs;
	struct route_table routes;
	struct sources sources;
	struct neigh_table neighs;
	uint32_t routes_gen;
	uint64_t dirty, tick_due, down_since;
	struct dst_cache cache[CACHE];
};

static void net_ask(void *ctx, const dmm_u8 ip[16])
{
	struct net *n = ctx;

	netlink_neigh_use(&n->nl, ip);
}

/* Own addresses: report the difference to the last time. True: there was one. */
static bool net_set_addrs(struct net *n, const struct netlink_addrs *now)
{
	bool changed = n->addrs.n != now->n;

	for (unsigned i = 0; i < n->addrs.n; i++)
		if (!netlink_addrs_has(now, n->addrs.ip[i]))
			n->host->addr(n->host->ctx, n->addrs.ip[i], false);
	for (unsigned i = 0; i < now->n; i++) {
		if (netlink_addrs_has(&n->addrs, now->ip[i]))
			continue;
		n->host->addr(n->host->ctx, now->ip[i], true);
		changed = true;
	}
	n->addrs = *now;
	return changed;
}

/* Prefixes that never lead to another host, whatever the routes say. */
static int net_add_fixed(struct route_table *t)
{
	static const char *const fixed[] = {"127.0.0.0/8", "0.0.0.0/8", "224.0.0.0/4",
					    "240.0.0.0/4", "::/128",	"::1/128",
					    "ff00::/8"};
	struct route r;
	unsigned plen;
	int err;

	for (unsigned i = 0; i < ARRAY_SIZE(fixed); i++) {
		r = (struct route){.type = DMM_ROUTE_OTHER, .local_table = true};
		if (addr_parse_prefix(fixed[i], r.dst, &plen) < 0)
			continue;
		r.plen = (uint8_t)plen;
		r.v4 = addr_is_v4(r.dst);
		err = route_table_add(t, &r);
		if (err < 0)
			return err;
	}
	/* Who has an IPv6 default route only must not send IPv4 through it: in the v4-mapped form
	 * it would match. The worst metric: a real default route wins. */
	r = (struct route){.type = DMM_ROUTE_OTHER, .plen = 96, .v4 = true, .metric = UINT32_MAX};
	addr_from_v4(r.dst, 0);
	return route_table_add(t, &r);
}

/* What the kernel would send from towards a prefix, by the example of its first host that is not
 * we; of a default route that of a public address. */
static void net_route_source(void *ctx, const struct route *r, dmm_u8 ret[16])
{
	struct net *n = ctx;
	dmm_u8 dst[16];

	memcpy(dst, r->dst, 16);
	if (r->v4 && r->plen == 96)
		dst[12] = 1;
	else if (r->plen == 0)
		dst[0] = 0x20;
	for (unsigned i = 1; r->plen < 128 && (i == 1 || netlink_addrs_has(&n->addrs, dst)); i++)
		dst[15] = (dmm_u8)(r->dst[15] + i);
	if (netlink_get_source(&n->nl, dst, ret) < 0)
		memset(ret, 0, 16);
}

static void net_publish(void *ctx, const struct route *r, const dmm_u8 source[16])
{
	struct net *n = ctx;

	n->host->route(n->host->ctx, r->dst, r->plen, r->type, source);
}

static void net_route(void *ctx, const struct route *r, bool add)
{
	struct net *n = ctx;

	if (add)
		sources_publish(&n->sources, r);
	else
		n->host->route(n->host->ctx, r->dst, r->plen, -1, r->source);
}

/* Tell what is other than before; with all, everything that is there: sources may be others. */
static void net_set_routes(struct net *n, const struct route_table *now, bool all)
{
	struct route_table none, was = n->routes;

	n->routes = *now;
	if (n->host->route) {
		sources_table(&n->sources, &was, &n->routes);
		route_table_diff(&was, &n->routes, net_route, n);
		route_table_init(&none);
		if (all)
			route_table_diff(&none, &n->routes, net_route, n);
	}
	route_table_fini(&was);
	n->routes_gen++;
}

static int net_sync(struct net *n, uint64_t now)
{
	struct netlink_addrs addrs = {0};
	struct route_table routes;
	struct netlink_link link;
	int r;

	n->dirty = 0;
	r = netlink_get_link(&n->nl, &link);
	if (r == -ENODEV && n->have_link) {
		n->host->gone(n->host->ctx, "interface is gone");
		return 0;
	}
	if (r < 0)
		return r;
	if (n->have_link && n->link.xdp && !link.xdp)
		n->host->gone(n->host->ctx, "somebody removed the XDP program");
	if (link.super_max > NET_SUPER_MAX && n->link.super_max <= NET_SUPER_MAX)
		log_warn("%s has BIG TCP: packets of more than 64 KiB cannot be carried; set its "
			 "gso_max_size and gro_max_size, and those of a veth's peer, to %u",
			 link.name, NET_SUPER_MAX);
	n->link = link;
	n->have_link = true;
	if (link.up)
		n->down_since = 0;
	else if (!n->down_since)
		n->down_since = now;
	route_table_init(&routes);
	r = net_add_fixed(&routes);
	if (!r)
		r = netlink_get_routes(&n->nl, &routes);
	if (!r)
		r = netlink_get_addrs(&n->nl, &addrs);
	if (r < 0) {
		route_table_fini(&routes);
		return r;
	}
	route_table_seal(&routes);
	net_set_routes(n, &routes, net_set_addrs(n, &addrs) && n->routes.n);
	return 0;
}

/* Dropped by the neighbour table. */
static void net_unreachable(void *ctx, const uint8_t *pkt, size_t len)
{
	struct net *n = ctx;

	(*n->host->neigh_fail)++;
	n->host->unreachable(n->host->ctx, pkt, len);
}

static void net_send(void *ctx, const uint8_t dst[6], const struct iovec *iov, unsigned k,
		     struct frame_offload left)
{
	struct net *n = ctx;

	n->host->send(n->host->ctx, dst, iov, k, left);
}

static void net_neigh_event(void *ctx, const dmm_u8 ip[16], uint16_t state, const uint8_t *mac)
{
	struct net *n = ctx;

	neigh_update(&n->neighs, ip, state, mac);
}

int net_open(struct net **ret, int ifindex, const struct net_host *h, uint64_t now)
{
	struct net *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return -ENOMEM;
	n->host = h;
	n->neigh_host = (struct neigh_host){n, net_ask, net_send, net_unreachable};
	n->tick_due = now + TICK_NS;
	n->sources = (struct sources){.ctx = n, .ask = net_route_source, .publish = net_publish};
	neigh_init(&n->neighs, &n->neigh_host);
	route_table_init(&n->routes);
	/* Events first: what changes while everything is read is not lost. */
	r = netlink_open(&n->nl, ifindex);
	if (!r)
		r = net_sync(n, now);
	if (!r && !n->link.ethernet) {
		log_err("%s: not an Ethernet interface", n->link.name);
		net_close(n);
		return -ENOTSUP;
	}
	if (!r)
		r = netlink_get_neighs(&n->nl, net_neigh_event, n);
	if (r < 0) {
		log_err("cannot read interface %d by netlink: %s", ifindex, strerror(-r));
		net_close(n);
		return r;
	}
	if (!n->link.up)
		log_warn("%s is down: nothing is reachable through it", n->link.name);
	*ret = n;
	return 0;
}

void net_close(struct net *n)
{
	netlink_close(&n->nl);
	neigh_fini(&n->neighs);
	route_table_fini(&n->routes);
	free(n);
}

int net_fd(const struct net *n)
{
	return mnl_socket_get_fd(n->nl.events);
}

void net_process(struct net *n, uint64_t now)
{
	int r = netlink_events(&n->nl, net_neigh_event, n);

	if (r < 0) { /* events were lost */
		log_warn("netlink: %s; reading everything again", strerror(-r));
		netlink_get_neighs(&n->nl, net_neigh_event, n);
	}
	if (r && !n->dirty)
		n->dirty = now + SETTLE_NS;
}

void net_poll(struct net *n, uint64_t now, uint64_t *ret_next)
{
	int r;

	if (n->dirty && now >= n->dirty) {
		r = net_sync(n, now);
		if (r < 0) {
			log_warn("netlink: %s; trying again", strerror(-r));
			n->dirty = now + TICK_NS;
		}
	}
	if (now >= n->tick_due) {
		n->tick_due = now - now % TICK_NS + TICK_NS;
		neigh_expire(&n->neighs, now);
		if (n->down_since && now - n->down_since > NET_DOWN_NS)
			n->host->gone(n->host->ctx, "interface stays down");
	}
	if (sources_wait(&n->sources))
		sources_turn(&n->sources);
	*ret_next = sources_wait(&n->sources) ? now : n->tick_due;
	if (n->dirty)
		*ret_next = MIN(*ret_next, n->dirty);
}

const uint8_t *net_mac(const struct net *n)
{
	return n->link.mac;
}

uint32_t net_mtu(const struct net *n)
{
	return n->link.mtu;
}

bool net_is_local(const struct net *n, const dmm_u8 ip[16])
{
	return netlink_addrs_has(&n->addrs, ip);
}

const dmm_u8 *net_addr(const struct net *n, unsigned i)
{
	return i < n->addrs.n ? n->addrs.ip[i] : NULL;
}

int net_source(struct net *n, const dmm_u8 dst[16], dmm_u8 ret[16])
{
	const struct route *r = route_lookup(&n->routes, dst);

	if (!r || r->type != DMM_ROUTE_VIA)
		return -ENETUNREACH;
	if (r->has_source && r->v4) {
		memcpy(ret, r->source, 16);
		return 0;
	}
	return netlink_get_source(&n->nl, dst, ret);
}

/* The neighbour that packets to dst go to. */
static struct neigh *net_next_hop(struct net *n, const dmm_u8 dst[16])
{
	struct dst_cache *c;
	const struct route *r;
	uint32_t h;

	memcpy(&h, dst + 12, 4);
	c = &n->cache[(h ^ h >> 9 ^ h >> 18 ^ h >> 24) % CACHE];
	if (c->routes == n->routes_gen && c->neighs == n->neighs.generation &&
	    !memcmp(c->ip, dst, 16))
		return c->neigh;
	r = route_lookup(&n->routes, dst);
	if (!r || r->type != DMM_ROUTE_VIA)
		return NULL;
	c->neigh = neigh_get(&n->neighs, r->has_gateway ? r->gateway : dst);
	if (!c->neigh)
		return NULL;
	memcpy(c->ip, dst, 16);
	c->routes = n->routes_gen;
	c->neighs = n->neighs.generation;
	return c->neigh;
}

void net_output(struct net *n, const struct iovec *iov, unsigned k, struct frame_offload left,
		uint64_t now)
{
	const uint8_t *ip = iov[0].iov_base;
	struct neigh *e;
	dmm_u8 dst[16];
	uint32_t v4;
	int r;

	if (ip[0] >> 4 == 6) {
		memcpy(dst, ip + 24, 16);
	} else {
		memcpy(&v4, ip + 16, 4);
		addr_from_v4(dst, v4);
	}
	e = net_next_hop(n, dst);
	if (!e) {
		(*n->host->no_route)++;
		return;
	}
	r = neigh_output(&n->neighs, e, iov, k, left, now);
	if (!r)
		(*n->host->neigh_miss)++;
	else if (r < 0)
		(*n->host->neigh_fail)++;
}
