// SPDX-License-Identifier: Apache-2.0
#include <CUnit/CUnit.h>
#include <linux/neighbour.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/addr.h"
#include "tests/unit/unit.h"
#include "userstack/net/neigh.h"
#include "userstack/net/route.h"
#include "userstack/net/source.h"

static void add(struct route_table *t, const char *prefix, unsigned type, unsigned metric,
		bool local_table)
{
	struct route r = {.type = (uint8_t)type, .metric = metric, .local_table = local_table};
	unsigned plen;

	CU_ASSERT_EQUAL_FATAL(addr_parse_prefix(prefix, r.dst, &plen), 0);
	r.plen = (uint8_t)plen;
	r.v4 = addr_is_v4(r.dst);
	CU_ASSERT_EQUAL(route_table_add(t, &r), 0);
}

/* Type and prefix length of the route, -1: none. */
static int find(const struct route_table *t, const char *ip, unsigned *plen)
{
	const struct route *r;
	dmm_u8 a[16];

	addr_parse_ip(ip, a);
	r = route_lookup(t, a);
	*plen = r ? r->plen : 0;
	return r ? r->type : -1;
}

static void test_lookup(void)
{
	struct route_table t;
	unsigned plen;

	route_table_init(&t);
	add(&t, "10.0.0.0/8", DMM_ROUTE_VIA, 100, false);
	add(&t, "10.1.0.0/16", DMM_ROUTE_OTHER, 0, false);
	add(&t, "10.1.2.0/24", DMM_ROUTE_OTHER, 10, false);
	add(&t, "10.1.2.0/24", DMM_ROUTE_VIA, 5, false);
	add(&t, "10.1.2.3/32", DMM_ROUTE_VIA, 0, false);
	add(&t, "10.1.2.3/32", DMM_ROUTE_LOCAL, 999, true);
	add(&t, "fe80::/64", DMM_ROUTE_OTHER, 256, false);
	add(&t, "fe80::/64", DMM_ROUTE_VIA, 256, false);
	add(&t, "::/0", DMM_ROUTE_VIA, 1024, false);
	add(&t, "2001:db8:8000::/33", DMM_ROUTE_OTHER, 0, false);
	route_table_seal(&t);
	CU_ASSERT_EQUAL(t.n, 7);
	CU_ASSERT_EQUAL(find(&t, "10.9.9.9", &plen), DMM_ROUTE_VIA);
	CU_ASSERT_EQUAL(plen, 96 + 8);
	CU_ASSERT_EQUAL(find(&t, "10.1.9.9", &plen), DMM_ROUTE_OTHER);
	CU_ASSERT_EQUAL(find(&t, "10.1.2.9", &plen), DMM_ROUTE_VIA);
	CU_ASSERT_EQUAL(plen, 96 + 24);
	CU_ASSERT_EQUAL(find(&t, "10.1.2.3", &plen), DMM_ROUTE_LOCAL);
	/* An IPv6 default route is none for IPv4. */
	CU_ASSERT_EQUAL(find(&t, "11.0.0.1", &plen), -1);
	CU_ASSERT_EQUAL(find(&t, "2001:db8:7fff::1", &plen), DMM_ROUTE_VIA);
	CU_ASSERT_EQUAL(plen, 0);
	CU_ASSERT_EQUAL(find(&t, "2001:db8:8000::1", &plen), DMM_ROUTE_OTHER);
	CU_ASSERT_EQUAL(find(&t, "fe80::5", &plen), DMM_ROUTE_VIA);
	route_table_fini(&t);
}

