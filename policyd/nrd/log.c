// SPDX-License-Identifier: Apache-2.0
#include "lib/base/util.h"
#include "policyd/nrd/path.h"

const char *const nrd_action_words[NRD_ACTIONS] = {
	[NRD_TRY] = "try",	   [NRD_TAKE] = "take",	    [NRD_REJECT] = "reject",
	[NRD_GIVE_UP] = "give-up", [NRD_REVERT] = "revert", [NRD_CONFIRM] = "confirm",
	[NRD_ESCAPE] = "escape",   [NRD_STAY] = "stay",	    [NRD_CHANGE] = "change",
	[NRD_OWN] = "own",	   [NRD_FOLLOW] = "follow", [NRD_RETURN] = "return",
};

const char *const nrd_reason_words[NRD_REASONS] = {
	[REASON_NONE] = "none",
	[REASON_VALUE] = "better",
	[REASON_NO_GAIN] = "no-gain",
	[REASON_FAILS_LESS] = "fails-less",
	[REASON_FAILS_MORE] = "fails-more",
	[REASON_ALL_FAIL] = "all-fail",
	[REASON_KEEPS_SLA] = "keeps-sla",
	[REASON_BREAKS_SLA] = "breaks-sla",
	[REASON_CHEAPER] = "cheaper",
	[REASON_DEARER] = "dearer",
	[REASON_CHANGED] = "changed",
	[REASON_TIME] = "time",
	[REASON_ADVISED] = "advised",
	[REASON_BUSY] = "busy",
	[REASON_QUIET] = "quiet",
	[REASON_FULL] = "full",
	[REASON_NO_CARRIER] = "no-carrier",
	[REASON_CARRIER] = "carrier",
};

static void fill_stack(const struct path *p, unsigned place, char name[DMM_NAME_LEN],
		       struct evidence *ret)
{
	if (place == NRD_STACK_NONE)
		return;
	memcpy(name, p->rule->c.stack[place], DMM_NAME_LEN);
	choose_evidence(p, place, ret);
}

struct nrd_decision *log_decision(struct nrd *n, struct path *p, enum nrd_action action,
				  enum nrd_reason reason, unsigned from, unsigned to)
{
	dmm_u64 number = ++n->counters.decisions;
	struct nrd_decision *d = &n->log[number % NRD_LOG];

	n->told++;
	*d = (struct nrd_decision){.number = number,
				   .at_ns = n->last,
				   .plen = p->plen,
				   .action = (dmm_u8)action,
				   .reason = (dmm_u8)reason,
				   .set = p->rule->c.set};
	memcpy(d->rule, p->rule->c.name, sizeof(d->rule));
	memcpy(d->prefix, p->prefix, sizeof(d->prefix));
	fill_stack(p, from, d->from, &d->before);
	fill_stack(p, to, d->to, &d->after);
	p->last = number;
	return d;
}

const struct nrd_decision *nrd_decision(const struct nrd *n, size_t i)
{
	dmm_u64 kept = MIN(n->counters.decisions, NRD_LOG);

	return i < kept ? &n->log[(n->counters.decisions - kept + 1 + i) % NRD_LOG] : NULL;
}
