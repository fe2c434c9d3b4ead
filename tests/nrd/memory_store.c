// SPDX-License-Identifier: Apache-2.0
/* Keys, their log, leases and watches, as etcd has them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/etcd/kv.h"
#include "tests/nrd/memory_store.h"

size_t store_find(const char *key, bool *ret_there)
{
	size_t lo = 0, hi = memory.n_keys;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (strcmp(memory.keys[mid].key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_there = lo < memory.n_keys && strcmp(memory.keys[lo].key, key) == 0;
	return lo;
}

static void topic_add(struct topic *t, size_t event)
{
	const char *key = memory.events[event].key;

	if (strcmp(key, t->from) < 0 || strcmp(key, t->to) >= 0)
		return;
	t->event = memory_grow(t->event, t->n_events, sizeof(size_t));
	t->event[t->n_events++] = event;
}

static void log_event(const char *key, const char *value)
{
	memory.events = memory_grow(memory.events, memory.n_events, sizeof(*memory.events));
	memory.events[memory.n_events++] = (struct event){.key = strdup(key),
							  .value = value ? strdup(value) : NULL,
							  .revision = memory.revision};
	for (size_t i = 0; i < memory.n_topics; i++)
		topic_add(&memory.topic[i], memory.n_events - 1);
}

void store_put(const char *key, const char *value, dmm_u64 lease)
{
	bool there;
	size_t at = store_find(key, &there);

	if (!there) {
		memory.keys = memory_grow(memory.keys, memory.n_keys, sizeof(*memory.keys));
		memmove(&memory.keys[at + 1], &memory.keys[at],
			(memory.n_keys - at) * sizeof(*memory.keys));
		memory.n_keys++;
		memory.keys[at] = (struct key){.key = strdup(key), .created = memory.revision};
	}
	free(memory.keys[at].value);
	memory.keys[at].value = strdup(value);
	memory.keys[at].lease = lease;
	memory.keys[at].changed = memory.revision;
	log_event(key, value);
}

void store_delete(const char *key)
{
	bool there;
	size_t at = store_find(key, &there);

	if (!there)
		return;
	log_event(key, NULL);
	free(memory.keys[at].key);
	free(memory.keys[at].value);
	memory.n_keys--;
	memmove(&memory.keys[at], &memory.keys[at + 1],
		(memory.n_keys - at) * sizeof(*memory.keys));
}

static json_t *number(dmm_u64 n)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", n);
	return json_string(text);
}

static json_t *header(void)
{
	return json_pack("{s:o, s:o}", "cluster_id", number(memory.cluster), "revision",
			 number(memory.revision));
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
		const struct event *ev = &memory.events[t->event[i]];
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

void store_publish(size_t from)
{
	for (struct topic *t = memory.topic; t < memory.topic + memory.n_topics; t++) {
		json_t *list = t->n ? events_for(t, from) : NULL, *message;

		if (!list)
			continue;
		message = json_pack("{s:o, s:o}", "header", header(), "events", list);
		for (size_t i = 0; i < t->n; i++)
			if (t->list[i]->e)
				memory_answer(t->list[i], json_incref(message), 0);
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
	for (i = store_find(from, &there); i < memory.n_keys && !more; i++) {
		if (to ? strcmp(memory.keys[i].key, to) >= 0
		       : strcmp(memory.keys[i].key, from) != 0)
			break;
		more = limit && n == limit;
		if (!more)
			json_array_append_new(kvs, kv_of(&memory.keys[i]));
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
	size_t at = store_find(key, &there);

	if (strcmp(json_string_value(json_object_get(c, "target")), "MOD") == 0)
		return kv_number(c, "mod_revision") == (there ? memory.keys[at].changed : 0);
	return kv_number(c, "create_revision") == (there ? memory.keys[at].created : 0);
}

static json_t *do_txn(const json_t *body)
{
	bool ok = compare_holds(json_array_get(json_object_get(body, "compare"), 0));
	const json_t *ops = json_object_get(body, ok ? "success" : "failure"), *op;
	json_t *replies = json_array();
	size_t from = memory.n_events, i;

	memory.revision++; /* taken back below if nothing changed */
	json_array_foreach (ops, i, op)
		json_array_append_new(replies, do_op(op));
	if (memory.n_events == from)
		memory.revision--;
	store_publish(from);
	return json_pack("{s:o, s:b, s:o}", "header", header(), "succeeded", ok, "responses",
			 replies);
}

