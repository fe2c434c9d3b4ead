// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <xdp/libxdp.h>

#include "bpf/dmm_abi.h" /* the skeleton uses it */

#include "dmm_blank.skel.h"
#include "dmm_xdp.skel.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/probe.h"
#include "loader/xdp.h"

/* A pair of UDP that was taken over from this thread, which still has it. */
struct left_pair {
	struct left_pair *next;
	struct dmm_xflow_key key;
	dmm_u8 value;
};

struct xdp {
	struct dmm_xdp_bpf *skel;
	int ifindex;
	enum dmm_xdp_mode mode;
	struct xdp_program *prog; /* native, generic */
	bool attached;		  /* prog is */
	int tc_link;		  /* tc, or several threads */
	unsigned threads;
	int ring[DMM_MAX_THREADS];    /* of each thread; -1: none */
	struct dmm_xdp_bpf__bss *bss; /* mapped, if there are rings */
	pthread_mutex_t lock;	      /* of what is read, changed and written back */
	dmm_u64 *bits;		      /* dmm_xbits, mapped */
	struct left_pair *left;	      /* the last one first */
	dmm_u32 users[2][65536];      /* entries of this local port, of TCP and of UDP */
};

#define XDP_NAME "dmm_xdp"

static int silent(enum libxdp_print_level level, const char *fmt, va_list ap)
{
	(void)level;
	(void)fmt;
	(void)ap;
	return 0;
}

static dmm_u32 map_id(int fd)
{
	struct bpf_map_info info = {};
	dmm_u32 len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) == 0 ? info.id : 0;
}

/* The stack id in the constants of a steering program, from its .rodata map. */
static bool constants_name(int map, unsigned stack)
{
	struct bpf_map_info info = {};
	dmm_u32 len = sizeof(info), key = 0;
	struct dmm_steer value;

	if (bpf_obj_get_info_by_fd(map, &info, &len) < 0 || !strstr(info.name, "rodata") ||
	    info.value_size != sizeof(value))
		return false;
	return bpf_map_lookup_elem(map, &key, &value) == 0 && value.stack == stack;
}

/* A steering program of this tree and this stack: left by an instance that died, as there is one
 * instance of a stack at a time. Others' are none of our business. */
static bool is_ours(struct xdp_program *p, const struct tree *t, unsigned stack)
{
	dmm_u32 ids[64], want = map_id(t->map[TREE_XDPCTR]), len;
	struct bpf_prog_info info = {.map_ids = (dmm_u64)(uintptr_t)ids, .nr_map_ids = 64};
	bool tree = false, id = false;

	len = sizeof(info);
	if (strcmp(xdp_program__name(p), XDP_NAME) != 0 ||
	    bpf_obj_get_info_by_fd(xdp_program__fd(p), &info, &len) < 0)
		return false;
	for (dmm_u32 i = 0; i < info.nr_map_ids && i < ARRAY_SIZE(ids); i++) {
		_cleanup_close_ int map = bpf_map_get_fd_by_id(ids[i]);

		tree |= ids[i] == want;
		id |= map >= 0 && constants_name(map, stack);
	}
	return tree && id;
}

int xdp_sweep(const struct tree *t, unsigned stack, int ifindex)
{
	struct xdp_multiprog *mp;
	struct xdp_program *p = NULL;
	int r = 0;

	libxdp_set_print(silent);
	mp = xdp_multiprog__get_from_ifindex(ifindex);
	if (libxdp_get_error(mp))
		return 0; /* nothing attached, or no such interface any more */
	if (xdp_multiprog__is_legacy(mp)) {
		p = xdp_multiprog__main_prog(mp);
		if (p && is_ours(p, t, stack))
			r = xdp_multiprog__detach(mp);
	} else {
		while ((p = xdp_multiprog__next_prog(p, mp)))
			if (is_ours(p, t, stack))
				break;
		if (p)
			r = xdp_program__detach(p, ifindex, xdp_multiprog__attach_mode(mp), 0);
	}
	xdp_multiprog__close(mp);
	return r;
}

