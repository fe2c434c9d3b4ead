// SPDX-License-Identifier: Apache-2.0
/*
 * A made-up snapshot as Prometheus text: every line is well-formed, no series comes twice. With
 * --table, the families as rows of a Markdown table; with --text, the text (for promtool).
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/metrics.h"
#include "tests/unit/unit.h"

static struct telemetry t;
static struct dmm_class class;
static struct dmm_rule_rec rule[2];
static dmm_u32 decided[DMM_MAX_MEASURED + 1][NRD_ACTIONS];
static dmm_u64 sla_broken[DMM_MAX_MEASURED + 1];

static void add_stack(unsigned id, const char *name, enum dmm_kind kind)
{
	class.stack[id].kind = (dmm_u8)kind;
	snprintf(class.stack[id].name, sizeof(class.stack[id].name), "%s", name);
}

static void make_snapshot(void)
{
	static const char *const map[TELEMETRY_MAPS] = {"pending", "tuple", "listen", "route",
							"rule",	   "stack", "group"};

	t.class = &class;
	t.generation = 7;
	t.committed_ns = 1700000000123456789ULL;
	add_stack(0, "kernel", DMM_KIND_KERNEL);
	add_stack(1, "edge0", DMM_KIND_USERSPACE);
	add_stack(2, "odd\"name\\", DMM_KIND_USERSPACE);
	add_stack(3, "reject", DMM_KIND_REJECT);
	class.hdr.rules = 2;
	class.rule = rule;
	class.rule[0].n_use = class.rule[1].n_use = 1;
	snprintf(class.rule[0].name, sizeof(class.rule[0].name), "web");
	snprintf(class.rule[1].name, sizeof(class.rule[1].name), "two\nlines");
	t.hit[0] = 5;
	t.hit[DMM_MAX_RULES] = 6;
	t.verdict[DMM_VERDICT_INDEX(1, DMM_ROLE_CLIENT, DMM_REASON_RULE)] = 11;
	t.fallback[DMM_FALLBACK_INDEX(1, 0, DMM_REASON_STACK_DOWN)] = 3;
	t.fallback[DMM_FALLBACK_INDEX(DMM_MAX_STACKS, 0, DMM_REASON_NOT_MANAGED)] = 4;
	class.rule[0].measure = 1 | DMM_MEASURE_AUTO;
	class.rule[1].measure = 2;
	t.steered[DMM_STEERED_INDEX(2, 1)] = 13;
	decided[1][NRD_TAKE] = 15;
	sla_broken[1] = 14;
	t.nrd.decided = decided;
	t.etcd.used = t.etcd.connected = true;
	t.etcd.revision = 16;
	t.etcd.advice_refused = 17;
	t.nrd.sla_broken = sla_broken;
	t.stack[1].up = true;
	t.stack[1].heartbeat_age_ns = 250000000;
	t.stack[1].link = (struct link_state){true, true, 125000000, 1, 2, 3, 4};
	t.pressure_known = true;
	t.pressure_us[PRESSURE_IO] = 1500000;
	t.stack[1].ring[DMM_RING_RX] = 250001;
	t.stack[1].cpu_ns = 1230000000;
	t.stack[1].counter[DMM_I_RX_BYTES] = ~0ULL;
	t.stack[1].hold[DMM_H_HELD] = 8;
	t.stack[1].xdp[DMM_X_FLOW] = 9;
	t.stack[1].counter[DMM_I_APP_TX_BYTES] = 21;
	t.counter[DMM_C_CONNECTS] = 10;
	t.stack[0].measured = (struct dmm_measures){.connections = 5,
						    .ended = 3,
						    .failed[DMM_FAIL_TIMEOUT] = 2,
						    .rx_bytes = 22,
						    .tx_bytes = 23,
						    .segments = 40,
						    .resent = 4};
	/* 15 us is below the first bound, 16 us is not; the last is beyond all of them */
	t.stack[0].measured.connect[dmm_hist_bucket(15)] = 1;
	t.stack[0].measured.connect[dmm_hist_bucket(16)] = 1;
	t.stack[0].measured.connect[dmm_hist_bucket(1ULL << 26)] = 1;
	t.stack[0].measured.srtt[dmm_hist_bucket(1000)] = 3;
	t.n_program = 1;
	t.program[0] = (struct maps_program){"dmm_connect4", 1500000000, 12};
	for (unsigned i = 0; i < TELEMETRY_MAPS; i++)
		t.map[i] = (struct telemetry_map_usage){map[i], i != 1, i, 100};
}

