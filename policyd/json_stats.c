// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "lib/base/util.h"
#include "policyd/json.h"
#include "policyd/nrd/hist.h"
#include "policyd/nrd/report.h"
#include "policyd/words.h"

#define ROW_NAME(name, text, help) text,
static const char *const counter_word[] = {DMM_COUNTERS(ROW_NAME)};
static const char *const hold_word[] = {DMM_HOLD_COUNTERS(ROW_NAME)};
static const char *const xdp_word[] = {DMM_XDP_COUNTERS(ROW_NAME)};
static const char *const instance_word[] = {DMM_INSTANCE_COUNTERS(ROW_NAME)};

static void set_rows(json_t *o, const char *const *words, size_t n, const dmm_u64 *value)
{
	for (size_t i = 0; i < n; i++)
		json_object_set_new(o, words[i], json_integer((json_int_t)value[i]));
}

static json_t *verdicts(const struct telemetry *t)
{
	json_t *list = json_array();

	for (unsigned id = 0; id < DMM_MAX_STACKS; id++)
		for (unsigned role = 0; role < DMM_ROLES; role++)
			for (unsigned reason = 0; reason < DMM_REASON_COUNT; reason++) {
				dmm_u64 v = t->verdict[DMM_VERDICT_INDEX(id, role, reason)];

				if (v == 0 || t->class->stack[id].kind == DMM_KIND_FREE)
					continue;
				json_array_append_new(list,
						      json_pack("{s:s, s:s, s:s, s:I}", "stack",
								t->class->stack[id].name, "role",
								words_role[role], "reason",
								words_reason[reason], "sockets",
								(json_int_t)v));
			}
	return list;
}

static json_t *rules(const struct telemetry *t)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < t->class->hdr.rules; i++)
		if (class_live(t->class, i))
			json_array_append_new(list, json_pack("{s:s, s:I}", "name",
							      t->class->rule[i].name, "hits",
							      (json_int_t)t->hit[i]));
	return list;
}

/* The counters of an instance of each of its threads, if there are several. */
static void set_threads(json_t *o, const struct telemetry_stack *s)
{
	json_t *list;

	if (s->rt.threads < 2)
		return;
	list = json_array();
	for (unsigned i = 0; i < s->rt.threads && i < DMM_MAX_THREADS; i++) {
		json_t *one = json_object();

		set_rows(one, instance_word, ARRAY_SIZE(instance_word), s->thread[i]);
		json_array_append_new(list, one);
	}
	json_object_set_new(o, "threads", list);
}

static json_t *instances(const struct telemetry *t)
{
	json_t *o = json_object();

	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		const struct telemetry_stack *s = &t->stack[id];
		json_t *c;

		if (t->class->stack[id].kind != DMM_KIND_USERSPACE)
			continue;
		c = json_object();
		set_rows(c, instance_word, ARRAY_SIZE(instance_word), s->counter);
		set_rows(c, hold_word, ARRAY_SIZE(hold_word), s->hold);
		set_rows(c, xdp_word, ARRAY_SIZE(xdp_word), s->xdp);
		set_threads(c, s);
		json_object_set_new(o, t->class->stack[id].name, c);
	}
	return o;
}

/* [[least value in us, count], …], of buckets that hold something. */
static json_t *histogram(const dmm_u64 bucket[DMM_HIST_BUCKETS])
{
	json_t *list = json_array();

	for (unsigned i = 0; i < DMM_HIST_BUCKETS; i++)
		if (bucket[i])
			json_array_append_new(
				list, json_pack("[f, I]", hist_edge(i), (json_int_t)bucket[i]));
	return list;
}

/* What connections of measured rules were like, by stack. */
static json_t *measured(const struct telemetry *t)
{
	json_t *o = json_object();

	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		const struct dmm_measures *m = &t->stack[id].measured;
		json_t *failed = json_object(), *one;

		for (unsigned i = 0; i < DMM_FAILURES; i++)
			json_object_set_new(failed, report_failure_words[i],
					    json_integer((json_int_t)m->failed[i]));
		one = json_pack("{s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "connections",
				(json_int_t)m->connections, "failed", failed, "ended",
				(json_int_t)m->ended, "receive_bytes", (json_int_t)m->rx_bytes,
				"transmit_bytes", (json_int_t)m->tx_bytes, "segments",
				(json_int_t)m->segments, "resent", (json_int_t)m->resent,
				"connect_us", histogram(m->connect), "rtt_us", histogram(m->srtt));
		if (t->class->stack[id].kind != DMM_KIND_FREE && m->connections)
			json_object_set(o, t->class->stack[id].name, one);
		json_decref(one);
	}
	return o;
}

static json_t *usage(const struct telemetry *t)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < TELEMETRY_MAPS; i++)
		if (t->map[i].known)
			json_object_set_new(o, t->map[i].name,
					    json_pack("{s:I, s:I}", "used",
						      (json_int_t)t->map[i].used, "max",
						      (json_int_t)t->map[i].max));
	return o;
}

json_t *json_stats(const struct telemetry *t)
{
	json_t *counters = json_object();

	set_rows(counters, counter_word, ARRAY_SIZE(counter_word), t->counter);
	return json_pack("{s:I, s:I, s:o, s:o, s:o, s:I, s:o, s:o, s:o}", "generation",
			 (json_int_t)t->generation, "committed_ns", (json_int_t)t->committed_ns,
			 "counters", counters, "verdicts", verdicts(t), "rules", rules(t),
			 "default_hits", (json_int_t)t->hit[DMM_MAX_RULES], "instances",
			 instances(t), "measured", measured(t), "maps", usage(t));
}
