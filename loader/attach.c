// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "bpf/dmm_flows.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/attach.h"
#include "loader/cgroup.h"
#include "loader/maps.h"
#include "loader/needs.h"

#define LEAVING "@leaving-" /* no group has such a name */
#define LEAVING_MIN_S 5	    /* by then all instances know that its listeners are withdrawn */

struct hook {
	const char *prog;
	enum bpf_attach_type type;
	bool instances; /* the instances' cgroup needs it too */
	dmm_u8 need;	/* of what groups need: NEED_DECIDE is for new sockets only, a group that
			   goes leaves the others to its flows */
};

static const struct hook hooks[] = {
	{"dmm_sockops", BPF_CGROUP_SOCK_OPS, true, NEED_EVENTS},
	{"dmm_measure", BPF_CGROUP_SOCK_OPS, false, NEED_MEASURE},
	{"dmm_connect4", BPF_CGROUP_INET4_CONNECT, false, NEED_DECIDE},
	{"dmm_connect6", BPF_CGROUP_INET6_CONNECT, false, NEED_DECIDE},
	{"dmm_peername4", BPF_CGROUP_INET4_GETPEERNAME, false, NEED_NAMES},
	{"dmm_peername6", BPF_CGROUP_INET6_GETPEERNAME, false, NEED_NAMES},
	{"dmm_sockname4", BPF_CGROUP_INET4_GETSOCKNAME, false, NEED_NAMES},
	{"dmm_sockname6", BPF_CGROUP_INET6_GETSOCKNAME, false, NEED_NAMES},
	{"dmm_recvmsg4", BPF_CGROUP_UDP4_RECVMSG, false, NEED_UDP},
	{"dmm_recvmsg6", BPF_CGROUP_UDP6_RECVMSG, false, NEED_UDP},
	{"dmm_release", BPF_CGROUP_INET_SOCK_RELEASE, false, NEED_NAMES},
};

static int attach_hook(struct tree *t, const char *dir, int cgroup, const struct hook *h)
{
	_cleanup_close_ int prog = tree_prog(t, h->prog);
	_cleanup_close_ int link = -1;
	char file[PATH_MAX];

	if (prog < 0)
		return prog;
	if ((size_t)snprintf(file, sizeof(file), "%s/%s", dir, h->prog) >= sizeof(file))
		return -ENAMETOOLONG;
	if (access(file, F_OK) == 0)
		return 0; /* left there for flows, see leave_to_flows() */
	link = bpf_link_create(prog, cgroup, h->type, NULL);
	if (link < 0)
		return -errno;
	return bpf_obj_pin(link, file) < 0 ? -errno : 0;
}

/* Unpin: the link, and with it the attachment, goes with its last reference. */
static void remove_link(const char *file)
{
	int link = bpf_obj_get(file);

	if (link >= 0) { /* now: the last reference is dropped some time later */
		bpf_link_detach(link);
		close(link);
	}
	unlink(file);
}

static void remove_links(const char *dir)
{
	char file[PATH_MAX];
	struct dirent *e;
	DIR *d = opendir(dir);

	if (!d)
		return;
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		if ((size_t)snprintf(file, sizeof(file), "%s/%s", dir, e->d_name) < sizeof(file))
			remove_link(file);
	}
	closedir(d);
	rmdir(dir);
}

/* What the programs of this cgroup shall read. Exists since the first program was attached. */
static int set_value(struct tree *t, dmm_u64 cgroup_id, dmm_u32 group, dmm_u32 flags)
{
	struct dmm_cgroup_val val = {.group = group, .flags = flags};

	if (bpf_map_update_elem(t->map[TREE_CGROUP], &cgroup_id, &val, BPF_EXIST) < 0)
		return -errno;
	return 0;
}

/* Where the links stand that a group left to its flows. */
static void leaving_dir(const struct tree *t, dmm_u64 cgroup_id, char *ret, size_t len)
{
	snprintf(ret, len, "%s/links/" LEAVING "%llu", t->path, cgroup_id);
}

