// SPDX-License-Identifier: Apache-2.0
/*
 * The lwip engine: Debian's liblwip through its raw API, without its threads, timers, IP input and
 * neighbour discovery. Packets go straight to tcp_input(), so that any number of addresses works
 * (a netif has one IPv4 address); tcp_tmr() is called from poll() while a connection exists.
 * lwIP's callbacks only note what happened: the host is told from poll(), never from inside lwIP.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <lwip/init.h>
#include <lwip/ip.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/prot/ip4.h>
#include <lwip/prot/ip6.h>
#include <lwip/prot/tcp.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "userstack/engine/lwip.h"
#include "userstack/engines.h"

#define LW_TICK_NS (TCP_TMR_INTERVAL * 1000000ULL)
#define LW_SWEEP_NS 1000000000ULL
#define LW_SWEEP_SOON_NS 50000000ULL
#define LW_LINGER_MANY 2048
#define LW_HALF_OPEN_MAX 1024 /* SYNs beyond this push out the oldest: lwIP has no SYN cookies */
#define LW_ACK_NS 10000000ULL /* lwIP's own delayed ACK waits up to 250 ms */

void lw_to_lwip(const dmm_u8 ip[16], struct netif *zone, ip_addr_t *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (addr_is_v4(ip)) {
		memcpy(&ip_2_ip4(ret)->addr, ip + 12, 4);
		IP_SET_TYPE(ret, IPADDR_TYPE_V4);
		return;
	}
	memcpy(ip_2_ip6(ret)->addr, ip, 16);
	IP_SET_TYPE(ret, IPADDR_TYPE_V6);
	ip6_addr_clear_zone(ip_2_ip6(ret));
	if (ip6_addr_lacks_zone(ip_2_ip6(ret), IP6_UNKNOWN))
		ip6_addr_assign_zone(ip_2_ip6(ret), IP6_UNKNOWN, zone);
}

void lw_from_lwip(const ip_addr_t *ip, uint16_t port, struct dmm_addr *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (IP_IS_V4(ip))
		addr_from_v4(ret->ip, ip_2_ip4(ip)->addr);
	else
		memcpy(ret->ip, ip_2_ip6(ip)->addr, 16);
	ret->port = port;
}

static err_t lw_output(struct netif *n, struct pbuf *p)
{
	struct engine *e = n->state;
	struct iovec iov[16];
	unsigned k = 0;

	if (e->urgent_n)
		lw_urgent_output(e, p);
	for (; p && k < 16; p = p->next)
		iov[k++] = (struct iovec){p->payload, p->len};
	if (p)
		return ERR_BUF;
	e->c.host->output(e->c.host->ctx, iov, k);
	return ERR_OK;
}

static err_t lw_output4(struct netif *n, struct pbuf *p, const ip4_addr_t *dst)
{
	(void)dst;
	return lw_output(n, p);
}

static err_t lw_output6(struct netif *n, struct pbuf *p, const ip6_addr_t *dst)
{
	(void)dst;
	return lw_output(n, p);
}

static err_t lw_netif_init(struct netif *n)
{
	struct engine *e = n->state;

	n->name[0] = 'd';
	n->name[1] = 'm';
	n->mtu = n->mtu6 = (u16_t)(e->c.mtu < 0xffff ? e->c.mtu : 0xffff);
	n->output = lw_output4;
	n->output_ip6 = lw_output6;
	return ERR_OK;
}

