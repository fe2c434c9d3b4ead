/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract of a transport engine: TCP, and UDP if it likes, without I/O and without a clock.
 * The host gives it packets and the time; it gives the host packets, bytes and events. One file or
 * folder each; a plug-in is a shared object that exports one struct engine_ops named dmm_engine
 * (engines.md). The host is stack.c, and the unit tests.
 *
 * Rules that hold for every function:
 * - One thread, the same for all of an engine's life. Nothing blocks. Nothing of the engine sleeps,
 * reads a clock, or does a system call.
 * - An engine calls event() and accepted() only from inside poll(); output() from every function.
 * The host may call every function of a connection or listener from inside event() and accepted(),
 *   none from inside output(), received() and released().
 * - Addresses are in the ABI's form: 16 bytes, IPv4 v4-mapped; ports in host byte order.
 * - Times are CLOCK_MONOTONIC nanoseconds, never smaller than at an earlier call.
 * - Results are 0 or -errno.
 *
 * Life of a connection: connect() or accepted() makes it; the host ends it with exactly one close()
 * or abort(). After that no event comes, but the engine may still exchange packets for it (FIN,
 * TIME-WAIT) until it calls released(), exactly once and last, which may be inside close() or
 * abort(). The host must steer the connection's packets to the engine until then.
 */
#ifndef DMM_USERSTACK_ENGINE_H
#define DMM_USERSTACK_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "bpf/dmm_abi.h"

#define ENGINE_ABI 15 /* raised with every change of this header's meaning */

struct engine;		/* a running engine */
struct engine_conn;	/* a connection */
struct engine_listener; /* a listening address */
struct engine_udp;	/* a pair of addresses that exchange datagrams */

/* Bits of an event. Levels, not edges: an engine may report one again that has not changed. */
enum engine_event {
	ENGINE_CONNECTED = 1, /* the far side accepted: once, of a connect() only */
	ENGINE_READABLE = 2,  /* peek() has more than before */
	ENGINE_WRITABLE = 4,  /* room() was too small and has grown */
	ENGINE_EOF = 8,	      /* the far side sent FIN: nothing comes after what peek() has */
	ENGINE_FAILED = 16,   /* the connection is dead for the reason given: ECONNREFUSED,
			       * ECONNRESET, ETIMEDOUT, or what unreachable() was given. Bytes
			       * received before can still be read. The host calls abort() */
	ENGINE_ALIVE = 32,    /* once, after ask(): the far side sent something */
};

/* Why a received segment or datagram did nothing; with ENGINE_DROP_ROOM, or bytes of it. */
enum engine_drop {
	ENGINE_DROP_SEGMENT,  /* its header is none */
	ENGINE_DROP_STRANGER, /* of no connection or pair, and no listener takes it */
	ENGINE_DROP_WINDOW,   /* outside of the window; mostly what is here already */
	ENGINE_DROP_CLOCK,    /* old, by the sender's clock (RFC 7323, section 5) */
	ENGINE_DROP_ACK,      /* acknowledges what cannot be, or nothing (RFC 5961, section 5) */
	ENGINE_DROP_RESET,    /* a reset or a SYN that ended nothing (RFC 5961, RFC 1337) */
	ENGINE_DROP_ROOM,     /* no memory, or too many holes before it */
	ENGINE_DROP_COUNT
};

/* What a connection was like so far. 0: none, or the engine does not know. */
struct engine_info {
	uint32_t srtt_us;  /* smoothed round trip (RFC 6298) */
	uint32_t segments; /* sent, also those that only acknowledge */
	uint32_t resent;   /* of these, again */
	const char
		*congestion; /* the name of its congestion control, for good; NULL: it has none */
};

/* What is asked for one connection. What its rule says goes before what start() was told, and that
 * before the engine's own choice. Of no function that is given one is it NULL; it stays for the
 * call. */
struct engine_options {
	const char *congestion; /* a name as in engine_config; NULL: as all the others */
	uint8_t tos;		/* as of listen() */
};