static bool has_hook(const char *dir, const struct hook *h)
{
	char file[PATH_MAX + 128];

	snprintf(file, sizeof(file), "%s/%s", dir, h->prog);
	return access(file, F_OK) == 0;
}

static bool lacks_hook(const char *dir, dmm_u8 needs)
{
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++)
		if ((hooks[i].need & needs) && !has_hook(dir, &hooks[i]))
			return true;
	return false;
}

static bool spares_hook(const char *dir, dmm_u8 needs)
{
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++)
		if (!(hooks[i].need & needs) && has_hook(dir, &hooks[i]))
			return true;
	return false;
}

/* Attach what is needed and not there yet. */
static int attach_hooks(struct tree *t, const char *dir, int cgroup, bool instances, dmm_u8 needs)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(hooks); i++)
		if (instances ? hooks[i].instances : hooks[i].need & needs)
			r = attach_hook(t, dir, cgroup, &hooks[i]);
	return r;
}

static void group_dir(const struct tree *t, const struct dmm_group_rec *rec, char *ret, size_t len)
{
	snprintf(ret, len, "%s/links/%s", t->path, rec->name);
}

static int write_record(struct tree *t, dmm_u32 id, const struct dmm_group_rec *rec)
{
	return bpf_map_update_elem(t->map[TREE_GROUP], &id, rec, 0) < 0 ? -errno : 0;
}

/* Say which directories are about to be made, so that they are found when this is killed. */
static int announce(struct tree *t, dmm_u32 id, struct dmm_group_rec *rec)
{
	struct dmm_group_rec killed;
	unsigned missing;
	int r = cgroup_missing(rec->cgroup, &missing);

	rec->cgroup_id = 0;
	rec->made = 0;
	if (r == 0 && bpf_map_lookup_elem(t->map[TREE_GROUP], &id, &killed) == 0 &&
	    strcmp(killed.cgroup, rec->cgroup) == 0)
		rec->made = killed.made;
	rec->made = (dmm_u8)MAX(rec->made, missing);
	return r == 0 ? write_record(t, id, rec) : r;
}

static int attach_to(struct tree *t, dmm_u32 id, struct dmm_group_rec *rec, int cgroup,
		     bool instances, dmm_u8 needs)
{
	char dir[PATH_MAX + 64], leaving[PATH_MAX + 64];
	struct stat st;
	int r;

	if (fstat(cgroup, &st) < 0)
		return -errno;
	group_dir(t, rec, dir, sizeof(dir));
	leaving_dir(t, st.st_ino, leaving, sizeof(leaving));
	remove_links(dir);
	if (rename(leaving, dir) < 0 && mkdir(dir, 0755) < 0)
		return -errno;
	r = attach_hooks(t, dir, cgroup, instances, needs);
	if (r == 0)
		r = set_value(t, st.st_ino, instances ? DMM_GROUP_NONE : id,
			      instances ? DMM_CG_INSTANCE : 0);
	rec->cgroup_id = st.st_ino;
	return r == 0 ? write_record(t, id, rec) : r;
}

static int attach(struct tree *t, dmm_u32 id, struct dmm_group_rec *rec, bool instances,
		  dmm_u8 needs)
{
	_cleanup_close_ int cgroup = -1;
	struct dmm_group_rec none = {};
	char dir[PATH_MAX + 64];
	unsigned left;
	int r;

	r = announce(t, id, rec);
	if (r == 0)
		r = cgroup_open(rec->cgroup, true, &cgroup, NULL);
	if (r == 0)
		r = attach_to(t, id, rec, cgroup, instances, needs);
	if (r < 0) {
		log_err("cannot attach to cgroup %s: %s", rec->cgroup, strerror(-r));
		group_dir(t, rec, dir, sizeof(dir));
		remove_links(dir);
		cgroup_remove(rec->cgroup, rec->made, &left);
		write_record(t, id, &none);
	}
	return r;
}

/* ---- what a group leaves behind ---- */

