// SPDX-License-Identifier: Apache-2.0
/* An instance from start to end, and the loop in between. */
#include <asm/socket.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/attach.h"
#include "loader/maps.h"
#include "userstack/port/ports.h"
#include "userstack/stack.h"

#define EVENTS 128
#define RX_BUDGET 256
#define TICK_NS 1000000000ULL
#define RINGS_NS 10000000000ULL
#define BEAT_NS (DMM_HEARTBEAT_NS / 2)
#define COMPLAIN_NS 10000000000ULL

bool stack_may_complain(struct stack *s)
{
	if (s->complained && s->now - s->complained < COMPLAIN_NS)
		return false;
	s->complained = s->now;
	return true;
}

int stack_watch(struct stack *s, struct watch *w, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	if (!epoll_ctl(s->epoll, EPOLL_CTL_ADD, w->fd, &ev))
		return 0;
	if (errno == EEXIST && !epoll_ctl(s->epoll, EPOLL_CTL_MOD, w->fd, &ev))
		return 0;
	return -errno;
}

/* ---- what descriptors are for ---- */

static void on_port(struct stack *s, struct watch *w, uint32_t events)
{
	(void)s;
	(void)w;
	(void)events; /* every round receives */
}

static void on_net(struct stack *s, struct watch *w, uint32_t events)
{
	(void)w;
	(void)events;
	net_process(s->net, s->now);
}

static void on_hold(struct stack *s, struct watch *w, uint32_t events)
{
	(void)w;
	(void)events;
	carrier_events(s);
}

static void on_signal(struct stack *s, struct watch *w, uint32_t events)
{
	struct signalfd_siginfo si;

	(void)events;
	while (read(w->fd, &si, sizeof(si)) == sizeof(si))
		log_info("%s: stopping", strsignal((int)si.ssi_signo));
	s->stopping = true;
}

/* ---- opening ---- */

static int find_id(struct stack *s)
{
	_cleanup_class_ struct dmm_class *c = NULL;
	dmm_u64 generation;
	int r;

	if (s->c.id >= 0) {
		s->id = (unsigned)s->c.id;
		return s->id < DMM_MAX_STACKS ? 0 : -EINVAL;
	}
	c = class_new();
	if (!c)
		return -ENOMEM;
	r = maps_read(&s->tree, c, &generation);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < DMM_MAX_STACKS; i++)
		if (c->stack[i].kind == DMM_KIND_USERSPACE &&
		    !strcmp(c->stack[i].name, s->c.name)) {
			s->id = i;
			return 0;
		}
	log_err("%s has no userspace stack named %s in force; commit one (dmm-policy apply), or "
		"give --id",
		s->tree.path, s->c.name);
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
static int check_alone(const struct stack *s)
{
	for (unsigned i = 0; i < DMM_MAX_STACKS; i++) {
		volatile const struct dmm_stack_rt *rt = &s->tree.rt[i];

		if (!runs(rt))
			continue;
		if (i == s->id)
			log_err("stack %s runs already, as process %u", s->c.name, rt->pid);
		else if (rt->netns == s->netns && rt->ifindex == (dmm_u32)s->ifindex)
			log_err("interface %s is in use by another instance, process %u",
				s->c.interface, rt->pid);
		else
			continue;
		return -EBUSY;
	}
	return 0;
}

static int open_tree(struct stack *s)
{
	int r;

	r = tree_open(&s->tree, tree_path(s->c.bpffs));
	if (r < 0) {
		log_err("cannot open %s: %s%s", tree_path(s->c.bpffs), strerror(-r),
			r == -ENOENT ? "; is dmm-policyd running, or a policy committed?"
			: r == -EPERM || r == -EACCES ? "; run as root"
						      : "");
		return r;
	}
	s->tree_ok = true;
	r = find_id(s);
	if (r < 0)
		return r;
	r = samples_open(&s->samples, &s->tree);
	if (r < 0)
		return r;
	s->rt = &s->tree.rt[s->id];
	s->counters = &s->tree.instctr[s->id * DMM_INSTANCE_SPACE];
	for (unsigned i = 0; i < DMM_RING_COUNT; i++)
		s->counters[DMM_INSTANCE_RING(i)] = 0; /* of an instance before */
	r = check_alone(s);
	if (r < 0)
		return r;
	s->rt->state = DMM_STATE_DOWN; /* of one that was killed */
	return 0;
}

