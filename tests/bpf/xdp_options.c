// SPDX-License-Identifier: Apache-2.0
/* What lies between the header of IP and that of TCP or UDP, or is not there: options, extension
 * headers, fragments. */
#include <CUnit/CUnit.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "tests/bpf/xdp.h"

/* A segment, owned or not, behind something that is no TCP yet. */
static struct frame behind(bool v6, bool owned, const void *extra, unsigned len)
{
	struct frame f = ether(v6 ? ETH_P_IPV6 : ETH_P_IP);

	if (v6) {
		append_ip6(&f, "2001:db8::2", "2001:db8::1", *(const unsigned char *)extra);
		append(&f, (const unsigned char *)extra + 1, len);
	} else {
		append_ip4(&f, "192.0.2.2", "192.0.2.1", IPPROTO_TCP);
		f.b[ETH_HLEN] = (unsigned char)(0x45 + len / 4);
		append(&f, extra, len);
	}
	append_tcp(&f, 80, owned ? 61000 : 61001);
	return f;
}

/* Options and extension headers do not hide whose a packet is. */
void test_options(void)
{
	static const struct {
		enum dmm_xdp_counter want;
		unsigned len;
		unsigned char bytes[60]; /* the type of the first, then all of them */
	} all[] = {
		{DMM_X_PASS_NOXSK, 8, {0, 6}},		  /* hop-by-hop */
		{DMM_X_PASS_NOXSK, 8, {60, 6}},		  /* destination */
		{DMM_X_PASS_NOXSK, 8, {43, 6}},		  /* routing: it has arrived */
		{DMM_X_PASS_OPTION, 8, {43, 6, 0, 0, 1}}, /* it has not */
		{DMM_X_PASS_NOXSK, 16, {60, 6, 1}},	  /* a longer one */
		{DMM_X_PASS_NOXSK, 24, {0, 60, 0, 0, 0, 0, 0, 0, 0, 43, 0, 0, 0, 0, 0, 0, 0, 6}},
		{DMM_X_PASS_OPTION, 32, {0, 60, 0, 0, 0,  0, 0, 0, 0, 60, 0, 0, 0,
					 0, 0,	0, 0, 60, 0, 0, 0, 0, 0,  0, 0, 6}},
		{DMM_X_PASS_OPTION, 8, {60, 6, 16}}, /* longer than anybody needs */
		{DMM_X_PASS_OPTION, 8, {60, 51}},    /* behind it is one that is not skipped */
	};
	struct frame f;

	own_flow("192.0.2.2", "192.0.2.1", 80, 61000);
	own_flow("2001:db8::2", "2001:db8::1", 80, 61000);
	for (unsigned len = 0; len <= 40; len += 4) {
		f = behind(false, true, all[0].bytes, len);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
		f.len--;
		CU_ASSERT(passes_as(&f, DMM_X_PASS_SHORT));
		f = behind(false, false, all[0].bytes, len);
		CU_ASSERT(passes_as(&f, len ? DMM_X_PASS_OPTION : DMM_X_PASS_MISS));
	}
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		f = behind(true, true, all[i].bytes, all[i].len);
		CU_ASSERT(passes_as(&f, all[i].want));
		f = behind(true, false, all[i].bytes, all[i].len);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_OPTION));
	}
	f = behind(true, true, all[0].bytes, 8);
	f.len--;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_SHORT));
}

/* A fragment of a datagram between 53 and port: the header, or what comes later. */
static struct frame piece(bool v6, unsigned id, unsigned port, bool first)
{
	struct frame f =
		udp(v6 ? "2001:db8::2" : "192.0.2.2", v6 ? "2001:db8::1" : "192.0.2.1", 53, port);
	unsigned char header[8] = {IPPROTO_UDP, 0, 0, first ? 1 : 64, [7] = (unsigned char)id};
	unsigned l4 = ETH_HLEN + 40;