static char *make_text(void)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		abort();
	CU_ASSERT_EQUAL(metrics_write(&t, METRICS_TEXT, f), 0);
	fclose(f);
	return text;
}

static const char *skip_name(const char *p)
{
	if (!isalpha((unsigned char)*p) && *p != '_')
		return NULL;
	while (isalnum((unsigned char)*p) || *p == '_')
		p++;
	return p;
}

/* The end of a sample's name and labels, NULL if they are not well-formed. */
static const char *skip_series(const char *p)
{
	p = skip_name(p);
	if (!p || *p != '{')
		return p;
	do {
		p = skip_name(p + 1);
		if (!p || *p++ != '=' || *p++ != '"')
			return NULL;
		for (; *p && *p != '"'; p++)
			if (*p == '\\' && !strchr("\\\"n", *++p))
				return NULL;
		if (*p++ != '"')
			return NULL;
	} while (*p == ',');
	return *p == '}' ? p + 1 : NULL;
}

static void test_lines(void)
{
	char *text = make_text(), *save = NULL, family[128] = "", *seen[1000], *end;
	unsigned n = 0;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *p;

		if (sscanf(line, "# TYPE %127s", family) == 1)
			continue;
		if (strncmp(line, "# HELP ", 7) == 0) {
			CU_ASSERT_EQUAL(strncmp(line + 7, family, strlen(family)), 0);
			CU_ASSERT(strlen(line) > strlen(family) + 10);
			continue;
		}
		p = skip_series(line);
		CU_ASSERT_PTR_NOT_NULL_FATAL(p);
		CU_ASSERT_EQUAL(*p, ' ');
		strtod(p + 1, &end);
		CU_ASSERT(end > p + 1 && !*end);
		CU_ASSERT_EQUAL(strncmp(line, family, strlen(family)), 0);
		line[p - line] = '\0';
		for (unsigned i = 0; i < n; i++)
			CU_ASSERT_STRING_NOT_EQUAL(seen[i], line);
		CU_ASSERT_FATAL(n < 1000);
		seen[n++] = line;
	}
	CU_ASSERT(n > 100);
	free(text);
}

