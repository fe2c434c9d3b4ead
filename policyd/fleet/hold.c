// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/etcd/kv.h"
#include "policyd/fleet/hold.h"

#define SECOND_NS 1000000000ULL

void hold_init(struct hold *h, struct etcd *e, const char *key, char *value, dmm_u32 lease_s)
{
	*h = (struct hold){.e = e, .value = value, .lease_s = lease_s, .why = "not asked yet"};
	snprintf(h->key, sizeof(h->key), "%s", key);
}

void hold_change(struct hold *h, char *value)
{
	free(h->value);
	h->value = value;
	h->changed = true;
}

bool hold_held(const struct hold *h, uint64_t now)
{
	return h->created && now < h->until_ns;
}

/* Wait a while, with some chance in it. */
static void again(struct hold *h, const char *why)
{
	h->next_ns = now_ns() + etcd_backoff_ns(h->e);
	if (!h->created)
		h->why = why;
}

void hold_lost(struct hold *h, uint64_t now)
{
	h->created = 0;
	h->step = HOLD_GRANT;
	h->lease = 0;
	h->next_ns = now;
	h->why = "it was lost";
}

/* The end of a call that did not do what it should. */
static bool failed(struct hold *h, const struct etcd_answer *a)
{
	h->busy = false;
	if (!a->error)
		return false;
	if (a->error == -ENOENT) /* the lease is gone */
		hold_lost(h, now_ns());
	else if (a->error == -EACCES)
		again(h, "etcd does not let us");
	else
		again(h, "etcd does not answer");
	return true;
}

static void on_grant(void *ctx, const struct etcd_answer *a)
{
	struct hold *h = ctx;

	if (failed(h, a))
		return;
	h->lease = kv_number(a->body, "ID");
	h->until_ns = h->sent_ns + h->lease_s * SECOND_NS;
	h->step = h->lease ? HOLD_CREATE : HOLD_GRANT;
	h->next_ns = 0;
	if (!h->lease)
		again(h, "etcd gives no lease");
}

/* The key that is there, from the failed half of the transaction. */
static void see_other(struct hold *h, const json_t *answer)
{
	const json_t *reply = json_array_get(json_object_get(answer, "responses"), 0);
	const json_t *kv =
		json_array_get(json_object_get(json_object_get(reply, "response_range"), "kvs"), 0);
	_cleanup_free_ char *value = kv ? kv_text(kv, "value") : NULL;

	h->other[0] = '\0';
	if (value)
		snprintf(h->other, sizeof(h->other), "%s", value);
	if (kv && kv_number(kv, "lease") == h->lease) {
		/* A transaction of ours whose answer was lost. */
		h->created = kv_number(kv, "create_revision");
		h->step = HOLD_KEEP;
		h->why = NULL;
		h->changed = !value || strcmp(value, h->value) != 0;
	}
}

static void on_create(void *ctx, const struct etcd_answer *a)
{
	struct hold *h = ctx;

	if (failed(h, a))
		return;
	h->step = HOLD_KEEP;
	h->next_ns = 0;
	if (json_is_true(json_object_get(a->body, "succeeded"))) {
		h->created = kv_revision(a->body);
		h->why = NULL;
	} else {
		h->why = "somebody else holds it";
		see_other(h, a->body);
	}
}

static void on_alive(void *ctx, const struct etcd_answer *a)
{
	struct hold *h = ctx;

	if (failed(h, a))
		return;
	if (kv_number(json_object_get(a->body, "result"), "TTL") == 0) {
		hold_lost(h, now_ns());
		return;
	}
	h->until_ns = h->sent_ns + h->lease_s * SECOND_NS;
	h->next_ns = h->sent_ns + h->lease_s * SECOND_NS / 3;
	if (!h->created)
		h->step = HOLD_CREATE; /* it may be free now */
}

static void on_changed(void *ctx, const struct etcd_answer *a)
{
	struct hold *h = ctx;

	if (failed(h, a))
		return;
	if (!json_is_true(json_object_get(a->body, "succeeded")))
		hold_lost(h, now_ns());
}

static void send(struct hold *h, const char *method, json_t *body, etcd_fn fn, uint64_t now)
{
	h->sent_ns = now;
	h->busy = etcd_call(h->e, method, body, fn, h) == 0;
	if (!h->busy)
		again(h, "no memory");
}

void hold_run(struct hold *h, uint64_t now)
{
	if (h->created && now >= h->until_ns) {
		/* Cut off: by etcd's clock the lease may live on, and no write passes the guard
		 * that should not. */
		etcd_cancel(h->e, h);
		h->busy = false;
		hold_lost(h, now);
		h->why = "etcd does not answer";
	}
	if (!h->busy && h->changed && h->created) {
		h->changed = false;
		send(h, "kv/txn",
		     hold_guard(h, json_pack("[o]", kv_do_put(h->key, h->value, h->lease))),
		     on_changed, now);
		return;
	}
	if (h->busy || now < h->next_ns)
		return;
	switch (h->step) {
	case HOLD_GRANT:
		send(h, "lease/grant", kv_grant(h->lease_s), on_grant, now);
		return;
	case HOLD_CREATE:
		h->changed = false;
		send(h, "kv/txn",
		     kv_txn(h->key, 0, json_pack("[o]", kv_do_put(h->key, h->value, h->lease)),
			    json_pack("[o]", kv_do_get(h->key))),
		     on_create, now);
		return;
	case HOLD_KEEP:
		send(h, "lease/keepalive", kv_lease(h->lease), on_alive, now);
	}
}

json_t *hold_guard(const struct hold *h, json_t *then)
{
	return kv_txn(h->key, h->created, then, json_array());
}

static void on_revoke(void *ctx, const struct etcd_answer *a)
{
	(void)ctx;
	(void)a;
}

void hold_fini(struct hold *h)
{
	if (h->e) {
		etcd_cancel(h->e, h);
		if (h->lease)
			etcd_call(h->e, "lease/revoke", kv_lease(h->lease), on_revoke, NULL);
	}
	free(h->value);
	*h = (struct hold){0};
}
