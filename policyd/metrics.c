// SPDX-License-Identifier: Apache-2.0
/*
 * One table of families in the order of the output; the rows of dmm_counters.h are families too.
 * A family has its TYPE and HELP written, then its function writes the samples.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/util.h"
#include "policyd/metrics.h"
#include "policyd/nrd/report.h"
#include "policyd/words.h"

struct family {
	const char *name, *type, *labels, *help;
	void (*emit)(const struct family *f, const struct telemetry *t, FILE *out);
	unsigned index; /* of the counter, for the rows of dmm_counters.h */
};

void metrics_escape(const char *text, FILE *out)
{
	for (; *text; text++) {
		if (*text == '\n') {
			fputs("\\n", out);
			continue;
		}
		if (*text == '\\' || *text == '"')
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void put_label(FILE *out, const char *label, const char *value)
{
	fprintf(out, "%s=\"", label);
	metrics_escape(value, out);
	fputc('"', out);
}

static void put_u64(FILE *out, const char *name, dmm_u64 v)
{
	fprintf(out, "%s %llu\n", name, v);
}

static void put_u64_label(FILE *out, const char *name, const char *label, const char *value,
			  dmm_u64 v)
{
	fprintf(out, "%s{", name);
	put_label(out, label, value);
	fprintf(out, "} %llu\n", v);
}

/* Loop over the stacks of the policy, by id. */
#define FOR_EACH_STACK(t, id) \
	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) \
		if ((t)->class->stack[id].kind != DMM_KIND_FREE)
#define FOR_EACH_INSTANCE(t, id) \
	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) \
		if ((t)->class->stack[id].kind == DMM_KIND_USERSPACE)

static void put_stack(const struct family *f, const struct telemetry *t, unsigned id, dmm_u64 v,
		      FILE *out)
{
	put_u64_label(out, f->name, "stack", t->class->stack[id].name, v);
}

static void put_stack_seconds(const struct family *f, const struct telemetry *t, unsigned id,
			      int decimals, dmm_u64 ns, FILE *out)
{
	fprintf(out, "%s{", f->name);
	put_label(out, "stack", t->class->stack[id].name);
	fprintf(out, "} %.*f\n", decimals, (double)ns / 1e9);
}

static void emit_build(const struct family *f, const struct telemetry *t, FILE *out)
{
	(void)t;
	put_u64_label(out, f->name, "version", DMM_VERSION, 1);
}

static void emit_generation(const struct family *f, const struct telemetry *t, FILE *out)
{
	put_u64(out, f->name, t->generation);
}

static void emit_commit_time(const struct family *f, const struct telemetry *t, FILE *out)
{
	fprintf(out, "%s %.3f\n", f->name, (double)t->committed_ns / 1e9);
}

static void emit_steered(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_STACK(t, id)
	{
		for (unsigned role = 0; role < DMM_ROLES; role++)
			for (unsigned reason = 0; reason < DMM_REASON_COUNT; reason++) {
				dmm_u64 v = t->verdict[DMM_VERDICT_INDEX(id, role, reason)];

				if (v == 0 && reason != DMM_REASON_RULE)
					continue;
				fprintf(out, "%s{", f->name);
				put_label(out, "stack", t->class->stack[id].name);
				fputc(',', out);
				put_label(out, "role", words_role[role]);
				fputc(',', out);
				put_label(out, "reason", words_reason[reason]);
				fprintf(out, "} %llu\n", v);
			}
	}
}

/* An instance that is wanted may fall back to the kernel for any of these reasons: told from the
 * start, so that a first one is seen as an increase. */
static bool may_fall_back(const struct telemetry *t, unsigned wanted, unsigned stack)
{
	return wanted < DMM_MAX_STACKS && t->class->stack[wanted].kind == DMM_KIND_USERSPACE &&
	       stack == DMM_STACK_KERNEL;
}

