// SPDX-License-Identifier: Apache-2.0
/*
 * The BPF programs and the loader without an instance: a tree of its own, a group of its own, and a
 * listener that plays the instance's carrier listener. Needs root; skipped (77) without it.
 */
#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <bpf/bpf.h>

#include "bpf/dmm_flows.h"
#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/attach.h"
#include "loader/cgroup.h"
#include "loader/hold.h"
#include "loader/maps.h"
#include "loader/monitor.h"
#include "policyd/policy.h"
#include "tests/bpf/tree.h"
#include "tests/bpf/run.h"

char path[64], group_cgroup[64];
struct tree tree;
struct dmm_class *class;

/* Run fn in a child that has joined the group; its result. */
int in_group(int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (cgroup_join(group_cgroup, 0) < 0)
			_exit(100);
		_exit(fn());
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

/* What the next commit() puts in force beside the stacks and groups of class. */
static struct dmm_rule rules[2];
static unsigned rule_stack[2]; /* ids */
unsigned rule_group;
static size_t n_rules;

void rule(unsigned i, const char *name, const char *prefix, unsigned port, unsigned stack)
{
	static struct policy_prefix remote[2];
	static struct policy_ports ports[2];
	struct dmm_rule *r = &rules[i];
	unsigned plen = 0;

	*r = (struct dmm_rule){.n_use = 1, .carrier = DMM_CARRIER_TCP};
	strcpy(r->name, name);
	rule_stack[i] = stack;
	if (prefix) {
		addr_parse_prefix(prefix, remote[i].ip, &plen);
		remote[i].plen = (dmm_u8)plen;
		r->match.remote = &remote[i];
		r->match.n_remote = 1;
	}
	if (port) {
		ports[i] = (struct policy_ports){(dmm_u16)port, (dmm_u16)port};
		r->match.remote_port = &ports[i];
		r->match.n_remote_port = 1;
	}
	if (n_rules <= i)
		n_rules = i + 1;
}

void rule_auto(unsigned i, unsigned other)
{
	rules[i].nrd.objective = NRD_LATENCY;
	rules[i].nrd.canary = NRD_CANARY;
	rules[i].n_use = 2;
	strcpy(rules[i].use[1], class->stack[other].name);
}

int commit(void)
{
	struct policy_group groups[DMM_MAX_GROUPS] = {};
	struct policy_stack stacks[DMM_MAX_STACKS] = {};
	struct dmm_policy p = {.groups = groups,
			       .stacks = stacks,
			       .rules = rules,
			       .n_rules = n_rules,
			       .def = {"kernel"},
			       .n_def = 1};
	struct dmm_class *next = class_new();
	int r;

	for (unsigned i = 1; i < DMM_MAX_STACKS; i++)
		if (class->stack[i].kind == DMM_KIND_KERNEL ||
		    class->stack[i].kind == DMM_KIND_USERSPACE)
			stacks[p.n_stacks++].rec = class->stack[i];
	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++) {
		if (!class->group[i].name[0])
			continue;
		strcpy(groups[p.n_groups].name, class->group[i].name);
		strcpy(groups[p.n_groups++].cgroup, class->group[i].cgroup);
	}
	for (size_t i = 0; i < n_rules; i++)
		strcpy(rules[i].use[0], class->stack[rule_stack[i]].name);
	rules[0].match.group = rule_group ? &class->group[rule_group].name : NULL;
	rules[0].match.n_group = rule_group != 0;
	r = class_compile(&p, class, next);
	if (r == 0)
		r = maps_commit(&tree, next, NULL);
	class_free(class);
	class = next;
	return r;
}

int connect_to(const char *ip, unsigned port)
{
	struct dmm_addr a = {.port = (dmm_u16)port};
	struct sockaddr_storage ss;
	socklen_t len;
	int s;

	addr_parse_ip(ip, a.ip);
	len = addr_to_sockaddr(&a, &ss);
	s = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(s, (struct sockaddr *)&ss, len) < 0) {
		int e = errno;

		close(s);
		return -e;
	}
	return s;
}

