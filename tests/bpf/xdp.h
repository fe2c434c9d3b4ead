/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the steering programs share: one of the programs, and what it is told. */
#ifndef DMM_TESTS_BPF_XDP_H
#define DMM_TESTS_BPF_XDP_H

#include "bpf/dmm_abi.h" /* the skeleton uses it */

#include "dmm_xdp.skel.h"

#include "bpf/dmm_counters.h"
#include "tests/bpf/xdp_frame.h"
#include "userstack/port/frames.h"

extern struct dmm_xdp_bpf *skel;
extern struct frames *reader[DMM_MAX_THREADS]; /* of each thread's ring */
extern const struct port_sink whole;	       /* takes frames out of one */
extern bool tc;				       /* it is dmm_tc that runs, else dmm_xdp */
extern unsigned threads;

dmm_u64 counter(enum dmm_xdp_counter c);
int run(const struct frame *f); /* what the program returns, or -errno */
/* The frame passes and exactly this cause is counted. */
bool passes_as(const struct frame *f, enum dmm_xdp_counter want);
struct dmm_xflow_key pair_key(unsigned proto, const char *remote, const char *local, unsigned rport,
			      unsigned lport);
/* how: of thread 0, or DMM_XFLOW. */
void set_pair(unsigned proto, const char *remote, const char *local, unsigned rport, unsigned lport,
	      dmm_u8 how);
void own_flow(const char *remote, const char *local, unsigned rport, unsigned lport);
void put_port(const char *local, unsigned port, struct dmm_xport_value value);
void own_port(const char *local, unsigned port);

void test_options(void);
void test_fragments(void);
void test_thread_flows(void);
void test_thread_ports(void);
void test_wrong_queue(void);
void test_begun(void);

#endif
