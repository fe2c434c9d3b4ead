// SPDX-License-Identifier: Apache-2.0
/*
 * The native engine and a peer whose every segment is made of the input: near the numbers of a
 * connection or anywhere, with any options. Between them the host does what a host may do, and time
 * passes. So connections are reached in all of their states.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define INVARIANT(what) ((what) ? (void)0 : abort())
#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "tests/fuzz/address.h"
#include "tests/conform/invariant.h"
#include "userstack/net/frame.h"
#include "userstack/engines.h"

#define USERS 64
#define MTU 1500u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct user {
	struct engine_conn *conn;
	bool closed, released;
};

static struct {
	const uint8_t *at, *end;
	struct engine *e;
	struct engine_listener *listener;
	struct user user[USERS];
	unsigned users;
	uint64_t now, next;
} f;

static uint8_t take8(void)
{
	return f.at < f.end ? *f.at++ : 0;
}

static uint16_t take16(void)
{
	uint16_t hi = take8();

	return (uint16_t)(hi << 8 | take8());
}

/* ---- the host ---- */

static void host_output(void *ctx, const struct iovec *iov, unsigned n)
{
	static uint8_t pkt[65536];
	struct frame fr;
	size_t len = 0;

	(void)ctx;
	for (unsigned i = 0; i < n; len += iov[i++].iov_len) {
		INVARIANT(len + iov[i].iov_len <= MTU);
		memcpy(pkt + len, iov[i].iov_base, iov[i].iov_len);
	}
	INVARIANT(frame_parse_ip(pkt, len, &fr) == FRAME_TCP);
	INVARIANT(frame_summed(pkt, &fr));
}

static void host_event(void *ctx, void *user, unsigned events, int error)
{
	struct user *u = user;

	(void)ctx;
	INVARIANT(!u->closed && !u->released);
	INVARIANT(!!(events & ENGINE_FAILED) <= !!error);
}

/* What rules may ask for, and nothing. */
static struct engine_options options_of(unsigned how)
{
	static const char *const congestion[] = {NULL, "cubic", "newreno", "dctcp", "bbr"};

	return (struct engine_options){.congestion = congestion[how % ARRAY_SIZE(congestion)],
				       .tos = (uint8_t)how};
}

static void *host_accepted(void *ctx, void *listener_user, struct engine_conn *c,
			   const struct dmm_addr *remote, const struct dmm_addr *local)
{
	struct engine_options options = options_of(remote->port);
	struct user *u = &f.user[f.users];

	(void)ctx;
	(void)listener_user;
	(void)local;
	if (f.users == USERS)
		return NULL;
	INVARIANT(!engine_native.set_options(c, &options));
	*u = (struct user){.conn = c};
	f.users++;
	return u;
}

/* Every other user takes bytes where they lie, of some segments only a part. They are their
 * numbers.
 */
static size_t host_received(void *ctx, void *user, const void *data, size_t len)
{
	struct user *u = user;
	size_t n = (u - f.user) % 2 ? len >> len % 3 : 0;

	(void)ctx;
	INVARIANT(!u->closed && !u->released && u->conn->rcv_read == u->conn->rcv_nxt);
	for (size_t i = 0; i < n; i++)
		INVARIANT(((const uint8_t *)data)[i] == (uint8_t)(u->conn->rcv_nxt + i));
	return n;
}

static void host_released(void *ctx, void *user)
{
	struct user *u = user;

	(void)ctx;
	INVARIANT(!u->released);
	u->released = true;
}

static const struct engine_host host = {
	.output = host_output,
	.event = host_event,
	.accepted = host_accepted,
	.received = host_received,
	.released = host_released,
};

static void start(uint8_t how)
{
	struct engine_config c = {.mtu = MTU, .host = &host};
	struct dmm_addr any = {0}, own;

	f.users = 0;
	f.now = f.next = c.now = 1000 * SECOND;
	memcpy(c.secret, "0123456789abcdef", 16);
	INVARIANT(!engine_native.start(&f.e, &c));
	for (unsigned v6 = 0; v6 < 2; v6++) {
		own = address(v6, 2, 0);
		INVARIANT(!engine_native.addr_add(f.e, own.ip));
	}
	any = address(how & 1, 2, 80);
	INVARIANT(!engine_native.listen(f.e, &any, (uint8_t)how, NULL, &f.listener));
	f.e->tune.ecn = how & 2;
	f.e->tune.nagle = how & 4;
	f.e->tune.pacing = how & 8;
	f.e->tune.keepalive = how & 16 ? 30 * SECOND : 0;
	f.e->tune.half_open_max = how & 32 ? 2 : 100;
	f.e->tune.time_wait_max = how & 64 ? 2 : 100;
	if (how & 128)
		f.e->tune.cc = &cc_dctcp;
}

