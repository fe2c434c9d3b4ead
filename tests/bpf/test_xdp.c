// SPDX-License-Identifier: Apache-2.0
/*
 * The steering programs on made-up frames, by BPF_PROG_TEST_RUN: what is owned goes to the AF_XDP
 * map (empty here, so the fallback counts it) or into the ring, everything else passes with its
 * cause counted, and garbage does no more than that. Needs root; skipped (77) without it.
 */
#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/icmp.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "lib/base/util.h"
#include "tests/bpf/run.h"
#include "tests/bpf/xdp.h"

struct dmm_xdp_bpf *skel;
static struct frames *frames;
struct frames *reader[DMM_MAX_THREADS];
static struct port_ring ring[DMM_MAX_THREADS];
bool tc;
unsigned threads = 1;
static bool queues; /* dmm_tc is behind dmm_xdp */

dmm_u64 counter(enum dmm_xdp_counter c)
{
	dmm_u64 v[512] = {}, sum = 0;
	dmm_u32 key = c;

	bpf_map_lookup_elem(bpf_map__fd(skel->maps.dmm_xdpctr), &key, v);
	for (int i = 0; i < libbpf_num_possible_cpus(); i++)
		sum += v[i];
	return sum;
}

int run(const struct frame *f)
{
	unsigned char out[512];
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = f->b, .data_size_in = f->len, .data_out = out,
		    .data_size_out = sizeof(out));

	struct bpf_program *p = tc ? skel->progs.dmm_tc : skel->progs.dmm_xdp;

	if (bpf_prog_test_run_opts(bpf_program__fd(p), &o) < 0)
		return -errno;
	return (int)o.retval;
}

/* What the programs return for a frame that goes on to the kernel. */
static bool passes(int r)
{
	return r == (tc ? -1 : XDP_PASS);
}

static struct frame got; /* out of the ring */

static void take_frame(void *ctx, const uint8_t *data, size_t len)
{
	(void)ctx;
	got.len = (unsigned)MIN(len, sizeof(got.b));
	memcpy(got.b, data, got.len);
}
const struct port_sink whole = {.frame = take_frame};

/* dmm_tc gives the ring what is owned, as it is. */
static bool gives(const struct frame *f)
{
	static const enum dmm_xdp_counter owned[] = {DMM_X_FLOW, DMM_X_PORT, DMM_X_ICMP};
	dmm_u64 before = 0, after = 0;

	for (int i = 0; i < 3; i++)
		before += counter(owned[i]);
	if (run(f) != TC_ACT_SHOT || frames_rx(frames, 2, &whole) != 1)
		return false;
	for (int i = 0; i < 3; i++)
		after += counter(owned[i]);
	return after == before + 1 && got.len == f->len && !memcmp(got.b, f->b, f->len);
}

bool passes_as(const struct frame *f, enum dmm_xdp_counter want)
{
	dmm_u64 before[DMM_X_COUNT];

	if (tc && want == DMM_X_PASS_NOXSK)
		return gives(f);
	for (int i = 0; i < DMM_X_COUNT; i++)
		before[i] = counter(i);
	if (!passes(run(f)))
		return false;
	for (int i = 0; i < DMM_X_COUNT; i++)
		if (counter(i) != before[i] + (i == (int)want))
			return false;
	return true;
}

static void mapped(dmm_u8 *ret, const char *text)
{
	in_addr_t v4 = inet_addr(text);

	if (strchr(text, ':')) {
		inet_pton(AF_INET6, text, ret);
		return;
	}
	memset(ret, 0, 10);
	ret[10] = ret[11] = 0xff;
	memcpy(ret + 12, &v4, 4);
}

static void concern(unsigned proto, unsigned port)
{
	dmm_u32 index = DMM_XBITS_INDEX(proto, port);
	dmm_u64 bits = 0;

	bpf_map_lookup_elem(bpf_map__fd(skel->maps.dmm_xbits), &index, &bits);
	bits |= 1ULL << (port % 64);
	bpf_map_update_elem(bpf_map__fd(skel->maps.dmm_xbits), &index, &bits, 0);
}

