// SPDX-License-Identifier: Apache-2.0
/*
 * An engine of one's own, as a plug-in: TCP at its plainest. One segment is under way at a time, no
 * option but the MSS is known, what comes out of order comes again, and an urgent byte is a byte
 * like any other. It is right and slow. What each function has to do is said in engine.h.
 *
 *   cc -shared -fPIC -o stopwait.so stopwait.c $(pkg-config --cflags dmm-engine)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "userstack/engine.h"

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define ACK 0x10
#define TCP 6

#define BUFFER 32768u
#define MSS_DEFAULT 536u
#define MS 1000000ull
#define RETRY (200 * MS) /* doubled each time */
#define RETRIES 7
#define LINGER (60000 * MS) /* after the last FIN */
#define ADDRESSES 64
#define NEVER UINT64_MAX

enum state { SYN_SENT, SYN_RECEIVED, OPEN, ENDED };

struct engine_listener {
	struct engine *e;
	struct dmm_addr local;
	uint8_t tos;
	void *user;
	LIST_ENTRY(engine_listener) entry;
};

struct engine_conn {
	struct engine *e;
	struct dmm_addr remote, local;
	struct engine_listener *listener; /* it came by this and was not reported */
	void *user;
	uint8_t tos;
	enum state state;
	bool known;  /* to the host */
	bool closed; /* by the host */
	bool fin_queued, fin_acked, eof, want_room;
	uint32_t una;	  /* the first byte that is not acknowledged: tx[0] */
	uint32_t flight;  /* sequence space under way from there: SYN, bytes, FIN */
	uint32_t window;  /* the peer's */
	uint32_t rcv_nxt; /* the next byte to come */
	uint32_t mss;
	uint32_t tx_len, rx_len;
	uint8_t tx[BUFFER], rx[BUFFER];
	unsigned tries, events;
	int error;
	uint64_t due; /* to send again, or to go */
	LIST_ENTRY(engine_conn) entry;
};

struct engine {
	struct engine_config c;
	uint64_t now;
	uint8_t addr[ADDRESSES][16];
	unsigned addrs;
	LIST_HEAD(, engine_listener) listeners;
	LIST_HEAD(, engine_conn) conns;
};

struct segment {
	struct dmm_addr remote, local;
	uint32_t seq, ack, len;
	uint16_t window, mss;
	uint8_t flags;
	const uint8_t *data;
};

/* ---- bytes and addresses ---- */

static const uint8_t v4_mapped[12] = {[10] = 0xff, [11] = 0xff};

static bool is_v4(const uint8_t ip[16])
{
	return !memcmp(ip, v4_mapped, sizeof(v4_mapped));
}

static bool is_any(const uint8_t ip[16])
{
	static const uint8_t zero[16];

	return !memcmp(ip + (is_v4(ip) ? 12 : 0), zero, is_v4(ip) ? 4 : 16);
}

static bool same(const struct dmm_addr *a, const struct dmm_addr *b)
{
	return a->port == b->port && !memcmp(a->ip, b->ip, 16);
}

static uint32_t get(const uint8_t *p, unsigned n)
{
	uint32_t v = 0;

	while (n--)
		v = v << 8 | *p++;
	return v;
}

static void put(uint8_t *p, unsigned n, uint32_t v)
{
	while (n--) {
		p[n] = (uint8_t)v;
		v >>= 8;
	}
}

static uint32_t sum(const uint8_t *p, size_t len, uint32_t s)
{
	for (; len > 1; len -= 2, p += 2)
		s += get(p, 2);
	return len ? s + (uint32_t)*p * 256 : s;
}

