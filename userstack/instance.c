// SPDX-License-Identifier: Apache-2.0
/* An instance: what its threads share, their start and their end. */
#include <asm/socket.h>
#include <errno.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/attach.h"
#include "loader/maps.h"
#include "userstack/port/ports.h"
#include "userstack/stack.h"

/* ---- the end ---- */

bool instance_stop(struct instance *in, int code)
{
	int running = -1;
	uint64_t one = 1;
	bool first = atomic_compare_exchange_strong(&in->exit_code, &running, code);

	if (first && write(in->stop_fd, &one, sizeof(one)) < 0)
		log_err("cannot stop: %s", strerror(errno));
	return first;
}

/* ---- heartbeats ---- */

/* The carriers of `of` lead to this thread; those of its own again, should others have them. */
static void serve_carriers(struct instance *in, const struct stack *s, unsigned of)
{
	for (unsigned i = of; i < DMM_CARRIER_PORTS; i += in->threads) {
		unsigned own = i - of + s->thread;

		__atomic_store_n(&in->rt->port4[i], s->carrier4[own].port, __ATOMIC_RELAXED);
		__atomic_store_n(&in->rt->port6[i], s->carrier6[own].port, __ATOMIC_RELAXED);
	}
}

/*
 * A thread that hangs gets no new connections of applications: the others, which are well, serve
 * them. Where not this thread alone has stood still, nobody can be judged yet.
 */
void instance_beat(struct instance *in, struct stack *s)
{
	uint64_t since = s->now - s->beat;
	unsigned hung = 0;

	s->beat = s->now;
	atomic_store_explicit(&in->beat[s->thread], s->now, memory_order_relaxed);
	__atomic_store_n(&in->rt->heartbeat_ns, s->now, __ATOMIC_RELAXED);
	if (in->threads == 1 || since > DMM_HEARTBEAT_NS * 2)
		return;
	serve_carriers(in, s, s->thread);
	for (unsigned i = 0; i < in->threads; i++) {
		uint64_t beat = atomic_load_explicit(&in->beat[i], memory_order_relaxed);

		if (s->now < beat + DMM_HEARTBEAT_DEAD_NS)
			continue;
		serve_carriers(in, s, i);
		hung++;
	}
	__atomic_store_n(&in->rt->hung, (dmm_u16)hung, __ATOMIC_RELAXED);
}

/* ---- opening ---- */

static int find_id(struct instance *in)
{
	_cleanup_class_ struct dmm_class *c = NULL;
	dmm_u64 generation;
	int r;

	if (in->c.id >= 0) {
		in->id = (unsigned)in->c.id;
		return in->id < DMM_MAX_STACKS ? 0 : -EINVAL;
	}
	c = class_new();
	if (!c)
		return -ENOMEM;
	r = maps_read(&in->tree, c, &generation);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < DMM_MAX_STACKS; i++)
		if (c->stack[i].kind == DMM_KIND_USERSPACE &&
		    !strcmp(c->stack[i].name, in->c.name)) {
			in->id = i;
			return 0;
		}
	log_err("%s has no userspace stack named %s in force; commit one (dmm-policy apply), or "
		"give --id",
		in->tree.path, in->c.name);
	return -ENOENT;
}

static bool runs(volatile const struct dmm_stack_rt *rt)
{
	pid_t pid = (pid_t)rt->pid;

	return rt->state == DMM_STATE_UP && pid > 0 && pid != getpid() &&
	       now_ns() - rt->heartbeat_ns <= DMM_HEARTBEAT_DEAD_NS &&
	       (!kill(pid, 0) || errno != ESRCH);
}

/* Two instances of one stack, or on one interface, would take each other's packets. */
static int check_alone(const struct instance *in)
{
	for (unsigned i = 0; i < DMM_MAX_STACKS; i++) {
		volatile const struct dmm_stack_rt *rt = &in->tree.rt[i];

		if (!runs(rt))
			continue;
		if (i == in->id)
			log_err("stack %s runs already, as process %u", in->c.name, rt->pid);
		else if (rt->netns == in->netns && rt->ifindex == (dmm_u32)in->ifindex)
			log_err("interface %s is in use by another instance, process %u",
				in->c.interface, rt->pid);
		else
			continue;
		return -EBUSY;
	}
	return 0;
}

