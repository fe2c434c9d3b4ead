// SPDX-License-Identifier: Apache-2.0
/* Hazards of moving bytes: every way to send and to receive, and the ends of streams. */
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "tests/net/hazard.h"

/* The first bytes go out before the other end of a carrier can be known. */
static int early_subject(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 1, 4096);

	return hz_send_stream(c, n) < 0 || hz_recv_stream(c, n) < 0 ? -1 : 0;
}

static int early_peer(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 1, 4096);

	return hz_recv_stream(c, n) < 0 || hz_send_stream(c, n) < 0 ? -1 : 0;
}

static int send_acked(struct hz_ctx *c)
{
	return hz_send_stream(c, hz_size(c)) < 0 ? -1 : hz_wait_go(c);
}

static int recv_acking(struct hz_ctx *c)
{
	return hz_recv_stream(c, hz_size(c)) < 0 ? -1 : hz_go(c);
}

static int duplex_subject(struct hz_ctx *c)
{
	size_t a = hz_size(c), b = hz_size(c);

	return hz_duplex(c, a, b);
}

static int duplex_peer(struct hz_ctx *c)
{
	size_t a = hz_size(c), b = hz_size(c);

	return hz_duplex(c, b, a);
}

static int send_shutdown(struct hz_ctx *c)
{
	if (hz_send_stream(c, hz_size(c)) < 0)
		return -1;
	if (shutdown(c->fd, SHUT_WR) < 0)
		return hz_errno(c, "shutdown");
	return hz_recv_eof(c);
}

static int send_close(struct hz_ctx *c)
{
	if (hz_send_stream(c, hz_size(c)) < 0)
		return -1;
	close(c->fd);
	c->fd = -1;
	return 0;
}

static int recv_to_end(struct hz_ctx *c)
{
	size_t n = hz_size(c);

	return hz_recv_stream(c, n) < 0 ? -1 : hz_recv_eof(c);
}

/* The subject ends its direction and then waits for a late answer. */
static int half_close_subject(struct hz_ctx *c)
{
	size_t out = hz_size(c), in = hz_size(c);

	if (hz_send_stream(c, out) < 0)
		return -1;
	if (shutdown(c->fd, SHUT_WR) < 0)
		return hz_errno(c, "shutdown");
	return hz_recv_stream(c, in) < 0 ? -1 : hz_recv_eof(c);
}

static int half_close_peer(struct hz_ctx *c)
{
	size_t in = hz_size(c), out = hz_size(c);

	if (hz_recv_stream(c, in) < 0 || hz_recv_eof(c) < 0)
		return -1;
	hz_sleep_us(hz_range(&c->own, 0, 3000));
	return hz_send_stream(c, out);
}

/* A socket that connected while non-blocking and is blocking from then on. */
static int turn_blocking(struct hz_ctx *c)
{
	c->nonblock = true;
	if (hz_dial(c, NULL) < 0)
		return -1;
	if (fcntl(c->fd, F_SETFL, 0) < 0)
		return hz_errno(c, "fcntl");
	c->nonblock = false;
	return half_close_subject(c);
}

#define READER_SLEEPS_US 1500000

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* What is accepted while the reader certainly sleeps is bounded, then all arrives. */
static int slow_writer(struct hz_ctx *c)
{
	uint64_t until = now_us() + READER_SLEEPS_US / 2;
	static const size_t chunks[] = {100, 1000, 4096, HZ_CHUNK};
	size_t chunk = chunks[hz_range(&c->own, 0, 3)], at = 0;
	struct pollfd p = {.fd = c->fd, .events = POLLOUT};
	uint8_t buf[HZ_CHUNK];

	hz_fill(&c->tx, buf, chunk);
	for (size_t total = 0; now_us() < until;) {
		ssize_t n = send(c->fd, buf + at, chunk - at, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			if (poll(&p, 1, 300) == 0)
				break; /* it holds */
			continue;
		}
		if (n < 0)
			return hz_errno(c, "send");
		total += n;
		if (total >= HZ_MAX_ACCEPTED)
			return hz_fail(c, "%zu bytes accepted for a reader that sleeps", total);
		at += n;
		if (at == chunk) {
			hz_fill(&c->tx, buf, chunk);
			at = 0;
		}
	}
	if (hz_write(c, buf + at, chunk - at) < 0 || hz_send_stream(c, 1 << 20) < 0)
		return -1;
	return shutdown(c->fd, SHUT_WR) < 0 ? hz_errno(c, "shutdown") : hz_recv_eof(c);
}

