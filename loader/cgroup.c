// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/cgroup.h"

#define DYING_TRIES 200
#define DYING_WAIT_US 10000

int cgroup_mount(char *ret, size_t len)
{
	FILE *f = setmntent("/proc/self/mounts", "r");
	struct mntent *m;
	int r = -ENOENT;

	if (!f)
		return -errno;
	while ((m = getmntent(f))) {
		if (strcmp(m->mnt_type, "cgroup2") != 0)
			continue;
		r = (size_t)snprintf(ret, len, "%s", m->mnt_dir) < len ? 0 : -ENAMETOOLONG;
		break;
	}
	endmntent(f);
	if (r == -ENOENT)
		log_err("no cgroup2 file system is mounted; try: mount -t cgroup2 none "
			"/sys/fs/cgroup");
	return r;
}

int cgroup_path(const char *path, char *ret, size_t len)
{
	char mount[PATH_MAX];
	int r = cgroup_mount(mount, sizeof(mount));

	if (r < 0)
		return r;
	while (*path == '/')
		path++;
	return (size_t)snprintf(ret, len, "%s/%s", mount, path) < len ? 0 : -ENAMETOOLONG;
}

/* mkdir -p of everything below the mount. */
static int make_parents(char *full, size_t keep, unsigned *ret_made)
{
	for (char *p = full + keep + 1;; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(full, 0755) == 0)
			(*ret_made)++;
		else if (errno != EEXIST)
			return -errno;
		*p = c;
		if (c == '\0')
			return 0;
	}
}

int cgroup_missing(const char *path, unsigned *ret)
{
	char full[PATH_MAX], mount[PATH_MAX];
	int r = cgroup_path(path, full, sizeof(full));

	*ret = 0;
	if (r == 0)
		r = cgroup_mount(mount, sizeof(mount));
	if (r < 0)
		return r;
	for (; strlen(full) > strlen(mount) && access(full, F_OK) < 0; (*ret)++)
		*strrchr(full, '/') = '\0';
	return 0;
}

int cgroup_open(const char *path, bool make, int *ret_fd, unsigned *ret_made)
{
	char full[PATH_MAX], mount[PATH_MAX];
	unsigned made = 0;
	int fd, r;

	r = cgroup_path(path, full, sizeof(full));
	if (r < 0)
		return r;
	if (make) {
		r = cgroup_mount(mount, sizeof(mount));
		if (r == 0)
			r = make_parents(full, strlen(mount), &made);
		if (r < 0) {
			log_err("cannot make cgroup %s: %s", full, strerror(-r));
			return r;
		}
	}
	fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		r = -errno;
		log_err("cannot open cgroup %s: %s", full, strerror(-r));
		return r;
	}
	if (ret_made)
		*ret_made = made;
	*ret_fd = fd;
	return 0;
}

static int write_pid(const char *full, pid_t pid)
{
	char file[PATH_MAX + 16];
	int fd, r = 0;

	snprintf(file, sizeof(file), "%s/cgroup.procs", full);
	fd = open(file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (dprintf(fd, "%d\n", (int)pid) < 0)
		r = -errno;
	close(fd);
	return r;
}

int cgroup_join(const char *path, pid_t pid)
{
	char full[PATH_MAX];
	int r = cgroup_path(path, full, sizeof(full));

	if (r < 0)
		return r;
	r = write_pid(full, pid ? pid : getpid());
	if (r < 0)
		log_err("cannot join cgroup %s: %s%s", full, strerror(-r),
			r == -EACCES || r == -EPERM ? "; run as root or delegate the cgroup" : "");
	return r;
}

/* Members of a cgroup that goes are moved up, so that their sockets and they live on. */
static void move_members(const char *from, const char *to)
{
	char file[PATH_MAX + 16];
	FILE *f;
	int pid;

	snprintf(file, sizeof(file), "%s/cgroup.procs", from);
	for (int round = 0; round < 8; round++) {
		int n = 0;

		f = fopen(file, "re");
		if (!f)
			return;
		while (fscanf(f, "%d", &pid) == 1) {
			n++;
			write_pid(to, pid);
		}
		fclose(f);
		if (n == 0)
			return;
	}
}

static bool populated(const char *cgroup)
{
	char file[PATH_MAX + 16], line[64];
	bool yes = false;
	FILE *f;

	snprintf(file, sizeof(file), "%s/cgroup.events", cgroup);
	f = fopen(file, "re");
	while (f && fgets(line, sizeof(line), f))
		if (strcmp(line, "populated 1\n") == 0)
			yes = true;
	if (f)
		fclose(f);
	return yes;
}

/* A process that is being killed is no member that could be moved, and holds the cgroup. */
static void wait_for_the_dying(const char *cgroup)
{
	struct stat st;

	/* two links: no cgroup below it, whose members would be waited for in vain */
	if (stat(cgroup, &st) < 0 || st.st_nlink > 2)
		return;
	for (int i = 0; i < DYING_TRIES && populated(cgroup); i++)
		usleep(DYING_WAIT_US);
}

int cgroup_remove(const char *path, unsigned levels, unsigned *ret_left)
{
	char full[PATH_MAX], mount[PATH_MAX];
	bool leaf = true;
	int r;

	*ret_left = 0;
	r = cgroup_path(path, full, sizeof(full));
	if (r == 0)
		r = cgroup_mount(mount, sizeof(mount));
	if (r < 0)
		return r;
	if (levels > 0) {
		move_members(full, mount);
		wait_for_the_dying(full);
	}
	for (; levels > 0; levels--) {
		if (rmdir(full) < 0 && errno != ENOENT) {
			if (!leaf && errno == EBUSY) {
				*ret_left = levels;
				return 0;
			}
			r = -errno;
			log_warn("cannot remove cgroup %s: %s", full, strerror(-r));
			return r;
		}
		leaf = false;
		*strrchr(full, '/') = '\0';
	}
	return 0;
}
