// SPDX-License-Identifier: Apache-2.0
/*
 * The engine contract, over a fake port and a made-up clock: one engine with two addresses talks to
 * itself. Every engine has to pass this.
 */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "tests/unit/engine_ends.h"
#include "tests/unit/unit.h"
#include "tests/unit/unit_engine.h"
#include "userstack/port/port.h"

#define STEP_NS 1000000ULL
#define PEERS 512
#define ASKS_ECN 0xc0 /* the flags ECE and CWR */

const struct engine_ops *ops;
static struct engine *engine;
static struct port *wire_in, *wire_out;
static uint64_t now = 1000000000ULL;
static struct end end[PEERS];
static unsigned ends;
static bool refuse, hole; /* accept nobody; the wire swallows everything */
static bool partial;	  /* engine_config.partial */
static bool direct;	  /* take what comes where it lies */
static struct engine_listener *listener[4];
static unsigned listeners, packets;
struct frame last_syn;
static struct engine_options options; /* of what is dialled, and accepted */
static uint8_t listen_tos;	      /* of the next listener */
static unsigned other_tos;	      /* packets that had another than they should */
uint32_t far_place;

/* As Linux does: while an urgent byte is further away than the pointer can say, each segment says
 * 0xffff. */
static void say_far(uint8_t *tcp, const struct frame *f)
{
	uint16_t word, now_word, pointer = 0xffff, sum;

	if (!far_place || f->l4_len <= 20 || (int32_t)(far_place - f->seq) <= 0xffff)
		return;
	memcpy(&word, tcp + 12, 2);
	tcp[13] |= 0x20;
	memcpy(&now_word, tcp + 12, 2);
	memcpy(&sum, tcp + 16, 2);
	sum = frame_sum_update(sum, word, now_word);
	sum = frame_sum_update(sum, 0, pointer);
	memcpy(tcp + 16, &sum, 2);
	memcpy(tcp + 18, &pointer, 2);
}

/* lwIP gives a connection its type of service behind the answer to the SYN. */
static uint8_t wanted_tos(const struct frame *f)
{
	if (f->remote.port != 80)
		return options.tos & 0xfc;
	return (f->flags & FRAME_SYN) && !strcmp(ops->name, "lwip") ? 0 : listen_tos & 0xfc;
}

static void wire_send(const struct iovec *iov, unsigned n, bool unsummed)
{
	uint8_t *p = port_fake.tx_reserve(wire_out, 65600);
	size_t off = FRAME_ETH_LEN;
	struct frame f;

	memset(p, 0, FRAME_ETH_LEN);
	for (unsigned i = 0; i < n; off += iov[i++].iov_len)
		memcpy(p + off, iov[i].iov_base, iov[i].iov_len);
	frame_eth(p, p, p, p[FRAME_ETH_LEN] >> 4 == 6);
	packets++;
	CU_ASSERT_EQUAL(frame_parse(p, off, &f), FRAME_TCP);
	other_tos += frame_tos(p + FRAME_ETH_LEN) != wanted_tos(&f);
	say_far(p + f.l4_off, &f);
	CU_ASSERT(unsummed ? frame_unsummed(p, &f) : frame_summed(p, &f));
	if ((f.flags & (FRAME_SYN | FRAME_ACK)) == FRAME_SYN)
		last_syn = f;
	if (!hole)
		port_fake.tx_commit(wire_out, off, NULL);
}

static void host_output(void *ctx, const struct iovec *iov, unsigned n)
{
	(void)ctx;
	wire_send(iov, n, false);
}

static void host_output_partial(void *ctx, const struct iovec *iov, unsigned n, uint32_t mss)
{
	(void)ctx;
	CU_ASSERT(partial && !mss);
	wire_send(iov, n, true);
}

static void host_event(void *ctx, void *user, unsigned events, int error)
{
	struct end *e = user;

	(void)ctx;
	CU_ASSERT_FALSE(e->failed);
	if (events & ENGINE_CONNECTED)
		e->connected = true;
	if (events & ENGINE_EOF)
		e->eof = true;
	if (events & ENGINE_WRITABLE)
		e->writable++;
	if (events & ENGINE_FAILED) {
		e->failed = true;
		e->error = error;
	}
}

