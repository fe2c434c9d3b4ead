// SPDX-License-Identifier: Apache-2.0
/* What an instance does to the records of connects in progress, against the real kernel. */
#include <CUnit/Basic.h>
#include <CUnit/CUnit.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "loader/hold.h"
#include "loader/tree.h"
#include "tests/bpf/run.h"

static struct tree tree;
static struct hold *hold;
static char path[64];

static struct dmm_addr addr(const char *ip, uint16_t port)
{
	struct dmm_addr a = {.port = port};

	addr_parse_ip(ip, a.ip);
	return a;
}

static void put(const struct dmm_flow *f)
{
	CU_ASSERT_EQUAL(bpf_map_update_elem(tree.map[TREE_PENDING], &f->cookie, f, 0), 0);
}

static bool is_there(const struct dmm_flow *want)
{
	struct dmm_flow f;

	return !bpf_map_lookup_elem(tree.map[TREE_PENDING], &want->cookie, &f) &&
	       !memcmp(&f, want, sizeof(f));
}

/* The record keeps all that others wrote; another connect()'s is left alone. */
static void test_set_local(void)
{
	struct dmm_flow f = {.cookie = 77, .since_ns = 1000, .stack = 1, .kernel_sk = 5}, was, now;
	struct dmm_addr local = addr("10.0.0.1", 61000);

	f.remote = addr("10.0.0.2", 80);
	was = f;
	f.gated = 1; /* since the event */
	put(&f);
	CU_ASSERT_EQUAL(hold_set_local(hold, &was, &local), 0);
	now = f;
	now.local = local;
	CU_ASSERT(is_there(&now));

	f.remote = addr("10.0.0.3", 80);
	put(&f);
	CU_ASSERT_EQUAL(hold_set_local(hold, &was, &local), -ENOENT);
	CU_ASSERT(is_there(&f));
	f.remote = was.remote;
	f.since_ns++;
	put(&f);
	CU_ASSERT_EQUAL(hold_set_local(hold, &was, &local), -ENOENT);
	CU_ASSERT(is_there(&f));
	bpf_map_delete_elem(tree.map[TREE_PENDING], &f.cookie);
	CU_ASSERT_EQUAL(hold_set_local(hold, &was, &local), -ENOENT);
}

/* A flow of UDP whose socket is another's by now, and one that nobody knows. */
static void test_udp_gone(void)
{
	struct dmm_flow f = {.cookie = 78, .stack = 1};
	struct dmm_udp_key key = {.port = 5353};
	struct udp_seen seen = {0};
	socklen_t len = sizeof(key.netns);
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CU_ASSERT_EQUAL(getsockopt(s, SOL_SOCKET, SO_NETNS_COOKIE, &key.netns, &len), 0);
	close(s);
	f.local.port = 4000;
	CU_ASSERT_EQUAL(bpf_map_update_elem(tree.map[TREE_UDP], &key, &f, 0), 0);
	CU_ASSERT_EQUAL(hold_udp_port(hold, 5353, &seen), 4000);
	CU_ASSERT(seen.left && !seen.moved);
	hold_udp_forget(hold, 5353);
	CU_ASSERT_EQUAL(hold_udp_port(hold, 5353, &seen), 0);
	CU_ASSERT(seen.left);
}

struct found {
	unsigned n;
	dmm_u16 port;
	bool keep;
	bool others_go; /* as if another instance removed them meanwhile */
};

static bool on_udp(dmm_u16 port, const struct dmm_flow *f, void *ctx)
{
	struct found *found = ctx;

	CU_ASSERT_EQUAL(f->cookie, port);
	found->n++;
	found->port = port;
	for (unsigned i = 5001; found->others_go && i <= 5004; i++)
		if (i != port)
			hold_udp_forget(hold, (dmm_u16)i);
	return found->keep;
}

static int put_udp(dmm_u16 port, dmm_u8 stack, dmm_u16 thread, dmm_u64 netns)
{
	struct dmm_udp_key key = {.netns = netns, .port = port};
	struct dmm_flow f = {.cookie = port, .stack = stack, .thread = thread};

	return bpf_map_update_elem(tree.map[TREE_UDP], &key, &f, 0);
}

