// SPDX-License-Identifier: Apache-2.0
#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

void rate_limit(struct engine_conn *c)
{
	c->rate->limited = true;
	c->rate->limited_end = c->rate->delivered + conn_flying(c);
}

/* What is written in pieces within one turn was not late. */
void rate_check(struct engine_conn *c)
{
	if (!seq_lt(c->snd_nxt, c->snd_end) && c->sent_at < c->e->now && !c->lost &&
	    conn_flying(c) < c->cwnd)
		rate_limit(c);
}

void rate_sent(struct engine_conn *c, struct sent *t)
{
	struct rate *r = c->rate;

	if (c->flying == t->end - t->seq) { /* nothing else is under way */
		r->first_at = r->delivered_at = c->e->now;
		if (r->limited && c->cc->restart)
			c->cc->restart(c);
	}
	*sent_rate(t) = (struct sent_rate){
		.first_at = r->first_at,
		.delivered_at = r->delivered_at,
		.delivered = r->delivered,
		.lost = r->lost,
		.flying = c->flying,
		.limited = r->limited,
	};
}

void rate_delivered(struct engine_conn *c, struct sent *t)
{
	uint64_t rtt = MAX(c->e->now - t->at, 1ull);
	struct rate *r = c->rate;

	r->delivered += t->end - t->seq;
	r->delivered_at = c->e->now;
	if (!t->again)
		r->rtt = r->rtt ? MIN(r->rtt, rtt) : rtt;
	if (r->any &&
	    (t->at < r->first_at || (t->at == r->first_at && seq_le(t->end, r->newest_end))))
		return;
	r->any = true;
	r->newest_end = t->end;
	r->newest = *sent_rate(t);
	r->send_elapsed = t->at - r->newest.first_at;
	r->first_at = t->at;
}

void rate_lost(struct engine_conn *c, struct sent *t)
{
	c->rate->lost += t->end - t->seq;
	c->cc->lost(c, t);
}

/* Less than the shortest round trip: the ACK was of an earlier transmission. */
static uint64_t rate_of(const struct engine_conn *c, uint32_t delivered)
{
	const struct rate *r = c->rate;
	uint64_t interval = MAX(r->send_elapsed, r->delivered_at - r->newest.delivered_at);

	return interval && interval >= c->min_rtt_us * 1000ull ? delivered * SECOND / interval : 0;
}

void rate_finish(struct engine_conn *c, uint32_t flying_before, uint32_t bytes)
{
	struct rate *r = c->rate;
	struct rate_sample s;

	if (r->limited && seq_lt(r->limited_end, r->delivered))
		r->limited = false;
	if (!r->any)
		return;
	s = (struct rate_sample){
		.rtt = r->rtt,
		.delivered = r->delivered - r->newest.delivered,
		.prior = r->newest.delivered,
		.lost = r->lost - r->newest.lost,
		.flying = r->newest.flying,
		.before = flying_before,
		.bytes = bytes,
		.limited = r->newest.limited,
	};
	s.rate = rate_of(c, s.delivered);
	r->any = false;
	r->rtt = 0;
	c->cc->sample(c, &s);
}
