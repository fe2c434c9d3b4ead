// SPDX-License-Identifier: Apache-2.0
/* stats: every counter of dmm_counters.h that is not zero, and how full the maps are. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/json.h"
#include "policyd/table.h"
#include "policyd/words.h"

struct row {
	const char *name, *help;
};
#define ROW(name, text, help) {text, help},
static const struct row counters[] = {DMM_COUNTERS(ROW)};
static const struct row holds[] = {DMM_HOLD_COUNTERS(ROW)};
static const struct row xdps[] = {DMM_XDP_COUNTERS(ROW)};
static const struct row instances[] = {DMM_INSTANCE_COUNTERS(ROW)};
static const struct row reasons[] = {DMM_REASONS(ROW)};

static void rows(struct table *t, const struct row *row, size_t n, const dmm_u64 *value)
{
	for (size_t i = 0; i < n; i++) {
		if (value[i] == 0)
			continue;
		table_cell(t, "%s", row[i].name);
		table_cell(t, "%llu", value[i]);
		table_cell(t, "%s", row[i].help);
	}
}

static void verdicts_print(const struct telemetry *m)
{
	static const char *const headers[] = {"STACK", "ROLE", "REASON", ">SOCKETS", "+MEANING"};
	struct table t;

	table_init(&t, headers, ARRAY_SIZE(headers));
	for (unsigned id = 0; id < DMM_MAX_STACKS; id++)
		for (unsigned role = 0; role < DMM_ROLES; role++)
			for (unsigned why = 0; why < DMM_REASON_COUNT; why++) {
				dmm_u64 n = m->verdict[DMM_VERDICT_INDEX(id, role, why)];

				if (n == 0)
					continue;
				if (m->class->stack[id].name[0])
					table_cell(&t, "%s", m->class->stack[id].name);
				else
					table_cell(&t, "(%u)", id);
				table_cell(&t, "%s", words_role[role]);
				table_cell(&t, "%s", reasons[why].name);
				table_cell(&t, "%llu", n);
				table_cell(&t, "%s", reasons[why].help);
			}
	table_print(&t, stdout);
}

static void rules_print(const struct telemetry *m)
{
	static const char *const headers[] = {"RULE", ">HITS"};
	struct table t;

	table_init(&t, headers, ARRAY_SIZE(headers));
	for (unsigned i = 0; i < m->class->hdr.rules; i++) {
		if (!class_live(m->class, i))
			continue;
		table_cell(&t, "%s", m->class->rule[i].name);
		table_cell(&t, "%llu", m->hit[i]);
	}
	table_cell(&t, "default");
	table_cell(&t, "%llu", m->hit[DMM_MAX_RULES]);
	table_print(&t, stdout);
}

static void counters_print(const struct telemetry *m)
{
	static const char *const headers[] = {"COUNTER", ">VALUE", "+MEANING"};
	struct table t;

	table_init(&t, headers, ARRAY_SIZE(headers));
	rows(&t, counters, ARRAY_SIZE(counters), m->counter);
	table_print(&t, stdout);
	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		const struct telemetry_stack *s = &m->stack[id];

		if (m->class->stack[id].kind != DMM_KIND_USERSPACE)
			continue;
		printf("\ninstance %s, %s\n", m->class->stack[id].name, s->up ? "up" : "down");
		table_init(&t, headers, ARRAY_SIZE(headers));
		rows(&t, instances, ARRAY_SIZE(instances), s->counter);
		rows(&t, holds, ARRAY_SIZE(holds), s->hold);
		rows(&t, xdps, ARRAY_SIZE(xdps), s->xdp);
		table_print(&t, stdout);
	}
}

static void maps_print(const struct telemetry *m)
{
	static const char *const headers[] = {"MAP", ">USED", ">OF"};
	struct table t;

	table_init(&t, headers, ARRAY_SIZE(headers));
	for (unsigned i = 0; i < TELEMETRY_MAPS; i++) {
		if (!m->map[i].known)
			continue;
		table_cell(&t, "%s", m->map[i].name);
		table_cell(&t, "%u", m->map[i].used);
		table_cell(&t, "%u", m->map[i].max);
	}
	table_print(&t, stdout);
}

int ctl_stats(const struct ctl *c, int argc, char **argv)
{
	_cleanup_free_ struct telemetry *m = malloc(sizeof(*m));
	struct ctl_state s;
	int r;

	(void)argc;
	(void)argv;
	if (!m)
		return CTL_FAILED;
	r = ctl_telemetry_open(c, &s, m);
	if (r != CTL_OK)
		return r;
	if (c->given & CTL_JSON) {
		r = ctl_print_json(c, json_stats(m));
	} else {
		printf("generation %llu; counters that are zero are left out\n\n", m->generation);
		verdicts_print(m);
		putchar('\n');
		rules_print(m);
		putchar('\n');
		counters_print(m);
		putchar('\n');
		maps_print(m);
		r = CTL_OK;
	}
	ctl_state_close(&s);
	return r;
}
