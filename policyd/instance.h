/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dmm-stackd process as seen from outside: the command line that it is given, how a running one
 * is recognised by it, how all of a tree are stopped. A process is an instance of a tree when its
 * name is dmm-stackd, its command line has --bpffs with the path of the tree and a valid --id, and
 * root or the caller's own user runs it. Used by dmm-policyd and by `dmm-policy detach`.
 */
#ifndef DMM_POLICYD_INSTANCE_H
#define DMM_POLICYD_INSTANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bpf/dmm_abi.h"

#define INSTANCE_COMM "dmm-stackd"
#define INSTANCE_ARGS_LEN 4608

/* The arguments of an instance from "--name" on, each ended by NUL, as /proc/PID/cmdline has them.
 */
struct instance_args {
	char text[INSTANCE_ARGS_LEN];
	size_t len;
};

/* What stack `id` is started with. */
void instance_args_build(struct instance_args *ret, const struct dmm_stack_rec *rec, unsigned id,
			 const char *bpffs);
bool instance_args_equal(const struct instance_args *a, const struct instance_args *b);

/*
 * Start program with args: in a session of its own, standard error inherited, every other
 * descriptor closed, so that it outlives the caller. *ret_pidfd belongs to the caller.
 */
int instance_spawn(const char *program, const struct instance_args *args, pid_t *ret_pid,
		   int *ret_pidfd);

/* A running instance, found by instance_scan(). pidfd belongs to the callback. */
struct instance_found {
	unsigned id;
	pid_t pid;
	int pidfd;
	struct instance_args args;
};

/* Call cb for each instance of the tree. Returns how many, or -errno. */
int instance_scan(const char *bpffs, void (*cb)(const struct instance_found *f, void *ctx),
		  void *ctx);

/* SIGTERM to all instances of the tree, SIGKILL to those that live after timeout_ms. Returns how
 * many there were, or -errno; -ETIMEDOUT: one does not even die of SIGKILL. */
int instance_stop_all(const char *bpffs, unsigned timeout_ms);

/* CPU time of a process, user and system, and in ret_state, if that is not NULL, its state as in
 * proc(5). Both 0 if they cannot be read. */
uint64_t instance_cpu_ns(pid_t pid, char *ret_state);

#endif
