// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "loader/attach.h"
#include "loader/measure.h"
#include "policyd/explain.h"
#include "policyd/words.h"

struct walker {
	const struct tree *tree;
	const struct dmm_class *class;
	const struct eval_socket *socket;
	dmm_u64 netns;
};

/* As ip_is_special() of bpf/dmm_match.bpf.h. */
static bool is_special(const dmm_u8 *ip)
{
	if (addr_is_v4(ip))
		return ip[12] == 0 || ip[12] == 127 || ip[12] >= 224 ||
		       (ip[12] == 169 && ip[13] == 254);
	return ip[0] == 0xff || addr_is_link_local(ip) || addr_is_any(ip);
}

static enum dmm_reason ask_client(const struct walker *w, unsigned id)
{
	const struct eval_socket *s = w->socket;
	volatile struct dmm_stack_rt *rt = &w->tree->rt[id];
	bool v4 = addr_is_v4(s->remote.ip);

	if (!s->remote.port || is_special(s->remote.ip) ||
	    maps_route(w->tree, id, s->remote.ip) != DMM_ROUTE_VIA)
		return DMM_REASON_NO_ROUTE;
	if (!addr_is_any(s->local.ip) && (addr_is_v4(s->local.ip) != v4 ||
					  maps_route(w->tree, id, s->local.ip) != DMM_ROUTE_LOCAL))
		return DMM_REASON_UNSUPPORTED;
	return s->proto == IPPROTO_UDP || (v4 ? rt->port4[0] : rt->port6[0])
		       ? DMM_REASON_RULE
		       : DMM_REASON_NO_LISTENER;
}

static enum dmm_reason ask_server(const struct walker *w, unsigned id)
{
	const dmm_u8 *local = w->socket->local.ip;

	if (!addr_is_any(local) && maps_route(w->tree, id, local) != DMM_ROUTE_LOCAL)
		return DMM_REASON_NO_ROUTE;
	return DMM_REASON_RULE;
}

/* DMM_REASON_RULE: it takes the socket. */
static enum dmm_reason ask(const struct walker *w, unsigned id)
{
	bool server = w->socket->role == DMM_ROLE_SERVER, udp = w->socket->proto == IPPROTO_UDP;

	if (w->tree->rt[id].off)
		return DMM_REASON_ADMIN_OFF;
	switch (w->class->stack[id].kind) {
	case DMM_KIND_KERNEL:
		return DMM_REASON_RULE;
	case DMM_KIND_REJECT: /* a listen() cannot be refused any more */
		return server ? DMM_REASON_UNSUPPORTED : DMM_REASON_RULE;
	case DMM_KIND_USERSPACE:
		break;
	default:
		return DMM_REASON_INTERNAL;
	}
	if (udp && server)
		return DMM_REASON_UNSUPPORTED;
	if (!maps_stack_up(w->tree, id))
		return DMM_REASON_STACK_DOWN;
	if (w->tree->rt[id].netns != w->netns)
		return DMM_REASON_NO_LISTENER;
	if (udp && !w->tree->rt[id].udp)
		return DMM_REASON_UNSUPPORTED;
	return server ? ask_server(w, id) : ask_client(w, id);
}

static void walk(const struct walker *w, const dmm_u8 *use, unsigned n, bool strict,
		 struct explanation *ret)
{
	enum dmm_reason first = ret->reason, r;
	bool done = false;

	for (unsigned i = 0; i < n; i++) {
		struct explain_step *s = &ret->step[ret->n++];

		s->stack = use[i] % DMM_MAX_STACKS;
		s->reached = !done;
		if (done)
			continue;
		r = ask(w, s->stack);
		s->taken = done = r == DMM_REASON_RULE;
		s->why_not = s->taken ? 0 : (dmm_u8)r;
		if (s->taken) {
			ret->stack = s->stack;
			ret->refused = w->class->stack[s->stack].kind == DMM_KIND_REJECT;
			if (ret->refused)
				ret->reason = DMM_REASON_REJECTED;
		} else if (ret->reason == first) {
			ret->reason = (dmm_u8)r;
		}
	}
	if (done)
		return;
	ret->refused = strict && w->socket->role == DMM_ROLE_CLIENT;
	ret->stack = ret->refused && n ? use[0] % DMM_MAX_STACKS : DMM_STACK_KERNEL;
}

