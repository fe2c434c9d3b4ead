// SPDX-License-Identifier: Apache-2.0
/*
 * Supervision of real processes. The program is its own fake dmm-stackd: run by that name, it does
 * what its --engine says.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/supervise.h"
#include "tests/unit/unit.h"

#define MS 1000000ULL
#define SECOND (1000 * MS)

static char dir[] = "/tmp/dmm-test-supervise-XXXXXX", program[sizeof(dir) + 16];
static struct tree tree;
static struct supervisor sup;
static struct dmm_class *class;

/* ---- the fake ---- */

static int fake(int argc, char **argv)
{
	const char *engine = "";

	for (int i = 1; i < argc - 1; i++)
		if (strcmp(argv[i], "--engine") == 0)
			engine = argv[i + 1];
	if (strcmp(engine, "exit3") == 0)
		return 3;
	if (strcmp(engine, "stranger") == 0 && setuid(65534) < 0)
		return 4;
	if (strcmp(engine, "stubborn") == 0)
		signal(SIGTERM, SIG_IGN);
	alarm(60); /* whatever happens to the test */
	while (strcmp(engine, "spin") == 0)
		continue;
	for (;;)
		pause();
}

/* ---- helpers ---- */

static void set_stack(unsigned id, const char *name, const char *engine)
{
	struct dmm_stack_rec *r = &class->stack[id];

	memset(r, 0, sizeof(*r));
	if (!engine)
		return;
	r->kind = DMM_KIND_USERSPACE;
	snprintf(r->name, sizeof(r->name), "%s", name);
	snprintf(r->engine, sizeof(r->engine), "%s", engine);
	snprintf(r->driver, sizeof(r->driver), "xsk");
	snprintf(r->interface, sizeof(r->interface), "dmm-test0");
}

static void run_ms(unsigned ms)
{
	uint64_t end = now_ns() + ms * MS;

	do {
		CU_ASSERT_EQUAL(loop_run(sup.epfd, 5), 0);
		supervise_tick(&sup, now_ns());
	} while (now_ns() < end);
}

static void wait_state(unsigned id, enum inst_state state)
{
	for (int i = 0; i < 600 && sup.inst[id].state != state; i++)
		run_ms(5);
	CU_ASSERT_EQUAL(sup.inst[id].state, state);
}

static void wait_asleep(pid_t pid)
{
	char state = 0;

	for (int i = 0; i < 2000 && state != 'S'; i++) {
		usleep(5000);
		(void)instance_cpu_ns(pid, &state);
	}
	CU_ASSERT_EQUAL(state, 'S');
}

/* It runs, and not only what comes before its main(). */
static void wait_spins(pid_t pid)
{
	for (int i = 0; i < 2000 && instance_cpu_ns(pid, NULL) < 200 * MS; i++)
		usleep(5000);
	CU_ASSERT(instance_cpu_ns(pid, NULL) >= 200 * MS);
}

static void begin(void)
{
	memset((void *)tree.rt, 0, DMM_MAX_STACKS * sizeof(*tree.rt));
	memset(class, 0, sizeof(*class));
	supervise_init(&sup, epoll_create1(EPOLL_CLOEXEC), &tree, program);
}

