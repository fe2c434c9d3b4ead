// SPDX-License-Identifier: Apache-2.0
/*
 * hazard: run the carrier hazards between two hosts. `hazard serve` is the accepting end, `hazard
 * run` the connecting one; it names the row and the seed in a header on each connection, and asks
 * for the other end's verdict on a control connection of its own. With `run` the connecting end is
 * the subject, with `reverse` the serving end is. Each hazard runs in a child process, so that one
 * that hangs costs only itself.
 */
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/net/hazard.h"

#define HZ_MAGIC 0x687a6401u
#define HZ_CONTROL "control"

struct header {
	uint32_t magic;
	uint32_t reverse; /* 1: the serving end is the subject */
	uint64_t seed;
	char row[24];
};

/* What the serving end found, asked for by seed. */
struct verdict {
	uint64_t seed, tx_off, tx_sum, rx_off, rx_sum;
	int32_t ok; /* 1 passed, 0 failed, -1 not known */
	char why[160];
};

struct hz_options hz_options;

static struct {
	unsigned long iterations;
	uint64_t seed;
	bool nonblock, reverse;
	unsigned limit_s; /* for one hazard */
	struct sockaddr_storage addr;
} opt = {.iterations = 10000, .limit_s = 900};

#define VERDICTS 1024
static struct verdict verdicts[VERDICTS]; /* a ring: those not asked for are overwritten */
static unsigned verdict_next;
static pthread_mutex_t verdict_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t verdict_cond = PTHREAD_COND_INITIALIZER;
static struct hz_hello serve_hello;

static const struct hazard *const tables[] = {hz_data, hz_event, hz_conn};

static const struct hazard *hazard_find(const char *name)
{
	for (size_t t = 0; t < sizeof(tables) / sizeof(*tables); t++) {
		for (const struct hazard *h = tables[t]; h->name; h++) {
			if (strcmp(h->name, name) == 0)
				return h;
		}
	}
	return NULL;
}

static void ctx_init(struct hz_ctx *c, const char *row, uint64_t seed, bool connector)
{
	memset(c, 0, sizeof(*c));
	c->fd = -1;
	c->row = row;
	c->seed = c->shared = seed;
	c->own = hz_mix(seed + connector + 1);
	c->connector = connector;
	c->tx.seed = hz_mix(seed ^ (connector ? 0x5151 : 0x1515));
	c->rx.seed = hz_mix(seed ^ (connector ? 0x1515 : 0x5151));
}

size_t hz_hello_bytes(struct hz_ctx *c, uint64_t seed, void *ret, size_t len)
{
	struct header h = {.magic = HZ_MAGIC, .reverse = opt.reverse, .seed = seed};

	snprintf(h.row, sizeof(h.row), "%s", c->row);
	if (len < sizeof(h))
		abort();
	memcpy(ret, &h, sizeof(h));
	return sizeof(h);
}

int hz_hello(struct hz_ctx *c, uint64_t seed)
{
	char buf[sizeof(struct header)];
	size_t n = hz_hello_bytes(c, seed, buf, sizeof(buf));

	return hz_write(c, buf, n);
}

/* The serving end. */

static void verdict_post(const struct hz_ctx *c, int r)
{
	struct verdict v = {.seed = c->seed,
			    .tx_off = c->tx.off,
			    .tx_sum = c->tx.sum,
			    .rx_off = c->rx.off,
			    .rx_sum = c->rx.sum,
			    .ok = r == 0};

	memcpy(v.why, c->why, sizeof(v.why));
	pthread_mutex_lock(&verdict_lock);
	verdicts[verdict_next++ % VERDICTS] = v;
	pthread_cond_broadcast(&verdict_cond);
	pthread_mutex_unlock(&verdict_lock);
}

/* Wait for the verdict on seed and take it out. */
static void verdict_take(uint64_t seed, struct verdict *ret)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 10;
	memset(ret, 0, sizeof(*ret));
	ret->ok = -1;
	pthread_mutex_lock(&verdict_lock);
	do {
		for (unsigned i = 0; i < VERDICTS && ret->ok < 0; i++) {
			struct verdict *v = &verdicts[(verdict_next - 1 - i) % VERDICTS];

			if (v->seed != seed)
				continue;
			*ret = *v;
			v->seed = 0;
		}
	} while (ret->ok < 0 && pthread_cond_timedwait(&verdict_cond, &verdict_lock, &until) == 0);
	pthread_mutex_unlock(&verdict_lock);
}

