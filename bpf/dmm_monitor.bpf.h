/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Verdicts for who listens, loader/monitor.c. While nobody does, a verdict costs one load more.
 *
 *	slot = monitor_begin(&seq);
 *	if (slot) {
 *		fill slot->sock
 *		monitor_end(slot, seq);
 *	}
 */
#ifndef DMM_MONITOR_BPF_H
#define DMM_MONITOR_BPF_H

#include "bpf/dmm_maps.bpf.h"

static __always_inline struct dmm_monitor_slot *monitor_begin(__u64 *ret_seq)
{
	struct dmm_monitor_slot *slot;
	struct dmm_meta *meta;
	__u64 told, until;
	__u32 key = 0;

	meta = bpf_map_lookup_elem(&dmm_meta, &key);
	if (!meta)
		return NULL;
	until = *(volatile __u64 *)&meta->monitor_until_ns;
	if (!until || until < bpf_ktime_get_coarse_ns())
		return NULL;
	told = __sync_fetch_and_add(&meta->monitor_told, 1);
	key = told % DMM_MONITOR_SLOTS;
	slot = bpf_map_lookup_elem(&dmm_monitor, &key);
	if (!slot)
		return NULL;
	/* exchanges and not stores: they are barriers, too */
	if (__sync_lock_test_and_set(&slot->seq, 0) == 0 && told >= DMM_MONITOR_SLOTS)
		return NULL; /* somebody is still writing in it: this verdict is lost */
	*ret_seq = told + 1;
	return slot;
}

static __always_inline void monitor_end(struct dmm_monitor_slot *slot, __u64 seq)
{
	__sync_lock_test_and_set(&slot->seq, seq);
}

/* The verdict as it lies in the socket's storage. */
static __always_inline void monitor_tell(const struct dmm_sock *st)
{
	struct dmm_monitor_slot *slot;
	__u64 seq;

	slot = monitor_begin(&seq);
	if (!slot)
		return;
	__builtin_memcpy(&slot->sock, st, sizeof(slot->sock));
	slot->sock.kernel_sk = 0;
	monitor_end(slot, seq);
}

#endif