static int slow_reader(struct hz_ctx *c)
{
	hz_sleep_us(READER_SLEEPS_US);
	for (int i = 0; i < 20; i++) {
		if (hz_recv_stream(c, 4096) < 0)
			return -1;
		hz_sleep_us(5000);
	}
	return hz_recv_rest(c);
}

static int send_end(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 1, 32768);

	if (hz_send_stream(c, n) < 0)
		return -1;
	return shutdown(c->fd, SHUT_WR) < 0 ? hz_errno(c, "shutdown") : hz_recv_eof(c);
}

static int peek_once(struct hz_ctx *c, size_t left, uint8_t *buf)
{
	size_t want = hz_range(&c->own, 1, left);
	ssize_t a, b;

	if (hz_poll(c, POLLIN) < 0)
		return -1;
	a = recv(c->fd, buf, want, MSG_PEEK);
	if (a <= 0)
		return a < 0 ? hz_errno(c, "peek") : hz_fail(c, "peek: end of stream");
	if (hz_compare(c, buf, a) < 0)
		return -1;
	b = recv(c->fd, buf, left, MSG_PEEK | MSG_DONTWAIT);
	if (b < a)
		return hz_fail(c, "second peek: %zd bytes after %zd", b, a);
	if (hz_compare(c, buf, b) < 0)
		return -1;
	want = hz_range(&c->own, 1, a);
	if (recv(c->fd, buf, want, 0) != (ssize_t)want)
		return hz_fail(c, "%zu peeked bytes cannot be read at once", want);
	return hz_check(c, buf, want) < 0 ? -1 : (int)want;
}

static int peek_subject(struct hz_ctx *c)
{
	size_t left = hz_range(&c->shared, 1, 32768);
	uint8_t buf[32768];

	while (left) {
		int r = peek_once(c, left, buf);

		if (r < 0)
			return -1;
		left -= r;
	}
	if (hz_poll(c, POLLIN) < 0)
		return -1;
	if (recv(c->fd, buf, 1, MSG_PEEK) != 0)
		return hz_fail(c, "peek does not tell the end of the stream");
	return hz_recv_eof(c);
}

static void prepare_peek_off(int fd)
{
	int zero = 0;

	setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof(zero));
}

static int peek_off_subject(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 2, 1000), half = n / 2;
	uint8_t buf[1000];
	int zero = 0, off = 0;
	socklen_t len = sizeof(off);

	if (setsockopt(c->fd, SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof(zero)) < 0)
		off = -1; /* a kernel without it: then there is nothing to honour */
	if (hz_go(c) < 0 || hz_queued(c, n) < 0)
		return -1;
	if (off == 0) {
		if (recv(c->fd, buf, half, MSG_PEEK) != (ssize_t)half ||
		    recv(c->fd, buf + half, n - half, MSG_PEEK) != (ssize_t)(n - half))
			return hz_fail(c, "peeks with SO_PEEK_OFF are short");
		if (hz_compare(c, buf, n) < 0)
			return -1;
		if (getsockopt(c->fd, SOL_SOCKET, SO_PEEK_OFF, &off, &len) < 0 || off != (int)n)
			return hz_fail(c, "SO_PEEK_OFF is %d instead of %zu", off, n);
	}
	return hz_recv_stream(c, n);
}

static int peek_off_peer(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 2, 1000);

	return hz_wait_go(c) < 0 ? -1 : hz_send_stream(c, n);
}