static void serve_control(struct hz_ctx *c)
{
	struct verdict v;
	uint64_t seed;

	if (hz_write(c, &serve_hello, sizeof(serve_hello)) < 0)
		return;
	while (hz_read(c, &seed, sizeof(seed)) == 0) {
		verdict_take(seed, &v);
		if (hz_write(c, &v, sizeof(v)) < 0)
			return;
	}
}

static void serve_row(struct hz_ctx *c, const struct header *head)
{
	const struct hazard *h = hazard_find(head->row);
	int r;

	if (!h || !h->peer) {
		fprintf(stderr, "hazard: no row \"%s\"\n", head->row);
		return;
	}
	r = head->reverse ? h->subject(c) : h->peer(c);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	verdict_post(c, r);
}

struct accepted {
	int fd;
	struct sockaddr_storage addr;
};

static void *serve_connection(void *arg)
{
	struct accepted a = *(struct accepted *)arg;
	struct hz_ctx c;
	struct header h;
	int one = 1;

	free(arg);
	setsockopt(a.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	ctx_init(&c, "", 0, false);
	c.fd = a.fd;
	c.nonblock = opt.nonblock;
	if (hz_read(&c, &h, sizeof(h)) == 0 && h.magic == HZ_MAGIC) {
		h.row[sizeof(h.row) - 1] = 0;
		ctx_init(&c, h.row, h.seed, false);
		c.fd = a.fd;
		c.aside = sizeof(h);
		c.nonblock = opt.nonblock;
		c.addr = a.addr;
		if (strcmp(h.row, HZ_CONTROL) == 0)
			serve_control(&c);
		else
			serve_row(&c, &h);
	}
	if (c.fd >= 0)
		close(c.fd);
	return NULL;
}

static int listen_on(struct sockaddr_storage *at, bool listening)
{
	int one = 1, queue = 64;
	int fd = socket(at->ss_family,
			SOCK_STREAM | SOCK_CLOEXEC | (opt.nonblock ? SOCK_NONBLOCK : 0), 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (void *)at, hz_address_len(at)) < 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue));
	return listening && listen(fd, 512) < 0 ? -1 : fd;
}

static void serve_accept(int fd, const pthread_attr_t *attr)
{
	struct accepted *a = calloc(1, sizeof(*a));
	struct pollfd p = {.fd = fd, .events = POLLIN};
	socklen_t len = sizeof(a->addr);
	pthread_t t;

	if (opt.nonblock)
		poll(&p, 1, -1);
	a->fd = accept4(fd, (void *)&a->addr, &len,
			SOCK_CLOEXEC | (opt.nonblock ? SOCK_NONBLOCK : 0));
	if (a->fd >= 0 && pthread_create(&t, attr, serve_connection, a) == 0)
		return;
	if (a->fd >= 0)
		close(a->fd);
	free(a);
}

static int serve(void)
{
	struct sockaddr_storage refused = opt.addr;
	socklen_t len = sizeof(refused);
	pthread_attr_t attr;
	int fd = listen_on(&opt.addr, true), rfd;

	hz_address_port(&refused, 0);
	rfd = listen_on(&refused, false);
	if (fd < 0 || rfd < 0 || getsockname(rfd, (void *)&refused, &len) < 0) {
		perror("hazard: listen");
		return 1;
	}
	serve_hello.refused_port = ntohs(((struct sockaddr_in *)&refused)->sin_port);
	serve_hello.nonblock = opt.nonblock;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 1 << 20);
	printf("ready\n");
	fflush(stdout);
	for (;;)
		serve_accept(fd, &attr);
}

/* The connecting end. */

struct progress { /* shared with the child that runs a hazard */
	volatile unsigned long iteration;
	volatile int failed, skipped, done;
	char why[400];
};

static bool hang_reported(struct progress *p, unsigned quiet_s, unsigned total_s)
{
	if (quiet_s >= 15) {
		snprintf(p->why, sizeof(p->why), "hangs");
		return true;
	}
	return total_s > opt.limit_s + 30;
}

static int control_open(struct hz_ctx *ctl)
{
	ctx_init(ctl, HZ_CONTROL, 1, true);
	ctl->nonblock = opt.nonblock;
	ctl->addr = opt.addr;
	if (hz_dial(ctl, NULL) < 0)
		return -1;
	return hz_read(ctl, &ctl->hello, sizeof(ctl->hello));
}

