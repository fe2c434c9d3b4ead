// SPDX-License-Identifier: Apache-2.0
/*
 * The server role. A listener that an application of a managed group opened is announced with its
 * socket cookie; the engine listens on the same address, and XDP steers the port to it. What the
 * engine accepts is connected to the application's listener, after its real names are recorded for
 * accept() and getpeername().
 *
 * An IPv6 wildcard that takes IPv4 too is two addresses here, one of each family. Several listeners
 * may share an address (SO_REUSEPORT): the kernel chooses among them when the carrier connects.
 *
 * While the operator has switched off the stack, or the group or the rule of every listener of an
 * address, XDP leaves that port to the kernel's listener: connections that exist go on, new ones
 * take its way.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/attach.h"
#include "loader/maps.h"
#include "userstack/stack.h"

#define JOIN_WAIT_NS \
	30000000000ULL /* the application's accept queue is full for so long: give up */

#define JOIN_ADDRESSES 200

#define LOST_CHECK_NS 10000000000ULL
#define COMMIT_TICKS 4 /* seconds after a commit in which its groups are settled */

/* An application's listener. */
struct announced {
	TAILQ_ENTRY(announced) entry;
	struct dmm_listener l;
	bool present; /* of listen_sync() */
	dmm_u8 rule_off,
		off; /* why the kernel answers, of its rule and of all: 0 or enum dmm_reason
		      */
};

/* An address that the engine listens on. */
struct listening {
	TAILQ_ENTRY(listening) entry;
	struct dmm_addr addr;
	struct engine_listener *el;
	enum dmm_xport steer;		   /* what of the port XDP gives to us */
	TAILQ_HEAD(, announced) announced; /* not empty */
};

/* The addresses of a listener: returns how many. */
static unsigned listen_addrs(const struct dmm_listener *l, struct dmm_addr ret[2])
{
	static const dmm_u8 any6[16];
	unsigned n = 0;

	if (!addr_is_any(l->local.ip)) {
		ret[n] = l->local;
		ret[n++].pad = 0;
		return n;
	}
	if (l->family == 6 && !addr_is_v4(l->local.ip)) {
		ret[n] = (struct dmm_addr){.port = l->local.port};
		memcpy(ret[n++].ip, any6, 16);
		if (l->v6only)
			return n;
	}
	ret[n] = (struct dmm_addr){.port = l->local.port};
	addr_from_v4(ret[n++].ip, 0);
	return n;
}

/* XDP knows exact addresses only: a wildcard is every own address of its family. What a link-local
 * one means depends on the interface, which a name that BPF tells has not (sin6_scope_id): the
 * kernel's listener answers there. */
static void listen_steer(struct stack *s, const struct listening *g, const dmm_u8 ip[16],
			 enum dmm_xport how)
{
	struct dmm_addr a = g->addr;
	char text[ADDR_STRLEN];
	int r;

	if (addr_is_v4(ip) != addr_is_v4(a.ip) || addr_is_link_local(ip))
		return;
	if (!addr_is_any(a.ip) && memcmp(a.ip, ip, 16))
		return;
	memcpy(a.ip, ip, 16);
	r = xdp_port_set(s->xdp, s->thread, &a, how);
	if (!r)
		return;
	STACK_COUNT(s, LISTEN_FAIL, 1);
	log_err("cannot steer %s: %s; the kernel answers there",
		addr_format(&a, text, sizeof(text)), strerror(-r));
}

static void listen_steer_all(struct stack *s, const struct listening *g, enum dmm_xport how)
{
	const dmm_u8 *ip;

	for (unsigned i = 0; (ip = net_addr(s->net, i)); i++)
		listen_steer(s, g, ip, how);
}

/* A wildcard and an exact address may both want a port: what one does must not take it from the
 * other, so who owns it has the last word. ip NULL: of all addresses; port 0: all ports. */
static void listen_steer_again(struct stack *s, uint16_t port, const dmm_u8 *ip)
{
	struct listening *g;

	for (enum dmm_xport how = DMM_XPORT_LEFT; how <= DMM_XPORT_OWNED; how++)
		TAILQ_FOREACH(g, &s->listening, entry)
		{
			if (g->steer != how || (port && g->addr.port != port))
				continue;
			if (ip)
				listen_steer(s, g, ip, how);
			else
				listen_steer_all(s, g, how);
		}
}

/* Take the port, leave it to the kernel, or give it up when nobody listens any more. What the
 * engine has closed by then lingers in it, and must not take new connections away from the kernel.
 */
