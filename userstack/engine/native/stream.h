/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A piece of a byte stream, by sequence number: what was sent and not acknowledged, or received and
 * not read. A list of chunks of fixed size, each at a multiple of that size; a chunk exists once a
 * byte of it does. So bytes that come out of order are stored where they belong, a gap costs
 * nothing, and an empty stream has no memory. Which bytes are valid is the caller's to know.
 */
#ifndef DMM_USERSTACK_NATIVE_STREAM_H
#define DMM_USERSTACK_NATIVE_STREAM_H

#include <stdint.h>
#include <sys/uio.h>

#include "userstack/engine/native/pool.h"

#define STREAM_CHUNK 4096u

struct chunk {
	struct chunk *next;
	uint32_t seq; /* of data[0] */
	uint8_t data[STREAM_CHUNK];
};

struct stream {
	struct chunk *head, *tail;
	struct chunk *hint; /* where a byte was found last; NULL: begin at the head */
};

/* Store bytes. Returns how many: fewer if the pool has no chunk left. */
size_t stream_write(struct stream *s, struct pool *p, uint32_t seq, const void *data, size_t len);
/* Point at len bytes that were written. Returns the vectors used; *len is cut to what fits in n. */
unsigned stream_iov(struct stream *s, uint32_t seq, size_t *len, struct iovec *iov, unsigned n);
/* Bytes before seq are done. */
void stream_trim(struct stream *s, struct pool *p, uint32_t seq);
void stream_clear(struct stream *s, struct pool *p);

#endif