static int open_signals(struct stack *s)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	s->signal_watch = (struct watch){signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), on_signal};
	if (s->signal_watch.fd < 0)
		return -errno;
	return stack_watch(s, &s->signal_watch, EPOLLIN);
}

static int open_process(struct stack *s)
{
	_cleanup_close_ int sock = -1;
	socklen_t len = sizeof(s->netns);
	struct rlimit nofile;
	int r;

	if (!getrlimit(RLIMIT_NOFILE, &nofile)) {
		nofile.rlim_cur = nofile.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &nofile); /* carriers: two for every flow at worst */
	}
	s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->epoll < 0 || sock < 0)
		return -errno;
	if (getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, &s->netns, &len) < 0) {
		r = -errno;
		log_err("cannot read the network namespace's cookie: %s; Linux 5.14 is the oldest "
			"that works",
			strerror(-r));
		return r;
	}
	return open_signals(s);
}

/* A port that attaches a program of its own gives way to ours at once. */
static int open_blank(struct stack *s, struct port_config *pc)
{
	_cleanup_close_ int fd = xdp_blank_open();
	char file[32];
	int r;

	if (fd < 0)
		return fd;
	snprintf(file, sizeof(file), "/proc/self/fd/%d", fd);
	pc->blank = file;
	xdp_sweep(&s->tree, s->id, s->ifindex);
	xdp_blank_clear(s->ifindex); /* of one that was killed */
	r = s->c.port->open(&s->port, pc);
	pc->blank = NULL;
	return r < 0 ? r : xdp_blank_clear(s->ifindex);
}

static void choose_queues(const struct stack *s, struct port_config *ret)
{
	unsigned n = port_queues(s->c.interface);

	ret->queues = 1;
	if (s->c.queue >= 0) {
		ret->queue = (unsigned)s->c.queue;
		return;
	}
	ret->queues = MIN(n, s->c.port->queues_max);
	if (n > ret->queues)
		log_warn("%s has %u queues, of which port %s serves %u: what arrives on others "
			 "stays with the kernel, and connections fail; try: ethtool -L",
			 s->c.interface, n, s->c.port->name, ret->queues);
}

/* What arrives on a queue is for the socket of that queue. */
static int steer_port(struct stack *s, unsigned first)
{
	int fd, r = -ENOTSUP;

	for (unsigned i = 0; i < DMM_MAX_QUEUES && (fd = s->c.port->fd(s->port, i)) >= 0; i++) {
		s->port_watch[i] = (struct watch){fd, on_port};
		r = xdp_steer(s->xdp, first + i, fd);
		if (r < 0) {
			log_err("cannot put the socket into the XSKMAP: %s", strerror(-r));
			return r;
		}
		r = stack_watch(s, &s->port_watch[i], EPOLLIN);
		if (r < 0)
			return r;
	}
	return r;
}

/* The program first, if it can be: it passes everything on as long as its maps are empty. */
static int open_port(struct stack *s)
{
	struct port_config pc = {.interface = s->c.interface};
	struct port_ring ring;
	bool attaches = s->c.port->attaches;
	int r = 0;

	choose_queues(s, &pc);
	pc.ifindex = s->ifindex;
	pc.may_zerocopy = s->c.mode == DMM_XDP_NONE || s->c.mode == DMM_XDP_NATIVE;
	if (attaches && s->c.mode == DMM_XDP_TC) {
		log_err("port %s: mode tc is not for it; native and generic are", s->c.port->name);
		return -EOPNOTSUPP;
	}
	if (attaches)
		r = open_blank(s, &pc);
	if (!r)
		r = xdp_open(&s->xdp, &s->tree, s->id, s->ifindex, s->c.mode, attaches,
			     &s->xdp_mode);
	if (r < 0)
		return r;
	if (!attaches) {
		pc.may_zerocopy = s->xdp_mode == DMM_XDP_NATIVE;
		if (xdp_ring(s->xdp, &ring.fd, &ring.asleep))
			pc.ring = &ring;
		r = s->c.port->open(&s->port, &pc);
		if (r < 0)
			return r;
	}
	if (s->c.port->zerocopy(s->port))
		s->xdp_mode = DMM_XDP_ZEROCOPY;
	return steer_port(s, pc.queue);
}

