// SPDX-License-Identifier: Apache-2.0
/* A thread of an instance from start to end, and the loop in between. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "userstack/port/ports.h"
#include "userstack/stack.h"

#define EVENTS 128
#define RX_BUDGET 64
#define TICK_NS 1000000000ULL
#define LOOK_NS 2000 /* descriptors, while the port is searched: a system call */
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
	instance_stop(s->inst, 0);
}

static void on_stop(struct stack *s, struct watch *w, uint32_t events)
{
	(void)w;
	(void)events;
	s->stopping = true;
}

/* ---- opening ---- */

static int open_process(struct stack *s)
{
	int r;

	s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->spare_fd < 0 || s->epoll < 0)
		return -errno;
	s->stop_watch = (struct watch){s->inst->stop_fd, on_stop};
	r = stack_watch(s, &s->stop_watch, EPOLLIN);
	if (r < 0 || s->thread)
		return r;
	s->signal_watch = (struct watch){s->inst->signal_fd, on_signal};
	return stack_watch(s, &s->signal_watch, EPOLLIN);
}

/* What arrives on a queue is for the socket of that queue. */
static int steer_port(struct stack *s, const struct port_config *pc)
{
	int fd, r = 0;

	for (unsigned i = 0; i < DMM_MAX_QUEUES && (fd = s->c.port->fd(s->port, i)) >= 0; i++) {
		s->port_watch[i] = (struct watch){fd, on_port};
		r = xdp_steer(s->xdp, pc->queue + i * pc->step, fd);
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

/*
 * On a veth a packet needs no checksum, as those of the kernel need none there: it stays on the
 * host, or the kernel completes it where it leaves. Of what AF_XDP hands to another device the
 * kernel knows neither protocol nor headers, as some drivers want it to, and virtio_net's frames
 * lose their metadata before Linux 6.17. Where sums have to be, we make them: faster than the
 * kernel could.
 */
static bool may_partial(const char *interface)
{
	return xdp_is_veth(interface) && port_device_sums(interface);
}

static int open_port(struct stack *s)
{
	struct port_config pc = {.interface = s->c.interface, .ifindex = s->ifindex};
	struct port_ring ring;
	int r;

	instance_queues(s->inst, s->thread, &pc);
	if (s->inst->xdp_mode == DMM_XDP_TC) /* all comes by the ring */
		pc.queues = 0;
	pc.may_zerocopy = s->inst->xdp_mode == DMM_XDP_NATIVE;
	pc.may_partial = may_partial(s->c.interface);
	if (xdp_ring(s->xdp, s->thread, &ring.fd, &ring.asleep)) {
		pc.ring = &ring;
		s->ring_watch = (struct watch){ring.fd, on_port};
		r = stack_watch(s, &s->ring_watch, EPOLLIN);
		if (r < 0)
			return r;
	}
	r = s->c.port->open(&s->port, &pc);
	return r < 0 ? r : steer_port(s, &pc);
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

int stack_open(struct stack **ret, struct instance *in, unsigned thread)
{
	struct stack *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->inst = in;
	s->thread = thread;
	s->c = in->c;
	s->id = in->id;
	s->ifindex = in->ifindex;
	s->netns = in->netns;
	s->tree = &in->tree;
	s->rt = in->rt;
	s->xdp = in->xdp;
	s->counters = &in->tree.instctr[DMM_INSTANCE_ROW(in->id, thread)];
	for (unsigned i = 0; i < DMM_RING_COUNT; i++)
		s->counters[DMM_INSTANCE_RING(i)] = 0; /* of an instance before */
	s->now = now_ns();
	spin_init(&s->spin);
	s->epoll = s->spare_fd = -1;
	s->inject = (struct inject){-1, -1};
	for (unsigned i = 0; i < DMM_CARRIER_PORTS; i++)
		s->carrier4[i].watch.fd = s->carrier6[i].watch.fd = -1;
	TAILQ_INIT(&s->flows);
	TAILQ_INIT(&s->work);
	TAILQ_INIT(&s->held);
	TAILQ_INIT(&s->lost);
	TAILQ_INIT(&s->dead);
	TAILQ_INIT(&s->released);
	TAILQ_INIT(&s->listening);
	r = open_process(s);
	if (!r)
		r = samples_open(&s->samples, s->tree);
	if (!r)
		r = hold_open(&s->hold, s->tree, s->id, thread);
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
	*ret = s;
	return 0;
}

void stack_close(struct stack *s)
{
	struct flow *f;

	s->stopping = true;
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
	if (s->hold)
		hold_close(s->hold);
	close_ptr(&s->epoll);
	close_ptr(&s->spare_fd);
	samples_close(&s->samples);
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
	next = MIN(MIN(s->engine_next, s->net_next), MIN(s->tick_due, s->beat + DMM_HEARTBEAT_NS));
	if (next <= s->now)
		return 0;
	return (int)MIN((next - s->now + 999999) / 1000000, 1000u);
}

static void tick(struct stack *s)
{
	s->tick_due = s->now - s->now % TICK_NS + TICK_NS; /* with the network's: one wake-up */
	path_tick(s);
	carrier_tick(s);
	udp_tick(s);
	listen_tick(s);
	relay_tick(s);
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
	bool more = frames >= RX_BUDGET;

	if (events || frames)
		spin_worked(&s->spin, s->now);

	s->c.engine->poll(s->engine, s->now, &s->engine_next);
	relay_work(s);
	if (hold_tos_told(s->hold) != s->tos_told) /* of what it has read, and is to be sent now */
		carrier_events(s);
	s->c.engine->poll(s->engine, s->now, &s->engine_next); /* what the relay asked of it */
	net_poll(s->net, s->now, &s->net_next);
	if (s->now >= s->tick_due)
		tick(s);
	more |= udp_settle(s);
	s->c.port->flush(s->port);
	flow_reap(s);
	udp_reap(s);
	owned_reap(s);
	if (s->now - s->beat >= BEAT_NS) {
		instance_beat(s->inst, s);
		count_kernel(s);
		tell_rings(s);
	}
	return more;
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

void stack_run(struct stack *s)
{
	struct epoll_event ev[EVENTS];
	bool more = true;
	uint64_t looked = 0;
	int n, timeout;

	while (!s->stopping) {
		timeout = timeout_ms(s, more);
		n = 0;
		if (timeout || s->now - looked >= LOOK_NS) {
			n = stack_wait(s, ev, timeout);
			looked = s->now;
			if (timeout)
				STACK_COUNT(s, WAKEUPS, 1);
			else if (n <= 0 && s->c.poll == DMM_POLL_ADAPTIVE)
				sched_yield(); /* what it waits for may want this CPU */
		}
		s->now = now_ns();
		for (int i = 0; i < n; i++) {
			struct watch *w = ev[i].data.ptr;

			if (w->cb)
				w->cb(s, w, ev[i].events);
		}
		more = turn(s, n > 0 ? (unsigned)n : 0);
	}
}
