// SPDX-License-Identifier: Apache-2.0
/*
 * The dpdk port: the queues of an interface by DPDK's AF_XDP driver. A shared object of its own,
 * which alone needs DPDK. Frames are built and received in the driver's packet buffers, which are
 * its umem: nothing is copied that the kernel does not copy.
 *
 * The driver wants to attach an XDP program for each of its devices, and gets the blank one, which
 * is taken off before the next. It knows of several queues in one device only where an interface's
 * channels are for both directions: elsewhere, as on a veth, each queue is a device. It says
 * nowhere what its AF_XDP sockets are: they are found among the descriptors. With them the host
 * steers packets to the port and sleeps until there are some, which the driver itself cannot.
 *
 * All devices are opened at once, before there are threads; a port is one thread's share of them.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <linux/ethtool.h>
#include <linux/if_xdp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#undef container_of /* the same as ours */
#include "bpf/dmm_abi.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "userstack/port/frames.h"
#include "userstack/port/ports.h"

/* The driver keeps as many buffers with the kernel as its rings have places, of those for sending
 * twice as many: completed ones come back late. Two caches, of the threads that open and that use a
 * queue, may hold some back. */
#define RING 2048
#define CACHE 256
#define RX_BUFFERS 3071
#define TX_BUFFERS 5120
/* A buffer with all that is before its frame has to fit into a page: the kernel's limit. */
#define ROOM (4096 - 64 - sizeof(struct rte_mbuf) - 64)
#define MEMORY_MB 16 /* for DPDK itself */
#define POOL_MB 2    /* of a pool, beside its buffers */
#define BATCH 64
#define FLUSH_TRIES 64
#define QUEUES_MAX MIN(DMM_MAX_QUEUES, RTE_MAX_ETHPORTS)

struct queue {
	uint16_t device, n; /* it is the n-th of this device */
	int fd;
	struct rte_mempool *pool;
};

/* Of all threads; not written once there are some. */
static struct queue opened[QUEUES_MAX];
static unsigned opened_n, opened_first;

struct port {
	struct frames *ring; /* NULL: there is none */
	unsigned queues;     /* that receive: queue[0], … */
	unsigned turn;	     /* which of them is first next time */
	bool zerocopy, joined;
	struct rte_mbuf *reserved; /* not committed */
	struct rte_mbuf *tx[BATCH];
	uint16_t tx_n;
	uint8_t join[PORT_FRAME_MAX];
	struct queue queue[]; /* the first sends */
};

/* Any CPU that we may run on: DPDK would bind the thread to one. */
static void cpus_format(char *ret, size_t size)
{
	cpu_set_t set;
	size_t n = (size_t)snprintf(ret, size, "0@(");
	const char *comma = "";

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		CPU_SET(0, &set);
	for (int i = 0; i < CPU_SETSIZE && n < size; i++)
		if (CPU_ISSET(i, &set)) {
			n += (size_t)snprintf(ret + n, size - n, "%s%d", comma, i);
			comma = ",";
		}
	if (n < size)
		snprintf(ret + n, size - n, ")");
}

static unsigned buffers(bool sends)
{
	return RX_BUFFERS + (sends ? TX_BUFFERS : 0);
}

static unsigned memory_mb(unsigned queues, unsigned sending)
{
	size_t pages = (size_t)queues * buffers(false) + (size_t)sending * TX_BUFFERS;

	return (unsigned)(MEMORY_MB + queues * POOL_MB + pages * 4096 / (1 << 20));
}

/* No hugepages, no files, no devices but ours; nothing that other programs could find. */
static int eal_start(unsigned mb)
{
	char memory[16], cpus[CPU_SETSIZE * 5], prefix[32], dir[PATH_MAX];
	char *argv[] = {"dmm-stackd",
			"--file-prefix",
			prefix,
			"--no-huge",
			"--no-shconf",
			"--no-telemetry",
			"--no-pci",
			"--iova-mode=va",
			"--log-level=*:error",
			"--lcores",
			cpus,
			"-m",
			memory,
			NULL};

	cpus_format(cpus, sizeof(cpus));
	snprintf(memory, sizeof(memory), "%u", mb);
	snprintf(prefix, sizeof(prefix), "dmm-%d", (int)getpid());
	if (rte_eal_init((int)ARRAY_SIZE(argv) - 1, argv) < 0) {
		log_err("cannot start DPDK: %s", rte_strerror(rte_errno));
		return -(rte_errno ? rte_errno : EIO);
	}
	/* It has made a directory that it puts nothing into. */
	snprintf(dir, sizeof(dir), "%s", rte_eal_get_runtime_dir());
	if (!rmdir(dir))
		(void)rmdir(dirname(dir));
	return 0;
}

static bool is_opened(int fd)
{
	for (unsigned i = 0; i < opened_n; i++)
		if (opened[i].fd == fd)
			return true;
	return false;
}