static void listen_update(struct stack *s, struct listening *g)
{
	enum dmm_xport how = TAILQ_EMPTY(&g->announced) ? DMM_XPORT_NONE : DMM_XPORT_LEFT;
	const struct announced *a;

	TAILQ_FOREACH(a, &g->announced, entry)
	if (!a->off)
		how = DMM_XPORT_OWNED;
	if (how == g->steer)
		return;
	g->steer = how;
	listen_steer_all(s, g, how);
	if (how == DMM_XPORT_OWNED)
		return;
	listen_steer_again(s, g->addr.port, NULL);
	owned_port_left(s, g->addr.port);
}

bool listen_owns(const struct stack *s, const struct dmm_addr *local)
{
	const struct listening *g;

	TAILQ_FOREACH(g, &s->listening, entry)
	if (g->steer == DMM_XPORT_OWNED && g->addr.port == local->port &&
	    (addr_is_any(g->addr.ip) ? addr_is_v4(g->addr.ip) == addr_is_v4(local->ip)
				     : !memcmp(g->addr.ip, local->ip, 16)))
		return true;
	return false;
}

static bool listen_group_off(struct stack *s, unsigned group)
{
	struct dmm_group_rec rec;

	return maps_group(s->tree, group, &rec) == 0 && attach_group_off(s->tree, &rec);
}

static void listen_switch(struct stack *s, struct announced *a, dmm_u8 off)
{
	if (a->off == off)
		return;
	a->off = off;
	hold_listener_off(s->hold, a->l.cookie, off); /* -ENOENT: it has closed */
}

static struct listening *listen_find(struct stack *s, const struct dmm_addr *a)
{
	struct listening *g;

	TAILQ_FOREACH(g, &s->listening, entry)
	if (!memcmp(&g->addr, a, sizeof(*a)))
		return g;
	return NULL;
}

/* Of what an application's listener answers at an address, one or the other. */
static uint8_t listen_tos(const struct dmm_listener *l, const struct dmm_addr *a)
{
	return addr_is_v4(a->ip) ? l->tos : l->tclass;
}

static struct listening *listen_open(struct stack *s, const struct dmm_addr *a, uint8_t tos)
{
	struct listening *g = calloc(1, sizeof(*g));
	char text[ADDR_STRLEN];
	int r = -ENOMEM;

	if (g) {
		g->addr = *a;
		TAILQ_INIT(&g->announced);
		r = s->c.engine->listen(s->engine, a, tos, g, &g->el);
	}
	if (r < 0) {
		STACK_COUNT(s, LISTEN_FAIL, 1);
		log_err("the engine cannot listen on %s: %s; the kernel answers there",
			addr_format(a, text, sizeof(text)), strerror(-r));
		free(g);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&s->listening, g, entry);
	log_debug("listening on %s", addr_format(a, text, sizeof(text)));
	return g;
}

static void listen_shut(struct stack *s, struct listening *g)
{
	listen_update(s, g); /* nobody listens any more */
	TAILQ_REMOVE(&s->listening, g, entry);
	s->c.engine->unlisten(g->el);
	free(g);
}

static struct announced *listen_announced(struct listening *g, dmm_u64 cookie)
{
	struct announced *a;

	TAILQ_FOREACH(a, &g->announced, entry)
	if (a->l.cookie == cookie)
		return a;
	return NULL;
}

void listen_add(struct stack *s, const struct dmm_listener *l)
{
	struct dmm_addr addr[2];
	struct announced *a;
	struct listening *g;
	unsigned n = listen_addrs(l, addr);

	/* The carrier could not reach a listener in another namespace. */
	if (s->stopping || !l->local.port || (l->netns && l->netns != s->netns))
		return;
	for (unsigned i = 0; i < n; i++) {
		g = listen_find(s, &addr[i]);
		if (g && (a = listen_announced(g, l->cookie))) {
			a->l = *l; /* its group may be another by now */
			continue;
		}
		a = calloc(1, sizeof(*a));
		if (a && !g)
			g = listen_open(s, &addr[i], listen_tos(l, &addr[i]));
		if (!a || !g) {
			free(a);
			continue;
		}
		a->l = *l;
		a->off = l->off;
		if (s->rt->off || listen_group_off(s, l->group))
			listen_switch(s, a, DMM_REASON_ADMIN_OFF);
		TAILQ_INSERT_TAIL(&g->announced, a, entry);
		listen_update(s, g);
	}
}

void listen_del(struct stack *s, const struct dmm_listener *l)
{
	struct listening *g, *next;
	struct announced *a;

	for (g = TAILQ_FIRST(&s->listening); g; g = next) {
		next = TAILQ_NEXT(g, entry);
		a = listen_announced(g, l->cookie);
		if (!a)
			continue;
		TAILQ_REMOVE(&g->announced, a, entry);
		free(a);
		if (TAILQ_EMPTY(&g->announced))
			listen_shut(s, g);
		else
			listen_update(s, g);
	}
}

