/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One snapshot of everything that is measured, gathered from the maps and from /proc. What reads it
 * (metrics, JSON, health, nRD) touches no map itself. About 1.2 MiB: allocate it.
 */
#ifndef DMM_POLICYD_TELEMETRY_H
#define DMM_POLICYD_TELEMETRY_H

#include "loader/maps.h"
#include "loader/measure.h"
#include "policyd/link.h"
#include "policyd/nrd/nrd.h"

struct supervisor;

enum telemetry_map {
	TELEMETRY_PENDING,
	TELEMETRY_TUPLE,
	TELEMETRY_LISTEN,
	TELEMETRY_ROUTE,
	TELEMETRY_RULE,
	TELEMETRY_STACK,
	TELEMETRY_GROUP,
	TELEMETRY_MAPS
};

#define TELEMETRY_PROGRAMS 48 /* more than a tree has */

struct telemetry_map_usage {
	const char *name;
	bool known;
	dmm_u32 used, max;
};

struct telemetry_stack {
	bool up;      /* takes new sockets: a kernel stack always does */
	bool running; /* userspace: has a process */
	struct dmm_stack_rt rt;
	dmm_u64 restarts, hangs;      /* since the daemon started */
	struct link_state link;	      /* userspace: of its interface */
	dmm_u64 heartbeat_age_ns;     /* of the instance that is up */
	char why[96];		      /* how its instance ended last, "" */
	dmm_u64 cpu_ns;		      /* of the process that runs now */
	dmm_u64 active;		      /* open sockets with this stack, listeners included */
	dmm_u64 ring[DMM_RING_COUNT]; /* of the instance that is up, as in dmm_instctr */
	dmm_u64 counter[DMM_I_COUNT], hold[DMM_H_COUNT], xdp[DMM_X_COUNT];
	dmm_u64 thread[DMM_MAX_THREADS][DMM_I_COUNT]; /* counter is their sum */
	struct dmm_measures measured;		      /* connections of rules that are measured */
};

struct telemetry {
	const struct dmm_class *class; /* of `generation`; not owned */
	dmm_u64 generation, committed_ns;
	dmm_u64 counter[DMM_C_COUNT];
	dmm_u64 verdict[DMM_MAX_STACKS * DMM_ROLES * DMM_REASON_SPACE];
	dmm_u64 hit[DMM_MAX_RULES + 1]; /* the last: the default */
	dmm_u64 fallback[DMM_FALLBACK_INDEX(DMM_MAX_STACKS + 1, 0, 0)];
	dmm_u64 steered[DMM_STEERED_INDEX(DMM_MAX_MEASURED + 1, 0)];
	struct telemetry_stack stack[DMM_MAX_STACKS];
	struct telemetry_map_usage map[TELEMETRY_MAPS];
	struct maps_program program[TELEMETRY_PROGRAMS];
	unsigned n_program;
	struct {
		dmm_u64 samples, missed; /* of connections, since the daemon started */
		double age_s;		 /* of the last one; negative: none yet */
		/* decisions by number of telemetry, of class; NULL: no daemon */
		const dmm_u32 (*decided)[NRD_ACTIONS];
		const dmm_u64 *sla_broken; /* the same; as nrd_sla_broken() */
	} nrd;
	bool pressure_known;
	dmm_u64 pressure_us[PRESSURES];
	struct {
		bool used, connected;
		dmm_u64 revision, refused, reports, advice, advice_refused;
	} etcd;
	struct {
		double cpu_s, start_s; /* start: seconds since 1970 */
		dmm_u64 rss_bytes, virtual_bytes, fds, max_fds;
	} self;
};

/* Fill ret. class: the one in force, of generation; sup may be NULL (no daemon). 0 or -errno. */
int telemetry_read(struct telemetry *ret, struct tree *t, const struct dmm_class *class,
		   dmm_u64 generation, const struct supervisor *sup);

#endif