static void *host_accepted(void *ctx, void *user, struct engine_conn *c,
			   const struct dmm_addr *remote, const struct dmm_addr *local)
{
	struct end *e = &end[ends];

	(void)ctx;
	(void)remote;
	(void)local;
	CU_ASSERT_PTR_EQUAL(user, &engine);
	if (refuse)
		return NULL;
	if (options.congestion)
		CU_ASSERT_EQUAL(ops->set_options(c, &options), 0);
	ends++;
	*e = (struct end){.conn = c, .accepted = true, .connected = true};
	return e;
}

uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 31 + (at >> 8) + (at >> 16));
}

/* All, a part, or none of it. */
static size_t host_received(void *ctx, void *user, const void *data, size_t len)
{
	static unsigned turn;
	struct end *e = user;
	size_t n = direct ? len * (turn++ % 3) / 2 : 0;

	(void)ctx;
	for (size_t i = 0; i < n; i++)
		e->bad |= ((const uint8_t *)data)[i] != pattern(e->received + i);
	e->received += n;
	return n;
}

static void host_released(void *ctx, void *user)
{
	struct end *e = user;

	(void)ctx;
	CU_ASSERT_FALSE(e->released);
	e->released = true;
}

static const struct engine_host host = {
	.output = host_output,
	.output_partial = host_output_partial,
	.event = host_event,
	.accepted = host_accepted,
	.received = host_received,
	.released = host_released,
};

static void take(void *ctx, const uint8_t *data, size_t len)
{
	struct frame f;

	(void)ctx;
	if (frame_parse(data, len, &f) == FRAME_TCP)
		ops->input(engine, data + f.ip_off, f.ip_len, now);
}

static const struct port_sink taker = {.frame = take};

void step(void)
{
	uint64_t next;
	unsigned drops = 0;

	now += STEP_NS;
	port_fake.rx(wire_in, 64, &taker, &drops);
	ops->poll(engine, now, &next);
	CU_ASSERT(next > now || next == UINT64_MAX);
}

struct end *end_at(unsigned i)
{
	return &end[i];
}

static struct dmm_addr addr(const char *ip, uint16_t port)
{
	struct dmm_addr a = {.port = port};

	addr_parse_ip(ip, a.ip);
	return a;
}

void start(unsigned loss_permille)
{
	static const char *const own[] = {"10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"};
	struct engine_config c = {
		.mtu = 1500, .secret = "0123456789abcde", .host = &host, .partial = partial};
	dmm_u8 ip[16];

	c.now = now;
	ends = 0;
	refuse = hole = false;
	memset(end, 0, sizeof(end));
	CU_ASSERT_EQUAL_FATAL(fake_pair(&wire_out, &wire_in, loss_permille, 42), 0);
	CU_ASSERT_EQUAL_FATAL(ops->start(&engine, &c), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(own); i++) {
		addr_parse_ip(own[i], ip);
		CU_ASSERT_EQUAL(ops->addr_add(engine, ip), 0);
	}
	CU_ASSERT_EQUAL(ops->addr_add(engine, ip), -EEXIST);
}

void stop(void)
{
	while (listeners)
		ops->unlisten(listener[--listeners]);
	ops->stop(engine);
	port_fake.close(wire_in);
	port_fake.close(wire_out);
	for (unsigned i = 0; i < ends; i++)
		CU_ASSERT(end[i].released);
}

void listen_on(const char *ip)
{
	struct dmm_addr a = addr(ip, 80);

	CU_ASSERT_EQUAL_FATAL(ops->listen(engine, &a, listen_tos, &engine, &listener[listeners++]),
			      0);
}

static struct end *dial(const char *from, const char *to, uint16_t port)
{
	struct dmm_addr local = addr(from, port), remote = addr(to, 80);
	struct end *e = &end[ends++];

	*e = (struct end){0};
	CU_ASSERT_EQUAL_FATAL(ops->connect(engine, &remote, &local, &options, e, now, &e->conn), 0);
	return e;
}

void join(const char *from, const char *to)
{
	struct end *e = dial(from, to, 61000);

	for (unsigned i = 0; i < 60000 && (!e->connected || ends < 2); i++)
		step();
	CU_ASSERT_FATAL(e->connected && ends == 2);
}

/* Into the engine's own memory: half of what it points at, or none. Returns how much. */
static size_t push_reserved(struct end *e, size_t n)
{
	struct iovec iov[3];
	unsigned k = ops->reserve ? ops->reserve(e->conn, n, iov, ARRAY_SIZE(iov)) : 0;
	size_t len = 0, half = e->pushes++ % 2;

	for (unsigned i = 0; i < k; i++)
		for (size_t j = 0; j < iov[i].iov_len; j++)
			((uint8_t *)iov[i].iov_base)[j] = pattern(e->sent + len++);
	CU_ASSERT(k <= ARRAY_SIZE(iov) && len <= n);
	len = len / 2 * half;
	if (k)
		ops->commit(e->conn, len);
	e->sent += len;
	return len;
}

