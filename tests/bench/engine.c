// SPDX-License-Identifier: Apache-2.0
/*
 * What an engine costs by itself: no port, no carrier, no kernel. Its far end is the native engine,
 * in the same thread; only what the measured engine does is timed, with one copy of each packet
 * that it sends. Time is virtual. "memory" is what one of many connections takes while it is idle,
 * and "left" what is kept of that when all are gone. "crowd" is what it costs among so many others
 * to set one up, to ask or answer something on another one each time, and to close one; "of 32" the
 * same where so many packets come together, as they do when there is much to do.
 *
 *   engine [NAME [ROUNDS [WORK]]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "userstack/engines.h"
#include "userstack/port/port.h"

#define BULK (64u << 20)
#define EXCHANGES 100000u
#define CONNECTIONS 20000u
#define CROWD 100000u
#define GROUP 32u
#define QUEUE 4096u
#define ROUNDS_MAX 101u
#define MTU 1500u
#define TURN_NS 20000 /* of virtual time */

struct packet {
	uint32_t len;
	uint8_t data[MTU];
};

struct end {
	const struct engine_ops *ops;
	struct engine *e;
	struct engine_host host;
	struct end *far;
	struct engine_conn *conn;
	struct packet *queue; /* for this end */
	unsigned head, tail;
	uint64_t received, drops;
	bool connected, eof;
};

static struct end near_end, far_end;
static uint64_t virtual_ns = 1000000000000ull, spent_ns;
static uint16_t next_port = 1024;
static bool second;		  /* address of far */
static unsigned lose_every, sent; /* of what near sends; 0: nothing */

static void die(const char *what)
{
	fprintf(stderr, "engine: %s\n", what);
	exit(1);
}

/* ---- the host of both ---- */

static void host_output(void *ctx, const struct iovec *iov, unsigned n)
{
	struct end *to = ((struct end *)ctx)->far;
	struct packet *p = &to->queue[to->head % QUEUE];

	if (to == &far_end && lose_every && ++sent % lose_every == 0)
		return;
	if (to->head - to->tail == QUEUE) {
		to->drops++;
		return;
	}
	p->len = 0;
	for (unsigned i = 0; i < n; i++) {
		memcpy(p->data + p->len, iov[i].iov_base, iov[i].iov_len);
		p->len += (uint32_t)iov[i].iov_len;
	}
	to->head++;
}

static void host_event(void *ctx, void *user, unsigned events, int error)
{
	struct end *end = ctx;

	(void)user;
	if (events & ENGINE_FAILED)
		die(strerror(error));
	end->connected |= !!(events & ENGINE_CONNECTED);
	end->eof |= !!(events & ENGINE_EOF);
}

static void *host_accepted(void *ctx, void *listener_user, struct engine_conn *c,
			   const struct dmm_addr *remote, const struct dmm_addr *local)
{
	struct end *end = ctx;

	(void)listener_user;
	(void)remote;
	(void)local;
	end->conn = c;
	end->connected = true;
	return end;
}

static void host_released(void *ctx, void *user)
{
	(void)ctx;
	(void)user;
}

static void start(struct end *end, const struct engine_ops *ops, struct end *far, const char *ip)
{
	struct engine_config c = {.mtu = MTU, .secret = "0123456789abcde"};
	struct dmm_addr own = {0}, any = {.port = 80};
	dmm_u8 other[16];
	struct engine_listener *l;

	*end = (struct end){.ops = ops, .far = far};
	end->queue = calloc(QUEUE, sizeof(*end->queue));
	end->host = (struct engine_host){
		.ctx = end,
		.output = host_output,
		.event = host_event,
		.accepted = host_accepted,
		.released = host_released,
	};
	c.host = &end->host;
	c.now = virtual_ns;
	addr_parse_ip(ip, own.ip);
	addr_parse_ip("0.0.0.0", any.ip);
	addr_parse_ip("10.0.0.3", other);
	if (!end->queue || ops->start(&end->e, &c) < 0 || ops->addr_add(end->e, own.ip) < 0 ||
	    (far == &near_end && ops->addr_add(end->e, other) < 0) ||
	    ops->listen(end->e, &any, 0, end, &l) < 0)
		die("cannot start");
}

