// SPDX-License-Identifier: Apache-2.0
#include <stdint.h>
#include <string.h>

#include "policyd/nrd/gather.h"

static bool same_path(const struct report *a, const struct report *b)
{
	return a->rule == b->rule && a->stack == b->stack &&
	       memcmp(a->remote, b->remote, sizeof(a->remote)) == 0;
}

/* What does not fit is as good as not measured. */
static bool fits(const struct report *to, const struct report *r)
{
	return to->connections <= UINT32_MAX / 2 && r->connections <= UINT32_MAX / 2;
}

static void sum_up(struct report *to, const struct report *r)
{
	to->connections += r->connections;
	for (unsigned i = 0; i < DMM_FAILURES; i++)
		to->failed[i] += r->failed[i];
	to->segments += r->segments;
	to->resent += r->resent;
	for (unsigned m = 0; m < REPORT_METRICS; m++)
		hist_sum(&to->hist[m], &r->hist[m]);
}

void gather_add(struct gather *g, const struct report *r)
{
	unsigned i = 0;

	while (i < g->n && !same_path(&g->report[i], r))
		i++;
	if (i < g->n && fits(&g->report[i], r))
		sum_up(&g->report[i], r);
	else if (i == g->n && i < GATHER_MAX)
		g->report[g->n++] = *r;
}