static bool has_udp(dmm_u16 port, dmm_u64 netns)
{
	struct dmm_udp_key key = {.netns = netns, .port = port};
	struct dmm_flow f;

	return bpf_map_lookup_elem(tree.map[TREE_UDP], &key, &f) == 0;
}

/* What an instance before has left: of this thread, of one that is not there any more, of another
 * stack, and of another network namespace. */
static void test_udp_flows(void)
{
	struct found found = {.keep = true};
	socklen_t len = sizeof(dmm_u64);
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	dmm_u64 netns = 0;

	CU_ASSERT_EQUAL(getsockopt(s, SOL_SOCKET, SO_NETNS_COOKIE, &netns, &len), 0);
	close(s);
	CU_ASSERT_EQUAL(put_udp(5001, 1, 0, netns), 0);
	CU_ASSERT_EQUAL(put_udp(5002, 1, 7, netns), 0);
	CU_ASSERT_EQUAL(put_udp(5003, 2, 0, netns), 0);
	CU_ASSERT_EQUAL(put_udp(5001, 1, 0, netns + 1), 0);
	hold_udp_flows(hold, on_udp, &found);
	CU_ASSERT_EQUAL(found.n, 1);
	CU_ASSERT_EQUAL(found.port, 5001);
	CU_ASSERT(hold_udp_known(hold, 5001) && !hold_udp_known(hold, 5002));
	CU_ASSERT(hold_udp_known(hold, 5003) && !has_udp(5001, netns + 1));
	found = (struct found){0};
	hold_udp_flows(hold, on_udp, &found);
	CU_ASSERT_EQUAL(found.n, 1);
	CU_ASSERT(!hold_udp_known(hold, 5001));
	for (unsigned i = 5001; i <= 5004; i++)
		CU_ASSERT_EQUAL(put_udp((dmm_u16)i, 1, 0, netns), 0);
	found = (struct found){.keep = true, .others_go = true};
	hold_udp_flows(hold, on_udp, &found);
	CU_ASSERT_EQUAL(found.n, 1);
	hold_udp_forget(hold, found.port);
	CU_ASSERT(!hold_udp_known(hold, found.port));
}

/* What a ring told of types of service. */
struct told {
	unsigned n;
	dmm_u64 cookie;
	uint8_t ip[2];
};

static void on_told(const struct dmm_event *ev, void *ctx)
{
	struct told *t = ctx;

	if (ev->type != DMM_EV_TOS)
		return;
	t->n++;
	t->cookie = ev->flow.cookie;
	memcpy(t->ip, ev->hdr, sizeof(t->ip));
}

/* A byte of the application; and what is told then. */
static struct told told_by(int app, int own)
{
	struct told t = {0};
	char byte = 0;

	CU_ASSERT_EQUAL(send(app, &byte, 1, 0), 1);
	CU_ASSERT_EQUAL(recv(own, &byte, 1, MSG_WAITALL), 1);
	CU_ASSERT(hold_poll(hold, on_told, &t) >= 0);
	return t;
}

static void set_tos(int fd, bool v6, int tos)
{
	int r = v6 ? setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos))
		   : setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));

	CU_ASSERT_EQUAL(r, 0);
}

/* The instance's end of a carrier, connected to an application's listener. */
static int join(bool v6, int *ret_app)
{
	struct dmm_addr a = addr(v6 ? "::1" : "127.0.0.1", 0);
	struct sockaddr_storage sa;
	socklen_t len = addr_to_sockaddr(&a, &sa);
	int l = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int own = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CU_ASSERT_FATAL(!bind(l, (struct sockaddr *)&sa, len) && !listen(l, 1) &&
			!getsockname(l, (struct sockaddr *)&sa, &len));
	CU_ASSERT_EQUAL(hold_attach(hold, own), 0);
	CU_ASSERT_EQUAL_FATAL(connect(own, (struct sockaddr *)&sa, len), 0);
	*ret_app = accept(l, NULL, NULL);
	close(l);
	return own;
}

