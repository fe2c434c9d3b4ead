// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "userstack/net/route.h"

void route_table_init(struct route_table *t)
{
	*t = (struct route_table){0};
}

void route_table_fini(struct route_table *t)
{
	free(t->route);
	route_table_init(t);
}

int route_table_add(struct route_table *t, const struct route *r)
{
	if (t->n == t->room) {
		unsigned room = MAX(64u, t->room * 2);
		struct route *grown = reallocarray(t->route, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		t->route = grown;
		t->room = room;
	}
	t->route[t->n++] = *r;
	return 0;
}

/* < 0: a's prefix stands before b's; 0: they are the same prefix. */
static int prefix_cmp(const struct route *a, const struct route *b)
{
	if (a->plen != b->plen)
		return a->plen > b->plen ? -1 : 1;
	return memcmp(a->dst, b->dst, 16);
}

static int route_cmp(const void *pa, const void *pb)
{
	const struct route *a = pa, *b = pb;
	int r = prefix_cmp(a, b);

	if (r)
		return r;
	if (a->local_table != b->local_table)
		return a->local_table ? -1 : 1;
	if (a->metric != b->metric)
		return a->metric < b->metric ? -1 : 1;
	/* Equal IPv6 routes through several interfaces, fe80::/64 above all: ours. */
	return (b->type == DMM_ROUTE_VIA) - (a->type == DMM_ROUTE_VIA);
}

void route_table_seal(struct route_table *t)
{
	unsigned k = 0;

	if (t->n)
		qsort(t->route, t->n, sizeof(*t->route), route_cmp);
	memset(t->count, 0, sizeof(t->count));
	for (unsigned i = 0; i < t->n; i++) {
		if (k && !prefix_cmp(&t->route[k - 1], &t->route[i]))
			continue;
		t->route[k] = t->route[i];
		if (!t->count[t->route[k].plen]++)
			t->start[t->route[k].plen] = k;
		k++;
	}
	t->n = k;
}

static void mask_ip(dmm_u8 ret[16], const dmm_u8 ip[16], unsigned plen)
{
	unsigned bytes = plen / 8;

	memset(ret, 0, 16);
	memcpy(ret, ip, bytes);
	if (plen % 8)
		ret[bytes] = (dmm_u8)(ip[bytes] & (0xff00 >> (plen % 8)));
}

static const struct route *bucket_find(const struct route_table *t, unsigned plen,
				       const dmm_u8 ip[16])
{
	unsigned lo = t->start[plen], hi = lo + t->count[plen];
	dmm_u8 key[16];

	mask_ip(key, ip, plen);
	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		int r = memcmp(key, t->route[mid].dst, 16);

		if (!r)
			return &t->route[mid];
		if (r < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

const struct route *route_lookup(const struct route_table *t, const dmm_u8 ip[16])
{
	bool v4 = addr_is_v4(ip);
	const struct route *r;

	for (int plen = 128; plen >= (v4 ? 96 : 0); plen--) {
		if (!t->count[plen])
			continue;
		r = bucket_find(t, (unsigned)plen, ip);
		if (r && r->v4 == v4)
			return r;
	}
	return NULL;
}

unsigned route_table_place(const struct route_table *t, const struct route *r)
{
	unsigned lo = 0, hi = t->n;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (prefix_cmp(&t->route[mid], r) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* In all that is told of a route: its type, and what the source address follows from. */
static bool route_same(const struct route *a, const struct route *b)
{
	return a->type == b->type && a->has_source == b->has_source &&
	       a->has_gateway == b->has_gateway && !memcmp(a->source, b->source, 16) &&
	       !memcmp(a->gateway, b->gateway, 16);
}

void route_table_diff(const struct route_table *a, const struct route_table *b,
		      void (*cb)(void *ctx, const struct route *r, bool add), void *ctx)
{
	unsigned i = 0, j = 0;

	while (i < a->n || j < b->n) {
		const struct route *x = i < a->n ? &a->route[i] : NULL;
		const struct route *y = j < b->n ? &b->route[j] : NULL;
		int r = !x ? 1 : !y ? -1 : prefix_cmp(x, y);

		if (r < 0)
			cb(ctx, x, false);
		else if (r > 0 || !route_same(x, y))
			cb(ctx, y, true);
		i += r <= 0;
		j += r >= 0;
	}
}
