// SPDX-License-Identifier: Apache-2.0
/* Hazards of connecting: names, errors, options before connect(), descriptors in other hands. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/net/hazard.h"

struct names {
	struct sockaddr_storage local, remote;
};

static int names_get(struct hz_ctx *c, struct names *ret)
{
	socklen_t len = sizeof(ret->local);

	memset(ret, 0, sizeof(*ret));
	if (getsockname(c->fd, (void *)&ret->local, &len) < 0)
		return hz_errno(c, "getsockname");
	len = sizeof(ret->remote);
	if (getpeername(c->fd, (void *)&ret->remote, &len) < 0)
		return hz_errno(c, "getpeername");
	return 0;
}

static int name_equal(struct hz_ctx *c, const char *what, const struct sockaddr_storage *is,
		      const struct sockaddr_storage *want)
{
	char a[64], b[64];

	if (hz_address_equal(is, want))
		return 0;
	return hz_fail(c, "%s is %s instead of %s", what, hz_address_text(is, a, sizeof(a)),
		       hz_address_text(want, b, sizeof(b)));
}

/* Each end tells the other its names; both ends run this. */
static int names_exchange(struct hz_ctx *c)
{
	struct names mine, theirs;

	if (names_get(c, &mine) < 0 || hz_write(c, &mine, sizeof(mine)) < 0 ||
	    hz_read(c, &theirs, sizeof(theirs)) < 0)
		return -1;
	/* The address that was connected to, or that accept() gave. */
	if (name_equal(c, "getpeername()", &mine.remote, &c->addr) < 0)
		return -1;
	if (name_equal(c, "getsockname()", &mine.local, &theirs.remote) < 0)
		return -1;
	return name_equal(c, "getpeername()", &mine.remote, &theirs.local);
}

static int echo_out(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 1, 4096);

	return hz_send_stream(c, n) < 0 || hz_recv_stream(c, n) < 0 ? -1 : 0;
}

static int echo_in(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 1, 4096);

	return hz_recv_stream(c, n) < 0 || hz_send_stream(c, n) < 0 ? -1 : 0;
}

static int echo_names_peer(struct hz_ctx *c)
{
	return echo_in(c) < 0 ? -1 : names_exchange(c);
}

static int echo_names_subject(struct hz_ctx *c)
{
	return echo_out(c) < 0 ? -1 : names_exchange(c);
}

/* The local address that leads to c->addr, port 0. */
static int local_address(struct hz_ctx *c, struct sockaddr_storage *ret)
{
	int fd = socket(c->addr.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*ret);
	int r;

	memset(ret, 0, sizeof(*ret));
	r = fd < 0 || connect(fd, (void *)&c->addr, hz_address_len(&c->addr)) < 0 ||
	    getsockname(fd, (void *)ret, &len) < 0;
	if (fd >= 0)
		close(fd);
	if (r)
		return hz_errno(c, "no local address");
	hz_address_port(ret, 0);
	return 0;
}

static int dial_on(struct hz_ctx *c)
{
	int r = hz_connect(c, &c->addr);

	return r ? hz_fail(c, "connect: %s", strerrorname_np(r)) : hz_hello(c, c->seed);
}

static int bound_subject(struct hz_ctx *c)
{
	struct sockaddr_storage local;
	struct names n;

	if (local_address(c, &local) < 0 || hz_socket(c) < 0)
		return -1;
	if (bind(c->fd, (void *)&local, hz_address_len(&local)) < 0)
		return hz_errno(c, "bind");
	if (dial_on(c) < 0 || names_get(c, &n) < 0)
		return -1;
	hz_address_port(&n.local, 0);
	if (name_equal(c, "bound address", &n.local, &local) < 0)
		return -1;
	return echo_names_subject(c);
}