static void check_user(struct user *u)
{
	if (u->released)
		return;
	invariant_conn(u->conn);
}

/* Bytes are their numbers. */
static void read_some(struct engine_conn *c, uint16_t most)
{
	struct iovec v[8];
	unsigned n = engine_native.peek(c, v, 8);
	uint32_t at = c->rcv_read;
	size_t len = 0;

	for (unsigned i = 0; i < n; i++)
		for (size_t j = 0; j < v[i].iov_len; j++, len++)
			INVARIANT(((uint8_t *)v[i].iov_base)[j] == (uint8_t)(at + len));
	engine_native.consume(c, MIN(len, most));
}

/* With or without a copy. */
static void send_some(struct engine_conn *c, size_t len, bool reserve)
{
	static const uint8_t bytes[20000];
	struct iovec v[4];
	size_t room = 0;
	unsigned n;

	len %= sizeof(bytes);
	if (!reserve) {
		engine_native.send(c, bytes, len);
		return;
	}
	n = engine_native.reserve(c, len, v, ARRAY_SIZE(v));
	for (unsigned i = 0; i < n; room += v[i++].iov_len)
		memset(v[i].iov_base, 0, v[i].iov_len);
	INVARIANT(room <= len);
	if (n)
		engine_native.commit(c, len % 2 ? room : room / 3);
}

static void host_does(struct user *u, uint8_t what)
{
	static const uint8_t byte;
	size_t len;

	if (u->closed)
		return;
	switch (what % 9) {
	case 0:
		engine_native.set_tos(u->conn, what);
		if (what & 64)
			engine_native.ask(u->conn);
		send_some(u->conn, take16(), what & 128);
		break;
	case 1:
		read_some(u->conn, take16());
		break;
	case 2:
		engine_native.shutdown(u->conn);
		break;
	case 3:
		u->closed = true;
		engine_native.close(u->conn);
		break;
	case 4:
		u->closed = true;
		engine_native.abort(u->conn);
		break;
	case 5:
		engine_native.send_urgent(u->conn, &byte);
		break;
	case 6:
		engine_native.too_big(u->conn, u->conn->snd_una + take16(), take16());
		break;
	case 7:
		engine_native.unreachable(u->conn, u->conn->snd_una - (take8() & 1), EHOSTUNREACH);
		break;
	case 8:
		(void)engine_native.urgent(u->conn, &len);
		(void)engine_native.room(u->conn);
		break;
	}
}

static void call(uint8_t how)
{
	struct dmm_addr remote = address(how & 1, 9, 80), local;
	struct engine_options options = options_of(how / 2);
	struct user *u = &f.user[f.users];

	if (f.users == USERS)
		return;
	local = address(how & 1, 2, (uint16_t)(1000 + f.users++)); /* a pair not in use */
	*u = (struct user){0};
	INVARIANT(!engine_native.connect(f.e, &remote, &local, &options, u, f.now, &u->conn));
}

static void pass(uint8_t how)
{
	static const uint64_t step[] = {MS,	    11 * MS,	 250 * MS,
					2 * SECOND, 70 * SECOND, 999 * SECOND};
	uint64_t until = f.now + step[how % ARRAY_SIZE(step)] * (1 + how / 32);

	for (unsigned i = 0; i < 200 && f.next < until; i++) {
		f.now = MAX(f.now, f.next);
		engine_native.poll(f.e, f.now, &f.next);
		INVARIANT(f.next > f.now);
	}
	f.now = MAX(f.now, MIN(until, f.next));
}

/* ---- the peer ---- */

/* The connection that the next segment is about. NULL: there is none. */
static struct engine_conn *target(uint8_t which)
{
	struct user *u;

	if (which % 4 == 1)
		return TAILQ_FIRST(&f.e->half_open);
	if (which % 4 == 2)
		return TAILQ_FIRST(&f.e->time_wait);
	if (!f.users)
		return NULL;
	u = &f.user[which % 4 ? which / 4 % f.users : f.users - 1];
	return u->released || u->conn->state == TCP_CLOSED ? NULL : u->conn;
}

static uint32_t near(uint32_t a, uint32_t b, uint32_t c)
{
	uint8_t how = take8();
	uint32_t base = how % 4 == 0 ? a : how % 4 == 1 ? b : how % 4 == 2 ? c : 0x7fffffff + a;

	switch (how / 4 % 4) {
	case 0:
		return base;
	case 1:
		return base + take8() - 128;
	case 2:
		return base + take16() - 32768;
	default:
		return base + (how >> 4) * 1460;
	}
}

