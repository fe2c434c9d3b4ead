// SPDX-License-Identifier: Apache-2.0
/* What is due. */
#include <errno.h>

#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

#define SILENCE_TIMEOUT (900 * SECOND) /* for bytes that nobody answers: R2 of RFC 9293, 3.8.3 */
#define ORPHAN_TIMEOUT \
	(100 * SECOND) /* for the last bytes of a connection that the host closed \
			*/
#define KEEPALIVES 9
#define KEEPALIVE_EVERY (75 * SECOND)

static void timer_syn(struct engine_conn *c)
{
	if (c->backoff >= (c->connecting ? SYN_RETRIES : SYN_ACK_RETRIES)) {
		conn_fail(c, ETIMEDOUT);
		return;
	}
	c->backoff++;
	open_send_syn_again(c);
}

/* A tail loss probe: new data if there is some, else the last segment once more. */
static void timer_tail(struct engine_conn *c)
{
	c->tlp_again = !output_probe_new(c) && output_again(c, TAILQ_LAST(&c->sent, sent_list));
	c->tlp_out = true; /* what failed the RTO does again */
	c->tlp_end = c->snd_nxt;
	c->rto_from = c->e->now;
}

/* The window is closed, or too small for what waits: that goes as it is, for the override timeout
 * of RFC 9293, 3.8.6.2.1. */
static void timer_window(struct engine_conn *c)
{
	recovery_backoff(c);
	if (!output_probe_new(c))
		output_window_probe(c);
}

uint64_t timer_end(const struct engine_conn *c)
{
	uint64_t asked = c->e->tune.user_timeout, limit = asked ? asked : SILENCE_TIMEOUT;

	return c->progress_at + (c->closed ? MIN(limit, ORPHAN_TIMEOUT) : limit);
}

static void timer_retransmit(struct engine_conn *c)
{
	if (c->state == TCP_SYN_SENT || c->state == TCP_SYN_RCVD) {
		timer_syn(c);
		return;
	}
	if (c->e->now >= timer_end(c)) {
		conn_fail(c, ETIMEDOUT);
		return;
	}
	if (c->probe == PROBE_TAIL)
		timer_tail(c);
	else if (c->probe == PROBE_WINDOW)
		timer_window(c);
	else if (c->probe == PROBE_RTO)
		recovery_timeout(c);
	output_conn(c);
}

static void timer_reorder(struct engine_conn *c)
{
	if (!loss_detect(c))
		return;
	if (c->congestion == CONGESTION_OPEN || c->congestion == CONGESTION_REDUCE) {
		recovery_enter(c, CONGESTION_RECOVER);
		if (!c->rate)
			c->cwnd = conn_flying(c) + c->mss;
	}
	output_conn(c);
}

/* RFC 9293, 3.8.4: does the peer still know of us? Only asked when it has been silent. */
static void timer_keepalive(struct engine_conn *c)
{
	uint64_t due = c->received_at + c->e->tune.keepalive;

	if (c->snd_una != c->snd_nxt) /* that is answered, or times out */
		due = c->e->now + c->e->tune.keepalive;
	if (due > c->e->now) {
		conn_set_due(c, DUE_LIFE, due);
		return;
	}
	if (c->keepalives++ == KEEPALIVES) {
		conn_fail(c, ETIMEDOUT);
		return;
	}
	output_window_probe(c);
	conn_set_due(c, DUE_LIFE, c->e->now + KEEPALIVE_EVERY);
}

static void timer_life(struct engine_conn *c)
{
	if (c->state == TCP_TIME_WAIT || (c->state == TCP_FIN_WAIT_2 && c->closed))
		conn_end(c);
	else if (c->e->tune.keepalive)
		timer_keepalive(c);
}

static void timer_due(struct engine_conn *c, enum due what)
{
	switch (what) {
	case DUE_RETRANSMIT:
		timer_retransmit(c);
		break;
	case DUE_REORDER:
		timer_reorder(c);
		break;
	case DUE_ACK:
		output_ack(c);
		break;
	case DUE_PACE:
		output_conn(c);
		break;
	case DUE_LIFE:
	case DUES:
		timer_life(c);
		break;
	}
}

static void timer_conn(struct engine_conn *c, uint64_t now)
{
	uint64_t next = NEVER;

	for (unsigned i = 0; i < DUES && c->state != TCP_CLOSED; i++)
		if (c->due[i] <= now) {
			c->due[i] = NEVER;
			timer_due(c, i);
		}
	if (c->state == TCP_CLOSED)
		return;
	for (unsigned i = 0; i < DUES; i++)
		next = MIN(next, c->due[i]);
	if (next != NEVER && (!c->timer.tick || next / WHEEL_TICK_NS + 1 < c->timer.tick))
		wheel_arm(&c->e->wheel, &c->timer, next);
}

void timer_run(struct engine *e)
{
	struct timer *t;

	while ((t = wheel_expire(&e->wheel, e->now)))
		timer_conn(container_of(t, struct engine_conn, timer), e->now);
}