/* Against a linear scan. */
static void test_random(void)
{
	struct rng rng = {7};
	struct route_table t;
	struct route all[400];

	route_table_init(&t);
	for (unsigned i = 0; i < 400; i++) {
		struct route *r = &all[i];

		*r = (struct route){.v4 = true, .type = (uint8_t)(i % 3), .metric = i};
		r->plen = (uint8_t)(96 + rng_below(&rng, 33));
		addr_from_v4(r->dst, 0);
		for (unsigned b = 96; b < r->plen; b++)
			if (b < 100 ? false : rng_below(&rng, 4) == 0)
				r->dst[b / 8] |= (dmm_u8)(0x80 >> b % 8);
		route_table_add(&t, r);
	}
	route_table_seal(&t);
	for (unsigned n = 0; n < 20000; n++) {
		const struct route *got, *want = NULL;
		dmm_u8 ip[16];

		addr_from_v4(ip, 0);
		for (unsigned b = 100; b < 128; b++)
			if (rng_below(&rng, 4) == 0)
				ip[b / 8] |= (dmm_u8)(0x80 >> b % 8);
		for (unsigned i = 0; i < 400; i++)
			if (addr_in_prefix(ip, all[i].dst, all[i].plen) &&
			    (!want || all[i].plen > want->plen))
				want = &all[i];
		got = route_lookup(&t, ip);
		if (!got != !want || (got && got->metric != want->metric))
			CU_FAIL("differs from the linear scan");
	}
	route_table_fini(&t);
}

static char seen[512];

static void note(void *ctx, const struct route *r, bool with)
{
	char text[ADDR_STRLEN];
	size_t n = strlen(seen);

	(void)ctx;
	snprintf(seen + n, sizeof(seen) - n, "%s=%d ",
		 addr_format_prefix(r->dst, r->plen, text, sizeof(text)), with ? r->type : -1);
}

static void test_diff(void)
{
	struct route_table a, b;

	route_table_init(&a);
	route_table_init(&b);
	add(&a, "10.0.0.0/8", 1, 0, false);
	add(&a, "10.1.0.0/16", 1, 0, false);
	add(&a, "fd00::/8", 0, 0, false);
	add(&b, "10.0.0.0/8", 0, 0, false);
	add(&b, "10.2.0.0/16", 1, 0, false);
	add(&b, "fd00::/8", 0, 0, false);
	route_table_seal(&a);
	route_table_seal(&b);
	route_table_diff(&a, &b, note, NULL);
	CU_ASSERT_STRING_EQUAL(seen, "10.1.0.0/16=-1 10.2.0.0/16=1 10.0.0.0/8=0 ");
	b.route[0].source[15]++; /* the longest */
	seen[0] = '\0';
	route_table_diff(&b, &b, note, NULL);
	CU_ASSERT_STRING_EQUAL(seen, "");
	route_table_fini(&a);
	route_table_init(&a);
	add(&a, "10.0.0.0/8", 0, 0, false);
	add(&a, "10.2.0.0/16", 1, 0, false);
	add(&a, "fd00::/8", 0, 0, false);
	route_table_seal(&a);
	route_table_diff(&a, &b, note, NULL);
	CU_ASSERT_STRING_EQUAL(seen, "10.2.0.0/16=1 ");
	route_table_fini(&a);
	route_table_fini(&b);
}

static unsigned asked, sent, undelivered;

static void ask(void *ctx, const dmm_u8 ip[16])
{
	(void)ctx;
	(void)ip;
	asked++;
}

static void send_packet(void *ctx, const uint8_t dst[6], const struct iovec *iov, unsigned n,
			struct frame_offload left)
{
	(void)ctx;
	(void)n;
	CU_ASSERT_EQUAL(left.mss, sent % 8 == 3 ? 1400 : 0);
	CU_ASSERT_EQUAL(left.sum, sent % 2);
	CU_ASSERT_EQUAL(dst[5], 7);
	CU_ASSERT_EQUAL(*(uint8_t *)iov[0].iov_base, sent % 8);
	sent++;
}

static void unreachable(void *ctx, const uint8_t *pkt, size_t len)
{
	(void)ctx;
	CU_ASSERT_EQUAL(len, 2);
	CU_ASSERT_EQUAL(pkt[1], 99);
	undelivered++;
}

