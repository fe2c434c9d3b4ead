// SPDX-License-Identifier: Apache-2.0
/*
 * UDP of the native engine: one engine with two addresses of each family, whose pairs send to each
 * other. The wire keeps what was sent, to be looked at, and delivers it; fragments are put together
 * as RFC 791 and RFC 8200 say.
 */
#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "tests/unit/unit.h"
#include "userstack/engine/native/native.h"
#include "userstack/engines.h"
#include "userstack/net/frame.h"

#define MTU 1500u
#define PACKETS 64
#define TOS 0xb9u /* of all that is sent, with its bits of ECN */

static struct engine *engine;
static const struct engine_udp_ops *udp;
static uint64_t now;

/* the wire */
static uint8_t packet[PACKETS][MTU];
static size_t packet_len[PACKETS];
static unsigned packets, partials; /* of these, without their checksum */
static bool partial;		   /* engine_config.partial */

/* what a pair got last */
static uint8_t got[65536];
static size_t got_len;
static unsigned got_n;
static const void *got_by;

static void host_output(void *ctx, const struct iovec *iov, unsigned n)
{
	size_t len = 0;

	(void)ctx;
	CU_ASSERT_FATAL(packets < PACKETS);
	for (unsigned i = 0; i < n; len += iov[i++].iov_len) {
		CU_ASSERT_FATAL(len + iov[i].iov_len <= MTU);
		memcpy(packet[packets] + len, iov[i].iov_base, iov[i].iov_len);
	}
	CU_ASSERT_EQUAL(frame_tos(packet[packets]), TOS);
	packet_len[packets++] = len;
}

static void host_output_partial(void *ctx, const struct iovec *iov, unsigned n, uint32_t mss)
{
	uint8_t *p = packet[packets];
	struct frame f;
	uint16_t sum;

	CU_ASSERT(partial && !mss);
	host_output(ctx, iov, n);
	CU_ASSERT_EQUAL(frame_parse_ip(p, packet_len[packets - 1], &f), FRAME_UDP);
	CU_ASSERT(frame_unsummed(p, &f));
	sum = (uint16_t)~frame_fold(frame_sum(p + f.l4_off, f.l4_len, 0));
	memcpy(p + f.l4_off + 6, &sum, 2);
	partials++;
}

static void host_datagram(void *ctx, void *user, const void *data, size_t len)
{
	(void)ctx;
	memcpy(got, data, len);
	got_len = len;
	got_n++;
	got_by = user;
}

static const struct engine_host host = {
	.output = host_output,
	.output_partial = host_output_partial,
	.datagram = host_datagram,
};

static struct dmm_addr address(bool v6, unsigned last, uint16_t port)
{
	struct dmm_addr a = {.port = port};
	char text[32];

	snprintf(text, sizeof(text), v6 ? "fd00::%u" : "10.0.0.%u", last);
	addr_parse_ip(text, a.ip);
	return a;
}

static struct engine_udp *pair_of(bool v6, unsigned local, unsigned remote, void *user)
{
	struct dmm_addr l = address(v6, local, (uint16_t)(1000 + local));
	struct dmm_addr r = address(v6, remote, (uint16_t)(1000 + remote));
	struct engine_udp *u;

	CU_ASSERT_EQUAL_FATAL(udp->open(engine, &r, &l, user, &u), 0);
	return u;
}

static struct engine_udp *a, *b;
static int user_a, user_b;

static void start(bool v6)
{
	struct engine_config c = {
		.mtu = MTU, .secret = "0123456789abcde", .host = &host, .partial = partial};

	now = c.now = 1000 * SECOND;
	packets = got_n = 0;
	CU_ASSERT_EQUAL_FATAL(engine_native.start(&engine, &c), 0);
	udp = engine_native.udp;
	a = pair_of(v6, 1, 2, &user_a);
	b = pair_of(v6, 2, 1, &user_b);
}

static void stop(void)
{
	udp->close(a);
	engine_native.stop(engine); /* b goes with it */
}

static void give(const uint8_t *pkt, size_t len)
{
	engine_native.input(engine, pkt, len, now);
}

static uint8_t *pattern(size_t len)
{
	static uint8_t data[65536];

	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 31 + (i >> 8) + len);
	return data;
}