static void put_fallbacks(const struct family *f, const struct telemetry *t, unsigned wanted,
			  unsigned stack, FILE *out)
{
	for (unsigned reason = 0; reason < DMM_REASON_COUNT; reason++) {
		dmm_u64 v = t->fallback[DMM_FALLBACK_INDEX(wanted, stack, reason)];

		if (reason == DMM_REASON_RULE || reason == DMM_REASON_DEFAULT ||
		    reason == DMM_REASON_NRD || reason == DMM_REASON_REJECTED ||
		    (v == 0 && !may_fall_back(t, wanted, stack)))
			continue;
		fprintf(out, "%s{", f->name);
		put_label(out, "from", wanted < DMM_MAX_STACKS ? t->class->stack[wanted].name : "");
		fputc(',', out);
		put_label(out, "to", t->class->stack[stack].name);
		fputc(',', out);
		put_label(out, "reason", words_reason[reason]);
		fprintf(out, "} %llu\n", v);
	}
}

static void emit_fallbacks(const struct family *f, const struct telemetry *t, FILE *out)
{
	for (unsigned wanted = 0; wanted <= DMM_MAX_STACKS; wanted++) {
		if (wanted < DMM_MAX_STACKS && t->class->stack[wanted].kind == DMM_KIND_FREE)
			continue;
		FOR_EACH_STACK(t, id)
		put_fallbacks(f, t, wanted, id, out);
	}
}

static void emit_rule_steered(const struct family *f, const struct telemetry *t, FILE *out)
{
	for (unsigned i = 0; i < t->class->hdr.rules; i++) {
		unsigned number = DMM_MEASURE_NUMBER(t->class->rule[i].measure);

		if (!number || number > DMM_MAX_MEASURED)
			continue;
		FOR_EACH_STACK(t, id)
		{
			dmm_u64 v = t->steered[DMM_STEERED_INDEX(number, id)];

			if (v == 0)
				continue;
			fprintf(out, "%s{", f->name);
			put_label(out, "rule", t->class->rule[i].name);
			fputc(',', out);
			put_label(out, "stack", t->class->stack[id].name);
			fprintf(out, "} %llu\n", v);
		}
	}
}

static void emit_hits(const struct family *f, const struct telemetry *t, FILE *out)
{
	for (unsigned i = 0; i < t->class->hdr.rules; i++)
		if (class_live(t->class, i))
			put_u64_label(out, f->name, "rule", t->class->rule[i].name, t->hit[i]);
}

static void emit_default_hits(const struct family *f, const struct telemetry *t, FILE *out)
{
	put_u64(out, f->name, t->hit[DMM_MAX_RULES]);
}

/* What telemetry calls a rule whose stack nRD chooses; 0: it does not. */
static unsigned auto_number(const struct telemetry *t, unsigned i)
{
	unsigned number = DMM_MEASURE_NUMBER(t->class->rule[i].measure);

	return t->class->rule[i].measure & DMM_MEASURE_AUTO && number <= DMM_MAX_MEASURED ? number
											  : 0;
}

static void emit_decisions(const struct family *f, const struct telemetry *t, FILE *out)
{
	for (unsigned i = 0; t->nrd.decided && i < t->class->hdr.rules; i++) {
		unsigned number = auto_number(t, i);

		for (unsigned a = 0; number && a < NRD_ACTIONS; a++) {
			fprintf(out, "%s{", f->name);
			put_label(out, "rule", t->class->rule[i].name);
			fputc(',', out);
			put_label(out, "outcome", nrd_action_words[a]);
			fprintf(out, "} %u\n", t->nrd.decided[number][a]);
		}
	}
}

static void emit_sla(const struct family *f, const struct telemetry *t, FILE *out)
{
	for (unsigned i = 0; t->nrd.sla_broken && i < t->class->hdr.rules; i++) {
		unsigned number = auto_number(t, i);

		if (number && t->nrd.sla_broken[number] != NRD_NO_SLA)
			put_u64_label(out, f->name, "rule", t->class->rule[i].name,
				      t->nrd.sla_broken[number]);
	}
}

