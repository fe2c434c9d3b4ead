// SPDX-License-Identifier: Apache-2.0
/* DCTCP (RFC 8257): the window shrinks by how much was marked. For networks that mark early. */
#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

#define DCTCP_GAIN (1.0 / 16)

static bool dctcp_init(struct engine_conn *c)
{
	c->cc_state.dctcp = (struct dctcp){.window_end = c->snd_nxt, .alpha = 1};
	return true;
}

static void dctcp_grow(struct engine_conn *c, uint32_t bytes, uint32_t rtt_us)
{
	(void)rtt_us;
	bytes = cc_slow_start(c, bytes);
	if (bytes)
		c->cwnd = cc_avoidance(c->cwnd, c->mss, bytes, &c->cc_state.dctcp.credit);
}

static uint32_t dctcp_shrink(struct engine_conn *c, enum congestion how)
{
	if (how != CONGESTION_REDUCE)
		return cc_half(c, how);
	return MAX((uint32_t)(c->cwnd * (1 - c->cc_state.dctcp.alpha / 2)), 2 * c->mss);
}

static void dctcp_mark(struct engine_conn *c, uint32_t bytes, bool marked)
{
	struct dctcp *d = &c->cc_state.dctcp;

	d->acked += bytes;
	d->marked += marked ? bytes : 0;
	if (seq_lt(c->snd_una, d->window_end) || !d->acked)
		return;
	d->alpha = (1 - DCTCP_GAIN) * d->alpha + DCTCP_GAIN * d->marked / d->acked;
	d->acked = d->marked = 0;
	d->window_end = c->snd_nxt;
}

const struct cc_ops cc_dctcp = {
	.name = "dctcp",
	.init = dctcp_init,
	.grow = dctcp_grow,
	.shrink = dctcp_shrink,
	.mark = dctcp_mark,
};
