// SPDX-License-Identifier: Apache-2.0
#include <CUnit/CUnit.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "tests/conform/peer.h"
#include "userstack/net/frame.h"

struct peer peer;
bool peer_v6;
const struct engine_options peer_options = {.tos = PEER_TOS};

/* Of a packet that holds s. What is reset may be of no connection. */
static void check_tos(const uint8_t *pkt, const struct segment *s)
{
	peer.last_tos = frame_tos(pkt) & (uint8_t)~IP_CE;
	CU_ASSERT(peer.last_tos == peer.tos || (!peer.last_tos && s->flags & TCP_RST));
}

static void host_output(void *ctx, const struct iovec *iov, unsigned n)
{
	struct segment *s = &peer.sent[peer.head % ARRAY_SIZE(peer.sent)];
	uint8_t pkt[2000];
	struct frame f;
	size_t len = 0;

	(void)ctx;
	for (unsigned i = 0; i < n; len += iov[i++].iov_len)
		memcpy(pkt + len, iov[i].iov_base, iov[i].iov_len);
	CU_ASSERT_EQUAL_FATAL(frame_parse_ip(pkt, len, &f), FRAME_TCP);
	CU_ASSERT(frame_summed(pkt, &f));
	CU_ASSERT_FATAL(peer.head - peer.tail < ARRAY_SIZE(peer.sent));
	CU_ASSERT_FATAL(segment_parse(pkt + f.l4_off, f.l4_len, s));
	s->ecn = frame_tos(pkt) & IP_CE;
	check_tos(pkt, s);
	peer.label = f.v6 ? be32(pkt) & 0xfffff : 0;
	CU_ASSERT_EQUAL(f.v6, peer_v6);
	if ((s->flags & TCP_SYN) && !(s->flags & TCP_RST))
		peer.iss = s->seq;
	s->seq -= peer.iss;
	s->ack -= peer.isn;
	for (unsigned i = 0; i < s->sacks; i++) {
		s->sack[i].from -= peer.isn;
		s->sack[i].to -= peer.isn;
	}
	peer.head += !peer.deaf;
}

static void host_event(void *ctx, void *user, unsigned events, int error)
{
	(void)ctx;
	(void)user;
	peer.connected |= !!(events & ENGINE_CONNECTED);
	peer.eof |= !!(events & ENGINE_EOF);
	peer.alive += !!(events & ENGINE_ALIVE);
	if (events & ENGINE_FAILED) {
		peer.failed = true;
		peer.error = error;
	}
}

static void *host_accepted(void *ctx, void *user, struct engine_conn *c,
			   const struct dmm_addr *remote, const struct dmm_addr *local)
{
	struct engine_options options = {.congestion = peer.congestion, .tos = PEER_TOS | IP_CE};

	(void)ctx;
	(void)user;
	(void)remote;
	(void)local;
	if (peer.congestion)
		CU_ASSERT_EQUAL(engine_native.set_options(c, &options), 0);
	peer.conn = c;
	peer.accepted++;
	return &peer;
}

static void host_released(void *ctx, void *user)
{
	(void)ctx;
	(void)user;
	peer.released++;
}

static struct dmm_addr peer_address(void)
{
	struct dmm_addr a = {.port = peer.port};

	addr_parse_ip(peer_v6 ? "fd00::9" : "10.0.0.9", a.ip);
	a.ip[15] += peer.remote;
	return a;
}

static struct dmm_addr our_address(void)
{
	struct dmm_addr a = {.port = 80};

	addr_parse_ip(peer_v6 ? "fd00::2" : "10.0.0.2", a.ip);
	return a;
}

static int over_v4(void)
{
	peer_v6 = false;
	return 0;
}

static int over_v6(void)
{
	peer_v6 = true;
	return 0;
}

int peer_run(const char *name, CU_TestInfo *tests)
{
	char names[2][80];
	CU_SuiteInfo suites[] = {
		{.pName = names[0], .pTests = tests, .pInitFunc = over_v4},
		{.pName = names[1], .pTests = tests, .pInitFunc = over_v6},
		CU_SUITE_INFO_NULL,
	};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		snprintf(names[i], sizeof(names[i]), "%s over IPv%u", name, i ? 6 : 4);
	return unit_run_suites(suites);
}

