// SPDX-License-Identifier: Apache-2.0
/*
 * Bytes between carrier and engine. No buffer of its own: what is read from the carrier is what the
 * engine has room for, and goes into its memory if much of it comes; what the engine received goes
 * to the carrier at once if it is much, else it stays there, its window closed, until the carrier
 * takes it. So a slow reader stops the sender, through both.
 *
 * The carrier is watched edge-triggered: a direction is tried until it says EAGAIN, or nothing more
 * can be there, and again when epoll reports it.
 */
#include <errno.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "userstack/stack.h"

#define RELAY_EVENTS (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET)
#define RELAY_IOV 32
#define RELAY_CHUNK 65536
#define RELAY_ROUND (4 * RELAY_CHUNK)  /* of one flow before the others have their turn */
#define RELAY_TURN (2 * RELAY_CHUNK)   /* of all before what was received has its turn */
#define RELAY_BULK (RELAY_CHUNK / 4)   /* who sends that much at once will again */
#define RELAY_DIRECT (RELAY_CHUNK / 4) /* worth a call of its own */

/*
 * What a carrier holds while one of its ends does not read; it would be megabytes. With the MSS of
 * loopback, 64 KiB, the application's kernel lets it write 2.6 MB ahead, twice ten segments
 * (tcp_sndbuf_expand()); three of these fill the largest packet. The rest is our end's: what it
 * receives, which the kernel doubles, and what it has sent that the other end has no room for.
 */
#define CARRIER_MSS 21738
#define CARRIER_RECEIVE RELAY_CHUNK
#define CARRIER_UNSENT (2 * RELAY_CHUNK)

/* An application that closed its socket while we have nothing to send leaves no trace here until
 * its kernel forgets the connection (tcp_fin_timeout, 60 s) and answers a probe with a reset. */
#define PROBE_IDLE_S 75
#define PROBE_INTERVAL_S 15
#define PROBES 3

#define LOST_STUCK_NS 5000000000ULL
#define LOST_SWEEP 512 /* flows that are looked at in each tick */

enum pump { PUMP_IDLE, PUMP_MORE, PUMP_DEAD };

void relay_set_abortive(int fd, bool on)
{
	struct linger l = {.l_onoff = on};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

void relay_prepare(int fd)
{
	int on = 1, mss = CARRIER_MSS, receive = CARRIER_RECEIVE, unsent = CARRIER_UNSENT;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	/* The urgent byte is read in its place, SIOCATMARK tells which it is: see relay_take(). */
	setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	/* The host's default may be one that paces (bbr), which is slower over loopback. */
	setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
	relay_set_abortive(fd, true);
	setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof(mss));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive, sizeof(receive));
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
}

