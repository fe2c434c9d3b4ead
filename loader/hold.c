// SPDX-License-Identifier: Apache-2.0
#include <asm/socket.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "dmm_hold.skel.h"

#include "bpf/dmm_hold.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/hold.h"

struct hold {
	struct tree *tree;
	unsigned stack, thread;
	struct dmm_hold_bpf *skel;
	struct ring_buffer *ring;
	int filter, local, first, set_local, set_off, udp_port;
	dmm_u64 netns;
	struct dmm_udp_free *udp_free;			   /* mmapped, DMM_MAX_STACKS */
	void (*cb)(const struct dmm_event *ev, void *ctx); /* of the hold_poll() under way */
	void *ctx;
};

#define UDP_FREE_LEN (DMM_MAX_STACKS * sizeof(struct dmm_udp_free))

static int netns_cookie(dmm_u64 *ret)
{
	_cleanup_close_ int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*ret);

	if (s < 0 || getsockopt(s, SOL_SOCKET, SO_NETNS_COOKIE, ret, &len) < 0)
		return -errno;
	return 0;
}

static int on_event(void *ctx, void *data, size_t len)
{
	const struct dmm_event *ev = data;
	struct hold *h = ctx;

	if (len >= sizeof(*ev) && h->cb &&
	    (ev->type != DMM_EV_AGAIN || len >= sizeof(struct dmm_again)))
		h->cb(ev, h->ctx);
	return 0;
}

int hold_open(struct hold **ret, struct tree *t, unsigned stack, unsigned thread)
{
	struct hold *h = calloc(1, sizeof(*h));
	dmm_u32 key = DMM_EVENTS_INDEX(stack, thread);
	int ring, r;
	void *p;

	if (!h)
		return -ENOMEM;
	h->tree = t;
	h->stack = stack;
	h->thread = thread;
	r = netns_cookie(&h->netns);
	if (r < 0)
		goto fail;
	p = mmap(NULL, UDP_FREE_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, t->map[TREE_UDP_FREE], 0);
	r = -errno;
	if (p == MAP_FAILED)
		goto fail;
	h->udp_free = p;
	h->skel = dmm_hold_bpf__open();
	r = -ENOMEM;
	if (!h->skel)
		goto fail;
	h->skel->rodata->dmm_stack_id = stack;
	h->skel->rodata->dmm_netns = h->netns;
	r = tree_reuse_maps(t, h->skel->obj);
	if (r == 0)
		r = dmm_hold_bpf__load(h->skel);
	if (r < 0)
		goto fail;
	h->filter = bpf_program__fd(h->skel->progs.dmm_hold);
	h->local = bpf_program__fd(h->skel->progs.dmm_local);
	h->first = bpf_program__fd(h->skel->progs.dmm_first);
	h->set_local = bpf_program__fd(h->skel->progs.dmm_set_local);
	h->set_off = bpf_program__fd(h->skel->progs.dmm_set_off);
	h->udp_port = bpf_program__fd(h->skel->progs.dmm_udp_port);
	ring = bpf_map__fd(h->skel->maps.dmm_ring);
	for (dmm_u32 i = 0; !thread && i < DMM_MAX_THREADS; i++) {
		dmm_u32 left = DMM_EVENTS_INDEX(stack, i); /* by one that was killed */

		bpf_map_delete_elem(t->map[TREE_EVENTS], &left);
	}
	h->ring = ring_buffer__new(ring, on_event, h, NULL);
	r = -errno;
	if (!h->ring)
		goto fail;
	if (bpf_map_update_elem(t->map[TREE_EVENTS], &key, &ring, 0) < 0) {
		r = -errno;
		goto fail;
	}
	*ret = h;
	return 0;
fail:
	log_err("cannot set up the SYN hold filter: %s", strerror(-r));
	hold_close(h);
	return r;
}

void hold_close(struct hold *h)
{
	dmm_u32 key;

	if (!h)
		return;
	key = DMM_EVENTS_INDEX(h->stack, h->thread);
	if (h->ring) {
		bpf_map_delete_elem(h->tree->map[TREE_EVENTS], &key);
		ring_buffer__free(h->ring);
	}
	dmm_hold_bpf__destroy(h->skel);
	if (h->udp_free)
		munmap(h->udp_free, UDP_FREE_LEN);
	free(h);
}

int hold_fd(const struct hold *h)
{
	return ring_buffer__epoll_fd(h->ring);
}

int hold_poll(struct hold *h, void (*cb)(const struct dmm_event *ev, void *ctx), void *ctx)
{
	h->cb = cb;
	h->ctx = ctx;
	return ring_buffer__consume(h->ring);
}

