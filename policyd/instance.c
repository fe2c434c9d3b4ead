// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/instance.h"
#include "policyd/words.h"

#define ARGV_MAX 32
#define NAME_TRIES 1000
#define NAME_WAIT_US 100

/* Append one argument; what does not fit is cut, which makes the arguments unequal to any other. */
static void __attribute__((format(printf, 2, 3)))
args_add(struct instance_args *a, const char *fmt, ...)
{
	size_t room = sizeof(a->text) - a->len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(a->text + a->len, room, fmt, ap);
	va_end(ap);
	if (n >= 0)
		a->len += MIN((size_t)n + 1, room);
}

void instance_args_build(struct instance_args *ret, const struct dmm_stack_rec *rec, unsigned id,
			 const char *bpffs)
{
	ret->len = 0;
	args_add(ret, "--name");
	args_add(ret, "%.*s", (int)sizeof(rec->name), rec->name);
	args_add(ret, "--id");
	args_add(ret, "%u", id);
	args_add(ret, "--engine");
	args_add(ret, "%.*s", (int)sizeof(rec->engine), rec->engine);
	args_add(ret, "--driver");
	args_add(ret, "%.*s", (int)sizeof(rec->driver), rec->driver);
	args_add(ret, "--interface");
	args_add(ret, "%.*s", (int)sizeof(rec->interface), rec->interface);
	if (rec->queue) {
		args_add(ret, "--queue");
		args_add(ret, "%u", rec->queue - 1);
	}
	if (rec->threads > 1) {
		args_add(ret, "--threads");
		args_add(ret, "%u", rec->threads);
	}
	args_add(ret, "--mode");
	args_add(ret, "%.*s", (int)sizeof(rec->mode), rec->mode[0] ? rec->mode : "auto");
	args_add(ret, "--poll");
	args_add(ret, "%s", words_poll[rec->poll]);
	if (rec->congestion[0]) {
		args_add(ret, "--congestion");
		args_add(ret, "%.*s", (int)sizeof(rec->congestion), rec->congestion);
	}
	if (rec->ecn)
		args_add(ret, "--ecn");
	if (rec->keepalive_s) {
		args_add(ret, "--keepalive");
		args_add(ret, "%u", rec->keepalive_s);
	}
	if (rec->user_timeout_ms) {
		args_add(ret, "--user-timeout");
		args_add(ret, "%u", rec->user_timeout_ms);
	}
	args_add(ret, "--bpffs");
	args_add(ret, "%s", bpffs);
}

bool instance_args_equal(const struct instance_args *a, const struct instance_args *b)
{
	return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

static ssize_t proc_read(pid_t pid, const char *file, char *ret, size_t len)
{
	char path[64];
	_cleanup_close_ int fd = -1;
	size_t n = 0;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (n < len - 1) {
		ssize_t r = read(fd, ret + n, len - 1 - n);

		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		n += (size_t)r;
	}
	ret[n] = '\0';
	return (ssize_t)n;
}

/* posix_spawn() returns a moment before the kernel has given the child its new name and arguments.
 * Whoever looks for instances after us shall find it. */
static void wait_for_name(pid_t pid, int pidfd)
{
	char comm[32], line[8];
	siginfo_t ended = {};

	for (int i = 0; i < NAME_TRIES && ended.si_pid == 0; i++) {
		if (proc_read(pid, "comm", comm, sizeof(comm)) > 0 &&
		    strcmp(comm, INSTANCE_COMM "\n") == 0 &&
		    proc_read(pid, "cmdline", line, sizeof(line)) > 0)
			return;
		usleep(NAME_WAIT_US);
		if (waitid(P_PIDFD, (id_t)pidfd, &ended, WEXITED | WNOHANG | WNOWAIT) < 0)
			return;
	}
}

int instance_spawn(const char *program, const struct instance_args *args, pid_t *ret_pid,
		   int *ret_pidfd)
{
	char *argv[ARGV_MAX] = {(char *)program};
	posix_spawn_file_actions_t files;
	sigset_t none, standard;
	posix_spawnattr_t attr;
	size_t n = 1;
	pid_t pid;
	int r;

	for (size_t i = 0; i < args->len && n < ARGV_MAX - 1; i += strlen(args->text + i) + 1)
		argv[n++] = (char *)args->text + i;

	/* SIGPIPE stays ignored: standard error may be a pipe whose reader goes before we do. */
	sigemptyset(&none);
	sigemptyset(&standard);
	sigaddset(&standard, SIGHUP);
	sigaddset(&standard, SIGTERM);
	sigaddset(&standard, SIGINT);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigdefault(&attr, &standard);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF |
						POSIX_SPAWN_SETSIGMASK);
	posix_spawn_file_actions_init(&files);
	r = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDWR, 0);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
	if (r == 0)
		r = posix_spawn(&pid, program, &files, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	if (r != 0)
		return -r;
	*ret_pidfd = pidfd_open(pid, 0);
	if (*ret_pidfd < 0) {
		r = -errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return r;
	}
	wait_for_name(pid, *ret_pidfd);
	*ret_pid = pid;
	return 0;
}

/* The argument after `name` in a list of NUL-ended arguments; NULL: none. */
static const char *args_value(const struct instance_args *a, const char *name)
{
	bool found = false;

	for (size_t i = 0; i < a->len; i += strlen(a->text + i) + 1) {
		if (found)
			return a->text + i;
		found = strcmp(a->text + i, name) == 0;
	}
	return NULL;
}