struct dmm_xflow_key pair_key(unsigned proto, const char *remote, const char *local, unsigned rport,
			      unsigned lport)
{
	struct dmm_xflow_key k = {.remote_port = htons((unsigned short)rport),
				  .local_port = htons((unsigned short)lport),
				  .proto = (dmm_u8)proto};

	mapped(k.remote, remote);
	mapped(k.local, local);
	return k;
}

void set_pair(unsigned proto, const char *remote, const char *local, unsigned rport, unsigned lport,
	      dmm_u8 how)
{
	struct dmm_xflow_key k = pair_key(proto, remote, local, rport, lport);

	concern(proto, lport);
	CU_ASSERT_EQUAL(bpf_map_update_elem(bpf_map__fd(skel->maps.dmm_xflow), &k, &how, 0), 0);
}

static void set_flow(const char *remote, const char *local, unsigned rport, unsigned lport,
		     enum dmm_xflow how)
{
	set_pair(IPPROTO_TCP, remote, local, rport, lport, (dmm_u8)how);
}

void own_flow(const char *remote, const char *local, unsigned rport, unsigned lport)
{
	set_flow(remote, local, rport, lport, DMM_XFLOW_LIVE);
}

void put_port(const char *local, unsigned port, struct dmm_xport_value value)
{
	struct dmm_xport_key k = {.proto = IPPROTO_TCP, .port = htons((unsigned short)port)};

	mapped(k.local, local);
	concern(IPPROTO_TCP, port);
	CU_ASSERT_EQUAL(bpf_map_update_elem(bpf_map__fd(skel->maps.dmm_xport), &k, &value, 0), 0);
}

static void set_port(const char *local, unsigned port, enum dmm_xport how)
{
	put_port(local, port,
		 (struct dmm_xport_value){.owned = how == DMM_XPORT_OWNED,
					  .left = how == DMM_XPORT_LEFT});
}

void own_port(const char *local, unsigned port)
{
	set_port(local, port, DMM_XPORT_OWNED);
}

static void test_flows(void)
{
	struct frame a = tcp4("192.0.2.2", "192.0.2.1", 80, 61000);
	struct frame b = tcp4("192.0.2.2", "192.0.2.1", 80, 61001);
	struct frame c = tcp6("2001:db8::2", "2001:db8::1", 80, 61000);

	own_flow("192.0.2.2", "192.0.2.1", 80, 61000);
	own_flow("2001:db8::2", "2001:db8::1", 80, 61000);
	CU_ASSERT(passes_as(&a, DMM_X_PASS_NOXSK));
	CU_ASSERT(passes_as(&b, DMM_X_PASS_MISS));
	CU_ASSERT(passes_as(&c, DMM_X_PASS_NOXSK));
}

/* Pairs of UDP alone, of both families: the same addresses of TCP are another flow. */
static void test_udp(void)
{
	static const char *const own[2][2] = {{"192.0.2.2", "192.0.2.1"},
					      {"2001:db8::2", "2001:db8::1"}};
	struct frame f;

	for (int v6 = 0; v6 < 2; v6++) {
		const char *far = own[v6][0], *near = own[v6][1];

		f = udp(far, near, 53, 40000);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_MISS));
		set_pair(IPPROTO_UDP, far, near, 53, 40000, DMM_XFLOW_LIVE);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
		f = udp(far, near, 53, 40001);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_MISS));
		f = udp(far, near, 54, 40000); /* not from the far end of the pair */
		CU_ASSERT(passes_as(&f, DMM_X_PASS_MISS));
		f = v6 ? tcp6(far, near, 53, 40000) : tcp4(far, near, 53, 40000);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_MISS));
		f = udp(far, near, 53, 40000);
		f.len -= 5;
		CU_ASSERT(passes_as(&f, DMM_X_PASS_SHORT));
	}
	own_flow("192.0.2.2", "192.0.2.1", 80, 40002);
	f = udp("192.0.2.2", "192.0.2.1", 80, 40002);
	CU_ASSERT(passes_as(&f, DMM_X_PASS_MISS));
}