/* recv(MSG_TRUNC) throws bytes away. */
static int trunc_subject(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 1, 32768), drop = hz_range(&c->own, 1, n);

	if (hz_queued(c, n) < 0)
		return -1;
	if (recv(c->fd, NULL, drop, MSG_TRUNC) != (ssize_t)drop)
		return hz_errno(c, "recv(MSG_TRUNC)");
	hz_skip(&c->rx, drop);
	return hz_recv_stream(c, n - drop) < 0 ? -1 : hz_recv_eof(c);
}

static int waitall_subject(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 2, 100000), rest = hz_range(&c->shared, 1, 1000);
	uint8_t *buf = malloc(n + 1000);
	ssize_t r = recv(c->fd, buf, n, MSG_WAITALL);

	if (r != (ssize_t)n)
		hz_fail(c, "recv(MSG_WAITALL) of %zu: %zd", n, r);
	else if (hz_check(c, buf, n) == 0) {
		r = recv(c->fd, buf, rest + 1000, MSG_WAITALL); /* cut short by the end */
		if (r != (ssize_t)rest)
			hz_fail(c, "recv(MSG_WAITALL) before the end: %zd of %zu", r, rest);
		else
			hz_check(c, buf, rest);
	}
	free(buf);
	return c->why[0] ? -1 : 0;
}

static int waitall_peer(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 2, 100000), rest = hz_range(&c->shared, 1, 1000);

	for (size_t part; n; n -= part) {
		part = n > 4 ? hz_range(&c->own, n / 4, n) : n;
		if (hz_send_stream(c, part) < 0)
			return -1;
		hz_sleep_us(hz_range(&c->own, 0, 1000));
	}
	return hz_send_stream(c, rest);
}

static int fionread_subject(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 1, 30000), take = hz_range(&c->own, 1, n);

	if (hz_fionread(c, 0) < 0 || hz_go(c) < 0 || hz_fionread(c, n) < 0)
		return -1;
	if (hz_recv_stream(c, take) < 0 || hz_fionread(c, n - take) < 0)
		return -1;
	return hz_recv_stream(c, n - take) < 0 ? -1 : hz_fionread(c, 0);
}

static int fionread_peer(struct hz_ctx *c)
{
	size_t n = hz_range(&c->shared, 1, 30000);

	if (hz_wait_go(c) < 0 || hz_send_stream(c, n) < 0)
		return -1;
	return hz_recv_eof(c);
}

