// SPDX-License-Identifier: Apache-2.0
/* show, stack list, group list: what is configured and how it does. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/attach.h"
#include "policyd/ctl.h"
#include "policyd/fields.h"
#include "policyd/json.h"
#include "policyd/table.h"
#include "policyd/words.h"

/* ---- show ---- */

struct show {
	struct ctl_state state;
	struct dmm_policy *policy;
	dmm_u64 hits[DMM_MAX_RULES + 1];
};

/* "key=value …" of the match, or of the options of the rule. */
static void fields_text(const struct fields *f, bool match, char *ret, size_t len)
{
	size_t n = 0;

	ret[0] = '\0';
	for (size_t i = 0; i < f->n && n < len; i++) {
		const struct field *field = &f->list[i];

		bool of_match = field->parent && strcmp(field->parent, "match") == 0;

		if (of_match != match || strcmp(field->key, "use") == 0 ||
		    strcmp(field->key, "weights") == 0 || strcmp(field->key, "auto") == 0)
			continue;
		n += (size_t)snprintf(ret + n, len - n, "%s%s=%s", n ? " " : "", field->key,
				      field->value);
	}
	if (!ret[0] && match)
		snprintf(ret, len, "(any)");
}

static void rule_row(struct table *t, const struct show *s, size_t i)
{
	const struct dmm_rule *rule = &s->policy->rules[i];
	const struct field *use;
	struct fields f;
	char text[1024];

	if (fields_of_rule(rule, &f) < 0)
		t->failed = true;
	use = fields_find(&f, "use");
	if (!use)
		use = fields_find(&f, "weights");
	if (!use)
		use = fields_find(&f, "auto");
	table_cell(t, "%zu", i + 1);
	table_cell(t, "%s", rule->name);
	fields_text(&f, true, text, sizeof(text));
	table_cell(t, "%s", text);
	table_cell(t, "%s%s", rule->nrd.objective ? "auto " : "", use ? use->value : "");
	fields_text(&f, false, text, sizeof(text));
	table_cell(t, "%s", text);
	table_cell(t, "%llu", s->hits[i]);
	if (rule->pos.file[0])
		table_cell(t, "%s:%u", rule->pos.file, rule->pos.line);
	else
		table_cell(t, "-");
	fields_fini(&f);
}

static int show_text(const struct show *s)
{
	static const char *const headers[] = {">#",	  "RULE",  "~MATCH", "~USE",
					      "~OPTIONS", ">HITS", "?~FROM"};
	time_t committed = (time_t)(s->state.tree.meta->committed_ns / 1000000000ULL);
	struct table t;
	struct tm tm;
	char when[40];

	if (s->state.generation == 0) {
		puts("generation 0: no policy has been put in force yet; every socket is on the "
		     "kernel stack");
		return CTL_OK;
	}
	strftime(when, sizeof(when), "%F %T", localtime_r(&committed, &tm));
	printf("generation %llu, since %s\n", s->state.generation, when);
	table_init(&t, headers, ARRAY_SIZE(headers));
	for (size_t i = 0; i < s->policy->n_rules; i++)
		rule_row(&t, s, i);
	table_cell(&t, "-");
	table_cell(&t, "default");
	table_cell(&t, "(any)");
	{
		struct fields f;

		if (fields_of_use((const char(*)[DMM_NAME_LEN])s->policy->def, s->policy->n_def,
				  "use", &f) < 0)
			t.failed = true;
		table_cell(&t, "%s", f.n ? f.list[0].value : "");
		fields_fini(&f);
	}
	table_cell(&t, "%s", "");
	table_cell(&t, "%llu", s->hits[DMM_MAX_RULES]);
	table_cell(&t, "-");
	table_print(&t, stdout);
	return CTL_OK;
}