static void emit_samples(const struct family *f, const struct telemetry *t, FILE *out)
{
	put_u64(out, f->name, t->nrd.samples);
}

static void emit_missed(const struct family *f, const struct telemetry *t, FILE *out)
{
	put_u64(out, f->name, t->nrd.missed);
}

static void emit_sample_age(const struct family *f, const struct telemetry *t, FILE *out)
{
	if (t->nrd.decided && t->nrd.age_s >= 0)
		fprintf(out, "%s %.3f\n", f->name, t->nrd.age_s);
}

static void emit_etcd(const struct family *f, const struct telemetry *t, FILE *out)
{
	const dmm_u64 value[] = {t->etcd.connected, t->etcd.revision, t->etcd.refused,
				 t->etcd.reports,   t->etcd.advice,   t->etcd.advice_refused};

	if (t->etcd.used)
		put_u64(out, f->name, value[f->index]);
}

static void emit_active(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_STACK(t, id)
	put_stack(f, t, id, t->stack[id].active, out);
}

static void emit_up(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_INSTANCE(t, id)
	put_stack(f, t, id, t->stack[id].up, out);
}

static void emit_restarts(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_INSTANCE(t, id)
	put_stack(f, t, id, t->stack[id].restarts, out);
}

static void emit_hangs(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_INSTANCE(t, id)
	put_stack(f, t, id, t->stack[id].hangs, out);
}

static void emit_instance_cpu(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_INSTANCE(t, id)
	put_stack_seconds(f, t, id, 2, t->stack[id].cpu_ns, out);
}

static void emit_heartbeat(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_INSTANCE(t, id)
	if (t->stack[id].up)
		put_stack_seconds(f, t, id, 3, t->stack[id].heartbeat_age_ns, out);
}

static void emit_link_up(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_INSTANCE(t, id)
	if (t->stack[id].link.known)
		put_stack(f, t, id, t->stack[id].link.up, out);
}

static void emit_link_speed(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_INSTANCE(t, id)
	if (t->stack[id].link.speed_bytes)
		put_stack(f, t, id, t->stack[id].link.speed_bytes, out);
}

static void emit_pressure(const struct family *f, const struct telemetry *t, FILE *out)
{
	for (unsigned i = 0; t->pressure_known && i < PRESSURES; i++)
		fprintf(out, "%s{resource=\"%s\"} %.6f\n", f->name, pressure_words[i],
			(double)t->pressure_us[i] / 1e6);
}

/* The text before the sample: name, the ending of it, stack and one more label. */
static void put_stack_label(const struct family *f, const char *ending, const struct telemetry *t,
			    unsigned id, const char *label, const char *value, FILE *out)
{
	fprintf(out, "%s%s{", f->name, ending);
	put_label(out, "stack", t->class->stack[id].name);
	fputc(',', out);
	put_label(out, label, value);
	fputs("} ", out);
}

static void emit_failures(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_STACK(t, id)
	for (unsigned i = 0; t->stack[id].measured.connections && i < DMM_FAILURES; i++) {
		put_stack_label(f, "", t, id, "failure", report_failure_words[i], out);
		fprintf(out, "%llu\n", t->stack[id].measured.failed[i]);
	}
}

/* Every power of two from 16 us to 16.8 s is a bound: values are whole microseconds, rounded down,
 * so what is less than it in the map was less than it. The sum is not kept. */