/* What the host offers. ctx is the host's own. */
struct engine_host {
	void *ctx;
	/* Send one packet, from its IP header on, checksums complete. The bytes are copied. A
	 * packet that cannot be sent is dropped: the engine retransmits. */
	void (*output)(void *ctx, const struct iovec *iov, unsigned n);
	/* The same for a packet, no fragment and without IPv4 options or extension headers, whose
	 * TCP or UDP checksum field holds the folded sum of the pseudo header, no more: it is
	 * completed on its way out. mss 0: if engine_config.partial says so. Else it is a TCP
	 * packet that is longer than the MTU, up to engine_config.super, and cut into segments of
	 * mss bytes, which all get its headers, FIN and PSH the last one alone; URG and CWR are not
	 * set. */
	void (*output_partial)(void *ctx, const struct iovec *iov, unsigned n, uint32_t mss);
	/* events: bits of enum engine_event; error: positive errno with ENGINE_FAILED, else 0. */
	void (*event)(void *ctx, void *user, unsigned events, int error);
	/* A listener got an established connection. Returns its `user`, or NULL: reset it (no
	 * released() follows then). listener_user is what listen() was given. The host may call
	 * set_options() from inside. */
	void *(*accepted)(void *ctx, void *listener_user, struct engine_conn *c,
			  const struct dmm_addr *remote, const struct dmm_addr *local);
	/* Bytes came in order, and none waits before them: from inside input(), which has them only
	 * during the call. Returns how many of them the host takes, they are consumed; of the rest
	 * an event tells. Never called where the far side marked a byte urgent. It is up to the
	 * engine to call it, and to the host to have it. */
	size_t (*received)(void *ctx, void *user, const void *data, size_t len);
	/* The last word about a connection: see above. */
	void (*released)(void *ctx, void *user);
	/* A pair of engine_udp_ops got a datagram; from inside input(). The bytes are there only
	 * during the call, in which the host may call send() of this pair and nothing else. */
	void (*datagram)(void *ctx, void *user, const void *data, size_t len);
	/* For telemetry; from inside input(). NULL: not wanted. It is up to the engine to call it.
	 */
	void (*dropped)(void *ctx, enum engine_drop why);
};

struct engine_config {
	uint32_t mtu;			/* of the interface: largest IP packet to send */
	uint32_t super;			/* largest for output_partial() to cut; 0: it cuts none */
	bool partial;			/* output_partial() takes what is not to be cut, too */
	uint8_t secret[16];		/* random; keys initial sequence numbers (RFC 6528) */
	const struct engine_host *host; /* stays while the engine runs */
	uint64_t now;
	/* What the policy asks for; empty or 0: the engine's own choice. */
	char congestion[16];
	bool ecn;		  /* ask for ECN (RFC 3168) */
	uint32_t keepalive_s;	  /* silence after which the peer is asked whether it is there */
	uint32_t user_timeout_ms; /* how long bytes may wait for their ACK (RFC 5482) */
};

/*
 * UDP (RFC 768). A pair has no state that the far side could see: open() and close() are silent,
 * and whatever comes for no pair is dropped without an answer.
 */
struct engine_udp_ops {
	/* Both addresses are of one family. Of several with the same two, each sends, and what
	 * comes is that one's which was opened last. -ENOMEM. */
	int (*open)(struct engine *e, const struct dmm_addr *remote, const struct dmm_addr *local,
		    void *user, struct engine_udp **ret);
	void (*close)(struct engine_udp *u);
	/* Send one datagram, with a checksum. What is longer than the path takes goes in fragments,
	 * as the kernel does it for a socket that did not ask for something else; anything shorter
	 * must not be fragmented on its way, unless too_big() said less than the engine sends at
	 * least. tos: IPv4's type of service or IPv6's traffic class, its bits of ECN included
	 * (RFC 8085, 3.1.7). -EMSGSIZE: more than a datagram can be. */
	int (*send)(struct engine_udp *u, const void *data, size_t len, uint8_t tos, uint64_t now);
	/* An ICMP error says that a packet of the pair was too big: they have mtu bytes at most,
	 * from the IP header on, for some minutes. Ignored if none was so big. */
	void (*too_big)(struct engine_udp *u, uint32_t mtu, uint64_t now);
};

struct engine_ops {
	uint32_t abi; /* ENGINE_ABI */
	const char *name;
	/* A process can run several, each in a thread of its own, at the same time. */
	bool several;

	/* -EBUSY: it runs, and is not `several`. -EOPNOTSUPP: it cannot do what the policy asks
	 * for. */
	int (*start)(struct engine **ret, const struct engine_config *c);
	/* Listeners are gone before; connections that are left are reset. */
	void (*stop)(struct engine *e);

	/* One received packet, from the IP header on, len bytes (IPv6: up to 40 + 65535) without
	 * link-layer padding, for an address of the interface; IPv4 or IPv6 without options, TCP or
	 * UDP, checksums verified: their field may hold the sum of the pseudo header alone, and
	 * that of UDP over IPv4 zero. The bytes are there only during the call. */
	void (*input)(struct engine *e, const uint8_t *pkt, size_t len, uint64_t now);
	/* Do what is due, report events. *ret_next: when to call again at the latest; UINT64_MAX:
	 * not before the next input() or other call. */
	void (*poll)(struct engine *e, uint64_t now, uint64_t *ret_next);

	/* An address of the interface came or went. Connections stay. -EEXIST, -ENOENT, -ENOMEM. */
	int (*addr_add)(struct engine *e, const dmm_u8 ip[16]);
	int (*addr_del)(struct engine *e, const dmm_u8 ip[16]);

