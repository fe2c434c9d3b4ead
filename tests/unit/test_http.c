// SPDX-License-Identifier: Apache-2.0
/* The HTTP server with made-up routes: what is served where, and its bounds. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/http.h"
#include "policyd/loop.h"
#include "tests/unit/unit.h"

static char dir[] = "/tmp/dmm-test-http-XXXXXX", path[sizeof(dir) + 8], answer[8192];
static struct http *http;
static int epfd, handled;

static void handle(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	const char *x = http_query(q, "x");

	CU_ASSERT_PTR_EQUAL(ctx, &handled);
	handled++;
	ret->body = strdup(x ? x : "{}");
	ret->len = ret->body ? strlen(ret->body) : 0;
}

#define BIG (32u << 20)

static void handle_big(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	(void)q;
	(void)ctx;
	ret->body = malloc(BIG);
	ret->len = BIG;
	if (ret->body)
		memset(ret->body, 'x', BIG);
}

static uint64_t ahead_s;

/* In place of the C library's: seconds pass when a test says so. */
int clock_gettime(clockid_t id, struct timespec *ret)
{
	int r = (int)syscall(SYS_clock_gettime, id, ret);

	ret->tv_sec += (time_t)ahead_s;
	return r;
}

static const struct http_route routes[] = {
	{"GET", "/big", false, handle_big},
	{"GET", "/read", false, handle},
	{"POST", "/write", true, handle},
	{NULL, NULL, false, NULL},
};

static int dial_unix(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strcpy(sa.sun_path, path);
	CU_ASSERT_EQUAL_FATAL(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static int dial_tcp(unsigned port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	CU_ASSERT_EQUAL_FATAL(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/* Send a request, serve until the answer is there; returns its status, 0 if there was none. */
static int ask(int fd, const char *request, size_t len)
{
	size_t sent = 0, got = 0;
	int status = 0;

	for (int i = 0; i < 500; i++) {
		ssize_t n = sent < len ? send(fd, request + sent, len - sent, MSG_NOSIGNAL) : 0;

		sent += n > 0 ? (size_t)n : 0;
		loop_run(epfd, 1);
		http_run(http);
		n = recv(fd, answer + got, sizeof(answer) - 1 - got, 0);
		if (n > 0)
			got += (size_t)n;
		if (n == 0)
			break;
	}
	answer[got] = '\0';
	close(fd);
	return sscanf(answer, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}

static int ask_host(int fd, const char *line, const char *host)
{
	char request[512];
	int n = snprintf(request, sizeof(request),
			 "%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", line, host);

	return ask(fd, request, (size_t)n);
}

static int ask_text(int fd, const char *line)
{
	return ask_host(fd, line, "localhost");
}

static void test_unix(void)
{
	struct stat st;

	handled = 0;
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "GET /read?x=hello"), 200);
	CU_ASSERT_PTR_NOT_NULL(strstr(answer, "application/json"));
	CU_ASSERT_PTR_NOT_NULL(strstr(answer, "\r\n\r\nhello"));
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "HEAD /read"), 200);
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "POST /write"), 200);
	CU_ASSERT_EQUAL(handled, 3);
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "POST /read"), 405);
	CU_ASSERT_PTR_NOT_NULL(strstr(answer, "Allow: GET, HEAD\r\n"));
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "GET /write"), 405);
	CU_ASSERT_PTR_NOT_NULL(strstr(answer, "Allow: POST\r\n"));
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "GET /"), 404);
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "GET /read/"), 404);
	CU_ASSERT_EQUAL(handled, 3);
	CU_ASSERT_EQUAL(stat(path, &st), 0);
	CU_ASSERT_EQUAL(st.st_mode & 0777, 0660);
}

