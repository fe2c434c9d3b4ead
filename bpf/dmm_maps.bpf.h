/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The shared maps. Every object that includes this gets those that it uses; the loader pins them by
 * name, so that all objects mean the same map. Records and keys are explained in dmm_abi.h.
 */
#ifndef DMM_MAPS_BPF_H
#define DMM_MAPS_BPF_H

#include "bpf/dmm_abi.h"
#include "bpf/dmm_counters.h"
#include "bpf/dmm_kernel.bpf.h"
#include "bpf/dmm_telemetry.h"

#define DMM_ARRAY(name, value_type, entries, flags) \
	struct { \
		__uint(type, BPF_MAP_TYPE_ARRAY); \
		__uint(max_entries, entries); \
		__uint(map_flags, flags); \
		__type(key, __u32); \
		__type(value, value_type); \
	} name SEC(".maps")

#define DMM_PERCPU(name, entries) \
	struct { \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
		__uint(max_entries, entries); \
		__type(key, __u32); \
		__type(value, __u64); \
	} name SEC(".maps")

#define DMM_HASH(name, key_type, value_type, entries) \
	struct { \
		__uint(type, BPF_MAP_TYPE_HASH); \
		__uint(max_entries, entries); \
		__type(key, key_type); \
		__type(value, value_type); \
	} name SEC(".maps")

DMM_ARRAY(dmm_meta, struct dmm_meta, 1, BPF_F_MMAPABLE);
DMM_ARRAY(dmm_stack, struct dmm_stack_rec, 2 * DMM_MAX_STACKS, 0);
DMM_ARRAY(dmm_group, struct dmm_group_rec, DMM_MAX_GROUPS, 0);
DMM_ARRAY(dmm_stackrt, struct dmm_stack_rt, DMM_MAX_STACKS, BPF_F_MMAPABLE);
DMM_ARRAY(dmm_instctr, __u64, DMM_INSTANCE_ROW(DMM_MAX_STACKS, 0), BPF_F_MMAPABLE);

DMM_ARRAY(dmm_plain, struct dmm_plain, DMM_PLAIN_SLOTS, 0);

DMM_ARRAY(dmm_memo, struct dmm_memo, 1 << DMM_MEMO_LINES_BITS, 0);
DMM_ARRAY(dmm_memo_wide, struct dmm_memo_wide, 1 << DMM_MEMO_WIDE_BITS, 0);

DMM_ARRAY(dmm_monitor, struct dmm_monitor_slot, DMM_MONITOR_SLOTS, BPF_F_MMAPABLE);

DMM_PERCPU(dmm_counters, DMM_C_COUNT);
DMM_PERCPU(dmm_verdicts, DMM_MAX_STACKS *DMM_ROLES *DMM_REASON_SPACE);
DMM_PERCPU(dmm_fallbacks, DMM_FALLBACK_INDEX(DMM_MAX_STACKS + 1, 0, 0));
DMM_PERCPU(dmm_steered, DMM_STEERED_INDEX(DMM_MAX_MEASURED + 1, 0));
DMM_PERCPU(dmm_hits, DMM_MAX_RULES + 1); /* the last: the default */
DMM_PERCPU(dmm_holdctr, DMM_MAX_STACKS *DMM_HOLD_SPACE);
DMM_PERCPU(dmm_xdpctr, DMM_MAX_STACKS *DMM_XDP_SPACE);

DMM_ARRAY(dmm_carried, struct dmm_measures, DMM_MAX_STACKS, BPF_F_MMAPABLE);

DMM_ARRAY(dmm_samples, struct dmm_sample, DMM_SAMPLE_SLOTS + 1, BPF_F_MMAPABLE);