static int bind_to(const char *ip, int type, unsigned *ret_port)
{
	struct dmm_addr a = {};
	struct sockaddr_storage ss;
	socklen_t len;
	int s;

	addr_parse_ip(ip, a.ip);
	len = addr_to_sockaddr(&a, &ss);
	s = socket(ss.ss_family, type | SOCK_CLOEXEC, 0);
	if (bind(s, (struct sockaddr *)&ss, len) < 0)
		return -errno;
	getsockname(s, (struct sockaddr *)&ss, &len);
	addr_from_sockaddr((struct sockaddr *)&ss, &a);
	*ret_port = a.port;
	return s;
}

int listen_on(const char *ip, unsigned *ret_port)
{
	int s = bind_to(ip, SOCK_STREAM, ret_port);

	return s < 0 || listen(s, 16) == 0 ? s : -errno;
}

dmm_u64 verdicts(unsigned stack, unsigned role, unsigned reason)
{
	static dmm_u64 v[DMM_MAX_STACKS * DMM_ROLES * DMM_REASON_SPACE];

	maps_verdicts(&tree, v);
	return v[DMM_VERDICT_INDEX(stack, role, reason)];
}

unsigned server_port;

static int do_connect_local(void)
{
	int s = connect_to("127.0.0.1", server_port);

	return s < 0 ? 1 : 0;
}

static void test_empty_policy(void)
{
	int s = listen_on("127.0.0.1", &server_port);

	CU_ASSERT_EQUAL(in_group(do_connect_local), 0);
	CU_ASSERT_EQUAL(verdicts(0, DMM_ROLE_CLIENT, DMM_REASON_DEFAULT), 1);
	close(s);
}

/* Who listens hears every verdict, or that it is lost: also of one that was begun and never told,
 * and of the time in which it did not say that it goes on. */
static void test_monitor(void)
{
	struct monitor a, b;
	struct dmm_sock s;
	dmm_u64 lost = 0;
	int l = listen_on("127.0.0.1", &server_port);

	CU_ASSERT_EQUAL_FATAL(monitor_open(&a, &tree), 0);
	CU_ASSERT_EQUAL_FATAL(monitor_open(&b, &tree), 0);
	CU_ASSERT_EQUAL(in_group(do_connect_local), 0);
	CU_ASSERT_FATAL(monitor_next(&a, &s, &lost));
	CU_ASSERT_EQUAL(s.role, DMM_ROLE_CLIENT);
	CU_ASSERT_EQUAL(s.remote.port, server_port);
	CU_ASSERT(!monitor_next(&a, &s, &lost));

	tree.meta->monitor_told++; /* somebody has begun */
	CU_ASSERT_EQUAL(in_group(do_connect_local), 0);
	CU_ASSERT(!monitor_next(&a, &s, &lost));
	CU_ASSERT_EQUAL(lost, 0);
	a.ring.missing_since_ns -= 2 * RING_WAIT_NS; /* long ago */
	CU_ASSERT(monitor_next(&a, &s, &lost));
	CU_ASSERT_EQUAL(lost, 1);
	CU_ASSERT_EQUAL(s.remote.port, server_port);
	CU_ASSERT(!monitor_next(&a, &s, &lost));

	CU_ASSERT_EQUAL(monitor_keep(&a), 0);
	a.kept_until_ns -= 2 * DMM_MONITOR_NS; /* it was stopped */
	CU_ASSERT(monitor_keep(&a) > 0);
	CU_ASSERT_EQUAL(monitor_keep(&a), 0);
	/* also who wakes up after somebody else has put it off again */
	b.kept_until_ns -= 2 * DMM_MONITOR_NS;
	CU_ASSERT(monitor_keep(&b) > 0);
	monitor_close(&a);
	monitor_close(&b);
	close(l);
	tree.meta->monitor_until_ns = 0;
}

static int do_refused(void)
{
	return connect_to("127.0.0.1", server_port) == -ECONNREFUSED ? 0 : 1;
}

