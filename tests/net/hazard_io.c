// SPDX-License-Identifier: Apache-2.0
/* Streams that check themselves, and socket calls that wait, for the hazards. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "tests/net/hazard.h"

int hz_fail(struct hz_ctx *c, const char *fmt, ...)
{
	va_list ap;

	if (c->why[0])
		return -1; /* the first reason is the best */
	va_start(ap, fmt);
	vsnprintf(c->why, sizeof(c->why), fmt, ap);
	va_end(ap);
	return -1;
}

int hz_errno(struct hz_ctx *c, const char *what)
{
	return hz_fail(c, "%s: %s", what, strerrorname_np(errno));
}

uint64_t hz_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

uint64_t hz_random(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ULL;
	return hz_mix(*state);
}

size_t hz_range(uint64_t *state, size_t lo, size_t hi)
{
	return lo + hz_random(state) % (hi - lo + 1);
}

size_t hz_size(struct hz_ctx *c)
{
	size_t bits = hz_range(&c->shared, 0, 16);

	if (hz_range(&c->shared, 0, 63) == 0)
		return hz_range(&c->shared, 1, 1 << 20);
	return hz_range(&c->shared, 1, (size_t)1 << bits);
}

static void stream_bytes(const struct hz_stream *s, uint8_t *p, size_t len)
{
	uint64_t off = s->off, word;

	while (len) {
		size_t skip = off % 8, n = 8 - skip < len ? 8 - skip : len;

		word = hz_mix(s->seed + off / 8);
		memcpy(p, (uint8_t *)&word + skip, n);
		p += n;
		off += n;
		len -= n;
	}
}

static void stream_advance(struct hz_stream *s, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		s->sum = s->sum * 0x100000001b3ULL + p[i] + 1;
	s->off += len;
}

void hz_fill(struct hz_stream *s, void *buf, size_t len)
{
	stream_bytes(s, buf, len);
	stream_advance(s, buf, len);
}

void hz_skip(struct hz_stream *s, size_t len)
{
	uint8_t buf[4096];

	while (len) {
		size_t n = len < sizeof(buf) ? len : sizeof(buf);

		hz_fill(s, buf, n);
		len -= n;
	}
}

int hz_compare(struct hz_ctx *c, const void *buf, size_t len)
{
	struct hz_stream at = c->rx;
	const uint8_t *p = buf;
	uint8_t want[4096];

	while (len) {
		size_t n = len < sizeof(want) ? len : sizeof(want);

		stream_bytes(&at, want, n);
		for (size_t i = 0; i < n; i++) {
			if (p[i] != want[i])
				return hz_fail(c, "byte %llu of the stream is wrong",
					       (unsigned long long)(at.off + i));
		}
		at.off += n;
		p += n;
		len -= n;
	}
	return 0;
}

int hz_check(struct hz_ctx *c, const void *buf, size_t len)
{
	if (hz_compare(c, buf, len) < 0)
		return -1;
	stream_advance(&c->rx, buf, len);
	return 0;
}