static int bindtodevice_subject(struct hz_ctx *c)
{
	struct sockaddr_storage local, have;
	struct ifaddrs *list, *i;
	char name[64] = "";

	if (local_address(c, &local) < 0 || hz_socket(c) < 0)
		return -1;
	if (getifaddrs(&list) < 0)
		return hz_errno(c, "getifaddrs");
	for (i = list; i; i = i->ifa_next) {
		if (!i->ifa_addr || i->ifa_addr->sa_family != local.ss_family)
			continue;
		memset(&have, 0, sizeof(have));
		memcpy(&have, i->ifa_addr, hz_address_len(&local));
		hz_address_port(&have, 0);
		if (hz_address_equal(&have, &local))
			snprintf(name, sizeof(name), "%s", i->ifa_name);
	}
	freeifaddrs(list);
	if (setsockopt(c->fd, SOL_SOCKET, SO_BINDTODEVICE, name, strlen(name) + 1) < 0)
		return hz_errno(c, "SO_BINDTODEVICE");
	return dial_on(c) < 0 ? -1 : echo_names_subject(c);
}

static int disconnect(struct hz_ctx *c)
{
	struct sockaddr_storage none = {.ss_family = AF_UNSPEC}, name;
	socklen_t len = sizeof(name);
	char text[64];

	if (connect(c->fd, (void *)&none, sizeof(none)) < 0)
		return hz_errno(c, "connect(AF_UNSPEC)");
	if (getpeername(c->fd, (void *)&name, &len) == 0)
		return hz_fail(c, "getpeername() is %s after AF_UNSPEC",
			       hz_address_text(&name, text, sizeof(text)));
	if (errno != ENOTCONN)
		return hz_errno(c, "getpeername() after AF_UNSPEC");
	len = sizeof(name);
	memset(&name, 0, sizeof(name));
	if (getsockname(c->fd, (void *)&name, &len) < 0)
		return hz_errno(c, "getsockname() after AF_UNSPEC");
	hz_address(name.ss_family == AF_INET ? "0.0.0.0" : "::", 0, &none);
	hz_address_port(&none, ntohs(((struct sockaddr_in *)&name)->sin_port)); /* may stay */
	if (!hz_address_equal(&name, &none))
		return hz_fail(c, "getsockname() is %s after AF_UNSPEC",
			       hz_address_text(&name, text, sizeof(text)));
	return 0;
}

/* Connect the same socket to a listener of our own on loopback: the names must be those. */
static int reconnect_loopback(struct hz_ctx *c)
{
	struct sockaddr_storage at;
	socklen_t len = sizeof(at);
	struct names n;
	int r, lfd = socket(c->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	hz_address(c->addr.ss_family == AF_INET ? "127.0.0.1" : "::1", 0, &at);
	if (lfd < 0 || bind(lfd, (void *)&at, hz_address_len(&at)) < 0 || listen(lfd, 1) < 0 ||
	    getsockname(lfd, (void *)&at, &len) < 0) {
		hz_errno(c, "listen on loopback");
	} else if ((r = hz_connect(c, &at))) {
		hz_fail(c, "connect to loopback: %s", strerrorname_np(r));
	} else if (names_get(c, &n) == 0 &&
		   name_equal(c, "getpeername() on loopback", &n.remote, &at) == 0) {
		hz_address_port(&n.local, 0);
		hz_address_port(&at, 0);
		name_equal(c, "getsockname() on loopback", &n.local, &at);
	}
	if (lfd >= 0)
		close(lfd);
	return c->why[0] ? -1 : 0;
}

/* connect, use, disconnect, connect again, use, disconnect, connect elsewhere. */
static int unspec_subject(struct hz_ctx *c)
{
	uint64_t seed = c->seed;
	struct hz_stream rx = c->rx, tx = c->tx;
	int r;

	if (hz_socket(c) < 0)
		return -1;
	r = hz_connect(c, &c->addr);
	if (r)
		return hz_fail(c, "connect: %s", strerrorname_np(r));
	if (hz_hello(c, seed) < 0 || echo_names_subject(c) < 0 || disconnect(c) < 0)
		return -1;
	c->rx = rx;
	c->tx = tx;
	c->shared = seed;
	r = hz_connect(c, &c->addr);
	if (r)
		return hz_fail(c, "connect again: %s", strerrorname_np(r));
	if (hz_hello(c, seed) < 0 || echo_names_subject(c) < 0 || disconnect(c) < 0)
		return -1;
	return reconnect_loopback(c);
}

static int fastopen_subject(struct hz_ctx *c)
{
	uint8_t buf[2048];
	size_t first = hz_range(&c->own, 1, 1000), n, sent = 0;
	size_t size = hz_range(&c->shared, 1000, 4096);
	ssize_t r;

	if (hz_socket(c) < 0)
		return -1;
	n = hz_hello_bytes(c, c->seed, buf, sizeof(buf));
	hz_fill(&c->tx, buf + n, first);
	r = sendto(c->fd, buf, n + first, MSG_FASTOPEN | MSG_NOSIGNAL, (void *)&c->addr,
		   hz_address_len(&c->addr));
	if (r < 0 && !(errno == EINPROGRESS && c->nonblock))
		return hz_errno(c, "sendto(MSG_FASTOPEN)");
	if (r < 0 && hz_poll(c, POLLOUT) < 0)
		return -1;
	if (r > 0)
		sent = r;
	if (hz_write(c, buf + sent, n + first - sent) < 0)
		return -1;
	if (hz_send_stream(c, size - first) < 0 || hz_recv_stream(c, size) < 0)
		return -1;
	return names_exchange(c);
}

static int fastopen_connect_subject(struct hz_ctx *c)
{
	size_t size = hz_range(&c->shared, 1000, 4096);
	int one = 1;

	if (hz_socket(c) < 0)
		return -1;
	setsockopt(c->fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one));
	if (connect(c->fd, (void *)&c->addr, hz_address_len(&c->addr)) < 0 &&
	    !(errno == EINPROGRESS && c->nonblock))
		return hz_errno(c, "connect with TCP_FASTOPEN_CONNECT");
	if (c->nonblock && hz_poll(c, POLLOUT) < 0)
		return -1;
	for (;;) { /* without a cookie, the first send is EINPROGRESS until the handshake ends */
		if (hz_hello(c, c->seed) == 0)
			break;
		if (!c->nonblock || errno != EINPROGRESS)
			return -1;
		c->why[0] = 0;
		if (hz_poll(c, POLLOUT) < 0)
			return -1;
	}
	if (hz_send_stream(c, size) < 0 || hz_recv_stream(c, size) < 0)
		return -1;
	return names_exchange(c);
}