static void test_reject(void)
{
	int s = listen_on("127.0.0.1", &server_port);

	class->stack[1] = (struct dmm_stack_rec){.name = "reject", .kind = DMM_KIND_REJECT};
	rule(0, "no", "127.0.0.0/8", server_port, 1);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(in_group(do_refused), 0);
	CU_ASSERT_EQUAL(verdicts(1, DMM_ROLE_CLIENT, DMM_REASON_REJECTED), 1);
	close(s);
}

static int do_connect_far(void)
{
	int s = connect_to("127.0.0.1", server_port);

	return s >= 0 ? 0 : 1;
}

static void test_stack_down_falls_back(void)
{
	int s = listen_on("127.0.0.1", &server_port);

	class->stack[2] = (struct dmm_stack_rec){.name = "edge0", .kind = DMM_KIND_USERSPACE};
	rule(0, "far", NULL, 0, 2);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(in_group(do_connect_far), 0);
	CU_ASSERT_EQUAL(verdicts(0, DMM_ROLE_CLIENT, DMM_REASON_STACK_DOWN), 1);
	close(s);
}

static int do_strict(void)
{
	return connect_to("127.0.0.1", server_port) == -ENETUNREACH ? 0 : 1;
}

static void test_strict(void)
{
	dmm_u64 before = verdicts(2, DMM_ROLE_CLIENT, DMM_REASON_STACK_DOWN);
	int s = listen_on("127.0.0.1", &server_port);

	rules[0].strict = 1;
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(in_group(do_strict), 0);
	CU_ASSERT_EQUAL(verdicts(2, DMM_ROLE_CLIENT, DMM_REASON_STACK_DOWN), before + 1);
	rules[0].strict = 0;
	CU_ASSERT_EQUAL(commit(), 0);
	close(s);
}

static int count_flow(const struct dmm_flow_row *f, void *ctx)
{
	struct dmm_addr want = {.port = 8080};
	int *n = ctx;

	addr_parse_ip("198.51.100.7", want.ip);
	if (f->sock.stack == 2 && f->sock.carrier == DMM_CARRIER_TCP &&
	    memcmp(&f->sock.remote, &want, sizeof(want)) == 0)
		(*n)++;
	return 0;
}

static int do_redirected(void)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);
	int flows = 0, s;

	s = connect_to("198.51.100.7", 8080);
	if (s < 0)
		return 1;
	if (getpeername(s, (struct sockaddr *)&sin, &len) < 0 || ntohs(sin.sin_port) != 8080 ||
	    sin.sin_addr.s_addr != inet_addr("198.51.100.7"))
		return 2;
	if (maps_flows(&tree, count_flow, &flows) < 0 || flows != 1)
		return 3;
	sin = (struct sockaddr_in){.sin_family = AF_UNSPEC};
	if (connect(s, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		return 4;
	len = sizeof(sin);
	if (getpeername(s, (struct sockaddr *)&sin, &len) == 0 || errno != ENOTCONN)
		return 5;
	len = sizeof(sin);
	if (getsockname(s, (struct sockaddr *)&sin, &len) < 0 || sin.sin_addr.s_addr != 0)
		return 6;
	return 0;
}

/* What would go with the carrier's packets, not with the instance's; and what looks like it. */
static const struct header_row {
	const char *what;
	int family, level, name;
	const char *value;
	socklen_t len;
	bool supported;
} in_header[] = {
	{"IP_OPTIONS", AF_INET, IPPROTO_IP, IP_OPTIONS, "\1\1\1\1", 4, false},
	{"IP_TTL", AF_INET, IPPROTO_IP, IP_TTL, "\5\0\0\0", 4, false},
	{"IP_MINTTL", AF_INET, IPPROTO_IP, IP_MINTTL, "\xff\0\0\0", 4, false},
	{"IPV6_UNICAST_HOPS", AF_INET6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, "\5\0\0\0", 4, false},
	{"IPV6_MINHOPCOUNT", AF_INET6, IPPROTO_IPV6, IPV6_MINHOPCOUNT, "\xff\0\0\0", 4, false},
	{"plain IPv4", AF_INET, .supported = true},
	{"plain IPv6", AF_INET6, .supported = true},
	/* ssh asks for one before it connects */
	{"IP_TOS", AF_INET, IPPROTO_IP, IP_TOS, "\x28\0\0\0", 4, true},
	{"IPV6_TCLASS", AF_INET6, IPPROTO_IPV6, IPV6_TCLASS, "\x28\0\0\0", 4, true},
};
static const struct header_row *header_row; /* of do_in_header() */

static int do_in_header(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(8080)};
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = htons(8080)};
	const struct header_row *r = header_row;
	int s = socket(r->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	inet_pton(AF_INET, "198.51.100.7", &sin.sin_addr);
	inet_pton(AF_INET6, "::ffff:198.51.100.7", &sin6.sin6_addr);
	if (r->len && setsockopt(s, r->level, r->name, r->value, r->len) < 0)
		return errno;
	if (r->family == AF_INET)
		connect(s, (struct sockaddr *)&sin, sizeof(sin));
	else
		connect(s, (struct sockaddr *)&sin6, sizeof(sin6));
	return 0;
}

