// SPDX-License-Identifier: Apache-2.0
/*
 * Fragments are put together as RFC 791 and RFC 8200 (4.5) say. Of those that overlap, none is
 * taken (RFC 5722; of IPv4, too): all that comes of such a packet is dropped until its time is
 * over. What is there already, byte by byte, is no overlap.
 */
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "lib/base/util.h"
#include "userstack/net/frame.h"
#include "userstack/net/plain.h"

#define HEADER_MAX 40u /* of a plain packet */
#define DATA_MAX 65535u
#define UNIT 8u /* bytes: fragments begin at a multiple of it */

/* Where what matters of a packet is. */
struct parts {
	bool v6, fragment, more;
	uint8_t proto;
	uint32_t id;
	size_t at, len; /* what is behind all headers of IP */
	size_t offset;	/* of that in the whole packet */
};

/* Whose fragment it is. */
struct key {
	uint8_t addrs[32];
	uint32_t id;
	uint8_t proto; /* 0 of IPv6: there the first fragment alone says it */
	bool v6;
};

struct part_packet {
	struct key key;
	uint64_t begun;
	uint8_t *buf;	     /* header and data; NULL: fragments contradict each other */
	size_t room;	     /* bytes of it */
	size_t got, end;     /* bytes of data: that are there; behind the last of them */
	size_t total;	     /* 0: not known yet */
	uint8_t proto, seen; /* bits 1 << ECN */
	uint64_t units[DATA_MAX / UNIT / 64 + 1];
	TAILQ_ENTRY(part_packet) entry;
};

struct plain {
	TAILQ_HEAD(, part_packet) waiting; /* the oldest first */
	unsigned n, lost;
	size_t bytes;
	uint8_t *out; /* what was made last; of PLAIN_PACKET with all the room there can be */
	size_t out_room;
};

/* ---- headers ---- */

/* Options between two headers of IPv4. */
static bool options4(const uint8_t *p, size_t len)
{
	for (size_t i = 0, n; i < len && p[i] != IPOPT_EOL; i += n) {
		n = p[i] == IPOPT_NOP ? 1 : i + 1 < len ? p[i + 1] : 0;
		if (!n || (p[i] != IPOPT_NOP && n < 2) || n > len - i)
			return false;
		if (p[i] == IPOPT_LSRR || p[i] == IPOPT_SSRR)
			return false;
	}
	return true;
}

static bool parts4(const uint8_t *p, size_t len, struct parts *ret)
{
	size_t header = (size_t)(p[0] & 15) * 4;
	uint16_t frag = be16(p + 6);

	if (header < 20 || header > len || !options4(p + 20, header - 20))
		return false;
	*ret = (struct parts){
		.fragment = frag & 0x3fff,
		.more = frag & 0x2000,
		.proto = p[9],
		.id = be16(p + 4),
		.at = header,
		.len = len - header,
		.offset = (frag & 0x1fffu) * UNIT,
	};
	return true;
}

/* Options in an extension header of IPv6: those that we do not know, but for padding, may be
 * skipped if they say so. */
static bool options6(const uint8_t *p, size_t len)
{
	for (size_t i = 0, n; i < len; i += n) {
		n = p[i] == 0 ? 1 : i + 1 < len ? p[i + 1] + 2u : 0;
		if (!n || n > len - i || p[i] & 0xc0)
			return false;
	}
	return true;
}

static bool extension6(const uint8_t *p, uint8_t type, size_t len)
{
	return type == IPPROTO_ROUTING ? p[3] == 0 : options6(p + 2, len - 2);
}

static bool parts6(const uint8_t *p, size_t len, struct parts *ret)
{
	uint8_t next = p[6];
	size_t at = 40, n;

	*ret = (struct parts){.v6 = true};
	for (; frame_is_extension(next); at += n) {
		if (len - at < UNIT || (next == IPPROTO_HOPOPTS && at != 40))
			return false;
		n = next == IPPROTO_FRAGMENT ? UNIT : (p[at + 1] + 1u) * UNIT;
		if (n > len - at || (next != IPPROTO_FRAGMENT && !extension6(p + at, next, n)))
			return false;
		if (next == IPPROTO_FRAGMENT) {
			ret->fragment = be16(p + at + 2) & 0xfff9;
			ret->more = be16(p + at + 2) & 1;
			ret->offset = be16(p + at + 2) & 0xfff8u;
			ret->id = be32(p + at + 4);
		}
		next = p[at];
		if (ret->fragment) { /* what is behind is data of the whole packet */
			at += n;
			break;
		}
	}
	ret->proto = next;
	ret->at = at;
	ret->len = len - at;
	return true;
}

