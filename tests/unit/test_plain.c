// SPDX-License-Identifier: Apache-2.0
/* Packets with options, extension headers and in fragments, and what is made of them. */
#include <CUnit/CUnit.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "tests/unit/unit.h"
#include "userstack/net/frame.h"
#include "userstack/net/plain.h"

#define WIRE_MAX (60 + 65535)

/* A packet as it goes over the wire. */
struct wire {
	size_t len;
	uint8_t b[WIRE_MAX];
};

static struct plain *plain;
static uint8_t data[65536]; /* a little more than fits */
static const uint8_t *got;
static size_t got_len;

/* What is set in a packet beside its data. */
struct about {
	bool v6, more;
	size_t at, len; /* of data */
	uint32_t id;
	unsigned ecn;
	uint8_t proto;
	const uint8_t *extra; /* options, or extension headers, the type of the first before them */
	size_t extra_len;
};

static void seal4(uint8_t *p, size_t header)
{
	uint16_t sum;

	put16(p + 10, 0);
	sum = (uint16_t)~frame_fold(frame_sum(p, header, 0));
	memcpy(p + 10, &sum, 2);
}

static struct wire *make4(const struct about *a)
{
	static struct wire w;
	size_t header = 20 + a->extra_len;

	memset(w.b, 0, header);
	w.b[0] = (uint8_t)(0x40 | header / 4);
	w.b[1] = (uint8_t)a->ecn;
	w.len = header + a->len;
	put16(w.b + 2, (uint32_t)w.len);
	put16(w.b + 4, a->id);
	put16(w.b + 6, (uint32_t)(a->at / 8) | (a->more ? 0x2000 : 0));
	w.b[8] = 64;
	w.b[9] = a->proto;
	put32(w.b + 12, 0xc0000202);
	put32(w.b + 16, 0xc0000201);
	if (a->extra_len)
		memcpy(w.b + 20, a->extra, a->extra_len);
	memcpy(w.b + header, data + a->at, a->len);
	seal4(w.b, header);
	return &w;
}

/* With a fragment header if it is one, or has an id. */
static struct wire *make6(const struct about *a)
{
	static struct wire w;
	size_t at = 40;

	memset(w.b, 0, 40);
	w.b[0] = 0x60;
	w.b[1] = (uint8_t)(a->ecn << 4);
	w.b[6] = a->proto;
	w.b[7] = 64;
	w.b[8] = w.b[24] = 0x20;
	w.b[23] = 2;
	w.b[39] = 1;
	if (a->extra_len) {
		w.b[6] = a->extra[0];
		memcpy(w.b + at, a->extra + 1, a->extra_len);
		at += a->extra_len;
	}
	if (a->at || a->more || a->id) {
		if (!a->extra_len)
			w.b[6] = IPPROTO_FRAGMENT;
		memset(w.b + at, 0, 8);
		w.b[at] = a->proto;
		put16(w.b + at + 2, (uint32_t)a->at | a->more);
		put32(w.b + at + 4, a->id);
		at += 8;
	}
	memcpy(w.b + at, data + a->at, a->len);
	w.len = at + a->len;
	put16(w.b + 4, (uint32_t)(w.len - 40));
	return &w;
}

static enum plain_is give(const struct about *a, uint64_t now)
{
	struct wire *w = a->v6 ? make6(a) : make4(a);
	uint8_t *copy = malloc(w->len); /* so that a byte too far is seen */
	enum plain_is is;
	struct frame f;

	memcpy(copy, w->b, w->len);
	CU_ASSERT_EQUAL(frame_parse_ip(copy, w->len, &f), FRAME_ODD);
	CU_ASSERT_EQUAL(f.ip_len, w->len);
	is = plain_make(plain, copy, w->len, now, &got, &got_len);
	free(copy);
	return is;
}

/* What was made has this much data, and nothing that is not plain. */
static bool is_plain(const struct about *a, size_t len)
{
	size_t header = a->v6 ? 40 : 20;

	if (got_len != header + len || memcmp(got + header, data, len))
		return false;
	if (a->v6)
		return got[6] == a->proto && be16(got + 4) == len && got[39] == 1;
	return got[0] == 0x45 && be16(got + 2) == got_len && !(be16(got + 6) & 0x3fff) &&
	       got[9] == a->proto && frame_fold(frame_sum(got, 20, 0)) == 0xffff;
}

