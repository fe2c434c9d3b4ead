// SPDX-License-Identifier: Apache-2.0
/*
 * The client role: carrier listeners, held SYNs and what becomes of them.
 *
 * A SYN comes as an event and the filter has dropped it. When the engine's connection stands, the
 * SYN is sent again, marked; the handshake completes inside that call and accept() gives our end,
 * found again by the application's address. Every SYN retransmission is another event: it does
 * nothing while an attempt is under way, and starts a new one after a silent failure, so that
 * connect() lasts as long as the application's own kernel tries.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "userstack/net/frame.h"
#include "userstack/stack.h"

#define BACKLOG 4096
#define ACCEPT_ROUND 256
#define PORT_TRIES 8
#define FORGET_NS 70000000000ULL     /* SYN retransmissions are at most 64 s apart */
#define ACCEPT_WAIT_NS 3000000000ULL /* after a release: the application has given up */

static void carrier_hold(struct stack *s, struct flow *f)
{
	flow_add_ends(s, f);
	f->held = true;
	TAILQ_INSERT_TAIL(&s->held, f, held_entry);
}

void carrier_unhold(struct stack *s, struct flow *f)
{
	f->held = false;
	TAILQ_REMOVE(&s->held, f, held_entry);
}

/* Tell the application that connect() failed. */
static void carrier_refuse(struct stack *s, struct flow *f, int error)
{
	int r = inject_error(&s->inject, &f->tuple, &f->syn, error);

	STACK_COUNT(s, CONN_FAIL, 1);
	if (r < 0 && stack_may_complain(s))
		log_err("cannot report a failed connect(): %s", strerror(-r));
	flow_drop_engine(s, f, false);
	flow_kill(s, f, strerror(error));
}

/* Say nothing: the application's kernel tries again, or gives up by its own clock. */
static void carrier_silence(struct stack *s, struct flow *f)
{
	flow_drop_engine(s, f, false);
	flow_set_state(s, f, FLOW_SILENT);
}

/* The application gave up. */
static void carrier_abandon(struct stack *s, struct flow *f)
{
	if (f->state == FLOW_CONNECTING)
		STACK_COUNT(s, CONN_FAIL, 1);
	flow_kill(s, f, "the application gave up");
}

/* The engine's end of the connection: as the application bound it, else as the kernel would. */
static int carrier_local(struct stack *s, struct flow *f, struct dmm_addr *ret)
{
	int r;

	*ret = f->rec.local;
	ret->pad = 0;
	if (addr_is_any(ret->ip)) {
		r = net_source(s->net, f->rec.remote.ip, ret->ip);
		if (r < 0)
			return r;
	} else if (!net_is_local(s->net, ret->ip)) {
		return -EHOSTUNREACH;
	}
	if (!ret->port)
		ret->port = owned_choose_port(s, &f->rec.remote, ret);
	return ret->port ? 0 : -EAGAIN;
}

/* The pair of addresses that the engine uses. A port that we choose may be taken, as one that an
 * application has bound belongs to another thread. */
static int carrier_pair(struct stack *s, struct flow *f, const struct dmm_addr *remote,
			struct dmm_addr *local, struct owned **ret)
{
	int r = -EADDRINUSE;

	for (unsigned try = 0; r == -EADDRINUSE && try < PORT_TRIES; try++) {
		r = carrier_local(s, f, local);
		if (!r)
			r = owned_new(s, remote, local, ret);
		if (f->rec.local.port)
			break;
	}
	return r;
}

static void carrier_dial(struct stack *s, struct flow *f)
{
	struct dmm_addr local, remote = f->rec.remote;
	struct owned *o;
	int r;

	remote.pad = 0;
	STACK_COUNT(s, CONN_OPEN, 1);
	flow_set_state(s, f, FLOW_CONNECTING);
	r = carrier_pair(s, f, &remote, &local, &o);
	if (r == -ENETUNREACH || r == -EHOSTUNREACH) {
		carrier_refuse(s, f, -r);
		return;
	}
	if (r < 0)
		goto later;
	o->flow = f;
	f->owned = o;
	r = options_connect(s, o, f);
	if (r < 0) {
		owned_free(s, o);
		goto later;
	}
	f->rec.congestion = options_in_use(s, o->conn);
	r = hold_set_local(s->hold, &f->rec, &local);
	if (!r)
		return;
	if (r == -ENOENT) {
		carrier_abandon(s, f);
		return;
	}
later:
	STACK_COUNT(s, CONN_FAIL, 1);
	if (stack_may_complain(s))
		log_warn("cannot begin a connection: %s; waiting for the application's next SYN",
			 strerror(-r));
	carrier_silence(s, f);
}

static void carrier_release(struct stack *s, struct flow *f)
{
	int r = inject_release(&s->inject, &f->tuple, &f->syn);

	if (r < 0 && stack_may_complain(s))
		log_err("cannot let a SYN go: %s", strerror(-r));
}

