/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One AF_XDP socket on one queue, with memory for frames (an umem) of its own. The functions of
 * libxdp work on its rings. That library's own xsk_umem__create() cannot ask for room for metadata
 * of sent frames (1.3.1, as Debian 12 has it; Linux 6.8).
 */
#ifndef DMM_USERSTACK_XSK_SOCKET_H
#define DMM_USERSTACK_XSK_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <xdp/xsk.h>

#ifndef XDP_USE_SG
#define XDP_USE_SG (1 << 4)
#endif
#ifndef XDP_PKT_CONTD
#define XDP_PKT_CONTD (1 << 0)
#endif
#ifndef XDP_TX_METADATA
#define XDP_TX_METADATA (1 << 1)
#endif

/* Bytes before a sent frame that has metadata, and before each of its descriptors: a cache line, so
 * that frames begin at one. */
#define XSK_META 64u

struct xsk_setup {
	int ifindex;
	unsigned queue;
	uint16_t flags; /* of bind() */
	uint8_t *area;	/* whole pages */
	size_t area_len;
	uint32_t chunk;		     /* bytes of a frame */
	uint32_t fill, comp, rx, tx; /* slots of the rings, powers of two; rx, tx 0: it has none */
	bool meta;		     /* sent frames may have metadata, if the kernel can */
};

struct xsk {
	int fd; /* -1: closed */
	bool meta;
	struct xsk_ring_prod fill, tx;
	struct xsk_ring_cons comp, rx;
	struct iovec map[4]; /* where the rings are */
};

/* As bind() and setsockopt() say, among others -EBUSY: the queue has one; -EOPNOTSUPP, -EINVAL: not
 * with these flags, or there is no such queue. x->fd is -1 then. */
int xsk_open(struct xsk *x, const struct xsk_setup *s);
/* Of one that is closed, too. */
void xsk_close(struct xsk *x);

/* Of a socket with meta, in the room before a frame that is sent with XDP_TX_METADATA: the kernel
 * adds up what begins `start` bytes into it, and puts the sum `offset` bytes from there. */
void xsk_meta_sum(uint8_t *frame, uint16_t start, uint16_t offset);

#endif