static void test_in_header(void)
{
	dmm_u64 before;
	int failed;

	for (const struct header_row *r = in_header; r < in_header + ARRAY_SIZE(in_header); r++) {
		unsigned stack = r->supported ? 2 : 0;
		unsigned reason = r->supported ? DMM_REASON_RULE : DMM_REASON_UNSUPPORTED;

		header_row = r;
		before = verdicts(stack, DMM_ROLE_CLIENT, reason);
		failed = in_group(do_in_header) ||
			 verdicts(stack, DMM_ROLE_CLIENT, reason) != before + 1;
		if (failed)
			printf("%s: not so; ", r->what);
		CU_ASSERT(!failed);
	}
}

/* Connects that end at any moment of the handshake. */
static int do_hasty(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(8080)};
	int s;

	sin.sin_addr.s_addr = inet_addr("198.51.100.7");
	for (int i = 0; i < 2000; i++) {
		s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		connect(s, (struct sockaddr *)&sin, sizeof(sin));
		for (volatile int spin = 0; spin < i % 50 * 20; spin++)
			;
		close(s);
	}
	return 0;
}

static int count_nobody(const struct dmm_flow_row *f, void *ctx)
{
	int *n = ctx;

	n[0] += f->sock.pid == (dmm_u32)getpid();
	n[1] += !f->sock.generation;
	return 0;
}

/* Left on the kernel stack for want of room: one verdict, and none that nobody gave. */
static int do_no_room(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(8080)};
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rows[2] = {0};

	sin.sin_addr.s_addr = inet_addr("198.51.100.7");
	if (connect(s, (struct sockaddr *)&sin, sizeof(sin)) == 0 ||
	    (errno != EINPROGRESS && errno != ENETUNREACH)) /* where there is no route */
		return 1;
	if (maps_flows(&tree, count_nobody, rows) < 0)
		return 2;
	return rows[0] == 1 && rows[1] == 0 ? 0 : 3;
}

static void test_no_room(void)
{
	struct dmm_flow flow = {.since_ns = now_ns()};
	dmm_u64 first = 1ULL << 40;

	for (dmm_u64 i = first; i < first + DMM_MAX_PENDING; i++)
		bpf_map_update_elem(tree.map[TREE_PENDING], &i, &flow, 0);
	tree.rt[2].heartbeat_ns = now_ns(); /* that took a while, where the machine is emulated */
	CU_ASSERT_EQUAL(in_group(do_no_room), 0);
	CU_ASSERT_EQUAL(verdicts(0, DMM_ROLE_CLIENT, DMM_REASON_MAP_FULL), 1);
	for (dmm_u64 i = first; i < first + DMM_MAX_PENDING; i++)
		bpf_map_delete_elem(tree.map[TREE_PENDING], &i);
	tree.rt[2].heartbeat_ns = now_ns();
}

static bool is_empty(enum tree_map map)
{
	dmm_u32 used = 1, max;

	/* the last ones may still be closing */
	for (int i = 0; used && i < 100; i++) {
		if (maps_usage(&tree, map, &used, &max) < 0)
			return false;
		if (used)
			usleep(20000);
	}
	return used == 0;
}

