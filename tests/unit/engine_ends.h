/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of every engine share: one engine that talks to itself, by the wire and the clock
 * of test_engine.c. */
#ifndef DMM_TESTS_UNIT_ENGINE_ENDS_H
#define DMM_TESTS_UNIT_ENGINE_ENDS_H

#include <stdbool.h>
#include <stdint.h>

#include "userstack/engine.h"
#include "userstack/net/frame.h"

/* One end of a connection, and what the test knows of it. */
struct end {
	struct engine_conn *conn;
	bool connected, eof, failed, released, accepted;
	int error;
	unsigned writable;
	uint64_t sent, received;
	unsigned pushes;
	bool bad; /* a byte that was not the expected one */
};

extern const struct engine_ops *ops; /* the engine under test: argument 1 */
extern struct frame last_syn;	     /* on the wire */
/* The sequence number of an urgent byte that the wire announces from afar; 0: there is none. */
extern uint32_t far_place;

void start(unsigned loss_permille);
void stop(void);
void step(void); /* of the clock and of the wire */
struct end *end_at(unsigned i);
void listen_on(const char *ip);
/* A connection from end 0 to end 1. */
void join(const char *from, const char *to);
uint8_t pattern(uint64_t at); /* that byte of every stream */
/* Send what there is room for, until total were sent; read, at most so much. */
void push(struct end *e, uint64_t total);
void pull(struct end *e, size_t max);

void test_urgent4(void);
void test_urgent6(void);
void test_urgent_loss(void);
void test_urgent_far(void);

#endif
