// SPDX-License-Identifier: Apache-2.0
/* The live sockets, as the iterators of dmm_flows.bpf.c write them. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/maps.h"

/* TREE_MAPS: it is not about a map. */
static int open_iterator(struct tree *t, const char *name, enum tree_map map)
{
	union bpf_iter_link_info info = {
		.map = {.map_fd = map == TREE_MAPS ? 0 : (dmm_u32)t->map[map]}};
	LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = map == TREE_MAPS ? NULL : &info,
		    .iter_info_len = map == TREE_MAPS ? 0 : sizeof(info));
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

bool maps_flows_by_files(const struct tree *t)
{
	_cleanup_close_ int prog = tree_prog(t, "dmm_file_flows");

	return prog >= 0;
}

/* Call cb for each record of `size` bytes that the iterator writes, until it returns non-zero. */
static int read_records(struct tree *t, const char *name, enum tree_map map, size_t size,
			int (*cb)(const void *record, void *ctx), void *ctx)
{
	_cleanup_close_ int fd = open_iterator(t, name, map);
	_Alignas(dmm_u64) char buf[32768];
	size_t have = 0, at;
	ssize_t n;
	int r;

	if (fd < 0) {
		log_err("cannot list flows: %s", strerror(-fd));
		return fd;
	}
	for (;;) {
		n = read(fd, buf + have, sizeof(buf) - have);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		have += (size_t)n;
		for (at = 0; at + size <= have; at += size) {
			r = cb(buf + at, ctx);
			if (r != 0)
				return r;
		}
		memmove(buf, buf + at, have - at);
		have -= at;
	}
}

/* The sockets that were met already, by cookie: an open hash table, at most half full. */
struct seen {
	dmm_u64 *slot;
	size_t n, slots; /* a power of 2 */
};

static bool seen_put(struct seen *s, dmm_u64 cookie)
{
	size_t at = (size_t)(cookie * 0x9e3779b97f4a7c15ULL >> 20);

	for (at &= s->slots - 1; s->slot[at] && s->slot[at] != cookie;)
		at = (at + 1) & (s->slots - 1);
	if (s->slot[at])
		return false;
	s->slot[at] = cookie;
	s->n++;
	return true;
}

/* 1: it is new. 0: it is not. -ENOMEM. */
static int seen_add(struct seen *s, dmm_u64 cookie)
{
	struct seen more = {.slots = s->slots ? 2 * s->slots : 1024};

	if (2 * (s->n + 1) > s->slots) {
		more.slot = calloc(more.slots, sizeof(*more.slot));
		if (!more.slot)
			return -ENOMEM;
		for (size_t i = 0; i < s->slots; i++)
			if (s->slot[i])
				seen_put(&more, s->slot[i]);
		free(s->slot);
		*s = more;
	}
	return seen_put(s, cookie);
}

int maps_regroup_flows(struct tree *t)
{
	/* they write nothing */
	return maps_flows_by_files(t)
		       ? read_records(t, "dmm_file_regroup", TREE_MAPS, 1, NULL, NULL)
		       : read_records(t, "dmm_regroup_sk", TREE_SOCK, 1, NULL, NULL);
}

int maps_keep_rule_names(struct tree *t, dmm_u64 generation)
{
	struct dmm_plain_names args = {.generation = generation};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &args, .ctx_size_in = sizeof(args));
	_cleanup_close_ int prog = tree_prog(t, "dmm_plain_names");

	return prog < 0 ? prog : bpf_prog_test_run_opts(prog, &opts);
}

struct count {
	dmm_u64 *stack;
	struct seen seen;
};

static int count_stack(const void *record, void *ctx)
{
	const dmm_u8 *stack = record;
	struct count *c = ctx;

	if (*stack < DMM_MAX_STACKS)
		c->stack[*stack]++;
	return 0;
}

static int count_once(const void *record, void *ctx)
{
	const struct dmm_flow_stack *s = record;
	struct count *c = ctx;
	int r = seen_add(&c->seen, s->cookie);

	return r <= 0 ? r : count_stack(&s->stack, c);
}

int maps_active(struct tree *t, dmm_u64 *ret)
{
	struct count c = {.stack = ret};
	int r;

	memset(ret, 0, DMM_MAX_STACKS * sizeof(*ret));
	if (maps_flows_by_files(t)) {
		r = read_records(t, "dmm_file_stacks", TREE_MAPS, sizeof(struct dmm_flow_stack),
				 count_once, &c);
		free(c.seen.slot);
		return r;
	}
	r = read_records(t, "dmm_stacks", TREE_SOCK, 1, count_stack, &c);
	return r < 0 ? r : read_records(t, "dmm_plain_stacks", TREE_PLAIN, 1, count_stack, &c);
}

struct rows {
	int (*cb)(const struct dmm_flow_row *f, void *ctx);
	void *ctx;
	struct seen seen;
};

static int tell_row(const void *record, void *ctx)
{
	struct rows *rows = ctx;

	return rows->cb(record, rows->ctx);
}

static int tell_row_once(const void *record, void *ctx)
{
	const struct dmm_flow_row *f = record;
	struct rows *rows = ctx;
	int r = seen_add(&rows->seen, f->sock.cookie);

	return r <= 0 ? r : rows->cb(f, rows->ctx);
}

int maps_flows(struct tree *t, int (*cb)(const struct dmm_flow_row *f, void *ctx), void *ctx)
{
	const size_t size = sizeof(struct dmm_flow_row);
	struct rows rows = {.cb = cb, .ctx = ctx};
	int r;

	if (maps_flows_by_files(t)) {
		r = read_records(t, "dmm_file_flows", TREE_MAPS, size, tell_row_once, &rows);
		free(rows.seen.slot);
		return r;
	}
	r = read_records(t, "dmm_flows", TREE_SOCK, size, tell_row, &rows);
	return r != 0 ? r : read_records(t, "dmm_plain_flows", TREE_PLAIN, size, tell_row, &rows);
}
