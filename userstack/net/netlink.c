// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "userstack/net/netlink.h"

#define BUF_SIZE 65536
#define EVENT_BUF (1 << 20)

/* Of a dump that was interrupted by a change. */
#define DUMP_TRIES 5

bool netlink_addrs_has(const struct netlink_addrs *a, const dmm_u8 ip[16])
{
	for (unsigned i = 0; i < a->n; i++)
		if (!memcmp(a->ip[i], ip, 16))
			return true;
	return false;
}

static int open_one(struct mnl_socket **ret, unsigned groups)
{
	struct mnl_socket *s = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	int r;

	if (!s)
		return -errno;
	if (mnl_socket_bind(s, groups, MNL_SOCKET_AUTOPID) < 0) {
		r = -errno;
		mnl_socket_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

int netlink_open(struct netlink *nl, int ifindex)
{
	struct timeval limit = {.tv_sec = 2};
	int size = EVENT_BUF, r;

	*nl = (struct netlink){.ifindex = ifindex};
	r = open_one(&nl->events, RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_IFADDR |
					  RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR |
					  RTMGRP_IPV6_ROUTE);
	if (!r)
		r = open_one(&nl->requests, 0);
	if (r < 0) {
		netlink_close(nl);
		return r;
	}
	setsockopt(mnl_socket_get_fd(nl->events), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	setsockopt(mnl_socket_get_fd(nl->requests), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return 0;
}

void netlink_close(struct netlink *nl)
{
	if (nl->events)
		mnl_socket_close(nl->events);
	if (nl->requests)
		mnl_socket_close(nl->requests);
	nl->events = nl->requests = NULL;
}

/* Attributes of a message by type. */
struct attrs {
	const struct nlattr *tb[64];
};

static int attr_cb(const struct nlattr *a, void *data)
{
	struct attrs *at = data;
	unsigned type = mnl_attr_get_type(a);

	if (type < ARRAY_SIZE(at->tb))
		at->tb[type] = a;
	return MNL_CB_OK;
}

static void parse_attrs(const struct nlmsghdr *h, unsigned offset, struct attrs *ret)
{
	*ret = (struct attrs){0};
	mnl_attr_parse(h, offset, attr_cb, ret);
}

/* An address attribute; false if it is not there or of another size. */
static bool attr_ip(const struct nlattr *a, int family, dmm_u8 ret[16])
{
	uint32_t v4;

	if (!a || mnl_attr_get_payload_len(a) != (family == AF_INET ? 4 : 16))
		return false;
	if (family == AF_INET) {
		memcpy(&v4, mnl_attr_get_payload(a), 4);
		addr_from_v4(ret, v4);
	} else {
		memcpy(ret, mnl_attr_get_payload(a), 16);
	}
	return true;
}

static uint32_t attr_u32(const struct nlattr *a, uint32_t def)
{
	return a && mnl_attr_get_payload_len(a) >= 4 ? mnl_attr_get_u32(a) : def;
}

static void put_ip(struct nlmsghdr *h, uint16_t type, const dmm_u8 ip[16])
{
	if (addr_is_v4(ip))
		mnl_attr_put(h, type, 4, ip + 12);
	else
		mnl_attr_put(h, type, 16, ip);
}

/* True if the end of a dump is among these messages. */
static bool has_done(const char *buf, size_t len)
{
	const struct nlmsghdr *h = (const void *)buf;
	int left = (int)len;

	for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left))
		if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
			return true;
	return false;
}

/* Send h and give every answer to cb. A dump is read to its end, or the next would be refused. */
static int talk(struct netlink *nl, struct nlmsghdr *h, mnl_cb_t cb, void *data)
{
	char buf[BUF_SIZE];
	int r, err = 0;
	ssize_t n;

	h->nlmsg_seq = ++nl->seq;
	if (mnl_socket_sendto(nl->requests, h, h->nlmsg_len) < 0)
		return -errno;
	for (;;) {
		n = mnl_socket_recvfrom(nl->requests, buf, sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		r = mnl_cb_run(buf, (size_t)n, nl->seq, mnl_socket_get_portid(nl->requests), cb,
			       data);
		if (r < 0 && errno == EPROTO) /* the answer to an earlier request */
			continue;
		if (r < 0)
			err = -errno;
		if (!(h->nlmsg_flags & NLM_F_DUMP) || r == MNL_CB_STOP || has_done(buf, (size_t)n))
			return err;
	}
}

/* -EINTR: interrupted by a change, what cb saw is not consistent. */
static int dump(struct netlink *nl, uint16_t type, uint8_t family, size_t hdr_len, mnl_cb_t cb,
		void *data)
{
	char buf[256] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	uint8_t *hdr;

	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	hdr = mnl_nlmsg_put_extra_header(h, hdr_len);
	hdr[0] = family; /* of every rtnetlink header the first member */
	return talk(nl, h, cb, data);
}

static int xdp_cb(const struct nlattr *a, void *data)
{
	struct netlink_link *l = data;

	if (mnl_attr_get_type(a) == IFLA_XDP_ATTACHED && mnl_attr_get_payload_len(a) == 1)
		l->xdp = mnl_attr_get_u8(a) != XDP_ATTACHED_NONE;
	return MNL_CB_OK;
}

static int link_cb(const struct nlmsghdr *h, void *data)
{
	const struct ifinfomsg *i = mnl_nlmsg_get_payload(h);
	struct netlink_link *l = data;
	struct attrs a;

	if (h->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	parse_attrs(h, sizeof(*i), &a);
	*l = (struct netlink_link){.up = i->ifi_flags & IFF_UP,
				   .ethernet = i->ifi_type == ARPHRD_ETHER,
				   .mtu = attr_u32(a.tb[IFLA_MTU], 1500),
				   .super_max = MAX(attr_u32(a.tb[IFLA_GSO_MAX_SIZE], 0),
						    attr_u32(a.tb[IFLA_GRO_MAX_SIZE], 0))};
	if (a.tb[IFLA_IFNAME])
		strncpy(l->name, mnl_attr_get_str(a.tb[IFLA_IFNAME]), sizeof(l->name) - 1);
	if (a.tb[IFLA_ADDRESS] && mnl_attr_get_payload_len(a.tb[IFLA_ADDRESS]) == 6)
		memcpy(l->mac, mnl_attr_get_payload(a.tb[IFLA_ADDRESS]), 6);
	else
		l->ethernet = false;
	if (a.tb[IFLA_XDP])
		mnl_attr_parse_nested(a.tb[IFLA_XDP], xdp_cb, l);
	return MNL_CB_OK;
}

int netlink_get_link(struct netlink *nl, struct netlink_link *ret)
{
	char buf[256] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct ifinfomsg *i;

	h->nlmsg_type = RTM_GETLINK;
	h->nlmsg_flags = NLM_F_REQUEST;
	i = mnl_nlmsg_put_extra_header(h, sizeof(*i));
	i->ifi_index = nl->ifindex;
	return talk(nl, h, link_cb, ret);
}

struct addr_dump {
	int ifindex;
	struct netlink_addrs *ret;
};

static int addr_cb(const struct nlmsghdr *h, void *data)
{
	const struct ifaddrmsg *i = mnl_nlmsg_get_payload(h);
	struct addr_dump *d = data;
	struct attrs a;
	uint32_t flags;

	if (h->nlmsg_type != RTM_NEWADDR || (int)i->ifa_index != d->ifindex)
		return MNL_CB_OK;
	parse_attrs(h, sizeof(*i), &a);
	flags = attr_u32(a.tb[IFA_FLAGS], i->ifa_flags);
	if (i->ifa_family == AF_INET6 && (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) &&
	    !(flags & IFA_F_OPTIMISTIC))
		return MNL_CB_OK;
	if (d->ret->n < NETLINK_ADDRS &&
	    attr_ip(a.tb[IFA_LOCAL] ? a.tb[IFA_LOCAL] : a.tb[IFA_ADDRESS], i->ifa_family,
		    d->ret->ip[d->ret->n]))
		d->ret->n++;
	return MNL_CB_OK;
}

int netlink_get_addrs(struct netlink *nl, struct netlink_addrs *ret)
{
	struct addr_dump d = {nl->ifindex, ret};
	int r = -EINTR;

	for (unsigned i = 0; r == -EINTR && i < DUMP_TRIES; i++) {
		ret->n = 0;
		r = dump(nl, RTM_GETADDR, AF_UNSPEC, sizeof(struct ifaddrmsg), addr_cb, &d);
	}
	return r;
}

/* The next hop of a way through the interface. Always true. */
static bool hop(struct route *r, int family, const struct nlattr *gateway, const struct nlattr *via)
{
	const struct rtvia *v;

	r->has_gateway = attr_ip(gateway, family, r->gateway);
	if (!r->has_gateway && via && mnl_attr_get_payload_len(via) >= sizeof(*v)) {
		v = mnl_attr_get_payload(via);
		if (v->rtvia_family == AF_INET6 &&
		    mnl_attr_get_payload_len(via) >= sizeof(*v) + 16) {
			memcpy(r->gateway, v->rtvia_addr, 16);
			r->has_gateway = true;
		}
	}
	return true;
}

/* Of several next hops, the first through the interface. */
static bool multipath(struct route *r, int family, const struct nlattr *mp, int ifindex)
{
	const struct rtnexthop *nh = mnl_attr_get_payload(mp);
	size_t left = mnl_attr_get_payload_len(mp);
	struct attrs a;

	for (; left >= sizeof(*nh) && nh->rtnh_len >= sizeof(*nh) && nh->rtnh_len <= left;
	     left -= MIN(left, (size_t)RTNH_ALIGN(nh->rtnh_len)), nh = RTNH_NEXT(nh)) {
		if (nh->rtnh_ifindex != ifindex || (nh->rtnh_flags & RTNH_F_DEAD))
			continue;
		a = (struct attrs){0};
		mnl_attr_parse_payload(RTNH_DATA(nh), nh->rtnh_len - sizeof(*nh), attr_cb, &a);
		return hop(r, family, a.tb[RTA_GATEWAY], a.tb[RTA_VIA]);
	}
	return false;
}

struct route_dump {
	int ifindex;
	struct route_table *t;
};

static int route_cb(const struct nlmsghdr *h, void *data)
{
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);
	struct route r = {.type = DMM_ROUTE_OTHER};
	struct route_dump *d = data;
	uint32_t table;
	struct attrs a;
	bool ours;

	if (h->nlmsg_type != RTM_NEWROUTE || (m->rtm_flags & (RTM_F_CLONED | RTNH_F_DEAD)) ||
	    (m->rtm_family != AF_INET && m->rtm_family != AF_INET6))
		return MNL_CB_OK;
	if (m->rtm_src_len || m->rtm_tos) /* not for everybody */
		return MNL_CB_OK;
	parse_attrs(h, sizeof(*m), &a);
	table = attr_u32(a.tb[RTA_TABLE], m->rtm_table);
	if (table != RT_TABLE_MAIN && table != RT_TABLE_LOCAL && table != RT_TABLE_DEFAULT)
		return MNL_CB_OK;
	r.v4 = m->rtm_family == AF_INET;
	r.plen = (uint8_t)(m->rtm_dst_len + (r.v4 ? 96 : 0));
	r.local_table = table == RT_TABLE_LOCAL;
	/* The default table is asked last. */
	r.metric = table == RT_TABLE_DEFAULT ? UINT32_MAX - 1 : attr_u32(a.tb[RTA_PRIORITY], 0);
	if (r.v4)
		addr_from_v4(r.dst, 0);
	if (m->rtm_dst_len && !attr_ip(a.tb[RTA_DST], m->rtm_family, r.dst))
		return MNL_CB_OK;
	r.has_source = attr_ip(a.tb[RTA_PREFSRC], m->rtm_family, r.source);
	ours = (int)attr_u32(a.tb[RTA_OIF], 0) == d->ifindex &&
	       hop(&r, m->rtm_family, a.tb[RTA_GATEWAY], a.tb[RTA_VIA]);
	if (!ours && a.tb[RTA_MULTIPATH])
		ours = multipath(&r, m->rtm_family, a.tb[RTA_MULTIPATH], d->ifindex);
	if (ours && m->rtm_type == RTN_UNICAST)
		r.type = DMM_ROUTE_VIA;
	if (ours && m->rtm_type == RTN_LOCAL)
		r.type = DMM_ROUTE_LOCAL;
	if (route_table_add(d->t, &r) < 0) {
		errno = ENOMEM;
		return MNL_CB_ERROR;
	}
	return MNL_CB_OK;
}

int netlink_get_routes(struct netlink *nl, struct route_table *t)
{
	struct route_dump d = {nl->ifindex, t};
	unsigned before;
	int r = -EINTR;

	for (unsigned i = 0; i < 2; i++) {
		before = t->n;
		for (unsigned try = 0; try < DUMP_TRIES; try++) {
			t->n = before;
			r = dump(nl, RTM_GETROUTE, i ? AF_INET6 : AF_INET, sizeof(struct rtmsg),
				 route_cb, &d);
			if (r != -EINTR)
				break;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

struct neigh_dump {
	int ifindex;
	netlink_neigh_fn cb;
	void *ctx;
};

static int neigh_cb(const struct nlmsghdr *h, void *data)
{
	const struct ndmsg *m = mnl_nlmsg_get_payload(h);
	struct neigh_dump *d = data;
	const uint8_t *mac = NULL;
	struct attrs a;
	dmm_u8 ip[16];

	if ((h->nlmsg_type != RTM_NEWNEIGH && h->nlmsg_type != RTM_DELNEIGH) ||
	    m->ndm_ifindex != d->ifindex || (m->ndm_family != AF_INET && m->ndm_family != AF_INET6))
		return MNL_CB_OK;
	parse_attrs(h, sizeof(*m), &a);
	if (!attr_ip(a.tb[NDA_DST], m->ndm_family, ip))
		return MNL_CB_OK;
	if (a.tb[NDA_LLADDR] && mnl_attr_get_payload_len(a.tb[NDA_LLADDR]) == 6)
		mac = mnl_attr_get_payload(a.tb[NDA_LLADDR]);
	d->cb(d->ctx, ip, h->nlmsg_type == RTM_NEWNEIGH ? m->ndm_state : 0, mac);
	return MNL_CB_OK;
}

int netlink_get_neighs(struct netlink *nl, netlink_neigh_fn cb, void *ctx)
{
	struct neigh_dump d = {nl->ifindex, cb, ctx};

	return dump(nl, RTM_GETNEIGH, AF_UNSPEC, sizeof(struct ndmsg), neigh_cb, &d);
}

struct source_answer {
	int ifindex;
	bool found;
	dmm_u8 *ret;
};

static int source_cb(const struct nlmsghdr *h, void *data)
{
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);
	struct source_answer *s = data;
	struct attrs a;

	parse_attrs(h, sizeof(*m), &a);
	if (h->nlmsg_type == RTM_NEWROUTE && m->rtm_type == RTN_UNICAST &&
	    (int)attr_u32(a.tb[RTA_OIF], 0) == s->ifindex)
		s->found = attr_ip(a.tb[RTA_PREFSRC], m->rtm_family, s->ret);
	return MNL_CB_OK;
}

int netlink_get_source(struct netlink *nl, const dmm_u8 dst[16], dmm_u8 ret[16])
{
	struct source_answer s = {.ifindex = nl->ifindex, .ret = ret};
	char buf[256] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct rtmsg *m;
	int r;

	h->nlmsg_type = RTM_GETROUTE;
	h->nlmsg_flags = NLM_F_REQUEST;
	m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
	m->rtm_family = addr_is_v4(dst) ? AF_INET : AF_INET6;
	m->rtm_dst_len = addr_is_v4(dst) ? 32 : 128;
	put_ip(h, RTA_DST, dst);
	/* Else the kernel does not know which link a link-local address is on. */
	mnl_attr_put_u32(h, RTA_OIF, (uint32_t)nl->ifindex);
	r = talk(nl, h, source_cb, &s);
	if (r < 0)
		return r;
	return s.found ? 0 : -ENETUNREACH;
}

void netlink_neigh_use(struct netlink *nl, const dmm_u8 ip[16])
{
	char buf[256] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct ndmsg *m;

	h->nlmsg_type = RTM_NEWNEIGH;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE;
	h->nlmsg_seq = ++nl->seq;
	m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
	m->ndm_family = addr_is_v4(ip) ? AF_INET : AF_INET6;
	m->ndm_ifindex = nl->ifindex;
	m->ndm_state = NUD_NONE;
	m->ndm_flags = NTF_USE;
	put_ip(h, NDA_DST, ip);
	/* A failure shows as a neighbour that stays unknown. Its report is skipped by talk(). */
	(void)mnl_socket_sendto(nl->requests, h, h->nlmsg_len);
}

struct event_scan {
	struct neigh_dump neigh;
	int changed;
};

static int event_cb(const struct nlmsghdr *h, void *data)
{
	struct event_scan *s = data;
	const struct ifinfomsg *l;

	switch (h->nlmsg_type) {
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		return neigh_cb(h, &s->neigh);
	case RTM_NEWLINK:
	case RTM_DELLINK:
		l = mnl_nlmsg_get_payload(h);
		s->changed |= l->ifi_index == s->neigh.ifindex;
		break;
	case RTM_NEWADDR:
	case RTM_DELADDR:
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		s->changed = 1;
		break;
	}
	return MNL_CB_OK;
}

int netlink_events(struct netlink *nl, netlink_neigh_fn cb, void *ctx)
{
	struct event_scan s = {{nl->ifindex, cb, ctx}, 0};
	char buf[BUF_SIZE];
	ssize_t n;

	for (;;) {
		n = recv(mnl_socket_get_fd(nl->events), buf, sizeof(buf), MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? s.changed : -errno;
		mnl_cb_run(buf, (size_t)n, 0, 0, event_cb, &s);
	}
}
