// SPDX-License-Identifier: Apache-2.0
/* The verdicts of sockets that are left on the kernel stack: who has a slot, and when it is given
 * back. */
#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <bpf/bpf.h>

#include "bpf/dmm_flows.h"
#include "lib/base/util.h"
#include "loader/maps.h"
#include "tests/bpf/tree.h"

struct plain_want {
	int socket, proto, rows;
	unsigned local_port;
};

static int count_plain(const struct dmm_flow_row *f, void *ctx)
{
	struct plain_want *w = ctx;
	socklen_t len = sizeof(dmm_u64);
	dmm_u64 cookie;

	getsockopt(w->socket, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	if (f->sock.cookie != cookie)
		return 0;
	if (f->sock.stack == DMM_STACK_KERNEL && f->sock.proto == w->proto &&
	    f->sock.pid == (dmm_u32)getpid() && f->sock.comm[0] && f->sock.remote.port &&
	    f->sock.local.port == w->local_port && f->sock.group && f->netns)
		w->rows++;
	else
		w->rows += 100;
	return 0;
}

static int plain_rows(int s, int proto)
{
	struct plain_want w = {.socket = s, .proto = proto};
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);

	getsockname(s, (struct sockaddr *)&sin, &len);
	w.local_port = ntohs(sin.sin_port);
	return maps_flows(&tree, count_plain, &w) < 0 ? -1 : w.rows;
}

unsigned plain_used(void)
{
	struct dmm_owner o;
	unsigned n = 0;

	for (dmm_u32 i = 0; i < DMM_PLAIN_SETS; i++) {
		bpf_map_lookup_elem(tree.map[TREE_OWNER], &i, &o);
		for (int way = 0; way < DMM_PLAIN_WAYS; way++)
			n += o.sk[way] != 0;
	}
	return n;
}

/* The first `ways` of every set are somebody's, the others free. */
static void plain_fill(int ways)
{
	struct dmm_owner o = {0};

	for (int way = 0; way < ways; way++)
		o.sk[way] = ~0ULL;
	for (dmm_u32 i = 0; i < DMM_PLAIN_SETS; i++)
		bpf_map_update_elem(tree.map[TREE_OWNER], &i, &o, 0);
}

static int do_plain(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server_port)},
			   off = {.sin_family = AF_UNSPEC};
	int s = connect_to("127.0.0.1", server_port), u;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (s < 0 || plain_rows(s, IPPROTO_TCP) != 1 || plain_used() != 1)
		return 1;
	if (connect(s, (struct sockaddr *)&off, sizeof(off)) < 0 ||
	    connect(s, (struct sockaddr *)&to, sizeof(to)) < 0)
		return 2;
	if (plain_rows(s, IPPROTO_TCP) != 1 || plain_used() != 1)
		return 3;
	u = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (connect(u, (struct sockaddr *)&to, sizeof(to)) < 0 || plain_rows(u, IPPROTO_UDP) != 1)
		return 4;
	close(u);
	close(s);
	return plain_used() == 0 ? 0 : 5;
}

/* The kernel makes the subflow of an MPTCP socket, and does not tell us when it ends. */
static int do_plain_mptcp(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server_port)};
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 262);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (s < 0)
		return 0; /* this kernel has none */
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) < 0)
		return 1;
	close(s);
	return plain_used() == 0 ? 0 : 2;
}

/* One slot a socket, also when another than its own has become free meanwhile. */
static int do_plain_again(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server_port)};
	int u = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct dmm_owner o;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	plain_fill(2);
	if (connect(u, (struct sockaddr *)&to, sizeof(to)) < 0 ||
	    plain_used() != 2 * DMM_PLAIN_SETS + 1)
		return 1;
	for (dmm_u32 i = 0; i < DMM_PLAIN_SETS; i++) {
		bpf_map_lookup_elem(tree.map[TREE_OWNER], &i, &o);
		o.sk[0] = o.sk[1] = 0;
		bpf_map_update_elem(tree.map[TREE_OWNER], &i, &o, 0);
	}
	if (connect(u, (struct sockaddr *)&to, sizeof(to)) < 0 || plain_rows(u, IPPROTO_UDP) != 1 ||
	    plain_used() != 1)
		return 2;
	close(u);
	return plain_used() == 0 ? 0 : 3;
}

/* Every slot is another's: socket storage has the verdict. */
static int do_plain_full(void)
{
	dmm_u64 before[DMM_C_COUNT], after[DMM_C_COUNT];
	int s, rows;

	maps_counters(&tree, before);
	plain_fill(DMM_PLAIN_WAYS);
	s = connect_to("127.0.0.1", server_port);
	rows = s < 0 ? -1 : plain_rows(s, IPPROTO_TCP);
	plain_fill(0);
	maps_counters(&tree, after);
	return rows == 1 && after[DMM_C_PLAIN_FULL] == before[DMM_C_PLAIN_FULL] + 1 ? 0 : 1;
}

void test_plain(void)
{
	int s = listen_on("127.0.0.1", &server_port);

	CU_ASSERT_EQUAL(in_group(do_plain), 0);
	CU_ASSERT_EQUAL(in_group(do_plain_mptcp), 0);
	CU_ASSERT_EQUAL(in_group(do_plain_again), 0);
	CU_ASSERT_EQUAL(in_group(do_plain_full), 0);
	close(s);
}

/* The redirected connect: lands at the carrier listener, tells the original names. */
