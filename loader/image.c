// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "lib/base/util.h"
#include "loader/image.h"

#define PAGE 4096
#define PAGE_CELLS (PAGE / sizeof(struct dmm_cell))

struct mapping {
	int fd;
	struct dmm_cell *cell;
	size_t n;
};

static void mapping_close(struct mapping *m)
{
	if (m->cell)
		munmap(m->cell, m->n * sizeof(*m->cell));
	if (m->fd >= 0)
		close(m->fd);
	*m = (struct mapping){.fd = -1};
}

/* Map m->n cells of m->fd. */
static int mapping_map(struct mapping *m)
{
	void *p = mmap(NULL, m->n * sizeof(*m->cell), PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	m->cell = p;
	return 0;
}

/* The image of a slot. -ENOENT: there never was one. */
static int mapping_open(struct tree *t, dmm_u32 slot, struct mapping *ret)
{
	struct bpf_map_info info = {};
	dmm_u32 len = sizeof(info), id;
	int r = 0;

	*ret = (struct mapping){.fd = -1};
	if (bpf_map_lookup_elem(t->map[TREE_IMAGE], &slot, &id) < 0)
		return -errno;
	ret->fd = bpf_map_get_fd_by_id(id);
	if (ret->fd < 0 || bpf_obj_get_info_by_fd(ret->fd, &info, &len) < 0)
		r = -errno;
	ret->n = info.max_entries;
	if (r == 0)
		r = mapping_map(ret);
	if (r < 0)
		mapping_close(ret);
	return r;
}

/* A new one with some room to grow. */
static int mapping_new(size_t cells, struct mapping *ret)
{
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	int r = 0;

	*ret = (struct mapping){.n = (cells + cells / 8 + PAGE_CELLS - 1) / PAGE_CELLS *
				     PAGE_CELLS};
	ret->fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "dmm_image_slot", sizeof(dmm_u32),
				 sizeof(struct dmm_cell), (dmm_u32)ret->n, &o);
	if (ret->fd < 0)
		r = -errno;
	if (r == 0)
		r = mapping_map(ret);
	if (r < 0)
		mapping_close(ret);
	return r;
}

static void copy_differing(struct dmm_cell *to, const struct dmm_cell *from, size_t cells)
{
	for (size_t at = 0; at < cells; at += PAGE_CELLS) {
		size_t n = MIN(PAGE_CELLS, cells - at) * sizeof(*to);

		if (memcmp(to + at, from + at, n) != 0)
			memcpy(to + at, from + at, n);
	}
}

/* Cells of c; a class without an image is one without rules. */
static size_t cells_of(const struct dmm_class *c)
{
	return c->image ? c->hdr.cells : DMM_HDR_CELLS;
}

/* Enough, and not much more than that. */
static bool fits(const struct mapping *m, size_t cells)
{
	return m->n >= cells && m->n <= 4 * cells + 4096;
}

int image_write(struct tree *t, dmm_u32 slot, const struct dmm_class *c)
{
	size_t cells = cells_of(c);
	struct mapping m;
	bool in_place;
	int r = mapping_open(t, slot, &m);

	if (r < 0 && r != -ENOENT)
		return r;
	in_place = r == 0 && fits(&m, cells);
	if (!in_place) {
		mapping_close(&m);
		r = mapping_new(cells, &m);
		if (r < 0)
			return r;
	}
	if (c->image)
		copy_differing(m.cell, c->image, cells);
	if (memcmp(m.cell, &c->hdr, sizeof(c->hdr)) != 0)
		memcpy(m.cell, &c->hdr, sizeof(c->hdr));
	((struct dmm_class_hdr *)m.cell)->abi = DMM_ABI_VERSION;
	((struct dmm_class_hdr *)m.cell)->cells = (dmm_u32)cells;
	if (!in_place && bpf_map_update_elem(t->map[TREE_IMAGE], &slot, &m.fd, 0) < 0)
		r = -errno;
	mapping_close(&m);
	return r;
}

static int check_header(const struct dmm_class_hdr *hdr, size_t room)
{
	if (room < DMM_HDR_CELLS || hdr->cells > room || hdr->cells < DMM_HDR_CELLS)
		return -EUCLEAN;
	if (hdr->abi != DMM_ABI_VERSION)
		return -EPROTO;
	return hdr->rules <= DMM_MAX_RULES &&
			       (!hdr->rules || hdr->cells >= DMM_RULE_CELL + hdr->rules)
		       ? 0
		       : -EUCLEAN;
}

/* Map the image of a slot, and copy its header. */
static int open_checked(struct tree *t, dmm_u32 slot, struct mapping *m,
			struct dmm_class_hdr *ret_hdr)
{
	int r = mapping_open(t, slot, m);

	if (r < 0)
		return r == -ENOENT ? -EUCLEAN : r;
	*ret_hdr = *(const struct dmm_class_hdr *)m->cell;
	r = check_header(ret_hdr, m->n);
	if (r < 0)
		mapping_close(m);
	return r;
}

int image_view(struct tree *t, dmm_u32 slot, struct image_view *ret)
{
	struct mapping m;
	int r = open_checked(t, slot, &m, &ret->hdr);

	if (r < 0)
		return r;
	ret->cell = m.cell;
	ret->n = m.n;
	ret->rule = (const struct dmm_rule_rec *)&m.cell[DMM_RULE_CELL];
	close(m.fd);
	return 0;
}

void image_view_close(struct image_view *v)
{
	if (v->cell)
		munmap(v->cell, v->n * sizeof(*v->cell));
	*v = (struct image_view){0};
}

int image_read(struct tree *t, dmm_u32 slot, struct dmm_class *ret)
{
	struct mapping m;
	int r = open_checked(t, slot, &m, &ret->hdr);

	if (r < 0) {
		ret->hdr.rules = 0;
		return r;
	}
	ret->room = ret->hdr.cells + ret->hdr.cells / 8 + PAGE_CELLS; /* for edits */
	ret->image = malloc(ret->room * sizeof(*ret->image));
	if (ret->image) {
		memcpy(ret->image, m.cell, ret->hdr.cells * sizeof(*ret->image));
		ret->rule = (struct dmm_rule_rec *)&ret->image[DMM_RULE_CELL];
	} else {
		ret->hdr.rules = 0;
		r = -ENOMEM;
	}
	mapping_close(&m);
	return r;
}