static bool is_listener(struct tree *t, const void *key, dmm_u32 group)
{
	struct dmm_listener l;

	return bpf_map_lookup_elem(t->map[TREE_LISTEN], key, &l) == 0 && l.group == group;
}

static bool is_connect(struct tree *t, const void *key, dmm_u32 group)
{
	struct dmm_flow flow;

	return bpf_map_lookup_elem(t->map[TREE_PENDING], key, &flow) == 0 && flow.group == group;
}

/* A tuple of a connect that is not in progress any more, of whatever group. */
static bool is_stale_tuple(struct tree *t, const void *key, dmm_u32 group)
{
	struct dmm_flow flow;
	dmm_u64 cookie;

	(void)group;
	return bpf_map_lookup_elem(t->map[TREE_TUPLE], key, &cookie) == 0 &&
	       bpf_map_lookup_elem(t->map[TREE_PENDING], &cookie, &flow) < 0;
}

static void sweep(struct tree *t, enum tree_map map, size_t key_size, dmm_u32 group,
		  bool (*drop)(struct tree *t, const void *key, dmm_u32 group))
{
	char key[sizeof(struct dmm_tuple)], next[sizeof(key)];
	bool more = bpf_map_get_next_key(t->map[map], NULL, next) == 0;

	while (more) {
		memcpy(key, next, key_size);
		more = bpf_map_get_next_key(t->map[map], key, next) == 0;
		if (drop(t, key, group))
			bpf_map_delete_elem(t->map[map], key);
	}
}

/*
 * The sockets of a group become another's, or nobody's (DMM_GROUP_NONE): they live on. Slots that
 * are nobody's are free, as nobody would give them back. By programs, as sockets come and go all
 * the time.
 */
static void regroup(struct tree *t, dmm_u32 from, dmm_u32 to)
{
	struct dmm_regroup args = {.from = from, .to = to};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &args, .ctx_size_in = sizeof(args));
	_cleanup_close_ int prog = tree_prog(t, "dmm_regroup");
	dmm_u32 key = 0;
	int r = prog < 0 ? prog : bpf_prog_test_run_opts(prog, &opts);

	if (r == 0 && bpf_map_update_elem(t->map[TREE_REGROUP], &key, &args, 0) < 0)
		r = -errno;
	if (r == 0)
		r = maps_regroup_flows(t);
	if (r < 0)
		log_warn("cannot tell live sockets of their group's end: %s", strerror(-r));
}

static int count_flow(const struct dmm_flow_row *f, void *ctx)
{
	unsigned *n = ctx;

	*n += f->sock.group == n[1] && (f->sock.flags & (DMM_SF_CARRIER | DMM_SF_PENDING));
	return 0;
}

/* Flows through instances, of a group or of groups that are gone (DMM_GROUP_NONE). */
static unsigned flows_of(struct tree *t, dmm_u32 group)
{
	unsigned n[2] = {0, group};

	return maps_flows(t, count_flow, n) < 0 ? 0 : n[0];
}

/* Was it left so lately that an instance may still accept for its listeners? bpffs keeps the time
 * of the rename. */
static bool is_fresh(const char *dir)
{
	struct stat st;

	return stat(dir, &st) == 0 && time(NULL) - st.st_ctime < LEAVING_MIN_S;
}

/* The next directory of links that a group left to its flows. Begins with *d NULL; false: there is
 * none, and *d is closed. */
static bool next_left(const struct tree *t, DIR **d, char *ret, size_t len)
{
	char links[PATH_MAX + 16];
	struct dirent *e;

	snprintf(links, sizeof(links), "%s/links", t->path);
	if (!*d)
		*d = opendir(links);
	while (*d && (e = readdir(*d))) {
		if (strncmp(e->d_name, LEAVING, strlen(LEAVING)) != 0)
			continue;
		snprintf(ret, len, "%s/%s", links, e->d_name);
		return true;
	}
	if (*d)
		closedir(*d);
	return false;
}

