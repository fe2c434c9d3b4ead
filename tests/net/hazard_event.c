// SPDX-License-Identifier: Apache-2.0
/* Hazards of waiting: readiness, signals, urgent data, low-water marks, resets. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "tests/net/hazard.h"

/* What poll() or a level-triggered epoll says now, or within ms. Errors are -1. */
static int ready(struct hz_ctx *c, int ep, int ms)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN | POLLRDHUP | POLLPRI};
	struct epoll_event e = {0};
	int r;

	r = ep < 0 ? poll(&p, 1, ms) : epoll_wait(ep, &e, 1, ms);
	if (r < 0)
		return hz_errno(c, ep < 0 ? "poll" : "epoll_wait");
	if (r == 0)
		return 0;
	return ep < 0 ? p.revents : (int)e.events; /* the same bits */
}

static int expect(struct hz_ctx *c, int ep, int ms, int set, int clear, const char *when)
{
	int r = ready(c, ep, ms);

	if (r < 0)
		return -1;
	if ((r & set) != set || (r & clear))
		return hz_fail(c, "events %#x %s", r, when);
	return 0;
}

/* The kernel counts a FIN as readable before it marks the end, and poll() looks without the lock:
 * once, it may say POLLIN alone. */
static int expect_end(struct hz_ctx *c, int ep)
{
	int r = ready(c, ep, HZ_WAIT_MS);

	if (r < 0)
		return -1;
	if (r == POLLIN)
		hz_sleep_us(1000);
	return expect(c, ep, HZ_WAIT_MS, POLLIN | POLLRDHUP, POLLHUP | POLLERR, "at the end");
}

static int level(struct hz_ctx *c, int ep)
{
	size_t n = hz_range(&c->shared, 2, 30000);

	if (expect(c, ep, 0, 0, POLLIN | POLLRDHUP | POLLHUP | POLLERR, "before any data") < 0 ||
	    hz_go(c) < 0 || hz_queued(c, n) < 0)
		return -1;
	if (expect(c, ep, 0, POLLIN, POLLRDHUP | POLLHUP | POLLERR, "with data") < 0 ||
	    hz_recv_stream(c, n - 1) < 0)
		return -1;
	if (expect(c, ep, 0, POLLIN, POLLRDHUP | POLLHUP, "with one byte left") < 0 ||
	    hz_recv_stream(c, 1) < 0)
		return -1;
	if (expect(c, ep, 0, 0, POLLIN | POLLRDHUP | POLLHUP, "with all data read") < 0 ||
	    hz_go(c) < 0)
		return -1;
	if (expect_end(c, ep) < 0)
		return -1;
	return hz_recv_eof(c);
}

static int poll_subject(struct hz_ctx *c)
{
	return level(c, -1);
}

static int epoll_with(struct hz_ctx *c, uint32_t events, int (*body)(struct hz_ctx *c, int ep))
{
	struct epoll_event e = {.events = events};
	int r, ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e) < 0)
		return hz_errno(c, "epoll");
	r = body(c, ep);
	close(ep);
	return r;
}

static int epoll_lt_subject(struct hz_ctx *c)
{
	return epoll_with(c, EPOLLIN | EPOLLRDHUP | EPOLLPRI, level);
}

static int level_peer(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 2, 30000);

	if (hz_wait_go(c) < 0 || hz_send_stream(c, n) < 0 || hz_wait_go(c) < 0)
		return -1;
	return shutdown(c->fd, SHUT_WR) < 0 ? hz_errno(c, "shutdown") : hz_recv_eof(c);
}

