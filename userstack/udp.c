// SPDX-License-Identifier: Apache-2.0
/*
 * UDP of applications: one carrier, a socket of ours, for each flow.
 *
 * Carriers are made in advance and offered; the programs give one to a UDP socket that connects,
 * and tell of it before that call returns. What the application sends comes to the carrier, from
 * the address and port that are the flow's own end towards the far side, too. What comes from
 * anywhere else is no business of the flow. Boundaries are kept; nothing is queued here: what finds
 * no room is dropped, as UDP may, and counted.
 *
 * The port is not known yet if the kernel chooses it within connect(): then it is asked for, or
 * told by what the application sends.
 *
 * The application may send at any moment, and a socket that connects is not found for as long as
 * its addresses change: such a datagram would be refused. So no carrier connects. When the flow
 * begins, a second socket of the carrier's port and the application's address does; what does not
 * find that one meanwhile still finds the first. Later it takes all, and the first is closed. If no
 * second one is to be had, the first connects nevertheless.
 */
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "userstack/net/frame.h"
#include "userstack/stack.h"

#define UDP_MAX 65536 /* longer than any datagram */
#define UDP_BATCH 32
#define UDP_ROUND 8		  /* batches of one flow before the others have their turn */
#define UDP_DRAIN 1024		  /* batches: more than a full queue */
#define UDP_SWEEP 512		  /* flows that are looked at in each tick */
#define UDP_QUEUE (2u << 20)	  /* bytes that wait at a carrier */
#define UDP_SETTLED 1000000000ULL /* ns after a flow has begun, its first socket is idle */
#define UDP_SETTLE 16		  /* flows of a turn whose first socket is closed */
#define UDP_TRIES 64		  /* ports for a carrier */
#define UDP_BUCKETS 4096
#define UDP_CONTROL (CMSG_SPACE(sizeof(uint32_t)) + CMSG_SPACE(sizeof(int)))

/* A socket of the carrier's port. */
struct udp_end {
	struct watch watch;
	struct udp_flow *flow;
	uint32_t lost; /* datagrams that it had no room for, ever */
};

struct udp_flow {
	struct udp_end first; /* that was offered; until the other one has settled */
	struct udp_end own;   /* connected to the application's; if there is a pair */
	uint16_t port;	      /* the carrier's */
	struct dmm_flow rec;
	struct dmm_addr remote, local; /* local.port 0: not known yet */
	struct engine_udp *pair;       /* NULL: not yet */
	uint64_t begun;		       /* when the port was known */
	bool moved;		       /* when looked at last, its socket was connected elsewhere */
	uint64_t looked;	       /* when */
	struct udp_flow *next;	       /* in a bucket, if there is a pair */
	TAILQ_ENTRY(udp_flow) entry;   /* in flows, or dead */
	TAILQ_ENTRY(udp_flow) settle;  /* in settling, if there are both ends */
};
TAILQ_HEAD(udp_list, udp_flow);

struct udp {
	int family;	   /* of carriers: AF_INET6, which take both, or AF_INET */
	int free[UDP_MAX]; /* descriptors of carriers that wait for a flow, by port, + 1; 0: none */
	struct udp_flow *by_port[UDP_MAX];
	struct udp_flow *bucket[UDP_BUCKETS]; /* by addresses */
	struct udp_list flows, dead;
	struct udp_list settling; /* the one that began first first */
	/* of one batch */
	struct mmsghdr msg[UDP_BATCH];
	struct iovec iov[UDP_BATCH];
	struct sockaddr_storage from[UDP_BATCH];
	_Alignas(struct cmsghdr) char control[UDP_BATCH][UDP_CONTROL];
	uint8_t data[UDP_BATCH][UDP_MAX];
};

/* ---- carriers that wait ---- */