static int fastopen_peer(struct hz_ctx *c)
{
	size_t size = hz_range(&c->shared, 1000, 4096);

	if (hz_recv_stream(c, size) < 0 || hz_send_stream(c, size) < 0)
		return -1;
	return names_exchange(c);
}

static int child_result(struct hz_ctx *c, pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return hz_errno(c, "waitpid");
	}
	return status ? hz_fail(c, "the child failed, status %#x", status) : 0;
}

/* The child uses the inherited socket and exits, then the parent goes on with it. */
static int fork_subject(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 1, 20000);
	pid_t pid = fork();

	if (pid < 0)
		return hz_errno(c, "fork");
	if (pid == 0)
		_exit(hz_send_stream(c, n) < 0 || hz_recv_stream(c, n) < 0);
	if (child_result(c, pid) < 0)
		return -1;
	hz_skip(&c->tx, n);
	hz_skip(&c->rx, n);
	return hz_send_stream(c, n) < 0 || hz_recv_stream(c, n) < 0 ? -1 : 0;
}

static int fork_peer(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 1, 20000);

	for (int i = 0; i < 2; i++) {
		if (hz_recv_stream(c, n) < 0 || hz_send_stream(c, n) < 0)
			return -1;
	}
	return hz_recv_eof(c);
}

union fd_control {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

static int fd_receive(int from)
{
	union fd_control u;
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = u.bytes,
			   .msg_controllen = sizeof(u.bytes)};
	int fd = -1;

	if (recvmsg(from, &m, 0) == 1 && CMSG_FIRSTHDR(&m))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

static int fd_give(int to, int fd)
{
	union fd_control u = {.align = {.cmsg_len = CMSG_LEN(sizeof(int)),
					.cmsg_level = SOL_SOCKET,
					.cmsg_type = SCM_RIGHTS}};
	char byte = 'F';
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = u.bytes,
			   .msg_controllen = sizeof(u.bytes)};

	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(fd));
	return sendmsg(to, &m, 0) == 1 ? 0 : -1;
}

