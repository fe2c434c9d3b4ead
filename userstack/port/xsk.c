// SPDX-License-Identifier: Apache-2.0
/*
 * The xsk port: an AF_XDP socket on each queue, the first of which sends, too; or, where all
 * received frames turn up in a ring of the kernel's, one that only sends. Of several threads each
 * has its own queues, and a ring for what comes on those of the others. The frames of a queue are
 * always with the kernel or being read by us; those for sending come before them all. Frames of
 * several descriptors (larger than one of ours: jumbo, or a super-frame of a sender on this host)
 * are put together, and taken apart.
 *
 * In copy mode the kernel makes a buffer of its own of each frame that is sent. What it is to cut
 * into segments goes to a packet socket instead: one buffer for up to 64 KiB, and the device does
 * the cutting if it can. That one receives nothing.
 *
 * The kernel completes the checksum of a frame, too, if metadata before it say so (Linux 6.11).
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "bpf/dmm_abi.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "userstack/port/frames.h"
#include "userstack/port/port.h"
#include "userstack/port/xsk-socket.h"

#define FRAME_SIZE 4096u
#define RX_FRAMES 4096u	    /* of all queues together, but */
#define RX_FRAMES_MIN 1024u /* of each */
#define TX_FRAMES 2048u
#define TX_LARGE (16 * FRAME_SIZE) /* in 17 frames at most: the kernel makes one packet of them */
#define BUSY_TRIES 50 /* a queue that was just closed stays busy until its rings are unmapped */
#define BUSY_WAIT_US 20000
#define SUPER_MAX 65535u
#define SUPER_BUFFER (4 << 20)
#define KICK_TRIES \
	256 /* the kernel sends 32 frames per call and says EAGAIN when there are more \
	     */

/* One AF_XDP socket with its frames. */
struct half {
	struct xsk xsk;
	uint8_t *area;	 /* of its frames: addresses count from here */
	size_t join_len; /* of a frame that is not complete yet */
	bool join_bad;	 /* it is too long: drop it */
	uint8_t join[PORT_FRAME_MAX];
};

struct port {
	struct frames *ring; /* NULL: there is none */
	unsigned queues;     /* that receive: half[0], … */
	unsigned rx_frames;  /* of each */
	unsigned turn;	     /* which of them is first next time */
	struct xsk *out;     /* half[0]'s */
	uint8_t *area;	     /* of all frames, at first those of half[0] that are sent */
	size_t area_len;
	bool zerocopy;
	unsigned head, room; /* of a frame that is sent: bytes before it, and its own */
	int packet;	     /* socket for frames that are to be cut; -1: none */
	size_t tx_max;
	unsigned tx_free_n;
	uint64_t tx_free[TX_FRAMES];
	unsigned tx_pending;	   /* committed since the last flush */
	unsigned tx_outstanding;   /* with the kernel */
	unsigned rx_most, tx_most; /* frames of a ring, since xsk_port_rings() */
	uint8_t tx_large[TX_LARGE];
	struct half half[];
};

static void xsk_fill(struct half *h, const uint64_t *addr, unsigned n)
{
	uint32_t idx;

	/* There are as many slots as frames: this cannot fail. */
	if (!n || xsk_ring_prod__reserve(&h->xsk.fill, n, &idx) != n)
		return;
	for (unsigned i = 0; i < n; i++)
		*xsk_ring_prod__fill_addr(&h->xsk.fill, idx + i) = addr[i];
	xsk_ring_prod__submit(&h->xsk.fill, n);
}

#define DIR_IN 1u
#define DIR_OUT 2u

