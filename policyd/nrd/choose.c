// SPDX-License-Identifier: Apache-2.0
/*
 * The chooser of one rule or prefix, as a machine of three phases:
 *
 *   steady --(time to look, or changed)--> trial --(challenger better)--> guard --(held)--> steady
 *                                          trial --(worse, too long)----> steady
 *                                                  guard --(old one better)--> steady, banned
 *   any --(the stack in use fails, or has no carrier)--> guard, of another one
 *   any --(the carrier is there again)--> guard, of the one that was left
 *
 * What must stay true: what is compared was carried in the same time, under the same settings.
 */
#include <math.h>

#include "lib/base/util.h"
#include "policyd/nrd/path.h"
#include "policyd/nrd/random.h"

#define FAIL_SHARE 0.2	/* more failures than that, confidently, and a stack is left at once */
#define TRIAL_DWELLS 10 /* a trial ends after so many dwells, if something is known by then … */
#define TRIAL_DWELLS_MAX 100 /* … and anyway after so many */
#define NARROW 0.2	     /* bounds of a trial that leads nowhere */
#define TRIAL_TURNS 3	     /* a trial is not decided by what one burst brought */
#define DAMP_DWELLS 8	     /* a switch that follows another sooner makes the next dwell longer */
#define DAMP_MAX 5
#define PAUSE_MAX 4 /* a pause doubles so often */

static const struct nrd_settings *settings(const struct path *p)
{
	return &p->rule->c.set;
}

static struct choice *choice_now(struct path *p)
{
	return &p->choice[p->now];
}

static dmm_u64 dwell(const struct path *p)
{
	return (settings(p)->dwell_ms * MS) << MIN(p->damp, DAMP_MAX);
}

static dmm_u64 cooldown(const struct path *p, unsigned times)
{
	return (settings(p)->cooldown_ms * MS) << MIN(times, PAUSE_MAX);
}

/* Somewhere in the half before and the half after: hosts and prefixes should not look all at once.
 */
static dmm_u64 around(struct nrd *n, dmm_u64 span)
{
	return (dmm_u64)((0.5 + random_share(&n->random)) * (double)span);
}

static unsigned voices(const struct path *p)
{
	const struct arm *arms[DMM_MAX_USE];

	for (unsigned i = 0; i < p->rule->c.n_stacks; i++)
		arms[i] = &p->choice[i].arm;
	return arm_voices(arms, p->rule->c.n_stacks);
}

/* What latency is taken from: round trips, where all stacks in question tell them. */
static enum report_metric metric_of(const struct path *p)
{
	bool all = arm_has(&p->choice[p->now].arm, voices(p), REPORT_SRTT);

	if (p->other != NRD_STACK_NONE)
		all = all && arm_has(&p->choice[p->other].arm, voices(p), REPORT_SRTT);
	return all ? REPORT_SRTT : REPORT_CONNECT;
}

void choose_evidence(const struct path *p, unsigned place, struct evidence *ret)
{
	arm_evidence(&p->choice[place].arm, voices(p), settings(p), place, metric_of(p), ret);
}

static void phase_begin(struct nrd *n, struct path *p, enum phase phase, unsigned other)
{
	p->phase = phase;
	p->other = (dmm_u8)other;
	p->since = n->t;
	p->turns = 0;
	for (unsigned i = 0; i < p->rule->c.n_stacks; i++)
		arm_reset(&p->choice[i].arm);
}

void choose_begin(struct nrd *n, struct path *p)
{
	p->own = true;
	p->look_at = n->t + around(n, settings(p)->dwell_ms * MS / 4);
	phase_begin(n, p, PHASE_STEADY, NRD_STACK_NONE);
}

static void switch_to(struct nrd *n, struct path *p, unsigned place, unsigned other)
{
	if (p->switched_at && n->t - p->switched_at < DAMP_DWELLS * dwell(p))
		p->damp = (dmm_u8)MIN(p->damp + 1, DAMP_MAX);
	else
		p->damp = 0;
	p->switched_at = n->t;
	p->hold_until = n->t + dwell(p);
	p->now = (dmm_u8)place;
	p->base = (struct evidence){0};
	p->stuck = REASON_NONE;
	p->changed = false;
	phase_begin(n, p, PHASE_GUARD, other);
}

