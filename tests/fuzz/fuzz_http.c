// SPDX-License-Identifier: Apache-2.0
/*
 * Bytes of a client to the HTTP server, with what the daemon serves behind it: by the Unix socket,
 * or by the other listener, which only reads. The first byte says which, and in how many pieces
 * they come. Of the daemon there is nRD and an empty policy; what reads maps fails (see
 * meson.build).
 */
#include "policyd/http.c"

#include "policyd/daemon.h"
#include "policyd/web.h"
#include "tests/nrd/rule.h"

#define TURNS 100

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct daemon own;
static unsigned reloads;

static const unsigned char page[] = "page";
const struct web_file web_files[] = {{"/", "text/html", page, 4},
				     {"/page.css", "text/css", page, 0},
				     {"/page.js", "text/javascript", page, 0},
				     {"/uplot.css", "text/css", page, 0},
				     {"/uplot.js", "text/javascript", page, 0},
				     {NULL, NULL, NULL, 0}};

int daemon_follow(struct daemon *d)
{
	return d->class ? 0 : -ENOMEM;
}

int daemon_measure(struct daemon *d)
{
	(void)d;
	return -EIO;
}

int daemon_reload(struct daemon *d, struct policy_diags *diags)
{
	(void)d;
	(void)diags;
	reloads++;
	return 0;
}

int maps_flows(struct tree *t, int (*cb)(const struct dmm_flow_row *row, void *ctx), void *ctx)
{
	(void)t;
	(void)cb;
	(void)ctx;
	return -EIO;
}

json_t *trend_json(const struct trend *t)
{
	(void)t;
	return json_array();
}

static char path[64], other[64];

static void sweep(void)
{
	unlink(path);
	unlink(other);
}

static struct http *start(void)
{
	struct http *h;
	int fd;

	log_init("fuzz", 0);
	snprintf(path, sizeof(path), "/tmp/dmm-fuzz-http-%d", getpid());
	snprintf(other, sizeof(other), "%s-other", path);
	atexit(sweep);
	own.epfd = epoll_create1(EPOLL_CLOEXEC);
	own.class = class_new();
	own.chooser.nrd = nrd_new(16, 1);
	if (!own.class || !own.chooser.nrd ||
	    nrd_configure(own.chooser.nrd, &nrd_rule_cdn, 1) < 0 ||
	    http_open(&h, own.epfd, path, "", daemon_routes, &own) < 0 ||
	    unix_listen(other, "", &fd) < 0 || listener_open(&h->tcp, h, fd, false) < 0)
		abort();
	nrd_turn(own.chooser.nrd, 1000000000ULL);
	return h;
}

/* The client's end of a connection. */
static int dial(const struct http *h, bool local)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s%s", h->path, local ? "" : "-other");
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		abort();
	return fd;
}

static void turn(struct http *h)
{
	loop_run(own.epfd, 0);
	http_run(h);
}

/* Take what is answered. */
static void take(int fd, bool *first)
{
	char answer[4096];
	ssize_t n;

	while ((n = recv(fd, answer, sizeof(answer), 0)) > 0) {
		if (*first && n >= 7 && strncmp(answer, "HTTP/1.", 7) != 0)
			abort();
		*first = false;
	}
}

static bool is_idle(const struct listener *l)
{
	for (unsigned i = 0; i < HTTP_MAX_CONNECTIONS; i++)
		if (l->peer[i].fd >= 0)
			return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct http *h;
	unsigned pieces, turns = 0;
	bool local, first = true;
	int fd;

	if (!h)
		h = start();
	if (!size)
		return 0;
	local = data[0] & 1;
	pieces = 1 + (data[0] >> 1 & 3);
	reloads = 0;
	fd = dial(h, local);
	for (unsigned i = 0; i < pieces; i++) {
		size_t from = 1 + (size - 1) * i / pieces, to = 1 + (size - 1) * (i + 1) / pieces;

		(void)!send(fd, data + from, to - from, MSG_NOSIGNAL);
		turn(h);
		take(fd, &first);
	}
	shutdown(fd, SHUT_WR);
	while (!(local ? is_idle(&h->local) : is_idle(&h->tcp)) && turns++ < TURNS) {
		turn(h);
		take(fd, &first);
		if (turns == TURNS / 2) /* it may wait for who goes on reading */
			shutdown(fd, SHUT_RDWR);
	}
	close(fd);
	while (!(local ? is_idle(&h->local) : is_idle(&h->tcp)) && turns++ < 2 * TURNS)
		turn(h);
	if (!is_idle(&h->local) || !is_idle(&h->tcp))
		abort(); /* a connection whose client is gone */
	if (!local && reloads)
		abort();
	return 0;
}