static int edge(struct hz_ctx *c, int ep)
{
	size_t a = hz_range(&c->shared, 1, 1000), b = hz_range(&c->shared, 1, 1000);
	char byte;

	if (expect(c, ep, 0, EPOLLOUT, EPOLLIN | EPOLLHUP, "at first") < 0 ||
	    expect(c, ep, 0, 0, ~0, "twice for the same") < 0 || hz_go(c) < 0 ||
	    hz_queued(c, a) < 0)
		return -1;
	if (expect(c, ep, HZ_WAIT_MS, EPOLLIN, EPOLLRDHUP, "with data") < 0 ||
	    expect(c, ep, 1, 0, ~0, "with no new data") < 0 || hz_go(c) < 0 ||
	    hz_queued(c, a + b) < 0)
		return -1;
	if (expect(c, ep, HZ_WAIT_MS, EPOLLIN, EPOLLRDHUP, "with more data") < 0 ||
	    hz_recv_stream(c, a + b) < 0)
		return -1;
	if (recv(c->fd, &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN)
		return hz_fail(c, "no EAGAIN when all is read");
	if (hz_go(c) < 0)
		return -1;
	if (expect(c, ep, HZ_WAIT_MS, EPOLLIN | EPOLLRDHUP, EPOLLHUP, "at the end") < 0)
		return -1;
	return hz_recv_eof(c);
}

static int epoll_et_subject(struct hz_ctx *c)
{
	return epoll_with(c, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, edge);
}

static int edge_peer(struct hz_ctx *c)
{
	size_t a = hz_range(&c->shared, 1, 1000), b = hz_range(&c->shared, 1, 1000);

	if (hz_wait_go(c) < 0 || hz_send_stream(c, a) < 0 || hz_wait_go(c) < 0 ||
	    hz_send_stream(c, b) < 0 || hz_wait_go(c) < 0)
		return -1;
	return shutdown(c->fd, SHUT_WR) < 0 ? hz_errno(c, "shutdown") : hz_recv_eof(c);
}

/* As an event loop does: both directions until EAGAIN, then sleep until the next edge. */
static int edge_bulk(struct hz_ctx *c, int ep)
{
	size_t out = hz_size(c), in = hz_size(c), have = 0, sent = 0;
	uint8_t obuf[HZ_CHUNK], ibuf[HZ_CHUNK];
	struct epoll_event e;

	while (out || in) {
		ssize_t n = 0, m = 0;

		if (out && sent == have) {
			have = hz_range(&c->own, 1, out < HZ_CHUNK ? out : HZ_CHUNK);
			sent = 0;
			hz_fill(&c->tx, obuf, have);
		}
		if (out)
			n = send(c->fd, obuf + sent, have - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			return hz_errno(c, "send");
		if (n > 0)
			sent += n, out -= n;
		if (in)
			m = recv(c->fd, ibuf, in < HZ_CHUNK ? in : HZ_CHUNK, MSG_DONTWAIT);
		if (m < 0 && errno != EAGAIN)
			return hz_errno(c, "recv");
		if (in && m == 0)
			return hz_fail(c, "end of stream, %zu bytes early", in);
		if (m > 0 && hz_check(c, ibuf, m) < 0)
			return -1;
		if (m > 0)
			in -= m;
		if (n > 0 || m > 0 || !(out || in))
			continue;
		if (epoll_wait(ep, &e, 1, HZ_WAIT_MS) == 0)
			return hz_fail(c, "no edge with %zu to send, %zu to receive", out, in);
	}
	return 0;
}

static int epoll_bulk_subject(struct hz_ctx *c)
{
	return epoll_with(c, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, edge_bulk);
}

static int bulk_peer(struct hz_ctx *c)
{
	size_t in = hz_size(c), out = hz_size(c);

	return hz_duplex(c, out, in);
}

/* A helper thread for what happens while the subject sleeps in a call. */
struct helper {
	struct hz_ctx *c;
	pthread_t subject;
	int signal;
	volatile int stop;
};

static void *helper_signal(void *arg)
{
	struct helper *h = arg;

	for (int i = 0; h->signal == SIGUSR1 ? i < 3 : !h->stop; i++) {
		hz_sleep_us(1000);
		pthread_kill(h->subject, h->signal);
	}
	if (h->signal == SIGUSR1) {
		hz_sleep_us(1000);
		hz_go(h->c); /* now data may come */
	}
	return NULL;
}

static void *helper_shutdown(void *arg)
{
	struct helper *h = arg;

	hz_sleep_us(2000);
	shutdown(h->c->fd, SHUT_RD);
	return NULL;
}

/* SIGUSR1 is installed with SA_RESTART: recv() goes on. */
static int signal_restart(struct hz_ctx *c)
{
	struct helper h = {.c = c, .subject = pthread_self(), .signal = SIGUSR1};
	size_t n = hz_range(&c->shared, 1, 4096);
	uint8_t buf[4096];
	pthread_t t;
	ssize_t r;

	if (pthread_create(&t, NULL, helper_signal, &h))
		return hz_fail(c, "no thread");
	r = recv(c->fd, buf, n, 0);
	if (r <= 0)
		hz_fail(c, "recv with SA_RESTART: %zd %s", r, r < 0 ? strerrorname_np(errno) : "");
	pthread_join(t, NULL);
	if (r <= 0 || hz_check(c, buf, r) < 0)
		return -1;
	return hz_recv_stream(c, n - r);
}

/* SIGUSR2 is installed without: recv() gives EINTR and nothing is lost. */
static int signal_eintr(struct hz_ctx *c)
{
	struct helper h = {.c = c, .subject = pthread_self(), .signal = SIGUSR2};
	size_t n = hz_range(&c->shared, 1, 4096);
	pthread_t t;
	char byte;
	ssize_t r;

	if (pthread_create(&t, NULL, helper_signal, &h))
		return hz_fail(c, "no thread");
	r = recv(c->fd, &byte, 1, 0);
	if (r >= 0 || errno != EINTR)
		hz_fail(c, "recv without SA_RESTART: %zd %s", r,
			r < 0 ? strerrorname_np(errno) : "");
	h.stop = 1;
	pthread_join(t, NULL);
	if (c->why[0] || hz_go(c) < 0)
		return -1;
	return hz_recv_stream(c, n);
}

static int signal_peer(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 1, 4096);

	return hz_wait_go(c) < 0 ? -1 : hz_send_stream(c, n);
}

static int shutdown_rd(struct hz_ctx *c)
{
	struct helper h = {.c = c};
	pthread_t t;
	char byte;
	ssize_t r;

	if (pthread_create(&t, NULL, helper_shutdown, &h))
		return hz_fail(c, "no thread");
	r = recv(c->fd, &byte, 1, 0);
	if (r != 0)
		hz_fail(c, "recv at shutdown(SHUT_RD): %zd %s", r,
			r < 0 ? strerrorname_np(errno) : "");
	pthread_join(t, NULL);
	return c->why[0] ? -1 : hz_go(c);
}

static int oob_send(struct hz_ctx *c)
{
	size_t before = hz_range(&c->shared, 1, 1000), after = hz_range(&c->shared, 1, 1000);

	if (hz_wait_go(c) < 0 || hz_send_stream(c, before) < 0)
		return -1;
	if (send(c->fd, "X", 1, MSG_OOB | MSG_NOSIGNAL) != 1)
		return hz_errno(c, "send(MSG_OOB)");
	return hz_send_stream(c, after) < 0 ? -1 : hz_wait_go(c);
}

static int oob_at_mark(struct hz_ctx *c, size_t before)
{
	int mark = -1;

	if (hz_poll(c, POLLPRI) < 0 || hz_recv_stream(c, before) < 0)
		return -1;
	if (ioctl(c->fd, SIOCATMARK, &mark) < 0)
		return hz_errno(c, "SIOCATMARK");
	return mark == 1 ? 0 : hz_fail(c, "SIOCATMARK is %d at the mark", mark);
}

static int oob_recv(struct hz_ctx *c)
{
	size_t before = hz_range(&c->shared, 1, 1000), after = hz_range(&c->shared, 1, 1000);
	char byte = 0;
	ssize_t r;

	if (hz_go(c) < 0 || oob_at_mark(c, before) < 0)
		return -1;
	for (int i = 0; i < 1000; i++) { /* the mark may be known before its byte is here */
		r = recv(c->fd, &byte, 1, MSG_OOB);
		if (r >= 0 || errno != EAGAIN)
			break;
		hz_sleep_us(1000);
	}
	if (r != 1 || byte != 'X')
		return hz_errno(c, "recv(MSG_OOB)");
	return hz_recv_stream(c, after) < 0 ? -1 : hz_go(c);
}

static int oob_inline(struct hz_ctx *c)
{
	size_t before = hz_range(&c->shared, 1, 1000), after = hz_range(&c->shared, 1, 1000);
	int one = 1;
	char byte = 0;

	if (setsockopt(c->fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one)) < 0)
		return hz_errno(c, "SO_OOBINLINE");
	if (hz_go(c) < 0 || oob_at_mark(c, before) < 0 || hz_read(c, &byte, 1) < 0)
		return -1;
	if (byte != 'X')
		return hz_fail(c, "the byte at the mark is %#x", byte);
	return hz_recv_stream(c, after) < 0 ? -1 : hz_go(c);
}

