/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steering program of one interface: gives packets of owned flows and ports to AF_XDP sockets,
 * passes everything else to the kernel. Its maps are the instance's own, whose threads share it: of
 * a flow, and of a queue, they say whose it is. 0 or -errno; failures are logged.
 *
 * XDP programs are attached with libxdp. In tc mode the program is at the interface's tc ingress
 * (tcx, Linux 6.6), where it goes with the process, and owned packets are copied to a ring buffer.
 * With several threads it is at both: tc gives a thread what came on a queue that is not its own.
 */
#ifndef DMM_LOADER_XDP_H
#define DMM_LOADER_XDP_H

#include "loader/tree.h"

struct xdp;

struct xdp_config {
	unsigned stack, threads;
	int ifindex;
	enum dmm_xdp_mode want;
	bool plain; /* AF_XDP sockets take one buffer a frame: what offload joins is lost */
};

/* Is the interface one end of a veth? */
bool xdp_is_veth(const char *ifname);

/*
 * Load the program and attach it to ifindex. want DMM_XDP_NONE means the first that works of
 * native, tc, generic; on a veth of tc, generic, native, unless plain. Any other want fails if it
 * does not work. What an instance that died left behind is replaced. *ret_mode: DMM_XDP_NATIVE,
 * DMM_XDP_TC or DMM_XDP_GENERIC, which is for one thread alone.
 */
int xdp_open(struct xdp **ret, struct tree *t, const struct xdp_config *c,
	     enum dmm_xdp_mode *ret_mode);
/* Detach and unload. */
void xdp_close(struct xdp *x);

/* Give what is owned and arrives on the queue to this AF_XDP socket, which is of that queue. In tc
 * mode there is nothing to do. */
int xdp_steer(struct xdp *x, unsigned queue, int xsk);

/* The ring buffer where owned packets of the thread turn up, each a struct dmm_frame, and where its
 * reader says that it sleeps. False: there is none, all comes to AF_XDP sockets. Both are owned by
 * x. */
bool xdp_ring(const struct xdp *x, unsigned thread, int *ret_fd, dmm_u32 **ret_asleep);

/* For any thread, at any time: own one TCP flow, one pair of UDP, one listening port of TCP of one
 * address, on which connections come when all threads own it. -ENOSPC: the map is full. */
/* -EEXIST: LIVE, and some thread has the flow. */
int xdp_flow_set(struct xdp *x, unsigned thread, const struct dmm_addr *remote,
		 const struct dmm_addr *local, enum dmm_xflow how);
/* A pair of another thread is taken over, and its again when the last thread that did gives it up.
 */
int xdp_udp_set(struct xdp *x, unsigned thread, const struct dmm_addr *remote,
		const struct dmm_addr *local, bool own);
int xdp_port_set(struct xdp *x, unsigned thread, const struct dmm_addr *local, enum dmm_xport how);

/* A port that has to attach a program before ours: the object file of one that passes everything,
 * as a descriptor, or -errno; and take that program off the interface again. */
int xdp_blank_open(void);
int xdp_blank_clear(int ifindex);

/* Detach what an instance of this tree and stack that died left on ifindex. */
int xdp_sweep(const struct tree *t, unsigned stack, int ifindex);

#endif
