// SPDX-License-Identifier: Apache-2.0
/* What the host asks of a connection. */
#include <errno.h>
#include <string.h>

#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

#define TUNE_RTT_MIN (MS / 4) /* shorter ones are lost in the time that the host takes */

static size_t send_free(const struct engine_conn *c)
{
	uint32_t queued = c->snd_end - c->snd_una;

	return queued < c->snd_buf ? c->snd_buf - queued : 0;
}

/* Crumbs are not worth a call. It is what a host that has something to send asks first. */
size_t conn_room(struct engine_conn *c)
{
	size_t n;

	conn_prefetch(c);
	if (!conn_synchronized(c) || c->fin_queued)
		return 0;
	n = send_free(c);
	if (n < c->snd_buf / 4) {
		c->want_room = true;
		return 0;
	}
	return n;
}

static ssize_t conn_append(struct engine_conn *c, const void *data, size_t len)
{
	size_t n;

	if (c->fin_queued)
		return -EPIPE;
	if (!conn_synchronized(c))
		return -ENOTCONN;
	if (c->rate)
		rate_check(c);
	n = stream_write(&c->tx, &c->e->chunks, c->snd_una, c->snd_end, data,
			 MIN(len, send_free(c)));
	c->snd_end += (uint32_t)n;
	if (n < len)
		c->want_room = true;
	return (ssize_t)n;
}

ssize_t conn_send(struct engine_conn *c, const void *data, size_t len)
{
	ssize_t n = conn_append(c, data, len);

	if (n > 0)
		output_conn(c);
	return n;
}

unsigned conn_reserve(struct engine_conn *c, size_t len, struct iovec *iov, unsigned n)
{
	if (!conn_synchronized(c) || c->fin_queued)
		return 0;
	if (c->rate)
		rate_check(c);
	return stream_reserve(&c->tx, &c->e->chunks, c->snd_una, c->snd_end, MIN(len, send_free(c)),
			      iov, n);
}

void conn_commit(struct engine_conn *c, size_t len)
{
	c->snd_end += (uint32_t)len;
	if (len)
		output_conn(c);
	else if (c->snd_una == c->snd_end)
		stream_empty(&c->tx, &c->e->chunks);
}

ssize_t conn_send_urgent(struct engine_conn *c, const void *byte)
{
	ssize_t n = conn_append(c, byte, 1);

	if (n == 1) {
		c->snd_up = c->snd_end;
		c->urgent_out = true;
		output_conn(c);
	}
	return n;
}

unsigned conn_peek(struct engine_conn *c, struct iovec *iov, unsigned n)
{
	size_t len = conn_unread(c);

	return stream_iov(&c->rx, c->rcv_read, &len, iov, n);
}

/*
 * Dynamic right-sizing: what the host reads within a round trip is what the path and the host can
 * do; the buffer is to be twice that, so that a growing sender is not held up. A host that comes
 * late finds more than that: what it reads is put in proportion, else its own queues would be taken
 * for a long path.
 */
void conn_tune_receive(struct engine_conn *c)
{
	uint64_t rtt = MAX((uint64_t)c->srtt_us * 1000, TUNE_RTT_MIN);
	uint64_t passed = c->e->now - c->tune_at, bytes;

	if (passed < rtt)
		return;
	bytes = (c->rcv_read - c->tune_seq) * rtt / passed;
	if (bytes > c->rcv_buf / 2)
		c->rcv_buf = (uint32_t)MIN(2 * bytes, (uint64_t)RECEIVE_BUFFER_MAX);
	c->tune_seq = c->rcv_read;
	c->tune_at = c->e->now;
}

void conn_consume(struct engine_conn *c, size_t len)
{
	uint32_t more;
	unsigned left = 0;

	c->rcv_read += (uint32_t)len;
	if (!conn_unread(c) && !c->gaps)
		stream_empty(&c->rx, &c->e->chunks);
	else
		stream_trim(&c->rx, &c->e->chunks, c->rcv_read);
	for (unsigned i = 0; i < c->marks; i++)
		if (seq_le(c->rcv_read, c->mark[i]))
			c->mark[left++] = c->mark[i];
	c->marks = (uint8_t)left;
	if (!conn_synchronized(c) || c->eof)
		return;
	conn_tune_receive(c);
	/* The peer hears of the room with the next ACK; of much of it at once. */
	more = output_window_edge(c) - c->rcv_adv;
	if (more >= MIN(c->rcv_buf / 4, MAX(2 * c->mss, conn_window(c)))) {
		c->ack_now = true;
		conn_queue(c);
	}
}

bool conn_urgent(struct engine_conn *c, size_t *ret)
{
	if (!c->marks)
		return false;
	*ret = c->mark[0] - c->rcv_read;
	return true;
}

void conn_unreachable(struct engine_conn *c, uint32_t seq, int error)
{
	if (c->state == TCP_SYN_SENT && seq == c->iss)
		conn_fail(c, error);
}

void conn_info(const struct engine_conn *c, struct engine_info *ret)
{
	*ret = (struct engine_info){c->srtt_us, c->segments, c->resent, c->cc->name};
}

bool conn_ask(struct engine_conn *c)
{
	if (!conn_synchronized(c) || c->state == TCP_TIME_WAIT)
		return false;
	c->asked = true;
	output_window_probe(c);
	return true;
}