DMM_HASH(dmm_pending, __u64, struct dmm_flow, DMM_MAX_PENDING);
DMM_HASH(dmm_udp, struct dmm_udp_key, struct dmm_flow, DMM_MAX_PENDING);
DMM_ARRAY(dmm_udp_free, struct dmm_udp_free, DMM_MAX_STACKS, BPF_F_MMAPABLE);
DMM_HASH(dmm_tuple, struct dmm_tuple, __u64, DMM_MAX_PENDING);
DMM_HASH(dmm_listen, __u64, struct dmm_listener, DMM_MAX_LISTENS);
DMM_HASH(dmm_pair, __u64, struct dmm_pair, DMM_MAX_PAIRS);

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, DMM_MAX_ROUTES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct dmm_route_key);
	__type(value, struct dmm_route);
} dmm_route SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
	__type(key, __u64);
	__type(value, struct dmm_cgroup_val);
} dmm_cgroup SEC(".maps");

/* Cloned to accepted sockets: they start with the verdict of their listener. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct dmm_sock);
} dmm_sock SEC(".maps");

/* Not preallocated: an entry that is replaced stays whole for who reads it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DMM_MAX_CHOICES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct dmm_choice_key);
	__type(value, struct dmm_choice);
} dmm_choice SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct dmm_measured);
} dmm_measured SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DMM_MAX_STACKS);
	__type(key, __u32);
	__type(value, struct dmm_measures);
} dmm_measures SEC(".maps");

/* Only the flags and the size of a cell count; each image has the length that it needs. */
struct dmm_image_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct dmm_cell));
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct dmm_image_map);
} dmm_image SEC(".maps");

struct dmm_event_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, DMM_EVENT_RING);
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, DMM_EVENTS_INDEX(DMM_MAX_STACKS, 1));
	__type(key, __u32);
	__array(values, struct dmm_event_ring);
} dmm_events SEC(".maps");

static __always_inline void percpu_add(void *map, __u32 index, __u64 n)
{
	__u64 *v = bpf_map_lookup_elem(map, &index);

	if (v)
		__sync_fetch_and_add(v, n); /* a softirq may interrupt a system call here */
}

static __always_inline void count(enum dmm_counter c)
{
	percpu_add(&dmm_counters, c, 1);
}

static __always_inline void count_verdict(__u32 stack, __u32 role, __u32 reason)
{
	percpu_add(&dmm_verdicts, DMM_VERDICT_INDEX(stack, role, reason), 1);
}

/* Does nothing for a socket that got what was named first, or that a rule rejects. */
static __always_inline void count_fallback(__u32 wanted, __u32 stack, __u32 reason)
{
	if (reason == DMM_REASON_RULE || reason == DMM_REASON_DEFAULT || reason == DMM_REASON_NRD ||
	    reason == DMM_REASON_REJECTED)
		return;
	if (wanted > DMM_MAX_STACKS)
		wanted = DMM_MAX_STACKS;
	percpu_add(&dmm_fallbacks, DMM_FALLBACK_INDEX(wanted, stack, reason), 1);
}

static __always_inline bool ip_same(const __u8 *a, const __u8 *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

static __always_inline bool addr_same(const struct dmm_addr *a, const struct dmm_addr *b)
{
	return ip_same(a->ip, b->ip) && a->port == b->port;
}

/* v4-mapped form of an IPv4 address. */
static __always_inline void addr_set_v4(struct dmm_addr *a, __be32 ip, __u16 port)
{
	__u32 *w = (__u32 *)a->ip;

	w[0] = 0;
	w[1] = 0;
	w[2] = bpf_htonl(0xffff);
	w[3] = ip;
	a->port = port;
	a->pad = 0;
}

static __always_inline void addr_set_v6(struct dmm_addr *a, __u32 w0, __u32 w1, __u32 w2, __u32 w3,
					__u16 port)
{
	__u32 *w = (__u32 *)a->ip;

	w[0] = w0;
	w[1] = w1;
	w[2] = w2;
	w[3] = w3;
	a->port = port;
	a->pad = 0;
}

static __always_inline bool ip_is_v4(const __u8 *ip)
{
	const __u32 *w = (const __u32 *)ip;

	return w[0] == 0 && w[1] == 0 && w[2] == bpf_htonl(0xffff);
}

static __always_inline bool ip_is_any(const __u8 *ip)
{
	const __u32 *w = (const __u32 *)ip;

	return w[0] == 0 && w[1] == 0 && (w[2] == 0 || w[2] == bpf_htonl(0xffff)) && w[3] == 0;
}

#endif
