// SPDX-License-Identifier: Apache-2.0
/* The lwip engine: one connection. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <lwip/priv/tcp_priv.h>

#include "lib/base/util.h"
#include "userstack/engine/lwip.h"
#include "userstack/net/frame.h"

#define LW_RX_MANY 64	/* buffers; beyond this small ones are joined, to bound memory */
#define LW_MIN_MTU 1280 /* of IPv6 */
#define LW_PATH_NS 600000000000ULL
#define LW_TW_MAX 1024	/* lwIP looks TIME-WAIT up in a linear list: the oldest go first */
#define LW_TW_TICKS 120 /* 60 s, as in the kernel, instead of lwIP's 120 s */

struct engine_conn *lw_conn_new(struct engine *e, struct tcp_pcb *pcb, void *user)
{
	struct engine_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->e = e;
	c->pcb = pcb;
	c->user = user;
	c->sweep = e->sweep;
	TAILQ_INSERT_TAIL(&e->live, c, entry);
	return c;
}

static void lw_rx_free(struct engine_conn *c)
{
	struct pbuf *p, *next;

	for (p = c->rx_head; p; p = next) {
		next = p->next;
		p->next = NULL;
		pbuf_free(p);
	}
	c->rx_head = c->rx_tail = NULL;
	c->rx_count = 0;
	c->rx_skip = 0;
	c->rx_bytes = 0;
}

/* Nothing more is to be reported about c. */
static void lw_conn_silence(struct engine_conn *c)
{
	if (c->queued)
		TAILQ_REMOVE(&c->e->events, c, event_entry);
	if (c->ack_queued)
		TAILQ_REMOVE(&c->e->acks, c, ack_entry);
	c->queued = c->ack_queued = false;
}

void lw_conn_free(struct engine_conn *c)
{
	const struct engine_host *h = c->e->c.host;

	lw_conn_silence(c);
	lw_urgent_done(c);
	lw_rx_free(c);
	if (c->closed)
		c->e->lingering_n--;
	TAILQ_REMOVE(c->closed ? &c->e->lingering : &c->e->live, c, entry);
	if (c->user)
		h->released(h->ctx, c->user);
	free(c);
}

void lw_conn_event(struct engine_conn *c, unsigned events, int error)
{
	if (c->closed)
		return;
	c->events |= (uint8_t)events;
	if (error)
		c->error = error;
	if (c->queued)
		return;
	c->queued = true;
	TAILQ_INSERT_TAIL(&c->e->events, c, event_entry);
}

/* Make one buffer out of many. Without memory for it they stay as they are. */
static void lw_rx_join(struct engine_conn *c)
{
	struct pbuf *p, *all;
	size_t total = 0, off = 0;

	for (p = c->rx_head; p; p = p->next)
		total += p->len;
	total -= c->rx_skip;
	if (total > 0xffff)
		return;
	all = pbuf_alloc(PBUF_RAW, (u16_t)total, PBUF_RAM);
	if (!all)
		return;
	for (p = c->rx_head; p; p = p->next) {
		size_t skip = p == c->rx_head ? c->rx_skip : 0;

		memcpy((char *)all->payload + off, (char *)p->payload + skip, p->len - skip);
		off += p->len - skip;
	}
	lw_rx_free(c);
	c->rx_head = c->rx_tail = all;
	c->rx_count = 1;
	c->rx_bytes = total;
}

/* Both directions are finished: only lwIP has work left with the pcb. */
static void lw_detach(struct engine_conn *c)
{
	tcp_set_flags(c->pcb, TF_RXCLOSED);
	c->pcb = NULL;
	c->detached = true;
}