uint32_t peer_mtu(uint32_t mss)
{
	return mss + (peer_v6 ? 60 : 40);
}

static void host_dropped(void *ctx, enum engine_drop why)
{
	(void)ctx;
	peer.dropped[why]++;
}

void peer_start(void)
{
	struct engine_config c = {.mtu = peer_mtu(MSS), .secret = "0123456789abcde"};
	struct dmm_addr a = our_address();

	memset(&peer, 0, sizeof(peer));
	peer.now = peer.next = 1000 * SECOND;
	peer.isn = PEER_ISN;
	peer.port = 5000;
	peer.window = 60000;
	peer.tos = PEER_TOS;
	peer.host = (struct engine_host){
		.output = host_output,
		.event = host_event,
		.accepted = host_accepted,
		.released = host_released,
		.dropped = host_dropped,
	};
	c.host = &peer.host;
	c.now = peer.now;
	CU_ASSERT_EQUAL_FATAL(engine_native.start(&peer.e, &c), 0);
	peer.e->tune.pacing = false; /* or every time would depend on it */
	CU_ASSERT_EQUAL_FATAL(engine_native.addr_add(peer.e, a.ip), 0);
	CU_ASSERT_EQUAL_FATAL(
		engine_native.listen(peer.e, &a, PEER_TOS | IP_CE, &peer, &peer.listener), 0);
}

void peer_stop(void)
{
	engine_native.unlisten(peer.listener);
	engine_native.stop(peer.e);
}

static size_t put_options(uint8_t *p, const struct given *g)
{
	size_t n = 0;

	if (g->mss) {
		put32(p, 0x02040000u | g->mss);
		n += 4;
	}
	if (g->sack_ok) {
		put32(p + n, 0x01010402);
		n += 4;
	}
	if (g->ts) {
		put32(p + n, 0x0101080a);
		put32(p + n + 4, g->tsval);
		put32(p + n + 8, g->tsecr);
		n += 12;
	}
	if (g->scale) {
		put32(p + n, 0x01030300u | (uint32_t)g->scale);
		n += 4;
	}
	if (g->sacks) {
		put32(p + n, 0x01010500u | (2 + 8 * g->sacks));
		n += 4;
		for (unsigned i = 0; i < g->sacks; i++, n += 8) {
			put32(p + n, g->sack[i][0] + peer.iss);
			put32(p + n + 4, g->sack[i][1] + peer.iss);
		}
	}
	return n;
}

/* The header of len bytes; whoever gives packets to an engine has looked at its checksum. */
static void put_ip(uint8_t *p, uint8_t ecn, size_t len)
{
	struct dmm_addr src = peer_address(), dst = our_address();

	if (peer_v6) {
		put32(p, 6u << 28 | (uint32_t)ecn << 20);
		put32(p + 4, (uint32_t)len << 16 | IPPROTO_TCP << 8 | 64);
		memcpy(p + 8, src.ip, 16);
		memcpy(p + 24, dst.ip, 16);
		return;
	}
	put32(p, 0x45000000u | (uint32_t)ecn << 16 | (uint32_t)(20 + len));
	put32(p + 4, 0);
	put32(p + 8, 64u << 24 | IPPROTO_TCP << 16);
	memcpy(p + 12, src.ip + 12, 4);
	memcpy(p + 16, dst.ip + 12, 4);
}

void peer_give(const struct given *g)
{
	uint8_t pkt[40 + 60 + 65536], *tcp = pkt + (peer_v6 ? 40 : 20);
	uint32_t window = g->window ? g->window : g->no_window ? 0 : peer.window;
	size_t options = put_options(tcp + 20, g), len = 20 + options + g->len;

	put_ip(pkt, g->ce ? IP_CE : 0, len);
	put32(tcp, (uint32_t)peer.port << 16 | 80);
	put32(tcp + 4, g->seq + peer.isn);
	put32(tcp + 8, g->flags & TCP_ACK ? g->ack + peer.iss : 0);
	put32(tcp + 12, (uint32_t)((20 + options) / 4) << 28 | (uint32_t)g->flags << 16 | window);
	put32(tcp + 16, g->urgent);
	for (uint32_t i = 0; i < g->len; i++)
		tcp[20 + options + i] = (uint8_t)(g->seq + i);
	engine_native.input(peer.e, pkt, (size_t)(tcp - pkt) + len, peer.now);
	if (!g->batch)
		engine_native.poll(peer.e, peer.now, &peer.next);
}

