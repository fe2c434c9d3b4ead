// SPDX-License-Identifier: Apache-2.0
/*
 * An engine and a peer that is made of single packets: what a well-behaved one, as in
 * test_engine.c, never sends, or not at that moment.
 */
#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "tests/unit/unit.h"
#include "tests/unit/unit_engine.h"
#include "userstack/engine.h"
#include "userstack/net/frame.h"

#define STEP_NS 1000000ULL
#define PEER_PORT 5000
#define OUR_PORT 80
#define URG 0x20

static const struct engine_ops *ops; /* the engine under test: argument 1 */
static struct engine *engine;
static struct engine_listener *listener;
static uint64_t now = 1000000000ULL;
static uint16_t window = 30000; /* of the peer */

/* A connection that the engine accepted. */
struct end {
	struct engine_conn *conn;
	bool eof, failed, released;
};
static struct end end[8];
static unsigned ends;

/* The last segment that the engine sent, and how many since sent_clear(). */
struct segment {
	uint8_t flags;
	uint32_t seq, ack;
	uint16_t urgent;
	size_t len;
};
static struct segment sent[64];
static unsigned sents;

static uint32_t word(const uint8_t *at)
{
	uint32_t w;

	memcpy(&w, at, sizeof(w));
	return ntohl(w);
}

static void host_output(void *ctx, const struct iovec *iov, unsigned n)
{
	uint8_t pkt[2000];
	struct segment s;
	struct frame f;
	size_t len = 0;
	uint8_t *tcp;

	(void)ctx;
	for (unsigned i = 0; i < n; len += iov[i++].iov_len)
		memcpy(pkt + len, iov[i].iov_base, iov[i].iov_len);
	CU_ASSERT_EQUAL_FATAL(frame_parse_ip(pkt, len, &f), FRAME_TCP);
	CU_ASSERT(frame_summed(pkt, &f));
	tcp = pkt + f.l4_off;
	s = (struct segment){
		.flags = f.flags,
		.seq = f.seq,
		.ack = word(tcp + 8),
		.urgent = (uint16_t)(word(tcp + 16) & 0xffff),
		.len = f.l4_len - (tcp[12] >> 4) * 4u,
	};
	if (sents < ARRAY_SIZE(sent))
		sent[sents++] = s;
}

static void host_event(void *ctx, void *user, unsigned events, int error)
{
	struct end *e = user;

	(void)ctx;
	(void)error;
	CU_ASSERT_FALSE(e->released);
	if (events & ENGINE_EOF)
		e->eof = true;
	if (events & ENGINE_FAILED)
		e->failed = true;
}

static void *host_accepted(void *ctx, void *user, struct engine_conn *c,
			   const struct dmm_addr *remote, const struct dmm_addr *local)
{
	struct end *e = &end[ends++];

	(void)ctx;
	(void)user;
	(void)remote;
	(void)local;
	*e = (struct end){.conn = c};
	return e;
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
	.event = host_event,
	.accepted = host_accepted,
	.released = host_released,
};

static void run(unsigned ms)
{
	uint64_t next;

	for (; ms; ms--) {
		now += STEP_NS;
		ops->poll(engine, now, &next);
	}
}

static void start(void)
{
	struct engine_config c = {.mtu = 1500, .secret = "0123456789abcde", .host = &host};
	struct dmm_addr a = {.port = OUR_PORT};

	c.now = now;
	ends = sents = 0;
	CU_ASSERT_EQUAL_FATAL(ops->start(&engine, &c), 0);
	addr_parse_ip("10.0.0.2", a.ip);
	CU_ASSERT_EQUAL_FATAL(ops->addr_add(engine, a.ip), 0);
	CU_ASSERT_EQUAL_FATAL(ops->listen(engine, &a, 0, &engine, &listener), 0);
}

static void stop(void)
{
	ops->unlisten(listener);
	ops->stop(engine);
	for (unsigned i = 0; i < ends; i++)
		CU_ASSERT(end[i].released);
}