static socklen_t udp_sockaddr(const struct udp *u, const struct dmm_addr *a,
			      struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *sa = (struct sockaddr_in6 *)ret;

	if (u->family == AF_INET)
		return addr_to_sockaddr(a, ret);
	*sa = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(a->port)};
	memcpy(&sa->sin6_addr, a->ip, 16);
	return sizeof(*sa);
}

static int udp_share(int fd, int on)
{
	return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
}

/* At an address; port 0: one that the kernel chooses. Shared: where a socket of ours is. */
static int udp_socket(struct stack *s, const struct dmm_addr *at, bool shared)
{
	const struct udp *u = s->udp;
	int fd = socket(u->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
	int on = 1, off = 0, queue = UDP_QUEUE, r;
	struct sockaddr_storage sa;
	socklen_t len = udp_sockaddr(u, at, &sa);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &queue, sizeof(queue));
	setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof(on));
	setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof(on));
	setsockopt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof(on));
	r = hold_udp_attach(s->hold, fd, !shared);
	if (!r && ((u->family == AF_INET6 &&
		    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0) ||
		   (shared && udp_share(fd, 1) < 0) || bind(fd, (struct sockaddr *)&sa, len) < 0))
		r = -errno;
	if (!r)
		return fd;
	close(fd);
	return r;
}

/* On all addresses; *port 0: one that the kernel chooses, and returned there. */
static int udp_carrier(struct stack *s, uint16_t *port)
{
	struct dmm_addr a = {.port = *port};
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	int fd, r;

	if (s->udp->family == AF_INET)
		addr_parse_ip("0.0.0.0", a.ip);
	fd = udp_socket(s, &a, false);
	if (fd < 0)
		return fd;
	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	addr_from_sockaddr((struct sockaddr *)&sa, &a);
	*port = a.port;
	return fd;
}

/* At a port that no application's socket is connected to since its instance died: what that sends
 * is to be refused, and a carrier would take it. */
static int udp_unused(struct stack *s, uint16_t *ret_port)
{
	int fd;

	for (unsigned i = 0; i < UDP_TRIES; i++) {
		*ret_port = 0;
		fd = udp_carrier(s, ret_port);
		if (fd < 0 || !hold_udp_known(s->hold, *ret_port))
			return fd;
		close(fd);
	}
	return -EADDRINUSE;
}

/* As many as there shall be. */
static int udp_offer(struct stack *s)
{
	struct udp *u = s->udp;
	uint16_t port;
	int fd, r;

	while (hold_udp_wants(s->hold)) {
		fd = udp_unused(s, &port);
		if (fd < 0)
			return fd;
		r = hold_udp_offer(s->hold, fd, port);
		if (r < 0) {
			close(fd);
			return r == -EAGAIN ? 0 : r;
		}
		u->free[port] = fd + 1;
	}
	return 0;
}

/* ---- flows ---- */

static struct udp_flow **udp_bucket(struct udp *u, const struct dmm_addr *remote,
				    const struct dmm_addr *local)
{
	return &u->bucket[path_hash(remote, local) % UDP_BUCKETS];
}

/* Of several, which SO_REUSEPORT allows, the one that came last. */
static struct udp_flow *udp_find(struct udp *u, const struct dmm_addr *remote,
				 const struct dmm_addr *local)
{
	struct udp_flow *f = *udp_bucket(u, remote, local);

	while (f && (memcmp(&f->remote, remote, sizeof(*remote)) ||
		     memcmp(&f->local, local, sizeof(*local))))
		f = f->next;
	return f;
}

static void udp_unpair(struct stack *s, struct udp_flow *f)
{
	struct udp_flow **at = udp_bucket(s->udp, &f->remote, &f->local);

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	if (!udp_find(s->udp, &f->remote, &f->local))
		xdp_udp_set(s->xdp, s->thread, &f->remote, &f->local, false);
	s->c.engine->udp->close(f->pair);
	f->pair = NULL;
}

