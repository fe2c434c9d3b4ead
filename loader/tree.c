// SPDX-License-Identifier: Apache-2.0
/*
 * The pin tree. Built aside and renamed, so that a reader sees all of it or nothing. What must stay
 * true: only this file makes or removes files of the tree, but for links (attach.c).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "dmm_build_id.h"
#include "dmm_flows.skel.h"
#include "dmm_measure.skel.h"
#include "dmm_sock.skel.h"
#include "dmm_splice.skel.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/attach.h"
#include "loader/maps.h"
#include "loader/probe.h"
#include "loader/tree.h"
#include "loader/xdp.h"

static const char *const map_names[TREE_MAPS] = {
	[TREE_META] = "dmm_meta",	  [TREE_IMAGE] = "dmm_image",
	[TREE_STACK] = "dmm_stack",	  [TREE_GROUP] = "dmm_group",
	[TREE_STACKRT] = "dmm_stackrt",	  [TREE_CGROUP] = "dmm_cgroup",
	[TREE_SOCK] = "dmm_sock",	  [TREE_PENDING] = "dmm_pending",
	[TREE_TUPLE] = "dmm_tuple",	  [TREE_LISTEN] = "dmm_listen",
	[TREE_ROUTE] = "dmm_route",	  [TREE_EVENTS] = "dmm_events",
	[TREE_PAIR] = "dmm_pair",	  [TREE_PLAIN] = "dmm_plain",
	[TREE_MEMO] = "dmm_memo",	  [TREE_REGROUP] = "dmm_regroup_args",
	[TREE_MONITOR] = "dmm_monitor",	  [TREE_COUNTERS] = "dmm_counters",
	[TREE_HITS] = "dmm_hits",	  [TREE_VERDICTS] = "dmm_verdicts",
	[TREE_INSTCTR] = "dmm_instctr",	  [TREE_HOLDCTR] = "dmm_holdctr",
	[TREE_CHOICE] = "dmm_choice",	  [TREE_SAMPLES] = "dmm_samples",
	[TREE_MEASURED] = "dmm_measured", [TREE_MEASURES] = "dmm_measures",
	[TREE_XDPCTR] = "dmm_xdpctr",	  [TREE_MEMO_WIDE] = "dmm_memo_wide",
	[TREE_CARRIED] = "dmm_carried",	  [TREE_FALLBACKS] = "dmm_fallbacks",
	[TREE_STEERED] = "dmm_steered",	  [TREE_UDP] = "dmm_udp",
	[TREE_UDP_FREE] = "dmm_udp_free",
};

const char *tree_path(const char *path)
{
	if (!path)
		path = getenv(TREE_ENV);
	return path && *path ? path : TREE_DEFAULT;
}

static bool on_bpffs(const char *root, const char *path)
{
	char parent[PATH_MAX], *slash;
	struct statfs fs;

	snprintf(parent, sizeof(parent), "%s%s", root, path);
	slash = strrchr(parent, '/');
	if (!slash || slash == parent)
		return false;
	*slash = '\0';
	return statfs(parent, &fs) == 0 && fs.f_type == BPF_FS_MAGIC;
}

static pid_t parent_of(pid_t pid)
{
	char file[64], line[512], *p;
	int parent = 0;
	FILE *f;

	snprintf(file, sizeof(file), "/proc/%d/stat", pid);
	f = fopen(file, "re");
	if (!f)
		return 0;
	p = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	if (p)
		sscanf(p, ") %*c %d", &parent);
	fclose(f);
	return parent;
}

/*
 * `ip netns exec` runs a command in a mount namespace whose /sys is bare. If the tree cannot be
 * seen here but where an ancestor is, go there. The working directory stays.
 */
static void see_bpffs(const char *path)
{
	char root[64], cwd[PATH_MAX];
	int ns;

	if (on_bpffs("", path))
		return;
	for (pid_t pid = getppid(); pid > 0; pid = parent_of(pid)) {
		snprintf(root, sizeof(root), "/proc/%d/root", pid);
		if (!on_bpffs(root, path))
			continue;
		snprintf(root, sizeof(root), "/proc/%d/ns/mnt", pid);
		ns = open(root, O_RDONLY | O_CLOEXEC);
		if (!getcwd(cwd, sizeof(cwd)))
			strcpy(cwd, "/");
		if (ns < 0 || setns(ns, CLONE_NEWNS) < 0 || chdir(cwd) < 0)
			log_debug("cannot enter the mount namespace of %d: %s", pid,
				  strerror(errno));
		if (ns >= 0)
			close(ns);
		return;
	}
}