static int lw_start(struct engine **ret, const struct engine_config *c)
{
	static bool initialized;
	ip4_addr_t ip, mask, gw = {0};
	struct engine *e;

	if (lw_engine)
		return -EBUSY;
	if (c->congestion[0] || c->ecn || c->keepalive_s || c->user_timeout_ms)
		return -EOPNOTSUPP;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->c = *c;
	e->now = c->now;
	TAILQ_INIT(&e->events);
	TAILQ_INIT(&e->live);
	TAILQ_INIT(&e->lingering);
	TAILQ_INIT(&e->acks);
	for (unsigned i = 0; i < LW_URGENT_BUCKETS; i++)
		TAILQ_INIT(&e->urgent[i]);
	if (!initialized)
		lwip_init();
	initialized = true;
	/* Only for routing inside lwIP, which wants an address: RFC 7600's dummy, nobody's peer. */
	IP4_ADDR(&ip, 192, 0, 0, 8);
	IP4_ADDR(&mask, 255, 255, 255, 255);
	if (!netif_add(&e->netif, &ip, &mask, &gw, e, lw_netif_init, ip_input)) {
		free(e);
		return -ENOMEM;
	}
	netif_set_default(&e->netif);
	netif_set_up(&e->netif);
	netif_set_link_up(&e->netif);
	lw_engine = e;
	*ret = e;
	return 0;
}

static void lw_stop(struct engine *e)
{
	struct engine_conn *c;

	while ((c = TAILQ_FIRST(&e->live)))
		lw_abort(c);
	lw_sweep(e); /* what is left has a pcb */
	while ((c = TAILQ_FIRST(&e->lingering))) {
		if (c->pcb) {
			tcp_arg(c->pcb, NULL);
			tcp_err(c->pcb, NULL);
			tcp_abort(c->pcb);
		}
		lw_conn_free(c);
	}
	netif_remove(&e->netif);
	lw_engine = NULL;
	free(e);
}

static bool lw_is_local(const struct engine *e, const dmm_u8 ip[16])
{
	for (unsigned i = 0; i < e->addrs; i++)
		if (!memcmp(e->addr[i], ip, 16))
			return true;
	return false;
}

static int lw_addr_add(struct engine *e, const dmm_u8 ip[16])
{
	if (lw_is_local(e, ip))
		return -EEXIST;
	if (e->addrs == LW_MAX_ADDRS)
		return -ENOMEM;
	memcpy(e->addr[e->addrs++], ip, 16);
	return 0;
}

static int lw_addr_del(struct engine *e, const dmm_u8 ip[16])
{
	for (unsigned i = 0; i < e->addrs; i++) {
		if (memcmp(e->addr[i], ip, 16))
			continue;
		memmove(e->addr[i], e->addr[--e->addrs], 16);
		return 0;
	}
	return -ENOENT;
}

/* What ip_input() leaves for tcp_input() to look at. Returns the length of the IP header. */
static size_t lw_set_current(struct engine *e, const uint8_t *pkt)
{
	struct ip_globals *g = &ip_data;
	dmm_u8 src[16], dst[16];
	uint32_t v4;
	size_t hdr;

	if (pkt[0] >> 4 == 6) {
		memcpy(src, pkt + 8, 16);
		memcpy(dst, pkt + 24, 16);
		g->current_ip6_header = (struct ip6_hdr *)pkt;
		hdr = 40;
	} else {
		memcpy(&v4, pkt + 12, 4);
		addr_from_v4(src, v4);
		memcpy(&v4, pkt + 16, 4);
		addr_from_v4(dst, v4);
		g->current_ip4_header = (const struct ip_hdr *)pkt;
		hdr = 20;
	}
	lw_to_lwip(src, &e->netif, &g->current_iphdr_src);
	lw_to_lwip(dst, &e->netif, &g->current_iphdr_dest);
	g->current_netif = g->current_input_netif = &e->netif;
	g->current_ip_header_tot_len = (u16_t)hdr;
	return lw_is_local(e, dst) ? hdr : 0;
}

/* lwIP's timer, while a connection exists. TIME-WAIT alone needs no precision: once a second then,
 * for four. */
static void lw_arm_tick(struct engine *e)
{
	if (tcp_active_pcbs && (!e->tick_due || e->ticks > 1)) {
		e->tick_due = e->now + LW_TICK_NS;
		e->ticks = 1;
	} else if (!e->tick_due && tcp_tw_pcbs) {
		e->ticks = 1000 / TCP_TMR_INTERVAL;
		e->tick_due = e->now + e->ticks * LW_TICK_NS;
	}
}

