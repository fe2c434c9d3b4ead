// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <linux/neighbour.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "userstack/net/neigh.h"

#define NUD_USABLE (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP)

void neigh_init(struct neigh_table *t, const struct neigh_host *h)
{
	*t = (struct neigh_table){.host = h};
}

/* The queue is emptied first: unreachable() may bring new packets. */
static unsigned neigh_flush(struct neigh_table *t, struct neigh *e, bool deliver)
{
	struct neigh_packets packets = STAILQ_HEAD_INITIALIZER(packets);
	struct neigh_packet *p;
	unsigned n = 0;

	STAILQ_CONCAT(&packets, &e->packets);
	t->queued -= e->queued;
	e->queued = 0;
	for (; (p = STAILQ_FIRST(&packets)); n++) {
		struct iovec iov = {p->data, p->len};

		STAILQ_REMOVE_HEAD(&packets, entry);
		t->waiting--;
		if (deliver)
			t->host->send(t->host->ctx, e->mac, &iov, 1, p->left);
		else
			t->host->unreachable(t->host->ctx, p->data, p->len);
		free(p);
	}
	return n;
}

void neigh_fini(struct neigh_table *t)
{
	struct neigh_packet *p;
	struct neigh *e;

	for (unsigned b = 0; b < NEIGH_BUCKETS; b++)
		while ((e = t->bucket[b])) {
			t->bucket[b] = e->next;
			while ((p = STAILQ_FIRST(&e->packets))) {
				STAILQ_REMOVE_HEAD(&e->packets, entry);
				free(p);
			}
			free(e);
		}
}

static struct neigh **neigh_slot(struct neigh_table *t, const dmm_u8 ip[16])
{
	struct neigh **at;
	uint32_t w[4];

	memcpy(w, ip, 16);
	w[0] ^= w[1] * 0x9e3779b1u ^ w[2] * 0x85ebca6bu ^ w[3] * 0xc2b2ae35u;
	for (at = &t->bucket[(w[0] ^ w[0] >> 15) % NEIGH_BUCKETS]; *at; at = &(*at)->next)
		if (!memcmp((*at)->ip, ip, 16))
			break;
	return at;
}

struct neigh *neigh_get(struct neigh_table *t, const dmm_u8 ip[16])
{
	struct neigh **at = neigh_slot(t, ip);

	if (*at || t->n >= NEIGH_MAX)
		return *at;
	*at = calloc(1, sizeof(**at));
	if (!*at)
		return NULL;
	memcpy((*at)->ip, ip, 16);
	STAILQ_INIT(&(*at)->packets);
	t->n++;
	return *at;
}

void neigh_update(struct neigh_table *t, const dmm_u8 ip[16], uint16_t state, const uint8_t *mac)
{
	struct neigh *e;

	e = state & NUD_USABLE ? neigh_get(t, ip) : *neigh_slot(t, ip);
	if (!e)
		return;
	if (mac)
		memcpy(e->mac, mac, 6);
	else if (!(e->state & NUD_USABLE))
		state &= (uint16_t)~NUD_USABLE; /* usable, but nobody knows its address */
	if ((e->state & NUD_USABLE) && !(state & NUD_USABLE))
		e->asked = 0; /* that was about what the kernel has forgotten */
	e->state = state;
	if (state & NUD_USABLE)
		neigh_flush(t, e, true);
	else if (state & NUD_FAILED)
		neigh_flush(t, e, false);
}

int neigh_output(struct neigh_table *t, struct neigh *e, const struct iovec *iov, unsigned n,
		 struct frame_offload left, uint64_t now)
{
	bool usable = e->state & NUD_USABLE;
	struct neigh_packet *p;
	size_t len = 0, off = 0;

	/* The kernel does not see our packets: it must hear that a stale entry is in use. */
	if ((!usable || (e->state & NUD_STALE)) && (!e->asked || now - e->asked > NEIGH_ASK_NS)) {
		e->asked = now;
		t->host->ask(t->host->ctx, e->ip);
	}
	if (usable) {
		t->host->send(t->host->ctx, e->mac, iov, n, left);
		return 1;
	}
	for (unsigned i = 0; i < n; i++)
		len += iov[i].iov_len;
	if (e->queued + NEIGH_PACKET + len > NEIGH_QUEUE ||
	    t->queued + NEIGH_PACKET + len > NEIGH_QUEUES)
		return -ENOBUFS;
	p = malloc(sizeof(*p) + len);
	if (!p)
		return -ENOBUFS;
	p->len = len;
	p->left = left;
	for (unsigned i = 0; i < n; off += iov[i++].iov_len)
		memcpy(p->data + off, iov[i].iov_base, iov[i].iov_len);
	if (STAILQ_EMPTY(&e->packets))
		e->since = now;
	STAILQ_INSERT_TAIL(&e->packets, p, entry);
	e->queued += NEIGH_PACKET + len;
	t->queued += NEIGH_PACKET + len;
	t->waiting++;
	return 0;
}

unsigned neigh_expire(struct neigh_table *t, uint64_t now)
{
	unsigned dropped = 0;

	for (unsigned b = 0; b < NEIGH_BUCKETS; b++)
		for (struct neigh **at = &t->bucket[b], *e; (e = *at);) {
			if (e->queued && now - e->since > NEIGH_WAIT_NS)
				dropped += neigh_flush(t, e, false);
			if (e->queued || (e->state & NUD_USABLE) ||
			    now - e->asked < 5 * NEIGH_ASK_NS) {
				at = &e->next;
				continue;
			}
			*at = e->next;
			free(e);
			t->n--;
			t->generation++;
		}
	return dropped;
}
