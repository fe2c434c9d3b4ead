/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contents of the tree's maps as plain structs. Writers hold tree_lock(). Functions return 0 or
 * -errno unless they say otherwise.
 */
#ifndef DMM_LOADER_MAPS_H
#define DMM_LOADER_MAPS_H

#include "bpf/dmm_flows.h"
#include "loader/tree.h"

/* One generation: exactly what the maps hold. All zero: no policy. About 25 KiB: allocate it. */
struct dmm_class {
	struct dmm_class_hdr hdr;  /* as in the image's first cells */
	struct dmm_cell *image;	   /* hdr.cells of them; owned; NULL: none */
	size_t room;		   /* cells that are allocated */
	struct dmm_rule_rec *rule; /* hdr.rules of them, in the image */
	struct dmm_stack_rec stack[DMM_MAX_STACKS];
	struct dmm_group_rec
		group[DMM_MAX_GROUPS]; /* [0] unused; cgroup_id, made: of the attachment */
};

/* Is there a rule at this place, or is it free? */
static inline bool class_live(const struct dmm_class *c, dmm_u32 rule)
{
	return rule < c->hdr.rules && c->rule[rule].n_use;
}

struct dmm_class *class_new(void); /* NULL: no memory */
void class_fini(struct dmm_class *c);
void class_free(struct dmm_class *c);

static inline void class_free_ptr(struct dmm_class **c)
{
	class_free(*c);
}
#define _cleanup_class_ __attribute__((cleanup(class_free_ptr)))

/*
 * Write c into the slot that is not in force and switch to it; attach groups that are new before
 * the switch, detach those that are gone after it. On any failure the generation in force stays
 * whole and newly attached groups are detached again. Waits one RCU grace period (about 13 ms) if
 * stacks changed or the image does not fit where the last but one was.
 */
int maps_commit(struct tree *t, const struct dmm_class *c, dmm_u64 *ret_generation);

/* Wait until every program that runs now has ended. */
int maps_wait_readers(struct tree *t);

/* Read the generation in force into ret, which is all zero or another class that it replaces.
 * -EPROTO: the image is none of this ABI. generation 0: an empty class with the kernel stack and no
 * groups.
 */
int maps_read(struct tree *t, struct dmm_class *ret, dmm_u64 *ret_generation);

/* The records of the rules in force that are off or captured; *ret is the caller's to free. */
int maps_rules_off(struct tree *t, struct dmm_rule_rec **ret, size_t *ret_n,
		   dmm_u64 *ret_generation);

/* The groups in force, by id. 0 or -errno. */
int maps_groups(struct tree *t, struct dmm_group_rec ret[DMM_MAX_GROUPS]);

/* One group as it is attached. -ENOENT: there is no group of this id. */
int maps_group(const struct tree *t, unsigned id, struct dmm_group_rec *ret);

/*
 * Call cb for each live socket of every namespace, until it returns non-zero, which is returned.
 * The flow is valid during the call.
 */
int maps_flows(struct tree *t, int (*cb)(const struct dmm_flow_row *f, void *ctx), void *ctx);

/* Does this kernel refuse iterators over maps (dmm_flows.bpf.c)? Then a socket that no process has
 * a descriptor of, as the subflow of an MPTCP socket, is neither told nor counted. */
bool maps_flows_by_files(const struct tree *t);

/* How many live sockets each of the DMM_MAX_STACKS stacks has. 0 or -errno. */
int maps_active(struct tree *t, dmm_u64 *ret);

/* The image of a generation is about to be written over: verdicts in dmm_plain that are of it get
 * the names of their rules. 0 or -errno. */
int maps_keep_rule_names(struct tree *t, dmm_u64 generation);

/* Do to the sockets with storage what the record in dmm_regroup_args says. 0 or -errno. */
int maps_regroup_flows(struct tree *t);

/* Sums over CPUs. ret has room for DMM_C_COUNT / DMM_MAX_STACKS * DMM_ROLES * DMM_REASON_SPACE
 * (index: DMM_VERDICT_INDEX) / DMM_MAX_RULES + 1 (the last: default) / DMM_H_COUNT / DMM_X_COUNT.
 */
int maps_counters(struct tree *t, dmm_u64 *ret);
int maps_verdicts(struct tree *t, dmm_u64 *ret);
int maps_hits(struct tree *t, dmm_u64 *ret); /* of the generation in force */
/* Of one stack that was wanted, DMM_FALLBACK_INDEX(0, stack, reason); of one measured rule, by
 * stack. */
int maps_fallbacks(struct tree *t, unsigned wanted, dmm_u64 *ret);
int maps_steered(struct tree *t, unsigned number, dmm_u64 *ret);
int maps_hold_counters(struct tree *t, unsigned stack, dmm_u64 *ret);
int maps_xdp_counters(struct tree *t, unsigned stack, dmm_u64 *ret);

/* Entries in use and room of a map. */
int maps_usage(struct tree *t, enum tree_map map, dmm_u32 *ret_used, dmm_u32 *ret_max);

/* What the kernel counts of the tree's programs while kernel.bpf_stats_enabled is set. */
struct maps_program {
	char name[16];
	dmm_u64 run_ns, runs;
};

/* Those that are pinned, at most max; how many, or -errno. */
int maps_programs(struct tree *t, struct maps_program *ret, unsigned max);

/* What an instance published about an address: enum dmm_route_type. */
enum dmm_route_type maps_route(const struct tree *t, unsigned stack, const dmm_u8 ip[16]);

/* True if the instance runs: up, heartbeat younger than DMM_HEARTBEAT_DEAD_NS. */
bool maps_stack_up(const struct tree *t, unsigned stack);

#endif
