/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The slots of dmm_plain (struct dmm_plain in dmm_abi.h).
 *
 * Nobody gives a slot back. It is free for others when the socket is gone: until it is closed its
 * struct sock and its struct socket point at each other, and what was written over both cannot do
 * that. A struct sock that is another's now has another cookie.
 *
 * Who writes a slot makes the cookie DMM_PLAIN_BUSY first, by a compare-and-swap against the cookie
 * by which it knows that it may, and leaves its own at the end by an exchange. So who reads the
 * same cookie before and after has read what belongs to it. No cookie is ever used twice.
 */
#ifndef DMM_PLAIN_BPF_H
#define DMM_PLAIN_BPF_H

#include "bpf/dmm_maps.bpf.h"

#define PLAIN_NO_SLOT DMM_PLAIN_SLOTS

/* Is it still the socket with this cookie, and open? */
static __always_inline bool plain_lives(__u64 address, __u64 cookie)
{
	struct sock *sk = (struct sock *)address;

	return sk && BPF_CORE_READ(sk, sk_socket, sk) == sk &&
	       BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) == cookie;
}

static __always_inline __u64 plain_cookie(const struct dmm_plain *p)
{
	return *(const volatile __u64 *)&p->cookie;
}

/* What is read before this was there before what is read after it, on every machine: an exchange
 * that changes nothing is the barrier that there is. */
static __always_inline void plain_ordered(struct dmm_plain *p)
{
	__sync_val_compare_and_swap(&p->cookie, 0, 0);
}

/* Near slots first, and never out of the home's group of DMM_PLAIN_WAYS. */
static __always_inline struct dmm_plain *plain_way(__u64 sk, __u32 way, __u32 *ret_index)
{
	*ret_index = ((sk >> 6) * 0x9e3779b97f4a7c15 >> (64 - DMM_PLAIN_BITS)) ^ way;
	return bpf_map_lookup_elem(&dmm_plain, ret_index);
}

/* The slot of the socket with this cookie, or NULL. */
static __always_inline struct dmm_plain *plain_find(__u64 sk, __u64 cookie)
{
	struct dmm_plain *p;
	__u32 at;

	for (__u32 way = 0; way < DMM_PLAIN_WAYS; way++) {
		p = plain_way(sk, way, &at);
		if (p && plain_cookie(p) == cookie)
			return p;
	}
	return NULL;
}

#endif