/* Its frames begin at number `first` of all; those to send come before those to receive. */
static int half_open(struct port *p, struct half *h, const struct port_config *c, unsigned queue,
		     unsigned dirs, unsigned first, unsigned flags)
{
	unsigned tx_frames = dirs & DIR_OUT ? TX_FRAMES : 0;
	unsigned rx_frames = dirs & DIR_IN ? p->rx_frames : 0;
	const struct xsk_setup setup = {
		.ifindex = c->ifindex,
		.queue = queue,
		.flags = (uint16_t)flags,
		.area = p->area + (size_t)first * FRAME_SIZE,
		.area_len = (size_t)(tx_frames + rx_frames) * FRAME_SIZE,
		.chunk = FRAME_SIZE,
		.fill = p->rx_frames,
		.comp = TX_FRAMES,
		.rx = rx_frames,
		.tx = tx_frames,
		.meta = c->may_partial && tx_frames && flags & XDP_COPY,
	};
	uint64_t addr;
	int r;

	h->area = setup.area;
	r = xsk_open(&h->xsk, &setup);
	if (r < 0)
		return r;
	for (unsigned i = tx_frames; i < tx_frames + rx_frames; i++) {
		addr = (uint64_t)i * FRAME_SIZE;
		xsk_fill(h, &addr, 1);
	}
	return 0;
}

static void xsk_unbind(struct port *p)
{
	for (unsigned i = 0; i <= p->queues; i++)
		xsk_close(&p->half[i].xsk);
}

static int xsk_bind_once(struct port *p, const struct port_config *c, unsigned flags)
{
	unsigned first = TX_FRAMES;
	int r;

	r = half_open(p, &p->half[0], c, c->queue, p->queues ? DIR_IN | DIR_OUT : DIR_OUT, 0,
		      flags);
	for (unsigned i = 1; !r && i < p->queues; i++)
		r = half_open(p, &p->half[i], c, c->queue + i * c->step, DIR_IN,
			      first + i * p->rx_frames, flags);
	if (r < 0)
		xsk_unbind(p);
	return r;
}

static void xsk_bound(struct port *p, const struct port_config *c, unsigned flags)
{
	p->zerocopy = flags & XDP_ZEROCOPY;
	p->head = p->out->meta ? XSK_META : 0;
	p->room = FRAME_SIZE - p->head;
	/* how many descriptors a driver takes for one it says nowhere */
	p->tx_max = flags == (XDP_COPY | XDP_USE_SG) ? TX_LARGE : p->room;
	for (unsigned i = 0; i < TX_FRAMES; i++)
		p->tx_free[p->tx_free_n++] = (uint64_t)i * FRAME_SIZE + p->head;
	log_info("%s: AF_XDP on %u queue%s in %s mode, %s%s", c->interface, MAX(p->queues, 1u),
		 p->queues <= 1 ? "" : "s", p->zerocopy ? "zero-copy" : "copy",
		 flags & XDP_USE_SG ? "frames of any size" : "frames up to 4096 bytes",
		 p->out->meta ? ", checksums left to the kernel" : "");
	if (!(flags & XDP_USE_SG) && !c->may_zerocopy && !c->ring)
		log_warn("%s: segments that receive offload puts together are lost on this kernel; "
			 "try: ethtool -K %s gro off lro off",
			 c->interface, c->interface);
}

/* The best that the driver and the kernel can do: zero-copy before copy, frames of several
 * descriptors before single ones. */
static int xsk_bind(struct port *p, const struct port_config *c)
{
	static const unsigned want[] = {XDP_ZEROCOPY | XDP_USE_SG, XDP_ZEROCOPY,
					XDP_COPY | XDP_USE_SG, XDP_COPY};
	int r = -EOPNOTSUPP;

	for (unsigned i = c->may_zerocopy ? 0 : 2; i < ARRAY_SIZE(want); i++) {
		for (unsigned try = 0; try < BUSY_TRIES; try++) {
			r = xsk_bind_once(p, c, want[i] | XDP_USE_NEED_WAKEUP);
			if (r != -EBUSY)
				break;
			usleep(BUSY_WAIT_US);
		}
		if (!r) {
			xsk_bound(p, c, want[i]);
			return 0;
		}
		if (r == -EBUSY || r == -EPERM || r == -ENOMEM || r == -ENODEV)
			break;
	}
	return r;
}

static const char *xsk_advice(int r)
{
	switch (-r) {
	case EPERM:
		return "; needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF: run as root";
	case EBUSY:
		return "; another AF_XDP socket has this queue";
	case EAFNOSUPPORT:
		return "; this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)";
	case ENOBUFS:
	case ENOMEM:
		return "; raise the limit of locked memory (ulimit -l)";
	case EINVAL:
		return "; does the interface have this queue?";
	default:
		return "";
	}
}