void carrier_engine_event(struct stack *s, struct flow *f, unsigned events, int error)
{
	if (events & ENGINE_EOF)
		f->far_eof = true;
	if (events & ENGINE_CONNECTED && f->state == FLOW_CONNECTING) {
		STACK_COUNT(s, CONN_OK, 1);
		flow_set_state(s, f, FLOW_RELEASED);
		carrier_release(s, f);
	}
	if (!(events & ENGINE_FAILED))
		return;
	if (f->state == FLOW_RELEASED) {
		f->lost = true; /* what it received before is still delivered */
		f->failed = error;
	} else if (error == ETIMEDOUT) {
		STACK_COUNT(s, CONN_FAIL, 1);
		carrier_silence(s, f);
	} else {
		carrier_refuse(s, f, error);
	}
}

static void carrier_accepted(struct stack *s, int fd, const struct sockaddr *sa, uint16_t port)
{
	struct dmm_addr peer = {0};
	struct flow *f;

	f = addr_from_sockaddr(sa, &peer) < 0 ? NULL : flow_held(s, &peer, port);
	if (!f || f->state != FLOW_RELEASED || s->stopping) {
		STACK_COUNT(s, CARRIER_STRANGER, 1);
		close(fd); /* resets: the listener's SO_LINGER is inherited */
		return;
	}
	carrier_unhold(s, f);
	f->watch.fd = fd;
	tos_give(s, f);
	relay_start(s, f);
}

/* Without descriptors a connection stays in the queue, and epoll reports it again and again: take
 * it with the one kept for this, and reset it. */