	if (!v6) {
		f.b[ETH_HLEN + 5] = (unsigned char)id;
		f.b[ETH_HLEN + (first ? 6 : 7)] = first ? 0x20 : 8;
		return f;
	}
	f.b[ETH_HLEN + 6] = IPPROTO_FRAGMENT;
	memmove(f.b + l4 + 8, f.b + l4, f.len - l4);
	memcpy(f.b + l4, header, 8);
	f.len += 8;
	return f;
}

/* The first may have no more of TCP than 8 bytes (RFC 791, 3.2). */
static void test_short_fragment(void)
{
	static const unsigned char header[9] = {0, IPPROTO_TCP, [4] = 1}; /* the first of more */
	struct frame f = tcp4("192.0.2.2", "192.0.2.1", 80, 61000);

	own_flow("192.0.2.2", "192.0.2.1", 80, 61000);
	f.len = ETH_HLEN + 20 + 8;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_SHORT));
	f.b[ETH_HLEN + 6] = 0x20;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
	f.len--;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_SHORT));
	f = tcp4("192.0.2.2", "192.0.2.1", 80, 61001); /* the kernel's */
	f.b[ETH_HLEN + 6] = 0x20;
	f.len = ETH_HLEN + 20 + 8;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_FRAG));
	/* of IPv6 all headers (RFC 8200, 4.5): who does otherwise is told by the kernel */
	own_flow("2001:db8::2", "2001:db8::1", 80, 61000);
	f = behind(true, true, header, 8);
	f.b[ETH_HLEN + 6] = IPPROTO_FRAGMENT;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
	f.len -= 4;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_SHORT));
}

/* Later fragments are of whoever had the first, which alone has ports. */
void test_fragments(void)
{
	struct frame f;

	for (int v6 = 0; v6 < 2; v6++) {
		set_pair(IPPROTO_UDP, v6 ? "2001:db8::2" : "192.0.2.2",
			 v6 ? "2001:db8::1" : "192.0.2.1", 53, 40010, DMM_XFLOW_LIVE);
		f = piece(v6, 1, 40010, false);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_FRAG)); /* too soon */
		f = piece(v6, 1, 40010, true);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
		f = piece(v6, 1, 40011, false); /* bytes, no ports */
		CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
		f = piece(v6, 2, 40010, false);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_FRAG));
		f = piece(v6, 3, 40011, true);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_FRAG));
		f = piece(v6, 3, 40010, false);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_FRAG));
		f = piece(v6, 1, 40011, true); /* the kernel's, of the same number */
		CU_ASSERT(passes_as(&f, DMM_X_PASS_FRAG));
		f = piece(v6, 1, 40010, false);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_FRAG));
		f = piece(v6, 1, 40010, true);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
		f = piece(v6, 1, 40010, false);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
		if (v6) { /* of ICMPv6, and of the same number */
			f = piece(v6, 1, 40010, true);
			f.b[ETH_HLEN + 40] = IPPROTO_ICMPV6;
			CU_ASSERT(passes_as(&f, DMM_X_PASS_FRAG));
			f = piece(v6, 1, 40010, false);
			CU_ASSERT(passes_as(&f, DMM_X_PASS_FRAG));
			continue;
		}
		sleep(3); /* there can be another by now */
		CU_ASSERT(passes_as(&f, DMM_X_PASS_FRAG));
		f = piece(v6, 4, 40010, true);
		f.len -= 5; /* half a header */
		CU_ASSERT(passes_as(&f, DMM_X_PASS_SHORT));
	}
	f = piece(false, 1, 40010, true);
	CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
	own_port("192.0.2.1", 8080); /* nobody cuts a SYN */
	f = tcp4("192.0.2.2", "192.0.2.1", 5000, 8080);
	CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
	f.b[ETH_HLEN + 6] = 0x20;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_FRAG));
	test_short_fragment();
	f = piece(false, 1, 40010, false);
	f.b[ETH_HLEN + 9] = IPPROTO_TCP; /* the same number, of another protocol */
	CU_ASSERT(passes_as(&f, DMM_X_PASS_FRAG));
	f = piece(true, 5, 40010, true);
	f.b[ETH_HLEN + 40 + 3] = 0; /* all of it (RFC 6946) */
	CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
}
