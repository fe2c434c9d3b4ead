// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/base/util.h"
#include "policyd/supervise.h"
#include "policyd/telemetry.h"

static double self_start_s(void)
{
	static double start;
	unsigned long long ticks = 0, btime = 0;
	char line[1024], *p;

	if (start > 0)
		return start;
	{
		_cleanup_fclose_ FILE *stat = fopen("/proc/self/stat", "re");
		_cleanup_fclose_ FILE *host = fopen("/proc/stat", "re");

		if (stat && fgets(line, sizeof(line), stat) && (p = strrchr(line, ')')))
			sscanf(p + 1,
			       " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d"
			       " %*d %*d %*d %llu",
			       &ticks);
		while (host && fgets(line, sizeof(line), host))
			if (sscanf(line, "btime %llu", &btime) == 1)
				break;
	}
	start = (double)btime + (double)ticks / (double)sysconf(_SC_CLK_TCK);
	return start;
}

static dmm_u64 self_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	dmm_u64 n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 3; /* ".", ".." and the directory itself */
}

static void self_read(struct telemetry *t)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/statm", "re");
	unsigned long long pages = 0, virtual = 0;
	struct rlimit files;
	struct rusage ru;

	if (f && fscanf(f, "%llu %llu", &virtual, &pages) != 2)
		pages = virtual = 0;
	t->self.virtual_bytes = virtual * (dmm_u64)sysconf(_SC_PAGESIZE);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		t->self.max_fds = files.rlim_cur;
	t->self.rss_bytes = pages * (dmm_u64)sysconf(_SC_PAGESIZE);
	if (getrusage(RUSAGE_SELF, &ru) == 0)
		t->self.cpu_s = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
				(double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
	t->self.fds = self_fds();
	t->self.start_s = self_start_s();
}

static void maps_usage_read(struct telemetry *t, struct tree *tree)
{
	static const struct {
		const char *name;
		enum tree_map map;
	} hash[] = {
		[TELEMETRY_PENDING] = {"pending", TREE_PENDING},
		[TELEMETRY_TUPLE] = {"tuple", TREE_TUPLE},
		[TELEMETRY_LISTEN] = {"listen", TREE_LISTEN},
		[TELEMETRY_ROUTE] = {"route", TREE_ROUTE},
	};
	const struct dmm_class *c = t->class;
	dmm_u32 rules = 0, stacks = 0, groups = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(hash); i++) {
		t->map[i].name = hash[i].name;
		t->map[i].known = maps_usage(tree, hash[i].map, &t->map[i].used, &t->map[i].max) ==
				  0;
	}
	for (unsigned i = 0; i < c->hdr.rules; i++)
		rules += class_live(c, i);
	for (unsigned i = 0; i < DMM_MAX_STACKS; i++)
		stacks += c->stack[i].kind != DMM_KIND_FREE;
	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++)
		groups += c->group[i].name[0] != '\0';
	t->map[TELEMETRY_RULE] = (struct telemetry_map_usage){"rule", true, rules, DMM_MAX_RULES};
	t->map[TELEMETRY_STACK] =
		(struct telemetry_map_usage){"stack", true, stacks, DMM_MAX_STACKS};
	t->map[TELEMETRY_GROUP] =
		(struct telemetry_map_usage){"group", true, groups, DMM_MAX_GROUPS - 1};
}

/* What each thread has counted; an instance before may have had more of them. */
static void threads_read(struct telemetry_stack *s, const struct tree *tree, unsigned id)
{
	for (unsigned n = 0; n < DMM_MAX_THREADS; n++) {
		const volatile dmm_u64 *row = &tree->instctr[DMM_INSTANCE_ROW(id, n)];

		for (unsigned i = 0; i < DMM_I_COUNT; i++) {
			s->thread[n][i] = row[i];
			s->counter[i] += s->thread[n][i];
		}
		for (unsigned i = 0; s->up && n < s->rt.threads && i < DMM_RING_COUNT; i++)
			s->ring[i] = MAX(s->ring[i], row[DMM_INSTANCE_RING(i)]);
	}
}

