// SPDX-License-Identifier: Apache-2.0
/* Local ports of client connections: RFC 6056. */
#include <CUnit/CUnit.h>
#include <string.h>

#include "lib/base/addr.h"
#include "tests/unit/unit.h"
#include "userstack/stack.h"

#define LO 61000u
#define N 1500u

static struct stack stack;

static struct dmm_addr address(unsigned last, uint16_t port)
{
	struct dmm_addr a = {.port = port};

	addr_parse_ip("10.0.0.0", a.ip);
	a.ip[14] = (dmm_u8)(last >> 8);
	a.ip[15] = (dmm_u8)last;
	return a;
}

static unsigned choose(unsigned host)
{
	struct dmm_addr remote = address(host, 80), local = address(1, 0);

	return owned_choose_port(&stack, &remote, &local);
}

static void start(void)
{
	memset(&stack, 0, sizeof(stack));
	stack.port_lo = LO;
	stack.port_hi = LO + N - 1;
	memcpy(stack.port_secret, "of this instance", sizeof(stack.port_secret));
}

/* To one destination every port is used once before one is used again. */
static void test_all(void)
{
	bool used[N] = {0};
	unsigned port;

	start();
	for (unsigned i = 0; i < N; i++) {
		port = choose(2);
		CU_ASSERT_FATAL(port >= LO && port < LO + N);
		CU_ASSERT_FALSE(used[port - LO]);
		used[port - LO] = true;
	}
}

/* Who sees his own ports does not know those to others: they are not the next ones. */
static void test_unrelated(void)
{
	unsigned last = choose(2), port, near = 0;

	start();
	for (unsigned i = 3; i < 1000; i++, last = port) {
		port = choose(i);
		near += port - last + 5 <= 10;
	}
	CU_ASSERT(near < 50);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"every port in turn", test_all},
		{"unrelated between destinations", test_unrelated},
		CU_TEST_INFO_NULL,
	};

	return unit_run("ports", tests);
}
