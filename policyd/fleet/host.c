// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/etcd/kv.h"
#include "policyd/fleet/host.h"

#define APPLY_AGAIN_NS 1000000000ULL

/* ---- the policy ---- */

static void on_begin(void *ctx)
{
	struct host *h = ctx;

	texts_follow_begin(&h->told);
	h->overfull = false;
}

static void on_change(void *ctx, const char *key, const char *value)
{
	struct host *h = ctx;
	int r = *key ? texts_follow_put(&h->told, key, value) : 0;

	if (r < 0) { /* the whole revision cannot be taken, nor those that build on it */
		log_err("shared policy: document %s: %s", key, strerror(-r));
		h->overfull = true;
	}
}

static void on_whole(void *ctx, dmm_u64 revision)
{
	struct host *h = ctx;

	(void)revision;
	texts_follow_whole(&h->told);
	h->due = true;
	h->apply_ns = 0;
}

static const struct follow_ops follow_ops = {on_begin, on_change, on_whole};

static void save(struct host *h)
{
	int r = h->state[0] ? texts_save(&h->good, h->applied, h->follow.cluster, h->state) : 0;

	if (r < 0)
		log_warn("shared policy: revision %llu cannot be kept in %s: %s", h->applied,
			 h->state, strerror(-r));
}

static void taken(struct host *h)
{
	struct texts copy;

	if (h->applied == h->follow.revision && !h->refused)
		return;
	if (texts_copy(&h->told.now, &copy) < 0)
		return;
	texts_fini(&h->good);
	h->good = copy;
	h->applied = h->follow.revision;
	h->refused = 0;
	log_info("shared policy: revision %llu in force, of %zu document%s", h->applied, h->good.n,
		 h->good.n == 1 ? "" : "s");
	save(h);
}

static void refuse(struct host *h, const char *why)
{
	if (h->refused == h->follow.revision && strcmp(h->why, why) == 0)
		return;
	h->refused = h->follow.revision;
	snprintf(h->why, sizeof(h->why), "%s", why);
	log_err("shared policy: revision %llu is refused whole: %s; that of revision %llu stays",
		h->refused, why, h->applied);
}

/* What was told last, or if that cannot be, what is good. */
static void apply(struct host *h, uint64_t now)
{
	char why[320] = "";
	int r;

	h->due = false;
	if (!h->follow.revision)
		return;
	if (h->overfull) {
		r = -EINVAL;
		snprintf(why, sizeof(why), "more than %d documents, or than %u bytes", TEXTS_MAX,
			 TEXTS_BYTES);
	} else if (h->told.now.n == 0 && h->good.n > 0) {
		r = -EINVAL;
		snprintf(why, sizeof(why),
			 "all documents are gone; no shared policy is a document with \"rules: "
			 "[]\"");
	} else {
		r = h->apply(h->ctx, &h->told.now, h->follow.revision, why);
	}
	if (r == 0) {
		taken(h);
		return;
	}
	if (r == -EINVAL) {
		refuse(h, why);
		/* What is in force may have changed, and lacks what is good. */
		r = h->applied ? h->apply(h->ctx, &h->good, h->applied, why) : 0;
	}
	if (r < 0 && r != -EINVAL) {
		h->due = true;
		h->apply_ns = now + APPLY_AGAIN_NS;
	}
}

void host_again(struct host *h)
{
	h->due = true;
}

/* ---- reports ---- */

int host_report(struct host *h, char *text)
{
	if (strlen(text) > HOST_REPORT_MAX) {
		free(text);
		return -E2BIG;
	}
	free(h->report);
	h->report = text;
	return 0;
}

static void on_report(void *ctx, const struct etcd_answer *a)
{
	struct host *h = container_of(ctx, struct host, report_key);

	h->reporting = false;
	h->reports += !a->error;
}

static void report(struct host *h, uint64_t now)
{
	if (!h->report || h->reporting || now < h->report_ns || !hold_held(&h->hold, now))
		return;
	/* Only as long as it is registered: the reports go with it. */
	h->reporting =
		etcd_call(h->e, "kv/txn",
			  hold_guard(&h->hold, json_pack("[o]", kv_do_put(h->report_key, h->report,
									  h->hold.lease))),
			  on_report, h->report_key) == 0;
	h->report_ns = now + HOST_REPORT_NS;
	free(h->report);
	h->report = NULL;
}

/* ---- advice ---- */

static void on_advice_begin(void *ctx)
{
	(void)ctx;
}