void hz_sleep_us(unsigned us)
{
	struct timespec left = {us / 1000000, us % 1000000 * 1000L};

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

int hz_poll(struct hz_ctx *c, short events)
{
	struct pollfd p = {.fd = c->fd, .events = events};
	int r;

	do {
		r = poll(&p, 1, HZ_WAIT_MS);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return hz_errno(c, "poll");
	if (r == 0)
		return hz_fail(c, "no event %#x within %d ms", events, HZ_WAIT_MS);
	return 0;
}

/* After a failed call: 0 to try again, -1 recorded. */
static int io_retry(struct hz_ctx *c, short events, const char *what)
{
	if (errno == EINTR)
		return 0;
	if (errno == EAGAIN && c->nonblock)
		return hz_poll(c, events);
	return hz_errno(c, what);
}

int hz_write(struct hz_ctx *c, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	while (len) {
		ssize_t n = send(c->fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && io_retry(c, POLLOUT, "send") < 0)
			return -1;
		if (n < 0)
			continue;
		p += n;
		len -= n;
	}
	return 0;
}

ssize_t hz_recv(struct hz_ctx *c, void *buf, size_t len)
{
	for (;;) {
		ssize_t n = recv(c->fd, buf, len, 0);

		if (n >= 0)
			return n;
		if (io_retry(c, POLLIN, "recv") < 0)
			return -1;
	}
}

int hz_read(struct hz_ctx *c, void *buf, size_t len)
{
	uint8_t *p = buf;

	while (len) {
		ssize_t n = hz_recv(c, p, len);

		if (n < 0)
			return -1;
		if (n == 0)
			return hz_fail(c, "end of stream, %zu bytes early", len);
		p += n;
		len -= n;
	}
	return 0;
}

int hz_send_stream(struct hz_ctx *c, size_t len)
{
	uint8_t buf[HZ_CHUNK];

	while (len) {
		size_t max = hz_range(&c->own, 0, 3) ? sizeof(buf) : 100;
		size_t n = hz_range(&c->own, 1, len < max ? len : max);

		hz_fill(&c->tx, buf, n);
		if (hz_write(c, buf, n) < 0)
			return -1;
		len -= n;
	}
	return 0;
}

int hz_recv_stream(struct hz_ctx *c, size_t len)
{
	uint8_t buf[HZ_CHUNK];

	while (len) {
		size_t want = hz_range(&c->own, 1, len < sizeof(buf) ? len : sizeof(buf));
		ssize_t n = hz_recv(c, buf, want);

		if (n < 0)
			return -1;
		if (n == 0)
			return hz_fail(c, "end of stream, %zu bytes early", len);
		if (hz_check(c, buf, n) < 0)
			return -1;
		len -= n;
	}
	return 0;
}

int hz_recv_rest(struct hz_ctx *c)
{
	uint8_t buf[HZ_CHUNK];
	ssize_t n;

	while ((n = hz_recv(c, buf, sizeof(buf))) > 0) {
		if (hz_check(c, buf, n) < 0)
			return -1;
	}
	return n;
}

int hz_recv_eof(struct hz_ctx *c)
{
	uint8_t byte;
	ssize_t n = hz_recv(c, &byte, 1);

	if (n > 0)
		return hz_fail(c, "data where the end of the stream should be");
	return n;
}

int hz_recv_errno(struct hz_ctx *c, int want)
{
	uint8_t buf[4096];
	ssize_t n;

	do {
		if (c->nonblock && hz_poll(c, POLLIN) < 0)
			return -1;
		n = recv(c->fd, buf, sizeof(buf), 0);
	} while (n > 0 || (n < 0 && (errno == EINTR || (errno == EAGAIN && c->nonblock))));
	if (n == 0)
		return hz_fail(c, "end of stream instead of %s", strerrorname_np(want));
	if (errno != want)
		return hz_fail(c, "%s instead of %s", strerrorname_np(errno),
			       strerrorname_np(want));
	return 0;
}

static int duplex_out(struct hz_ctx *c, uint8_t *buf, size_t *have, size_t *sent, size_t *left)
{
	ssize_t n;

	if (*sent == *have) {
		*have = hz_range(&c->own, 1, *left < HZ_CHUNK ? *left : HZ_CHUNK);
		*sent = 0;
		hz_fill(&c->tx, buf, *have);
	}
	n = send(c->fd, buf + *sent, *have - *sent, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : hz_errno(c, "send");
	*sent += n;
	*left -= n;
	return 0;
}

int hz_duplex(struct hz_ctx *c, size_t out, size_t in)
{
	uint8_t obuf[HZ_CHUNK], ibuf[HZ_CHUNK];
	size_t have = 0, sent = 0;

	while (out || in) {
		struct pollfd p = {.fd = c->fd, .events = (out ? POLLOUT : 0) | (in ? POLLIN : 0)};

		if (hz_poll(c, p.events) < 0)
			return -1;
		poll(&p, 1, 0);
		if (out && (p.revents & (POLLOUT | POLLERR)) &&
		    duplex_out(c, obuf, &have, &sent, &out) < 0)
			return -1;
		if (in && (p.revents & (POLLIN | POLLERR | POLLHUP))) {
			size_t want = hz_range(&c->own, 1, in < HZ_CHUNK ? in : HZ_CHUNK);
			ssize_t n = recv(c->fd, ibuf, want, MSG_DONTWAIT);

			if (n < 0 && (errno == EAGAIN || errno == EINTR))
				continue;
			if (n < 0)
				return hz_errno(c, "recv");
			if (n == 0)
				return hz_fail(c, "end of stream, %zu bytes early", in);
			if (hz_check(c, ibuf, n) < 0)
				return -1;
			in -= n;
		}
	}
	return 0;
}

int hz_go(struct hz_ctx *c)
{
	return hz_write(c, "G", 1);
}

int hz_wait_go(struct hz_ctx *c)
{
	char byte;

	if (hz_read(c, &byte, 1) < 0)
		return -1;
	c->aside++;
	return byte == 'G' ? 0 : hz_fail(c, "byte %#x where 'G' should be", byte);
}

int hz_queued(struct hz_ctx *c, size_t want)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (!want || !getenv("HAZARD_NO_FIONREAD"))
		return hz_fionread(c, want);
	for (int ms = 0; ms < HZ_WAIT_MS * 10; ms++) {
		if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
			return hz_errno(c, "TCP_INFO");
		if (info.tcpi_bytes_received >= c->aside + c->rx.off + want)
			return 0;
		hz_sleep_us(100);
	}
	return hz_fail(c, "%llu bytes came instead of %zu",
		       (unsigned long long)(info.tcpi_bytes_received - c->aside - c->rx.off), want);
}

int hz_fionread(struct hz_ctx *c, size_t want)
{
	int have = 0;

	for (int ms = 0; ms < HZ_WAIT_MS * 10; ms++) {
		if (ioctl(c->fd, FIONREAD, &have) < 0)
			return hz_errno(c, "FIONREAD");
		if ((size_t)have == want)
			return 0;
		if ((size_t)have > want)
			break;
		hz_sleep_us(100);
	}
	return hz_fail(c, "FIONREAD says %d instead of %zu", have, want);
}

int hz_address(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *v4 = (void *)ret;
	struct sockaddr_in6 *v6 = (void *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
		ret->ss_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
		ret->ss_family = AF_INET6;
	else
		return -EINVAL;
	hz_address_port(ret, port);
	return 0;
}

void hz_address_port(struct sockaddr_storage *a, uint16_t port)
{
	((struct sockaddr_in *)a)->sin_port = htons(port); /* the same place in sockaddr_in6 */
}

socklen_t hz_address_len(const struct sockaddr_storage *a)
{
	return a->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static void address_bytes(const struct sockaddr_storage *a, uint8_t ip[16], uint16_t *port)
{
	const struct sockaddr_in *v4 = (const void *)a;
	const struct sockaddr_in6 *v6 = (const void *)a;

	*port = ntohs(v4->sin_port);
	if (a->ss_family == AF_INET6) {
		memcpy(ip, &v6->sin6_addr, 16);
		return;
	}
	memset(ip, 0, 10);
	memset(ip + 10, 0xff, 2);
	memcpy(ip + 12, &v4->sin_addr, 4);
}

bool hz_address_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	uint8_t ip[2][16];
	uint16_t port[2];

	address_bytes(a, ip[0], &port[0]);
	address_bytes(b, ip[1], &port[1]);
	return port[0] == port[1] && memcmp(ip[0], ip[1], 16) == 0;
}

const char *hz_address_text(const struct sockaddr_storage *a, char *buf, size_t len)
{
	char ip[INET6_ADDRSTRLEN] = "?";
	uint16_t port = ntohs(((const struct sockaddr_in *)a)->sin_port);

	if (a->ss_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)a)->sin_addr, ip, sizeof(ip));
	else if (a->ss_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)a)->sin6_addr, ip, sizeof(ip));
	snprintf(buf, len, "%s:%u", ip, port);
	return buf;
}

