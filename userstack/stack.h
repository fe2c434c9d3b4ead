/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread of a running instance and its flows. A flow is a redirected connection: the
 * application's socket, the carrier (a loopback TCP connection, our end of it is `fd`) and the
 * engine's connection.
 *
 *   client   CONNECTING  the application's SYN is held, the engine connects
 *            RELEASED    the far side answered, the SYN was let go, accept() is about to come
 *            SILENT      no answer at all: nothing is said, a retransmitted SYN tries again
 *   server   JOINING     the engine accepted, the carrier connects to the application's listener
 *   both     OPEN        bytes are relayed
 *
 * All of it runs in stack_run(): descriptors say what is possible, then the port,
 * the engine, the flows with work and the clock have their turn, each without blocking. A flow that
 * ends is freed at the end of the round, so that nobody in it holds a stale pointer.
 */
#ifndef DMM_USERSTACK_STACK_H
#define DMM_USERSTACK_STACK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "loader/hold.h"
#include "loader/measure.h"
#include "loader/tree.h"
#include "loader/xdp.h"
#include "userstack/engine.h"
#include "userstack/inject.h"
#include "userstack/instance.h"
#include "userstack/net/net.h"
#include "userstack/port/port.h"
#include "userstack/spin.h"

#define STACK_BUCKETS 65536    /* of the hash tables */
#define STACK_FLOWS_MAX 196608 /* of all threads: XDP has room for them and those that linger */

struct stack;
struct udp;
struct frame;
struct owned;
struct listening;

/* A descriptor in the epoll set. cb NULL: it is gone, ignore what is still in this batch. */
struct watch {
	int fd;
	void (*cb)(struct stack *s, struct watch *w, uint32_t events);
};

struct carrier_listener {
	struct watch watch;
	uint16_t port;
};

enum flow_state { FLOW_CONNECTING, FLOW_RELEASED, FLOW_SILENT, FLOW_JOINING, FLOW_OPEN, FLOW_DEAD };

struct flow {
	struct watch watch; /* the carrier; fd -1: none yet */
	enum flow_state state;
	struct dmm_flow rec;
	struct owned *owned;	      /* NULL: no engine connection */
	TAILQ_ENTRY(flow) entry;      /* in stack.flows, or stack.dead */
	TAILQ_ENTRY(flow) work_entry; /* in stack.work, if in_work */
	TAILQ_ENTRY(flow) held_entry; /* in stack.held, if held */
	TAILQ_ENTRY(flow) lost_entry; /* in stack.lost, if waits */
	struct flow *end_next;	      /* in stack.ends_hash, if has_ends */
	uint64_t since;		      /* of this state */

	/* client; of a server, if `asked` */
	struct dmm_tuple tuple; /* the ends of its carrier */
	struct inject_syn syn;	/* until accept(); then, if `asked`, the keepalive */
	uint64_t seen;		/* when its SYN came last */

	uint8_t tos;	 /* that the application wants */
	uint8_t own_tos; /* of our end of the carrier */

	/* relay.c */
	uint8_t *left; /* read from the carrier, not taken by the engine; NULL: nothing */
	size_t left_off, left_len;
	bool has_ends, held, in_work;
	bool asked;		   /* a keepalive waits for the far side's answer */
	bool lost;		   /* the engine connection failed */
	bool waits;		   /* the same, and the application has not read all before */
	uint64_t looked;	   /* if waits: when looked at last */
	uint64_t moved, moved_at;  /* bytes that the application took and wrote then; since when */
	bool readable, writable;   /* the carrier, until EAGAIN */
	bool hup, error;	   /* the carrier: FIN seen; reset seen */
	bool fresh;		   /* epoll just said: bytes, and no urgent one among them */
	bool bulk;		   /* much came from the application at once */
	bool left_urgent;	   /* the last byte of left is urgent */
	bool app_eof;		   /* the application sent FIN: all of it was read */
	bool app_shut;		   /* we sent FIN to the application */
	bool far_eof;		   /* the engine: FIN received */
	bool far_shut;		   /* the engine: FIN sent */
	bool reset;		   /* for the counters: it ended by a reset */
	uint64_t from_app, to_app; /* bytes */
	int failed;		   /* errno of the engine connection; 0: it lives */
};
TAILQ_HEAD(flow_list, flow);

/* A pair of addresses whose packets XDP gives to the engine: from before connect(), or from accept,
 * until the engine has released it and what it sent is gone. It is the `user` of an engine
 * connection. */
struct owned {
	struct owned *next;
	struct dmm_addr remote, local;
	struct engine_conn *conn; /* NULL: closed by us */
	struct flow *flow;	  /* NULL: it ended, the engine lingers */
	TAILQ_ENTRY(owned) entry; /* in stack.released, if released */
	uint64_t released;	  /* by the engine, when; 0: not yet */
};

