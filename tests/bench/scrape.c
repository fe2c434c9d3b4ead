// SPDX-License-Identifier: Apache-2.0
/*
 * What a scrape costs: `scrape DMM_POLICYD FLOWS RULES ROUNDS` starts a daemon of its own with so
 * many rules, makes so many sockets with a verdict, and gets /metrics and /v1/stats from it, each
 * ROUNDS times. Beside it another process of the group connects sockets all the time, without and
 * with scrapes: the longest that a connect took, and the 99.9th percentile. Prints one line of
 * JSON.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/cgroup.h"
#include "loader/maps.h"

#define MAX_ROUNDS 101
#define MAX_CONNECTS (1 << 22)

static char dir[] = "/tmp/dmm-scrape-XXXXXX", path[64], cgroup[64];
static struct tree tree;

/* What the process that connects writes and its parent reads. */
static struct work {
	volatile unsigned n; /* connects so far */
	uint32_t ns[MAX_CONNECTS];
} * work;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static pid_t start_daemon(const char *program, unsigned rules)
{
	char file[64];
	FILE *out;
	pid_t pid;

	snprintf(file, sizeof(file), "%s/dmm.yaml", dir);
	out = fopen(file, "w");
	fprintf(out, "groups: {g: {cgroup: %s}}\nstacks: {a: {kind: kernel}}\nrules:\n", cgroup);
	for (unsigned i = 0; i < rules; i++)
		fprintf(out,
			"  - {name: rule-%u, match: {group: g, remote: 127.%u.%u.0/24}, use: a}\n",
			i, i >> 8, i & 255);
	fprintf(out, "default: kernel\n");
	fclose(out);
	pid = fork();
	if (pid == 0) {
		execl(program, program, "-c", file, NULL);
		_exit(127);
	}
	return pid;
}

/* A socket with a verdict each, as a connect through an instance leaves it; held by processes, for
 * one may have too few descriptors. They live as long as the other end of the pipe is open. */
static void make_flows(unsigned n, int *ret_pipe)
{
	enum { EACH = 10000 };
	struct dmm_sock st = {.rule = DMM_RULE_NONE, .proto = IPPROTO_UDP, .group = 1};
	struct rlimit files = {EACH + 1000, EACH + 1000};
	int hold[2], made[2];
	char c;

	if (pipe(hold) < 0 || pipe(made) < 0)
		die("pipe");
	for (unsigned first = 0; first < n; first += EACH) {
		if (fork() > 0) {
			if (read(made[0], &c, 1) != 1)
				die("flows");
			continue;
		}
		close(hold[1]);
		if (setrlimit(RLIMIT_NOFILE, &files) < 0)
			die("RLIMIT_NOFILE");
		for (unsigned i = first; i < n && i < first + EACH; i++) {
			int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

			if (s < 0 || bpf_map_update_elem(tree.map[TREE_SOCK], &s, &st, 0) < 0)
				die("a socket");
		}
		if (write(made[1], "", 1) == 1 && read(hold[0], &c, 1) == 0)
			_exit(0);
		_exit(1);
	}
	*ret_pipe = hold[1];
}

/* GET what; the bytes of the answer. */
static size_t get(const char *what)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	static char answer[1 << 20];
	size_t got = 0;
	ssize_t n;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/policyd.sock", dir);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		close(fd);
		return 0;
	}
	dprintf(fd, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", what);
	while ((n = read(fd, answer, sizeof(answer))) > 0) {
		if (got == 0 && strncmp(answer, "HTTP/1.1 200", 12) != 0)
			break;
		got += (size_t)n;
	}
	close(fd);
	return got;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void scrapes(const char *what, unsigned rounds)
{
	double ms[MAX_ROUNDS];
	size_t bytes = 0;

	for (unsigned i = 0; i < rounds; i++) {
		uint64_t since = now_ns();

		bytes = get(what);
		ms[i] = (double)(now_ns() - since) / 1e6;
	}
	qsort(ms, rounds, sizeof(*ms), by_value);
	printf("\"%s\": {\"median_ms\": %.1f, \"max_ms\": %.1f, \"bytes\": %zu}, ", what,
	       ms[rounds / 2], ms[rounds - 1], bytes);
}

static void connect_for_ever(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};

	if (cgroup_join(cgroup, 0) < 0)
		_exit(1);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	while (work->n < MAX_CONNECTS) {
		int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		uint64_t since = now_ns();

		if (connect(s, (struct sockaddr *)&to, sizeof(to)) < 0)
			_exit(1);
		work->ns[work->n] = (uint32_t)(now_ns() - since);
		work->n++;
		close(s);
	}
	_exit(0);
}

static int by_ns(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* For two seconds connect, scraping all the time or not. */
static void connects(const char *name, bool scrape)
{
	uint64_t end = now_ns() + 2000000000ULL;
	unsigned scraped = 0, n;
	pid_t pid;

	fflush(stdout);
	work->n = 0;
	pid = fork();
	if (pid == 0)
		connect_for_ever();
	while (now_ns() < end) {
		if (scrape)
			scraped += get("/metrics") > 0;
		else
			usleep(10000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	n = work->n;
	qsort(work->ns, n, sizeof(*work->ns), by_ns);
	printf("\"%s\": {\"connects\": %u, \"scrapes\": %u, \"p50_us\": %.1f, \"p999_us\": %.1f, "
	       "\"max_us\": %.1f}%s",
	       name, n, scraped, work->ns[n / 2] / 1e3, work->ns[n - n / 1000 - 1] / 1e3,
	       work->ns[n - 1] / 1e3, scrape ? "}\n" : ", ");
}

int main(int argc, char **argv)
{
	unsigned flows, rules, rounds;
	pid_t daemon;
	int r, hold;

	if (argc != 5) {
		fprintf(stderr, "usage: scrape DMM_POLICYD FLOWS RULES ROUNDS\n");
		return 2;
	}
	flows = (unsigned)strtoul(argv[2], NULL, 10);
	rules = (unsigned)strtoul(argv[3], NULL, 10);
	rounds = MIN(MAX((unsigned)strtoul(argv[4], NULL, 10), 1u), MAX_ROUNDS);
	log_init("scrape", LOG_L_ERROR);
	work = mmap(NULL, sizeof(*work), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!mkdtemp(dir) || work == MAP_FAILED)
		die(dir);
	snprintf(path, sizeof(path), "/sys/fs/bpf/dmm-scrape-%d", getpid());
	snprintf(cgroup, sizeof(cgroup), "dmm-scrape-%d/g", getpid());
	setenv("DMM_RUN", dir, 1);
	setenv("DMM_BPFFS", path, 1);
	daemon = start_daemon(argv[1], rules);
	for (int i = 0; i < 1000 && get("/healthz") == 0; i++)
		usleep(10000);
	if (tree_open(&tree, path) < 0)
		return 1;
	make_flows(flows, &hold);
	printf("{\"flows\": %u, \"rules\": %u, ", flows, rules);
	scrapes("/metrics", rounds);
	scrapes("/v1/stats", rounds);
	connects("alone", false);
	connects("scraped", true);
	kill(daemon, SIGTERM);
	waitpid(daemon, NULL, 0);
	close(hold);
	while (wait(NULL) > 0)
		;
	tree_close(&tree);
	r = tree_teardown(path);
	fflush(stdout);
	execlp("rm", "rm", "-r", dir, NULL);
	return r < 0;
}
