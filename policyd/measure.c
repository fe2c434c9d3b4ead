// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/index.h"
#include "policyd/measure.h"

struct numbers {
	struct index old; /* name to number, of the generation before */
	bool taken[DMM_MAX_MEASURED + 1], had[DMM_MAX_MEASURED + 1];
	unsigned next;
};

bool measure_wanted(const struct dmm_rule *r)
{
	return r->telemetry || r->nrd.objective != NRD_NONE;
}

static int read_old(struct numbers *n, const struct dmm_class *prev)
{
	int r = 0;

	for (dmm_u32 i = 0; prev && r >= 0 && i < prev->hdr.rules; i++) {
		unsigned number = DMM_MEASURE_NUMBER(prev->rule[i].measure);

		if (number == 0 || number > DMM_MAX_MEASURED)
			continue;
		n->had[number] = true;
		r = index_put_name(&n->old, prev->rule[i].name, number, NULL);
	}
	return r < 0 ? r : 0;
}

static unsigned find_free(struct numbers *n)
{
	for (; n->next <= DMM_MAX_MEASURED; n->next++)
		if (!n->taken[n->next] && !n->had[n->next])
			return n->next;
	for (unsigned i = 1; i <= DMM_MAX_MEASURED; i++)
		if (!n->taken[i])
			return i;
	return 0;
}

static void put(struct numbers *n, const struct dmm_rule *rule, unsigned number,
		struct dmm_rule_rec *rec)
{
	n->taken[number] = true;
	rec->measure = (dmm_u16)(number | (rule->nrd.objective ? DMM_MEASURE_AUTO : 0));
}

int measure_numbers(const struct dmm_policy *p, const struct dmm_class *prev,
		    struct dmm_rule_rec *rec)
{
	struct numbers n = {.next = 1};
	size_t wanted = 0, number;
	int r = 0;

	for (size_t i = 0; i < p->n_rules; i++)
		wanted += measure_wanted(&p->rules[i]);
	if (!wanted)
		return 0;
	if (wanted > DMM_MAX_MEASURED)
		return -E2BIG;
	r = read_old(&n, prev);
	/* names that stay take their numbers first */
	for (size_t i = 0; r == 0 && i < p->n_rules; i++)
		if (measure_wanted(&p->rules[i]) &&
		    index_get_name(&n.old, p->rules[i].name, &number))
			put(&n, &p->rules[i], (unsigned)number, &rec[i]);
	for (size_t i = 0; r == 0 && i < p->n_rules; i++)
		if (measure_wanted(&p->rules[i]) && !rec[i].measure)
			put(&n, &p->rules[i], find_free(&n), &rec[i]);
	index_fini(&n.old);
	return r;
}
