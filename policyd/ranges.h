/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of numbers of up to 128 bits, as ranges: addresses, ports, users, names. */
#ifndef DMM_POLICYD_RANGES_H
#define DMM_POLICYD_RANGES_H

#include <stdbool.h>
#include <stddef.h>

typedef unsigned __int128 u128;

struct range {
	u128 lo, hi; /* inclusive */
};
struct ranges {
	struct range *list; /* after ranges_settle(): rising, none touches the next */
	size_t n;
};

/* Sort, and join what overlaps or touches. */
void ranges_settle(struct ranges *r);

/* The range that holds the number, NULL: none. */
const struct range *ranges_find(const struct ranges *r, u128 at);

/* Do they have a number in common? Both are settled. */
bool ranges_meet(const struct ranges *a, const struct ranges *b);

/* The largest block of 2^(128 - len) numbers that begins at lo, is aligned to its size and ends at
 * hi at the latest: what a prefix of len bits is. */
unsigned range_block(u128 lo, u128 hi);
/* at without the bits beyond len. */
u128 range_prefix(u128 at, unsigned len);

#endif