static int sendfile_subject(struct hz_ctx *c)
{
	size_t n = hz_size(c), before = hz_range(&c->own, 0, 5000);
	int file = memfd_create("hazard", MFD_CLOEXEC);
	uint8_t *map;
	off_t at = before;

	if (file < 0 || ftruncate(file, before + n) < 0)
		return hz_errno(c, "memfd_create");
	map = mmap(NULL, before + n, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	hz_fill(&c->tx, map + before, n);
	munmap(map, before + n);
	while (at < (off_t)(before + n)) {
		ssize_t r = sendfile(c->fd, file, &at, before + n - at);

		if (r < 0 && errno == EAGAIN && c->nonblock && hz_poll(c, POLLOUT) == 0)
			continue;
		if (r <= 0) {
			hz_errno(c, "sendfile");
			break;
		}
	}
	close(file);
	return c->why[0] ? -1 : hz_wait_go(c);
}

static int splice_out_subject(struct hz_ctx *c)
{
	size_t left = hz_size(c);
	uint8_t buf[4096];
	int pipefd[2];

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return hz_errno(c, "pipe");
	while (left && !c->why[0]) {
		size_t n = hz_range(&c->own, 1, left < sizeof(buf) ? left : sizeof(buf));

		hz_fill(&c->tx, buf, n);
		if (write(pipefd[1], buf, n) != (ssize_t)n)
			hz_errno(c, "write to the pipe");
		left -= n;
		while (n && !c->why[0]) {
			ssize_t r = splice(pipefd[0], NULL, c->fd, NULL, n,
					   c->nonblock ? SPLICE_F_NONBLOCK : 0);

			if (r < 0 && errno == EAGAIN && c->nonblock && hz_poll(c, POLLOUT) == 0)
				continue;
			if (r <= 0)
				hz_errno(c, "splice to the socket");
			else
				n -= r;
		}
	}
	close(pipefd[0]);
	close(pipefd[1]);
	return c->why[0] ? -1 : hz_wait_go(c);
}

static ssize_t splice_in_once(struct hz_ctx *c, int to, size_t want, unsigned *spins)
{
	ssize_t r;

	if (hz_poll(c, POLLIN) < 0)
		return -1;
	r = splice(c->fd, NULL, to, NULL, want, SPLICE_F_NONBLOCK);
	if (r < 0 && errno == EAGAIN)
		return ++*spins > 1000 ? hz_fail(c, "readable, but splice says EAGAIN") : -EAGAIN;
	if (r <= 0)
		return r < 0 ? hz_errno(c, "splice from the socket") : hz_fail(c, "splice: end");
	*spins = 0;
	return r;
}

static int splice_in_subject(struct hz_ctx *c)
{
	size_t left = hz_size(c);
	uint8_t buf[HZ_CHUNK];
	unsigned spins = 0;
	int pipefd[2];

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return hz_errno(c, "pipe");
	while (left && !c->why[0]) {
		ssize_t r = splice_in_once(c, pipefd[1], left < sizeof(buf) ? left : sizeof(buf),
					   &spins);

		if (r < 0)
			continue;
		if (read(pipefd[0], buf, r) != r)
			hz_errno(c, "read from the pipe");
		else
			hz_check(c, buf, r);
		left -= r;
	}
	close(pipefd[0]);
	close(pipefd[1]);
	return c->why[0] ? -1 : hz_go(c);
}

static size_t random_vector(struct hz_ctx *c, struct iovec iov[32], uint8_t *buf, size_t len)
{
	size_t n = hz_range(&c->own, 1, 32), used = 0;

	for (size_t i = 0; i < n; i++) {
		iov[i].iov_base = buf + used;
		iov[i].iov_len = hz_range(&c->own, 0, (len - used) / 2);
		used += iov[i].iov_len;
	}
	if (!used)
		iov[0].iov_len = used = 1; /* the other bases equal this one and are empty */
	return n;
}

static int writev_subject(struct hz_ctx *c)
{
	size_t left = hz_size(c);
	uint8_t buf[HZ_CHUNK];
	struct iovec iov[32];

	while (left) {
		size_t max = left < sizeof(buf) ? left : sizeof(buf);
		struct msghdr m = {.msg_iov = iov, .msg_iovlen = random_vector(c, iov, buf, max)};
		struct hz_stream at = c->tx;
		ssize_t r;

		hz_fill(&at, buf, max);
		r = left & 1 ? writev(c->fd, iov, m.msg_iovlen) : sendmsg(c->fd, &m, MSG_NOSIGNAL);
		if (r < 0 && errno == EAGAIN && c->nonblock && hz_poll(c, POLLOUT) == 0)
			continue;
		if (r < 0)
			return hz_errno(c, "writev");
		hz_skip(&c->tx, r);
		left -= r;
	}
	return hz_wait_go(c);
}

static int readv_subject(struct hz_ctx *c)
{
	size_t left = hz_size(c);
	uint8_t buf[HZ_CHUNK];
	struct iovec iov[32];

	while (left) {
		size_t max = left < sizeof(buf) ? left : sizeof(buf);
		struct msghdr m = {.msg_iov = iov, .msg_iovlen = random_vector(c, iov, buf, max)};
		ssize_t r = left & 1 ? readv(c->fd, iov, m.msg_iovlen) : recvmsg(c->fd, &m, 0);

		if (r < 0 && errno == EAGAIN && c->nonblock && hz_poll(c, POLLIN) == 0)
			continue;
		if (r <= 0)
			return r < 0 ? hz_errno(c, "readv") : hz_fail(c, "readv: end of stream");
		if (hz_check(c, buf, r) < 0)
			return -1;
		left -= r;
	}
	return hz_go(c);
}

static void prepare_zerocopy(int fd)
{
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one));
}