/* ---- turns ---- */

static void receive(struct end *end)
{
	unsigned soon = end->tail;
	uint64_t next;

	while (end->tail != end->head) {
		struct packet *p = &end->queue[end->tail % QUEUE], *ahead;

		for (; end->ops->expect && soon != end->head && soon - end->tail < PORT_AHEAD;
		     soon++) {
			ahead = &end->queue[soon % QUEUE];
			end->ops->expect(end->e, ahead->data, ahead->len);
		}
		end->ops->input(end->e, p->data, p->len, virtual_ns);
		end->tail++;
	}
	end->head = end->tail = 0; /* the next ones find it in the cache */
	end->ops->poll(end->e, virtual_ns, &next);
}

static void read_all(struct end *end)
{
	struct iovec v[16];
	unsigned n;

	while (end->conn && (n = end->ops->peek(end->conn, v, 16))) {
		size_t len = 0;

		for (unsigned i = 0; i < n; i++)
			len += v[i].iov_len;
		end->ops->consume(end->conn, len);
		end->received += len;
	}
}

/* As much as there is room for, at most what is left. Returns the bytes taken. */
static size_t write_some(struct end *end, size_t left)
{
	static const uint8_t bytes[65536];
	size_t done = 0, n;
	ssize_t r;

	while (end->conn && done < left) {
		n = MIN(MIN(left - done, end->ops->room(end->conn)), sizeof(bytes));
		r = n ? end->ops->send(end->conn, bytes, n) : 0;
		if (r <= 0)
			break;
		done += (size_t)r;
	}
	return done;
}

static void flush(struct end *end)
{
	uint64_t next;

	end->ops->poll(end->e, virtual_ns, &next);
}

/* One turn of an end: what came, and what it reads and writes on n connections. */
static size_t turn_of(struct end *end, struct engine_conn *const *conns, unsigned n,
		      size_t to_write)
{
	uint64_t from = end == &near_end ? now_ns() : 0;
	size_t written = 0;

	receive(end);
	for (unsigned i = 0; i < n; i++) {
		end->conn = conns[i];
		read_all(end);
		written += write_some(end, to_write);
	}
	flush(end);
	if (from)
		spent_ns += now_ns() - from;
	else
		virtual_ns += TURN_NS;
	return written;
}

/* The same on the one that it has, which may be accepted meanwhile. */
static size_t turn(struct end *end, size_t to_write)
{
	return turn_of(end, &end->conn, 1, to_write);
}

/* near calls. */
static void join(void)
{
	static const struct engine_options none;
	struct dmm_addr remote = {.port = 80}, local = {.port = next_port};
	uint64_t from = now_ns();

	addr_parse_ip("10.0.0.1", local.ip);
	addr_parse_ip(second ? "10.0.0.3" : "10.0.0.2", remote.ip);
	second ^= next_port == 65000;
	next_port = next_port == 65000 ? 1024 : (uint16_t)(next_port + 1);
	near_end.connected = near_end.eof = false;
	far_end.connected = far_end.eof = false;
	near_end.received = far_end.received = 0;
	if (near_end.ops->connect(near_end.e, &remote, &local, &none, &near_end, virtual_ns,
				  &near_end.conn) < 0)
		die("cannot connect");
	spent_ns += now_ns() - from;
	for (unsigned i = 0; !near_end.connected || !far_end.connected; i++) {
		turn(&far_end, 0);
		turn(&near_end, 0);
		if (i > 100000)
			die("no connection");
	}
}

/* far closes first: TIME-WAIT is its own. */
static void part(void)
{
	uint64_t from;

	far_end.ops->close(far_end.conn);
	far_end.conn = NULL;
	while (!near_end.eof) {
		turn(&near_end, 0);
		turn(&far_end, 0);
	}
	from = now_ns();
	near_end.ops->close(near_end.conn);
	near_end.conn = NULL;
	spent_ns += now_ns() - from;
	/* It may take its time to release it; it is not the only one. */
	turn(&far_end, 0);
	turn(&near_end, 0);
}

