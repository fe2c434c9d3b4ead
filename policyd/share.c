// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/daemon.h"
#include "policyd/fleet/shared.h"
#include "policyd/history.h"
#include "policyd/index.h"

#define FACTS_NS 30000000000ULL
#define FAREWELL_MS 300 /* etcd has that long to hear that this host goes */

/* What is in force with these documents in place of the shared rules that it has. */
static int apply_locked(struct daemon *d, const struct texts *documents, dmm_u64 revision,
			char reterr[320])
{
	_cleanup_class_ struct dmm_class *prev = class_new();
	_cleanup_class_ struct dmm_class *next = class_new();
	struct dmm_policy *p = NULL;
	struct host_facts facts = {0};
	struct history_pending pending;
	dmm_u64 generation;
	char how[64];
	int r;

	if (!prev || !next)
		return -ENOMEM;
	if (history_pending(&d->tree, &pending) == 0)
		return -EBUSY; /* a change that waits for its confirmation goes first */
	r = maps_read(&d->tree, prev, &generation);
	if (r == 0)
		r = class_decompile(prev, &p);
	if (r < 0)
		return r;
	r = host_facts_read(&facts, d->share.name, p);
	if (r == 0)
		r = shared_merge(p, documents, &facts, reterr);
	if (r == 0)
		r = class_compile(p, prev, next);
	host_facts_fini(&facts);
	policy_free(p);
	if (r < 0 || class_equal(prev, next))
		return r;
	snprintf(how, sizeof(how), "etcd, revision %llu", revision);
	r = history_commit(&d->tree, next, how, &generation);
	if (r == 0)
		log_info("policy: generation %llu in force, with shared rules of revision %llu",
			 generation, revision);
	return r;
}

static int apply(void *ctx, const struct texts *documents, dmm_u64 revision, char reterr[320])
{
	struct daemon *d = ctx;
	_cleanup_close_ int lock = -1;
	int r = tree_lock(d->opt->bpffs, false, &lock);

	if (r == 0)
		r = apply_locked(d, documents, revision, reterr);
	if (r < 0 && r != -EINVAL && r != -EWOULDBLOCK && r != -EBUSY)
		log_err("shared policy: revision %llu cannot be put in force now: %s", revision,
			strerror(-r));
	return r;
}

void share_merge(struct daemon *d, struct dmm_policy *p)
{
	struct host_facts facts;
	char why[320];

	if (!d->share.e || !d->share.host.applied)
		return;
	if (host_facts_read(&facts, d->share.name, p) < 0 ||
	    shared_merge(p, &d->share.host.good, &facts, why) < 0)
		shared_remove(p); /* the reason is told when it is tried again */
	host_facts_fini(&facts);
}

static bool elsewhere(void *ctx, const char *rule)
{
	size_t ignored;

	return !index_get_name(ctx, rule, &ignored);
}

static int advise(void *ctx, const char *text, char reterr[256])
{
	struct daemon *d = ctx;
	struct index names = {0};
	int r = d->class ? 0 : -EAGAIN;

	for (dmm_u32 i = 0; r >= 0 && i < d->class->hdr.rules; i++)
		if (class_live(d->class, i))
			r = index_put_name(&names, d->class->rule[i].name, i, NULL);
	if (r >= 0)
		r = document_take_advice(d->chooser.nrd, &d->share.advisers, text, strlen(text),
					 (dmm_u64)time(NULL), elsewhere, &names, &d->share.advice,
					 reterr);
	else
		snprintf(reterr, 256, "%s", strerror(-r));
	index_fini(&names);
	if (r == 0)
		d->share.advised_ns = now_ns();
	return r;
}

/* Tell the others what the connections of shared rules were like. */
static void report(struct daemon *d, uint64_t now)
{
	struct share *s = &d->share;
	struct gather *g = d->chooser.gather;
	dmm_u64 now_s = (dmm_u64)time(NULL);
	char *text;

	if (!g || !g->n || s->host.report || now < s->host.report_ns ||
	    !hold_held(&s->host.hold, now))
		return;
	s->sequence = MAX(s->sequence + 1, now_s); /* a later daemon's are higher */
	text = document_write(d->chooser.nrd, g->report, g->n, s->name, s->sequence, now_s,
			      HOST_REPORT_MAX);
	g->n = 0;
	if (text)
		host_report(&s->host, text);
}

