/* SPDX-License-Identifier: Apache-2.0 */
/* One etcd on loopback, with a directory of its own, for the time of a test. */
#ifndef DMM_TESTS_ETCD_REAL_H
#define DMM_TESTS_ETCD_REAL_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct etcd_real {
	pid_t pid;
	char dir[64], client[64], peer[64], cluster[80];
};

/* A port that nobody has now. */
static inline unsigned free_port(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&sa, len) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		abort();
	close(fd);
	return ntohs(sa.sin_port);
}

/* Start it, with what it had stored before. */
static inline void etcd_real_run(struct etcd_real *s)
{
	s->pid = fork();
	if (s->pid != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!freopen("/dev/null", "w", stderr) || !freopen("/dev/null", "w", stdout))
		_exit(1);
	execlp("etcd", "etcd", "--data-dir", s->dir, "--listen-client-urls", s->client,
	       "--advertise-client-urls", s->client, "--listen-peer-urls", s->peer,
	       "--initial-advertise-peer-urls", s->peer, "--initial-cluster", s->cluster, NULL);
	_exit(127);
}

/* false: there is no etcd here. */
static inline int etcd_real_start(struct etcd_real *s)
{
	if (system("command -v etcd >/dev/null") != 0)
		return 0;
	snprintf(s->dir, sizeof(s->dir), "/tmp/dmm-test-etcd-XXXXXX");
	if (!mkdtemp(s->dir))
		abort();
	snprintf(s->client, sizeof(s->client), "http://127.0.0.1:%u", free_port());
	snprintf(s->peer, sizeof(s->peer), "http://127.0.0.1:%u", free_port());
	snprintf(s->cluster, sizeof(s->cluster), "default=%s", s->peer);
	etcd_real_run(s);
	return 1;
}

static inline void etcd_real_kill(struct etcd_real *s)
{
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
}

static inline void etcd_real_stop(struct etcd_real *s)
{
	char command[96];

	etcd_real_kill(s);
	snprintf(command, sizeof(command), "rm -rf %s", s->dir);
	if (system(command) != 0)
		abort();
}

#endif
