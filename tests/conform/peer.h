/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A native engine and a peer that is made of single segments: give this, expect that, at that time.
 * Numbers are relative: the peer's stream begins with 1 (its SYN is 0), ours too.
 */
#ifndef DMM_TESTS_CONFORM_PEER_H
#define DMM_TESTS_CONFORM_PEER_H

#include "tests/unit/unit.h"
#include "userstack/engine/native/native.h"
#include "userstack/engines.h"

#define PEER_ISN 4294960000u /* it wraps soon */
#define MSS 1460u

/* What a segment of the peer has beside the obvious. */
struct given {
	uint8_t flags;
	uint32_t seq, ack;
	uint32_t len;
	uint16_t mss; /* 0: no such option */
	int scale;    /* 0: no such option */
	bool sack_ok, ts, ce;
	uint32_t tsval, tsecr;
	unsigned sacks;
	uint32_t sack[3][2]; /* of our numbers */
	uint32_t window;     /* as in the header; 0: peer.window */
	uint16_t urgent;     /* the pointer, as in the header */
	bool no_window;	     /* 0 it is */
	bool batch;	     /* others come before the engine has its turn */
};

struct peer {
	struct engine *e;
	struct engine_listener *listener;
	struct engine_conn *conn; /* the last one that was accepted or connected */
	uint64_t now, next;
	uint32_t iss; /* ours */
	uint32_t isn; /* the peer's */
	uint16_t port;
	uint8_t remote; /* which of its addresses */
	uint16_t window;
	unsigned accepted, released;
	bool connected, eof, failed;
	unsigned alive; /* answers to ask() */
	int error;
	unsigned dropped[ENGINE_DROP_COUNT];
	uint8_t tos;		/* that all has which is sent for a connection */
	uint8_t last_tos;	/* without ECN, of what was sent last */
	uint32_t label;		/* IPv6 flow label of what was sent last */
	bool deaf;		/* what is sent is not kept */
	const char *congestion; /* of what is accepted; NULL: the engine's own choice */
	struct engine_host host;
	/* sent by the engine, not looked at yet */
	struct segment sent[4096];
	unsigned head, tail;
};

extern struct peer peer;
extern bool peer_v6; /* the address family of both */

#define PEER_TOS 0xb8u /* of the listener, and what is dialled */

/* Run one suite over IPv4 and over IPv6; the exit status of the program. */
int peer_run(const char *name, CU_TestInfo *tests);
/* Of IP packets, whose segments have so much payload at most. */
uint32_t peer_mtu(uint32_t mss);
/* The link takes segments of MSS bytes by either family. */
void peer_start(void);
void peer_stop(void);
void peer_give(const struct given *g);
/* Let time pass, timers fire when they are due. */
void peer_pass(uint64_t ns);
/* The next segment that the engine sent; NULL: none. Its seq, ack and SACK are relative. */
const struct segment *peer_take(void);
/* None was sent since. */
void peer_quiet(void);
void peer_forget(void); /* what was sent does not matter */
/* The handshake, the peer calls. syn: its options. The engine's next number is 1, as the peer's. */
void peer_join(const struct given *syn);
/* We call, with this congestion control; NULL: the engine's own choice. Returns as connect(). */
int peer_dial(const char *congestion);
void peer_send(size_t len); /* the application sends */
/* The next segment: data. */
void peer_expect(uint32_t seq, uint32_t len);
/* The next segment: an ACK without data. */
const struct segment *peer_expect_ack(uint32_t ack);
void peer_ack(uint32_t ack);

extern const struct engine_options peer_options;
/* The options of most SYNs; with timestamps that begin at 1000. */
extern const struct given peer_usual, peer_with_ts;
void peer_meet(const struct given *syn);    /* an engine, and a handshake with it */
void peer_data(uint32_t seq, uint32_t len); /* the peer sends */
uint32_t peer_unread(void);		    /* bytes that wait for the application */
void peer_check_stream(void);		    /* what waits is what was sent */

#define GIVE(...) peer_give(&(struct given){__VA_ARGS__})

#endif
