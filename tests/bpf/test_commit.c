// SPDX-License-Identifier: Apache-2.0
/*
 * A commit that fails or is killed leaves one policy in force, and all of it: each call of bpf() of
 * a commit fails once, and the committing process is killed once before each of them and many times
 * anywhere between. libbpf calls the kernel through syscall(), which is this program's own.
 */
#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "match.skel.h"

#include "lib/base/log.h"
#include "loader/cgroup.h"
#include "loader/maps.h"
#include "policyd/policy.h"
#include "tests/bpf/match.h"
#include "tests/unit/unit.h"
#include "tests/bpf/run.h"

long syscall(long number, ...);

static char path[64];
static struct tree tree;
static struct match_bpf *skel;
static struct dmm_class *one, *two;

/* ---- faults ---- */

static enum { NOTHING, FAIL, KILL } fault;
static int fault_errno = ENOMEM;
static unsigned calls, fault_at; /* counted from 1 while there is a fault to come */

long syscall(long number, ...)
{
	static long (*real)(long number, ...);
	long a[6];
	va_list ap;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "syscall");
	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_bpf && fault != NOTHING && ++calls == fault_at) {
		if (fault == KILL)
			kill(getpid(), SIGKILL);
		errno = fault_errno;
		return -1;
	}
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- two policies that have little in common ---- */

/* n rules for remote ports from `first` on, for a stack; the names end with the stack. A group is
 * of one of them alone, another of both. */
static struct dmm_class *make(const char *stack, unsigned n, unsigned first,
			      const struct dmm_class *prev)
{
	struct dmm_class *c = class_new();
	struct policy_diags d = {0};
	struct dmm_policy *p = NULL;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	fprintf(out,
		"groups: {%1$s: {cgroup: dmm-commit-%2$d/%1$s}, both: {cgroup: "
		"dmm-commit-%2$d/both}}\n"
		"stacks: {%1$s: {kind: kernel, mark: %3$u}}\nrules:\n",
		stack, getpid(), n);
	for (unsigned i = 0; i < n; i++)
		fprintf(out,
			"  - {name: r%u-%s, match: {remote: 10.%u.%u.0/24, remote_port: %u}, use: "
			"%s}\n",
			i, stack, i / 200, i % 200, first + i, stack);
	fprintf(out, "default: %s\n", stack);
	fclose(out);
	if (policy_parse_text("t", text, len, &p, &d) < 0 || class_compile(p, prev, c) < 0)
		abort();
	policy_free(p);
	policy_diags_fini(&d);
	free(text);
	return c;
}

static bool either(const struct answer *a, const struct eval_socket *s)
{
	return a->rule == eval_rule(one, s) || a->rule == eval_rule(two, s);
}

/* What the kernel decides is c's answer, for some sockets of either policy. */
static bool kernel_decides_by(const struct dmm_class *c)
{
	for (unsigned i = 0; i < 1100; i += 13) {
		struct question q = {.proto = 6};
		LIBBPF_OPTS(bpf_test_run_opts, o, .ctx_in = &q, .ctx_size_in = sizeof(q));
		struct eval_socket s = {.proto = 6};

		s.remote.ip[10] = s.remote.ip[11] = 0xff;
		s.remote.ip[12] = 10;
		s.remote.ip[13] = (dmm_u8)(i / 200);
		s.remote.ip[14] = (dmm_u8)(i % 200);
		s.remote.port = (dmm_u16)((i % 2 ? 1000 : 20000) + i);
		q.remote = s.remote;
		if (bpf_prog_test_run_opts(bpf_program__fd(skel->progs.dmm_ask), &o) < 0 ||
		    q.first.rule != eval_rule(c, &s) || q.again.rule != q.first.rule)
			return false;
	}
	return true;
}

/* Whoever is in a group of the policy is managed by it. */
static bool attached(const struct dmm_class *c)
{
	char file[160];

	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++) {
		snprintf(file, sizeof(file), "%s/links/%s/dmm_connect4", path, c->group[i].name);
		if (c->group[i].name[0] && access(file, F_OK) < 0)
			return false;
	}
	return true;
}

/* Attached are also groups that are to come or to go: none of them is told. */
static bool same_policy(const struct dmm_class *now, const struct dmm_class *c)
{
	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++)
		if (strcmp(now->group[i].name, c->group[i].name) != 0)
			return false;
	return class_equal(now, c);
}

