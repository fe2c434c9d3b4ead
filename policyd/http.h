/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP server of the daemon: a Unix socket for everything, optionally one TCP address for what only
 * reads. Who may read by the Unix socket is a matter of its owner, group and mode; what changes
 * something is for root and the daemon's own user. Runs inside the daemon's loop, no threads: a
 * handler sees the daemon at rest. Connections, also of one address, sizes and times are bounded.
 * What is served stands in the table of http_routes.c.
 */
#ifndef DMM_POLICYD_HTTP_H
#define DMM_POLICYD_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_MAX_CONNECTIONS 64 /* per listener */
#define HTTP_MAX_REQUEST 32768	/* bytes of request line and headers */
#define HTTP_MAX_BODY 65536	/* bytes of a POST; more is refused with 413 */
#define HTTP_TIMEOUT_S 5	/* without a byte, and, once begun, for a whole request */
#define HTTP_ANSWER_S 60	/* to take the whole answer */
#define HTTP_MAX_PER_PEER 16	/* connections of one address, or of one user who is not trusted */

struct http;

struct http_request {
	bool local;   /* came by the Unix socket */
	bool trusted; /* from a process of root or of the daemon's user, as SO_PEERCRED says */
	const char *path;
	void *connection; /* for http_query() */
};

struct http_reply {
	unsigned status;  /* 200 … */
	const char *type; /* content type; NULL: application/json */
	char *body;	  /* malloc()ed, taken over */
	size_t len;
};

struct http_route {
	const char *method; /* "GET" answers HEAD too */
	const char *path;
	bool writes; /* 403 on TCP, and to who is not trusted */
	void (*handle)(const struct http_request *q, struct http_reply *ret, void *ctx);
};

/* The value of a query parameter, NULL if it is not there. Valid during the request. */
const char *http_query(const struct http_request *q, const char *name);

/* The value of a header of the request, likewise. */
const char *http_header(const struct http_request *q, const char *name);

/*
 * Listen on a Unix socket (mode 0660; a stale one is replaced; -EADDRINUSE: somebody answers on
 * it), which belongs to `group`, a name, or to the daemon's own with "". routes ends with a row
 * without path. 0 or -errno, logged; -ESRCH: there is no such group.
 */
int http_open(struct http **ret, int epfd, const char *socket_path, const char *group,
	      const struct http_route *routes, void *ctx);
/* Listen on "127.0.0.1:9464" or "[::1]:9464" too, instead of the address before; "": on none.
 * When it fails the address before stays. Who asks for another host there than an address,
 * localhost, the host's name or `name` gets 421. */
int http_listen(struct http *h, const char *address, const char *name);
/* Is there a TCP address? */
bool http_listens(const struct http *h);
/* Close connections, remove the socket. */
void http_close(struct http *h);

/* Answer what is ready, close what is idle. To be called at least once a second. */
void http_run(struct http *h);
/* How long the loop may sleep, in ms; -1: as long as it likes. */
int http_timeout_ms(const struct http *h);

#endif
