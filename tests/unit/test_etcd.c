// SPDX-License-Identifier: Apache-2.0
/* The client of etcd: against a server that does what the test wants, and against etcd itself. */
#include <dlfcn.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/etcd/etcd.h"
#include "policyd/etcd/kv.h"
#include "policyd/loop.h"
#include "tests/unit/etcd_real.h"
#include "tests/unit/unit.h"

static int epfd;

/* What came of a call or stream. */
struct result {
	unsigned n; /* times that it was called */
	int error;
	char why[256];
	json_t *body; /* of the last time */
};

static void on_result(void *ctx, const struct etcd_answer *a)
{
	struct result *r = ctx;

	r->n++;
	r->error = a->error;
	snprintf(r->why, sizeof(r->why), "%s", a->why);
	json_decref(r->body);
	r->body = a->body ? json_deep_copy(a->body) : NULL;
}

static void turn(struct etcd *e, unsigned ms)
{
	loop_run(epfd, etcd_next_ns(e) <= now_ns() ? 0 : (int)ms);
	etcd_run(e);
}

/* Until it was called n times in all. */
static void wait_for(struct etcd *e, const struct result *r, unsigned n)
{
	uint64_t end = now_ns() + 20000000000ULL;

	while (r->n < n && now_ns() < end)
		turn(e, 10);
	CU_ASSERT_TRUE_FATAL(r->n >= n);
}

/* Ask until the endpoint answers. */
static struct result ask(struct etcd *e, const char *method, json_t *body)
{
	struct result r = {0};
	uint64_t end = now_ns() + 20000000000ULL;

	do {
		r = (struct result){0};
		CU_ASSERT_EQUAL_FATAL(etcd_call(e, method, json_incref(body), on_result, &r), 0);
		wait_for(e, &r, 1);
		if (r.error == -EAGAIN)
			usleep((useconds_t)(etcd_backoff_ns(e) / 1000));
	} while (r.error == -EAGAIN && now_ns() < end);
	json_decref(body);
	return r;
}

/* ---- a server that is told what to answer ---- */

static struct script {
	unsigned status;
	const char *text;
	unsigned calls, logins; /* that it saw */
	const char *token;	/* that it gives and takes; NULL: it wants none */
	char body[512];		/* of the last call */
	size_t big;		/* bytes of an answer that is too long */
} script;

static enum MHD_Result send_text(struct MHD_Connection *c, unsigned status, const char *text)
{
	struct MHD_Response *r =
		MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result ok = MHD_queue_response(c, status, r);

	MHD_destroy_response(r);
	return ok;
}

static enum MHD_Result send_big(struct MHD_Connection *c)
{
	char *text = malloc(script.big);
	struct MHD_Response *r;
	enum MHD_Result ok;

	memset(text, ' ', script.big);
	r = MHD_create_response_from_buffer(script.big, text, MHD_RESPMEM_MUST_FREE);
	ok = MHD_queue_response(c, 200, r);
	MHD_destroy_response(r);
	return ok;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *size, void **con)
{
	static int seen;
	const char *auth = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Authorization");
	char text[128];

	(void)cls;
	(void)method;
	(void)version;
	if (!*con) {
		*con = &seen;
		script.body[0] = '\0';
		return MHD_YES;
	}
	if (*size) {
		strncat(script.body, data,
			MIN(*size, sizeof(script.body) - 1 - strlen(script.body)));
		*size = 0;
		return MHD_YES;
	}
	if (strcmp(url, "/v3/auth/authenticate") == 0) {
		script.logins++;
		if (!strstr(script.body, "\"password\":\"secret\""))
			return send_text(c, 400,
					 "{\"error\":\"etcdserver: authentication failed, invalid "
					 "user ID or password\",\"code\":3}");
		snprintf(text, sizeof(text), "{\"token\":\"%s\"}", script.token);
		return send_text(c, 200, text);
	}
	script.calls++;
	if (script.token && (!auth || strcmp(auth, script.token) != 0))
		return send_text(c, 401,
				 "{\"error\":\"etcdserver: invalid auth token\",\"code\":16}");
	return script.big ? send_big(c) : send_text(c, script.status, script.text);
}