int hold_own(struct hold *h, int fd)
{
	struct dmm_sock st = {.flags = DMM_SF_INSTANCE, .stack = (dmm_u8)h->stack};

	return bpf_map_update_elem(h->tree->map[TREE_SOCK], &fd, &st, BPF_ANY) < 0 ? -errno : 0;
}

static int attach(int fd, int filter)
{
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &filter, sizeof(filter)) < 0 ? -errno : 0;
}

int hold_attach(struct hold *h, int fd)
{
	return attach(fd, h->filter);
}

int hold_udp_attach(struct hold *h, int fd, bool first)
{
	return attach(fd, first ? h->first : h->local);
}

bool hold_urgent(const struct hold *h)
{
	return __atomic_load_n(&h->skel->bss->dmm_urgent, __ATOMIC_ACQUIRE);
}

void hold_use_tos(struct hold *h)
{
	__atomic_store_n(&h->skel->bss->dmm_tos_seen, 1, __ATOMIC_RELEASE);
}

unsigned hold_tos_told(const struct hold *h)
{
	return __atomic_load_n(&h->skel->bss->dmm_tos_told, __ATOMIC_ACQUIRE);
}

int hold_set_local(struct hold *h, const struct dmm_flow *flow, const struct dmm_addr *local)
{
	struct dmm_set_local args = {
		.cookie = flow->cookie,
		.since_ns = flow->since_ns,
		.remote = flow->remote,
		.local = *local,
		.congestion = flow->congestion,
	};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &args, .ctx_size_in = sizeof(args));
	int r = bpf_prog_test_run_opts(h->set_local, &opts);

	return r < 0 ? r : opts.retval ? 0 : -ENOENT;
}

int hold_set_flow(struct hold *h, int fd, struct dmm_flow *flow)
{
	socklen_t len = sizeof(flow->cookie);
	struct dmm_flow f;

	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &flow->cookie, &len) < 0)
		return -errno;
	f = *flow;
	f.since_ns = now_ns();
	f.gated = 0;
	f.kernel_sk = 0;
	if (bpf_map_update_elem(h->tree->map[TREE_PENDING], &f.cookie, &f, 0) < 0)
		return -errno;
	return 0;
}

void hold_forget(struct hold *h, int fd)
{
	dmm_u64 cookie;
	socklen_t len = sizeof(cookie);

	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0)
		bpf_map_delete_elem(h->tree->map[TREE_PENDING], &cookie);
}

int hold_listeners(struct hold *h, void (*cb)(const struct dmm_listener *l, void *ctx), void *ctx)
{
	int map = h->tree->map[TREE_LISTEN];
	struct dmm_listener l;
	dmm_u64 key, next;
	void *prev = NULL;

	for (int n = 0; n < 2 * DMM_MAX_LISTENS; n++) {
		if (bpf_map_get_next_key(map, prev, &next) < 0)
			return errno == ENOENT ? 0 : -errno;
		key = next;
		prev = &key;
		if (bpf_map_lookup_elem(map, &key, &l) == 0 && l.stack == h->stack)
			cb(&l, ctx);
	}
	return 0;
}

int hold_listener_off(struct hold *h, dmm_u64 cookie, dmm_u8 off)
{
	struct dmm_set_off args = {.cookie = cookie, .off = off};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &args, .ctx_size_in = sizeof(args));
	int r = bpf_prog_test_run_opts(h->set_off, &opts);

	return r < 0 ? r : opts.retval ? 0 : -ENOENT;
}

static unsigned threads_of(const struct hold *h)
{
	return MAX((unsigned)h->tree->rt[h->stack].threads, 1u);
}

bool hold_udp_wants(const struct hold *h)
{
	const struct dmm_udp_free *f = &h->udp_free[h->stack];

	for (unsigned i = h->thread; i < DMM_UDP_FREE; i += threads_of(h))
		if (!__atomic_load_n(&f->carrier[i], __ATOMIC_RELAXED))
			return true;
	return false;
}

int hold_udp_offer(struct hold *h, int fd, dmm_u16 port)
{
	struct dmm_udp_free *f = &h->udp_free[h->stack];
	dmm_u32 none, next = __atomic_load_n(&f->next, __ATOMIC_RELAXED);
	unsigned step = threads_of(h);
	int r = hold_own(h, fd);

	if (r)
		return r;
	/* of our places, what is taken next first */
	next += (h->thread + step - next % step) % step;
	for (unsigned n = 0; n < DMM_UDP_FREE; n += step) {
		none = 0; /* a program may give one back just now */
		if (__atomic_compare_exchange_n(&f->carrier[(next + n) % DMM_UDP_FREE], &none,
						DMM_UDP_CARRIER(port, h->thread), false,
						__ATOMIC_RELEASE, __ATOMIC_RELAXED))
			return 0;
	}
	return -EAGAIN;
}

