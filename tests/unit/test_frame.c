// SPDX-License-Identifier: Apache-2.0
#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "tests/unit/unit.h"
#include "userstack/net/frame.h"

#define PAYLOAD 301

/* The headers of a packet with l4 bytes behind the one of IP, which are zero; returns their place.
 */
static uint8_t *make_ip(uint8_t *p, bool v6, uint8_t proto, size_t l4, dmm_u8 src[16],
			dmm_u8 dst[16])
{
	size_t ip = v6 ? 40 : 20;
	uint16_t sum, len;

	memset(p, 0, FRAME_ETH_LEN + ip + l4);
	frame_eth(p, p, p, v6);
	addr_parse_ip(v6 ? "2001:db8::1" : "192.0.2.1", src);
	addr_parse_ip(v6 ? "2001:db8::2" : "192.0.2.2", dst);
	p += FRAME_ETH_LEN;
	if (v6) {
		len = htons((uint16_t)l4);
		p[0] = 0x60;
		memcpy(p + 4, &len, 2);
		p[6] = proto;
		memcpy(p + 8, src, 16);
		memcpy(p + 24, dst, 16);
	} else {
		len = htons((uint16_t)(ip + l4));
		p[0] = 0x45;
		memcpy(p + 2, &len, 2);
		p[8] = 64;
		p[9] = proto;
		memcpy(p + 12, src + 12, 4);
		memcpy(p + 16, dst + 12, 4);
		sum = (uint16_t)~frame_fold(frame_sum(p, 20, 0));
		memcpy(p + 10, &sum, 2);
	}
	return p + ip;
}

/* A TCP segment with PAYLOAD bytes, complete; returns its length. */
static size_t make(uint8_t *p, bool v6, uint8_t flags)
{
	size_t l4 = 20 + PAYLOAD;
	dmm_u8 src[16], dst[16];
	uint8_t *tcp = make_ip(p, v6, IPPROTO_TCP, l4, src, dst);
	uint16_t sum;

	tcp[0] = 1;
	tcp[3] = 80;
	tcp[7] = 9;
	tcp[12] = 5 << 4;
	tcp[13] = flags;
	for (unsigned i = 0; i < PAYLOAD; i++)
		tcp[20 + i] = (uint8_t)(i * 7);
	sum = (uint16_t)~frame_fold(frame_sum(tcp, l4, frame_pseudo(src, dst, 6, l4)));
	memcpy(tcp + 16, &sum, 2);
	return FRAME_ETH_LEN + (v6 ? 40 : 20) + l4;
}

/* The same of UDP; behind the datagram are TAIL bytes that its header does not count. */
#define TAIL 5
static size_t make_udp(uint8_t *p, bool v6)
{
	size_t l4 = 8 + PAYLOAD;
	dmm_u8 src[16], dst[16];
	uint8_t *udp = make_ip(p, v6, IPPROTO_UDP, l4 + TAIL, src, dst);
	uint16_t sum;

	udp[0] = 1;
	udp[3] = 53;
	udp[4] = (uint8_t)(l4 >> 8);
	udp[5] = (uint8_t)l4;
	for (unsigned i = 0; i < PAYLOAD + TAIL; i++)
		udp[8 + i] = (uint8_t)(i * 7);
	sum = (uint16_t)~frame_fold(frame_sum(udp, l4, frame_pseudo(src, dst, IPPROTO_UDP, l4)));
	memcpy(udp + 6, &sum, 2);
	return FRAME_ETH_LEN + (v6 ? 40 : 20) + l4 + TAIL;
}

static void test_sum(void)
{
	/* RFC 1071's example, and every length and alignment against the plain definition. */
	static const uint8_t example[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
	uint8_t buf[600];
	struct rng r = {1};

	CU_ASSERT_EQUAL(ntohs(frame_fold(frame_sum(example, 8, 0))), 0xddf2);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)rng_below(&r, 256);
	for (unsigned off = 0; off < 8; off++)
		for (unsigned len = 0; len < 580; len++) {
			uint32_t plain = 0;

			for (unsigned i = 0; i < len; i++)
				plain += (uint32_t)buf[off + i] << (i % 2 ? 0 : 8);
			while (plain >> 16)
				plain = (plain & 0xffff) + (plain >> 16);
			if (ntohs(frame_fold(frame_sum(buf + off, len, 0))) != plain)
				CU_FAIL("sum differs");
		}
	memset(buf, 0xff, sizeof(buf));
	CU_ASSERT_EQUAL(frame_fold(frame_sum(buf, sizeof(buf), 0)), 0xffff);
}

