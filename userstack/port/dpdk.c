// SPDX-License-Identifier: Apache-2.0
/*
 * The dpdk port: one queue of an interface by DPDK's AF_XDP driver. A shared object of its own,
 * which alone needs DPDK. Frames are built and received in the driver's packet buffers, which are
 * its umem: nothing is copied that the kernel does not copy.
 *
 * The driver wants to attach an XDP program and gets the blank one, whose place the host's takes.
 * It says nowhere what its AF_XDP socket is: that is found among the descriptors. With it the host
 * steers packets to the port and sleeps until there are some, which the driver itself cannot.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
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
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "userstack/port/ports.h"

#define DEVICE "net_af_xdp0"
/* The driver's rings hold 2048 frames each way; completed ones come back late. */
#define RING 2048
#define BUFFERS 8191
/* A buffer with all that is before its frame has to fit into a page: the kernel's limit. */
#define ROOM (4096 - 64 - sizeof(struct rte_mbuf) - 64)
#define MEMORY_MB "64"
#define BATCH 64
#define FLUSH_TRIES 64

struct port {
	uint16_t id;
	int fd;
	bool zerocopy;
	struct rte_mempool *pool;
	struct rte_mbuf *reserved; /* not committed */
	struct rte_mbuf *tx[BATCH];
	uint16_t tx_n;
	uint8_t join[PORT_FRAME_MAX];
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

/* No hugepages, no files, no other devices than ours; nothing that other programs could find. */
static int eal_start(const struct port_config *c)
{
	char vdev[256], cpus[CPU_SETSIZE * 5], prefix[32], dir[PATH_MAX];
	char *argv[] = {"dmm-stackd", "--file-prefix",	prefix,
			"--no-huge",  "--no-shconf",	"--no-telemetry",
			"--no-pci",   "--iova-mode=va", "--log-level=*:error",
			"-m",	      MEMORY_MB,	"--lcores",
			cpus,	      "--vdev",		vdev,
			NULL};

	cpus_format(cpus, sizeof(cpus));
	snprintf(prefix, sizeof(prefix), "dmm-%d", (int)getpid());
	snprintf(vdev, sizeof(vdev),
		 DEVICE
		 ",iface=%s,start_queue=%u,queue_count=1,busy_budget=0,force_copy=%d,xdp_prog=%s",
		 c->interface, c->queue, !c->may_zerocopy, c->blank);
	if (rte_eal_init((int)ARRAY_SIZE(argv) - 1, argv) < 0) {
		log_err("cannot start DPDK: %s; is its AF_XDP driver installed "
			"(librte-net-af-xdp)?",
			rte_strerror(rte_errno));
		return -(rte_errno ? rte_errno : EIO);
	}
	/* It has made a directory that it puts nothing into. */
	snprintf(dir, sizeof(dir), "%s", rte_eal_get_runtime_dir());
	if (!rmdir(dir))
		(void)rmdir(dirname(dir));
	return 0;
}

static int xsk_find(void)
{
	int domain, n = (int)sysconf(_SC_OPEN_MAX);
	socklen_t len;

	for (int fd = 0; fd < n && fd < 1024; fd++) {
		len = sizeof(domain);
		if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_XDP)
			return fd;
	}
	return -ENOENT;
}

static int device_start(struct port *p)
{
	struct rte_eth_conf conf = {};
	int r = rte_eth_dev_get_port_by_name(DEVICE, &p->id);

	if (r < 0)
		return r;
	p->pool = rte_pktmbuf_pool_create("dmm", BUFFERS, 256, 0, ROOM, SOCKET_ID_ANY);
	if (!p->pool)
		return -rte_errno;
	r = rte_eth_dev_configure(p->id, 1, 1, &conf);
	if (!r)
		r = rte_eth_rx_queue_setup(p->id, 0, RING, SOCKET_ID_ANY, NULL, p->pool);
	if (!r)
		r = rte_eth_tx_queue_setup(p->id, 0, RING, SOCKET_ID_ANY, NULL);
	return r < 0 ? r : rte_eth_dev_start(p->id);
}

static int dpdk_open(struct port **ret, const struct port_config *c)
{
	struct xdp_options opts = {};
	socklen_t len = sizeof(opts);
	struct port *p;
	int r;

	log_init("dmm-stackd", LOG_L_INFO); /* the log of this shared object */
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	r = eal_start(c);
	if (!r)
		r = device_start(p);
	if (!r)
		r = p->fd = xsk_find();
	if (r < 0) {
		log_err("%s queue %u: cannot open it by DPDK: %s%s", c->interface, c->queue,
			strerror(-r),
			r == -EBUSY ? "; another AF_XDP socket has this queue, or the interface "
				      "another XDP program"
				    : "");
		free(p);
		return r;
	}
	if (getsockopt(p->fd, SOL_XDP, XDP_OPTIONS, &opts, &len) == 0)
		p->zerocopy = opts.flags & XDP_OPTIONS_ZEROCOPY;
	log_info("%s queue %u: DPDK's AF_XDP in %s mode, frames up to %zu bytes", c->interface,
		 c->queue, p->zerocopy ? "zero-copy" : "copy", ROOM - RTE_PKTMBUF_HEADROOM);
	*ret = p;
	return 0;
}

/* The socket goes with the process, which is about to end: closed by the driver, it would also take
 * whatever program is on the interface. */
static void dpdk_close(struct port *p)
{
	rte_eth_dev_stop(p->id);
	free(p);
}

static int dpdk_fd(const struct port *p, unsigned i)
{
	return i ? -1 : p->fd;
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

static unsigned dpdk_rx(struct port *p, unsigned budget, const struct port_sink *sink,
			unsigned *drops)
{
	struct rte_mbuf *m[BATCH];
	unsigned frames = 0;
	uint8_t *data;
	uint16_t n, soon;

	while (frames < budget) {
		n = rte_eth_rx_burst(p->id, 0, m, BATCH);
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
		sent += rte_eth_tx_burst(p->id, 0, p->tx + sent, (uint16_t)(p->tx_n - sent));
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
		p->reserved = p->tx_n < BATCH ? rte_pktmbuf_alloc(p->pool) : NULL;
	return p->reserved ? rte_pktmbuf_mtod(p->reserved, uint8_t *) : NULL;
}

static void dpdk_tx_commit(struct port *p, size_t len)
{
	p->reserved->data_len = (uint16_t)len;
	p->reserved->pkt_len = (uint32_t)len;
	p->tx[p->tx_n++] = p->reserved;
	p->reserved = NULL;
}

extern const struct port_ops dmm_port; /* PORT_SYMBOL */
const struct port_ops dmm_port = {
	.abi = PORT_ABI,
	.name = "dpdk",
	.attaches = true,
	.queues_max = 1, /* on a veth the driver knows no more */
	.open = dpdk_open,
	.close = dpdk_close,
	.fd = dpdk_fd,
	.zerocopy = dpdk_zerocopy,
	.rx = dpdk_rx,
	.tx_max = dpdk_tx_max,
	.tx_reserve = dpdk_tx_reserve,
	.tx_commit = dpdk_tx_commit,
	.flush = dpdk_flush,
};