static void on_advice(void *ctx, const char *key, const char *value)
{
	struct host *h = ctx;
	int r;

	if (*key || !*value) /* another key that begins so, or it was taken back */
		return;
	h->advice_why[0] = '\0';
	r = h->advise(h->ctx, value, h->advice_why);
	h->advised += r == 0;
	h->advice_refused += r < 0;
	if (r < 0)
		log_warn("nrd: advice is refused whole: %s", h->advice_why);
}

static void on_advice_whole(void *ctx, dmm_u64 revision)
{
	(void)ctx;
	(void)revision;
}

static const struct follow_ops advice_ops = {on_advice_begin, on_advice, on_advice_whole};

/* ---- the whole ---- */

int host_init(struct host *h, struct etcd *e, const char *prefix, const char *name, char *facts,
	      dmm_u32 lease_s, const char *state, host_apply_fn apply_fn, host_advise_fn advise,
	      void *ctx)
{
	dmm_u64 revision = 0, cluster = 0;
	char key[192];
	int r = 0;

	*h = (struct host){.e = e, .apply = apply_fn, .advise = advise, .ctx = ctx};
	snprintf(h->state, sizeof(h->state), "%s", state);
	snprintf(h->report_key, sizeof(h->report_key), "%s/reports/%s", prefix, name);
	if (state[0])
		r = texts_load(&h->good, &revision, &cluster, state);
	if (r == -EBADMSG)
		log_warn("shared policy: %s is damaged: it is read from etcd again", state);
	if (texts_copy(&h->good, &h->told.now) < 0)
		return -ENOMEM;
	h->applied = revision;
	h->due = revision > 0;
	h->changed_s = (uint64_t)time(NULL);
	snprintf(key, sizeof(key), "%s/hosts/%s", prefix, name);
	hold_init(&h->hold, e, key, facts, lease_s);
	snprintf(key, sizeof(key), "%s/policy/", prefix);
	follow_init(&h->follow, e, key, &follow_ops, h, revision, cluster);
	snprintf(key, sizeof(key), "%s/advice", prefix);
	follow_init(&h->advice, e, key, &advice_ops, h, 0, 0);
	return 0;
}

void host_fini(struct host *h)
{
	follow_fini(&h->follow);
	follow_fini(&h->advice);
	hold_fini(&h->hold);
	if (h->e)
		etcd_cancel(h->e, h->report_key);
	texts_follow_fini(&h->told);
	texts_fini(&h->good);
	free(h->report);
	*h = (struct host){0};
}

static void look(struct host *h, uint64_t now)
{
	/* The lease tells that it is heard; also who may only read has an answer in time. */
	bool connected = h->follow.current && now < h->hold.until_ns;

	if (connected == h->connected)
		return;
	h->connected = connected;
	h->changed_s = (uint64_t)time(NULL);
	if (connected)
		log_info("etcd: connected to %s", etcd_endpoint(h->e));
	else
		log_warn("etcd: disconnected; the shared policy of revision %llu is kept",
			 h->applied);
}

void host_run(struct host *h, uint64_t now)
{
	hold_run(&h->hold, now);
	follow_run(&h->follow, now);
	follow_run(&h->advice, now);
	report(h, now);
	if (h->due && now >= h->apply_ns)
		apply(h, now);
	look(h, now);
}

uint64_t host_next_ns(const struct host *h)
{
	uint64_t next = UINT64_MAX;

	if (!h->hold.busy)
		next = MIN(next, h->hold.next_ns);
	next = MIN(next, follow_next_ns(&h->follow));
	next = MIN(next, follow_next_ns(&h->advice));
	if (h->due)
		next = MIN(next, h->apply_ns);
	return next;
}

void host_say(const struct host *h, char *ret, size_t len)
{
	char when[32], kept[64] = "no shared policy yet";
	time_t t = (time_t)h->changed_s;
	struct tm tm;
	int n;

	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&t, &tm));
	if (h->applied)
		snprintf(kept, sizeof(kept), "policy of revision %llu %s", h->applied,
			 h->connected ? "in force" : "kept");
	n = snprintf(ret, len, "%s since %s, %s", h->connected ? "connected" : "disconnected", when,
		     kept);
	if (h->refused && n > 0 && (size_t)n < len)
		n += snprintf(ret + n, len - (size_t)n, "; revision %llu refused: %s", h->refused,
			      h->why);
	if (h->connected && !h->hold.created && n > 0 && (size_t)n < len)
		snprintf(ret + n, len - (size_t)n, "; not registered: %s",
			 h->hold.why ? h->hold.why : "not yet");
}