static void parse(bool v6)
{
	uint8_t p[600];
	size_t len = make(p, v6, FRAME_SYN), ip = v6 ? 40 : 20;
	struct frame f;

	/* Link-layer padding is no part of the packet. */
	CU_ASSERT_EQUAL(frame_parse(p, len + 30, &f), FRAME_TCP);
	CU_ASSERT_EQUAL(f.ip_len, len - FRAME_ETH_LEN);
	CU_ASSERT_EQUAL(f.l4_off, FRAME_ETH_LEN + ip);
	CU_ASSERT_EQUAL(f.l4_len, 20 + PAYLOAD);
	CU_ASSERT_EQUAL(f.remote.port, 256);
	CU_ASSERT_EQUAL(f.local.port, 80);
	CU_ASSERT_EQUAL(f.seq, 9);
	CU_ASSERT_EQUAL(f.flags, FRAME_SYN);
	CU_ASSERT_EQUAL(addr_is_v4(f.remote.ip), !v6);
	CU_ASSERT_EQUAL(f.remote.ip[15], 1);
	CU_ASSERT_EQUAL(f.local.ip[15], 2);
	for (size_t cut = 0; cut < len; cut++)
		CU_ASSERT_EQUAL(frame_parse(p, cut, &f), FRAME_BAD);
}

static void test_parse(void)
{
	parse(false);
	parse(true);
}

static void test_malformed(void)
{
	static const uint8_t extension[] = {51, 135}; /* authentication, mobility */
	uint8_t p[600];
	struct frame f;
	size_t len = make(p, false, 0);
	static const struct {
		unsigned at;
		uint8_t value;
	} bad[] = {
		{12, 0x81},		    /* no IP */
		{FRAME_ETH_LEN, 0x44},	    /* a header shorter than the shortest */
		{FRAME_ETH_LEN, 0x55},	    /* version */
		{FRAME_ETH_LEN + 9, 132},   /* neither TCP nor UDP */
		{FRAME_ETH_LEN + 10, 0x13}, /* header checksum */
		{FRAME_ETH_LEN + 32, 0x40}, /* data offset too small */
		{FRAME_ETH_LEN + 2, 0xff},  /* longer than the frame */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		make(p, false, 0);
		p[bad[i].at] = bad[i].value;
		CU_ASSERT_EQUAL(frame_parse(p, len, &f), FRAME_BAD);
	}
	len = make(p, true, 0);
	p[12] = 0x08, p[13] = 0x00; /* IPv6 that says it is IPv4 */
	CU_ASSERT_EQUAL(frame_parse(p, len, &f), FRAME_BAD);
	for (unsigned i = 0; i < sizeof(extension); i++) {
		make(p, true, 0);
		p[FRAME_ETH_LEN + 6] = extension[i];
		CU_ASSERT_EQUAL(frame_parse(p, len, &f), FRAME_BAD);
	}
}