void push(struct end *e, uint64_t total)
{
	uint8_t buf[16384];
	size_t n = MIN(MIN(ops->room(e->conn), sizeof(buf)), total - e->sent);
	ssize_t r;

	if (!n)
		return;
	n -= push_reserved(e, n);
	for (size_t i = 0; i < n; i++)
		buf[i] = pattern(e->sent + i);
	r = ops->send(e->conn, buf, n);
	CU_ASSERT(r >= 0 && (size_t)r <= n);
	e->sent += (size_t)r;
}

void pull(struct end *e, size_t max)
{
	struct iovec iov[8];
	size_t n = 0;
	unsigned k = ops->peek(e->conn, iov, 8);

	for (unsigned i = 0; i < k && n < max; i++)
		for (size_t j = 0; j < iov[i].iov_len && n < max; j++, n++)
			e->bad |= ((uint8_t *)iov[i].iov_base)[j] != pattern(e->received + n);
	ops->consume(e->conn, n);
	e->received += n;
}

/* What it does not know is 0. The wire takes no time, the engine's clock has its steps. */
static void check_info(const struct end *e, unsigned loss)
{
	struct engine_info i = {~0u, ~0u, ~0u, "?"};

	ops->info(e->conn, &i);
	CU_ASSERT(i.srtt_us <= 1000000);
	CU_ASSERT(i.resent <= i.segments);
	CU_ASSERT(!i.congestion || strcmp(i.congestion, "?"));
	if (strcmp(ops->name, "native"))
		return;
	CU_ASSERT(i.srtt_us > 0);
	CU_ASSERT(i.segments > e->sent / 1500);
	CU_ASSERT(loss ? i.resent > 0 : i.resent == 0);
}

static void bulk(const char *from, const char *to, unsigned loss)
{
	const uint64_t total = 3000000;
	unsigned i;

	start(loss);
	listen_on(to);
	join(from, to);
	for (i = 0; i < 3000000 && (end[0].received < total || end[1].received < total); i++) {
		for (unsigned k = 0; k < 2; k++) {
			push(&end[k], total);
			pull(&end[k], 1000 + i % 30000);
		}
		step();
	}
	CU_ASSERT_EQUAL(end[0].received, total);
	CU_ASSERT_EQUAL(end[1].received, total);
	CU_ASSERT_FALSE(end[0].bad || end[1].bad || end[0].failed || end[1].failed);
	check_info(&end[0], loss);
	check_info(&end[1], loss);
	ops->close(end[0].conn);
	ops->close(end[1].conn);
	for (i = 0; i < 200000 && !(end[0].released && end[1].released); i++)
		step();
	CU_ASSERT(end[0].released && end[1].released);
	stop();
}

static void test_bulk4(void)
{
	bulk("10.0.0.1", "10.0.0.2", 0);
}

static void test_bulk6(void)
{
	bulk("fd00::1", "fd00::2", 0);
}

static void test_bulk_loss(void)
{
	bulk("10.0.0.1", "10.0.0.2", 20);
}

static void test_bulk_direct(void)
{
	direct = true;
	bulk("10.0.0.1", "10.0.0.2", 0);
	bulk("10.0.0.1", "10.0.0.2", 20);
	direct = false;
}

/* An engine need not, but of what it leaves only the sum may be missing. */
static void test_bulk_partial(void)
{
	partial = true;
	bulk("10.0.0.1", "10.0.0.2", 20);
	bulk("fd00::1", "fd00::2", 0);
	partial = false;
}

static void check_congestion(const struct end *e, const char *name)
{
	struct engine_info i;

	ops->info(e->conn, &i);
	CU_ASSERT_FATAL(i.congestion != NULL);
	CU_ASSERT_STRING_EQUAL(i.congestion, name);
}

