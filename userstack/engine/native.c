// SPDX-License-Identifier: Apache-2.0
/* The native engine behind the contract: start, stop, poll, addresses, listeners. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "userstack/engine/isn.h"
#include "userstack/engine/native/native.h"
#include "userstack/engines.h"

#define CONNS_MAX (1u << 20)
#define CHUNKS_MAX (1u << 18) /* 1 GiB of bytes in buffers */
#define SENTS_MAX (1u << 22)

/* What the policy asks for, on top of what is usual. */
static int native_tune(struct native_tune *t, const struct engine_config *c)
{
	*t = (struct native_tune){
		.cc = c->congestion[0] ? cc_find(c->congestion) : &cc_cubic,
		.pacing = true,
		.delayed_ack = 10 * MS,
		.half_open_max = 1024,
		.time_wait_max = 65536,
		.keepalive = c->keepalive_s * SECOND,
		.user_timeout = c->user_timeout_ms * MS,
		.ecn = c->ecn,
	};
	return t->cc ? 0 : -EOPNOTSUPP;
}

/* NULL: there is none of this name. */
static const struct cc_ops *native_control(const struct engine *e, const struct engine_options *o)
{
	return o->congestion ? cc_find(o->congestion) : e->tune.cc;
}

static int native_start(struct engine **ret, const struct engine_config *c)
{
	struct native_tune tune;
	struct engine *e;

	if (native_tune(&tune, c) < 0)
		return -EOPNOTSUPP;
	e = calloc(1, sizeof(*e));
	if (!e || table_init(&e->table) < 0) {
		free(e);
		return -ENOMEM;
	}
	e->c = *c;
	e->now = c->now;
	e->tune = tune;
	wheel_init(&e->wheel, c->now);
	pool_init(&e->conns, sizeof(struct engine_conn), CONNS_MAX);
	pool_init(&e->chunks, sizeof(struct chunk), CHUNKS_MAX);
	pool_init(&e->sents, sizeof(struct sent), SENTS_MAX);
	pool_init(&e->gaps, sizeof(struct gaps), CONNS_MAX);
	pool_init(&e->rated, sizeof(struct sent_rated), SENTS_MAX);
	pool_init(&e->bbrs, sizeof(struct bbr), CONNS_MAX);
	TAILQ_INIT(&e->out);
	TAILQ_INIT(&e->events);
	TAILQ_INIT(&e->half_open);
	TAILQ_INIT(&e->unreported);
	TAILQ_INIT(&e->time_wait);
	TAILQ_INIT(&e->ended);
	TAILQ_INIT(&e->dead);
	*ret = e;
	return 0;
}

/* Those that nobody can know any more. */
static void native_bury(struct engine *e)
{
	struct engine_conn *c;

	while ((c = TAILQ_FIRST(&e->dead))) {
		conn_move(c, NULL);
		pool_put(&e->conns, c);
	}
}

static void native_stop(struct engine *e)
{
	struct engine_conn *c;

	for (size_t i = 0; i < e->table.size; i++)
		while ((c = e->table.slot[i].conn)) {
			c->closed = true;
			close_reset(c);
		}
	while ((c = TAILQ_FIRST(&e->ended))) {
		c->closed = true;
		conn_end(c);
	}
	native_bury(e);
	udp_stop(e);
	pool_fini(&e->conns);
	pool_fini(&e->chunks);
	pool_fini(&e->sents);
	pool_fini(&e->gaps);
	pool_fini(&e->rated);
	pool_fini(&e->bbrs);
	table_fini(&e->table);
	free(e);
}

static void native_serve(struct engine *e)
{
	struct engine_conn *c;

	while ((c = TAILQ_FIRST(&e->out)))
		output_conn(c);
}

/* The host hears of a connection that its listener got. False: it does not want it. */
static bool native_report_accepted(struct engine *e, struct engine_conn *c)
{
	const struct engine_host *h = e->c.host;
	void *listener_user = c->listener->user;

	c->listener = NULL;
	conn_move(c, NULL);
	c->user = h->accepted(h->ctx, listener_user, c, &c->key.remote, &c->key.local);
	c->host_knows = c->user;
	if (c->in == &e->dead) { /* the host closed it from inside */
		if (c->host_knows)
			h->released(h->ctx, c->user);
		return false;
	}
	if (!c->host_knows)
		close_reset(c);
	return c->host_knows;
}

static void native_report(struct engine *e)
{
	const struct engine_host *h = e->c.host;
	struct engine_conn *c;
	unsigned events;

	while ((c = TAILQ_FIRST(&e->events))) {
		TAILQ_REMOVE(&e->events, c, event_entry);
		c->event_queued = false;
		events = c->events;
		c->events = 0;
		if (c->listener && !native_report_accepted(e, c))
			continue;
		if (events)
			h->event(h->ctx, c->user, events, c->error);
	}
}

static void native_poll(struct engine *e, uint64_t now, uint64_t *ret_next)
{
	e->now = now;
	native_bury(e);
	timer_run(e);
	native_serve(e);
	native_report(e);
	native_serve(e);
	*ret_next = wheel_next(&e->wheel);
}

bool engine_drop(const struct engine *e, enum engine_drop why)
{
	if (e->c.host->dropped)
		e->c.host->dropped(e->c.host->ctx, why);
	return false;
}

bool engine_is_local(const struct engine *e, const dmm_u8 ip[16])
{
	for (unsigned i = 0; i < e->addrs; i++)
		if (!memcmp(e->addr[i], ip, 16))
			return true;
	return false;
}