static void ban(struct nrd *n, struct path *p, unsigned place)
{
	struct choice *c = &p->choice[place];

	c->banned_until = n->t + cooldown(p, c->bans);
	c->bans = (dmm_u8)MIN(c->bans + 1, PAUSE_MAX);
}

/* ---- failing ---- */

static bool fails(const struct path *p, unsigned place, enum nrd_reason *ret)
{
	const struct arm *a = &p->choice[place].arm;
	struct evidence e;

	if (arm_runs_dry(a, voices(p))) {
		*ret = REASON_ALL_FAIL;
		return true;
	}
	if (arm_turn_failed(a) <= FAIL_SHARE)
		return false;
	choose_evidence(p, place, &e);
	*ret = REASON_FAILS_MORE;
	return e.fail.lo > FAIL_SHARE;
}

/* As bad as it was when it was last compared: nothing new. */
static bool fails_as_before(const struct path *p)
{
	struct evidence e;

	choose_evidence(p, p->now, &e);
	return p->base.connections && p->base.fail.mid > 0 && e.fail.lo <= p->base.fail.hi;
}

static unsigned refuge(const struct nrd *n, const struct path *p)
{
	enum nrd_reason ignored;

	for (unsigned i = 0; i < p->rule->c.n_stacks; i++)
		if (i != p->now && !path_no_carrier(p, i) && p->choice[i].banned_until <= n->t &&
		    !fails(p, i, &ignored))
			return i;
	/* one that failed may work by now, one without a carrier does not */
	for (unsigned i = 0; path_no_carrier(p, p->now) && i < p->rule->c.n_stacks; i++)
		if (!path_no_carrier(p, i))
			return i;
	return NRD_STACK_NONE;
}

static void nowhere(struct nrd *n, struct path *p, enum nrd_reason reason)
{
	bool told = reason == REASON_NO_CARRIER ? p->stuck == reason : p->stuck != REASON_NONE;

	if (!told) {
		log_decision(n, p, NRD_STAY, reason, p->now, NRD_STACK_NONE);
		p->stuck = (dmm_u8)reason;
	}
	if (reason == REASON_FAILS_MORE)
		choose_evidence(p, p->now, &p->base);
}

/* Is there a reason to leave the stack in use at once? */
static bool is_lost(struct path *p, enum nrd_reason *ret)
{
	*ret = REASON_NO_CARRIER;
	if (path_no_carrier(p, p->now))
		return true;
	if (p->stuck == REASON_NO_CARRIER)
		p->stuck = REASON_NONE;
	return choice_now(p)->arm.fresh && fails(p, p->now, ret) && !fails_as_before(p);
}

/* True if the stack in use was left. */
static bool escape(struct nrd *n, struct path *p)
{
	enum nrd_reason reason;
	unsigned from = p->now, to;

	if (!is_lost(p, &reason))
		return false;
	to = refuge(n, p);
	if (to == NRD_STACK_NONE) {
		nowhere(n, p, reason);
		return false;
	}
	log_decision(n, p, NRD_ESCAPE, reason, from, to);
	if (reason != REASON_NO_CARRIER)
		ban(n, p, from);
	else if (p->home == NRD_STACK_NONE)
		p->home = (dmm_u8)from;
	switch_to(n, p, to, NRD_STACK_NONE);
	return true;
}

/* To the stack that was left for its carrier alone; at once, unless it comes and goes: switches
 * that follow on one another too soon make the dwell longer. True if it is in use again. */
static bool come_home(struct nrd *n, struct path *p)
{
	unsigned from = p->now, to = p->home;

	if (to == from)
		p->home = NRD_STACK_NONE;
	if (p->home == NRD_STACK_NONE || path_no_carrier(p, to) ||
	    (p->damp && n->t < p->hold_until))
		return false;
	log_decision(n, p, NRD_RETURN, REASON_CARRIER, from, to);
	p->home = NRD_STACK_NONE;
	switch_to(n, p, to, NRD_STACK_NONE);
	return true;
}

/* ---- steady ---- */