/* ---- the work: nanoseconds for each unit ---- */

static double bulk(struct end *from, struct end *to, size_t total)
{
	size_t left = total;

	join();
	spent_ns = 0;
	while (to->received < total) {
		left -= turn(from, left);
		turn(to, 0);
	}
	part();
	return (double)spent_ns * 1024 / (double)total;
}

static void work_send(unsigned n, double *ret)
{
	(void)n;
	ret[0] = bulk(&near_end, &far_end, BULK);
}

/* The window stays large: a SACK then is about one segment of a thousand. */
static void work_send_lossy(unsigned n, double *ret)
{
	lose_every = n;
	ret[0] = bulk(&near_end, &far_end, BULK);
	lose_every = 0;
}

static void work_receive(unsigned n, double *ret)
{
	(void)n;
	ret[0] = bulk(&far_end, &near_end, BULK);
}

static void exchange(struct end *client, struct end *server)
{
	uint64_t before = client->received;

	turn(client, 64);
	turn(server, 0);
	turn(server, 64);
	while (client->received < before + 64)
		turn(client, 0);
}

static struct engine_conn *near_crowd[CROWD], *far_crowd[CROWD];

static void crowd_take(unsigned i)
{
	near_end.conn = near_crowd[i];
	far_end.conn = far_crowd[i];
}

static void crowd_join(unsigned i)
{
	uint64_t spent;

	join();
	near_crowd[i] = near_end.conn;
	far_crowd[i] = far_end.conn;
	spent = spent_ns;
	exchange(&near_end, &far_end);
	spent_ns = spent;
}

static void crowd_part(unsigned i)
{
	crowd_take(i);
	near_end.eof = false;
	part();
}

/* TIME-WAIT is over. */
static void crowd_wait(void)
{
	virtual_ns += 100 * 1000000000ull;
	for (unsigned i = 0; i < 1000; i++, virtual_ns += 1000000) {
		turn(&far_end, 0);
		turn(&near_end, 0);
	}
}

/* Memory of this process, in bytes. */
static size_t resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	size_t pages = 0;

	if (!f || fscanf(f, "%*u %zu", &pages) != 1)
		die("cannot read /proc/self/statm");
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* The far end's connections are the native engine's and counted with those of the near one: of two
 * idle ones that are not alike the mean is told. */
static void work_memory(unsigned n, double *ret)
{
	size_t before = resident();

	for (unsigned i = 0; i < n; i++)
		crowd_join(i);
	ret[0] = ((double)resident() - (double)before) / 2 / n;
	for (unsigned i = 0; i < n; i++)
		crowd_part(i);
	crowd_wait();
	ret[1] = ((double)resident() - (double)before) / 2 / n;
}

static double crowd_exchange(unsigned n, struct end *client, struct end *server)
{
	spent_ns = 0;
	for (unsigned i = 0; i < EXCHANGES; i++) {
		crowd_take((unsigned)(i * 7919ull % n));
		exchange(client, server);
	}
	return (double)spent_ns / EXCHANGES;
}

/* The same of several at a time. */
static double crowd_groups(unsigned n, struct end *client, struct end *server)
{
	unsigned size = MIN(n, GROUP), rounds = EXCHANGES / size;
	struct engine_conn *near[GROUP], *far[GROUP];
	struct engine_conn **clients = client == &near_end ? near : far,
			   **servers = client == &near_end ? far : near;

	spent_ns = 0;
	for (unsigned r = 0; r < rounds; r++) {
		uint64_t before = client->received;

		for (unsigned i = 0; i < size; i++) {
			unsigned who = (unsigned)((r * size + i) * 7919ull % n);

			near[i] = near_crowd[who];
			far[i] = far_crowd[who];
		}
		turn_of(client, clients, size, 64);
		turn_of(server, servers, size, 64);
		while (client->received < before + size * 64)
			turn_of(client, clients, size, 0);
	}
	return (double)spent_ns / (rounds * size);
}

