// SPDX-License-Identifier: Apache-2.0
/*
 * Load for the benchmarks: `load [busy] serve ADDR PORT` and `load [busy] MODE CONNECTIONS SECONDS
 * ADDR PORT`. busy: it never sleeps.
 *
 *   connect  open a connection, wait until it is open, close it; latency of the opening
 *   cycle    the same to the end: one byte makes the server close first; latency of all of it
 *   rr       64 bytes there and back, one at a time on each connection; latency of the exchange
 *   send     as much as goes, client to server, without what is left in the client's own queue
 *   recv     as much as goes, server to client
 *
 * The first byte of a connection tells the server what to do. Prints one line of JSON: operations
 * and payload bytes per second, p50 and p99 in microseconds, CPU time of the process.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"

#define MESSAGE 64
#define CHUNK (128 << 10)
#define MAX_CONNECTIONS 1024
#define SPINS 64 /* looks at an only connection before one at all others */

struct conn {
	int fd;
	char mode; /* server: 0 until the first byte came */
	bool open;
	unsigned have; /* bytes of the message that is being received */
	uint64_t since;
};

static char chunk[CHUNK];
static struct sockaddr_storage addr;
static socklen_t addr_len;
static bool busy;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void watch(int ep, struct conn *c, unsigned events, int op)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	if (epoll_ctl(ep, op, c->fd, &ev) < 0)
		die("epoll_ctl");
}

static void nodelay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* ---- server ---- */

/* False: the connection ended. */
static bool serve_one(struct conn *c)
{
	ssize_t n = 0;

	if (!c->mode) {
		n = recv(c->fd, &c->mode, 1, 0);
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
	}
	if (c->mode == 'c')
		return false;
	if (c->mode == 'g') {
		while ((n = send(c->fd, chunk, sizeof(chunk), MSG_NOSIGNAL)) > 0)
			;
		return n < 0 && errno == EAGAIN;
	}
	while ((n = recv(c->fd, chunk, c->mode == 'r' ? MESSAGE - c->have : sizeof(chunk), 0)) >
	       0) {
		if (c->mode != 'r')
			continue;
		c->have = (c->have + (unsigned)n) % MESSAGE;
		if (c->have == 0 && send(c->fd, chunk, MESSAGE, MSG_NOSIGNAL) != MESSAGE)
			return false;
	}
	return n < 0 && errno == EAGAIN;
}

static struct conn *only; /* the one there is, if there is one */
static unsigned served;

static void serve_event(struct conn *c)
{
	if (serve_one(c))
		return;
	close(c->fd);
	free(c);
	served--;
	only = NULL;
}

static void accept_all(int ep, int l)
{
	for (;;) {
		struct conn *c;
		int fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		nodelay(fd);
		c = calloc(1, sizeof(*c));
		if (!c)
			die("calloc");
		c->fd = fd;
		only = served++ ? NULL : c;
		watch(ep, c, EPOLLIN | EPOLLOUT | EPOLLET, EPOLL_CTL_ADD);
	}
}

static _Noreturn void serve(void)
{
	int l = socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int ep = epoll_create1(EPOLL_CLOEXEC), one = 1;
	struct conn listener = {.fd = l};

	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(l, (struct sockaddr *)&addr, addr_len) < 0 || listen(l, 4096) < 0)
		die("listen");
	watch(ep, &listener, EPOLLIN, EPOLL_CTL_ADD);
	for (;;) {
		struct epoll_event ev[64];
		int n;

		for (unsigned i = 0; busy && only && i < SPINS; i++)
			serve_event(only);
		n = epoll_wait(ep, ev, ARRAY_SIZE(ev), busy ? 0 : -1);
		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr == &listener)
				accept_all(ep, l);
			else
				serve_event(ev[i].data.ptr);
		}
	}
}

/* ---- client ---- */

static struct {
	uint64_t ops, bytes, errors;
	uint32_t *ns; /* latencies, the first `room` of them */
	size_t n, room;
} result;

