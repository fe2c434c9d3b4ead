// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/chooser.h"
#include "policyd/nrd/say.h"

#define TURN_NS 1000000000ULL
#define SOON_NS 50000000ULL /* what is due at once: so long after the last turn */
#define REPORTS 512	    /* places in the table of reports */

int chooser_open(struct chooser *c, const struct tree *t)
{
	*c = (struct chooser){.tree = t};
	c->nrd = nrd_new(NRD_MAX_PATHS, now_ns());
	c->report = calloc(REPORTS, sizeof(*c->report));
	if (!c->nrd || !c->report)
		return -ENOMEM;
	return samples_open(&c->samples, t);
}

void chooser_close(struct chooser *c)
{
	samples_close(&c->samples);
	nrd_free(c->nrd);
	free(c->report);
	free(c->rule);
	*c = (struct chooser){0};
}

/* ---- what is to be chosen ---- */

static size_t count_auto(const struct dmm_class *class)
{
	size_t n = 0;

	for (dmm_u32 i = 0; i < class->hdr.rules; i++)
		n += (class->rule[i].measure & DMM_MEASURE_AUTO) != 0;
	return n;
}

static void put_rule(const struct dmm_rule *r, struct nrd_rule *ret)
{
	memcpy(ret->name, r->name, sizeof(ret->name));
	ret->set = r->nrd;
	ret->n_stacks = r->n_use;
	memcpy(ret->stack, r->use, sizeof(ret->stack));
}

/* The place with the largest weight of what is in force. */
static unsigned chosen_place(const struct dmm_choice *choice)
{
	unsigned most = 0;

	for (unsigned i = 1; i < DMM_MAX_USE; i++)
		if (choice->weight[i] > choice->weight[most])
			most = i;
	return most;
}

/* Choices that are in the map go on. */
static void take_over(struct chooser *c, const bool *fresh)
{
	struct dmm_choice_key key, *prev = NULL;
	struct dmm_choice choice;

	for (; choice_next(c->tree, prev, &key); prev = &key) {
		unsigned number = key.measure <= DMM_MAX_MEASURED ? c->auto_of[key.measure] : 0;
		const dmm_u8 *ip = key.plen ? key.ip : NULL;

		if (!number || !fresh[number - 1] ||
		    !choice_find(c->tree, key.measure, ip, c->class->rule[c->rule[number - 1]].use,
				 &choice))
			continue;
		nrd_resume(c->nrd, number - 1, ip, chosen_place(&choice));
	}
}

/* Number the auto rules as nRD does. fresh: those that it does not know yet. */
static void number_rules(struct chooser *c, const struct dmm_policy *p, struct nrd_rule *rules,
			 bool *fresh)
{
	size_t n = 0;

	for (dmm_u32 i = 0, at = 0; i < c->class->hdr.rules && n < c->n_rules; i++) {
		const struct dmm_rule_rec *rec = &c->class->rule[i];

		if (!class_live(c->class, i))
			continue;
		if (rec->measure & DMM_MEASURE_AUTO) {
			put_rule(&p->rules[at], &rules[n]);
			fresh[n] = nrd_find(c->nrd, rec->name) < 0;
			c->rule[n] = i;
			c->auto_of[DMM_MEASURE_NUMBER(rec->measure)] = (dmm_u16)++n;
		}
		at++;
	}
}

int chooser_configure(struct chooser *c, const struct dmm_class *class)
{
	size_t n = count_auto(class);
	_cleanup_free_ struct nrd_rule *rules = calloc(n + 1, sizeof(*rules));
	_cleanup_free_ bool *fresh = calloc(n + 1, sizeof(*fresh));
	dmm_u32 *rule = calloc(n + 1, sizeof(*rule));
	struct dmm_policy *p = NULL;
	int r = rules && fresh && rule ? 0 : -ENOMEM;

	if (r == 0 && n)
		r = class_decompile(class, &p);
	free(c->rule);
	c->rule = rule;
	c->n_rules = 0; /* what is configured by another class is not looked at */
	c->class = class;
	memset(c->auto_of, 0, sizeof(c->auto_of));
	if (r < 0)
		return r;
	c->n_rules = n;
	number_rules(c, p, rules, fresh);
	policy_free(p);
	r = nrd_configure(c->nrd, rules, n);
	if (r == 0) {
		take_over(c, fresh);
	} else {
		c->n_rules = 0;
		memset(c->auto_of, 0, sizeof(c->auto_of));
	}
	c->stale = true;
	if (c->gather)
		c->gather->n = 0; /* rules have other numbers now */
	return r;
}

