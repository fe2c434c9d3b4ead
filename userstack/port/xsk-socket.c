// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <linux/if_xdp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/util.h"
#include "userstack/port/xsk-socket.h"

/* linux/if_xdp.h of Linux 6.8, and the flag of 6.11; headers may be older. */
struct umem_reg {
	uint64_t addr, len;
	uint32_t chunk_size, headroom, flags, tx_metadata_len;
};
#define UMEM_TX_METADATA_LEN (1u << 2)

struct tx_metadata {
	uint64_t flags;
	uint16_t csum_start, csum_offset;
};
#define TX_METADATA_CHECKSUM (1u << 1)

_Static_assert(sizeof(struct tx_metadata) <= XSK_META, "it has room before a frame");

/* A kernel that does not know the flag refuses it. Between 6.8 and 6.11 there was none, and no way
 * to learn whether the kernel looks at metadata: those go without. */
static int umem_register(struct xsk *x, const struct xsk_setup *s)
{
	struct umem_reg reg = {
		.addr = (uintptr_t)s->area, .len = s->area_len, .chunk_size = s->chunk};

	x->meta = s->meta;
	if (s->meta) {
		reg.flags = UMEM_TX_METADATA_LEN;
		reg.tx_metadata_len = XSK_META;
		if (setsockopt(x->fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof(reg)) == 0)
			return 0;
		if (errno != EINVAL)
			return -errno;
		x->meta = false;
		reg.flags = reg.tx_metadata_len = 0;
	}
	return setsockopt(x->fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof(reg)) < 0 ? -errno : 0;
}

struct ring {
	int option;
	uint32_t slots; /* 0: there is none */
	size_t slot;
	uint64_t page; /* for mmap() */
	struct xdp_ring_offset at;
	bool ours; /* to fill */
	void *ret; /* struct xsk_ring_prod if it is, else xsk_ring_cons */
};

/* The members of both are the same. */
#define SAME_PLACE(member) \
	(offsetof(struct xsk_ring_prod, member) == offsetof(struct xsk_ring_cons, member))
_Static_assert(sizeof(struct xsk_ring_prod) == sizeof(struct xsk_ring_cons) &&
		       SAME_PLACE(cached_prod) && SAME_PLACE(cached_cons) && SAME_PLACE(mask) &&
		       SAME_PLACE(size) && SAME_PLACE(producer) && SAME_PLACE(consumer) &&
		       SAME_PLACE(ring) && SAME_PLACE(flags),
	       "one for the other");

static int ring_map(const struct xsk *x, const struct ring *r, struct iovec *ret)
{
	size_t len = r->at.desc + r->slots * r->slot;
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, x->fd,
			  (off_t)r->page);
	struct xsk_ring_prod ring;

	if (p == MAP_FAILED)
		return -errno;
	*ret = (struct iovec){p, len};
	ring = (struct xsk_ring_prod){
		.mask = r->slots - 1,
		.size = r->slots,
		.cached_cons = r->ours ? r->slots : 0, /* what is free: xsk_prod_nb_free() */
		.producer = (uint32_t *)(p + r->at.producer),
		.consumer = (uint32_t *)(p + r->at.consumer),
		.ring = p + r->at.desc,
		.flags = (uint32_t *)(p + r->at.flags),
	};
	memcpy(r->ret, &ring, sizeof(ring));
	return 0;
}

static int rings_open(struct xsk *x, const struct xsk_setup *s)
{
	size_t addr = sizeof(uint64_t), desc = sizeof(struct xdp_desc);
	struct xdp_mmap_offsets at;
	socklen_t len = sizeof(at);
	int r = 0;

	if (getsockopt(x->fd, SOL_XDP, XDP_MMAP_OFFSETS, &at, &len) < 0)
		return -errno;
	const struct ring rings[] = {
		{XDP_UMEM_FILL_RING, s->fill, addr, XDP_UMEM_PGOFF_FILL_RING, at.fr, true,
		 &x->fill},
		{XDP_UMEM_COMPLETION_RING, s->comp, addr, XDP_UMEM_PGOFF_COMPLETION_RING, at.cr,
		 false, &x->comp},
		{XDP_RX_RING, s->rx, desc, XDP_PGOFF_RX_RING, at.rx, false, &x->rx},
		{XDP_TX_RING, s->tx, desc, XDP_PGOFF_TX_RING, at.tx, true, &x->tx},
	};
	for (size_t i = 0; !r && i < ARRAY_SIZE(rings); i++) {
		if (!rings[i].slots)
			continue;
		if (setsockopt(x->fd, SOL_XDP, rings[i].option, &rings[i].slots,
			       sizeof(rings[i].slots)) < 0)
			return -errno;
		r = ring_map(x, &rings[i], &x->map[i]);
	}
	return r;
}

int xsk_open(struct xsk *x, const struct xsk_setup *s)
{
	struct sockaddr_xdp to = {
		.sxdp_family = AF_XDP,
		.sxdp_flags = s->flags,
		.sxdp_ifindex = (uint32_t)s->ifindex,
		.sxdp_queue_id = s->queue,
	};
	int r;

	*x = (struct xsk){.fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0)};
	if (x->fd < 0)
		return -errno;
	r = umem_register(x, s);
	if (!r)
		r = rings_open(x, s);
	if (!r && bind(x->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		r = -errno;
	if (r < 0)
		xsk_close(x);
	return r;
}

void xsk_close(struct xsk *x)
{
	if (x->fd < 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(x->map); i++)
		if (x->map[i].iov_base)
			munmap(x->map[i].iov_base, x->map[i].iov_len);
	close(x->fd);
	x->fd = -1;
}

void xsk_meta_sum(uint8_t *frame, uint16_t start, uint16_t offset)
{
	const struct tx_metadata m = {
		.flags = TX_METADATA_CHECKSUM, .csum_start = start, .csum_offset = offset};

	memcpy(frame - XSK_META, &m, sizeof(m));
}