void listen_addr(struct stack *s, const dmm_u8 ip[16], bool add)
{
	struct listening *g;

	if (add) {
		listen_steer_again(s, 0, ip);
		return;
	}
	TAILQ_FOREACH(g, &s->listening, entry)
	listen_steer(s, g, ip, DMM_XPORT_NONE);
}

/* Where the application's listener is reached over loopback. */
static void listen_target(const struct listening *g, struct dmm_addr *ret)
{
	*ret = g->addr;
	if (addr_is_any(ret->ip))
		addr_parse_ip(addr_is_v4(ret->ip) ? "127.0.0.1" : "::1", ret->ip);
}

/* From one address the kernel has so many ports for a listener. When there are many flows, carriers
 * come from all over the loopback network; IPv6 has one such address. */
static void listen_bind(struct stack *s, int fd, const struct dmm_addr *to)
{
	struct sockaddr_storage sa;
	struct dmm_addr from = {0};
	socklen_t len;
	int on = 1;

	if (s->flows_n < s->kernel_ports / 4 || !addr_is_v4(to->ip))
		return;
	addr_from_v4(from.ip, htonl(INADDR_LOOPBACK + 1 + s->joins++ % JOIN_ADDRESSES));
	len = addr_to_sockaddr(&from, &sa);
	/* without it the connection is from where it would be */
	if (!setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)))
		(void)bind(fd, (struct sockaddr *)&sa, len);
}

/* Connect the carrier. */
static int listen_join(struct stack *s, const struct listening *g, struct flow *f)
{
	struct sockaddr_storage sa;
	struct dmm_addr to;
	socklen_t len;
	int fd, r;

	listen_target(g, &to);
	len = addr_to_sockaddr(&to, &sa);
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	if (fd < 0)
		return -errno;
	f->watch.fd = fd;
	relay_prepare(fd);
	listen_bind(s, fd, &to);
	tos_give(s, f);
	r = hold_attach(s->hold, fd);
	if (!r)
		r = hold_set_flow(s->hold, fd, &f->rec);
	if (!r)
		flow_add_ends(s, f);
	if (!r && connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS)
		r = -errno;
	if (r < 0)
		hold_forget(s->hold, fd);
	return r;
}

static void listen_failed(struct stack *s, struct flow *f)
{
	STACK_COUNT(s, CARRIER_FAIL, 1);
	flow_kill(s, f, "the application's listener does not answer");
}