static void test_neigh(void)
{
	static const struct neigh_host host = {NULL, ask, send_packet, unreachable};
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 7};
	static struct neigh_table t;
	uint64_t now = 10 * NEIGH_ASK_NS;
	unsigned queued = 0;
	struct neigh *e;
	dmm_u8 ip[16];
	uint8_t byte = 0, tail = 99;
	struct iovec iov[2] = {{&byte, 1}, {&tail, 1}};
	struct frame_offload left = {0};

	neigh_init(&t, &host);
	addr_parse_ip("10.0.0.9", ip);
	e = neigh_get(&t, ip);
	for (; neigh_output(&t, e, iov, 2, left, now) == 0; queued++) {
		byte = (uint8_t)((byte + 1) % 8);
		left = (struct frame_offload){.sum = byte % 2, .mss = byte == 3 ? 1400 : 0};
	}
	CU_ASSERT(queued >= 256 && t.waiting == queued); /* SYNs of as many connections */
	CU_ASSERT_EQUAL(asked, 1);
	neigh_update(&t, ip, NUD_INCOMPLETE, NULL);
	CU_ASSERT_EQUAL(sent, 0);
	neigh_update(&t, ip, NUD_REACHABLE, mac);
	CU_ASSERT(sent == queued && t.waiting == 0);
	byte = (uint8_t)(sent % 8);
	left = (struct frame_offload){.sum = byte % 2, .mss = byte == 3 ? 1400 : 0};
	CU_ASSERT_EQUAL(neigh_output(&t, e, iov, 2, left, now), 1);
	/* A stale one is used, and the kernel told so, not too often. */
	neigh_update(&t, ip, NUD_STALE, mac);
	now += 2 * NEIGH_ASK_NS;
	byte = (uint8_t)(sent % 8);
	left = (struct frame_offload){.sum = byte % 2, .mss = byte == 3 ? 1400 : 0};
	CU_ASSERT_EQUAL(neigh_output(&t, e, iov, 2, left, now), 1);
	byte = (uint8_t)(sent % 8);
	left = (struct frame_offload){.sum = byte % 2, .mss = byte == 3 ? 1400 : 0};
	CU_ASSERT_EQUAL(neigh_output(&t, e, iov, 2, left, now), 1);
	CU_ASSERT_EQUAL(asked, 2);
	/* One that the kernel forgot (its link or address changed) is asked for again, at once. */
	neigh_update(&t, ip, 0, NULL);
	byte = (uint8_t)(sent % 8);
	left = (struct frame_offload){.sum = byte % 2, .mss = byte == 3 ? 1400 : 0};
	CU_ASSERT_EQUAL(neigh_output(&t, e, iov, 2, left, now), 0);
	CU_ASSERT_EQUAL(asked, 3);
	neigh_update(&t, ip, NUD_REACHABLE, mac);
	CU_ASSERT_EQUAL(t.waiting, 0);
	/* Failed by the kernel's word, and by the clock. */
	neigh_update(&t, ip, NUD_FAILED, NULL);
	CU_ASSERT_EQUAL(neigh_output(&t, e, iov, 2, left, now), 0);
	neigh_update(&t, ip, NUD_FAILED, NULL);
	CU_ASSERT_EQUAL(undelivered, 1);
	CU_ASSERT_EQUAL(neigh_output(&t, e, iov, 2, left, now), 0);
	CU_ASSERT_EQUAL(neigh_expire(&t, now + NEIGH_WAIT_NS), 0);
	CU_ASSERT_EQUAL(neigh_expire(&t, now + NEIGH_WAIT_NS + 1), 1);
	CU_ASSERT_EQUAL(undelivered, 2);
	CU_ASSERT_EQUAL(t.n, 1);
	neigh_expire(&t, now + 20 * NEIGH_ASK_NS);
	CU_ASSERT_EQUAL(t.n, 0);
	CU_ASSERT_EQUAL(t.generation, 1);
	neigh_fini(&t);
}

static void unreachable_any(void *ctx, const uint8_t *pkt, size_t len)
{
	(void)ctx;
	(void)pkt;
	(void)len;
	undelivered++;
}