static struct {
	unsigned n;
	size_t len[8];
	uint8_t first[8];
} parts;

static void take_part(void *ctx, const uint8_t *data, size_t len)
{
	(void)ctx;
	if (parts.n < 8) {
		parts.len[parts.n] = len;
		parts.first[parts.n] = data[len - 1];
	}
	parts.n++;
}
static const struct port_sink in_parts = {.frame = take_part};

static void udp_segments(bool options)
{
	struct frame f = udp("192.0.2.2", "192.0.2.1", 53, 40000);
	struct __sk_buff skb = {.gso_size = 3, .gso_segs = 3};
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = f.b, .ctx_in = &skb,
		    .ctx_size_in = sizeof(skb));
	struct iphdr *ip = (void *)(f.b + ETH_HLEN);
	uint32_t sum = 0;

	if (!tc)
		return;
	if (options) { /* one that does nothing, and an end */
		memmove(f.b + ETH_HLEN + 24, f.b + ETH_HLEN + 20, f.len - ETH_HLEN - 20);
		memcpy(f.b + ETH_HLEN + 20, "\1\1\1\0", 4);
		f.len += 4;
		ip->ihl = 6;
	}
	append(&f, "xyz", 3);
	f.b[ETH_HLEN + ip->ihl * 4 + 5] = 8 + 7;
	ip->tot_len = htons((unsigned short)(ip->ihl * 4 + 8 + 7));
	for (int i = 0; i < ip->ihl * 4; i += 2)
		sum += (uint32_t)(f.b[ETH_HLEN + i] << 8 | f.b[ETH_HLEN + i + 1]);
	ip->check = htons((uint16_t) ~(sum + (sum >> 16)));
	o.data_size_in = f.len;
	set_pair(IPPROTO_UDP, "192.0.2.2", "192.0.2.1", 53, 40000, DMM_XFLOW_LIVE);
	while (frames_rx(frames, 64, &whole))
		;
	CU_ASSERT_EQUAL(bpf_prog_test_run_opts(bpf_program__fd(skel->progs.dmm_tc), &o), 0);
	parts.n = 0;
	CU_ASSERT_EQUAL(frames_rx(frames, 64, &in_parts), 1);
	if (options) {
		CU_ASSERT(parts.n == 1 && parts.len[0] == ETH_HLEN);
		return;
	}
	CU_ASSERT_EQUAL(parts.n, 3);
	for (int i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(parts.len[i], ETH_HLEN + 28u + (i < 2 ? 3 : 1));
		CU_ASSERT_EQUAL(parts.first[i], "tyz"[i]);
	}
}

/* A sender on this host puts datagrams together: they are single ones again. Behind options of IP
 * nobody can tell, and none is taken. */
static void test_udp_segments(void)
{
	udp_segments(false);
	udp_segments(true);
}

static void test_ports(void)
{
	struct frame exact = tcp4("192.0.2.9", "192.0.2.1", 5000, 443);
	struct frame other = tcp4("192.0.2.9", "192.0.2.7", 5000, 443);

	own_port("192.0.2.1", 443);
	CU_ASSERT(passes_as(&exact, DMM_X_PASS_NOXSK));
	CU_ASSERT(passes_as(&other, DMM_X_PASS_MISS));
}

