/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's event loop: one epoll descriptor, one thread, everything in it is a callback. A
 * source lies in its owner's storage and stays there for the life of the loop: an event of a batch
 * may arrive for a source that was just deleted, so a callback looks before it acts.
 */
#ifndef DMM_POLICYD_LOOP_H
#define DMM_POLICYD_LOOP_H

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct loop_source {
	void (*cb)(struct loop_source *src, uint32_t events);
};

static inline int loop_add(int epfd, int fd, uint32_t events, struct loop_source *src)
{
	struct epoll_event ev = {.events = events, .data.ptr = src};

	return epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static inline void loop_del(int epfd, int fd)
{
	epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL);
}

/* SIGHUP, SIGTERM and SIGINT become events of src, to be read from the descriptor that is returned;
 * SIGPIPE is ignored. -errno. */
static inline int loop_add_signals(int epfd, struct loop_source *src)
{
	sigset_t set;
	int fd, r;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	r = loop_add(epfd, fd, EPOLLIN, src);
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

/* One round: wait up to timeout_ms (-1: for ever), call what is ready. 0 or -errno. */
static inline int loop_run(int epfd, int timeout_ms)
{
	struct epoll_event ev[16];
	int n = epoll_wait(epfd, ev, 16, timeout_ms);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < n; i++) {
		struct loop_source *src = ev[i].data.ptr;

		src->cb(src, ev[i].events);
	}
	return 0;
}

#endif