/* ---- what was measured ---- */

/* Other hosts have the rule, too. */
static bool is_shared(const struct chooser *c, unsigned rule)
{
	return c->class->rule[c->rule[rule]].origin == DMM_ORIGIN_NRD;
}

static void flush_reports(struct chooser *c)
{
	for (unsigned i = 0; c->n_reports && i < REPORTS; i++) {
		if (!c->report[i].source)
			continue;
		c->report[i].source = 0; /* this host; here it says that the place is taken */
		report_settle(&c->report[i]);
		if (c->gather && is_shared(c, c->report[i].rule))
			gather_add(c->gather, &c->report[i]);
		nrd_report(c->nrd, &c->report[i]);
		c->report[i] = (struct report){0};
	}
	c->n_reports = 0;
}

/* The report that a sample belongs to. */
static struct report *report_of(struct chooser *c, unsigned rule, unsigned stack,
				const dmm_u8 remote[16])
{
	struct dmm_choice_key key;
	dmm_u64 hash = 0xcbf29ce484222325ULL;

	choice_key(rule, remote, &key);
	for (unsigned i = 0; i < sizeof(key.ip); i++)
		hash = (hash ^ key.ip[i]) * 0x100000001b3ULL;
	hash = (hash ^ rule) * 0x100000001b3ULL + stack;
	if (c->n_reports > REPORTS * 3 / 4)
		flush_reports(c);
	for (;; hash++) {
		struct report *r = &c->report[hash % REPORTS];

		if (!r->source) {
			*r = (struct report){.rule = rule, .stack = stack, .source = 1};
			memcpy(r->remote, key.ip, sizeof(r->remote));
			c->n_reports++;
			return r;
		}
		if (r->rule == rule && r->stack == stack &&
		    memcmp(r->remote, key.ip, sizeof(r->remote)) == 0)
			return r;
	}
}

static void take_sample(struct chooser *c, const struct dmm_sample *s)
{
	struct report_sample one = {.connect_us = s->connect_us,
				    .srtt_us = s->srtt_us,
				    .bytes = s->bytes,
				    .life_us = s->life_us,
				    .segments = s->segments,
				    .resent = s->resent,
				    .error = (int)s->error,
				    .again = s->kind != DMM_SAMPLE_BEGIN};
	unsigned number = s->measure <= DMM_MAX_MEASURED ? c->auto_of[s->measure] : 0;
	const struct dmm_rule_rec *rec;

	if (!number)
		return;
	rec = &c->class->rule[c->rule[number - 1]];
	for (unsigned i = 0; i < rec->n_use && i < DMM_MAX_USE; i++)
		if (rec->use[i] == s->stack) /* else it got a stack that is none of the list */
			report_add(report_of(c, number - 1, i, s->remote), &one);
}

static void take_samples(struct chooser *c, dmm_u64 now)
{
	struct dmm_sample s;

	for (unsigned i = 0; i < DMM_SAMPLE_SLOTS; i++) {
		if (!samples_next(&c->samples, &s, &c->samples_lost))
			break;
		c->samples_n++;
		c->sample_ns = now;
		take_sample(c, &s);
	}
	flush_reports(c);
}

/* ---- what is chosen ---- */

static void put_choice(void *ctx, const struct nrd_choice *choice)
{
	struct chooser *c = ctx;
	const struct dmm_rule_rec *rec;
	struct dmm_choice value = {0}, old = {0};
	struct dmm_choice_key key;
	int r;

	if (choice->rule >= c->n_rules)
		return;
	rec = &c->class->rule[c->rule[choice->rule]];
	choice_key(rec->measure, choice->plen ? choice->prefix : NULL, &key);
	memcpy(value.weight, choice->weight, sizeof(value.weight));
	memcpy(value.use, rec->use, sizeof(value.use));
	if (choice_get(c->tree, &key, &old) && memcmp(&old, &value, sizeof(old)) == 0)
		return;
	r = choice_put(c->tree, &key, &value);
	if (r < 0)
		log_err("nrd: a choice for rule %s cannot be put in force: %s", rec->name,
			strerror(-r));
}