static void end_close(struct udp_end *e)
{
	close_ptr(&e->watch.fd);
	e->watch = (struct watch){-1, NULL};
}

static void udp_end(struct stack *s, struct udp_flow *f)
{
	if (f->pair)
		udp_unpair(s, f);
	s->udp->by_port[f->port] = NULL;
	if (f->first.watch.fd >= 0 && f->own.watch.fd >= 0)
		TAILQ_REMOVE(&s->udp->settling, f, settle);
	end_close(&f->first); /* what the application still sends is refused */
	end_close(&f->own);
	TAILQ_REMOVE(&s->udp->flows, f, entry);
	TAILQ_INSERT_TAIL(&s->udp->dead, f, entry);
}

/* Nobody takes it over. */
static void udp_forget(struct stack *s, struct udp_flow *f)
{
	hold_udp_forget(s->hold, f->port);
	udp_end(s, f);
}

/* ---- from the application ---- */

static void udp_prepare(struct udp *u)
{
	for (unsigned i = 0; i < UDP_BATCH; i++) {
		u->iov[i] = (struct iovec){u->data[i], UDP_MAX};
		u->msg[i].msg_hdr = (struct msghdr){
			.msg_name = &u->from[i],
			.msg_namelen = sizeof(u->from[i]),
			.msg_iov = &u->iov[i],
			.msg_iovlen = 1,
			.msg_control = u->control[i],
			.msg_controllen = sizeof(u->control[i]),
		};
	}
}

/* SO_RXQ_OVFL tells how many were lost since the socket is there. */
static void udp_count_lost(struct stack *s, struct udp_end *e, const struct cmsghdr *c)
{
	uint32_t lost;

	memcpy(&lost, CMSG_DATA(c), sizeof(lost));
	STACK_COUNT(s, UDP_DROPS, lost - e->lost);
	e->lost = lost;
}

/* Returns the type of service that the application gave the datagram, or its socket; as IP_TOS it
 * has one byte, as IPV6_TCLASS an int. */
static uint8_t udp_control(struct stack *s, struct udp_end *e, struct msghdr *h)
{
	int tclass = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL)
			udp_count_lost(s, e, c);
		else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS)
			tclass = *CMSG_DATA(c);
		else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS)
			memcpy(&tclass, CMSG_DATA(c), sizeof(tclass));
	}
	return (uint8_t)tclass;
}

static void udp_take(struct stack *s, struct udp_end *e, struct mmsghdr *m)
{
	struct udp_flow *f = e->flow;
	uint8_t tos = udp_control(s, e, &m->msg_hdr);
	struct dmm_addr from = {0};
	int r;

	addr_from_sockaddr(m->msg_hdr.msg_name, &from);
	if (!f->pair || memcmp(&from, &f->local, sizeof(from))) {
		STACK_COUNT(s, CARRIER_STRANGER, 1);
		return;
	}
	r = s->c.engine->udp->send(f->pair, m->msg_hdr.msg_iov->iov_base, m->msg_len, tos, s->now);
	STACK_COUNT(s, UDP_TX, !r);
	STACK_COUNT(s, UDP_DROPS, !!r);
	STACK_COUNT(s, APP_RX_BYTES, m->msg_len);
}

/* False: nothing is left. */
static bool udp_read(struct stack *s, struct udp_end *e)
{
	struct udp *u = s->udp;
	int n;

	udp_prepare(u);
	n = recvmmsg(e->watch.fd, u->msg, UDP_BATCH, MSG_DONTWAIT, NULL);
	if (n < 0) /* an error that the application's end gave is told once */
		return errno == ECONNREFUSED;
	for (int i = 0; i < n; i++)
		udp_take(s, e, &u->msg[i]);
	return n == UDP_BATCH;
}

static void end_drain(struct stack *s, struct udp_end *e)
{
	for (unsigned i = 0; e->watch.fd >= 0 && i < UDP_DRAIN && udp_read(s, e); i++)
		;
}

