// SPDX-License-Identifier: Apache-2.0
/*
 * The path of packets: port -> parse, verify -> engine -> route, neighbour -> port. And the pairs
 * of addresses that XDP takes off the kernel for the engine.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "userstack/engine/isn.h"
#include "userstack/net/frame.h"
#include "userstack/net/plain.h"
#include "userstack/stack.h"

#define GIVE_BACK_NS 10000000ULL
#define PORTS_FIRST 61000 /* above Linux's default ip_local_port_range */
#define PORTS_MIN 1024	  /* fewer than these: share with the kernel */

uint32_t path_hash(const struct dmm_addr *remote, const struct dmm_addr *local)
{
	uint32_t r[4], l[4], h;

	memcpy(r, remote->ip, 16);
	memcpy(l, local->ip, 16);
	h = (r[0] ^ r[1] ^ r[2]) * 0x85ebca6bu ^ r[3] * 0xc2b2ae35u ^ l[3] * 0x27d4eb2fu ^ l[2];
	h = (h ^ ((uint32_t)remote->port << 16 | local->port)) * 0x9e3779b1u;
	return h ^ h >> 15;
}

static struct owned **owned_slot(struct stack *s, const struct dmm_addr *remote,
				 const struct dmm_addr *local)
{
	struct owned **at;

	for (at = &s->owned_hash[path_hash(remote, local) % STACK_BUCKETS]; *at; at = &(*at)->next)
		if (!memcmp(&(*at)->remote, remote, sizeof(*remote)) &&
		    !memcmp(&(*at)->local, local, sizeof(*local)))
			break;
	return at;
}

/* Its packets are no longer its own. */
static void owned_unlink(struct stack *s, struct owned *o)
{
	struct owned **at = owned_slot(s, &o->remote, &o->local);

	if (*at != o)
		return;
	*at = o->next;
	xdp_flow_set(s->xdp, s->thread, &o->remote, &o->local, DMM_XFLOW_NONE);
}

void owned_free(struct stack *s, struct owned *o)
{
	owned_unlink(s, o);
	if (o->released)
		TAILQ_REMOVE(&s->released, o, entry);
	if (o->flow)
		o->flow->owned = NULL;
	free(o);
}

/*
 * What the engine sent last waits in the port, perhaps behind a ring of the device. Meanwhile the
 * kernel would answer what still comes with a reset that overtakes it.
 */
static void owned_release(struct stack *s, struct owned *o)
{
	if (o->flow)
		o->flow->owned = NULL;
	o->flow = NULL;
	o->conn = NULL;
	o->released = s->now;
	TAILQ_INSERT_TAIL(&s->released, o, entry);
}

void owned_reap(struct stack *s)
{
	struct owned *o;

	while ((o = TAILQ_FIRST(&s->released)) && s->now - o->released >= GIVE_BACK_NS)
		owned_free(s, o);
}

/* A connection that we closed keeps its pair in the engine for a while. True: no longer. */
static bool owned_succeed(struct stack *s, const struct owned *o)
{
	return o->released || (!o->conn && s->c.engine->succeed &&
			       s->c.engine->succeed(s->engine, &o->remote, &o->local, s->now));
}

int owned_new(struct stack *s, const struct dmm_addr *remote, const struct dmm_addr *local,
	      struct owned **ret)
{
	struct owned **at, *o = *owned_slot(s, remote, local);
	int r;

	if (o && !owned_succeed(s, o))
		return -EADDRINUSE;
	if (o)
		owned_free(s, o);
	o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	o->remote = *remote;
	o->local = *local;
	r = xdp_flow_set(s->xdp, s->thread, remote, local, DMM_XFLOW_LIVE);
	if (r == -EEXIST) /* another thread has it, by a port that an application bound */
		r = -EADDRINUSE;
	if (r < 0) {
		if (r != -EADDRINUSE && stack_may_complain(s))
			log_err("cannot steer another flow: %s", strerror(-r));
		free(o);
		return r;
	}
	at = owned_slot(s, remote, local);
	*at = o;
	*ret = o;
	return 0;
}

/* The owner of a pair may have been another connection since. */
static bool owned_is(struct stack *s, const struct owned *o)
{
	return *owned_slot(s, &o->remote, &o->local) == o;
}

/* The far side uses its port again before the engine has released the last connection, which may
 * also have bytes that were not read yet. */
int owned_accept(struct stack *s, struct engine_conn *c, const struct dmm_addr *remote,
		 const struct dmm_addr *local, struct owned **ret)
{
	struct owned *before = *owned_slot(s, remote, local);
	int r;

	if (before)
		owned_unlink(s, before);
	r = owned_new(s, remote, local, ret);
	if (!r)
		(*ret)->conn = c;
	return r;
}

