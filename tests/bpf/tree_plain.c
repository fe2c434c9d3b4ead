// SPDX-License-Identifier: Apache-2.0
/* The verdicts of sockets that are left on the kernel stack: who has a slot, and when it is given
 * back. */
#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "bpf/dmm_flows.h"
#include "lib/base/util.h"
#include "loader/cgroup.h"
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

struct live {
	dmm_u32 pid;
	int of_pid;
	dmm_u64 stack[DMM_MAX_STACKS];
};

static int count_live(const struct dmm_flow_row *f, void *ctx)
{
	struct live *n = ctx;

	n->of_pid += f->sock.pid == n->pid;
	if (f->sock.stack < DMM_MAX_STACKS)
		n->stack[f->sock.stack]++;
	return 0;
}

/* And they are counted as they are told. */
int flows_of_pid(pid_t pid)
{
	struct live n = {.pid = (dmm_u32)pid};
	dmm_u64 active[DMM_MAX_STACKS];

	if (maps_flows(&tree, count_live, &n) < 0 || maps_active(&tree, active) < 0 ||
	    memcmp(active, n.stack, sizeof(active)) != 0)
		return -1;
	return n.of_pid;
}

/* Slots that a socket has, one of which is found in ret. */
static unsigned slots_of(int s, struct dmm_plain *ret)
{
	socklen_t len = sizeof(dmm_u64);
	struct dmm_plain p;
	dmm_u64 cookie = 0;
	unsigned n = 0;

	getsockopt(s, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	for (dmm_u32 i = 0; i < DMM_PLAIN_SLOTS; i++) {
		bpf_map_lookup_elem(tree.map[TREE_PLAIN], &i, &p);
		if (p.cookie == cookie) {
			*ret = p;
			n++;
		}
	}
	return n;
}

/* All slots but those with this number of a way become another's. */
static void fill(const struct dmm_plain *p, unsigned but)
{
	for (dmm_u32 i = 0; i < DMM_PLAIN_SLOTS; i++)
		if (i % DMM_PLAIN_WAYS != but)
			bpf_map_update_elem(tree.map[TREE_PLAIN], &i, p, 0);
}

static int udp_to(const struct sockaddr_in *to)
{
	int u = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return connect(u, (const struct sockaddr *)to, sizeof(*to)) < 0 ? -1 : u;
}

static struct sockaddr_in server(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server_port)};

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return to;
}

static int do_plain(void)
{
	struct sockaddr_in to = server(), off = {.sin_family = AF_UNSPEC};
	int s = connect_to("127.0.0.1", server_port), u;
	struct dmm_plain p;

	if (s < 0 || plain_rows(s, IPPROTO_TCP) != 1 || slots_of(s, &p) != 1)
		return 1;
	/* without a destination there is no flow */
	if (connect(s, (struct sockaddr *)&off, sizeof(off)) < 0 || flows_of_pid(getpid()) != 0)
		return 2;
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) < 0 || plain_rows(s, IPPROTO_TCP) != 1 ||
	    slots_of(s, &p) != 1)
		return 3;
	u = udp_to(&to);
	if (u < 0 || plain_rows(u, IPPROTO_UDP) != 1 || flows_of_pid(getpid()) != 2)
		return 4;
	close(u);
	close(s);
	return flows_of_pid(getpid()) == 0 ? 0 : 5;
}

/* The kernel makes the subflow of an MPTCP socket, which is no descriptor's: in storage. */
static int do_plain_mptcp(void)
{
	struct sockaddr_in to = server();
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 262);
	struct dmm_plain p;

	if (s < 0)
		return 0; /* this kernel has none */
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) < 0 ||
	    flows_of_pid(getpid()) != !maps_flows_by_files(&tree))
		return 1;
	for (dmm_u32 i = 0; i < DMM_PLAIN_SLOTS; i++) {
		bpf_map_lookup_elem(tree.map[TREE_PLAIN], &i, &p);
		if (p.pid == (dmm_u32)getpid() && p.comm[0] && p.proto == IPPROTO_TCP)
			return 2;
	}
	close(s);
	return 0;
}

/* One slot a socket, also when one that is nearer has become free meanwhile. */
static int do_plain_again(void)
{
	struct dmm_plain other, mine, gone = {.cookie = 1};
	struct sockaddr_in to = server();
	int owner = udp_to(&to), u;

	if (owner < 0 || slots_of(owner, &other) != 1)
		return 1;
	fill(&other, 5);
	u = udp_to(&to);
	if (u < 0 || slots_of(u, &mine) != 1 || plain_rows(u, IPPROTO_UDP) != 1)
		return 2;
	fill(&gone, 5);
	if (connect(u, (struct sockaddr *)&to, sizeof(to)) < 0 || slots_of(u, &mine) != 1 ||
	    plain_rows(u, IPPROTO_UDP) != 1)
		return 3;
	close(u);
	close(owner);
	return flows_of_pid(getpid()) == 0 ? 0 : 4;
}

