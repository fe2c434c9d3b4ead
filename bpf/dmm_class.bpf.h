/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The look-up in the image of a generation: the lowest rule that fits a socket. The image is
 * explained in dmm_abi.h; policyd/eval.c is the twin in userspace, and a property test compares the
 * two. What costs is a cache line that is not there, so every step reads one cell.
 *
 * Comparisons are arithmetic and not branches: the verifier looks at every way through a program,
 * and a node of a tree would have 16. For the same reason most functions are not static: the
 * verifier looks at such a function once, and not once for every way that leads to it. Such a
 * function is given no map, so each asks for the image by its slot.
 */
#ifndef DMM_CLASS_BPF_H
#define DMM_CLASS_BPF_H

#include "bpf/dmm_maps.bpf.h"

struct selector {
	struct dmm_addr remote, local;
	__u8 group, role, proto;
};

struct search {
	__u32 slot, fields;
	__u32 rule; /* out */
	__u32 pad;
	__u64 common[2]; /* chunks that every field has, as far as they were not looked into */
	dmm_ref class[DMM_FIELDS], wild[DMM_FIELDS];
};

static __always_inline void *image_of(__u32 slot)
{
	return bpf_map_lookup_elem(&dmm_image, &slot);
}

static __always_inline struct dmm_cell *cell_at(void *image, __u32 index)
{
	return bpf_map_lookup_elem(image, &index);
}

/* The mask behind a barrier: else clang drops it, and the verifier of older kernels wants it. */
static __always_inline __u32 word_at(const struct dmm_cell *c, __u32 index, __u32 mask)
{
	barrier_var(index);
	return c->w[index & mask];
}

static __always_inline __u32 less32(__u32 a, __u32 b)
{
	__u64 d = (__u64)a - b;

	barrier_var(d);
	return d >> 63;
}

static __always_inline __u32 less64(__u64 a, __u64 b)
{
	__u64 d = (~a & b) | ((~a | b) & (a - b));

	barrier_var(d);
	return d >> 63;
}

static __always_inline __u32 less128(__u64 a_hi, __u64 a_lo, __u64 b_hi, __u64 b_lo)
{
	return less64(a_hi, b_hi) | ((less64(b_hi, a_hi) ^ 1) & less64(a_lo, b_lo));
}

static __always_inline __u32 count_bits(__u64 x)
{
	x -= x >> 1 & 0x5555555555555555;
	x = (x & 0x3333333333333333) + (x >> 2 & 0x3333333333333333);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return x * 0x0101010101010101 >> 56;
}

/* ---- tables: from a number to its class ---- */

__noinline __u32 find_narrow(__u32 slot, __u32 id, __u32 v)
{
	void *image = image_of(slot);
	const struct dmm_table *t;
	const struct dmm_cell *n;
	__u32 node = 0, k, depth;

	if (!image)
		return 0;
	t = (void *)cell_at(image, DMM_TABLE_CELL(id));
	if (!t)
		return 0;
	depth = t->depth;
	if (depth == 0)
		return 0;
	for (__u32 l = 0; l < DMM_NARROW_LEVELS - 1; l++) {
		if (l + 1 >= depth)
			break;
		n = cell_at(image, t->level[l] + node);
		if (!n)
			return 0;
		k = less32(n->w[7], v) << 3;
		k += less32(word_at(n, k + 3, 15), v) << 2;
		k += less32(word_at(n, k + 1, 15), v) << 1;
		k += less32(word_at(n, k, 15), v);
		node = node * 16 + k;
	}
	n = cell_at(image, word_at((const void *)t, depth, 15) + node); /* level[depth - 1] */
	if (!n)
		return 0;
	k = less32(n->w[3], v) << 2;
	k += less32(word_at(n, k + 1, 7), v) << 1;
	k += less32(word_at(n, k, 7), v);
	return word_at(n, 8 + k, 15);
}

__noinline __u32 find_wide(__u32 slot, __u32 id, __u64 hi, __u64 lo)
{
	void *image = image_of(slot);
	const struct dmm_table *t;
	const struct dmm_cell *n;
	__u32 node = 0, k, depth;

	if (!image)
		return 0;
	t = (void *)cell_at(image, DMM_TABLE_CELL(id));
	if (!t)
		return 0;
	depth = t->depth;
	if (depth == 0)
		return 0;
	for (__u32 l = 0; l < DMM_WIDE_LEVELS - 1; l++) {
		if (l + 1 >= depth)
			break;
		n = cell_at(image, t->level[l] + node);
		if (!n)
			return 0;
		k = less128(n->q[0], n->q[1], hi, lo);
		barrier_var(k);
		k += less128(n->q[2], n->q[3], hi, lo);
		barrier_var(k);
		k += less128(n->q[4], n->q[5], hi, lo);
		node = node * 4 + k;
	}
	n = cell_at(image, word_at((const void *)t, depth, 15) + node); /* level[depth - 1] */
	if (!n)
		return 0;
	k = less128(n->q[0], n->q[1], hi, lo);
	barrier_var(k);
	k += less128(n->q[2], n->q[3], hi, lo);
	return word_at(n, 12 + k, 15);
}