static struct MHD_Daemon *server;
static char server_url[64];

static void serve(void)
{
	unsigned port = free_port();
	struct sockaddr_in sa = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	script = (struct script){.status = 200, .text = "{}"};
	server = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, on_request, NULL,
				  MHD_OPTION_SOCK_ADDR, &sa, MHD_OPTION_END);
	CU_ASSERT_PTR_NOT_NULL_FATAL(server);
	snprintf(server_url, sizeof(server_url), "http://127.0.0.1:%u", port);
}

static void serve_end(void)
{
	MHD_stop_daemon(server);
}

static struct etcd *open_on(struct etcd_settings *s, const char *first, const char *second)
{
	struct etcd *e;

	s->n_endpoint = second ? 2 : 1;
	s->lease_s = s->lease_s ? s->lease_s : 3;
	snprintf(s->endpoint[0], sizeof(s->endpoint[0]), "%s", first);
	snprintf(s->endpoint[1], sizeof(s->endpoint[1]), "%s", second ? second : "");
	CU_ASSERT_EQUAL_FATAL(etcd_open(&e, epfd, s), 0);
	while (strcmp(etcd_endpoint(e), first) != 0) /* it begins anywhere */
		etcd_leave(e, "the test wants the first");
	return e;
}

/* ---- tests ---- */

static void test_answers(void)
{
	static const struct {
		unsigned status;
		const char *text;
		int error;
	} rows[] = {
		{200, "{\"header\":{\"revision\":\"7\"}}", 0},
		{200, "{", -EPROTO},
		{200, "[]", -EPROTO},
		{404, "404 page not found", -EPROTO},
		{200, "{\"a\":1,\"a\":2}", -EPROTO},
		{503, "{\"error\":\"etcdserver: no leader\",\"code\":14}", -EAGAIN},
		{504, "{\"error\":\"etcdserver: request timed out\",\"code\":4}", -EAGAIN},
		{404, "{\"error\":\"etcdserver: requested lease not found\",\"code\":5}", -ENOENT},
		{403, "{\"error\":\"etcdserver: permission denied\",\"code\":7}", -EACCES},
		{400, "{\"error\":\"etcdserver: key is not provided\",\"code\":3}", -EINVAL},
	};
	struct etcd_settings s = {0};
	struct etcd *e;

	serve();
	e = open_on(&s, server_url, NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct result r = {0};

		script.status = rows[i].status;
		script.text = rows[i].text;
		etcd_call(e, "kv/range", kv_get("/x"), on_result, &r);
		wait_for(e, &r, 1);
		CU_ASSERT_EQUAL(r.error, rows[i].error);
		CU_ASSERT_EQUAL(r.why[0] != '\0', r.error != 0);
		if (r.error == 0)
			CU_ASSERT_EQUAL(kv_revision(r.body), 7);
		json_decref(r.body);
	}
	etcd_close(e);
	serve_end();
}

static void test_too_long(void)
{
	struct etcd_settings s = {0};
	struct result r = {0};
	struct etcd *e;

	serve();
	script.big = ETCD_ANSWER_MAX + 1;
	e = open_on(&s, server_url, NULL);
	etcd_call(e, "kv/range", kv_get("/x"), on_result, &r);
	wait_for(e, &r, 1);
	CU_ASSERT_EQUAL(r.error, -EAGAIN);
	etcd_close(e);
	serve_end();
}

#define SILENT "silent.invalid"

/* In libc's place: of one name the name server says nothing for long. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		struct addrinfo **ret)
{
	static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	void *found = dlsym(RTLD_NEXT, "getaddrinfo");

	if (node && strcmp(node, SILENT) == 0) {
		usleep(4000000);
		return EAI_AGAIN;
	}
	memcpy(&real, &found, sizeof(real));
	return real(node, service, hints, ret);
}

/* The loop of the owner goes on, and the call ends in its time. */
static void test_silent_names(void)
{
	struct etcd_settings s = {.lease_s = 2};
	uint64_t begin = now_ns();
	struct result call = {0};
	struct etcd *e = open_on(&s, "http://" SILENT ":2379", NULL);

	etcd_call(e, "kv/range", kv_get("/x"), on_result, &call);
	wait_for(e, &call, 1);
	CU_ASSERT_EQUAL(call.error, -EAGAIN);
	etcd_close(e);
	CU_ASSERT_TRUE(now_ns() - begin < 3000000000ULL);
}