/* The AF_XDP socket that no queue has yet. */
static int xsk_find(void)
{
	int domain, n = (int)sysconf(_SC_OPEN_MAX);
	socklen_t len;

	for (int fd = 0; fd < n && fd < 1024; fd++) {
		len = sizeof(domain);
		if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_XDP &&
		    !is_opened(fd))
			return fd;
	}
	return -ENOENT;
}

/* The next of all, and the n-th of this device. */
static int queue_open(uint16_t device, uint16_t n, bool sends)
{
	struct queue q = {.device = device, .n = n};
	char name[16];
	int r;

	snprintf(name, sizeof(name), "dmm%u", opened_n);
	q.pool = rte_pktmbuf_pool_create(name, buffers(sends), CACHE, 0, ROOM, SOCKET_ID_ANY);
	if (!q.pool)
		return -rte_errno;
	if (q.pool->nb_mem_chunks != 1) /* the driver takes the first for all */
		return -ENOMEM;
	r = rte_eth_rx_queue_setup(device, n, RING, SOCKET_ID_ANY, NULL, q.pool);
	if (!r)
		r = rte_eth_tx_queue_setup(device, n, RING, SOCKET_ID_ANY, NULL);
	if (!r)
		r = q.fd = xsk_find();
	if (r < 0)
		return r;
	opened[opened_n++] = q;
	return 0;
}

/* The first n of the queues that are not opened yet. */
static int device_open(const struct port_config *all, const struct port_blank *blank, unsigned n)
{
	unsigned first = all->queue + opened_n;
	struct rte_eth_conf conf = {};
	char name[32], args[256];
	uint16_t device;
	int r, cleared;

	snprintf(name, sizeof(name), "net_af_xdp%u", first);
	snprintf(args, sizeof(args),
		 "iface=%s,start_queue=%u,queue_count=%u,busy_budget=0,force_copy=%d,xdp_prog=%s",
		 all->interface, first, n, !all->may_zerocopy, blank->file);
	if (rte_eal_hotplug_add("vdev", name, args) < 0)
		return -ENODEV;
	r = rte_eth_dev_get_port_by_name(name, &device);
	if (!r)
		r = rte_eth_dev_configure(device, (uint16_t)n, (uint16_t)n, &conf);
	for (uint16_t i = 0; !r && i < n; i++)
		r = queue_open(device, i, opened_n < all->step);
	cleared = blank->clear(all->ifindex);
	if (!r)
		r = cleared;
	return r < 0 ? r : rte_eth_dev_start(device);
}

/* How many the driver takes for one device. */
static unsigned device_queues(const char *interface)
{
	struct ethtool_channels c;

	port_channels(interface, &c);
	return c.max_combined ? MAX(c.combined_count, 1u) : 1;
}

static const char *advice(int r)
{
	switch (-r) {
	case ENODEV:
		return "; is its AF_XDP driver installed (librte-net-af-xdp)?";
	case EINVAL: /* whatever it is that the driver has not got */
		return "; has the interface another XDP program, or this queue another AF_XDP "
		       "socket? See: ip link show; ss --xdp";
	default:
		return "";
	}
}

static int dpdk_attach(const struct port_config *all, const struct port_blank *blank)
{
	unsigned n = MAX(all->queues, all->step), each = device_queues(all->interface);
	int r;

	log_init("dmm-stackd", LOG_L_INFO); /* the log of this shared object */
	opened_first = all->queue;
	r = eal_start(memory_mb(n, all->step));
	while (!r && opened_n < n)
		r = device_open(all, blank, MIN(each, n - opened_n));
	if (r < 0)
		log_err("%s queue %u: cannot open it by DPDK: %s%s", all->interface,
			all->queue + opened_n, strerror(-r), advice(r));
	return r;
}

static int dpdk_open(struct port **ret, const struct port_config *c)
{
	unsigned n = MAX(c->queues, 1u);
	struct xdp_options opts = {};
	socklen_t len = sizeof(opts);
	struct port *p;
	int r;

	p = calloc(1, sizeof(*p) + n * sizeof(p->queue[0]));
	if (!p)
		return -ENOMEM;
	r = c->ring ? frames_open(&p->ring, c->ring) : 0;
	if (r < 0) {
		log_err("%s: cannot map a ring of frames: %s", c->interface, strerror(-r));
		free(p);
		return r;
	}
	p->queues = c->queues;
	for (unsigned i = 0; i < n; i++)
		p->queue[i] = opened[c->queue + i * c->step - opened_first];
	if (getsockopt(p->queue[0].fd, SOL_XDP, XDP_OPTIONS, &opts, &len) == 0)
		p->zerocopy = opts.flags & XDP_OPTIONS_ZEROCOPY;
	log_info("%s: DPDK's AF_XDP on %u queue%s in %s mode, frames up to %zu bytes", c->interface,
		 n, n == 1 ? "" : "s", p->zerocopy ? "zero-copy" : "copy",
		 ROOM - RTE_PKTMBUF_HEADROOM);
	*ret = p;
	return 0;
}