/* A port that is given to the instance leaves the kernel's own connections alone. */
static void test_kernel_connection(void)
{
	struct sockaddr_in server = {.sin_family = AF_INET}, client;
	int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0), a;
	socklen_t len = sizeof(server);
	struct frame f;

	server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CU_ASSERT_EQUAL(bind(l, (struct sockaddr *)&server, len), 0);
	CU_ASSERT_EQUAL(listen(l, 1), 0);
	getsockname(l, (struct sockaddr *)&server, &len);
	CU_ASSERT_EQUAL(connect(c, (struct sockaddr *)&server, len), 0);
	getsockname(c, (struct sockaddr *)&client, &len);
	own_port("127.0.0.1", ntohs(server.sin_port));
	f = tcp4("127.0.0.1", "127.0.0.1", ntohs(client.sin_port), ntohs(server.sin_port));
	f.b[f.len - 7] = 0x10; /* ACK */
	CU_ASSERT(passes_as(&f, DMM_X_PASS_MISS));
	f.b[f.len - 7] = 0x02; /* SYN: to be answered by who has the connection */
	CU_ASSERT(passes_as(&f, DMM_X_PASS_MISS));
	f = tcp4("127.0.0.2", "127.0.0.1", ntohs(client.sin_port), ntohs(server.sin_port));
	f.b[f.len - 7] = 0x10; /* the listener is there, the connection is not */
	CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
	/* left to the kernel: new connections are its own, what it does not know is the instance's
	 */
	set_port("127.0.0.1", ntohs(server.sin_port), DMM_XPORT_LEFT);
	CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
	f.b[f.len - 7] = 0x02; /* SYN */
	CU_ASSERT(passes_as(&f, DMM_X_PASS_MISS));
	f = tcp4("127.0.0.1", "127.0.0.1", ntohs(client.sin_port), ntohs(server.sin_port));
	f.b[f.len - 7] = 0x10; /* ACK */
	CU_ASSERT(passes_as(&f, DMM_X_PASS_MISS));
	/* The kernel's end of it in FIN_WAIT2, then in TIME_WAIT: late segments are the kernel's,
	 * and so is a new connection of these addresses, or the instance would get the late ones
	 * too. */
	a = accept(l, NULL, NULL);
	close(a);
	for (int i = 0; i < 2; i++) {
		for (int how = DMM_XPORT_LEFT; how <= DMM_XPORT_OWNED; how++) {
			set_port("127.0.0.1", ntohs(server.sin_port), how);
			f.b[f.len - 7] = 0x11; /* FIN, ACK */
			CU_ASSERT(passes_as(&f, DMM_X_PASS_MISS));
			f.b[f.len - 7] = 0x02; /* SYN */
			CU_ASSERT(passes_as(&f, DMM_X_PASS_MISS));
		}
		close(c);
	}
	close(l);
}

/* What the engine has closed lingers in it, while the port is the kernel's. */
static void test_lingering(void)
{
	struct frame late = tcp4("192.0.2.9", "192.0.2.1", 5000, 444), syn = late;

	late.b[late.len - 7] = 0x11; /* FIN, ACK */
	set_flow("192.0.2.9", "192.0.2.1", 5000, 444, DMM_XFLOW_LIVE);
	set_port("192.0.2.1", 444, DMM_XPORT_LEFT);
	CU_ASSERT(passes_as(&late, DMM_X_PASS_NOXSK));
	CU_ASSERT(passes_as(&syn, DMM_X_PASS_NOXSK)); /* of a connection that lives */
	set_flow("192.0.2.9", "192.0.2.1", 5000, 444, DMM_XFLOW_CLOSED);
	CU_ASSERT(passes_as(&late, DMM_X_PASS_NOXSK));
	CU_ASSERT(passes_as(&syn, DMM_X_PASS_MISS));
	set_port("192.0.2.1", 444, DMM_XPORT_OWNED);
	CU_ASSERT(passes_as(&late, DMM_X_PASS_NOXSK));
	CU_ASSERT(passes_as(&syn, DMM_X_PASS_NOXSK));
	set_port("192.0.2.1", 444, DMM_XPORT_NONE); /* nobody listens any more */
	CU_ASSERT(passes_as(&late, DMM_X_PASS_NOXSK));
	CU_ASSERT(passes_as(&syn, DMM_X_PASS_MISS));
}