bool attach_has_left(const struct tree *t)
{
	char dir[PATH_MAX + NAME_MAX + 32];
	DIR *d = NULL;
	bool any = next_left(t, &d, dir, sizeof(dir));

	if (any)
		closedir(d);
	return any;
}

void attach_sweep(struct tree *t)
{
	char dir[PATH_MAX + NAME_MAX + 32];
	bool asked = false, in_use = false;
	DIR *d = NULL;

	while (next_left(t, &d, dir, sizeof(dir))) {
		if (in_use || is_fresh(dir))
			continue;
		if (!asked)
			in_use = flows_of(t, DMM_GROUP_NONE);
		asked = true;
		if (!in_use)
			remove_links(dir);
	}
}

static bool has_listener(struct tree *t, dmm_u32 group)
{
	dmm_u64 key, *prev = NULL;

	while (bpf_map_get_next_key(t->map[TREE_LISTEN], prev, &key) == 0) {
		prev = &key;
		if (is_listener(t, &key, group))
			return true;
	}
	return false;
}

/*
 * A group goes, its flows through instances go on, and for a moment its listeners get new ones:
 * what tells their names and sees them end stays attached, in a directory that is no group's.
 */
static void leave_to_flows(struct tree *t, const char *dir, const struct dmm_group_rec *rec)
{
	char file[PATH_MAX + 128], leaving[PATH_MAX + 64];

	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++) {
		snprintf(file, sizeof(file), "%s/%s", dir, hooks[i].prog);
		if (hooks[i].need == NEED_DECIDE)
			remove_link(file);
	}
	set_value(t, rec->cgroup_id, DMM_GROUP_NONE, 0);
	leaving_dir(t, rec->cgroup_id, leaving, sizeof(leaving));
	if (rename(dir, leaving) < 0)
		remove_links(dir);
}

static void instances_cgroup(const struct tree *t, char ret[DMM_PATH_LEN])
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", t->path);
	snprintf(ret, DMM_PATH_LEN, "%.100s/instances", basename(path));
}

int attach_allowed(const struct tree *t, const struct dmm_group_rec *rec)
{
	char instances[DMM_PATH_LEN];

	instances_cgroup(t, instances);
	if (!path_above(rec->cgroup, instances) && !path_above(instances, rec->cgroup))
		return 0;
	log_err("group %s: cgroup %s overlaps %s, where the instances run", rec->name, rec->cgroup,
		instances);
	return -EINVAL;
}

int attach_group(struct tree *t, unsigned id, struct dmm_group_rec *rec, dmm_u8 needs)
{
	attach_sweep(t);
	return attach(t, id, rec, false, needs);
}

int attach_more(struct tree *t, const struct dmm_group_rec *rec, dmm_u8 needs)
{
	_cleanup_close_ int cgroup = -1;
	char dir[PATH_MAX + 64];
	unsigned made;
	int r;

	group_dir(t, rec, dir, sizeof(dir));
	if (!lacks_hook(dir, needs))
		return 0;
	r = cgroup_open(rec->cgroup, false, &cgroup, &made);
	if (r == -ENOENT)
		return 0; /* somebody removed it: there is nobody in it */
	if (r == 0)
		r = attach_hooks(t, dir, cgroup, false, needs);
	if (r < 0)
		log_err("cannot attach to cgroup %s: %s", rec->cgroup, strerror(-r));
	return r;
}

/* Which groups have sockets that need all that is attached: what an instance carries, and
 * listeners, whose accepted sockets are seen by sock_ops alone. */
static int find_busy(const struct dmm_flow_row *f, void *ctx)
{
	bool *busy = ctx;

	if (f->sock.group < DMM_MAX_GROUPS &&
	    (f->tcp_state == TCP_LISTEN || (f->sock.flags & (DMM_SF_CARRIER | DMM_SF_PENDING))))
		busy[f->sock.group] = true;
	return 0;
}