static unsigned pick_challenger(const struct nrd *n, const struct path *p)
{
	unsigned best = NRD_STACK_NONE;

	for (unsigned i = 0; i < p->rule->c.n_stacks; i++) {
		const struct choice *c = &p->choice[i];
		bool rests = c->rest_until > n->t && c->tried_at >= p->changed_at;

		if (i == p->now || path_no_carrier(p, i) || c->banned_until > n->t ||
		    (rests && !c->advised))
			continue;
		if (c->advised)
			return i;
		if (best == NRD_STACK_NONE || c->tried_at < p->choice[best].tried_at)
			best = i;
	}
	return best;
}

static void watch(struct nrd *n, struct path *p)
{
	double by = 1 + settings(p)->min_gain / 100.0;
	const struct evidence *b = &p->base;
	struct evidence e;

	choose_evidence(p, p->now, &e);
	if (p->changed)
		return;
	if (!b->connections || b->metric != e.metric) {
		if (!isinf(e.value.hi) && n->t - p->since >= dwell(p) / 2)
			p->base = e;
		return;
	}
	if (e.value.lo > b->value.hi * by || e.fail.lo > b->fail.hi ||
	    (judge_breaks_sla(settings(p), &e) && !judge_breaks_sla(settings(p), b))) {
		struct nrd_decision *d =
			log_decision(n, p, NRD_CHANGE, REASON_CHANGED, p->now, NRD_STACK_NONE);

		d->after = *b; /* what it was */
		p->changed = true;
		p->changed_at = n->t;
		p->base = e;
	}
}

static void trial_begin(struct nrd *n, struct path *p, unsigned challenger)
{
	struct choice *c = &p->choice[challenger];
	enum nrd_reason reason = c->advised		       ? REASON_ADVISED
				 : p->changed_at > c->tried_at ? REASON_CHANGED
							       : REASON_TIME;

	log_decision(n, p, NRD_TRY, reason, p->now, challenger);
	c->tried_at = n->t;
	c->advised = false;
	p->changed = false;
	phase_begin(n, p, PHASE_TRIAL, challenger);
}

bool choose_advise(struct nrd *n, struct path *p, unsigned stack)
{
	struct choice *c = &p->choice[stack];

	if (stack == p->now || c->banned_until > n->t || c->advice_until > n->t)
		return false;
	c->advised = true;
	c->advice_until = n->t + cooldown(p, 0);
	return true;
}

static void steady(struct nrd *n, struct path *p)
{
	unsigned challenger;

	if (choice_now(p)->arm.fresh)
		watch(n, p);
	if (n->t >= p->look_at && n->t >= p->hold_until) {
		challenger = pick_challenger(n, p);
		if (challenger != NRD_STACK_NONE) {
			trial_begin(n, p, challenger);
			return;
		}
	}
	if (n->t - p->since >= dwell(p))
		phase_begin(n, p, PHASE_STEADY, NRD_STACK_NONE);
}

/* ---- trial ---- */

static void trial_lost(struct nrd *n, struct path *p, enum nrd_action action,
		       enum nrd_reason reason, const struct evidence *now)
{
	struct choice *c = &p->choice[p->other];

	log_decision(n, p, action, reason, p->now, p->other);
	c->rest_until = n->t + around(n, cooldown(p, c->losses));
	c->losses = (dmm_u8)MIN(c->losses + 1, PAUSE_MAX);
	p->base = isinf(now->value.hi) ? (struct evidence){0} : *now;
	phase_begin(n, p, PHASE_STEADY, NRD_STACK_NONE);
}

/* More connections would not tell more that matters. */
static bool is_narrow(const struct path *p, const struct interval *v)
{
	return v->hi - v->lo <= v->mid * fmax(settings(p)->min_gain / 100.0, NARROW);
}

