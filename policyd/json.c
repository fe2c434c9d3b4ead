// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/text.h"
#include "lib/base/util.h"
#include "policyd/fields.h"
#include "policyd/json.h"
#include "policyd/words.h"

static json_t *word(const char *const *words, size_t n, unsigned i)
{
	return i < n && words[i] ? json_string(words[i]) : json_null();
}
#define WORD(words, i) word(words, ARRAY_SIZE(words), i)

json_t *json_text(const char *s, size_t size)
{
	_cleanup_free_ char *text = malloc(strnlen(s, size) + 1);

	return text ? json_string(text_utf8(s, size, text)) : NULL;
}
#define TEXT(field) json_text(field, sizeof(field))

static void set(json_t *o, const char *key, json_t *value)
{
	json_object_set_new(o, key, value);
}

static void set_u64(json_t *o, const char *key, dmm_u64 v)
{
	json_object_set_new(o, key, json_integer((json_int_t)v));
}

/* An endpoint; null when it is not known. */
static json_t *endpoint(const struct dmm_addr *a)
{
	static const struct dmm_addr unknown;
	char buf[ADDR_STRLEN];

	if (memcmp(a, &unknown, sizeof(unknown)) == 0)
		return json_null();
	return json_string(addr_format(a, buf, sizeof(buf)));
}

static json_t *group_name(const struct dmm_class *c, unsigned id)
{
	if (id == DMM_GROUP_NONE || id >= DMM_MAX_GROUPS || !c->group[id].name[0])
		return json_null();
	return TEXT(c->group[id].name);
}

static json_t *stack_name(const struct dmm_class *c, unsigned id)
{
	if (id >= DMM_MAX_STACKS || !c->stack[id].name[0])
		return json_null();
	return TEXT(c->stack[id].name);
}

json_t *json_flow(const struct dmm_flow_row *f, const struct dmm_class *c)
{
	const struct dmm_sock *s = &f->sock;
	json_t *o = json_object();

	set_u64(o, "cookie", s->cookie);
	set(o, "group", group_name(c, s->group));
	set(o, "role", WORD(words_role, s->role));
	set(o, "proto", json_string(s->proto == IPPROTO_UDP ? "udp" : "tcp"));
	set(o, "local", endpoint(&s->local));
	set(o, "remote", endpoint(&s->remote));
	set(o, "via", endpoint(&s->via));
	set(o, "stack", stack_name(c, s->stack));
	set_u64(o, "stack_id", s->stack);
	set(o, "rule", s->rule == DMM_RULE_NONE ? json_null() : TEXT(s->rule_name));
	set(o, "reason", WORD(words_reason, s->reason));
	set(o, "carrier", WORD(words_carrier, s->carrier));
	set(o, "congestion", WORD(words_congestion, s->congestion));
	set_u64(o, "generation", s->generation);
	set_u64(o, "since_ns", s->since_ns);
	set_u64(o, "pid", s->pid);
	set(o, "program", TEXT(s->comm));
	set_u64(o, "netns", f->netns);
	set(o, "state", WORD(words_tcp_state, f->tcp_state));
	set_u64(o, "rx_bytes", f->rx_bytes);
	set_u64(o, "tx_bytes", f->tx_bytes);
	set_u64(o, "srtt_us", f->srtt_us);
	set_u64(o, "retrans", f->retrans);
	return o;
}

static json_t *carrier_ports(const dmm_u16 port[DMM_CARRIER_PORTS])
{
	json_t *a = json_array();

	for (unsigned i = 0; i < DMM_CARRIER_PORTS && port[i]; i++)
		json_array_append_new(a, json_integer(port[i]));
	return a;
}

static json_t *instance_state(const struct telemetry_stack *s)
{
	json_t *o = json_object();

	set_u64(o, "pid", s->rt.pid);
	set_u64(o, "netns_cookie", s->rt.netns);
	set_u64(o, "ifindex", s->rt.ifindex);
	set_u64(o, "threads", s->rt.threads);
	set_u64(o, "threads_hung", s->rt.hung);
	set(o, "carriers4", carrier_ports(s->rt.port4));
	set(o, "carriers6", carrier_ports(s->rt.port6));
	set_u64(o, "started_ns", s->rt.started_ns);
	set_u64(o, "heartbeat_ns", s->rt.heartbeat_ns);
	set(o, "xdp_mode", WORD(words_xdp_mode, s->rt.xdp_mode));
	set_u64(o, "restarts", s->restarts);
	set_u64(o, "hangs", s->hangs);
	set(o, "last_end", s->why[0] ? TEXT(s->why) : json_null());
	set(o, "cpu_seconds", json_real((double)s->cpu_ns / 1e9));
	return o;
}

/* "key:value,key:value" */
static json_t *map_value(const char *item)
{
	json_t *o = json_object();

	for (; *item; item += strcspn(item, ","), item += *item == ',') {
		size_t len = strcspn(item, ":"), n = strcspn(item + len + 1, ",");
		const char *value = item + len + 1;
		char key[DMM_NAME_LEN];

		snprintf(key, sizeof(key), "%.*s", (int)len, item);
		if (strspn(value, "0123456789") == n)
			set_u64(o, key, strtoull(value, NULL, 10));
		else
			set(o, key, json_text(value, n));
	}
	return o;
}