static unsigned ecn_of(const uint8_t *p)
{
	return p[0] >> 4 == 6 ? p[1] >> 4 & 3 : p[1] & 3;
}

/* The header of a packet becomes that of a plain one with so much data, which is behind it. */
static void header_make(uint8_t *p, uint8_t proto, size_t len)
{
	uint16_t sum;

	if (p[0] >> 4 == 6) {
		put16(p + 4, (uint32_t)len);
		p[6] = proto;
		return;
	}
	p[0] = 0x45;
	put16(p + 2, (uint32_t)(20 + len));
	put16(p + 6, be16(p + 6) & 0x4000);
	put16(p + 10, 0);
	sum = (uint16_t)~frame_fold(frame_sum(p, 20, 0));
	memcpy(p + 10, &sum, 2);
}

/* ---- fragments ---- */

static struct key key_of(const uint8_t *pkt, const struct parts *a)
{
	struct key k = {.id = a->id, .proto = a->v6 ? 0 : a->proto, .v6 = a->v6};

	memcpy(k.addrs, pkt + (a->v6 ? 8 : 12), a->v6 ? 32 : 8);
	return k;
}

static bool same(const struct key *a, const struct key *b)
{
	return a->id == b->id && a->proto == b->proto && a->v6 == b->v6 &&
	       !memcmp(a->addrs, b->addrs, sizeof(a->addrs));
}

static void part_free(struct plain *p, struct part_packet *w)
{
	TAILQ_REMOVE(&p->waiting, w, entry);
	p->n--;
	p->bytes -= sizeof(*w) + w->room;
	free(w->buf);
	free(w);
}

static void part_give_up(struct plain *p, struct part_packet *w)
{
	p->lost += w->buf != NULL;
	part_free(p, w);
}

/* Its time is not over for what is still to come. */
static void part_spoil(struct plain *p, struct part_packet *w)
{
	p->lost++;
	p->bytes -= w->room;
	free(w->buf);
	w->buf = NULL;
	w->room = 0;
}

/* NULL: no memory. */
static struct part_packet *part_get(struct plain *p, const struct key *k, uint64_t now)
{
	struct part_packet *w = TAILQ_FIRST(&p->waiting);

	while (w && !same(&w->key, k))
		w = TAILQ_NEXT(w, entry);
	if (w)
		return w;
	w = calloc(1, sizeof(*w));
	if (w)
		w->buf = malloc(HEADER_MAX);
	if (!w || !w->buf) {
		free(w);
		return NULL;
	}
	w->key = *k;
	w->begun = now;
	w->room = HEADER_MAX;
	TAILQ_INSERT_TAIL(&p->waiting, w, entry);
	p->n++;
	p->bytes += sizeof(*w) + w->room;
	return w;
}

/* For so many bytes of data. */
static bool part_grow(struct plain *p, struct part_packet *w, size_t end)
{
	size_t room = w->room;
	uint8_t *buf;

	while (room < HEADER_MAX + end)
		room *= 2;
	if (room == w->room)
		return true;
	buf = realloc(w->buf, room);
	if (!buf)
		return false;
	w->buf = buf;
	p->bytes += room - w->room;
	w->room = room;
	return true;
}

/* The oldest give way, but for this one. */
static void make_room(struct plain *p, const struct part_packet *but)
{
	struct part_packet *w, *next;

	for (w = TAILQ_FIRST(&p->waiting); w && (p->n > PLAIN_MAX || p->bytes > PLAIN_BYTES);
	     w = next) {
		next = TAILQ_NEXT(w, entry);
		if (w != but)
			part_give_up(p, w);
	}
}

/* How many of the units from first to last are there; they are from now on. */
static size_t units_take(struct part_packet *w, size_t first, size_t last)
{
	size_t had = 0;

	for (size_t u = first; u <= last; u++) {
		had += w->units[u / 64] >> (u % 64) & 1;
		w->units[u / 64] |= 1ULL << (u % 64);
	}
	return had;
}