/* A group's member may read and not write. */
static void test_member(void)
{
	int fd, status = 0, out[2];
	char got;
	pid_t pid;

	if (getuid() != 0)
		return;
	CU_ASSERT_EQUAL(chown(path, (uid_t)-1, 65534), 0);
	CU_ASSERT_EQUAL(chmod(dir, 0755), 0);
	CU_ASSERT_EQUAL_FATAL(pipe(out), 0);
	for (int i = 0; i < 2; i++) {
		handled = 0;
		pid = fork();
		if (pid == 0) { /* connects only: who connected is what counts */
			struct sockaddr_un sa = {.sun_family = AF_UNIX};

			strcpy(sa.sun_path, path);
			fd = socket(AF_UNIX, SOCK_STREAM, 0);
			if (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0 ||
			    connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
				_exit(1);
			dprintf(fd, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
				i ? "POST /write" : "GET /read");
			if (write(out[1], "", 1) != 1)
				_exit(1);
			_exit(read(fd, answer, sizeof(answer)) < 12 ? 1 : atoi(answer + 9) % 250);
		}
		CU_ASSERT_EQUAL(read(out[0], &got, 1), 1);
		for (int k = 0; k < 500 && waitpid(pid, &status, WNOHANG) == 0; k++) {
			loop_run(epfd, 1);
			http_run(http);
		}
		CU_ASSERT_EQUAL(WEXITSTATUS(status), (i ? 403 : 200) % 250);
		CU_ASSERT_EQUAL(handled, i ? 0 : 1);
	}
	close(out[0]);
	close(out[1]);
}

/* A member who takes all connections that he can get does not keep root away. */
static void test_member_share(void)
{
	enum { MANY = HTTP_MAX_CONNECTIONS + 10 };
	int status, out[2];
	char c;
	pid_t pid;

	if (getuid() != 0)
		return;
	CU_ASSERT_EQUAL_FATAL(pipe2(out, O_NONBLOCK), 0);
	pid = fork();
	if (pid == 0) {
		struct sockaddr_un sa = {.sun_family = AF_UNIX};

		strcpy(sa.sun_path, path);
		if (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0)
			_exit(1);
		for (int i = 0; i < MANY; i++)
			if (connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&sa,
				    sizeof(sa)) < 0)
				_exit(1);
		if (write(out[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	for (int k = 0; k < 1000 && read(out[0], &c, 1) != 1; k++) {
		loop_run(epfd, 1);
		http_run(http);
	}
	CU_ASSERT_EQUAL(waitpid(pid, &status, WNOHANG), 0);
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "GET /read"), 200);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	close(out[0]);
	close(out[1]);
}

static void test_tcp(void)
{
	char address[32];
	unsigned port;

	for (port = 29464; port < 29564; port++) {
		snprintf(address, sizeof(address), "127.0.0.1:%u", port);
		if (http_listen(http, address, "dmm.example") == 0)
			break;
	}
	handled = 0;
	CU_ASSERT_EQUAL(ask_text(dial_tcp(port), "GET /read"), 200);
	CU_ASSERT_EQUAL(ask_text(dial_tcp(port), "POST /write"), 403);
	CU_ASSERT_EQUAL(handled, 1);
	CU_ASSERT(http_listen(http, "nonsense", "") < 0); /* the address before stays */
	CU_ASSERT(http_listen(http, "192.0.2.77:1", "") < 0);
	CU_ASSERT_EQUAL(ask_text(dial_tcp(port), "GET /read"), 200);
	CU_ASSERT_EQUAL(http_listen(http, "", ""), 0);
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "GET /read"), 200);
}

/* By TCP the client has to say the name of this server, and not one that leads here. */
static void test_host(void)
{
	static const char *const good[] = {"127.0.0.1",	     "127.0.0.1:9464", "[::1]:9464",
					   "[::1]",	     "LocalHost:1",    "dmm.example",
					   "DMM.example.:80"};
	static const char *const bad[] = {"evil.example",
					  "evil.example:9464",
					  "",
					  "localhost.evil.example",
					  "[evil.example]",
					  "[::1]evil",
					  "127.0.0.1:80x",
					  "127.0.0.1.evil.example",
					  "[::1",
					  "::1",
					  "[127.0.0.1]"};
	char address[32], name[65] = "";
	unsigned port;

	for (port = 29664; port < 29764; port++) {
		snprintf(address, sizeof(address), "127.0.0.1:%u", port);
		if (http_listen(http, address, "dmm.example") == 0)
			break;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++)
		CU_ASSERT_EQUAL(ask_host(dial_tcp(port), "GET /read", good[i]), 200);
	CU_ASSERT_EQUAL(gethostname(name, sizeof(name) - 1), 0);
	CU_ASSERT_EQUAL(ask_host(dial_tcp(port), "GET /read", name), 200);
	handled = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		CU_ASSERT_EQUAL(ask_host(dial_tcp(port), "GET /read", bad[i]), 421);
	CU_ASSERT_EQUAL(handled, 0);
	CU_ASSERT_EQUAL(ask_host(dial_unix(), "GET /read", "dmm"), 200);
	CU_ASSERT_EQUAL(http_listen(http, address, ""), 0);
	CU_ASSERT_EQUAL(ask_host(dial_tcp(port), "GET /read", "dmm.example"), 421);
	CU_ASSERT_EQUAL(http_listen(http, "", ""), 0);
}

