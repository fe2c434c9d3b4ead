/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two native engines and a link between them, in virtual time: the same seed gives the same packets
 * at the same nanosecond. What the link does to packets is a struct sim_link, one for each
 * direction.
 */
#ifndef DMM_TESTS_CONFORM_SIM_H
#define DMM_TESTS_CONFORM_SIM_H

#include "tests/unit/unit.h"
#include "userstack/engine/native/native.h"
#include "userstack/engines.h"

struct sim_link {
	uint64_t delay, jitter; /* ns; jitter does not reorder */
	uint64_t rate;		/* bytes a second; 0: no limit */
	uint32_t queue;		/* bytes that wait for the rate; more is dropped */
	uint32_t mark;		/* bytes that wait, from which on ECT is marked; 0: never */
	unsigned loss, burst,
		reorder; /* per mille of packets; burst: that all are lost for a while */
	unsigned duplicate, corrupt;
	uint32_t mtu;  /* 0: no limit */
	bool tell_mtu; /* by ICMP; else it is a black hole */
	bool down;     /* everything is lost */
	/* state */
	uint64_t free_at, last_at, burst_end;
};

struct sim_end;

/* An application: writes `total` bytes, reads all, then closes. */
struct sim_app {
	struct sim_end *end;
	struct engine_conn *conn;
	uint64_t total, sent, received;
	bool more;	    /* total may grow: it does not close */
	uint64_t read_rate; /* bytes a second; 0: at once */
	uint64_t read_at;
	bool connected, eof, failed, finished, closed, released, bad;
	int error;
	uint64_t done_at; /* when it had sent and received all */
};

#define SIM_APPS 8
struct sim_end {
	struct sim *sim;
	struct engine *e;
	struct engine_host host;
	struct sim_link link; /* what this end sends goes through it */
	struct sim_app app[SIM_APPS];
	unsigned apps;
	uint64_t next; /* when the engine wants its turn */
	uint64_t packets, bytes;
	uint64_t supers;   /* what it gave to be cut */
	uint64_t partials; /* and without the checksum, but not to be cut */
	uint64_t cut;	   /* by routers */
	bool id_used[65536];
};

struct sim_packet {
	uint64_t at, order;
	struct sim_end *to;
	size_t len;
	uint8_t *data;
	uint32_t too_big; /* not a packet: the link says so of data */
};

struct sim {
	uint64_t now;
	struct rng rng;
	struct sim_end end[2];		     /* 0 calls, 1 listens */
	struct engine_listener *listener[2]; /* IPv4, IPv6 */
	struct sim_packet *heap;
	size_t heap_n, heap_size;
	uint64_t order;
	uint64_t server_total; /* what each accepted application writes */
	uint64_t server_read_rate;
	uint64_t drops, corrupted, marks;
	uint32_t super;		/* engine_config.super of both */
	bool partial;		/* likewise */
	const char *congestion; /* of what is connected or accepted; NULL: the engine's choice */
};

/* The addresses of the first connection, as that end has them. */
struct conn_key sim_key(unsigned end, bool v6);
void sim_start(struct sim *s, uint64_t seed, const struct sim_link *link);
/* After tune was changed, if so: the client calls. */
struct sim_app *sim_connect(struct sim *s, uint64_t total, bool v6);
/* Until now + ns, or every application is done (true). */
bool sim_run(struct sim *s, uint64_t ns);
/* Let ns pass whatever the applications do. */
void sim_rest(struct sim *s, uint64_t ns);
void sim_stop(struct sim *s);
/* Engine state that must hold at any time. */
void sim_check(const struct sim *s);

#endif
