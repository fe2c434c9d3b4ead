// SPDX-License-Identifier: Apache-2.0
/* What a rule uses: a list of stacks, weights, or a choice that is left to nRD. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/policy_read.h"
#include "policyd/value.h"

#define SECOND_US 1000000ULL

int policy_read_stack_names(const struct keys_at *at, const struct key *k, const struct node *v,
			    char (*ret)[DMM_NAME_LEN], unsigned *ret_n)
{
	struct {
		char (*name)[DMM_NAME_LEN];
		size_t n;
	} list = {0};
	struct key row = *k;
	int r;

	row.offset = 0;
	row.size = DMM_NAME_LEN;
	row.n_offset = sizeof(list.name);
	r = key_read_names(at, &row, v, &list);
	if (r == 0 && list.n > DMM_MAX_USE)
		r = keys_error_of(at, k, v, "%zu stacks; at most %d are possible", list.n,
				  DMM_MAX_USE);
	if (r == 0) {
		memcpy(ret, list.name, list.n * DMM_NAME_LEN);
		*ret_n = (unsigned)list.n;
	}
	free(list.name);
	return r;
}

/* One entry "STACK: WEIGHT". */
static int read_weight(const struct keys_at *at, const struct key *k, const struct node *v,
		       void *obj)
{
	const char *text = v->type == NODE_SCALAR ? v->value : "";
	dmm_u16 *weight = obj;
	dmm_u64 n;

	if (value_parse_number(text, POLICY_MAX_WEIGHT, &n) < 0)
		return keys_error_of(at, k, v, "\"%.60s\" is not a number from 0 to %d", text,
				     POLICY_MAX_WEIGHT);
	*weight = (dmm_u16)n;
	return 0;
}

const struct key policy_weight_key = {
	.name = "weight",
	.read = read_weight,
	.value = "NUMBER",
	.help = "the share of connections; 0: only when the others cannot serve",
	.form = FORM_WEIGHT,
};

static int add_weight(const struct keys_at *at, const struct key *k, const struct node *key,
		      const struct node *v, struct dmm_rule *rule)
{
	int r;

	if (!value_is_name(key->value))
		return keys_error_of(at, k, key, "\"%.60s\" is not a name of a stack", key->value);
	for (unsigned i = 0; i < rule->n_use; i++)
		if (strcmp(rule->use[i], key->value) == 0)
			return keys_error_of(at, k, key, "\"%s\" is there twice", key->value);
	r = read_weight(at, k, v, &rule->weight[rule->n_use]);
	if (r == 0)
		strcpy(rule->use[rule->n_use++], key->value);
	return r;
}

static int read_weights(const struct keys_at *at, const struct key *k, const struct node *v,
			void *obj)
{
	struct dmm_rule *rule = obj;
	unsigned sum = 0;
	int err = 0, r;

	if (v->type != NODE_MAP || v->n == 0)
		return keys_error_of(at, k, v, "expected a mapping of stacks to numbers");
	if (v->n / 2 > DMM_MAX_USE)
		return keys_error_of(at, k, v, "%zu stacks; at most %d are possible", v->n / 2,
				     DMM_MAX_USE);
	for (size_t i = 0; i + 1 < v->n; i += 2) {
		r = add_weight(at, k, v->child[i], v->child[i + 1], rule);
		err = r < 0 ? r : err;
	}
	for (unsigned i = 0; i < rule->n_use; i++)
		sum += rule->weight[i];
	if (err == 0 && sum == 0)
		return keys_error_of(at, k, v, "all are 0: no stack would be taken");
	if (err == 0 && sum > POLICY_MAX_WEIGHT)
		return keys_error_of(at, k, v, "their sum is %u; at most %d is possible", sum,
				     POLICY_MAX_WEIGHT);
	return err;
}

/* ---- auto ---- */

static int read_auto(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	struct dmm_rule *rule = obj;

	return policy_read_stack_names(at, k, v, rule->use, &rule->n_use);
}

static int read_objective(const struct keys_at *at, const struct key *k, const struct node *v,
			  void *obj)
{
	struct dmm_rule *rule = obj;
	int r = key_read_index(at, k, v, obj);

	if (r == 0)
		rule->nrd.objective++; /* the words begin after NRD_NONE */
	return r;
}

