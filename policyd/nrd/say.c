// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "lib/base/addr.h"
#include "policyd/nrd/say.h"

/* What stands between the word of the action and the stack that it came from. */
static const char *const froms[NRD_ACTIONS] = {
	[NRD_TRY] = " beside ",		[NRD_TAKE] = " in place of ",
	[NRD_REJECT] = ", keep ",	[NRD_GIVE_UP] = ", keep ",
	[NRD_REVERT] = " in place of ", [NRD_CONFIRM] = " after ",
	[NRD_ESCAPE] = " in place of ", [NRD_STAY] = " with ",
	[NRD_CHANGE] = " of ",		[NRD_OWN] = " after ",
	[NRD_FOLLOW] = " after ",	[NRD_RETURN] = " in place of ",
};

static void say_bound(FILE *out, double v, const char *format)
{
	if (isinf(v))
		fputs("unknown", out);
	else
		fprintf(out, format, v);
}

static void say_interval(FILE *out, struct interval v, const char *format, const char *unit)
{
	fprintf(out, format, v.mid);
	fprintf(out, "%s (", unit);
	say_bound(out, v.lo, format);
	fputs(" to ", out);
	say_bound(out, v.hi, format);
	fputc(')', out);
}

/* The rates behind slownesses: the more of the one, the less of the other. */
static struct interval rates(struct interval v)
{
	return (struct interval){isinf(v.hi) ? 0 : 1e9 / v.hi, v.mid > 0 ? 1e9 / v.mid : 0,
				 v.lo > 0 ? 1e9 / v.lo : INFINITY};
}

static void say_latency(FILE *out, const struct nrd_settings *s, const struct evidence *e)
{
	fprintf(out, "p%g of %s ", settings_permille(s) / 10.0,
		e->metric == REPORT_SRTT ? "round trips" : "connect times");
	say_interval(out, e->latency, "%.0f", " us");
}

static void say_evidence(FILE *out, const struct nrd_settings *s, const char *stack,
			 const struct evidence *e)
{
	struct interval share = {100 * e->value.lo, 100 * e->value.mid, 100 * e->value.hi};

	fprintf(out, "; %s: ", stack);
	if (!e->connections) {
		fputs("nothing known yet", out);
		return;
	}
	if (s->objective == NRD_THROUGHPUT)
		say_interval(out, rates(e->value), "%.0f", " kB/s");
	else if (s->objective == NRD_RELIABILITY)
		say_interval(out, share, "%.2f", " % failed or sent again");
	else
		say_latency(out, s, e);
	fprintf(out, " of %u connections, %u failed", e->connections, e->failed);
}

void say_decision(const struct nrd_decision *d, FILE *out)
{
	char prefix[ADDR_STRLEN] = "";

	if (d->plen)
		addr_format_prefix(d->prefix, d->plen, prefix, sizeof(prefix));
	fprintf(out, "%s%s%s: %s", d->rule, d->plen ? " " : "", prefix,
		nrd_action_words[d->action]);
	if (d->to[0])
		fprintf(out, " %s", d->to);
	if (d->from[0])
		fprintf(out, "%s%s", froms[d->action], d->from);
	fprintf(out, ": %s", nrd_reason_words[d->reason]);
	if (d->to[0])
		say_evidence(out, &d->set, d->to, &d->after);
	if (d->from[0])
		say_evidence(out, &d->set, d->from, &d->before);
	if (d->action == NRD_CHANGE)
		say_evidence(out, &d->set, "before", &d->after);
	fputc('\n', out);
}
