// SPDX-License-Identifier: Apache-2.0
/*
 * Telemetry of the connections that the instance carries. Their beginning is told by dmm_measure,
 * from the application's socket; what they were like only the engine knows, as that socket speaks
 * of the carrier.
 */
#include <string.h>

#include "userstack/stack.h"

/* Threads share them. */
static void measure_word(volatile dmm_u64 *word, dmm_u64 n)
{
	__atomic_fetch_add(word, n, __ATOMIC_RELAXED);
}

static void measure_add(volatile struct dmm_measures *all, const struct flow *f,
			const struct dmm_sample *m)
{
	measure_word(&all->ended, 1);
	measure_word(&all->life_us, m->life_us);
	measure_word(&all->rx_bytes, f->to_app);
	measure_word(&all->tx_bytes, f->from_app);
	measure_word(&all->segments, m->segments);
	measure_word(&all->resent, m->resent);
	if (m->error)
		measure_word(&all->failed[dmm_failure_of(m->error)], 1);
	if (m->srtt_us)
		measure_word(&all->srtt[dmm_hist_bucket(m->srtt_us)], 1);
}

void measure_flow(struct stack *s, const struct flow *f)
{
	struct dmm_sample m = {.kind = DMM_SAMPLE_END, .error = (dmm_u32)f->failed};
	struct engine_info info;

	if (!f->rec.measure || f->rec.role != DMM_ROLE_CLIENT || f->state != FLOW_OPEN ||
	    !f->owned || !f->owned->conn)
		return;
	s->c.engine->info(f->owned->conn, &info);
	m.measure = DMM_MEASURE_NUMBER(f->rec.measure);
	m.stack = (dmm_u8)s->id;
	memcpy(m.remote, f->rec.remote.ip, sizeof(m.remote));
	m.srtt_us = info.srtt_us;
	m.bytes = f->from_app + f->to_app;
	m.life_us = (s->now - f->rec.since_ns) / 1000;
	m.segments = info.segments;
	m.resent = info.resent;
	measure_add(&s->tree->carried[s->id], f, &m);
	samples_put(&s->samples, &m);
}