/* Tell who we are, if that is not what was told. */
static void look_at_facts(struct daemon *d, const struct dmm_policy *p)
{
	struct share *s = &d->share;
	struct host_facts facts;
	char *text = host_facts_read(&facts, s->name, p) == 0 ? host_facts_format(&facts) : NULL;

	host_facts_fini(&facts);
	if (text && s->facts && strcmp(text, s->facts) != 0)
		hold_change(&s->host.hold, strdup(text));
	if (text) {
		free(s->facts);
		s->facts = text;
	}
}

int share_configure(struct daemon *d, const struct etcd_settings *set, const struct dmm_policy *p)
{
	struct share *s = &d->share;
	struct host_facts facts;
	char state[PATH_MAX] = "";
	int r;

	if (memcmp(&s->set, set, sizeof(*set)) == 0)
		return 0;
	share_close(d);
	if (!set->n_endpoint)
		return 0;
	s->set = *set;
	r = host_facts_read(&facts, set->name, p);
	if (r == 0) {
		memcpy(s->name, facts.name, sizeof(s->name));
		s->facts = host_facts_format(&facts);
	}
	host_facts_fini(&facts);
	if (r == 0 && daemon_state_path(d, "shared", "json", true, state) < 0)
		log_warn("shared policy: there is no directory to keep it in; DMM_STATE names one");
	if (r == 0)
		r = etcd_open(&s->e, d->epfd, &s->set);
	if (r == 0)
		r = host_init(&s->host, s->e, s->set.prefix, s->name,
			      strdup(s->facts ? s->facts : "{}"), s->set.lease_s, state, apply,
			      advise, d);
	if (r < 0) {
		log_err("etcd: not used: %s", strerror(-r));
		share_close(d);
		return r;
	}
	d->chooser.gather =
		calloc(1, sizeof(*d->chooser.gather)); /* without memory nothing is told */
	log_info("etcd: this is host %s below %s", s->name, s->set.prefix);
	return 0;
}

void share_close(struct daemon *d)
{
	struct share *s = &d->share;

	if (s->e) {
		bool connected = s->host.connected;

		host_fini(&s->host);
		for (int i = 0; connected && i < FAREWELL_MS / 5; i++) {
			struct etcd_traffic before, after;

			etcd_traffic(s->e, &before);
			etcd_run(s->e);
			etcd_traffic(s->e, &after);
			if (after.messages > before.messages)
				break;
			usleep(5000);
		}
		etcd_close(s->e);
	}
	free(s->facts);
	free(d->chooser.gather);
	d->chooser.gather = NULL;
	*s = (struct share){0};
}

void share_measure(struct daemon *d)
{
	const struct host *h = &d->share.host;

	d->telemetry->etcd.used = d->share.e != NULL;
	d->telemetry->etcd.connected = h->connected;
	d->telemetry->etcd.revision = h->applied;
	d->telemetry->etcd.refused = h->refused;
	d->telemetry->etcd.reports = h->reports;
	d->telemetry->etcd.advice = d->share.advice;
	d->telemetry->etcd.advice_refused = h->advice_refused;
}

void share_run(struct daemon *d, uint64_t now)
{
	struct share *s = &d->share;
	struct dmm_policy *p;

	if (!s->e)
		return;
	if (s->generation != d->generation) {
		s->generation = d->generation;
		s->facts_ns = 0;
		host_again(&s->host);
	}
	if (now >= s->facts_ns && d->class && class_decompile(d->class, &p) == 0) {
		s->facts_ns = now + FACTS_NS;
		look_at_facts(d, p);
		policy_free(p);
	}
	etcd_run(s->e);
	report(d, now);
	host_run(&s->host, now);
	etcd_run(s->e); /* what it asks goes out at once */
}

uint64_t share_next_ns(const struct daemon *d)
{
	const struct share *s = &d->share;

	return s->e ? MIN(etcd_next_ns(s->e), host_next_ns(&s->host)) : UINT64_MAX;
}