/* Addresses that nobody has, and IPv4 in the clothes of IPv6. */
static void test_from_nowhere(void)
{
	static const struct {
		const char *from, *to; /* NULL: any other */
		bool good;
	} rows[] = {
		{"192.0.2.77", NULL, true},
		{"255.255.255.254", NULL, true},
		{"0.0.0.0", NULL, false},
		{"0.1.2.3", NULL, false},
		{"127.0.0.1", NULL, false},
		{"224.0.0.1", NULL, false},
		{"239.255.255.255", NULL, false},
		{"255.255.255.255", NULL, false},
		{"2001:db8::7", NULL, true},
		{"fe80::1", NULL, true},
		{"::", NULL, false},
		{"::1", NULL, false},
		{"ff02::1", NULL, false},
		{"::ffff:192.0.2.1", NULL, false},
		{"2001:db8::7", "::ffff:192.0.2.2", false},
	};
	dmm_u8 src[16], dst[16];
	struct frame f;
	uint8_t p[600];

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		bool v6 = strchr(rows[i].from, ':');
		size_t len = make(p, v6, FRAME_SYN);
		uint16_t sum;

		addr_parse_ip(rows[i].from, src);
		addr_parse_ip(rows[i].to ? rows[i].to : "192.0.2.2", dst);
		memcpy(p + FRAME_ETH_LEN + (v6 ? 8 : 12), v6 ? src : src + 12, v6 ? 16 : 4);
		if (rows[i].to)
			memcpy(p + FRAME_ETH_LEN + 24, dst, 16);
		memset(p + FRAME_ETH_LEN + 10, 0, v6 ? 0 : 2);
		sum = (uint16_t)~frame_fold(frame_sum(p + FRAME_ETH_LEN, 20, 0));
		memcpy(p + FRAME_ETH_LEN + 10, &sum, v6 ? 0 : 2);
		CU_ASSERT_EQUAL(frame_parse(p, len, &f), rows[i].good ? FRAME_TCP : FRAME_BAD);
	}
}

/* What plain.h is for. */
static void test_odd(void)
{
	/* hop-by-hop, routing, fragment, destination */
	static const uint8_t extension[] = {0, 43, 44, 60};
	static const struct {
		unsigned at;
		uint8_t value;
	} odd[] = {{0, 0x46}, {6, 0x20}, {7, 0x10}}; /* options, a fragment, a later one */
	uint8_t p[600], *ip = p + FRAME_ETH_LEN;
	struct frame f;
	size_t len;
	uint16_t sum;

	for (unsigned i = 0; i < ARRAY_SIZE(odd); i++) {
		len = make(p, false, 0);
		ip[odd[i].at] = odd[i].value;
		CU_ASSERT_EQUAL(frame_parse(p, len, &f), FRAME_BAD); /* the header's checksum */
		memset(ip + 10, 0, 2);
		sum = (uint16_t)~frame_fold(frame_sum(ip, (size_t)(ip[0] & 15) * 4, 0));
		memcpy(ip + 10, &sum, 2);
		CU_ASSERT_EQUAL(frame_parse(p, len + 30, &f), FRAME_ODD);
		CU_ASSERT_EQUAL(f.ip_off, FRAME_ETH_LEN);
		CU_ASSERT_EQUAL(f.ip_len, len - FRAME_ETH_LEN);
		CU_ASSERT_EQUAL(frame_parse(p, len - 1, &f), FRAME_BAD);
	}
	for (unsigned i = 0; i < sizeof(extension); i++) {
		len = make(p, true, 0);
		ip[6] = extension[i];
		CU_ASSERT_EQUAL(frame_parse(p, len + 30, &f), FRAME_ODD);
		CU_ASSERT_EQUAL(f.ip_len, len - FRAME_ETH_LEN);
		CU_ASSERT_EQUAL(frame_parse(p, len - 1, &f), FRAME_BAD);
	}
}

static void csum(bool v6)
{
	uint8_t p[600], whole[600];
	size_t len = make(p, v6, FRAME_ACK);
	struct frame f;
	uint16_t sum;

	memcpy(whole, p, len);
	frame_parse(p, len, &f);
	CU_ASSERT(frame_summed(p, &f));
	CU_ASSERT_FALSE(frame_unsummed(p, &f));
	CU_ASSERT_EQUAL(memcmp(p, whole, len), 0);
	/* As a sender on this host leaves it: only the pseudo header. */
	sum = frame_fold(frame_pseudo(f.remote.ip, f.local.ip, 6, f.l4_len));
	memcpy(p + f.l4_off + 16, &sum, 2);
	CU_ASSERT(frame_unsummed(p, &f));
	CU_ASSERT_FALSE(frame_summed(p, &f));
	memcpy(p, whole, len);
	for (unsigned i = 0; i < f.l4_len; i++) {
		p[f.l4_off + i] ^= 0x10;
		CU_ASSERT_FALSE(frame_summed(p, &f) || frame_unsummed(p, &f));
		p[f.l4_off + i] ^= 0x10;
	}
}

static void test_csum(void)
{
	csum(false);
	csum(true);
}

