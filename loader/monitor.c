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
	*ret = (struct monitor){.tree = t,
				.ring = {.slot = p,
					 .size = sizeof(struct dmm_monitor_slot),
					 .slots = DMM_MONITOR_SLOTS,
					 .told = &t->meta->monitor_told,
					 .next = t->meta->monitor_told}};
	monitor_keep(ret);
	return 0;
}

void monitor_close(struct monitor *m)
{
	if (m->ring.slot)
		munmap((void *)m->ring.slot, SLOTS_LEN);
	m->ring.slot = NULL;
}

dmm_u64 monitor_keep(struct monitor *m)
{
	dmm_u64 now = now_ns(), until = m->kept_until_ns;

	m->kept_until_ns = now + DMM_MONITOR_NS;
	m->tree->meta->monitor_until_ns = m->kept_until_ns;
	return until && now > until ? now - until : 0;
}

bool monitor_next(struct monitor *m, struct dmm_sock *ret, dmm_u64 *ret_lost)
{
	struct dmm_monitor_slot slot;

	if (!ring_next(&m->ring, &slot, ret_lost))
		return false;
	*ret = slot.sock;
	return true;
}