/* Without it all goes frame by frame. */
static void super_open(struct port *p, int ifindex)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = ifindex};
	int on = 1, size = SUPER_BUFFER;

	p->packet = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p->packet < 0)
		return;
	(void)setsockopt(p->packet, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	if (setsockopt(p->packet, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0 ||
	    bind(p->packet, (struct sockaddr *)&to, sizeof(to)) < 0) {
		close(p->packet);
		p->packet = -1;
	}
}

static void xsk_port_close(struct port *p)
{
	if (p->packet >= 0)
		close(p->packet);
	xsk_unbind(p);
	frames_close(p->ring);
	if (p->area)
		munmap(p->area, p->area_len);
	free(p);
}

static int xsk_port_open(struct port **ret, const struct port_config *c)
{
	struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
	unsigned queues = c->queues;
	struct port *p;
	int r;

	p = calloc(1, sizeof(*p) + (queues + 1) * sizeof(p->half[0]));
	if (!p)
		return -ENOMEM;
	p->packet = -1;
	p->queues = queues;
	p->out = &p->half[0].xsk;
	for (unsigned i = 0; i <= queues; i++)
		p->half[i].xsk.fd = -1;
	p->rx_frames = RX_FRAMES;
	while (p->rx_frames > RX_FRAMES_MIN && p->rx_frames * queues > RX_FRAMES)
		p->rx_frames /= 2; /* rings want powers of two */
	p->area_len = (size_t)(TX_FRAMES + queues * p->rx_frames) * FRAME_SIZE;
	/* Without CAP_IPC_LOCK the umem counts against this limit; if it cannot be raised, bind
	 * says so. */
	(void)setrlimit(RLIMIT_MEMLOCK, &unlimited);
	p->area =
		mmap(NULL, p->area_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->area == MAP_FAILED) {
		r = -errno;
		p->area = NULL;
		goto fail;
	}
	r = xsk_bind(p, c);
	if (!r && c->ring)
		r = frames_open(&p->ring, c->ring);
	if (r < 0)
		goto fail;
	if (!p->zerocopy)
		super_open(p, c->ifindex);
	*ret = p;
	return 0;
fail:
	log_err("%s: cannot open an AF_XDP socket: %s%s", c->interface, strerror(-r),
		xsk_advice(r));
	xsk_port_close(p);
	return r;
}

static int xsk_port_fd(const struct port *p, unsigned i)
{
	return i < p->queues ? p->half[i].xsk.fd : -1;
}

static bool xsk_port_zerocopy(const struct port *p)
{
	return p->zerocopy;
}

/* One descriptor. True: sink had a frame. */
static bool xsk_rx_desc(struct half *h, const struct xdp_desc *d, const struct port_sink *sink,
			unsigned *drops)
{
	uint8_t *data = xsk_umem__get_data(h->area, d->addr);
	bool more = d->options & XDP_PKT_CONTD;

	if (!more && !h->join_len && !h->join_bad) {
		sink->frame(sink->ctx, data, d->len);
		return true;
	}
	if (h->join_len + d->len > sizeof(h->join))
		h->join_bad = true;
	if (!h->join_bad) {
		memcpy(h->join + h->join_len, data, d->len);
		h->join_len += d->len;
	}
	if (more)
		return false;
	if (h->join_bad)
		(*drops)++;
	else
		sink->frame(sink->ctx, h->join, h->join_len);
	h->join_len = 0;
	h->join_bad = false;
	return true;
}

/* Tell of the descriptor that has its turn soon. */
static void xsk_soon(const struct half *h, uint32_t idx, const struct port_sink *sink)
{
	const struct xdp_desc *d = xsk_ring_cons__rx_desc(&h->xsk.rx, idx);

	sink->soon(sink->ctx, xsk_umem__get_data(h->area, d->addr), d->len);
}

static unsigned half_rx(struct half *h, unsigned budget, const struct port_sink *sink,
			unsigned *drops)
{
	unsigned frames = 0, soon, n;
	uint64_t back[64];
	uint32_t idx;

	while (frames < budget) {
		n = xsk_ring_cons__peek(&h->xsk.rx, ARRAY_SIZE(back), &idx);
		if (!n)
			break;
		soon = 0;
		for (unsigned i = 0; i < n; i++) {
			const struct xdp_desc *d = xsk_ring_cons__rx_desc(&h->xsk.rx, idx + i);

			for (; sink->soon && soon < MIN(i + PORT_AHEAD, n); soon++)
				xsk_soon(h, idx + soon, sink);
			back[i] = d->addr;
			frames += xsk_rx_desc(h, d, sink, drops);
		}
		xsk_ring_cons__release(&h->xsk.rx, n);
		xsk_fill(h, back, n);
	}
	/* epoll does this for who sleeps. */
	if (!frames && xsk_ring_prod__needs_wakeup(&h->xsk.fill))
		(void)recvfrom(h->xsk.fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
	return frames;
}

/* Frames of a queue that nobody has looked at yet. */
static unsigned half_waiting(const struct half *h)
{
	return __atomic_load_n(h->xsk.rx.producer, __ATOMIC_RELAXED) - h->xsk.rx.cached_cons;
}

static unsigned xsk_port_rx(struct port *p, unsigned budget, const struct port_sink *sink,
			    unsigned *drops)
{
	unsigned frames = 0, first = p->turn++;

	if (p->ring) /* the queues must not starve behind it */
		frames = frames_rx(p->ring, p->queues ? budget / 2 : budget, sink);
	for (unsigned i = 0; i < p->queues && frames < budget; i++) {
		struct half *h = &p->half[(first + i) % p->queues];

		p->rx_most = MAX(p->rx_most, half_waiting(h));
		frames += half_rx(h, budget - frames, sink, drops);
	}
	return frames;
}

static bool xsk_port_sleep(struct port *p, bool sleep)
{
	return !p->ring || frames_sleep(p->ring, sleep);
}

static void xsk_complete(struct port *p)
{
	uint32_t idx;
	unsigned n = xsk_ring_cons__peek(&p->out->comp, TX_FRAMES, &idx);

	if (!n)
		return;
	for (unsigned i = 0; i < n; i++)
		p->tx_free[p->tx_free_n++] = *xsk_ring_cons__comp_addr(&p->out->comp, idx + i);
	xsk_ring_cons__release(&p->out->comp, n);
	p->tx_outstanding -= n;
}

static void xsk_port_flush(struct port *p)
{
	unsigned tries = 0;

	if (p->tx_pending) {
		xsk_ring_prod__submit(&p->out->tx, p->tx_pending);
		p->tx_outstanding += p->tx_pending;
		p->tx_pending = 0;
		p->tx_most = MAX(p->tx_most, p->tx_outstanding);
	}
	/* In copy mode the kernel takes frames only in this call. */
	while (p->tx_outstanding && xsk_ring_prod__needs_wakeup(&p->out->tx) &&
	       tries++ < KICK_TRIES) {
		if (sendto(p->out->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0 || errno != EAGAIN)
			break;
		xsk_complete(p);
	}
	xsk_complete(p);
}

static size_t xsk_port_tx_max(const struct port *p)
{
	return p->tx_max;
}

static uint8_t *xsk_port_tx_reserve(struct port *p, size_t len)
{
	unsigned frames = len <= p->room ? 1 : (unsigned)((len + p->room - 1) / p->room);

	if (len > p->tx_max)
		return NULL;
	if (p->tx_free_n < frames)
		xsk_port_flush(p);
	if (p->tx_free_n < frames)
		return NULL;
	if (frames > 1)
		return p->tx_large;
	return xsk_umem__get_data(p->area, p->tx_free[p->tx_free_n - 1]);
}

static bool xsk_port_sums(const struct port *p)
{
	return p->out->meta;
}

/* One descriptor of len bytes, from data unless they are there; returns it. */
static struct xdp_desc *xsk_tx_desc(struct port *p, const uint8_t *data, size_t len)
{
	struct xdp_desc *d;
	uint32_t idx = 0;

	/* There are as many slots as frames: this cannot fail. */
	(void)xsk_ring_prod__reserve(&p->out->tx, 1, &idx);
	d = xsk_ring_prod__tx_desc(&p->out->tx, idx);
	*d = (struct xdp_desc){.addr = p->tx_free[--p->tx_free_n], .len = (uint32_t)len};
	if (data)
		memcpy(xsk_umem__get_data(p->area, d->addr), data, len);
	p->tx_pending++;
	return d;
}

static void xsk_port_tx_commit(struct port *p, size_t len, const struct port_sum *sum)
{
	const uint8_t *data = len > p->room ? p->tx_large : NULL;
	struct xdp_desc *d = xsk_tx_desc(p, data, MIN(len, p->room));

	if (sum) { /* the first descriptor has it for all of them */
		xsk_meta_sum(xsk_umem__get_data(p->area, d->addr), sum->start, sum->offset);
		d->options = XDP_TX_METADATA;
	}
	for (size_t done = p->room; done < len; done += p->room) {
		d->options |= XDP_PKT_CONTD;
		d = xsk_tx_desc(p, data + done, MIN(len - done, p->room));
	}
}

static size_t xsk_port_super_max(const struct port *p)
{
	return p->packet >= 0 ? SUPER_MAX : 0;
}

static bool xsk_port_tx_super(struct port *p, const struct port_super *s)
{
	struct virtio_net_hdr h = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = s->v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = s->headers,
		.gso_size = s->mss,
		.csum_start = s->l4_off,
		.csum_offset = 16,
	};
	struct msghdr m = {.msg_iov = s->iov - 1, .msg_iovlen = s->n + 1};

	s->iov[-1] = (struct iovec){&h, sizeof(h)};
	if (p->tx_pending)
		xsk_port_flush(p);
	return sendmsg(p->packet, &m, MSG_DONTWAIT) >= 0;
}

static void half_kernel(const struct half *h, struct port_kernel *sum)
{
	struct xdp_statistics s = {0}; /* kernels before 5.9 fill less of it */
	socklen_t len = sizeof(s);

	if (getsockopt(h->xsk.fd, SOL_XDP, XDP_STATISTICS, &s, &len) < 0)
		return;
	sum->rx_full += s.rx_ring_full;
	sum->fill_empty += s.rx_fill_ring_empty_descs;
	sum->rx_drops += s.rx_dropped;
	sum->tx_empty += s.tx_ring_empty_descs;
}

static void xsk_port_kernel(const struct port *p, struct port_kernel *ret)
{
	*ret = (struct port_kernel){0};
	for (unsigned i = 0; i < MAX(p->queues, 1u); i++)
		half_kernel(&p->half[i], ret);
}

static uint32_t share(uint64_t n, uint64_t of)
{
	return (uint32_t)(MIN(n, of) * PORT_RING_WHOLE / of);
}

static void xsk_port_rings(struct port *p, struct port_rings *ret)
{
	uint32_t ring = p->ring ? share(frames_most(p->ring), DMM_FRAMES_SIZE) : 0;

	ret->rx = MAX(ring, share(p->rx_most, p->rx_frames));
	ret->tx = share(p->tx_most, TX_FRAMES);
	p->rx_most = p->tx_most = 0;
}

const struct port_ops port_xsk = {
	.abi = PORT_ABI,
	.name = "xsk",
	.queues_max = DMM_MAX_QUEUES,
	.several = true,
	.open = xsk_port_open,
	.close = xsk_port_close,
	.fd = xsk_port_fd,
	.zerocopy = xsk_port_zerocopy,
	.rx = xsk_port_rx,
	.sleep = xsk_port_sleep,
	.tx_max = xsk_port_tx_max,
	.sums = xsk_port_sums,
	.tx_reserve = xsk_port_tx_reserve,
	.tx_commit = xsk_port_tx_commit,
	.flush = xsk_port_flush,
	.super_max = xsk_port_super_max,
	.tx_super = xsk_port_tx_super,
	.kernel = xsk_port_kernel,
	.rings = xsk_port_rings,
};
