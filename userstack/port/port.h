/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packet I/O of one thread of an instance: whole Ethernet frames in and out of one interface.
 * Nothing blocks. Threads have ports of their own. Drivers: xsk (AF_XDP), dpdk (an ethdev of DPDK,
 * loaded when it is asked for: ports.h), fake (two ends joined in memory, for tests).
 */
#ifndef DMM_USERSTACK_PORT_H
#define DMM_USERSTACK_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define PORT_ABI 10		    /* raised with every change of this header's meaning */
#define PORT_FRAME_MAX (65536 + 64) /* largest frame that rx() hands over */
#define PORT_AHEAD 8 /* frames of a batch that sink.soon() is ahead of sink.frame() */

struct port;

/* Who gets received frames. */
struct port_sink {
	void *ctx;
	/* A frame, valid during the call. */
	void (*frame)(void *ctx, const uint8_t *frame, size_t len);
	/* It will be this one's turn soon: to fetch what that needs into the cache. A driver need
	 * not call it, nor for all. NULL: nobody wants to know. */
	void (*soon)(void *ctx, const uint8_t *frame, size_t len);
};

/* A BPF ring buffer of struct dmm_frame. */
struct port_ring {
	int fd;
	uint32_t *asleep; /* 1: whoever reads it wants to be woken up */
};

struct port_config {
	const char *interface;
	int ifindex;
	unsigned queue;	       /* the first, which sends, too */
	unsigned queues, step; /* how many receive, 0 … queues_max, and from one to the next */
	const struct port_ring *ring; /* where received frames turn up, also; NULL: there is none */
	bool may_zerocopy;	      /* try it first */
	bool may_partial;	      /* leave checksums to the kernel, if it can be told to */
};

/* An XDP program that passes everything. */
struct port_blank {
	const char *file;	   /* to attach it from */
	int (*clear)(int ifindex); /* takes it off again, and no other; 0 or -errno */
};

/* A checksum that is left to the port: of all from `start` on, a number of bytes into the frame;
 * the field for it, `offset` bytes behind, holds the folded sum of the pseudo header. */
struct port_sum {
	uint16_t start, offset;
};

struct port_super {
	struct iovec *iov; /* from the Ethernet header on; iov[-1] is the port's to use */
	unsigned n;
	bool v6;
	uint16_t l4_off, headers; /* where the TCP header begins, and where it ends */
	uint16_t mss;		  /* payload of a segment */
};

/* What the kernel counts of the AF_XDP sockets of a port since they were opened (XDP_STATISTICS).
 */
struct port_kernel {
	uint64_t rx_full, fill_empty, rx_drops, tx_empty;
};

/* The most that the rings of a port have held since they were asked last, of a million of what they
 * can; of several rings the fullest. */
struct port_rings {
	uint32_t rx, tx;
};
#define PORT_RING_WHOLE 1000000u

struct port_ops {
	uint32_t abi; /* PORT_ABI */
	const char *name;
	/* For a driver that insists on attaching an XDP program itself; others are without. Called
	 * once, before steering: open the queues of all ports that are to be, the first `step` to
	 * send, too, and leave the interface, which must have no program, without one. What it
	 * receives there is in one buffer a frame. */
	int (*attach)(const struct port_config *all, const struct port_blank *blank);
	unsigned queues_max; /* that an instance can receive from, at most DMM_MAX_QUEUES */
	bool several; /* a process can have several, of threads of its own, and they take rings */
	/* -EBUSY: the queue belongs to another. Failures are logged. */
	int (*open)(struct port **ret, const struct port_config *c);
	void (*close)(struct port *p);
	/* The AF_XDP socket that receives what arrives on the i-th of the queues: to steer packets
	 * to, and to poll for POLLIN. -1: there is none. Owned by p. */
	int (*fd)(const struct port *p, unsigned i);
	/* True if frames go between hardware and port without a copy. */
	bool (*zerocopy)(const struct port *p);
	/* Hand over at most budget frames that are there; returns how many. Frames the port had to
	 * drop are counted in *drops. */
	unsigned (*rx)(struct port *p, unsigned budget, const struct port_sink *sink,
		       unsigned *drops);
	/* To be called before going to sleep in epoll, and after it; without this function nothing
	 * is. False: do not sleep, there is something. */
	bool (*sleep)(struct port *p, bool sleep);
	/* Largest frame to send. */
	size_t (*tx_max)(const struct port *p);
	/* True: checksums can be left to it. Without this function they cannot. */
	bool (*sums)(const struct port *p);
	/* Memory for one frame of len bytes, or NULL: no room now. tx_commit() sends it, in order;
	 * an uncommitted frame is forgotten at the next tx_reserve(). sum NULL: it is complete. */
	uint8_t *(*tx_reserve)(struct port *p, size_t len);
	void (*tx_commit)(struct port *p, size_t len, const struct port_sum *sum);
	/* Tell the driver about committed frames; to be called after a batch. */
	void (*flush)(struct port *p);
	/* Largest frame that tx_super() takes; 0, or without this function: none. */
	size_t (*super_max)(const struct port *p);
	/* Send a frame with a TCP packet that is longer than the MTU; it is cut on the way out.
	 * The bytes are copied. False: no room now. It comes after all that was committed. */
	bool (*tx_super)(struct port *p, const struct port_super *s);
	/* Without this function it is not known. */
	void (*kernel)(const struct port *p, struct port_kernel *ret);
	/* Likewise. */
	void (*rings)(struct port *p, struct port_rings *ret);
};

extern const struct port_ops port_xsk;
extern const struct port_ops port_fake;

/* Two fake ports: what is sent on one is received by the other, after loss_permille of it has been
 * dropped, the same frames each time for the same seed. */
int fake_pair(struct port **ret_a, struct port **ret_b, unsigned loss_permille, unsigned seed);

#endif
