// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/etcd/kv.h"
#include "policyd/fleet/leader.h"

#define SECOND_NS 1000000000ULL
#define SEEN_NS (5 * SECOND_NS) /* by then a write is seen */
#define PATHS 8192

/* ---- the policy as it is ---- */

static void on_begin(void *ctx)
{
	struct leader *l = ctx;

	texts_follow_begin(&l->have);
	l->written = 0; /* it may be another store */
}

static void on_change(void *ctx, const char *key, const char *value)
{
	struct leader *l = ctx;

	if (*key && texts_follow_put(&l->have, key, value) < 0)
		log_err("policy/%s: more is there than can be kept", key);
}

static void on_whole(void *ctx, dmm_u64 revision)
{
	struct leader *l = ctx;

	(void)revision;
	texts_follow_whole(&l->have);
	l->known = true;
}

static const struct follow_ops policy_ops = {on_begin, on_change, on_whole};

/* ---- the policy as it is to be ---- */

static const char *text_of(const struct texts *t, const char *name)
{
	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->list[i].name, name) == 0)
			return t->list[i].text;
	return NULL;
}

/* Put a text, or NULL: take it out. Names that others gave have any length. */
static void add_op(const struct leader *l, json_t *ops, const char *name, const char *text)
{
	_cleanup_free_ char *key = NULL;

	if (asprintf(&key, "%s/policy/%s", l->prefix, name) >= 0)
		json_array_append_new(ops, text ? kv_do_put(key, text, 0) : kv_do_delete(key));
}

/* The operations that make `have` what is wanted. NULL: none, or no memory. */
static json_t *difference(const struct leader *l)
{
	json_t *ops = json_array();

	for (size_t i = 0; i < l->want.n; i++) {
		const struct text *t = &l->want.list[i];
		const char *have = text_of(&l->have.now, t->name);

		if (!have || strcmp(have, t->text) != 0)
			add_op(l, ops, t->name, t->text);
	}
	for (size_t i = 0; i < l->have.now.n; i++)
		if (!text_of(&l->want, l->have.now.list[i].name)) {
			log_warn("document %s is there no more: it is taken from all hosts",
				 l->have.now.list[i].name);
			add_op(l, ops, l->have.now.list[i].name, NULL);
		}
	return ops;
}

static void on_written(void *ctx, const struct etcd_answer *a)
{
	struct leader *l = ctx;
	uint64_t now = now_ns();

	l->writing = false;
	if (a->error) {
		log_warn("the policy cannot be written now: %s", a->why);
		l->write_ns = now + MAX(etcd_backoff_ns(l->e), a->error == -EAGAIN ? 0 : SECOND_NS);
		return;
	}
	if (!json_is_true(json_object_get(a->body, "succeeded"))) {
		log_warn("another one leads: nothing was written");
		hold_lost(&l->hold, now);
		return;
	}
	l->written = kv_revision(a->body);
	l->seen_ns = now + SEEN_NS;
	l->writes++;
	log_info("policy written, revision %llu", l->written);
}

static void write_policy(struct leader *l, uint64_t now)
{
	json_t *ops;

	if (l->writing || now < l->write_ns || !l->known)
		return;
	/* It will be seen, unless there was nothing to be done: that has no revision of its own. */
	if (l->policy.revision < l->written && now < l->seen_ns)
		return;
	ops = difference(l);
	if (json_array_size(ops) == 0) {
		json_decref(ops);
		return;
	}
	if (json_array_size(ops) > LEADER_OPS) {
		log_err("%zu documents are to be changed; a transaction holds %d: nothing is "
			"written",
			json_array_size(ops), LEADER_OPS);
		l->write_ns = now + 60 * SECOND_NS;
		json_decref(ops);
		return;
	}
	l->writing = etcd_call(l->e, "kv/txn", hold_guard(&l->hold, ops), on_written, l) == 0;
}