/* It may be about a connection that ended not long ago. */
static void lw_syn_or_rst(const uint8_t *tcp)
{
	uint32_t seq;
	uint16_t port[2];

	memcpy(port, tcp, 4);
	memcpy(&seq, tcp + 4, 4);
	lw_time_wait(&ip_data.current_iphdr_src, ntohs(port[0]), &ip_data.current_iphdr_dest,
		     ntohs(port[1]), tcp[13], ntohl(seq));
}

/* Before lwIP sees the segment, of len bytes with its header: rcv_nxt is that of its first byte, or
 * beyond. */
static void lw_urg(const uint8_t *tcp, size_t len)
{
	size_t hdr = (tcp[12] >> 4) * 4u;
	uint16_t port[2], pointer;
	uint32_t seq;

	memcpy(port, tcp, 4);
	memcpy(&seq, tcp + 4, 4);
	memcpy(&pointer, tcp + 18, 2);
	if (pointer && hdr <= len)
		lw_urgent_received(&ip_data.current_iphdr_src, ntohs(port[0]),
				   &ip_data.current_iphdr_dest, ntohs(port[1]), ntohl(seq),
				   len - hdr, ntohs(pointer));
}

/* Count the handshakes under way; if there are too many, forget the oldest, without a word. */
static void lw_evict_half_open(struct engine *e)
{
	struct tcp_pcb *pcb, *oldest = NULL;

	e->half_open = 1; /* the one to come */
	for (pcb = tcp_active_pcbs; pcb; pcb = pcb->next) {
		if (pcb->state != SYN_RCVD)
			continue;
		e->half_open++;
		if (!oldest || (s32_t)(pcb->tmr - oldest->tmr) <= 0)
			oldest = pcb;
	}
	if (e->half_open <= LW_HALF_OPEN_MAX || !oldest)
		return;
	TCP_PCB_REMOVE_ACTIVE(oldest);
	tcp_free(oldest);
	e->half_open--;
}

