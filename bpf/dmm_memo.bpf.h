/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What sockets got before (struct dmm_memo): applications connect to the same places again and
 * again, and an entry is in one cache line where the search reads twenty, and the rule and its
 * stacks some more.
 */
#ifndef DMM_MEMO_BPF_H
#define DMM_MEMO_BPF_H

#include "bpf/dmm_class.bpf.h"

#define MEMO_MISS 0xffffffff
#define MEMO_PRIME 0x9e3779b97f4a7c15ULL

/* What a socket is found by; where a rule asks for the local end, only its kind is in it. */
struct memo_ask {
	__u64 generation;
	const __u32 *remote; /* 4-byte aligned only */
	__u32 kind;	     /* port, group, protocol, and of which family the local end is */
	bool process;	     /* rules ask for user or program */
};

struct memo_key {
	__u64 word[7]; /* the low half of the last is zero */
	__u64 hash;
};

static __always_inline void memo_process(struct memo_key *k)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	k->word[6] = (__u64)BPF_CORE_READ(task, cred, uid.val) << 32;
	task = BPF_CORE_READ(task, group_leader);
	bpf_probe_read_kernel_str(&k->word[4], DMM_PROGRAM_LEN, &task->comm);
}

/* False: such sockets are not remembered. */
static __always_inline bool memo_ask(struct memo_ask *a, const struct selector *s, __u64 generation,
				     __u32 fields)
{
	bool local = fields & (1 << DMM_FIELD_LOCAL | 1 << DMM_FIELD_LOCAL_PORT);

	if (s->role != DMM_ROLE_CLIENT || (local && (s->local.port || !ip_is_any(s->local.ip))))
		return false;
	a->generation = generation;
	a->remote = (const __u32 *)s->remote.ip;
	a->kind = (__u32)s->remote.port << 16 | (__u32)(s->group % DMM_MAX_GROUPS) << 9 |
		  (__u32)(local && ip_is_v4(s->local.ip)) << 8 | s->proto;
	a->process = fields & (1 << DMM_FIELD_UID | 1 << DMM_FIELD_PROGRAM);
	return true;
}

/* ---- dmm_memo ---- */

static __always_inline bool memo_is_short(const struct memo_ask *a)
{
	return !a->process && ip_is_v4((const __u8 *)a->remote);
}

static __always_inline __u64 short_who(const struct memo_ask *a)
{
	return (__u64)a->remote[3] << 32 | a->kind;
}

static __always_inline struct dmm_memo *short_line(__u64 who)
{
	__u32 index = (who ^ who >> 32) * MEMO_PRIME >> (64 - DMM_MEMO_LINES_BITS);

	return bpf_map_lookup_elem(&dmm_memo, &index);
}

static __always_inline __u64 short_seal(__u64 what)
{
	what = (what ^ what >> 32) * MEMO_PRIME;
	return what ^ what >> 32;
}

__noinline __u32 short_find(__u64 who, __u64 generation)
{
	const struct dmm_memo *m = short_line(who);
	__u64 what;

	if (!m)
		return MEMO_MISS;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		what = *(const volatile __u64 *)&m->entry[i].what;
		if (what >> DMM_MEMO_BITS == generation &&
		    *(const volatile __u64 *)&m->entry[i].who == (who ^ short_seal(what)))
			return what & ((1 << DMM_MEMO_BITS) - 1);
	}
	return MEMO_MISS;
}

/* The first entry that is of no use any more, or else one by chance: who comes in turns again and
 * again is found more often so than if the oldest went. */
__noinline int short_keep(__u64 who, __u64 generation, __u32 found)
{
	__u64 what = generation << DMM_MEMO_BITS | found;
	__u32 way = bpf_get_prandom_u32();
	struct dmm_memo *m = short_line(who);

	if (!m)
		return 0;
#pragma unroll
	for (int i = 3; i >= 0; i--)
		if (*(volatile __u64 *)&m->entry[i].what >> DMM_MEMO_BITS != generation)
			way = i;
	way &= 3;
	barrier_var(way);
	*(volatile __u64 *)&m->entry[way & 3].what = what;
	*(volatile __u64 *)&m->entry[way & 3].who = who ^ short_seal(what);
	return 0;
}