static int setup(void)
{
	struct rng r = {7};

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)rng_below(&r, 256);
	plain = plain_new();
	return plain ? 0 : -1;
}

static void test_options4(void)
{
	static const struct {
		uint8_t bytes[40];
		size_t len;
		enum plain_is want;
	} all[] = {
		{{1, 1, 1, 0}, 4, PLAIN_PACKET},	     /* padding */
		{{148, 4, 0, 0}, 4, PLAIN_PACKET},	     /* router alert */
		{{7, 7, 4, 0, 0, 0, 0, 0}, 8, PLAIN_PACKET}, /* record route */
		{{68, 12, 5, 0}, 12, PLAIN_PACKET},	     /* timestamps */
		{{222, 4, 9, 9}, 4, PLAIN_PACKET},	     /* nobody knows it */
		{{0, 7, 7, 7}, 4, PLAIN_PACKET},	     /* behind the end */
		{{131, 7, 4, 1, 2, 3, 4, 0}, 8, PLAIN_BAD},  /* loose source route */
		{{1, 137, 7, 4, 1, 2, 3, 4}, 8, PLAIN_BAD},  /* strict source route */
		{{148, 0, 0, 0}, 4, PLAIN_BAD},
		{{148, 1, 0, 0}, 4, PLAIN_BAD},
		{{148, 5, 0, 0}, 4, PLAIN_BAD},
		{{1, 1, 1, 148}, 4, PLAIN_BAD},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		struct about a = {.proto = IPPROTO_TCP,
				  .len = 100,
				  .extra = all[i].bytes,
				  .extra_len = all[i].len};

		CU_ASSERT_EQUAL(give(&a, 0), all[i].want);
		if (all[i].want == PLAIN_PACKET)
			CU_ASSERT(is_plain(&a, 100));
	}
}

static void test_extensions(void)
{
	static const struct {
		uint8_t bytes[40]; /* the type of the first, then all of them */
		size_t len;
		enum plain_is want;
	} all[] = {
		{{0, 6, 0, 1, 4}, 8, PLAIN_PACKET},		/* hop-by-hop: PadN */
		{{0, 6, 0, 5, 2, 0, 0, 1, 0}, 8, PLAIN_PACKET}, /* router alert */
		{{60, 6, 0, 0, 0, 0x1e, 2}, 8, PLAIN_PACKET},	/* may be skipped */
		{{60, 6, 0, 0x5e, 4}, 8, PLAIN_BAD},		/* not */
		{{60, 6, 0, 0x9e, 4}, 8, PLAIN_BAD},
		{{60, 6, 0, 0xde, 4}, 8, PLAIN_BAD},
		{{60, 6, 0, 1, 5}, 8, PLAIN_BAD},    /* longer than its header */
		{{60, 6, 9, 1, 4}, 8, PLAIN_BAD},    /* that is longer than the packet */
		{{43, 6, 0, 4, 0}, 8, PLAIN_PACKET}, /* a route that has served */
		{{43, 6, 0, 4, 1}, 8, PLAIN_BAD},    /* one that has not */
		{{0, 60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4}, 16, PLAIN_PACKET}, /* two */
		{{60, 0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4}, 16, PLAIN_BAD}, /* hop-by-hop is first */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		struct about a = {.v6 = true,
				  .proto = IPPROTO_TCP,
				  .len = 40,
				  .extra = all[i].bytes,
				  .extra_len = all[i].len};

		CU_ASSERT_EQUAL(give(&a, 0), all[i].want);
		if (all[i].want == PLAIN_PACKET)
			CU_ASSERT(is_plain(&a, 40));
	}
	/* a fragment that is all of it (RFC 6946) */
	struct about atomic = {.v6 = true, .proto = IPPROTO_UDP, .len = 40, .id = 9};
	CU_ASSERT_EQUAL(give(&atomic, 0), PLAIN_PACKET);
	CU_ASSERT(is_plain(&atomic, 40));
}

