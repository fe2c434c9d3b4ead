// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/maps.h"

static int open_iterator(struct tree *t, const char *name, enum tree_map map)
{
	union bpf_iter_link_info info = {.map = {.map_fd = (dmm_u32)t->map[map]}};
	LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = &info, .iter_info_len = sizeof(info));
	_cleanup_close_ int prog = tree_prog(t, name);
	_cleanup_close_ int link = -1;
	int fd;

	if (prog < 0)
		return prog;
	link = bpf_link_create(prog, 0, BPF_TRACE_ITER, &opts);
	if (link < 0)
		return -errno;
	fd = bpf_iter_create(link);
	return fd < 0 ? -errno : fd;
}

static int read_rows(struct tree *t, const char *name, enum tree_map map,
		     int (*cb)(const struct dmm_flow_row *f, void *ctx), void *ctx)
{
	_cleanup_close_ int fd = open_iterator(t, name, map);
	struct dmm_flow_row rows[64];
	size_t have = 0;
	ssize_t n;
	int r;

	if (fd < 0) {
		log_err("cannot list flows: %s", strerror(-fd));
		return fd;
	}
	for (;;) {
		n = read(fd, (char *)rows + have, sizeof(rows) - have);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		have += (size_t)n;
		for (size_t i = 0; i < have / sizeof(rows[0]); i++) {
			r = cb(&rows[i], ctx);
			if (r != 0)
				return r;
		}
		memmove(rows, (char *)rows + have / sizeof(rows[0]) * sizeof(rows[0]),
			have % sizeof(rows[0]));
		have %= sizeof(rows[0]);
	}
}

int maps_regroup_flows(struct tree *t)
{
	return read_rows(t, "dmm_regroup_sk", TREE_SOCK, NULL, NULL);
}

int maps_keep_rule_names(struct tree *t, dmm_u64 generation)
{
	struct dmm_plain_names args = {.generation = generation};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &args, .ctx_size_in = sizeof(args));
	_cleanup_close_ int prog = tree_prog(t, "dmm_plain_names");

	return prog < 0 ? prog : bpf_prog_test_run_opts(prog, &opts);
}

/* Count the bytes that the iterator writes. */
static int count_stacks(struct tree *t, const char *name, enum tree_map map, dmm_u64 *ret)
{
	_cleanup_close_ int fd = open_iterator(t, name, map);
	dmm_u8 stacks[32768];
	ssize_t n;

	if (fd < 0) {
		log_err("cannot count flows: %s", strerror(-fd));
		return fd;
	}
	for (;;) {
		n = read(fd, stacks, sizeof(stacks));
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		for (ssize_t i = 0; i < n; i++)
			if (stacks[i] < DMM_MAX_STACKS)
				ret[stacks[i]]++;
	}
}

int maps_active(struct tree *t, dmm_u64 *ret)
{
	int r;

	memset(ret, 0, DMM_MAX_STACKS * sizeof(*ret));
	r = count_stacks(t, "dmm_stacks", TREE_SOCK, ret);
	return r < 0 ? r : count_stacks(t, "dmm_plain_stacks", TREE_PLAIN, ret);
}

int maps_flows(struct tree *t, int (*cb)(const struct dmm_flow_row *f, void *ctx), void *ctx)
{
	int r = read_rows(t, "dmm_flows", TREE_SOCK, cb, ctx);

	return r != 0 ? r : read_rows(t, "dmm_plain_flows", TREE_PLAIN, cb, ctx);
}