bool xdp_is_veth(const char *ifname)
{
	_cleanup_close_ int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	struct ifreq ifr = {};

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
	ifr.ifr_data = (char *)&info;
	return s >= 0 && ioctl(s, SIOCETHTOOL, &ifr) == 0 && strcmp(info.driver, "veth") == 0;
}

/* What comes by tc. */
static bool has_rings(const struct xdp *x)
{
	return x->mode == DMM_XDP_TC || x->threads > 1;
}

/* A fresh object with the tree's maps, not loaded yet, that has only the programs of this mode. */
static int open_object(struct xdp *x, struct tree *t, unsigned stack)
{
	bool tc = x->mode == DMM_XDP_TC;

	x->skel = dmm_xdp_bpf__open();
	if (!x->skel)
		return -ENOMEM;
	x->skel->rodata->dmm_steer =
		(struct dmm_steer){.stack = stack, .threads = x->threads, .queues = !tc};
	bpf_program__set_autoload(x->skel->progs.dmm_xdp, !tc);
	bpf_program__set_autoload(x->skel->progs.dmm_tc, has_rings(x));
	if (!has_rings(x))
		bpf_map__set_autocreate(x->skel->maps.dmm_frames, false);
	if (tc || x->threads == 1) /* nobody looks at it */
		bpf_map__set_max_entries(x->skel->maps.dmm_xsyn, 64);
	return tree_reuse_maps(t, x->skel->obj);
}

/* ---- rings ---- */

/* A ring for each thread, and where they say that they sleep. */
static int open_rings(struct xdp *x)
{
	int outer = bpf_map__fd(x->skel->maps.dmm_frames);
	void *p = mmap(NULL, sizeof(*x->bss), PROT_READ | PROT_WRITE, MAP_SHARED,
		       bpf_map__fd(x->skel->maps.bss), 0);

	if (p == MAP_FAILED)
		return -errno;
	x->bss = p;
	for (dmm_u32 i = 0; i < x->threads; i++) {
		x->ring[i] = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "dmm_frame_ring", 0, 0,
					    DMM_FRAMES_SIZE, NULL);
		if (x->ring[i] < 0 || bpf_map_update_elem(outer, &i, &x->ring[i], 0) < 0)
			return -errno;
	}
	return 0;
}

static void close_rings(struct xdp *x)
{
	for (unsigned i = 0; i < x->threads; i++) {
		if (x->ring[i] >= 0)
			close(x->ring[i]);
		x->ring[i] = -1;
	}
	if (x->bss)
		munmap(x->bss, sizeof(*x->bss));
	x->bss = NULL;
}

/* ---- XDP on the interface ---- */

static enum xdp_attach_mode libxdp_mode(const struct xdp *x)
{
	return x->mode == DMM_XDP_NATIVE ? XDP_MODE_NATIVE : XDP_MODE_SKB;
}

static int attach_xdp(struct xdp *x)
{
	DECLARE_LIBXDP_OPTS(xdp_program_opts, opts, .obj = x->skel->obj, .prog_name = XDP_NAME);
	int r;

	/* libxdp loads the object itself, as it may have to make it an extension of its dispatcher
	 */
	x->prog = xdp_program__create(&opts);
	r = libxdp_get_error(x->prog);
	if (r) {
		x->prog = NULL;
		return r;
	}
	r = xdp_program__attach(x->prog, x->ifindex, libxdp_mode(x), 0);
	x->attached = r == 0;
	return r;
}

/* ---- tc ---- */

#define TCX_INGRESS ((enum bpf_attach_type)46) /* Linux 6.6; libbpf 1.1 has no name for it */

/* The object is loaded. */
static int attach_tc(struct xdp *x)
{
	int r = open_rings(x);

	if (r < 0)
		return r;
	x->tc_link = bpf_link_create(bpf_program__fd(x->skel->progs.dmm_tc), x->ifindex,
				     TCX_INGRESS, NULL);
	return x->tc_link < 0 ? -errno : 0;
}

/* ---- either ---- */