/* A UDP carrier of one instance, among those of stack 2. */
static int offer_udp(struct hold *of, dmm_u32 stack)
{
	dmm_u32 two = 2;
	struct dmm_udp_free f;
	unsigned port;
	int u = bind_to("0.0.0.0", SOCK_DGRAM, &port);

	if (u < 0 || hold_udp_offer(of, u, (dmm_u16)port) < 0 ||
	    bpf_map_lookup_elem(tree.map[TREE_UDP_FREE], &stack, &f) < 0)
		return -1;
	f.next = 0;
	return bpf_map_update_elem(tree.map[TREE_UDP_FREE], &two, &f, 0);
}

/* The instance of stack 2; its carriers are those of stack `owner`. */
static int play_instance(int ready, unsigned owner)
{
	volatile struct dmm_stack_rt *rt = &tree.rt[2];
	dmm_u8 ip[16];
	struct hold *h, *of;
	unsigned plen, port;
	socklen_t len = sizeof(dmm_u64);
	dmm_u64 cookie;
	int s;

	if (attach_instance_self(&tree) < 0 || hold_open(&h, &tree, 2, 0) < 0)
		return 1;
	of = h;
	if (owner != 2 && hold_open(&of, &tree, owner, 0) < 0)
		return 1;
	s = bind_to("127.0.0.1", SOCK_STREAM, &port);
	addr_parse_prefix("198.51.100.0/24", ip, &plen);
	if (s < 0 || hold_own(of, s) < 0 || listen(s, 16) < 0 || offer_udp(of, owner) < 0 ||
	    hold_route_set(h, ip, plen, DMM_ROUTE_VIA, ip) < 0)
		return 2;
	getsockopt(s, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len);
	rt->netns = cookie;
	for (unsigned i = 0; i < DMM_CARRIER_PORTS; i++)
		rt->port4[i] = (dmm_u16)port;
	rt->udp = 1;
	rt->pid = (dmm_u32)getpid();
	rt->heartbeat_ns = now_ns();
	rt->state = DMM_STATE_UP;
	if (write(ready, "x", 1) != 1)
		return 3;
	for (;;)
		close(accept(s, NULL, NULL));
}

static pid_t start_instance(unsigned owner)
{
	pid_t pid;
	int p[2];
	char c;

	CU_ASSERT_EQUAL_FATAL(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		close(p[0]);
		_exit(play_instance(p[1], owner));
	}
	close(p[1]);
	CU_ASSERT_EQUAL(read(p[0], &c, 1), 1);
	close(p[0]);
	return pid;
}

static int do_far(int type)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(8080)};
	int s = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	sin.sin_addr.s_addr = inet_addr("198.51.100.7");
	connect(s, (struct sockaddr *)&sin, sizeof(sin));
	close(s);
	return 0;
}

static int do_far_tcp(void)
{
	return do_far(SOCK_STREAM);
}

static int do_far_udp(void)
{
	return do_far(SOCK_DGRAM);
}