/* ---- dmm_memo_wide ---- */

static __always_inline void memo_key(struct memo_key *k, const struct memo_ask *a)
{
	k->word[0] = a->generation;
	k->word[1] = (__u64)a->remote[0] << 32 | a->remote[1];
	k->word[2] = (__u64)a->remote[2] << 32 | a->remote[3];
	k->word[3] = a->kind;
	k->word[4] = k->word[5] = k->word[6] = 0;
	if (a->process)
		memo_process(k);
	k->hash = MEMO_PRIME;
#pragma unroll
	for (int i = 0; i < 7; i++) {
		k->hash = (k->hash ^ k->word[i]) * MEMO_PRIME;
		k->hash ^= k->hash >> 32;
	}
}

/* Two entries next to each other can hold it. */
static __always_inline struct dmm_memo_wide *memo_at(const struct memo_key *k, __u32 way)
{
	__u32 index = k->hash >> (64 - DMM_MEMO_WIDE_BITS) ^ way;

	return bpf_map_lookup_elem(&dmm_memo_wide, &index);
}

static __always_inline __u64 memo_seal(const struct memo_key *k, __u32 found)
{
	return (k->hash ^ found) * MEMO_PRIME;
}

static __always_inline __u32 memo_read(const struct memo_key *k, __u32 way)
{
	const struct dmm_memo_wide *m = memo_at(k, way);
	__u64 other = 0, last;

	if (!m)
		return MEMO_MISS;
#pragma unroll
	for (int i = 0; i < 6; i++)
		other |= *(const volatile __u64 *)&m->word[i] ^ k->word[i];
	last = *(const volatile __u64 *)&m->word[6];
	other |= (last ^ k->word[6]) >> 32;
	other |= *(const volatile __u64 *)&m->seal ^ memo_seal(k, last);
	return other ? MEMO_MISS : (__u32)last;
}

static __always_inline __u32 wide_find(const struct memo_ask *a)
{
	struct memo_key k;
	__u32 found;

	memo_key(&k, a);
	found = memo_read(&k, 0);
	return found != MEMO_MISS ? found : memo_read(&k, 1);
}

/* As short_keep(). */
static __always_inline void wide_keep(const struct memo_ask *a, __u32 found)
{
	__u32 way = bpf_get_prandom_u32() & 1;
	struct dmm_memo_wide *m;
	struct memo_key k;

	memo_key(&k, a);
	m = memo_at(&k, way);
	if (m && *(volatile __u64 *)&m->word[0] == a->generation)
		m = memo_at(&k, way ^ 1);
	if (!m)
		return;
	k.word[6] |= found;
	*(volatile __u64 *)&m->seal = memo_seal(&k, found);
#pragma unroll
	for (int i = 0; i < 7; i++)
		*(volatile __u64 *)&m->word[i] = k.word[i];
}

/* ---- both ---- */

/* What was found (DMM_MEMO_*), or MEMO_MISS. */
__noinline __u32 memo_find(const struct selector *s, __u64 generation, __u32 fields)
{
	struct memo_ask a;

	if (!s || !memo_ask(&a, s, generation, fields))
		return MEMO_MISS;
	return memo_is_short(&a) ? short_find(short_who(&a), generation) : wide_find(&a);
}

__noinline int memo_keep(const struct selector *s, __u64 generation, __u32 fields, __u32 found)
{
	struct memo_ask a;

	if (!s || !memo_ask(&a, s, generation, fields))
		return 0;
	if (memo_is_short(&a))
		short_keep(short_who(&a), generation, found);
	else
		wide_keep(&a, found);
	return 0;
}

#endif