static void put_histogram(const struct family *f, const struct telemetry *t, unsigned id,
			  const dmm_u64 bucket[DMM_HIST_BUCKETS], FILE *out)
{
	enum { FIRST = 4, LAST = 24, STEPS = DMM_HIST_BUCKETS / 28 };
	dmm_u64 count = 0;
	double sum_us = 0;
	char bound[32];

	for (unsigned i = 0; i < DMM_HIST_BUCKETS; i++) {
		if (i % STEPS == 0 && i / STEPS >= FIRST && i / STEPS <= LAST) {
			snprintf(bound, sizeof(bound), "%.6f", (double)(1u << i / STEPS) / 1e6);
			put_stack_label(f, "_bucket", t, id, "le", bound, out);
			fprintf(out, "%llu\n", count);
		}
		count += bucket[i];
		sum_us += (double)bucket[i] * (hist_edge(i) + hist_edge(i + 1)) / 2;
	}
	put_stack_label(f, "_bucket", t, id, "le", "+Inf", out);
	fprintf(out, "%llu\n%s_count{", count, f->name);
	put_label(out, "stack", t->class->stack[id].name);
	fprintf(out, "} %llu\n%s_sum{", count, f->name);
	put_label(out, "stack", t->class->stack[id].name);
	fprintf(out, "} %.6f\n", sum_us / 1e6);
}

static void emit_connect_time(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_STACK(t, id)
	if (t->stack[id].measured.connections)
		put_histogram(f, t, id, t->stack[id].measured.connect, out);
}

static void emit_rtt(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_STACK(t, id)
	if (t->stack[id].measured.segments)
		put_histogram(f, t, id, t->stack[id].measured.srtt, out);
}

static void put_directions(const struct family *f, const struct telemetry *t, unsigned id,
			   dmm_u64 receive, dmm_u64 transmit, FILE *out)
{
	put_stack_label(f, "", t, id, "direction", "receive", out);
	fprintf(out, "%llu\n", receive);
	put_stack_label(f, "", t, id, "direction", "transmit", out);
	fprintf(out, "%llu\n", transmit);
}

static void emit_link_drops(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_INSTANCE(t, id)
	if (t->stack[id].link.known)
		put_directions(f, t, id, t->stack[id].link.rx_drops, t->stack[id].link.tx_drops,
			       out);
}

static void emit_link_errors(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_INSTANCE(t, id)
	if (t->stack[id].link.known)
		put_directions(f, t, id, t->stack[id].link.rx_errors, t->stack[id].link.tx_errors,
			       out);
}

static void emit_hung(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_INSTANCE(t, id)
	if (t->stack[id].up)
		put_stack(f, t, id, t->stack[id].rt.hung, out);
}

static dmm_u64 thread_value(const dmm_u64 counter[DMM_I_COUNT], unsigned what)
{
	if (what == DMM_I_CONN_OPEN)
		return counter[DMM_I_CONN_OPEN] + counter[DMM_I_CONN_ACCEPT];
	return counter[what];
}

static void emit_thread(const struct family *f, const struct telemetry *t, FILE *out)
{
	char number[8];

	FOR_EACH_INSTANCE(t, id)
	for (unsigned i = 0; i < t->stack[id].rt.threads && i < DMM_MAX_THREADS; i++) {
		snprintf(number, sizeof(number), "%u", i);
		put_stack_label(f, "", t, id, "thread", number, out);
		fprintf(out, "%llu\n", thread_value(t->stack[id].thread[i], f->index));
	}
}

static void emit_rings(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_INSTANCE(t, id)
	for (unsigned i = 0; i < DMM_RING_COUNT; i++) {
		if (!t->stack[id].ring[i])
			continue;
		put_stack_label(f, "", t, id, "ring", words_ring[i], out);
		fprintf(out, "%.6f\n", (double)(t->stack[id].ring[i] - 1) / 1e6);
	}
}

static void emit_bytes(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_STACK(t, id)
	{
		const struct telemetry_stack *s = &t->stack[id];
		bool instance = t->class->stack[id].kind == DMM_KIND_USERSPACE;

		if (!instance && !s->measured.ended)
			continue;
		put_directions(
			f, t, id, instance ? s->counter[DMM_I_APP_TX_BYTES] : s->measured.rx_bytes,
			instance ? s->counter[DMM_I_APP_RX_BYTES] : s->measured.tx_bytes, out);
	}
}