	/* Send a SYN from local (address and port given by the host, the pair with remote not in
	 * use). The result comes as an event. -ENOMEM, -ENETUNREACH. -EOPNOTSUPP: it cannot do what
	 * the options ask for. */
	int (*connect)(struct engine *e, const struct dmm_addr *remote,
		       const struct dmm_addr *local, const struct engine_options *options,
		       void *user, uint64_t now, struct engine_conn **ret);
	/* Accept connections to local; ip any of a family: every address of that family. tos:
	 * IPv4's type of service or IPv6's traffic class (RFC 2474), of all that is sent for them
	 * from the answer to the SYN on; the low two bits are not looked at, they are the engine's
	 * own (RFC 3168). -EADDRINUSE, -ENOMEM. */
	int (*listen)(struct engine *e, const struct dmm_addr *local, uint8_t tos, void *user,
		      struct engine_listener **ret);
	/* Connections that were reported go on. */
	void (*unlisten)(struct engine_listener *l);

	/* Bytes that send() takes now. When it is 0, or send() took less than it was given, an
	 * ENGINE_WRITABLE comes later, unless the connection fails or was shut down. */
	size_t (*room)(struct engine_conn *c);
	/* Append to the stream; the bytes are copied. Returns how many were taken (it may be fewer
	 * than room() said), or -EPIPE after shutdown(), -ENOTCONN when not connected. */
	ssize_t (*send)(struct engine_conn *c, const void *data, size_t len);
	/* The same for one byte, which becomes the urgent one: the urgent pointer is that of the
	 * byte behind it, as everybody sends it (RFC 6093, section 3). Returns 1, 0 or -errno. */
	ssize_t (*send_urgent)(struct engine_conn *c, const void *byte);
	/* Received bytes, in order, not consumed: fills at most n vectors, returns how many. The
	 * memory is valid until the next call for this connection, input() or poll(). */
	unsigned (*peek)(struct engine_conn *c, struct iovec *iov, unsigned n);
	/* How many bytes are to be consumed before the first that the far side marked urgent; it
	 * may not be there yet. False: none is. ENGINE_READABLE comes when it is. */
	bool (*urgent)(struct engine_conn *c, size_t *ret);
	/* The first len of them are done: opens the receive window. */
	void (*consume)(struct engine_conn *c, size_t len);
	/* For telemetry; also of a connection that failed. Fills all of *ret. */
	void (*info)(const struct engine_conn *c, struct engine_info *ret);
	/* FIN after what was sent. Receiving goes on. */
	int (*shutdown)(struct engine_conn *c);
	/* Graceful end: FIN if none was sent; bytes not consumed turn it into a reset. */
	void (*close)(struct engine_conn *c);
	/* RST, unless the connection failed already. */
	void (*abort)(struct engine_conn *c);

	/* An ICMP error, or the neighbour lookup, says that the segment with sequence number seq
	 * cannot arrive. Fails the connection with `error` if it is being opened and seq is its
	 * SYN's (RFC 5927); else it is ignored. */
	void (*unreachable)(struct engine_conn *c, uint32_t seq, int error);
	/* The same says that it was too big: packets to this address have mtu bytes at most, from
	 * the IP header on; or, if that is less than the engine sends at least, may be fragmented
	 * on their way (IPv4). Ignored if seq is not of what was sent and not acknowledged, or the
	 * segment was not so big (RFC 5927). */
	void (*too_big)(struct engine_conn *c, uint32_t seq, uint32_t mtu);

	/* From here on NULL is allowed. */

	/* The host closed the connection of this pair and wants the pair for a new one. True: it
	 * only waited for late segments (TIME-WAIT), and neither they nor the peer can take the new
	 * one for it (RFC 6191); it is released. False: not yet, or there is none. */
	bool (*succeed)(struct engine *e, const struct dmm_addr *remote,
			const struct dmm_addr *local, uint64_t now);
	/* Instead of send(), without its copy; both or none. reserve() points at room for at
	 * most len bytes at the end of the stream: fills at most n vectors, returns how many, 0:
	 * use send(), which knows why. The memory is valid until the next call for this connection,
	 * input() or poll(). That call is commit(), if the first len bytes of it are to be sent;
	 * with 0, or if it is another, nothing was appended. */
	unsigned (*reserve)(struct engine_conn *c, size_t len, struct iovec *iov, unsigned n);
	void (*commit)(struct engine_conn *c, size_t len);

	/* The options of a connection that accepted() reports: from inside of that only. What the
	 * engine has not got is left as it is. -EOPNOTSUPP. NULL: it has no options at all. */
	int (*set_options)(struct engine_conn *c, const struct engine_options *options);

	/* The same as in listen(), of what is sent from now on, also again. It may be what it is
	 * already. */
	void (*set_tos)(struct engine_conn *c, uint8_t tos);

	/* Is the far side still there (RFC 9293, 3.8.4)? It is asked now; when something of this
	 * connection comes, ENGINE_ALIVE tells. Nothing is asked again by itself. False: there is
	 * nobody to ask any more. */
	bool (*ask)(struct engine_conn *c);

	/* A packet will likely come to input() soon, some others before it: time to fetch what that
	 * needs into the cache. Not checked at all; there only during the call. */
	void (*expect)(struct engine *e, const uint8_t *pkt, size_t len);

	const struct engine_udp_ops *udp; /* NULL: the engine has no UDP */
};

#endif
