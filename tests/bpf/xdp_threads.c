// SPDX-License-Identifier: Apache-2.0
/* An instance of several threads: each frame goes to the one whose it is. */
#include <CUnit/CUnit.h>
#include <linux/icmp.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>

#include <bpf/bpf.h>

#include "tests/bpf/xdp.h"

/* In which ring a frame is that was just given, one in all; -1: in none. */
static int given_to(void)
{
	int thread = -1;

	for (unsigned i = 0; i < threads; i++)
		if (frames_rx(reader[i], 64, &whole) == 1)
			thread = thread < 0 ? (int)i : -2;
	return thread;
}

static void thread_flow(unsigned rport, unsigned lport, enum dmm_xflow how, unsigned thread)
{
	set_pair(IPPROTO_TCP, "192.0.2.2", "192.0.2.1", rport, lport, DMM_XFLOW(how, thread));
}

static void thread_port(unsigned port, unsigned owned, unsigned left)
{
	put_port("192.0.2.1", port, (struct dmm_xport_value){(dmm_u8)owned, (dmm_u8)left});
}

/* A flow, and what an ICMP error says of it, go to its thread, and what has lingered, too. */
void test_thread_flows(void)
{
	struct icmphdr ih = {.type = 3, .code = 1};
	struct frame f;

	for (unsigned i = 0; i < threads; i++) {
		thread_flow(80, 61000 + i, DMM_XFLOW_LIVE, i);
		f = tcp4("192.0.2.2", "192.0.2.1", 80, 61000 + i);
		run(&f);
		CU_ASSERT_EQUAL(given_to(), (int)i);
		f = ether(ETH_P_IP);
		append_ip4(&f, "192.0.2.9", "192.0.2.1", IPPROTO_ICMP);
		append(&f, &ih, sizeof(ih));
		append_ip4(&f, "192.0.2.1", "192.0.2.2", IPPROTO_TCP);
		append_tcp(&f, 61000 + i, 80);
		run(&f);
		CU_ASSERT_EQUAL(given_to(), (int)i);
		thread_port(500 + i, (1u << threads) - 1, 0);
		thread_flow(81, 500 + i, DMM_XFLOW_CLOSED, i);
		f = tcp4("192.0.2.2", "192.0.2.1", 81, 500 + i);
		run(&f);
		CU_ASSERT_EQUAL(given_to(), (int)i);
	}
}

/* Nobody gets a connection before all listen; then all get some, and each always the same. */
void test_thread_ports(void)
{
	unsigned all = (1u << threads) - 1, n[DMM_MAX_THREADS] = {0};
	struct frame f;
	int to;

	f = tcp4("192.0.2.2", "192.0.2.1", 1000, 444);
	for (unsigned owned = 0; owned < all; owned++) {
		thread_port(444, owned, all & ~owned);
		run(&f);
		CU_ASSERT_EQUAL(given_to(), -1);
	}
	thread_port(444, all, 0);
	for (unsigned port = 1000; port < 1400; port++) {
		f = tcp4("192.0.2.2", "192.0.2.1", port, 444);
		run(&f);
		to = given_to();
		CU_ASSERT_FATAL(to >= 0);
		n[to]++;
		run(&f);
		CU_ASSERT_EQUAL(given_to(), to);
	}
	for (unsigned i = 0; i < threads; i++)
		CU_ASSERT(n[i] >= 400 / threads / 2);
}

/* XDP leaves to tc what is another thread's, and does not count it; tc gives and counts it. */
void test_wrong_queue(void)
{
	struct frame f = tcp4("192.0.2.2", "192.0.2.1", 80, 62000);
	dmm_u64 wrong = counter(DMM_X_WRONG_QUEUE), flow = counter(DMM_X_FLOW), all = 0, now = 0;

	thread_flow(80, 62000, DMM_XFLOW_LIVE, 1);
	for (int i = 0; i < DMM_X_COUNT; i++)
		all += counter(i);
	tc = false;
	CU_ASSERT_EQUAL(run(&f), XDP_PASS);
	tc = true;
	for (int i = 0; i < DMM_X_COUNT; i++)
		now += counter(i);
	CU_ASSERT_EQUAL(now, all);
	CU_ASSERT_EQUAL(run(&f), TC_ACT_SHOT);
	CU_ASSERT_EQUAL(given_to(), 1);
	CU_ASSERT_EQUAL(counter(DMM_X_WRONG_QUEUE), wrong + 1);
	CU_ASSERT_EQUAL(counter(DMM_X_FLOW), flow + 1);
	f = tcp4("192.0.2.2", "192.0.2.1", 80, 62001); /* nobody's: XDP has counted it */
	all = counter(DMM_X_PASS_MISS);
	run(&f);
	CU_ASSERT_EQUAL(counter(DMM_X_PASS_MISS), all);
}

/* The queue of the SYN says whose a connection is, and what follows goes there by whatever queue.
 */
void test_begun(void)
{
	struct dmm_xflow_key k = pair_key(IPPROTO_TCP, "192.0.2.2", "192.0.2.1", 2000, 445);
	struct frame f = tcp4("192.0.2.2", "192.0.2.1", 2000, 445);
	int map = bpf_map__fd(skel->maps.dmm_xsyn);
	dmm_u8 thread = 1;

	thread_port(445, (1u << threads) - 1, 0);
	run(&f); /* of queue 0 */
	CU_ASSERT_EQUAL(given_to(), 0);
	CU_ASSERT_EQUAL(bpf_map_update_elem(map, &k, &thread, BPF_EXIST), 0);
	run(&f);
	CU_ASSERT_EQUAL(given_to(), 1);
}
