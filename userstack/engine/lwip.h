/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the lwip engine. */
#ifndef DMM_USERSTACK_ENGINE_LWIP_H
#define DMM_USERSTACK_ENGINE_LWIP_H

#include <sys/queue.h>

#include <lwip/netif.h>
#include <lwip/pbuf.h>
#include <lwip/tcp.h>

#include "userstack/engine.h"

#define LW_MAX_ADDRS 64
#define LW_MARKS 4 /* urgent bytes received and not read; the mark of more is lost */
#define LW_URGENT_BUCKETS 64
#define LW_PATHS 256 /* destinations whose path MTU is remembered */

/* What ICMPv6 said of the path to ip, until `until`. */
struct lw_path {
	dmm_u8 ip[16];
	uint32_t mtu;
	uint64_t until;
};

struct engine_listener {
	struct engine *e;
	struct tcp_pcb *pcb;
	uint8_t tos;
	void *user;
};

struct engine_conn {
	struct engine *e;
	struct tcp_pcb *pcb; /* NULL: freed by lwIP */
	void *user;
	struct engine_listener *listener; /* accepted, not yet reported */
	TAILQ_ENTRY(engine_conn) event_entry;
	TAILQ_ENTRY(engine_conn) entry; /* in lingering when closed, else in live */
	struct pbuf *rx_head, *rx_tail; /* linked by next; tot_len of them means nothing */
	unsigned rx_count;
	uint32_t rx_skip;      /* bytes of rx_head that are consumed */
	size_t rx_bytes;       /* in these buffers, not consumed */
	size_t mark[LW_MARKS]; /* urgent bytes to come: so many bytes are to be consumed before */
	unsigned marks;
	uint32_t snd_up;	       /* behind the urgent byte sent, if urgent_out */
	struct dmm_addr local, remote; /* if urgent_out */
	uint32_t iss;		       /* of a connect() */
	uint16_t mss_limit;	       /* by the path MTU; 0: none */
	uint32_t sweep;		       /* the sweep that saw the pcb last */
	uint8_t events;		       /* to be reported, enum engine_event */
	bool queued;		       /* in the event queue */
	bool connecting, fin_sent, fin_rcvd, want_room, ack_queued;
	bool detached;	 /* both FINs are out: lwIP may free the pcb without a word */
	bool closed;	 /* by the host */
	bool challenged; /* in TIME-WAIT: a SYN that does not end it was answered */
	bool urgent_out; /* its urgent byte is not acknowledged: in the engine's table of those */
	TAILQ_ENTRY(engine_conn) urgent_entry;
	int error;
	TAILQ_ENTRY(engine_conn) ack_entry;
};

TAILQ_HEAD(lw_conns, engine_conn);

/* lwIP keeps its state in globals, so there is one of these. */
struct engine {
	struct engine_config c;
	struct netif netif;
	struct lw_conns events, live, lingering;
	unsigned lingering_n;
	uint64_t now;
	uint64_t tick_due;  /* lwIP's timer; 0: not running */
	unsigned ticks;	    /* of 250 ms that pass until then */
	uint64_t sweep_due; /* 0: not running */
	uint64_t ack_due;   /* 0: no delayed ACK waits */
	struct lw_conns acks;
	struct lw_conns urgent[LW_URGENT_BUCKETS];
	unsigned urgent_n; /* in there */
	uint32_t sweep;
	unsigned half_open; /* estimate, corrected by each sweep */
	struct lw_path path[LW_PATHS];
	dmm_u8 addr[LW_MAX_ADDRS][16];
	unsigned addrs;
};

/* The packet whose checksum was verified, while it is given to lwIP. */
extern struct pbuf *lw_verified;
/* The running engine, or NULL. */
extern struct engine *lw_engine;

void lw_to_lwip(const dmm_u8 ip[16], struct netif *zone, ip_addr_t *ret);
void lw_from_lwip(const ip_addr_t *ip, uint16_t port, struct dmm_addr *ret);

/* lwip-conn.c */
struct engine_conn *lw_conn_new(struct engine *e, struct tcp_pcb *pcb, void *user);
void lw_conn_event(struct engine_conn *c, unsigned events, int error);
void lw_conn_callbacks(struct engine_conn *c);
err_t lw_connected(void *arg, struct tcp_pcb *pcb, err_t err);
err_t lw_accept(void *arg, struct tcp_pcb *pcb, err_t err);
void lw_conn_free(struct engine_conn *c);
/* Let go of lingering connections that lwIP has freed; shorten TIME-WAIT. */
void lw_sweep(struct engine *e);
/* A SYN or a reset, before lwIP sees it. */
void lw_time_wait(const ip_addr_t *remote, u16_t remote_port, const ip_addr_t *local,
		  u16_t local_port, u8_t flags, u32_t seq);

size_t lw_room(struct engine_conn *c);
ssize_t lw_send(struct engine_conn *c, const void *data, size_t len);
/* The same without tcp_output(). */
ssize_t lw_append(struct engine_conn *c, const void *data, size_t len);
unsigned lw_peek(struct engine_conn *c, struct iovec *iov, unsigned n);
void lw_consume(struct engine_conn *c, size_t len);
int lw_shutdown(struct engine_conn *c);
void lw_close(struct engine_conn *c);
void lw_abort(struct engine_conn *c);
void lw_too_big(struct engine_conn *c, uint32_t seq, uint32_t mtu);
/* The slot of a destination. */
struct lw_path *lw_path(struct engine *e, const dmm_u8 ip[16]);
void lw_unreachable(struct engine_conn *c, uint32_t seq, int error);

/* lwip-urgent.c */
/* A segment with the URG flag, and len bytes of data. */
void lw_urgent_received(const ip_addr_t *remote, u16_t remote_port, const ip_addr_t *local,
			u16_t local_port, u32_t seq, size_t len, u16_t pointer);
bool lw_urgent(struct engine_conn *c, size_t *ret);
/* len bytes were consumed: marks come nearer, and go when their byte went. */
void lw_urgent_advance(struct engine_conn *c, size_t len);
ssize_t lw_send_urgent(struct engine_conn *c, const void *byte);
/* Put the urgent pointer into a packet, from its IP header on, that is about to be sent. IP and TCP
 * header lie in its first buffer. */
void lw_urgent_output(struct engine *e, struct pbuf *p);
void lw_urgent_acked(struct engine_conn *c, u32_t ackno);
void lw_urgent_done(struct engine_conn *c);

#endif