/* Another process gets the socket by SCM_RIGHTS; ours is closed meanwhile. */
static int fd_pass_subject(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 1, 20000);
	int pair[2], r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return hz_errno(c, "socketpair");
	pid = fork();
	if (pid < 0)
		return hz_errno(c, "fork");
	if (pid == 0) {
		close(c->fd);
		c->fd = fd_receive(pair[1]);
		_exit(hz_send_stream(c, n) < 0 || hz_recv_stream(c, n) < 0 ||
		      hz_send_stream(c, n) < 0 || hz_recv_stream(c, n) < 0);
	}
	r = fd_give(pair[0], c->fd);
	close(c->fd);
	c->fd = -1;
	close(pair[0]);
	close(pair[1]);
	if (r < 0)
		hz_errno(c, "SCM_RIGHTS");
	if (child_result(c, pid) < 0)
		return -1;
	hz_skip(&c->tx, 2 * n);
	hz_skip(&c->rx, 2 * n);
	return c->why[0] ? -1 : 0;
}

static int connect_errno(struct hz_ctx *c, const struct sockaddr_storage *to, int want)
{
	int r = hz_connect(c, to);

	if (r == want)
		return 0;
	return hz_fail(c, "connect: %s instead of %s", r ? strerrorname_np(r) : "success",
		       strerrorname_np(want));
}

static int refused_subject(struct hz_ctx *c)
{
	struct sockaddr_storage to = c->addr;

	hz_address_port(&to, c->hello.refused_port);
	return hz_socket(c) < 0 ? -1 : connect_errno(c, &to, ECONNREFUSED);
}

static int timeout_subject(struct hz_ctx *c)
{
	struct sockaddr_storage to;
	unsigned user_ms = 700;
	int count = 1;
	struct timespec a, b;

	if (!hz_options.blackhole || hz_address(hz_options.blackhole, 9, &to) < 0)
		return hz_fail(c, "-B ADDR does not name a silent address");
	c->addr.ss_family = to.ss_family;
	if (hz_socket(c) < 0)
		return -1;
	setsockopt(c->fd, IPPROTO_TCP, TCP_SYNCNT, &count, sizeof(count));
	if (hz_range(&c->own, 0, 1))
		setsockopt(c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_ms, sizeof(user_ms));
	clock_gettime(CLOCK_MONOTONIC, &a);
	if (connect_errno(c, &to, ETIMEDOUT) < 0)
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &b);
	return b.tv_sec - a.tv_sec > 8 ? hz_fail(c, "ETIMEDOUT came late") : 0;
}

static int unreachable_subject(struct hz_ctx *c)
{
	struct sockaddr_storage to;

	if (!hz_options.unreachable || hz_address(hz_options.unreachable, 9, &to) < 0)
		return hz_fail(c, "-U ADDR does not name an unreachable address");
	c->addr.ss_family = to.ss_family;
	return hz_socket(c) < 0 ? -1 : connect_errno(c, &to, EHOSTUNREACH);
}

const struct hazard hz_conn[] = {
	{"names", echo_names_subject, echo_names_peer, 1, 0, NULL},
	{"names-bound", bound_subject, echo_names_peer, 1, HZ_CONNECTOR, NULL},
	{"bindtodevice", bindtodevice_subject, echo_names_peer, 1, HZ_CONNECTOR, NULL},
	{"unspec", unspec_subject, echo_names_peer, 1, HZ_CONNECTOR, NULL},
	{"fastopen", fastopen_subject, fastopen_peer, 1, HZ_CONNECTOR, NULL},
	{"fastopen-connect", fastopen_connect_subject, fastopen_peer, 1, HZ_CONNECTOR, NULL},
	{"fork", fork_subject, fork_peer, 2, 0, NULL},
	{"fd-pass", fd_pass_subject, fork_peer, 2, 0, NULL},
	{"refused", refused_subject, NULL, 1, HZ_CONNECTOR | HZ_NO_PEER, NULL},
	{"timeout", timeout_subject, NULL, 5000, HZ_CONNECTOR | HZ_NO_PEER, NULL},
	{"unreachable", unreachable_subject, NULL, 2000, HZ_CONNECTOR | HZ_NO_PEER, NULL},
	{NULL, NULL, NULL, 0, 0, NULL},
};
