/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the threads of one running instance share: the pin tree, the steering of its interface, its
 * record in the tree. Each thread is a struct stack, with an engine, carriers, flows and queues of
 * its own: none reads or writes what is another's, and what is shared is not written while packets
 * flow, but for BPF maps.
 */
#ifndef DMM_USERSTACK_INSTANCE_H
#define DMM_USERSTACK_INSTANCE_H

#include <pthread.h>
#include <stdatomic.h>

#include "loader/tree.h"
#include "loader/xdp.h"
#include "userstack/engine.h"
#include "userstack/port/port.h"

struct stack;

struct instance_config {
	const char *name, *interface, *bpffs;
	const struct engine_ops *engine;
	const struct port_ops *port;
	int queue;		/* -1: all of them */
	unsigned threads;	/* 1, 2, 4 or 8; fewer run where the interface has fewer queues */
	enum dmm_xdp_mode mode; /* DMM_XDP_NONE: the best there is */
	enum dmm_poll poll;
	bool debug;
	const char *congestion; /* NULL: the engine's own choice; 0 as well */
	bool ecn;
	unsigned keepalive_s, user_timeout_ms;
	int id; /* -1: look the name up in the tree */
};

struct instance {
	struct instance_config c;
	unsigned id;
	unsigned threads;
	unsigned queues; /* of the interface that threads receive from */
	int ifindex;
	dmm_u64 netns;
	enum dmm_xdp_mode xdp_mode;
	bool tree_ok;
	struct tree tree;
	volatile struct dmm_stack_rt *rt;
	struct xdp *xdp;
	uint8_t secret[16]; /* of the engines: what one accepts, another may have begun */
	int stop_fd;	    /* readable once the instance stops */
	int signal_fd;
	atomic_int exit_code; /* -1: it goes on */
	_Atomic uint64_t beat[DMM_MAX_THREADS];
	struct stack *thread[DMM_MAX_THREADS];
	unsigned started; /* pthreads of thread[1], … */
	pthread_t pthread[DMM_MAX_THREADS];
};

/* Failures are logged. */
int instance_open(struct instance **ret, const struct instance_config *c);
/* Until a signal or a failure; returns the exit code of the program. */
int instance_run(struct instance *in);
void instance_close(struct instance *in);

/* Which queues are that thread's. */
void instance_queues(const struct instance *in, unsigned thread, struct port_config *ret);

/* From any thread: all shall end, with this exit code. True: nobody has said so before. */
bool instance_stop(struct instance *in, int code);
/* A thread runs: at least every DMM_HEARTBEAT_NS. */
void instance_beat(struct instance *in, struct stack *s);

#endif