static void udp(bool v6)
{
	uint8_t p[600], whole[600];
	size_t len = make_udp(p, v6);
	struct frame f;
	uint16_t sum;

	memcpy(whole, p, len);
	for (size_t cut = 0; cut < len; cut++)
		CU_ASSERT_EQUAL(frame_parse(p, cut, &f), FRAME_BAD);
	CU_ASSERT_EQUAL(frame_parse(p, len, &f), FRAME_UDP);
	CU_ASSERT_EQUAL(f.l4_len, 8 + PAYLOAD);
	CU_ASSERT(f.remote.port == 256 && f.local.port == 53);
	CU_ASSERT(frame_summed(p, &f) && !frame_unsummed(p, &f));
	p[len - 1] ^= 1; /* not the datagram's */
	CU_ASSERT(frame_summed(p, &f));
	for (unsigned i = 0; i < f.l4_len; i++) {
		p[f.l4_off + i] ^= 0x10;
		CU_ASSERT_FALSE(frame_summed(p, &f) || frame_unsummed(p, &f));
		p[f.l4_off + i] ^= 0x10;
	}
	sum = frame_fold(frame_pseudo(f.remote.ip, f.local.ip, IPPROTO_UDP, f.l4_len));
	memcpy(p + f.l4_off + 6, &sum, 2);
	CU_ASSERT(frame_unsummed(p, &f) && !frame_summed(p, &f));
	memset(p + f.l4_off + 6, 0, 2);
	CU_ASSERT_EQUAL(frame_summed(p, &f), !v6); /* it has none */
	CU_ASSERT_FALSE(frame_unsummed(p, &f));
	for (unsigned said = 0; said < 8; said++) {
		memcpy(p, whole, len);
		p[f.l4_off + 4] = 0;
		p[f.l4_off + 5] = (uint8_t)said;
		CU_ASSERT_EQUAL(frame_parse(p, len, &f), FRAME_BAD);
	}
}

static void test_udp(void)
{
	udp(false);
	udp(true);
}

/* An ICMP error of the given type and code about the packet that make() or make_udp() makes. */
static bool about_udp;
static unsigned says_mtu = 1280;
static int error_of(bool v6, uint8_t type, uint8_t code, struct frame *f)
{
	uint8_t quoted[600], p[700] = {0};
	size_t ip = v6 ? 40 : 20, q = ip + 8, l4 = 8 + q;
	uint8_t *icmp = p + FRAME_ETH_LEN + ip;
	dmm_u8 src[16], dst[16];
	uint16_t sum;

	if (about_udp)
		make_udp(quoted, v6);
	else
		make(quoted, v6, FRAME_SYN);
	make(p, v6, 0);
	addr_parse_ip(v6 ? "2001:db8::1" : "192.0.2.1", src);
	addr_parse_ip(v6 ? "2001:db8::2" : "192.0.2.2", dst);
	if (v6) {
		p[FRAME_ETH_LEN + 4] = 0;
		p[FRAME_ETH_LEN + 5] = (uint8_t)l4;
		p[FRAME_ETH_LEN + 6] = 58;
	} else {
		p[FRAME_ETH_LEN + 2] = 0;
		p[FRAME_ETH_LEN + 3] = (uint8_t)(ip + l4);
		p[FRAME_ETH_LEN + 9] = 1;
		memset(p + FRAME_ETH_LEN + 10, 0, 2);
		sum = (uint16_t)~frame_fold(frame_sum(p + FRAME_ETH_LEN, 20, 0));
		memcpy(p + FRAME_ETH_LEN + 10, &sum, 2);
	}
	memset(icmp, 0, l4);
	icmp[0] = type;
	icmp[1] = code;
	icmp[6] = (uint8_t)(says_mtu >> 8); /* of either kind */
	icmp[7] = (uint8_t)says_mtu;
	memcpy(icmp + 8, quoted + FRAME_ETH_LEN, q);
	sum = (uint16_t)~frame_fold(frame_sum(icmp, l4, v6 ? frame_pseudo(src, dst, 58, l4) : 0));
	memcpy(icmp + 2, &sum, 2);
	if (frame_parse(p, FRAME_ETH_LEN + ip + l4, f) != FRAME_ERROR)
		return -1;
	CU_ASSERT_EQUAL(f->local.ip[15], 1);
	CU_ASSERT_EQUAL(f->remote.ip[15], 2);
	CU_ASSERT_EQUAL(f->local.port, 256);
	CU_ASSERT_EQUAL(f->remote.port, about_udp ? 53 : 80);
	CU_ASSERT_EQUAL(f->seq, about_udp ? 0 : 9);
	CU_ASSERT_EQUAL(f->proto, about_udp ? IPPROTO_UDP : IPPROTO_TCP);
	CU_ASSERT(f->icmp_type == type && f->icmp_code == code);
	for (size_t cut = 0; cut < FRAME_ETH_LEN + ip + l4; cut++) {
		struct frame g;

		CU_ASSERT_EQUAL(frame_parse(p, cut, &g), FRAME_BAD);
	}
	return f->error;
}