static err_t lw_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
	struct engine_conn *c = arg;

	(void)err;
	if (!p) {
		c->fin_rcvd = true;
		lw_conn_event(c, ENGINE_EOF, 0);
		if (c->fin_sent)
			lw_detach(c);
		return ERR_OK;
	}
	c->rx_bytes += p->tot_len;
	if (c->rx_tail)
		c->rx_tail->next = p;
	else
		c->rx_head = p;
	for (c->rx_count++; p->next; p = p->next)
		c->rx_count++;
	c->rx_tail = p;
	if (c->rx_count > LW_RX_MANY)
		lw_rx_join(c);
	if ((pcb->flags & TF_ACK_DELAY) && !c->ack_queued) {
		c->ack_queued = true;
		TAILQ_INSERT_TAIL(&c->e->acks, c, ack_entry);
	}
	lw_conn_event(c, ENGINE_READABLE, 0);
	return ERR_OK;
}

static err_t lw_sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
	struct engine_conn *c = arg;

	(void)len;
	lw_urgent_acked(c, pcb->lastack);
	if (c->want_room && lw_room(c)) {
		c->want_room = false;
		lw_conn_event(c, ENGINE_WRITABLE, 0);
	}
	return ERR_OK;
}

/* lwIP has freed the pcb, or is about to. */
static void lw_err(void *arg, err_t err)
{
	struct engine_conn *c = arg;
	int error = ETIMEDOUT;

	c->pcb = NULL;
	lw_urgent_done(c);
	if (c->closed || c->detached)
		return;
	if (err == ERR_CLSD) {
		c->detached = true;
		return;
	}
	if (err == ERR_RST)
		error = c->connecting ? ECONNREFUSED : ECONNRESET;
	lw_conn_event(c, ENGINE_FAILED, error);
}

err_t lw_connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
	struct engine_conn *c = arg;

	(void)pcb;
	(void)err;
	c->connecting = false;
	lw_conn_event(c, ENGINE_CONNECTED, 0);
	return ERR_OK;
}

void lw_conn_callbacks(struct engine_conn *c)
{
	tcp_arg(c->pcb, c);
	tcp_recv(c->pcb, lw_recv);
	tcp_sent(c->pcb, lw_sent);
	tcp_err(c->pcb, lw_err);
	/* The application's own Nagle works on its side of the carrier. */
	tcp_nagle_disable(c->pcb);
}

err_t lw_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
	struct engine_listener *l = arg;
	struct engine_conn *c;

	if (err != ERR_OK || !pcb)
		return ERR_VAL;
	if (l->e->half_open)
		l->e->half_open--;
	c = lw_conn_new(l->e, pcb, NULL);
	if (!c)
		return ERR_MEM;
	c->listener = l;
	pcb->tos = l->tos;
	lw_conn_callbacks(c);
	lw_conn_event(c, 0, 0);
	return ERR_OK;
}

size_t lw_room(struct engine_conn *c)
{
	size_t n;

	if (!c->pcb || c->connecting || c->fin_sent)
		return 0;
	n = tcp_sndbuf(c->pcb);
	/* Less than two segments would be sent as crumbs. */
	if (n < 2u * c->pcb->mss || c->pcb->snd_queuelen > TCP_SND_QUEUELEN - 8) {
		c->want_room = true;
		return 0;
	}
	return n;
}

ssize_t lw_append(struct engine_conn *c, const void *data, size_t len)
{
	size_t n;
	err_t err = ERR_MEM;

	if (c->fin_sent)
		return -EPIPE;
	if (!c->pcb || c->connecting)
		return -ENOTCONN;
	if (c->mss_limit && c->pcb->mss > c->mss_limit && !c->pcb->unsent)
		c->pcb->mss = c->mss_limit;
	n = MIN(len, (size_t)tcp_sndbuf(c->pcb));
	/* All or nothing, and refused when it makes too many segments for the queue. */
	for (; n; n /= 2) {
		err = tcp_write(c->pcb, data, (u16_t)n, TCP_WRITE_FLAG_COPY);
		if (err != ERR_MEM)
			break;
	}
	if (err != ERR_OK && err != ERR_MEM)
		return -ENOTCONN;
	if (n < len)
		c->want_room = true;
	return (ssize_t)n;
}

