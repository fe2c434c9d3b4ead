/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world of stacks and connections in virtual time, in which choosers can be compared: nRD itself,
 * one that knows the truth, and naive ones. A scenario says how the stacks behave at each second.
 * The same seed is the same run.
 */
#ifndef DMM_TESTS_NRD_SIM_H
#define DMM_TESTS_NRD_SIM_H

#include "policyd/nrd/nrd.h"
#include "policyd/nrd/random.h"

#define SIM_HOSTS 10

/* How a stack behaves now. Latencies are log-normal. */
struct sim_stack {
	double us;     /* median of round trips */
	double spread; /* sigma of their logarithm */
	double fail;   /* chance that a connection fails */
	double resend; /* chance that a segment is sent again */
	double kbs;    /* kilobytes a second */
};

struct sim;

struct sim_scenario {
	const char *name;
	struct nrd_settings set;
	unsigned stacks, paths;	 /* 0: two and one */
	unsigned rate;		 /* connections a second, of each path and host; 0: 100 */
	unsigned seconds, hosts; /* hosts 0: one */
	size_t table;		 /* prefixes that nRD keeps; 0: all */
	/* Set s->stack for the second s->second and the path. */
	void (*world)(struct sim *s, unsigned path);
	void (*lie)(struct sim *s, struct report *r); /* may change what a host tells */
	dmm_u64 (*clock)(const struct sim *s);	      /* NULL: the right time */
	unsigned (*no_carrier)(const struct sim *s);  /* as of nrd_links(); NULL: all have one */
};

struct chooser {
	const char *name;
	unsigned (*pick)(struct sim *s, unsigned path);
	bool nrd; /* is told everything */
};
extern const struct chooser chooser_nrd, chooser_oracle, chooser_greedy, chooser_robin,
	chooser_first, chooser_last;

struct sim {
	const struct sim_scenario *sc;
	struct sim_scenario own; /* sc with its defaults */
	const struct chooser *chooser;
	struct nrd *n;
	dmm_u64 random;
	unsigned second, robin;
	unsigned no_carrier; /* stacks without one, bits */
	struct sim_stack stack[DMM_MAX_USE];
	double load[DMM_MAX_USE]; /* share of the connections of the last second */
	unsigned carried[DMM_MAX_USE];
	double seen_us[DMM_MAX_USE]; /* greedy: sums, counts */
	unsigned seen[DMM_MAX_USE];
	dmm_u16 (*weight)[DMM_MAX_USE]; /* of each path, this second */

	/* Results. */
	double regret;	   /* mean of (cost - least cost) / least cost over all connections */
	double late;	   /* the same over the last quarter of the time */
	unsigned switches; /* of the stack in use, of path 0 */
	unsigned now;	   /* the stack in use of path 0 */
	unsigned best;	   /* the truth, of path 0 */
	unsigned right_at; /* second since which it is the best one, UINT32_MAX: it is not */
	dmm_u64 failed;
	struct nrd_counters counters;
	dmm_u64 action[NRD_ACTIONS];
};

/* Run a scenario; results stay in s. s->n is the caller's to look into and free by sim_end(). */
void sim_run(struct sim *s, const struct sim_scenario *sc, const struct chooser *c, dmm_u64 seed);
void sim_end(struct sim *s);

/* What the scenario's objective costs with this stack, in truth. */
double sim_cost(const struct sim *s, unsigned stack);
void sim_address(unsigned path, dmm_u8 ret[16]);

#endif