static void test_bounds(void)
{
	static char big[200000];
	int n, held[HTTP_MAX_CONNECTIONS];

	memset(big, 'a', sizeof(big));
	n = snprintf(big, sizeof(big), "GET /read HTTP/1.1\r\nHost: x\r\nX: ");
	big[n] = 'a';
	CU_ASSERT_EQUAL(ask(dial_unix(), big, 100000), 431);
	handled = 0;
	n = snprintf(big, sizeof(big),
		     "POST /write HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
		     "Content-Length: %d\r\n\r\n",
		     HTTP_MAX_BODY + 1);
	big[n] = 'a';
	CU_ASSERT_EQUAL(ask(dial_unix(), big, (size_t)n + HTTP_MAX_BODY + 1), 413);
	CU_ASSERT_EQUAL(handled, 0);
	n = snprintf(big, sizeof(big),
		     "POST /write HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
		     "Content-Length: %d\r\n\r\n",
		     HTTP_MAX_BODY);
	big[n] = 'a';
	CU_ASSERT_EQUAL(ask(dial_unix(), big, (size_t)n + HTTP_MAX_BODY), 200);
	CU_ASSERT_EQUAL(handled, 1);
	CU_ASSERT_NOT_EQUAL(ask(dial_unix(), "\0\1\2garbage\r\n\r\n", 14), 200);

	for (int i = 0; i < HTTP_MAX_CONNECTIONS; i++) {
		held[i] = dial_unix();
		loop_run(epfd, 1);
		http_run(http);
	}
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "GET /read"), 0);
	for (int i = 0; i < HTTP_MAX_CONNECTIONS; i++)
		close(held[i]);
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "GET /read"), 200);
}

/* One address has no more than its share of the connections by TCP. */
static void test_peer(void)
{
	int held[HTTP_MAX_PER_PEER];
	char address[32];
	unsigned port;

	for (port = 29564; port < 29664; port++) {
		snprintf(address, sizeof(address), "127.0.0.1:%u", port);
		if (http_listen(http, address, "dmm.example") == 0)
			break;
	}
	for (int i = 0; i < HTTP_MAX_PER_PEER; i++) {
		held[i] = dial_tcp(port);
		loop_run(epfd, 1);
		http_run(http);
	}
	CU_ASSERT_EQUAL(ask_text(dial_tcp(port), "GET /read"), 0);
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "GET /read"), 200);
	for (int i = 0; i < HTTP_MAX_PER_PEER; i++)
		close(held[i]);
	for (int i = 0; i < 10; i++) {
		loop_run(epfd, 1);
		http_run(http);
	}
	CU_ASSERT_EQUAL(ask_text(dial_tcp(port), "GET /read"), 200);
	CU_ASSERT_EQUAL(http_listen(http, "", ""), 0);
}

/* A byte now and then does not keep a connection: the request has its time as a whole. */
static void test_slow(void)
{
	uint64_t begin = now_ns();
	int fd = dial_unix(), n = -1;
	char c;

	while (n != 0 && now_ns() - begin < 3 * HTTP_TIMEOUT_S * 1000000000ULL) {
		if (send(fd, "G", 1, MSG_NOSIGNAL) < 0)
			break;
		usleep(20000);
		loop_run(epfd, 0);
		http_run(http);
		n = (int)recv(fd, &c, 1, 0);
	}
	CU_ASSERT(n == 0 || (n < 0 && errno == EPIPE));
	CU_ASSERT(now_ns() - begin >= (HTTP_TIMEOUT_S - 1) * 1000000000ULL);
	close(fd);
}