/* Connections of one engine have what each was to have; what an engine has not, it refuses. */
static void test_options(void)
{
	static const char *const name[] = {"cubic", "newreno", "dctcp", "bbr"};
	struct dmm_addr local = addr("10.0.0.1", 61000), remote = addr("10.0.0.2", 80);
	const struct engine_options none = {.congestion = "none"};
	struct engine_conn *c;

	start(0);
	listen_on("10.0.0.2");
	CU_ASSERT_EQUAL(ops->connect(engine, &remote, &local, &none, NULL, now, &c), -EOPNOTSUPP);
	for (unsigned i = 0; ops->set_options && i < ARRAY_SIZE(name); i++) {
		options.congestion = name[i];
		dial("10.0.0.1", "10.0.0.2", (uint16_t)(61000 + i));
		CU_ASSERT_EQUAL(last_syn.flags & ASKS_ECN, i == 2 ? ASKS_ECN : 0);
		for (unsigned k = 0; k < 60000 && ends < 2 * (i + 1); k++)
			step();
		CU_ASSERT_EQUAL_FATAL(ends, 2 * (i + 1));
	}
	options.congestion = NULL;
	for (unsigned i = 0; i < ends; i++) {
		check_congestion(&end[i], name[i / 2]);
		ops->abort(end[i].conn);
	}
	stop();
}

/* Some bytes each way, and what acknowledges them. */
static void exchange(void)
{
	for (unsigned i = 0; i < 2; i++)
		push(&end[i], end[i].sent + 5000);
	for (unsigned i = 0; i < 100; i++) {
		step();
		pull(&end[0], 10000);
		pull(&end[1], 10000);
	}
	CU_ASSERT(end[0].received == end[1].sent && end[1].received == end[0].sent);
}

/* Each end has its own, in all that it sends; the bits of ECN are not the application's. */
static void test_tos(const char *from, const char *to)
{
	start(0);
	other_tos = 0;
	options.tos = 0xb8 | 1;
	listen_tos = 0x48 | 2;
	listen_on(to);
	join(from, to);
	exchange();
	options.tos = 0x20 | 3;
	ops->set_tos(end[0].conn, options.tos);
	exchange();
	listen_tos = 0;
	ops->set_tos(end[1].conn, 0);
	exchange();
	ops->shutdown(end[0].conn);
	for (unsigned i = 0; i < 100; i++)
		step();
	ops->abort(end[1].conn);
	ops->abort(end[0].conn);
	CU_ASSERT_EQUAL(other_tos, 0);
	options.tos = 0;
	stop();
}

static void test_tos4(void)
{
	test_tos("10.0.0.1", "10.0.0.2");
}

static void test_tos6(void)
{
	test_tos("fd00::1", "fd00::2");
}

/* Half-close: FIN from one end, data goes on the other way, in both orders. */
static void half_close(unsigned first)
{
	struct end *a = &end[first], *b = &end[!first];

	start(0);
	listen_on("10.0.0.2");
	join("10.0.0.1", "10.0.0.2");
	push(a, 5000);
	CU_ASSERT_EQUAL(ops->shutdown(a->conn), 0);
	CU_ASSERT_EQUAL(ops->send(a->conn, "x", 1), -EPIPE);
	CU_ASSERT_EQUAL(ops->room(a->conn), 0);
	for (unsigned i = 0; i < 1000; i++)
		step();
	CU_ASSERT(b->eof);
	pull(b, 100000);
	CU_ASSERT_EQUAL(b->received, 5000);
	for (unsigned i = 0; i < 30000 && a->received < 500000; i++) {
		push(b, 500000);
		step();
		pull(a, 100000);
	}
	CU_ASSERT_EQUAL(a->received, 500000);
	CU_ASSERT_FALSE(a->eof || a->bad || b->bad);
	push(b, 500000 + 777);
	ops->shutdown(b->conn);
	/* It is not read for longer than TIME-WAIT lasts: nothing may be lost. */
	for (unsigned i = 0; i < 200000; i++)
		step();
	CU_ASSERT(a->eof);
	CU_ASSERT_FALSE(a->failed || b->failed);
	pull(a, 100000);
	CU_ASSERT_EQUAL(a->received, 500000 + 777);
	ops->close(a->conn);
	ops->close(b->conn);
	for (unsigned i = 0; i < 70000; i++)
		step();
	CU_ASSERT(a->released && b->released);
	stop();
}

static void test_half_close_client(void)
{
	half_close(0);
}

static void test_half_close_server(void)
{
	half_close(1);
}

