// SPDX-License-Identifier: Apache-2.0
/* What the instance sends to an application's kernel, seen on the loopback of a namespace of its
 * own. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "tests/unit/unit.h"
#include "userstack/inject.h"
#include "userstack/net/frame.h"

static struct inject inject;
static int seen; /* packets of the loopback, from the IP header on */
static struct dmm_again again;

static int loopback_up(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	struct timeval limit = {.tv_usec = 200000};

	seen = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL));
	if (seen < 0 || ioctl(seen, SIOCSIFFLAGS, &lo) < 0)
		return -errno;
	at.sll_ifindex = (int)if_nametoindex("lo");
	if (bind(seen, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    setsockopt(seen, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
		return -errno;
	return 0;
}

/* The next packet of this kind that arrives, of TCP from this port: the kernel answers, too.
 * Returns its length, 0: none comes. */
static size_t arrived(uint8_t *ret, size_t size, enum frame_kind kind, unsigned port,
		      struct frame *f)
{
	struct sockaddr_ll from;
	socklen_t len;
	ssize_t n;

	for (;;) {
		len = sizeof(from);
		n = recvfrom(seen, ret, size, 0, (struct sockaddr *)&from, &len);
		if (n <= 0)
			return 0;
		if (from.sll_pkttype == PACKET_HOST && frame_parse_ip(ret, (size_t)n, f) == kind &&
		    (kind != FRAME_TCP || f->remote.port == port))
			return (size_t)n;
	}
}

/* A segment of 127.0.0.1 or ::1, port 1000 to 2000, with so much data. */
static void segment(bool v6, uint8_t flags, unsigned len)
{
	struct dmm_event *ev = &again.ev;
	uint16_t ports[2] = {htons(1000), htons(2000)};
	uint8_t *tcp;

	memset(&again, 0, sizeof(again));
	ev->type = DMM_EV_AGAIN;
	addr_parse_ip(v6 ? "::1" : "127.0.0.1", ev->tuple.src.ip);
	memcpy(ev->tuple.dst.ip, ev->tuple.src.ip, 16);
	ev->tuple.src.port = 1000;
	ev->tuple.dst.port = 2000;
	ev->l4_off = v6 ? 40 : 20;
	ev->hdr_len = (dmm_u16)(ev->l4_off + 32);
	ev->hdr[0] = v6 ? 0x61 : 0x45; /* 0x10: type of service, or traffic class */
	ev->hdr[1] = v6 ? 0x00 : 0x10;
	ev->hdr[v6 ? 6 : 9] = IPPROTO_TCP;
	tcp = ev->hdr + ev->l4_off;
	memcpy(tcp, ports, sizeof(ports));
	tcp[7] = 77;	/* sequence number */
	tcp[12] = 0x80; /* 32 bytes: with timestamps */
	tcp[13] = flags;
	memset(tcp + 20, 1, 12);
	tcp[20] = tcp[21] = 1;
	again.len = len;
	for (unsigned i = 0; i < len && i < DMM_AGAIN_MAX; i++)
		again.data[i] = (uint8_t)(i * 7);
}

static void goes_again(bool v6, uint8_t flags, unsigned len)
{
	static uint8_t got[65536];
	struct frame f;
	size_t n;

	segment(v6, flags, len);
	CU_ASSERT_EQUAL(inject_again(&inject, &again), 0);
	n = arrived(got, sizeof(got), FRAME_TCP, 1000, &f);
	CU_ASSERT_EQUAL_FATAL(n, (v6 ? 40u : 20u) + 32u + len);
	CU_ASSERT(frame_summed(got, &f));
	CU_ASSERT_EQUAL(f.seq, 77);
	CU_ASSERT_EQUAL(f.flags, flags);
	CU_ASSERT_EQUAL(f.local.port, 2000);
	CU_ASSERT(!memcmp(got + f.l4_off + 20, again.ev.hdr + again.ev.l4_off + 20, 12));
	CU_ASSERT(!memcmp(got + f.l4_off + 32, again.data, len));
	CU_ASSERT_EQUAL(frame_tos(got), 0x10);
}

static void test_again(void)
{
	for (unsigned v6 = 0; v6 < 2; v6++) {
		goes_again(v6, FRAME_ACK, 1);
		goes_again(v6, FRAME_ACK, 1000);
		goes_again(v6, FRAME_ACK, DMM_AGAIN_MAX);
		goes_again(v6, FRAME_ACK | FRAME_FIN, 3);
		goes_again(v6, FRAME_ACK | FRAME_FIN, 0);
		goes_again(v6, FRAME_RST, 0);
	}
}

/* A copy that is not what it should be goes nowhere. */
static void test_refused(void)
{
	struct dmm_event *ev = &again.ev;
	uint8_t got[256];
	struct frame f;

	for (unsigned v6 = 0; v6 < 2; v6++) {
		segment(v6, FRAME_ACK, DMM_AGAIN_MAX + 1);
		CU_ASSERT_EQUAL(inject_again(&inject, &again), -EINVAL);
		segment(v6, FRAME_ACK, 1);
		ev->hdr_len = (dmm_u16)(ev->l4_off + 31); /* its options are cut off */
		CU_ASSERT_EQUAL(inject_again(&inject, &again), -EINVAL);
		ev->hdr_len = DMM_SYN_HDR + 1;
		CU_ASSERT_EQUAL(inject_again(&inject, &again), -EINVAL);
		segment(v6, FRAME_ACK, 1);
		ev->l4_off = (dmm_u16)(ev->hdr_len - 19); /* no room for a header */
		CU_ASSERT_EQUAL(inject_again(&inject, &again), -EINVAL);
		segment(v6, FRAME_ACK, 1);
		ev->hdr[ev->l4_off + 12] = 0x40; /* shorter than the shortest header */
		CU_ASSERT_EQUAL(inject_again(&inject, &again), -EINVAL);
		segment(v6, FRAME_ACK, 1);
		ev->hdr[ev->l4_off + 1]++; /* of another port */
		CU_ASSERT_EQUAL(inject_again(&inject, &again), -EINVAL);
		segment(v6, FRAME_ACK, 1);
		if (v6)
			ev->hdr[6] = IPPROTO_ROUTING;
		else
			ev->hdr[0] = 0x46; /* IP options */
		CU_ASSERT_EQUAL(inject_again(&inject, &again), -EINVAL);
	}
	CU_ASSERT_EQUAL(arrived(got, sizeof(got), FRAME_TCP, 1000, &f), 0);
}

/* The SYN goes on without what it had behind its header; a refusal is a reset of it. */
static void test_syn(void)
{
	struct inject_syn syn = {.isn = 77};
	uint8_t got[256];
	struct frame f;

	for (unsigned v6 = 0; v6 < 2; v6++) {
		segment(v6, FRAME_SYN, 0);
		syn.hdr_len = again.ev.hdr_len;
		syn.l4_off = again.ev.l4_off;
		memcpy(syn.hdr, again.ev.hdr, sizeof(syn.hdr));
		CU_ASSERT_EQUAL(inject_release(&inject, &again.ev.tuple, &syn), 0);
		CU_ASSERT_EQUAL_FATAL(arrived(got, sizeof(got), FRAME_TCP, 1000, &f),
				      syn.l4_off + 32u);
		CU_ASSERT(frame_summed(got, &f) && f.flags == FRAME_SYN && f.seq == 77);
		/* the kernel answers that nobody listens */
		CU_ASSERT_FATAL(arrived(got, sizeof(got), FRAME_TCP, 2000, &f) > 0);
		CU_ASSERT(f.flags & FRAME_RST);
		CU_ASSERT_EQUAL(inject_error(&inject, &again.ev.tuple, &syn, ECONNREFUSED), 0);
		CU_ASSERT_FATAL(arrived(got, sizeof(got), FRAME_TCP, 2000, &f) > 0);
		CU_ASSERT(frame_summed(got, &f) && f.flags == (FRAME_RST | FRAME_ACK));
		CU_ASSERT_EQUAL(f.local.port, 1000);
		CU_ASSERT(!memcmp(got + f.l4_off + 8, "\0\0\0\x4e", 4)); /* its SYN is meant */
	}
}

/* An error quotes the SYN, so that the kernel finds whose it is. */
static void test_error(void)
{
	static const int error[] = {ENETUNREACH, EHOSTUNREACH, EPROTO};
	struct inject_syn syn = {.isn = 77};
	uint8_t got[256];
	struct frame f;

	for (unsigned i = 0; i < 2 * ARRAY_SIZE(error); i++) {
		segment(i & 1, FRAME_SYN, 0);
		syn.hdr_len = again.ev.hdr_len;
		syn.l4_off = again.ev.l4_off;
		memcpy(syn.hdr, again.ev.hdr, sizeof(syn.hdr));
		CU_ASSERT_EQUAL(inject_error(&inject, &again.ev.tuple, &syn, error[i / 2]), 0);
		CU_ASSERT_FATAL(arrived(got, sizeof(got), FRAME_ERROR, 0, &f) > 0);
		CU_ASSERT_EQUAL(f.error, error[i / 2]);
		CU_ASSERT_EQUAL(f.local.port, 1000);
		CU_ASSERT_EQUAL(f.remote.port, 2000);
		CU_ASSERT_EQUAL(f.seq, 77);
	}
	syn.hdr_len = (uint16_t)(syn.l4_off + 7); /* no port and sequence number to quote */
	CU_ASSERT_EQUAL(inject_error(&inject, &again.ev.tuple, &syn, ENETUNREACH), -EINVAL);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"first data go again", test_again},
		{"what is no segment of the connection", test_refused},
		{"a SYN goes on, or is refused", test_syn},
		{"an ICMP error", test_error},
		CU_TEST_INFO_NULL,
	};
	int r;

	if (unshare(CLONE_NEWNET) < 0) {
		printf("SKIP: no network namespace of its own: %s\n", strerror(errno));
		return 77;
	}
	r = loopback_up();
	if (!r)
		r = inject_open(&inject);
	if (r < 0) {
		printf("no loopback: %s\n", strerror(-r));
		return EXIT_FAILURE;
	}
	return unit_run("inject", tests);
}