/* Cut at random, in any order, some of them twice: whole with the last that was missing. */
static void test_fragments(void)
{
	struct rng r = {3};

	for (unsigned round = 0; round < 2000; round++) {
		size_t cut[66] = {0}, most = round % 2 ? 65535 : 65515, len, n = 0, left;
		struct about a = {.v6 = round % 2, .proto = IPPROTO_UDP, .id = round + 1};

		len = 9 + rng_below(&r, (uint32_t)(round % 10 ? 5000 : most - 8));
		while (cut[n] < len && n < 64) {
			size_t step = 8 * (1 + rng_below(&r, (uint32_t)(len / 64 + 1)));

			n++;
			cut[n] = n == 64 || cut[n - 1] + step > len - 1 ? len : cut[n - 1] + step;
		}
		left = n;
		for (bool done[64] = {false}; left;) {
			size_t i = rng_below(&r, (uint32_t)n);
			enum plain_is is;

			a.at = cut[i];
			a.len = cut[i + 1] - cut[i];
			a.more = i + 1 < n;
			if (n == 1)
				break; /* it is none */
			is = give(&a, 0);
			left -= !done[i];
			done[i] = true;
			CU_ASSERT_EQUAL(is, left ? PLAIN_NONE : PLAIN_WHOLE);
			if (is == PLAIN_WHOLE)
				CU_ASSERT(is_plain(&a, len));
		}
	}
	plain_expire(plain, UINT64_MAX);
	CU_ASSERT_EQUAL(plain_lost(plain), 0); /* none is left */
}

static enum plain_is part(bool v6, uint32_t id, size_t at, size_t len, bool more, uint64_t now)
{
	const struct about a = {
		.v6 = v6, .proto = IPPROTO_UDP, .id = id, .at = at, .len = len, .more = more};

	return give(&a, now);
}

/* Is kept, for what comes later. */
static bool waits(bool v6, uint32_t id, size_t at, size_t len, bool more, uint64_t now)
{
	return part(v6, id, at, len, more, now) == PLAIN_NONE && !plain_lost(plain);
}

/* This one is lost, or one for it. */
static bool costs(bool v6, uint32_t id, size_t at, size_t len, bool more, uint64_t now)
{
	return part(v6, id, at, len, more, now) == PLAIN_NONE && plain_lost(plain) == 1;
}

static unsigned expired(uint64_t now)
{
	plain_expire(plain, now);
	return plain_lost(plain);
}

/* What contradicts itself is dropped whole, and so is what comes of it later. */
static void test_overlap(void)
{
	for (unsigned v6 = 0; v6 < 2; v6++) {
		CU_ASSERT(waits(v6, 1, 0, 80, true, 0));
		CU_ASSERT(waits(v6, 1, 0, 80, true, 0)); /* the same again */
		CU_ASSERT(costs(v6, 1, 72, 80, true, 0));
		CU_ASSERT(costs(v6, 1, 80, 80, false, 0));
		/* the same place, other bytes */
		CU_ASSERT(waits(v6, 2, 0, 80, true, 0));
		data[7] ^= 1;
		CU_ASSERT(costs(v6, 2, 0, 80, true, 0));
		data[7] ^= 1;
		/* two ends; and something behind the end */
		CU_ASSERT(waits(v6, 3, 80, 80, false, 0));
		CU_ASSERT(costs(v6, 3, 160, 80, false, 0));
		CU_ASSERT(waits(v6, 4, 80, 80, false, 0));
		CU_ASSERT(costs(v6, 4, 160, 80, true, 0));
		CU_ASSERT(waits(v6, 5, 160, 80, true, 0));
		CU_ASSERT(costs(v6, 5, 80, 80, false, 0));
		/* an odd length in the middle; nothing; beyond the longest packet */
		CU_ASSERT_EQUAL(part(v6, 6, 0, 81, true, 0), PLAIN_BAD);
		CU_ASSERT_EQUAL(part(v6, 6, 80, 0, true, 0), PLAIN_BAD);
		CU_ASSERT_EQUAL(part(v6, 6, 65528, v6 ? 8 : 7, false, 0), PLAIN_BAD);
		/* nothing but its end is new */
		CU_ASSERT(waits(v6, 7, 0, 80, true, 0));
		CU_ASSERT_EQUAL(part(v6, 7, 72, 8, false, 0), PLAIN_WHOLE);
		/* what is given up was counted; one that only waits was not */
		CU_ASSERT(waits(v6, 8, 0, 80, true, 0));
		CU_ASSERT_EQUAL(expired(PLAIN_WAIT_NS - 1), 0);
		CU_ASSERT_EQUAL(expired(PLAIN_WAIT_NS), 1);
		CU_ASSERT(waits(v6, 1, 80, 80, false, 0)); /* of another packet by now */
		CU_ASSERT_EQUAL(expired(PLAIN_WAIT_NS), 1);
	}
}

