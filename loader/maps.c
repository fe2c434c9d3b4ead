// SPDX-License-Identifier: Apache-2.0
/*
 * The generation switch. What must stay true: nothing of the slot in force is ever written; the
 * switch is one aligned store; who reads a slot that is being written again can tell
 * (dmm_meta.building), or is waited for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/attach.h"
#include "loader/image.h"
#include "loader/maps.h"
#include "loader/needs.h"

/*
 * An update of a map in a map waits for an RCU grace period, by the kernel's promise to userspace
 * (since 4.20); the entry behind the stacks is there for this.
 */
int maps_wait_readers(struct tree *t)
{
	_cleanup_close_ int ring =
		bpf_map_create(BPF_MAP_TYPE_RINGBUF, "dmm_barrier", 0, 0, DMM_EVENT_RING, NULL);
	dmm_u32 key = DMM_EVENTS_INDEX(DMM_MAX_STACKS, 0);
	int r = 0;

	if (ring < 0)
		return -errno;
	if (bpf_map_update_elem(t->map[TREE_EVENTS], &key, &ring, 0) < 0)
		r = -errno;
	bpf_map_delete_elem(t->map[TREE_EVENTS], &key);
	return r;
}

static int write_range(int map, dmm_u32 first, const void *values, size_t size, dmm_u32 n)
{
	for (dmm_u32 i = 0; i < n; i++) {
		dmm_u32 key = first + i;

		if (bpf_map_update_elem(map, &key, (const char *)values + i * size, 0) < 0)
			return -errno;
	}
	return 0;
}

static int read_range(int map, dmm_u32 first, void *values, size_t size, dmm_u32 n)
{
	for (dmm_u32 i = 0; i < n; i++) {
		dmm_u32 key = first + i;

		if (bpf_map_lookup_elem(map, &key, (char *)values + i * size) < 0)
			return -errno;
	}
	return 0;
}

/*
 * The stacks of the slot. Programs that still read its last generation walk over them, so they have
 * to end first; an image they notice to be written, and need not be waited for.
 */
static int write_stacks(struct tree *t, dmm_u32 slot, const struct dmm_class *c)
{
	struct dmm_stack_rec old[DMM_MAX_STACKS];
	int r = read_range(t->map[TREE_STACK], slot * DMM_MAX_STACKS, old, sizeof(old[0]),
			   DMM_MAX_STACKS);

	if (r < 0 || memcmp(old, c->stack, sizeof(old)) == 0)
		return r;
	r = maps_wait_readers(t);
	if (r < 0)
		return r;
	return write_range(t->map[TREE_STACK], slot * DMM_MAX_STACKS, c->stack, sizeof(c->stack[0]),
			   DMM_MAX_STACKS);
}

static int write_slot(struct tree *t, dmm_u32 slot, const struct dmm_class *c)
{
	dmm_u64 now = t->meta->generation;
	int r;

	if (now > 1 && maps_keep_rule_names(t, now - 1) < 0)
		log_warn("sockets that live longer than two policies will not tell their rules");
	__atomic_store_n(&t->meta->building, now + 1, __ATOMIC_SEQ_CST);
	r = write_stacks(t, slot, c);
	return r == 0 ? image_write(t, slot, c) : r;
}

/* Of a rule, "" of a place that is free. */
static const char *name_at(const struct dmm_class_hdr *hdr, const struct dmm_rule_rec *rules,
			   dmm_u32 rule)
{
	return rule < hdr->rules ? rules[rule].name : "";
}

/* Entries of a per-CPU array that are to be zero, many a system call. */
struct zeroing {
	int map;
	dmm_u64 *zero; /* ZERO_BATCH values, one for each CPU */
	size_t n;
	dmm_u32 key[1024];
};
#define ZERO_BATCH ARRAY_SIZE(((struct zeroing *)0)->key)

static void zero_flush(struct zeroing *z)
{
	dmm_u32 n = (dmm_u32)z->n;

	/* kernels before 5.13 do not know it for such arrays */
	if (n && bpf_map_update_batch(z->map, z->key, z->zero, &n, NULL) < 0)
		for (size_t i = 0; i < z->n; i++)
			bpf_map_update_elem(z->map, &z->key[i], z->zero, 0);
	z->n = 0;
}

static void zero_add(struct zeroing *z, dmm_u32 key)
{
	z->key[z->n++] = key;
	if (z->n == ZERO_BATCH)
		zero_flush(z);
}