/* One that takes connections and never answers, then one that does: in the time that is given. */
static void test_failover(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct etcd_settings s = {.lease_s = 2};
	struct result call = {0}, stream = {0};
	struct etcd_traffic t;
	struct etcd *e;
	char silent[64];

	CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&sa, len), 0);
	CU_ASSERT_EQUAL_FATAL(listen(fd, 8), 0);
	getsockname(fd, (struct sockaddr *)&sa, &len);
	snprintf(silent, sizeof(silent), "http://127.0.0.1:%u", ntohs(sa.sin_port));
	serve();
	e = open_on(&s, silent, server_url);
	etcd_traffic(e, &t);
	etcd_stream(e, "watch", kv_watch_all("/x/", 1), on_result, &stream);
	turn(e, 0);
	etcd_call(e, "kv/range", kv_get("/x"), on_result, &call);
	wait_for(e, &call, 1);
	CU_ASSERT_EQUAL(call.error, -EAGAIN);
	/* A stream on the endpoint that failed does not hang. */
	wait_for(e, &stream, 1);
	CU_ASSERT_EQUAL(stream.error, -EAGAIN);
	CU_ASSERT_STRING_EQUAL(etcd_endpoint(e), server_url);
	call = ask(e, "kv/range", kv_get("/x"));
	CU_ASSERT_EQUAL(call.error, 0);
	json_decref(call.body);
	close(fd);
	/* And when both are gone it is said, again and again. */
	serve_end();
	for (unsigned i = 0; i < 4; i++) {
		call = (struct result){0};
		etcd_call(e, "kv/range", kv_get("/x"), on_result, &call);
		wait_for(e, &call, 1);
		CU_ASSERT_EQUAL(call.error, -EAGAIN);
	}
	CU_ASSERT_TRUE(etcd_backoff_ns(e) >= ETCD_BACKOFF_MIN_NS);
	etcd_close(e);
}

static void test_token(void)
{
	char path[] = "/tmp/dmm-test-password-XXXXXX";
	struct etcd_settings s = {.user = "dmm"};
	struct result r = {0};
	struct etcd *e;
	int fd = mkstemp(path);

	CU_ASSERT_EQUAL_FATAL(write(fd, "secret\n", 7), 7);
	snprintf(s.password_file, sizeof(s.password_file), "%s", path);
	serve();
	script.token = "one";
	e = open_on(&s, server_url, NULL);
	r = ask(e, "kv/range", kv_get("/x"));
	CU_ASSERT_EQUAL(r.error, 0);
	json_decref(r.body);
	r = ask(e, "kv/range", kv_get("/x"));
	json_decref(r.body);
	CU_ASSERT_EQUAL(script.logins, 1);
	/* It forgets its tokens, as at a restart. */
	script.token = "two";
	r = ask(e, "kv/range", kv_get("/x"));
	CU_ASSERT_EQUAL(r.error, 0);
	json_decref(r.body);
	CU_ASSERT_EQUAL(script.logins, 2);
	etcd_close(e);

	/* A wrong password ends the call, and no call goes without a token. */
	script.calls = 0;
	CU_ASSERT_EQUAL_FATAL(pwrite(fd, "wrong!", 6, 0), 6);
	e = open_on(&s, server_url, NULL);
	r = (struct result){0};
	etcd_call(e, "kv/range", kv_get("/x"), on_result, &r);
	wait_for(e, &r, 1);
	CU_ASSERT_EQUAL(r.error, -EAGAIN);
	CU_ASSERT_PTR_NOT_NULL(strstr(r.why, "authentication failed"));
	CU_ASSERT_EQUAL(script.calls, 0);
	/* The right one is in the file by the next time. */
	CU_ASSERT_EQUAL_FATAL(pwrite(fd, "secret", 6, 0), 6);
	r = ask(e, "kv/range", kv_get("/x"));
	CU_ASSERT_EQUAL(r.error, 0);
	json_decref(r.body);
	etcd_close(e);
	serve_end();
	close(fd);
	unlink(path);

	/* No password, no client. */
	CU_ASSERT_EQUAL(etcd_open(&e, epfd, &s), -ENOENT);
	CU_ASSERT_PTR_NULL(e);
}

