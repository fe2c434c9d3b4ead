// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "userstack/engine/native/stream.h"

#define CHUNK_MASK (STREAM_CHUNK - 1)
#define NUMBERS (UINT32_MAX / STREAM_CHUNK) /* chunk numbers wrap with the sequence */

static struct chunk **stream_slot(struct stream *s, uint32_t number)
{
	struct chunk **ring = s->ring ? s->ring : s->few;

	return &ring[number & (s->size - 1)];
}

/* A ring of another size, with the same chunks. */
static bool stream_resize(struct stream *s, uint32_t size)
{
	struct chunk **ring = calloc(size, sizeof(*ring));
	uint32_t number;

	if (!ring)
		return false;
	for (uint32_t i = 0; i < s->size; i++) {
		number = s->first + i;
		ring[number & (size - 1)] = *stream_slot(s, number);
	}
	free(s->ring);
	s->ring = ring;
	s->size = size;
	return true;
}

/* Make room for `span` chunks from the first on. */
static bool stream_span(struct stream *s, uint32_t span)
{
	uint32_t size = MAX(s->size, STREAM_FEW);

	if (!s->size) {
		memset(s->few, 0, sizeof(s->few));
		s->size = STREAM_FEW;
	}
	while (size < span)
		size *= 2;
	return size == s->size || stream_resize(s, size);
}

/* The chunk that holds seq, made if it is not there. */
static struct chunk *stream_make(struct stream *s, struct pool *p, uint32_t base, uint32_t seq)
{
	uint32_t number = seq / STREAM_CHUNK;
	struct chunk **slot;

	if (!s->used)
		s->first = base / STREAM_CHUNK;
	if (!stream_span(s, ((number - s->first) & NUMBERS) + 1))
		return NULL;
	slot = stream_slot(s, number);
	if (!*slot) {
		*slot = pool_get(p);
		s->used += !!*slot;
	}
	return *slot;
}

size_t stream_write(struct stream *s, struct pool *p, uint32_t base, uint32_t seq, const void *data,
		    size_t len)
{
	size_t done = 0, n;
	struct chunk *c;

	for (; done < len; done += n, seq += (uint32_t)n) {
		c = stream_make(s, p, base, seq);
		if (!c)
			break;
		n = MIN(len - done, (size_t)(STREAM_CHUNK - (seq & CHUNK_MASK)));
		/* Not memcpy(): where gcc knows a bound it copies inline, slowly if not aligned. */
		memmove(c->data + (seq & CHUNK_MASK), (const uint8_t *)data + done, n);
	}
	return done;
}

unsigned stream_reserve(struct stream *s, struct pool *p, uint32_t base, uint32_t seq, size_t len,
			struct iovec *iov, unsigned n)
{
	unsigned i = 0;
	struct chunk *c;
	size_t take;

	for (; len && i < n; i++, len -= take, seq += (uint32_t)take) {
		c = stream_make(s, p, base, seq);
		if (!c)
			break;
		take = MIN(len, (size_t)(STREAM_CHUNK - (seq & CHUNK_MASK)));
		iov[i] = (struct iovec){c->data + (seq & CHUNK_MASK), take};
	}
	return i;
}

unsigned stream_iov(const struct stream *s, uint32_t seq, size_t *len, struct iovec *iov,
		    unsigned n)
{
	struct chunk *const *ring = s->ring ? s->ring : s->few;
	const struct chunk *c;
	size_t left = *len, take;
	unsigned i = 0;

	for (; left && i < n; i++) {
		c = ring[seq / STREAM_CHUNK & (s->size - 1)];
		take = MIN(left, (size_t)(STREAM_CHUNK - (seq & CHUNK_MASK)));
		iov[i] = (struct iovec){(void *)(c->data + (seq & CHUNK_MASK)), take};
		seq += (uint32_t)take;
		left -= take;
	}
	*len -= left;
	return i;
}

static void stream_drop(struct stream *s, struct pool *p, uint32_t number)
{
	struct chunk **slot = stream_slot(s, number);

	if (!*slot)
		return;
	pool_put(p, *slot);
	*slot = NULL;
	s->used--;
}

void stream_trim(struct stream *s, struct pool *p, uint32_t seq)
{
	for (; s->used && s->first != seq / STREAM_CHUNK; s->first = (s->first + 1) & NUMBERS)
		stream_drop(s, p, s->first);
}

void stream_empty(struct stream *s, struct pool *p)
{
	for (; s->used; s->first++)
		stream_drop(s, p, s->first);
	if (s->ring && s->size > 2 * STREAM_FEW && stream_resize(s, s->size / 2))
		return;
	free(s->ring);
	s->ring = NULL;
	s->size = 0;
}

void stream_fini(struct stream *s, struct pool *p)
{
	stream_empty(s, p);
	free(s->ring);
	s->ring = NULL;
	s->size = 0;
}