static int judge(const struct hazard *h, struct hz_ctx *c, const struct verdict *v)
{
	if (v->ok < 0)
		return hz_fail(c, "the serving end did not finish");
	if (v->ok == 0)
		return hz_fail(c, "serving end: %s", v->why);
	if (h->flags & HZ_PARTIAL)
		return 0;
	if (v->rx_off != c->tx.off || v->tx_off != c->rx.off)
		return hz_fail(c, "sent %llu, %llu arrived; received %llu of %llu",
			       (unsigned long long)c->tx.off, (unsigned long long)v->rx_off,
			       (unsigned long long)c->rx.off, (unsigned long long)v->tx_off);
	if (v->rx_sum != c->tx.sum || v->tx_sum != c->rx.sum)
		return hz_fail(c, "checksums of the two ends differ");
	return 0;
}

static int iterate(const struct hazard *h, struct hz_ctx *ctl, uint64_t seed, struct progress *p)
{
	struct verdict v;
	struct hz_ctx c;
	int r;

	ctx_init(&c, h->name, seed, true);
	c.nonblock = opt.nonblock;
	c.addr = opt.addr;
	c.hello = ctl->hello;
	if (h->flags & HZ_CONNECTOR)
		r = h->subject(&c);
	else if ((r = hz_dial(&c, opt.reverse ? NULL : h)) == 0)
		r = opt.reverse ? h->peer(&c) : h->subject(&c);
	if (c.fd >= 0)
		close(c.fd);
	if (r == 0 && !(h->flags & HZ_NO_PEER)) {
		if (hz_write(ctl, &seed, sizeof(seed)) < 0 || hz_read(ctl, &v, sizeof(v)) < 0)
			r = hz_fail(&c, "control connection: %s", ctl->why);
		else
			r = judge(h, &c, &v);
	}
	if (r < 0) {
		snprintf(p->why, sizeof(p->why), "%s (seed %llu)", c.why,
			 (unsigned long long)opt.seed);
		p->failed = 1;
	}
	return r;
}

static void hazard_child(const struct hazard *h, unsigned long n, struct progress *p)
{
	uint64_t seed = opt.seed;
	struct timespec now, start;
	struct hz_ctx ctl;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (const char *s = h->name; *s; s++)
		seed = hz_mix(seed + (unsigned char)*s);
	if (control_open(&ctl) < 0) {
		snprintf(p->why, sizeof(p->why), "control connection: %s", ctl.why);
		p->failed = 1;
		_exit(1);
	}
	if ((h->flags & HZ_BLOCKING) && (opt.reverse ? ctl.hello.nonblock : opt.nonblock)) {
		p->skipped = 1;
		_exit(0);
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (unsigned long i = 0; i < n; i++) {
		if (iterate(h, &ctl, hz_mix(seed + i) | 1, p) < 0)
			break;
		p->iteration = i + 1;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - start.tv_sec >= (time_t)opt.limit_s)
			break;
	}
	p->done = 1;
	_exit(p->failed);
}

/* 0 passed, 1 failed, 77 skipped. */
static int hazard_run(const struct hazard *h, struct progress *p)
{
	unsigned long n = opt.iterations / h->divisor ? opt.iterations / h->divisor : 1, last = 0;
	unsigned quiet = 0, total = 0; /* in units of 10 ms */
	pid_t pid;

	memset(p, 0, sizeof(*p));
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		hazard_child(h, n, p);
	while (waitpid(pid, NULL, WNOHANG) == 0) {
		hz_sleep_us(10000);
		total++;
		quiet = p->iteration == last ? quiet + 1 : 0;
		last = p->iteration;
		if (hang_reported(p, quiet / 100, total / 100)) {
			p->failed = 1;
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
			break;
		}
	}
	if (p->skipped) {
		printf("ok %s # skip: needs a blocking socket\n", h->name);
		return 77;
	}
	if (p->failed || !p->done) {
		printf("not ok %s: %s, iteration %lu, seed %llu\n", h->name,
		       p->why[0] ? p->why : "died", p->iteration, (unsigned long long)opt.seed);
		return 1;
	}
	printf("ok %s %lu%s\n", h->name, p->iteration, p->iteration < n ? " (time limit)" : "");
	return 0;
}

static bool hazard_wanted(const struct hazard *h, char **names)
{
	if (opt.reverse && (h->flags & HZ_CONNECTOR))
		return false;
	if (!*names) {
		if (h->subject == NULL)
			return false;
		if (strcmp(h->name, "timeout") == 0 && !hz_options.blackhole)
			return false;
		return strcmp(h->name, "unreachable") || hz_options.unreachable;
	}
	for (; *names; names++) {
		if (strcmp(h->name, *names) == 0)
			return true;
	}
	return false;
}