static void emit_retransmits(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_STACK(t, id)
	if (t->stack[id].measured.segments)
		put_stack(f, t, id, t->stack[id].measured.resent, out);
}

static void emit_bpf(const struct family *f, const struct telemetry *t, FILE *out)
{
	put_u64(out, f->name, t->counter[f->index]);
}

static void emit_instance(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_INSTANCE(t, id)
	put_stack(f, t, id, t->stack[id].counter[f->index], out);
}

static void emit_hold(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_INSTANCE(t, id)
	put_stack(f, t, id, t->stack[id].hold[f->index], out);
}

static void emit_xdp(const struct family *f, const struct telemetry *t, FILE *out)
{
	FOR_EACH_INSTANCE(t, id)
	put_stack(f, t, id, t->stack[id].xdp[f->index], out);
}

static void emit_map_used(const struct family *f, const struct telemetry *t, FILE *out)
{
	for (unsigned i = 0; i < TELEMETRY_MAPS; i++)
		if (t->map[i].known)
			put_u64_label(out, f->name, "map", t->map[i].name, t->map[i].used);
}

static void emit_map_max(const struct family *f, const struct telemetry *t, FILE *out)
{
	for (unsigned i = 0; i < TELEMETRY_MAPS; i++)
		if (t->map[i].known)
			put_u64_label(out, f->name, "map", t->map[i].name, t->map[i].max);
}

static void emit_self_cpu(const struct family *f, const struct telemetry *t, FILE *out)
{
	fprintf(out, "%s %.2f\n", f->name, t->self.cpu_s);
}

static void emit_self_rss(const struct family *f, const struct telemetry *t, FILE *out)
{
	put_u64(out, f->name, t->self.rss_bytes);
}

static void emit_program_time(const struct family *f, const struct telemetry *t, FILE *out)
{
	for (unsigned i = 0; i < t->n_program; i++) {
		fprintf(out, "%s{", f->name);
		put_label(out, "program", t->program[i].name);
		fprintf(out, "} %.9f\n", (double)t->program[i].run_ns / 1e9);
	}
}

static void emit_program_runs(const struct family *f, const struct telemetry *t, FILE *out)
{
	for (unsigned i = 0; i < t->n_program; i++)
		put_u64_label(out, f->name, "program", t->program[i].name, t->program[i].runs);
}

static void emit_self_virtual(const struct family *f, const struct telemetry *t, FILE *out)
{
	put_u64(out, f->name, t->self.virtual_bytes);
}

static void emit_self_max_fds(const struct family *f, const struct telemetry *t, FILE *out)
{
	put_u64(out, f->name, t->self.max_fds);
}

static void emit_self_fds(const struct family *f, const struct telemetry *t, FILE *out)
{
	put_u64(out, f->name, t->self.fds);
}

static void emit_self_start(const struct family *f, const struct telemetry *t, FILE *out)
{
	fprintf(out, "%s %.2f\n", f->name, t->self.start_s);
}