static const char *text_of(const struct node *v)
{
	return v->type == NODE_SCALAR ? v->value : "";
}

/* Microseconds. */
static int read_time(const struct keys_at *at, const struct key *k, const struct node *v,
		     dmm_u64 least, dmm_u64 most, dmm_u64 *ret)
{
	char lo[VALUE_STRLEN], hi[VALUE_STRLEN];

	if (value_parse_duration(text_of(v), ret) == 0 && *ret >= least && *ret <= most)
		return 0;
	return keys_error_of(at, k, v,
			     "\"%.60s\" is not a time from %s to %s, such as 250us, 2ms, 30s or 5m",
			     text_of(v), value_format_duration(least, lo, sizeof(lo)),
			     value_format_duration(most, hi, sizeof(hi)));
}

/* Milliseconds at the row's place. */
static int read_pause(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj)
{
	dmm_u64 us = 0;
	int r = read_time(at, k, v, SECOND_US, 7 * 86400 * SECOND_US, &us);

	*(dmm_u32 *)((char *)obj + k->offset) = (dmm_u32)(us / 1000);
	if (r == 0 && us % 1000)
		return keys_error_of(at, k, v, "\"%s\" is not a whole number of milliseconds",
				     v->value);
	return r;
}

static int read_percent(const struct keys_at *at, const struct key *k, const struct node *v,
			dmm_u64 least, dmm_u64 most, dmm_u64 *ret)
{
	if (value_parse_percent(text_of(v), most, ret) == 0 && *ret >= least)
		return 0;
	return keys_error_of(at, k, v, "\"%.60s\" is not a share from %llu%% to %llu%%", text_of(v),
			     least, most);
}

static int read_gain(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	struct dmm_rule *rule = obj;
	dmm_u64 n = 0;
	int r = read_percent(at, k, v, 0, NRD_MIN_GAIN_MAX, &n);

	rule->nrd.min_gain = (dmm_u16)n;
	return r;
}

static int read_canary(const struct keys_at *at, const struct key *k, const struct node *v,
		       void *obj)
{
	struct dmm_rule *rule = obj;
	dmm_u64 n = 0;
	int r = read_percent(at, k, v, 1, NRD_CANARY_MAX, &n);

	rule->nrd.canary = (dmm_u8)n;
	return r;
}

static const dmm_u16 sla_permille[POLICY_SLA_KEYS] = {500, 900, 950, 990, 999};

static int read_quantile(const struct keys_at *at, const struct key *k, const struct node *v,
			 void *obj)
{
	struct nrd_settings *s = obj;
	dmm_u64 us = 0;
	int r = read_time(at, k, v, 1, 60 * SECOND_US, &us);

	s->sla_permille = sla_permille[k - policy_sla_keys];
	s->sla_us = (dmm_u32)us;
	return r;
}

#define QUANTILE(name_, help_) \
	{ \
		.name = name_, .read = read_quantile, .value = "TIME", .help = help_, \
		.form = FORM_DURATION \
	}
const struct key policy_sla_keys[POLICY_SLA_KEYS] = {
	QUANTILE("p50", "half of all latencies are to be no more"),
	QUANTILE("p90", "nine of ten"),
	QUANTILE("p95", "19 of 20"),
	QUANTILE("p99", "99 of 100"),
	QUANTILE("p999", "999 of 1000"),
};

const char *policy_sla_key(unsigned permille)
{
	for (unsigned i = 0; i < POLICY_SLA_KEYS; i++)
		if (sla_permille[i] == permille)
			return policy_sla_keys[i].name;
	return NULL;
}

static int read_sla(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	struct dmm_rule *rule = obj;
	char object[2 * DMM_NAME_LEN + 60];
	struct keys_at in = {.file = at->file, .diags = at->diags, .object = object};
	uint32_t mask;

	if (v->type != NODE_MAP || v->n != 2)
		return keys_error_of(at, k, v,
				     "expected one quantile and its bound, as {p99: 2ms}");
	snprintf(object, sizeof(object), "sla of %s", at->object);
	return keys_read(&in, policy_sla_keys, POLICY_SLA_KEYS, v, &rule->nrd, &mask);
}

