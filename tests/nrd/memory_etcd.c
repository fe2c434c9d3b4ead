// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/util.h"
#include "policyd/etcd/kv.h"
#include "tests/nrd/memory_etcd.h"

#define SECOND_NS 1000000000ULL
#define START_NS (1000 * SECOND_NS) /* the clock is not 0 at the beginning, as everywhere */

struct key {
	char *key, *value;
	dmm_u64 lease, created, changed;
};

struct event {		   /* of the log: changes in the order of their revisions */
	char *key, *value; /* value NULL: gone */
	dmm_u64 revision;
};

struct lease {
	dmm_u64 id;
	uint64_t ttl_ns, until_ns;
};

struct call {
	struct call *next; /* of the client */
	struct etcd *e;	   /* NULL: cancelled */
	char method[32];
	json_t *body;
	etcd_fn fn;
	const void *ctx;
	bool stream, watching;
	unsigned refs; /* of the queue, and of the list of watches */
};

/* Who watches the same prefix. */
struct topic {
	char *from, *to;
	struct call **list;
	size_t n;
	size_t *event; /* of the log, that are below the prefix */
	size_t n_events;
};

enum step { STEP_ARRIVE, STEP_TELL, STEP_WAKE, STEP_EXPIRE };

struct todo {
	uint64_t at_ns, number;
	enum step step;
	struct call *call;
	struct etcd *e;
	json_t *answer;
	int error;
};

struct etcd {
	struct etcd_settings none;
	struct etcd *next;
	memory_wake_fn wake;
	void *ctx;
	uint64_t wake_ns;
	bool cut;
	unsigned fails, drop;
	struct call *calls;
	struct etcd_traffic traffic;
};

static struct {
	uint64_t now_ns, latency_ns, service_ns, busy_ns, random, number;
	struct key *keys;
	size_t n_keys;
	struct event *events;
	size_t n_events;
	struct lease *leases;
	size_t n_leases;
	dmm_u64 revision, compacted, cluster, next_lease;
	struct todo *todo; /* a heap */
	size_t n_todo;
	struct topic topic[8];
	size_t n_topics;
	struct etcd *clients;
} m;

/* In place of the C library's. */
int clock_gettime(clockid_t id, struct timespec *ret)
{
	(void)id;
	ret->tv_sec = (time_t)(m.now_ns / SECOND_NS);
	ret->tv_nsec = (long)(m.now_ns % SECOND_NS);
	return 0;
}

uint64_t memory_now(void)
{
	return m.now_ns;
}

static uint64_t draw(uint64_t below)
{
	m.random = m.random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (m.random >> 16) % (below ? below : 1);
}

/* Room for one more, doubled at powers of two. */
static void *grow(void *list, size_t n, size_t size)
{
	if (n & (n - 1))
		return list;
	list = reallocarray(list, n ? 2 * n : 1, size);
	if (!list)
		abort();
	return list;
}

/* ---- what is to come ---- */

static bool before(const struct todo *a, const struct todo *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->number < b->number;
}

static void todo_add(struct todo t)
{
	size_t i = m.n_todo;

	t.number = m.number++;
	if (t.call)
		t.call->refs++;
	m.todo = grow(m.todo, m.n_todo, sizeof(t));
	m.n_todo++;
	for (; i > 0 && before(&t, &m.todo[(i - 1) / 2]); i = (i - 1) / 2)
		m.todo[i] = m.todo[(i - 1) / 2];
	m.todo[i] = t;
}

static struct todo todo_take(void)
{
	struct todo first = m.todo[0], last = m.todo[--m.n_todo];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < m.n_todo && before(&m.todo[child + 1], &m.todo[child]))
			child++;
		if (child >= m.n_todo || !before(&m.todo[child], &last))
			break;
		m.todo[i] = m.todo[child];
		i = child;
	}
	if (m.n_todo)
		m.todo[i] = last;
	return first;
}

static void call_unref(struct call *c)
{
	if (--c->refs > 0)
		return;
	json_decref(c->body);
	free(c);
}

