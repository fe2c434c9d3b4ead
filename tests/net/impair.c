// SPDX-License-Identifier: Apache-2.0
/*
 * A long link: frames go from one interface to the other and back, later, and not all of them.
 *
 *   impair IFACE IFACE delay=MS rate=MBIT queue=KIB loss=PERMILLE reorder=PERMILLE
 *          duplicate=PERMILLE corrupt=PERMILLE mtu=BYTES seed=N
 *
 * Everything is optional and for both directions. mtu: larger IP packets vanish. The hosts must not
 * leave segmentation or checksums to their interfaces. Prints "ready".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX 2048
#define HELD 65536

struct held {
	unsigned long long at, order;
	int to;
	unsigned len;
	unsigned char *data;
};

static struct {
	const char *name;
	double value;
} option[] = {{"delay", 0},	{"rate", 0},	{"queue", 256}, {"loss", 0}, {"reorder", 0},
	      {"duplicate", 0}, {"corrupt", 0}, {"mtu", 0},	{"seed", 1}};
enum { DELAY, RATE, QUEUE, LOSS, REORDER, DUPLICATE, CORRUPT, MTU, SEED, OPTIONS };

static struct held heap[HELD];
static unsigned held;
static unsigned long long order, free_at[2], rng;
static int fd[2];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static unsigned long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (unsigned long long)t.tv_sec * 1000000000 + (unsigned long long)t.tv_nsec;
}

static unsigned below(unsigned n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (unsigned)((rng >> 16) % n);
}

static int chance(int what)
{
	return option[what].value > 0 && below(100000) < option[what].value * 100;
}

static int earlier(const struct held *a, const struct held *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void hold(struct held h)
{
	unsigned i;

	h.order = order++;
	for (i = held++; i && earlier(&h, &heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = h;
}

static struct held release(void)
{
	struct held first = heap[0], last = heap[--held];
	unsigned i = 0, child;

	while ((child = 2 * i + 1) < held) {
		if (child + 1 < held && earlier(&heap[child + 1], &heap[child]))
			child++;
		if (!earlier(&heap[child], &last))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return first;
}

/* A frame, or a copy of it, goes its way, if there is room for it. */
static void pass(int to, const unsigned char *data, unsigned len, unsigned long long now)
{
	unsigned long long at = free_at[to] > now ? free_at[to] : now;
	double bytes = option[RATE].value * 125000; /* a second */
	struct held h = {.to = to, .len = len};

	if (held == HELD)
		return;
	if (bytes > 0) {
		if ((double)(at - now) * bytes / 1e9 > option[QUEUE].value * 1024)
			return;
		at += (unsigned long long)(len * 1e9 / bytes);
		free_at[to] = at;
	}
	h.at = at + (unsigned long long)(option[DELAY].value * 1e6);
	if (chance(REORDER))
		h.at += 1000000 + below(4000000);
	h.data = malloc(len);
	if (!h.data)
		return;
	memcpy(h.data, data, len);
	if (chance(CORRUPT) && len > ETH_HLEN)
		h.data[ETH_HLEN + below(len - ETH_HLEN)] ^= (unsigned char)(1 + below(255));
	hold(h);
}

static void receive(int from)
{
	unsigned char frame[FRAME_MAX];
	struct sockaddr_ll a;
	socklen_t alen;
	ssize_t n;

	for (unsigned i = 0; i < 64; i++) {
		alen = sizeof(a);
		n = recvfrom(fd[from], frame, sizeof(frame), MSG_DONTWAIT | MSG_TRUNC,
			     (struct sockaddr *)&a, &alen);
		if (n < 0)
			return;
		if (a.sll_pkttype == PACKET_OUTGOING)
			continue;
		if ((size_t)n > sizeof(frame)) {
			fprintf(stderr, "a frame of %zd bytes: is segmentation offload on?\n", n);
			continue;
		}
		if (option[MTU].value > 0 && (double)n > option[MTU].value + ETH_HLEN)
			continue;
		if (chance(LOSS))
			continue;
		pass(!from, frame, (unsigned)n, now_ns());
		if (chance(DUPLICATE))
			pass(!from, frame, (unsigned)n, now_ns());
	}
}

static int open_interface(const char *name)
{
	int s = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)), size = 16 << 20;
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};

	a.sll_ifindex = (int)if_nametoindex(name);
	if (!a.sll_ifindex || s < 0 || bind(s, (struct sockaddr *)&a, sizeof(a)) < 0)
		die(name);
	(void)setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	return s;
}

static void set(const char *text)
{
	size_t n = strcspn(text, "=");

	for (unsigned i = 0; i < OPTIONS; i++)
		if (strlen(option[i].name) == n && !strncmp(option[i].name, text, n)) {
			option[i].value = atof(text + n + !!text[n]);
			return;
		}
	fprintf(stderr, "impair: what is %s?\n", text);
	exit(2);
}

int main(int argc, char **argv)
{
	struct pollfd p[2];

	if (argc < 3)
		return 2;
	for (int i = 3; i < argc; i++)
		set(argv[i]);
	rng = 0x9e3779b97f4a7c15ull * (unsigned long long)(1 + option[SEED].value);
	for (int i = 0; i < 2; i++) {
		fd[i] = open_interface(argv[1 + i]);
		p[i] = (struct pollfd){fd[i], POLLIN, 0};
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		unsigned long long now = now_ns(), wait = 1000000000;

		while (held && heap[0].at <= now) {
			struct held h = release();

			(void)!send(fd[h.to], h.data, h.len, 0);
			free(h.data);
		}
		if (held)
			wait = heap[0].at - now;
		ppoll(p, 2,
		      &(struct timespec){(time_t)(wait / 1000000000), (long)(wait % 1000000000)},
		      NULL);
		receive(0);
		receive(1);
	}
}