/* One packet, that must not be fragmented, and the datagram as it was given. */
static void whole(bool v6, size_t len)
{
	const uint8_t *data = pattern(len);
	struct frame f;

	packets = partials = got_n = 0;
	CU_ASSERT_EQUAL(udp->send(a, data, len, TOS, now), 0);
	CU_ASSERT_EQUAL_FATAL(packets, 1);
	CU_ASSERT_EQUAL(partials, partial);
	CU_ASSERT_EQUAL(packet_len[0], (v6 ? 40u : 20u) + 8 + len);
	CU_ASSERT_EQUAL(frame_parse_ip(packet[0], packet_len[0], &f), FRAME_UDP);
	CU_ASSERT(frame_summed(packet[0], &f));
	CU_ASSERT_NOT_EQUAL(be16(packet[0] + f.l4_off + 6), 0);
	CU_ASSERT(v6 || packet[0][6] == 0x40);
	CU_ASSERT_EQUAL(f.remote.port, 1001);
	CU_ASSERT_EQUAL(f.local.port, 1002);
	give(packet[0], packet_len[0]);
	CU_ASSERT(got_n == 1 && got_by == &user_b);
	CU_ASSERT(got_len == len && !memcmp(got, data, len));
}

static void test_whole(void)
{
	for (unsigned i = 0; i < 4; i++) {
		bool v6 = i % 2;
		size_t most = MTU - (v6 ? 48 : 28);

		partial = i / 2;
		start(v6);
		for (size_t len = 0; len < 40; len++)
			whole(v6, len);
		for (size_t len = most - 9; len <= most; len++)
			whole(v6, len);
		stop();
	}
	partial = false;
}

/* A sum of zero is sent as its other form: zero would say that there is none. */
static void test_zero_sum(void)
{
	uint8_t data[2] = {0, 0};
	struct frame f;
	uint16_t sum;

	start(false);
	udp->send(a, data, 2, TOS, now);
	frame_parse_ip(packet[0], packet_len[0], &f);
	memcpy(&sum, packet[0] + f.l4_off + 6, 2); /* what it lacks to zero */
	packets = 0;
	udp->send(a, &sum, 2, TOS, now);
	CU_ASSERT_EQUAL(be16(packet[0] + f.l4_off + 6), 0xffff);
	CU_ASSERT(frame_summed(packet[0], &f));
	stop();
}

/* What the fragments say of themselves. */
struct fragment {
	size_t at, len, headers;
	bool more;
	uint32_t id;
	uint8_t proto;
};

static struct fragment fragment_of(const uint8_t *p, size_t len)
{
	struct fragment f = {0};
	uint32_t id;

	if (p[0] >> 4 == 6) {
		CU_ASSERT_EQUAL(p[6], IPPROTO_FRAGMENT);
		CU_ASSERT_EQUAL(be16(p + 4) + 40u, len);
		memcpy(&id, p + 44, 4);
		f = (struct fragment){.headers = 48, .proto = p[40], .id = ntohl(id)};
		f.at = be16(p + 42) & ~7u;
		f.more = p[43] & 1;
	} else {
		CU_ASSERT_EQUAL(be16(p + 2), len);
		CU_ASSERT_EQUAL(frame_fold(frame_sum(p, 20, 0)), 0xffff);
		CU_ASSERT_EQUAL(p[6] & 0xc0, 0);
		f = (struct fragment){.headers = 20, .proto = p[9], .id = be16(p + 4)};
		f.at = (be16(p + 6) & 0x1fff) * 8u;
		f.more = p[6] & 0x20;
	}
	f.len = len - f.headers;
	return f;
}

/* The datagram in fragments of at most mtu: returns the ID that they had. */
static uint32_t fragmented(bool v6, size_t len, uint32_t mtu)
{
	static uint8_t all[40 + 65536];
	size_t ip = v6 ? 40 : 20, end = 0;
	uint32_t id = 0;
	struct frame f;

	packets = partials = 0;
	CU_ASSERT_EQUAL(udp->send(a, pattern(len), len, TOS, now), 0);
	CU_ASSERT(packets > 1 && !partials);
	for (unsigned i = 0; i < packets; i++) {
		struct fragment g = fragment_of(packet[i], packet_len[i]);

		CU_ASSERT(packet_len[i] <= mtu);
		CU_ASSERT(g.more == (i + 1 < packets) && g.proto == IPPROTO_UDP && g.at == end);
		CU_ASSERT(!g.more || (g.len % 8 == 0 && packet_len[i] + 8 > mtu));
		CU_ASSERT(!i || g.id == id);
		id = g.id;
		memcpy(all + ip + end, packet[i] + g.headers, g.len);
		end += g.len;
	}
	CU_ASSERT_EQUAL_FATAL(end, 8 + len);
	f = (struct frame){.kind = FRAME_UDP, .v6 = v6, .proto = IPPROTO_UDP, .l4_off = ip};
	f.l4_len = end;
	f.remote = address(v6, 1, 1001);
	f.local = address(v6, 2, 1002);
	CU_ASSERT_EQUAL(be16(all + ip + 4), end);
	CU_ASSERT(frame_summed(all, &f));
	CU_ASSERT(!memcmp(all + ip + 8, pattern(len), len));
	return id;
}

