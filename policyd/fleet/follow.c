// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/etcd/kv.h"
#include "policyd/fleet/follow.h"

#define PAGE 500	       /* keys of one answer */
#define UNREADABLE "\x7f"      /* nobody takes it, and it is not taken for gone */
#define BEGIN_NS 5000000000ULL /* until a watch stands */

void follow_init(struct follow *f, struct etcd *e, const char *prefix, const struct follow_ops *ops,
		 void *ctx, dmm_u64 revision, dmm_u64 cluster)
{
	*f = (struct follow){.e = e,
			     .ops = ops,
			     .ctx = ctx,
			     .revision = revision,
			     .cluster = cluster,
			     .again = revision == 0};
	snprintf(f->prefix, sizeof(f->prefix), "%s", prefix);
}

void follow_fini(struct follow *f)
{
	if (f->e)
		etcd_cancel(f->e, f);
	free(f->at);
	f->at = NULL;
}

/* Begin anew, after a while. */
static void retry(struct follow *f)
{
	etcd_cancel(f->e, f);
	f->busy = f->watching = f->current = false;
	f->reading = 0;
	f->next_ns = now_ns() + etcd_backoff_ns(f->e);
}

static void tell(struct follow *f, const json_t *kv, bool gone)
{
	_cleanup_free_ char *key = kv_text(kv, "key"), *value = NULL;
	size_t len = strlen(f->prefix);

	if (!key || strncmp(key, f->prefix, len) != 0)
		return;
	value = gone ? NULL : kv_text(kv, "value");
	f->ops->change(f->ctx, key + len, gone ? "" : value ? value : UNREADABLE);
}

/* ---- all of it ---- */

static void on_page(void *ctx, const struct etcd_answer *a)
{
	struct follow *f = ctx;
	const json_t *kvs, *kv = NULL;
	size_t i;

	f->busy = false;
	if (a->error) {
		retry(f);
		return;
	}
	if (!f->reading) {
		f->reading = kv_revision(a->body);
		f->cluster = kv_cluster(a->body);
		f->ops->begin(f->ctx);
	}
	kvs = json_object_get(a->body, "kvs");
	json_array_foreach (kvs, i, kv)
		tell(f, kv, false);
	kv = json_array_get(kvs, json_array_size(kvs) - 1);
	if (json_is_true(json_object_get(a->body, "more")) && kv) {
		_cleanup_free_ char *last = kv_text(kv, "key");

		free(f->at);
		f->at = NULL;
		f->next_ns = 0;
		if (!last || asprintf(&f->at, "%s\x01", last) < 0)
			retry(f);
		return;
	}
	f->revision = f->reading;
	f->reading = 0;
	f->again = false;
	f->next_ns = 0;
	f->reads++;
	f->ops->whole(f->ctx, f->revision);
}

static void read_page(struct follow *f)
{
	json_t *body = kv_get_all(f->prefix);

	if (f->reading) {
		json_object_set_new(body, "key", kv_base64(f->at));
		json_object_set_new(body, "revision", json_integer((json_int_t)f->reading));
	}
	json_object_set_new(body, "limit", json_integer(PAGE));
	f->busy = etcd_call(f->e, "kv/range", body, on_page, f) == 0;
	if (!f->busy)
		retry(f);
}

/* ---- what changes ---- */

/* The watch stands: is it on the store that we know, and does the store know our revision? */
static void on_created(struct follow *f, const json_t *message)
{
	if (kv_cluster(message) != f->cluster || kv_revision(message) < f->revision) {
		log_info("etcd: %s: its store is another one, or older: all is read again",
			 etcd_endpoint(f->e));
		f->again = true;
		retry(f);
		return;
	}
	f->current = true;
	f->resumes++;
}

static void on_change(void *ctx, const struct etcd_answer *a)
{
	struct follow *f = ctx;
	const json_t *events, *event;
	dmm_u64 compacted, last = 0;
	size_t i;

	if (a->error) {
		if (a->error != -EAGAIN)
			etcd_leave(f->e, a->why);
		retry(f);
		return;
	}
	compacted = kv_number(a->body, "compact_revision");
	if (compacted || json_is_true(json_object_get(a->body, "canceled"))) {
		if (compacted) {
			log_info("etcd: changes up to revision %llu are forgotten: all is read "
				 "again",
				 compacted);
			f->compactions++;
			f->again = true;
		}
		retry(f);
		f->next_ns = compacted ? 0 : f->next_ns;
		return;
	}
	if (json_is_true(json_object_get(a->body, "created"))) {
		on_created(f, a->body);
		return;
	}
	events = json_object_get(a->body, "events");
	json_array_foreach (events, i, event) {
		const json_t *type = json_object_get(event, "type");

		tell(f, json_object_get(event, "kv"),
		     type && strcmp(json_string_value(type) ?: "", "DELETE") == 0);
		/* not the header's, which may be ahead of what was told */
		last = MAX(last, kv_number(json_object_get(event, "kv"), "mod_revision"));
	}
	if (json_array_size(events) == 0)
		return;
	f->revision = MAX(f->revision, last);
	f->ops->whole(f->ctx, f->revision);
}

void follow_run(struct follow *f, uint64_t now)
{
	if (f->busy || f->current || now < f->next_ns)
		return;
	if (f->watching) {
		etcd_leave(f->e, "watch: no answer");
		retry(f);
		return;
	}
	if (f->again || f->revision == 0) {
		read_page(f);
		return;
	}
	f->watching = etcd_stream(f->e, "watch", kv_watch_all(f->prefix, f->revision + 1),
				  on_change, f) == 0;
	f->next_ns = now + BEGIN_NS;
	if (!f->watching)
		retry(f);
}