ssize_t lw_send(struct engine_conn *c, const void *data, size_t len)
{
	ssize_t n = lw_append(c, data, len);

	if (n >= 0)
		tcp_output(c->pcb);
	return n;
}

unsigned lw_peek(struct engine_conn *c, struct iovec *iov, unsigned n)
{
	size_t skip = c->rx_skip;
	struct pbuf *p;
	unsigned i = 0;

	for (p = c->rx_head; p && i < n; p = p->next) {
		if (p->len > skip)
			iov[i++] = (struct iovec){(char *)p->payload + skip, p->len - skip};
		skip = 0;
	}
	return i;
}

void lw_consume(struct engine_conn *c, size_t len)
{
	size_t left = len + c->rx_skip;
	struct pbuf *p;

	while ((p = c->rx_head) && left >= p->len) {
		left -= p->len;
		c->rx_head = p->next;
		p->next = NULL;
		pbuf_free(p);
		c->rx_count--;
	}
	if (!c->rx_head)
		c->rx_tail = NULL;
	c->rx_skip = (uint32_t)left;
	c->rx_bytes -= len;
	lw_urgent_advance(c, len);
	if (!c->pcb)
		return;
	for (; len; len -= MIN(len, (size_t)0xffff))
		tcp_recved(c->pcb, (u16_t)MIN(len, (size_t)0xffff));
}

int lw_shutdown(struct engine_conn *c)
{
	if (c->fin_sent || c->detached)
		return 0;
	if (!c->pcb || c->connecting)
		return -ENOTCONN;
	c->fin_sent = true;
	/* Without memory the FIN is retried by lwIP's timer. */
	tcp_shutdown(c->pcb, 0, 1);
	if (c->fin_rcvd)
		lw_detach(c);
	return 0;
}

void lw_close(struct engine_conn *c)
{
	if (!c->pcb && !c->detached) {
		lw_conn_free(c);
		return;
	}
	lw_conn_silence(c);
	lw_rx_free(c);
	TAILQ_REMOVE(&c->e->live, c, entry);
	TAILQ_INSERT_TAIL(&c->e->lingering, c, entry);
	c->e->lingering_n++;
	c->closed = true;
	c->sweep = c->e->sweep;
	if (c->pcb)
		tcp_close(c->pcb);
}

/* Give the pcb up without a report from lwIP. */
static void lw_drop(struct engine_conn *c)
{
	struct tcp_pcb *pcb = c->pcb;

	c->pcb = NULL;
	if (!pcb)
		return;
	tcp_arg(pcb, NULL);
	tcp_err(pcb, NULL);
	tcp_recv(pcb, NULL);
	if (pcb->state == SYN_SENT) /* nobody to tell */
		tcp_close(pcb);
	else
		tcp_abort(pcb);
}

void lw_abort(struct engine_conn *c)
{
	if (c->detached) {
		lw_close(c);
		return;
	}
	lw_drop(c);
	lw_conn_free(c);
}

void lw_unreachable(struct engine_conn *c, uint32_t seq, int error)
{
	if (!c->connecting || !c->pcb || seq != c->iss)
		return;
	lw_drop(c);
	lw_conn_event(c, ENGINE_FAILED, error);
}

struct lw_path *lw_path(struct engine *e, const dmm_u8 ip[16])
{
	uint32_t w[4];

	memcpy(w, ip, 16);
	return &e->path[((w[0] ^ w[1] ^ w[2] ^ w[3]) * 0x9e3779b1u >> 16) % LW_PATHS];
}

/*
 * Only IPv6: lwIP's IPv4 packets may be fragmented on their way. Segments that exist keep their
 * size and go out in fragments from now on, see nd6_get_destination_mtu() in lwip-glue.c; new ones
 * are made smaller as soon as none waits (lwIP insists that the last one that waits fits the MSS).
 */