static void udp_read_all(struct stack *s, struct udp_flow *f)
{
	end_drain(s, &f->first);
	end_drain(s, &f->own);
}

/* ---- the beginning ---- */

static int end_connect(struct stack *s, const struct udp_end *e, const struct dmm_addr *to)
{
	struct sockaddr_storage sa;
	socklen_t len = udp_sockaddr(s->udp, to, &sa);

	return connect(e->watch.fd, (struct sockaddr *)&sa, len) < 0 ? -errno : 0;
}

/* The socket that only the application's reaches. Nobody but the first is to share the port: it is
 * only while this one is bound that they may. */
static int udp_connect(struct stack *s, struct udp_flow *f)
{
	struct dmm_addr at = f->local;
	int fd, r;

	at.port = f->port;
	if (udp_share(f->first.watch.fd, 1) < 0)
		return -errno;
	fd = udp_socket(s, &at, true);
	udp_share(f->first.watch.fd, 0);
	if (fd < 0)
		return fd;
	udp_share(fd, 0);
	f->own = (struct udp_end){.watch = {fd, f->first.watch.cb}, .flow = f};
	r = end_connect(s, &f->own, &f->local);
	return r < 0 ? r : stack_watch(s, &f->own.watch, EPOLLIN);
}

/* left: the application's socket has gone meanwhile, and sends nothing any more. */
static int udp_reach(struct stack *s, struct udp_flow *f, bool left)
{
	int r = left ? -ENOTCONN : udp_connect(s, f);

	if (!r) {
		TAILQ_INSERT_TAIL(&s->udp->settling, f, settle);
		return 0;
	}
	/* without descriptors, or memory: better one that may refuse at first */
	end_close(&f->own);
	return end_connect(s, &f->first, &f->local);
}

/* The port is known: from now on packets are ours. */
static int udp_begin(struct stack *s, struct udp_flow *f, bool left)
{
	struct udp_flow **at, *before = udp_find(s->udp, &f->remote, &f->local);
	int r;

	if (before && before->rec.cookie == f->rec.cookie) /* it connects there again */
		udp_read_all(s, before);
	f->begun = s->now;
	r = udp_reach(s, f, left);
	if (!r)
		r = s->c.engine->udp->open(s->engine, &f->remote, &f->local, f, &f->pair);
	if (r < 0)
		return r;
	at = udp_bucket(s->udp, &f->remote, &f->local);
	f->next = *at;
	*at = f;
	r = xdp_udp_set(s->xdp, s->thread, &f->remote, &f->local, true);
	if (r < 0) {
		udp_unpair(s, f);
		return r;
	}
	end_drain(s, &f->first); /* before what came to the other one */
	return 0;
}

static void udp_failed(struct stack *s, struct udp_flow *f, int r)
{
	STACK_COUNT(s, UDP_FAIL, 1);
	if (stack_may_complain(s))
		log_warn("cannot serve a UDP socket: %s; it is refused", strerror(-r));
	udp_forget(s, f);
}

/* Learn the application's port, if it can be known by now. False: the flow is over. */
static bool udp_learn(struct stack *s, struct udp_flow *f, struct udp_seen *ret)
{
	int r = hold_udp_port(s->hold, f->port, ret);

	if (r > 0 && !f->pair) {
		f->local.port = (uint16_t)r;
		r = udp_begin(s, f, ret->left);
	}
	if (r >= 0 || f->pair) /* what fails once is asked again */
		return true;
	udp_failed(s, f, r);
	return false;
}

static void udp_readable(struct stack *s, struct watch *w, uint32_t events)
{
	struct udp_end *e = (struct udp_end *)w;
	struct udp_seen seen;

	(void)events;
	if (!e->flow->pair && !udp_learn(s, e->flow, &seen))
		return;
	for (unsigned i = 0; i < UDP_ROUND && udp_read(s, e); i++)
		;
}