/* What comes of a large answer to who takes a little of it each second, and all of it at the end.
 */
static size_t take_slowly(unsigned seconds)
{
	static const char request[] = "GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
	static char buf[65536];
	int fd = dial_unix();
	size_t got = 0;
	ssize_t n = -1;

	CU_ASSERT(send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) > 0);
	for (unsigned i = 0; n != 0 && i < seconds + 100000; i++) {
		ahead_s += i < seconds;
		loop_run(epfd, 0);
		http_run(http);
		n = recv(fd, buf, sizeof(buf), 0);
		got += n > 0 ? (size_t)n : 0;
		if (n < 0 && errno != EAGAIN)
			break;
	}
	close(fd);
	return got;
}

/* An answer has its time as a whole, too. */
static void test_slow_answer(void)
{
	CU_ASSERT(take_slowly(0) > BIG);
	CU_ASSERT(take_slowly(HTTP_ANSWER_S - 5) > BIG);
	CU_ASSERT(take_slowly(HTTP_ANSWER_S + 5) < BIG);
}

/* Requests with bytes changed, cut and joined at random, the same each time: the server answers
 * what follows. */
static void test_garbage(void)
{
	static const char *const seeds[] = {
		"GET /read?x=%41&x=b HTTP/1.1\r\nHost: x\r\nAccept: */*;q=0.1\r\n\r\n",
		"POST /write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
		"chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
		"POST /write HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
		"HEAD http://x/read HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
	};
	unsigned random = 1;
	char request[600];

	for (int i = 0; i < 3000; i++) {
		size_t len = 0;
		int fd = dial_unix();

		for (int part = 0; part < 2; part++) {
			const char *seed = seeds[(random = random * 1103515245 + 12345) >> 16 & 3];
			size_t n = strlen(seed);

			if (random >> 20 & 1)
				n = (random >> 8) % n;
			memcpy(request + len, seed, n);
			len += n;
		}
		for (unsigned k = random >> 24 & 7; len && k; k--) {
			random = random * 1103515245 + 12345;
			request[(random >> 8) % len] = (char)(random >> 16);
		}
		CU_ASSERT(send(fd, request, len, MSG_NOSIGNAL) == (ssize_t)len);
		for (int k = 0; k < 3; k++) {
			loop_run(epfd, 0);
			http_run(http);
		}
		close(fd);
	}
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "GET /read"), 200);
}

/* A socket that somebody answers on is not taken away; one left behind is replaced. */
static void test_socket_taken(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct http *other = NULL;
	int fd;

	CU_ASSERT(http_open(&other, epfd, path, "", routes, &handled) < 0);
	CU_ASSERT_EQUAL(http_open(&other, epfd, "/tmp/dmm-test-no-group", "no-such-group", routes,
				  &handled),
			-ESRCH);
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "GET /read"), 200);
	http_close(http);
	CU_ASSERT(access(path, F_OK) < 0);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	strcpy(sa.sun_path, path);
	CU_ASSERT_EQUAL(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	close(fd);
	CU_ASSERT_EQUAL_FATAL(http_open(&http, epfd, path, "", routes, &handled), 0);
	CU_ASSERT_EQUAL(ask_text(dial_unix(), "GET /read"), 200);
}

int main(void)
{
	static CU_TestInfo tests[] = {
		{"routes on the Unix socket", test_unix},
		{"a member of the socket's group", test_member},
		{"a member's share of the connections", test_member_share},
		{"routes on TCP", test_tcp},
		{"names on TCP", test_host},
		{"bounds", test_bounds},
		{"one address's share", test_peer},
		{"slow requests", test_slow},
		{"slow answers", test_slow_answer},
		{"garbage", test_garbage},
		{"a socket that is taken, one left behind", test_socket_taken},
		CU_TEST_INFO_NULL,
	};
	int r;

	log_init("test", 0);
	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (!mkdtemp(dir))
		return EXIT_FAILURE;
	snprintf(path, sizeof(path), "%s/sock", dir);
	if (http_open(&http, epfd, path, "", routes, &handled) < 0)
		return EXIT_FAILURE;
	r = unit_run("http", tests);
	http_close(http);
	close(epfd);
	rmdir(dir);
	return r;
}