int leader_want(struct leader *l, const struct texts *documents, const struct nrd_rule *rules,
		size_t n_rules)
{
	struct texts copy;
	int r;

	if (documents->n > LEADER_OPS || documents->bytes / 3 * 4 > LEADER_BYTES)
		return -E2BIG;
	r = texts_copy(documents, &copy);
	if (r == 0)
		r = nrd_configure(l->nrd, rules, n_rules);
	if (r < 0) {
		texts_fini(&copy);
		return r;
	}
	texts_fini(&l->want);
	l->want = copy;
	l->write_ns = 0;
	return 0;
}

/* ---- reports in, advice out ---- */

static void on_reports_begin(void *ctx)
{
	(void)ctx; /* a report that was taken is refused the second time, by its number */
}

/* A host speaks for itself alone: who may write its key may not tell what others saw. */
static bool speaks_for(const char *text, const char *name)
{
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	const char *host = json_string_value(json_object_get(root, "host"));
	bool same = !host || strcmp(host, name) == 0; /* without one it is refused anyway */

	json_decref(root);
	return same;
}

static struct document_hosts *shard_of(const struct leader *l, const char *name)
{
	dmm_u32 hash = 2166136261u; /* FNV-1a */

	for (; *name; name++)
		hash = (hash ^ (dmm_u8)*name) * 16777619u;
	return &l->hosts[hash % LEADER_SHARDS];
}

static void on_report(void *ctx, const char *key, const char *value)
{
	struct leader *l = ctx;
	char why[256] = "no memory";
	int r = -EINVAL;

	if (!*key || !*value)
		return; /* the host is gone; what it told stays true */
	if (speaks_for(value, key))
		r = document_take(l->nrd, shard_of(l, key), value, strlen(value), l->now_s, why);
	else
		snprintf(why, sizeof(why), "it says that it is of another host");
	l->taken += r == 0;
	l->refused += r < 0;
	if (r < 0)
		log_warn("report of host %s is refused whole: %s", key, why);
}

static void on_reports_whole(void *ctx, dmm_u64 revision)
{
	(void)ctx;
	(void)revision;
}

static const struct follow_ops report_ops = {on_reports_begin, on_report, on_reports_whole};

struct adviser {
	const struct leader *l;
	json_t *list;
};

/* A stack that is not the first of the list and carries most did well. */
static void add_choice(void *ctx, const struct nrd_choice *c)
{
	struct adviser *a = ctx;
	const struct nrd_rule *rule = nrd_rule(a->l->nrd, c->rule);
	char ip[ADDR_STRLEN];
	unsigned best = 0;
	json_t *o;

	for (unsigned i = 1; rule && i < rule->n_stacks; i++)
		if (c->weight[i] > c->weight[best])
			best = i;
	if (!rule || best == 0 || json_array_size(a->list) >= DOCUMENT_ENTRIES)
		return;
	o = json_pack("{s:s, s:s}", "rule", rule->name, "stack", rule->stack[best]);
	if (c->plen)
		json_object_set_new(o, "remote",
				    json_string(addr_format_ip(c->prefix, ip, sizeof(ip))));
	json_array_append_new(a->list, o);
}

static void on_advised(void *ctx, const struct etcd_answer *a)
{
	struct leader *l = container_of(ctx, struct leader, name);

	l->writing = false;
	if (!a->error && json_is_true(json_object_get(a->body, "succeeded"))) {
		free(l->advised);
		l->advised = l->advice;
	} else {
		free(l->advice);
	}
	l->advice = NULL;
}

