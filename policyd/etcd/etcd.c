// SPDX-License-Identifier: Apache-2.0
/*
 * libcurl's multi interface brings its own set of sockets, which lie in an epoll descriptor of
 * their own: the owner's loop only sees that one. What callbacks of libcurl see is only written
 * down; the owner is called from etcd_run(), when libcurl is at rest.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/etcd/etcd.h"
#include "policyd/loop.h"

struct call {
	struct call *next;
	struct etcd *e;
	CURL *curl; /* NULL: waits for the token */
	char method[32];
	char *body, *answer;
	size_t body_len, n, room;
	struct curl_slist *headers;
	char error[CURL_ERROR_SIZE];
	etcd_fn fn;
	const void *ctx;
	bool stream, auth, done, dead;
	CURLcode result; /* when done */
};

struct etcd {
	struct loop_source src;
	const struct etcd_settings *set;
	int loop_fd, epfd;
	CURLM *multi;
	struct call *calls;
	unsigned at, fails; /* endpoint in use; failures since the last answer */
	uint64_t timer_ns;
	char *token;
	bool authenticating, ready;
	struct etcd_traffic traffic;
};

const char *etcd_endpoint(const struct etcd *e)
{
	return e->set->endpoint[e->at];
}

void etcd_traffic(const struct etcd *e, struct etcd_traffic *ret)
{
	*ret = e->traffic;
}

uint64_t etcd_backoff_ns(const struct etcd *e)
{
	unsigned rounds = e->fails / MAX(e->set->n_endpoint, 1u);
	uint64_t ns = ETCD_BACKOFF_MIN_NS << MIN(rounds, 10u), noise;

	ns = MIN(ns, ETCD_BACKOFF_MAX_NS);
	if (getrandom(&noise, sizeof(noise), GRND_NONBLOCK) != sizeof(noise))
		noise = now_ns();
	return ns / 2 + noise % (ns / 2 + 1);
}

/* ---- the endpoint ---- */

static void forget_token(struct etcd *e)
{
	free(e->token);
	e->token = NULL;
}

void etcd_leave(struct etcd *e, const char *why)
{
	unsigned next = (e->at + 1) % e->set->n_endpoint;

	log_at(e->fails ? LOG_L_DEBUG : LOG_L_WARNING, "etcd: %s: %s; going on with %s",
	       etcd_endpoint(e), why, e->set->endpoint[next]);
	e->at = next;
	e->fails++;
	e->traffic.failovers++;
	e->ready = true;
	forget_token(e);
	for (struct call *c = e->calls; c; c = c->next) {
		if (!c->curl || c->done)
			continue;
		c->done = true;
		c->result = CURLE_ABORTED_BY_CALLBACK;
		snprintf(c->error, sizeof(c->error), "%.200s", why);
	}
}

/* ---- what libcurl asks for ---- */

