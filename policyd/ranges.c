// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>

#include "policyd/ranges.h"

static int by_lo(const void *x, const void *y)
{
	const struct range *a = x, *b = y;

	return a->lo < b->lo ? -1 : a->lo > b->lo;
}

void ranges_settle(struct ranges *r)
{
	size_t n = 0;

	if (r->n > 1)
		qsort(r->list, r->n, sizeof(r->list[0]), by_lo);
	for (size_t i = 0; i < r->n; i++) {
		struct range *last = n ? &r->list[n - 1] : NULL;

		/* The end of all numbers is not to wrap around. */
		if (last && (last->hi + 1 == 0 || r->list[i].lo <= last->hi + 1)) {
			if (r->list[i].hi > last->hi)
				last->hi = r->list[i].hi;
		} else {
			r->list[n++] = r->list[i];
		}
	}
	r->n = n;
}

const struct range *ranges_find(const struct ranges *r, u128 at)
{
	size_t lo = 0, hi = r->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (r->list[mid].hi < at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < r->n && r->list[lo].lo <= at ? &r->list[lo] : NULL;
}

bool ranges_meet(const struct ranges *a, const struct ranges *b)
{
	for (size_t i = 0, k = 0; i < a->n && k < b->n;) {
		if (a->list[i].hi < b->list[k].lo)
			i++;
		else if (b->list[k].hi < a->list[i].lo)
			k++;
		else
			return true;
	}
	return false;
}

u128 range_prefix(u128 at, unsigned len)
{
	return len ? at >> (128 - len) << (128 - len) : 0;
}

unsigned range_block(u128 lo, u128 hi)
{
	unsigned len = 128;

	/* One bit less, as long as that begins here and ends inside. */
	while (len > 0 && range_prefix(lo, len - 1) == lo &&
	       (lo | (((u128)1 << (128 - len)) | (((u128)1 << (128 - len)) - 1))) <= hi)
		len--;
	return len;
}