static void test_values(void)
{
	static const char *const want[] = {
		"dmm_policy_generation 7\n",
		"dmm_last_commit_timestamp_seconds 1700000000.123\n",
		"dmm_sockets_steered_total{stack=\"edge0\",role=\"client\",reason=\"rule\"} 11\n",
		"dmm_fallbacks_total{from=\"edge0\",to=\"kernel\",reason=\"stack-down\"} 3\n",
		"dmm_fallbacks_total{from=\"edge0\",to=\"kernel\",reason=\"map-full\"} 0\n",
		"dmm_fallbacks_total{from=\"\",to=\"kernel\",reason=\"not-managed\"} 4\n",
		"dmm_rule_steered_total{rule=\"two\\nlines\",stack=\"edge0\"} 13\n",
		"dmm_sla_violations_total{rule=\"web\"} 14\n",
		"dmm_nrd_decisions_total{rule=\"web\",outcome=\"take\"} 15\n",
		"dmm_rule_hits_total{rule=\"web\"} 5\n",
		"dmm_default_hits_total 6\n",
		"dmm_etcd_connected 1\n",
		"dmm_etcd_policy_revision 16\n",
		"dmm_etcd_advice_refused_total 17\n",
		"dmm_instance_heartbeat_age_seconds{stack=\"edge0\"} 0.250\n",
		"dmm_link_up{stack=\"edge0\"} 1\n",
		"dmm_link_speed_bytes{stack=\"edge0\"} 125000000\n",
		"dmm_port_ring_fill_ratio{stack=\"edge0\",ring=\"receive\"} 0.250000\n",
		"dmm_link_drops_total{stack=\"edge0\",direction=\"transmit\"} 2\n",
		"dmm_link_errors_total{stack=\"edge0\",direction=\"receive\"} 3\n",
		"dmm_pressure_waiting_seconds_total{resource=\"io\"} 1.500000\n",
		"dmm_stack_up{stack=\"edge0\"} 1\n",
		"dmm_instance_port_receive_bytes_total{stack=\"edge0\"} 18446744073709551615\n",
		"dmm_hold_syns_held_total{stack=\"edge0\"} 8\n",
		"dmm_xdp_flow_redirects_total{stack=\"edge0\"} 9\n",
		"dmm_bpf_connects_total 10\n",
		"dmm_instance_cpu_seconds_total{stack=\"edge0\"} 1.23\n",
		"dmm_bpf_prog_run_seconds_total{program=\"dmm_connect4\"} 1.500000000\n",
		"dmm_bpf_prog_runs_total{program=\"dmm_connect4\"} 12\n",
		"dmm_map_max_entries{map=\"pending\"} 100\n",
		"dmm_connect_duration_seconds_bucket{stack=\"kernel\",le=\"0.000016\"} 1\n",
		"dmm_connect_duration_seconds_bucket{stack=\"kernel\",le=\"0.000032\"} 2\n",
		"dmm_connect_duration_seconds_bucket{stack=\"kernel\",le=\"16.777216\"} 2\n",
		"dmm_connect_duration_seconds_bucket{stack=\"kernel\",le=\"+Inf\"} 3\n",
		"dmm_connect_duration_seconds_count{stack=\"kernel\"} 3\n",
		"dmm_rtt_seconds_bucket{stack=\"kernel\",le=\"0.000512\"} 0\n",
		"dmm_rtt_seconds_bucket{stack=\"kernel\",le=\"0.001024\"} 3\n",
		"dmm_connect_failures_total{stack=\"kernel\",failure=\"timeout\"} 2\n",
		"dmm_bytes_total{stack=\"kernel\",direction=\"receive\"} 22\n",
		"dmm_bytes_total{stack=\"edge0\",direction=\"receive\"} 21\n",
		"dmm_retransmits_total{stack=\"kernel\"} 4\n",
		/* escaped */
		"dmm_stack_up{stack=\"odd\\\"name\\\\\"} 0\n",
		"dmm_rule_hits_total{rule=\"two\\nlines\"} 0\n",
	};
	char *text = make_text();

	for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		CU_ASSERT_PTR_NOT_NULL(strstr(text, want[i]));
		if (!strstr(text, want[i]))
			fprintf(stderr, "missing: %s", want[i]);
	}
	CU_ASSERT_PTR_NULL(strstr(text, "dmm_map_entries{map=\"tuple\"}")); /* not known */
	CU_ASSERT_PTR_NULL(strstr(text, "dmm_stack_up{stack=\"kernel\"}"));
	CU_ASSERT_PTR_NULL(strstr(text, "dmm_retransmits_total{stack=\"edge0\"}")); /* not told */
	CU_ASSERT_PTR_NULL(strstr(text, "ring=\"transmit\""));			    /* likewise */
	free(text);
}

static void check_family(const char *name, const char *type, const char *labels, const char *help,
			 void *ctx)
{
	bool total = strlen(name) > 6 && strcmp(name + strlen(name) - 6, "_total") == 0;

	(void)labels;
	(void)ctx;
	CU_ASSERT_EQUAL(strcmp(type, "counter") == 0, total);
	CU_ASSERT_PTR_NULL(strpbrk(help, "\n\\|"));
}

