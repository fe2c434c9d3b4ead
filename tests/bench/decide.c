// SPDX-License-Identifier: Apache-2.0
/*
 * What a decision costs: `decide ROUNDS CONNECTS CGROUP...` opens loopback connections from inside
 * each cgroup, in turns within a round, and prints one line of JSON: for each cgroup the medians,
 * over the rounds, of ns per connection and of the ratio and difference to the first one.
 *
 * One connection is socket(), connect(), accept(), close() of both, in one thread on one CPU: no
 * wake-up of another task is in it, which on a virtual machine costs more than everything else.
 * The listener is made before any cgroup is joined: only the connecting end is managed.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/util.h"

#define MAX_GROUPS 16
#define MAX_ROUNDS 1000

static double ns[MAX_GROUPS][MAX_ROUNDS];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int make_listener(struct sockaddr_in *ret)
{
	socklen_t len = sizeof(*ret);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	*ret = (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (fd < 0 || bind(fd, (struct sockaddr *)ret, sizeof(*ret)) < 0 || listen(fd, 16) < 0 ||
	    getsockname(fd, (struct sockaddr *)ret, &len) < 0)
		die("listen");
	return fd;
}

static void one_connection(int listener, const struct sockaddr_in *to)
{
	const struct linger reset = {.l_onoff = 1}; /* or the ports run out in TIME-WAIT */
	int client, server;

	client = socket(AF_INET, SOCK_STREAM, 0);
	if (client < 0 || setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0)
		die("socket");
	if (connect(client, (const struct sockaddr *)to, sizeof(*to)) < 0)
		die("connect");
	server = accept(listener, NULL, NULL);
	if (server < 0)
		die("accept");
	close(client);
	close(server);
}

/* A process in the cgroup: does `connects` for every byte that it is sent, answers with the ns. */
struct worker {
	int to, from;
};

static void work(int from, int to, const char *cgroup, unsigned connects)
{
	char path[4096], go;
	struct sockaddr_in addr;
	int listener = make_listener(&addr), fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, "0", 1) != 1)
		die(path);
	close(fd);
	while (read(from, &go, 1) == 1) {
		uint64_t since = now_ns();
		double took;

		for (unsigned i = 0; i < connects; i++)
			one_connection(listener, &addr);
		took = (double)(now_ns() - since) / connects;
		if (write(to, &took, sizeof(took)) != sizeof(took))
			break;
	}
	_exit(0);
}

static struct worker start(const char *cgroup, unsigned connects)
{
	int there[2], back[2];
	pid_t pid;

	if (pipe(there) < 0 || pipe(back) < 0)
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		close(there[1]);
		close(back[0]);
		work(there[0], back[1], cgroup, connects);
	}
	close(there[0]);
	close(back[1]);
	return (struct worker){.to = there[1], .from = back[0]};
}

static double turn(const struct worker *w)
{
	double took;

	if (write(w->to, "", 1) != 1 || read(w->from, &took, sizeof(took)) != sizeof(took)) {
		fprintf(stderr, "decide: a worker ended\n");
		exit(1);
	}
	return took;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

int main(int argc, char **argv)
{
	unsigned rounds, connects, groups = (unsigned)argc - 3;
	struct worker worker[MAX_GROUPS];
	cpu_set_t one;

	if (argc < 4 || groups > MAX_GROUPS) {
		fprintf(stderr, "usage: decide ROUNDS CONNECTS CGROUP...\n");
		return 2;
	}
	rounds = (unsigned)strtoul(argv[1], NULL, 10);
	connects = (unsigned)strtoul(argv[2], NULL, 10);
	rounds = MIN(MAX(rounds, 1u), MAX_ROUNDS);
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	for (unsigned g = 0; g < groups; g++) {
		worker[g] = start(argv[3 + g], connects);
		turn(&worker[g]); /* warm */
	}
	for (unsigned r = 0; r < rounds; r++)
		for (unsigned i = 0; i < groups; i++) {
			unsigned g = (i + r) % groups; /* nobody is always first */

			ns[g][r] = turn(&worker[g]);
		}
	for (unsigned g = 0; g < groups; g++) {
		double ratio[MAX_ROUNDS], added[MAX_ROUNDS], all[MAX_ROUNDS];

		for (unsigned r = 0; r < rounds; r++) {
			all[r] = ns[g][r];
			ratio[r] = ns[0][r] / ns[g][r];
			added[r] = ns[g][r] - ns[0][r];
		}
		printf("%s{\"cgroup\": \"%s\", \"ns\": %.0f, \"rate\": %.4f, \"added_ns\": %.0f}",
		       g ? ", " : "[", argv[3 + g], median(all, rounds), median(ratio, rounds),
		       median(added, rounds));
	}
	printf("]\n");
	for (unsigned g = 0; g < groups; g++)
		close(worker[g].to);
	while (wait(NULL) > 0)
		;
	return 0;
}
