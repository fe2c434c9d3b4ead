// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/image.h"

#define CHUNK_WORDS (DMM_CHUNK_RULES / 64)

void image_fini(struct image *im)
{
	free(im->cell);
	free(im->chunks.cell);
	free(im->classes.cell);
	*im = (struct image){0};
}

int image_append(struct image *im, size_t n, dmm_u32 *ret)
{
	struct dmm_cell *cell;
	size_t room = im->room;

	if (n > DMM_MAX_CELLS - im->n)
		return -E2BIG;
	while (im->n + n > room)
		room = room ? 2 * room : 256;
	if (room > im->room) {
		cell = realloc(im->cell, room * sizeof(*cell));
		if (!cell)
			return -ENOMEM;
		im->cell = cell;
		im->room = room;
	}
	memset(im->cell + im->n, 0, n * sizeof(*im->cell));
	*ret = (dmm_u32)im->n;
	im->n += n;
	return 0;
}

/* ---- what is there already ---- */

static dmm_u64 hash_words(const dmm_u64 *w, size_t n)
{
	dmm_u64 h = n;

	for (size_t i = 0; i < n; i++) {
		h = (h ^ w[i]) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 29;
	}
	return h;
}

/* The slot of the n cells with this content, or the free one where it belongs. */
static dmm_u32 *known_slot(const struct image *im, const struct image_known *k,
			   const struct dmm_cell *what, size_t n)
{
	size_t at = hash_words(what->q, n * CHUNK_WORDS) & (k->room - 1);

	while (k->cell[at] && (k->cell[at] + n > im->n ||
			       memcmp(&im->cell[k->cell[at]], what, n * sizeof(*what)) != 0))
		at = (at + 1) & (k->room - 1);
	return &k->cell[at];
}

static size_t class_cells(const struct dmm_cell *c)
{
	unsigned chunks = (unsigned)(__builtin_popcountll(c->q[0]) + __builtin_popcountll(c->q[1]));

	return (DMM_CLASS_WORDS + chunks + 15) / 16;
}

static int known_grow(const struct image *im, struct image_known *k, bool classes)
{
	struct image_known old = *k;

	if (k->n * 4 < k->room * 3)
		return 0;
	k->room = old.room ? 2 * old.room : 256;
	k->cell = calloc(k->room, sizeof(*k->cell));
	if (!k->cell) {
		*k = old;
		return -ENOMEM;
	}
	for (size_t i = 0; i < old.room; i++) {
		const struct dmm_cell *c = &im->cell[old.cell[i]];

		if (old.cell[i])
			*known_slot(im, k, c, classes ? class_cells(c) : 1) = old.cell[i];
	}
	free(old.cell);
	return 0;
}

static int share(struct image *im, struct image_known *k, const struct dmm_cell *what, size_t n,
		 dmm_u32 *ret)
{
	int r = known_grow(im, k, k == &im->classes);
	dmm_u32 *slot;

	if (r < 0)
		return r;
	slot = known_slot(im, k, what, n);
	if (!*slot) {
		r = image_append(im, n, slot);
		if (r < 0) {
			*slot = 0;
			return r;
		}
		memcpy(&im->cell[*slot], what, n * sizeof(*what));
		k->n++;
	}
	*ret = *slot;
	return 0;
}

/* ---- classes ---- */

void image_rules_put(struct image_rules *r, dmm_u32 rule, bool in)
{
	dmm_u32 chunk = rule / DMM_CHUNK_RULES;
	const dmm_u64 *w = &r->bits[chunk * CHUNK_WORDS];
	dmm_u64 bit = 1ULL << rule % 64, some = 0;

	if (in)
		r->bits[rule / 64] |= bit;
	else
		r->bits[rule / 64] &= ~bit;
	for (int i = 0; i < CHUNK_WORDS; i++)
		some |= w[i];
	bit = 1ULL << chunk % 64;
	r->some[chunk / 64] = some ? r->some[chunk / 64] | bit : r->some[chunk / 64] & ~bit;
	r->changed[chunk / 64] |= bit;
}

static int chunk_cell(struct image *im, struct image_rules *r, unsigned chunk)
{
	struct dmm_cell cell;
	int e;

	if (!(r->changed[chunk / 64] >> chunk % 64 & 1))
		return 0;
	memcpy(&cell, &r->bits[chunk * CHUNK_WORDS], sizeof(cell));
	e = share(im, &im->chunks, &cell, 1, &r->chunk[chunk]);
	if (e == 0)
		r->changed[chunk / 64] &= ~(1ULL << chunk % 64);
	return e;
}