static int on_socket(CURL *curl, curl_socket_t fd, int what, void *ctx, void *of_socket)
{
	struct etcd *e = ctx;
	struct epoll_event ev = {.data.fd = fd};

	(void)curl;
	(void)of_socket;
	if (what == CURL_POLL_REMOVE) {
		epoll_ctl(e->epfd, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	ev.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
	if (epoll_ctl(e->epfd, EPOLL_CTL_MOD, fd, &ev) < 0 && errno == ENOENT)
		epoll_ctl(e->epfd, EPOLL_CTL_ADD, fd, &ev);
	return 0;
}

static int on_timer(CURLM *multi, long ms, void *ctx)
{
	struct etcd *e = ctx;

	(void)multi;
	e->timer_ns = ms < 0 ? UINT64_MAX : now_ns() + (uint64_t)ms * 1000000ULL;
	return 0;
}

static size_t on_data(char *data, size_t size, size_t n, void *ctx)
{
	struct call *c = ctx;
	size_t len = size * n;

	if (c->n + len > ETCD_ANSWER_MAX)
		return 0;
	if (c->n + len + 1 > c->room) {
		size_t room = (c->n + len + 1) * 2;
		char *answer = realloc(c->answer, room);

		if (!answer)
			return 0;
		c->answer = answer;
		c->room = room;
	}
	memcpy(c->answer + c->n, data, len);
	c->n += len;
	c->answer[c->n] = '\0';
	c->e->traffic.received += len;
	return len;
}

static void on_event(struct loop_source *src, uint32_t events)
{
	struct etcd *e = container_of(src, struct etcd, src);

	(void)events;
	e->ready = true; /* etcd_run() does the rest: it follows each round of the loop */
}

/* ---- calls ---- */

static void call_free(struct call *c)
{
	if (c->curl) {
		curl_multi_remove_handle(c->e->multi, c->curl);
		curl_easy_cleanup(c->curl);
	}
	curl_slist_free_all(c->headers);
	if (c->auth)
		explicit_bzero(c->body, c->body_len);
	free(c->body);
	free(c->answer);
	free(c);
}

static int add_header(struct call *c, const char *header)
{
	struct curl_slist *more = curl_slist_append(c->headers, header);

	if (!more)
		return -ENOMEM;
	c->headers = more;
	return 0;
}

static int call_headers(struct call *c)
{
	_cleanup_free_ char *auth = NULL;
	int r = add_header(c, "Content-Type: application/json");

	if (r == 0)
		r = add_header(c, "Expect:");
	if (r < 0 || c->auth || !c->e->token)
		return r;
	if (asprintf(&auth, "Authorization: %s", c->e->token) < 0)
		return -ENOMEM;
	return add_header(c, auth);
}

static void call_tls(const struct call *c)
{
	const struct etcd_settings *s = c->e->set;

	if (s->ca[0]) {
		curl_easy_setopt(c->curl, CURLOPT_CAINFO, s->ca);
		curl_easy_setopt(c->curl, CURLOPT_CAPATH, NULL);
	}
	if (s->cert[0])
		curl_easy_setopt(c->curl, CURLOPT_SSLCERT, s->cert);
	if (s->key[0])
		curl_easy_setopt(c->curl, CURLOPT_SSLKEY, s->key);
}

/* How long an answer may take: a third of the lease, so that there is time for another try. */
static long timeout_ms(const struct etcd_settings *s)
{
	return (long)MIN(MAX(s->lease_s * 1000 / 3, 500u), 5000u);
}

static int call_start(struct call *c)
{
	struct etcd *e = c->e;
	char url[192];
	int r = call_headers(c);

	c->curl = r == 0 ? curl_easy_init() : NULL;
	if (!c->curl)
		return -ENOMEM;
	snprintf(url, sizeof(url), "%s/v3/%s", etcd_endpoint(e), c->method);
	curl_easy_setopt(c->curl, CURLOPT_URL, url);
	curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
	curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	/* or libcurl waits for a name server that is silent, whatever the time-out */
	curl_easy_setopt(c->curl, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(c->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, c->headers);
	curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, c->body);
	curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE, (long)c->body_len);
	curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, c->error);
	curl_easy_setopt(c->curl, CURLOPT_PRIVATE, c);
	curl_easy_setopt(c->curl, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(c->curl, CURLOPT_TCP_KEEPIDLE, 20L);
	curl_easy_setopt(c->curl, CURLOPT_TCP_KEEPINTVL, 5L);
	curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT_MS,
			 MIN((long)ETCD_CONNECT_MS, timeout_ms(e->set)));
	if (!c->stream)
		curl_easy_setopt(c->curl, CURLOPT_TIMEOUT_MS, timeout_ms(e->set));
	call_tls(c);
	e->traffic.calls++;
	e->traffic.sent += c->body_len;
	return curl_multi_add_handle(e->multi, c->curl) == CURLM_OK ? 0 : -ENOMEM;
}

