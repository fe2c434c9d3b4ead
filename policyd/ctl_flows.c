// SPDX-License-Identifier: Apache-2.0
/* flows: the live sockets, what each got and why. */
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/json.h"
#include "policyd/table.h"
#include "policyd/words.h"

#define WORD(words, i) ((i) < ARRAY_SIZE(words) && (words)[i] ? (words)[i] : "?")

struct lister {
	const struct ctl *c;
	const struct dmm_class *class;
	struct table table;
	json_t *list; /* NULL: text */
	dmm_u64 now;
};

static const char *stack_name(const struct dmm_class *class, unsigned id)
{
	return id < DMM_MAX_STACKS && class->stack[id].name[0] ? class->stack[id].name : "-";
}

static const char *group_name(const struct dmm_class *class, unsigned id)
{
	return id && id < DMM_MAX_GROUPS && class->group[id].name[0] ? class->group[id].name : "-";
}

static const char *rule_name(const struct dmm_sock *s)
{
	return s->rule == DMM_RULE_NONE ? "default" : s->rule_name;
}

static bool wanted(const struct lister *l, const struct dmm_sock *s)
{
	const struct ctl *c = l->c;

	return (!c->stack || strcmp(c->stack, stack_name(l->class, s->stack)) == 0) &&
	       (!c->group || strcmp(c->group, group_name(l->class, s->group)) == 0) &&
	       (!c->rule || strcmp(c->rule, rule_name(s)) == 0);
}

static void endpoint_cell(struct table *t, const struct dmm_addr *a)
{
	char text[ADDR_STRLEN];

	if (addr_is_any(a->ip) && a->port == 0)
		table_cell(t, "-");
	else
		table_cell(t, "%s", addr_format(a, text, sizeof(text)));
}

static void flow_row(struct lister *l, const struct dmm_flow_row *f)
{
	const struct dmm_sock *s = &f->sock;
	struct table *t = &l->table;
	char text[TABLE_TEXT];

	table_cell(t, "%s", stack_name(l->class, s->stack));
	table_cell(t, "%s", WORD(words_carrier, s->carrier));
	table_cell(t, "%s", WORD(words_reason, s->reason));
	table_cell(t, "%s", rule_name(s));
	table_cell(t, "%s", group_name(l->class, s->group));
	table_cell(t, "%s", WORD(words_role, s->role));
	table_cell(t, "%s", WORD(words_tcp_state, f->tcp_state));
	endpoint_cell(t, &s->local);
	endpoint_cell(t, &s->remote);
	table_cell(t, "%s", text_bytes(f->rx_bytes, text));
	table_cell(t, "%s", text_bytes(f->tx_bytes, text));
	table_cell(t, "%u/%.*s", s->pid, (int)sizeof(s->comm), s->comm);
	table_cell(t, "%s", text_age(l->now > s->since_ns ? l->now - s->since_ns : 0, text));
}

static int flow_add(const struct dmm_flow_row *f, void *ctx)
{
	struct lister *l = ctx;

	if (!wanted(l, &f->sock))
		return 0;
	if (l->list)
		json_array_append_new(l->list, json_flow(f, l->class));
	else
		flow_row(l, f);
	return 0;
}

int ctl_flows(const struct ctl *c, int argc, char **argv)
{
	static const char *const headers[] = {"STACK", "?CARRIER",  "REASON",  "~RULE",	  "?GROUP",
					      "?ROLE", "STATE",	    "?~LOCAL", "~REMOTE", "?>RX",
					      "?>TX",  "~PID/COMM", "?>AGE"};
	struct lister l = {.c = c, .now = now_ns()};
	struct ctl_state s;
	int r;

	(void)argc;
	(void)argv;
	r = ctl_state_open(c, &s);
	if (r != CTL_OK)
		return r;
	l.class = s.class;
	if (c->given & CTL_JSON)
		l.list = json_array();
	else
		table_init(&l.table, headers, ARRAY_SIZE(headers));
	r = maps_flows(&s.tree, flow_add, &l);
	ctl_state_close(&s);
	if (r < 0)
		log_err("the sockets cannot be listed: %s", strerror(-r));
	if (l.list && r < 0)
		json_decref(l.list);
	else if (l.list)
		return ctl_print_json(c, l.list);
	else
		table_print(&l.table, stdout);
	return r < 0 ? CTL_FAILED : CTL_OK;
}