static void prepare_rcvlowat(int fd)
{
	int low = 1000;

	setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low));
}

static int rcvlowat_subject(struct hz_ctx *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};
	int low = 1000;
	uint8_t buf[4096];
	ssize_t r;

	prepare_rcvlowat(c->fd);
	if (hz_go(c) < 0 || hz_queued(c, low - 1) < 0)
		return -1;
	if (poll(&p, 1, 0) != 0)
		return hz_fail(c, "readable with %d bytes and SO_RCVLOWAT %d", low - 1, low);
	if (hz_go(c) < 0)
		return -1;
	r = hz_recv(c, buf, sizeof(buf)); /* non-blocking takes what is there */
	if (r <= 0)
		return hz_fail(c, "end of stream");
	if (hz_check(c, buf, r) < 0)
		return -1;
	if (!c->nonblock && r < low)
		return hz_fail(c, "recv gave %zd bytes with SO_RCVLOWAT %d", r, low);
	low = 1;
	setsockopt(c->fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low));
	return hz_recv_stream(c, 1999 - r);
}

static int rcvlowat_peer(struct hz_ctx *c)
{
	if (hz_wait_go(c) < 0 || hz_send_stream(c, 999) < 0 || hz_wait_go(c) < 0)
		return -1;
	hz_sleep_us(hz_range(&c->own, 0, 2000));
	/* recv() that took 999 bytes is woken by the next 1000, not by the next one */
	return hz_send_stream(c, 1000) < 0 ? -1 : hz_recv_eof(c);
}