static void test_fragments(void)
{
	for (unsigned i = 0; i < 4; i++) {
		bool v6 = i % 2;
		size_t most = v6 ? 65527 : 65507;
		uint32_t id;

		partial = i / 2;
		start(v6);
		id = fragmented(v6, MTU - (v6 ? 47 : 27), MTU);
		for (size_t len = 2900; len < 2980; len++)
			CU_ASSERT_EQUAL(fragmented(v6, len, MTU), ++id);
		fragmented(v6, most, MTU);
		packets = 0;
		CU_ASSERT_EQUAL(udp->send(a, pattern(most), most + 1, TOS, now), -EMSGSIZE);
		CU_ASSERT_EQUAL(packets, 0);
		stop();
	}
	partial = false;
}

#define HOSTS 40u

/* An ID to each host in turn. */
static void ids_of(struct engine_udp *to[HOSTS], uint32_t ret[HOSTS])
{
	for (unsigned i = 0; i < HOSTS; i++) {
		packets = 0;
		CU_ASSERT_EQUAL(udp->send(to[i], pattern(2000), 2000, TOS, now), 0);
		ret[i] = fragment_of(packet[0], packet_len[0]).id;
	}
}

/* RFC 7739: to one host they follow each other; they say nothing about those to the next. */
static void test_fragment_ids(void)
{
	struct engine_udp *to[HOSTS];
	uint32_t first[HOSTS], second[HOSTS], mask, step;
	unsigned near, next;

	for (unsigned v6 = 0; v6 < 2; v6++) {
		mask = v6 ? UINT32_MAX : UINT16_MAX;
		near = next = 0;
		start(v6);
		for (unsigned i = 0; i < HOSTS; i++)
			to[i] = pair_of(v6, 1, 10 + i, NULL);
		ids_of(to, first);
		ids_of(to, second);
		for (unsigned i = 0; i < HOSTS; i++) {
			step = (second[i] - first[i]) & mask;
			CU_ASSERT(step >= 1 && step < HOSTS);
			next += step == 1;
			near += i && ((first[i] - first[i - 1]) & mask) < HOSTS;
		}
		CU_ASSERT(next > HOSTS / 2); /* others share a counter */
		CU_ASSERT(near <= 1);
		stop();
	}
}

/* Engines with one secret, as the threads of an instance have, do not repeat each other's. */
static void test_fragment_engines(void)
{
	struct engine_udp *to[HOSTS], *too[HOSTS];
	uint32_t first[HOSTS], second[HOSTS];
	struct engine *other;

	for (unsigned v6 = 0; v6 < 2; v6++) {
		start(v6);
		other = engine;
		for (unsigned i = 0; i < HOSTS; i++)
			to[i] = pair_of(v6, 1, 10 + i, NULL);
		start(v6);
		for (unsigned i = 0; i < HOSTS; i++)
			too[i] = pair_of(v6, 1, 10 + i, NULL);
		ids_of(to, first);
		ids_of(too, second);
		for (unsigned i = 0; i < HOSTS; i++)
			CU_ASSERT_NOT_EQUAL(first[i], second[i]);
		stop();
		engine_native.stop(other);
	}
}

/* Told by ICMP, for ten minutes, if it can be true. */
static void test_too_big(void)
{
	for (unsigned v6 = 0; v6 < 2; v6++) {
		start(v6);
		udp->too_big(a, 1400, now); /* nothing was sent yet */
		whole(v6, 1452);
		udp->too_big(a, MTU, now);
		whole(v6, 1452);
		udp->too_big(a, 1400, now);
		whole(v6, 1352);
		fragmented(v6, 1452, 1400);
		now += 599 * SECOND;
		fragmented(v6, 1452, 1400);
		now += 2 * SECOND;
		whole(v6, 1452);
		udp->too_big(a, 68, now);
		fragmented(v6, 1452, v6 ? 1280 : 552);
		stop();
	}
	/* Of a path that takes less routers may cut, and each packet has an ID for that. */
	start(false);
	whole(false, 500);
	udp->too_big(a, 400, now);
	packets = 0;
	for (unsigned i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(udp->send(a, got, 500, TOS, now), 0);
		CU_ASSERT_EQUAL(be16(packet[i] + 6), 0);
		CU_ASSERT(!i || be16(packet[i] + 4) == (be16(packet[i - 1] + 4) + 1) % 65536);
	}
	now += 601 * SECOND;
	packets = 0;
	whole(false, 500);
	stop();
}