/* Give the engine a segment of the peer, with len bytes of data. urgent: the pointer, 0: none. */
static void segment(uint8_t flags, uint32_t seq, uint32_t ack, size_t len, uint16_t urgent)
{
	uint8_t pkt[40 + 1460] = {0x45, [8] = 64, [9] = 6}, *tcp = pkt + 20;
	uint16_t ports[2] = {htons(PEER_PORT), htons(OUR_PORT)}, w;
	uint32_t v;

	CU_ASSERT_FATAL(len <= 1460);
	w = htons((uint16_t)(40 + len));
	memcpy(pkt + 2, &w, 2);
	v = inet_addr("10.0.0.9");
	memcpy(pkt + 12, &v, 4);
	v = inet_addr("10.0.0.2");
	memcpy(pkt + 16, &v, 4);
	memcpy(tcp, ports, 4);
	v = htonl(seq);
	memcpy(tcp + 4, &v, 4);
	v = htonl(ack);
	memcpy(tcp + 8, &v, 4);
	tcp[12] = 0x50;
	tcp[13] = (uint8_t)(flags | (urgent ? URG : 0));
	w = htons(window);
	memcpy(tcp + 14, &w, 2);
	w = htons(urgent);
	memcpy(tcp + 18, &w, 2);
	for (size_t i = 0; i < len; i++)
		tcp[20 + i] = (uint8_t)(seq + i);
	ops->input(engine, pkt, 40 + len, now);
}

/* The engine sent one segment, this one. Forgets what was sent. */
static void expect(uint8_t flags, uint32_t seq, uint32_t ack)
{
	CU_ASSERT_EQUAL(sents, 1);
	CU_ASSERT_EQUAL(sent[0].flags, flags);
	CU_ASSERT_EQUAL(sent[0].seq, seq);
	CU_ASSERT_EQUAL(sent[0].ack, ack);
	sents = 0;
}

static void expect_nothing(void)
{
	CU_ASSERT_EQUAL(sents, 0);
	sents = 0;
}

/* A connection from the peer whose SYN has the number isn. Returns the engine's. */
static uint32_t join(uint32_t isn)
{
	unsigned before = ends;
	uint32_t iss;

	sents = 0;
	segment(FRAME_SYN, isn, 0, 0, 0);
	CU_ASSERT_EQUAL_FATAL(sents, 1);
	CU_ASSERT_EQUAL(sent[0].flags, FRAME_SYN | FRAME_ACK);
	CU_ASSERT_EQUAL(sent[0].ack, isn + 1);
	iss = sent[0].seq;
	segment(FRAME_ACK, isn + 1, iss + 1, 0, 0);
	run(1);
	CU_ASSERT_EQUAL_FATAL(ends, before + 1);
	sents = 0;
	return iss;
}

/* The engine's end closes first, after the peer's bytes came: it is in TIME-WAIT then. */
static uint32_t close_first(struct end *e, uint32_t isn, uint32_t iss, size_t bytes)
{
	ops->shutdown(e->conn);
	expect(FRAME_FIN | FRAME_ACK, iss + 1, isn + 1);
	segment(FRAME_ACK, isn + 1, iss + 2, bytes, 0);
	segment(FRAME_FIN | FRAME_ACK, isn + 1 + (uint32_t)bytes, iss + 2, 0, 0);
	run(1);
	CU_ASSERT(e->eof && !e->failed);
	sents = 0;
	return isn + 2 + (uint32_t)bytes;
}

static void read_all(struct end *e, size_t bytes)
{
	struct iovec iov[4];

	CU_ASSERT_EQUAL(ops->peek(e->conn, iov, 4), 1);
	CU_ASSERT_EQUAL(iov[0].iov_len, bytes);
	ops->consume(e->conn, bytes);
	sents = 0;
}

/* RFC 1122, 4.2.2.13. */
static void test_time_wait_later(void)
{
	uint32_t iss, next;

	start();
	iss = join(1000);
	next = close_first(&end[0], 1000, iss, 100);
	read_all(&end[0], 100);
	ops->close(end[0].conn);
	join(next);
	CU_ASSERT(end[0].released);
	ops->abort(end[1].conn);
	stop();
}

