/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carrier hazards: what an application may do with a TCP socket that a relay easily gets wrong.
 * Each hazard is one row with two functions: the subject does the special thing and judges the
 * result, the peer is an ordinary far side. Either may be the connecting end. All rows pass over
 * plain kernel TCP: they state what the kernel gives.
 */
#ifndef DMM_TESTS_HAZARD_H
#define DMM_TESTS_HAZARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define HZ_MAX_ACCEPTED (64u << 20) /* bytes that may be on the way to a reader that sleeps */
#define HZ_WAIT_MS 5000		    /* for what must happen */
#define HZ_CHUNK 65536

/* One direction of a connection: byte `off` is a function of seed and off. */
struct hz_stream {
	uint64_t seed, off, sum; /* sum: of all bytes before off, depends on their order */
};

/* Told by the serving end on the control connection. */
struct hz_hello {
	uint16_t refused_port; /* bound, not listening */
	uint16_t nonblock;
};

struct hz_ctx {
	int fd;
	bool nonblock;	      /* fd is O_NONBLOCK */
	bool connector;	      /* this end called connect() */
	uint64_t seed;	      /* of this iteration, both ends know it */
	uint64_t shared, own; /* random states: the same at both ends, different at both ends */
	struct hz_stream tx, rx;
	uint64_t aside; /* bytes received that are not of rx */
	const char *row;
	struct sockaddr_storage addr; /* connected to, or as accept() said */
	struct hz_hello hello;
	char why[160];
};

#define HZ_BLOCKING 1u	/* the subject needs a blocking socket */
#define HZ_CONNECTOR 2u /* the subject connects, by itself; its fd is -1 at first */
#define HZ_NO_PEER 4u	/* no connection comes to be */
#define HZ_PARTIAL 8u	/* bytes may be cut off: the two ends' counts are not compared */

struct hazard {
	const char *name;
	int (*subject)(struct hz_ctx *c); /* 0, or hz_fail() */
	int (*peer)(struct hz_ctx *c);
	unsigned divisor; /* iterations = those asked for / divisor */
	unsigned flags;
	void (*prepare)(int fd); /* on the connecting subject's socket before connect() */
};

extern const struct hazard hz_data[], hz_event[], hz_conn[]; /* end with a NULL name */

struct hz_options {
	const char *blackhole, *unreachable; /* addresses, NULL: none */
};
extern struct hz_options hz_options;

int hz_fail(struct hz_ctx *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int hz_errno(struct hz_ctx *c, const char *what); /* the same, with errno */

uint64_t hz_mix(uint64_t x);
uint64_t hz_random(uint64_t *state);
size_t hz_range(uint64_t *state, size_t lo, size_t hi); /* inclusive */
size_t hz_size(struct hz_ctx *c);			/* shared: 1 … 64 KiB, at times 1 MiB */

void hz_fill(struct hz_stream *s, void *buf, size_t len);
void hz_skip(struct hz_stream *s, size_t len);
int hz_check(struct hz_ctx *c, const void *buf, size_t len);   /* next bytes of c->rx */
int hz_compare(struct hz_ctx *c, const void *buf, size_t len); /* the same, not consumed */

/* Blocking or not, as c->nonblock says. 0 or -1, hz_recv(): bytes, 0 at the end. */
int hz_write(struct hz_ctx *c, const void *buf, size_t len);
ssize_t hz_recv(struct hz_ctx *c, void *buf, size_t len);
int hz_read(struct hz_ctx *c, void *buf, size_t len);
int hz_send_stream(struct hz_ctx *c, size_t len);
int hz_recv_stream(struct hz_ctx *c, size_t len);
int hz_recv_rest(struct hz_ctx *c); /* until the end */
int hz_recv_eof(struct hz_ctx *c);  /* nothing but the end */
int hz_recv_errno(struct hz_ctx *c, int want);
int hz_duplex(struct hz_ctx *c, size_t out, size_t in);
int hz_go(struct hz_ctx *c); /* one byte beside the streams: the other end may go on */
int hz_wait_go(struct hz_ctx *c);
int hz_poll(struct hz_ctx *c, short events);	/* 0, or hz_fail() after HZ_WAIT_MS */
int hz_fionread(struct hz_ctx *c, size_t want); /* wait until FIONREAD says want */
/* Wait until want bytes are there. By FIONREAD, or, if $HAZARD_NO_FIONREAD is set because that is
 * not to be trusted here, by how many bytes came in all (TCP_INFO). */
int hz_queued(struct hz_ctx *c, size_t want);
void hz_sleep_us(unsigned us);

int hz_socket(struct hz_ctx *c);
int hz_connect(struct hz_ctx *c, const struct sockaddr_storage *to); /* 0, or the errno */
int hz_hello(struct hz_ctx *c, uint64_t seed); /* tell the serving end what to do */
size_t hz_hello_bytes(struct hz_ctx *c, uint64_t seed, void *ret, size_t len);
int hz_dial(struct hz_ctx *c, const struct hazard *h); /* socket, connect, hello */

int hz_address(const char *text, uint16_t port, struct sockaddr_storage *ret);
socklen_t hz_address_len(const struct sockaddr_storage *a);
bool hz_address_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b);
void hz_address_port(struct sockaddr_storage *a, uint16_t port);
const char *hz_address_text(const struct sockaddr_storage *a, char *buf, size_t len);

#endif
