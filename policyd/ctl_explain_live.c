// SPDX-License-Identifier: Apache-2.0
/*
 * explain --pid N [--fd M]: the sockets that a process has. What is told is the verdict that was
 * kept, not a new decision; where today's policy would decide otherwise, that is said beside it.
 */
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/explain.h"
#include "policyd/json.h"
#include "policyd/words.h"

#define SOCKETS_MAX 4096

struct live {
	int fd; /* in the other process */
	dmm_u64 cookie, netns;
	dmm_u32 uid; /* of the process as it is now */
	bool found;
	struct dmm_flow_row row;
};

struct live_list {
	struct live *list;
	size_t n;
};

/* Add the process's descriptor if it is an IP socket. 1: added, 0: something else, -errno. */
static int add_socket(struct live_list *l, int pidfd, int fd)
{
	_cleanup_close_ int s = pidfd_getfd(pidfd, fd, 0);
	struct live *v = &l->list[l->n];
	int domain;
	socklen_t len = sizeof(domain);

	if (s < 0)
		return -errno;
	if (getsockopt(s, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 ||
	    (domain != AF_INET && domain != AF_INET6))
		return 0;
	*v = (struct live){.fd = fd};
	len = sizeof(v->cookie);
	if (getsockopt(s, SOL_SOCKET, SO_COOKIE, &v->cookie, &len) < 0)
		return -errno;
	len = sizeof(v->netns);
	(void)getsockopt(s, SOL_SOCKET, SO_NETNS_COOKIE, &v->netns, &len);
	l->n++;
	return 1;
}

static int add_all(struct live_list *l, int pidfd, unsigned pid)
{
	char path[64];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%u/fd", pid);
	d = opendir(path);
	if (!d)
		return -errno;
	while ((e = readdir(d)) && l->n < SOCKETS_MAX)
		if (e->d_name[0] != '.')
			add_socket(l, pidfd, atoi(e->d_name)); /* it may be closed by now */
	closedir(d);
	return 0;
}

static int find_row(const struct dmm_flow_row *f, void *ctx)
{
	struct live_list *l = ctx;

	for (size_t i = 0; i < l->n; i++)
		if (l->list[i].cookie == f->sock.cookie) {
			l->list[i].row = *f;
			l->list[i].found = true;
		}
	return 0;
}

/* The real user of a process; EVAL_NO_UID: it cannot be known. */
static dmm_u32 uid_of(unsigned pid)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[64], line[256];
	unsigned uid;

	snprintf(path, sizeof(path), "/proc/%u/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Uid: %u", &uid) == 1)
			return uid;
	return EVAL_NO_UID;
}

/* What the policy in force would say of a socket like this. */
static void today(const struct ctl_state *s, const struct live *v, struct explanation *ret)
{
	const struct dmm_sock *k = &v->row.sock;
	struct eval_socket socket = {
		.group = k->group, .role = k->role, .proto = k->proto, .uid = v->uid};

	memcpy(socket.program, k->comm, sizeof(socket.program));
	if (k->role == DMM_ROLE_CLIENT)
		socket.remote = k->remote;
	else
		socket.local = k->local;
	explain_socket(&s->tree, s->class, &socket, k->cookie, v->netns, ret);
}

static bool differs(const struct ctl_state *s, const struct dmm_sock *k,
		    const struct explanation *e)
{
	const char *rule = e->rule < s->class->hdr.rules ? s->class->rule[e->rule].name : "";

	return e->stack != k->stack || strcmp(rule, k->rule_name) != 0;
}

/* The line of a rule, by its name: numbers change with the generation. */
static unsigned rule_named(const struct dmm_class *c, const char *name)
{
	for (unsigned i = 0; *name && i < c->hdr.rules; i++)
		if (strcmp(c->rule[i].name, name) == 0)
			return i;
	return DMM_RULE_NONE;
}