#define BITS_LEN (DMM_XBITS_WORDS * sizeof(dmm_u64))

static int map_bits(struct xdp *x)
{
	void *p = mmap(NULL, BITS_LEN, PROT_READ | PROT_WRITE, MAP_SHARED,
		       bpf_map__fd(x->skel->maps.dmm_xbits), 0);

	if (p == MAP_FAILED)
		return -errno;
	x->bits = p;
	return 0;
}

static int left_add(struct xdp *x, const struct dmm_xflow_key *k, dmm_u8 value)
{
	struct left_pair *l = malloc(sizeof(*l));

	if (!l)
		return -ENOMEM;
	*l = (struct left_pair){x->left, *k, value};
	x->left = l;
	return 0;
}

/* The last of these that is value, or, if that is 0, whoever's. Returns its value; 0: none is. */
static dmm_u8 left_take(struct xdp *x, const struct dmm_xflow_key *k, dmm_u8 value)
{
	struct left_pair *l, **at;
	dmm_u8 ret;

	for (at = &x->left; (l = *at); at = &l->next)
		if (!memcmp(&l->key, k, sizeof(*k)) && (!value || l->value == value))
			break;
	if (!l)
		return 0;
	ret = l->value;
	*at = l->next;
	free(l);
	return ret;
}

static void unload(struct xdp *x)
{
	int r;

	if (x->bits)
		munmap(x->bits, BITS_LEN);
	x->bits = NULL;
	if (x->tc_link >= 0)
		close(x->tc_link);
	x->tc_link = -1;
	if (x->attached) {
		r = xdp_program__detach(x->prog, x->ifindex, libxdp_mode(x), 0);
		if (r < 0 && r != -ENODEV && r != -ENOENT)
			log_warn("cannot detach the XDP program of interface %d: %s", x->ifindex,
				 strerror(-r));
	}
	x->attached = false;
	if (x->prog)
		xdp_program__close(x->prog);
	x->prog = NULL;
	while (x->left)
		left_take(x, &x->left->key, 0);
	close_rings(x);
	dmm_xdp_bpf__destroy(x->skel);
	x->skel = NULL;
}

/*
 * What generic XDP has copied and passes on comes to tc without its Ethernet header (mac_len is not
 * copied, Linux 6.18). Several threads need tc in any case, and tc alone does all that both do.
 */
static int attach_as(struct xdp *x, struct tree *t, unsigned stack, enum dmm_xdp_mode mode)
{
	int r;

	if (mode == DMM_XDP_GENERIC && x->threads > 1)
		return -EOPNOTSUPP;
	x->mode = mode;
	r = open_object(x, t, stack);
	if (r == 0)
		r = mode == DMM_XDP_TC ? dmm_xdp_bpf__load(x->skel) : attach_xdp(x);
	if (r == 0 && has_rings(x))
		r = attach_tc(x);
	if (r == 0)
		r = map_bits(x);
	if (r < 0)
		unload(x);
	return r;
}

/*
 * Native XDP on a veth takes segmentation offload away from the peer and with it three quarters of
 * everybody's throughput; generic XDP copies everybody's packets. Measured in docs/benchmarks.md.
 */
static const enum dmm_xdp_mode on_device[] = {DMM_XDP_NATIVE, DMM_XDP_TC, DMM_XDP_GENERIC};
static const enum dmm_xdp_mode on_veth[] = {DMM_XDP_TC, DMM_XDP_GENERIC, DMM_XDP_NATIVE};

/* Where AF_XDP takes one buffer a frame, only native XDP helps a veth: it keeps the peer from
 * handing over segments that are larger. */
static const enum dmm_xdp_mode *best_first(const char *ifname, bool plain)
{
	bool frags = !plain && probe_af_xdp_frags() == 0;

	return frags && xdp_is_veth(ifname) ? on_veth : on_device;
}

