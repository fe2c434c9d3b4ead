// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "lib/base/util.h"
#include "userstack/engine/native/seq.h"
#include "userstack/engine/native/stream.h"

#define CHUNK_MASK (STREAM_CHUNK - 1)

/* The last chunk that begins at seq or before. Most look-ups are at the end, or where the last one
 * was. */
static struct chunk *chunk_floor(const struct stream *s, uint32_t seq)
{
	struct chunk *at, *floor = NULL;

	if (s->tail && seq_le(s->tail->seq, seq))
		return s->tail;
	at = s->hint && seq_le(s->hint->seq, seq) ? s->hint : s->head;
	for (; at && seq_le(at->seq, seq); at = at->next)
		floor = at;
	return floor;
}

/* The chunk that holds seq, made if it is not there. */
static struct chunk *chunk_make(struct stream *s, struct pool *p, uint32_t seq)
{
	struct chunk *floor = chunk_floor(s, seq), *c;

	if (floor && seq - floor->seq < STREAM_CHUNK)
		return floor;
	c = pool_get(p);
	if (!c)
		return NULL;
	c->seq = seq & ~CHUNK_MASK;
	c->next = floor ? floor->next : s->head;
	if (floor)
		floor->next = c;
	else
		s->head = c;
	if (!c->next)
		s->tail = c;
	return c;
}

size_t stream_write(struct stream *s, struct pool *p, uint32_t seq, const void *data, size_t len)
{
	size_t done = 0, n;
	struct chunk *c;

	for (; done < len; done += n, seq += (uint32_t)n) {
		c = chunk_make(s, p, seq);
		if (!c)
			break;
		n = MIN(len - done, (size_t)(STREAM_CHUNK - (seq & CHUNK_MASK)));
		memcpy(c->data + (seq & CHUNK_MASK), (const uint8_t *)data + done, n);
		s->hint = c;
	}
	return done;
}

unsigned stream_iov(struct stream *s, uint32_t seq, size_t *len, struct iovec *iov, unsigned n)
{
	struct chunk *c = chunk_floor(s, seq);
	size_t left = *len, take;
	unsigned i = 0;

	for (; c && left && i < n && seq - c->seq < STREAM_CHUNK; c = c->next) {
		take = MIN(left, (size_t)(STREAM_CHUNK - (seq & CHUNK_MASK)));
		iov[i++] = (struct iovec){c->data + (seq & CHUNK_MASK), take};
		seq += (uint32_t)take;
		left -= take;
		s->hint = c;
	}
	*len -= left;
	return i;
}

void stream_trim(struct stream *s, struct pool *p, uint32_t seq)
{
	struct chunk *c;

	while ((c = s->head) && seq_le(c->seq + STREAM_CHUNK, seq)) {
		s->head = c->next;
		if (s->hint == c)
			s->hint = NULL;
		pool_put(p, c);
	}
	if (!s->head)
		s->tail = NULL;
}

void stream_clear(struct stream *s, struct pool *p)
{
	struct chunk *c;

	while ((c = s->head)) {
		s->head = c->next;
		pool_put(p, c);
	}
	*s = (struct stream){0};
}