static void test_refused(void)
{
	struct end *e;

	start(0);
	e = dial("10.0.0.1", "10.0.0.2", 61000);
	for (unsigned i = 0; i < 10; i++)
		step();
	CU_ASSERT(e->failed && e->error == ECONNREFUSED);
	ops->abort(e->conn);
	CU_ASSERT(e->released);
	stop();
}

/* A packet as long as fragments can make one, which no buffer of ours would hold. */
static void test_longest(void)
{
	struct dmm_addr from = addr("fd00::9", 61000), to = addr("fd00::1", 80);

	start(0);
	listen_on("fd00::1");
	listen_on("fd00::2");
	for (size_t l4 = 65533; l4 <= 65535; l4++) {
		uint8_t *p = calloc(1, 40 + l4), *tcp = p + 40;
		uint16_t sum;

		p[0] = 0x60;
		put16(p + 4, (uint32_t)l4);
		p[6] = IPPROTO_TCP;
		memcpy(p + 8, from.ip, 16);
		memcpy(p + 24, to.ip, 16);
		put16(tcp, (uint32_t)(from.port + l4));
		put16(tcp + 2, to.port);
		tcp[12] = 5 << 4;
		tcp[13] = FRAME_SYN;
		sum = (uint16_t)~frame_fold(
			frame_sum(tcp, l4, frame_pseudo(from.ip, to.ip, IPPROTO_TCP, l4)));
		memcpy(tcp + 16, &sum, 2);
		ops->input(engine, p, 40 + l4, now);
		free(p);
		step();
	}
	join("fd00::1", "fd00::2");
	ops->abort(end[0].conn);
	step();
	ops->abort(end[1].conn);
	stop();
}

static void test_timeout(void)
{
	unsigned ms = 0;
	struct end *e;

	start(0);
	hole = true;
	packets = 0;
	e = dial("10.0.0.1", "10.0.0.2", 61000);
	for (; ms < 300000 && !e->failed; ms++)
		step();
	CU_ASSERT(e->failed && e->error == ETIMEDOUT);
	CU_ASSERT(ms > 3000 && packets >= 4);
	ops->abort(e->conn);
	stop();
}

static void test_unreachable(void)
{
	struct end *e;

	start(0);
	hole = true;
	e = dial("10.0.0.1", "10.0.0.2", 61000);
	step();
	ops->unreachable(e->conn, last_syn.seq + 1, EHOSTUNREACH);
	step();
	CU_ASSERT_FALSE(e->failed);
	ops->unreachable(e->conn, last_syn.seq, EHOSTUNREACH);
	step();
	CU_ASSERT(e->failed && e->error == EHOSTUNREACH);
	ops->abort(e->conn);
	CU_ASSERT(e->released);
	hole = false;
	listen_on("10.0.0.2");
	ends = 0;
	join("10.0.0.1", "10.0.0.2");
	ops->unreachable(end[0].conn, last_syn.seq, EHOSTUNREACH);
	step();
	CU_ASSERT_FALSE(end[0].failed);
	stop();
}

/* A reset from either end reaches the other; what came before can be read. */
static void reset(unsigned first)
{
	struct end *a = &end[first], *b = &end[!first];

	start(0);
	listen_on("fd00::2");
	join("fd00::1", "fd00::2");
	push(a, 3000);
	for (unsigned i = 0; i < 10; i++)
		step();
	ops->abort(a->conn);
	CU_ASSERT(a->released);
	for (unsigned i = 0; i < 10; i++)
		step();
	CU_ASSERT(b->failed && b->error == ECONNRESET);
	pull(b, 100000);
	CU_ASSERT(b->received == 3000 && !b->bad);
	ops->abort(b->conn);
	CU_ASSERT(b->released);
	stop();
}

static void test_reset_client(void)
{
	reset(0);
}

static void test_reset_server(void)
{
	reset(1);
}

static void test_not_accepted(void)
{
	struct end *e;

	start(0);
	listen_on("10.0.0.2");
	refuse = true;
	e = dial("10.0.0.1", "10.0.0.2", 61000);
	for (unsigned i = 0; i < 10; i++)
		step();
	CU_ASSERT(e->connected && e->failed && e->error == ECONNRESET);
	CU_ASSERT_EQUAL(ends, 1);
	ops->abort(e->conn);
	stop();
}