/* Sockets go with the process, which is about to end: closed by the driver, they would also take
 * whatever program is on the interface. */
static void dpdk_close(struct port *p)
{
	frames_close(p->ring);
	free(p);
}

static int dpdk_fd(const struct port *p, unsigned i)
{
	return i < p->queues ? p->queue[i].fd : -1;
}

static bool dpdk_zerocopy(const struct port *p)
{
	return p->zerocopy;
}

/* A frame of several buffers, in one piece; NULL: too long. */
static uint8_t *dpdk_join(struct port *p, const struct rte_mbuf *m)
{
	if (m->pkt_len > sizeof(p->join))
		return NULL;
	return (uint8_t *)(uintptr_t)rte_pktmbuf_read(m, 0, m->pkt_len, p->join);
}

static unsigned queue_rx(struct port *p, const struct queue *q, unsigned budget,
			 const struct port_sink *sink, unsigned *drops)
{
	struct rte_mbuf *m[BATCH];
	unsigned frames = 0;
	uint8_t *data;
	uint16_t n, soon;

	while (frames < budget) {
		n = rte_eth_rx_burst(q->device, q->n, m, BATCH);
		soon = 0;
		for (uint16_t i = 0; i < n; i++) {
			for (; sink->soon && soon < MIN(i + PORT_AHEAD, n); soon++)
				sink->soon(sink->ctx, rte_pktmbuf_mtod(m[soon], uint8_t *),
					   m[soon]->data_len);
			data = dpdk_join(p, m[i]);
			if (data)
				sink->frame(sink->ctx, data, m[i]->pkt_len);
			else
				(*drops)++;
		}
		rte_pktmbuf_free_bulk(m, n);
		frames += n;
		if (n < BATCH)
			break;
	}
	return frames;
}

/* Only threads that DPDK knows have caches of buffers. */
static void join_thread(struct port *p)
{
	p->joined = true;
	if (rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() < 0)
		log_warn("DPDK does not take another thread: %s; it is slower without",
			 rte_strerror(rte_errno));
}

static unsigned dpdk_rx(struct port *p, unsigned budget, const struct port_sink *sink,
			unsigned *drops)
{
	unsigned frames = 0, first = p->turn++;

	if (!p->joined)
		join_thread(p);
	if (p->ring) /* the queues must not starve behind it */
		frames = frames_rx(p->ring, p->queues ? budget / 2 : budget, sink);
	for (unsigned i = 0; i < p->queues && frames < budget; i++)
		frames += queue_rx(p, &p->queue[(first + i) % p->queues], budget - frames, sink,
				   drops);
	return frames;
}

static bool dpdk_sleep(struct port *p, bool sleep)
{
	return !p->ring || frames_sleep(p->ring, sleep);
}

static size_t dpdk_tx_max(const struct port *p)
{
	(void)p;
	return ROOM - RTE_PKTMBUF_HEADROOM;
}

static void dpdk_flush(struct port *p)
{
	unsigned tries = 0;
	uint16_t sent = 0;

	while (sent < p->tx_n && tries++ < FLUSH_TRIES)
		sent += rte_eth_tx_burst(p->queue[0].device, p->queue[0].n, p->tx + sent,
					 (uint16_t)(p->tx_n - sent));
	p->tx_n = (uint16_t)(p->tx_n - sent);
	memmove(p->tx, p->tx + sent, p->tx_n * sizeof(p->tx[0]));
}

static uint8_t *dpdk_tx_reserve(struct port *p, size_t len)
{
	if (len > dpdk_tx_max(p))
		return NULL;
	if (p->tx_n == BATCH)
		dpdk_flush(p);
	if (!p->reserved)
		p->reserved = p->tx_n < BATCH ? rte_pktmbuf_alloc(p->queue[0].pool) : NULL;
	return p->reserved ? rte_pktmbuf_mtod(p->reserved, uint8_t *) : NULL;
}

static void dpdk_tx_commit(struct port *p, size_t len, const struct port_sum *sum)
{
	(void)sum;
	p->reserved->data_len = (uint16_t)len;
	p->reserved->pkt_len = (uint32_t)len;
	p->tx[p->tx_n++] = p->reserved;
	p->reserved = NULL;
}

extern const struct port_ops dmm_port; /* PORT_SYMBOL */
const struct port_ops dmm_port = {
	.abi = PORT_ABI,
	.name = "dpdk",
	.attach = dpdk_attach,
	.queues_max = QUEUES_MAX,
	.several = true,
	.open = dpdk_open,
	.close = dpdk_close,
	.fd = dpdk_fd,
	.zerocopy = dpdk_zerocopy,
	.rx = dpdk_rx,
	.sleep = dpdk_sleep,
	.tx_max = dpdk_tx_max,
	.tx_reserve = dpdk_tx_reserve,
	.tx_commit = dpdk_tx_commit,
	.flush = dpdk_flush,
};