static uint16_t fold(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

/* ---- sending ---- */

static void send_segment(struct engine *e, const struct dmm_addr *local,
			 const struct dmm_addr *remote, uint8_t tos, uint32_t seq, uint32_t ack,
			 uint8_t flags, uint32_t window, const uint8_t *data, uint32_t len)
{
	bool v4 = is_v4(remote->ip);
	uint8_t h[64] = {0}, *t = h + (v4 ? 20 : 40);
	uint32_t tcp = flags & SYN ? 24 : 20, s;
	struct iovec iov[2] = {{h, (v4 ? 20 : 40) + tcp}, {(void *)data, len}};

	put(t, 2, local->port);
	put(t + 2, 2, remote->port);
	put(t + 4, 4, seq);
	put(t + 8, 4, ack);
	t[12] = (uint8_t)(tcp << 2);
	t[13] = flags;
	put(t + 14, 2, window);
	if (flags & SYN)
		put(t + 20, 4, 0x02040000 | (e->c.mtu - (v4 ? 40 : 60)));
	s = sum(local->ip + (v4 ? 12 : 0), v4 ? 4 : 16, TCP + tcp + len);
	s = sum(remote->ip + (v4 ? 12 : 0), v4 ? 4 : 16, s);
	put(t + 16, 2, fold(sum(data, len, sum(t, tcp, s))));
	if (v4) {
		put(h, 4, 0x45000000 | (uint32_t)tos << 16 | (20 + tcp + len));
		put(h + 8, 2, 64 << 8 | TCP);
		memcpy(h + 12, local->ip + 12, 4);
		memcpy(h + 16, remote->ip + 12, 4);
		put(h + 10, 2, fold(sum(h, 20, 0)));
	} else {
		put(h, 4, 6u << 28 | (uint32_t)tos << 20);
		put(h + 4, 4, (tcp + len) << 16 | TCP << 8 | 64);
		memcpy(h + 8, local->ip, 16);
		memcpy(h + 24, remote->ip, 16);
	}
	e->c.host->output(e->c.host->ctx, iov, len ? 2 : 1);
}

static void send_conn(struct engine_conn *c, uint32_t seq, uint8_t flags, uint32_t len)
{
	send_segment(c->e, &c->local, &c->remote, c->tos & 0xfc, seq, c->rcv_nxt, flags,
		     BUFFER - c->rx_len, c->tx, len);
}

/* What is at una: the SYN, or as many bytes as fit, and the FIN behind the last. */
static void send_next(struct engine_conn *c)
{
	uint32_t len = c->tx_len, room = c->window ? c->window : 1; /* 1: a probe of the window */
	bool fin;

	if (c->state == SYN_SENT || c->state == SYN_RECEIVED) {
		c->flight = 1;
		send_conn(c, c->una, c->state == SYN_SENT ? SYN : SYN | ACK, 0);
	} else {
		len = len < c->mss ? len : c->mss;
		len = len < room ? len : room;
		fin = c->fin_queued && len == c->tx_len && !c->fin_acked;
		c->flight = len + fin;
		if (!c->flight)
			return;
		send_conn(c, c->una, fin ? ACK | FIN : ACK, len);
	}
	c->due = c->e->now + (RETRY << c->tries);
}

static void refuse(struct engine *e, const struct segment *s)
{
	uint32_t space = s->len + !!(s->flags & SYN) + (s->flags & FIN);

	if (!(s->flags & RST))
		send_segment(e, &s->local, &s->remote, 0, s->flags & ACK ? s->ack : 0,
			     s->seq + space, s->flags & ACK ? RST : RST | ACK, 0, NULL, 0);
}

/* ---- life ---- */

/* RFC 6528 wants a keyed hash that cannot be turned round: an engine that is to be used has one. */
static uint32_t initial_number(const struct engine *e, const struct engine_conn *c)
{
	const uint8_t *parts[] = {e->c.secret, c->remote.ip, c->local.ip};
	uint32_t h = 2166136261u;

	for (unsigned i = 0; i < 48; i++)
		h = (h ^ parts[i / 16][i % 16]) * 16777619;
	h = (h ^ c->remote.port) * 16777619;
	h = (h ^ c->local.port) * 16777619;
	return h + (uint32_t)(e->now / 4000);
}

static struct engine_conn *conn_new(struct engine *e, const struct dmm_addr *remote,
				    const struct dmm_addr *local)
{
	struct engine_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->e = e;
	c->remote = *remote;
	c->local = *local;
	c->mss = MSS_DEFAULT;
	c->due = NEVER;
	c->una = initial_number(e, c);
	LIST_INSERT_HEAD(&e->conns, c, entry);
	return c;
}

/* Nobody exchanges packets for it any more. It goes when the host has ended it, too. */
static void conn_end(struct engine_conn *c, int error)
{
	c->state = ENDED;
	c->due = NEVER;
	c->error = error;
	if (error)
		c->events |= ENGINE_FAILED;
}

static void conn_reset(struct engine_conn *c)
{
	if (c->state == SYN_RECEIVED || c->state == OPEN)
		send_conn(c, c->una + c->flight, RST | ACK, 0);
	conn_end(c, 0);
}

/* The last word to the host. What is left of it goes with the next poll(), which may be the one
 * that we are called from. */
static void conn_release(struct engine_conn *c)
{
	const struct engine_host *h = c->e->c.host;

	if (c->known)
		h->released(h->ctx, c->user);
	c->known = false;
}

/* Both FINs are acknowledged: wait for the peer's to come again. */
static void conn_maybe_linger(struct engine_conn *c)
{
	if (c->eof && c->fin_acked)
		c->due = c->e->now + LINGER;
}

/* ---- receiving ---- */

static bool parse(const uint8_t *p, size_t len, struct segment *ret)
{
	bool v6 = len >= 60 && p[0] >> 4 == 6 && p[6] == TCP;
	size_t ip = v6 ? 40 : 20, tcp;

	*ret = (struct segment){0};
	if (!v6 && (len < 40 || p[0] != 0x45 || p[9] != TCP))
		return false;
	memcpy(ret->remote.ip, v6 ? p + 8 : v4_mapped, v6 ? 16 : 12);
	memcpy(ret->local.ip, v6 ? p + 24 : v4_mapped, v6 ? 16 : 12);
	if (!v6) {
		memcpy(ret->remote.ip + 12, p + 12, 4);
		memcpy(ret->local.ip + 12, p + 16, 4);
	}
	p += ip;
	tcp = (size_t)(p[12] >> 4) * 4;
	if (tcp < 20 || ip + tcp > len)
		return false;
	ret->remote.port = (uint16_t)get(p, 2);
	ret->local.port = (uint16_t)get(p + 2, 2);
	ret->seq = get(p + 4, 4);
	ret->ack = get(p + 8, 4);
	ret->flags = p[13];
	ret->window = (uint16_t)get(p + 14, 2);
	ret->data = p + tcp;
	ret->len = (uint32_t)(len - ip - tcp);
	for (size_t i = 20; i + 4 <= tcp && p[i] && (p[i] == 1 || p[i + 1]);
	     i += p[i] == 1 ? 1 : p[i + 1])
		if (p[i] == 2)
			ret->mss = (uint16_t)get(p + i + 2, 2);
	return true;
}

static void set_mss(struct engine_conn *c, const struct segment *s)
{
	uint32_t most = c->e->c.mtu - (is_v4(c->remote.ip) ? 40 : 60);

	c->mss = s->mss >= 64 ? s->mss : MSS_DEFAULT;
	c->mss = c->mss < most ? c->mss : most;
}

static void receive_syn(struct engine *e, struct engine_listener *l, const struct segment *s)
{
	struct engine_conn *c = conn_new(e, &s->remote, &s->local);

	if (!c)
		return;
	c->state = SYN_RECEIVED;
	c->listener = l;
	c->tos = l->tos;
	c->rcv_nxt = s->seq + 1;
	set_mss(c, s);
	send_next(c);
}

static void receive_ack(struct engine_conn *c, const struct segment *s)
{
	uint32_t n = s->ack - c->una;

	if (n > c->flight)
		return; /* old, or of what was never sent */
	c->window = s->window;
	if (!n)
		return;
	c->tries = 0;
	c->una = s->ack;
	c->flight -= n;
	c->due = NEVER;
	if (c->state == SYN_RECEIVED) { /* it was the SYN */
		c->state = OPEN;
		return;
	}
	if (n > c->tx_len) {
		c->fin_acked = true;
		n = c->tx_len;
		conn_maybe_linger(c);
	}
	memmove(c->tx, c->tx + n, c->tx_len - n);
	c->tx_len -= n;
	c->flight = 0; /* a part was acknowledged: the rest goes again */
	if (n && c->want_room && !c->fin_queued) {
		c->want_room = false;
		c->events |= ENGINE_WRITABLE;
	}
}

static void receive_data(struct engine_conn *c, const struct segment *s)
{
	uint32_t old = c->rcv_nxt - s->seq, len = s->len;
	bool fin = s->flags & FIN;

	if (!len && !fin && s->seq == c->rcv_nxt)
		return;
	if (old <= len && !c->eof) { /* what is new of it, as far as there is room */
		len -= old;
		if (len > BUFFER - c->rx_len) {
			len = BUFFER - c->rx_len;
			fin = false;
		}
		memcpy(c->rx + c->rx_len, s->data + old, len);
		c->rx_len += len;
		c->rcv_nxt += len;
		c->events |= len ? ENGINE_READABLE : 0;
		if (fin) {
			c->rcv_nxt++;
			c->eof = true;
			c->events |= ENGINE_EOF;
			conn_maybe_linger(c);
		}
	}
	send_conn(c, c->una + c->flight, ACK, 0);
}

static void receive_syn_sent(struct engine_conn *c, const struct segment *s)
{
	if (!(s->flags & ACK) || s->ack != c->una + 1) {
		refuse(c->e, s);
		return;
	}
	if (s->flags & RST) {
		conn_end(c, ECONNREFUSED);
		return;
	}
	if (!(s->flags & SYN))
		return;
	c->state = OPEN;
	c->una++;
	c->flight = c->tries = 0;
	c->due = NEVER;
	c->rcv_nxt = s->seq + 1;
	c->window = s->window;
	set_mss(c, s);
	c->events |= ENGINE_CONNECTED;
	send_conn(c, c->una, ACK, 0);
}

static void receive(struct engine_conn *c, const struct segment *s)
{
	if (c->state == SYN_SENT) {
		receive_syn_sent(c, s);
		return;
	}
	if (s->flags & RST) {
		if (s->seq == c->rcv_nxt)
			conn_end(c, c->state == OPEN ? ECONNRESET : ECONNREFUSED);
		return;
	}
	if (s->flags & SYN) { /* again, or a challenge: RFC 5961 */
		if (c->state == SYN_RECEIVED)
			send_next(c);
		else
			send_conn(c, c->una + c->flight, ACK, 0);
		return;
	}
	if (!(s->flags & ACK))
		return;
	receive_ack(c, s);
	if (c->state != OPEN)
		return;
	if (c->closed && s->len && s->seq + s->len - c->rcv_nxt - 1 < BUFFER) {
		conn_reset(c); /* nobody will read it */
		return;
	}
	receive_data(c, s);
	if (!c->flight)
		send_next(c);
}

static struct engine_listener *find_listener(struct engine *e, const struct dmm_addr *local)
{
	struct engine_listener *l;

	LIST_FOREACH(l, &e->listeners, entry)
	if (l->local.port == local->port && is_v4(l->local.ip) == is_v4(local->ip) &&
	    (is_any(l->local.ip) || same(&l->local, local)))
		return l;
	return NULL;
}

static void stopwait_input(struct engine *e, const uint8_t *pkt, size_t len, uint64_t now)
{
	struct engine_listener *l;
	struct engine_conn *c;
	struct segment s;

	e->now = now;
	if (!parse(pkt, len, &s))
		return;
	LIST_FOREACH(c, &e->conns, entry)
	if (c->state != ENDED && same(&c->remote, &s.remote) && same(&c->local, &s.local)) {
		receive(c, &s);
		return;
	}
	l = find_listener(e, &s.local);
	if (l && (s.flags & (SYN | ACK | RST | FIN)) == SYN)
		receive_syn(e, l, &s);
	else
		refuse(e, &s);
}

/* ---- time and events ---- */

static void conn_due(struct engine_conn *c)
{
	if (c->eof && c->fin_acked) {
		conn_end(c, 0);
	} else if (c->tries++ == RETRIES) {
		conn_end(c, ETIMEDOUT);
	} else {
		send_next(c);
	}
}

/* False: the host did not want it. */
static bool conn_report(struct engine_conn *c)
{
	const struct engine_host *h = c->e->c.host;
	struct engine_listener *l = c->listener;
	unsigned events;

	if (l && c->state == OPEN) {
		c->listener = NULL;
		c->known = true; /* released() follows if the host closes it from inside */
		c->user = h->accepted(h->ctx, l->user, c, &c->remote, &c->local);
		c->known = c->user;
		if (!c->user) {
			conn_reset(c);
			return false;
		}
	}
	events = c->events;
	c->events = 0;
	if (events && c->known && !c->closed)
		h->event(h->ctx, c->user, events, events & ENGINE_FAILED ? c->error : 0);
	return true;
}

static void stopwait_poll(struct engine *e, uint64_t now, uint64_t *ret_next)
{
	struct engine_conn *c, *next;

	e->now = now;
	*ret_next = NEVER;
	for (c = LIST_FIRST(&e->conns); c; c = next) {
		if (c->due <= now)
			conn_due(c);
		conn_report(c);
		next = LIST_NEXT(c, entry);
		if (c->state == ENDED && (c->closed || !c->known)) {
			conn_release(c);
			LIST_REMOVE(c, entry);
			free(c);
			continue;
		}
		if (c->due < *ret_next)
			*ret_next = c->due;
		if (c->events)
			*ret_next = now;
	}
}

/* ---- what the host asks ---- */

static int stopwait_start(struct engine **ret, const struct engine_config *c)
{
	if (c->congestion[0] || c->ecn || c->keepalive_s || c->user_timeout_ms)
		return -EOPNOTSUPP;
	*ret = calloc(1, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	(*ret)->c = *c;
	(*ret)->now = c->now;
	return 0;
}

static void stopwait_stop(struct engine *e)
{
	struct engine_conn *c;

	while ((c = LIST_FIRST(&e->conns))) {
		conn_reset(c);
		conn_release(c);
		LIST_REMOVE(c, entry);
		free(c);
	}
	free(e);
}

static int find_addr(const struct engine *e, const dmm_u8 ip[16])
{
	for (unsigned i = 0; i < e->addrs; i++)
		if (!memcmp(e->addr[i], ip, 16))
			return (int)i;
	return -ENOENT;
}

static int stopwait_addr_add(struct engine *e, const dmm_u8 ip[16])
{
	if (find_addr(e, ip) >= 0)
		return -EEXIST;
	if (e->addrs == ADDRESSES)
		return -ENOMEM;
	memcpy(e->addr[e->addrs++], ip, 16);
	return 0;
}

static int stopwait_addr_del(struct engine *e, const dmm_u8 ip[16])
{
	int i = find_addr(e, ip);

	if (i >= 0)
		memmove(e->addr[i], e->addr[--e->addrs], 16);
	return i < 0 ? i : 0;
}

static int stopwait_connect(struct engine *e, const struct dmm_addr *remote,
			    const struct dmm_addr *local, const struct engine_options *options,
			    void *user, uint64_t now, struct engine_conn **ret)
{
	struct engine_conn *c;

	if (options->congestion)
		return -EOPNOTSUPP;
	e->now = now;
	c = conn_new(e, remote, local);
	if (!c)
		return -ENOMEM;
	c->user = user;
	c->tos = options->tos;
	c->known = true;
	*ret = c;
	send_next(c);
	return 0;
}

static int stopwait_listen(struct engine *e, const struct dmm_addr *local, uint8_t tos, void *user,
			   struct engine_listener **ret)
{
	struct engine_listener *l;

	LIST_FOREACH(l, &e->listeners, entry)
	if (same(&l->local, local))
		return -EADDRINUSE;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	*l = (struct engine_listener){.e = e, .local = *local, .tos = tos, .user = user};
	LIST_INSERT_HEAD(&e->listeners, l, entry);
	*ret = l;
	return 0;
}

static void stopwait_unlisten(struct engine_listener *l)
{
	struct engine_conn *c;

	LIST_FOREACH(c, &l->e->conns, entry)
	if (c->listener == l) {
		c->listener = NULL;
		conn_reset(c);
	}
	LIST_REMOVE(l, entry);
	free(l);
}

static size_t stopwait_room(struct engine_conn *c)
{
	size_t room = c->state == OPEN && !c->fin_queued ? BUFFER - c->tx_len : 0;

	c->want_room |= !room;
	return room;
}

static ssize_t stopwait_send(struct engine_conn *c, const void *data, size_t len)
{
	size_t n = stopwait_room(c);

	if (c->fin_queued)
		return -EPIPE;
	if (c->state != OPEN)
		return -ENOTCONN;
	c->want_room |= n < len;
	n = n < len ? n : len;
	memcpy(c->tx + c->tx_len, data, n);
	c->tx_len += (uint32_t)n;
	if (!c->flight)
		send_next(c);
	return (ssize_t)n;
}

static ssize_t stopwait_send_urgent(struct engine_conn *c, const void *byte)
{
	return stopwait_send(c, byte, 1);
}

static unsigned stopwait_peek(struct engine_conn *c, struct iovec *iov, unsigned n)
{
	if (!n || !c->rx_len)
		return 0;
	*iov = (struct iovec){c->rx, c->rx_len};
	return 1;
}

static bool stopwait_urgent(struct engine_conn *c, size_t *ret)
{
	(void)c;
	(void)ret;
	return false;
}

static void stopwait_consume(struct engine_conn *c, size_t len)
{
	bool was_small = BUFFER - c->rx_len < c->mss;

	memmove(c->rx, c->rx + len, c->rx_len - len);
	c->rx_len -= (uint32_t)len;
	if (c->state == OPEN && was_small && BUFFER - c->rx_len >= c->mss)
		send_conn(c, c->una + c->flight, ACK, 0); /* there is room again */
}

static int stopwait_shutdown(struct engine_conn *c)
{
	if (c->state != OPEN)
		return -ENOTCONN;
	if (c->fin_queued)
		return 0;
	c->fin_queued = true;
	if (!c->flight)
		send_next(c);
	return 0;
}

static void stopwait_close(struct engine_conn *c)
{
	c->closed = true;
	if (c->state == OPEN && !c->rx_len) {
		stopwait_shutdown(c);
		return;
	}
	conn_reset(c);
	conn_release(c);
}

static void stopwait_abort(struct engine_conn *c)
{
	c->closed = true;
	conn_reset(c);
	conn_release(c);
}

static void stopwait_unreachable(struct engine_conn *c, uint32_t seq, int error)
{
	if (c->state == SYN_SENT && seq == c->una)
		conn_end(c, error);
}

static void stopwait_too_big(struct engine_conn *c, uint32_t seq, uint32_t mtu)
{
	uint32_t mss = (mtu > 576 ? mtu : 576) - (is_v4(c->remote.ip) ? 40 : 60);

	if (c->state != OPEN || seq - c->una >= c->flight || mss >= c->mss)
		return;
	c->mss = mss;
	send_next(c);
}

static void stopwait_set_tos(struct engine_conn *c, uint8_t tos)
{
	c->tos = tos;
}

static void stopwait_info(const struct engine_conn *c, struct engine_info *ret)
{
	(void)c;
	*ret = (struct engine_info){0}; /* it counts nothing */
}

const struct engine_ops dmm_engine = {
	.abi = ENGINE_ABI,
	.name = "stopwait",
	.start = stopwait_start,
	.stop = stopwait_stop,
	.input = stopwait_input,
	.poll = stopwait_poll,
	.addr_add = stopwait_addr_add,
	.addr_del = stopwait_addr_del,
	.connect = stopwait_connect,
	.listen = stopwait_listen,
	.unlisten = stopwait_unlisten,
	.room = stopwait_room,
	.send = stopwait_send,
	.send_urgent = stopwait_send_urgent,
	.peek = stopwait_peek,
	.urgent = stopwait_urgent,
	.consume = stopwait_consume,
	.info = stopwait_info,
	.shutdown = stopwait_shutdown,
	.close = stopwait_close,
	.abort = stopwait_abort,
	.unreachable = stopwait_unreachable,
	.too_big = stopwait_too_big,
	.set_tos = stopwait_set_tos,
};