static void print_family(const char *name, const char *type, const char *labels, const char *help,
			 void *ctx)
{
	(void)ctx;
	printf("| `%s` | %s | %s | %s |\n", name, type, labels, help);
}

static void test_names(void)
{
	metrics_list(check_family, NULL);
}

static void test_documented(void)
{
	const char *root = getenv("DMM_SOURCE_ROOT");
	static char doc[65536];
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/docs/metrics.md", root ? root : ".");
	f = fopen(path, "r");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	doc[fread(doc, 1, sizeof(doc) - 1, f)] = '\0';
	fclose(f);
#define CHECK_REASON(name, text, help) \
	CU_ASSERT_PTR_NOT_NULL(strstr(doc, "| `" text "` | " help " |\n"));
	DMM_REASONS(CHECK_REASON)
}

static void test_openmetrics(void)
{
	static const char *const want[] = {
		"# TYPE dmm_build info\n# HELP dmm_build always",
		"\ndmm_build_info{version=",
		"# TYPE dmm_default_hits counter\n# HELP dmm_default_hits ",
		"\ndmm_default_hits_total 6\n",
		"# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds\n",
		"# UNIT dmm_instance_port_receive_bytes bytes\n",
	};
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	CU_ASSERT_EQUAL(metrics_write(&t, METRICS_OPENMETRICS, f), 0);
	fclose(f);
	for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		CU_ASSERT_PTR_NOT_NULL(strstr(text, want[i]));
	CU_ASSERT_STRING_EQUAL(text + len - 6, "# EOF\n");
	free(text);
}

static void test_negotiate(void)
{
	static const struct {
		const char *accept;
		enum metrics_format want;
	} row[] = {
		{NULL, METRICS_TEXT},
		{"", METRICS_TEXT},
		{",, ,", METRICS_TEXT},
		{"*/*", METRICS_TEXT},
		{"application/openmetrics-text", METRICS_OPENMETRICS},
		{"application/openmetrics-text; version=1.0.0", METRICS_OPENMETRICS},
		{"application/openmetrics-text; version=0.0.1", METRICS_TEXT},
		{"application/openmetrics-text;q=0", METRICS_TEXT},
		{"text/plain;q=0.5, Application/OpenMetrics-Text; Q=0.4", METRICS_TEXT},
		{"application/openmetrics-text;version=1.0.0;q=0.5,application/"
		 "openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
		 METRICS_OPENMETRICS},
		{"application/openmetrics-text;q", METRICS_OPENMETRICS},
		{"application/openmetrics-text;q=nan,*/*", METRICS_TEXT},
	};

	for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		CU_ASSERT_EQUAL(metrics_negotiate(row[i].accept), row[i].want);
}

static void test_full_device(void)
{
	FILE *f = fopen("/dev/full", "w");

	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	setvbuf(f, NULL, _IONBF, 0);
	CU_ASSERT(metrics_write(&t, METRICS_TEXT, f) < 0);
	fclose(f);
}

int main(int argc, char **argv)
{
	static CU_TestInfo tests[] = {
		{"every line is well-formed, no series twice", test_lines},
		{"values and escapes", test_values},
		{"names of families", test_names},
		{"every reason is documented", test_documented},
		{"OpenMetrics", test_openmetrics},
		{"which of both is asked for", test_negotiate},
		{"an output that fails", test_full_device},
		CU_TEST_INFO_NULL,
	};

	make_snapshot();
	if (argc > 1 && strcmp(argv[1], "--table") == 0) {
		metrics_list(print_family, NULL);
		return EXIT_SUCCESS;
	}
	if (argc > 1 && strcmp(argv[1], "--openmetrics") == 0)
		return metrics_write(&t, METRICS_OPENMETRICS, stdout) == 0 ? EXIT_SUCCESS
									   : EXIT_FAILURE;
	if (argc > 1 && strcmp(argv[1], "--text") == 0)
		return metrics_write(&t, METRICS_TEXT, stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	return unit_run("metrics", tests);
}
