/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold of a connection between any two calls of its engine. */
#ifndef DMM_TESTS_CONFORM_INVARIANT_H
#define DMM_TESTS_CONFORM_INVARIANT_H

#include <CUnit/CUnit.h>

#include "userstack/engine/native/native.h"

static inline void invariant_conn(const struct engine_conn *c)
{
	uint32_t count[3] = {0}, at = c->snd_una;
	struct sent *t;
	uint64_t last = 0;
	unsigned flight = 0, flying = 0;

	TAILQ_FOREACH(t, &c->sent, entry)
	{
		CU_ASSERT_EQUAL(t->seq, at);
		CU_ASSERT(seq_lt(t->seq, t->end));
		count[t->state] += t->end - t->seq;
		flying += t->state == SENT_FLYING;
		at = t->end;
	}
	TAILQ_FOREACH(t, &c->flight, time_entry)
	{
		CU_ASSERT(t->state == SENT_FLYING && t->at >= last);
		last = t->at;
		flight++;
	}
	CU_ASSERT_EQUAL(flight, flying);
	CU_ASSERT_EQUAL(c->flying, count[SENT_FLYING]);
	CU_ASSERT_EQUAL(c->sacked, count[SENT_SACKED]);
	CU_ASSERT_EQUAL(c->lost, count[SENT_LOST]);
	if (conn_synchronized(c))
		CU_ASSERT_EQUAL(at, c->snd_nxt);
	CU_ASSERT(c->cwnd >= c->mss || c->congestion >= CONGESTION_REDUCE);
	CU_ASSERT(seq_le(c->snd_una, c->snd_nxt));
	CU_ASSERT(seq_le(c->rcv_read, c->rcv_nxt));
	if (c->gaps)
		for (unsigned i = 0; i < c->gaps->n; i++) {
			CU_ASSERT(seq_lt(c->gaps->range[i].from, c->gaps->range[i].to));
			CU_ASSERT(seq_lt(i ? c->gaps->range[i - 1].to : c->rcv_nxt,
					 c->gaps->range[i].from));
		}
	/* whoever waits for something has a timer */
	if (conn_synchronized(c) && c->snd_nxt != c->snd_una)
		CU_ASSERT(c->due[DUE_RETRANSMIT] != NEVER);
}

#endif