static void end(void)
{
	supervise_fini(&sup);
	close(sup.epfd);
	CU_ASSERT(instance_stop_all(tree.path, 100) >= 0);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* ---- tests ---- */

static void test_backoff(void)
{
	uint64_t b = 0, sum = 0;

	for (int i = 0; i < 9; i++) {
		b = supervise_backoff_ns(b, 0);
		CU_ASSERT_EQUAL(b, 100 * MS << i);
		sum += b;
	}
	CU_ASSERT_EQUAL(sum, 51100 * MS);
	CU_ASSERT_EQUAL(supervise_backoff_ns(b, 0), 30000 * MS);
	CU_ASSERT_EQUAL(supervise_backoff_ns(30000 * MS, 9999 * MS), 30000 * MS);
	CU_ASSERT_EQUAL(supervise_backoff_ns(30000 * MS, 10000 * MS), 100 * MS);
}

static void test_args(void)
{
	struct dmm_stack_rec r = {
		.name = "edge0", .engine = "lwip", .interface = "eth1", .poll = DMM_POLL_BUSY};
	static const char want[] = "--name\0edge0\0--id\0"
				   "7\0--engine\0lwip\0--driver\0\0--interface\0eth1\0"
				   "--mode\0auto\0--poll\0busy\0--bpffs\0/x";
	static const char settings[] = "--congestion\0newreno\0--ecn\0--keepalive\0"
				       "30\0--user-timeout\0"
				       "5000\0--bpffs\0/x";
	struct instance_args a, b;

	instance_args_build(&a, &r, 7, "/x");
	CU_ASSERT_EQUAL(a.len, sizeof(want));
	CU_ASSERT_EQUAL(memcmp(a.text, want, sizeof(want)), 0);
	r.queue = 1;
	instance_args_build(&b, &r, 7, "/x");
	CU_ASSERT_FALSE(instance_args_equal(&a, &b));
	strcpy(r.congestion, "newreno");
	r.ecn = 1;
	r.threads = 4;
	r.keepalive_s = 30;
	r.user_timeout_ms = 5000;
	instance_args_build(&b, &r, 7, "/x");
	CU_ASSERT_PTR_NOT_NULL(memmem(b.text, b.len, settings, sizeof(settings)));
	CU_ASSERT_PTR_NOT_NULL(memmem(b.text, b.len,
				      "--threads\0"
				      "4",
				      12));
}

static void test_start_stop(void)
{
	begin();
	set_stack(3, "edge0", "sleep");
	supervise_sync(&sup, class);
	CU_ASSERT_EQUAL(sup.inst[3].state, INST_RUNNING);
	run_ms(50);
	CU_ASSERT_EQUAL(sup.inst[3].state, INST_RUNNING);
	CU_ASSERT_EQUAL(getsid(sup.inst[3].pid), sup.inst[3].pid);
	tree.rt[3].state = DMM_STATE_UP;
	set_stack(3, "", NULL);
	supervise_sync(&sup, class);
	CU_ASSERT_EQUAL(sup.inst[3].state, INST_STOPPING);
	wait_state(3, INST_IDLE);
	CU_ASSERT_EQUAL(tree.rt[3].state, DMM_STATE_DOWN);
	CU_ASSERT_EQUAL(sup.inst[3].restarts, 0);
	end();
}

static void test_crash_loop(void)
{
	begin();
	set_stack(1, "bad", "exit3");
	tree.rt[1].state = DMM_STATE_UP;
	supervise_sync(&sup, class);
	wait_state(1, INST_BACKOFF);
	CU_ASSERT_EQUAL(tree.rt[1].state, DMM_STATE_DOWN);
	CU_ASSERT_STRING_EQUAL(sup.inst[1].why, "its instance ended with exit code 3");
	run_ms(1000); /* starts at 0, 0.1, 0.3, 0.7 s, then at 1.5 s */
	CU_ASSERT_EQUAL(sup.inst[1].restarts, 4);
	CU_ASSERT(supervise_next_ns(&sup) > now_ns());
	set_stack(1, "bad", "sleep"); /* mended: at once */
	supervise_sync(&sup, class);
	CU_ASSERT_EQUAL(sup.inst[1].state, INST_RUNNING);
	CU_ASSERT_EQUAL(supervise_next_ns(&sup), UINT64_MAX);
	end();
}

static void test_killed(void)
{
	pid_t pid;

	begin();
	set_stack(2, "edge0", "sleep");
	supervise_sync(&sup, class);
	pid = sup.inst[2].pid;
	tree.rt[2].state = DMM_STATE_UP;
	kill(pid, SIGKILL);
	wait_state(2, INST_BACKOFF);
	CU_ASSERT_EQUAL(tree.rt[2].state, DMM_STATE_DOWN);
	CU_ASSERT_STRING_EQUAL(sup.inst[2].why, "its instance was ended by signal 9 (Killed)");
	wait_state(2, INST_RUNNING);
	CU_ASSERT_NOT_EQUAL(sup.inst[2].pid, pid);
	end();
}

static void test_changed(void)
{
	pid_t pid;

	begin();
	set_stack(2, "edge0", "sleep");
	supervise_sync(&sup, class);
	pid = sup.inst[2].pid;
	supervise_sync(&sup, class);
	CU_ASSERT_EQUAL(sup.inst[2].state, INST_RUNNING);
	class->stack[2].queue = 1;
	supervise_sync(&sup, class);
	CU_ASSERT_EQUAL(sup.inst[2].state, INST_STOPPING);
	wait_state(2, INST_RUNNING);
	CU_ASSERT_NOT_EQUAL(sup.inst[2].pid, pid);
	CU_ASSERT_EQUAL(sup.inst[2].restarts, 1);
	end();
}

static void test_stubborn(void)
{
	begin();
	set_stack(2, "edge0", "stubborn");
	supervise_sync(&sup, class);
	run_ms(100);
	set_stack(2, "", NULL);
	supervise_sync(&sup, class);
	run_ms(200);
	CU_ASSERT_EQUAL(sup.inst[2].state, INST_STOPPING);
	sup.inst[2].deadline_ns = now_ns(); /* not 2 s of waiting */
	wait_state(2, INST_IDLE);
	end();
}

static void test_hung(void)
{
	struct instance *in = &sup.inst[2];
	uint64_t now;
	pid_t pid;

	begin();
	set_stack(2, "edge0", "sleep");
	supervise_sync(&sup, class);
	pid = in->pid;
	wait_asleep(pid);
	supervise_tick(&sup, in->since_ns + SUPERVISE_START_NS - 1);
	CU_ASSERT_EQUAL(in->hangs, 0); /* it may take its time to start */
	now = now_ns();
	tree.rt[2] = (struct dmm_stack_rt){
		.state = DMM_STATE_UP, .pid = (dmm_u32)pid, .heartbeat_ns = now};
	supervise_tick(&sup, now + DMM_HEARTBEAT_DEAD_NS - 1);
	CU_ASSERT_EQUAL(in->hangs, 0);
	supervise_tick(&sup, now + DMM_HEARTBEAT_DEAD_NS);
	CU_ASSERT_EQUAL(in->hangs, 1);
	CU_ASSERT_EQUAL(tree.rt[2].state, DMM_STATE_DOWN);
	wait_state(2, INST_BACKOFF);
	wait_state(2, INST_RUNNING);
	CU_ASSERT_NOT_EQUAL(in->pid, pid);
	/* one of its threads: the others are well, and say so */
	now = now_ns();
	tree.rt[2] = (struct dmm_stack_rt){.state = DMM_STATE_UP,
					   .pid = (dmm_u32)in->pid,
					   .heartbeat_ns = now,
					   .threads = 2,
					   .hung = 0};
	supervise_tick(&sup, now);
	CU_ASSERT_EQUAL(in->hangs, 1);
	tree.rt[2].hung = 1;
	supervise_tick(&sup, now);
	CU_ASSERT_EQUAL(in->hangs, 2);
	end();
}

/* It wants a CPU, and there is none for it: that is not its fault, until it was given one. */
static void test_starved(void)
{
	struct instance *in = &sup.inst[2];
	uint64_t beat, give_up;

	begin();
	set_stack(2, "edge0", "spin");
	supervise_sync(&sup, class);
	wait_spins(in->pid);
	beat = now_ns();
	tree.rt[2] = (struct dmm_stack_rt){
		.state = DMM_STATE_UP, .pid = (dmm_u32)in->pid, .heartbeat_ns = beat};
	supervise_tick(&sup, beat + 2 * SECOND);
	supervise_tick(&sup, beat + DMM_HEARTBEAT_DEAD_NS);
	supervise_tick(&sup, beat + SUPERVISE_STARVE_NS - 1);
	CU_ASSERT_EQUAL(in->hangs, 0);
	CU_ASSERT(in->starves);
	/* it has one now, and is as silent as before */
	give_up = now_ns() + 30 * SECOND;
	while (!in->hangs && now_ns() < give_up) {
		usleep(10000);
		supervise_tick(&sup, beat + DMM_HEARTBEAT_DEAD_NS);
	}
	CU_ASSERT_EQUAL(in->hangs, 1);
	wait_state(2, INST_BACKOFF);
	wait_state(2, INST_RUNNING);
	wait_spins(in->pid);
	/* for ever is too long, from when this daemon sees it: it may not have run either */
	beat = now_ns();
	tree.rt[2] = (struct dmm_stack_rt){
		.state = DMM_STATE_UP, .pid = (dmm_u32)in->pid, .heartbeat_ns = beat};
	supervise_tick(&sup, beat + 2 * SUPERVISE_STARVE_NS);
	supervise_tick(&sup, beat + 3 * SUPERVISE_STARVE_NS - 1);
	CU_ASSERT_EQUAL(in->hangs, 1);
	supervise_tick(&sup, beat + 3 * SUPERVISE_STARVE_NS);
	CU_ASSERT_EQUAL(in->hangs, 2);
	end();
}

/* A daemon goes, the next one finds its instances. */
static void test_adopt(void)
{
	pid_t kept, gone;

	begin();
	set_stack(4, "edge0", "sleep");
	set_stack(5, "edge1", "sleep");
	supervise_sync(&sup, class);
	kept = sup.inst[4].pid;
	gone = sup.inst[5].pid;
	supervise_fini(&sup);
	close(sup.epfd);

	supervise_init(&sup, epoll_create1(EPOLL_CLOEXEC), &tree, program);
	tree.rt[4].state = DMM_STATE_UP;
	tree.rt[6].state = DMM_STATE_UP; /* says so, but there is none */
	CU_ASSERT_EQUAL(supervise_adopt(&sup), 0);
	CU_ASSERT_EQUAL(tree.rt[4].state, DMM_STATE_UP);
	CU_ASSERT_EQUAL(tree.rt[6].state, DMM_STATE_DOWN);
	CU_ASSERT_EQUAL(sup.inst[4].pid, kept);
	CU_ASSERT_EQUAL(sup.inst[5].pid, gone);
	set_stack(5, "", NULL);
	supervise_sync(&sup, class);
	CU_ASSERT_EQUAL(sup.inst[4].state, INST_RUNNING);
	wait_state(5, INST_IDLE);
	kill(kept, SIGKILL);
	wait_state(4, INST_BACKOFF);
	CU_ASSERT_EQUAL(tree.rt[4].state, DMM_STATE_DOWN);
	wait_state(4, INST_RUNNING);
	end();
}

static void close_found(const struct instance_found *f, void *ctx)
{
	(void)ctx;
	close(f->pidfd);
}

/* Another user's process is none, whatever it calls itself. */
static void test_stranger(void)
{
	int found = 1;
	pid_t pid;

	if (getuid() != 0)
		return;
	begin();
	set_stack(4, "edge0", "stranger");
	supervise_sync(&sup, class);
	pid = sup.inst[4].pid;
	for (int i = 0; found && i < 400; i++, usleep(5000))
		found = instance_scan(tree.path, close_found, NULL);
	CU_ASSERT_EQUAL(found, 0);
	CU_ASSERT_EQUAL(kill(pid, SIGKILL), 0);
	end();
}

static void test_no_program(void)
{
	begin();
	sup.program = "/nonexistent/dmm-stackd";
	set_stack(2, "edge0", "sleep");
	supervise_sync(&sup, class);
	CU_ASSERT_EQUAL(sup.inst[2].state, INST_BACKOFF);
	CU_ASSERT_PTR_NOT_NULL(strstr(sup.inst[2].why, "No such file"));
	end();
}

static bool make_program(void)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0 || !mkdtemp(dir))
		return false;
	self[n] = '\0';
	snprintf(program, sizeof(program), "%s/%s", dir, INSTANCE_COMM);
	return symlink(self, program) == 0;
}

