// SPDX-License-Identifier: Apache-2.0
/* Life and death of a flow. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "userstack/stack.h"

struct flow *flow_new(struct stack *s, enum flow_state state)
{
	struct flow *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->watch.fd = -1;
	f->state = state;
	f->since = s->now;
	TAILQ_INSERT_TAIL(&s->flows, f, entry);
	s->flows_n++;
	return f;
}

/* ---- by the ends of their carriers ---- */

/* port: of the carrier listener. */
static unsigned ends_bucket(const struct dmm_addr *src, uint16_t port)
{
	uint32_t w[4], h;

	memcpy(w, src->ip, 16);
	h = w[0] ^ w[1] * 0x85ebca6bu ^ w[2] ^ w[3] * 0xc2b2ae35u;
	h = (h ^ ((uint32_t)port << 16 | src->port)) * 0x9e3779b1u;
	return (h ^ h >> 15) % STACK_BUCKETS;
}

/* Cookies are given in turn. */
static unsigned cookie_bucket(dmm_u64 cookie)
{
	return cookie % STACK_BUCKETS;
}

static struct flow **flow_bucket(struct stack *s, const struct flow *f)
{
	return &s->ends_hash[f->rec.role == DMM_ROLE_SERVER
				     ? cookie_bucket(f->rec.cookie)
				     : ends_bucket(&f->tuple.src, f->tuple.dst.port)];
}

/* Before those that had the same ends. */
void flow_add_ends(struct stack *s, struct flow *f)
{
	struct flow **at = flow_bucket(s, f);

	f->end_next = *at;
	*at = f;
	f->has_ends = true;
}

static void flow_del_ends(struct stack *s, struct flow *f)
{
	struct flow **at = flow_bucket(s, f);

	while (*at != f)
		at = &(*at)->end_next;
	*at = f->end_next;
	f->has_ends = false;
}

static bool flow_is_from(const struct flow *f, const struct dmm_addr *src, uint16_t port)
{
	return f->rec.role == DMM_ROLE_CLIENT && f->tuple.src.port == src->port &&
	       f->tuple.dst.port == port && !memcmp(f->tuple.src.ip, src->ip, 16);
}

struct flow *flow_held(const struct stack *s, const struct dmm_addr *src, uint16_t port)
{
	struct flow *f = s->ends_hash[ends_bucket(src, port)];

	while (f && !(f->held && flow_is_from(f, src, port)))
		f = f->end_next;
	return f;
}

struct flow *flow_of_ends(const struct stack *s, const struct dmm_tuple *t, dmm_u64 cookie)
{
	struct flow *f = s->ends_hash[ends_bucket(&t->src, t->dst.port)];

	while (f && !flow_is_from(f, &t->src, t->dst.port))
		f = f->end_next;
	if (f)
		return f;
	f = s->ends_hash[cookie_bucket(cookie)];
	while (f && !(f->rec.role == DMM_ROLE_SERVER && f->rec.cookie == cookie))
		f = f->end_next;
	return f;
}

void flow_set_state(struct stack *s, struct flow *f, enum flow_state state)
{
	f->state = state;
	f->since = s->now;
}

void flow_queue(struct stack *s, struct flow *f)
{
	if (f->in_work || f->state != FLOW_OPEN)
		return;
	f->in_work = true;
	TAILQ_INSERT_TAIL(&s->work, f, work_entry);
}

void flow_drop_engine(struct stack *s, struct flow *f, bool graceful)
{
	bool server = f->rec.role == DMM_ROLE_SERVER;
	struct owned *o = f->owned;
	struct engine_conn *c;

	if (!o)
		return;
	c = o->conn;
	f->owned = NULL;
	o->flow = NULL;
	o->conn = NULL;
	if (!c)
		return;
	/* the kernel may get a connection of these addresses, where it could choose the port */
	if (server ? !listen_owns(s, &o->local) : f->rec.local.port != 0)
		owned_closed(s, o);
	/* Either may release o at once. */
	if (graceful)
		s->c.engine->close(c);
	else
		s->c.engine->abort(c);
}

static void flow_end(struct stack *s, struct flow *f)
{
	bool counted = f->state == FLOW_OPEN || f->state == FLOW_JOINING ||
		       f->state == FLOW_RELEASED;

	if (counted) {
		STACK_COUNT(s, CONN_CLOSED, 1);
		if (f->reset)
			STACK_COUNT(s, CONN_RESET, 1);
	}
	if (f->held)
		carrier_unhold(s, f);
	if (f->has_ends)
		flow_del_ends(s, f);
	if (f->in_work)
		TAILQ_REMOVE(&s->work, f, work_entry);
	f->in_work = false;
	if (f->waits)
		TAILQ_REMOVE(&s->lost, f, lost_entry);
	f->waits = false;
	if (f->watch.fd >= 0)
		close(f->watch.fd);
	f->watch.fd = -1;
	f->watch.cb = NULL;
	f->state = FLOW_DEAD;
	TAILQ_REMOVE(&s->flows, f, entry);
	TAILQ_INSERT_TAIL(&s->dead, f, entry);
	s->flows_n--;
}

static void flow_explain(const struct flow *f, const char *why)
{
	static const char *const state[] = {
		[FLOW_CONNECTING] = "connecting",
		[FLOW_RELEASED] = "released",
		[FLOW_SILENT] = "silent",
		[FLOW_JOINING] = "joining",
		[FLOW_OPEN] = "open",
	};
	char remote[ADDR_STRLEN], local[ADDR_STRLEN];

	log_debug("flow %s - %s, %s: %s",
		  f->owned ? addr_format(&f->owned->local, local, sizeof(local)) : "?",
		  addr_format(&f->rec.remote, remote, sizeof(remote)), state[f->state], why);
}

void flow_kill(struct stack *s, struct flow *f, const char *why)
{
	if (f->state == FLOW_DEAD)
		return;
	if (s->c.debug)
		flow_explain(f, why);
	f->reset = true;
	measure_flow(s, f);
	flow_drop_engine(s, f, false);
	flow_end(s, f);
}

void flow_finish(struct stack *s, struct flow *f)
{
	measure_flow(s, f);
	relay_set_abortive(f->watch.fd, false);
	flow_drop_engine(s, f, true);
	flow_end(s, f);
}

void flow_reap(struct stack *s)
{
	struct flow *f;

	while ((f = TAILQ_FIRST(&s->dead))) {
		TAILQ_REMOVE(&s->dead, f, entry);
		free(f->left);
		free(f);
	}
}