static void test_lengths(void)
{
	uint8_t p[100];
	size_t len;

	for (unsigned v6 = 0; v6 < 2; v6++) {
		uint8_t *said;

		start(v6);
		udp->send(a, "hello", 5, TOS, now);
		len = packet_len[0];
		memset(p, 'x', sizeof(p));
		memcpy(p, packet[0], len);
		said = p + (v6 ? 40 : 20) + 4;
		CU_ASSERT_EQUAL(be16(said), 13);
		give(p, len + 7); /* what is behind it is not the datagram's */
		CU_ASSERT(got_n == 1 && got_len == 5);
		for (unsigned n = 0; n < 20; n++) {
			got_n = 0;
			said[1] = (uint8_t)n;
			give(p, len);
			CU_ASSERT_EQUAL(got_n, n >= 8 && n <= 13);
		}
		got_n = 0;
		for (size_t cut = 0; cut < len; cut++) {
			said[1] = 13;
			give(p, cut);
			CU_ASSERT_EQUAL(got_n, 0);
		}
		stop();
	}
}

/* Only what comes from the pair's remote end is the pair's; and nothing is answered. */
static void test_strangers(void)
{
	uint8_t p[100];
	size_t len;

	start(false);
	udp->send(a, "hello", 5, TOS, now);
	len = packet_len[0];
	packets = 0;
	for (unsigned at = 12; at < 24; at++) { /* addresses and ports */
		memcpy(p, packet[0], len);
		p[at] ^= 1;
		give(p, len);
		CU_ASSERT_EQUAL(got_n, 0);
	}
	give(packet[0], len);
	CU_ASSERT_EQUAL(got_n, 1);
	udp->close(b);
	give(packet[0], len);
	CU_ASSERT_EQUAL(got_n, 1);
	CU_ASSERT_EQUAL(packets, 0);
	b = pair_of(false, 2, 1, &user_a); /* the same again, somebody else's */
	give(packet[0], len);
	CU_ASSERT(got_n == 2 && got_by == &user_a);
	stop();
}

/* Two of the same addresses: whoever came last gets what comes, both send. */
static void test_twins(void)
{
	struct engine_udp *twin;

	start(false);
	udp->send(a, "hello", 5, TOS, now);
	twin = pair_of(false, 2, 1, &user_a);
	give(packet[0], packet_len[0]);
	CU_ASSERT(got_n == 1 && got_by == &user_a);
	packets = 0;
	CU_ASSERT(!udp->send(b, "x", 1, TOS, now) && !udp->send(twin, "x", 1, TOS, now));
	CU_ASSERT(packets == 2 && !memcmp(packet[0], packet[1], packet_len[0]));
	packets = 0;
	udp->close(twin);
	udp->send(a, "hello", 5, TOS, now);
	give(packet[0], packet_len[0]);
	CU_ASSERT(got_n == 2 && got_by == &user_b);
	stop();
}

/* RFC 6437: of all that a pair sends, and not of what another one sends. */
static void test_flow_label(void)
{
	uint32_t label;

	start(true);
	CU_ASSERT_EQUAL(udp->send(a, got, 3000, TOS, now), 0);
	CU_ASSERT_EQUAL(udp->send(a, got, 100, TOS, now), 0);
	CU_ASSERT_EQUAL_FATAL(packets, 4);
	label = be32(packet[0]) & 0xfffff;
	CU_ASSERT_NOT_EQUAL(label, 0);
	for (unsigned i = 1; i < packets; i++)
		CU_ASSERT_EQUAL(be32(packet[i]) & 0xfffff, label);
	CU_ASSERT_EQUAL(udp->send(b, got, 100, TOS, now), 0);
	CU_ASSERT_NOT_EQUAL(be32(packet[4]) & 0xfffff, label);
	stop();
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"datagrams that fit, of all lengths", test_whole},
		{"a checksum of zero", test_zero_sum},
		{"longer ones go in fragments", test_fragments},
		{"the IDs of fragments", test_fragment_ids},
		{"the IDs of fragments of two engines", test_fragment_engines},
		{"packet too big", test_too_big},
		{"lengths that lie", test_lengths},
		{"the flow label", test_flow_label},
		{"datagrams of other pairs", test_strangers},
		{"two pairs of the same addresses", test_twins},
		CU_TEST_INFO_NULL,
	};

	return unit_run("udp", tests);
}
