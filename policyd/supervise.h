/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps one dmm-stackd running for each userspace stack of the policy. An instance belongs to the
 * tree and not to this process: it is started in a session of its own, goes on when the daemon
 * goes, and is taken over by the next daemon. The moment one ends its stack is marked down, so that
 * new sockets get the next stack of their rule; it is started again after a delay that doubles.
 *
 *   IDLE --wanted--> RUNNING --ended--> BACKOFF --delay over--> RUNNING
 *                    RUNNING --not wanted, or other arguments--> STOPPING --ended--> IDLE
 */
#ifndef DMM_POLICYD_SUPERVISE_H
#define DMM_POLICYD_SUPERVISE_H

#include "loader/maps.h"
#include "policyd/instance.h"
#include "policyd/loop.h"

#define SUPERVISE_BACKOFF_MIN_NS 100000000ULL
#define SUPERVISE_BACKOFF_MAX_NS 30000000000ULL
#define SUPERVISE_LIFE_NS \
	10000000000ULL			  /* who lived as long starts over with the shortest delay \
					   */
#define SUPERVISE_TERM_NS 2000000000ULL	  /* from SIGTERM to SIGKILL */
#define SUPERVISE_START_NS 60000000000ULL /* until the first heartbeat: devices take their time */
#define SUPERVISE_LATE_NS 1000000000ULL	  /* a heartbeat: its CPU time counts from then on */
#define SUPERVISE_CPU_NS 1000000000ULL
#define SUPERVISE_STARVE_NS 60000000000ULL /* for who wants a CPU and gets none */

enum inst_state { INST_IDLE, INST_RUNNING, INST_STOPPING, INST_BACKOFF };

struct instance {
	struct loop_source src;
	struct supervisor *sup;
	unsigned id;
	enum inst_state state;
	bool wanted, child, killed;
	bool starves;		   /* and it was said */
	struct dmm_stack_rec rec;  /* as wanted */
	struct instance_args args; /* as wanted */
	struct instance_args runs; /* as the process was started */
	pid_t pid;
	int pidfd;
	uint64_t since_ns;    /* start of the process, or when this daemon took it over */
	uint64_t deadline_ns; /* STOPPING: when to kill; BACKOFF: when to start */
	uint64_t backoff_ns;
	uint64_t late_ns;		    /* a heartbeat that was the last for long */
	uint64_t late_seen_ns, late_cpu_ns; /* when that was seen, and its CPU time then */
	uint64_t restarts, hangs;	    /* since the daemon started */
	char why[96];			    /* how it ended last, "" */
};

struct supervisor {
	int epfd;
	struct tree *tree;
	const char *program; /* path of dmm-stackd */
	struct instance inst[DMM_MAX_STACKS];
};

/* t and program stay in use. Nothing is started yet. */
void supervise_init(struct supervisor *s, int epfd, struct tree *t, const char *program);

/* Take over the instances of the tree that run already. Once, before the first supervise_sync(). */
int supervise_adopt(struct supervisor *s);

/* Bring the instances in line with the stacks of c: start, stop, restart with other arguments. */
void supervise_sync(struct supervisor *s, const struct dmm_class *c);

/* Do what is due: delayed starts, kills, heartbeats. Call it at least once a second. */
void supervise_tick(struct supervisor *s, uint64_t now);

/* When the next delayed start or kill is due; UINT64_MAX: none. */
uint64_t supervise_next_ns(const struct supervisor *s);

/* Let go of the instances; they go on running. */
void supervise_fini(struct supervisor *s);

/* The delay before a start, after a delay of prev_ns (0: none yet) and a life of lived_ns. */
uint64_t supervise_backoff_ns(uint64_t prev_ns, uint64_t lived_ns);

#endif
