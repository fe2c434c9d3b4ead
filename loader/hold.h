/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The side of an instance's thread towards the BPF programs: its event ring, the filter that holds
 * SYNs at its carrier listeners, the names of the flows that it carries. Each thread has its own.
 */
#ifndef DMM_LOADER_HOLD_H
#define DMM_LOADER_HOLD_H

#include "loader/tree.h"

struct hold;

/* Make the ring of a thread of instance `stack`, put it into the tree, load the filter for the
 * caller's network namespace. The ring is taken out again by hold_close(). */
int hold_open(struct hold **ret, struct tree *t, unsigned stack, unsigned thread);
void hold_close(struct hold *h);

/* A descriptor to poll for POLLIN. Owned by h. */
int hold_fd(const struct hold *h);

/* Handle all events that are there; returns their number or -errno. ev is valid during the call; of
 * DMM_EV_AGAIN it begins a struct dmm_again. */
int hold_poll(struct hold *h, void (*cb)(const struct dmm_event *ev, void *ctx), void *ctx);

/* Mark a socket as the instance's own: the programs hold where they send connections against that,
 * as the port may be another's since. Before listen(). */
int hold_own(struct hold *h, int fd);
/* Attach the filter to a TCP socket, before listen(), of which accepted sockets inherit it, or
 * before connect(). */
int hold_attach(struct hold *h, int fd);
/* Has an urgent byte come to a socket with the filter, ever? No: none that could be read now is. */
bool hold_urgent(const struct hold *h);

/* An end of the instance's gets a type of service: packets that have none differ from it. */
void hold_use_tos(struct hold *h);
/* How many events have told a type of service. */
unsigned hold_tos_told(const struct hold *h);

/* Client flow, as its event told, with the congestion control that the engine uses: the address
 * that the engine chose, for the application's getsockname(). To be called before the SYN is
 * released. -ENOENT: the application gave up, or the socket connects elsewhere now. */
int hold_set_local(struct hold *h, const struct dmm_flow *flow, const struct dmm_addr *local);

/* Server flow: to be called on a new TCP socket before connect() to the application's listener:
 * the names that the accepted socket is to show. flow->role is DMM_ROLE_SERVER; flow->cookie is the
 * socket's then. */
int hold_set_flow(struct hold *h, int fd, struct dmm_flow *flow);
/* Undo it when connect() failed at once. */
void hold_forget(struct hold *h, int fd);

/* Listeners that are announced to this instance now (after a restart). */
int hold_listeners(struct hold *h, void (*cb)(const struct dmm_listener *l, void *ctx), void *ctx);

/* A listener is left to the kernel, or taken again: for the reason of what connects to it. -ENOENT:
 * it is not announced any more. */
int hold_listener_off(struct hold *h, dmm_u64 cookie, dmm_u8 off);

/* To a UDP socket: a carrier is on loopback. What comes from elsewhere must not even wait there,
 * and could claim to come from this host. first: one that is offered, which learns its flow's port.
 */
int hold_udp_attach(struct hold *h, int fd, bool first);
/* Does another UDP carrier find room among those that wait for a flow? */
bool hold_udp_wants(const struct hold *h);
/* This socket of the instance, bound to port on all addresses, waits for one, of which an event
 * tells. -EAGAIN: there are enough of them. */
int hold_udp_offer(struct hold *h, int fd, dmm_u16 port);
struct udp_seen {
	bool left;  /* its socket has left the flow: nothing comes after what has been sent */
	bool moved; /* its socket is not connected to the carrier: not yet, or not any more */
};
/* The application's port of the flow with this carrier, 0: not known yet. -errno: nothing is known.
 */
int hold_udp_port(struct hold *h, dmm_u16 port, struct udp_seen *ret);
/* Is a flow on record whose carrier is, or was, at that port? Of any instance, also a dead one. */
bool hold_udp_known(const struct hold *h, dmm_u16 port);
/* The flow is over: nobody is told its far end any more. */
void hold_udp_forget(struct hold *h, dmm_u16 port);
/* This thread offers none any more. */
void hold_udp_withdraw(struct hold *h);
/* All offers of this instance, whatever thread's, are withdrawn. */
void hold_udp_clear(struct hold *h);
/* The flows of this thread that are on record, each once, in no order: after a start those of an
 * instance that died. port is their carrier's. Removed are those that cb returns false for, and
 * what none of the threads can serve. */
void hold_udp_flows(struct hold *h, bool (*cb)(dmm_u16 port, const struct dmm_flow *f, void *ctx),
		    void *ctx);

/* Publish what the instance can reach, and from where: source as in struct dmm_route. plen in bits
 * of the v4-mapped form (0 … 128). */
int hold_route_set(struct hold *h, const dmm_u8 ip[16], unsigned plen, enum dmm_route_type type,
		   const dmm_u8 source[16]);
int hold_route_del(struct hold *h, const dmm_u8 ip[16], unsigned plen);
/* Remove all routes of this instance. */
int hold_route_clear(struct hold *h);

#endif