static void test_icmp(void)
{
	static const unsigned char unreachable4[8] = {3, 1}, echo4[8] = {8, 0};
	static const unsigned char unreachable6[8] = {1, 3}, solicit6[8] = {135, 0};
	struct frame f = ether(ETH_P_IP);

	append_ip4(&f, "192.0.2.254", "192.0.2.1", IPPROTO_ICMP);
	append(&f, unreachable4, 8);
	append_ip4(&f, "192.0.2.1", "192.0.2.2", IPPROTO_TCP);
	append_tcp(&f, 61000, 80);
	CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
	f.b[ETH_HLEN + 20] = 11; /* time exceeded: code 1, of fragments, says nothing of the path */
	CU_ASSERT(passes_as(&f, DMM_X_PASS_PROTO));
	f.b[ETH_HLEN + 20 + 1] = 0;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
	/* parameter problem; what is no error */
	f.b[ETH_HLEN + 20] = 12;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
	f.b[ETH_HLEN + 20] = 5;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_PROTO));
	f.b[ETH_HLEN + 20] = 3;
	f.b[ETH_HLEN + 20 + 8 + 20 + 1] ^= 1; /* another local port */
	CU_ASSERT(passes_as(&f, DMM_X_PASS_PROTO));

	f = ether(ETH_P_IP);
	append_ip4(&f, "192.0.2.254", "192.0.2.1", IPPROTO_ICMP);
	append(&f, unreachable4, 8);
	CU_ASSERT(passes_as(&f, DMM_X_PASS_SHORT)); /* what it quotes may lie elsewhere */

	f = ether(ETH_P_IP);
	append_ip4(&f, "192.0.2.254", "192.0.2.1", IPPROTO_ICMP);
	append(&f, echo4, 8);
	CU_ASSERT(passes_as(&f, DMM_X_PASS_PROTO));

	f = ether(ETH_P_IP); /* about a datagram */
	append_ip4(&f, "192.0.2.254", "192.0.2.1", IPPROTO_ICMP);
	append(&f, unreachable4, 8);
	append_ip4(&f, "192.0.2.1", "192.0.2.2", IPPROTO_UDP);
	append_tcp(&f, 40000, 53);
	CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
	f.b[ETH_HLEN + 20 + 8 + 9] = IPPROTO_TCP;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_PROTO));

	f = ether(ETH_P_IPV6);
	append_ip6(&f, "2001:db8::ff", "2001:db8::1", IPPROTO_ICMPV6);
	append(&f, unreachable6, 8);
	append_ip6(&f, "2001:db8::1", "2001:db8::2", IPPROTO_TCP);
	append_tcp(&f, 61000, 80);
	for (unsigned char type = 1; type <= 4; type++) { /* all errors there are */
		f.b[ETH_HLEN + 40] = type;
		CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
	}

	f = ether(ETH_P_IPV6); /* about a flow of IPv4: nobody sent that */
	append_ip6(&f, "2001:db8::ff", "2001:db8::1", IPPROTO_ICMPV6);
	append(&f, unreachable6, 8);
	append_ip6(&f, "::ffff:192.0.2.1", "::ffff:192.0.2.2", IPPROTO_TCP);
	append_tcp(&f, 61000, 80);
	CU_ASSERT(passes_as(&f, DMM_X_PASS_PROTO));

	f = ether(ETH_P_IPV6);
	append_ip6(&f, "2001:db8::ff", "2001:db8::1", IPPROTO_ICMPV6);
	append(&f, solicit6, 8);
	CU_ASSERT(passes_as(&f, DMM_X_PASS_PROTO));
}