/* An answer or a message leaves the store when it has got round to it. */
static void answer(struct call *c, json_t *body, int error)
{
	m.busy_ns = MAX(m.busy_ns, m.now_ns) + m.service_ns;
	todo_add((struct todo){.at_ns = m.busy_ns + m.latency_ns / 2,
			       .step = STEP_TELL,
			       .call = c,
			       .answer = body,
			       .error = error});
}

/* ---- the store ---- */

static size_t find(const char *key, bool *ret_there)
{
	size_t lo = 0, hi = m.n_keys;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (strcmp(m.keys[mid].key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_there = lo < m.n_keys && strcmp(m.keys[lo].key, key) == 0;
	return lo;
}

static void topic_add(struct topic *t, size_t event)
{
	const char *key = m.events[event].key;

	if (strcmp(key, t->from) < 0 || strcmp(key, t->to) >= 0)
		return;
	t->event = grow(t->event, t->n_events, sizeof(size_t));
	t->event[t->n_events++] = event;
}

static void log_event(const char *key, const char *value)
{
	m.events = grow(m.events, m.n_events, sizeof(*m.events));
	m.events[m.n_events++] = (struct event){
		.key = strdup(key), .value = value ? strdup(value) : NULL, .revision = m.revision};
	for (size_t i = 0; i < m.n_topics; i++)
		topic_add(&m.topic[i], m.n_events - 1);
}

static void store_put(const char *key, const char *value, dmm_u64 lease)
{
	bool there;
	size_t at = find(key, &there);

	if (!there) {
		m.keys = grow(m.keys, m.n_keys, sizeof(*m.keys));
		memmove(&m.keys[at + 1], &m.keys[at], (m.n_keys - at) * sizeof(*m.keys));
		m.n_keys++;
		m.keys[at] = (struct key){.key = strdup(key), .created = m.revision};
	}
	free(m.keys[at].value);
	m.keys[at].value = strdup(value);
	m.keys[at].lease = lease;
	m.keys[at].changed = m.revision;
	log_event(key, value);
}

static void store_delete(const char *key)
{
	bool there;
	size_t at = find(key, &there);

	if (!there)
		return;
	log_event(key, NULL);
	free(m.keys[at].key);
	free(m.keys[at].value);
	m.n_keys--;
	memmove(&m.keys[at], &m.keys[at + 1], (m.n_keys - at) * sizeof(*m.keys));
}

static json_t *number(dmm_u64 n)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", n);
	return json_string(text);
}

static json_t *header(void)
{
	return json_pack("{s:o, s:o}", "cluster_id", number(m.cluster), "revision",
			 number(m.revision));
}

static json_t *kv_of(const struct key *k)
{
	json_t *kv = json_pack("{s:o, s:o, s:o, s:o}", "key", kv_base64(k->key), "value",
			       kv_base64(k->value), "create_revision", number(k->created),
			       "mod_revision", number(k->changed));

	if (k->lease)
		json_object_set_new(kv, "lease", number(k->lease));
	return kv;
}

/* The events of these revisions for a prefix; NULL: none. */
static json_t *events_for(const struct topic *t, size_t from)
{
	json_t *list = NULL;
	size_t i = t->n_events;

	while (i > 0 && t->event[i - 1] >= from)
		i--;
	for (; i < t->n_events; i++) {
		const struct event *ev = &m.events[t->event[i]];
		json_t *kv;

		list = list ? list : json_array();
		kv = json_pack("{s:o, s:o}", "key", kv_base64(ev->key), "mod_revision",
			       number(ev->revision));
		if (ev->value)
			json_object_set_new(kv, "value", kv_base64(ev->value));
		json_array_append_new(
			list, ev->value ? json_pack("{s:o}", "kv", kv)
					: json_pack("{s:s, s:o}", "type", "DELETE", "kv", kv));
	}
	return list;
}

/* All that was logged since `from` goes to who watches it. */
static void publish(size_t from)
{
	for (struct topic *t = m.topic; t < m.topic + m.n_topics; t++) {
		json_t *list = t->n ? events_for(t, from) : NULL, *message;

		if (!list)
			continue;
		message = json_pack("{s:o, s:o}", "header", header(), "events", list);
		for (size_t i = 0; i < t->n; i++)
			if (t->list[i]->e)
				answer(t->list[i], json_incref(message), 0);
		json_decref(message);
	}
}

/* ---- requests ---- */

static json_t *do_range(const json_t *body)
{
	_cleanup_free_ char *from = kv_text(body, "key"), *to = NULL;
	size_t limit = (size_t)kv_number(body, "limit"), n = 0, i;
	json_t *kvs = json_array();
	bool there, more = false;

	if (json_object_get(body, "range_end"))
		to = kv_text(body, "range_end");
	for (i = find(from, &there); i < m.n_keys && !more; i++) {
		if (to ? strcmp(m.keys[i].key, to) >= 0 : strcmp(m.keys[i].key, from) != 0)
			break;
		more = limit && n == limit;
		if (!more)
			json_array_append_new(kvs, kv_of(&m.keys[i]));
		n++;
	}
	return json_pack("{s:o, s:o, s:b}", "header", header(), "kvs", kvs, "more", more);
}

static json_t *do_op(const json_t *op)
{
	const json_t *put = json_object_get(op, "request_put"),
		     *del = json_object_get(op, "request_delete_range"),
		     *get = json_object_get(op, "request_range");
	_cleanup_free_ char *key = kv_text(put ? put : del ? del : get, "key"), *value = NULL;

	if (get)
		return json_pack("{s:o}", "response_range", do_range(get));
	if (put) {
		value = kv_text(put, "value");
		store_put(key, value, kv_number(put, "lease"));
	} else {
		store_delete(key);
	}
	return json_object();
}

static bool compare_holds(const json_t *c)
{
	_cleanup_free_ char *key = kv_text(c, "key");
	bool there;
	size_t at = find(key, &there);

	if (strcmp(json_string_value(json_object_get(c, "target")), "MOD") == 0)
		return kv_number(c, "mod_revision") == (there ? m.keys[at].changed : 0);
	return kv_number(c, "create_revision") == (there ? m.keys[at].created : 0);
}

static json_t *do_txn(const json_t *body)
{
	bool ok = compare_holds(json_array_get(json_object_get(body, "compare"), 0));
	const json_t *ops = json_object_get(body, ok ? "success" : "failure"), *op;
	json_t *replies = json_array();
	size_t from = m.n_events, i;

	m.revision++; /* taken back below if nothing changed */
	json_array_foreach (ops, i, op)
		json_array_append_new(replies, do_op(op));
	if (m.n_events == from)
		m.revision--;
	publish(from);
	return json_pack("{s:o, s:b, s:o}", "header", header(), "succeeded", ok, "responses",
			 replies);
}

static struct lease *lease_of(dmm_u64 id)
{
	for (size_t i = m.n_leases; i-- > 0;)
		if (m.leases[i].id == id)
			return &m.leases[i];
	return NULL;
}

static void lease_end(struct lease *l)
{
	size_t from = m.n_events;
	dmm_u64 id = l->id;

	*l = m.leases[--m.n_leases];
	m.revision++;
	for (size_t i = m.n_keys; i-- > 0;)
		if (m.keys[i].lease == id)
			store_delete(m.keys[i].key);
	publish(from);
}

static void expire(void)
{
	for (size_t i = m.n_leases; i-- > 0;)
		if (m.leases[i].until_ns <= m.now_ns)
			lease_end(&m.leases[i]);
}

static json_t *do_lease(const char *method, const json_t *body)
{
	struct lease *l = lease_of(kv_number(body, "ID"));

	if (strcmp(method, "lease/grant") == 0) {
		m.leases = grow(m.leases, m.n_leases, sizeof(*l));
		l = &m.leases[m.n_leases++];
		*l = (struct lease){.id = ++m.next_lease,
				    .ttl_ns = kv_number(body, "TTL") * SECOND_NS};
		l->until_ns = m.now_ns + l->ttl_ns;
		return json_pack("{s:o, s:o}", "header", header(), "ID", number(l->id));
	}
	if (strcmp(method, "lease/revoke") == 0) {
		if (l)
			lease_end(l);
		return json_pack("{s:o}", "header", header());
	}
	if (l)
		l->until_ns = m.now_ns + l->ttl_ns;
	return json_pack("{s:{s:o, s:o}}", "result", "header", header(), "TTL",
			 number(l ? l->ttl_ns / SECOND_NS : 0));
}

static struct topic *topic_of(const json_t *create)
{
	char *from = kv_text(create, "key");
	struct topic *t = m.topic;

	while (t < m.topic + m.n_topics && strcmp(t->from, from) != 0)
		t++;
	if (t < m.topic + m.n_topics) {
		free(from);
		return t;
	}
	if (m.n_topics++ == ARRAY_SIZE(m.topic))
		abort();
	*t = (struct topic){.from = from, .to = kv_text(create, "range_end")};
	for (size_t i = 0; i < m.n_events; i++)
		topic_add(t, i);
	return t;
}

static void do_watch(struct call *c)
{
	const json_t *create = json_object_get(c->body, "create_request");
	dmm_u64 start = kv_number(create, "start_revision");
	struct topic *t;
	size_t from;
	json_t *list;

	answer(c, json_pack("{s:o, s:b}", "header", header(), "created", true), 0);
	if (start <= m.compacted) {
		answer(c,
		       json_pack("{s:o, s:b, s:o}", "header", header(), "canceled", true,
				 "compact_revision", number(m.compacted)),
		       0);
		return;
	}
	t = topic_of(create);
	c->watching = true;
	c->refs++;
	t->list = grow(t->list, t->n, sizeof(struct call *));
	t->list[t->n++] = c;
	for (from = m.n_events; from > 0 && m.events[from - 1].revision >= start;)
		from--;
	list = events_for(t, from);
	if (list)
		answer(c, json_pack("{s:o, s:o}", "header", header(), "events", list), 0);
}

/* A put with a lease that is over is refused, and all that is with it. */
static bool leases_live(const json_t *txn)
{
	const json_t *ops = json_object_get(txn, "success"), *op;
	size_t i;

	json_array_foreach (ops, i, op) {
		dmm_u64 lease = kv_number(json_object_get(op, "request_put"), "lease");

		if (lease && !lease_of(lease))
			return false;
	}
	return true;
}

static void arrive(struct call *c)
{
	json_t *body;

	if (!c->e || c->e->cut)
		return;
	if (strcmp(c->method, "watch") == 0) {
		do_watch(c);
		return;
	}
	if (!leases_live(c->body)) {
		answer(c, NULL, -ENOENT);
		return;
	}
	if (strcmp(c->method, "kv/range") == 0) {
		body = do_range(c->body);
	} else if (strcmp(c->method, "kv/txn") == 0) {
		body = do_txn(c->body);
	} else {
		body = do_lease(c->method, c->body);
	}
	if (c->e->drop) {
		c->e->drop--;
		json_decref(body); /* the client's time runs out */
		return;
	}
	answer(c, body, 0);
}

/* ---- the client ---- */

/* Calls that only the client's list knows still. */
static void forget_calls(struct etcd *e, bool all)
{
	struct call **at = &e->calls;

	while (*at) {
		struct call *c = *at;

		if (c->refs > 1 && !all) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		call_unref(c);
	}
}

static void cancel(struct etcd *e, const void *ctx, bool all)
{
	for (struct call *c = e->calls; c; c = c->next)
		if (all || c->ctx == ctx)
			c->e = NULL;
}

/* The connection is gone. */
static void break_streams(struct etcd *e)
{
	for (struct call *c = e->calls; c; c = c->next)
		if (c->stream && c->e)
			todo_add((struct todo){
				.at_ns = m.now_ns, .step = STEP_TELL, .call = c, .error = -EAGAIN});
}

static void tell(struct call *c, json_t *body, int error)
{
	struct etcd_answer a = {.error = error, .why = error ? "no answer" : "", .body = body};
	struct etcd *e = c->e;
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;

	if (!c->stream || error)
		c->e = NULL; /* the last time */
	if (error == -EAGAIN && !c->stream)
		break_streams(e); /* another member is used now */
	e->fails = error == -EAGAIN ? e->fails + 1 : 0;
	e->traffic.messages++;
	e->traffic.received += text ? strlen(text) : 0;
	free(text);
	c->fn((void *)c->ctx, &a);
	if (e->wake)
		e->wake(e->ctx);
}

static uint64_t timeout_ns(void)
{
	return 2 * SECOND_NS;
}

static int call_new(struct etcd *e, const char *method, json_t *body, etcd_fn fn, const void *ctx,
		    bool stream)
{
	struct call *c = calloc(1, sizeof(*c));
	char *text = json_dumps(body, JSON_COMPACT);

	if (!c || !text)
		abort();
	forget_calls(e, false);
	*c = (struct call){.next = e->calls,
			   .e = e,
			   .body = body,
			   .fn = fn,
			   .ctx = ctx,
			   .stream = stream,
			   .refs = 1};
	e->calls = c;
	snprintf(c->method, sizeof(c->method), "%s", method);
	e->traffic.calls++;
	e->traffic.sent += strlen(text);
	free(text);
	m.busy_ns = MAX(m.busy_ns, m.now_ns) + m.service_ns;
	todo_add((struct todo){
		.at_ns = m.busy_ns + m.latency_ns / 2, .step = STEP_ARRIVE, .call = c});
	if (!stream)
		todo_add((struct todo){.at_ns = m.now_ns + timeout_ns() + (m.busy_ns - m.now_ns),
				       .step = STEP_TELL,
				       .call = c,
				       .error = -EAGAIN});
	return 0;
}

int etcd_call(struct etcd *e, const char *method, json_t *body, etcd_fn fn, void *ctx)
{
	return call_new(e, method, body, fn, ctx, false);
}

int etcd_stream(struct etcd *e, const char *method, json_t *body, etcd_fn fn, void *ctx)
{
	return call_new(e, method, body, fn, ctx, true);
}

void etcd_cancel(struct etcd *e, const void *ctx)
{
	cancel(e, ctx, false);
}

int etcd_open(struct etcd **ret, int epfd, const struct etcd_settings *settings)
{
	(void)epfd;
	(void)settings;
	*ret = calloc(1, sizeof(**ret));
	(*ret)->next = m.clients;
	m.clients = *ret;
	return 0;
}

/* What is on its way still may know it: memory_end() frees it. */
void etcd_close(struct etcd *e)
{
	cancel(e, NULL, true);
	forget_calls(e, true);
	e->wake = NULL;
}

void etcd_run(struct etcd *e)
{
	(void)e;
}

uint64_t etcd_next_ns(const struct etcd *e)
{
	(void)e;
	return UINT64_MAX;
}

void etcd_leave(struct etcd *e, const char *why)
{
	(void)why;
	e->fails++;
}

uint64_t etcd_backoff_ns(const struct etcd *e)
{
	uint64_t ns = MIN(ETCD_BACKOFF_MIN_NS << MIN(e->fails, 10u), ETCD_BACKOFF_MAX_NS);

	return ns / 2 + draw(ns / 2 + 1);
}

const char *etcd_endpoint(const struct etcd *e)
{
	(void)e;
	return "memory";
}

void etcd_traffic(const struct etcd *e, struct etcd_traffic *ret)
{
	*ret = e->traffic;
}

/* ---- time ---- */

void memory_wake(struct etcd *e, memory_wake_fn fn, void *ctx)
{
	e->wake = fn;
	e->ctx = ctx;
}

void memory_wake_at(struct etcd *e, uint64_t at_ns)
{
	at_ns = MAX(at_ns, m.now_ns + 1000000); /* a loop looks once a millisecond at most */
	if (at_ns == UINT64_MAX || (e->wake_ns > m.now_ns && e->wake_ns <= at_ns))
		return;
	e->wake_ns = at_ns;
	todo_add((struct todo){.at_ns = at_ns, .step = STEP_WAKE, .e = e});
}

static void forget_watches(void)
{
	for (struct topic *t = m.topic; t < m.topic + m.n_topics; t++) {
		size_t n = t->n;

		t->n = 0;
		for (size_t i = 0; i < n; i++) {
			if (t->list[i]->e)
				t->list[t->n++] = t->list[i];
			else
				call_unref(t->list[i]);
		}
	}
}

static void step(struct todo *t)
{
	m.now_ns = MAX(m.now_ns, t->at_ns);
	switch (t->step) {
	case STEP_ARRIVE:
		arrive(t->call);
		break;
	case STEP_TELL:
		if (t->call->e && (!t->call->e->cut || t->error))
			tell(t->call, t->answer, t->error);
		break;
	case STEP_WAKE:
		if (t->e && t->e->wake)
			t->e->wake(t->e->ctx);
		break;
	case STEP_EXPIRE:
		expire();
		forget_watches();
		todo_add((struct todo){.at_ns = m.now_ns + SECOND_NS, .step = STEP_EXPIRE});
		break;
	}
	json_decref(t->answer);
	if (t->call)
		call_unref(t->call);
}

void memory_run(uint64_t end_ns)
{
	end_ns += START_NS;
	while (m.n_todo && m.todo[0].at_ns <= end_ns) {
		struct todo t = todo_take();

		step(&t);
	}
	m.now_ns = MAX(m.now_ns, end_ns);
}

void memory_begin(uint64_t latency_ns, uint64_t service_ns, uint64_t seed)
{
	memset(&m, 0, sizeof(m));
	m.now_ns = START_NS;
	m.latency_ns = latency_ns;
	m.service_ns = service_ns;
	m.random = seed;
	m.revision = 1;
	m.cluster = 1 + seed;
	todo_add((struct todo){.at_ns = m.now_ns + SECOND_NS, .step = STEP_EXPIRE});
}

static void forget_all(void)
{
	for (size_t i = 0; i < m.n_keys; i++) {
		free(m.keys[i].key);
		free(m.keys[i].value);
	}
	for (size_t i = 0; i < m.n_events; i++) {
		free(m.events[i].key);
		free(m.events[i].value);
	}
	for (size_t i = 0; i < m.n_topics; i++)
		m.topic[i].n_events = 0;
	m.n_keys = m.n_events = m.n_leases = 0;
}

void memory_end(void)
{
	while (m.n_todo) {
		struct todo t = todo_take();

		json_decref(t.answer);
		if (t.call)
			call_unref(t.call);
	}
	for (struct topic *t = m.topic; t < m.topic + m.n_topics; t++) {
		for (size_t i = 0; i < t->n; i++)
			call_unref(t->list[i]);
		free(t->list);
		free(t->event);
		free(t->from);
		free(t->to);
	}
	while (m.clients) {
		struct etcd *e = m.clients;

		m.clients = e->next;
		free(e);
	}
	forget_all();
	free(m.keys);
	free(m.events);
	free(m.leases);
	free(m.todo);
}

/* ---- what can go wrong ---- */

void memory_cut(struct etcd *e, bool cut)
{
	if (e->cut && !cut)
		break_streams(e); /* what was missed is not sent again on it */
	e->cut = cut;
}

void memory_restart(void)
{
	for (struct topic *t = m.topic; t < m.topic + m.n_topics; t++)
		for (size_t i = 0; i < t->n; i++)
			if (t->list[i]->e)
				todo_add((struct todo){.at_ns = m.now_ns,
						       .step = STEP_TELL,
						       .call = t->list[i],
						       .error = -EAGAIN});
}

void memory_compact(void)
{
	m.compacted = m.revision;
}

void memory_lose(void)
{
	forget_all();
	m.revision = 1;
	m.compacted = 0;
	m.cluster++;
	memory_restart();
}

void memory_drop_answers(struct etcd *e, unsigned n)
{
	e->drop = n;
}

const char *memory_get(const char *key)
{
	bool there;
	size_t at = find(key, &there);

	return there ? m.keys[at].value : NULL;
}

void memory_put(const char *key, const char *value)
{
	size_t from = m.n_events;

	m.revision++;
	if (value)
		store_put(key, value, 0);
	else
		store_delete(key);
	publish(from);
}

size_t memory_count(const char *prefix)
{

	size_t n = 0;

	for (size_t i = 0; i < m.n_keys; i++)
		n += strncmp(m.keys[i].key, prefix, strlen(prefix)) == 0;
	return n;
}
