/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A piece of a byte stream, by sequence number: what was sent and not acknowledged, or received and
 * not read. Chunks of fixed size, each at a multiple of that size, found by their number in a ring;
 * a chunk exists once a byte of it does. So bytes that come out of order are stored where they
 * belong, a gap costs nothing, an empty stream has no memory, and no look-up depends on the window.
 * Which bytes are valid is the caller's to know.
 */
#ifndef DMM_USERSTACK_NATIVE_STREAM_H
#define DMM_USERSTACK_NATIVE_STREAM_H

#include <stdint.h>
#include <sys/uio.h>

#include "userstack/engine/native/pool.h"

#define STREAM_CHUNK 4096u
#define STREAM_FEW 4u

struct chunk {
	uint8_t data[STREAM_CHUNK];
};

struct stream {
	struct chunk **ring; /* NULL: `few` is the ring */
	uint32_t size;	     /* of it: a power of two */
	uint32_t used;	     /* chunks that exist */
	uint32_t first;	     /* number of the first: its sequence number / STREAM_CHUNK */
	struct chunk *few[STREAM_FEW];
};

/* Store bytes from seq on. None will be stored before base, which stays or grows until the stream
 * is empty. Returns how many: fewer if memory is short. */
size_t stream_write(struct stream *s, struct pool *p, uint32_t base, uint32_t seq, const void *data,
		    size_t len);
/* Point at room for len bytes from seq on, as for stream_write(), to be filled by the caller. What
 * is made for it and not filled stays until the stream is empty. Returns the vectors used. */
unsigned stream_reserve(struct stream *s, struct pool *p, uint32_t base, uint32_t seq, size_t len,
			struct iovec *iov, unsigned n);
/* Point at len bytes that were written. Returns the vectors used; *len is cut to what fits in n. */
unsigned stream_iov(const struct stream *s, uint32_t seq, size_t *len, struct iovec *iov,
		    unsigned n);
/* Bytes before seq are done. */
void stream_trim(struct stream *s, struct pool *p, uint32_t seq);
/* All are. A ring that a long stream needed shrinks. */
void stream_empty(struct stream *s, struct pool *p);
void stream_fini(struct stream *s, struct pool *p);

#endif
