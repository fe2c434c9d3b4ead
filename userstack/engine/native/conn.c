// SPDX-License-Identifier: Apache-2.0
/* A connection as an object: made, queued, ended, freed. */
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

_Static_assert(sizeof(struct engine_conn) <= 1024, "an idle connection is to cost 1 KiB at most");

struct engine_conn *conn_new(struct engine *e, const struct conn_key *key)
{
	struct engine_conn *c = pool_get(&e->conns);

	if (!c)
		return NULL;
	if (e->conns.free)
		conn_prefetch(e->conns.free); /* the next one's */
	*c = (struct engine_conn){
		.e = e,
		.key = *key,
		.hash = table_hash(e->c.secret, key),
		.v6 = !addr_is_v4(key->remote.ip),
		.label = packet_label(e, key, 0),
		.snd_buf = BUFFER_INITIAL,
		.rcv_buf = BUFFER_INITIAL,
		.ssthresh = UINT32_MAX,
		.reorder_mult = 1,
		.quick = 16,
		.cc = e->tune.cc,
		.received_at = e->now,
		.progress_at = e->now,
		.tune_at = e->now,
	};
	for (unsigned i = 0; i < DUES; i++)
		c->due[i] = NEVER;
	TAILQ_INIT(&c->sent);
	TAILQ_INIT(&c->flight);
	TAILQ_INIT(&c->missing);
	if (table_add(&e->table, c->hash, c) < 0) {
		pool_put(&e->conns, c);
		return NULL;
	}
	c->in_table = true;
	return c;
}

void conn_move(struct engine_conn *c, struct conn_list *to)
{
	struct engine *e = c->e;

	if (c->in) {
		TAILQ_REMOVE(c->in, c, entry);
		e->half_open_n -= c->in == &e->half_open;
		e->time_wait_n -= c->in == &e->time_wait;
	}
	c->in = to;
	if (!to)
		return;
	TAILQ_INSERT_TAIL(to, c, entry);
	e->half_open_n += to == &e->half_open;
	e->time_wait_n += to == &e->time_wait;
}

void conn_event(struct engine_conn *c, unsigned events, int error)
{
	if (c->closed)
		return;
	c->events |= (uint8_t)events;
	if (error)
		c->error = error;
	if (c->event_queued)
		return;
	c->event_queued = true;
	TAILQ_INSERT_TAIL(&c->e->events, c, event_entry);
}

void conn_queue(struct engine_conn *c)
{
	if (c->out_queued)
		return;
	c->out_queued = true;
	TAILQ_INSERT_TAIL(&c->e->out, c, out_entry);
}

void conn_set_due(struct engine_conn *c, enum due what, uint64_t at)
{
	c->due[what] = at;
	/* Later than what is armed: the wheel fires early, which costs less than to move it now. */
	if (at != NEVER && (!c->timer.tick || at / WHEEL_TICK_NS + 1 < c->timer.tick))
		wheel_arm(&c->e->wheel, &c->timer, at);
}

uint32_t conn_unread(const struct engine_conn *c)
{
	return c->rcv_nxt - c->rcv_read - c->eof;
}

static void conn_release(struct engine_conn *c)
{
	const struct engine_host *h = c->e->c.host;

	stream_fini(&c->rx, &c->e->chunks);
	if (c->event_queued)
		TAILQ_REMOVE(&c->e->events, c, event_entry);
	c->event_queued = false;
	c->closed = true;
	conn_move(c, &c->e->dead);
	if (c->host_knows)
		h->released(h->ctx, c->user);
}

void conn_end(struct engine_conn *c)
{
	struct engine *e = c->e;
	struct sent *t;

	c->state = TCP_CLOSED;
	if (c->in_table)
		table_del(&e->table, c->hash, c);
	c->in_table = false;
	if (c->out_queued)
		TAILQ_REMOVE(&e->out, c, out_entry);
	c->out_queued = false;
	wheel_disarm(&e->wheel, &c->timer);
	while ((t = TAILQ_FIRST(&c->sent)))
		sent_free(c, t);
	cc_end(c);
	stream_fini(&c->tx, &e->chunks);
	gap_free(c);
	if (c->closed || !c->host_knows)
		conn_release(c);
	else
		conn_move(c, &e->ended);
}

void conn_change_path(struct engine_conn *c)
{
	c->label = packet_label(c->e, &c->key, c->label);
}

void conn_fail(struct engine_conn *c, int error)
{
	conn_event(c, ENGINE_FAILED, error);
	conn_end(c);
}