static int native_addr_add(struct engine *e, const dmm_u8 ip[16])
{
	if (engine_is_local(e, ip))
		return -EEXIST;
	if (e->addrs == ADDRESSES_MAX)
		return -ENOMEM;
	memcpy(e->addr[e->addrs++], ip, 16);
	return 0;
}

static int native_addr_del(struct engine *e, const dmm_u8 ip[16])
{
	for (unsigned i = 0; i < e->addrs; i++) {
		if (memcmp(e->addr[i], ip, 16))
			continue;
		memmove(e->addr[i], e->addr[--e->addrs], 16);
		return 0;
	}
	return -ENOENT;
}

struct path *engine_path(struct engine *e, const dmm_u8 ip[16])
{
	uint64_t m[2];

	memcpy(m, ip, 16);
	return &e->path[((m[0] ^ m[1]) * 0x9e3779b97f4a7c15ull >> 32) % PATHS];
}

const struct path *engine_path_known(struct engine *e, const dmm_u8 ip[16])
{
	const struct path *p = engine_path(e, ip);

	return e->now < p->until && !memcmp(p->ip, ip, 16) ? p : NULL;
}

/* Linux, too, leaves the bits of ECN to TCP (INET_ECN_MASK). */
static uint8_t native_tos(uint8_t tos)
{
	return tos & (uint8_t)~IP_CE;
}

static int native_connect(struct engine *e, const struct dmm_addr *remote,
			  const struct dmm_addr *local, const struct engine_options *options,
			  void *user, uint64_t now, struct engine_conn **ret)
{
	struct conn_key key = {.remote = *remote, .local = *local};
	const struct cc_ops *cc = native_control(e, options);

	if (!cc)
		return -EOPNOTSUPP;
	e->now = now;
	return open_connect(e, &key, cc, native_tos(options->tos), user, ret);
}

/* It was accepted in this turn: nothing has been sent. */
static int native_set_options(struct engine_conn *c, const struct engine_options *options)
{
	const struct cc_ops *cc = native_control(c->e, options);

	if (!cc)
		return -EOPNOTSUPP;
	c->tos = native_tos(options->tos);
	cc_begin(c, cc);
	return 0;
}

static void native_set_tos(struct engine_conn *c, uint8_t tos)
{
	c->tos = native_tos(tos);
}

static bool native_succeed(struct engine *e, const struct dmm_addr *remote,
			   const struct dmm_addr *local, uint64_t now)
{
	struct conn_key key = {.remote = *remote, .local = *local};
	struct engine_conn *c = table_find(&e->table, e->c.secret, &key);

	e->now = now;
	return c && close_succeed(c);
}

static bool listener_matches(const struct engine_listener *l, const struct dmm_addr *local,
			     bool exact)
{
	if (l->local.port != local->port || l->any == exact)
		return false;
	return exact ? !memcmp(l->local.ip, local->ip, 16)
		     : addr_is_v4(l->local.ip) == addr_is_v4(local->ip);
}

/* One that has the address goes before one that takes every address. */
struct engine_listener *engine_listener(const struct engine *e, const struct dmm_addr *local)
{
	struct engine_listener *l;

	for (unsigned exact = 2; exact--;)
		LIST_FOREACH(l, &e->listeners[local->port % LISTENER_BUCKETS], entry)
	if (listener_matches(l, local, exact))
		return l;
	return NULL;
}

static int native_listen(struct engine *e, const struct dmm_addr *local, uint8_t tos, void *user,
			 struct engine_listener **ret)
{
	bool any = addr_is_any(local->ip);
	struct engine_listener *l;

	LIST_FOREACH(l, &e->listeners[local->port % LISTENER_BUCKETS], entry)
	if (l->local.port == local->port && !memcmp(l->local.ip, local->ip, 16))
		return -EADDRINUSE;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	*l = (struct engine_listener){
		.e = e, .local = *local, .any = any, .tos = native_tos(tos), .user = user};
	LIST_INSERT_HEAD(&e->listeners[local->port % LISTENER_BUCKETS], l, entry);
	*ret = l;
	return 0;
}

/* Nobody will come for what it has not handed over. */
static void native_unlisten(struct engine_listener *l)
{
	struct conn_list *const lists[] = {&l->e->half_open, &l->e->unreported};
	struct engine_conn *c, *next;

	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
		for (c = TAILQ_FIRST(lists[i]); c; c = next) {
			next = TAILQ_NEXT(c, entry);
			if (c->listener == l)
				close_reset(c);
		}
	LIST_REMOVE(l, entry);
	free(l);
}

const struct engine_ops engine_native = {
	.abi = ENGINE_ABI,
	.name = "native",
	.several = true,
	.start = native_start,
	.stop = native_stop,
	.input = native_input,
	.expect = native_expect,
	.poll = native_poll,
	.addr_add = native_addr_add,
	.addr_del = native_addr_del,
	.connect = native_connect,
	.succeed = native_succeed,
	.listen = native_listen,
	.unlisten = native_unlisten,
	.room = conn_room,
	.send = conn_send,
	.send_urgent = conn_send_urgent,
	.peek = conn_peek,
	.urgent = conn_urgent,
	.consume = conn_consume,
	.info = conn_info,
	.shutdown = close_shutdown,
	.close = close_close,
	.abort = close_abort,
	.unreachable = conn_unreachable,
	.too_big = conn_too_big,
	.reserve = conn_reserve,
	.commit = conn_commit,
	.set_options = native_set_options,
	.set_tos = native_set_tos,
	.ask = conn_ask,
	.udp = &native_udp,
};
