// SPDX-License-Identifier: Apache-2.0
/* What the congestion controls share, and the plain one. */
#include <string.h>

#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

uint32_t cc_initial_window(uint32_t mss)
{
	return MIN(10 * mss, MAX(2 * mss, 14600u));
}

uint32_t cc_slow_start(struct engine_conn *c, uint32_t bytes)
{
	uint32_t room;

	if (c->cwnd >= c->ssthresh)
		return bytes;
	room = MIN(bytes, c->ssthresh - c->cwnd);
	c->cwnd += room;
	return bytes - room;
}

/* Appropriate byte counting (RFC 3465): a segment for each window's worth of bytes. */
uint32_t cc_avoidance(uint32_t cwnd, uint32_t mss, uint32_t bytes, uint32_t *credit)
{
	*credit += bytes;
	if (*credit < cwnd)
		return cwnd;
	*credit -= cwnd;
	return cwnd + mss;
}

static bool newreno_init(struct engine_conn *c)
{
	c->cc_state.newreno_credit = 0;
	return true;
}

static void newreno_grow(struct engine_conn *c, uint32_t bytes, uint32_t rtt_us)
{
	(void)rtt_us;
	bytes = cc_slow_start(c, bytes);
	if (bytes)
		c->cwnd = cc_avoidance(c->cwnd, c->mss, bytes, &c->cc_state.newreno_credit);
}

uint32_t cc_half(struct engine_conn *c, enum congestion how)
{
	(void)how;
	return MAX(c->cwnd / 2, 2 * c->mss);
}

const struct cc_ops cc_newreno = {
	.name = "newreno",
	.init = newreno_init,
	.grow = newreno_grow,
	.shrink = cc_half,
};

const struct cc_ops *cc_find(const char *name)
{
	static const struct cc_ops *const controls[] = {&cc_cubic, &cc_newreno, &cc_dctcp, &cc_bbr};

	for (unsigned i = 0; i < ARRAY_SIZE(controls); i++)
		if (!strcmp(controls[i]->name, name))
			return controls[i];
	return NULL;
}

void cc_end(struct engine_conn *c)
{
	if (c->cc->fini)
		c->cc->fini(c);
}

void cc_begin(struct engine_conn *c, const struct cc_ops *cc)
{
	cc_end(c);
	c->cc_state = (union cc_state){0};
	c->cc = cc->init(c) ? cc : &cc_newreno;
}