/* The policy as apply would take it, with the state beside it. */
static int show_json(const struct ctl *c, const struct show *s)
{
	json_t *policy = json_policy(s->policy), *rules = json_object_get(policy, "rules"), *rule;
	json_t *hits = json_array();
	size_t i;

	json_array_foreach (rules, i, rule)
		json_array_append_new(hits, json_pack("{s:s, s:I, s:s, s:i}", "rule",
						      s->policy->rules[i].name, "hits",
						      (json_int_t)s->hits[i], "file",
						      s->policy->rules[i].pos.file, "line",
						      (int)s->policy->rules[i].pos.line));
	return ctl_print_json(c, json_pack("{s:I, s:I, s:o, s:o, s:I}", "generation",
					   (json_int_t)s->state.generation, "committed_ns",
					   (json_int_t)s->state.tree.meta->committed_ns, "policy",
					   policy, "hits", hits, "default_hits",
					   (json_int_t)s->hits[DMM_MAX_RULES]));
}

int ctl_show(const struct ctl *c, int argc, char **argv)
{
	_cleanup_free_ struct show *s = calloc(1, sizeof(*s));
	size_t n = 0;
	int r;

	(void)argc;
	(void)argv;
	if (!s)
		return CTL_FAILED;
	r = ctl_state_open(c, &s->state);
	if (r != CTL_OK)
		return r;
	r = class_decompile(s->state.class, &s->policy);
	if (r == 0)
		r = maps_hits(&s->state.tree, s->hits);
	for (dmm_u32 i = 0; r == 0 && i < s->state.class->hdr.rules; i++)
		if (class_live(s->state.class, i)) /* as the policy has them */
			s->hits[n++] = s->hits[i];
	if (r < 0) {
		log_err("the policy in force cannot be read: %s", strerror(-r));
		r = CTL_FAILED;
	} else if (c->given & CTL_YAML) {
		r = policy_format(s->policy, stdout) < 0 ? CTL_FAILED : CTL_OK;
	} else {
		r = c->given & CTL_JSON ? show_json(c, s) : show_text(s);
	}
	policy_free(s->policy);
	ctl_state_close(&s->state);
	return r;
}

/* ---- stack list ---- */

static void stack_row(struct table *t, const struct telemetry *m, unsigned id)
{
	const struct dmm_stack_rec *rec = &m->class->stack[id];
	const struct telemetry_stack *s = &m->stack[id];
	bool user = rec->kind == DMM_KIND_USERSPACE, runs = user && s->up;
	char text[TABLE_TEXT];

	table_cell(t, "%s", rec->name);
	table_cell(t, "%s",
		   rec->kind < DMM_KINDS && words_kind[rec->kind] ? words_kind[rec->kind] : "?");
	table_cell(t, "%s", user ? rec->engine : "-");
	if (user && rec->queue)
		table_cell(t, "%s:%u", rec->interface, rec->queue - 1);
	else
		table_cell(t, "%s", user ? rec->interface : "-");
	table_cell(t, "%s",
		   runs && s->rt.xdp_mode < ARRAY_SIZE(words_xdp_mode)
			   ? words_xdp_mode[s->rt.xdp_mode]
		   : user ? rec->mode
			  : "-");
	table_cell(t, "%s",
		   rec->kind == DMM_KIND_REJECT ? "-"
		   : s->rt.off			? "off"
		   : s->up			? "up"
						: "down");
	if (rec->kind != DMM_KIND_REJECT)
		table_tint(t, s->rt.off ? TINT_WARN : s->up ? TINT_GOOD : TINT_BAD);
	if (runs) {
		table_cell(t, "%u", s->rt.pid);
		table_cell(t, "%s", text_age(now_ns() - s->rt.started_ns, text));
	} else {
		table_cell(t, "-");
		table_cell(t, "-");
	}
	table_cell(t, "%llu", s->active);
	table_cell(t, "%s", user ? text_bytes(s->counter[DMM_I_RX_BYTES], text) : "-");
	table_cell(t, "%s", user ? text_bytes(s->counter[DMM_I_TX_BYTES], text) : "-");
}