static int open_flows(struct stack *s)
{
	int r;

	r = carrier_open(s);
	if (!r)
		r = udp_open(s);
	if (r < 0)
		return r;
	s->net_watch = (struct watch){net_fd(s->net), on_net};
	r = stack_watch(s, &s->net_watch, EPOLLIN);
	if (r < 0)
		return r;
	s->hold_watch = (struct watch){hold_fd(s->hold), on_hold};
	r = stack_watch(s, &s->hold_watch, EPOLLIN);
	if (r < 0)
		return r;
	return listen_sync(s);
}

/* State goes last: it is what makes the BPF programs send connections here. */
static void publish(struct stack *s)
{
	static const char *const mode[DMM_XDP_MODES] = {"no steering", "generic XDP", "native XDP",
							"zero-copy XDP", "tc"};

	s->rt->pid = (dmm_u32)getpid();
	s->rt->netns = s->netns;
	s->rt->ifindex = (dmm_u32)s->ifindex;
	s->rt->xdp_mode = s->xdp_mode;
	s->rt->udp = !!s->udp;
	s->rt->started_ns = s->now;
	s->rt->heartbeat_ns = s->now;
	__atomic_store_n(&s->rt->state, DMM_STATE_UP, __ATOMIC_RELEASE);
	log_info("stack %s is up: engine %s, port %s on %s, %s, local ports %u to %u", s->c.name,
		 s->c.engine->name, s->c.port->name, s->c.interface, mode[s->xdp_mode], s->port_lo,
		 s->port_hi);
}

int stack_open(struct stack **ret, const struct stack_config *c)
{
	struct stack *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->c = *c;
	s->now = now_ns();
	spin_init(&s->spin);
	s->epoll = s->spare_fd = -1;
	s->inject = (struct inject){-1, -1};
	s->signal_watch.fd = -1;
	for (unsigned i = 0; i < DMM_CARRIER_PORTS; i++)
		s->carrier4[i].watch.fd = s->carrier6[i].watch.fd = -1;
	TAILQ_INIT(&s->flows);
	TAILQ_INIT(&s->work);
	TAILQ_INIT(&s->held);
	TAILQ_INIT(&s->dead);
	TAILQ_INIT(&s->released);
	TAILQ_INIT(&s->listening);
	s->ifindex = (int)if_nametoindex(c->interface);
	r = s->ifindex ? 0 : -errno;
	if (r < 0)
		log_err("no interface named %s in this network namespace: %s", c->interface,
			strerror(-r));
	if (!r)
		r = open_process(s);
	if (!r)
		r = open_tree(s);
	if (!r)
		r = attach_instance_self(&s->tree);
	if (!r)
		r = hold_open(&s->hold, &s->tree, s->id);
	if (!r)
		r = open_port(s);
	if (!r)
		r = path_open(s);
	if (!r)
		r = open_flows(s);
	if (r < 0) {
		stack_close(s);
		return r;
	}
	publish(s);
	*ret = s;
	return 0;
}

void stack_close(struct stack *s)
{
	struct flow *f;

	s->stopping = true;
	if (s->rt && s->rt->pid == (dmm_u32)getpid())
		__atomic_store_n(&s->rt->state, DMM_STATE_DOWN, __ATOMIC_RELEASE);
	if (s->engine)
		listen_close(s);
	while ((f = TAILQ_FIRST(&s->flows)))
		flow_kill(s, f, "the instance stops");
	flow_reap(s);
	carrier_close(s);
	udp_close(s);
	path_close(s);
	if (s->port) {
		s->c.port->flush(s->port);
		s->c.port->close(s->port);
	}
	if (s->xdp)
		xdp_close(s->xdp);
	if (s->hold)
		hold_close(s->hold);
	close_ptr(&s->signal_watch.fd);
	close_ptr(&s->epoll);
	close_ptr(&s->spare_fd);
	samples_close(&s->samples);
	if (s->tree_ok)
		tree_close(&s->tree);
	free(s);
}

/* ---- the loop ---- */