/* A cgroup of make(). */
static bool has_cgroup(const char *name)
{
	char full[256], rel[96];

	snprintf(rel, sizeof(rel), "dmm-commit-%d%s%s", getpid(), *name ? "/" : "", name);
	return cgroup_path(rel, full, sizeof(full)) == 0 && access(full, F_OK) == 0;
}

static dmm_u64 clients(unsigned reason)
{
	static dmm_u64 v[DMM_MAX_STACKS * DMM_ROLES * DMM_REASON_SPACE];
	dmm_u64 n = 0;

	maps_verdicts(&tree, v);
	for (unsigned i = 0; i < DMM_MAX_STACKS; i++)
		n += v[DMM_VERDICT_INDEX(i, DMM_ROLE_CLIENT, reason)];
	return n;
}

/* A socket of a group that c does not have is judged by nothing of c, whatever is attached. */
static bool judges_its_own(const struct dmm_class *c, const char *name)
{
	dmm_u64 by_default = clients(DMM_REASON_DEFAULT), managed = class_group(c, name) > 0;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
	char cgroup[64];
	int status;
	pid_t pid;

	if (!has_cgroup(name))
		return true;
	snprintf(cgroup, sizeof(cgroup), "dmm-commit-%d/%s", getpid(), name);
	pid = fork();
	if (pid == 0) {
		to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		_exit(cgroup_join(cgroup, 0) < 0 ||
		      connect(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), (struct sockaddr *)&to,
			      sizeof(to)) < 0);
	}
	waitpid(pid, &status, 0);
	return status == 0 && clients(DMM_REASON_DEFAULT) == by_default + managed;
}

/* Which of the two is in force, all of it; NULL: neither. */
static struct dmm_class *in_force(void)
{
	struct dmm_class *now = class_new(), *is = NULL;

	if (maps_read(&tree, now, NULL) == 0)
		is = same_policy(now, one) ? one : same_policy(now, two) ? two : NULL;
	class_free(now);
	return is && kernel_decides_by(is) ? is : NULL;
}

static struct dmm_class *other(const struct dmm_class *c)
{
	return c == one ? two : one;
}

static void start_from(struct dmm_class *c)
{
	fault = NOTHING;
	CU_ASSERT_EQUAL_FATAL(maps_commit(&tree, c, NULL), 0);
	CU_ASSERT_PTR_EQUAL_FATAL(in_force(), c);
}

/* ---- tests ---- */

/* Memory or room is what lacks. */
static void test_fail(void)
{
	unsigned failed = 0, borne = 0;
	int r;

	start_from(one);
	for (unsigned at = 1;; at++) {
		struct dmm_class *before = in_force(), *after;

		CU_ASSERT_PTR_NOT_NULL_FATAL(before);
		calls = 0;
		fault_at = at;
		fault_errno = at % 2 ? ENOMEM : E2BIG;
		fault = FAIL;
		r = maps_commit(&tree, other(before), NULL);
		fault = NOTHING;
		if (calls < at)
			break;
		failed += r < 0;
		borne += r == 0; /* after the switch, or one that can be done without */
		after = in_force();
		CU_ASSERT_PTR_EQUAL_FATAL(after, r < 0 ? before : other(before));
		CU_ASSERT_TRUE_FATAL(attached(after));
	}
	CU_ASSERT_EQUAL(r, 0);
	CU_ASSERT(failed > 10);
	CU_ASSERT(borne < 500); /* rules are not settled one by one */
	printf("%u calls failed the commit, %u did not; ", failed, borne);
}

/* In a child; how it ended. */
static int commit_in_child(struct dmm_class *c, unsigned kill_at, unsigned usec)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		calls = 0;
		fault_at = kill_at;
		fault = kill_at ? KILL : NOTHING;
		_exit(maps_commit(&tree, c, NULL) == 0 ? 0 : 1);
	}
	if (usec) {
		usleep(usec);
		kill(pid, SIGKILL);
	}
	waitpid(pid, &status, 0);
	return status;
}

static void test_kill(void)
{
	unsigned old = 0, new = 0;

	start_from(one);
	for (unsigned at = 1;; at++) {
		struct dmm_class *before = in_force(), *after;
		int status;

		CU_ASSERT_PTR_NOT_NULL_FATAL(before);
		status = commit_in_child(other(before), at, 0);
		after = in_force();
		CU_ASSERT_PTR_NOT_NULL_FATAL(after);
		CU_ASSERT_TRUE_FATAL(attached(after));
		CU_ASSERT_TRUE_FATAL(judges_its_own(after, "a"));
		CU_ASSERT_TRUE_FATAL(judges_its_own(after, "b"));
		if (WIFEXITED(status)) {
			CU_ASSERT_EQUAL(WEXITSTATUS(status), 0);
			CU_ASSERT_PTR_EQUAL(after, other(before));
			break;
		}
		old += after == before;
		new += after != before;
	}
	CU_ASSERT(old > 10);
	printf("killed at %u calls, %u of them after the switch; ", old + new, new);
}

