// SPDX-License-Identifier: Apache-2.0
/* The table of prefixes: bounded, the one that was not heard of for longest makes room. Those that
 * decide for themselves stay as long as there are others, so that a scan of addresses cannot drive
 * them out. */
#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "policyd/nrd/path.h"

dmm_u8 nrd_prefix(const dmm_u8 ip[16], dmm_u8 ret[16])
{
	dmm_u8 plen = addr_is_v4(ip) ? NRD_PLEN4 : NRD_PLEN6;

	memset(ret, 0, 16);
	memcpy(ret, ip, plen / 8);
	return plen;
}

struct path *path_new(struct nrd *n, struct rule *r, const dmm_u8 prefix[16], dmm_u8 plen)
{
	struct path *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->rule = r;
	memcpy(p->prefix, prefix, sizeof(p->prefix));
	p->plen = plen;
	p->other = p->home = NRD_STACK_NONE;
	p->count_since = n->t;
	return p;
}

void path_free(struct path *p)
{
	if (!p)
		return;
	for (unsigned i = 0; i < DMM_MAX_USE; i++)
		arm_fini(&p->choice[i].arm);
	free(p);
}

static struct path **bucket(const struct nrd *n, const struct rule *r, const dmm_u8 prefix[16])
{
	dmm_u64 h = (uintptr_t)r, word[2];

	memcpy(word, prefix, sizeof(word));
	h = (h ^ word[0]) * 0x9e3779b97f4a7c15ULL;
	h = (h ^ h >> 32 ^ word[1]) * 0x9e3779b97f4a7c15ULL;
	return &n->hash[(h ^ h >> 32) & (n->hash_size - 1)];
}

struct path *path_find(const struct nrd *n, const struct rule *r, const dmm_u8 ip[16])
{
	dmm_u8 prefix[16], plen = nrd_prefix(ip, prefix);
	struct path *p = *bucket(n, r, prefix);

	while (p && (p->rule != r || p->plen != plen || memcmp(p->prefix, prefix, 16) != 0))
		p = p->next;
	return p;
}

static struct path_list *list_of(struct nrd *n, const struct path *p)
{
	return p->own ? &n->own : &n->following;
}

void path_touch(struct nrd *n, struct path *p)
{
	TAILQ_REMOVE(list_of(n, p), p, entry);
	TAILQ_INSERT_TAIL(list_of(n, p), p, entry);
}

void path_drop(struct nrd *n, struct path *p)
{
	struct path **at = bucket(n, p->rule, p->prefix);

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	TAILQ_REMOVE(list_of(n, p), p, entry);
	n->counters.paths--;
	path_free(p);
}

static void make_room(struct nrd *n)
{
	struct path *p = TAILQ_FIRST(&n->following);

	if (!p) {
		p = TAILQ_FIRST(&n->own);
		log_decision(n, p, NRD_FOLLOW, REASON_FULL, p->now, p->rule->all->now);
	}
	n->counters.evicted++;
	path_drop(n, p);
}

struct path *path_get(struct nrd *n, struct rule *r, const dmm_u8 ip[16])
{
	struct path *p = path_find(n, r, ip), **at;
	dmm_u8 prefix[16], plen;

	if (p)
		return p;
	if (n->counters.paths >= n->max_paths)
		make_room(n);
	plen = nrd_prefix(ip, prefix);
	p = path_new(n, r, prefix, plen);
	if (!p)
		return NULL;
	at = bucket(n, r, prefix);
	p->next = *at;
	*at = p;
	TAILQ_INSERT_TAIL(&n->following, p, entry);
	n->counters.paths++;
	return p;
}

struct path *path_decider(struct path *p)
{
	return p->own ? p : p->rule->all;
}

bool path_no_carrier(const struct path *p, unsigned place)
{
	return p->rule->no_carrier >> place & 1;
}

void path_weights(const struct path *p, dmm_u16 ret[DMM_MAX_USE])
{
	unsigned canary = p->other == NRD_STACK_NONE ? 0 : p->rule->c.set.canary * 10;

	memset(ret, 0, DMM_MAX_USE * sizeof(ret[0]));
	ret[p->now] = (dmm_u16)(NRD_WEIGHTS - canary);
	if (canary)
		ret[p->other] = (dmm_u16)canary;
}