/*
 * A peer may use its port again with a sequence number that its last connection went beyond. It is
 * told so, and what it answers lets its next SYN in; nothing else does.
 */
static void test_time_wait_earlier(void)
{
	uint32_t iss, next;

	start();
	iss = join(1000);
	next = close_first(&end[0], 1000, iss, 1000);
	read_all(&end[0], 1000);
	ops->close(end[0].conn);
	segment(FRAME_RST, next, 0, 0, 0); /* of a duplicate's making: RFC 1337 */
	segment(FRAME_FIN | FRAME_ACK, next - 1, iss + 2, 0, 0);
	expect(FRAME_ACK, iss + 2, next);
	segment(FRAME_SYN, 1500, 0, 0, 0);
	expect(FRAME_ACK, iss + 2, next);
	segment(FRAME_RST, next - 1, 0, 0, 0);
	segment(FRAME_RST, next + 1, 0, 0, 0);
	segment(FRAME_FIN | FRAME_ACK, next - 1, iss + 2, 0, 0);
	expect(FRAME_ACK, iss + 2, next);
	CU_ASSERT_FALSE(end[0].released);
	segment(FRAME_RST, next, 0, 0, 0);
	expect_nothing();
	CU_ASSERT(end[0].released);
	join(1500);
	ops->abort(end[1].conn);
	stop();
}

/* The host has not read everything when the peer uses its port again: it still can. */
static void time_wait_unread(bool later)
{
	uint32_t iss, next, isn = 1500;

	start();
	iss = join(1000);
	next = close_first(&end[0], 1000, iss, 1000);
	if (later) {
		isn = next + 10000000;
	} else {
		segment(FRAME_SYN, isn, 0, 0, 0);
		segment(FRAME_RST, next, 0, 0, 0);
	}
	join(isn);
	CU_ASSERT_FALSE(end[0].released || end[0].failed);
	read_all(&end[0], 1000);
	ops->close(end[0].conn);
	run(2000);
	CU_ASSERT(end[0].released);
	CU_ASSERT_FALSE(end[1].released || end[1].failed);
	ops->abort(end[1].conn);
	stop();
}

static void test_time_wait_unread(void)
{
	time_wait_unread(true);
	time_wait_unread(false);
}

/* Acknowledge what comes until the FIN. Returns the segments with an urgent pointer; each is right.
 */
static unsigned take_urgent(uint32_t peer_next, uint32_t up)
{
	unsigned marked = 0;
	bool fin = false;

	for (unsigned ms = 0; ms < 10000 && !fin; ms++) {
		uint32_t acked = 0;

		for (unsigned i = 0; i < sents; i++) {
			struct segment *s = &sent[i];

			acked = s->seq + (uint32_t)s->len + (s->flags & FRAME_FIN);
			fin |= s->flags & FRAME_FIN;
			if ((int32_t)(up - s->seq) > 0 && s->len) {
				CU_ASSERT(s->flags & URG);
				CU_ASSERT_EQUAL(s->seq + s->urgent, up);
				marked++;
			} else {
				CU_ASSERT_FALSE(s->flags & URG);
			}
		}
		sents = 0;
		if (acked)
			segment(FRAME_ACK, peer_next, acked, 0, 0);
		run(1);
	}
	CU_ASSERT(fin);
	return marked;
}

/* Bytes wait for the peer's window, the last of them urgent, when this end is finished. */
static void urgent_last(bool peer_first, bool closed)
{
	static const uint8_t data[5000];
	uint32_t iss, acked, next = 1001;

	start();
	window = 1460;
	iss = join(1000);
	if (peer_first) {
		segment(FRAME_FIN | FRAME_ACK, next++, iss + 1, 0, 0);
		run(1);
	}
	sents = 0;
	CU_ASSERT_EQUAL(ops->send(end[0].conn, data, sizeof(data)), sizeof(data));
	CU_ASSERT_FATAL(sents > 0 && sents < 4); /* these could not know */
	acked = sent[sents - 1].seq + (uint32_t)sent[sents - 1].len;
	sents = 0;
	CU_ASSERT_EQUAL(ops->send_urgent(end[0].conn, data), 1);
	ops->shutdown(end[0].conn);
	if (closed)
		ops->close(end[0].conn);
	segment(FRAME_ACK, next, acked, 0, 0);
	CU_ASSERT(take_urgent(next, iss + 1 + sizeof(data) + 1) > 2);
	if (!closed)
		ops->abort(end[0].conn);
	window = 30000;
	stop();
}

