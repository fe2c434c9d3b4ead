// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "loader/needs.h"

#define WORDS (DMM_MAX_RULES / 64)
#define CHUNK_WORDS (DMM_CHUNK_RULES / 64)
#define TCP 6
#define UDP 17

/* A set of rules. */
struct bits {
	dmm_u64 word[WORDS];
};

static const struct dmm_cell *cell_at(const struct dmm_class *c, dmm_u32 index)
{
	static const struct dmm_cell empty;

	return index && index < c->hdr.cells ? &c->image[index] : &empty;
}

static void add_chunk(const struct dmm_class *c, unsigned chunk, dmm_u32 cell, struct bits *b)
{
	for (unsigned i = 0; i < CHUNK_WORDS; i++)
		b->word[chunk * CHUNK_WORDS + i] |= cell_at(c, cell)->q[i];
}

static void add_class(const struct dmm_class *c, dmm_ref ref, struct bits *b)
{
	const struct dmm_cell *class = cell_at(c, ref);
	dmm_u32 at = DMM_CLASS_WORDS;

	if (ref & DMM_REF_ONE) {
		add_chunk(c, DMM_REF_CHUNK(ref), DMM_REF_CELL(ref), b);
		return;
	}
	for (unsigned i = 0; i < DMM_CHUNKS; i++)
		if (class->q[i / 64] >> (i % 64) & 1) {
			add_chunk(c, i, cell_at(c, ref + at / 16)->w[at % 16], b);
			at++;
		}
}

/* Keep in b the rules that take a value of the class, or any value. */
static void keep_field(const struct dmm_class *c, enum dmm_field field, dmm_ref class,
		       struct bits *b)
{
	struct bits mine = {0};

	if (!(c->hdr.fields & 1u << field))
		return;
	add_class(c, class, &mine);
	add_class(c, c->hdr.wild[field], &mine);
	for (unsigned i = 0; i < WORDS; i++)
		b->word[i] &= mine.word[i];
}

static void keep_head(const struct dmm_class *c, unsigned group, enum dmm_role role, unsigned proto,
		      struct bits *b)
{
	const struct dmm_table *t = (const void *)cell_at(c, DMM_TABLE_CELL(DMM_TABLE_HEAD));
	unsigned index = DMM_HEAD_INDEX(group, (unsigned)role, proto);

	keep_field(c, DMM_FIELD_HEAD, cell_at(c, t->level[0] + index / 16)->w[index % 16], b);
}

/* The class of zero is the first of the first leaf, word `at` of its cell. */
static dmm_ref class_of_zero(const struct dmm_class *c, enum dmm_table_id id, unsigned at)
{
	const struct dmm_table *t = (const void *)cell_at(c, DMM_TABLE_CELL(id));

	return t->depth ? cell_at(c, t->level[t->depth - 1])->w[at] : 0;
}

static bool any(const struct bits *a, const struct bits *b)
{
	for (unsigned i = 0; i < WORDS; i++)
		if (a->word[i] & b->word[i])
			return true;
	return false;
}

static bool uses_instance(const struct dmm_class *c, const dmm_u8 *use, unsigned n)
{
	for (unsigned i = 0; i < n && i < DMM_MAX_USE; i++)
		if (use[i] < DMM_MAX_STACKS && c->stack[use[i]].kind == DMM_KIND_USERSPACE)
			return true;
	return false;
}

/* Rules that may send a socket to an instance. */
static void instance_rules(const struct dmm_class *c, struct bits *ret)
{
	bool have = false;

	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < DMM_MAX_STACKS; i++)
		have |= c->stack[i].kind == DMM_KIND_USERSPACE;
	for (unsigned i = 0; have && i < c->hdr.rules; i++)
		if (uses_instance(c, c->rule[i].use, c->rule[i].n_use))
			ret->word[i / 64] |= 1ULL << (i % 64);
}

static void measured_rules(const struct dmm_class *c, struct bits *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < c->hdr.rules; i++)
		if (c->rule[i].measure)
			ret->word[i / 64] |= 1ULL << (i % 64);
}

static void all_rules(const struct dmm_class *c, struct bits *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < c->hdr.rules; i++)
		ret->word[i / 64] |= 1ULL << (i % 64);
}

static dmm_u8 needs_of_default(const struct dmm_class *c)
{
	if (uses_instance(c, c->hdr.use, c->hdr.n_use))
		return NEED_DECIDE | NEED_EVENTS | NEED_NAMES | NEED_UDP;
	/* the built-in kernel stack has no settings that a listener would have to get */
	return c->hdr.n_use && c->hdr.use[0] == DMM_STACK_KERNEL ? NEED_DECIDE
								 : NEED_DECIDE | NEED_EVENTS;
}

void needs_of_groups(const struct dmm_class *c, dmm_u8 ret[DMM_MAX_GROUPS])
{
	struct bits all, instance, measured, client, udp, listener;

	memset(ret, needs_of_default(c), DMM_MAX_GROUPS);
	if (!c->image || !c->hdr.rules)
		return;
	all_rules(c, &all);
	instance_rules(c, &instance);
	measured_rules(c, &measured);
	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++) {
		if (!c->group[i].name[0])
			continue;
		client = udp = listener = all;
		keep_head(c, i, DMM_ROLE_CLIENT, TCP, &client);
		keep_head(c, i, DMM_ROLE_CLIENT, UDP, &udp);
		keep_head(c, i, DMM_ROLE_SERVER, TCP, &listener);
		/* who the peers will be is not known when it listens: zeros */
		keep_field(c, DMM_FIELD_REMOTE, class_of_zero(c, DMM_TABLE_REMOTE6, 12), &listener);
		keep_field(c, DMM_FIELD_REMOTE_PORT, class_of_zero(c, DMM_TABLE_REMOTE_PORT, 8),
			   &listener);
		if (any(&listener, &all))
			ret[i] |= NEED_EVENTS;
		if (any(&client, &instance) || any(&listener, &instance))
			ret[i] |= NEED_EVENTS | NEED_NAMES;
		if (any(&udp, &instance))
			ret[i] |= NEED_NAMES | NEED_UDP;
		if (any(&client, &measured))
			ret[i] |= NEED_MEASURE;
	}
}
