// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "policyd/nrd/judge.h"

#define FAIL_MARGIN 0.02 /* differences of failure rates below that are no reason */

bool judge_breaks_sla(const struct nrd_settings *s, const struct evidence *e)
{
	return s->sla_us && e->latency.lo > s->sla_us;
}

static bool keeps_sla(const struct nrd_settings *s, const struct evidence *e)
{
	return !s->sla_us || e->latency.hi <= s->sla_us;
}

static enum verdict judge_failures(const struct evidence *i, const struct evidence *c,
				   enum nrd_reason *ret)
{
	if (i->fail.lo > c->fail.hi && i->fail.mid - c->fail.mid > FAIL_MARGIN) {
		*ret = REASON_FAILS_LESS;
		return VERDICT_BETTER;
	}
	if (c->fail.lo > i->fail.hi && c->fail.mid - i->fail.mid > FAIL_MARGIN) {
		*ret = REASON_FAILS_MORE;
		return VERDICT_WORSE;
	}
	return VERDICT_OPEN;
}

static enum verdict judge_sla(const struct nrd_settings *s, const struct evidence *i,
			      const struct evidence *c, enum nrd_reason *ret)
{
	if (judge_breaks_sla(s, i) && keeps_sla(s, c)) {
		*ret = REASON_KEEPS_SLA;
		return VERDICT_BETTER;
	}
	if (judge_breaks_sla(s, c) && !judge_breaks_sla(s, i)) {
		*ret = REASON_BREAKS_SLA;
		return VERDICT_WORSE;
	}
	return VERDICT_OPEN;
}

/* The cheaper one is taken once it is known to do; no figure of the dearer one matters. */
static enum verdict judge_cost(const struct nrd_settings *s, const struct evidence *i,
			       const struct evidence *c, enum nrd_reason *ret)
{
	if (c->place > i->place) {
		if (judge_breaks_sla(s, i) || !keeps_sla(s, i) || isinf(i->latency.hi))
			return VERDICT_OPEN;
		*ret = REASON_DEARER;
		return VERDICT_WORSE;
	}
	if (isinf(c->latency.hi) || !keeps_sla(s, c))
		return VERDICT_OPEN;
	*ret = REASON_CHEAPER;
	return VERDICT_BETTER;
}

enum verdict judge(const struct nrd_settings *s, const struct evidence *i, const struct evidence *c,
		   unsigned gain, enum nrd_reason *ret)
{
	double by = 1 + gain / 100.0;
	enum verdict v = judge_failures(i, c, ret);

	if (v == VERDICT_OPEN)
		v = judge_sla(s, i, c, ret);
	if (v != VERDICT_OPEN)
		return v;
	if (s->objective == NRD_COST)
		return judge_cost(s, i, c, ret);
	if (c->value.hi < i->value.lo && c->value.mid * by <= i->value.mid &&
	    (keeps_sla(s, c) || !keeps_sla(s, i))) {
		*ret = REASON_VALUE;
		return VERDICT_BETTER;
	}
	if (c->value.lo * by > i->value.hi) {
		*ret = REASON_NO_GAIN;
		return VERDICT_WORSE;
	}
	return VERDICT_OPEN;
}
