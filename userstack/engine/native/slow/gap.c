// SPDX-License-Identifier: Apache-2.0
/* Bytes out of order: where they are, and what SACK tells of them (RFC 2018, 2883). A FIN out of
 * order is behind the last range, which is empty if nothing but the FIN has come. */
#include <string.h>

#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

void gap_free(struct engine_conn *c)
{
	if (c->gaps)
		pool_put(&c->e->gaps, c->gaps);
	c->gaps = NULL;
}

/* The peer sent this again though it is here. What is told last is told first. */
void gap_duplicate(struct engine_conn *c, uint32_t from, uint32_t to)
{
	if (!c->sack || !seq_lt(from, to))
		return;
	c->dsack = true;
	c->dsack_range = (struct range){.from = from, .to = to};
}

/* Ranges i to j - 1 become the one r. */
static void gap_replace(struct gaps *g, unsigned i, unsigned j, struct range r)
{
	memmove(&g->range[i + 1], &g->range[j], (g->n - j) * sizeof(r));
	g->n = g->n + 1 - (j - i);
	g->range[i] = r;
}

void gap_receive(struct engine_conn *c, uint32_t seq, const uint8_t *data, uint32_t len)
{
	struct gaps *g = c->gaps;
	struct range r = {.from = seq, .to = seq + len};
	unsigned i, j;

	if (c->ack_now && !c->sack) /* a sender without SACK counts them (RFC 5681, 3.2) */
		output_ack(c);
	c->ack_now = true;
	conn_queue(c);
	if (!g) {
		g = pool_get(&c->e->gaps);
		if (!g) {
			engine_drop(c->e, ENGINE_DROP_ROOM);
			return;
		}
		g->n = g->stamp = 0;
	}
	for (i = 0; i < g->n && seq_lt(g->range[i].to, r.from); i++)
		;
	for (j = i; j < g->n && seq_le(g->range[j].from, r.to); j++)
		;
	c->gaps = g;
	if (i == j && g->n == GAP_RANGES) { /* too many islands: this one comes again */
		engine_drop(c->e, ENGINE_DROP_ROOM);
		return;
	}
	for (unsigned k = j; k-- > i;) /* of several the first is told: RFC 2883, 4.2.3 */
		gap_duplicate(c, seq_max(seq, g->range[k].from),
			      seq_min(seq + len, g->range[k].to));
	if (i == j || seq_lt(seq, g->range[i].from) || seq_lt(g->range[i].to, seq + len))
		r.to = seq +
		       (uint32_t)stream_write(&c->rx, &c->e->chunks, c->rcv_read, seq, data, len);
	while (j > i && seq_lt(r.to, g->range[j - 1].from))
		j--; /* there was not memory for all of it */
	if ((len && r.to == r.from) || (i == j && g->n == GAP_RANGES)) {
		engine_drop(c->e, ENGINE_DROP_ROOM);
		if (!g->n)
			gap_free(c);
		return;
	}
	for (unsigned k = i; k < j; k++) {
		r.from = seq_min(r.from, g->range[k].from);
		r.to = seq_max(r.to, g->range[k].to);
	}
	r.stamp = ++g->stamp;
	gap_replace(g, i, j, r);
}

void gap_close(struct engine_conn *c)
{
	struct gaps *g = c->gaps;
	unsigned i;

	if (!c->dsack)
		gap_duplicate(c, g->range[0].from, seq_min(g->range[0].to, c->rcv_nxt));
	for (i = 0; i < g->n && seq_le(g->range[i].from, c->rcv_nxt); i++)
		c->rcv_nxt = seq_max(c->rcv_nxt, g->range[i].to);
	memmove(&g->range[0], &g->range[i], (g->n - i) * sizeof(g->range[0]));
	g->n -= i;
	c->ack_now = true;
	conn_queue(c);
	if (!g->n)
		gap_free(c);
}

unsigned gap_sack(struct engine_conn *c, struct range *ret, unsigned n)
{
	uint32_t below = UINT32_MAX;
	unsigned k = 0;

	if (c->dsack)
		ret[k++] = c->dsack_range;
	c->dsack = false;
	for (; c->gaps && k < n; k++) {
		const struct range *latest = NULL;

		for (unsigned i = 0; i < c->gaps->n; i++) {
			const struct range *r = &c->gaps->range[i];

			if (r->stamp < below && (!latest || r->stamp > latest->stamp))
				latest = r;
		}
		if (!latest)
			break;
		below = latest->stamp;
		ret[k] = *latest;
		ret[k].to += c->fin_seen && c->fin_seq == latest->to;
	}
	return k;
}