static void lw_input(struct engine *e, const uint8_t *pkt, size_t len, uint64_t now)
{
	struct pbuf *p;
	size_t hdr;
	uint8_t flags;

	e->now = now;
	hdr = lw_set_current(e, pkt);
	if (!hdr || len < hdr + 20)
		goto out;
	if (len - hdr >= UINT16_MAX) /* longer than its buffers */
		goto out;
	flags = pkt[hdr + 13];
	if ((flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		if (++e->half_open > LW_HALF_OPEN_MAX)
			lw_evict_half_open(e);
		if (!e->sweep_due)
			e->sweep_due = now + LW_SWEEP_NS;
	}
	if (tcp_tw_pcbs && ((flags & TCP_RST) || (flags & (TCP_SYN | TCP_ACK)) == TCP_SYN))
		lw_syn_or_rst(pkt + hdr);
	if (flags & TCP_URG)
		lw_urg(pkt + hdr, len - hdr);
	/* One byte more than the segment: tcp_parseopt() looks there for the length of an option
	 * whose kind is the last byte of all. */
	p = pbuf_alloc(PBUF_RAW, (u16_t)(len - hdr + 1), PBUF_RAM);
	if (!p)
		goto out;
	memcpy(p->payload, pkt + hdr, len - hdr);
	((uint8_t *)p->payload)[len - hdr] = 0;
	p->len = p->tot_len = (u16_t)(len - hdr);
	lw_verified = p;
	tcp_input(p, &e->netif);
	lw_verified = NULL;
	lw_arm_tick(e);
out:
	memset(&ip_data, 0, sizeof(ip_data));
}

/* Tell the host what happened since the last time. */
static void lw_report(struct engine *e)
{
	const struct engine_host *h = e->c.host;
	struct dmm_addr remote, local;
	struct engine_conn *c;
	unsigned events;

	while ((c = TAILQ_FIRST(&e->events))) {
		TAILQ_REMOVE(&e->events, c, event_entry);
		c->queued = false;
		events = c->events;
		c->events = 0;
		if (c->listener) {
			if (!c->pcb) { /* reset before anybody heard of it */
				lw_conn_free(c);
				continue;
			}
			lw_from_lwip(&c->pcb->remote_ip, c->pcb->remote_port, &remote);
			lw_from_lwip(&c->pcb->local_ip, c->pcb->local_port, &local);
			c->user = h->accepted(h->ctx, c->listener->user, c, &remote, &local);
			c->listener = NULL;
			if (!c->user) {
				lw_abort(c);
				continue;
			}
		}
		if (events)
			h->event(h->ctx, c->user, events, c->error);
	}
}

static void lw_delayed_acks(struct engine *e)
{
	struct engine_conn *c;

	while ((c = TAILQ_FIRST(&e->acks))) {
		TAILQ_REMOVE(&e->acks, c, ack_entry);
		c->ack_queued = false;
		if (c->pcb && (c->pcb->flags & TF_ACK_DELAY)) {
			tcp_ack_now(c->pcb);
			tcp_output(c->pcb);
		}
	}
	e->ack_due = 0;
}

static void lw_timers(struct engine *e)
{
	if (e->tick_due && e->now >= e->tick_due) {
		for (unsigned i = 0; i < e->ticks; i++)
			tcp_tmr();
		e->tick_due = 0;
	}
	lw_arm_tick(e);
	if (e->ack_due && e->now >= e->ack_due)
		lw_delayed_acks(e);
	if (!e->sweep_due && e->lingering_n)
		e->sweep_due = e->now + LW_SWEEP_NS;
	if (e->lingering_n > LW_LINGER_MANY)
		e->sweep_due = MIN(e->sweep_due, e->now + LW_SWEEP_SOON_NS);
	if (e->sweep_due && e->now >= e->sweep_due) {
		lw_sweep(e);
		e->sweep_due = e->lingering_n || e->half_open ? e->now + LW_SWEEP_NS : 0;
	}
}

static void lw_poll(struct engine *e, uint64_t now, uint64_t *ret_next)
{
	uint64_t next = UINT64_MAX;

	e->now = now;
	lw_timers(e);
	lw_report(e);
	if (!TAILQ_EMPTY(&e->acks) && !e->ack_due)
		e->ack_due = now + LW_ACK_NS;
	lw_arm_tick(e);
	if (!e->sweep_due && e->lingering_n)
		e->sweep_due = now + LW_SWEEP_NS;
	if (e->tick_due)
		next = MIN(next, e->tick_due);
	if (e->sweep_due)
		next = MIN(next, e->sweep_due);
	if (e->ack_due)
		next = MIN(next, e->ack_due);
	*ret_next = next;
}

/* lwIP has no ECN. */
static uint8_t lw_tos(uint8_t tos)
{
	return tos & 0xfc;
}

static int lw_connect(struct engine *e, const struct dmm_addr *remote, const struct dmm_addr *local,
		      const struct engine_options *options, void *user, uint64_t now,
		      struct engine_conn **ret)
{
	struct engine_conn *c;
	struct tcp_pcb *pcb;
	ip_addr_t to;
	err_t err;

	if (options->congestion)
		return -EOPNOTSUPP;
	e->now = now;
	pcb = tcp_new_ip_type(addr_is_v4(remote->ip) ? IPADDR_TYPE_V4 : IPADDR_TYPE_V6);
	if (!pcb)
		return -ENOMEM;
	c = lw_conn_new(e, pcb, user);
	if (!c) {
		tcp_abort(pcb);
		return -ENOMEM;
	}
	c->connecting = true;
	pcb->tos = lw_tos(options->tos);
	ip_set_option(pcb, SOF_REUSEADDR); /* a listener may take its port later */
	/* Not by tcp_bind(), which refuses a port that any other connection uses. */
	lw_to_lwip(local->ip, &e->netif, &pcb->local_ip);
	pcb->local_port = local->port;
	/* RFC 6298: 1 s until the first retransmission. lwIP's default is 3 s. */
	pcb->rto = pcb->sv = 1000 / TCP_SLOW_INTERVAL;
	lw_to_lwip(remote->ip, &e->netif, &to);
	lw_conn_callbacks(c);
	err = tcp_connect(pcb, &to, remote->port, lw_connected);
	if (err != ERR_OK) {
		tcp_err(pcb, NULL);
		pcb->local_port = 0; /* it is in no list that tcp_abort() could take it from */
		tcp_abort(pcb);
		c->pcb = NULL;
		lw_conn_free(c);
		return err == ERR_RTE ? -ENETUNREACH : -ENOMEM;
	}
	c->iss = pcb->lastack; /* lwIP's SYN has the number before its initial one */
	*ret = c;
	return 0;
}

/* A connection gets it when it is accepted: lwIP answers the SYN before, with none. */
static int lw_listen(struct engine *e, const struct dmm_addr *local, uint8_t tos, void *user,
		     struct engine_listener **ret)
{
	bool v4 = addr_is_v4(local->ip);
	struct engine_listener *l;
	struct tcp_pcb *pcb, *lpcb;
	ip_addr_t ip;
	err_t err = ERR_MEM;

	l = calloc(1, sizeof(*l));
	pcb = tcp_new_ip_type(v4 ? IPADDR_TYPE_V4 : IPADDR_TYPE_V6);
	if (!l || !pcb)
		goto fail;
	lw_to_lwip(local->ip, &e->netif, &ip);
	ip_set_option(pcb, SOF_REUSEADDR); /* else connections that linger on the port refuse it */
	err = tcp_bind(pcb, &ip, local->port);
	if (err != ERR_OK)
		goto fail;
	lpcb = tcp_listen_with_backlog_and_err(pcb, 255, &err);
	if (!lpcb)
		goto fail;
	*l = (struct engine_listener){.e = e, .pcb = lpcb, .tos = lw_tos(tos), .user = user};
	tcp_arg(lpcb, l);
	tcp_accept(lpcb, lw_accept);
	*ret = l;
	return 0;
fail:
	if (pcb)
		tcp_close(pcb);
	free(l);
	return err == ERR_USE ? -EADDRINUSE : -ENOMEM;
}

static void lw_unlisten(struct engine_listener *l)
{
	struct engine_conn *c, *next;

	/* Accepted, but not yet reported: its application will not come. */
	for (c = TAILQ_FIRST(&l->e->live); c; c = next) {
		next = TAILQ_NEXT(c, entry);
		if (c->listener == l)
			lw_abort(c);
	}
	tcp_close(l->pcb);
	free(l);
}

/* lwIP counts segments of all connections together, and round trips by its clock of 500 ms. */
static void lw_info(const struct engine_conn *c, struct engine_info *ret)
{
	(void)c;
	*ret = (struct engine_info){0};
}

static void lw_set_tos(struct engine_conn *c, uint8_t tos)
{
	if (c->pcb)
		c->pcb->tos = lw_tos(tos);
}

const struct engine_ops engine_lwip = {
	.abi = ENGINE_ABI,
	.name = "lwip",
	.start = lw_start,
	.stop = lw_stop,
	.input = lw_input,
	.poll = lw_poll,
	.addr_add = lw_addr_add,
	.addr_del = lw_addr_del,
	.connect = lw_connect,
	.listen = lw_listen,
	.unlisten = lw_unlisten,
	.room = lw_room,
	.send = lw_send,
	.send_urgent = lw_send_urgent,
	.peek = lw_peek,
	.urgent = lw_urgent,
	.consume = lw_consume,
	.info = lw_info,
	.shutdown = lw_shutdown,
	.close = lw_close,
	.abort = lw_abort,
	.unreachable = lw_unreachable,
	.too_big = lw_too_big,
	.set_tos = lw_set_tos,
};