struct stack {
	struct instance *inst;
	unsigned thread; /* number of it in the instance */
	/* the instance's */
	struct instance_config c;
	unsigned id;
	int ifindex;
	struct tree *tree;
	volatile struct dmm_stack_rt *rt;
	struct xdp *xdp;
	dmm_u64 netns;

	struct samples samples;
	volatile dmm_u64 *counters; /* DMM_I_* */
	struct hold *hold;
	struct port *port;
	struct port_kernel port_kernel; /* as counted last */
	struct port_rings rings[2];	/* the most of the last RINGS_NS, and of those before */
	uint64_t rings_since;
	struct net *net;
	struct net_host net_host;
	struct plain *plain;
	struct engine *engine;
	struct engine_host engine_host;
	struct inject inject;
	struct udp *udp; /* NULL: the engine has none */
	int epoll;
	int spare_fd; /* given up to accept and close when descriptors run out */
	struct watch port_watch[DMM_MAX_QUEUES], ring_watch, net_watch, hold_watch;
	struct watch stop_watch, signal_watch;
	struct carrier_listener carrier4[DMM_CARRIER_PORTS], carrier6[DMM_CARRIER_PORTS];

	uint64_t now, beat;
	struct spin spin;
	uint64_t engine_next, net_next, tick_due;
	uint32_t port_lo, port_hi; /* local ports of client connections */
	uint32_t kernel_ports;	   /* that the kernel has for what goes to one address and port */
	uint32_t joins;		   /* carriers to applications so far */
	uint32_t port_next[32];	   /* one for some of the destinations */
	uint8_t port_secret[16];
	bool stopping;
	uint64_t complained; /* when the last message was logged that could flood the log */

	struct flow_list flows, work, held, lost, dead;
	unsigned flows_n;
	struct flow *ends_hash[STACK_BUCKETS];	 /* by the ends of the carrier */
	unsigned tos_told;			 /* events of a type of service, read so far */
	struct owned *owned_hash[STACK_BUCKETS]; /* by remote and local */
	TAILQ_HEAD(owned_list, owned) released;	 /* in the order of time */
	TAILQ_HEAD(, listening) listening;
	dmm_u64 lost_seen;	  /* events lost, of all instances, when last looked */
	uint64_t generation_seen; /* listen.c */
	unsigned sync_ticks;	  /* the announced listeners are read again in so many */
	uint64_t lost_due;
	dmm_u64 rules_seen; /* generation whose rules the listeners were held against */
};

#define STACK_COUNT(s, name, n) ((s)->counters[DMM_I_##name] += (n))

/* stack.c: life cycle. Failures are logged. */
int stack_open(struct stack **ret, struct instance *in, unsigned thread);
/* Until the instance stops. */
void stack_run(struct stack *s);
void stack_close(struct stack *s);
int stack_watch(struct stack *s, struct watch *w, uint32_t events);
/* True at most once in ten seconds: for messages that could come in floods. */
bool stack_may_complain(struct stack *s);

/* path.c: packets between port, network and engine; owned pairs. */
int path_open(struct stack *s);
/* For tables of pairs of addresses. */
uint32_t path_hash(const struct dmm_addr *remote, const struct dmm_addr *local);
void path_close(struct stack *s);
/* The way to the network is lost: why, for the log. Ends the instance with code 3. */
void path_gone(void *ctx, const char *why);
/* Give up what waits for fragments too long. */
void path_tick(struct stack *s);
/* Take what the port received; returns how many frames. */
unsigned path_receive(struct stack *s, unsigned budget);
/* -EADDRINUSE: in use. Other errors: XDP does not take it. */
int owned_new(struct stack *s, const struct dmm_addr *remote, const struct dmm_addr *local,
	      struct owned **ret);
/* Of a connection that the engine accepted. */
int owned_accept(struct stack *s, struct engine_conn *c, const struct dmm_addr *remote,
		 const struct dmm_addr *local, struct owned **ret);
void owned_free(struct stack *s, struct owned *o);
/* Give the pairs back to the kernel that were released long enough ago. */
void owned_reap(struct stack *s);
/* The engine only lingers, if the host has closed o: a new connection of these addresses is the
 * kernel's, whose the port is. */
void owned_closed(struct stack *s, const struct owned *o);
/* The same for all that were closed before the port was left to the kernel. */
void owned_port_left(struct stack *s, uint16_t port);
/* A local port for remote, 0: all are in use. */
uint16_t owned_choose_port(struct stack *s, const struct dmm_addr *remote,
			   const struct dmm_addr *local);

