// SPDX-License-Identifier: Apache-2.0
/* What nRD decided and thinks, as JSON. */
#include <math.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "policyd/json.h"
#include "policyd/nrd/say.h"

static json_t *number(double v)
{
	return isinf(v) ? json_null() : json_real(v);
}

static json_t *interval(const struct interval *v)
{
	return json_pack("{s:o, s:o, s:o}", "low", number(v->lo), "estimate", number(v->mid),
			 "high", number(v->hi));
}

static json_t *evidence(const struct evidence *e)
{
	return json_pack("{s:I, s:I, s:s, s:o, s:o, s:o}", "connections",
			 (json_int_t)e->connections, "failed", (json_int_t)e->failed, "measured",
			 e->metric == REPORT_SRTT ? "round trips" : "connect times", "latency_us",
			 interval(&e->latency), "failure_rate", interval(&e->fail), "compared",
			 interval(&e->value));
}

static json_t *prefix_of(const dmm_u8 prefix[16], unsigned plen)
{
	char text[ADDR_STRLEN];

	return plen ? json_string(addr_format_prefix(prefix, plen, text, sizeof(text)))
		    : json_null();
}

/* What was kept by a clock that was set back since then is of the future: it is of now. */
static double age_s(dmm_u64 at, dmm_u64 now)
{
	int64_t age = (int64_t)(now - at);

	return age > 0 ? (double)age / 1e9 : 0;
}

json_t *json_nrd_decision(const struct nrd_decision *d, dmm_u64 now)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	json_t *o;

	if (!f)
		return NULL;
	say_decision(d, f);
	if (fclose(f) != 0 || !len)
		return NULL;
	text[len - 1] = '\0';
	o = json_pack("{s:I, s:f, s:s, s:o, s:s, s:s, s:s, s:s, s:s}", "number",
		      (json_int_t)d->number, "age_s", age_s(d->at_ns, now), "rule", d->rule,
		      "remote", prefix_of(d->prefix, d->plen), "action",
		      nrd_action_words[d->action], "reason", nrd_reason_words[d->reason], "from",
		      d->from, "to", d->to, "text", text);
	if (o && d->to[0])
		json_object_set_new(o, "after", evidence(&d->after));
	if (o && d->from[0])
		json_object_set_new(o, "before", evidence(&d->before));
	return o;
}

json_t *json_nrd_view(const struct nrd *n, unsigned rule, const dmm_u8 *ip, dmm_u64 now)
{
	const struct nrd_rule *r = nrd_rule(n, rule);
	json_t *o, *stacks = json_array();
	dmm_u16 weight[DMM_MAX_USE];
	struct nrd_view v;

	if (!r || nrd_view(n, rule, ip, &v) < 0) {
		json_decref(stacks);
		return NULL;
	}
	nrd_weights(n, rule, v.plen ? v.prefix : (const dmm_u8[16]){0}, weight);
	for (unsigned i = 0; i < r->n_stacks; i++) {
		json_t *s = evidence(&v.arm[i]);

		json_object_set_new(s, "name", json_string(r->stack[i]));
		json_object_set_new(s, "share", json_real(weight[i] / (double)NRD_WEIGHTS));
		json_object_set_new(s, "carrier", json_boolean(!v.no_carrier[i]));
		json_object_set_new(s, "banned_s", json_real((double)v.banned_ns[i] / 1e9));
		json_array_append_new(stacks, s);
	}
	o = json_pack("{s:s, s:o, s:s, s:s, s:s, s:s?, s:o}", "rule", r->name, "remote",
		      prefix_of(v.prefix, v.plen), "objective",
		      nrd_objective_words[r->set.objective - 1], "phase", v.phase, "in_use",
		      r->stack[v.now], "beside",
		      v.other == NRD_STACK_NONE ? NULL : r->stack[v.other], "stacks", stacks);
	if (o)
		json_object_set_new(o, "last",
				    v.last ? json_nrd_decision(v.last, now) : json_null());
	return o;
}
