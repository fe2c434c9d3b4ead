// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/base/util.h"
#include "policyd/history.h"

#define HEADER "# generation %llu, at %llu: %127[^\n]"

/* <run directory>/history-<path of the tree with - for /> */
static int directory(const struct tree *t, bool make, char ret[PATH_MAX])
{
	int n = snprintf(ret, PATH_MAX, "%s/history", tree_run_dir());

	for (const char *p = t->path; *p && n < PATH_MAX - 1; p++)
		ret[n++] = *p == '/' ? '-' : *p;
	ret[n] = '\0';
	if (!make)
		return 0;
	if (mkdir(tree_run_dir(), 0755) < 0 && errno != EEXIST)
		return -errno;
	return mkdir(ret, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int file_in(const struct tree *t, const char *name, char ret[PATH_MAX])
{
	char dir[PATH_MAX];
	int r = directory(t, false, dir);

	if (r == 0 && snprintf(ret, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
		r = -ENAMETOOLONG;
	return r;
}

static int file_of(const struct tree *t, dmm_u64 generation, char ret[PATH_MAX])
{
	char name[32];

	snprintf(name, sizeof(name), "%llu.class", generation);
	return file_in(t, name, ret);
}

bool history_has(const struct tree *t, dmm_u64 generation)
{
	char path[PATH_MAX];

	return file_of(t, generation, path) == 0 && access(path, R_OK) == 0;
}

/* What follows the first line of a file. */
struct record {
	struct dmm_class_hdr hdr;
	struct dmm_stack_rec stack[DMM_MAX_STACKS];
	struct dmm_group_rec group[DMM_MAX_GROUPS];
};

static int put(FILE *out, const struct dmm_class *c)
{
	_cleanup_free_ struct record *rec = malloc(sizeof(*rec));
	size_t cells = c->image ? c->hdr.cells : 0;

	if (!rec)
		return -ENOMEM;
	rec->hdr = c->hdr;
	memcpy(rec->stack, c->stack, sizeof(rec->stack));
	memcpy(rec->group, c->group, sizeof(rec->group));
	if (fwrite(rec, sizeof(*rec), 1, out) != 1 ||
	    fwrite(c->image, sizeof(*c->image), cells, out) != cells)
		return -EIO;
	return 0;
}

struct saved {
	const struct tree *t;
	const struct dmm_class *class;
	dmm_u64 generation;
	const char *how;
};

static int put_all(FILE *out, void *ctx)
{
	const struct saved *s = ctx;

	fprintf(out, "# generation %llu, at %llu: %s\n", s->generation,
		(dmm_u64)s->t->meta->committed_ns, s->how);
	return put(out, s->class);
}

static int save(const struct tree *t, const struct dmm_class *c, dmm_u64 generation,
		const char *how)
{
	struct saved s = {t, c, generation, how};
	char path[PATH_MAX];
	int r = directory(t, true, path);

	if (r == 0)
		r = file_of(t, generation, path);
	return r < 0 ? r : file_replace(path, 0600, put_all, &s);
}

static int get(FILE *in, struct dmm_class *ret)
{
	_cleanup_free_ struct record *rec = malloc(sizeof(*rec));
	int c;

	if (!rec)
		return -ENOMEM;
	while ((c = getc(in)) != '\n')
		if (c == EOF)
			return -EPROTO;
	if (fread(rec, sizeof(*rec), 1, in) != 1 || rec->hdr.abi != DMM_ABI_VERSION ||
	    rec->hdr.cells > DMM_MAX_CELLS || rec->hdr.cells < DMM_RULE_CELL)
		return -EPROTO;
	ret->hdr = rec->hdr;
	memcpy(ret->stack, rec->stack, sizeof(ret->stack));
	memcpy(ret->group, rec->group, sizeof(ret->group));
	ret->room = ret->hdr.cells;
	ret->image = malloc(ret->room * sizeof(*ret->image));
	if (!ret->image)
		return -ENOMEM;
	ret->rule = (struct dmm_rule_rec *)&ret->image[DMM_RULE_CELL];
	return fread(ret->image, sizeof(*ret->image), ret->room, in) == ret->room ? 0 : -EPROTO;
}

int history_read(const struct tree *t, dmm_u64 generation, struct dmm_policy **ret)
{
	_cleanup_class_ struct dmm_class *class = class_new();
	char path[PATH_MAX];
	FILE *in;
	int r = file_of(t, generation, path);

	if (r == 0 && !class)
		r = -ENOMEM;
	if (r < 0)
		return r;
	in = fopen(path, "re");
	if (!in)
		return -errno;
	r = get(in, class);
	fclose(in);
	return r == 0 ? class_decompile(class, ret) : r;
}

static void forget_old(const struct tree *t)
{
	struct history_entry *list;
	char path[PATH_MAX];
	dmm_u64 bytes = 0;
	size_t n;

	if (history_list(t, &list, &n) < 0)
		return;
	for (size_t age = 0; age < n; age++) {
		const struct history_entry *e = &list[n - 1 - age];

		bytes += e->bytes;
		if (age >= HISTORY_MAX || (age >= 2 && bytes > HISTORY_BYTES))
			if (file_of(t, e->generation, path) == 0)
				unlink(path);
	}
	free(list);
}

int history_commit(struct tree *t, const struct dmm_class *c, const char *how,
		   dmm_u64 *ret_generation)
{
	dmm_u64 generation;
	int r = maps_commit(t, c, &generation), w;

	if (r < 0)
		return r;
	w = save(t, c, generation, how);
	if (w < 0)
		log_warn("the history of generation %llu cannot be written: %s", generation,
			 strerror(-w));
	forget_old(t);
	*ret_generation = generation;
	return 0;
}

static bool read_entry(const char *dir, const char *name, struct history_entry *ret)
{
	char path[PATH_MAX];
	struct stat st;
	char *end;
	FILE *f;
	bool ok;

	*ret = (struct history_entry){.generation = strtoull(name, &end, 10)};
	if (end == name || strcmp(end, ".class") != 0 ||
	    snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return false;
	f = fopen(path, "re");
	if (!f)
		return false;
	ok = fscanf(f, HEADER, &ret->generation, &ret->when_ns, ret->how) == 3 &&
	     fstat(fileno(f), &st) == 0;
	ret->bytes = ok ? (dmm_u64)st.st_size : 0;
	text_clean(ret->how, sizeof(ret->how) - 1, ret->how); /* it may be cut in a character */
	fclose(f);
	return ok;
}

static int by_generation(const void *a, const void *b)
{
	const struct history_entry *x = a, *y = b;

	return (x->generation > y->generation) - (x->generation < y->generation);
}

int history_list(const struct tree *t, struct history_entry **ret, size_t *ret_n)
{
	struct history_entry *list = NULL, *more, entry;
	char dir[PATH_MAX];
	struct dirent *e;
	size_t n = 0;
	DIR *d;

	directory(t, false, dir);
	d = opendir(dir);
	if (!d && errno != ENOENT)
		return -errno;
	while (d && (e = readdir(d))) {
		/* a generation before the maps were made anew is not one of theirs */
		if (!read_entry(dir, e->d_name, &entry) || entry.generation > t->meta->generation)
			continue;
		more = realloc(list, (n + 1) * sizeof(*list));
		if (!more)
			break;
		list = more;
		list[n++] = entry;
	}
	if (d)
		closedir(d);
	if (n)
		qsort(list, n, sizeof(*list), by_generation);
	*ret = list;
	*ret_n = n;
	return 0;
}

/* ---- pending ---- */

int history_pending(const struct tree *t, struct history_pending *ret)
{
	char path[PATH_MAX];
	bool guarded;
	FILE *f;
	int n;

	if (file_in(t, "pending", path) < 0)
		return -ENOENT;
	f = fopen(path, "re");
	if (!f)
		return -ENOENT;
	n = fscanf(f, "%llu %llu %llu %d", &ret->generation, &ret->before, &ret->until_ns,
		   &ret->guard);
	/* after it was read: it is locked before anything is written */
	guarded = flock(fileno(f), LOCK_SH | LOCK_NB) < 0;
	fclose(f);
	return n == 4 && guarded && ret->generation == t->meta->generation && ret->guard > 0
		       ? 0
		       : -ENOENT;
}

int history_pending_open(const struct tree *t)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];
	int r = file_in(t, "pending", path);

	if (r < 0)
		return r;
	unlink(path); /* a guard of before may still hold its own */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return -errno;
	r = fd;
	fd = -1;
	return r;
}

int history_pending_set(int fd, const struct history_pending *p)
{
	return dprintf(fd, "%llu %llu %llu %d\n", p->generation, p->before, p->until_ns, p->guard) <
			       0
		       ? -errno
		       : 0;
}

void history_pending_end(const struct tree *t)
{
	struct history_pending p;
	char path[PATH_MAX];
	int fd;

	if (history_pending(t, &p) < 0)
		return;
	fd = (int)syscall(SYS_pidfd_open, p.guard, 0);
	/* if there is one still, it has had this number all the time */
	if (fd >= 0 && history_pending(t, &p) == 0)
		syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0);
	if (fd >= 0)
		close(fd);
	if (file_in(t, "pending", path) == 0)
		unlink(path);
}