static void carrier_shed(struct stack *s, int listener)
{
	int fd;

	if (stack_may_complain(s))
		log_err("out of file descriptors: raise LimitNOFILE; resetting a connection");
	close_ptr(&s->spare_fd);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close_ptr(&fd);
	s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void carrier_accept(struct stack *s, const struct carrier_listener *l)
{
	struct sockaddr_storage sa;
	socklen_t len;
	int fd;

	for (unsigned i = 0; i < ACCEPT_ROUND; i++) {
		len = sizeof(sa);
		fd = accept4(l->watch.fd, (struct sockaddr *)&sa, &len,
			     SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			carrier_accepted(s, fd, (struct sockaddr *)&sa, l->port);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE)
			carrier_shed(s, l->watch.fd);
		else if (errno != ECONNABORTED && errno != EINTR)
			return;
	}
}

static void carrier_watch(struct stack *s, struct watch *w, uint32_t events)
{
	(void)events;
	carrier_accept(s, (const struct carrier_listener *)w);
}

/* The listener that the SYN was for; NULL: none of ours. */
static const struct carrier_listener *carrier_of(const struct stack *s, const struct dmm_tuple *t)
{
	const struct carrier_listener *l = addr_is_v4(t->src.ip) ? s->carrier4 : s->carrier6;

	for (unsigned i = 0; i < DMM_CARRIER_PORTS; i++)
		if (l[i].port == t->dst.port)
			return &l[i];
	return NULL;
}

static void carrier_syn(struct stack *s, const struct dmm_event *ev)
{
	struct flow *f = flow_held(s, &ev->tuple.src, ev->tuple.dst.port);
	const struct carrier_listener *l;

	if (!ev->known) {
		inject_reset(&s->inject, &ev->tuple, ev->isn);
		return;
	}
	/* Another connect() from a port whose last one was let go: it completed, or nothing came of
	 * it. Take it from the accept queue before this one can be mistaken for it. */
	if (f && f->syn.isn != ev->isn && f->state == FLOW_RELEASED &&
	    (l = carrier_of(s, &ev->tuple))) {
		carrier_accept(s, l);
		f = flow_held(s, &ev->tuple.src, ev->tuple.dst.port);
	}
	if (f && f->syn.isn == ev->isn) { /* a retransmission */
		f->seen = s->now;
		tos_set(s, f, frame_tos(ev->hdr));
		if (f->state == FLOW_SILENT)
			carrier_dial(s, f);
		else if (f->state == FLOW_RELEASED)
			carrier_release(s, f);
		return;
	}
	if (f) /* the port is in use again: that connect() is over */
		flow_kill(s, f, "the application's port is in use again");
	if (s->stopping || s->flows_n >= STACK_FLOWS_MAX / s->inst->threads)
		return;
	f = flow_new(s, FLOW_CONNECTING);
	if (!f)
		return;
	f->rec = ev->flow;
	f->tuple = ev->tuple;
	f->seen = s->now;
	inject_copy(&f->syn, ev);
	tos_set(s, f, frame_tos(f->syn.hdr));
	carrier_hold(s, f);
	carrier_dial(s, f);
}

/* The kernel's own stack would answer the far side with a reset from now on. */
static void carrier_left(struct stack *s, const struct dmm_event *ev)
{
	struct flow *f = flow_held(s, &ev->tuple.src, ev->tuple.dst.port);

	if (f && f->rec.cookie == ev->flow.cookie && f->rec.since_ns == ev->flow.since_ns)
		carrier_abandon(s, f);
}

static void carrier_event(const struct dmm_event *ev, void *ctx)
{
	struct stack *s = ctx;

	switch (ev->type) {
	case DMM_EV_SYN:
		carrier_syn(s, ev);
		break;
	case DMM_EV_LEFT:
		carrier_left(s, ev);
		break;
	case DMM_EV_LISTEN:
		listen_add(s, &ev->listener);
		break;
	case DMM_EV_UNLISTEN:
		listen_del(s, &ev->listener);
		break;
	case DMM_EV_UDP_OPEN:
	case DMM_EV_UDP_CLOSE:
		udp_event(s, ev);
		break;
	case DMM_EV_TOS:
		tos_event(s, ev);
		break;
	case DMM_EV_KEEPALIVE:
		keepalive_event(s, ev);
		break;
	case DMM_EV_AGAIN: /* what fails the application's kernel sends, later */
		if (inject_again(&s->inject, (const struct dmm_again *)ev) < 0)
			STACK_COUNT(s, AGAIN_FAIL, 1);
		break;
	}
}

void carrier_events(struct stack *s)
{
	int r;

	s->tos_told = hold_tos_told(s->hold);
	r = hold_poll(s->hold, carrier_event, s);
	if (r < 0 && stack_may_complain(s))
		log_err("event ring: %s", strerror(-r));
}

static int carrier_listen(struct stack *s, struct carrier_listener *l, const char *ip)
{
	struct dmm_addr a = {0};
	struct sockaddr_storage sa;
	struct watch *w = &l->watch;
	socklen_t len;
	int r;

	addr_parse_ip(ip, a.ip);
	len = addr_to_sockaddr(&a, &sa);
	w->cb = carrier_watch;
	w->fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	if (w->fd < 0)
		return -errno;
	if (bind(w->fd, (struct sockaddr *)&sa, len) < 0)
		goto fail;
	relay_prepare(w->fd);
	r = hold_own(s->hold, w->fd);
	if (!r)
		r = hold_attach(s->hold, w->fd);
	if (r < 0) {
		errno = -r;
		goto fail;
	}
	if (listen(w->fd, BACKLOG) < 0 || getsockname(w->fd, (struct sockaddr *)&sa, &len) < 0)
		goto fail;
	addr_from_sockaddr((struct sockaddr *)&sa, &a);
	l->port = a.port;
	r = stack_watch(s, w, EPOLLIN);
	if (!r)
		return 0;
	errno = -r;
fail:
	r = -errno;
	close_ptr(&w->fd);
	w->fd = -1;
	return r;
}

static int carrier_listen_all(struct stack *s, struct carrier_listener l[DMM_CARRIER_PORTS],
			      const char *ip, volatile dmm_u16 ret_ports[DMM_CARRIER_PORTS])
{
	int r = 0;

	for (unsigned i = s->thread; i < DMM_CARRIER_PORTS && !r; i += s->inst->threads)
		r = carrier_listen(s, &l[i], ip);
	for (unsigned i = s->thread; i < DMM_CARRIER_PORTS; i += s->inst->threads)
		ret_ports[i] = r ? 0 : l[i].port;
	return r;
}

int carrier_open(struct stack *s)
{
	int r;

	r = inject_open(&s->inject);
	if (r < 0)
		return r;
	r = carrier_listen_all(s, s->carrier4, "127.0.0.1", s->rt->port4);
	if (r < 0) {
		log_err("cannot listen on 127.0.0.1: %s%s", strerror(-r),
			r == -EADDRNOTAVAIL ? "; is the interface lo up?" : "");
		return r;
	}
	r = s->inject.raw6 < 0 ? -EAFNOSUPPORT
			       : carrier_listen_all(s, s->carrier6, "::1", s->rt->port6);
	if (r < 0)
		log_warn("cannot listen on ::1: %s; IPv6 connections stay on the kernel",
			 strerror(-r));
	return 0;
}

void carrier_close(struct stack *s)
{
	for (unsigned i = 0; i < DMM_CARRIER_PORTS; i++) {
		close_ptr(&s->carrier4[i].watch.fd);
		close_ptr(&s->carrier6[i].watch.fd);
	}
	inject_close(&s->inject);
}

/* Nothing comes from a socket that is closed while it connects; its record goes. Found here if
 * there was no room to tell it. */
static bool carrier_given_up(struct stack *s, const struct flow *f)
{
	return f->state == FLOW_CONNECTING && f->owned &&
	       hold_set_local(s->hold, &f->rec, &f->owned->local) == -ENOENT;
}

void carrier_tick(struct stack *s)
{
	struct flow *f, *next;

	for (f = TAILQ_FIRST(&s->held); f; f = next) {
		next = TAILQ_NEXT(f, held_entry);
		if (carrier_given_up(s, f))
			carrier_abandon(s, f);
		else if (f->state == FLOW_RELEASED ? s->now - f->since > ACCEPT_WAIT_NS
						   : s->now - f->seen > FORGET_NS)
			flow_kill(s, f, "nothing heard of the application");
	}
}