/* What was made for a group is found and removed, wherever its commit was killed. */
static void test_kill_directories(void)
{
	struct dmm_class *none = class_new(), *begun = make("a", 1, 1000, NULL);

	memcpy(none->stack, one->stack, sizeof(none->stack));
	none->hdr.stacks = none->hdr.n_use = 1;
	for (unsigned at = 1;; at++) {
		int status;

		CU_ASSERT_EQUAL_FATAL(maps_commit(&tree, none, NULL), 0);
		CU_ASSERT_FALSE_FATAL(has_cgroup(""));
		status = commit_in_child(begun, at, 0);
		if (WIFEXITED(status))
			break;
	}
	CU_ASSERT_EQUAL(maps_commit(&tree, none, NULL), 0);
	CU_ASSERT_FALSE(has_cgroup(""));
	class_free(begun);
	class_free(none);
}

static void test_kill_anywhere(void)
{
	struct rng r = {.state = 3};
	unsigned old = 0, new = 0;

	start_from(one);
	for (int i = 0; i < 300; i++) {
		struct dmm_class *before = in_force(), *after;

		CU_ASSERT_PTR_NOT_NULL_FATAL(before);
		commit_in_child(other(before), 0, 1 + rng_below(&r, i % 2 ? 3000 : 30000));
		after = in_force();
		CU_ASSERT_PTR_NOT_NULL_FATAL(after);
		CU_ASSERT_TRUE_FATAL(attached(after));
		old += after == before;
		new += after != before;
	}
	start_from(one);
	start_from(two);
	printf("old %u, new %u; ", old, new);
}

/* Decisions go on while policies are switched, and each is of one policy. */
static void test_switching(void)
{
	int status = -1;
	unsigned decided = 0, wrong = 0;
	pid_t pid;

	start_from(one);
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 60; i++)
			if (maps_commit(&tree, i % 2 ? one : two, NULL) < 0)
				_exit(1);
		_exit(0);
	}
	while (waitpid(pid, &status, WNOHANG) == 0) {
		struct question q = {.proto = 6, .cookie = 1};
		LIBBPF_OPTS(bpf_test_run_opts, o, .ctx_in = &q, .ctx_size_in = sizeof(q));
		struct eval_socket s = {.proto = 6};

		s.remote.ip[10] = s.remote.ip[11] = 0xff;
		s.remote.ip[12] = 10;
		s.remote.ip[14] = (dmm_u8)(decided % 200);
		s.remote.port = (dmm_u16)(1000 + decided % 200);
		q.remote = s.remote;
		wrong += bpf_prog_test_run_opts(bpf_program__fd(skel->progs.dmm_ask), &o) < 0 ||
			 !either(&q.first, &s) || !either(&q.again, &s);
		decided++;
	}
	CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT(decided > 0);
	printf("%u decisions; ", decided);
}

static int setup(void)
{
	snprintf(path, sizeof(path), "/sys/fs/bpf/dmm-commit-%d", getpid());
	if (tree_install(&tree, path) < 0)
		return -1;
	skel = match_bpf__open();
	if (!skel || tree_reuse_maps(&tree, skel->obj) < 0 || match_bpf__load(skel) < 0)
		return -1;
	one = make("a", 700, 1000, NULL);
	two = make("b", 1100, 20000, one);
	return 0;
}

static int teardown(void)
{
	class_free(one);
	class_free(two);
	match_bpf__destroy(skel);
	tree_close(&tree);
	return tree_teardown(path);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"each call fails once", test_fail},
		{"killed before each call", test_kill},
		{"directories of who was killed", test_kill_directories},
		{"killed anywhere", test_kill_anywhere},
		{"decisions while policies are switched", test_switching},
		CU_TEST_INFO_NULL,
	};
	int r = bpf_skip();

	log_init("test_commit", LOG_L_ERROR - 1); /* what fails here shall fail */
	return r ? r : bpf_run("commit", setup, teardown, tests);
}