/* A rule that has the place of another does not have its hits. */
static void settle_hits(struct zeroing *z, const struct image_view *old, const struct dmm_class *c)
{
	for (dmm_u32 i = 0; i < old->hdr.rules || i < c->hdr.rules; i++)
		if (strcmp(name_at(&old->hdr, old->rule, i), name_at(&c->hdr, c->rule, i)) != 0)
			zero_add(z, i);
	zero_flush(z);
}

/* The same for the number that telemetry knows a rule by. */
static void settle_steered(struct zeroing *z, const struct image_view *old,
			   const struct dmm_class *c)
{
	const char *had[DMM_MAX_MEASURED + 1] = {NULL};
	unsigned number;

	for (dmm_u32 i = 0; i < old->hdr.rules; i++) {
		number = DMM_MEASURE_NUMBER(old->rule[i].measure);
		if (number <= DMM_MAX_MEASURED)
			had[number] = old->rule[i].name;
	}
	for (dmm_u32 i = 0; i < c->hdr.rules; i++) {
		number = DMM_MEASURE_NUMBER(c->rule[i].measure);
		if (!number || number > DMM_MAX_MEASURED ||
		    (had[number] && strcmp(had[number], c->rule[i].name) == 0))
			continue;
		for (dmm_u32 s = 0; s < DMM_MAX_STACKS; s++)
			zero_add(z, DMM_STEERED_INDEX(number, s));
	}
	zero_flush(z);
}

/* Before the switch, or a scrape would see counts under another's name. */
static void settle_counts(struct tree *t, const struct image_view *old, const struct dmm_class *c)
{
	int cpus = libbpf_num_possible_cpus();
	_cleanup_free_ dmm_u64 *zero = calloc(ZERO_BATCH * (size_t)MAX(cpus, 1), sizeof(*zero));
	struct zeroing z = {.map = t->map[TREE_HITS], .zero = zero};

	if (!zero || cpus <= 0)
		return;
	settle_hits(&z, old, c);
	z.map = t->map[TREE_STEERED];
	settle_steered(&z, old, c);
}

static bool same_group(const struct dmm_group_rec *a, const struct dmm_group_rec *b)
{
	return strcmp(a->name, b->name) == 0 && strcmp(a->cgroup, b->cgroup) == 0;
}

/* The group of c that lives in the cgroup of `old`, under whatever name; 0: none. */
static unsigned heir_of(const struct dmm_class *c, const struct dmm_group_rec *old)
{
	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++)
		if (c->group[i].name[0] && strcmp(c->group[i].cgroup, old->cgroup) == 0)
			return i;
	return 0;
}

static bool has_cgroup(const struct dmm_group_rec *groups, const char *cgroup)
{
	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++)
		if (groups[i].name[0] && strcmp(groups[i].cgroup, cgroup) == 0)
			return true;
	return false;
}

/* What has to be settled after the switch. */
struct settling {
	struct image_view old;			    /* what was in force; none of generation 0 */
	struct dmm_stack_rec stack[DMM_MAX_STACKS]; /* its stacks */
	struct dmm_group_rec group[DMM_MAX_GROUPS];
	dmm_u8 needs[DMM_MAX_GROUPS]; /* of the groups to come */
	bool attached[DMM_MAX_GROUPS];
};

/*
 * What a commit that was killed has left: groups that never came to be in force, or were about to
 * go, or were only half attached. One whose cgroup c has too is taken on, but until it has the id
 * that it has in c, its sockets are nobody's.
 */
static void end_unfinished(struct tree *t, dmm_u64 in_force, const struct dmm_class *c,
			   struct dmm_group_rec *groups)
{
	unsigned heir;

	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++) {
		if (!groups[i].name[0])
			continue;
		heir = heir_of(c, &groups[i]);
		if (groups[i].cgroup_id && attach_has_links(t, &groups[i]) &&
		    (heir || (in_force >> i & 1))) {
			if (heir != i && !(in_force >> i & 1))
				attach_suspend(t, &groups[i]);
			continue;
		}
		attach_detach(t, &groups[i]);
		groups[i] = (struct dmm_group_rec){0};
	}
}

