// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <grp.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/http.h"
#include "policyd/loop.h"
#include "policyd/value.h"

/* A page loads from here and from nowhere else, and is in no other's frame. */
#define CONTENT_POLICY \
	"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " \
	"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/* A connection, and when it is cut: MHD's own time-out begins anew with each byte. */
struct peer {
	int fd;	   /* -1: free */
	uid_t uid; /* of the Unix socket */
	uint64_t deadline_ns;
};

struct listener {
	struct loop_source src;
	struct http *http;
	struct MHD_Daemon *mhd; /* NULL: closed */
	int epfd;		/* its descriptor in the loop */
	bool local;
	struct peer peer[HTTP_MAX_CONNECTIONS];
};

struct http {
	int epfd;
	char path[108], address[64], name[64], host[65];
	const struct http_route *routes;
	void *ctx;
	struct listener local, tcp;
};

const char *http_query(const struct http_request *q, const char *name)
{
	return MHD_lookup_connection_value(q->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *http_header(const struct http_request *q, const char *name)
{
	return MHD_lookup_connection_value(q->connection, MHD_HEADER_KIND, name);
}

static void __attribute__((format(printf, 3, 4)))
reply_text(struct http_reply *ret, unsigned status, const char *fmt, ...)
{
	va_list ap;
	int n;

	ret->status = status;
	ret->type = "text/plain; charset=utf-8";
	va_start(ap, fmt);
	n = vasprintf(&ret->body, fmt, ap);
	va_end(ap);
	if (n < 0)
		ret->body = NULL;
	ret->len = n < 0 ? 0 : (size_t)n;
}

static bool method_fits(const struct http_route *r, const char *method)
{
	return strcmp(r->method, method) == 0 ||
	       (strcmp(r->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

/* Answer one complete request. *ret_allow: the methods of a path that does not have this one. */
static void http_dispatch(const struct http *h, const struct http_request *q, const char *method,
			  struct http_reply *ret, const char **ret_allow)
{
	for (const struct http_route *r = h->routes; r->path; r++) {
		if (strcmp(r->path, q->path) != 0)
			continue;
		if (!method_fits(r, method)) {
			*ret_allow = strcmp(r->method, "GET") == 0 ? "GET, HEAD" : r->method;
			reply_text(ret, MHD_HTTP_METHOD_NOT_ALLOWED, "%s answers to %s only\n",
				   r->path, *ret_allow);
		} else if (r->writes && !q->local) {
			reply_text(ret, MHD_HTTP_FORBIDDEN,
				   "%s is served on the Unix socket only\n", r->path);
		} else if (r->writes && !q->trusted) {
			reply_text(ret, MHD_HTTP_FORBIDDEN, "%s is for root only\n", r->path);
		} else {
			r->handle(q, ret, h->ctx);
		}
		return;
	}
	reply_text(ret, MHD_HTTP_NOT_FOUND, "there is nothing here\n");
}

static enum MHD_Result http_send(struct MHD_Connection *c, struct http_reply *reply,
				 const char *allow)
{
	struct MHD_Response *response;
	enum MHD_Result r;

	if (!reply->body)
		reply->len = 0;
	response = MHD_create_response_from_buffer(reply->len, reply->body, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(reply->body);
		return MHD_NO;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
				reply->type ? reply->type : "application/json");
	MHD_add_response_header(response, "Content-Security-Policy", CONTENT_POLICY);
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (allow)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
	r = MHD_queue_response(c, reply->status, response);
	MHD_destroy_response(response);
	return r;
}

/*
 * Is it this server that the client named? A browser that a page of another site sends here, after
 * its name was made to lead to this address, says that site's name.
 */
static bool host_is_ours(const struct http *h, const char *header)
{
	char host[256];
	dmm_u8 ip[16];
	size_t len;

	if (!header) /* HTTP/1.0, no browser */
		return true;
	len = header[0] == '[' ? strcspn(header, "]") + 1 : strcspn(header, ":");
	if (len >= sizeof(host) || len > strlen(header) ||
	    (header[len] &&
	     (header[len] != ':' || header[len + 1 + strspn(header + len + 1, "0123456789")])))
		return false;
	memcpy(host, header, len);
	host[len] = '\0';
	if (host[0] == '[') {
		host[len - 1] = '\0';
		return strchr(host, ':') && addr_parse_ip(host + 1, ip) == 0;
	}
	if (len && host[len - 1] == '.')
		host[len - 1] = '\0';
	return addr_parse_ip(host, ip) == 0 || strcasecmp(host, "localhost") == 0 ||
	       (h->host[0] && strcasecmp(host, h->host) == 0) ||
	       (h->name[0] && strcasecmp(host, h->name) == 0);
}

#define NOBODY ((uid_t)-1)

static uid_t uid_of(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ? NOBODY : peer.uid;
}

static bool is_trusted(const struct peer *peer)
{
	return peer->uid == 0 || peer->uid == geteuid();
}

/* Who may only read shall not keep root away. MHD does the same for the addresses of TCP. */
static bool has_too_many(const struct listener *l, const struct peer *peer)
{
	unsigned n = 0;

	for (unsigned i = 0; i < HTTP_MAX_CONNECTIONS; i++)
		n += l->peer[i].fd >= 0 && l->peer[i].uid == peer->uid;
	return l->local && !is_trusted(peer) && n > HTTP_MAX_PER_PEER;
}

static struct peer *peer_of(struct MHD_Connection *c)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

static void peer_event(void *ctx, struct MHD_Connection *c, void **socket_context,
		       enum MHD_ConnectionNotificationCode what)
{
	struct peer *peer = *socket_context;
	struct listener *l = ctx;

	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (peer)
			peer->fd = -1;
		return;
	}
	for (unsigned i = 0; i < HTTP_MAX_CONNECTIONS; i++) {
		peer = &l->peer[i];
		if (peer->fd >= 0)
			continue;
		peer->fd =
			MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
		peer->uid = l->local ? uid_of(peer->fd) : NOBODY;
		peer->deadline_ns = now_ns() + HTTP_TIMEOUT_S * 1000000000ULL;
		*socket_context = peer;
		if (has_too_many(l, peer))
			shutdown(peer->fd, SHUT_RDWR);
		return;
	}
}

static void request_done(void *ctx, struct MHD_Connection *c, void **state,
			 enum MHD_RequestTerminationCode why)
{
	struct peer *peer = peer_of(c);

	(void)ctx;
	(void)state;
	(void)why;
	if (peer)
		peer->deadline_ns = now_ns() + HTTP_TIMEOUT_S * 1000000000ULL;
}

/* A request is handled when it is complete; of its body only the size counts. *state: bytes + 1. */
static enum MHD_Result http_access(void *ctx, struct MHD_Connection *c, const char *url,
				   const char *method, const char *version, const char *data,
				   size_t *data_len, void **state)
{
	struct listener *l = ctx;
	struct peer *peer = peer_of(c);
	struct http_request q = {.local = l->local, .path = url, .connection = c};
	struct http_reply reply = {.status = MHD_HTTP_OK};
	const char *allow = NULL;
	uintptr_t seen = (uintptr_t)*state;

	(void)version;
	(void)data;
	if (seen == 0) {
		*state = (void *)(uintptr_t)1;
		return MHD_YES;
	}
	if (*data_len > 0) {
		seen = MIN(seen + *data_len, (uintptr_t)HTTP_MAX_BODY + 2);
		*state = (void *)seen;
		*data_len = 0;
		return MHD_YES;
	}
	q.trusted = l->local && peer && is_trusted(peer);
	if (peer)
		peer->deadline_ns = now_ns() + HTTP_ANSWER_S * 1000000000ULL;
	if (seen > HTTP_MAX_BODY + 1)
		reply_text(&reply, MHD_HTTP_CONTENT_TOO_LARGE, "the body is too large\n");
	else if (!l->local && !host_is_ours(l->http, http_header(&q, MHD_HTTP_HEADER_HOST)))
		reply_text(&reply, MHD_HTTP_MISDIRECTED_REQUEST,
			   "by this name nothing is served: use an address, localhost, the host's "
			   "name, or the one of daemon.http_name\n");
	else
		http_dispatch(l->http, &q, method, &reply, &allow);
	return http_send(c, &reply, allow);
}

static void listener_event(struct loop_source *src, uint32_t events)
{
	struct listener *l = container_of(src, struct listener, src);

	(void)events;
	if (l->mhd)
		MHD_run(l->mhd);
}

static void listener_close(struct listener *l)
{
	if (!l->mhd)
		return;
	loop_del(l->http->epfd, l->epfd);
	MHD_stop_daemon(l->mhd); /* closes the listening socket */
	l->mhd = NULL;
}

static void mhd_log(void *ctx, const char *fmt, va_list ap)
{
	char text[512];
	size_t n;

	(void)ctx;
	vsnprintf(text, sizeof(text), fmt, ap);
	n = strlen(text);
	if (n > 0 && text[n - 1] == '\n')
		text[n - 1] = '\0';
	log_debug("http: %s", text);
}

/* Serve on a listening socket, which is taken over in any case. */
static int listener_open(struct listener *l, struct http *h, int fd, bool local)
{
	const union MHD_DaemonInfo *info;
	int r;

	l->src.cb = listener_event;
	l->http = h;
	l->local = local;
	for (unsigned i = 0; i < HTTP_MAX_CONNECTIONS; i++)
		l->peer[i].fd = -1;
	l->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, http_access, l,
				  MHD_OPTION_EXTERNAL_LOGGER, mhd_log, NULL,
				  MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
				  (unsigned)HTTP_MAX_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
				  (unsigned)HTTP_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				  (size_t)HTTP_MAX_REQUEST, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
				  (unsigned)HTTP_MAX_PER_PEER, MHD_OPTION_NOTIFY_CONNECTION,
				  peer_event, l, MHD_OPTION_NOTIFY_COMPLETED, request_done, NULL,
				  MHD_OPTION_END);
	if (!l->mhd) {
		close(fd);
		return -ENOMEM;
	}
	info = MHD_get_daemon_info(l->mhd, MHD_DAEMON_INFO_EPOLL_FD);
	l->epfd = info ? info->epoll_fd : -1;
	r = loop_add(h->epfd, l->epfd, EPOLLIN, &l->src);
	if (r < 0) {
		MHD_stop_daemon(l->mhd);
		l->mhd = NULL;
	}
	return r;
}

static int unix_listen(const char *path, const char *group, int *ret_fd)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	const struct group *gr = group[0] ? getgrnam(group) : NULL;
	_cleanup_close_ int fd = -1;
	mode_t old;
	int r;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	if (group[0] && !gr)
		return -ESRCH;
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
		return -EADDRINUSE;
	if (errno == EAGAIN)
		return -EADDRINUSE;
	if (errno == ECONNREFUSED && unlink(path) < 0)
		return -errno;
	old = umask(0117);
	r = bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : 0;
	umask(old);
	if (r < 0)
		return r;
	if (gr && chown(path, (uid_t)-1, gr->gr_gid) < 0)
		return -errno;
	if (listen(fd, HTTP_MAX_CONNECTIONS) < 0)
		return -errno;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

static int tcp_listen(const char *address, int *ret_fd)
{
	struct sockaddr_storage ss;
	struct dmm_addr a;
	_cleanup_close_ int fd = -1;
	socklen_t len;
	int one = 1, r;

	r = value_parse_endpoint(address, &a);
	if (r < 0)
		return r;
	len = addr_to_sockaddr(&a, &ss);
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, HTTP_MAX_CONNECTIONS) < 0)
		return -errno;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int http_open(struct http **ret, int epfd, const char *socket_path, const char *group,
	      const struct http_route *routes, void *ctx)
{
	struct http *h = calloc(1, sizeof(*h));
	int fd = -1, r;

	if (!h)
		return -ENOMEM;
	h->epfd = epfd;
	h->routes = routes;
	h->ctx = ctx;
	r = unix_listen(socket_path, group, &fd);
	if (r == 0) {
		snprintf(h->path, sizeof(h->path), "%s", socket_path);
		r = listener_open(&h->local, h, fd, true);
		if (r < 0)
			unlink(h->path);
	}
	if (r < 0) {
		if (r == -ESRCH)
			log_err("cannot listen on %s: there is no group \"%s\"", socket_path,
				group);
		else
			log_err("cannot listen on %s: %s%s", socket_path, strerror(-r),
				r == -EADDRINUSE ? "; another program answers there" : "");
		free(h);
		return r;
	}
	*ret = h;
	return 0;
}

int http_listen(struct http *h, const char *address, const char *name)
{
	int fd = -1, r;

	snprintf(h->name, sizeof(h->name), "%s", name);
	if (gethostname(h->host, sizeof(h->host) - 1) < 0)
		h->host[0] = '\0';
	if (strcmp(address, h->address) == 0)
		return 0;
	if (address[0]) {
		r = tcp_listen(address, &fd);
		if (r < 0) {
			log_err("http: cannot listen on %s: %s%s", address, strerror(-r),
				r == -EINVAL ? "; write it as 127.0.0.1:9464 or [::1]:9464" : "");
			return r;
		}
	}
	listener_close(&h->tcp);
	h->address[0] = '\0';
	if (!address[0])
		return 0;
	r = listener_open(&h->tcp, h, fd, false);
	if (r < 0) {
		log_err("http: cannot serve on %s: %s", address, strerror(-r));
		return r;
	}
	snprintf(h->address, sizeof(h->address), "%s", address);
	return 0;
}

bool http_listens(const struct http *h)
{
	return h->tcp.mhd;
}

void http_close(struct http *h)
{
	if (!h)
		return;
	listener_close(&h->tcp);
	listener_close(&h->local);
	unlink(h->path);
	free(h);
}

/* Cut who is too slow, which MHD then sees as closed. */
static void listener_run(struct listener *l)
{
	uint64_t now = now_ns();

	if (!l->mhd)
		return;
	for (unsigned i = 0; i < HTTP_MAX_CONNECTIONS; i++)
		if (l->peer[i].fd >= 0 && l->peer[i].deadline_ns < now)
			shutdown(l->peer[i].fd, SHUT_RDWR);
	MHD_run(l->mhd);
}

void http_run(struct http *h)
{
	listener_run(&h->local);
	listener_run(&h->tcp);
}

int http_timeout_ms(const struct http *h)
{
	const struct listener *l[] = {&h->local, &h->tcp};
	int min = -1;

	for (unsigned i = 0; i < ARRAY_SIZE(l); i++) {
		MHD_UNSIGNED_LONG_LONG ms;

		if (!l[i]->mhd || MHD_get_timeout(l[i]->mhd, &ms) != MHD_YES)
			continue;
		if (min < 0 || ms < (unsigned)min)
			min = (int)MIN(ms, 60000);
	}
	return min;
}