static void print_one(const struct ctl_state *s, const struct live *v)
{
	const struct dmm_sock *k = &v->row.sock;
	char local[ADDR_STRLEN], remote[ADDR_STRLEN];
	struct explanation e;
	char file[DMM_PATH_LEN];
	unsigned rule;

	if (!v->found) {
		printf("fd %d: no verdict: it is in no group, or neither connected nor listening, "
		       "or a listener that no rule can fit\n",
		       v->fd);
		return;
	}
	printf("fd %d: %s %s, %s -> %s\n", v->fd, words_role[k->role % DMM_ROLES],
	       k->proto == IPPROTO_UDP ? "udp" : "tcp",
	       addr_format(&k->local, local, sizeof(local)),
	       k->remote.port ? addr_format(&k->remote, remote, sizeof(remote)) : "*");
	rule = rule_named(s->class, k->rule_name);
	printf("  stack %s, reason %s: %s\n", s->class->stack[k->stack % DMM_MAX_STACKS].name,
	       words_reason[k->reason % DMM_REASON_COUNT], explain_reason(k->reason));
	printf("  by %s%s, in generation %llu", k->rule_name[0] ? "rule " : "the default",
	       k->rule_name, k->generation);
	if (class_file(s->class, rule, file) == 0)
		printf(" (now at %s:%u)", file, s->class->rule[rule].line);
	putchar('\n');
	if (k->congestion)
		printf("  congestion control %s\n",
		       words_congestion[k->congestion % DMM_CONGESTIONS]);
	today(s, v, &e);
	if (!differs(s, k, &e))
		return;
	printf("  today's policy would decide otherwise:\n");
	ctl_explanation_print(s->class, s->generation, &e);
}

static json_t *one_json(const struct ctl_state *s, const struct live *v)
{
	json_t *o = v->found ? json_flow(&v->row, s->class) : json_object();
	struct explanation e;

	json_object_set_new(o, "fd", json_integer(v->fd));
	json_object_set_new(o, "verdict", json_boolean(v->found));
	if (!v->found)
		return o;
	today(s, v, &e);
	json_object_set_new(o, "today", ctl_explanation_json(s->class, s->generation, &e));
	json_object_set_new(o, "today_differs", json_boolean(differs(s, &v->row.sock, &e)));
	return o;
}

static void ask_uids(struct live_list *l, unsigned pid)
{
	dmm_u32 uid = uid_of(pid);

	for (size_t i = 0; i < l->n; i++)
		l->list[i].uid = uid;
}

static int tell(const struct ctl *c, const struct ctl_state *s, const struct live_list *l)
{
	json_t *list;

	if (!(c->given & CTL_JSON)) {
		for (size_t i = 0; i < l->n; i++)
			print_one(s, &l->list[i]);
		return CTL_OK;
	}
	list = json_array();
	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(list, one_json(s, &l->list[i]));
	return ctl_print_json(c, list);
}

int ctl_explain_live(const struct ctl *c, struct ctl_state *s)
{
	_cleanup_close_ int pidfd = pidfd_open((pid_t)c->pid, 0);
	struct live_list l = {.list = calloc(SOCKETS_MAX, sizeof(*l.list))};
	int r = pidfd < 0 ? -errno : l.list ? 0 : -ENOMEM;

	if (r == 0 && (c->given & CTL_FD)) {
		r = add_socket(&l, pidfd, (int)c->fd);
		if (r == 0) {
			log_err("descriptor %u of process %u is not an IP socket", c->fd, c->pid);
			r = -ENOTSOCK;
		} else if (r < 0) {
			log_err("descriptor %u of process %u: %s", c->fd, c->pid, strerror(-r));
		}
	} else {
		if (r == 0)
			r = add_all(&l, pidfd, c->pid);
		if (r < 0)
			log_err("process %u: %s", c->pid, strerror(-r));
	}
	if (r >= 0 && l.n > 0)
		r = maps_flows(&s->tree, find_row, &l);
	if (r >= 0 && l.n == 0 && !(c->given & CTL_JSON))
		printf("process %u has no IP sockets\n", c->pid);
	if (r >= 0) {
		ask_uids(&l, c->pid);
		r = tell(c, s, &l);
	} else
		r = CTL_FAILED;
	free(l.list);
	return r;
}