/* fd: the carrier's; it is closed if that fails. */
static void udp_start(struct stack *s, uint16_t port, int fd, const struct dmm_flow *rec)
{
	struct udp_flow *f = calloc(1, sizeof(*f));
	struct udp_seen seen;
	int r;

	STACK_COUNT(s, UDP_FLOWS, 1);
	if (!f) {
		STACK_COUNT(s, UDP_FAIL, 1);
		hold_udp_forget(s->hold, port);
		close(fd);
		return;
	}
	f->first = (struct udp_end){.watch = {fd, udp_readable}, .flow = f};
	f->own.watch.fd = -1;
	f->port = port;
	f->rec = *rec;
	f->remote = rec->remote;
	f->local = rec->local;
	f->remote.pad = f->local.pad = 0;
	s->udp->by_port[port] = f;
	TAILQ_INSERT_TAIL(&s->udp->flows, f, entry);
	r = stack_watch(s, &f->first.watch, EPOLLIN);
	if (r < 0)
		udp_failed(s, f, r);
	else
		udp_learn(s, f, &seen);
}

static void udp_event_open(struct stack *s, const struct dmm_event *ev)
{
	uint16_t port = ev->tuple.dst.port;
	int fd = s->udp->free[port] - 1;

	s->udp->free[port] = 0;
	udp_start(s, port, fd, &ev->flow);
}

/* What was sent before goes first. */
static void udp_drain(struct stack *s, struct udp_flow *f)
{
	struct udp_seen seen;

	if (!f->pair && !udp_learn(s, f, &seen))
		return;
	udp_read_all(s, f);
	udp_forget(s, f);
}

/* A look at the application's socket. */
static void udp_look(struct stack *s, struct udp_flow *f)
{
	struct udp_seen seen = {0};
	bool moved = f->moved;

	if (!udp_learn(s, f, &seen))
		return;
	f->moved = seen.moved;
	if (seen.left || (moved && f->moved))
		udp_drain(s, f);
}

/* It is closed, or calls connect(), which may have failed: or has not come that far yet. */
static void udp_leaves(struct stack *s, struct udp_flow *f, bool closed)
{
	f->moved = true;
	if (closed)
		udp_drain(s, f);
	else
		udp_look(s, f);
}

void udp_event(struct stack *s, const struct dmm_event *ev)
{
	uint16_t port = ev->tuple.dst.port;
	struct udp_flow *f;
	int r;

	if (!s->udp)
		return;
	f = s->udp->by_port[port];
	if (ev->type == DMM_EV_UDP_CLOSE) {
		if (f && f->rec.cookie == ev->flow.cookie)
			udp_leaves(s, f, ev->flow.gated);
		return;
	}
	if (f || !s->udp->free[port])
		return;
	r = udp_offer(s); /* the next application may be about to ask for it */
	if (r < 0 && stack_may_complain(s))
		log_warn("cannot make another UDP carrier: %s", strerror(-r));
	udp_event_open(s, ev);
}

/* ---- to the application ---- */

void udp_datagram(void *ctx, void *user, const void *data, size_t len)
{
	struct stack *s = ctx;
	struct udp_flow *f = user;
	int fd = f->own.watch.fd >= 0 ? f->own.watch.fd : f->first.watch.fd;
	ssize_t r;

	r = send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (r < 0 && errno == ECONNREFUSED) /* of the one before */
		r = send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	STACK_COUNT(s, UDP_RX, r >= 0);
	STACK_COUNT(s, UDP_DROPS, r < 0);
	STACK_COUNT(s, APP_TX_BYTES, r > 0 ? (dmm_u64)r : 0);
}