/* A draw that gives the stack of the largest weight. */
static dmm_u32 usual_draw(const struct dmm_rule_rec *rule)
{
	dmm_u64 sum = 0, before = 0;
	unsigned most = 0;

	for (unsigned i = 0; i < DMM_MAX_USE; i++) {
		sum += rule->weight[i];
		if (rule->weight[i] > rule->weight[most])
			most = i;
	}
	for (unsigned i = 0; i < most; i++)
		before += rule->weight[i];
	/* the middle of its part of the sum */
	return sum ? (dmm_u32)(((2 * before + rule->weight[most]) << 31) / sum) : 0;
}

static void put_shares(const struct dmm_rule_rec *rule, struct explanation *ret)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < DMM_MAX_USE; i++)
		sum += rule->weight[i];
	ret->weighted = sum > 0;
	for (unsigned k = 0; sum && k < ret->n; k++)
		for (unsigned i = 0; i < rule->n_use && i < DMM_MAX_USE; i++)
			if (rule->use[i] % DMM_MAX_STACKS == ret->step[k].stack)
				ret->step[k].share = rule->weight[i] * 1000u / sum;
}

/* The rule with the weights that nRD has put in force for this socket. */
static bool choose(const struct tree *t, const struct eval_socket *s, struct dmm_rule_rec *rule)
{
	struct dmm_choice c;

	if (!(rule->measure & DMM_MEASURE_AUTO) || s->role != DMM_ROLE_CLIENT ||
	    !choice_find(t, rule->measure, s->remote.ip, rule->use, &c))
		return false;
	memcpy(rule->weight, c.weight, sizeof(rule->weight));
	return true;
}

void explain_socket(const struct tree *t, const struct dmm_class *c, const struct eval_socket *s,
		    dmm_u64 cookie, dmm_u64 netns, struct explanation *ret)
{
	const struct walker w = {.tree = t, .class = c, .socket = s, .netns = netns};
	struct dmm_rule_rec copy, *rule = NULL;
	dmm_u8 drawn[DMM_MAX_USE];
	const dmm_u8 *use;
	unsigned n;

	*ret = (struct explanation){
		.proto = s->proto, .rule = eval_rule(c, s), .stack = DMM_STACK_KERNEL};
	ret->reason = DMM_REASON_DEFAULT;
	if (ret->rule < c->hdr.rules) {
		copy = c->rule[ret->rule];
		rule = &copy;
		ret->reason = choose(t, s, rule) ? DMM_REASON_NRD : DMM_REASON_RULE;
	}
	ret->group_off = s->group && attach_group_off(t, &c->group[s->group % DMM_MAX_GROUPS]);
	use = c->hdr.use;
	if (rule) {
		eval_use(rule, cookie ? DMM_DRAW(cookie) : usual_draw(rule), drawn);
		use = drawn;
	}
	n = MIN(rule ? rule->n_use : c->hdr.n_use, DMM_MAX_USE);
	if (ret->group_off || (rule && rule->keep)) {
		ret->reason = ret->group_off || rule->keep & DMM_KEEP_OFF ? DMM_REASON_ADMIN_OFF
									  : DMM_REASON_CAPTURE;
		for (; ret->n < n; ret->n++)
			ret->step[ret->n].stack = use[ret->n] % DMM_MAX_STACKS;
	} else {
		walk(&w, use, n, rule ? rule->strict : c->hdr.strict, ret);
	}
	if (rule)
		put_shares(rule, ret);
}

const char *explain_congestion(const struct dmm_class *c, const struct explanation *e)
{
	const struct dmm_stack_rec *s = &c->stack[e->stack % DMM_MAX_STACKS];
	const struct dmm_rule_rec *rule = e->rule < c->hdr.rules ? &c->rule[e->rule] : NULL;

	if (e->proto != IPPROTO_TCP)
		return NULL;
	if (rule && rule->congestion && policy_congestion_of_rules(s))
		return words_congestion[rule->congestion % DMM_CONGESTIONS];
	return s->congestion[0] ? s->congestion : NULL;
}

const char *explain_reason(unsigned reason)
{
#define MEANING(name, text, meaning) [DMM_REASON_##name] = meaning,
	static const char *const meaning[DMM_REASON_COUNT] = {DMM_REASONS(MEANING)};

	return reason < DMM_REASON_COUNT ? meaning[reason] : "?";
}