/* It is told until the instance's end has the same, and of no reset. */
static void tos_of(bool v6)
{
	struct linger reset = {.l_onoff = 1};
	int app, own = join(v6, &app);
	socklen_t len = sizeof(dmm_u64);
	unsigned before = hold_tos_told(hold);
	struct told t;
	dmm_u64 cookie;

	CU_ASSERT_EQUAL(getsockopt(own, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
	CU_ASSERT_EQUAL(told_by(app, own).n, 0);
	set_tos(app, v6, 0xb8);
	t = told_by(app, own);
	CU_ASSERT(t.n == 1 && t.cookie == cookie);
	CU_ASSERT_EQUAL(v6 ? (t.ip[0] << 4 | t.ip[1] >> 4) & 0xff : t.ip[1], 0xb8);
	CU_ASSERT_EQUAL(told_by(app, own).n, 1);
	CU_ASSERT_EQUAL(hold_tos_told(hold), before + 2);
	set_tos(own, v6, 0xb8);
	CU_ASSERT_EQUAL(told_by(app, own).n, 0);
	set_tos(app, v6, 0);
	CU_ASSERT_EQUAL(told_by(app, own).n, 1);
	setsockopt(app, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(app);
	CU_ASSERT_EQUAL(hold_tos_told(hold), before + 3);
	close(own);
}

static void test_tos(void)
{
	tos_of(false);
	tos_of(true);
}

/* Keepalives that a ring told of, and of whose end. */
struct asked {
	unsigned n;
	dmm_u64 cookie;
};

static void on_asked(const struct dmm_event *ev, void *ctx)
{
	struct asked *a = ctx;

	if (ev->type != DMM_EV_KEEPALIVE)
		return;
	a->n++;
	a->cookie = ev->flow.cookie;
	CU_ASSERT(ev->hdr_len >= ev->l4_off + 20);
}

/* What is told in so many milliseconds, or until something is. */
static struct asked asked_in(unsigned ms)
{
	struct asked a = {0};

	for (unsigned i = 0; i < ms / 10 && !a.n; i++) {
		CU_ASSERT(hold_poll(hold, on_asked, &a) >= 0);
		usleep(10000);
	}
	return a;
}

/* A keepalive is told, but with options of IP, which the instance could not send again; a question
 * for a window that was closed is not. */
static void keepalive_of(bool v6)
{
	static const uint8_t nops[4] = {1, 1, 1, 0}, padding[8] = {0, 0, 1, 4};
	static char some[65536];
	int app, own = join(v6, &app), on = 1;
	socklen_t len = sizeof(dmm_u64);
	struct asked a;
	dmm_u64 cookie;

	CU_ASSERT_EQUAL(getsockopt(own, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
	setsockopt(app, IPPROTO_TCP, TCP_KEEPIDLE, &on, sizeof(on));
	setsockopt(app, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	a = asked_in(10000);
	CU_ASSERT(a.n == 1 && a.cookie == cookie);
	if (v6)
		setsockopt(app, IPPROTO_IPV6, IPV6_DSTOPTS, padding, sizeof(padding));
	else
		setsockopt(app, IPPROTO_IP, IP_OPTIONS, nops, sizeof(nops));
	CU_ASSERT_EQUAL(asked_in(2500).n, 0);
	on = 0;
	setsockopt(app, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	while (send(app, some, sizeof(some), MSG_DONTWAIT) > 0)
		;
	CU_ASSERT_EQUAL(asked_in(1500).n, 0);
	close(app);
	close(own);
}

static void test_keepalive(void)
{
	keepalive_of(false);
	keepalive_of(true);
}

static bool has_ring(dmm_u32 thread)
{
	dmm_u32 key = DMM_EVENTS_INDEX(2, thread), id;

	return bpf_map_lookup_elem(tree.map[TREE_EVENTS], &key, &id) == 0;
}

/* An instance of two threads was killed, and the next has one: nobody reads the other ring. */
static void test_ring_left(void)
{
	struct hold *killed, *next;

	CU_ASSERT_EQUAL_FATAL(hold_open(&killed, &tree, 2, 1), 0);
	CU_ASSERT(has_ring(1));
	CU_ASSERT_EQUAL_FATAL(hold_open(&next, &tree, 2, 0), 0);
	CU_ASSERT(has_ring(0));
	CU_ASSERT(!has_ring(1));
	hold_close(next);
	hold_close(killed);
}

static unsigned offered(void)
{
	struct dmm_udp_free f = {0};
	dmm_u32 stack = 2;
	unsigned n = 0;

	CU_ASSERT_EQUAL(bpf_map_lookup_elem(tree.map[TREE_UDP_FREE], &stack, &f), 0);
	for (unsigned i = 0; i < DMM_UDP_FREE; i++)
		n += !!f.carrier[i];
	return n;
}

/* Which place of those offered has a carrier of this port; DMM_UDP_FREE: none. */
static unsigned place_of(dmm_u16 port, unsigned thread)
{
	struct dmm_udp_free f = {0};
	dmm_u32 stack = 2;
	unsigned i = 0;

	CU_ASSERT_EQUAL(bpf_map_lookup_elem(tree.map[TREE_UDP_FREE], &stack, &f), 0);
	while (i < DMM_UDP_FREE && f.carrier[i] != DMM_UDP_CARRIER(port, thread))
		i++;
	return i;
}

/* What is taken next is offered first; each thread has its own places. */
static void test_udp_order(void)
{
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct dmm_udp_free f = {.next = 101};
	struct hold *thread[2];
	dmm_u32 stack = 2;

	tree.rt[2].threads = 2;
	CU_ASSERT_EQUAL_FATAL(bpf_map_update_elem(tree.map[TREE_UDP_FREE], &stack, &f, 0), 0);
	for (unsigned i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL_FATAL(hold_open(&thread[i], &tree, 2, i), 0);
		CU_ASSERT_EQUAL(hold_udp_offer(thread[i], s, (dmm_u16)(5000 + i)), 0);
	}
	CU_ASSERT_EQUAL(place_of(5000, 0), 102);
	CU_ASSERT_EQUAL(place_of(5001, 1), 101);
	for (unsigned i = 0; i < 2; i++) {
		hold_udp_withdraw(thread[i]);
		hold_close(thread[i]);
	}
	tree.rt[2].threads = 0;
	close(s);
}

/* A thread that closes takes back its own UDP carriers, and not those of the other. */
static void test_udp_withdraw(void)
{
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct hold *thread[2];

	tree.rt[2].threads = 2;
	for (unsigned i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL_FATAL(hold_open(&thread[i], &tree, 2, i), 0);
		CU_ASSERT_EQUAL(hold_udp_offer(thread[i], s, (dmm_u16)(5000 + i)), 0);
	}
	CU_ASSERT_EQUAL(offered(), 2);
	hold_udp_withdraw(thread[1]);
	CU_ASSERT_EQUAL(offered(), 1);
	hold_udp_withdraw(thread[1]);
	CU_ASSERT_EQUAL(offered(), 1);
	hold_udp_withdraw(thread[0]);
	CU_ASSERT_EQUAL(offered(), 0);
	for (unsigned i = 0; i < 2; i++)
		hold_close(thread[i]);
	tree.rt[2].threads = 0;
	close(s);
}

static int setup(void)
{
	snprintf(path, sizeof(path), "/sys/fs/bpf/dmm-test-%d", getpid());
	return tree_install(&tree, path) < 0 || hold_open(&hold, &tree, 1, 0) < 0 ? -1 : 0;
}

static int teardown(void)
{
	hold_close(hold);
	tree_close(&tree);
	return tree_teardown(path) < 0 ? -1 : 0;
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"the engine's address", test_set_local},
		{"a UDP socket that is gone", test_udp_gone},
		{"flows of UDP that an instance has left", test_udp_flows},
		{"types of service", test_tos},
		{"keepalives", test_keepalive},
		{"a ring that was left", test_ring_left},
		{"order of carriers", test_udp_order},
		{"carriers of a thread that closes", test_udp_withdraw},
		CU_TEST_INFO_NULL,
	};
	int r = bpf_skip();

	log_init("test_hold", LOG_L_INFO);
	return r ? r : bpf_run("hold", setup, teardown, tests);
}