static int open_tree(struct instance *in)
{
	int r;

	r = tree_open(&in->tree, tree_path(in->c.bpffs));
	if (r < 0) {
		log_err("cannot open %s: %s%s", tree_path(in->c.bpffs), strerror(-r),
			r == -ENOENT ? "; is dmm-policyd running, or a policy committed?"
			: r == -EPERM || r == -EACCES ? "; run as root"
						      : "");
		return r;
	}
	in->tree_ok = true;
	r = find_id(in);
	if (r < 0)
		return r;
	r = check_alone(in);
	if (r < 0)
		return r;
	in->rt = &in->tree.rt[in->id];
	in->rt->state = DMM_STATE_DOWN; /* of one that was killed */
	in->rt->threads = (dmm_u16)in->threads;
	in->rt->hung = 0;
	return attach_instance_self(&in->tree);
}

/* All threads leave signals to the first. */
static int open_signals(struct instance *in)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	in->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	in->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return in->signal_fd < 0 || in->stop_fd < 0 ? -errno : 0;
}

static int open_process(struct instance *in)
{
	_cleanup_close_ int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(in->netns);
	struct rlimit nofile;
	int r;

	if (!getrlimit(RLIMIT_NOFILE, &nofile)) {
		nofile.rlim_cur = nofile.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &nofile); /* carriers: two for every flow at worst */
	}
	if (sock < 0)
		return -errno;
	if (getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, &in->netns, &len) < 0) {
		r = -errno;
		log_err("cannot read the network namespace's cookie: %s; Linux 5.14 is the oldest "
			"that works",
			strerror(-r));
		return r;
	}
	if (getrandom(in->secret, sizeof(in->secret), 0) != sizeof(in->secret))
		return -EIO;
	return open_signals(in);
}

/* Each thread sends on a queue of its own. */
static int choose_threads(struct instance *in)
{
	unsigned rx, tx, want = MAX(in->c.threads, 1u);

	port_queues(in->c.interface, &rx, &tx);
	in->threads = want;
	if (want > 1 && !in->c.engine->several) {
		log_err("the engine %s runs once in a process: no more than one thread",
			in->c.engine->name);
		return -EOPNOTSUPP;
	}
	if (want > 1 && (!in->c.port->several || in->c.queue >= 0)) {
		log_err("%s serves one queue: no more than one thread",
			in->c.queue >= 0 ? "--queue" : in->c.port->name);
		return -EOPNOTSUPP;
	}
	if (want > 1 && in->c.mode == DMM_XDP_GENERIC) {
		log_err("mode generic: no more than one thread; mode tc has several");
		return -EOPNOTSUPP;
	}
	in->queues = in->c.queue >= 0 ? 1 : MIN(rx, in->c.port->queues_max);
	while (in->threads > MIN(rx, tx))
		in->threads /= 2;
	if (in->threads < want)
		log_warn("%s has %u receive and %u transmit queues: %u of %u threads; try: ethtool "
			 "-L, and for a veth numrxqueues and numtxqueues when it is made",
			 in->c.interface, rx, tx, in->threads, want);
	if (rx > in->queues && in->c.queue < 0)
		log_warn("%s has %u queues, of which port %s serves %u: what arrives on others "
			 "stays with the kernel, and connections fail; try: ethtool -L",
			 in->c.interface, rx, in->c.port->name, in->queues);
	return 0;
}

void instance_queues(const struct instance *in, unsigned thread, struct port_config *ret)
{
	ret->queue = in->c.queue >= 0 ? (unsigned)in->c.queue : thread;
	ret->step = in->threads;
	ret->queues = (in->queues - thread + ret->step - 1) / ret->step;
}

/* A driver that attaches a program of its own gives way to ours at once. */
static int attach_port(struct instance *in)
{
	_cleanup_close_ int fd = xdp_blank_open();
	char file[32];
	struct port_blank blank = {file, xdp_blank_clear};
	struct port_config all = {
		.interface = in->c.interface,
		.ifindex = in->ifindex,
		.queue = in->c.queue >= 0 ? (unsigned)in->c.queue : 0,
		.queues = in->c.mode == DMM_XDP_TC ? 0 : in->queues,
		.step = in->threads,
		.may_zerocopy = in->c.mode == DMM_XDP_NONE || in->c.mode == DMM_XDP_NATIVE,
	};

	if (fd < 0)
		return fd;
	snprintf(file, sizeof(file), "/proc/self/fd/%d", fd);
	xdp_sweep(&in->tree, in->id, in->ifindex);
	xdp_blank_clear(in->ifindex); /* of one that was killed */
	return in->c.port->attach(&all, &blank);
}

