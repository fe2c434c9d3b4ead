// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "policyd/fields.h"
#include "policyd/policy_keys.h"
#include "policyd/value.h"
#include "policyd/words.h"

static int add(struct fields *f, const char *parent, const char *key, enum field_type type,
	       const char *value)
{
	struct field *field = &f->list[f->n];

	*field = (struct field){.parent = parent, .key = key, .type = type, .value = strdup(value)};
	if (!field->value)
		return -ENOMEM;
	f->n++;
	return 0;
}

static int add_number(struct fields *f, const char *parent, const char *key, dmm_u64 value)
{
	char text[VALUE_STRLEN];

	snprintf(text, sizeof(text), "%llu", value);
	return add(f, parent, key, FIELD_NUMBER, text);
}

/* Text of item i of a list. */
typedef const char *(*item_fn)(const void *list, size_t i, char *buf, size_t len);

static void print_items(FILE *out, const void *list, size_t n, item_fn item)
{
	char buf[VALUE_STRLEN];

	for (size_t i = 0; i < n; i++)
		fprintf(out, "%s%s", i ? "," : "", item(list, i, buf, sizeof(buf)));
}

static int add_list(struct fields *f, const char *parent, const char *key, const void *list,
		    size_t n, item_fn item)
{
	char buf[VALUE_STRLEN], *text = NULL;
	size_t len;
	FILE *out;
	int r;

	if (n == 0)
		return 0;
	if (n == 1)
		return add(f, parent, key, FIELD_LIST, item(list, 0, buf, sizeof(buf)));
	out = open_memstream(&text, &len);
	if (!out)
		return -ENOMEM;
	print_items(out, list, n, item);
	r = fclose(out) == 0 ? add(f, parent, key, FIELD_LIST, text) : -ENOMEM;
	free(text);
	return r;
}

static const char *name_item(const void *list, size_t i, char *buf, size_t len)
{
	const char(*names)[DMM_NAME_LEN] = list;

	snprintf(buf, len, "%s", names[i]);
	return buf;
}

static const char *prefix_item(const void *list, size_t i, char *buf, size_t len)
{
	const struct policy_prefix *p = (const struct policy_prefix *)list + i;

	return addr_format_prefix(p->ip, p->plen, buf, len);
}

static const char *ports_item(const void *list, size_t i, char *buf, size_t len)
{
	return value_format_ports((const struct policy_ports *)list + i, buf, len);
}

static const char *uids_item(const void *list, size_t i, char *buf, size_t len)
{
	return value_format_uids((const struct policy_uids *)list + i, buf, len);
}

static const char *program_item(const void *list, size_t i, char *buf, size_t len)
{
	const char(*names)[DMM_PROGRAM_LEN] = list;

	snprintf(buf, len, "%s", names[i]);
	return buf;
}

/* The sets, then the list that they are added to. */
static int add_with_sets(struct fields *f, const char *key, const char (*sets)[DMM_NAME_LEN],
			 size_t n_sets, const void *list, size_t n, item_fn item)
{
	char *text = NULL;
	size_t len;
	FILE *out;
	int r;

	if (n_sets == 0)
		return add_list(f, "match", key, list, n, item);
	out = open_memstream(&text, &len);
	if (!out)
		return -ENOMEM;
	print_items(out, sets, n_sets, name_item);
	if (n)
		fputc(',', out);
	print_items(out, list, n, item);
	r = fclose(out) == 0 ? add(f, "match", key, FIELD_LIST, text) : -ENOMEM;
	free(text);
	return r;
}