static void listen_watch(struct stack *s, struct watch *w, uint32_t events)
{
	struct flow *f = (struct flow *)w;
	socklen_t len;
	int error = 0;

	if (f->state != FLOW_JOINING || !(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
		return;
	len = sizeof(error);
	if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error ||
	    events & (EPOLLERR | EPOLLHUP)) {
		listen_failed(s, f);
		return;
	}
	relay_start(s, f);
}

bool listen_accepted(struct stack *s, struct listening *g, struct owned *o)
{
	const struct dmm_listener *l = &TAILQ_FIRST(&g->announced)->l;
	uint8_t tos = listen_tos(l, &g->addr);
	struct flow *f = flow_new(s, FLOW_JOINING);

	if (!f)
		return false;
	f->rec = (struct dmm_flow){
		.remote = o->remote,
		.local = o->local,
		.since_ns = s->now,
		.stack = (dmm_u8)s->id,
		.group = l->group,
		.carrier = l->carrier,
		.role = DMM_ROLE_SERVER,
		.congestion = options_accepted(s, o->conn, l->congestion, tos),
	};
	f->tos = tos;
	f->watch.cb = listen_watch;
	if (listen_join(s, g, f) < 0 || stack_watch(s, &f->watch, EPOLLOUT) < 0) {
		listen_failed(s, f); /* it has no engine connection yet: the caller refuses it */
		return false;
	}
	o->flow = f;
	f->owned = o;
	return true;
}

static void listen_present(const struct dmm_listener *l, void *ctx)
{
	struct stack *s = ctx;
	struct listening *g;
	struct announced *a;

	listen_add(s, l);
	TAILQ_FOREACH(g, &s->listening, entry)
	if ((a = listen_announced(g, l->cookie)))
		a->present = true;
}

int listen_sync(struct stack *s)
{
	struct listening *g, *next_g;
	struct announced *a, *next_a;
	int r;

	TAILQ_FOREACH(g, &s->listening, entry)
	TAILQ_FOREACH(a, &g->announced, entry)
	a->present = false;
	r = hold_listeners(s->hold, listen_present, s);
	if (r < 0)
		return r;
	for (g = TAILQ_FIRST(&s->listening); g; g = next_g) {
		next_g = TAILQ_NEXT(g, entry);
		for (a = TAILQ_FIRST(&g->announced); a; a = next_a) {
			next_a = TAILQ_NEXT(a, entry);
			if (a->present)
				continue;
			TAILQ_REMOVE(&g->announced, a, entry);
			free(a);
		}
		if (TAILQ_EMPTY(&g->announced))
			listen_shut(s, g);
		else
			listen_update(s, g);
	}
	return 0;
}

/* ---- what is switched off ---- */

struct rules_off {
	struct stack *s;
	struct dmm_rule_rec *rule;
	size_t n;
};

/* Listeners keep the rule that they got, by name: its number changes with the generation. */
static int listen_rule_off(const struct dmm_flow_row *f, void *ctx)
{
	const struct rules_off *o = ctx;
	struct listening *g;
	struct announced *a;
	dmm_u8 off = 0;

	if (!(f->sock.flags & DMM_SF_LISTEN) || f->sock.stack != o->s->id)
		return 0;
	for (size_t i = 0; i < o->n && !off; i++)
		if (strcmp(o->rule[i].name, f->sock.rule_name) == 0)
			off = o->rule[i].keep & DMM_KEEP_OFF ? DMM_REASON_ADMIN_OFF
							     : DMM_REASON_CAPTURE;
	TAILQ_FOREACH(g, &o->s->listening, entry)
	if ((a = listen_announced(g, f->sock.cookie)))
		a->rule_off = off;
	return 0;
}

static void listen_read_rules(struct stack *s)
{
	struct rules_off o = {.s = s};
	dmm_u64 generation;

	/* what fails the next tick tries again */
	if (maps_rules_off(s->tree, &o.rule, &o.n, &generation) == 0 &&
	    maps_flows(s->tree, listen_rule_off, &o) == 0)
		s->rules_seen = generation;
	free(o.rule);
}

/* Look at the switches, once a second. */
static void listen_check_off(struct stack *s)
{
	enum { UNKNOWN, ON, OFF } group[DMM_MAX_GROUPS] = {0};
	struct listening *g;
	struct announced *a;

	if (TAILQ_EMPTY(&s->listening))
		return;
	if (s->rules_seen != s->tree->meta->generation)
		listen_read_rules(s);
	TAILQ_FOREACH(g, &s->listening, entry)
	{
		TAILQ_FOREACH(a, &g->announced, entry)
		{
			unsigned id = a->l.group % DMM_MAX_GROUPS;

			if (group[id] == UNKNOWN)
				group[id] = listen_group_off(s, id) ? OFF : ON;
			listen_switch(s, a,
				      s->rt->off || group[id] == OFF ? DMM_REASON_ADMIN_OFF
								     : a->rule_off);
		}
		listen_update(s, g);
	}
}

/* Events that found the ring full are gone. Then read everything again. */
static bool listen_has_lost(struct stack *s)
{
	dmm_u64 counters[DMM_C_COUNT];
	bool lost;

	if (s->now < s->lost_due)
		return false;
	s->lost_due = s->now + LOST_CHECK_NS;
	if (maps_counters(s->tree, counters) < 0)
		return false;
	lost = counters[DMM_C_EVENT_LOST] != s->lost_seen;
	s->lost_seen = counters[DMM_C_EVENT_LOST];
	return lost;
}

/* The listeners of a group that goes, or gets another name, change without an event, some time
 * after the generation did. */
static bool listen_may_differ(struct stack *s)
{
	dmm_u64 generation = s->tree->meta->generation;

	if (generation != s->generation_seen)
		s->sync_ticks = COMMIT_TICKS;
	s->generation_seen = generation;
	if (!s->sync_ticks)
		return false;
	s->sync_ticks--;
	return true;
}

void listen_tick(struct stack *s)
{
	bool lost = listen_has_lost(s), differ = listen_may_differ(s);
	struct flow *f, *next;

	if (lost || differ)
		listen_sync(s);
	listen_check_off(s);
	for (f = TAILQ_FIRST(&s->flows); f; f = next) {
		next = TAILQ_NEXT(f, entry);
		if (f->state == FLOW_JOINING && s->now - f->since > JOIN_WAIT_NS)
			listen_failed(s, f);
	}
}

void listen_close(struct stack *s)
{
	struct listening *g;
	struct announced *a;

	while ((g = TAILQ_FIRST(&s->listening))) {
		while ((a = TAILQ_FIRST(&g->announced))) {
			TAILQ_REMOVE(&g->announced, a, entry);
			free(a);
		}
		listen_shut(s, g);
	}
}
