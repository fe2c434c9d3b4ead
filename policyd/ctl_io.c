// SPDX-License-Identifier: Apache-2.0
/* What the verbs share: the tree, JSON out, the word to the daemon. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/diag.h"
#include "policyd/telemetry.h"

static int explain_open(const char *path, int r)
{
	if (r == -ENOENT)
		log_err("no policy is in force: there is no %s; start dmm-policyd, or put a file "
			"in force with dmm-policy apply -f FILE",
			path);
	else if (r == -EACCES || r == -EPERM)
		log_err("cannot open %s: %s; run as root (CAP_BPF, CAP_NET_ADMIN)", path,
			strerror(-r));
	else
		log_err("cannot open %s: %s", path, strerror(-r));
	return CTL_FAILED;
}

int ctl_state_open(const struct ctl *c, struct ctl_state *ret)
{
	int r;

	*ret = (struct ctl_state){0};
	r = tree_open(&ret->tree, c->bpffs);
	if (r < 0)
		return explain_open(tree_path(c->bpffs), r);
	ret->class = class_new();
	r = ret->class ? maps_read(&ret->tree, ret->class, &ret->generation) : -ENOMEM;
	if (r < 0) {
		log_err("cannot read the policy in force: %s", strerror(-r));
		ctl_state_close(ret);
		return CTL_FAILED;
	}
	return CTL_OK;
}

void ctl_state_close(struct ctl_state *s)
{
	class_free(s->class);
	s->class = NULL;
	tree_close(&s->tree);
}

const char *ctl_name(const struct dmm_class *class, enum ctl_names kind, unsigned i)
{
	if (kind == CTL_N_RULE && i < class->hdr.rules)
		return class->rule[i].name;
	if (kind == CTL_N_STACK && i < DMM_MAX_STACKS)
		return class->stack[i].name;
	if (kind == CTL_N_GROUP && i < DMM_MAX_GROUPS)
		return i ? class->group[i].name : "";
	return NULL;
}

void ctl_unknown_name(const struct dmm_class *class, enum ctl_names kind, const char *name)
{
	const char *what = kind == CTL_N_RULE ? "rule" : kind == CTL_N_STACK ? "stack" : "group";
	const char *nearest = NULL, *known;
	unsigned best = UINT_MAX;

	for (unsigned i = 0; (known = ctl_name(class, kind, i)); i++)
		if (*known && diag_nearer(name, known, &best))
			nearest = known;
	if (nearest)
		log_err("there is no %s \"%s\"; did you mean \"%s\"?", what, name, nearest);
	else
		log_err("there is no %s \"%s\"; dmm-policy %s list shows them", what, name, what);
}

int ctl_telemetry_open(const struct ctl *c, struct ctl_state *ret, struct telemetry *m)
{
	int r = ctl_state_open(c, ret);

	if (r != CTL_OK)
		return r;
	r = telemetry_read(m, &ret->tree, ret->class, ret->generation, NULL);
	if (r < 0) {
		log_err("the counters cannot be read: %s", strerror(-r));
		ctl_state_close(ret);
		return CTL_FAILED;
	}
	return CTL_OK;
}

int ctl_print_json(const struct ctl *c, json_t *o)
{
	size_t flags = JSON_ENCODE_ANY | (c->given & CTL_PRETTY ? JSON_INDENT(2) : JSON_COMPACT);
	int r;

	if (!o) {
		log_err("out of memory");
		return CTL_FAILED;
	}
	r = json_dumpf(o, stdout, flags);
	json_decref(o);
	putchar('\n');
	return r == 0 && !ferror(stdout) ? CTL_OK : CTL_FAILED;
}

/* A connection to the daemon with the request sent, or -errno. */
static int call_daemon(const char *method, const char *path)
{
	const struct timeval limit = {.tv_sec = 1};
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const char *socket_path = getenv("DMM_SOCKET");
	char request[512];
	int n, ret;

	if (fd < 0)
		return -errno;
	if (socket_path && *socket_path)
		snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", socket_path);
	else
		snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/policyd.sock", tree_run_dir());
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	n = snprintf(request, sizeof(request),
		     "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
		     "Connection: close\r\n\r\n",
		     method, path);
	if (n < 0 || (size_t)n >= sizeof(request))
		return -ENAMETOOLONG;
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 ||
	    send(fd, request, (size_t)n, MSG_NOSIGNAL) < 0)
		return -errno;
	ret = fd;
	fd = -1;
	return ret;
}

void ctl_poke_daemon(void)
{
	_cleanup_close_ int fd = call_daemon("POST", "/v1/reload");
	char answer[512];

	/* The answer is waited for, so that the daemon has followed when the command ends. */
	while (fd >= 0 && recv(fd, answer, sizeof(answer), 0) > 0)
		;
}

json_t *ctl_ask_daemon(const char *path)
{
	_cleanup_close_ int fd = call_daemon("GET", path);
	_cleanup_free_ char *text = NULL;
	char part[4096], *body;
	size_t len = 0;
	json_t *o;
	FILE *all;
	ssize_t n;

	if (fd < 0) {
		log_err("dmm-policyd does not answer: %s; only it knows this", strerror(-fd));
		return NULL;
	}
	all = open_memstream(&text, &len);
	while (all && (n = recv(fd, part, sizeof(part), 0)) > 0)
		fwrite(part, 1, (size_t)n, all);
	if (!all || fclose(all) != 0)
		return NULL;
	body = strstr(text, "\r\n\r\n");
	o = body ? json_loads(body + 4, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (o && strncmp(text, "HTTP/1.1 200", 12) == 0)
		return o;
	log_err("dmm-policyd: %s", o && json_is_string(json_object_get(o, "error"))
					   ? json_string_value(json_object_get(o, "error"))
					   : "no whole answer");
	json_decref(o);
	return NULL;
}
