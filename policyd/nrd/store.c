// SPDX-License-Identifier: Apache-2.0
/*
 * What nRD knows, as a file: rules, the paths that decide for themselves with their evidence and
 * bans, and the log. Records are those of memory, so that only a program with the same ones reads
 * it: it is a head start for the next daemon, and nothing is lost for good without it.
 */
#include <errno.h>

#include "lib/base/util.h"
#include "policyd/nrd/path.h"

#define STORE_BYTES (4 << 20) /* prefixes that were not reported of lately are left out */

static const char magic[8] = "dmm-nrd";

struct header {
	char magic[8];
	dmm_u32 abi, rule_size, path_size, part_size, decision_size;
	dmm_u32 rules, paths, decisions;
	dmm_u64 total; /* decisions that ever were */
	dmm_u64 t, mono_ns, real_ns;
	dmm_u64 len;  /* of what follows */
	dmm_u64 hash; /* of all */
};

static dmm_u64 hash(const struct header *h, const void *body, size_t len)
{
	const struct {
		const void *data;
		size_t len;
	} part[] = {{h, offsetof(struct header, hash)}, {body, len}};
	dmm_u64 sum = 0xcbf29ce484222325ULL; /* FNV-1a */

	for (size_t i = 0; i < ARRAY_SIZE(part); i++)
		for (size_t k = 0; k < part[i].len; k++)
			sum = (sum ^ ((const dmm_u8 *)part[i].data)[k]) * 0x100000001b3ULL;
	return sum;
}

static struct header header_of(const struct nrd *n)
{
	struct header h = {.abi = DMM_ABI_VERSION,
			   .rule_size = sizeof(struct nrd_rule),
			   .path_size = sizeof(struct path),
			   .part_size = sizeof(struct arm_part),
			   .decision_size = sizeof(struct nrd_decision),
			   .rules = (dmm_u32)n->n_rules,
			   .decisions = (dmm_u32)MIN(n->counters.decisions, NRD_LOG),
			   .total = n->counters.decisions,
			   .t = n->t};

	memcpy(h.magic, magic, sizeof(magic));
	return h;
}

/* ---- out ---- */

static void put_path(const struct path *p, FILE *out)
{
	dmm_u32 number = p->rule->number;
	struct path copy = *p;

	copy.rule = NULL;
	copy.next = NULL;
	memset(&copy.entry, 0, sizeof(copy.entry));
	for (unsigned i = 0; i < DMM_MAX_USE; i++)
		for (unsigned g = 0; g < ARM_GROUPS; g++) /* says only whether there is one */
			if (copy.choice[i].arm.part[g])
				copy.choice[i].arm.part[g] = (void *)1;
	fwrite(&number, sizeof(number), 1, out);
	fwrite(&copy, sizeof(copy), 1, out);
	for (unsigned i = 0; i < DMM_MAX_USE; i++)
		for (unsigned g = 0; g < ARM_GROUPS; g++)
			if (p->choice[i].arm.part[g])
				fwrite(p->choice[i].arm.part[g], sizeof(struct arm_part), 1, out);
}

static void put_body(const struct nrd *n, struct header *h, FILE *out)
{
	const struct path *p;

	for (size_t i = 0; i < n->n_rules; i++)
		fwrite(&n->rule[i]->c, sizeof(n->rule[i]->c), 1, out);
	for (size_t i = 0; i < h->decisions; i++)
		fwrite(nrd_decision(n, i), sizeof(struct nrd_decision), 1, out);
	for (size_t i = 0; i < n->n_rules; i++, h->paths++)
		put_path(n->rule[i]->all, out);
	TAILQ_FOREACH_REVERSE(p, &n->own, path_list, entry)
	{
		if (ftell(out) > STORE_BYTES)
			break;
		put_path(p, out);
		h->paths++;
	}
}

int nrd_save(const struct nrd *n, dmm_u64 mono_ns, dmm_u64 real_ns, FILE *out)
{
	_cleanup_free_ char *body = NULL;
	struct header h = header_of(n);
	size_t len;
	FILE *to = open_memstream(&body, &len);

	if (!to)
		return -ENOMEM;
	put_body(n, &h, to);
	if (fclose(to) != 0)
		return -ENOMEM;
	h.mono_ns = mono_ns;
	h.real_ns = real_ns;
	h.len = len;
	h.hash = hash(&h, body, len);
	return fwrite(&h, sizeof(h), 1, out) == 1 && fwrite(body, 1, len, out) == len ? 0 : -EIO;
}

/* ---- in ---- */

struct reader {
	const char *at;
	size_t left;
};

static bool get(struct reader *r, void *ret, size_t len)
{
	if (r->left < len)
		return false;
	memcpy(ret, r->at, len);
	r->at += len;
	r->left -= len;
	return true;
}

static bool rule_is_sane(const struct nrd_rule *c)
{
	bool sane = memchr(c->name, 0, sizeof(c->name)) && c->n_stacks > 0 &&
		    c->n_stacks <= DMM_MAX_USE && c->set.canary > 0 && c->set.canary <= 100;

	for (unsigned i = 0; sane && i < c->n_stacks; i++)
		sane = memchr(c->stack[i], 0, sizeof(c->stack[i]));
	return sane;
}