static int timeout_ms(const struct stack *s, bool more)
{
	uint64_t next;

	if (more || s->c.poll == DMM_POLL_BUSY || !TAILQ_EMPTY(&s->work))
		return 0;
	if (s->c.poll == DMM_POLL_ADAPTIVE && spin_again(&s->spin, s->now))
		return 0;
	next = MIN(MIN(s->engine_next, s->net_next),
		   MIN(s->tick_due, s->rt->heartbeat_ns + DMM_HEARTBEAT_NS));
	if (next <= s->now)
		return 0;
	return (int)MIN((next - s->now + 999999) / 1000000, 1000u);
}

static void tick(struct stack *s)
{
	s->tick_due = s->now - s->now % TICK_NS + TICK_NS; /* with the network's: one wake-up */
	carrier_tick(s);
	udp_tick(s);
	listen_tick(s);
}

static void count_kernel(struct stack *s)
{
	const struct port_kernel was = s->port_kernel;
	struct port_kernel *now = &s->port_kernel;

	if (!s->c.port->kernel)
		return;
	s->c.port->kernel(s->port, now);
	STACK_COUNT(s, XSK_RX_FULL, now->rx_full - was.rx_full);
	STACK_COUNT(s, XSK_FILL_EMPTY, now->fill_empty - was.fill_empty);
	STACK_COUNT(s, XSK_RX_DROPS, now->rx_drops - was.rx_drops);
	STACK_COUNT(s, XSK_TX_EMPTY, now->tx_empty - was.tx_empty);
}

static void tell_rings(struct stack *s)
{
	struct port_rings r, *now = &s->rings[0], *before = &s->rings[1];

	if (!s->c.port->rings)
		return;
	if (s->now - s->rings_since >= RINGS_NS) {
		*before = *now;
		*now = (struct port_rings){0};
		s->rings_since = s->now;
	}
	s->c.port->rings(s->port, &r);
	*now = (struct port_rings){MAX(now->rx, r.rx), MAX(now->tx, r.tx)};
	s->counters[DMM_INSTANCE_RING(DMM_RING_RX)] = MAX(now->rx, before->rx) + 1;
	s->counters[DMM_INSTANCE_RING(DMM_RING_TX)] = MAX(now->tx, before->tx) + 1;
}

/* One turn of everything that is not a descriptor. events: how many of those there were. Returns
 * whether more waits. */
static bool turn(struct stack *s, unsigned events)
{
	unsigned frames = path_receive(s, RX_BUDGET);

	if (events || frames)
		spin_worked(&s->spin, s->now);

	s->c.engine->poll(s->engine, s->now, &s->engine_next);
	relay_work(s);
	s->c.engine->poll(s->engine, s->now, &s->engine_next); /* what the relay asked of it */
	net_poll(s->net, s->now, &s->net_next);
	if (s->now >= s->tick_due)
		tick(s);
	s->c.port->flush(s->port);
	flow_reap(s);
	udp_reap(s);
	owned_reap(s);
	if (s->now - s->rt->heartbeat_ns >= BEAT_NS) {
		s->rt->heartbeat_ns = s->now;
		count_kernel(s);
		tell_rings(s);
	}
	return frames >= RX_BUDGET;
}

/* Wait until there is something to do; returns how many of ev. */
static int stack_wait(struct stack *s, struct epoll_event *ev, int timeout)
{
	bool (*sleep)(struct port * p, bool sleep) = timeout ? s->c.port->sleep : NULL;
	int n;

	if (sleep && !sleep(s->port, true))
		timeout = 0;
	n = epoll_wait(s->epoll, ev, EVENTS, timeout);
	if (sleep)
		sleep(s->port, false);
	return n;
}

int stack_run(struct stack *s)
{
	struct epoll_event ev[EVENTS];
	bool more = true;
	int n, timeout;

	while (!s->stopping) {
		timeout = timeout_ms(s, more);
		n = stack_wait(s, ev, timeout);
		s->now = now_ns();
		if (timeout)
			STACK_COUNT(s, WAKEUPS, 1);
		else if (n <= 0 && s->c.poll == DMM_POLL_ADAPTIVE)
			sched_yield(); /* what it waits for may want this CPU */
		for (int i = 0; i < n; i++) {
			struct watch *w = ev[i].data.ptr;

			if (w->cb)
				w->cb(s, w, ev[i].events);
		}
		more = turn(s, n > 0 ? (unsigned)n : 0);
	}
	return s->exit_code;
}