static void test_pass(void)
{
	static const unsigned char extension[] = {51, 135};   /* authentication, mobility */
	static const unsigned tci[] = {0, 0xa000, 1, 0xafff}; /* priorities; VLANs */
	struct frame owned = tcp4("192.0.2.2", "192.0.2.1", 80, 61000), f;

	f = owned;
	f.b[ETH_HLEN + 6] = 0x40; /* don't fragment: no fragment */
	CU_ASSERT(passes_as(&f, DMM_X_PASS_NOXSK));
	f = owned;
	f.b[12] = 0x81;
	f.b[13] = 0x00; /* VLAN tag */
	CU_ASSERT(passes_as(&f, DMM_X_PASS_VLAN));
	for (unsigned i = 0; i < sizeof(tci) / sizeof(tci[0]); i++) {
		f = tagged(&owned, tci[i]);
		CU_ASSERT(passes_as(&f, tc || i > 1 ? DMM_X_PASS_VLAN : DMM_X_PASS_NOXSK));
		f = tagged(&f, tci[i]);
		CU_ASSERT(passes_as(&f, DMM_X_PASS_VLAN));
	}
	f = tagged(&owned, 0);
	f.len = ETH_HLEN + 3;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_SHORT));
	f = owned;
	f.len = ETH_HLEN + 20 + 10;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_SHORT));
	f = owned;
	f.b[12] = 0x08;
	f.b[13] = 0x06; /* ARP */
	CU_ASSERT(passes_as(&f, DMM_X_PASS_PROTO));
	f = owned;
	f.b[ETH_HLEN + 9] = IPPROTO_SCTP;
	CU_ASSERT(passes_as(&f, DMM_X_PASS_PROTO));
	f = tcp6("2001:db8::2", "2001:db8::1", 80, 61000);
	for (unsigned i = 0; i < sizeof(extension); i++) {
		f.b[ETH_HLEN + 6] = extension[i];
		CU_ASSERT(passes_as(&f, DMM_X_PASS_OPTION));
	}
}

/* Mutations of good frames at every length: never lost, always counted exactly once. */
static void test_garbage(void)
{
	struct frame seed[2] = {tcp4("192.0.2.2", "192.0.2.1", 80, 61000),
				tcp6("2001:db8::2", "2001:db8::1", 80, 61000)};
	dmm_u64 before = 0, after = 0;
	/* for tc the kernel makes test packets with whole IP headers only */
	unsigned least = ETH_HLEN + (tc ? sizeof(struct ipv6hdr) : 0);
	int runs = 20000, wrong = 0;

	srandom(1);
	for (int i = 0; i < DMM_X_COUNT; i++)
		before += counter(i);
	for (int i = 0; i < runs; i++) {
		struct frame f = seed[i & 1];
		int flips = (int)(random() % 8), r;

		for (int n = 0; n < flips; n++)
			f.b[random() % f.len] = (unsigned char)random();
		f.len = least + (unsigned)random() % (f.len - least + 1);
		r = run(&f);
		wrong += !passes(r) && !(tc && r == TC_ACT_SHOT);
	}
	for (int i = 0; i < DMM_X_COUNT; i++)
		after += counter(i);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(after - before, (dmm_u64)runs);
}

/* Whoever says that he sleeps is woken up, once; nobody else is. */
static void test_wake(void)
{
	struct frame f = tcp4("192.0.2.2", "192.0.2.1", 80, 61000);
	int epoll = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};

	if (!tc)
		return;
	own_flow("192.0.2.2", "192.0.2.1", 80, 61000);
	while (frames_rx(frames, 64, &whole))
		;
	CU_ASSERT_EQUAL(epoll_ctl(epoll, EPOLL_CTL_ADD, ring[0].fd, &ev), 0);
	CU_ASSERT(frames_sleep(frames, true));
	CU_ASSERT(frames_sleep(frames, false));
	run(&f);
	CU_ASSERT_EQUAL(epoll_wait(epoll, &ev, 1, 0), 0);
	CU_ASSERT_FALSE(frames_sleep(frames, true)); /* there is something */
	run(&f);
	CU_ASSERT_EQUAL(epoll_wait(epoll, &ev, 1, 1000), 1);
	CU_ASSERT_FALSE(skel->bss->dmm_asleep[0].yes);
	CU_ASSERT_EQUAL(frames_rx(frames, 64, &whole), 2);
	CU_ASSERT_EQUAL(epoll_wait(epoll, &ev, 1, 0), 0);
	CU_ASSERT(frames_sleep(frames, true));
	run(&f);
	CU_ASSERT_EQUAL(epoll_wait(epoll, &ev, 1, 1000), 1);
	CU_ASSERT_EQUAL(frames_rx(frames, 64, &whole), 1);
	close(epoll);
}