const char *tree_run_dir(void)
{
	const char *dir = getenv("DMM_RUN");

	return dir && *dir ? dir : "/run/dmm";
}

static int quiet_print(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	char text[512];
	size_t n;

	if (level != LIBBPF_WARN)
		return 0;
	vsnprintf(text, sizeof(text), fmt, ap);
	n = strlen(text);
	if (n && text[n - 1] == '\n')
		text[n - 1] = '\0';
	log_debug("%s", text);
	return 0;
}

/* A failed load in words that can be acted on. */
static int explain_load(const char *what, int r)
{
	if (r == -EPERM || r == -EACCES)
		log_err("cannot load the %s program: %s; run as root (CAP_BPF, CAP_NET_ADMIN, "
			"CAP_PERFMON), see dmm-policy probe",
			what, strerror(-r));
	else
		log_err("cannot load the %s program: %s; see dmm-policy probe for what this kernel "
			"lacks",
			what, strerror(-r));
	return r;
}

/* ---- locks ---- */

/* Not $DMM_RUN: whoever shares a tree has to meet at one lock. */
#define LOCK_DIR "/run/dmm"

static int lock_file(const char *path, const char *suffix, int op, int *ret_fd)
{
	char file[PATH_MAX], name[NAME_MAX];
	size_t n = 0;
	int fd, r;

	path = tree_path(path);
	while (*path == '/')
		path++;
	for (; *path && n < sizeof(name) - 1; path++)
		name[n++] = *path == '/' ? '-' : *path;
	name[n] = '\0';
	if (mkdir(LOCK_DIR, 0755) < 0 && errno != EEXIST) {
		r = -errno;
		log_err("cannot make %s: %s", LOCK_DIR, strerror(-r));
		return r;
	}
	snprintf(file, sizeof(file), "%s/%s.%s", LOCK_DIR, name, suffix);
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0) {
		r = -errno;
		log_err("cannot open %s: %s%s", file, strerror(-r),
			r == -EACCES ? "; run as root" : "");
		return r;
	}
	if (flock(fd, op) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

int tree_lock(const char *path, bool wait, int *ret_fd)
{
	return lock_file(path, "lock", LOCK_EX | (wait ? 0 : LOCK_NB), ret_fd);
}

int tree_lock_daemon(const char *path, int *ret_fd)
{
	return lock_file(path, "daemon", LOCK_EX | LOCK_NB, ret_fd);
}

/* ---- open ---- */

static int open_pinned(const char *dir, const char *sub, const char *name)
{
	char file[PATH_MAX];
	int fd;

	snprintf(file, sizeof(file), "%s/%s/%s", dir, sub, name);
	fd = bpf_obj_get(file);
	return fd < 0 ? -errno : fd;
}

static void *map_mem(int fd, size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

#define META_LEN sizeof(struct dmm_meta)
#define RT_LEN (DMM_MAX_STACKS * sizeof(struct dmm_stack_rt))
#define INSTCTR_LEN (DMM_INSTANCE_ROW(DMM_MAX_STACKS, 0) * sizeof(dmm_u64))
#define CARRIED_LEN (DMM_MAX_STACKS * sizeof(struct dmm_measures))

static int check_abi(const struct tree *t)
{
	if (t->meta->abi == DMM_ABI_VERSION)
		return 0;
	log_err("%s has ABI %u, this program speaks %u: stop its users and remove it with the "
		"version that made it (dmm-policy detach)",
		t->path, t->meta->abi, DMM_ABI_VERSION);
	return -EPROTO;
}

int tree_open(struct tree *ret, const char *path)
{
	int r;

	libbpf_set_print(quiet_print);
	memset(ret, 0, sizeof(*ret));
	for (int i = 0; i < TREE_MAPS; i++)
		ret->map[i] = -1;
	snprintf(ret->path, sizeof(ret->path), "%s", tree_path(path));
	see_bpffs(ret->path);
	r = open_pinned(ret->path, "maps", map_names[TREE_META]);
	if (r < 0)
		goto fail;
	ret->map[TREE_META] = r;
	ret->meta = map_mem(r, META_LEN);
	r = ret->meta ? check_abi(ret) : -ENOMEM;
	if (r < 0)
		goto fail;
	for (int i = TREE_META + 1; i < TREE_MAPS; i++) {
		r = open_pinned(ret->path, "maps", map_names[i]);
		if (r < 0) {
			log_err("%s/maps/%s: %s", ret->path, map_names[i], strerror(-r));
			r = r == -ENOENT ? -EPROTO : r; /* there is a tree */
			goto fail;
		}
		ret->map[i] = r;
	}
	ret->rt = map_mem(ret->map[TREE_STACKRT], RT_LEN);
	ret->instctr = map_mem(ret->map[TREE_INSTCTR], INSTCTR_LEN);
	ret->carried = map_mem(ret->map[TREE_CARRIED], CARRIED_LEN);
	r = -ENOMEM;
	if (!ret->rt || !ret->instctr || !ret->carried)
		goto fail;
	return 0;
fail:
	tree_close(ret);
	return r;
}

void tree_close(struct tree *t)
{
	if (t->meta)
		munmap((void *)t->meta, META_LEN);
	if (t->rt)
		munmap((void *)t->rt, RT_LEN);
	if (t->instctr)
		munmap((void *)t->instctr, INSTCTR_LEN);
	if (t->carried)
		munmap((void *)t->carried, CARRIED_LEN);
	for (int i = 0; i < TREE_MAPS; i++)
		if (t->map[i] >= 0)
			close(t->map[i]);
	t->meta = NULL;
	t->rt = NULL;
	t->instctr = NULL;
	t->carried = NULL;
	for (int i = 0; i < TREE_MAPS; i++)
		t->map[i] = -1;
}

int tree_prog(const struct tree *t, const char *name)
{
	return open_pinned(t->path, "progs", name);
}

int tree_reuse_maps(const struct tree *t, struct bpf_object *obj)
{
	struct bpf_map *m;
	int fd, r;

	bpf_object__for_each_map (m, obj) {
		if (strncmp(bpf_map__name(m), "dmm_", 4) != 0 || bpf_map__is_internal(m))
			continue;
		fd = open_pinned(t->path, "maps", bpf_map__name(m));
		if (fd == -ENOENT)
			continue;
		r = fd < 0 ? fd : bpf_map__reuse_fd(m, fd);
		if (fd >= 0)
			close(fd);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- build ---- */

/* Pin or reuse every shared map of obj in <dir>/maps, load it, pin its programs in <dir>/<progs>.
 */
static int load_into(const char *dir, const char *progs, struct bpf_object *obj, const char *what)
{
	char file[PATH_MAX];
	struct bpf_program *p;
	struct bpf_map *m;
	int r;

	bpf_object__for_each_map (m, obj) {
		if (strncmp(bpf_map__name(m), "dmm_", 4) != 0 || bpf_map__is_internal(m))
			continue;
		snprintf(file, sizeof(file), "%s/maps/%s", dir, bpf_map__name(m));
		bpf_map__set_pin_path(m, file);
	}
	r = bpf_object__load(obj);
	if (r < 0)
		return explain_load(what, r);
	bpf_object__for_each_program (p, obj) {
		if (!bpf_program__autoload(p))
			continue;
		snprintf(file, sizeof(file), "%s/%s/%s", dir, progs, bpf_program__name(p));
		r = bpf_program__pin(p, file);
		if (r < 0) {
			log_err("cannot pin %s: %s", file, strerror(-r));
			return r;
		}
	}
	return 0;
}

bool tree_flows_by_files;

/* Of the iterators those that this kernel takes: see dmm_flows.bpf.c. */
static void choose_iterators(struct bpf_object *obj)
{
	bool by_files = tree_flows_by_files || probe_map_iterator() < 0;
	struct bpf_program *p;

	bpf_object__for_each_program (p, obj)
		if (bpf_program__type(p) == BPF_PROG_TYPE_TRACING)
			bpf_program__set_autoload(p, by_files == (strncmp(bpf_program__name(p),
									  "dmm_file_", 9) == 0));
}

static int load_all(const char *dir, const char *progs)
{
	struct dmm_measure_bpf *measure = dmm_measure_bpf__open();
	struct dmm_splice_bpf *splice = dmm_splice_bpf__open();
	struct dmm_flows_bpf *flows = dmm_flows_bpf__open();
	struct dmm_sock_bpf *sock = dmm_sock_bpf__open();
	int r = -ENOMEM;

	if (measure && splice && flows && sock) {
		r = load_into(dir, progs, sock->obj, "connect");
		if (r == 0)
			r = load_into(dir, progs, splice->obj, "sock_ops");
		if (r == 0)
			r = load_into(dir, progs, measure->obj, "telemetry");
		choose_iterators(flows->obj);
		if (r == 0)
			r = load_into(dir, progs, flows->obj, "flows iterator");
	}
	dmm_sock_bpf__destroy(sock);
	dmm_splice_bpf__destroy(splice);
	dmm_flows_bpf__destroy(flows);
	dmm_measure_bpf__destroy(measure);
	return r;
}

/* sk_msg belongs to the sock hash: one link for the whole tree. */
static int attach_msg(const char *dir)
{
	_cleanup_close_ int prog = open_pinned(dir, "progs", "dmm_msg");
	_cleanup_close_ int map = open_pinned(dir, "maps", "dmm_splice");
	_cleanup_close_ int link = -1;
	char file[PATH_MAX];

	if (prog < 0 || map < 0)
		return prog < 0 ? prog : map;
	link = bpf_link_create(prog, map, BPF_SK_MSG_VERDICT, NULL);
	if (link < 0) {
		/* kernels before 6.10 know no link for it: the attachment lives with the map */
		if (bpf_prog_attach(prog, map, BPF_SK_MSG_VERDICT, 0) == 0)
			return 0;
		return -errno;
	}
	snprintf(file, sizeof(file), "%s/links/dmm_msg", dir);
	return bpf_obj_pin(link, file) < 0 ? -errno : 0;
}

static int remove_dir(const char *path)
{
	char file[PATH_MAX];
	struct dirent *e;
	DIR *d = opendir(path);

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if ((size_t)snprintf(file, sizeof(file), "%s/%s", path, e->d_name) >= sizeof(file))
			continue;
		if (unlink(file) < 0 && (errno == EISDIR || errno == EPERM))
			remove_dir(file);
	}
	closedir(d);
	return rmdir(path) < 0 ? -errno : 0;
}

static int make_dirs(const char *dir)
{
	static const char *const subs[] = {"", "/maps", "/progs", "/links"};
	char file[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(subs); i++) {
		snprintf(file, sizeof(file), "%s%s", dir, subs[i]);
		if (mkdir(file, 0755) < 0)
			return -errno;
	}
	return 0;
}

static int build(const char *path)
{
	struct dmm_meta meta = {.abi = DMM_ABI_VERSION, .build = DMM_BUILD_ID};
	char dir[PATH_MAX - 64];
	dmm_u32 key = 0;
	int fd, r;

	if ((size_t)snprintf(dir, sizeof(dir), "%s-new", path) >= sizeof(dir))
		return -ENAMETOOLONG;
	remove_dir(dir); /* of one that was killed */
	r = make_dirs(dir);
	if (r < 0) {
		log_err("cannot make %s: %s", dir, strerror(-r));
		return r;
	}
	r = load_all(dir, "progs");
	if (r == 0)
		r = attach_msg(dir);
	if (r == 0) {
		fd = open_pinned(dir, "maps", "dmm_meta");
		r = fd < 0 ? fd : bpf_map_update_elem(fd, &key, &meta, 0);
		if (fd >= 0)
			close(fd);
	}
	if (r == 0 && rename(dir, path) < 0)
		r = -errno;
	if (r < 0) {
		log_err("cannot build the pin tree %s: %s", path, strerror(-r));
		remove_dir(dir);
	}
	return r;
}

/* ---- another build of the programs ---- */

/* Point the link <dir>/<name> to the new program of the same name. */
static int update_link(const char *path, const char *progs, const char *dir, const char *name)
{
	_cleanup_close_ int link = open_pinned(dir, ".", name);
	_cleanup_close_ int prog = open_pinned(path, progs, name);

	if (link < 0 || prog < 0)
		return -EIO;
	/* ENOLINK: its cgroup was removed, and the link is attached to nothing any more */
	return bpf_link_update(link, prog, NULL) < 0 && errno != ENOLINK ? -EIO : 0;
}

/* sk_msg has a link or, before 6.10, an attachment that a new one replaces. */
static int update_msg(const char *path, const char *progs, const char *links)
{
	_cleanup_close_ int prog = open_pinned(path, progs, "dmm_msg");
	_cleanup_close_ int map = open_pinned(path, "maps", "dmm_splice");

	if (update_link(path, progs, links, "dmm_msg") == 0)
		return 0;
	return prog < 0 || map < 0 || bpf_prog_attach(prog, map, BPF_SK_MSG_VERDICT, 0) < 0 ? -EIO
											    : 0;
}

static int update_links(const char *path, const char *progs)
{
	char dir[PATH_MAX], sub[PATH_MAX + NAME_MAX + 2];
	struct dirent *g, *e;
	DIR *links, *group;
	int r;

	snprintf(dir, sizeof(dir), "%s/links", path);
	r = update_msg(path, progs, dir);
	links = opendir(dir);
	while (links && (g = readdir(links))) {
		if (g->d_name[0] == '.')
			continue;
		snprintf(sub, sizeof(sub), "%s/%s", dir, g->d_name);
		group = opendir(sub);
		while (group && (e = readdir(group)))
			if (e->d_name[0] != '.' && update_link(path, progs, sub, e->d_name) < 0)
				r = -EIO;
		if (group)
			closedir(group);
	}
	if (links)
		closedir(links);
	return r;
}

static int upgrade(const char *path, struct tree *t)
{
	char fresh[PATH_MAX], old[PATH_MAX], progs[PATH_MAX];
	int r;

	snprintf(fresh, sizeof(fresh), "%s/progs-new", path);
	snprintf(old, sizeof(old), "%s/progs-old", path);
	snprintf(progs, sizeof(progs), "%s/progs", path);
	remove_dir(fresh);
	remove_dir(old);
	if (mkdir(fresh, 0755) < 0)
		return -errno;
	r = load_all(path, "progs-new");
	if (r == 0)
		r = update_links(path, "progs-new");
	/* no progs: an upgrade that was killed between the two */
	if (r == 0 && ((rename(progs, old) < 0 && errno != ENOENT) || rename(fresh, progs) < 0))
		r = -errno;
	if (r < 0) {
		log_err("cannot replace the programs of %s: %s", path, strerror(-r));
		remove_dir(fresh);
		return r;
	}
	remove_dir(old);
	t->meta->build = DMM_BUILD_ID;
	log_info("%s now runs the programs of this build", path);
	return 0;
}

/* ---- install ---- */

static int ensure_bpffs(const char *path)
{
	int r;

	if (on_bpffs("", path))
		return 0;
	if (strncmp(path, "/sys/fs/bpf/", 12) == 0 && !strchr(path + 12, '/') &&
	    mount("bpf", "/sys/fs/bpf", "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") == 0)
		return 0;
	r = -errno;
	log_err("%s is not on a bpf file system; try: mount -t bpf bpf /sys/fs/bpf", path);
	return r < 0 ? r : -ENOTSUP;
}

int tree_install(struct tree *ret, const char *path)
{
	_cleanup_close_ int lock = -1;
	int r;

	path = tree_path(path);
	see_bpffs(path);
	r = tree_lock(path, true, &lock);
	if (r < 0)
		return r;
	r = ensure_bpffs(path);
	if (r < 0)
		return r;
	r = tree_open(ret, path);
	if (r == -ENOENT) {
		r = build(path);
		if (r == 0)
			r = tree_open(ret, path);
		return r;
	}
	if (r == 0 && ret->meta->build != DMM_BUILD_ID) {
		r = upgrade(path, ret);
		if (r < 0)
			tree_close(ret);
	}
	return r;
}

/* ---- teardown ---- */

/* What instances that were killed left on interfaces of this network namespace. */
static void sweep_interfaces(struct tree *t)
{
	dmm_u64 netns = 0;
	socklen_t len = sizeof(netns);
	_cleanup_close_ int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (s < 0 || getsockopt(s, SOL_SOCKET, SO_NETNS_COOKIE, &netns, &len) < 0)
		return;
	for (int i = 0; i < DMM_MAX_STACKS; i++)
		if (t->rt[i].ifindex && t->rt[i].netns == netns)
			xdp_sweep(t, (unsigned)i, (int)t->rt[i].ifindex);
}

int tree_teardown(const char *path)
{
	_cleanup_close_ int lock = -1;
	struct dmm_group_rec rec;
	struct tree t;
	int r;

	path = tree_path(path);
	r = tree_lock(path, true, &lock);
	if (r < 0)
		return r;
	r = tree_open(&t, path);
	if (r < 0 && r != -EPROTO)
		return r;
	if (r == 0) {
		sweep_interfaces(&t);
		for (dmm_u32 i = 0; i < DMM_MAX_GROUPS; i++)
			if (bpf_map_lookup_elem(t.map[TREE_GROUP], &i, &rec) == 0 && rec.name[0])
				attach_detach(&t, &rec);
		tree_close(&t);
	}
	r = remove_dir(path);
	if (r < 0)
		log_err("cannot remove %s: %s", path, strerror(-r));
	return r;
}
