// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "lib/base/util.h"
#include "loader/measure.h"

/* ---- samples ---- */

#define SLOTS_LEN ((DMM_SAMPLE_SLOTS + 1) * sizeof(struct dmm_sample))

int samples_open(struct samples *ret, const struct tree *t)
{
	void *p =
		mmap(NULL, SLOTS_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, t->map[TREE_SAMPLES], 0);

	if (p == MAP_FAILED)
		return -errno;
	ret->slot = p;
	ret->ring = (struct ring){.slot = p,
				  .size = sizeof(struct dmm_sample),
				  .slots = DMM_SAMPLE_SLOTS,
				  .told = &ret->slot[DMM_SAMPLE_SLOTS].seq};
	ret->ring.next = *ret->ring.told;
	return 0;
}

void samples_close(struct samples *s)
{
	if (s->slot)
		munmap(s->slot, SLOTS_LEN);
	s->slot = NULL;
}

bool samples_next(struct samples *s, struct dmm_sample *ret, dmm_u64 *ret_lost)
{
	return ring_next(&s->ring, ret, ret_lost);
}

void samples_put(struct samples *s, const struct dmm_sample *sample)
{
	dmm_u64 n = __sync_fetch_and_add(&s->slot[DMM_SAMPLE_SLOTS].seq, 1);

	(void)dmm_sample_put(&s->slot[n % DMM_SAMPLE_SLOTS], n, sample);
}

/* ---- measures ---- */

int measures_read(const struct tree *t, unsigned stack, struct dmm_measures *ret)
{
	enum { WORDS = sizeof(struct dmm_measures) / sizeof(dmm_u64) };
	int cpus = libbpf_num_possible_cpus();
	_cleanup_free_ dmm_u64 *v = calloc((size_t)MAX(cpus, 1), sizeof(struct dmm_measures));
	const volatile dmm_u64 *carried = (const volatile dmm_u64 *)&t->carried[stack];
	dmm_u64 *sum = (dmm_u64 *)ret;
	dmm_u32 key = stack;

	if (cpus < 0 || !v)
		return -ENOMEM;
	if (bpf_map_lookup_elem(t->map[TREE_MEASURES], &key, v) < 0)
		return -errno;
	for (unsigned i = 0; i < WORDS; i++) {
		sum[i] = carried[i];
		for (int c = 0; c < cpus; c++)
			sum[i] += v[(unsigned)c * WORDS + i];
	}
	return 0;
}

/* ---- choices ---- */

int choice_put(const struct tree *t, const struct dmm_choice_key *key, const struct dmm_choice *c)
{
	return bpf_map_update_elem(t->map[TREE_CHOICE], key, c, BPF_ANY) < 0 ? -errno : 0;
}

bool choice_get(const struct tree *t, const struct dmm_choice_key *key, struct dmm_choice *ret)
{
	return bpf_map_lookup_elem(t->map[TREE_CHOICE], key, ret) == 0;
}

int choice_del(const struct tree *t, const struct dmm_choice_key *key)
{
	return bpf_map_delete_elem(t->map[TREE_CHOICE], key) < 0 ? -errno : 0;
}

void choice_key(unsigned measure, const dmm_u8 *ip, struct dmm_choice_key *ret)
{
	static const dmm_u8 v4[12] = {[10] = 0xff, [11] = 0xff};

	memset(ret, 0, sizeof(*ret));
	ret->measure = (dmm_u16)DMM_MEASURE_NUMBER(measure);
	if (!ip)
		return;
	ret->plen = memcmp(ip, v4, sizeof(v4)) == 0 ? DMM_CHOICE_PLEN4 : DMM_CHOICE_PLEN6;
	memcpy(ret->ip, ip, ret->plen / 8);
}

static bool in_force(const struct tree *t, const struct dmm_choice_key *key, const dmm_u8 *use,
		     struct dmm_choice *ret)
{
	return choice_get(t, key, ret) && memcmp(ret->use, use, sizeof(ret->use)) == 0;
}

bool choice_find(const struct tree *t, unsigned measure, const dmm_u8 *ip,
		 const dmm_u8 use[DMM_MAX_USE], struct dmm_choice *ret)
{
	struct dmm_choice_key key;

	choice_key(measure, ip, &key);
	if (in_force(t, &key, use, ret))
		return true;
	choice_key(measure, NULL, &key);
	return in_force(t, &key, use, ret);
}

bool choice_next(const struct tree *t, const struct dmm_choice_key *key, struct dmm_choice_key *ret)
{
	return bpf_map_get_next_key(t->map[TREE_CHOICE], key, ret) == 0;
}