/* Another one each time; `fresh` are closed, and then as many set up. */
static void work_crowd(unsigned n, double *ret)
{
	unsigned fresh = MIN(n, CONNECTIONS), rounds = CONNECTIONS / fresh;
	uint64_t up = 0, down = 0;

	for (unsigned i = 0; i < n; i++)
		crowd_join(i);
	ret[1] = crowd_exchange(n, &near_end, &far_end);
	ret[2] = crowd_exchange(n, &far_end, &near_end);
	ret[3] = crowd_groups(n, &near_end, &far_end);
	ret[4] = crowd_groups(n, &far_end, &near_end);
	for (unsigned k = 0; k < rounds; k++) {
		spent_ns = 0;
		for (unsigned i = 0; i < fresh; i++)
			crowd_part((unsigned)(i * 7919ull % n));
		down += spent_ns;
		spent_ns = 0;
		for (unsigned i = 0; i < fresh; i++)
			crowd_join((unsigned)(i * 7919ull % n));
		up += spent_ns;
	}
	ret[0] = (double)up / (rounds * fresh);
	ret[5] = (double)down / (rounds * fresh);
	for (unsigned i = 0; i < n; i++)
		crowd_part(i);
	crowd_wait();
}

#define FIGURES 6

struct figure {
	const char *name, *unit;
};
static const struct figure rate[FIGURES] = {{"all", "ns/KiB"}};
static const struct figure rate_lossy[FIGURES] = {{"one lost of", "ns/KiB"}};
static const struct figure memory[FIGURES] = {{"idle", "bytes"}, {"left", "bytes"}};
static const struct figure crowd[FIGURES] = {{"set-up", "ns"},	     {"ask", "ns"},
					     {"answer", "ns"},	     {"ask of 32", "ns"},
					     {"answer of 32", "ns"}, {"close", "ns"}};

static const struct work {
	const char *name;
	void (*run)(unsigned n, double *ret);
	unsigned n;
	const struct figure *figure;
} works[] = {
	{"send", work_send, 1, rate},	     {"send", work_send_lossy, 10000, rate_lossy},
	{"receive", work_receive, 1, rate},  {"memory", work_memory, CROWD, memory},
	{"crowd", work_crowd, 1, crowd},     {"crowd", work_crowd, 1000, crowd},
	{"crowd", work_crowd, 10000, crowd}, {"crowd", work_crowd, CROWD, crowd},
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure(const char *engine, const struct work *w, unsigned rounds)
{
	static double got[FIGURES][ROUNDS_MAX];
	double ret[FIGURES] = {0};

	for (unsigned r = 0; r < rounds; r++) {
		w->run(w->n, ret);
		for (unsigned f = 0; f < FIGURES; f++)
			got[f][r] = ret[f];
	}
	for (unsigned f = 0; f < FIGURES && w->figure[f].name; f++) {
		qsort(got[f], rounds, sizeof(got[f][0]), compare);
		printf("%-8s %-8s %-12s %6u %-8s %10.0f %10.0f %10.0f\n", engine, w->name,
		       w->figure[f].name, w->n, w->figure[f].unit, got[f][0], got[f][rounds / 2],
		       got[f][rounds - 1]);
	}
	fflush(stdout);
}

int main(int argc, char **argv)
{
	const struct engine_ops *engines[] = {&engine_lwip, &engine_native};
	unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 5;

	rounds = MIN(MAX(rounds, 1u), ROUNDS_MAX);
	printf("%-8s %-8s %-12s %6s %-8s %10s %10s %10s\n", "engine", "work", "", "n", "unit",
	       "min", "median", "max");
	for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
		if (argc > 1 && (i || engine_find(argv[1], &engines[i]) < 0))
			break;
		start(&near_end, engines[i], &far_end, "10.0.0.1");
		start(&far_end, &engine_native, &near_end, "10.0.0.2");
		for (unsigned k = 0; k < ARRAY_SIZE(works); k++)
			if (argc <= 3 || !strcmp(argv[3], works[k].name))
				measure(engines[i]->name, &works[k], rounds);
		if (near_end.drops + far_end.drops)
			printf("%llu packets did not fit\n",
			       (unsigned long long)(near_end.drops + far_end.drops));
	}
	return 0;
}