static json_t *field_value(const struct field *f)
{
	json_t *list;

	if (f->type == FIELD_NUMBER)
		return json_integer((json_int_t)strtoull(f->value, NULL, 10));
	if (f->type == FIELD_BOOL)
		return json_boolean(strcmp(f->value, "true") == 0);
	if (f->type == FIELD_TEXT)
		return json_text(f->value, strlen(f->value));
	if (f->type == FIELD_MAP)
		return map_value(f->value);
	list = json_array();
	for (const char *item = f->value; *item; item += *item == ',') {
		size_t len = strcspn(item, ",");

		json_array_append_new(list, json_text(item, len));
		item += len;
	}
	return list;
}

/* Add the fields of an object of the policy language to o; f is used up. */
static void set_fields(json_t *o, struct fields *f)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct field *field = &f->list[i];
		json_t *to = o;

		if (field->parent) {
			to = json_object_get(o, field->parent);
			if (!to) {
				to = json_object();
				set(o, field->parent, to);
			}
		}
		set(to, field->key, field_value(field));
	}
	fields_fini(f);
}

json_t *json_stacks(const struct telemetry *t)
{
	json_t *list = json_array();

	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		const struct dmm_stack_rec *r = &t->class->stack[id];
		struct fields f;
		json_t *o;

		if (r->kind == DMM_KIND_FREE)
			continue;
		o = json_object();
		set(o, "name", TEXT(r->name));
		set_u64(o, "id", id);
		set(o, "kind", WORD(words_kind, r->kind));
		fields_of_stack(r, &f);
		set_fields(o, &f);
		set(o, "up", json_boolean(t->stack[id].up));
		set(o, "off", json_boolean(t->stack[id].rt.off));
		set_u64(o, "sockets", t->stack[id].active);
		if (r->kind == DMM_KIND_USERSPACE)
			set(o, "instance", instance_state(&t->stack[id]));
		json_array_append_new(list, o);
	}
	return list;
}

json_t *json_groups(const struct dmm_class *c)
{
	json_t *list = json_array();

	for (unsigned id = 1; id < DMM_MAX_GROUPS; id++) {
		const struct dmm_group_rec *g = &c->group[id];
		json_t *o;

		if (!g->name[0])
			continue;
		o = json_object();
		set(o, "name", TEXT(g->name));
		set_u64(o, "id", id);
		set(o, "cgroup", TEXT(g->cgroup));
		set_u64(o, "cgroup_id", g->cgroup_id);
		set(o, "attached", json_boolean(g->cgroup_id != 0));
		json_array_append_new(list, o);
	}
	return list;
}

json_t *json_diags(const struct policy_diags *d)
{
	json_t *list = json_array();

	for (size_t i = 0; i < d->n; i++) {
		const struct policy_diag *e = &d->list[i];
		json_t *o = json_object();

		set(o, "file", TEXT(e->pos.file));
		set_u64(o, "line", e->pos.line);
		set_u64(o, "column", e->pos.column);
		set(o, "severity", json_string(e->error ? "error" : "warning"));
		set(o, "text", TEXT(e->text));
		json_array_append_new(list, o);
	}
	return list;
}

json_t *json_policy(const struct dmm_policy *p)
{
	json_t *o = json_object(), *part = json_object(), *item;
	struct fields f;

	for (size_t i = 0; i < p->n_groups; i++) {
		item = json_object();
		fields_of_group(&p->groups[i], &f);
		set_fields(item, &f);
		set(part, p->groups[i].name, item);
	}
	set(o, "groups", part);
	part = json_object();
	for (size_t i = 0; i < p->n_stacks; i++) {
		item = json_object();
		fields_of_stack(&p->stacks[i].rec, &f);
		set_fields(item, &f);
		set(part, p->stacks[i].rec.name, item);
	}
	set(o, "stacks", part);
	part = json_object();
	for (size_t i = 0; i < p->n_sets; i++) {
		if (fields_of_set(&p->sets[i], &f) == 0 && f.n)
			set(part, p->sets[i].name, field_value(&f.list[0]));
		fields_fini(&f);
	}
	set(o, "sets", part);
	part = json_array();
	for (size_t i = 0; i < p->n_rules; i++) {
		item = json_object();
		set(item, "name", TEXT(p->rules[i].name));
		fields_of_rule(&p->rules[i], &f);
		set_fields(item, &f);
		if (p->rules[i].origin == DMM_ORIGIN_NRD)
			set(item, "origin", json_string("nrd"));
		json_array_append_new(part, item);
	}
	set(o, "rules", part);
	fields_of_use((const char(*)[DMM_NAME_LEN])p->def, p->n_def, "default", &f);
	set_fields(o, &f);
	return o;
}
