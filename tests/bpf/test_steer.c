// SPDX-License-Identifier: Apache-2.0
/*
 * What the loader writes for the steering program, on the loopback interface of a network namespace
 * of its own: the bit of a local port is there as long as somebody has the port.
 */
#include <CUnit/Basic.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "loader/tree.h"
#include "loader/xdp.h"
#include "tests/bpf/run.h"

#define TCP 6
#define UDP 17
#define DESCRIPTORS 1024
#define THREADS 2

static struct tree tree;
static struct xdp *x;
static char path[64];
static int bits = -1; /* dmm_xbits of x */

static struct dmm_addr addr(const char *ip, unsigned port)
{
	struct dmm_addr a = {.port = (dmm_u16)port};

	addr_parse_ip(ip, a.ip);
	return a;
}

static dmm_u64 word_of(dmm_u32 index)
{
	dmm_u64 word = 0;

	CU_ASSERT_EQUAL(bpf_map_lookup_elem(bits, &index, &word), 0);
	return word;
}

static bool concerns(int proto, unsigned port)
{
	return word_of((dmm_u32)DMM_XBITS_INDEX(proto, port)) >> (port % 64) & 1;
}

static bool none(void)
{
	dmm_u64 all = 0;

	for (dmm_u32 i = 0; i < DMM_XBITS_WORDS; i++)
		all |= word_of(i);
	return all == 0;
}

static void test_flows(void)
{
	struct dmm_addr a = addr("10.0.0.2", 80), b = addr("10.0.0.3", 80);
	struct dmm_addr local = addr("10.0.0.1", 61001), next = addr("10.0.0.1", 61002);

	CU_ASSERT_EQUAL(xdp_flow_set(x, 0, &a, &local, DMM_XFLOW_LIVE), 0);
	CU_ASSERT(concerns(TCP, 61001) && !concerns(UDP, 61001) && !concerns(TCP, 61002));
	CU_ASSERT_EQUAL(xdp_flow_set(x, 0, &b, &local, DMM_XFLOW_LIVE), 0);
	CU_ASSERT_EQUAL(xdp_flow_set(x, 0, &a, &next, DMM_XFLOW_LIVE), 0);
	CU_ASSERT_EQUAL(xdp_udp_set(x, 0, &a, &local, true), 0);
	CU_ASSERT_EQUAL(xdp_flow_set(x, 0, &a, &local, DMM_XFLOW_CLOSED), 0);
	CU_ASSERT_EQUAL(xdp_flow_set(x, 0, &a, &local, DMM_XFLOW_NONE), 0);
	CU_ASSERT_EQUAL(xdp_flow_set(x, 0, &a, &local, DMM_XFLOW_NONE), 0); /* again */
	CU_ASSERT(concerns(TCP, 61001) && concerns(TCP, 61002) && concerns(UDP, 61001));
	CU_ASSERT_EQUAL(xdp_flow_set(x, 0, &b, &local, DMM_XFLOW_NONE), 0);
	CU_ASSERT(!concerns(TCP, 61001) && concerns(TCP, 61002) && concerns(UDP, 61001));
	CU_ASSERT_EQUAL(xdp_udp_set(x, 0, &a, &local, false), 0);
	CU_ASSERT_EQUAL(xdp_flow_set(x, 0, &a, &next, DMM_XFLOW_NONE), 0);
	CU_ASSERT(none());
}

/* Two threads have a pair: whichever ends first, it is the other's until that ends. */
static void test_pairs(void)
{
	struct dmm_addr a = addr("10.0.0.2", 80), local = addr("10.0.0.1", 61001);

	for (unsigned first = 0; first < THREADS; first++) {
		CU_ASSERT_EQUAL(xdp_udp_set(x, 0, &a, &local, true), 0);
		CU_ASSERT_EQUAL(xdp_udp_set(x, 1, &a, &local, true), 0);
		CU_ASSERT_EQUAL(xdp_udp_set(x, first, &a, &local, false), 0);
		CU_ASSERT(concerns(UDP, 61001));
		CU_ASSERT_EQUAL(xdp_udp_set(x, !first, &a, &local, false), 0);
		CU_ASSERT(none());
	}
}

/* Flows outlive their listener. */
static void test_listener(void)
{
	struct dmm_addr far = addr("10.0.0.2", 40000), a = addr("10.0.0.1", 443), b = a;

	addr_parse_ip("fd00::1", b.ip);
	CU_ASSERT_EQUAL(xdp_port_set(x, 0, &a, DMM_XPORT_OWNED), 0);
	CU_ASSERT_EQUAL(xdp_port_set(x, 0, &b, DMM_XPORT_OWNED), 0);
	CU_ASSERT_EQUAL(xdp_flow_set(x, 0, &far, &a, DMM_XFLOW_LIVE), 0);
	CU_ASSERT_EQUAL(xdp_port_set(x, 0, &a, DMM_XPORT_LEFT), 0);
	CU_ASSERT_EQUAL(xdp_port_set(x, 0, &a, DMM_XPORT_NONE), 0);
	CU_ASSERT(concerns(TCP, 443));
	CU_ASSERT_EQUAL(xdp_port_set(x, 0, &b, DMM_XPORT_NONE), 0);
	CU_ASSERT(concerns(TCP, 443));
	CU_ASSERT_EQUAL(xdp_flow_set(x, 0, &far, &a, DMM_XFLOW_NONE), 0);
	CU_ASSERT(none());
}

/* Among the descriptors of this process. */
static int find_bits(void)
{
	struct bpf_map_info info;
	dmm_u32 len;

	for (int fd = 0; fd < DESCRIPTORS; fd++) {
		len = sizeof(info);
		memset(&info, 0, sizeof(info));
		if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0 &&
		    info.max_entries == DMM_XBITS_WORDS && !strcmp(info.name, "dmm_xbits"))
			return fd;
	}
	return -1;
}

/* Of THREADS threads, or of one where the kernel has no tcx. */
static int open_steering(bool *ret_alone)
{
	struct xdp_config c = {.stack = 1, .threads = THREADS, .ifindex = 1 /* lo */};
	enum dmm_xdp_mode mode;
	int r = xdp_open(&x, &tree, &c, &mode);

	*ret_alone = r == -EOPNOTSUPP;
	if (*ret_alone) {
		c.threads = 1;
		r = xdp_open(&x, &tree, &c, &mode);
	}
	return r;
}

static int setup(bool *ret_alone)
{
	snprintf(path, sizeof(path), "/sys/fs/bpf/dmm-test-%d", getpid());
	if (tree_install(&tree, path) < 0 || unshare(CLONE_NEWNET) < 0 ||
	    open_steering(ret_alone) < 0)
		return -1;
	bits = find_bits();
	return bits < 0 ? -1 : 0;
}

static int teardown(void)
{
	xdp_close(x);
	tree_close(&tree);
	return tree_teardown(path) < 0 ? -1 : 0;
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"ports of flows", test_flows},
		{"ports of listeners", test_listener},
		{"pairs of UDP of two threads", test_pairs},
		CU_TEST_INFO_NULL,
	};
	bool alone;
	int r = bpf_skip();

	log_init("test_steer", LOG_L_INFO);
	if (r)
		return r;
	if (setup(&alone) < 0)
		return EXIT_FAILURE;
	if (alone) {
		printf("SKIP: %s: needs tcx, Linux 6.6\n", tests[2].pName);
		tests[2] = (CU_TestInfo)CU_TEST_INFO_NULL;
	}
	return bpf_run("steer", NULL, teardown, tests);
}