static void sample(uint64_t ns)
{
	result.ops++;
	if (result.n < result.room)
		result.ns[result.n++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static void start(int ep, struct conn *c)
{
	c->fd = socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	c->open = false;
	c->have = 0;
	c->since = now_ns();
	if (c->fd < 0)
		die("socket");
	nodelay(c->fd);
	if (connect(c->fd, (struct sockaddr *)&addr, addr_len) < 0 && errno != EINPROGRESS)
		die("connect");
	watch(ep, c, EPOLLIN | EPOLLOUT | EPOLLET, EPOLL_CTL_ADD);
}

static void again(int ep, struct conn *c)
{
	struct linger reset = {1, 0}; /* no TIME-WAIT: ports would run out */

	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(c->fd);
	start(ep, c);
}

static void opened(int ep, struct conn *c, char mode)
{
	int error = 0;
	socklen_t len = sizeof(error);

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		result.errors++;
		again(ep, c);
		return;
	}
	c->open = true;
	if (mode == 'o') {
		sample(now_ns() - c->since);
		again(ep, c);
		return;
	}
	if (send(c->fd, &mode, 1, MSG_NOSIGNAL) != 1)
		die("send");
	if (mode == 'r') {
		c->since = now_ns();
		if (send(c->fd, chunk, MESSAGE, MSG_NOSIGNAL) != MESSAGE)
			die("send");
	}
}

static void exchange(struct conn *c)
{
	ssize_t n;

	while ((n = recv(c->fd, chunk, MESSAGE - c->have, 0)) > 0) {
		c->have = (c->have + (unsigned)n) % MESSAGE;
		if (c->have)
			continue;
		sample(now_ns() - c->since);
		result.bytes += MESSAGE;
		c->since = now_ns();
		if (send(c->fd, chunk, MESSAGE, MSG_NOSIGNAL) != MESSAGE)
			die("send");
	}
	if (n == 0 || errno != EAGAIN)
		die("recv");
}

/* The server has closed it: the ports wait on its side. */
static void ended(int ep, struct conn *c)
{
	char byte;
	ssize_t n = recv(c->fd, &byte, 1, 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n)
		result.errors++;
	else
		sample(now_ns() - c->since);
	close(c->fd);
	start(ep, c);
}

static void on_event(int ep, struct conn *c, unsigned events, char mode)
{
	ssize_t n;

	if (!c->open) {
		if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
			opened(ep, c, mode);
		if (!c->open)
			return;
	}
	if (mode == 'c') {
		ended(ep, c);
		return;
	}
	if (mode == 'r') {
		exchange(c);
		return;
	}
	do {
		n = mode == 's' ? send(c->fd, chunk, sizeof(chunk), MSG_NOSIGNAL)
				: recv(c->fd, chunk, sizeof(chunk), 0);
		if (n > 0)
			result.bytes += (uint64_t)n;
	} while (n > 0);
	if (n == 0 || errno != EAGAIN)
		die("transfer");
}

/* What still waits in the sender's own queue went nowhere. */
static void unsent(const struct conn *c)
{
	int queued;

	if (c->open && !ioctl(c->fd, SIOCOUTQ, &queued))
		result.bytes -= MIN((uint64_t)queued, result.bytes);
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double timeval_s(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static void print_result(double seconds)
{
	uint32_t p50 = 0, p99 = 0;
	struct rusage u;

	qsort(result.ns, result.n, sizeof(result.ns[0]), by_value);
	if (result.n) {
		p50 = result.ns[result.n / 2];
		p99 = result.ns[result.n * 99 / 100];
	}
	getrusage(RUSAGE_SELF, &u);
	printf("{\"ops_per_s\": %.1f, \"bytes_per_s\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
	       "\"errors\": %llu, \"ops\": %llu, \"bytes\": %llu, \"cpu_s\": %.6f}\n",
	       (double)result.ops / seconds, (double)result.bytes / seconds, p50 / 1e3, p99 / 1e3,
	       (unsigned long long)result.errors, (unsigned long long)result.ops,
	       (unsigned long long)result.bytes, timeval_s(&u.ru_utime) + timeval_s(&u.ru_stime));
}

static int load(char mode, unsigned connections, double seconds)
{
	static struct conn conns[MAX_CONNECTIONS];
	uint64_t begin, end, t;
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (connections < 1 || connections > MAX_CONNECTIONS)
		return 2;
	result.room = 4 << 20;
	result.ns = malloc(result.room * sizeof(result.ns[0]));
	if (!result.ns)
		die("malloc");
	begin = now_ns();
	end = begin + (uint64_t)(seconds * 1e9);
	for (unsigned i = 0; i < connections; i++)
		start(ep, &conns[i]);
	while ((t = now_ns()) < end) {
		struct epoll_event ev[64];
		int n;

		if (busy && connections == 1 && conns[0].open) {
			on_event(ep, &conns[0], 0, mode);
			continue;
		}
		n = epoll_wait(ep, ev, ARRAY_SIZE(ev), busy ? 0 : 100);
		for (int i = 0; i < n; i++)
			on_event(ep, ev[i].data.ptr, ev[i].events, mode);
	}
	for (unsigned i = 0; mode == 's' && i < connections; i++)
		unsent(&conns[i]);
	print_result((double)(t - begin) / 1e9);
	return 0;
}

/* What the server is told. */
static char letter(const char *mode)
{
	if (strcmp(mode, "recv") == 0)
		return 'g';				     /* it generates, the client receives */
	return strcmp(mode, "connect") == 0 ? 'o' : mode[0]; /* nothing is: it only opens */
}

int main(int argc, char **argv)
{
	struct dmm_addr a = {};

	signal(SIGPIPE, SIG_IGN);
	busy = argc > 1 && strcmp(argv[1], "busy") == 0;
	argv += busy;
	argc -= busy;
	if (argc < 4 || addr_parse_ip(argv[argc - 2], a.ip) < 0) {
		fputs("load [busy] serve ADDR PORT | load [busy] connect|cycle|rr|send|recv "
		      "CONNECTIONS SECONDS ADDR PORT\n",
		      stderr);
		return 2;
	}
	a.port = (dmm_u16)atoi(argv[argc - 1]);
	addr_len = addr_to_sockaddr(&a, &addr);
	if (strcmp(argv[1], "serve") == 0)
		serve();
	if (argc != 6)
		return 2;
	return load(letter(argv[1]), (unsigned)atoi(argv[2]), atof(argv[3]));
}