static int reset_close(struct hz_ctx *c)
{
	struct linger l = {.l_onoff = 1};

	if (hz_wait_go(c) < 0)
		return -1;
	hz_sleep_us(hz_range(&c->own, 0, 500));
	if (setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) < 0)
		return hz_errno(c, "SO_LINGER");
	close(c->fd);
	c->fd = -1;
	return 0;
}

static int reset_seen(struct hz_ctx *c)
{
	if (hz_go(c) < 0 || hz_recv_errno(c, ECONNRESET) < 0)
		return -1;
	if (send(c->fd, "x", 1, MSG_NOSIGNAL) >= 0 || errno != EPIPE)
		return hz_fail(c, "send after a reset: %s", strerrorname_np(errno));
	return 0;
}

/* close() with data unread resets. */
static int unread_close(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 1, 30000);

	if (hz_queued(c, n) < 0)
		return -1;
	close(c->fd);
	c->fd = -1;
	return 0;
}

static int unread_seen(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 1, 30000);

	return hz_send_stream(c, n) < 0 ? -1 : hz_recv_errno(c, ECONNRESET);
}

/* The peer closes; a send after that brings its reset, and the next one EPIPE. */
static int epipe_subject(struct hz_ctx *c)
{
	if (hz_wait_go(c) < 0 || hz_recv_eof(c) < 0)
		return -1;
	for (int i = 0; i < HZ_WAIT_MS; i++) {
		if (send(c->fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			return errno == EPIPE ? 0 : hz_errno(c, "send after the peer's close");
		hz_sleep_us(i < 20 ? 50 : 1000);
	}
	return hz_fail(c, "send after the peer's close never fails");
}

static int epipe_peer(struct hz_ctx *c)
{
	return hz_go(c);
}

const struct hazard hz_event[] = {
	{"poll", poll_subject, level_peer, 1, 0, NULL},
	{"epoll-lt", epoll_lt_subject, level_peer, 1, 0, NULL},
	{"epoll-et", epoll_et_subject, edge_peer, 2, 0, NULL},
	{"epoll-bulk", epoll_bulk_subject, bulk_peer, 1, 0, NULL},
	{"signal-restart", signal_restart, signal_peer, 10, HZ_BLOCKING, NULL},
	{"signal-eintr", signal_eintr, signal_peer, 10, HZ_BLOCKING, NULL},
	{"shutdown-rd", shutdown_rd, hz_wait_go, 10, HZ_BLOCKING | HZ_PARTIAL, NULL},
	{"oob-out", oob_send, oob_recv, 1, 0, NULL},
	{"oob-in", oob_recv, oob_send, 1, 0, NULL},
	{"oob-inline", oob_inline, oob_send, 1, 0, NULL},
	{"rcvlowat", rcvlowat_subject, rcvlowat_peer, 2, 0, NULL},
	{"rcvlowat-early", rcvlowat_subject, rcvlowat_peer, 2, 0, prepare_rcvlowat},
	{"reset-out", reset_close, reset_seen, 1, 0, NULL},
	{"reset-in", reset_seen, reset_close, 1, 0, NULL},
	{"unread-close", unread_close, unread_seen, 1, HZ_PARTIAL, NULL},
	{"epipe", epipe_subject, epipe_peer, 1, HZ_PARTIAL, NULL},
	{NULL, NULL, NULL, 0, 0, NULL},
};