static dmm_u64 plain_full(void)
{
	dmm_u64 counter[DMM_C_COUNT];

	maps_counters(&tree, counter);
	return counter[DMM_C_PLAIN_FULL];
}

/* Every slot is another's: socket storage has the verdict. Until the other is closed: then its
 * slots are free, and nobody had to give them back. */
static int do_plain_full(void)
{
	struct sockaddr_in to = server();
	dmm_u64 before = plain_full();
	struct dmm_plain p;
	int owner = udp_to(&to), s, r = 0;

	if (owner < 0 || slots_of(owner, &p) != 1)
		return 1;
	fill(&p, DMM_PLAIN_WAYS);
	s = connect_to("127.0.0.1", server_port);
	if (s < 0 || plain_rows(s, IPPROTO_TCP) != 1 || slots_of(s, &p) != 0 ||
	    plain_full() != before + 1)
		r = 2;
	close(s);
	close(owner);
	s = connect_to("127.0.0.1", server_port);
	if (r == 0 && (s < 0 || plain_rows(s, IPPROTO_TCP) != 1 || slots_of(s, &p) != 1 ||
		       plain_full() != before + 1))
		r = 3;
	p = (struct dmm_plain){0};
	fill(&p, DMM_PLAIN_WAYS);
	return r;
}

struct name_of {
	dmm_u32 pid;
	char name[DMM_NAME_LEN];
};

/* The name of the rule of the process's one flow. */
static int find_name(const struct dmm_flow_row *f, void *ctx)
{
	struct name_of *w = ctx;

	if (f->sock.pid == w->pid)
		memcpy(w->name, f->sock.rule_name, sizeof(w->name));
	return 0;
}

static bool decided_by(pid_t pid, const char *name)
{
	struct name_of w = {.pid = (dmm_u32)pid};

	return maps_flows(&tree, find_name, &w) == 0 && strcmp(w.name, name) == 0;
}

static int connected[2]; /* a pipe: it is */

static int do_stay(void)
{
	struct sockaddr_in to = server();

	if (udp_to(&to) < 0 || write(connected[1], "", 1) != 1)
		return 1;
	pause();
	return 0;
}

/* A socket tells the rule that it got, whatever has its number since then. */
static void test_rule_name(void)
{
	static const char *const later[] = {"second", "third", "fourth", "fifth"};
	char byte;
	pid_t pid;

	rule(0, "first", "127.0.0.0/8", 0, DMM_STACK_KERNEL);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL_FATAL(pipe(connected), 0);
	pid = fork();
	if (pid == 0) {
		if (cgroup_join(group_cgroup, 0) < 0)
			_exit(1);
		_exit(do_stay());
	}
	CU_ASSERT_EQUAL(read(connected[0], &byte, 1), 1);
	CU_ASSERT(decided_by(pid, "first"));
	for (size_t i = 0; i < ARRAY_SIZE(later); i++) {
		rule(0, later[i], "127.0.0.0/8", 0, DMM_STACK_KERNEL);
		CU_ASSERT_EQUAL(commit(), 0);
		CU_ASSERT(decided_by(pid, "first"));
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(connected[0]);
	close(connected[1]);
}

static int do_udp(void)
{
	struct sockaddr_in to = server();

	return udp_to(&to) < 0;
}

/* A stack that is switched off is not taken, whatever is remembered. */
static void test_remembered_off(void)
{
	dmm_u64 by_rule = verdicts(DMM_STACK_KERNEL, DMM_ROLE_CLIENT, DMM_REASON_RULE),
		off = verdicts(DMM_STACK_KERNEL, DMM_ROLE_CLIENT, DMM_REASON_ADMIN_OFF);

	CU_ASSERT_EQUAL(in_group(do_udp) + in_group(do_udp), 0);
	tree.rt[DMM_STACK_KERNEL].off = 1;
	CU_ASSERT_EQUAL(in_group(do_udp), 0);
	tree.rt[DMM_STACK_KERNEL].off = 0;
	CU_ASSERT_EQUAL(in_group(do_udp), 0);
	CU_ASSERT_EQUAL(verdicts(DMM_STACK_KERNEL, DMM_ROLE_CLIENT, DMM_REASON_RULE), by_rule + 3);
	CU_ASSERT_EQUAL(verdicts(DMM_STACK_KERNEL, DMM_ROLE_CLIENT, DMM_REASON_ADMIN_OFF), off + 1);
}

void test_plain(void)
{
	int s = listen_on("127.0.0.1", &server_port);

	CU_ASSERT_EQUAL(in_group(do_plain), 0);
	CU_ASSERT_EQUAL(in_group(do_plain_mptcp), 0);
	CU_ASSERT_EQUAL(in_group(do_plain_again), 0);
	CU_ASSERT_EQUAL(in_group(do_plain_full), 0);
	test_rule_name();
	test_remembered_off();
	close(s);
}

/* The redirected connect: lands at the carrier listener, tells the original names. */
