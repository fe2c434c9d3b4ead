// SPDX-License-Identifier: Apache-2.0
/* Groups that get another name or go while sockets live in them, and another build's programs. */
#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <bpf/bpf.h>

#include "match.skel.h"

#include "bpf/dmm_flows.h"
#include "lib/base/util.h"
#include "loader/attach.h"
#include "loader/cgroup.h"
#include "loader/hold.h"
#include "loader/maps.h"
#include "tests/bpf/tree.h"

/* Is pid a member of the group's cgroup? */
static bool member(pid_t pid)
{
	char file[64], line[256] = "";
	bool found = false;
	FILE *f;

	snprintf(file, sizeof(file), "/proc/%d/cgroup", pid);
	f = fopen(file, "re");
	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, group_cgroup))
			found = true;
	if (f)
		fclose(f);
	return found;
}

/* A group that gets another name and keeps its cgroup keeps its members too. */
void test_rename_group(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	CU_ASSERT_EQUAL(cgroup_join(group_cgroup, pid), 0);
	class->group[2] = class->group[1];
	strcpy(class->group[2].name, "www");
	memset(&class->group[1], 0, sizeof(class->group[1]));
	rule_group = 2;
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT(member(pid));
	CU_ASSERT_EQUAL(in_group(do_accepted_congestion), 0);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

/* Announce one listener of group `from` as BPF would, and give the group another name while its
 * instance writes to the record: neither loses what the other wrote. */
void test_rename_listener(void)
{
	struct dmm_listener l = {.cookie = 99, .group = 2, .stack = 2}, now;
	int listen = tree.map[TREE_LISTEN];
	struct hold *h;
	dmm_u8 off = 0;
	pid_t pid;

	CU_ASSERT_EQUAL_FATAL(hold_open(&h, &tree, 2, 0), 0);
	CU_ASSERT_EQUAL(bpf_map_update_elem(listen, &l.cookie, &l, 0), 0);
	pid = fork();
	if (pid == 0) {
		struct dmm_regroup there = {.from = 2, .to = 3}, back = {.from = 3, .to = 2};
		LIBBPF_OPTS(bpf_test_run_opts, a, .ctx_in = &there, .ctx_size_in = sizeof(there));
		LIBBPF_OPTS(bpf_test_run_opts, b, .ctx_in = &back, .ctx_size_in = sizeof(back));
		int prog = tree_prog(&tree, "dmm_regroup");

		for (int i = 0; i < 100; i++)
			if (bpf_prog_test_run_opts(prog, &a) < 0 ||
			    bpf_prog_test_run_opts(prog, &b) < 0)
				_exit(1);
		_exit(bpf_prog_test_run_opts(prog, &a) < 0);
	}
	for (int status = 0; waitpid(pid, &status, WNOHANG) == 0;) {
		off = !off;
		CU_ASSERT_EQUAL_FATAL(hold_listener_off(h, l.cookie, off), 0);
		CU_ASSERT_EQUAL(bpf_map_lookup_elem(listen, &l.cookie, &now), 0);
		CU_ASSERT_EQUAL_FATAL(now.off, off);
	}
	CU_ASSERT_EQUAL(bpf_map_lookup_elem(listen, &l.cookie, &now), 0);
	CU_ASSERT_EQUAL(now.group, 3);
	CU_ASSERT_EQUAL(now.off, off);
	bpf_map_delete_elem(listen, &l.cookie);
	CU_ASSERT_EQUAL(hold_listener_off(h, l.cookie, 1), -ENOENT);
	hold_close(h);
}

static char below[80]; /* a cgroup in the group's */

static bool has_link(const char *prog)
{
	char file[192];

	snprintf(file, sizeof(file), "%s/links/%s/%s", path, class->group[rule_group].name, prog);
	return access(file, F_OK) == 0;
}

/* A process of the group that listens until it is killed. */
static pid_t start_listener(void)
{
	unsigned port;
	int p[2];
	pid_t pid;
	char c;

	if (pipe(p) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		if (cgroup_join(group_cgroup, 0) < 0 || listen_on("127.0.0.1", &port) < 0 ||
		    write(p[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	close(p[1]);
	if (read(p[0], &c, 1) != 1)
		pid = -1;
	close(p[0]);
	return pid;
}

/* Programs are attached before a rule needs them, and go when none does and no socket is left that
 * was decided by one. */
void test_attached(void)
{
	pid_t pid;

	rule(0, "far", "127.0.0.0/8", 0, DMM_STACK_KERNEL);
	rule_group = 1;
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT(has_link("dmm_connect4"));
	CU_ASSERT(!has_link("dmm_sockops"));
	CU_ASSERT(!has_link("dmm_peername4"));
	rule(0, "far", "127.0.0.0/8", 0, 2);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT(has_link("dmm_sockops"));
	CU_ASSERT(has_link("dmm_peername4"));
	CU_ASSERT(has_link("dmm_release"));
	rule(0, "far", NULL, 0, DMM_STACK_KERNEL);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT(has_link("dmm_sockops"));
	CU_ASSERT(!has_link("dmm_peername4"));
	pid = start_listener();
	CU_ASSERT_FATAL(pid > 0);
	rule(0, "far", "127.0.0.0/8", 0, DMM_STACK_KERNEL);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT(has_link("dmm_sockops"));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT(!has_link("dmm_sockops"));
	CU_ASSERT(has_link("dmm_connect6"));
}

static int do_accept_below(void)
{
	unsigned port;
	int l, c;

	if (cgroup_join(below, 0) < 0)
		return 1;
	l = listen_on("127.0.0.1", &port);
	c = connect_to("127.0.0.1", port);
	return l < 0 || c < 0 || accept(l, NULL, NULL) < 0;
}

/* Another program that is attached below the group, and so runs first, goes on to be told the
 * states that it asked for. */
void test_other_sockops(void)
{
	struct match_bpf *skel = match_bpf__open();
	unsigned made, left;
	int cgroup, link;

	snprintf(below, sizeof(below), "%s/below", group_cgroup);
	CU_ASSERT_FATAL(skel && tree_reuse_maps(&tree, skel->obj) == 0 &&
			match_bpf__load(skel) == 0);
	CU_ASSERT_EQUAL_FATAL(cgroup_open(below, true, &cgroup, &made), 0);
	link = bpf_link_create(bpf_program__fd(skel->progs.other_sockops), cgroup,
			       BPF_CGROUP_SOCK_OPS, NULL);
	CU_ASSERT(link >= 0);
	rule(0, "far", NULL, 0, DMM_STACK_KERNEL);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT(has_link("dmm_sockops"));
	CU_ASSERT_EQUAL(in_group(do_accept_below), 0);
	for (int i = 0; i < 500 && !skel->bss->other_closed; i++)
		usleep(10000);
	CU_ASSERT_EQUAL(skel->bss->other_closed, 1);
	close(link);
	close(cgroup);
	match_bpf__destroy(skel);
	CU_ASSERT_EQUAL(cgroup_remove(below, made, &left), 0);
}

static int do_come_and_go(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (uint64_t end = now_ns() + 1500000000ULL; now_ns() < end;) {
		int u = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		if (u < 0 || connect(u, (struct sockaddr *)&to, sizeof(to)) < 0)
			return 1;
		close(u);
	}
	return 0;
}

/* Sockets that come and go while their group gets another name: none is there longer than it is. */
void test_rename_busy(void)
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0)
		_exit(cgroup_join(group_cgroup, 0) < 0 ? 1 : do_come_and_go());
	for (unsigned n = 0; n % 2 || waitpid(pid, &status, WNOHANG) == 0; n++) {
		unsigned from = n % 2 ? 1 : 2, to = 3 - from;

		class->group[to] = class->group[from];
		memset(&class->group[from], 0, sizeof(class->group[from]));
		strcpy(class->group[to].name, to == 1 ? "web" : "www");
		rule_group = to;
		CU_ASSERT_EQUAL(commit(), 0);
	}
	CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CU_ASSERT_EQUAL(flows_of_pid(pid), 0);
}

static int pending_of(unsigned group)
{
	dmm_u64 *prev = NULL, key, next;
	struct dmm_flow flow;
	int n = 0;

	while (bpf_map_get_next_key(tree.map[TREE_PENDING], prev, &next) == 0) {
		key = next;
		prev = &key;
		n += bpf_map_lookup_elem(tree.map[TREE_PENDING], &key, &flow) == 0 &&
		     flow.group == group;
	}
	return n;
}

/*
 * A group that goes takes what the maps hold of it along: nobody would withdraw its listeners and
 * connects any more. One that shares a made directory with others leaves it to them.
 */
void test_drop_group(void)
{
	struct dmm_listener l = {.cookie = 77, .group = 3};
	struct dmm_flow flow = {.cookie = 78, .group = 3};
	struct dmm_tuple t = {.netns = 79};
	struct dmm_plain plain = {.cookie = 80, .sk = 1, .group = 3};
	struct dmm_plain filling = {.cookie = DMM_PLAIN_BUSY, .sk = 2, .group = 3};
	dmm_u32 slot = 80, slot_filling = 81;

	strcpy(class->group[3].name, "api");
	snprintf(class->group[3].cgroup, sizeof(class->group[3].cgroup), "dmm-test-%d/api",
		 getpid());
	CU_ASSERT_EQUAL(commit(), 0);
	bpf_map_update_elem(tree.map[TREE_LISTEN], &l.cookie, &l, 0);
	bpf_map_update_elem(tree.map[TREE_PENDING], &flow.cookie, &flow, 0);
	bpf_map_update_elem(tree.map[TREE_TUPLE], &t, &flow.cookie, 0);
	bpf_map_update_elem(tree.map[TREE_PLAIN], &slot, &plain, 0);
	bpf_map_update_elem(tree.map[TREE_PLAIN], &slot_filling, &filling, 0);
	CU_ASSERT_EQUAL(pending_of(3), 1);
	strcpy(class->group[4].name, "late");
	snprintf(class->group[4].cgroup, sizeof(class->group[4].cgroup), "dmm-test-%d/late",
		 getpid());
	memset(&class->group[3], 0, sizeof(class->group[3]));
	memset(&class->group[2], 0, sizeof(class->group[2]));
	rule_group = 0;
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(pending_of(3), 0);
	bpf_map_lookup_elem(tree.map[TREE_PLAIN], &slot, &plain);
	bpf_map_lookup_elem(tree.map[TREE_PLAIN], &slot_filling, &filling);
	CU_ASSERT_EQUAL(plain.sk, 0);
	CU_ASSERT_EQUAL(filling.sk, 2);
	filling.cookie = 0;
	bpf_map_update_elem(tree.map[TREE_PLAIN], &slot_filling, &filling, 0);
	/* its listener gets connections until the instance has seen that it is withdrawn: what
	 * tells their names stays attached so long */
	CU_ASSERT(attach_has_left(&tree));
	CU_ASSERT(bpf_map_lookup_elem(tree.map[TREE_LISTEN], &l.cookie, &l) < 0);
	CU_ASSERT(bpf_map_lookup_elem(tree.map[TREE_TUPLE], &t, &flow.cookie) < 0);
}

/* The program that a pinned link points to. */
static dmm_u32 linked(const char *name)
{
	struct bpf_link_info info = {};
	dmm_u32 len = sizeof(info);
	char file[128];
	int fd;

	snprintf(file, sizeof(file), "%s/links/%s", path, name);
	fd = bpf_obj_get(file);
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return 0;
	close(fd);
	return info.prog_id;
}

/* Another build's programs replace those of the tree, also after an upgrade that was killed. */
void test_upgrade(void)
{
	dmm_u32 msg = linked("dmm_msg"), sockops = linked("late/dmm_sockops");
	char progs[128], old[128];
	struct tree again;

	CU_ASSERT(sockops != 0);
	tree.meta->build = 1;
	snprintf(progs, sizeof(progs), "%s/progs", path);
	snprintf(old, sizeof(old), "%s/progs-old", path);
	CU_ASSERT_EQUAL(rename(progs, old), 0);
	CU_ASSERT_EQUAL_FATAL(tree_install(&again, path), 0);
	tree_close(&again);
	CU_ASSERT(linked("late/dmm_sockops") != sockops);
	if (msg) /* kernels before 6.10 have no link for it */
		CU_ASSERT(linked("dmm_msg") != msg);
}

/* Maps of a build that came later are not touched, and nothing of them is read in part. */
void test_newer_abi(void)
{
	dmm_u32 slot = tree.meta->generation & 1, id, key = 0;
	struct dmm_class *read = class_new();
	dmm_u64 generation = tree.meta->generation;
	struct dmm_cell cell;
	struct tree again;
	int image;

	tree.meta->abi++;
	CU_ASSERT_EQUAL(tree_open(&again, path), -EPROTO);
	CU_ASSERT_EQUAL(tree_install(&again, path), -EPROTO);
	tree.meta->abi--;
	CU_ASSERT_EQUAL(tree.meta->generation, generation);
	CU_ASSERT_EQUAL(tree_open(&again, path), 0);
	tree_close(&again);

	CU_ASSERT_EQUAL_FATAL(bpf_map_lookup_elem(tree.map[TREE_IMAGE], &slot, &id), 0);
	image = bpf_map_get_fd_by_id(id);
	CU_ASSERT_EQUAL_FATAL(bpf_map_lookup_elem(image, &key, &cell), 0);
	cell.w[0]++; /* struct dmm_class_hdr.abi */
	bpf_map_update_elem(image, &key, &cell, 0);
	CU_ASSERT_EQUAL(maps_read(&tree, read, NULL), -EPROTO);
	CU_ASSERT_EQUAL(read->hdr.rules, 0);
	cell.w[0]--;
	bpf_map_update_elem(image, &key, &cell, 0);
	CU_ASSERT_EQUAL(maps_read(&tree, read, NULL), 0);
	close(image);
	class_free(read);
}