static size_t options(uint8_t *p, const struct engine_conn *c, bool syn)
{
	uint8_t what = take8();
	size_t n = 0;

	if (what & 1 && syn) {
		put32(p, 2u << 24 | 4u << 16 | (what & 128 ? 1460u : take16()));
		put32(p + 4, 0x03030000u | (what & 128 ? 7 : take8()) << 8);
		put32(p + 8, 0x04020101u);
		n = 12;
	}
	if (what & 2) {
		put32(p + n, 0x0101080a);
		put32(p + n + 4, c ? near(c->ts_recent, c->ts_recent + 1, 0) : take16());
		put32(p + n + 8, c ? conn_ts(c) - take8() : 0);
		n += 12;
	}
	if (what & 4 && !syn) {
		unsigned blocks = 1 + what / 8 % 3;

		blocks = n ? MIN(blocks, 3u) : blocks;
		put32(p + n, 0x01010500u | (2 + 8 * blocks));
		n += 4;
		for (; blocks; blocks--, n += 8) {
			put32(p + n, c ? near(c->snd_una, c->snd_nxt, c->snd_una) : take16());
			put32(p + n + 4, c ? near(c->snd_nxt, c->snd_nxt, c->snd_una) : take16());
		}
	}
	for (; what & 64 && n < 40 && take8() % 8; n += 4)
		put32(p + n, (uint32_t)take16() << 16 | take16());
	return n;
}

static size_t headers(uint8_t *pkt, const struct conn_key *k, size_t l4_len, uint8_t ecn)
{
	memset(pkt, 0, 40);
	if (addr_is_v4(k->remote.ip)) {
		pkt[0] = 0x45;
		pkt[1] = ecn;
		put16(pkt + 2, (uint32_t)(20 + l4_len));
		pkt[9] = IPPROTO_TCP;
		memcpy(pkt + 12, k->remote.ip + 12, 4);
		memcpy(pkt + 16, k->local.ip + 12, 4);
		return 20;
	}
	put32(pkt, 6u << 28 | (uint32_t)ecn << 20);
	put16(pkt + 4, (uint32_t)l4_len);
	pkt[6] = IPPROTO_TCP;
	memcpy(pkt + 8, k->remote.ip, 16);
	memcpy(pkt + 24, k->local.ip, 16);
	return 40;
}

static void give(uint8_t which)
{
	static uint8_t pkt[40 + 60 + 65536];
	struct engine_conn *c = target(which);
	uint8_t flags = take8(), *tcp, how = take8();
	uint32_t seq, ack, len;
	struct conn_key k = {0};
	size_t opt, ip;

	k.remote = address(which & 64, 9, (uint16_t)(5000 + how % 4));
	k.local = address(which & 64, 2, 80);
	if (c)
		k = c->key;
	seq = c ? near(c->rcv_nxt, c->rcv_adv, c->rcv_nxt - 1) : (uint32_t)take16() << 16;
	ack = c ? near(c->snd_nxt, c->snd_una, c->snd_una + 1) : take16();
	len = how & 16 ? 1460 : how & 32 ? take16() : 0;
	ip = addr_is_v4(k.remote.ip) ? 20 : 40;
	tcp = pkt + ip;
	opt = options(tcp + 20, c, flags & TCP_SYN);
	headers(pkt, &k, 20 + opt + len, how & 64 ? IP_CE : 0);
	put16(tcp, k.remote.port);
	put16(tcp + 2, k.local.port);
	put32(tcp + 4, seq);
	put32(tcp + 8, ack);
	tcp[12] = (uint8_t)((20 + opt) / 4 << 4);
	tcp[13] = flags;
	put16(tcp + 14, how & 128 ? take16() : 60000);
	put32(tcp + 16, flags & TCP_URG ? take16() : 0);
	for (uint32_t i = 0; i < len; i++) /* a SYN has the first number */
		tcp[20 + opt + i] = (uint8_t)(seq + !!(flags & TCP_SYN) + i);
	engine_native.input(f.e, pkt, ip + 20 + opt + len, f.now);
	f.next = f.now;
}

static void finish(void)
{
	if (f.listener)
		engine_native.unlisten(f.listener);
	engine_native.stop(f.e);
	for (unsigned i = 0; i < f.users; i++)
		INVARIANT(f.user[i].released);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	f.at = data;
	f.end = data + size;
	start(take8());
	while (f.at < f.end) {
		uint8_t what = take8();

		if (what < 128)
			give(what);
		else if (what < 192 && f.users)
			host_does(&f.user[what / 9 % f.users], what);
		else if (what < 200)
			call(what);
		else if (what < 220)
			pass(take8());
		else if (what == 255 && f.listener) {
			engine_native.unlisten(f.listener);
			f.listener = NULL;
		} else {
			engine_native.poll(f.e, f.now, &f.next);
		}
		for (unsigned i = 0; i < f.users; i++)
			check_user(&f.user[i]);
	}
	finish();
	return 0;
}