struct keep {
	struct dmm_choice_key *key;
	size_t n, room;
	const struct chooser *c;
};

static void keep_choice(void *ctx, const struct nrd_choice *choice)
{
	struct keep *k = ctx;

	if (k->n < k->room && choice->rule < k->c->n_rules)
		choice_key(k->c->class->rule[k->c->rule[choice->rule]].measure,
			   choice->plen ? choice->prefix : NULL, &k->key[k->n++]);
}

static int compare_keys(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct dmm_choice_key));
}

/* Out of the map what nRD has not chosen. */
static void drop_choices(struct chooser *c)
{
	struct keep k = {.room = c->n_rules + NRD_MAX_PATHS, .c = c};
	struct dmm_choice_key key, next;
	bool more;

	k.key = calloc(k.room, sizeof(*k.key));
	if (!k.key)
		return;
	nrd_choices(c->nrd, keep_choice, &k);
	qsort(k.key, k.n, sizeof(*k.key), compare_keys);
	for (more = choice_next(c->tree, NULL, &key); more; key = next) {
		more = choice_next(c->tree, &key, &next);
		if (!bsearch(&key, k.key, k.n, sizeof(key), compare_keys))
			choice_del(c->tree, &key);
	}
	free(k.key);
	c->stale = false;
}

static void count_decision(struct chooser *c, const struct nrd_decision *d)
{
	int rule = nrd_find(c->nrd, d->rule);

	if (rule >= 0 && (size_t)rule < c->n_rules && d->action < NRD_ACTIONS)
		c->decided[DMM_MEASURE_NUMBER(c->class->rule[c->rule[rule]].measure)][d->action]++;
}

static void log_decisions(struct chooser *c)
{
	const struct nrd_decision *d;

	for (size_t i = 0; (d = nrd_decision(c->nrd, i)); i++) {
		_cleanup_free_ char *text = NULL;
		size_t len;
		FILE *f;

		if (d->number <= c->told)
			continue;
		c->told = d->number;
		count_decision(c, d);
		f = open_memstream(&text, &len);
		if (!f)
			continue;
		say_decision(d, f);
		if (fclose(f) == 0 && len)
			log_info("nrd: %.*s", (int)len - 1, text);
	}
}

static void note_sla(struct chooser *c)
{
	for (size_t i = 0; i < c->n_rules; i++)
		c->sla_broken[DMM_MEASURE_NUMBER(c->class->rule[c->rule[i]].measure)] =
			nrd_sla_broken(c->nrd, i);
}

void chooser_links(struct chooser *c, dmm_u32 no_carrier, dmm_u64 now)
{
	dmm_u64 soon = MAX(now, c->turn_ns + SOON_NS);

	if (no_carrier != c->no_carrier)
		c->next_ns = MIN(c->next_ns, soon);
	c->no_carrier = no_carrier;
}

static void tell_links(struct chooser *c)
{
	for (size_t i = 0; i < c->n_rules; i++) {
		const struct dmm_rule_rec *rec = &c->class->rule[c->rule[i]];
		unsigned lost = 0;

		for (unsigned k = 0; k < rec->n_use && k < DMM_MAX_USE; k++)
			lost |= (c->no_carrier >> rec->use[k] & 1) << k;
		nrd_links(c->nrd, i, lost);
	}
}

void chooser_run(struct chooser *c, dmm_u64 now)
{
	if (now < chooser_next_ns(c))
		return;
	c->turn_ns = now;
	c->next_ns = now + TURN_NS;
	take_samples(c, now);
	tell_links(c);
	if (nrd_turn(c->nrd, now))
		c->stale = true;
	log_decisions(c);
	note_sla(c);
	nrd_choices(c->nrd, put_choice, c);
	if (c->stale)
		drop_choices(c);
}

dmm_u64 chooser_next_ns(const struct chooser *c)
{
	return c->nrd && (c->n_rules || c->stale) ? c->next_ns : UINT64_MAX;
}