static void relay_probe(int fd)
{
	int on = 1, idle = PROBE_IDLE_S, interval = PROBE_INTERVAL_S, count = PROBES;

	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

/* The engine took less than it had room for: keep the rest. */
static bool relay_keep(struct flow *f, const uint8_t *data, size_t len)
{
	f->left = malloc(len);
	if (!f->left)
		return false;
	memcpy(f->left, data, len);
	f->left_off = 0;
	f->left_len = len;
	return true;
}

static ssize_t relay_send(struct stack *s, struct flow *f, const void *data, size_t len,
			  bool urgent)
{
	return urgent ? s->c.engine->send_urgent(f->owned->conn, data)
		      : s->c.engine->send(f->owned->conn, data, len);
}

static enum pump relay_push_left(struct stack *s, struct flow *f)
{
	ssize_t n;

	n = relay_send(s, f, f->left + f->left_off, f->left_len, f->left_urgent);
	if (n < 0)
		return PUMP_DEAD;
	f->left_off += (size_t)n;
	f->left_len -= (size_t)n;
	if (f->left_len)
		return PUMP_IDLE;
	free(f->left);
	f->left = NULL;
	return PUMP_MORE;
}

/* The application's FIN goes on behind its last byte. */
static void relay_app_eof(struct stack *s, struct flow *f)
{
	f->app_eof = true;
	f->readable = false;
	s->c.engine->shutdown(f->owned->conn);
	f->far_shut = true;
	if (!f->far_eof)
		relay_probe(f->watch.fd);
}

/* Does what waits in the socket begin with an urgent byte? */
static int relay_mark(struct stack *s, const struct flow *f, int *ret)
{
	*ret = 0;
	return hold_urgent(s->hold) ? ioctl(f->watch.fd, SIOCATMARK, ret) : 0;
}

static int relay_ask(struct stack *s, const struct flow *f, int *ret_queued, int *ret_mark)
{
	return ioctl(f->watch.fd, SIOCINQ, ret_queued) < 0 ? -1 : relay_mark(s, f, ret_mark);
}

/* No more than len bytes of it. */
static void relay_cut(struct iovec *iov, unsigned n, size_t len)
{
	for (unsigned i = 0; i < n; i++) {
		iov[i].iov_len = MIN(iov[i].iov_len, len);
		len -= iov[i].iov_len;
	}
}

/* What is read from a carrier, on its way. */
struct buffer {
	struct iovec iov[RELAY_IOV];
	int n;	       /* of iov */
	bool reserved; /* they are the engine's memory, not data */
	uint8_t data[RELAY_CHUNK];
};

struct taken {
	bool urgent; /* one byte, and that is urgent */
	bool all;    /* nothing was left behind it that epoll will not report */
};

/*
 * recv() ends before an urgent byte, but does not tell when it begins with one. What is queued now
 * does not become urgent later: so look at the mark, then take no more than was there before.
 * Right after epoll reported bytes without EPOLLPRI there is no need to ask how many. b has room
 * for that many bytes. Returns as recv().
 */
static ssize_t relay_take(struct stack *s, struct flow *f, struct buffer *b, size_t room,
			  struct taken *ret)
{
	char peeked;
	/* a spliced carrier has two queues: a recv() ends where one does, SIOCINQ tells of one */
	bool two = f->rec.carrier == DMM_CARRIER_SPLICE, ask = !f->fresh || two;
	int queued = 0, mark = 0, still = 0;
	ssize_t n;

	if (ask && relay_ask(s, f, &queued, &mark) < 0)
		return -1;
	if (ask && !queued && !mark && !f->hup && !f->error) {
		errno = EAGAIN;
		n = two ? recv(f->watch.fd, &peeked, 1, MSG_PEEK | MSG_DONTWAIT) : -1;
		if (n < 0 || (n > 0 && relay_ask(s, f, &queued, &mark) < 0))
			return -1;
	}
	/* an urgent byte may have come while epoll looked */
	if (!ask && relay_mark(s, f, &mark) < 0)
		return -1;
	if (mark)
		room = 1;
	else if (queued)
		room = MIN(room, (size_t)queued);
	relay_cut(b->iov, (unsigned)b->n, room);
	n = readv(f->watch.fd, b->iov, b->n);
	/* the mark is TCP's: still there, the byte came from the other queue, which goes first */
	if (two && mark && n == 1 && ioctl(f->watch.fd, SIOCATMARK, &still) < 0)
		return -1;
	ret->urgent = mark && !still && n == 1;
	ret->all = !ask && !mark && n < (ssize_t)room && !f->hup && !f->error;
	f->fresh = false;
	return n;
}

/* Choose where to read to: the engine's own memory if much is to come. Returns the room there. */
static size_t relay_room(struct stack *s, struct flow *f, struct buffer *b)
{
	const struct engine_ops *e = s->c.engine;
	size_t room = MIN(e->room(f->owned->conn), sizeof(b->data)), len = 0;

	b->n = 0;
	if (room && f->bulk && e->reserve)
		b->n = (int)e->reserve(f->owned->conn, room, b->iov, ARRAY_SIZE(b->iov));
	b->reserved = b->n;
	if (!b->reserved)
		b->iov[b->n++] = (struct iovec){b->data, room};
	for (int i = 0; i < b->n; i++)
		len += b->iov[i].iov_len;
	return len;
}

/* n bytes that were read to b are the engine's. */
static enum pump relay_pass(struct stack *s, struct flow *f, const struct buffer *b, size_t n,
			    bool urgent)
{
	const uint8_t *data = b->data;
	uint8_t byte;
	ssize_t sent;

	if (b->reserved && !urgent) {
		s->c.engine->commit(f->owned->conn, n);
		return PUMP_MORE;
	}
	if (b->reserved) {
		byte = *(const uint8_t *)b->iov[0].iov_base;
		data = &byte;
	}
	sent = relay_send(s, f, data, n, urgent);
	if (sent < 0)
		return PUMP_DEAD;
	if ((size_t)sent == n)
		return PUMP_MORE;
	f->left_urgent = urgent;
	return relay_keep(f, data + sent, n - (size_t)sent) ? PUMP_IDLE : PUMP_DEAD;
}

/* Carrier to engine. */
static enum pump relay_from_app(struct stack *s, struct flow *f)
{
	static _Thread_local struct buffer buf;
	size_t total = 0, room;
	struct taken t;
	enum pump p;
	int error;
	ssize_t n;

	if (f->left) {
		p = relay_push_left(s, f);
		if (p != PUMP_MORE)
			return p;
	}
	while (f->readable && !f->app_eof) {
		if (total >= RELAY_ROUND)
			return PUMP_MORE;
		room = relay_room(s, f, &buf);
		if (!room)
			return PUMP_IDLE;
		n = relay_take(s, f, &buf, room, &t);
		error = n < 0 ? errno : 0;
		if (n <= 0 && buf.reserved)
			s->c.engine->commit(f->owned->conn, 0);
		if (error == EINTR)
			continue;
		if (error == EAGAIN) {
			f->readable = false;
			break;
		}
		if (n < 0)
			return PUMP_DEAD;
		if (!n) {
			relay_app_eof(s, f);
			break;
		}
		STACK_COUNT(s, APP_RX_BYTES, (dmm_u64)n);
		f->from_app += (uint64_t)n;
		f->bulk = n >= RELAY_BULK;
		total += (size_t)n;
		if (t.urgent)
			STACK_COUNT(s, URGENT_TX, 1);
		if (t.all)
			f->readable = false;
		p = relay_pass(s, f, &buf, (size_t)n, t.urgent);
		if (p != PUMP_MORE)
			return p;
	}
	return PUMP_IDLE;
}

/*
 * Send the bytes up to the urgent one, or that one alone. *ret_want: how many were tried. Returns
 * as sendmsg().
 */
static ssize_t relay_give(struct stack *s, struct flow *f, struct msghdr *m, size_t *ret_want)
{
	struct iovec *iov = m->msg_iov;
	size_t mark, want = 0;
	int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
	ssize_t n;

	for (unsigned i = 0; i < m->msg_iovlen; i++)
		want += iov[i].iov_len;
	if (s->c.engine->urgent(f->owned->conn, &mark) && mark < want) {
		flags |= mark ? 0 : MSG_OOB;
		want = mark ? mark : 1;
		relay_cut(iov, (unsigned)m->msg_iovlen, want);
	}
	n = sendmsg(f->watch.fd, m, flags);
	if (n == 1 && (flags & MSG_OOB))
		STACK_COUNT(s, URGENT_RX, 1);
	*ret_want = want;
	return n;
}

/* Engine to carrier. */
static enum pump relay_to_app(struct stack *s, struct flow *f)
{
	struct iovec iov[RELAY_IOV];
	struct msghdr m = {.msg_iov = iov};
	size_t total = 0, want;
	ssize_t n;

	while (f->writable) {
		if (total >= RELAY_ROUND)
			return PUMP_MORE;
		m.msg_iovlen = s->c.engine->peek(f->owned->conn, iov, RELAY_IOV);
		if (!m.msg_iovlen)
			break;
		n = relay_give(s, f, &m, &want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			f->writable = false;
			return PUMP_IDLE;
		}
		if (n < 0)
			return PUMP_DEAD;
		STACK_COUNT(s, APP_TX_BYTES, (dmm_u64)n);
		f->to_app += (uint64_t)n;
		total += (size_t)n;
		s->c.engine->consume(f->owned->conn, (size_t)n);
		if ((size_t)n < want)
			f->writable = false;
	}
	if (f->far_eof && !f->app_shut && !s->c.engine->peek(f->owned->conn, iov, 1)) {
		shutdown(f->watch.fd, SHUT_WR);
		f->app_shut = true;
	}
	return PUMP_IDLE;
}

/* Engine to carrier, without a stop in between. Whatever goes wrong relay_to_app() finds again. */
size_t relay_received(struct stack *s, struct flow *f, const void *data, size_t len)
{
	ssize_t n;

	if (len < RELAY_DIRECT || f->state != FLOW_OPEN || !f->writable)
		return 0;
	n = send(f->watch.fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return 0;
	STACK_COUNT(s, APP_TX_BYTES, (dmm_u64)n);
	f->to_app += (uint64_t)n;
	if ((size_t)n < len)
		f->writable = false;
	return (size_t)n;
}

/* The reset that is to come would discard what the carrier holds and the application's side has no
 * room for: be told when it has gone. False: there is nothing. */
static bool relay_unsent(struct stack *s, struct flow *f)
{
	int unsent = 0, one = 1;

	if (ioctl(f->watch.fd, SIOCOUTQNSD, &unsent) < 0 || !unsent)
		return false;
	setsockopt(f->watch.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &one, sizeof(one));
	f->writable = false;
	return !stack_watch(s, &f->watch, RELAY_EVENTS);
}

/* A spliced carrier has two queues, and no way to tell how full both are: it is not looked at. */
static void relay_wait(struct stack *s, struct flow *f)
{
	if (f->waits || f->rec.carrier == DMM_CARRIER_SPLICE)
		return;
	f->waits = true;
	f->moved_at = s->now;
	TAILQ_INSERT_TAIL(&s->lost, f, lost_entry);
}

/* A dead engine connection takes nothing more, but what it received before is delivered, the far
 * side's FIN too: the application finds the reset behind that, as it would with the kernel. */
static void relay_lost(struct stack *s, struct flow *f)
{
	enum pump down = relay_to_app(s, f);

	if (down == PUMP_MORE)
		flow_queue(s, f);
	else if (down == PUMP_DEAD || f->error)
		flow_kill(s, f, "reset by the application");
	else if (f->writable && !relay_unsent(s, f))
		flow_kill(s, f, "reset by the far side");
	else
		relay_wait(s, f);
}

/* May the carrier have no room for what the application writes? Its kernel closes the window when
 * less than half of the buffer is free, and a segment would not fit. */
static bool relay_full(const struct flow *f)
{
	uint32_t mem[SK_MEMINFO_VARS];
	socklen_t len = sizeof(mem);

	if (getsockopt(f->watch.fd, SOL_SOCKET, SO_MEMINFO, mem, &len) < 0)
		return false;
	return mem[SK_MEMINFO_RMEM_ALLOC] > mem[SK_MEMINFO_RCVBUF] / 2;
}

/*
 * An application that waits until more is taken of what it writes, and reads nothing meanwhile,
 * waits for ever: nobody takes it. It is told now, as the kernel would have told it, and so loses
 * what is not in its own socket's queue yet. Its kernel tells that something was read only when its
 * window opens again, which takes 64 KiB of a reader (a sixteenth of its buffer if that is more):
 * hence the time, and nobody is told who could still write.
 */
static void relay_tell(struct stack *s, struct flow *f)
{
	int queued = 0, written = 0;
	uint64_t moved;

	if (ioctl(f->watch.fd, SIOCOUTQ, &queued) < 0 || ioctl(f->watch.fd, SIOCINQ, &written) < 0)
		return;
	moved = f->to_app - (uint64_t)queued + (uint64_t)written; /* both only grow */
	if (moved != f->moved) {
		f->moved = moved;
		f->moved_at = s->now;
	} else if (s->now - f->moved_at >= LOST_STUCK_NS && relay_full(f)) {
		flow_kill(s, f, "reset by the far side");
	}
}

void relay_tick(struct stack *s)
{
	struct flow *f;

	for (unsigned i = 0; i < LOST_SWEEP && (f = TAILQ_FIRST(&s->lost)); i++) {
		if (f->looked == s->now)
			break;
		f->looked = s->now;
		TAILQ_REMOVE(&s->lost, f, lost_entry);
		TAILQ_INSERT_TAIL(&s->lost, f, lost_entry);
		relay_tell(s, f);
	}
}

static void relay_one(struct stack *s, struct flow *f)
{
	enum pump up, down;

	if (f->lost) {
		relay_lost(s, f);
		return;
	}
	down = relay_to_app(s, f);
	up = relay_from_app(s, f);
	/* The other way round, what the application sent before its reset goes out, if it can. */
	if (up == PUMP_DEAD || down == PUMP_DEAD || (f->error && up != PUMP_MORE)) {
		flow_kill(s, f, "reset by the application");
		return;
	}
	if (f->app_eof && f->app_shut && !f->left) {
		flow_finish(s, f);
		return;
	}
	if (up == PUMP_MORE || down == PUMP_MORE)
		flow_queue(s, f);
}

static uint64_t relay_moved(const struct stack *s)
{
	return s->counters[DMM_I_APP_RX_BYTES] + s->counters[DMM_I_APP_TX_BYTES];
}

/*
 * What the far side sends is acknowledged between turns. If it is one that measures the path (BBR),
 * it takes the length of a turn for the path's and many turns for a slow one: a turn is short.
 * Small messages are all in it.
 */
void relay_work(struct stack *s)
{
	const uint64_t from = relay_moved(s);
	struct flow mark, *f; /* what is queued from here on is for the next turn */

	TAILQ_INSERT_TAIL(&s->work, &mark, work_entry);
	while ((f = TAILQ_FIRST(&s->work)) != &mark && relay_moved(s) - from < RELAY_TURN) {
		TAILQ_REMOVE(&s->work, f, work_entry);
		f->in_work = false;
		relay_one(s, f);
	}
	TAILQ_REMOVE(&s->work, &mark, work_entry);
}

static void relay_watch(struct stack *s, struct watch *w, uint32_t events)
{
	struct flow *f = (struct flow *)w;

	if (events & (EPOLLIN | EPOLLPRI))
		f->readable = true;
	f->fresh = (events & (EPOLLIN | EPOLLPRI)) == EPOLLIN;
	if (events & EPOLLOUT)
		f->writable = true;
	if (events & EPOLLRDHUP)
		f->hup = f->readable = true;
	if (events & (EPOLLERR | EPOLLHUP)) {
		/* EPOLLHUP alone: both FINs are out, that is no error. */
		f->error |= !!(events & EPOLLERR);
		f->readable = f->writable = true;
	}
	flow_queue(s, f);
}

void relay_start(struct stack *s, struct flow *f)
{
	int r;

	flow_set_state(s, f, FLOW_OPEN);
	f->watch.cb = relay_watch;
	f->writable = true; /* and epoll reports what is there to read */
	r = stack_watch(s, &f->watch, RELAY_EVENTS);
	if (r < 0) {
		if (stack_may_complain(s))
			log_err("cannot watch a carrier: %s", strerror(-r));
		flow_kill(s, f, "no memory");
		return;
	}
	flow_queue(s, f);
}

void relay_engine_event(struct stack *s, struct flow *f, unsigned events, int error)
{
	if (events & ENGINE_EOF)
		f->far_eof = true;
	if (events & ENGINE_FAILED) {
		f->lost = true;
		f->failed = error;
	}
	if (events & ENGINE_ALIVE)
		keepalive_answer(s, f);
	flow_queue(s, f);
}