static void test_stream(void)
{
	struct etcd_settings s = {0};
	struct result r = {0}, other = {0};
	struct etcd *e;

	serve();
	script.text = "{\"result\":{\"n\":1}}\n{\"result\":{\"n\":2}}\n";
	e = open_on(&s, server_url, NULL);
	etcd_stream(e, "watch", kv_watch_all("/x/", 5), on_result, &r);
	wait_for(e, &r, 3); /* two messages, and its end */
	CU_ASSERT_EQUAL(r.error, -EAGAIN);
	CU_ASSERT_PTR_NOT_NULL(strstr(script.body, "\"start_revision\":\"5\""));
	/* An error in it ends it at once. */
	script.text = "{\"error\":{\"grpc_code\":7,\"message\":\"no\"}}\n{\"result\":{}}\n";
	r = (struct result){0};
	etcd_stream(e, "watch", kv_watch_all("/x/", 5), on_result, &r);
	etcd_call(e, "kv/range", kv_get("/x"), on_result, &other);
	etcd_cancel(e, &other);
	wait_for(e, &r, 1);
	for (unsigned i = 0; i < 20; i++)
		turn(e, 1);
	CU_ASSERT_EQUAL(r.n, 1);
	CU_ASSERT_EQUAL(r.error, -EACCES);
	CU_ASSERT_EQUAL(other.n, 0);
	etcd_close(e);
	serve_end();
}

static void test_base64(void)
{
	static const char *const rows[][2] = {
		{"", ""},
		{"f", "Zg=="},
		{"fo", "Zm8="},
		{"foo", "Zm9v"},
		{"foob", "Zm9vYg=="},
		{"fooba", "Zm9vYmE="},
		{"foobar", "Zm9vYmFy"},
		{"\xff\xfe", "//4="},
	};
	static const char *const bad[] = {"Zm9v!", "AAAA", "Zm 9v", "\xc3\xa4"};
	json_t *o;
	char *text;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		o = json_pack("{s:o}", "v", kv_base64(rows[i][0]));
		CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(o, "v")), rows[i][1]);
		text = kv_text(o, "v");
		CU_ASSERT_STRING_EQUAL(text, rows[i][0]);
		free(text);
		json_decref(o);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		o = json_pack("{s:s}", "v", bad[i]);
		CU_ASSERT_PTR_NULL(kv_text(o, "v"));
		json_decref(o);
	}
}

/* ---- etcd itself ---- */

static char *first_value(const json_t *answer)
{
	return kv_text(json_array_get(json_object_get(answer, "kvs"), 0), "value");
}

static void check_value(struct etcd *e, const char *key, const char *value)
{
	struct result r = ask(e, "kv/range", kv_get(key));
	char *text = first_value(r.body);

	CU_ASSERT_EQUAL(r.error, 0);
	CU_ASSERT_STRING_EQUAL(text, value);
	free(text);
	json_decref(r.body);
}

static dmm_u64 put(struct etcd *e, const char *key, const char *value)
{
	struct result r = ask(e, "kv/put", kv_put(key, value, 0));
	dmm_u64 revision = kv_revision(r.body);

	CU_ASSERT_EQUAL(r.error, 0);
	json_decref(r.body);
	return revision;
}

static void check_txn(struct etcd *e)
{
	for (unsigned i = 0; i < 2; i++) { /* the second time the key is there */
		struct result r =
			ask(e, "kv/txn",
			    kv_txn("/t/lock", 0, json_pack("[o]", kv_do_put("/t/lock", "me", 0)),
				   json_pack("[o]", kv_do_get("/t/lock"))));

		CU_ASSERT_EQUAL(json_is_true(json_object_get(r.body, "succeeded")), i == 0);
		json_decref(r.body);
	}
}