/* It passes everything on as long as its maps are empty. */
static int open_steering(struct instance *in)
{
	struct xdp_config xc = {
		.stack = in->id,
		.threads = in->threads,
		.ifindex = in->ifindex,
		.want = in->c.mode,
		.plain = in->c.port->attach != NULL,
	};
	int r = in->c.port->attach ? attach_port(in) : 0;

	if (!r)
		r = xdp_open(&in->xdp, &in->tree, &xc, &in->xdp_mode);
	if (!r && xc.plain && in->xdp_mode == DMM_XDP_GENERIC)
		log_warn("%s: segments that receive offload, or a sender on this host, puts "
			 "together are lost in generic mode with this driver; try: mode tc, or "
			 "ethtool -K %s gro off",
			 in->c.interface, in->c.interface);
	return r;
}

static int open_threads(struct instance *in)
{
	int r = 0;

	for (unsigned i = 0; i < in->threads && !r; i++)
		r = stack_open(&in->thread[i], in, i);
	if (!r && in->c.port->zerocopy(in->thread[0]->port))
		in->xdp_mode = DMM_XDP_ZEROCOPY;
	return r;
}

/* State goes last: it is what makes the BPF programs send connections here. */
static void publish(struct instance *in)
{
	static const char *const mode[DMM_XDP_MODES] = {"no steering", "generic XDP", "native XDP",
							"zero-copy XDP", "tc"};
	const struct stack *first = in->thread[0], *last = in->thread[in->threads - 1];
	uint64_t now = now_ns();

	for (unsigned i = 0; i < in->threads; i++)
		in->beat[i] = in->thread[i]->beat = now;
	in->rt->pid = (dmm_u32)getpid();
	in->rt->netns = in->netns;
	in->rt->ifindex = (dmm_u32)in->ifindex;
	in->rt->xdp_mode = in->xdp_mode;
	in->rt->udp = !!first->udp;
	in->rt->started_ns = now;
	in->rt->heartbeat_ns = now;
	__atomic_store_n(&in->rt->state, DMM_STATE_UP, __ATOMIC_RELEASE);
	log_info("stack %s is up: engine %s, port %s on %s, %s, %u thread%s, local ports %u to %u",
		 in->c.name, in->c.engine->name, in->c.port->name, in->c.interface,
		 mode[in->xdp_mode], in->threads, in->threads == 1 ? "" : "s", first->port_lo,
		 last->port_hi);
}

int instance_open(struct instance **ret, const struct instance_config *c)
{
	struct instance *in = calloc(1, sizeof(*in));
	int r;

	if (!in)
		return -ENOMEM;
	in->c = *c;
	in->exit_code = -1;
	in->signal_fd = in->stop_fd = -1;
	in->ifindex = (int)if_nametoindex(c->interface);
	r = in->ifindex ? 0 : -errno;
	if (r < 0)
		log_err("no interface named %s in this network namespace: %s", c->interface,
			strerror(-r));
	if (!r)
		r = choose_threads(in);
	if (!r)
		r = open_process(in);
	if (!r)
		r = open_tree(in);
	if (!r)
		r = open_steering(in);
	if (!r)
		r = open_threads(in);
	if (r < 0) {
		instance_close(in);
		return r;
	}
	publish(in);
	*ret = in;
	return 0;
}

void instance_close(struct instance *in)
{
	if (in->rt && in->rt->pid == (dmm_u32)getpid())
		__atomic_store_n(&in->rt->state, DMM_STATE_DOWN, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < in->threads; i++)
		if (in->thread[i])
			stack_close(in->thread[i]);
	xdp_close(in->xdp);
	close_ptr(&in->signal_fd);
	close_ptr(&in->stop_fd);
	if (in->tree_ok)
		tree_close(&in->tree);
	free(in);
}

/* ---- running ---- */

static void *thread_main(void *arg)
{
	stack_run(arg);
	return NULL;
}

static int start_threads(struct instance *in)
{
	char name[16];
	int r;

	for (unsigned i = 1; i < in->threads; i++) {
		r = pthread_create(&in->pthread[i], NULL, thread_main, in->thread[i]);
		if (r)
			return -r;
		snprintf(name, sizeof(name), "dmm-stackd/%u", i);
		pthread_setname_np(in->pthread[i], name);
		in->started = i;
	}
	return 0;
}

int instance_run(struct instance *in)
{
	int r = start_threads(in);

	if (r < 0) {
		log_err("cannot start another thread: %s", strerror(-r));
		instance_stop(in, 1);
	}
	stack_run(in->thread[0]);
	for (unsigned i = 1; i <= in->started; i++)
		pthread_join(in->pthread[i], NULL);
	return in->exit_code;
}
