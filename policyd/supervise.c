// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/supervise.h"

uint64_t supervise_backoff_ns(uint64_t prev_ns, uint64_t lived_ns)
{
	if (prev_ns == 0 || lived_ns >= SUPERVISE_LIFE_NS)
		return SUPERVISE_BACKOFF_MIN_NS;
	return MIN(prev_ns * 2, SUPERVISE_BACKOFF_MAX_NS);
}

static void inst_event(struct loop_source *src, uint32_t events);

void supervise_init(struct supervisor *s, int epfd, struct tree *t, const char *program)
{
	memset(s, 0, sizeof(*s));
	s->epfd = epfd;
	s->tree = t;
	s->program = program;
	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		struct instance *in = &s->inst[id];

		in->src.cb = inst_event;
		in->sup = s;
		in->id = id;
		in->pidfd = -1;
	}
}

static void inst_mark_down(struct instance *in)
{
	in->sup->tree->rt[in->id].state = DMM_STATE_DOWN;
}

static void inst_signal(const struct instance *in, int sig)
{
	if (in->pidfd >= 0 && pidfd_send_signal(in->pidfd, sig, NULL, 0) < 0 && errno != ESRCH)
		log_err("stack %s: cannot signal its instance, pid %d: %s", in->rec.name,
			(int)in->pid, strerror(errno));
}

/* Delay the next start, with the reason in `why`. */
static void inst_back_off(struct instance *in, uint64_t now)
{
	in->backoff_ns = supervise_backoff_ns(in->backoff_ns, now - in->since_ns);
	in->deadline_ns = now + in->backoff_ns;
	in->state = INST_BACKOFF;
	log_warn("stack %s: down, %s; starting again in %.1f s", in->rec.name, in->why,
		 (double)in->backoff_ns / 1e9);
}

static void inst_watch(struct instance *in)
{
	int r = loop_add(in->sup->epfd, in->pidfd, EPOLLIN, &in->src);

	if (r < 0) /* the heartbeat still tells */
		log_err("stack %s: cannot watch its instance: %s", in->rec.name, strerror(-r));
}

static void inst_start(struct instance *in, uint64_t now)
{
	int r;

	in->since_ns = now;
	in->killed = false;
	r = instance_spawn(in->sup->program, &in->args, &in->pid, &in->pidfd);
	if (r < 0) {
		snprintf(in->why, sizeof(in->why), "cannot start %.64s: %s", in->sup->program,
			 strerror(-r));
		inst_back_off(in, now);
		return;
	}
	in->child = true;
	in->runs = in->args;
	in->state = INST_RUNNING;
	inst_watch(in);
	log_info("stack %s: started %s, pid %d", in->rec.name, in->sup->program, (int)in->pid);
}

static void inst_stop(struct instance *in, uint64_t now, const char *why)
{
	log_info("stack %s: stopping its instance, pid %d: %s", in->rec.name, (int)in->pid, why);
	inst_signal(in, SIGTERM);
	in->state = INST_STOPPING;
	in->deadline_ns = now + SUPERVISE_TERM_NS;
}

/* Has the process of pidfd ended? Fills `why`. */
static bool inst_ended(struct instance *in)
{
	struct pollfd p = {.fd = in->pidfd, .events = POLLIN};
	siginfo_t si = {0};

	if (!in->child) {
		if (poll(&p, 1, 0) <= 0)
			return false;
		snprintf(in->why, sizeof(in->why),
			 "its instance ended; another daemon started it, so its status is unknown");
		return true;
	}
	if (waitid(P_PIDFD, (id_t)in->pidfd, &si, WEXITED | WNOHANG) < 0)
		snprintf(in->why, sizeof(in->why), "its instance ended: %s", strerror(errno));
	else if (si.si_pid == 0)
		return false;
	else if (si.si_code == CLD_EXITED)
		snprintf(in->why, sizeof(in->why), "its instance ended with exit code %d%s",
			 si.si_status, si.si_status == 127 ? " (it could not be executed)" : "");
	else
		snprintf(in->why, sizeof(in->why), "its instance was ended by signal %d (%s)",
			 si.si_status, strsignal(si.si_status));
	return true;
}