int hz_socket(struct hz_ctx *c)
{
	c->fd = socket(c->addr.ss_family,
		       SOCK_STREAM | SOCK_CLOEXEC | (c->nonblock ? SOCK_NONBLOCK : 0), 0);
	return c->fd < 0 ? hz_errno(c, "socket") : 0;
}

int hz_connect(struct hz_ctx *c, const struct sockaddr_storage *to)
{
	struct pollfd p = {.fd = c->fd, .events = POLLOUT};
	int err, tries = 0;
	socklen_t len = sizeof(err);

	/* EADDRNOTAVAIL: all ports are in TIME_WAIT, which is this program's doing. */
	while (connect(c->fd, (const void *)to, hz_address_len(to)) < 0) {
		if (errno == EADDRNOTAVAIL && tries++ < 200) {
			hz_sleep_us(50000);
			continue;
		}
		if (errno != EINPROGRESS)
			return errno;
		if (!c->nonblock)
			return EINPROGRESS;
		if (poll(&p, 1, 15000) <= 0)
			return ETIME; /* none of those that connect() gives */
		if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
			return errno;
		return err;
	}
	return 0;
}

int hz_dial(struct hz_ctx *c, const struct hazard *h)
{
	int r, one = 1;

	if (hz_socket(c) < 0)
		return -1;
	if (h && h->prepare)
		h->prepare(c->fd);
	r = hz_connect(c, &c->addr);
	if (r)
		return hz_fail(c, "connect: %s", strerrorname_np(r));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return hz_hello(c, c->seed);
}