void owned_closed(struct stack *s, const struct owned *o)
{
	if (!o->conn && owned_is(s, o))
		xdp_flow_set(s->xdp, s->thread, &o->remote, &o->local, DMM_XFLOW_CLOSED);
}

void owned_port_left(struct stack *s, uint16_t port)
{
	for (unsigned i = 0; i < STACK_BUCKETS; i++)
		for (struct owned *o = s->owned_hash[i]; o; o = o->next)
			if (o->local.port == port)
				owned_closed(s, o);
}

/* RFC 6056, 3.3.4: each destination has a place of its own to count from, which only we know, and
 * shares its counter with a few others: nobody learns from his own ports what others have, and a
 * port comes again as late as can be. */
uint16_t owned_choose_port(struct stack *s, const struct dmm_addr *remote,
			   const struct dmm_addr *local)
{
	uint32_t n = s->port_hi - s->port_lo + 1, first, *next;
	struct dmm_addr try = *local;
	struct owned *o;
	uint64_t m[5], h;

	memcpy(m, remote->ip, 16);
	memcpy(m + 2, local->ip, 16);
	m[4] = remote->port;
	h = sip_hash(s->port_secret, m, 5);
	first = (uint32_t)h;
	next = &s->port_next[(h >> 32) % ARRAY_SIZE(s->port_next)];
	for (uint32_t i = 0; i < n; i++) {
		try.port = (uint16_t)(s->port_lo + (first + (*next)++) % n);
		o = *owned_slot(s, remote, &try);
		if (!o || owned_succeed(s, o))
			return try.port;
	}
	return 0;
}

/* A range that the kernel does not choose ports from: it must not take one for another connection
 * to the same far end while its packets would come to us. Each thread has its part of it. */
static void path_choose_ports(struct stack *s)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	unsigned lo = 32768, hi = 60999, share;

	if (f && fscanf(f, "%u %u", &lo, &hi) != 2)
		log_warn("cannot read ip_local_port_range; assuming %u to %u", lo, hi);
	s->kernel_ports = hi - lo + 1;
	s->port_hi = 65535;
	if (hi + PORTS_MIN <= 65535) {
		s->port_lo = MAX(hi + 1, (unsigned)PORTS_FIRST);
		if (s->port_hi - s->port_lo < PORTS_MIN)
			s->port_lo = hi + 1;
	} else if (lo >= 1024 + PORTS_MIN) {
		s->port_hi = lo - 1;
		s->port_lo = MAX(1024u, s->port_hi / 2);
	} else {
		s->port_lo = lo + (hi - lo) / 2;
		s->port_hi = hi;
		log_warn("ip_local_port_range leaves no ports: sharing %u to %u with the kernel",
			 s->port_lo, s->port_hi);
	}
	share = (s->port_hi - s->port_lo + 1) / s->inst->threads;
	s->port_lo += s->thread * share;
	s->port_hi = s->port_lo + share - 1;
}

/* ---- engine and network to port ---- */

#define SUPER_IOV 32

/* iov[0] holds the headers. False: it does not fit now. */
static bool path_send_super(struct stack *s, const uint8_t dst[6], const struct iovec *iov,
			    unsigned n, uint32_t mss)
{
	const uint8_t *p = iov[0].iov_base;
	bool v6 = p[0] >> 4 == 6;
	uint16_t tcp = v6 ? 40 : 20;
	struct iovec frame[1 + SUPER_IOV]; /* the first is the port's */
	uint8_t eth[FRAME_ETH_LEN];
	struct port_super packet = {
		.iov = frame + 1,
		.n = n + 1,
		.v6 = v6,
		.l4_off = (uint16_t)(FRAME_ETH_LEN + tcp),
		.headers = (uint16_t)(FRAME_ETH_LEN + tcp + (p[tcp + 12] >> 4) * 4),
		.mss = (uint16_t)mss,
	};

	if (n >= SUPER_IOV)
		return false;
	frame_eth(eth, dst, net_mac(s->net), v6);
	frame[1] = (struct iovec){eth, sizeof(eth)};
	memcpy(frame + 2, iov, n * sizeof(*iov));
	return s->c.port->tx_super(s->port, &packet);
}

/* Of an IP packet in a frame. */
static struct port_sum path_sum(const uint8_t *ip)
{
	bool v6 = ip[0] >> 4 == 6;