/* flow.c */
struct flow *flow_new(struct stack *s, enum flow_state state);
void flow_set_state(struct stack *s, struct flow *f, enum flow_state state);
/* Reset what is left on both sides and forget the flow. why: for the debug log. */
void flow_kill(struct stack *s, struct flow *f, const char *why);
/* Both directions are finished: close both sides gracefully and forget the flow. */
void flow_finish(struct stack *s, struct flow *f);
void flow_reap(struct stack *s);		  /* free those that ended */
void flow_queue(struct stack *s, struct flow *f); /* it has work in this round, or the next */
/* Give the engine connection up: reset it, or leave it to a graceful end. */
void flow_drop_engine(struct stack *s, struct flow *f, bool graceful);

/* A flow that has a carrier, or is about to, by the ends of that: until it ends. */
void flow_add_ends(struct stack *s, struct flow *f);
/* The held one of a client whose carrier is from there to our port; NULL: none. */
struct flow *flow_held(const struct stack *s, const struct dmm_addr *src, uint16_t port);
/* The one whose carrier has these ends, or, of a server, whose end of it has this cookie. */
struct flow *flow_of_ends(const struct stack *s, const struct dmm_tuple *t, dmm_u64 cookie);

/* options.c: what is asked of the engine for single connections: by rules, enum dmm_congestion, and
 * what it has not got is counted, and the connection goes without; and by applications. */
int options_connect(struct stack *s, struct owned *o, const struct flow *f);
/* From inside engine_host.accepted(): the same. Returns what is used then. */
dmm_u8 options_accepted(struct stack *s, struct engine_conn *c, dmm_u8 congestion, uint8_t tos);
/* DMM_CONGESTION_NONE: none that rules can name, or the engine does not tell. */
dmm_u8 options_in_use(struct stack *s, const struct engine_conn *c);

/* tos.c: IP_TOS and IPV6_TCLASS of the application. A packet of its carrier has this one. */
void tos_set(struct stack *s, struct flow *f, uint8_t tos);
/* Our end of the carrier is to have what is set of the flow, so that it is not told again. */
void tos_give(struct stack *s, struct flow *f);
void tos_event(struct stack *s, const struct dmm_event *ev);

/* keepalive.c: SO_KEEPALIVE of the application. A packet asks; the far side has answered. */
void keepalive_event(struct stack *s, const struct dmm_event *ev);
void keepalive_answer(struct stack *s, struct flow *f);

/* measure.c: what an open flow was like, if its rule is measured; before it ends */
void measure_flow(struct stack *s, const struct flow *f);

/* carrier.c: the client role */
int carrier_open(struct stack *s);
void carrier_close(struct stack *s);
void carrier_events(struct stack *s); /* take what is on the ring */
void carrier_engine_event(struct stack *s, struct flow *f, unsigned events, int error);
void carrier_tick(struct stack *s);
void carrier_unhold(struct stack *s, struct flow *f);

/* udp.c */
int udp_open(struct stack *s);
void udp_close(struct stack *s);
void udp_event(struct stack *s, const struct dmm_event *ev);
void udp_tick(struct stack *s);
bool udp_settle(struct stack *s); /* close what has become idle; returns whether more waits */
void udp_reap(struct stack *s);	  /* free those that ended */
/* engine_host.datagram; an ICMP error about a datagram that was sent. */
void udp_datagram(void *ctx, void *user, const void *data, size_t len);
void udp_error(struct stack *s, const struct frame *f);

/* listen.c: the server role */
void listen_add(struct stack *s, const struct dmm_listener *l);
void listen_del(struct stack *s, const struct dmm_listener *l);
/* An own address came or went. */
void listen_addr(struct stack *s, const dmm_u8 ip[16], bool add);
/* The engine accepted a connection. False: refuse it. */
bool listen_accepted(struct stack *s, struct listening *l, struct owned *o);
/* Are new connections to this address the instance's? */
bool listen_owns(const struct stack *s, const struct dmm_addr *local);
/* Make it what the map of announced listeners says. */
int listen_sync(struct stack *s);
void listen_tick(struct stack *s);
void listen_close(struct stack *s);

/* relay.c */
void relay_start(struct stack *s, struct flow *f);
void relay_tick(struct stack *s);
void relay_engine_event(struct stack *s, struct flow *f, unsigned events, int error);
/* Bytes of an engine's connection that nothing waits before. Returns how many went on. */
size_t relay_received(struct stack *s, struct flow *f, const void *data, size_t len);
void relay_work(struct stack *s);
/* Options of a carrier's socket; accepted sockets inherit them from the listener. */
void relay_prepare(int fd);
/* SO_LINGER: close() resets, as long as the flow is not finished. */
void relay_set_abortive(int fd, bool on);

#endif