/* The class of the chunks that some[] names, at the cells of chunk[]. */
static int class_of(struct image *im, const dmm_u64 some[2], const dmm_u32 chunk[DMM_CHUNKS],
		    dmm_ref *ret)
{
	struct dmm_cell class[(DMM_CLASS_WORDS + DMM_CHUNKS + 15) / 16];
	dmm_u32 *word = class[0].w;
	unsigned n = DMM_CLASS_WORDS, last = 0;

	for (unsigned half = 0; half < 2; half++) {
		for (dmm_u64 left = some[half]; left; left &= left - 1) {
			last = half * 64 + (unsigned)__builtin_ctzll(left);
			if (n % 16 == 0 || n == DMM_CLASS_WORDS)
				memset(&class[n / 16], 0, sizeof(class[0]));
			word[n++] = chunk[last];
		}
	}
	*ret = 0;
	if (n == DMM_CLASS_WORDS)
		return 0;
	if (n == DMM_CLASS_WORDS + 1) {
		*ret = DMM_REF_ONE | last << 24 | chunk[last];
		return 0;
	}
	class[0].q[0] = some[0];
	class[0].q[1] = some[1];
	return share(im, &im->classes, class, class_cells(&class[0]), ret);
}

int image_class(struct image *im, struct image_rules *r, dmm_ref *ret)
{
	int e = 0;

	for (unsigned half = 0; half < 2; half++)
		for (dmm_u64 left = r->some[half]; e == 0 && left; left &= left - 1)
			e = chunk_cell(im, r, half * 64 + (unsigned)__builtin_ctzll(left));
	return e == 0 ? class_of(im, r->some, r->chunk, ret) : e;
}

/* The chunks of a class. -EPROTO: it is none. */
static int class_read(const struct image *im, dmm_ref ref, dmm_u64 some[2],
		      dmm_u32 chunk[DMM_CHUNKS])
{
	const struct dmm_cell *c;
	unsigned n = DMM_CLASS_WORDS;

	some[0] = some[1] = 0;
	if (ref & DMM_REF_ONE) {
		some[DMM_REF_CHUNK(ref) / 64] = 1ULL << DMM_REF_CHUNK(ref) % 64;
		chunk[DMM_REF_CHUNK(ref)] = DMM_REF_CELL(ref);
		return DMM_REF_CELL(ref) < im->n ? 0 : -EPROTO;
	}
	if (!ref)
		return 0;
	if (ref >= im->n || class_cells(&im->cell[ref]) > im->n - ref)
		return -EPROTO;
	c = &im->cell[ref];
	some[0] = c->q[0];
	some[1] = c->q[1];
	for (unsigned i = 0; i < DMM_CHUNKS; i++) {
		if (!(some[i / 64] >> i % 64 & 1))
			continue;
		chunk[i] = c[n / 16].w[n % 16];
		n++;
		if (chunk[i] >= im->n)
			return -EPROTO;
	}
	return 0;
}

int image_class_change(struct image *im, dmm_ref class, dmm_u32 rule, bool in, dmm_ref *ret)
{
	unsigned at = rule / DMM_CHUNK_RULES, word = rule / 64 % CHUNK_WORDS;
	dmm_u64 some[2], bit = 1ULL << at % 64, left = 0;
	dmm_u32 chunk[DMM_CHUNKS];
	struct dmm_cell cell = {0};
	int r = class_read(im, class, some, chunk);

	if (r < 0)
		return r;
	if (some[at / 64] & bit)
		cell = im->cell[chunk[at]];
	if (in == (cell.q[word] >> rule % 64 & 1)) {
		*ret = class;
		return 0;
	}
	cell.q[word] ^= 1ULL << rule % 64;
	for (int i = 0; i < CHUNK_WORDS; i++)
		left |= cell.q[i];
	some[at / 64] = left ? some[at / 64] | bit : some[at / 64] & ~bit;
	if (left)
		r = share(im, &im->chunks, &cell, 1, &chunk[at]);
	return r == 0 ? class_of(im, some, chunk, ret) : r;
}