	return (struct port_sum){
		.start = FRAME_ETH_LEN + (v6 ? 40 : 20),
		.offset = (uint16_t)frame_sum_offset(v6 ? ip[6] : ip[9]),
	};
}

static void path_send(void *ctx, const uint8_t dst[6], const struct iovec *iov, unsigned n,
		      struct frame_offload left)
{
	struct stack *s = ctx;
	size_t len = FRAME_ETH_LEN, off = FRAME_ETH_LEN;
	struct port_sum sum;
	uint8_t *p;

	for (unsigned i = 0; i < n; i++)
		len += iov[i].iov_len;
	if (left.mss) {
		bool sent = path_send_super(s, dst, iov, n, left.mss);

		STACK_COUNT(s, TX_PACKETS, sent ? (len + left.mss - 1) / left.mss : 0);
		STACK_COUNT(s, TX_BYTES, sent ? len : 0);
		STACK_COUNT(s, TX_DROPS, !sent);
		return;
	}
	p = s->c.port->tx_reserve(s->port, len);
	if (!p) {
		STACK_COUNT(s, TX_DROPS, 1);
		return;
	}
	for (unsigned i = 0; i < n; off += iov[i++].iov_len)
		memcpy(p + off, iov[i].iov_base, iov[i].iov_len);
	frame_eth(p, dst, net_mac(s->net), p[FRAME_ETH_LEN] >> 4 == 6);
	sum = path_sum(p + FRAME_ETH_LEN);
	s->c.port->tx_commit(s->port, len, left.sum ? &sum : NULL);
	STACK_COUNT(s, TX_PACKETS, 1);
	STACK_COUNT(s, TX_BYTES, len);
	STACK_COUNT(s, TX_PARTIAL, left.sum);
}

static void path_output(void *ctx, const struct iovec *iov, unsigned n)
{
	struct stack *s = ctx;

	net_output(s->net, iov, n, (struct frame_offload){0}, s->now);
}

static void path_output_partial(void *ctx, const struct iovec *iov, unsigned n, uint32_t mss)
{
	struct stack *s = ctx;

	net_output(s->net, iov, n, (struct frame_offload){.sum = true, .mss = mss}, s->now);
}

/* Segment seq, which local sent to remote, cannot arrive. */
static void path_undeliverable(struct stack *s, const struct dmm_addr *remote,
			       const struct dmm_addr *local, uint32_t seq, int error, uint32_t mtu)
{
	struct owned *o = *owned_slot(s, remote, local);

	if (o && o->conn && mtu)
		s->c.engine->too_big(o->conn, seq, mtu);
	else if (o && o->conn)
		s->c.engine->unreachable(o->conn, seq, error);
}

/* One of our own packets: its source is local. */
static void path_unreachable(void *ctx, const uint8_t *pkt, size_t len)
{
	struct frame f;

	if (frame_parse_ip(pkt, len, &f) == FRAME_TCP)
		path_undeliverable(ctx, &f.local, &f.remote, f.seq, EHOSTUNREACH, 0);
}

/* ---- port to engine ---- */

/* What frame_parse() says f is, but FRAME_ODD. */
static void path_packet(struct stack *s, const uint8_t *data, const struct frame *f)
{
	switch (f->kind) {
	case FRAME_TCP:
	case FRAME_UDP:
		if (frame_unsummed(data, f)) {
			STACK_COUNT(s, CSUM_PARTIAL, 1);
		} else if (!frame_summed(data, f)) {
			STACK_COUNT(s, RX_CSUM, 1);
			return;
		}
		/* nobody calls over the network from our own address (RFC 9293, 3.9.2.3) */
		if (f->kind == FRAME_TCP && f->flags & FRAME_SYN &&
		    net_is_local(s->net, f->remote.ip))
			break;
		s->c.engine->input(s->engine, data + f->ip_off, f->ip_len, s->now);
		return;
	case FRAME_ERROR:
		if (f->proto == IPPROTO_TCP)
			path_undeliverable(s, &f->remote, &f->local, f->seq, f->error, f->mtu);
		else
			udp_error(s, f);
		return;
	default:
		break;
	}
	STACK_COUNT(s, RX_BAD, 1);
}

/* Datagrams in one packet, nobody knows how many. */
static bool path_is_several(const struct stack *s, const struct frame *f)
{
	return f->kind == FRAME_UDP && f->ip_len > net_mtu(s->net);
}

