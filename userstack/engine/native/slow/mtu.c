// SPDX-License-Identifier: Apache-2.0
/*
 * How large a packet may be: what ICMP says, if it may be believed (RFC 5927), and what can be
 * found out without it (RFC 8899), with bytes of the stream as probes.
 *
 * conn.mtu is what is known to pass, or believed to; mtu_high is what might. Where they differ, now
 * and then a segment of the size to be tried is sent. A segment that is larger than conn.mtu allows
 * is such a probe: if it is lost, that is no congestion. It goes again at once, in pieces.
 *
 * Where IPv4 takes less than what we send at least, routers may cut all but probes.
 */
#include <string.h>

#include "lib/base/util.h"
#include "userstack/engine/native/native.h"

#define MTU_BASE MTU_LEAST6 /* passes everywhere, tunnels included; IPv6 requires it */
#define MTU_CLOSE 16u	    /* two sizes that differ by so little are the same */
#define MTU_TRIES 2	    /* a probe may be lost like any other */
/* In a row. Where it was loss and no black hole, larger ones are tried as soon as something
 * arrives: of 200 transfers none is cut at 3 %; at 10 % half are, and they take no longer than with
 * three. */
#define BLACK_HOLE_TIMEOUTS 2

static uint32_t mtu_max(const struct engine_conn *c)
{
	return MIN(c->e->c.mtu, c->mss_peer + conn_plain_headers(c));
}

static uint32_t sent_payload(const struct sent *t)
{
	return t->end - t->seq - t->fin;
}

bool mtu_exceeded(const struct engine_conn *c, const struct sent *t)
{
	return sent_payload(t) > conn_payload(c);
}

/* Later connections to the same host begin with what this one found. */
static void mtu_remember(struct engine_conn *c)
{
	struct path *p = engine_path(c->e, c->key.remote.ip);

	memcpy(p->ip, c->key.remote.ip, 16);
	p->mtu = c->mtu;
	p->no_df = c->no_df;
	p->until = c->e->now + MTU_RAISE;
}

/* high: what may be tried now; after a while all may. */
static void mtu_set(struct engine_conn *c, uint32_t mtu, uint32_t high)
{
	c->no_df &= mtu <= c->mtu;
	c->mtu = mtu;
	c->mss = MIN(c->mss_peer, mtu - conn_plain_headers(c));
	c->mtu_high = high - mtu < MTU_CLOSE ? mtu : high;
	c->mtu_probe = 0;
	c->mtu_tries = 0;
	c->mtu_raise_at = mtu < mtu_max(c) ? c->e->now + MTU_RAISE : NEVER;
}

void mtu_start(struct engine_conn *c)
{
	const struct path *p = engine_path_known(c->e, c->key.remote.ip);
	uint32_t mtu = MIN(p ? p->mtu : UINT32_MAX, mtu_max(c));

	mtu_set(c, mtu, mtu);
	c->no_df = p && p->no_df;
}

/* t in pieces that fit, though congestion control has not been asked: it is under way anyway. */
static void mtu_again(struct engine_conn *c, struct sent *t)
{
	uint32_t end = t->end;

	for (; t && seq_lt(t->seq, end); t = TAILQ_NEXT(t, entry))
		if (!output_again(c, t))
			return;
}

void mtu_lost(struct engine_conn *c, struct sent *t)
{
	if (c->mtu_probe && ++c->mtu_tries >= MTU_TRIES) {
		mtu_set(c, c->mtu, MAX(c->mtu_probe - 1, c->mtu));
		mtu_remember(c);
	}
	c->mtu_probe = 0;
	mtu_again(c, t);
}

void mtu_passed(struct engine_conn *c, const struct sent *t)
{
	uint32_t mtu = sent_payload(t) + conn_headers(c);

	mtu_set(c, MIN(mtu, mtu_max(c)), MAX(c->mtu_high, mtu));
	mtu_remember(c);
}

/* Without SACK the loss of one could not be told from others. First all that might pass: mostly it
 * was not the size. Then the middle. */
uint32_t mtu_to_try(struct engine_conn *c)
{
	if (c->e->now >= c->mtu_raise_at) {
		c->mtu_high = mtu_max(c);
		c->mtu_raise_at = c->e->now + MTU_RAISE;
	}
	if (!c->sack || c->mtu_probe || c->congestion != CONGESTION_OPEN || c->mtu_high == c->mtu)
		return 0;
	if (c->mtu_high == mtu_max(c))
		return c->mtu_high;
	return c->mtu + (c->mtu_high - c->mtu + 1) / 2;
}

void mtu_timeout(struct engine_conn *c)
{
	struct sent *t = TAILQ_FIRST(&c->sent);
	uint32_t mtu = c->mtu > MTU_BASE ? MTU_BASE : MTU_LEAST4;

	c->mtu_probe = 0;
	if (!t || c->timeouts < BLACK_HOLE_TIMEOUTS || c->timeouts % BLACK_HOLE_TIMEOUTS)
		return;
	if (!c->snd_wnd) /* it came, and there was no room for it */
		return;
	if (mtu >= c->mtu || (c->v6 && mtu < MTU_BASE) || sent_payload(t) + conn_headers(c) <= mtu)
		return;
	/* Perhaps nobody is there: others hear of it when larger ones are found not to pass. */
	mtu_set(c, mtu, c->mtu_high);
}

struct mtu_told mtu_told(uint32_t said, bool v6, uint32_t max)
{
	uint32_t least = MIN(v6 ? MTU_LEAST6 : MTU_LEAST4, max), mtu = MAX(said, least);

	return (struct mtu_told){.whole = v6 ? mtu : said, .mtu = mtu, .no_df = !v6 && said < mtu};
}

/* Nothing is lost by congestion: what was too big goes out again in smaller pieces at once. */
void conn_too_big(struct engine_conn *c, uint32_t seq, uint32_t mtu)
{
	struct mtu_told told = mtu_told(mtu, c->v6, mtu_max(c));
	struct sent *t, *next;

	if (!conn_synchronized(c) || told.whole >= c->mtu || c->no_df)
		return;
	/* RFC 5927, 4.1 and 7.2: of a segment that is under way, and really larger than that. */
	TAILQ_FOREACH(t, &c->flight, time_entry)
	if (seq_le(t->seq, seq) && seq_lt(seq, t->end))
		break;
	if (!t || sent_payload(t) + conn_headers(c) <= told.whole)
		return;
	mtu_set(c, told.mtu, told.mtu);
	c->no_df = told.no_df;
	mtu_remember(c);
	for (t = TAILQ_FIRST(&c->sent); t; t = next) {
		next = TAILQ_NEXT(t, entry);
		if (t->state == SENT_FLYING && sent_payload(t) + conn_headers(c) > told.whole)
			mtu_again(c, t);
	}
	loss_arm(c);
}