int xdp_open(struct xdp **ret, struct tree *t, const struct xdp_config *c,
	     enum dmm_xdp_mode *ret_mode)
{
	const enum dmm_xdp_mode *order;
	char name[IF_NAMESIZE] = "?";
	libbpf_print_fn_t before;
	struct xdp *x;
	int r = -EINVAL;

	if_indextoname((unsigned)c->ifindex, name);
	x = calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	x->tc_link = -1;
	x->ifindex = c->ifindex;
	x->threads = c->threads;
	memset(x->ring, -1, sizeof(x->ring));
	pthread_mutex_init(&x->lock, NULL);
	libxdp_set_print(silent);
	xdp_sweep(t, c->stack, c->ifindex);
	if (c->want != DMM_XDP_NONE) {
		r = attach_as(x, t, c->stack, c->want);
	} else {
		before = libbpf_set_print(NULL); /* what does not work here is no error */
		order = best_first(name, c->plain);
		for (size_t i = 0; r < 0 && i < ARRAY_SIZE(on_device); i++)
			r = attach_as(x, t, c->stack, order[i]);
		libbpf_set_print(before);
	}
	if (r < 0) {
		log_err("cannot attach the steering program to %s: %s%s%s", name, strerror(-r),
			r == -EBUSY ? "; another program is attached, see: ip link show" : "",
			c->threads > 1 ? "; several threads need Linux 6.6 (tcx)" : "");
		free(x);
		return r;
	}
	*ret_mode = x->mode;
	*ret = x;
	return 0;
}

void xdp_close(struct xdp *x)
{
	if (!x)
		return;
	unload(x);
	pthread_mutex_destroy(&x->lock);
	free(x);
}

int xdp_blank_open(void)
{
	_cleanup_close_ int fd = memfd_create("dmm_blank", MFD_CLOEXEC);
	const void *file;
	size_t len;
	int ret;

	file = dmm_blank_bpf__elf_bytes(&len);
	if (fd < 0 || write(fd, file, len) != (ssize_t)len)
		return errno ? -errno : -EIO;
	ret = fd;
	fd = -1;
	return ret;
}

int xdp_blank_clear(int ifindex)
{
	LIBBPF_OPTS(bpf_xdp_attach_opts, opts);
	struct bpf_prog_info info = {};
	_cleanup_close_ int fd = -1;
	dmm_u32 id = 0, len = sizeof(info);

	if (bpf_xdp_query_id(ifindex, 0, &id) < 0 || !id)
		return 0;
	fd = bpf_prog_get_fd_by_id(id);
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len) < 0 ||
	    strcmp(info.name, "dmm_blank") != 0)
		return 0;
	opts.old_prog_fd = fd; /* or whatever has come since: -EEXIST */
	return bpf_xdp_detach(ifindex, 0, &opts);
}

bool xdp_ring(const struct xdp *x, unsigned thread, int *ret_fd, dmm_u32 **ret_asleep)
{
	if (!has_rings(x))
		return false;
	*ret_fd = x->ring[thread];
	*ret_asleep = &x->bss->dmm_asleep[thread].yes;
	return true;
}

int xdp_steer(struct xdp *x, unsigned queue, int xsk)
{
	dmm_u32 key = queue;

	if (x->mode == DMM_XDP_TC)
		return 0;
	return bpf_map_update_elem(bpf_map__fd(x->skel->maps.xsks_map), &key, &xsk, 0) < 0 ? -errno
											   : 0;
}

/* value NULL: no entry. flags: of a new value. Returns by how many entries there are more now. */
static int set(const struct bpf_map *map, const void *key, const void *value, dmm_u64 flags,
	       int *ret_more)
{
	int fd = bpf_map__fd(map);

	*ret_more = 0;
	if (!value && bpf_map_delete_elem(fd, key) == 0)
		*ret_more = -1;
	else if (!value)
		return errno == ENOENT ? 0 : -errno;
	else if (bpf_map_update_elem(fd, key, value, BPF_NOEXIST) == 0)
		*ret_more = 1;
	else if (errno != EEXIST || flags == BPF_NOEXIST ||
		 bpf_map_update_elem(fd, key, value, BPF_EXIST) < 0)
		return -errno;
	return 0;
}

