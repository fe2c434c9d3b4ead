/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of the kernel's neighbour table of one interface, and the packets that wait for it. */
#ifndef DMM_USERSTACK_NEIGH_H
#define DMM_USERSTACK_NEIGH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "bpf/dmm_abi.h"
#include "userstack/net/frame.h"

#define NEIGH_QUEUE 212992u	 /* bytes that wait for one neighbour, as in Linux, and as there */
#define NEIGH_PACKET 512u	 /* so many for each packet beside its own */
#define NEIGH_QUEUES (32u << 20) /* the same of all together */
#define NEIGH_MAX 8192		 /* neighbours */
#define NEIGH_BUCKETS 1024
#define NEIGH_WAIT_NS 3500000000ULL /* the kernel gives up after 3 s, and says so */
#define NEIGH_ASK_NS 1000000000ULL  /* between two requests for the same neighbour */

struct neigh_packet {
	STAILQ_ENTRY(neigh_packet) entry;
	size_t len;
	struct frame_offload left;
	uint8_t data[];
};
STAILQ_HEAD(neigh_packets, neigh_packet);

struct neigh {
	struct neigh *next;
	dmm_u8 ip[16];
	uint8_t mac[6];
	uint16_t state; /* NUD_* of linux/neighbour.h; 0: unknown to the kernel */
	uint64_t asked; /* when the kernel was last told that it is in use */
	uint64_t since; /* when the first packet began to wait */
	struct neigh_packets packets;
	size_t queued; /* of NEIGH_QUEUE */
};

struct neigh_host {
	void *ctx;
	/* Make the kernel resolve or confirm ip. */
	void (*ask)(void *ctx, const dmm_u8 ip[16]);
	void (*send)(void *ctx, const uint8_t dst[6], const struct iovec *iov, unsigned n,
		     struct frame_offload left);
	void (*unreachable)(void *ctx, const uint8_t *pkt, size_t len);
};

struct neigh_table {
	const struct neigh_host *host;
	struct neigh *bucket[NEIGH_BUCKETS];
	unsigned n, waiting;
	size_t queued;	     /* of NEIGH_QUEUES */
	uint32_t generation; /* grows when entries go: pointers to entries are void then */
};

void neigh_init(struct neigh_table *t, const struct neigh_host *h);
void neigh_fini(struct neigh_table *t);

/* The kernel's word: state NUD_*; mac may be NULL. state 0: it forgot the neighbour. */
void neigh_update(struct neigh_table *t, const dmm_u8 ip[16], uint16_t state, const uint8_t *mac);
/* Find or make; NULL: table full. */
struct neigh *neigh_get(struct neigh_table *t, const dmm_u8 ip[16]);
/* Send at once (1), or let the packet wait (0); -ENOBUFS: it was dropped. left is passed on. */
int neigh_output(struct neigh_table *t, struct neigh *e, const struct iovec *iov, unsigned n,
		 struct frame_offload left, uint64_t now);
/* Give up on who did not answer; forget what is not in use. Returns packets dropped. */
unsigned neigh_expire(struct neigh_table *t, uint64_t now);

#endif
