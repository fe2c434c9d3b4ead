// SPDX-License-Identifier: Apache-2.0
/* flows: the live sockets, what each got and why. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/json.h"
#include "policyd/table.h"
#include "policyd/words.h"

#define WORD(words, i) ((i) < ARRAY_SIZE(words) && (words)[i] ? (words)[i] : "?")

const char *ctl_stack_name(const struct dmm_class *class, unsigned id)
{
	return id < DMM_MAX_STACKS && class->stack[id].name[0] ? class->stack[id].name : "-";
}

const char *ctl_group_name(const struct dmm_class *class, unsigned id)
{
	return id && id < DMM_MAX_GROUPS && class->group[id].name[0] ? class->group[id].name : "-";
}

const char *ctl_rule_name(const struct dmm_sock *s)
{
	return s->rule == DMM_RULE_NONE ? "default" : s->rule_name;
}

/* ---- choosing ---- */

struct chooser {
	const struct ctl *c;
	const struct ctl_state *s;
	struct ctl_sockets *list;
	size_t room;
};

bool ctl_socket_chosen(const struct ctl *c, const struct ctl_state *s, const struct dmm_sock *k)
{
	return (!c->stack || strcmp(c->stack, ctl_stack_name(s->class, k->stack)) == 0) &&
	       (!c->group || strcmp(c->group, ctl_group_name(s->class, k->group)) == 0) &&
	       (!c->rule || strcmp(c->rule, ctl_rule_name(k)) == 0) &&
	       (!(c->given & CTL_PID) || c->pid == k->pid) &&
	       (!(c->given & CTL_OLD) || k->generation < s->generation);
}

static int choose(const struct dmm_flow_row *f, void *ctx)
{
	struct chooser *w = ctx;
	struct dmm_flow_row *row;

	if (!ctl_socket_chosen(w->c, w->s, &f->sock))
		return 0;
	if (w->list->n == w->room) {
		w->room = w->room ? 2 * w->room : 64;
		row = reallocarray(w->list->row, w->room, sizeof(*row));
		if (!row)
			return -ENOMEM;
		w->list->row = row;
	}
	w->list->row[w->list->n++] = *f;
	return 0;
}

int ctl_choice_check(const struct ctl *c, const struct ctl_state *s)
{
	if (c->stack && class_stack(s->class, c->stack) < 0) {
		ctl_unknown_name(s->class, CTL_N_STACK, c->stack);
		return CTL_FAILED;
	}
	if (c->group && class_group(s->class, c->group) < 0) {
		ctl_unknown_name(s->class, CTL_N_GROUP, c->group);
		return CTL_FAILED;
	}
	return CTL_OK;
}

/* Sockets outlive the rule that decided them: only one that nobody knows is wrong. */
static int check_rule(const struct ctl *c, const struct ctl_state *s, const struct ctl_sockets *l)
{
	if (!c->rule || l->n || strcmp(c->rule, "default") == 0)
		return CTL_OK;
	for (unsigned i = 0; i < s->class->hdr.rules; i++)
		if (strcmp(s->class->rule[i].name, c->rule) == 0)
			return CTL_OK;
	ctl_unknown_name(s->class, CTL_N_RULE, c->rule);
	return CTL_FAILED;
}

int ctl_sockets_read(const struct ctl *c, struct ctl_state *s, struct ctl_sockets *ret)
{
	struct chooser w = {.c = c, .s = s, .list = ret};
	int r;

	*ret = (struct ctl_sockets){0};
	r = maps_flows(&s->tree, choose, &w);
	if (r < 0)
		log_err("the sockets cannot be listed: %s", strerror(-r));
	return r < 0 ? CTL_FAILED : CTL_OK;
}

/* ---- telling ---- */

void ctl_endpoint_cell(struct table *t, const struct dmm_addr *a)
{
	char text[ADDR_STRLEN];

	if (addr_is_any(a->ip) && a->port == 0)
		table_cell(t, "-");
	else
		table_cell(t, "%s", addr_format(a, text, sizeof(text)));
}

static void flow_row(struct table *t, const struct dmm_class *class, const struct dmm_flow_row *f,
		     dmm_u64 now)
{
	const struct dmm_sock *s = &f->sock;
	char text[TABLE_TEXT];

	table_cell(t, "%s", ctl_stack_name(class, s->stack));
	table_cell(t, "%s", WORD(words_carrier, s->carrier));
	table_cell(t, "%s", s->congestion ? WORD(words_congestion, s->congestion) : "-");
	table_cell(t, "%s", WORD(words_reason, s->reason));
	table_cell(t, "%s", ctl_rule_name(s));
	table_cell(t, "%s", ctl_group_name(class, s->group));
	table_cell(t, "%s", WORD(words_role, s->role));
	table_cell(t, "%s", WORD(words_tcp_state, f->tcp_state));
	ctl_endpoint_cell(t, &s->local);
	ctl_endpoint_cell(t, &s->remote);
	table_cell(t, "%s", text_bytes(f->rx_bytes, text));
	table_cell(t, "%s", text_bytes(f->tx_bytes, text));
	table_cell(t, "%u/%.*s", s->pid, (int)sizeof(s->comm), s->comm);
	table_cell(t, "%s", text_age(now > s->since_ns ? now - s->since_ns : 0, text));
}

void ctl_sockets_print(const struct ctl_state *s, const struct ctl_sockets *l)
{
	static const char *const headers[] = {
		"STACK", "?CARRIER", "?CONGESTION", "REASON", "~RULE", "?GROUP",    "?ROLE",
		"STATE", "?~LOCAL",  "~REMOTE",	    "?>RX",   "?>TX",  "~PID/COMM", "?>AGE"};
	dmm_u64 now = now_ns();
	struct table t;

	table_init(&t, headers, ARRAY_SIZE(headers));
	for (size_t i = 0; i < l->n; i++)
		flow_row(&t, s->class, &l->row[i], now);
	table_print(&t, stdout);
}

static int flows_json(const struct ctl *c, const struct ctl_state *s, const struct ctl_sockets *l)
{
	json_t *list = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(list, json_flow(&l->row[i], s->class));
	return ctl_print_json(c, list);
}

int ctl_flows(const struct ctl *c, int argc, char **argv)
{
	struct ctl_sockets l;
	struct ctl_state s;
	int r;

	(void)argc;
	(void)argv;
	if ((c->given & (CTL_TERMINATE | CTL_DRY_RUN)) == CTL_DRY_RUN) {
		fputs("dmm-policy: flows --dry-run goes with --terminate\n", stderr);
		return CTL_USAGE;
	}
	if (c->given & CTL_TERMINATE &&
	    !(c->given & (CTL_STACK | CTL_GROUP | CTL_RULE | CTL_PID | CTL_OLD))) {
		fputs("dmm-policy: which sockets to end? Choose by --old, --stack, --group, --rule "
		      "or --pid\n",
		      stderr);
		return CTL_USAGE;
	}
	r = ctl_state_open(c, &s);
	if (r != CTL_OK)
		return r;
	l = (struct ctl_sockets){0};
	r = ctl_choice_check(c, &s);
	if (r == CTL_OK)
		r = ctl_sockets_read(c, &s, &l);
	if (r == CTL_OK)
		r = check_rule(c, &s, &l);
	if (r == CTL_OK && c->given & CTL_TERMINATE)
		r = ctl_terminate(c, &s, &l);
	else if (r == CTL_OK && c->given & CTL_JSON)
		r = flows_json(c, &s, &l);
	else if (r == CTL_OK)
		ctl_sockets_print(&s, &l);
	free(l.row);
	ctl_state_close(&s);
	return r;
}