void peer_pass(uint64_t ns)
{
	uint64_t until = peer.now + ns;

	while (peer.now < until) {
		engine_native.poll(peer.e, peer.now, &peer.next);
		peer.now = MIN(MAX(peer.next, peer.now + 1), until);
		engine_native.poll(peer.e, peer.now, &peer.next);
	}
}

const struct segment *peer_take(void)
{
	if (peer.head == peer.tail)
		return NULL;
	return &peer.sent[peer.tail++ % ARRAY_SIZE(peer.sent)];
}

void peer_quiet(void)
{
	CU_ASSERT_EQUAL(peer.head - peer.tail, 0);
	peer_forget();
}

void peer_forget(void)
{
	peer.tail = peer.head;
}

int peer_dial(const char *congestion)
{
	struct dmm_addr remote = peer_address(), local = our_address();
	struct engine_options options = {.congestion = congestion, .tos = PEER_TOS | IP_CE};

	return engine_native.connect(peer.e, &remote, &local, &options, &peer, peer.now,
				     &peer.conn);
}

void peer_join(const struct given *syn)
{
	struct given g = *syn;
	unsigned accepted = peer.accepted;
	const struct segment *s;

	g.flags |= TCP_SYN;
	peer_give(&g);
	s = peer_take();
	CU_ASSERT_FATAL(s && s->flags & TCP_SYN && s->flags & TCP_ACK && s->ack == 1);
	peer_pass(10 * MS); /* the round trip */
	g = (struct given){.flags = TCP_ACK, .seq = 1, .ack = 1, .ts = syn->ts};
	g.tsval = syn->tsval + 10;
	g.tsecr = s->ts;
	peer_give(&g);
	CU_ASSERT_EQUAL_FATAL(peer.accepted, accepted + 1);
	peer_forget();
}

void peer_send(size_t len)
{
	static const uint8_t data[65536];

	CU_ASSERT_EQUAL(engine_native.send(peer.conn, data, len), (ssize_t)len);
}

void peer_expect(uint32_t seq, uint32_t len)
{
	const struct segment *s = peer_take();

	CU_ASSERT_PTR_NOT_NULL(s);
	if (!s)
		return;
	CU_ASSERT_EQUAL(s->seq, seq);
	CU_ASSERT_EQUAL(s->len, len);
}

const struct segment *peer_expect_ack(uint32_t ack)
{
	static const struct segment none;
	const struct segment *s = peer_take();

	CU_ASSERT_PTR_NOT_NULL(s);
	if (!s)
		return &none;
	CU_ASSERT_EQUAL(s->flags & (TCP_ACK | TCP_SYN | TCP_FIN | TCP_RST), TCP_ACK);
	CU_ASSERT_EQUAL(s->len, 0);
	CU_ASSERT_EQUAL(s->ack, ack);
	return s;
}

void peer_ack(uint32_t ack)
{
	GIVE(.flags = TCP_ACK, .seq = 1, .ack = ack);
}

const struct given peer_usual = {.mss = MSS, .sack_ok = true, .scale = 7};
const struct given peer_with_ts = {
	.mss = MSS, .sack_ok = true, .scale = 7, .ts = true, .tsval = 1000};

void peer_meet(const struct given *syn)
{
	peer_start();
	peer_join(syn);
}

uint32_t peer_unread(void)
{
	return conn_unread(peer.conn);
}

void peer_data(uint32_t seq, uint32_t len)
{
	GIVE(.flags = TCP_ACK, .seq = seq, .ack = 1, .len = len);
}

void peer_check_stream(void)
{
	struct iovec v[32];
	unsigned n = engine_native.peek(peer.conn, v, 32);
	uint32_t at = 1;

	for (unsigned i = 0; i < n; i++)
		for (size_t j = 0; j < v[i].iov_len; j++, at++)
			if (((uint8_t *)v[i].iov_base)[j] != (uint8_t)at)
				CU_FAIL_FATAL("another byte than was sent");
	CU_ASSERT_EQUAL(at, 1 + peer_unread());
}