/* Memory is bounded, and what waits too long is forgotten. */
static void test_bounds(void)
{
	unsigned n = 0;

	for (uint32_t id = 1; id <= PLAIN_MAX; id++)
		CU_ASSERT(waits(false, id, 0, 80, true, id));
	CU_ASSERT(costs(false, 1000, 0, 80, true, 1000)); /* number 1 */
	CU_ASSERT_EQUAL(part(false, 1000, 80, 80, false, 1000), PLAIN_WHOLE);
	CU_ASSERT_EQUAL(part(false, 2, 80, 80, false, 1000), PLAIN_WHOLE);
	CU_ASSERT_EQUAL(expired(PLAIN_WAIT_NS + 3), 1);
	CU_ASSERT(waits(false, 3, 80, 80, false, 0)); /* of nothing now */
	CU_ASSERT_EQUAL(expired(UINT64_MAX), PLAIN_MAX - 2);
	/* what takes 64 KiB each */
	for (uint32_t id = 1; id <= PLAIN_MAX; id++) {
		CU_ASSERT_EQUAL(part(true, id, 65000, 80, true, 0), PLAIN_NONE);
		n += plain_lost(plain);
	}
	CU_ASSERT(n > PLAIN_MAX - PLAIN_BYTES / 65536 - 2 &&
		  n < PLAIN_MAX - PLAIN_BYTES / 2 / 65536);
	CU_ASSERT_EQUAL(expired(UINT64_MAX), PLAIN_MAX - n);
}

static int with_ecn(bool v6, unsigned a, unsigned b)
{
	struct about x = {
		.v6 = v6, .proto = IPPROTO_UDP, .id = 5, .len = 80, .more = true, .ecn = a};

	CU_ASSERT_EQUAL(give(&x, 0), PLAIN_NONE);
	x.ecn = b;
	x.more = false;
	x.at = 80;
	if (give(&x, 0) != PLAIN_WHOLE)
		return -1;
	return v6 ? got[1] >> 4 & 3 : got[1] & 3;
}

/* RFC 3168, section 5.3 */
static void test_congestion(void)
{
	for (unsigned v6 = 0; v6 < 2; v6++) {
		CU_ASSERT_EQUAL(with_ecn(v6, 0, 0), 0);
		CU_ASSERT_EQUAL(with_ecn(v6, 2, 2), 2);
		CU_ASSERT_EQUAL(with_ecn(v6, 2, 3), 3);
		CU_ASSERT_EQUAL(with_ecn(v6, 3, 1), 3);
		CU_ASSERT_EQUAL(with_ecn(v6, 3, 0), -1);
		CU_ASSERT_EQUAL(with_ecn(v6, 0, 3), -1);
	}
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"options of IPv4", test_options4},
		{"extension headers of IPv6", test_extensions},
		{"fragments in any order", test_fragments},
		{"fragments that contradict each other", test_overlap},
		{"how much and how long", test_bounds},
		{"congestion experienced", test_congestion},
		CU_TEST_INFO_NULL,
	};
	int r;

	if (setup() < 0)
		return EXIT_FAILURE;
	r = unit_run("plain", tests);
	plain_free(plain);
	return r;
}