static bool path_is_sane(const struct path *p, const struct rule *r)
{
	unsigned n = r->c.n_stacks;

	return p->own && p->now < n && (p->other < n || p->other == NRD_STACK_NONE) &&
	       (p->home < n || p->home == NRD_STACK_NONE) && p->phase <= PHASE_GUARD &&
	       (p->plen == 0 || p->plen == NRD_PLEN4 || p->plen == NRD_PLEN6);
}

static bool decision_is_sane(const struct nrd_decision *d)
{
	return d->action < NRD_ACTIONS && d->reason < NRD_REASONS &&
	       memchr(d->rule, 0, sizeof(d->rule)) && memchr(d->from, 0, sizeof(d->from)) &&
	       memchr(d->to, 0, sizeof(d->to));
}

static int get_rules(struct nrd *n, struct reader *r, dmm_u32 count)
{
	_cleanup_free_ struct nrd_rule *list = calloc((size_t)count + 1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	for (dmm_u32 i = 0; i < count; i++)
		if (!get(r, &list[i], sizeof(list[i])) || !rule_is_sane(&list[i]))
			return -EBADMSG;
	return nrd_configure(n, list, count);
}

static int get_parts(struct reader *r, const struct path *from, struct path *to)
{
	for (unsigned i = 0; i < DMM_MAX_USE; i++) {
		for (unsigned g = 0; g < ARM_GROUPS; g++) {
			struct arm_part *part = NULL;

			if (from->choice[i].arm.part[g]) {
				part = calloc(1, sizeof(*part));
				if (!part)
					return -ENOMEM;
				if (!get(r, part, sizeof(*part))) {
					free(part);
					return -EBADMSG;
				}
			}
			free(to->choice[i].arm.part[g]);
			to->choice[i].arm.part[g] = part;
		}
	}
	return 0;
}

/* All of p but what says where it stands, and the parts of its arms. */
static void copy_path(struct path *p, const struct path *from)
{
	struct path was = *p;

	*p = *from;
	p->entry = was.entry;
	p->next = was.next;
	p->rule = was.rule;
	memcpy(p->prefix, was.prefix, sizeof(p->prefix));
	p->plen = was.plen;
	for (unsigned i = 0; i < DMM_MAX_USE; i++)
		memcpy(p->choice[i].arm.part, was.choice[i].arm.part,
		       sizeof(p->choice[i].arm.part));
}

static int get_path(struct nrd *n, struct reader *r)
{
	struct path from, *p;
	dmm_u32 number;

	if (!get(r, &number, sizeof(number)) || !get(r, &from, sizeof(from)) ||
	    number >= n->n_rules || !path_is_sane(&from, n->rule[number]))
		return -EBADMSG;
	p = n->rule[number]->all;
	if (from.plen) {
		p = path_get(n, n->rule[number], from.prefix);
		if (!p)
			return -ENOMEM;
		TAILQ_REMOVE(p->own ? &n->own : &n->following, p, entry);
		TAILQ_INSERT_HEAD(&n->own, p, entry);
	}
	copy_path(p, &from);
	return get_parts(r, &from, p);
}

static int get_body(struct nrd *n, const struct header *h, struct reader *r, dmm_u64 shift)
{
	int e = get_rules(n, r, h->rules);

	for (dmm_u32 i = 0; e == 0 && i < h->decisions; i++) {
		dmm_u64 number = h->total - h->decisions + 1 + i;
		struct nrd_decision *d = &n->log[number % NRD_LOG];

		if (!get(r, d, sizeof(*d)) || d->number != number || !decision_is_sane(d))
			e = -EBADMSG;
		d->at_ns += shift;
	}
	for (dmm_u32 i = 0; e == 0 && i < h->paths; i++)
		e = get_path(n, r);
	return e == 0 && r->left ? -EBADMSG : e;
}

int nrd_load(struct nrd *n, const void *data, size_t len, dmm_u64 mono_ns, dmm_u64 real_ns)
{
	const struct header mine = header_of(n);
	struct reader r = {data, len};
	struct header h;
	int e;

	if (!get(&r, &h, sizeof(h)) || memcmp(h.magic, mine.magic, sizeof(h.magic)) != 0)
		return -EBADMSG;
	if (h.abi != mine.abi || h.rule_size != mine.rule_size || h.path_size != mine.path_size ||
	    h.part_size != mine.part_size || h.decision_size != mine.decision_size)
		return -EPROTO;
	if (h.len != r.left || h.hash != hash(&h, r.at, r.left) || h.decisions > NRD_LOG ||
	    h.decisions > h.total || h.rules > DMM_MAX_MEASURED || h.t == 0)
		return -EBADMSG;
	e = get_body(n, &h, &r, (mono_ns - real_ns) - (h.mono_ns - h.real_ns));
	if (e < 0) {
		nrd_configure(n, NULL, 0);
		memset(n->log, 0, NRD_LOG * sizeof(*n->log));
		return e;
	}
	n->counters.decisions = h.total;
	n->t = h.t;
	return 0;
}