static void trim(struct tree *t, const struct dmm_group_rec *rec, dmm_u8 needs)
{
	char dir[PATH_MAX + 64], file[PATH_MAX + 128];

	group_dir(t, rec, dir, sizeof(dir));
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++) {
		snprintf(file, sizeof(file), "%s/%s", dir, hooks[i].prog);
		if (!(hooks[i].need & needs))
			remove_link(file);
	}
}

void attach_trim(struct tree *t, const dmm_u8 needs[DMM_MAX_GROUPS])
{
	bool busy[DMM_MAX_GROUPS] = {false}, any = false;
	struct dmm_group_rec rec[DMM_MAX_GROUPS] = {0};
	char dir[PATH_MAX + 64];

	for (dmm_u32 i = 1; i < DMM_MAX_GROUPS; i++) {
		if (maps_group(t, i, &rec[i]) < 0)
			continue;
		group_dir(t, &rec[i], dir, sizeof(dir));
		busy[i] = !spares_hook(dir, needs[i]);
		any |= !busy[i];
	}
	/* a socket that was decided before the switch says so when the program has ended */
	if (!any || maps_wait_readers(t) < 0 || maps_flows(t, find_busy, busy) < 0)
		return;
	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++)
		if (rec[i].name[0] && !busy[i] && !has_listener(t, i))
			trim(t, &rec[i], needs[i]);
}

static unsigned depth(const char *path)
{
	unsigned n = 0;

	for (const char *p = path; *p; p++)
		n += *p != '/' && (p == path || p[-1] == '/');
	return n;
}

/* Are the first n directories of both the same, and has b more? */
static bool shares(const char *a, const char *b, unsigned n)
{
	char x[DMM_PATH_LEN], y[DMM_PATH_LEN], *p, *q, *at, *bt;

	snprintf(x, sizeof(x), "%s", a);
	snprintf(y, sizeof(y), "%s", b);
	for (p = strtok_r(x, "/", &at), q = strtok_r(y, "/", &bt); n > 0; n--) {
		if (!p || !q || strcmp(p, q) != 0)
			return false;
		p = strtok_r(NULL, "/", &at);
		q = strtok_r(NULL, "/", &bt);
	}
	return q;
}

/* Made for a group that went, still in use by another: that one has to remove them in its turn. */
static void bequeath(struct tree *t, const struct dmm_group_rec *gone, unsigned left)
{
	unsigned base = depth(gone->cgroup) - gone->made, stay = base + left;
	struct dmm_group_rec rec;

	for (dmm_u32 i = 0; i < DMM_MAX_GROUPS; i++) {
		if (bpf_map_lookup_elem(t->map[TREE_GROUP], &i, &rec) < 0 || !rec.name[0] ||
		    strcmp(rec.name, gone->name) == 0 || !shares(gone->cgroup, rec.cgroup, stay) ||
		    depth(rec.cgroup) - rec.made > stay)
			continue;
		rec.made = (dmm_u8)(depth(rec.cgroup) - base);
		write_record(t, i, &rec);
		return;
	}
	log_warn("directories above cgroup %s stay: others use them", gone->cgroup);
}

bool attach_group_off(const struct tree *t, const struct dmm_group_rec *rec)
{
	struct dmm_cgroup_val val;

	return rec->cgroup_id &&
	       bpf_map_lookup_elem(t->map[TREE_CGROUP], &rec->cgroup_id, &val) == 0 &&
	       (val.flags & DMM_CG_OFF);
}

int attach_group_switch(struct tree *t, unsigned id, bool off)
{
	struct dmm_group_rec rec;
	dmm_u32 key = id;

	if (bpf_map_lookup_elem(t->map[TREE_GROUP], &key, &rec) < 0)
		return -errno;
	if (!rec.cgroup_id)
		return -ENOENT;
	return set_value(t, rec.cgroup_id, id, off ? DMM_CG_OFF : 0);
}

