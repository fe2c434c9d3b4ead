/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What sockets got before (struct dmm_memo): applications connect to the same places again and
 * again, and an entry is one cache line where the search reads twenty, and the rule and its stacks
 * some more.
 */
#ifndef DMM_MEMO_BPF_H
#define DMM_MEMO_BPF_H

#include "bpf/dmm_class.bpf.h"

#define MEMO_MISS 0xffffffff
#define MEMO_PRIME 0x9e3779b97f4a7c15ULL

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

/* False: such sockets are not remembered: where a rule asks for the local end, it is not in the
 * key. */
static __always_inline bool memo_key(struct memo_key *k, const struct selector *s, __u64 generation,
				     __u32 fields)
{
	const __u32 *remote = (const __u32 *)s->remote.ip; /* 4-byte aligned only */

	bool local = fields & (1 << DMM_FIELD_LOCAL | 1 << DMM_FIELD_LOCAL_PORT);

	if (s->role != DMM_ROLE_CLIENT || (local && (s->local.port || !ip_is_any(s->local.ip))))
		return false;
	k->word[0] = generation;
	k->word[1] = (__u64)remote[0] << 32 | remote[1];
	k->word[2] = (__u64)remote[2] << 32 | remote[3];
	k->word[3] = (__u64)s->remote.port << 32 | (__u32)s->group << 16 | (__u32)s->proto << 8 |
		     (local && ip_is_v4(s->local.ip));
	k->word[4] = k->word[5] = k->word[6] = 0;
	if (fields & (1 << DMM_FIELD_UID | 1 << DMM_FIELD_PROGRAM))
		memo_process(k);
	k->hash = MEMO_PRIME;
#pragma unroll
	for (int i = 0; i < 7; i++) {
		k->hash = (k->hash ^ k->word[i]) * MEMO_PRIME;
		k->hash ^= k->hash >> 32;
	}
	return true;
}

/* Two entries next to each other can hold it. */
static __always_inline struct dmm_memo *memo_at(const struct memo_key *k, __u32 way)
{
	__u32 index = k->hash >> (64 - DMM_MEMO_BITS) ^ way;

	return bpf_map_lookup_elem(&dmm_memo, &index);
}

static __always_inline __u64 memo_seal(const struct memo_key *k, __u32 found)
{
	return (k->hash ^ found) * MEMO_PRIME;
}

static __always_inline __u32 memo_read(const struct memo_key *k, __u32 way)
{
	const struct dmm_memo *m = memo_at(k, way);
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

/* What was found (DMM_MEMO_*), or MEMO_MISS. */
__noinline __u32 memo_find(const struct selector *s, __u64 generation, __u32 fields)
{
	struct memo_key k;
	__u32 found;

	if (!s || !memo_key(&k, s, generation, fields))
		return MEMO_MISS;
	found = memo_read(&k, 0);
	return found != MEMO_MISS ? found : memo_read(&k, 1);
}

/* Where nothing of this generation is, or else by chance: who comes in turns again and again is
 * found more often so than if the older one went. */
__noinline int memo_keep(const struct selector *s, __u64 generation, __u32 fields, __u32 found)
{
	__u32 way = bpf_get_prandom_u32() & 1;
	struct memo_key k;
	struct dmm_memo *m;

	if (!s || !memo_key(&k, s, generation, fields))
		return 0;
	m = memo_at(&k, way);
	if (m && *(volatile __u64 *)&m->word[0] == generation)
		m = memo_at(&k, way ^ 1);
	if (!m)
		return 0;
	k.word[6] |= found;
	*(volatile __u64 *)&m->seal = memo_seal(&k, found);
#pragma unroll
	for (int i = 0; i < 7; i++)
		*(volatile __u64 *)&m->word[i] = k.word[i];
	return 0;
}

#endif