/* Many that do not answer take no more than is for all of them together. */
static void test_neigh_many(void)
{
	static const struct neigh_host host = {NULL, ask, send_packet, unreachable_any};
	static struct neigh_table t;
	static uint8_t packet[60000];
	struct iovec iov = {packet, sizeof(packet)};
	unsigned waiting = 0, refused = 0;
	struct frame_offload left = {0};
	dmm_u8 ip[16];

	undelivered = 0;
	neigh_init(&t, &host);
	addr_parse_ip("10.0.0.0", ip);
	for (unsigned i = 0; i < 2 * NEIGH_QUEUES / sizeof(packet); i++) {
		ip[14] = (dmm_u8)(i >> 8);
		ip[15] = (dmm_u8)i;
		if (neigh_output(&t, neigh_get(&t, ip), &iov, 1, left, 1) == 0)
			waiting++;
		else
			refused++;
	}
	CU_ASSERT(waiting > 500 && refused > 500);
	CU_ASSERT(t.queued <= NEIGH_QUEUES);
	neigh_expire(&t, NEIGH_WAIT_NS + 2);
	CU_ASSERT_EQUAL(undelivered, waiting);
	CU_ASSERT_EQUAL(t.queued, 0);
	CU_ASSERT_EQUAL(neigh_output(&t, neigh_get(&t, ip), &iov, 1, left, NEIGH_WAIT_NS + 2), 0);
	neigh_fini(&t);
}

#define ROUTES 1000

static struct {
	unsigned asked;
	bool known[ROUTES]; /* published with the source that the answer was */
} told;

static unsigned number_of(const struct route *r)
{
	return r->dst[13] * 256u + r->dst[14];
}

static void source_ask(void *ctx, const struct route *r, dmm_u8 ret[16])
{
	(void)ctx;
	told.asked++;
	memcpy(ret, r->dst, 16);
	ret[0] = 1;
}

static void source_publish(void *ctx, const struct route *r, const dmm_u8 source[16])
{
	(void)ctx;
	if (r->type == DMM_ROUTE_VIA)
		told.known[number_of(r)] = source[0] == 1;
}

static void source_route(void *ctx, const struct route *r, bool there)
{
	if (there)
		sources_publish(ctx, r);
}

/* Routes from `first` on, and one that nobody is asked about. */
static void source_routes(struct route_table *t, unsigned first)
{
	char text[32];

	route_table_init(t);
	add(t, "192.0.2.0/24", DMM_ROUTE_OTHER, 0, false);
	for (unsigned i = first; i < ROUTES; i++) {
		snprintf(text, sizeof(text), "10.%u.%u.0/24", i / 256, i % 256);
		add(t, text, DMM_ROUTE_VIA, 0, false);
	}
	route_table_seal(t);
}

static unsigned known_of(unsigned first)
{
	unsigned n = 0;

	for (unsigned i = first; i < ROUTES; i++)
		n += told.known[i];
	return n;
}

static unsigned turn(struct sources *s)
{
	unsigned before = told.asked;

	sources_turn(s);
	return told.asked - before;
}

/* So many questions a turn; until then routes are published without; and other routes meanwhile
 * make nobody wait anew. */
static void test_sources(void)
{
	struct sources s = {.ctx = &s, .ask = source_ask, .publish = source_publish};
	struct route_table none, t, next;

	memset(&told, 0, sizeof(told));
	route_table_init(&none);
	source_routes(&t, 10);
	sources_table(&s, &none, &t);
	route_table_diff(&none, &t, source_route, &s);
	CU_ASSERT_EQUAL(told.asked, SOURCES_TURN);
	CU_ASSERT_EQUAL(known_of(0), SOURCES_TURN);
	for (unsigned i = 0; i < 5; i++)
		CU_ASSERT(sources_wait(&s) && turn(&s) == SOURCES_TURN);
	CU_ASSERT_EQUAL(known_of(0), 6 * SOURCES_TURN);

	source_routes(&next, 0); /* ten more, before all others */
	sources_table(&s, &t, &next);
	route_table_diff(&t, &next, source_route, &s);
	CU_ASSERT_EQUAL(known_of(0), 6 * SOURCES_TURN + 10);
	while (sources_wait(&s))
		CU_ASSERT(turn(&s) <= SOURCES_TURN);
	CU_ASSERT_EQUAL(known_of(0), ROUTES);
	CU_ASSERT_EQUAL(told.asked, ROUTES);
	route_table_fini(&t);
	route_table_fini(&next);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"longest prefix", test_lookup},
		{"longest prefix against a linear scan", test_random},
		{"difference of two tables", test_diff},
		{"sources of routes, so many at a time", test_sources},
		{"neighbours", test_neigh},
		{"neighbours, many that are silent", test_neigh_many},
		CU_TEST_INFO_NULL,
	};

	return unit_run("route", tests);
}