static void write_advice(struct leader *l, uint64_t now, dmm_u64 now_s)
{
	struct adviser a = {.l = l, .list = json_array()};
	_cleanup_free_ char *text = NULL;
	char key[192];
	json_t *root;
	bool same;

	l->advice_ns = now + LEADER_ADVICE_NS;
	nrd_choices(l->nrd, add_choice, &a);
	l->advice = json_dumps(a.list, JSON_COMPACT);
	same = l->advice && strcmp(l->advice, l->advised ? l->advised : "[]") == 0;
	/* who comes later takes none that is old */
	if (!l->advice || (same && (!l->advised || now_s - l->advised_s < DOCUMENT_OLD_S / 2))) {
		json_decref(a.list);
		free(l->advice);
		l->advice = NULL;
		return;
	}
	/* A later leader's numbers are higher. */
	l->sequence = MAX(l->sequence + 1, now_s);
	l->advised_s = now_s;
	root = json_pack("{s:i, s:s, s:I, s:I, s:o}", "nrd", DOCUMENT_VERSION, "host", "dmm-nrd",
			 "sequence", (json_int_t)l->sequence, "issued", (json_int_t)now_s, "advice",
			 a.list);
	text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(root);
	snprintf(key, sizeof(key), "%s/advice", l->prefix);
	l->writing = text &&
		     etcd_call(l->e, "kv/txn",
			       hold_guard(&l->hold, json_pack("[o]", kv_do_put(key, text, 0))),
			       on_advised, l->name) == 0;
}

/* ---- the whole ---- */

int leader_init(struct leader *l, struct etcd *e, const char *prefix, const char *name,
		dmm_u32 lease_s, dmm_u64 seed)
{
	char key[192];

	*l = (struct leader){.e = e, .prefix = prefix};
	snprintf(l->name, sizeof(l->name), "%s", name);
	snprintf(key, sizeof(key), "%s/leader", prefix);
	hold_init(&l->hold, e, key, strdup(name), lease_s);
	snprintf(key, sizeof(key), "%s/policy/", prefix);
	follow_init(&l->policy, e, key, &policy_ops, l, 0, 0);
	l->nrd = nrd_new(PATHS, seed);
	l->hosts = calloc(LEADER_SHARDS, sizeof(*l->hosts));
	return l->nrd && l->hosts && l->hold.value ? 0 : -ENOMEM;
}

void leader_fini(struct leader *l)
{
	follow_fini(&l->policy);
	follow_fini(&l->reports);
	if (l->e) {
		etcd_cancel(l->e, l);
		etcd_cancel(l->e, l->name);
	}
	hold_fini(&l->hold);
	texts_fini(&l->want);
	texts_follow_fini(&l->have);
	nrd_free(l->nrd);
	free(l->hosts);
	free(l->advice);
	free(l->advised);
	*l = (struct leader){0};
}

bool leader_leads(const struct leader *l, uint64_t now)
{
	return hold_held(&l->hold, now);
}

/* Say so, and begin or end what only the leader does. */
static void look(struct leader *l, uint64_t now)
{
	bool leads = leader_leads(l, now);
	char key[192];

	if (leads == l->led)
		return;
	l->led = leads;
	l->writing = false;
	etcd_cancel(l->e, l);
	etcd_cancel(l->e, l->name);
	if (leads) {
		log_info("leads");
		snprintf(key, sizeof(key), "%s/reports/", l->prefix);
		follow_init(&l->reports, l->e, key, &report_ops, l, 0, 0);
		free(l->advised); /* whatever another one wrote is of yesterday */
		l->advised = NULL;
	} else {
		log_warn("leads no more: %s", l->hold.why ? l->hold.why : "the lease is over");
		follow_fini(&l->reports);
	}
}

void leader_run(struct leader *l, uint64_t now, dmm_u64 now_s)
{
	l->now_s = now_s;
	hold_run(&l->hold, now);
	follow_run(&l->policy, now);
	look(l, now);
	if (!l->led)
		return;
	follow_run(&l->reports, now);
	write_policy(l, now);
	if (now >= l->turn_ns) {
		l->turn_ns = now + SECOND_NS;
		nrd_turn(l->nrd, now);
	}
	if (!l->writing && now >= l->advice_ns)
		write_advice(l, now, now_s);
}

uint64_t leader_next_ns(const struct leader *l, uint64_t now)
{
	uint64_t next = now + SECOND_NS;

	if (!l->hold.busy)
		next = MIN(next, l->hold.next_ns);
	next = MIN(next, follow_next_ns(&l->policy));
	if (l->led)
		next = MIN(next, follow_next_ns(&l->reports));
	if (l->led && !l->writing && l->write_ns > now)
		next = MIN(next, l->write_ns);
	return l->hold.created ? MIN(next, l->hold.until_ns) : next;
}
