// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/util.h"
#include "tests/nrd/memory_store.h"

#define START_NS (1000 * SECOND_NS) /* the clock is not 0 at the beginning, as everywhere */

struct memory memory;

/* In place of the C library's. */
int clock_gettime(clockid_t id, struct timespec *ret)
{
	(void)id;
	ret->tv_sec = (time_t)(memory.now_ns / SECOND_NS);
	ret->tv_nsec = (long)(memory.now_ns % SECOND_NS);
	return 0;
}

uint64_t memory_now(void)
{
	return memory.now_ns;
}

static uint64_t draw(uint64_t below)
{
	memory.random = memory.random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (memory.random >> 16) % (below ? below : 1);
}

void *memory_grow(void *list, size_t n, size_t size)
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
	size_t i = memory.n_todo;

	t.number = memory.number++;
	if (t.call)
		t.call->refs++;
	memory.todo = memory_grow(memory.todo, memory.n_todo, sizeof(t));
	memory.n_todo++;
	for (; i > 0 && before(&t, &memory.todo[(i - 1) / 2]); i = (i - 1) / 2)
		memory.todo[i] = memory.todo[(i - 1) / 2];
	memory.todo[i] = t;
}

static struct todo todo_take(void)
{
	struct todo first = memory.todo[0], last = memory.todo[--memory.n_todo];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < memory.n_todo &&
		    before(&memory.todo[child + 1], &memory.todo[child]))
			child++;
		if (child >= memory.n_todo || !before(&memory.todo[child], &last))
			break;
		memory.todo[i] = memory.todo[child];
		i = child;
	}
	if (memory.n_todo)
		memory.todo[i] = last;
	return first;
}

static void call_unref(struct call *c)
{
	if (--c->refs > 0)
		return;
	json_decref(c->body);
	free(c);
}

void memory_answer(struct call *c, json_t *body, int error)
{
	memory.busy_ns = MAX(memory.busy_ns, memory.now_ns) + memory.service_ns;
	todo_add((struct todo){.at_ns = memory.busy_ns + memory.latency_ns / 2,
			       .step = STEP_TELL,
			       .call = c,
			       .answer = body,
			       .error = error});
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
			todo_add((struct todo){.at_ns = memory.now_ns,
					       .step = STEP_TELL,
					       .call = c,
					       .error = -EAGAIN});
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
	memory.busy_ns = MAX(memory.busy_ns, memory.now_ns) + memory.service_ns;
	todo_add((struct todo){
		.at_ns = memory.busy_ns + memory.latency_ns / 2, .step = STEP_ARRIVE, .call = c});
	if (!stream)
		todo_add((struct todo){.at_ns = memory.now_ns + timeout_ns() +
						(memory.busy_ns - memory.now_ns),
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
	(*ret)->next = memory.clients;
	memory.clients = *ret;
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
	at_ns = MAX(at_ns, memory.now_ns + 1000000); /* a loop looks once a millisecond at most */
	if (at_ns == UINT64_MAX || (e->wake_ns > memory.now_ns && e->wake_ns <= at_ns))
		return;
	e->wake_ns = at_ns;
	todo_add((struct todo){.at_ns = at_ns, .step = STEP_WAKE, .e = e});
}

static void forget_watches(void)
{
	for (struct topic *t = memory.topic; t < memory.topic + memory.n_topics; t++) {
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
	memory.now_ns = MAX(memory.now_ns, t->at_ns);
	switch (t->step) {
	case STEP_ARRIVE:
		store_arrive(t->call);
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
		store_expire();
		forget_watches();
		todo_add((struct todo){.at_ns = memory.now_ns + SECOND_NS, .step = STEP_EXPIRE});
		break;
	}
	json_decref(t->answer);
	if (t->call)
		call_unref(t->call);
}

void memory_run(uint64_t end_ns)
{
	end_ns += START_NS;
	while (memory.n_todo && memory.todo[0].at_ns <= end_ns) {
		struct todo t = todo_take();

		step(&t);
	}
	memory.now_ns = MAX(memory.now_ns, end_ns);
}

void memory_begin(uint64_t latency_ns, uint64_t service_ns, uint64_t seed)
{
	memset(&memory, 0, sizeof(memory));
	memory.now_ns = START_NS;
	memory.latency_ns = latency_ns;
	memory.service_ns = service_ns;
	memory.random = seed;
	memory.revision = 1;
	memory.cluster = 1 + seed;
	todo_add((struct todo){.at_ns = memory.now_ns + SECOND_NS, .step = STEP_EXPIRE});
}

static void forget_all(void)
{
	for (size_t i = 0; i < memory.n_keys; i++) {
		free(memory.keys[i].key);
		free(memory.keys[i].value);
	}
	for (size_t i = 0; i < memory.n_events; i++) {
		free(memory.events[i].key);
		free(memory.events[i].value);
	}
	for (size_t i = 0; i < memory.n_topics; i++)
		memory.topic[i].n_events = 0;
	memory.n_keys = memory.n_events = memory.n_leases = 0;
}

void memory_end(void)
{
	while (memory.n_todo) {
		struct todo t = todo_take();

		json_decref(t.answer);
		if (t.call)
			call_unref(t.call);
	}
	for (struct topic *t = memory.topic; t < memory.topic + memory.n_topics; t++) {
		for (size_t i = 0; i < t->n; i++)
			call_unref(t->list[i]);
		free(t->list);
		free(t->event);
		free(t->from);
		free(t->to);
	}
	while (memory.clients) {
		struct etcd *e = memory.clients;

		memory.clients = e->next;
		free(e);
	}
	forget_all();
	free(memory.keys);
	free(memory.events);
	free(memory.leases);
	free(memory.todo);
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
	for (struct topic *t = memory.topic; t < memory.topic + memory.n_topics; t++)
		for (size_t i = 0; i < t->n; i++)
			if (t->list[i]->e)
				todo_add((struct todo){.at_ns = memory.now_ns,
						       .step = STEP_TELL,
						       .call = t->list[i],
						       .error = -EAGAIN});
}

void memory_compact(void)
{
	memory.compacted = memory.revision;
}

void memory_lose(void)
{
	forget_all();
	memory.revision = 1;
	memory.compacted = 0;
	memory.cluster++;
	memory_restart();
}

void memory_drop_answers(struct etcd *e, unsigned n)
{
	e->drop = n;
}

const char *memory_get(const char *key)
{
	bool there;
	size_t at = store_find(key, &there);

	return there ? memory.keys[at].value : NULL;
}

void memory_put(const char *key, const char *value)
{
	size_t from = memory.n_events;

	memory.revision++;
	if (value)
		store_put(key, value, 0);
	else
		store_delete(key);
	store_publish(from);
}

size_t memory_count(const char *prefix)
{

	size_t n = 0;

	for (size_t i = 0; i < memory.n_keys; i++)
		n += strncmp(memory.keys[i].key, prefix, strlen(prefix)) == 0;
	return n;
}