#define ROW_BPF(name, text, help) \
	{"dmm_bpf_" text "_total", "counter", "", help, emit_bpf, DMM_C_##name},
#define ROW_INSTANCE(name, text, help) \
	{"dmm_instance_" text "_total", "counter", "stack", help, emit_instance, DMM_I_##name},
#define ROW_HOLD(name, text, help) \
	{"dmm_hold_" text "_total", "counter", "stack", help, emit_hold, DMM_H_##name},
#define ROW_XDP(name, text, help) \
	{"dmm_" text "_total", "counter", "stack", help, emit_xdp, DMM_X_##name},

/* clang-format off */
static const struct family families[] = {
	{"dmm_build_info", "gauge", "version", "always 1; the version of dmm-policyd",
	 emit_build, 0},
	{"dmm_policy_generation", "gauge", "", "number of the policy in force; each commit adds one",
	 emit_generation, 0},
	{"dmm_last_commit_timestamp_seconds", "gauge", "",
	 "when the policy in force was committed; 0: never", emit_commit_time, 0},
	{"dmm_sockets_steered_total", "counter", "stack,role,reason",
	 "sockets that got this stack, by role and by the reason why", emit_steered, 0},
	{"dmm_fallbacks_total", "counter", "from,to,reason",
	 "sockets that got a stack in place of the first of their rule, by the reason why; from is empty if none was named", emit_fallbacks, 0},
	{"dmm_rule_steered_total", "counter", "rule,stack",
	 "connecting TCP sockets of a rule that is measured, by the stack that they got", emit_rule_steered, 0},
	{"dmm_rule_hits_total", "counter", "rule",
	 "sockets that a rule matched; starts over when a commit gives the rule another place", emit_hits, 0},
	{"dmm_default_hits_total", "counter", "",
	 "sockets that no rule matched", emit_default_hits, 0},
	{"dmm_nrd_decisions_total", "counter", "rule,outcome",
	 "decisions of nRD about a rule that is auto, since dmm-policyd started", emit_decisions, 0},
	{"dmm_sla_violations_total", "counter", "rule",
	 "seconds in which the stack that nRD uses for a rule, or for a prefix of it, certainly broke the rule's sla, since dmm-policyd started",
	 emit_sla, 0},
	{"dmm_nrd_samples_total", "counter", "", "samples of connections that nRD has read",
	 emit_samples, 0},
	{"dmm_nrd_samples_missed_total", "counter", "",
	 "samples that were written again before they were read", emit_missed, 0},
	{"dmm_nrd_sample_age_seconds", "gauge", "", "how long ago the last sample was read",
	 emit_sample_age, 0},
	{"dmm_etcd_connected", "gauge", "", "1: etcd is heard; this one and the next only where it is used",
	 emit_etcd, 0},
	{"dmm_etcd_policy_revision", "gauge", "", "revision of the shared policy in force; 0: none yet",
	 emit_etcd, 1},
	{"dmm_etcd_policy_refused_revision", "gauge", "",
	 "revision that was refused whole; 0: none since the last one that was taken", emit_etcd, 2},
	{"dmm_etcd_reports_total", "counter", "", "reports of connections that other hosts were told",
	 emit_etcd, 3},
	{"dmm_etcd_advice_total", "counter", "", "pieces of advice that were taken, to be tried",
	 emit_etcd, 4},
	{"dmm_etcd_advice_refused_total", "counter", "", "documents of advice that were refused whole",
	 emit_etcd, 5},
	{"dmm_sockets_active", "gauge", "stack",
	 "open sockets that have this stack, listeners included", emit_active, 0},
	{"dmm_connect_duration_seconds", "histogram", "stack,le",
	 "from the SYN to the answer, of connecting TCP sockets of rules that are measured; the sum by the middles of buckets a quarter wide",
	 emit_connect_time, 0},
	{"dmm_connect_failures_total", "counter", "stack,failure",
	 "connections of these that failed, by how", emit_failures, 0},
	{"dmm_rtt_seconds", "histogram", "stack,le",
	 "smoothed round trip of these when they end, of an instance that of its engine (lwip does not tell it); the sum as before", emit_rtt, 0},
	{"dmm_bytes_total", "counter", "stack,direction",
	 "bytes of an instance's sockets; of a kernel stack, those of measured connections that have ended",
	 emit_bytes, 0},
	{"dmm_retransmits_total", "counter", "stack",
	 "segments sent again by measured connections that have ended; the engine lwip does not tell them",
	 emit_retransmits, 0},
	{"dmm_stack_up", "gauge", "stack",
	 "1: the instance of this stack runs and takes sockets; 0: it is down", emit_up, 0},
	{"dmm_stack_restarts_total", "counter", "stack",
	 "times that an instance ended and was replaced, since dmm-policyd started", emit_restarts, 0},
	{"dmm_stack_hangs_total", "counter", "stack",
	 "times that an instance was killed because it did not answer", emit_hangs, 0},
	{"dmm_instance_cpu_seconds_total", "counter", "stack",
	 "CPU time of the instance that runs now, user and system", emit_instance_cpu, 0},
	{"dmm_instance_heartbeat_age_seconds", "gauge", "stack",
	 "how long ago the instance that is up gave a sign of life; at 5 s it counts as hanging",
	 emit_heartbeat, 0},
	{"dmm_instance_threads_hung", "gauge", "stack",
	 "threads of the instance that is up which the others take for hanging; the others go on", emit_hung, 0},
	{"dmm_thread_connections_total", "counter", "stack,thread",
	 "connections that a thread of the instance has begun or accepted", emit_thread, DMM_I_CONN_OPEN},
	{"dmm_thread_receive_packets_total", "counter", "stack,thread",
	 "packets that it took from its port", emit_thread, DMM_I_RX_PACKETS},
	{"dmm_thread_transmit_packets_total", "counter", "stack,thread",
	 "packets that it gave to its port", emit_thread, DMM_I_TX_PACKETS},
	{"dmm_link_up", "gauge", "stack",
	 "1: the interface of this stack is up and has a carrier; no sample of one that is not there",
	 emit_link_up, 0},
	{"dmm_link_speed_bytes", "gauge", "stack",
	 "bytes a second of that interface, where it has a speed", emit_link_speed, 0},
	{"dmm_link_drops_total", "counter", "stack,direction",
	 "packets that the kernel dropped at that interface, of whomever they are",
	 emit_link_drops, 0},
	{"dmm_link_errors_total", "counter", "stack,direction", "errors of that interface",
	 emit_link_errors, 0},
	{"dmm_pressure_waiting_seconds_total", "counter", "resource",
	 "how long some task of the host waited for cpu, io or memory (PSI)", emit_pressure, 0},
	{"dmm_port_ring_fill_ratio", "gauge", "stack,ring",
	 "how full the fullest receive or transmit ring of the port was in the last ten to twenty seconds, 0 to 1; a full one drops packets; of the port xsk",
	 emit_rings, 0},
	DMM_INSTANCE_COUNTERS(ROW_INSTANCE)
	DMM_HOLD_COUNTERS(ROW_HOLD)
	DMM_XDP_COUNTERS(ROW_XDP)
	DMM_COUNTERS(ROW_BPF)
	{"dmm_map_entries", "gauge", "map", "entries in use of a BPF map", emit_map_used, 0},
	{"dmm_map_max_entries", "gauge", "map", "entries that a BPF map has room for",
	 emit_map_max, 0},
	{"dmm_bpf_prog_run_seconds_total", "counter", "program",
	 "time that a BPF program of the sockets ran; 0 without sysctl kernel.bpf_stats_enabled",
	 emit_program_time, 0},
	{"dmm_bpf_prog_runs_total", "counter", "program", "how often it ran, likewise",
	 emit_program_runs, 0},
	{"process_cpu_seconds_total", "counter", "", "CPU time of dmm-policyd, user and system",
	 emit_self_cpu, 0},
	{"process_resident_memory_bytes", "gauge", "", "resident memory of dmm-policyd",
	 emit_self_rss, 0},
	{"process_virtual_memory_bytes", "gauge", "", "virtual memory of dmm-policyd",
	 emit_self_virtual, 0},
	{"process_max_fds", "gauge", "", "file descriptors that dmm-policyd may have",
	 emit_self_max_fds, 0},
	{"process_open_fds", "gauge", "", "open file descriptors of dmm-policyd", emit_self_fds, 0},
	{"process_start_time_seconds", "gauge", "",
	 "when dmm-policyd started, in seconds since 1970", emit_self_start, 0},
};
/* clang-format on */

/* The length of name without this ending. */
static int stem(const char *name, const char *ending)
{
	size_t n = strlen(name), e = strlen(ending);

	return (int)(n > e && strcmp(name + n - e, ending) == 0 ? n - e : n);
}

/* In OpenMetrics _total and _info belong to the sample, and units are told. */
static void put_head(const struct family *f, enum metrics_format format, FILE *out)
{
	static const char *const units[] = {"seconds", "bytes"};
	const char *type = f->type;
	int n = (int)strlen(f->name);

	if (format == METRICS_OPENMETRICS) {
		n = stem(f->name, "_total");
		if (n == (int)strlen(f->name) &&
		    (n = stem(f->name, "_info")) < (int)strlen(f->name))
			type = "info";
	}
	fprintf(out, "# TYPE %.*s %s\n", n, f->name, type);
	for (unsigned i = 0; format == METRICS_OPENMETRICS && i < ARRAY_SIZE(units); i++) {
		int u = (int)strlen(units[i]);

		if (n > u && f->name[n - u - 1] == '_' &&
		    strncmp(f->name + n - u, units[i], (size_t)u) == 0)
			fprintf(out, "# UNIT %.*s %s\n", n, f->name, units[i]);
	}
	fprintf(out, "# HELP %.*s %s\n", n, f->name, f->help);
}

int metrics_write(const struct telemetry *t, enum metrics_format format, FILE *out)
{
	for (unsigned i = 0; i < ARRAY_SIZE(families); i++) {
		put_head(&families[i], format, out);
		families[i].emit(&families[i], t, out);
	}
	if (format == METRICS_OPENMETRICS)
		fputs("# EOF\n", out);
	return ferror(out) ? -EIO : 0;
}

const char *metrics_content_type(enum metrics_format format)
{
	return format == METRICS_OPENMETRICS
		       ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
		       : "text/plain; version=0.0.4; charset=utf-8";
}

/* The value of a parameter of a media range, NULL if it has none; ret has room for size. */
static const char *parameter(const char *range, size_t len, const char *name, char *ret,
			     size_t size)
{
	size_t n = strlen(name), k = 0;

	for (size_t i = 0; i + n + 1 < len; i++) {
		if (range[i] != ';')
			continue;
		while (i + 1 < len && range[i + 1] == ' ')
			i++;
		if (i + n + 1 >= len || strncasecmp(range + i + 1, name, n) != 0 ||
		    range[i + 1 + n] != '=')
			continue;
		for (i += n + 2; i < len && !strchr("; \"", range[i]) && k + 1 < size; i++)
			ret[k++] = range[i];
		ret[k] = '\0';
		return ret;
	}
	return NULL;
}

enum metrics_format metrics_negotiate(const char *accept)
{
	static const char open_type[] = "application/openmetrics-text";
	double open = 0, text = 0;

	while (accept && *accept) {
		char q_text[16], version_text[16];
		const char *range = accept + strspn(accept, ", "), *v, *q_is;
		size_t len = strcspn(range, ",");
		double q;

		accept = range + len;
		q_is = parameter(range, len, "q", q_text, sizeof(q_text));
		q = q_is ? strtod(q_is, NULL) : 1;
		v = parameter(range, len, "version", version_text, sizeof(version_text));
		if (strncasecmp(range, open_type, sizeof(open_type) - 1) == 0) {
			if (!v || strcmp(v, "1.0.0") == 0)
				open = MAX(open, q);
		} else if (strncasecmp(range, "text/", 5) == 0 || strncmp(range, "*/*", 3) == 0) {
			text = MAX(text, q);
		}
	}
	return open > text ? METRICS_OPENMETRICS : METRICS_TEXT;
}

void metrics_list(void (*cb)(const char *name, const char *type, const char *labels,
			     const char *help, void *ctx),
		  void *ctx)
{
	for (unsigned i = 0; i < ARRAY_SIZE(families); i++)
		cb(families[i].name, families[i].type, families[i].labels, families[i].help, ctx);
}