/* Its ports are another instance's by now. */
static void test_other_instance(void)
{
	dmm_u64 down = verdicts(0, DMM_ROLE_CLIENT, DMM_REASON_STACK_DOWN);
	pid_t pid = start_instance(3);
	int status;

	CU_ASSERT_EQUAL(in_group(do_far_tcp), 0);
	CU_ASSERT_EQUAL(verdicts(0, DMM_ROLE_CLIENT, DMM_REASON_STACK_DOWN), down + 1);
	CU_ASSERT_EQUAL(in_group(do_far_udp), 0);
	CU_ASSERT_EQUAL(verdicts(0, DMM_ROLE_CLIENT, DMM_REASON_STACK_DOWN), down + 2);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	pid = start_instance(2);
	CU_ASSERT_EQUAL(in_group(do_far_udp), 0);
	CU_ASSERT_EQUAL(verdicts(2, DMM_ROLE_CLIENT, DMM_REASON_RULE), 1);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

static void test_redirect(void)
{
	pid_t pid = start_instance(2);
	int status;

	CU_ASSERT_EQUAL(in_group(do_redirected), 0);
	CU_ASSERT_EQUAL(verdicts(2, DMM_ROLE_CLIENT, DMM_REASON_RULE), 2);
	test_in_header();
	CU_ASSERT_EQUAL(in_group(do_hasty), 0);
	test_no_room();
	CU_ASSERT(is_empty(TREE_PENDING));
	CU_ASSERT(is_empty(TREE_TUPLE));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	/* the listener went with it: the next one falls back although the record still says up */
	CU_ASSERT_EQUAL(tree.rt[2].state, DMM_STATE_UP);
	server_port = 1;
	in_group(do_connect_far);
	CU_ASSERT(verdicts(0, DMM_ROLE_CLIENT, DMM_REASON_NO_ROUTE) == 1);
}

static void test_read_back(void)
{
	struct dmm_class *back = class_new();
	dmm_u64 generation;

	CU_ASSERT_EQUAL(maps_read(&tree, back, &generation), 0);
	CU_ASSERT_EQUAL(generation, tree.meta->generation);
	CU_ASSERT_EQUAL(memcmp(&back->hdr, &class->hdr, sizeof(back->hdr)), 0);
	CU_ASSERT_EQUAL(memcmp(back->image, class->image, back->hdr.cells * sizeof(*back->image)),
			0);
	CU_ASSERT_STRING_EQUAL(back->rule[0].name, "far");
	CU_ASSERT_EQUAL(memcmp(back->stack, class->stack, sizeof(back->stack)), 0);
	CU_ASSERT_STRING_EQUAL(back->group[1].name, "web");
	class_free(back);
}

int do_accepted_congestion(void)
{
	char cc[16] = "";
	socklen_t len = sizeof(cc);
	unsigned port;
	int l, s, prio = 0;

	l = listen_on("127.0.0.1", &port);
	connect_to("127.0.0.1", port);
	s = accept(l, NULL, NULL);
	if (getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, cc, &len) < 0 || strcmp(cc, "reno") != 0)
		return 1;
	len = sizeof(prio);
	return getsockopt(s, SOL_SOCKET, SO_PRIORITY, &prio, &len) < 0 || prio != 3;
}

/* Is the congestion control of a connecting and of an accepted socket the kernel's own? */
static int do_plain_congestion(void)
{
	return do_accepted_congestion() == 1 ? 0 : 1;
}

/* What the operator switches off stays on the kernel stack, with that reason, clients and servers.
 */
static void test_admin_off(void)
{
	dmm_u64 was = verdicts(0, DMM_ROLE_CLIENT, DMM_REASON_ADMIN_OFF);
	struct dmm_group_rec rec;
	dmm_u32 id = 1;

	bpf_map_lookup_elem(tree.map[TREE_GROUP], &id, &rec);
	tree.rt[3].off = 1;
	CU_ASSERT_EQUAL(in_group(do_plain_congestion), 0);
	CU_ASSERT_EQUAL(verdicts(0, DMM_ROLE_CLIENT, DMM_REASON_ADMIN_OFF), was + 1);
	CU_ASSERT(verdicts(0, DMM_ROLE_SERVER, DMM_REASON_ADMIN_OFF) >= 1);
	tree.rt[3].off = 0;
	CU_ASSERT_EQUAL(in_group(do_accepted_congestion), 0);

	CU_ASSERT_EQUAL(attach_group_switch(&tree, 1, true), 0);
	CU_ASSERT(attach_group_off(&tree, &rec));
	CU_ASSERT_EQUAL(in_group(do_plain_congestion), 0);
	CU_ASSERT_EQUAL(verdicts(0, DMM_ROLE_CLIENT, DMM_REASON_ADMIN_OFF), was + 2);
	CU_ASSERT_EQUAL(commit(), 0); /* a commit leaves the switch alone */
	CU_ASSERT_EQUAL(in_group(do_plain_congestion), 0);
	CU_ASSERT_EQUAL(attach_group_switch(&tree, 1, false), 0);
	CU_ASSERT_EQUAL(in_group(do_accepted_congestion), 0);

	rules[0].disabled = 1;
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(in_group(do_plain_congestion), 0);
	CU_ASSERT_EQUAL(verdicts(0, DMM_ROLE_CLIENT, DMM_REASON_ADMIN_OFF), was + 4);
	rules[0].disabled = 0;
	tree.rt[3].off = 1;
	strcpy(class->stack[3].name,
	       "other"); /* another stack under the same id starts switched on */
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(tree.rt[3].off, 0);
	CU_ASSERT_EQUAL(in_group(do_accepted_congestion), 0);
}