/* Wait until all of `sends` MSG_ZEROCOPY calls are reported complete. */
static int zerocopy_reap(struct hz_ctx *c, unsigned sends)
{
	struct pollfd p = {.fd = c->fd};
	unsigned done = 0;

	while (done < sends) {
		char control[128];
		struct msghdr m = {.msg_control = control, .msg_controllen = sizeof(control)};
		const struct sock_extended_err *e;
		struct cmsghdr *h;

		if (recvmsg(c->fd, &m, MSG_ERRQUEUE) < 0) {
			if (errno != EAGAIN)
				return hz_errno(c, "recvmsg(MSG_ERRQUEUE)");
			if (poll(&p, 1, HZ_WAIT_MS) == 0)
				return hz_fail(c, "%u of %u MSG_ZEROCOPY completions", done, sends);
			continue;
		}
		h = CMSG_FIRSTHDR(&m);
		if (!h)
			return hz_fail(c, "error queue without a message");
		e = (const void *)CMSG_DATA(h);
		if (e->ee_origin != SO_EE_ORIGIN_ZEROCOPY || e->ee_errno)
			return hz_fail(c, "error queue: origin %u", e->ee_origin);
		done += e->ee_data - e->ee_info + 1;
	}
	return 0;
}

static int zerocopy_subject(struct hz_ctx *c)
{
	size_t len = hz_size(c), at = 0;
	uint8_t *buf = malloc(len);
	unsigned sends = 0;

	prepare_zerocopy(c->fd);
	hz_fill(&c->tx, buf, len);
	while (at < len && !c->why[0]) {
		ssize_t n = send(c->fd, buf + at, len - at, MSG_ZEROCOPY | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN && c->nonblock && hz_poll(c, POLLOUT) == 0)
			continue;
		if (n < 0)
			hz_errno(c, "send(MSG_ZEROCOPY)");
		else
			at += n;
		sends++;
	}
	if (!c->why[0] && hz_wait_go(c) == 0)
		zerocopy_reap(c, sends);
	free(buf);
	return c->why[0] ? -1 : 0;
}

const struct hazard hz_data[] = {
	{"early-data", early_subject, early_peer, 1, 0, NULL},
	{"stream-out", send_acked, recv_acking, 1, 0, NULL},
	{"stream-in", recv_acking, send_acked, 1, 0, NULL},
	{"duplex", duplex_subject, duplex_peer, 1, 0, NULL},
	{"send-shutdown", send_shutdown, recv_to_end, 1, 0, NULL},
	{"send-close", send_close, recv_to_end, 1, 0, NULL},
	{"recv-to-close", recv_to_end, send_close, 1, 0, NULL},
	{"half-close", half_close_subject, half_close_peer, 2, 0, NULL},
	{"half-close-in", half_close_peer, half_close_subject, 2, 0, NULL},
	{"turn-blocking", turn_blocking, half_close_peer, 2, HZ_CONNECTOR, NULL},
	{"slow-reader", slow_writer, slow_reader, 2000, 0, NULL},
	{"slow-reader-in", slow_reader, slow_writer, 2000, 0, NULL},
	{"peek", peek_subject, send_end, 1, 0, NULL},
	{"peek-off", peek_off_subject, peek_off_peer, 1, 0, NULL},
	{"peek-off-early", peek_off_subject, peek_off_peer, 1, 0, prepare_peek_off},
	{"trunc", trunc_subject, send_end, 1, 0, NULL},
	{"waitall", waitall_subject, waitall_peer, 5, HZ_BLOCKING, NULL},
	{"fionread", fionread_subject, fionread_peer, 1, 0, NULL},
	{"sendfile", sendfile_subject, recv_acking, 1, 0, NULL},
	{"splice-out", splice_out_subject, recv_acking, 1, 0, NULL},
	{"splice-in", splice_in_subject, send_acked, 1, 0, NULL},
	{"writev", writev_subject, recv_acking, 1, 0, NULL},
	{"readv", readv_subject, send_acked, 1, 0, NULL},
	{"zerocopy", zerocopy_subject, recv_acking, 2, 0, NULL},
	{"zerocopy-early", zerocopy_subject, recv_acking, 2, 0, prepare_zerocopy},
	{NULL, NULL, NULL, 0, 0, NULL},
};