/* Nobody reads: the sender stops after what both windows hold, tiny segments included. */
static void test_backpressure(void)
{
	start(0);
	listen_on("10.0.0.2");
	join("10.0.0.1", "10.0.0.2");
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t byte = pattern(end[0].sent);

		if (i < 5000 && ops->room(end[0].conn))
			end[0].sent += ops->send(end[0].conn, &byte, 1) == 1;
		else
			push(&end[0], UINT64_MAX);
		step();
	}
	CU_ASSERT(end[0].sent > 65535 && end[0].sent < 200000);
	CU_ASSERT_EQUAL(ops->room(end[0].conn), 0);
	end[0].writable = 0;
	for (unsigned i = 0; i < 20000 && end[1].received < end[0].sent; i++) {
		pull(&end[1], 20000);
		step();
	}
	CU_ASSERT_EQUAL(end[1].received, end[0].sent);
	CU_ASSERT(end[0].writable > 0 && !end[1].bad);
	stop();
}

/* Many at once, from one port too; wildcard listeners of one family each. */
static void test_many(void)
{
	char ip[32];

	start(0);
	listen_on("0.0.0.0");
	listen_on("::");
	for (unsigned i = 0; i < PEERS / 2; i++) {
		snprintf(ip, sizeof(ip), i % 2 ? "10.0.0.%u" : "fd00::%u", i / 2 % 2 + 1);
		dial(i % 2 ? "10.0.0.1" : "fd00::1", ip, (uint16_t)(61000 + i));
	}
	for (unsigned i = 0; i < 3000; i++)
		step();
	CU_ASSERT_EQUAL(ends, PEERS);
	for (unsigned i = 0; i < ends; i++) {
		CU_ASSERT(end[i].connected);
		push(&end[i], 1000 + i);
	}
	for (unsigned i = 0; i < 3000; i++)
		step();
	for (unsigned i = 0; i < ends; i++) {
		pull(&end[i], 100000);
		CU_ASSERT(end[i].received >= 1000 && !end[i].bad);
		ops->close(end[i].conn);
	}
	for (unsigned i = 0; i < 70000; i++)
		step();
	for (unsigned i = 0; i < ends; i++)
		CU_ASSERT(end[i].released);
	stop();
}

/* Sequence numbers start elsewhere for every pair of addresses, and grow with time for one. */
static void test_isn(void)
{
	uint32_t first, second;
	struct end *e;

	start(0);
	hole = true;
	e = dial("10.0.0.1", "10.0.0.2", 61000);
	first = last_syn.seq;
	ops->abort(e->conn);
	now += 1000000000ULL;
	e = dial("10.0.0.1", "10.0.0.2", 61000);
	second = last_syn.seq;
	ops->abort(e->conn);
	CU_ASSERT_EQUAL(second - first, 250000);
	e = dial("10.0.0.1", "10.0.0.2", 61001);
	CU_ASSERT(last_syn.seq - second > 1000000);
	ops->abort(e->conn);
	stop();
}

int main(int argc, char **argv)
{
	CU_TestInfo tests[] = {
		{"bulk both ways, IPv4", test_bulk4},
		{"bulk both ways, IPv6", test_bulk6},
		{"bulk both ways with loss", test_bulk_loss},
		{"bulk both ways, taken where it lies", test_bulk_direct},
		{"bulk both ways, checksums left to the port", test_bulk_partial},
		{"half-close by the client", test_half_close_client},
		{"half-close by the server", test_half_close_server},
		{"refused", test_refused},
		{"the longest packet", test_longest},
		{"timed out", test_timeout},
		{"unreachable", test_unreachable},
		{"reset by the client", test_reset_client},
		{"reset by the server", test_reset_server},
		{"accepted, but refused by the host", test_not_accepted},
		{"backpressure", test_backpressure},
		{"many connections", test_many},
		{"initial sequence numbers", test_isn},
		{"options of connections", test_options},
		{"type of service, IPv4", test_tos4},
		{"type of service, IPv6", test_tos6},
		{"urgent bytes, IPv4", test_urgent4},
		{"urgent bytes, IPv6", test_urgent6},
		{"urgent bytes with loss", test_urgent_loss},
		{"an urgent byte far ahead", test_urgent_far},
		CU_TEST_INFO_NULL,
	};

	/* NAME --no-urgent: an engine to which an urgent byte is like any other */
	if (argc == 3 && !strcmp(argv[2], "--no-urgent")) {
		tests[ARRAY_SIZE(tests) - 5] = (CU_TestInfo)CU_TEST_INFO_NULL;
		argc = 2;
	}
	ops = unit_engine(argc, argv);
	return ops ? unit_run("engine", tests) : EXIT_FAILURE;
}