static void trial(struct nrd *n, struct path *p)
{
	dmm_u64 long_time = TRIAL_DWELLS * settings(p)->dwell_ms * MS, past = n->t - p->since;
	enum nrd_reason reason = REASON_NONE;
	struct evidence now, other;
	enum verdict v;
	unsigned from;

	choose_evidence(p, p->now, &now);
	choose_evidence(p, p->other, &other);
	if (arm_runs_dry(&p->choice[p->other].arm, voices(p))) {
		ban(n, p, p->other);
		trial_lost(n, p, NRD_REJECT, REASON_ALL_FAIL, &now);
		return;
	}
	v = judge(settings(p), &now, &other, settings(p)->min_gain, &reason);
	if (v == VERDICT_WORSE) {
		trial_lost(n, p, NRD_REJECT, reason, &now);
	} else if (v == VERDICT_BETTER && p->turns >= TRIAL_TURNS) {
		from = p->now;
		log_decision(n, p, NRD_TAKE, reason, from, p->other);
		p->choice[p->other].losses = 0;
		switch_to(n, p, p->other, from);
	} else if (past >= long_time * (TRIAL_DWELLS_MAX / TRIAL_DWELLS) ||
		   (past >= long_time && is_narrow(p, &other.value))) {
		trial_lost(n, p, NRD_GIVE_UP, REASON_TIME, &now);
	}
}

/* ---- guard ---- */

static void confirm(struct nrd *n, struct path *p, enum nrd_reason reason)
{
	log_decision(n, p, NRD_CONFIRM, reason, p->other, p->now);
	choose_evidence(p, p->now, &p->base);
	if (isinf(p->base.value.hi))
		p->base = (struct evidence){0};
	choice_now(p)->bans = 0;
	choice_now(p)->losses = 0;
	if (p->other != NRD_STACK_NONE)
		p->choice[p->other].rest_until = n->t + around(n, cooldown(p, 0));
	p->look_at = n->t;
	phase_begin(n, p, PHASE_STEADY, NRD_STACK_NONE);
}

static void revert(struct nrd *n, struct path *p, enum nrd_reason reason)
{
	unsigned from = p->now, to = p->other;

	log_decision(n, p, NRD_REVERT, reason, from, to);
	ban(n, p, from);
	switch_to(n, p, to, NRD_STACK_NONE);
}

/* That it wins at once is not enough: what it is under its full load shows later. */
static void guard(struct nrd *n, struct path *p)
{
	bool settled = n->t - p->since >= settings(p)->dwell_ms * MS / 2;
	enum nrd_reason reason = REASON_TIME;
	enum verdict v = VERDICT_OPEN;
	struct evidence now, other;

	if (p->other != NRD_STACK_NONE) {
		choose_evidence(p, p->now, &now);
		choose_evidence(p, p->other, &other);
		v = judge(settings(p), &now, &other, 0, &reason);
	}
	if (v == VERDICT_BETTER && p->turns >= TRIAL_TURNS)
		revert(n, p, reason);
	else if (n->t >= p->hold_until || (v == VERDICT_WORSE && settled))
		confirm(n, p, v == VERDICT_WORSE ? reason : REASON_TIME);
}

static void count_sla(struct path *p)
{
	struct evidence e;

	if (!settings(p)->sla_us || !choice_now(p)->arm.fresh)
		return;
	choose_evidence(p, p->now, &e);
	p->rule->sla_broken += judge_breaks_sla(settings(p), &e);
}

/* Nothing goes to who is compared with the stack in use and has lost its carrier. */
static void leave_other(struct nrd *n, struct path *p)
{
	if (p->other == NRD_STACK_NONE || !path_no_carrier(p, p->other))
		return;
	if (p->phase == PHASE_GUARD) {
		confirm(n, p, REASON_NO_CARRIER);
		return;
	}
	log_decision(n, p, NRD_GIVE_UP, REASON_NO_CARRIER, p->now, p->other);
	phase_begin(n, p, PHASE_STEADY, NRD_STACK_NONE);
}

void choose_turn(struct nrd *n, struct path *p)
{
	count_sla(p);
	if (p->other != NRD_STACK_NONE && p->choice[p->other].arm.fresh)
		p->turns++;
	if (!escape(n, p) && !come_home(n, p)) {
		leave_other(n, p);
		if (p->phase == PHASE_TRIAL)
			trial(n, p);
		else if (p->phase == PHASE_GUARD)
			guard(n, p);
		else
			steady(n, p);
	}
	for (unsigned i = 0; i < p->rule->c.n_stacks; i++)
		arm_turn(&p->choice[i].arm);
}