/* False: it contradicts what is there. */
static bool part_add(struct part_packet *w, const uint8_t *data, const struct parts *a)
{
	size_t end = a->offset + a->len, units = (end - 1) / UNIT - a->offset / UNIT + 1, had;
	uint8_t *to = w->buf + HEADER_MAX + a->offset;

	if (a->more ? w->total && end > w->total : (w->total && end != w->total) || end < w->end)
		return false;
	had = units_take(w, a->offset / UNIT, (end - 1) / UNIT);
	if (had && (had != units || memcmp(to, data, a->len)))
		return false;
	if (!had) {
		memcpy(to, data, a->len);
		w->got += a->len;
	}
	w->end = MAX(w->end, end);
	if (!a->more)
		w->total = end;
	return true;
}

/* All of it is there. */
static enum plain_is part_done(struct plain *p, struct part_packet *w, const uint8_t **ret,
			       size_t *ret_len)
{
	size_t header = w->key.v6 ? 40 : 20;
	uint8_t *pkt;

	/* congestion, told to a sender that did not ask for it: nobody knows what that means */
	if (w->seen & 1 << 3 && w->seen & 1 << 0) {
		part_give_up(p, w);
		return PLAIN_NONE;
	}
	free(p->out);
	p->out = w->buf;
	p->out_room = w->room;
	w->buf = NULL;
	pkt = p->out + HEADER_MAX - header;
	if (w->seen & 1 << 3)
		pkt[1] |= w->key.v6 ? 0x30 : 3;
	header_make(pkt, w->proto, w->total);
	*ret = pkt;
	*ret_len = header + w->total;
	part_free(p, w);
	return PLAIN_WHOLE;
}

static enum plain_is fragment(struct plain *p, const uint8_t *pkt, const struct parts *a,
			      uint64_t now, const uint8_t **ret, size_t *ret_len)
{
	size_t header = a->v6 ? 40 : 20;
	const struct key k = key_of(pkt, a);
	struct part_packet *w;

	if (!a->len || (a->more && a->len % UNIT) ||
	    a->offset + a->len > DATA_MAX - (a->v6 ? 0 : header))
		return PLAIN_BAD;
	w = part_get(p, &k, now);
	if (!w || !w->buf) {
		p->lost++;
		return PLAIN_NONE;
	}
	if (!part_grow(p, w, a->offset + a->len) || !part_add(w, pkt + a->at, a)) {
		part_spoil(p, w);
		return PLAIN_NONE;
	}
	w->seen |= (uint8_t)(1u << ecn_of(pkt));
	if (!a->offset) {
		memcpy(w->buf + HEADER_MAX - header, pkt, header);
		w->proto = a->proto;
	}
	if (w->got == w->total) /* nothing overlaps: the first is there, too */
		return part_done(p, w, ret, ret_len);
	make_room(p, w);
	return PLAIN_NONE;
}

/* ---- for all ---- */

struct plain *plain_new(void)
{
	struct plain *p = calloc(1, sizeof(*p));

	if (p)
		TAILQ_INIT(&p->waiting);
	return p;
}

void plain_free(struct plain *p)
{
	if (!p)
		return;
	while (!TAILQ_EMPTY(&p->waiting))
		part_free(p, TAILQ_FIRST(&p->waiting));
	free(p->out);
	free(p);
}

enum plain_is plain_make(struct plain *p, const uint8_t *pkt, size_t len, uint64_t now,
			 const uint8_t **ret, size_t *ret_len)
{
	size_t header = pkt[0] >> 4 == 6 ? 40 : 20;
	struct parts a;

	if (len < header || !(header == 40 ? parts6 : parts4)(pkt, len, &a))
		return PLAIN_BAD;
	if (a.fragment)
		return fragment(p, pkt, &a, now, ret, ret_len);
	if (p->out_room < HEADER_MAX + DATA_MAX) {
		free(p->out);
		p->out = malloc(HEADER_MAX + DATA_MAX);
		p->out_room = p->out ? HEADER_MAX + DATA_MAX : 0;
	}
	if (!p->out)
		return PLAIN_BAD;
	memcpy(p->out, pkt, header);
	memcpy(p->out + header, pkt + a.at, a.len);
	header_make(p->out, a.proto, a.len);
	*ret = p->out;
	*ret_len = header + a.len;
	return PLAIN_PACKET;
}

void plain_expire(struct plain *p, uint64_t now)
{
	struct part_packet *w;

	while ((w = TAILQ_FIRST(&p->waiting)) && now - w->begun >= PLAIN_WAIT_NS)
		part_give_up(p, w);
}

unsigned plain_lost(struct plain *p)
{
	unsigned lost = p->lost;

	p->lost = 0;
	return lost;
}