static void inst_event(struct loop_source *src, uint32_t events)
{
	struct instance *in = container_of(src, struct instance, src);
	uint64_t now = now_ns();

	(void)events;
	if (in->pidfd < 0 || !inst_ended(in))
		return;
	inst_mark_down(in);
	loop_del(in->sup->epfd, in->pidfd);
	close(in->pidfd);
	in->pidfd = -1;
	in->pid = 0;
	if (!in->wanted) {
		log_info("stack %s: stopped", in->rec.name);
		in->state = INST_IDLE;
		in->backoff_ns = 0;
	} else if (in->state == INST_STOPPING && !in->killed) {
		in->restarts++;
		inst_start(in, now); /* asked to end: for its new arguments */
	} else {
		in->restarts++;
		inst_back_off(in, now);
	}
}

static void adopt_one(const struct instance_found *f, void *ctx)
{
	struct supervisor *s = ctx;
	struct instance *in = &s->inst[f->id];
	volatile struct dmm_stack_rt *rt = &s->tree->rt[f->id];
	uint64_t now = now_ns();

	if (in->pidfd >= 0 && (pid_t)rt->pid != f->pid) {
		log_warn("instance %u: a second one, pid %d, is stopped", f->id, (int)f->pid);
		pidfd_send_signal(f->pidfd, SIGTERM, NULL, 0);
		close(f->pidfd);
		return;
	}
	if (in->pidfd >= 0) {
		log_warn("instance %u: a second one, pid %d, is stopped", f->id, (int)in->pid);
		inst_signal(in, SIGTERM);
		loop_del(s->epfd, in->pidfd);
		close(in->pidfd);
	}
	in->pid = f->pid;
	in->pidfd = f->pidfd;
	in->runs = f->args;
	in->child = false;
	in->state = INST_RUNNING;
	in->since_ns = now;
	inst_watch(in);
}

int supervise_adopt(struct supervisor *s)
{
	int r = instance_scan(s->tree->path, adopt_one, s);

	for (unsigned id = 0; id < DMM_MAX_STACKS; id++)
		if (s->inst[id].pidfd < 0)
			inst_mark_down(&s->inst[id]);
	if (r > 0)
		log_info("took over %d running instance%s", r, r == 1 ? "" : "s");
	return r < 0 ? r : 0;
}

static void sync_one(struct instance *in, const struct dmm_stack_rec *rec, uint64_t now)
{
	struct instance_args old = in->args;

	in->wanted = rec->kind == DMM_KIND_USERSPACE;
	if (in->wanted) {
		in->rec = *rec;
		instance_args_build(&in->args, rec, in->id, in->sup->tree->path);
	} else if (in->state == INST_RUNNING && !in->rec.name[0]) {
		snprintf(in->rec.name, sizeof(in->rec.name), "#%u", in->id);
	}
	switch (in->state) {
	case INST_IDLE:
		if (in->wanted)
			inst_start(in, now);
		break;
	case INST_RUNNING:
		if (!in->wanted)
			inst_stop(in, now, "the policy does not have it any more");
		else if (!instance_args_equal(&in->args, &in->runs))
			inst_stop(in, now, "its configuration changed");
		break;
	case INST_BACKOFF:
		if (!in->wanted) {
			in->state = INST_IDLE;
			in->backoff_ns = 0;
		} else if (!instance_args_equal(&in->args, &old)) {
			in->backoff_ns = 0;
			inst_start(in, now);
		}
		break;
	case INST_STOPPING: /* inst_event() does what is wanted then */
		break;
	}
}

void supervise_sync(struct supervisor *s, const struct dmm_class *c)
{
	uint64_t now = now_ns();

	for (unsigned id = 0; id < DMM_MAX_STACKS; id++)
		sync_one(&s->inst[id], &c->stack[id], now);
}