void udp_error(struct stack *s, const struct frame *fr)
{
	struct udp_flow *f = s->udp ? udp_find(s->udp, &fr->remote, &fr->local) : NULL;
	struct dmm_addr via;

	if (!f)
		return;
	if (fr->mtu) {
		s->c.engine->udp->too_big(f->pair, fr->mtu, s->now);
		return;
	}
	via = f->local;
	via.port = f->port;
	if (inject_icmp(&s->inject, &f->local, &via, fr->icmp_type, fr->icmp_code) == 0)
		STACK_COUNT(s, UDP_ERRORS, 1);
}

/* ---- life ---- */

/* Flows whose end no event tells are found here, some at a time: one was lost, or the socket was
 * disconnected (AF_UNSPEC), or went elsewhere just after it was looked at. That is believed when it
 * is seen twice: connect() takes a moment. */
void udp_tick(struct stack *s)
{
	struct udp_flow *f;

	if (!s->udp)
		return;
	for (unsigned i = 0; i < UDP_SWEEP && (f = TAILQ_FIRST(&s->udp->flows)); i++) {
		if (f->looked == s->now)
			break;
		f->looked = s->now;
		TAILQ_REMOVE(&s->udp->flows, f, entry);
		TAILQ_INSERT_TAIL(&s->udp->flows, f, entry);
		udp_look(s, f);
	}
	udp_offer(s);
}

bool udp_settle(struct stack *s)
{
	struct udp_flow *f;

	for (unsigned i = 0; s->udp && (f = TAILQ_FIRST(&s->udp->settling)); i++) {
		if (s->now - f->begun < UDP_SETTLED)
			break;
		if (i == UDP_SETTLE)
			return true;
		end_drain(s, &f->first);
		end_close(&f->first);
		TAILQ_REMOVE(&s->udp->settling, f, settle);
	}
	return false;
}

void udp_reap(struct stack *s)
{
	struct udp_flow *f;

	while (s->udp && (f = TAILQ_FIRST(&s->udp->dead))) {
		TAILQ_REMOVE(&s->udp->dead, f, entry);
		free(f);
	}
}

/* What the instance before has left: the socket may still be connected to that port. It may be of
 * another interface. */
static bool udp_adopt(uint16_t port, const struct dmm_flow *rec, void *ctx)
{
	struct stack *s = ctx;
	struct udp_seen seen;
	dmm_u8 source[16];
	int fd;

	if (!s->udp || hold_udp_port(s->hold, port, &seen) < 0 || seen.left)
		return false;
	if (!net_is_local(s->net, rec->local.ip) || net_source(s->net, rec->remote.ip, source) < 0)
		return false;
	fd = udp_carrier(s, &port);
	if (fd < 0)
		return false;
	udp_start(s, port, fd, rec);
	return true;
}

int udp_open(struct stack *s)
{
	struct udp *u;
	int fd, r;

	if (!s->thread)
		hold_udp_clear(s->hold);
	if (!s->c.engine->udp) {
		hold_udp_flows(s->hold, udp_adopt, s);
		return 0;
	}
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	s->udp = u;
	TAILQ_INIT(&u->flows);
	TAILQ_INIT(&u->dead);
	TAILQ_INIT(&u->settling);
	fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	u->family = fd < 0 ? AF_INET : AF_INET6;
	close_ptr(&fd);
	hold_udp_flows(s->hold, udp_adopt, s);
	r = udp_offer(s);
	if (r < 0) {
		log_warn("cannot make UDP carriers: %s; UDP stays on the kernel", strerror(-r));
		udp_close(s);
	}
	return 0;
}

/* The next instance takes over what is connected. */
void udp_close(struct stack *s)
{
	struct udp_flow *f;

	if (!s->udp)
		return;
	while ((f = TAILQ_FIRST(&s->udp->flows)))
		udp_end(s, f);
	udp_reap(s);
	hold_udp_withdraw(s->hold);
	for (unsigned i = 0; i < UDP_MAX; i++)
		if (s->udp->free[i])
			close(s->udp->free[i] - 1);
	free(s->udp);
	s->udp = NULL;
}