#define ADD_WITH_SETS(f, m, field, item) \
	add_with_sets(f, #field, (const char(*)[DMM_NAME_LEN])(m)->field##_set, \
		      (m)->n_##field##_set, (m)->field, (m)->n_##field, item)

static int add_match(struct fields *f, const struct policy_match *m)
{
	int r = add_list(f, "match", "group", m->group, m->n_group, name_item);

	for (unsigned role = 0; r == 0 && role < DMM_ROLES; role++)
		if (m->roles == 1u << role)
			r = add(f, "match", "role", FIELD_TEXT, policy_role_words[role]);
	if (r == 0 && m->proto)
		r = add(f, "match", "proto", FIELD_TEXT, m->proto == IPPROTO_UDP ? "udp" : "tcp");
	if (r == 0)
		r = ADD_WITH_SETS(f, m, remote, prefix_item);
	if (r == 0)
		r = ADD_WITH_SETS(f, m, remote_port, ports_item);
	if (r == 0)
		r = ADD_WITH_SETS(f, m, local, prefix_item);
	if (r == 0)
		r = ADD_WITH_SETS(f, m, local_port, ports_item);
	if (r == 0)
		r = add_list(f, "match", "uid", m->uid, m->n_uid, uids_item);
	if (r == 0)
		r = add_list(f, "match", "program", m->program, m->n_program, program_item);
	return r;
}

static bool has_weights(const struct dmm_rule *rule)
{
	for (unsigned i = 0; i < rule->n_use; i++)
		if (rule->weight[i])
			return true;
	return false;
}

static const char *weight_item(const void *list, size_t i, char *buf, size_t len)
{
	const struct dmm_rule *rule = list;

	snprintf(buf, len, "%s:%u", rule->use[i], rule->weight[i]);
	return buf;
}

static int add_weights(struct fields *f, const struct dmm_rule *rule)
{
	int r = add_list(f, "use", "weights", rule, rule->n_use, weight_item);

	if (r == 0)
		f->list[f->n - 1].type = FIELD_MAP;
	return r;
}

static int add_percent(struct fields *f, const char *key, unsigned percent, unsigned normal)
{
	char text[VALUE_STRLEN];

	if (percent == normal)
		return 0;
	snprintf(text, sizeof(text), "%u%%", percent);
	return add(f, "use", key, FIELD_TEXT, text);
}

static int add_pause(struct fields *f, const char *key, dmm_u32 ms, dmm_u32 normal)
{
	char text[VALUE_STRLEN];

	if (ms == normal)
		return 0;
	return add(f, "use", key, FIELD_TEXT,
		   value_format_duration(ms * 1000ULL, text, sizeof(text)));
}

static int add_sla(struct fields *f, const struct nrd_settings *s)
{
	char text[VALUE_STRLEN], bound[VALUE_STRLEN];

	if (!s->sla_permille)
		return 0;
	snprintf(text, sizeof(text), "%s:%s", policy_sla_key(s->sla_permille),
		 value_format_duration(s->sla_us, bound, sizeof(bound)));
	return add(f, "use", "sla", FIELD_MAP, text);
}

static int add_auto(struct fields *f, const struct dmm_rule *rule)
{
	const struct nrd_settings *s = &rule->nrd;
	int r = add_list(f, "use", "auto", rule->use, rule->n_use, name_item);

	if (r == 0 && s->objective != NRD_LATENCY)
		r = add(f, "use", "objective", FIELD_TEXT, nrd_objective_words[s->objective - 1]);
	if (r == 0)
		r = add_sla(f, s);
	if (r == 0)
		r = add_percent(f, "min_gain", s->min_gain, NRD_MIN_GAIN);
	if (r == 0)
		r = add_pause(f, "dwell", s->dwell_ms, NRD_DWELL_MS);
	if (r == 0)
		r = add_pause(f, "cooldown", s->cooldown_ms, NRD_COOLDOWN_MS);
	if (r == 0)
		r = add_percent(f, "canary", s->canary, NRD_CANARY);
	return r;
}

static int add_use(struct fields *f, const struct dmm_rule *rule)
{
	enum dmm_reject kind = rule->n_use == 1 ? policy_reject(rule->use[0]) : DMM_REJECTS;

	if (rule->nrd.objective)
		return add_auto(f, rule);
	if (has_weights(rule))
		return add_weights(f, rule);
	if (kind != DMM_REJECT_REFUSED && kind < DMM_REJECTS)
		return add(f, NULL, "reject", FIELD_TEXT, policy_reject_words[kind]);
	return add_list(f, NULL, "use", rule->use, rule->n_use, name_item);
}

int fields_of_rule(const struct dmm_rule *rule, struct fields *ret)
{
	int r;

	*ret = (struct fields){0};
	r = add_match(ret, &rule->match);
	if (r == 0)
		r = add_use(ret, rule);
	if (r == 0 && rule->carrier == DMM_CARRIER_SPLICE)
		r = add(ret, NULL, "carrier", FIELD_TEXT, "splice");
	if (r == 0 && rule->congestion)
		r = add(ret, NULL, "congestion", FIELD_TEXT, words_congestion[rule->congestion]);
	if (r == 0 && rule->strict)
		r = add(ret, NULL, "strict", FIELD_BOOL, "true");
	if (r == 0 && rule->disabled)
		r = add(ret, NULL, "disabled", FIELD_BOOL, "true");
	if (r == 0 && rule->capture)
		r = add(ret, NULL, "capture", FIELD_BOOL, "true");
	if (r == 0 && rule->telemetry)
		r = add(ret, NULL, "telemetry", FIELD_BOOL, "true");
	return r;
}

int fields_of_set(const struct policy_set *s, struct fields *ret)
{
	*ret = (struct fields){0};
	if (s->n_ports)
		return add_list(ret, NULL, "items", s->ports, s->n_ports, ports_item);
	return add_list(ret, NULL, "items", s->prefix, s->n_prefix, prefix_item);
}

int fields_of_use(const char (*use)[DMM_NAME_LEN], unsigned n, const char *key, struct fields *ret)
{
	*ret = (struct fields){0};
	return add_list(ret, NULL, key, use, n, name_item);
}

int fields_of_group(const struct policy_group *g, struct fields *ret)
{
	*ret = (struct fields){0};
	return add(ret, NULL, "cgroup", FIELD_TEXT, g->cgroup);
}

static int add_timeouts(struct fields *f, const struct dmm_stack_rec *s)
{
	int r = 0;

	if (s->user_timeout_ms)
		r = add_number(f, NULL, "user_timeout_ms", s->user_timeout_ms);
	if (r == 0 && s->keepalive_s)
		r = add_number(f, NULL, "keepalive_s", s->keepalive_s);
	return r;
}

static int add_kernel(struct fields *f, const struct dmm_stack_rec *s)
{
	char rate[VALUE_STRLEN];
	int r = add(f, NULL, "kind", FIELD_TEXT, "kernel");

	if (r == 0 && s->congestion[0])
		r = add(f, NULL, "congestion", FIELD_TEXT, s->congestion);
	if (r == 0 && s->pacing_bps)
		r = add(f, NULL, "pacing", FIELD_TEXT,
			value_format_rate(s->pacing_bps, rate, sizeof(rate)));
	if (r == 0 && s->mark)
		r = add_number(f, NULL, "mark", s->mark);
	if (r == 0 && s->priority)
		r = add_number(f, NULL, "priority", s->priority - 1);
	if (r == 0 && s->tos)
		r = add_number(f, NULL, "tos", s->tos - 1);
	return r < 0 ? r : add_timeouts(f, s);
}

int fields_of_stack(const struct dmm_stack_rec *s, struct fields *ret)
{
	int r;

	*ret = (struct fields){0};
	if (s->kind != DMM_KIND_USERSPACE)
		return add_kernel(ret, s);
	r = add(ret, NULL, "engine", FIELD_TEXT, s->engine);
	if (r == 0)
		r = add(ret, "port", "driver", FIELD_TEXT, s->driver);
	if (r == 0)
		r = add(ret, "port", "interface", FIELD_TEXT, s->interface);
	if (r == 0 && s->queue)
		r = add_number(ret, "port", "queue", s->queue - 1);
	if (r == 0)
		r = add(ret, "port", "mode", FIELD_TEXT, s->mode);
	if (r == 0)
		r = add(ret, NULL, "poll", FIELD_TEXT, words_poll[s->poll]);
	if (r == 0 && s->threads)
		r = add_number(ret, NULL, "threads", s->threads);
	if (r == 0 && s->congestion[0])
		r = add(ret, NULL, "congestion", FIELD_TEXT, s->congestion);
	if (r == 0 && s->ecn)
		r = add(ret, NULL, "ecn", FIELD_BOOL, "true");
	return r < 0 ? r : add_timeouts(ret, s);
}

static const char *endpoint_item(const void *list, size_t i, char *buf, size_t len)
{
	(void)buf;
	(void)len;
	return ((const char(*)[sizeof(((struct etcd_settings *)0)->endpoint[0])])list)[i];
}

static int add_etcd(struct fields *f, const struct etcd_settings *s)
{
	const struct {
		const char *key, *value, *normal;
	} texts[] = {
		{"prefix", s->prefix, ETCD_PREFIX},
		{"name", s->name, ""},
		{"ca", s->ca, ""},
		{"cert", s->cert, ""},
		{"key", s->key, ""},
		{"user", s->user, ""},
		{"password_file", s->password_file, ""},
	};
	char lease[VALUE_STRLEN];
	int r = add_list(f, "etcd", "endpoints", s->endpoint, s->n_endpoint, endpoint_item);

	if (r == 0 && s->n_endpoint && s->lease_s != ETCD_LEASE_S)
		r = add(f, "etcd", "lease", FIELD_TEXT,
			value_format_duration(s->lease_s * 1000000ULL, lease, sizeof(lease)));
	for (unsigned i = 0; r == 0 && s->n_endpoint && i < ARRAY_SIZE(texts); i++)
		if (strcmp(texts[i].value, texts[i].normal) != 0)
			r = add(f, "etcd", texts[i].key, FIELD_TEXT, texts[i].value);
	return r;
}

int fields_of_daemon(const struct policy_daemon *d, struct fields *ret)
{
	int r = 0;

	*ret = (struct fields){0};
	if (d->http[0])
		r = add(ret, NULL, "http", FIELD_TEXT, d->http);
	if (r == 0 && d->http_name[0])
		r = add(ret, NULL, "http_name", FIELD_TEXT, d->http_name);
	if (r == 0)
		r = add(ret, NULL, "socket", FIELD_TEXT, d->socket);
	if (r == 0 && d->group[0])
		r = add(ret, NULL, "socket_group", FIELD_TEXT, d->group);
	return r < 0 ? r : add_etcd(ret, &d->etcd);
}

void fields_fini(struct fields *f)
{
	for (size_t i = 0; i < f->n; i++)
		free(f->list[i].value);
	f->n = 0;
}

const struct field *fields_find(const struct fields *f, const char *key)
{
	for (size_t i = 0; i < f->n; i++)
		if (strcmp(f->list[i].key, key) == 0)
			return &f->list[i];
	return NULL;
}

void fields_print(const struct fields *f, FILE *out)
{
	for (size_t i = 0; i < f->n; i++)
		fprintf(out, "%s%s=%s", i ? " " : "", f->list[i].key, f->list[i].value);
}
