// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <errno.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "lib/base/util.h"
#include "loader/maps.h"

/* n sums over CPUs from a per-CPU array, from `first` on; many entries a system call. */
static int sum_range(int map, dmm_u32 first, dmm_u32 n, dmm_u64 *ret)
{
	enum { BATCH = 1024 };
	int cpus = libbpf_num_possible_cpus();
	_cleanup_free_ dmm_u64 *v = calloc((size_t)BATCH * (size_t)MAX(cpus, 1), sizeof(*v));
	_cleanup_free_ dmm_u32 *key = calloc(BATCH, sizeof(*key));

	if (cpus < 0 || !v || !key)
		return -ENOMEM;
	for (dmm_u32 done = 0, got; done < n; done += got) {
		dmm_u32 before = first + done - 1, next; /* a batch begins behind it */

		got = MIN(n - done, (dmm_u32)BATCH);
		if (bpf_map_lookup_batch(map, first + done ? &before : NULL, &next, key, v, &got,
					 NULL) < 0 &&
		    errno != ENOENT)
			return -errno;
		if (!got)
			return -EUCLEAN;
		for (dmm_u32 i = 0; i < got; i++) {
			ret[done + i] = 0;
			for (int c = 0; c < cpus; c++)
				ret[done + i] += v[i * (dmm_u32)cpus + (dmm_u32)c];
		}
	}
	return 0;
}

int maps_counters(struct tree *t, dmm_u64 *ret)
{
	return sum_range(t->map[TREE_COUNTERS], 0, DMM_C_COUNT, ret);
}

int maps_verdicts(struct tree *t, dmm_u64 *ret)
{
	return sum_range(t->map[TREE_VERDICTS], 0, DMM_MAX_STACKS * DMM_ROLES * DMM_REASON_SPACE,
			 ret);
}

int maps_hits(struct tree *t, dmm_u64 *ret)
{
	dmm_u32 rules = t->meta->rules;
	int r;

	if (rules > DMM_MAX_RULES)
		return -EUCLEAN;
	memset(ret, 0, (DMM_MAX_RULES + 1) * sizeof(*ret));
	r = sum_range(t->map[TREE_HITS], 0, rules, ret);
	return r == 0 ? sum_range(t->map[TREE_HITS], DMM_MAX_RULES, 1, ret + DMM_MAX_RULES) : r;
}

int maps_fallbacks(struct tree *t, unsigned wanted, dmm_u64 *ret)
{
	return sum_range(t->map[TREE_FALLBACKS], DMM_FALLBACK_INDEX(wanted, 0, 0),
			 DMM_FALLBACK_INDEX(1, 0, 0), ret);
}

int maps_steered(struct tree *t, unsigned number, dmm_u64 *ret)
{
	return sum_range(t->map[TREE_STEERED], DMM_STEERED_INDEX(number, 0), DMM_MAX_STACKS, ret);
}

int maps_hold_counters(struct tree *t, unsigned stack, dmm_u64 *ret)
{
	return sum_range(t->map[TREE_HOLDCTR], stack * DMM_HOLD_SPACE, DMM_H_COUNT, ret);
}

int maps_xdp_counters(struct tree *t, unsigned stack, dmm_u64 *ret)
{
	return sum_range(t->map[TREE_XDPCTR], stack * DMM_XDP_SPACE, DMM_X_COUNT, ret);
}

int maps_usage(struct tree *t, enum tree_map map, dmm_u32 *ret_used, dmm_u32 *ret_max)
{
	struct bpf_map_info info = {};
	dmm_u32 len = sizeof(info), n = 0;
	char key[64], next[64];
	void *prev = NULL;

	if (bpf_obj_get_info_by_fd(t->map[map], &info, &len) < 0)
		return -errno;
	*ret_max = info.max_entries;
	if (info.key_size > sizeof(key))
		return -E2BIG;
	/* keys that vanish during the walk restart it: bounded by the map's size */
	while (n < info.max_entries && bpf_map_get_next_key(t->map[map], prev, next) == 0) {
		memcpy(key, next, info.key_size);
		prev = key;
		n++;
	}
	*ret_used = n;
	return 0;
}

int maps_programs(struct tree *t, struct maps_program *ret, unsigned max)
{
	char dir[PATH_MAX];
	struct dirent *e;
	unsigned n = 0;
	DIR *d;

	if ((size_t)snprintf(dir, sizeof(dir), "%s/progs", t->path) >= sizeof(dir))
		return -ENAMETOOLONG;
	d = opendir(dir);
	if (!d)
		return -errno;
	while (n < max && (e = readdir(d))) {
		_cleanup_close_ int prog = e->d_name[0] == '.' ? -1 : tree_prog(t, e->d_name);
		struct bpf_prog_info info = {};
		dmm_u32 len = sizeof(info);

		if (prog < 0 || bpf_obj_get_info_by_fd(prog, &info, &len) < 0)
			continue;
		snprintf(ret[n].name, sizeof(ret[n].name), "%s", e->d_name);
		ret[n].run_ns = info.run_time_ns;
		ret[n].runs = info.run_cnt;
		n++;
	}
	closedir(d);
	return (int)n;
}