static struct dmm_udp_key udp_key(const struct hold *h, dmm_u16 port)
{
	return (struct dmm_udp_key){.netns = h->netns, .port = port};
}

int hold_udp_port(struct hold *h, dmm_u16 port, struct udp_seen *ret)
{
	struct dmm_udp_key key = udp_key(h, port);
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &key, .ctx_size_in = sizeof(key));
	int r = bpf_prog_test_run_opts(h->udp_port, &opts);

	if (r < 0)
		return r;
	ret->left = opts.retval & DMM_UDP_LEFT;
	ret->moved = opts.retval & DMM_UDP_MOVED;
	return (int)(opts.retval & 0xffff);
}

bool hold_udp_known(const struct hold *h, dmm_u16 port)
{
	struct dmm_udp_key key = udp_key(h, port);
	struct dmm_flow flow;

	return bpf_map_lookup_elem(h->tree->map[TREE_UDP], &key, &flow) == 0;
}

void hold_udp_forget(struct hold *h, dmm_u16 port)
{
	struct dmm_udp_key key = udp_key(h, port);

	bpf_map_delete_elem(h->tree->map[TREE_UDP], &key);
}

/* They may have been given back to places of other threads. */
void hold_udp_withdraw(struct hold *h)
{
	dmm_u32 *at = h->udp_free[h->stack].carrier, carrier;

	for (unsigned i = 0; i < DMM_UDP_FREE; i++) {
		carrier = __atomic_load_n(&at[i], __ATOMIC_RELAXED);
		if (carrier && DMM_UDP_THREAD(carrier) == h->thread)
			__atomic_compare_exchange_n(&at[i], &carrier, 0, false, __ATOMIC_RELAXED,
						    __ATOMIC_RELAXED);
	}
}

void hold_udp_clear(struct hold *h)
{
	for (unsigned i = 0; i < DMM_UDP_FREE; i++)
		__atomic_store_n(&h->udp_free[h->stack].carrier[i], 0, __ATOMIC_RELAXED);
}

/* The first thread's: what no thread of now had. */
static bool udp_mine(const struct hold *h, const struct dmm_flow *flow)
{
	unsigned thread = flow->thread < threads_of(h) ? flow->thread : 0;

	return flow->stack == h->stack && thread == h->thread;
}

void hold_udp_flows(struct hold *h, bool (*cb)(dmm_u16 port, const struct dmm_flow *f, void *ctx),
		    void *ctx)
{
	int map = h->tree->map[TREE_UDP];
	struct dmm_udp_key key, next;
	struct dmm_flow flow;
	bool more = bpf_map_get_next_key(map, NULL, &next) == 0, mine;
	bool *seen = calloc(UINT16_MAX + 1, sizeof(*seen));

	while (more && seen) {
		key = next;
		more = bpf_map_get_next_key(map, &key, &next) == 0;
		if (bpf_map_lookup_elem(map, &key, &flow) < 0 || !udp_mine(h, &flow))
			continue;
		mine = key.netns == h->netns && flow.thread == h->thread;
		/* behind one that another instance has removed meanwhile all come again */
		if (mine && seen[(dmm_u16)key.port])
			continue;
		if (mine)
			seen[(dmm_u16)key.port] = true;
		if (!mine || !cb((dmm_u16)key.port, &flow, ctx))
			bpf_map_delete_elem(map, &key);
	}
	free(seen);
}

int hold_route_set(struct hold *h, const dmm_u8 ip[16], unsigned plen, enum dmm_route_type type,
		   const dmm_u8 source[16])
{
	struct dmm_route_key key = {.plen = 32 + plen, .stack = h->stack};
	struct dmm_route value = {.type = type};

	memcpy(value.source, source, 16);
	memcpy(key.ip, ip, 16);
	if (bpf_map_update_elem(h->tree->map[TREE_ROUTE], &key, &value, 0) < 0)
		return -errno;
	return 0;
}

int hold_route_del(struct hold *h, const dmm_u8 ip[16], unsigned plen)
{
	struct dmm_route_key key = {.plen = 32 + plen, .stack = h->stack};

	memcpy(key.ip, ip, 16);
	if (bpf_map_delete_elem(h->tree->map[TREE_ROUTE], &key) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

int hold_route_clear(struct hold *h)
{
	int map = h->tree->map[TREE_ROUTE];
	struct dmm_route_key key, next;
	bool have = false, mine;

	while (bpf_map_get_next_key(map, have ? &key : NULL, &next) == 0) {
		mine = have && key.stack == h->stack;
		if (mine)
			bpf_map_delete_elem(map, &key);
		key = next;
		have = true;
	}
	if (have && key.stack == h->stack)
		bpf_map_delete_elem(map, &key);
	return 0;
}
