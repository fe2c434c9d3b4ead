/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain packets out of those that are not: without IPv4 options and IPv6 extension headers, and
 * whole. Untrusted input; memory is bounded; nothing but this keeps a copy.
 */
#ifndef DMM_USERSTACK_PLAIN_H
#define DMM_USERSTACK_PLAIN_H

#include <stddef.h>
#include <stdint.h>

#define PLAIN_MAX 256		     /* packets that wait for fragments, */
#define PLAIN_BYTES (4u << 20)	     /* in so much memory, */
#define PLAIN_WAIT_NS 30000000000ULL /* and so long */

struct plain;

enum plain_is {
	PLAIN_PACKET, /* *ret is one */
	PLAIN_WHOLE,  /* of fragments, the last of which this was */
	PLAIN_NONE,   /* a fragment: the others are to come, or it was given up */
	PLAIN_BAD,    /* malformed, or with options that nobody is to act on unasked: a route
			 that the sender prescribes (LSRR, SSRR), and what is unknown and says of
			 itself that whoever does not know it shall drop the packet (RFC 8200, 4.2) */
};

/* NULL: no memory. */
struct plain *plain_new(void);
void plain_free(struct plain *p);

/* An IP packet for which frame_parse_ip() says FRAME_ODD. *ret stays valid until the next call; its
 * IPv4 header has a checksum. What the fragments say of congestion is kept (RFC 3168, 5.3). */
enum plain_is plain_make(struct plain *p, const uint8_t *pkt, size_t len, uint64_t now,
			 const uint8_t **ret, size_t *ret_len);

/* Forget those that have waited too long. */
void plain_expire(struct plain *p, uint64_t now);

/* Since it was asked last: fragments that contradict others or come after some that did, and
 * packets given up that waited too long, or as there was no room. */
unsigned plain_lost(struct plain *p);

#endif
