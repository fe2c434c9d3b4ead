// SPDX-License-Identifier: Apache-2.0
/*
 * Telemetry of the connections that the instance carries. Their beginning is told by dmm_measure,
 * from the application's socket; what they were like only the engine knows, as that socket speaks
 * of the carrier.
 */
#include <string.h>

#include "userstack/stack.h"

static void measure_add(volatile struct dmm_measures *all, const struct flow *f,
			const struct dmm_sample *m)
{
	all->ended++;
	all->life_us += m->life_us;
	all->rx_bytes += f->to_app;
	all->tx_bytes += f->from_app;
	all->segments += m->segments;
	all->resent += m->resent;
	if (m->error)
		all->failed[dmm_failure_of(m->error)]++;
	if (m->srtt_us)
		all->srtt[dmm_hist_bucket(m->srtt_us)]++;
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
	measure_add(&s->tree.carried[s->id], f, &m);
	samples_put(&s->samples, &m);
}
