// SPDX-License-Identifier: Apache-2.0
/* The look-up of bpf/dmm_class.bpf.h in userspace: what `explain` says. */
#include <string.h>

#include "lib/base/addr.h"
#include "policyd/policy.h"
#include "policyd/ranges.h"

static const struct dmm_cell none;

static const struct dmm_cell *cell_at(const struct dmm_class *c, dmm_u32 at)
{
	return at < c->hdr.cells ? &c->image[at] : &none;
}

static u128 key_of(const struct dmm_cell *cell, unsigned k, bool wide)
{
	return wide ? (u128)cell->q[2 * k] << 64 | cell->q[2 * k + 1] : cell->w[k];
}

static dmm_ref find(const struct dmm_class *c, enum dmm_table_id id, u128 number)
{
	bool wide = id == DMM_TABLE_REMOTE6 || id == DMM_TABLE_LOCAL6 || id == DMM_TABLE_PROGRAM;
	const struct dmm_table *t = (const void *)cell_at(c, DMM_TABLE_CELL(id));
	const struct dmm_cell *cell;
	dmm_u32 node = 0;
	unsigned k = 0;

	for (dmm_u32 l = 0; l < t->depth && l < DMM_WIDE_LEVELS; l++) {
		bool leaf = l == t->depth - 1;
		unsigned keys = leaf ? (wide ? 3 : 8) : (wide ? 4 : 16);

		cell = cell_at(c, t->level[l] + node);
		for (k = 0; k < keys - 1 && key_of(cell, k, wide) < number;)
			k++;
		if (leaf)
			return cell->w[(wide ? 12 : 8) + k];
		node = node * keys + k;
	}
	return 0;
}

static u128 number_of(const void *bytes)
{
	u128 n = 0;

	for (int i = 0; i < 16; i++)
		n = n << 8 | ((const dmm_u8 *)bytes)[i];
	return n;
}

static dmm_ref find_ip(const struct dmm_class *c, enum dmm_table_id narrow, enum dmm_table_id wide,
		       const dmm_u8 *ip)
{
	u128 n = number_of(ip);

	return addr_is_v4(ip) ? find(c, narrow, (dmm_u32)n) : find(c, wide, n);
}

static dmm_ref find_field(const struct dmm_class *c, const struct eval_socket *s,
			  enum dmm_field field)
{
	unsigned head = DMM_HEAD_INDEX(s->group % DMM_MAX_GROUPS, s->role & 1, s->proto);
	const struct dmm_table *t = (const void *)cell_at(c, DMM_TABLE_CELL(DMM_TABLE_HEAD));

	switch (field) {
	case DMM_FIELD_HEAD:
		return cell_at(c, t->level[0] + head / 16)->w[head % 16];
	case DMM_FIELD_REMOTE:
		return find_ip(c, DMM_TABLE_REMOTE4, DMM_TABLE_REMOTE6, s->remote.ip);
	case DMM_FIELD_LOCAL:
		return find_ip(c, DMM_TABLE_LOCAL4, DMM_TABLE_LOCAL6, s->local.ip);
	case DMM_FIELD_REMOTE_PORT:
		return find(c, DMM_TABLE_REMOTE_PORT, s->remote.port);
	case DMM_FIELD_LOCAL_PORT:
		return find(c, DMM_TABLE_LOCAL_PORT, s->local.port);
	case DMM_FIELD_UID:
		return find(c, DMM_TABLE_UID, s->uid);
	case DMM_FIELD_PROGRAM:
		return find(c, DMM_TABLE_PROGRAM, number_of(s->program));
	default:
		return 0;
	}
}

/* The chunk of a class; one of zeros if it is empty. */
static const struct dmm_cell *chunk_of(const struct dmm_class *c, dmm_ref ref, unsigned chunk)
{
	const struct dmm_cell *class;
	unsigned at = DMM_CLASS_WORDS;

	if (ref & DMM_REF_ONE)
		return DMM_REF_CHUNK(ref) == chunk ? cell_at(c, DMM_REF_CELL(ref)) : &none;
	if (!ref)
		return &none;
	class = cell_at(c, ref);
	if (!(class->q[chunk / 64] >> chunk % 64 & 1))
		return &none;
	for (unsigned i = 0; i < chunk; i++)
		at += class->q[i / 64] >> i % 64 & 1;
	return cell_at(c, cell_at(c, ref + at / 16)->w[at % 16]);
}

unsigned eval_rule(const struct dmm_class *c, const struct eval_socket *s)
{
	dmm_ref class[DMM_FIELDS], wild[DMM_FIELDS];

	if (c->hdr.rules == 0)
		return DMM_RULE_NONE;
	for (unsigned f = 0; f < DMM_FIELDS; f++) {
		class[f] = find_field(c, s, f);
		wild[f] = c->hdr.wild[f];
	}
	for (unsigned chunk = 0; chunk * DMM_CHUNK_RULES < c->hdr.rules; chunk++) {
		for (unsigned w = 0; w < DMM_CHUNK_RULES / 64; w++) {
			dmm_u64 left = ~0ULL;

			for (unsigned f = 0; f < DMM_FIELDS && left; f++)
				if (c->hdr.fields >> f & 1)
					left &= chunk_of(c, class[f], chunk)->q[w] |
						chunk_of(c, wild[f], chunk)->q[w];
			if (left)
				return chunk * DMM_CHUNK_RULES + w * 64 +
				       (unsigned)__builtin_ctzll(left);
		}
	}
	return DMM_RULE_NONE;
}

void eval_use(const struct dmm_rule_rec *rule, dmm_u32 draw, dmm_u8 ret[DMM_MAX_USE])
{
	unsigned n = rule->n_use < DMM_MAX_USE ? rule->n_use : DMM_MAX_USE, first = 0;
	dmm_u64 sum = 0, at;

	memcpy(ret, rule->use, DMM_MAX_USE);
	for (unsigned i = 0; i < DMM_MAX_USE; i++)
		sum += rule->weight[i];
	if (!sum)
		return;
	at = draw * sum >> 32;
	while (first + 1 < n && at >= rule->weight[first])
		at -= rule->weight[first++];
	memmove(ret + 1, rule->use, first);
	ret[0] = rule->use[first];
}