void lw_too_big(struct engine_conn *c, uint32_t seq, uint32_t mtu)
{
	struct dmm_addr remote;
	struct lw_path *p;

	if (!c->pcb || !IP_IS_V6(&c->pcb->remote_ip) || mtu < LW_MIN_MTU || mtu >= c->e->c.mtu)
		return;
	if (!TCP_SEQ_BETWEEN(seq, c->pcb->lastack, c->pcb->snd_nxt))
		return;
	if (c->mss_limit && c->mss_limit <= mtu - 60) /* of the same flight: on its way again */
		return;
	c->mss_limit = (uint16_t)(mtu - 60);
	lw_from_lwip(&c->pcb->remote_ip, 0, &remote);
	p = lw_path(c->e, remote.ip);
	memcpy(p->ip, remote.ip, 16);
	p->mtu = mtu;
	p->until = c->e->now + LW_PATH_NS;
	tcp_rexmit_rto(c->pcb);
}

static void lw_trim_time_wait(void)
{
	struct tcp_pcb *pcb, *next;
	unsigned n = 0;

	for (pcb = tcp_tw_pcbs; pcb; pcb = next) { /* newest first */
		next = pcb->next;
		if (++n <= LW_TW_MAX && tcp_ticks - pcb->tmr < LW_TW_TICKS)
			continue;
		tcp_pcb_remove(&tcp_tw_pcbs, pcb);
		tcp_free(pcb);
	}
}

/*
 * What lwIP leaves out: a peer that uses its port again would hang until the state times out.
 * - RFC 1122, 4.2.2.13: a SYN beyond the last sequence number opens a new connection.
 * - Any other SYN is answered by lwIP with an ACK. If it is not a duplicate, the peer resets what
 * it does not know (RFC 9293, 3.10.7.3), and its next SYN finds the state gone. Sequence numbers
 * get there: a fast sender uses them up faster than the clock that the initial ones come from runs.
 * A reset that no such SYN asked for is ignored (RFC 1337).
 */
void lw_time_wait(const ip_addr_t *remote, u16_t remote_port, const ip_addr_t *local,
		  u16_t local_port, u8_t flags, u32_t seq)
{
	struct engine_conn *c;
	struct tcp_pcb *pcb;

	for (pcb = tcp_tw_pcbs; pcb; pcb = pcb->next)
		if (pcb->remote_port == remote_port && pcb->local_port == local_port &&
		    ip_addr_cmp(&pcb->remote_ip, remote) && ip_addr_cmp(&pcb->local_ip, local))
			break;
	if (!pcb || !(c = pcb->callback_arg))
		return;
	if (flags & TCP_RST ? !c->challenged || seq != pcb->rcv_nxt
			    : !TCP_SEQ_GEQ(seq, pcb->rcv_nxt)) {
		c->challenged |= !(flags & TCP_RST);
		return;
	}
	tcp_pcb_remove(&tcp_tw_pcbs, pcb);
	tcp_free(pcb);
	if (c->closed) /* else the host still reads */
		lw_conn_free(c);
}

void lw_sweep(struct engine *e)
{
	struct engine_conn *c, *next;
	struct tcp_pcb *pcb;

	e->sweep++;
	e->half_open = 0;
	lw_trim_time_wait();
	for (pcb = tcp_active_pcbs; pcb; pcb = pcb->next) {
		if (pcb->state == SYN_RCVD) /* its argument is the listener */
			e->half_open++;
		else if ((c = pcb->callback_arg))
			c->sweep = e->sweep;
	}
	for (pcb = tcp_tw_pcbs; pcb; pcb = pcb->next)
		if ((c = pcb->callback_arg))
			c->sweep = e->sweep;
	for (c = TAILQ_FIRST(&e->lingering); c; c = next) {
		next = TAILQ_NEXT(c, entry);
		if (c->sweep != e->sweep)
			lw_conn_free(c);
	}
}