/* What it carried is lost in any case, and what would come to it from outside, too. */
static bool inst_thread_hangs(const struct instance *in, volatile const struct dmm_stack_rt *rt)
{
	return (pid_t)rt->pid == in->pid && rt->state == DMM_STATE_UP && rt->hung;
}

/*
 * It wants a CPU, and others have them: this host is overloaded, or, as a virtual machine, the one
 * below. A turn of its loop takes milliseconds: after a second of CPU time that is no excuse.
 * Sockets to come take their next stack meanwhile; those that it carries would be lost. A minute
 * counts from when it was seen: this daemon may have had no CPU either.
 */
static bool inst_starves(struct instance *in, uint64_t last, uint64_t now)
{
	uint64_t cpu;
	char state;

	if (now - last < SUPERVISE_LATE_NS)
		return false;
	cpu = instance_cpu_ns(in->pid, &state);
	if (in->late_ns != last) {
		in->late_ns = last;
		in->late_seen_ns = now;
		in->late_cpu_ns = cpu;
		in->starves = false;
	}
	return state == 'R' && cpu - in->late_cpu_ns < SUPERVISE_CPU_NS &&
	       now - in->late_seen_ns < SUPERVISE_STARVE_NS;
}

/* A process that lives and does not answer is of no use: its stack goes down, it is replaced. */
static void inst_check_heartbeat(struct instance *in, uint64_t now)
{
	volatile struct dmm_stack_rt *rt = &in->sup->tree->rt[in->id];
	uint64_t limit = SUPERVISE_START_NS, last = in->since_ns;
	bool starves = false;

	if ((pid_t)rt->pid == in->pid && rt->heartbeat_ns > 0 &&
	    (!in->child || rt->heartbeat_ns >= in->since_ns)) {
		last = rt->heartbeat_ns;
		limit = DMM_HEARTBEAT_DEAD_NS;
		starves = now > last && inst_starves(in, last, now);
	}
	if (in->killed || now < last || (now - last < limit && !inst_thread_hangs(in, rt)))
		return;
	if (starves) {
		if (!in->starves)
			log_warn("stack %s: its instance, pid %d, has had no CPU for %.0f s: this "
				 "host is overloaded",
				 in->rec.name, (int)in->pid, (double)(now - last) / 1e9);
		in->starves = true;
		return;
	}
	if (now - last < limit)
		log_err("stack %s: %u of the %u threads of its instance, pid %d, hang: killing it",
			in->rec.name, rt->hung, rt->threads, (int)in->pid);
	else
		log_err("stack %s: its instance, pid %d, lives but has not answered for %.0f s: "
			"killing it",
			in->rec.name, (int)in->pid, (double)(now - last) / 1e9);
	inst_mark_down(in);
	in->hangs++;
	in->killed = true;
	inst_signal(in, SIGKILL);
}

void supervise_tick(struct supervisor *s, uint64_t now)
{
	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		struct instance *in = &s->inst[id];

		if (in->state == INST_RUNNING) {
			inst_check_heartbeat(in, now);
		} else if (in->state == INST_BACKOFF && now >= in->deadline_ns) {
			inst_start(in, now);
		} else if (in->state == INST_STOPPING && now >= in->deadline_ns) {
			log_warn("stack %s: its instance, pid %d, does not stop: killing it",
				 in->rec.name, (int)in->pid);
			inst_signal(in, SIGKILL);
			in->deadline_ns = now + SUPERVISE_TERM_NS;
		}
	}
}

uint64_t supervise_next_ns(const struct supervisor *s)
{
	uint64_t next = UINT64_MAX;

	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		const struct instance *in = &s->inst[id];

		if (in->state == INST_BACKOFF || in->state == INST_STOPPING)
			next = MIN(next, in->deadline_ns);
	}
	return next;
}

void supervise_fini(struct supervisor *s)
{
	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		if (s->inst[id].pidfd < 0)
			continue;
		loop_del(s->epfd, s->inst[id].pidfd);
		close(s->inst[id].pidfd);
		s->inst[id].pidfd = -1;
	}
}