/* Attach what is new in c, and what its groups need now. On failure undo the first. */
static int attach_new(struct tree *t, const struct dmm_class *c, struct settling *s)
{
	const struct dmm_group_rec *old = s->group;
	unsigned to;
	int r = 0;

	for (unsigned i = 1; r == 0 && i < DMM_MAX_GROUPS; i++) {
		to = old[i].name[0] ? heir_of(c, &old[i]) : 0;
		if (to)
			r = attach_more(t, &old[i], s->needs[to]);
	}
	for (unsigned i = 1; r == 0 && i < DMM_MAX_GROUPS; i++) {
		struct dmm_group_rec rec = c->group[i];

		if (!rec.name[0] || old[i].name[0] || has_cgroup(old, rec.cgroup))
			continue;
		r = attach_group(t, i, &rec, s->needs[i]);
		s->attached[i] = r == 0;
	}
	for (unsigned i = 1; r < 0 && i < DMM_MAX_GROUPS; i++)
		if (s->attached[i])
			attach_detach(t, &c->group[i]);
	return r;
}

/* After the switch: detach what is gone, rename what kept its cgroup, attach what has another. */
static void settle_groups(struct tree *t, const struct dmm_class *c, struct settling *s)
{
	const struct dmm_group_rec *old = s->group;
	struct dmm_group_rec rec;
	unsigned to;

	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++)
		if (old[i].name[0] && !heir_of(c, &old[i]))
			attach_detach(t, &old[i]);
	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++) {
		if (!old[i].name[0] || same_group(&old[i], &c->group[i]))
			continue;
		to = heir_of(c, &old[i]);
		rec = c->group[to];
		if (to && attach_rename(t, i, to, &rec) == 0)
			s->attached[to] = true;
		else if (to)
			attach_detach(t, &old[i]);
	}
	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++) {
		rec = c->group[i];
		if (!rec.name[0] || s->attached[i] || same_group(&old[i], &rec))
			continue;
		if (attach_group(t, i, &rec, s->needs[i]) < 0)
			log_err("group %s stays unmanaged until the next commit", rec.name);
	}
	attach_trim(t, s->needs);
}

/* A stack that is new under its id, or gone, has no switch from another's time. */
static void settle_switches(struct tree *t, const struct dmm_class *c,
			    const struct dmm_stack_rec *old)
{
	for (unsigned i = 0; i < DMM_MAX_STACKS; i++)
		if (strcmp(c->stack[i].name, old[i].name) != 0)
			t->rt[i].off = 0;
}

static void switch_to(struct tree *t, const struct dmm_class *c, dmm_u64 generation)
{
	t->meta->committed_ns = realtime_ns();
	__atomic_store_n(&t->meta->generation, generation, __ATOMIC_SEQ_CST);
	t->meta->rules = c->hdr.rules;
}

static int build(struct tree *t, const struct dmm_class *c, struct settling *s)
{
	dmm_u32 slot = t->meta->generation & 1;
	int r = t->meta->generation ? image_view(t, slot, &s->old) : 0;

	needs_of_groups(c, s->needs);
	if (r == 0 && t->meta->generation)
		r = read_range(t->map[TREE_STACK], slot * DMM_MAX_STACKS, s->stack,
			       sizeof(s->stack[0]), DMM_MAX_STACKS);
	if (r == 0)
		r = read_range(t->map[TREE_GROUP], 0, s->group, sizeof(s->group[0]),
			       DMM_MAX_GROUPS);
	if (r == 0)
		r = write_slot(t, (dmm_u32)(t->meta->generation + 1) & 1, c);
	if (r < 0)
		log_err("cannot write the policy to %s: %s; the one in force stays", t->path,
			strerror(-r));
	if (r < 0)
		return r;
	end_unfinished(t, s->old.hdr.groups, c, s->group);
	return attach_new(t, c, s);
}

int maps_commit(struct tree *t, const struct dmm_class *c, dmm_u64 *ret_generation)
{
	struct settling s = {0};
	int r;

	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++)
		if (c->group[i].name[0] && attach_allowed(t, &c->group[i]) < 0)
			return -EINVAL;
	r = build(t, c, &s);
	if (r == 0)
		settle_counts(t, &s.old, c);
	image_view_close(&s.old);
	if (r < 0)
		return r;
	switch_to(t, c, t->meta->generation + 1);
	settle_groups(t, c, &s);
	settle_switches(t, c, s.stack);
	if (ret_generation)
		*ret_generation = t->meta->generation;
	return 0;
}

static void read_empty(struct dmm_class *ret)
{
	class_fini(ret);
	ret->hdr.stacks = 1;
	ret->hdr.n_use = 1;
	strcpy(ret->stack[0].name, "kernel");
	ret->stack[0].kind = DMM_KIND_KERNEL;
}

