// SPDX-License-Identifier: Apache-2.0
#include "lib/base/util.h"
#include "userstack/net/source.h"

bool sources_wait(const struct sources *s)
{
	return s->t && s->next < s->t->n;
}

void sources_table(struct sources *s, const struct route_table *was, const struct route_table *t)
{
	s->next = s->next < was->n ? route_table_place(t, &was->route[s->next]) : t->n;
	s->t = t;
	s->left = SOURCES_TURN;
}

static bool source_asked(const struct route *r)
{
	return r->type == DMM_ROUTE_VIA && !(r->v4 && r->has_source);
}

void sources_publish(struct sources *s, const struct route *r)
{
	dmm_u8 source[16] = {0};

	if (!source_asked(r)) {
		s->publish(s->ctx, r, r->source);
		return;
	}
	if (s->left) {
		s->left--;
		s->ask(s->ctx, r, source);
	} else {
		s->next = MIN(s->next, (unsigned)(r - s->t->route));
	}
	s->publish(s->ctx, r, source);
}

void sources_turn(struct sources *s)
{
	s->left = SOURCES_TURN;
	for (; s->left && sources_wait(s); s->next++)
		if (source_asked(&s->t->route[s->next]))
			sources_publish(s, &s->t->route[s->next]);
}