static int call_new(struct etcd *e, const char *method, json_t *body, etcd_fn fn, const void *ctx,
		    struct call **ret)
{
	struct call *c = calloc(1, sizeof(*c)), **end = &e->calls;

	if (c)
		c->body = body ? json_dumps(body, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	json_decref(body);
	if (!c || !c->body) {
		free(c);
		return -ENOMEM;
	}
	c->body_len = strlen(c->body);
	c->e = e;
	c->fn = fn;
	c->ctx = ctx;
	snprintf(c->method, sizeof(c->method), "%s", method);
	while (*end)
		end = &(*end)->next;
	*end = c;
	e->ready = true;
	*ret = c;
	return 0;
}

int etcd_call(struct etcd *e, const char *method, json_t *body, etcd_fn fn, void *ctx)
{
	struct call *c;

	return call_new(e, method, body, fn, ctx, &c);
}

int etcd_stream(struct etcd *e, const char *method, json_t *body, etcd_fn fn, void *ctx)
{
	struct call *c;
	int r = call_new(e, method, body, fn, ctx, &c);

	if (r == 0)
		c->stream = true;
	return r;
}

void etcd_cancel(struct etcd *e, const void *ctx)
{
	for (struct call *c = e->calls; c; c = c->next)
		if (c->ctx == ctx && !c->auth)
			c->dead = true;
	e->ready = true;
}

/* ---- answers ---- */

static void call_tell(struct call *c, int error, const char *why, const json_t *body)
{
	struct etcd_answer a = {.error = error, .why = why, .body = body};

	c->e->traffic.messages++;
	if (!c->dead)
		c->fn((void *)c->ctx, &a);
}

/* gRPC's status codes, of https://grpc.io/docs/guides/status-codes/ */
static int grpc_error(json_int_t code)
{
	switch (code) {
	case 5:
		return -ENOENT;
	case 7:
	case 16:
		return -EACCES;
	case 3:
	case 6:
	case 9:
	case 11:
		return -EINVAL;
	}
	return -EAGAIN;
}

/* What an object says of an error; 0: it is none. */
static int answer_error(const json_t *j, char why[256])
{
	const json_t *error = json_object_get(j, "error"), *code = json_object_get(j, "code");
	const char *text;

	if (!error)
		return 0;
	if (json_is_object(error)) { /* of a stream */
		code = json_object_get(error, "grpc_code");
		error = json_object_get(error, "message");
	}
	text = json_string_value(error);
	snprintf(why, 256, "%.200s", text ? text : "an error without a text");
	if (text &&
	    (strstr(text, "invalid auth token") || strstr(text, "revision in header is old")))
		return -EKEYEXPIRED;
	return grpc_error(json_integer_value(code));
}

/* One message of an answer. */
static void answer_take(struct call *c, const char *text, size_t len)
{
	json_error_t error;
	json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	const json_t *body = j;
	char why[256];
	int r;

	if (!json_is_object(j)) {
		snprintf(why, sizeof(why), "its answer to %s is no JSON: %.100s", c->method,
			 error.text);
		json_decref(j);
		etcd_leave(c->e, why);
		c->done = true;
		call_tell(c, -EPROTO, why, NULL);
		c->dead = true;
		return;
	}
	r = answer_error(j, why);
	if (r == 0 && c->stream)
		body = json_object_get(j, "result");
	if (r == -EKEYEXPIRED) {
		forget_token(c->e);
		r = -EAGAIN;
	} else if (r == -EAGAIN) {
		etcd_leave(c->e, why);
	} else {
		c->e->fails = 0;
	}
	call_tell(c, r, r < 0 ? why : "", r < 0 ? NULL : body);
	if (r < 0)
		c->dead = true;
	json_decref(j);
}

/* The messages of a stream that are complete. */
static void stream_take(struct call *c)
{
	char *end;
	size_t at = 0;

	while (!c->dead && c->n > at && (end = memchr(c->answer + at, '\n', c->n - at))) {
		size_t len = (size_t)(end - (c->answer + at));

		if (len > 0)
			answer_take(c, c->answer + at, len);
		at += len + 1;
	}
	if (at > 0)
		memmove(c->answer, c->answer + at, c->n - at);
	c->n -= at;
}

static void call_end(struct call *c)
{
	char why[256];

	if (c->result == CURLE_OK && c->n > 0 && !c->dead)
		answer_take(c, c->answer, c->n);
	if (c->dead || (c->result == CURLE_OK && !c->stream && c->n > 0)) {
		c->dead = true;
		return;
	}
	snprintf(why, sizeof(why), "%.40s: %.200s", c->method,
		 c->result == CURLE_OK ? "ended"
		 : c->error[0]	       ? c->error
				       : curl_easy_strerror(c->result));
	if (c->result != CURLE_ABORTED_BY_CALLBACK)
		etcd_leave(c->e, why);
	call_tell(c, -EAGAIN, why, NULL);
	c->dead = true;
}

/* ---- user and password ---- */

static void on_token(void *ctx, const struct etcd_answer *a)
{
	struct etcd *e = ctx;
	const char *token = a->body ? json_string_value(json_object_get(a->body, "token")) : NULL;

	e->authenticating = false;
	e->ready = true;
	if (token)
		e->token = strdup(token);
	if (e->token)
		return;
	/* Who waits for it learns that it does not come. */
	if (a->error != -EAGAIN)
		log_warn("etcd: %s does not let user %s in: %s", etcd_endpoint(e), e->set->user,
			 a->error ? a->why : "there is no token in its answer");
	for (struct call *c = e->calls; c; c = c->next) {
		if (c->curl || c->auth || c->done)
			continue;
		c->done = true;
		c->result = CURLE_ABORTED_BY_CALLBACK;
		snprintf(c->error, sizeof(c->error), "%.200s",
			 a->error ? a->why : "there is no token");
	}
	if (a->error != -EAGAIN)
		e->fails++;
}

static void wipe(char **password)
{
	if (*password)
		explicit_bzero(*password, strlen(*password));
	free(*password);
}

/* It is not kept: by the next time there may be another. */
static int read_password(const struct etcd *e, char **ret)
{
	_cleanup_fclose_ FILE *f = fopen(e->set->password_file, "re");
	size_t room = 0;
	ssize_t n;

	n = f ? getline(ret, &room, f) : -1;
	if (n < 0) {
		int r = f && !errno ? -ENODATA : -errno;

		log_err("etcd: cannot read the password of user %s from %s: %s", e->set->user,
			e->set->password_file, strerror(-r));
		return r;
	}
	(*ret)[strcspn(*ret, "\r\n")] = '\0';
	return 0;
}

static void authenticate(struct etcd *e)
{
	const struct etcd_answer none = {-EACCES, "its password cannot be read", NULL};
	__attribute__((cleanup(wipe))) char *password = NULL;
	struct call *c;
	json_t *body;

	if (e->authenticating)
		return;
	if (read_password(e, &password) < 0) {
		on_token(e, &none);
		return;
	}
	body = json_pack("{s:s, s:s}", "name", e->set->user, "password", password);
	if (call_new(e, "auth/authenticate", body, on_token, e, &c) < 0)
		return;
	c->auth = true;
	e->authenticating = true;
}

/* ---- a round ---- */

static void start_calls(struct etcd *e)
{
	for (struct call *c = e->calls; c; c = c->next) {
		if (c->curl || c->done || c->dead)
			continue;
		if (e->set->user[0] && !e->token && !c->auth) {
			authenticate(e);
			continue;
		}
		if (call_start(c) < 0) {
			c->done = true;
			c->result = CURLE_OUT_OF_MEMORY;
		}
	}
}

static void transfer(struct etcd *e)
{
	struct epoll_event ev[16];
	int running, n;
	CURLMsg *msg;

	while ((n = epoll_wait(e->epfd, ev, ARRAY_SIZE(ev), 0)) > 0) {
		for (int i = 0; i < n; i++) {
			int how = (ev[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
				  (ev[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
				  (ev[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

			curl_multi_socket_action(e->multi, ev[i].data.fd, how, &running);
		}
		if (n < (int)ARRAY_SIZE(ev))
			break;
	}
	if (now_ns() >= e->timer_ns) {
		e->timer_ns = UINT64_MAX;
		curl_multi_socket_action(e->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	while ((msg = curl_multi_info_read(e->multi, &n))) {
		struct call *c;

		if (msg->msg != CURLMSG_DONE ||
		    curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &c) != CURLE_OK)
			continue;
		c->result = c->done ? c->result : msg->data.result;
		c->done = true;
	}
}

/* Owners may call, cancel and leave meanwhile: calls are only added at the end, and freed later. */
static void tell_all(struct etcd *e)
{
	for (struct call *c = e->calls; c; c = c->next) {
		if (c->stream && !c->dead)
			stream_take(c);
		if (c->done && !c->dead)
			call_end(c);
	}
}

static void sweep(struct etcd *e)
{
	struct call **at = &e->calls;

	while (*at) {
		struct call *c = *at;

		if (!c->dead) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		call_free(c);
	}
}

void etcd_run(struct etcd *e)
{
	e->ready = false;
	start_calls(e);
	transfer(e);
	tell_all(e);
	sweep(e);
}

uint64_t etcd_next_ns(const struct etcd *e)
{
	return e->ready ? 0 : e->timer_ns;
}

/* ---- life ---- */

static int check_file(const char *what, const char *path)
{
	if (!path[0] || access(path, R_OK) == 0)
		return 0;
	log_err("etcd: cannot read the %s %s: %s", what, path, strerror(errno));
	return -errno;
}

int etcd_open(struct etcd **ret, int epfd, const struct etcd_settings *settings)
{
	__attribute__((cleanup(wipe))) char *password = NULL;
	struct etcd *e = calloc(1, sizeof(*e));
	uint32_t start = 0;
	int r = 0;

	*ret = NULL;
	if (!e)
		return -ENOMEM;
	e->set = settings;
	e->loop_fd = epfd;
	e->src.cb = on_event;
	e->timer_ns = UINT64_MAX;
	e->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (e->epfd < 0)
		r = -errno;
	if (r == 0)
		r = check_file("CA certificates", settings->ca);
	if (r == 0)
		r = check_file("certificate", settings->cert);
	if (r == 0)
		r = check_file("key", settings->key);
	if (r == 0 && settings->user[0])
		r = read_password(e, &password);
	if (r == 0 && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		r = -ENOMEM;
	if (r == 0) {
		e->multi = curl_multi_init();
		r = e->multi ? loop_add(epfd, e->epfd, EPOLLIN, &e->src) : -ENOMEM;
	}
	if (r < 0) {
		etcd_close(e);
		return r;
	}
	curl_multi_setopt(e->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(e->multi, CURLMOPT_SOCKETDATA, e);
	curl_multi_setopt(e->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(e->multi, CURLMOPT_TIMERDATA, e);
	/* Hosts begin at different members. */
	if (getrandom(&start, sizeof(start), GRND_NONBLOCK) == sizeof(start))
		e->at = start % settings->n_endpoint;
	*ret = e;
	return 0;
}

void etcd_close(struct etcd *e)
{
	if (!e)
		return;
	while (e->calls) {
		struct call *c = e->calls;

		e->calls = c->next;
		call_free(c);
	}
	if (e->multi) {
		loop_del(e->loop_fd, e->epfd);
		curl_multi_cleanup(e->multi);
	}
	if (e->epfd >= 0)
		close(e->epfd);
	free(e->token);
	free(e);
}