static void path_odd(struct stack *s, const uint8_t *pkt, size_t len)
{
	const uint8_t *whole = pkt;
	struct frame f = {0};
	enum plain_is is = plain_make(s->plain, pkt, len, s->now, &whole, &len);

	STACK_COUNT(s, FRAG_LOST, plain_lost(s->plain));
	STACK_COUNT(s, REASSEMBLED, is == PLAIN_WHOLE);
	if (is == PLAIN_NONE)
		return;
	f.kind = is == PLAIN_BAD ? FRAME_BAD : frame_parse_ip(whole, len, &f);
	if (frame_from_nowhere(&f) || (is == PLAIN_PACKET && path_is_several(s, &f)))
		f.kind = FRAME_BAD;
	path_packet(s, whole, &f);
}

static void path_frame(void *ctx, const uint8_t *data, size_t len)
{
	struct stack *s = ctx;
	struct frame f;

	STACK_COUNT(s, RX_PACKETS, 1);
	STACK_COUNT(s, RX_BYTES, len);
	frame_parse(data, len, &f);
	/* A frame for another host, or for everybody, is none for us (RFC 1122, 3.3.6). */
	if (f.kind == FRAME_BAD || memcmp(data, net_mac(s->net), 6) != 0 || path_is_several(s, &f))
		STACK_COUNT(s, RX_BAD, 1);
	else if (f.kind == FRAME_ODD)
		path_odd(s, data + f.ip_off, f.ip_len);
	else
		path_packet(s, data, &f);
}

void path_tick(struct stack *s)
{
	plain_expire(s->plain, s->now);
	STACK_COUNT(s, FRAG_LOST, plain_lost(s->plain));
}

static void path_soon(void *ctx, const uint8_t *data, size_t len)
{
	struct stack *s = ctx;

	if (len > FRAME_ETH_LEN)
		s->c.engine->expect(s->engine, data + FRAME_ETH_LEN, len - FRAME_ETH_LEN);
}

unsigned path_receive(struct stack *s, unsigned budget)
{
	const struct port_sink sink = {s, path_frame, s->c.engine->expect ? path_soon : NULL};
	unsigned drops = 0, n;

	n = s->c.port->rx(s->port, budget, &sink, &drops);
	if (drops)
		STACK_COUNT(s, RX_BAD, drops);
	return n;
}

/* ---- what the engine and the network say ---- */

static void path_event(void *ctx, void *user, unsigned events, int error)
{
	struct stack *s = ctx;
	struct owned *o = user;
	struct flow *f = o->flow;

	if (!f)
		return;
	switch (f->state) {
	case FLOW_CONNECTING:
	case FLOW_RELEASED:
	case FLOW_SILENT:
		carrier_engine_event(s, f, events, error);
		break;
	case FLOW_JOINING:
	case FLOW_OPEN:
		relay_engine_event(s, f, events, error);
		break;
	case FLOW_DEAD:
		break;
	}
}

static size_t path_received(void *ctx, void *user, const void *data, size_t len)
{
	const struct owned *o = user;

	return o->flow ? relay_received(ctx, o->flow, data, len) : 0;
}

static void *path_accepted(void *ctx, void *listener_user, struct engine_conn *c,
			   const struct dmm_addr *remote, const struct dmm_addr *local)
{
	struct stack *s = ctx;
	struct owned *o;

	STACK_COUNT(s, CONN_ACCEPT, 1);
	if (s->stopping || owned_accept(s, c, remote, local, &o) < 0)
		return NULL;
	if (listen_accepted(s, listener_user, o))
		return o;
	o->conn = NULL;
	owned_free(s, o);
	return NULL;
}

static void path_released(void *ctx, void *user)
{
	owned_release(ctx, user);
}

static void path_addr(void *ctx, const dmm_u8 ip[16], bool add)
{
	struct stack *s = ctx;
	char text[ADDR_STRLEN];

	if (!s->thread)
		log_info("%s %s %s", s->c.interface, add ? "has" : "has no longer",
			 addr_format_ip(ip, text, sizeof(text)));
	if (s->engine)
		(void)(add ? s->c.engine->addr_add(s->engine, ip)
			   : s->c.engine->addr_del(s->engine, ip));
	listen_addr(s, ip, add);
}

static void path_route(void *ctx, const dmm_u8 ip[16], unsigned plen, int type,
		       const dmm_u8 source[16])
{
	struct stack *s = ctx;
	char text[ADDR_STRLEN];
	int r;

	r = type < 0 ? hold_route_del(s->hold, ip, plen)
		     : hold_route_set(s->hold, ip, plen, (enum dmm_route_type)type, source);
	if (r < 0 && stack_may_complain(s))
		log_err("cannot publish the route to %s: %s",
			addr_format_prefix(ip, plen, text, sizeof(text)), strerror(-r));
}