const struct key policy_use_keys[POLICY_USE_KEYS] = {
	{.name = "weights",
	 .read = read_weights,
	 .value = "{STACK: NUMBER…}",
	 .help = "each connection takes one of these first, the others then in their order",
	 .form = FORM_NAMED_VALUES,
	 .flags = KEY_FILLED,
	 .max = DMM_MAX_USE,
	 .keys = &policy_weight_key,
	 .n_keys = 1},
	{.name = "auto",
	 .read = read_auto,
	 .value = "STACK…",
	 .help = "nRD chooses among these from what it measures; the first is used until then",
	 .form = FORM_NAME,
	 .flags = KEY_MANY,
	 .max = DMM_MAX_USE},
	KEY_WORD("objective", read_objective, struct dmm_rule, nrd.objective, nrd_objective_words,
		 "latency, throughput, reliability or cost",
		 "with auto: what is better; default latency"),
	{.name = "sla",
	 .read = read_sla,
	 .value = "{QUANTILE: TIME}",
	 .help = "with auto: a bound of latencies, as {p99: 2ms}",
	 .form = FORM_MAP,

	 .keys = policy_sla_keys,
	 .n_keys = POLICY_SLA_KEYS},
	KEY_STRING("min_gain", read_gain, struct dmm_rule, nrd.min_gain, "PERCENT",
		   "with auto: how much better a stack must be to be taken; default 10%",
		   .form = FORM_GAIN),
	KEY_STRING("dwell", read_pause, struct dmm_rule, nrd.dwell_ms, "TIME",
		   "with auto: how long a stack that works stays at least; default 30s",
		   .form = FORM_DURATION),
	KEY_STRING("cooldown", read_pause, struct dmm_rule, nrd.cooldown_ms, "TIME",
		   "with auto: how long a stack that lost a trial rests; default 5m",
		   .form = FORM_DURATION),
	KEY_STRING("canary", read_canary, struct dmm_rule, nrd.canary, "PERCENT",
		   "with auto: the share of new connections that a trial takes; default 5%",
		   .form = FORM_CANARY),
};

static bool seen(uint32_t mask, const char *name)
{
	return keys_seen(mask, policy_use_keys, POLICY_USE_KEYS, name);
}

/* Either weights or auto; the rest goes with auto. */
static int use_settle(const struct keys_at *at, const struct node *v, uint32_t mask,
		      struct dmm_rule *rule)
{
	if (!seen(mask, "weights") && !seen(mask, "auto"))
		return keys_error(at, v, "%s has neither \"weights\" nor \"auto\"", at->object);
	if (seen(mask, "auto"))
		return 0;
	rule->nrd = (struct nrd_settings){0};
	for (size_t i = 0; i < POLICY_USE_KEYS; i++)
		if ((mask & 1u << i) && !seen(mask & 1u << i, "weights"))
			return keys_error(at, v, "%s: \"%s\" has no meaning without \"auto\"",
					  at->object, policy_use_keys[i].name);
	return 0;
}

int policy_read_use(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	struct dmm_rule *rule = obj;
	char object[DMM_NAME_LEN + 40];
	struct keys_at in = {.file = at->file, .diags = at->diags, .object = object};
	uint32_t mask;
	int r;

	if (v->type != NODE_MAP)
		return policy_read_stack_names(at, k, v, rule->use, &rule->n_use);
	snprintf(object, sizeof(object), "use of %s", at->object);
	if (node_get(v, "weights") && node_get(v, "auto"))
		return keys_error(&in, v, "%s has both \"weights\" and \"auto\"", object);
	rule->nrd = (struct nrd_settings){.objective = NRD_LATENCY,
					  .canary = NRD_CANARY,
					  .min_gain = NRD_MIN_GAIN,
					  .dwell_ms = NRD_DWELL_MS,
					  .cooldown_ms = NRD_COOLDOWN_MS};
	r = keys_read(&in, policy_use_keys, POLICY_USE_KEYS, v, rule, &mask);
	return r < 0 ? r : use_settle(&in, v, mask, rule);
}