static struct lease *lease_of(dmm_u64 id)
{
	for (size_t i = memory.n_leases; i-- > 0;)
		if (memory.leases[i].id == id)
			return &memory.leases[i];
	return NULL;
}

static void lease_end(struct lease *l)
{
	size_t from = memory.n_events;
	dmm_u64 id = l->id;

	*l = memory.leases[--memory.n_leases];
	memory.revision++;
	for (size_t i = memory.n_keys; i-- > 0;)
		if (memory.keys[i].lease == id)
			store_delete(memory.keys[i].key);
	store_publish(from);
}

void store_expire(void)
{
	for (size_t i = memory.n_leases; i-- > 0;)
		if (memory.leases[i].until_ns <= memory.now_ns)
			lease_end(&memory.leases[i]);
}

static json_t *do_lease(const char *method, const json_t *body)
{
	struct lease *l = lease_of(kv_number(body, "ID"));

	if (strcmp(method, "lease/grant") == 0) {
		memory.leases = memory_grow(memory.leases, memory.n_leases, sizeof(*l));
		l = &memory.leases[memory.n_leases++];
		*l = (struct lease){.id = ++memory.next_lease,
				    .ttl_ns = kv_number(body, "TTL") * SECOND_NS};
		l->until_ns = memory.now_ns + l->ttl_ns;
		return json_pack("{s:o, s:o}", "header", header(), "ID", number(l->id));
	}
	if (strcmp(method, "lease/revoke") == 0) {
		if (l)
			lease_end(l);
		return json_pack("{s:o}", "header", header());
	}
	if (l)
		l->until_ns = memory.now_ns + l->ttl_ns;
	return json_pack("{s:{s:o, s:o}}", "result", "header", header(), "TTL",
			 number(l ? l->ttl_ns / SECOND_NS : 0));
}

static struct topic *topic_of(const json_t *create)
{
	char *from = kv_text(create, "key");
	struct topic *t = memory.topic;

	while (t < memory.topic + memory.n_topics && strcmp(t->from, from) != 0)
		t++;
	if (t < memory.topic + memory.n_topics) {
		free(from);
		return t;
	}
	if (memory.n_topics++ == ARRAY_SIZE(memory.topic))
		abort();
	*t = (struct topic){.from = from, .to = kv_text(create, "range_end")};
	for (size_t i = 0; i < memory.n_events; i++)
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

	memory_answer(c, json_pack("{s:o, s:b}", "header", header(), "created", true), 0);
	if (start <= memory.compacted) {
		memory_answer(c,
			      json_pack("{s:o, s:b, s:o}", "header", header(), "canceled", true,
					"compact_revision", number(memory.compacted)),
			      0);
		return;
	}
	t = topic_of(create);
	c->watching = true;
	c->refs++;
	t->list = memory_grow(t->list, t->n, sizeof(struct call *));
	t->list[t->n++] = c;
	for (from = memory.n_events; from > 0 && memory.events[from - 1].revision >= start;)
		from--;
	list = events_for(t, from);
	if (list)
		memory_answer(c, json_pack("{s:o, s:o}", "header", header(), "events", list), 0);
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

void store_arrive(struct call *c)
{
	json_t *body;

	if (!c->e || c->e->cut)
		return;
	if (strcmp(c->method, "watch") == 0) {
		do_watch(c);
		return;
	}
	if (!leases_live(c->body)) {
		memory_answer(c, NULL, -ENOENT);
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
	memory_answer(c, body, 0);
}