__noinline __u32 find_head(__u32 slot, __u32 index)
{
	void *image = image_of(slot);
	const struct dmm_table *t;
	const struct dmm_cell *n;

	if (!image)
		return 0;
	t = (void *)cell_at(image, DMM_TABLE_CELL(DMM_TABLE_HEAD));
	if (!t)
		return 0;
	n = cell_at(image, t->level[0] + index / 16);
	return n ? word_at(n, index, 15) : 0;
}

__noinline __u32 find_ip(__u32 slot, __u32 narrow, __u32 wide, const struct dmm_addr *a)
{
	const __u32 *w = (const __u32 *)a; /* 4-byte aligned only */

	if (!a)
		return 0;
	if (ip_is_v4(a->ip))
		return find_narrow(slot, narrow, bpf_ntohl(w[3]));
	return find_wide(slot, wide, (__u64)bpf_ntohl(w[0]) << 32 | bpf_ntohl(w[1]),
			 (__u64)bpf_ntohl(w[2]) << 32 | bpf_ntohl(w[3]));
}

/* Of the process that calls connect() or listen(): sock_ops has no other way to it. */
__noinline __u32 find_uid(__u32 slot)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return find_narrow(slot, DMM_TABLE_UID, BPF_CORE_READ(task, cred, uid.val));
}

__noinline __u32 find_program(__u32 slot)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	union {
		__u64 q[2];
		char text[DMM_PROGRAM_LEN];
	} name = {};

	/* a thread may have a name of its own */
	BPF_CORE_READ_STR_INTO(&name.text, task, group_leader, comm);
	return find_wide(slot, DMM_TABLE_PROGRAM, bpf_be64_to_cpu(name.q[0]),
			 bpf_be64_to_cpu(name.q[1]));
}

/* ---- classes: their intersection ---- */

/* The chunks of a class that are not empty. */
static __always_inline void class_chunks(void *image, dmm_ref ref, __u64 *ret0, __u64 *ret1)
{
	const struct dmm_cell *c;
	__u64 bit, high;

	if (ref & DMM_REF_ONE) {
		bit = 1ULL << (DMM_REF_CHUNK(ref) & 63);
		high = -(__u64)(DMM_REF_CHUNK(ref) >> 6);
		*ret0 |= bit & ~high;
		*ret1 |= bit & high;
		return;
	}
	if (!ref)
		return;
	c = cell_at(image, ref);
	if (!c)
		return;
	*ret0 |= c->q[0];
	*ret1 |= c->q[1];
}

__noinline int field_chunks(struct search *s, __u32 class, __u32 wild)
{
	__u64 chunks0 = 0, chunks1 = 0;
	void *image;

	if (!s)
		return 0;
	image = image_of(s->slot);
	if (!image)
		return 0;
	class_chunks(image, class, &chunks0, &chunks1);
	class_chunks(image, wild, &chunks0, &chunks1);
	s->common[0] &= chunks0;
	s->common[1] &= chunks1;
	return 0;
}

/* The cell of one chunk of a class; 0: the chunk is empty. */
__noinline __u32 class_chunk(__u32 slot, __u32 ref, __u32 chunk)
{
	void *image = image_of(slot);
	const struct dmm_cell *c;
	__u64 word, below;
	__u32 at;

	if (!image || !ref)
		return 0;
	if (ref & DMM_REF_ONE)
		return DMM_REF_CHUNK(ref) == chunk ? DMM_REF_CELL(ref) : 0;
	c = cell_at(image, ref);
	if (!c)
		return 0;
	word = chunk < 64 ? c->q[0] : c->q[1];
	if (!(word >> (chunk & 63) & 1))
		return 0;
	below = word & ((1ULL << (chunk & 63)) - 1);
	at = DMM_CLASS_WORDS + count_bits(below);
	if (chunk >= 64)
		at += count_bits(c->q[0]);
	if (at >= 16)
		c = cell_at(image, ref + at / 16);
	return c ? word_at(c, at, 15) : 0;
}