static int stacks_json(const struct ctl *c, const struct telemetry *m)
{
	json_t *list = json_stacks(m), *o;
	size_t i;

	json_array_foreach (list, i, o) {
		json_int_t id = json_integer_value(json_object_get(o, "id"));
		const struct telemetry_stack *s = &m->stack[id];

		if (m->class->stack[id].kind != DMM_KIND_USERSPACE)
			continue;
		json_object_set_new(
			o, "uptime_ns",
			json_integer(s->up ? (json_int_t)(now_ns() - s->rt.started_ns) : 0));
		json_object_set_new(o, "rx_bytes",
				    json_integer((json_int_t)s->counter[DMM_I_RX_BYTES]));
		json_object_set_new(o, "tx_bytes",
				    json_integer((json_int_t)s->counter[DMM_I_TX_BYTES]));
	}
	return ctl_print_json(c, list);
}

int ctl_stack_list(const struct ctl *c, int argc, char **argv)
{
	static const char *const headers[] = {"STACK",	  "?KIND", "?ENGINE", "INTERFACE",
					      "?MODE",	  "STATE", ">PID",    "?>UPTIME",
					      ">SOCKETS", ">RX",   ">TX"};
	_cleanup_free_ struct telemetry *m = malloc(sizeof(*m));
	struct ctl_state s;
	struct table t;
	int r;

	(void)argc;
	(void)argv;
	if (!m)
		return CTL_FAILED;
	r = ctl_telemetry_open(c, &s, m);
	if (r != CTL_OK)
		return r;
	if (c->given & CTL_JSON) {
		r = stacks_json(c, m);
	} else {
		table_init(&t, headers, ARRAY_SIZE(headers));
		for (unsigned id = 0; id < DMM_MAX_STACKS; id++)
			if (s.class->stack[id].kind != DMM_KIND_FREE)
				stack_row(&t, m, id);
		table_print(&t, stdout);
		r = CTL_OK;
	}
	ctl_state_close(&s);
	return r;
}

/* ---- group list ---- */

static int count_group(const struct dmm_flow_row *f, void *ctx)
{
	dmm_u64 *count = ctx;

	count[f->sock.group % DMM_MAX_GROUPS]++;
	return 0;
}

static int groups_json(const struct ctl *c, const struct tree *t, const struct dmm_class *class,
		       const dmm_u64 *count)
{
	json_t *list = json_groups(class), *o;
	size_t i;

	json_array_foreach (list, i, o) {
		json_int_t id = json_integer_value(json_object_get(o, "id"));

		json_object_set_new(o, "sockets", json_integer((json_int_t)count[id]));
		json_object_set_new(o, "off", json_boolean(attach_group_off(t, &class->group[id])));
	}
	return ctl_print_json(c, list);
}

int ctl_group_list(const struct ctl *c, int argc, char **argv)
{
	static const char *const headers[] = {"GROUP", "~CGROUP", "STATE", ">SOCKETS"};
	dmm_u64 count[DMM_MAX_GROUPS] = {0};
	struct ctl_state s;
	struct table t;
	int r;

	(void)argc;
	(void)argv;
	r = ctl_state_open(c, &s);
	if (r != CTL_OK)
		return r;
	maps_flows(&s.tree, count_group, count);
	if (c->given & CTL_JSON) {
		r = groups_json(c, &s.tree, s.class, count);
	} else {
		table_init(&t, headers, ARRAY_SIZE(headers));
		for (unsigned id = 1; id < DMM_MAX_GROUPS; id++) {
			const struct dmm_group_rec *g = &s.class->group[id];

			if (!g->name[0])
				continue;
			table_cell(&t, "%s", g->name);
			table_cell(&t, "%s", g->cgroup);
			table_cell(&t, "%s",
				   !g->cgroup_id		  ? "down"
				   : attach_group_off(&s.tree, g) ? "off"
								  : "up");
			if (!g->cgroup_id || attach_group_off(&s.tree, g))
				table_tint(&t, g->cgroup_id ? TINT_WARN : TINT_BAD);
			table_cell(&t, "%llu", count[id]);
		}
		table_print(&t, stdout);
	}
	ctl_state_close(&s);
	return r;
}