static void check_lease(struct etcd *e)
{
	struct result r = ask(e, "lease/grant", kv_grant(5));
	dmm_u64 lease = kv_number(r.body, "ID");
	json_t *alive;

	CU_ASSERT_TRUE_FATAL(lease > 0);
	json_decref(r.body);
	r = ask(e, "kv/put", kv_put("/l/a", "x", lease));
	json_decref(r.body);
	r = ask(e, "lease/keepalive", kv_lease(lease));
	alive = json_object_get(r.body, "result");
	CU_ASSERT_EQUAL(kv_number(alive, "TTL"), 5);
	json_decref(r.body);
	r = ask(e, "lease/revoke", kv_lease(lease));
	CU_ASSERT_EQUAL(r.error, 0);
	json_decref(r.body);
	r = ask(e, "kv/range", kv_get_all("/l/"));
	CU_ASSERT_EQUAL(json_array_size(json_object_get(r.body, "kvs")), 0);
	json_decref(r.body);
	r = ask(e, "lease/keepalive", kv_lease(lease));
	CU_ASSERT_EQUAL(kv_number(json_object_get(r.body, "result"), "TTL"), 0);
	json_decref(r.body);
}

static void check_watch(struct etcd *e, struct etcd_real *s)
{
	dmm_u64 from = put(e, "/w/a", "1");
	struct result r = {0}, again = {0}, compacted = {0};
	json_t *events;

	etcd_stream(e, "watch", kv_watch_all("/w/", from), on_result, &r);
	wait_for(e, &r, 2); /* that it began, and what was before it */
	events = json_object_get(r.body, "events");
	CU_ASSERT_EQUAL(json_array_size(events), 1);
	put(e, "/other", "1");
	put(e, "/w/b", "2");
	wait_for(e, &r, 3);
	CU_ASSERT_EQUAL(json_array_size(json_object_get(r.body, "events")), 1);

	/* It dies: the stream ends. It comes again: nothing since the revision is missing. */
	etcd_real_kill(s);
	wait_for(e, &r, 4);
	CU_ASSERT_EQUAL(r.error, -EAGAIN);
	etcd_real_run(s);
	put(e, "/w/c", "3");
	etcd_stream(e, "watch", kv_watch_all("/w/", from + 1), on_result, &again);
	wait_for(e, &again, 2);
	events = json_object_get(again.body, "events");
	CU_ASSERT_EQUAL(json_array_size(events), 2);
	etcd_cancel(e, &again);

	/* What was compacted cannot be watched, and it says so. */
	json_decref(
		ask(e, "kv/compaction", json_pack("{s:I}", "revision", (json_int_t)from + 2)).body);
	etcd_stream(e, "watch", kv_watch_all("/w/", from), on_result, &compacted);
	wait_for(e, &compacted, 2);
	CU_ASSERT_TRUE(json_is_true(json_object_get(compacted.body, "canceled")));
	CU_ASSERT_EQUAL(kv_number(compacted.body, "compact_revision"), from + 2);
	etcd_cancel(e, &compacted);
	json_decref(r.body);
	json_decref(again.body);
	json_decref(compacted.body);
}

static void test_real(void)
{
	struct etcd_settings set = {.lease_s = 15};
	struct etcd_real s;
	struct etcd *e;

	if (!etcd_real_start(&s)) {
		printf("no etcd here, not tested ");
		return;
	}
	e = open_on(&set, s.client, NULL);
	put(e, "/a/b", "hällo \"x\"\n");
	check_value(e, "/a/b", "hällo \"x\"\n");
	check_txn(e);
	check_lease(e);
	check_watch(e, &s);
	etcd_close(e);
	etcd_real_stop(&s);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"base64", test_base64},
		{"an answer is what etcd says or an error with a reason", test_answers},
		{"an answer that is too long is cut off", test_too_long},
		{"an endpoint that fails or is silent is left", test_failover},
		{"a name server that is silent holds nobody up", test_silent_names},
		{"user and password become a token, and again when it is forgotten", test_token},
		{"streams", test_stream},
		{"etcd itself", test_real},
		CU_TEST_INFO_NULL,
	};

	log_init("test_etcd", LOG_L_ERROR);
	epfd = epoll_create1(EPOLL_CLOEXEC);
	return unit_run("etcd", tests);
}