int main(int argc, char **argv)
{
	static CU_TestInfo tests[] = {
		{"backoff doubles, is bounded, starts over", test_backoff},
		{"arguments of an instance", test_args},
		{"start and stop", test_start_stop},
		{"an instance that ends at once", test_crash_loop},
		{"an instance that is killed", test_killed},
		{"changed configuration", test_changed},
		{"an instance that ignores SIGTERM", test_stubborn},
		{"an instance that hangs", test_hung},
		{"an instance that gets no CPU", test_starved},
		{"instances outlive the daemon and are taken over", test_adopt},
		{"another user's process", test_stranger},
		{"no dmm-stackd", test_no_program},
		CU_TEST_INFO_NULL,
	};
	const char *name = strrchr(argv[0], '/');
	int r;

	if (strcmp(name ? name + 1 : argv[0], INSTANCE_COMM) == 0)
		return fake(argc, argv);
	log_init("test", LOG_L_ERROR);
	tree.rt = calloc(DMM_MAX_STACKS, sizeof(*tree.rt));
	class = malloc(sizeof(*class));
	if (!tree.rt || !class || !make_program())
		return EXIT_FAILURE;
	snprintf(tree.path, sizeof(tree.path), "%s/tree", dir);
	r = unit_run("supervise", tests);
	unlink(program);
	rmdir(dir);
	free((void *)tree.rt);
	class_free(class);
	return r;
}
