/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup v2 directories: find the mount, make, join, remove. 0 or -errno; failures are logged. */
#ifndef DMM_LOADER_CGROUP_H
#define DMM_LOADER_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Where cgroup2 is mounted, from /proc/self/mounts. -ENOENT: nowhere. */
int cgroup_mount(char *ret, size_t len);

/* Full path of `path` below the mount. */
int cgroup_path(const char *path, char *ret, size_t len);

/* Open the directory, making it and its parents if make. *ret_made (may be NULL): how many
 * directories, from the last one upward, were made now. */
int cgroup_open(const char *path, bool make, int *ret_fd, unsigned *ret_made);

/* How many directories of the path do not exist, from the last one upward. */
int cgroup_missing(const char *path, unsigned *ret);

/* Move pid (0: the caller) into it. */
int cgroup_join(const char *path, pid_t pid);

/* Remove the last `levels` directories of path, as cgroup_open() counted them. Members of the last
 * one are moved to the root first, and live on unmanaged. *ret_left: how many of them stay, because
 * other cgroups lie in them. */
int cgroup_remove(const char *path, unsigned levels, unsigned *ret_left);

#endif