int attach_rename(struct tree *t, unsigned from, unsigned to, struct dmm_group_rec *rec)
{
	char before[PATH_MAX + 64], after[PATH_MAX + 64];
	struct dmm_group_rec old, none = {};
	dmm_u32 id = from;
	int r;

	if (bpf_map_lookup_elem(t->map[TREE_GROUP], &id, &old) < 0)
		return -errno;
	group_dir(t, &old, before, sizeof(before));
	group_dir(t, rec, after, sizeof(after));
	if (rename(before, after) < 0)
		return -errno;
	rec->cgroup_id = old.cgroup_id;
	rec->made = old.made;
	r = set_value(t, old.cgroup_id, to, attach_group_off(t, &old) ? DMM_CG_OFF : 0);
	if (r == 0) /* never without a record: what nobody knows of is never removed */
		r = write_record(t, to, rec);
	if (r == 0 && from != to) {
		write_record(t, from, &none);
		regroup(t, from, to);
	}
	return r;
}

bool attach_has_links(const struct tree *t, const struct dmm_group_rec *rec)
{
	char dir[PATH_MAX + 64];

	group_dir(t, rec, dir, sizeof(dir));
	return access(dir, F_OK) == 0;
}

/* Has another group its cgroup? One that was killed while it got another name. */
static bool is_renamed(struct tree *t, dmm_u32 id, const struct dmm_group_rec *rec)
{
	struct dmm_group_rec other;

	for (dmm_u32 i = 1; i < DMM_MAX_GROUPS; i++)
		if (i != id && maps_group(t, i, &other) == 0 &&
		    strcmp(other.cgroup, rec->cgroup) == 0 && attach_has_links(t, &other))
			return true;
	return false;
}

void attach_suspend(struct tree *t, const struct dmm_group_rec *rec)
{
	set_value(t, rec->cgroup_id, DMM_GROUP_NONE, 0);
}

int attach_detach(struct tree *t, const struct dmm_group_rec *rec)
{
	struct dmm_group_rec cur, none = {};
	char dir[PATH_MAX + 64];
	unsigned left = 0;
	int r = 0;

	attach_sweep(t);
	group_dir(t, rec, dir, sizeof(dir));
	for (dmm_u32 i = 0; i < DMM_MAX_GROUPS; i++) {
		if (bpf_map_lookup_elem(t->map[TREE_GROUP], &i, &cur) < 0 ||
		    strcmp(cur.name, rec->name) != 0)
			continue;
		if (i != DMM_GROUP_NONE && (has_listener(t, i) || flows_of(t, i)))
			leave_to_flows(t, dir, &cur);
		else
			remove_links(dir);
		if (cur.made && !is_renamed(t, i, &cur))
			r = cgroup_remove(cur.cgroup, cur.made, &left);
		if (left)
			bequeath(t, &cur, left);
		write_record(t, i, &none);
		if (i == DMM_GROUP_NONE)
			continue;
		sweep(t, TREE_LISTEN, sizeof(dmm_u64), i, is_listener);
		sweep(t, TREE_PENDING, sizeof(dmm_u64), i, is_connect);
		sweep(t, TREE_TUPLE, sizeof(struct dmm_tuple), i, is_stale_tuple);
		regroup(t, i, DMM_GROUP_NONE);
	}
	return r;
}

int attach_instance_self(struct tree *t)
{
	struct dmm_group_rec rec;
	dmm_u32 id = 0;
	int lock, r;

	if (bpf_map_lookup_elem(t->map[TREE_GROUP], &id, &rec) < 0)
		return -errno;
	if (!rec.cgroup_id) {
		r = tree_lock(t->path, true, &lock);
		if (r < 0)
			return r;
		/* another instance may have been faster */
		bpf_map_lookup_elem(t->map[TREE_GROUP], &id, &rec);
		if (!rec.cgroup_id) {
			snprintf(rec.name, sizeof(rec.name), "%s", ATTACH_INSTANCES);
			instances_cgroup(t, rec.cgroup);
			r = attach(t, id, &rec, true, 0);
		}
		close(lock);
		if (r < 0)
			return r;
	}
	return cgroup_join(rec.cgroup, 0);
}
