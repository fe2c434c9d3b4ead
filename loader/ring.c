// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "lib/base/util.h"
#include "loader/ring.h"

/* Has whoever began the record had all the time that it can need? */
static bool gives_up(struct ring *r)
{
	dmm_u64 now = now_ns();

	if (!r->missing_since_ns)
		r->missing_since_ns = now;
	return now - r->missing_since_ns > RING_WAIT_NS;
}

bool ring_next(struct ring *r, void *ret, dmm_u64 *ret_lost)
{
	for (;;) {
		const volatile char *slot = r->slot + r->next % r->slots * r->size;
		const volatile dmm_u64 *at = (const volatile dmm_u64 *)slot;
		dmm_u64 told = __atomic_load_n(r->told, __ATOMIC_ACQUIRE);
		dmm_u64 seq = __atomic_load_n(at, __ATOMIC_ACQUIRE);

		if (told - r->next > r->slots) {
			*ret_lost += told - r->slots - r->next;
			r->next = told - r->slots;
			r->missing_since_ns = 0;
			continue;
		}
		if (r->next == told)
			return false;
		if (seq < r->next + 1 && !gives_up(r))
			return false; /* not all of it is there yet */
		r->missing_since_ns = 0;
		memcpy(ret, (const void *)slot, r->size);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		r->next++;
		if (seq == r->next && *at == seq)
			return true;
		(*ret_lost)++; /* it was written again meanwhile */
	}
}
