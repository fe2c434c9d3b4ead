// SPDX-License-Identifier: Apache-2.0
/*
 * A sock_diag socket sees the network namespace that it was made in. For each namespace: dump its
 * sockets to learn how the kernel names those whose cookies are asked for (the addresses of a
 * carrier are not those that the application knows), then destroy them by these names.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <libmnl/libmnl.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/destroy.h"

#define NOT_TRIED 1 /* destroy.error until it is known */

/* ---- namespaces ---- */

static int netns_try(const char *path, dmm_u64 inode)
{
	struct stat st;

	if (stat(path, &st) < 0 || st.st_ino != inode)
		return -ENXIO;
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* In a directory of namespaces, or of processes ("/ns/net" behind each name). */
static int netns_search(const char *dir, const char *behind, dmm_u64 inode)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char path[512];
	int fd = -ENXIO;

	while (d && fd < 0 && (e = readdir(d))) {
		if (e->d_name[0] == '.' || (*behind && !strchr("123456789", e->d_name[0])))
			continue;
		snprintf(path, sizeof(path), "%s/%s%s", dir, e->d_name, behind);
		fd = netns_try(path, inode);
	}
	if (d)
		closedir(d);
	return fd;
}

/* A namespace may have a name and no process, or the other way round. */
static int netns_open(dmm_u64 inode, dmm_u32 pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/ns/net", pid);
	fd = netns_try(path, inode);
	if (fd < 0)
		fd = netns_try("/proc/self/ns/net", inode);
	if (fd < 0)
		fd = netns_search("/proc", "/ns/net", inode);
	return fd < 0 ? netns_search("/run/netns", "", inode) : fd;
}

/* A sock_diag socket of that namespace. *ret_lost: the caller is in the wrong namespace now. */
static struct mnl_socket *diag_open(int home, int netns, bool *ret_lost)
{
	struct mnl_socket *nl;

	if (setns(netns, CLONE_NEWNET) < 0)
		return NULL;
	nl = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	if (setns(home, CLONE_NEWNET) < 0)
		*ret_lost = true;
	if (nl && mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		mnl_socket_close(nl);
		nl = NULL;
	}
	return nl;
}

/* ---- sock_diag ---- */

struct target {
	struct destroy *d;
	struct inet_diag_req_v2 name;
};

struct diag {
	struct destroy **list; /* of all namespaces, by cookie */
	size_t n;
	dmm_u64 netns;
	dmm_u8 proto;
	struct target *target; /* found by the dump */
	size_t n_targets;
};

static dmm_u64 cookie_of(const struct inet_diag_sockid *id)
{
	return (dmm_u64)id->idiag_cookie[1] << 32 | id->idiag_cookie[0];
}

static int by_cookie(const void *a, const void *b)
{
	const struct destroy *const *x = a, *const *y = b;

	return (*x)->cookie < (*y)->cookie ? -1 : (*x)->cookie > (*y)->cookie;
}

static int on_dumped(const struct nlmsghdr *h, void *ctx)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	struct destroy key = {.cookie = cookie_of(&m->id)}, *p = &key, **found;
	struct diag *g = ctx;

	found = bsearch(&p, g->list, g->n, sizeof(p), by_cookie);
	if (!found || (*found)->proto != g->proto || (*found)->error != NOT_TRIED)
		return MNL_CB_OK;
	(*found)->error = -ENOENT; /* until it is destroyed */
	g->target[g->n_targets++] = (struct target){
		.d = *found,
		.name = {.sdiag_family = m->idiag_family,
			 .sdiag_protocol = g->proto,
			 .idiag_states = ~0u,
			 .id = m->id},
	};
	return MNL_CB_OK;
}

/* Send one request and hear its answers to the end. 0 or -errno. */
static int diag_talk(struct mnl_socket *nl, int type, int flags, const struct inet_diag_req_v2 *req,
		     struct diag *g)
{
	_Alignas(struct nlmsghdr) char buf[16384];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	static unsigned seq;
	ssize_t n;
	int r;

	h->nlmsg_type = (uint16_t)type;
	h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	h->nlmsg_seq = ++seq;
	memcpy(mnl_nlmsg_put_extra_header(h, sizeof(*req)), req, sizeof(*req));
	if (mnl_socket_sendto(nl, h, h->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(nl, buf, sizeof(buf));
		if (n < 0)
			return -errno;
		r = mnl_cb_run(buf, (size_t)n, seq, mnl_socket_get_portid(nl), g ? on_dumped : NULL,
			       g);
	} while (r > MNL_CB_STOP);
	return r < 0 ? -errno : 0;
}

/* The sockets of one protocol in the namespace of nl. */
static int diag_destroy(struct mnl_socket *nl, struct diag *g)
{
	static const dmm_u8 families[] = {AF_INET, AF_INET6};
	struct inet_diag_req_v2 all = {.sdiag_protocol = g->proto, .idiag_states = ~0u};
	int r = 0;

	g->n_targets = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(families); i++) {
		all.sdiag_family = families[i];
		r = diag_talk(nl, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &all, g);
	}
	for (size_t i = 0; i < g->n_targets; i++)
		g->target[i].d->error =
			diag_talk(nl, SOCK_DESTROY, NLM_F_ACK, &g->target[i].name, NULL);
	return r;
}

/* What was asked for in one namespace and is still without a result gets this one. */
static void settle(struct diag *g, int error)
{
	for (size_t i = 0; i < g->n; i++)
		if (g->list[i]->netns == g->netns && g->list[i]->error == NOT_TRIED)
			g->list[i]->error = error;
}

static int destroy_in(int home, struct diag *g, dmm_u32 pid)
{
	_cleanup_close_ int netns = netns_open(g->netns, pid);
	static const dmm_u8 protos[] = {IPPROTO_TCP, IPPROTO_UDP};
	struct mnl_socket *nl = NULL;
	bool lost = false;
	int r = netns;

	if (netns >= 0) {
		nl = diag_open(home, netns, &lost);
		r = nl ? 0 : -errno;
	}
	for (size_t i = 0; nl && r == 0 && i < ARRAY_SIZE(protos); i++) {
		g->proto = protos[i];
		r = diag_destroy(nl, g);
	}
	settle(g, r < 0 ? r : -ENOENT);
	if (nl)
		mnl_socket_close(nl);
	return lost ? -ENXIO : 0;
}

int destroy_sockets(struct destroy *list, size_t n)
{
	_cleanup_close_ int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	_cleanup_free_ struct target *target = calloc(n + 1, sizeof(*target));
	_cleanup_free_ struct destroy **sorted = calloc(n + 1, sizeof(struct destroy *));
	struct diag g = {.list = sorted, .n = n, .target = target};
	int r = 0;

	if (home < 0)
		return -errno;
	if (!target || !sorted)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		list[i].error = NOT_TRIED;
		sorted[i] = &list[i];
	}
	qsort(sorted, n, sizeof(struct destroy *), by_cookie);
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (list[i].error != NOT_TRIED)
			continue;
		g.netns = list[i].netns;
		r = destroy_in(home, &g, list[i].pid);
	}
	return r;
}

int destroy_probe(void)
{
	/* no such socket: but a kernel that cannot do it says so first */
	struct inet_diag_req_v2 nobody = {.sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP};
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	int r;

	if (!nl)
		return -errno;
	r = mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0
		    ? -errno
		    : diag_talk(nl, SOCK_DESTROY, NLM_F_ACK, &nobody, NULL);
	mnl_socket_close(nl);
	return r == -ENOENT ? 0 : r;
}