static void test_errors(void)
{
	struct frame f;

	about_udp = true;
	CU_ASSERT_EQUAL(error_of(false, 3, 3, &f), ECONNREFUSED);
	CU_ASSERT_EQUAL(error_of(false, 3, 4, &f), 0);
	CU_ASSERT_EQUAL(error_of(true, 1, 4, &f), ECONNREFUSED);
	CU_ASSERT_EQUAL(error_of(true, 2, 0, &f), 0);
	CU_ASSERT_EQUAL(f.mtu, 1280);
	about_udp = false;
	CU_ASSERT_EQUAL(error_of(false, 3, 0, &f), ENETUNREACH);
	CU_ASSERT_EQUAL(error_of(false, 3, 1, &f), EHOSTUNREACH);
	CU_ASSERT_EQUAL(error_of(false, 3, 2, &f), ENOPROTOOPT);
	CU_ASSERT_EQUAL(error_of(false, 3, 3, &f), ECONNREFUSED);
	CU_ASSERT_EQUAL(error_of(false, 3, 13, &f), EHOSTUNREACH);
	CU_ASSERT_EQUAL(error_of(false, 11, 0, &f), EHOSTUNREACH);
	CU_ASSERT_EQUAL(error_of(false, 11, 1, &f), -1); /* of fragments */
	CU_ASSERT_EQUAL(error_of(false, 3, 4, &f), 0);
	CU_ASSERT_EQUAL(f.mtu, 1280);
	CU_ASSERT_EQUAL(error_of(false, 8, 0, &f), -1);
	CU_ASSERT_EQUAL(error_of(true, 1, 0, &f), ENETUNREACH);
	CU_ASSERT_EQUAL(error_of(true, 1, 1, &f), EACCES);
	CU_ASSERT_EQUAL(error_of(true, 1, 3, &f), EHOSTUNREACH);
	CU_ASSERT_EQUAL(error_of(true, 1, 4, &f), ECONNREFUSED);
	CU_ASSERT_EQUAL(error_of(true, 3, 0, &f), EHOSTUNREACH);
	CU_ASSERT_EQUAL(error_of(true, 2, 0, &f), 0);
	CU_ASSERT_EQUAL(f.mtu, 1280);
	CU_ASSERT_EQUAL(error_of(true, 128, 0, &f), -1);
}

/* What routers say that say no size, or one that cannot be. */
static void test_mtu(void)
{
	struct frame f;

	says_mtu = 0;
	CU_ASSERT_EQUAL(error_of(false, 3, 4, &f), 0);
	CU_ASSERT_EQUAL(f.mtu, 576); /* RFC 1191, section 5 */
	CU_ASSERT_EQUAL(error_of(true, 2, 0, &f), -1);
	says_mtu = 1279;
	CU_ASSERT_EQUAL(error_of(true, 2, 0, &f), -1); /* RFC 8201, section 4 */
	says_mtu = 1280;
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"checksum arithmetic", test_sum},
		{"TCP over IPv4 and IPv6, cut anywhere", test_parse},
		{"malformed", test_malformed},
		{"sources that cannot be", test_from_nowhere},
		{"what is not plain", test_odd},
		{"TCP checksum: right, partial, wrong", test_csum},
		{"UDP: lengths and checksums", test_udp},
		{"ICMP errors", test_errors},
		{"sizes that ICMP says", test_mtu},
		CU_TEST_INFO_NULL,
	};

	return unit_run("frame", tests);
}
