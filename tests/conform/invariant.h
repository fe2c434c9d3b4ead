/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold of a connection between any two calls of its engine. INVARIANT(what) is CUnit's
 * assertion, unless the includer has another. */
#ifndef DMM_TESTS_CONFORM_INVARIANT_H
#define DMM_TESTS_CONFORM_INVARIANT_H

#include "userstack/engine/native/native.h"

#ifndef INVARIANT
#include <CUnit/CUnit.h>
#define INVARIANT(what) CU_ASSERT(what)
#endif

static inline void invariant_conn(const struct engine_conn *c)
{
	uint32_t count[3] = {0}, at = c->snd_una, sacked = 0;
	struct sent *t;
	uint64_t last = 0;
	unsigned flight = 0, flying = 0;
	uint32_t missing = 0;

	TAILQ_FOREACH(t, &c->sent, entry)
	{
		INVARIANT(t->seq == at);
		INVARIANT(seq_lt(t->seq, t->end));
		count[t->state] += t->end - t->seq;
		flying += t->state == SENT_FLYING;
		sacked += t->state == SENT_SACKED;
		at = t->end;
	}
	if (conn_synchronized(c))
		INVARIANT(at == c->snd_nxt);
	TAILQ_FOREACH(t, &c->flight, time_entry)
	{
		INVARIANT(t->state == SENT_FLYING && t->at >= last);
		last = t->at;
		flight++;
	}
	INVARIANT(flight == flying);
	at = c->snd_una;
	TAILQ_FOREACH(t, &c->missing, time_entry)
	{
		INVARIANT(t->state == SENT_LOST && seq_le(at, t->seq));
		at = t->end;
		missing += t->end - t->seq;
	}
	INVARIANT(c->lost == missing);
	INVARIANT(c->flying == count[SENT_FLYING]);
	INVARIANT(c->sacked == count[SENT_SACKED] && c->sacked_n == sacked);
	INVARIANT(c->lost == count[SENT_LOST]);
	INVARIANT(c->cwnd >= c->mss || c->congestion >= CONGESTION_REDUCE);
	INVARIANT(!c->rate || c->rate->pace);
	INVARIANT(seq_le(c->snd_una, c->snd_nxt));
	INVARIANT(seq_le(c->rcv_read, c->rcv_nxt));
	if (c->gaps)
		for (unsigned i = 0; i < c->gaps->n; i++) {
			INVARIANT(seq_lt(c->gaps->range[i].from, c->gaps->range[i].to) ||
				  (c->fin_seen && c->gaps->range[i].from == c->fin_seq));
			INVARIANT(seq_lt(i ? c->gaps->range[i - 1].to : c->rcv_nxt,
					 c->gaps->range[i].from));
		}
	/* whoever waits for something has a timer */
	if (conn_synchronized(c) && c->snd_nxt != c->snd_una)
		INVARIANT(c->due[DUE_RETRANSMIT] != NEVER);
}

#endif
