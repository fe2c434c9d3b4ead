// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/base/util.h"
#include "loader/monitor.h"

#define SLOTS_LEN (DMM_MONITOR_SLOTS * sizeof(struct dmm_monitor_slot))

int monitor_open(struct monitor *ret, struct tree *t)
{
	void *p = mmap(NULL, SLOTS_LEN, PROT_READ, MAP_SHARED, t->map[TREE_MONITOR], 0);

	if (p == MAP_FAILED)
		return -errno;
	*ret = (struct monitor){.tree = t, .slot = p, .next = t->meta->monitor_told};
	monitor_keep(ret);
	return 0;
}

void monitor_close(struct monitor *m)
{
	if (m->slot)
		munmap((void *)m->slot, SLOTS_LEN);
	m->slot = NULL;
}

dmm_u64 monitor_keep(struct monitor *m)
{
	dmm_u64 now = now_ns(), until = m->kept_until_ns;

	m->kept_until_ns = now + DMM_MONITOR_NS;
	m->tree->meta->monitor_until_ns = m->kept_until_ns;
	return until && now > until ? now - until : 0;
}

/* Has whoever began verdict `next` had all the time that it can need? */
static bool monitor_gives_up(struct monitor *m)
{
	dmm_u64 now = now_ns();

	if (!m->missing_since_ns)
		m->missing_since_ns = now;
	return now - m->missing_since_ns > MONITOR_WAIT_NS;
}

bool monitor_next(struct monitor *m, struct dmm_sock *ret, dmm_u64 *ret_lost)
{
	for (;;) {
		volatile struct dmm_monitor_slot *slot = &m->slot[m->next % DMM_MONITOR_SLOTS];
		dmm_u64 told = __atomic_load_n(&m->tree->meta->monitor_told, __ATOMIC_ACQUIRE);
		dmm_u64 seq = __atomic_load_n(&slot->seq, __ATOMIC_ACQUIRE);

		if (told - m->next > DMM_MONITOR_SLOTS) {
			*ret_lost += told - DMM_MONITOR_SLOTS - m->next;
			m->next = told - DMM_MONITOR_SLOTS;
			m->missing_since_ns = 0;
			continue;
		}
		if (m->next == told)
			return false;
		if (seq < m->next + 1 && !monitor_gives_up(m))
			return false; /* not all of it is there yet */
		m->missing_since_ns = 0;
		memcpy(ret, (const void *)&slot->sock, sizeof(*ret));
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		m->next++;
		if (seq == m->next && slot->seq == seq)
			return true;
		(*ret_lost)++; /* it was written again meanwhile */
	}
}
