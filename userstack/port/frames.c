// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bpf/dmm_abi.h"
#include "lib/base/util.h"
#include "userstack/net/frame.h"
#include "userstack/port/frames.h"

#define RELEASE_AFTER (DMM_FRAMES_SIZE / 16) /* the writer looks at what was released each time */

/* Records begin with BPF_RINGBUF_HDR_SZ bytes, of which the first four are the length and two bits,
 * and are at multiples of 8. Positions grow for ever. The data is mapped twice in a row. */
struct frames {
	uint64_t *consumer;
	const uint64_t *producer;
	const uint8_t *data;
	uint32_t *asleep;
	uint64_t at;		     /* of the next record to read */
	uint64_t most;		     /* that was there to read, since frames_most() */
	uint8_t part[DMM_FRAME_MAX]; /* of a frame that is several */
};

int frames_open(struct frames **ret, const struct port_ring *ring)
{
	struct frames *f = calloc(1, sizeof(*f));
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *p;
	int r;

	if (!f)
		return -ENOMEM;
	f->asleep = ring->asleep;
	p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	if (p == MAP_FAILED)
		goto fail;
	f->consumer = p;
	p = mmap(NULL, page + 2 * DMM_FRAMES_SIZE, PROT_READ, MAP_SHARED, ring->fd, (off_t)page);
	if (p == MAP_FAILED)
		goto fail;
	f->producer = p;
	f->data = (const uint8_t *)p + page;
	f->at = *f->consumer;
	*ret = f;
	return 0;
fail:
	r = -errno;
	frames_close(f);
	return r;
}

void frames_close(struct frames *f)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (!f)
		return;
	if (f->consumer)
		munmap(f->consumer, page);
	if (f->producer)
		munmap((void *)f->producer, page + 2 * DMM_FRAMES_SIZE);
	free(f);
}

static void frames_release(struct frames *f)
{
	if (f->at != *f->consumer)
		__atomic_store_n(f->consumer, f->at, __ATOMIC_RELEASE);
}

/* The headers in part are those of all; make them those of a datagram with len bytes. */
static void frames_headers(uint8_t *part, const struct frame *h, size_t len)
{
	uint8_t *ip = part + h->ip_off, *udp = part + h->l4_off;
	size_t udp_len = 8 + len;
	uint16_t sum;

	put16(udp + 4, (uint32_t)udp_len);
	sum = frame_fold(frame_pseudo(h->remote.ip, h->local.ip, IPPROTO_UDP, udp_len));
	memcpy(udp + 6, &sum, 2); /* the sender has left it to the device */
	if (h->v6) {
		put16(ip + 4, (uint32_t)udp_len);
		return;
	}
	put16(ip + 2, (uint32_t)(h->l4_off - h->ip_off + udp_len));
	put16(ip + 10, 0);
	sum = (uint16_t)~frame_fold(frame_sum(ip, 20, 0));
	memcpy(ip + 10, &sum, 2);
}

static void frames_give(struct frames *f, const struct dmm_frame *frame,
			const struct port_sink *sink)
{
	size_t headers, end, n;
	struct frame h;

	enum frame_kind kind = frame->segment ? frame_parse(frame->data, frame->len, &h)
					      : FRAME_TCP;

	if (kind != FRAME_UDP) { /* several datagrams behind IP options: malformed, for all we do */
		bool several = kind == FRAME_ODD && h.proto == IPPROTO_UDP;

		sink->frame(sink->ctx, frame->data, several ? FRAME_ETH_LEN : frame->len);
		return;
	}
	headers = h.l4_off + 8;
	end = h.l4_off + h.l4_len;
	memcpy(f->part, frame->data, headers);
	for (size_t at = headers; at < end; at += n) {
		n = MIN(end - at, (size_t)frame->segment);
		memcpy(f->part + headers, frame->data + at, n);
		frames_headers(f->part, &h, n);
		sink->frame(sink->ctx, f->part, headers + n);
	}
}

/* A place in the ring, behind which `end` is. */
struct cursor {
	uint64_t at;
	unsigned n; /* frames before it, of this batch */
};

/* The next record. False: it is not written yet. *ret NULL: it is none. */
static bool frames_next(const struct frames *f, struct cursor *c, const struct dmm_frame **ret)
{
	const uint8_t *record = f->data + c->at % DMM_FRAMES_SIZE;
	uint32_t len = __atomic_load_n((const uint32_t *)record, __ATOMIC_ACQUIRE);

	if (len & BPF_RINGBUF_BUSY_BIT)
		return false;
	*ret = NULL;
	if (!(len & BPF_RINGBUF_DISCARD_BIT)) {
		*ret = (const struct dmm_frame *)(record + BPF_RINGBUF_HDR_SZ);
		c->n++;
	}
	len &= ~BPF_RINGBUF_DISCARD_BIT;
	c->at += (len + BPF_RINGBUF_HDR_SZ + 7) & ~7u;
	return true;
}

/* Tell of those that have their turn soon. */
static void frames_soon(const struct frames *f, struct cursor *soon, uint64_t end, unsigned until,
			const struct port_sink *sink)
{
	const struct dmm_frame *frame;

	while (soon->n < until && soon->at != end && frames_next(f, soon, &frame))
		if (frame)
			sink->soon(sink->ctx, frame->data, frame->len);
}

unsigned frames_rx(struct frames *f, unsigned budget, const struct port_sink *sink)
{
	uint64_t end = __atomic_load_n(f->producer, __ATOMIC_ACQUIRE);
	struct cursor turn = {.at = f->at}, soon = turn;
	const struct dmm_frame *frame;

	f->most = MAX(f->most, end - f->at);
	while (turn.n < budget && turn.at != end) {
		if (sink->soon)
			frames_soon(f, &soon, end, MIN(turn.n + PORT_AHEAD, budget), sink);
		if (!frames_next(f, &turn, &frame))
			break;
		if (frame)
			frames_give(f, frame, sink);
		f->at = turn.at;
		if (f->at - *f->consumer >= RELEASE_AFTER)
			frames_release(f);
	}
	frames_release(f);
	return turn.n;
}

uint64_t frames_most(struct frames *f)
{
	uint64_t most = f->most;

	f->most = 0;
	return most;
}

bool frames_sleep(struct frames *f, bool sleep)
{
	__atomic_store_n(f->asleep, sleep, __ATOMIC_SEQ_CST);
	return __atomic_load_n(f->producer, __ATOMIC_SEQ_CST) == f->at;
}