static int run(char **names)
{
	struct progress *p =
		mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned passed = 0, failed = 0, skipped = 0;

	for (char **n = names; *n; n++) {
		if (!hazard_find(*n)) {
			fprintf(stderr, "hazard: no hazard \"%s\"; see hazard list\n", *n);
			return 2;
		}
	}
	for (size_t t = 0; t < sizeof(tables) / sizeof(*tables); t++) {
		for (const struct hazard *h = tables[t]; h->name; h++) {
			int r;

			if (!hazard_wanted(h, names))
				continue;
			r = hazard_run(h, p);
			*(r == 0 ? &passed : r == 77 ? &skipped : &failed) += 1;
		}
	}
	printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
	return failed ? 1 : 0;
}

/* One connect(): print the errno and how long it took, then keep the connection for a while. */
static int connect_once(unsigned keep_s)
{
	struct timespec a, b;
	struct hz_ctx c;
	int r, count = 2; /* about 7 s until ETIMEDOUT */

	ctx_init(&c, "", 0, true);
	c.nonblock = opt.nonblock;
	c.addr = opt.addr;
	if (hz_socket(&c) < 0)
		return 1;
	setsockopt(c.fd, IPPROTO_TCP, TCP_SYNCNT, &count, sizeof(count));
	clock_gettime(CLOCK_MONOTONIC, &a);
	r = hz_connect(&c, &c.addr);
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%s %ld\n", r ? strerrorname_np(r) : "0",
	       (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000);
	fflush(stdout);
	if (r == 0)
		sleep(keep_s);
	return 0;
}

static int list(void)
{
	for (size_t t = 0; t < sizeof(tables) / sizeof(*tables); t++) {
		for (const struct hazard *h = tables[t]; h->name; h++)
			printf("%-18s 1/%u%s%s\n", h->name, h->divisor,
			       h->flags & HZ_BLOCKING ? " blocking" : "",
			       h->flags & HZ_CONNECTOR ? " connector" : "");
	}
	return 0;
}

static void on_signal(int number)
{
	(void)number;
}

static void signals_init(void)
{
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	sigaction(SIGUSR1, &sa, NULL);
	sa.sa_flags = 0;
	sigaction(SIGUSR2, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int usage(void)
{
	fprintf(stderr, "usage: hazard serve [-N] ADDR PORT\n"
			"       hazard run|reverse [-n ITERATIONS] [-s SEED] [-b|-N] [-t SECONDS]\n"
			"               [-B BLACKHOLE] [-U UNREACHABLE] ADDR PORT [NAME...]\n"
			"       hazard connect [-b|-N] [-k SECONDS] ADDR PORT\n"
			"       hazard list\n"
			"-b sockets block (default), -N they do not; reverse: the serving end is "
			"the subject\n");
	return 2;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	unsigned keep_s = 0;
	int o;

	opt.seed = time(NULL);
	optind = 2;
	while (argc > 2 && (o = getopt(argc, argv, "+n:s:bNt:B:U:k:")) != -1) {
		switch (o) {
		case 'n':
			opt.iterations = strtoul(optarg, NULL, 0);
			break;
		case 's':
			opt.seed = strtoull(optarg, NULL, 0);
			break;
		case 'b':
			opt.nonblock = false;
			break;
		case 'N':
			opt.nonblock = true;
			break;
		case 't':
			opt.limit_s = strtoul(optarg, NULL, 0);
			break;
		case 'k':
			keep_s = strtoul(optarg, NULL, 0);
			break;
		case 'B':
			hz_options.blackhole = optarg;
			break;
		case 'U':
			hz_options.unreachable = optarg;
			break;
		default:
			return usage();
		}
	}
	if (strcmp(verb, "list") == 0)
		return list();
	if (argc - optind < 2 || hz_address(argv[optind], atoi(argv[optind + 1]), &opt.addr) < 0)
		return usage();
	signals_init();
	if (strcmp(verb, "serve") == 0)
		return serve();
	if (strcmp(verb, "connect") == 0)
		return connect_once(keep_s);
	opt.reverse = strcmp(verb, "reverse") == 0;
	return opt.reverse || strcmp(verb, "run") == 0 ? run(argv + optind + 2) : usage();
}