/* Those that the generation has of the groups that are attached. */
static int read_groups(struct tree *t, const struct dmm_class_hdr *hdr, struct dmm_group_rec *ret)
{
	int r = read_range(t->map[TREE_GROUP], 0, ret, sizeof(ret[0]), DMM_MAX_GROUPS);

	for (unsigned i = 0; r == 0 && i < DMM_MAX_GROUPS; i++)
		if (i == DMM_GROUP_NONE || !(hdr->groups >> i & 1))
			ret[i] = (struct dmm_group_rec){0};
	return r;
}

static int read_slot(struct tree *t, dmm_u32 slot, struct dmm_class *ret)
{
	int r = image_read(t, slot, ret);

	if (r == 0)
		r = read_range(t->map[TREE_STACK], slot * DMM_MAX_STACKS, ret->stack,
			       sizeof(ret->stack[0]), DMM_MAX_STACKS);
	if (r == 0)
		r = read_groups(t, &ret->hdr, ret->group);
	return r;
}

int maps_group(const struct tree *t, unsigned id, struct dmm_group_rec *ret)
{
	dmm_u32 key = id;

	if (bpf_map_lookup_elem(t->map[TREE_GROUP], &key, ret) < 0)
		return -errno;
	return ret->name[0] ? 0 : -ENOENT;
}

/* Did nobody write to the slot of the generation meanwhile? */
static bool was_whole(const struct tree *t, dmm_u64 generation)
{
	return __atomic_load_n(&t->meta->building, __ATOMIC_SEQ_CST) <= generation + 1 &&
	       t->meta->generation == generation;
}

int maps_groups(struct tree *t, struct dmm_group_rec ret[DMM_MAX_GROUPS])
{
	dmm_u64 generation;
	int r;

	memset(ret, 0, DMM_MAX_GROUPS * sizeof(*ret));
	do {
		struct image_view v = {0};

		generation = __atomic_load_n(&t->meta->generation, __ATOMIC_SEQ_CST);
		r = generation ? image_view(t, generation & 1, &v) : 0;
		if (r == 0)
			r = read_groups(t, &v.hdr, ret);
		image_view_close(&v);
	} while (!was_whole(t, generation));
	return r;
}

int maps_read(struct tree *t, struct dmm_class *ret, dmm_u64 *ret_generation)
{
	dmm_u64 generation;
	int r;

	do {
		generation = __atomic_load_n(&t->meta->generation, __ATOMIC_SEQ_CST);
		read_empty(ret);
		r = generation ? read_slot(t, generation & 1, ret) : 0;
	} while (!was_whole(t, generation));
	if (ret_generation)
		*ret_generation = generation;
	return r;
}

static int rules_off(const struct image_view *v, struct dmm_rule_rec **ret, size_t *ret_n)
{
	struct dmm_rule_rec *list = NULL, *more;
	size_t n = 0;

	for (dmm_u32 i = 0; i < v->hdr.rules; i++) {
		if (!v->rule[i].keep)
			continue;
		if ((n & (n - 1)) == 0) {
			more = reallocarray(list, n ? 2 * n : 1, sizeof(*list));
			if (!more) {
				free(list);
				return -ENOMEM;
			}
			list = more;
		}
		list[n++] = v->rule[i];
	}
	*ret = list;
	*ret_n = n;
	return 0;
}

int maps_rules_off(struct tree *t, struct dmm_rule_rec **ret, size_t *ret_n,
		   dmm_u64 *ret_generation)
{
	dmm_u64 generation;
	int r;

	*ret = NULL;
	do {
		struct image_view v = {0};

		free(*ret);
		*ret = NULL;
		*ret_n = 0;
		generation = __atomic_load_n(&t->meta->generation, __ATOMIC_SEQ_CST);
		r = generation ? image_view(t, generation & 1, &v) : 0;
		if (r == 0)
			r = rules_off(&v, ret, ret_n);
		image_view_close(&v);
	} while (!was_whole(t, generation));
	*ret_generation = generation;
	return r;
}

enum dmm_route_type maps_route(const struct tree *t, unsigned stack, const dmm_u8 ip[16])
{
	struct dmm_route_key key = {.plen = 32 + 128, .stack = stack};
	struct dmm_route value;

	memcpy(key.ip, ip, 16);
	if (bpf_map_lookup_elem(t->map[TREE_ROUTE], &key, &value) < 0)
		return DMM_ROUTE_OTHER;
	return (enum dmm_route_type)value.type;
}

bool maps_stack_up(const struct tree *t, unsigned stack)
{
	volatile struct dmm_stack_rt *rt = &t->rt[stack];

	return rt->state == DMM_STATE_UP && rt->heartbeat_ns + DMM_HEARTBEAT_DEAD_NS > now_ns();
}