struct rules {
	__u64 word[8]; /* of one chunk */
};

/* Keep the rules that one of two chunks has; cell 0: it is empty. */
__noinline int rules_keep(struct rules *r, __u32 slot, __u32 class, __u32 wild)
{
	void *image = image_of(slot);
	const struct dmm_cell *a = NULL, *b = NULL;

	if (!r || !image)
		return 0;
	if (class)
		a = cell_at(image, class);
	if (wild)
		b = cell_at(image, wild);
	if (!a)
		a = b;
	if (!b)
		b = a;
		/* one word after the other: clang would load all of them first, and has no room for
		 * that */
#pragma unroll
	for (int i = 0; i < 8; i++) {
		r->word[i] &= a ? a->q[i] | b->q[i] : 0;
		barrier();
	}
	return 0;
}

static __always_inline __u32 lowest_bit(__u64 x)
{
	return count_bits(~x & (x - 1));
}

/* Look into the next chunk that all fields have. */
static long search_step(__u32 i, void *data)
{
	struct search *s = data;
	struct rules left;
	__u32 chunk;
	__u64 word;

	if (s->common[0]) {
		chunk = lowest_bit(s->common[0]);
		s->common[0] &= s->common[0] - 1;
	} else if (s->common[1]) {
		chunk = 64 + lowest_bit(s->common[1]);
		s->common[1] &= s->common[1] - 1;
	} else {
		return 1;
	}
	__builtin_memset(&left, 0xff, sizeof(left));
#pragma unroll
	for (int f = 0; f < DMM_FIELDS; f++)
		if (s->fields & 1 << f)
			rules_keep(&left, s->slot, class_chunk(s->slot, s->class[f], chunk),
				   class_chunk(s->slot, s->wild[f], chunk));
#pragma unroll
	for (int k = 0; k < 8; k++) {
		word = *(volatile __u64 *)&left.word[k];
		if (word) {
			s->rule = chunk * DMM_CHUNK_RULES + k * 64 + lowest_bit(word);
			return 1;
		}
	}
	return 0;
}

#define SEARCH_FIELD(s, hdr, field, found) \
	if ((hdr)->fields & 1 << (field)) { \
		(s)->class[field] = (found); \
		(s)->wild[field] = (hdr)->wild[field]; \
		field_chunks(s, (s)->class[field], (s) -> wild[field]); \
	}

/* The lowest rule of the image that fits, or DMM_RULE_NONE. */
__noinline __u32 search_rule(__u32 slot, const struct selector *sel)
{
	const struct dmm_class_hdr *hdr;
	struct search s = {};
	void *image;

	if (!sel)
		return DMM_RULE_NONE;
	image = image_of(slot);
	if (!image)
		return DMM_RULE_NONE;
	hdr = (void *)cell_at(image, 0);
	if (!hdr || hdr->rules == 0)
		return DMM_RULE_NONE;
	s.slot = slot;
	s.fields = hdr->fields;
	s.common[0] = s.common[1] = ~0ULL;
	s.rule = DMM_RULE_NONE;
	SEARCH_FIELD(&s, hdr, DMM_FIELD_HEAD,
		     find_head(slot, DMM_HEAD_INDEX(sel->group, sel->role & 1, sel->proto)));
	SEARCH_FIELD(&s, hdr, DMM_FIELD_REMOTE,
		     find_ip(slot, DMM_TABLE_REMOTE4, DMM_TABLE_REMOTE6, &sel->remote));
	SEARCH_FIELD(&s, hdr, DMM_FIELD_LOCAL,
		     find_ip(slot, DMM_TABLE_LOCAL4, DMM_TABLE_LOCAL6, &sel->local));
	SEARCH_FIELD(&s, hdr, DMM_FIELD_REMOTE_PORT,
		     find_narrow(slot, DMM_TABLE_REMOTE_PORT, sel->remote.port));
	SEARCH_FIELD(&s, hdr, DMM_FIELD_LOCAL_PORT,
		     find_narrow(slot, DMM_TABLE_LOCAL_PORT, sel->local.port));
	SEARCH_FIELD(&s, hdr, DMM_FIELD_UID, find_uid(slot));
	SEARCH_FIELD(&s, hdr, DMM_FIELD_PROGRAM, find_program(slot));
	if (!s.fields) /* no rule restricts anything: the first takes all */
		return 0;
	if (s.common[0] | s.common[1])
		bpf_loop(DMM_CHUNKS, search_step, &s, 0);
	return s.rule;
}

#endif
