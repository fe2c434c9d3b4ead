// SPDX-License-Identifier: Apache-2.0
/*
 * Very many connections at once, each idle but for a look at whether it is the right one.
 *
 *   many serve ADDR PORT PORTS           accept on so many ports, send back what comes
 *   many open N ADDR PORT PORTS [FROM ADDRESSES]
 *                                        open N, in turn to each port, from so many addresses: FROM
 *                                        and those behind it
 *
 * open says, in lines of JSON, what a tenth of them took each, when all are open, then exchanges a
 * number of its own over each of them, waits for the end of its standard input, and exchanges
 * again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256
#define AT_ONCE 64 /* connections being opened */

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static socklen_t address(struct sockaddr_storage *ret, const char *text, unsigned port)
{
	struct sockaddr_in6 *six = (void *)ret;
	struct sockaddr_in *four = (void *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons((uint16_t)port);
		return sizeof(*four);
	}
	if (inet_pton(AF_INET6, text, &six->sin6_addr) != 1)
		die(text);
	six->sin6_family = AF_INET6;
	six->sin6_port = htons((uint16_t)port);
	return sizeof(*six);
}

/* ---- serve ---- */

static void watch(int ep, int fd, bool listens)
{
	struct epoll_event ev = {.events = EPOLLIN,
				 .data.u64 = (uint64_t)listens << 32 | (unsigned)fd};

	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
}

static void serve(const char *text, unsigned port, unsigned ports)
{
	struct epoll_event ev[EVENTS];
	struct sockaddr_storage sa;
	int ep = epoll_create1(0), one = 1;

	for (unsigned i = 0; i < ports; i++) {
		socklen_t len = address(&sa, text, port + i);
		int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);

		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, (struct sockaddr *)&sa, len) < 0 || listen(fd, 4096) < 0)
			die("listen");
		watch(ep, fd, true);
	}
	printf("ready\n");
	for (;;) {
		int n = epoll_wait(ep, ev, EVENTS, -1), new;

		for (int i = 0; i < n; i++) {
			int fd = (int)(uint32_t)ev[i].data.u64;
			char byte[64];
			ssize_t got;

			if (ev[i].data.u64 >> 32) {
				while ((new = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0)
					watch(ep, new, false);
				continue;
			}
			got = recv(fd, byte, sizeof(byte), 0);
			if (got <= 0 || send(fd, byte, (size_t)got, MSG_NOSIGNAL) != got)
				close(fd);
		}
	}
}

/* ---- open ---- */

struct to {
	const char *text;
	unsigned port, ports;
	const char *from;
	unsigned froms;
};

static void bind_to(int fd, const struct to *to, unsigned i)
{
	struct sockaddr_storage sa;
	socklen_t len = address(&sa, to->from, 0);
	int one = 1;

	if (sa.ss_family == AF_INET) {
		struct sockaddr_in *four = (void *)&sa;

		four->sin_addr.s_addr = htonl(ntohl(four->sin_addr.s_addr) + i % to->froms);
	} else {
		((struct sockaddr_in6 *)&sa)->sin6_addr.s6_addr[15] += (uint8_t)(i % to->froms);
	}
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sa, len) < 0)
		die("bind");
}

static int begin(const struct to *to, unsigned i)
{
	struct sockaddr_storage sa;
	socklen_t len = address(&sa, to->text, to->port + i % to->ports);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (fd < 0)
		die("socket");
	if (to->from)
		bind_to(fd, to, i / to->ports);
	if (connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS)
		die("connect");
	return fd;
}

/* All of them, AT_ONCE at a time. */
static void open_all(int *fd, unsigned n, const struct to *to)
{
	int ep = epoll_create1(0);
	struct epoll_event ev[EVENTS];
	unsigned begun = 0, done = 0;
	double since = now_s();

	while (done < n) {
		for (; begun < n && begun - done < AT_ONCE; begun++) {
			struct epoll_event w = {.events = EPOLLOUT, .data.u32 = begun};

			fd[begun] = begin(to, begun);
			if (epoll_ctl(ep, EPOLL_CTL_ADD, fd[begun], &w) < 0)
				die("epoll_ctl");
		}
		int k = epoll_wait(ep, ev, EVENTS, 60000);

		if (k <= 0) {
			fprintf(stderr, "%u of %u connections after 60 s of silence\n", done, n);
			exit(1);
		}
		for (int i = 0; i < k; i++) {
			int error = 0;
			socklen_t len = sizeof(error);

			getsockopt(fd[ev[i].data.u32], SOL_SOCKET, SO_ERROR, &error, &len);
			if (error) {
				fprintf(stderr, "%u connections: %s\n", done, strerror(error));
				exit(1);
			}
			epoll_ctl(ep, EPOLL_CTL_DEL, fd[ev[i].data.u32], NULL);
			if (++done % (n / 10) == 0) {
				printf("{\"open\": %u, \"us_each\": %.1f}\n", done,
				       (now_s() - since) * 1e6 / (n / 10));
				since = now_s();
			}
		}
	}
	close(ep);
}

static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 10000) == 1;
}

/* Its number there and back over each; returns how many came back wrong or not at all. */
static unsigned exchange_all(const int *fd, unsigned n, unsigned salt)
{
	unsigned bad = 0, value, back;
	double since = now_s();

	for (unsigned first = 0; first < n; first += EVENTS) {
		unsigned last = first + EVENTS < n ? first + EVENTS : n;

		for (unsigned i = first; i < last; i++) {
			value = i * 2654435761u ^ salt;
			bad += send(fd[i], &value, sizeof(value), MSG_NOSIGNAL) != sizeof(value);
		}
		for (unsigned i = first; i < last; i++) {
			back = 0;
			bad += !readable(fd[i]) ||
			       recv(fd[i], &back, sizeof(back), 0) != sizeof(back) ||
			       back != (i * 2654435761u ^ salt);
		}
	}
	printf("{\"exchanged\": %u, \"wrong\": %u, \"us_each\": %.1f}\n", n, bad,
	       (now_s() - since) * 1e6 / n);
	return bad;
}

int main(int argc, char **argv)
{
	struct rlimit many;
	unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
	struct to to = {0};
	unsigned bad;
	int *fd;

	setvbuf(stdout, NULL, _IOLBF, 0);
	getrlimit(RLIMIT_NOFILE, &many);
	many.rlim_cur = many.rlim_max;
	setrlimit(RLIMIT_NOFILE, &many);
	if (argc == 5 && !strcmp(argv[1], "serve"))
		serve(argv[2], (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
	if ((argc != 6 && argc != 8) || strcmp(argv[1], "open") || n < 10) {
		fprintf(stderr, "usage: many serve ADDR PORT PORTS\n"
				"       many open N ADDR PORT PORTS [FROM ADDRESSES]\n");
		return 2;
	}
	to.text = argv[3];
	to.port = (unsigned)atoi(argv[4]);
	to.ports = (unsigned)atoi(argv[5]);
	to.from = argc == 8 ? argv[6] : NULL;
	to.froms = argc == 8 ? (unsigned)atoi(argv[7]) : 1;
	fd = calloc(n, sizeof(*fd));
	open_all(fd, n, &to);
	bad = exchange_all(fd, n, 1);
	while (getchar() != EOF)
		;
	bad += exchange_all(fd, n, 2);
	for (unsigned i = 0; i < n; i++)
		close(fd[i]);
	return bad != 0;
}