/* So many more entries have this local port: it concerns the instance as long as there is one. The
 * lock is held. */
static void concern(struct xdp *x, dmm_u8 proto, dmm_u16 port, int more)
{
	dmm_u32 *users = &x->users[proto == IPPROTO_UDP][port];
	dmm_u64 *word = &x->bits[DMM_XBITS_INDEX(proto, port)], bit = 1ULL << (port % 64);

	if (!more)
		return;
	*users += (dmm_u32)more;
	__atomic_store_n(word, *users ? *word | bit : *word & ~bit, __ATOMIC_RELAXED);
}

static struct dmm_xflow_key flow_key(dmm_u8 proto, const struct dmm_addr *remote,
				     const struct dmm_addr *local)
{
	struct dmm_xflow_key k = {
		.remote_port = htons(remote->port),
		.local_port = htons(local->port),
		.proto = proto,
	};

	memcpy(k.remote, remote->ip, 16);
	memcpy(k.local, local->ip, 16);
	return k;
}

int xdp_flow_set(struct xdp *x, unsigned thread, const struct dmm_addr *remote,
		 const struct dmm_addr *local, enum dmm_xflow how)
{
	struct dmm_xflow_key k = flow_key(IPPROTO_TCP, remote, local);
	dmm_u8 value = DMM_XFLOW(how, thread);
	int more, r;

	r = set(x->skel->maps.dmm_xflow, &k, how == DMM_XFLOW_NONE ? NULL : &value,
		how == DMM_XFLOW_LIVE ? BPF_NOEXIST : BPF_ANY, &more);
	pthread_mutex_lock(&x->lock);
	concern(x, IPPROTO_TCP, local->port, more);
	pthread_mutex_unlock(&x->lock);
	return r;
}

int xdp_udp_set(struct xdp *x, unsigned thread, const struct dmm_addr *remote,
		const struct dmm_addr *local, bool own)
{
	struct dmm_xflow_key k = flow_key(IPPROTO_UDP, remote, local);
	dmm_u8 value = DMM_XFLOW(DMM_XFLOW_LIVE, thread), has = 0, other;
	const struct bpf_map *map = x->skel->maps.dmm_xflow;
	int more = 0, r = 0;

	pthread_mutex_lock(&x->lock);
	(void)bpf_map_lookup_elem(bpf_map__fd(map), &k, &has); /* nobody has it yet */
	while (left_take(x, &k, value))
		;
	if (own && has && has != value)
		r = left_add(x, &k, has);
	if (own && !r)
		r = set(map, &k, &value, BPF_ANY, &more);
	if (!own && has == value) {
		other = left_take(x, &k, 0);
		r = set(map, &k, other ? &other : NULL, BPF_ANY, &more);
	}
	concern(x, IPPROTO_UDP, local->port, more);
	pthread_mutex_unlock(&x->lock);
	return r;
}

int xdp_port_set(struct xdp *x, unsigned thread, const struct dmm_addr *local, enum dmm_xport how)
{
	struct dmm_xport_key k = {.port = htons(local->port), .proto = IPPROTO_TCP};
	const struct bpf_map *map = x->skel->maps.dmm_xport;
	dmm_u8 bit = (dmm_u8)(1u << thread);
	struct dmm_xport_value v = {};
	int more, r;

	memcpy(k.local, local->ip, 16);
	pthread_mutex_lock(&x->lock);
	(void)bpf_map_lookup_elem(bpf_map__fd(map), &k, &v); /* nobody has it yet */
	v.owned &= (dmm_u8)~bit;
	v.left &= (dmm_u8)~bit;
	if (how == DMM_XPORT_OWNED)
		v.owned |= bit;
	else if (how == DMM_XPORT_LEFT)
		v.left |= bit;
	r = set(map, &k, v.owned || v.left ? &v : NULL, BPF_ANY, &more);
	concern(x, IPPROTO_TCP, local->port, more);
	pthread_mutex_unlock(&x->lock);
	return r;
}