static void test_urgent_last(void)
{
	urgent_last(false, false);
	urgent_last(false, true);
	urgent_last(true, false);
	urgent_last(true, true);
}

/* Send 100 bytes at a time, each acknowledged at once; none may carry a mark. Returns what follows
 * in the sequence. */
static uint32_t send_plain(struct end *e, uint32_t next, uint32_t peer_next, unsigned times)
{
	static const uint8_t data[100];

	for (; times; times--) {
		CU_ASSERT_EQUAL(ops->send(e->conn, data, sizeof(data)), sizeof(data));
		CU_ASSERT_EQUAL(sents, 1);
		CU_ASSERT_FALSE(sent[0].flags & URG);
		sents = 0;
		next += sizeof(data);
		segment(FRAME_ACK, peer_next, next, 0, 0);
	}
	return next;
}

/* The mark of a connection is not put on the next one of the same port. */
static void test_urgent_next(void)
{
	uint32_t next;

	start();
	next = send_plain(&end[0], join(1000) + 1, 1001, 300);
	CU_ASSERT_EQUAL(ops->send_urgent(end[0].conn, "x"), 1);
	segment(FRAME_FIN | FRAME_ACK, 1001, next, 0, 0);
	run(1);
	ops->shutdown(end[0].conn);
	ops->close(end[0].conn);
	segment(FRAME_ACK, 1002, next + 2, 0, 0);
	next = join(2000) + 1;
	send_plain(&end[1], next, 2001, 300);
	ops->abort(end[1].conn);
	stop();
}

/* An urgent pointer in a segment that is not acceptable is not told. */
static void test_urgent_outside(void)
{
	const uint32_t next = 1001 + 3000;
	uint32_t iss;
	size_t mark;

	start();
	iss = join(1000);
	for (unsigned i = 0; i < 3; i++)
		segment(FRAME_ACK, 1001 + i * 1000, iss + 1, 1000, 0);
	run(1);
	segment(FRAME_ACK, next + 70000, iss + 1, 10, 5); /* beyond the window */
	segment(FRAME_ACK, next - 1000, iss + 1, 0, 500); /* old, without a byte of news */
	segment(FRAME_ACK, 1001, iss + 1, 1000, 2500);
	segment(FRAME_ACK, next - 70000, iss + 1, 10, 0xffff);
	CU_ASSERT_FALSE(ops->urgent(end[0].conn, &mark));
	segment(FRAME_ACK, next, iss + 1, 0, 11); /* announced before it comes */
	CU_ASSERT(ops->urgent(end[0].conn, &mark));
	CU_ASSERT_EQUAL(mark, 3010);
	segment(FRAME_ACK, next - 500, iss + 1, 511, 511);
	CU_ASSERT(ops->urgent(end[0].conn, &mark));
	CU_ASSERT_EQUAL(mark, 3010);
	run(1);
	ops->abort(end[0].conn);
	stop();
}

int main(int argc, char **argv)
{
	CU_TestInfo tests[] = {
		{"a later SYN in TIME-WAIT", test_time_wait_later},
		{"an earlier SYN in TIME-WAIT", test_time_wait_earlier},
		{"a SYN in TIME-WAIT, not all is read", test_time_wait_unread},
		{"an urgent byte at the end", test_urgent_last},
		{"an urgent byte and the port's next connection", test_urgent_next},
		{"an urgent pointer outside the window", test_urgent_outside},
		CU_TEST_INFO_NULL,
	};

	ops = unit_engine(argc, argv);
	return ops ? unit_run("peer", tests) : EXIT_FAILURE;
}