/* A kernel stack's settings hold for accepted sockets too. */
static void test_server_settings(void)
{
	dmm_u64 before[DMM_C_COUNT], after[DMM_C_COUNT];

	class->stack[3] = (struct dmm_stack_rec){
		.name = "bulk", .kind = DMM_KIND_KERNEL, .congestion = "reno", .priority = 4};
	class->hdr.stacks = 4;
	rule(0, "far", NULL, 0, 3);
	CU_ASSERT_EQUAL(commit(), 0);
	maps_counters(&tree, before);
	CU_ASSERT_EQUAL(in_group(do_accepted_congestion), 0);
	strcpy(class->stack[3].congestion, "none-such");
	CU_ASSERT_EQUAL(commit(), 0);
	maps_counters(&tree, after);
	CU_ASSERT_EQUAL(after[DMM_C_SETTINGS_FAIL], before[DMM_C_SETTINGS_FAIL]);
	CU_ASSERT_EQUAL(in_group(do_plain_congestion), 0);
	maps_counters(&tree, after);
	CU_ASSERT_EQUAL(after[DMM_C_SETTINGS_FAIL], before[DMM_C_SETTINGS_FAIL] + 2);
	strcpy(class->stack[3].congestion, "reno");
	CU_ASSERT_EQUAL(commit(), 0);
}

static int setup(void)
{
	char begun[80];

	snprintf(path, sizeof(path), "/sys/fs/bpf/dmm-test-%d", getpid());
	snprintf(group_cgroup, sizeof(group_cgroup), "dmm-test-%d/web", getpid());
	snprintf(begun, sizeof(begun), "%s-new", path); /* of one that was killed */
	mkdir(begun, 0755);
	if (tree_install(&tree, path) < 0 || access(begun, F_OK) == 0)
		return -1;
	class = class_new();
	maps_read(&tree, class, NULL);
	class->hdr.stacks = 3;
	strcpy(class->group[1].name, "web");
	strcpy(class->group[1].cgroup, group_cgroup);
	return commit();
}

static int teardown(void)
{
	char full[256];
	struct stat st;
	int r;

	tree_close(&tree);
	class_free(class);
	r = tree_teardown(path);
	cgroup_path(group_cgroup, full, sizeof(full));
	*strrchr(full, '/') = '\0';
	return r < 0 || stat(path, &st) == 0 || stat(full, &st) == 0 ? -1 : 0;
}

/* With an argument: as on a kernel without iterators over maps. */
int main(int argc, char **argv)
{
	CU_TestInfo tests[] = {
		{"empty policy: kernel", test_empty_policy},
		{"monitor", test_monitor},
		{"verdicts of the kernel's sockets", test_plain},
		{"reject", test_reject},
		{"stack down: fall back", test_stack_down_falls_back},
		{"stack down, strict: refused", test_strict},
		{"the ports of another instance", test_other_instance},
		{"redirect and names", test_redirect},
		{"read back", test_read_back},
		{"attached as far as needed", test_attached},
		{"another program on the same sockets", test_other_sockops},
		{"server's kernel settings", test_server_settings},
		{"switched off by the operator", test_admin_off},
		{"measured", test_measured},
		{"chosen by nRD", test_chosen},
		{"group renamed in place", test_rename_group},
		{"group renamed with a listener", test_rename_listener},
		{"group renamed while sockets come and go", test_rename_busy},
		{"group dropped", test_drop_group},
		{"upgrade", test_upgrade},
		{"a newer ABI is refused", test_newer_abi},
		CU_TEST_INFO_NULL,
	};
	int r = bpf_skip();

	(void)argv;
	tree_flows_by_files = argc > 1;
	log_init("test_tree", LOG_L_INFO);
	return r ? r : bpf_run("tree", setup, teardown, tests);
}