void path_gone(void *ctx, const char *why)
{
	struct stack *s = ctx;

	if (instance_stop(s->inst, 3))
		log_err("%s: %s", s->c.interface, why);
}

static void path_dropped(void *ctx, enum engine_drop why)
{
	static const uint8_t counters[ENGINE_DROP_COUNT] = {
		[ENGINE_DROP_SEGMENT] = DMM_I_DROP_SEGMENT,
		[ENGINE_DROP_STRANGER] = DMM_I_DROP_STRANGER,
		[ENGINE_DROP_WINDOW] = DMM_I_DROP_WINDOW,
		[ENGINE_DROP_CLOCK] = DMM_I_DROP_CLOCK,
		[ENGINE_DROP_ACK] = DMM_I_DROP_ACK,
		[ENGINE_DROP_RESET] = DMM_I_DROP_RESET,
		[ENGINE_DROP_ROOM] = DMM_I_DROP_ROOM,
	};
	struct stack *s = ctx;

	s->counters[counters[why]]++;
}

int path_open(struct stack *s)
{
	struct engine_config ec = {
		.host = &s->engine_host,
		.now = s->now,
		.ecn = s->c.ecn,
		.keepalive_s = s->c.keepalive_s,
		.user_timeout_ms = s->c.user_timeout_ms,
	};
	const dmm_u8 *ip;
	size_t super;
	int r;

	s->net_host = (struct net_host){
		.ctx = s,
		.addr = path_addr,
		.route = s->thread ? NULL : path_route, /* the first does it */
		.send = path_send,
		.unreachable = path_unreachable,
		.gone = path_gone,
		.neigh_miss = &s->counters[DMM_I_NEIGH_MISS],
		.neigh_fail = &s->counters[DMM_I_NEIGH_FAIL],
		.no_route = &s->counters[DMM_I_NO_ROUTE],
	};
	s->engine_host = (struct engine_host){
		.ctx = s,
		.dropped = path_dropped,
		.output = path_output,
		.output_partial = path_output_partial,
		.event = path_event,
		.accepted = path_accepted,
		.received = path_received,
		.released = path_released,
		.datagram = udp_datagram,
	};
	path_choose_ports(s);
	if (getrandom(s->port_secret, sizeof(s->port_secret), 0) != sizeof(s->port_secret) ||
	    getrandom(s->port_next, sizeof(s->port_next), 0) != sizeof(s->port_next))
		return -EIO;
	if (!s->thread)
		hold_route_clear(s->hold); /* of an instance that died */
	s->plain = plain_new();
	if (!s->plain)
		return -ENOMEM;
	r = net_open(&s->net, s->ifindex, &s->net_host, s->now);
	if (r < 0)
		return r;
	super = s->c.port->super_max ? s->c.port->super_max(s->port) : 0;
	ec.super = super ? (uint32_t)(super - FRAME_ETH_LEN) : 0;
	ec.partial = s->c.port->sums && s->c.port->sums(s->port);
	ec.mtu = (uint32_t)MIN((size_t)net_mtu(s->net), s->c.port->tx_max(s->port) - FRAME_ETH_LEN);
	memcpy(ec.secret, s->inst->secret, sizeof(ec.secret));
	snprintf(ec.congestion, sizeof(ec.congestion), "%s",
		 s->c.congestion ? s->c.congestion : "");
	r = s->c.engine->start(&s->engine, &ec);
	if (r == -EOPNOTSUPP) {
		log_err("the engine %s cannot do what is asked for%s%s%s%s%s", s->c.engine->name,
			ec.congestion[0] ? ": congestion " : "", ec.congestion,
			ec.ecn ? ", ecn" : "", ec.keepalive_s ? ", keepalive" : "",
			ec.user_timeout_ms ? ", user timeout" : "");
		return r;
	}
	if (r < 0) {
		log_err("cannot start the engine %s: %s", s->c.engine->name, strerror(-r));
		return r;
	}
	for (unsigned i = 0; !r && (ip = net_addr(s->net, i)); i++)
		r = s->c.engine->addr_add(s->engine, ip);
	return r;
}

void path_close(struct stack *s)
{
	struct owned *o;

	if (s->engine)
		s->c.engine->stop(s->engine);
	s->engine = NULL;
	while ((o = TAILQ_FIRST(&s->released)))
		owned_free(s, o);
	if (s->net)
		net_close(s->net);
	s->net = NULL;
	plain_free(s->plain);
	s->plain = NULL;
	if (s->hold)
		hold_route_clear(s->hold);
}
