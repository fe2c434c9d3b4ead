/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pin tree: every map, program and link of one DMM on a bpffs, by default /sys/fs/bpf/dmm.
 *
 *   <tree>/maps/<map>          shared maps
 *   <tree>/progs/<prog>        programs to attach to cgroups
 *   <tree>/links/<group>/<prog> what is attached to a group ("@instances": to the instances)
 *
 * The tree appears whole or not at all: it is built as <tree>-new-<pid> (bpffs allows no dot in a
 * name) and renamed. All functions return 0 or a negative errno and explain a failure on the log;
 * none blocks except for the lock.
 */
#ifndef DMM_LOADER_TREE_H
#define DMM_LOADER_TREE_H

#include <limits.h>
#include <stdbool.h>

#include "bpf/dmm_abi.h"
#include "bpf/dmm_counters.h"
#include "bpf/dmm_telemetry.h"

#define TREE_DEFAULT "/sys/fs/bpf/dmm"
#define TREE_ENV "DMM_BPFFS" /* environment: another tree, so that copies live side by side */

enum tree_map {
	TREE_META,
	TREE_IMAGE,
	TREE_STACK,
	TREE_GROUP,
	TREE_STACKRT,
	TREE_CGROUP,
	TREE_SOCK,
	TREE_PENDING,
	TREE_UDP,
	TREE_UDP_FREE,
	TREE_TUPLE,
	TREE_LISTEN,
	TREE_ROUTE,
	TREE_EVENTS,
	TREE_PAIR,
	TREE_PLAIN,
	TREE_REGROUP,
	TREE_MEMO,
	TREE_MEMO_WIDE,
	TREE_MONITOR,
	TREE_CHOICE,
	TREE_SAMPLES,
	TREE_MEASURED,
	TREE_MEASURES,
	TREE_COUNTERS,
	TREE_VERDICTS,
	TREE_HITS,
	TREE_INSTCTR,
	TREE_HOLDCTR,
	TREE_XDPCTR,
	TREE_CARRIED,
	TREE_FALLBACKS,
	TREE_STEERED,
	TREE_MAPS
};

struct tree {
	char path[PATH_MAX];
	int map[TREE_MAPS];		  /* fds */
	volatile struct dmm_meta *meta;	  /* mmapped */
	volatile struct dmm_stack_rt *rt; /* mmapped, DMM_MAX_STACKS; writable */
	volatile dmm_u64 *instctr;	  /* mmapped, from DMM_INSTANCE_ROW(0, 0) on; writable */
	volatile struct dmm_measures *carried; /* mmapped, DMM_MAX_STACKS; writable */
};

/* The path to use: path if not NULL, else $DMM_BPFFS, else TREE_DEFAULT. */
const char *tree_path(const char *path);

/*
 * tree_install() and tree_open() move the caller, which has to have one thread, to the mount
 * namespace of its nearest ancestor that sees the bpffs, if it does not itself: `ip netns exec`
 * hides it.
 *
 * Make the tree if it does not exist (mounting a bpffs on /sys/fs/bpf if there is none), or open
 * it. A tree with the same ABI but programs of another build gets these programs: links are updated
 * in place, sockets and maps stay. -EPROTO: the tree has another ABI.
 */
int tree_install(struct tree *ret, const char *path);

/* For tests: build trees as on kernels without iterators over maps (dmm_flows.bpf.c). */
extern bool tree_flows_by_files;

/* Open an existing tree. -ENOENT: none. -EPROTO: another ABI. */
int tree_open(struct tree *ret, const char *path);
void tree_close(struct tree *t);

/*
 * Remove everything: links, programs, maps, cgroup directories that were made, and XDP programs
 * that killed instances left in this network namespace. Sockets live on, unmanaged. Running
 * instances are the caller's to stop before (policyd/instance.h). -ENOENT: there was none.
 */
int tree_teardown(const char *path);

/* The fd of a pinned program, or -errno. */
int tree_prog(const struct tree *t, const char *name);

/* Open every map of an object's skeleton that the tree has; to be called before it is loaded. */
struct bpf_object;
int tree_reuse_maps(const struct tree *t, struct bpf_object *obj);

/* The directory of sockets, locks and pid files: $DMM_RUN, else /run/dmm. */
const char *tree_run_dir(void);

/* Take the writers' lock (flock on /run/dmm/<path>.lock). wait: sleep for it, else -EWOULDBLOCK.
 */
int tree_lock(const char *path, bool wait, int *ret_fd);

/* The same for the daemon, held for its life: -EWOULDBLOCK: another daemon runs on this tree. */
int tree_lock_daemon(const char *path, int *ret_fd);

#endif