/* Name and arguments are anybody's to choose. The real user is asked for, as a program that is
 * setuid may be run by any name, too. */
static bool is_trusted(pid_t pid)
{
	char status[4096];
	const char *at;
	unsigned uid;

	if (proc_read(pid, "status", status, sizeof(status)) <= 0)
		return false;
	at = strstr(status, "\nUid:");
	return at && sscanf(at, " Uid: %u", &uid) == 1 && (uid == 0 || uid == getuid());
}

/* Fill ret if pid is an instance of the tree. */
static bool instance_recognise(pid_t pid, const char *bpffs, struct instance_found *ret)
{
	char line[INSTANCE_ARGS_LEN + 256], comm[32];
	const char *path, *id;
	size_t start = 0, len;
	ssize_t n;
	char *end;

	n = proc_read(pid, "comm", comm, sizeof(comm));
	if (n <= 0 || strcmp(comm, INSTANCE_COMM "\n") != 0)
		return false;
	n = proc_read(pid, "cmdline", line, sizeof(line));
	if (n <= 0)
		return false;
	len = (size_t)n;
	while (start < len && strcmp(line + start, "--name") != 0)
		start += strlen(line + start) + 1;
	if (start >= len || len - start > sizeof(ret->args.text))
		return false;
	memcpy(ret->args.text, line + start, len - start);
	ret->args.len = len - start;
	path = args_value(&ret->args, "--bpffs");
	id = args_value(&ret->args, "--id");
	if (!path || !id || strcmp(path, bpffs) != 0)
		return false;
	ret->id = (unsigned)strtoul(id, &end, 10);
	return end != id && !*end && ret->id < DMM_MAX_STACKS && is_trusted(pid);
}

int instance_scan(const char *bpffs, void (*cb)(const struct instance_found *f, void *ctx),
		  void *ctx)
{
	struct instance_found f;
	struct dirent *e;
	int n = 0;
	DIR *d;

	d = opendir("/proc");
	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		f.pid = (pid_t)strtol(e->d_name, NULL, 10);
		if (f.pid <= 0 || f.pid == getpid())
			continue;
		/* The descriptor first: what is then read belongs to the process that it names, or
		 * that process is gone and the descriptor says so. */
		f.pidfd = pidfd_open(f.pid, 0);
		if (f.pidfd < 0)
			continue;
		if (!instance_recognise(f.pid, bpffs, &f)) {
			close(f.pidfd);
			continue;
		}
		cb(&f, ctx);
		n++;
	}
	closedir(d);
	return n;
}

struct stop_list {
	struct pollfd fd[DMM_MAX_STACKS * 2];
	unsigned n;
};

static void stop_one(const struct instance_found *f, void *ctx)
{
	struct stop_list *l = ctx;

	if (l->n == ARRAY_SIZE(l->fd)) {
		pidfd_send_signal(f->pidfd, SIGKILL, NULL, 0);
		close(f->pidfd);
		return;
	}
	log_debug("instance %u, pid %d: stopping", f->id, (int)f->pid);
	pidfd_send_signal(f->pidfd, SIGTERM, NULL, 0);
	l->fd[l->n++] = (struct pollfd){.fd = f->pidfd, .events = POLLIN};
}

/* Wait until all are gone; returns how many are not. */
static unsigned stop_wait(struct stop_list *l, unsigned timeout_ms)
{
	uint64_t end = now_ns() + timeout_ms * 1000000ULL;

	while (l->n > 0) {
		uint64_t now = now_ns();
		unsigned left = 0;

		if (now >= end)
			break;
		if (poll(l->fd, l->n, (int)((end - now) / 1000000) + 1) < 0 && errno != EINTR)
			break;
		for (unsigned i = 0; i < l->n; i++) {
			if (l->fd[i].revents)
				close(l->fd[i].fd);
			else
				l->fd[left++] = l->fd[i];
		}
		l->n = left;
	}
	return l->n;
}

int instance_stop_all(const char *bpffs, unsigned timeout_ms)
{
	struct stop_list l = {.n = 0};
	int r = instance_scan(bpffs, stop_one, &l);

	if (stop_wait(&l, timeout_ms) == 0)
		return r;
	for (unsigned i = 0; i < l.n; i++)
		pidfd_send_signal(l.fd[i].fd, SIGKILL, NULL, 0);
	if (stop_wait(&l, 2000) == 0)
		return r;
	for (unsigned i = 0; i < l.n; i++)
		close(l.fd[i].fd);
	return -ETIMEDOUT;
}

uint64_t instance_cpu_ns(pid_t pid, char *ret_state)
{
	unsigned long long utime, stime;
	char text[1024], *p, state;

	if (ret_state)
		*ret_state = 0;
	if (pid <= 0 || proc_read(pid, "stat", text, sizeof(text)) <= 0)
		return 0;
	p = strrchr(text, ')'); /* the name before may hold anything */
	if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &state,
			 &utime, &stime) != 3)
		return 0;
	if (ret_state)
		*ret_state = state;
	return (utime + stime) * (1000000000ULL / (unsigned long long)sysconf(_SC_CLK_TCK));
}
