// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "policyd/trend.h"

/* A name may be another stack's later: it is kept. "": no stack. */
struct point {
	char name[DMM_NAME_LEN];
	bool counted; /* its bytes are */
	dmm_u64 sockets, decided, bytes;
};

struct trend {
	struct {
		dmm_u64 at_ms;
		struct point stack[DMM_MAX_STACKS];
	} sample[TREND_KEEP];
	unsigned n, next;
};

struct trend *trend_new(void)
{
	return calloc(1, sizeof(struct trend));
}

void trend_free(struct trend *t)
{
	free(t);
}

static dmm_u64 decided(const struct telemetry *now, unsigned id)
{
	dmm_u64 sum = 0;

	for (unsigned role = 0; role < DMM_ROLES; role++)
		for (unsigned reason = 0; reason < DMM_REASON_COUNT; reason++)
			sum += now->verdict[DMM_VERDICT_INDEX(id, role, reason)];
	return sum;
}

void trend_add(struct trend *t, const struct telemetry *now, dmm_u64 at_ms)
{
	t->sample[t->next].at_ms = at_ms;
	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		const struct dmm_stack_rec *rec = &now->class->stack[id];
		const struct telemetry_stack *s = &now->stack[id];
		struct point *p = &t->sample[t->next].stack[id];

		memset(p, 0, sizeof(*p));
		if (rec->kind == DMM_KIND_FREE)
			continue;
		memcpy(p->name, rec->name, sizeof(p->name));
		p->sockets = s->active;
		p->decided = decided(now, id);
		if (rec->kind == DMM_KIND_USERSPACE)
			p->bytes = s->counter[DMM_I_APP_RX_BYTES] + s->counter[DMM_I_APP_TX_BYTES];
		else
			p->bytes = s->measured.rx_bytes + s->measured.tx_bytes;
		p->counted = rec->kind == DMM_KIND_USERSPACE || s->measured.ended;
	}
	t->next = (t->next + 1) % TREND_KEEP;
	if (t->n < TREND_KEEP)
		t->n++;
}

static json_t *points(const struct point *p)
{
	json_t *all = json_object();

	for (unsigned id = 0; id < DMM_MAX_STACKS; id++, p++) {
		json_t *o;

		if (!p->name[0])
			continue;
		o = json_pack("{s:I, s:I}", "sockets", (json_int_t)p->sockets, "decided",
			      (json_int_t)p->decided);
		if (p->counted)
			json_object_set_new(o, "bytes", json_integer((json_int_t)p->bytes));
		json_object_set_new(all, p->name, o);
	}
	return all;
}

json_t *trend_json(const struct trend *t)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < t->n; i++) {
		unsigned k = (t->next + TREND_KEEP - t->n + i) % TREND_KEEP;

		json_array_append_new(list, json_pack("{s:I, s:o}", "at_ms",
						      (json_int_t)t->sample[k].at_ms, "stacks",
						      points(t->sample[k].stack)));
	}
	return list;
}