static int stack_read(struct telemetry *t, struct tree *tree, unsigned id)
{
	struct telemetry_stack *s = &t->stack[id];
	dmm_u8 kind = t->class->stack[id].kind;
	dmm_u64 now = now_ns();
	int r;

	s->up = kind == DMM_KIND_KERNEL;
	s->rt = tree->rt[id];
	if (kind != DMM_KIND_KERNEL && kind != DMM_KIND_USERSPACE)
		return 0;
	r = measures_read(tree, id, &s->measured);
	if (r < 0 || kind == DMM_KIND_KERNEL)
		return r;
	s->up = maps_stack_up(tree, id);
	if (s->rt.heartbeat_ns && s->rt.heartbeat_ns < now)
		s->heartbeat_age_ns = now - s->rt.heartbeat_ns;
	threads_read(s, tree, id);
	r = maps_hold_counters(tree, id, s->hold);
	if (r < 0)
		return r;
	return maps_xdp_counters(tree, id, s->xdp);
}

static int active_read(struct telemetry *t, struct tree *tree)
{
	dmm_u64 active[DMM_MAX_STACKS];
	int r = maps_active(tree, active);

	for (unsigned id = 0; r == 0 && id < DMM_MAX_STACKS; id++)
		t->stack[id].active = active[id];
	return r;
}

static void supervisor_read(struct telemetry *t, const struct supervisor *sup)
{
	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		const struct instance *in = &sup->inst[id];
		struct telemetry_stack *s = &t->stack[id];

		s->running = in->pid > 0;
		s->restarts = in->restarts;
		s->hangs = in->hangs;
		s->cpu_ns = instance_cpu_ns(in->pid, NULL);
		memcpy(s->why, in->why, sizeof(s->why));
	}
}

/* Of what the policy has: most of the numbers are nobody's. */
static int steering_read(struct telemetry *t, struct tree *tree)
{
	int r = maps_fallbacks(tree, DMM_MAX_STACKS,
			       &t->fallback[DMM_FALLBACK_INDEX(DMM_MAX_STACKS, 0, 0)]);

	for (unsigned id = 0; r == 0 && id < DMM_MAX_STACKS; id++)
		if (t->class->stack[id].kind != DMM_KIND_FREE)
			r = maps_fallbacks(tree, id, &t->fallback[DMM_FALLBACK_INDEX(id, 0, 0)]);
	for (dmm_u32 i = 0; r == 0 && i < t->class->hdr.rules; i++) {
		unsigned number = DMM_MEASURE_NUMBER(t->class->rule[i].measure);

		if (number && number <= DMM_MAX_MEASURED)
			r = maps_steered(tree, number, &t->steered[DMM_STEERED_INDEX(number, 0)]);
	}
	return r;
}

static void links_read(struct telemetry *t)
{
	struct link_state link[DMM_MAX_STACKS];

	if (link_read(t->class, link) < 0)
		return; /* unknown, as all was zeroed */
	for (unsigned id = 0; id < DMM_MAX_STACKS; id++)
		t->stack[id].link = link[id];
}

int telemetry_read(struct telemetry *ret, struct tree *t, const struct dmm_class *class,
		   dmm_u64 generation, const struct supervisor *sup)
{
	int r;

	memset(ret, 0, sizeof(*ret));
	ret->class = class;
	ret->generation = generation;
	ret->committed_ns = t->meta->committed_ns;
	r = maps_counters(t, ret->counter);
	if (r < 0)
		return r;
	r = maps_verdicts(t, ret->verdict);
	if (r < 0)
		return r;
	r = maps_hits(t, ret->hit);
	if (r < 0)
		return r;
	r = steering_read(ret, t);
	if (r < 0)
		return r;
	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		r = stack_read(ret, t, id);
		if (r < 0)
			return r;
	}
	r = active_read(ret, t);
	if (r < 0)
		return r;
	r = maps_programs(t, ret->program, TELEMETRY_PROGRAMS);
	if (r < 0)
		return r;
	ret->n_program = (unsigned)r;
	maps_usage_read(ret, t);
	links_read(ret);
	ret->pressure_known = pressure_read(ret->pressure_us);
	if (sup)
		supervisor_read(ret, sup);
	self_read(ret);
	return 0;
}