/* What finds no room is dropped and counted, and the ring goes on once it was read. */
static void test_full(void)
{
	struct frame f = tcp4("192.0.2.2", "192.0.2.1", 80, 61000);
	dmm_u64 dropped = counter(DMM_X_DROP_FULL), taken = counter(DMM_X_FLOW);
	unsigned runs = DMM_FRAMES_SIZE / 2048 + 100, n = 0, more;

	if (!tc)
		return;
	own_flow("192.0.2.2", "192.0.2.1", 80, 61000);
	for (unsigned i = 0; i < runs; i++)
		CU_ASSERT_EQUAL(run(&f), TC_ACT_SHOT);
	dropped = counter(DMM_X_DROP_FULL) - dropped;
	taken = counter(DMM_X_FLOW) - taken;
	CU_ASSERT_EQUAL(taken + dropped, runs);
	CU_ASSERT(dropped >= 100);
	while ((more = frames_rx(frames, 64, &whole)))
		n += more;
	CU_ASSERT_EQUAL(n, taken);
	for (unsigned i = 0; i < runs; i += 2) /* around its end */
		CU_ASSERT(gives(&f));
}

static int setup(void)
{
	skel = dmm_xdp_bpf__open();
	if (!skel)
		return -1;
	skel->rodata->dmm_steer.threads = threads;
	skel->rodata->dmm_steer.queues = queues;
	if (dmm_xdp_bpf__load(skel) < 0)
		return -1;
	for (dmm_u32 i = 0; i < threads; i++) {
		ring[i].fd =
			bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ring", 0, 0, DMM_FRAMES_SIZE, NULL);
		ring[i].asleep = &skel->bss->dmm_asleep[i].yes;
		if (ring[i].fd < 0 ||
		    bpf_map_update_elem(bpf_map__fd(skel->maps.dmm_frames), &i, &ring[i].fd, 0) <
			    0 ||
		    frames_open(&reader[i], &ring[i]) < 0)
			return -1;
	}
	frames = reader[0];
	return 0;
}

static int teardown(void)
{
	for (unsigned i = 0; i < threads; i++) {
		frames_close(reader[i]);
		close(ring[i].fd);
	}
	dmm_xdp_bpf__destroy(skel);
	return 0;
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"owned flows", test_flows},
		{"owned pairs of UDP", test_udp},
		{"datagrams in one packet", test_udp_segments},
		{"owned ports", test_ports},
		{"the kernel's connections", test_kernel_connection},
		{"lingering connections", test_lingering},
		{"ICMP errors", test_icmp},
		{"what passes", test_pass},
		{"options and extension headers", test_options},
		{"fragments", test_fragments},
		{"the ring: waking up", test_wake},
		{"the ring: full", test_full},
		{"garbage", test_garbage},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo by_hash[] = {
		{"flows of threads", test_thread_flows},
		{"ports of all threads", test_thread_ports},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo by_queue[] = {
		{"flows of threads", test_thread_flows},
		{"another thread's queue", test_wrong_queue},
		{"connections that have begun", test_begun},
		CU_TEST_INFO_NULL,
	};
	int r = bpf_skip();

	if (r)
		return r;
	for (int i = 0; i < 2; i++) {
		tc = i;
		r |= bpf_run(i ? "tc" : "xdp", setup, teardown, tests);
	}
	threads = 4;
	r |= bpf_run("tc, four threads", setup, teardown, by_hash);
	threads = 2;
	queues = true;
	return r | bpf_run("tc behind xdp, two threads", setup, teardown, by_queue);
}
