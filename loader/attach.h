/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attach the tree's programs to a cgroup through pinned bpf_links. Holding tree_lock() is the
 * caller's duty. 0 or -errno; failures are logged; a failed attach leaves nothing attached.
 */
#ifndef DMM_LOADER_ATTACH_H
#define DMM_LOADER_ATTACH_H

#include "loader/tree.h"

/* The instances' own cgroup is dmm_group[0]: this name, and "<last part of the tree's
 * path>/instances". */
#define ATTACH_INSTANCES "@instances"

/* May a group have this cgroup? -EINVAL: it overlaps the instances'. */
int attach_allowed(const struct tree *t, const struct dmm_group_rec *rec);

/* Attach what it needs (loader/needs.h) to rec->cgroup, made if it does not exist; fills
 * rec->cgroup_id and rec->made. Its sockets are managed from the generation on that has it. */
int attach_group(struct tree *t, unsigned id, struct dmm_group_rec *rec, dmm_u8 needs);

/* Attach to the cgroup of a group what it needs and has not got; to be called before the policy
 * that needs it is in force. */
int attach_more(struct tree *t, const struct dmm_group_rec *rec, dmm_u8 needs);

/* Detach from all groups what the policy in force does not need any more, but for those that have
 * listeners or flows of another policy. Waits an RCU grace period if there is anything to detach.
 */
void attach_trim(struct tree *t, const dmm_u8 needs[DMM_MAX_GROUPS]);

/* Is anything of the group attached? Not, if what detached it was cut off. */
bool attach_has_links(const struct tree *t, const struct dmm_group_rec *rec);

/* Until it is attached anew or renamed, its sockets are no group's. */
void attach_suspend(struct tree *t, const struct dmm_group_rec *rec);

/* Undo attach_group(), and remove the directories that it made; members go on unmanaged. What the
 * maps hold of its listeners and connects goes too: nobody would withdraw it any more. */
int attach_detach(struct tree *t, const struct dmm_group_rec *rec);

/* Remove the programs that detached groups left to their flows, when the last of these has ended.
 * Who attaches and detaches does it too; to be called now and then while attach_has_left(), which
 * needs no lock. */
void attach_sweep(struct tree *t);
bool attach_has_left(const struct tree *t);

/* The group `from` becomes `to`, with the same cgroup: attachments and members stay. */
int attach_rename(struct tree *t, unsigned from, unsigned to, struct dmm_group_rec *rec);

/* Switch a group off, or on again: new sockets of it stay on the kernel stack, whatever the policy
 * says. Lasts until it is switched on or detached. -ENOENT: it is not attached. */
int attach_group_switch(struct tree *t, unsigned id, bool off);
bool attach_group_off(const struct tree *t, const struct dmm_group_rec *rec);

/* Put the calling process into the cgroup of the instances, with the few programs that these need.
 */
int attach_instance_self(struct tree *t);

#endif
