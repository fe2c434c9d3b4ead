// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <xdp/libxdp.h>

#include "dmm_xdp.skel.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/xdp.h"

struct xdp {
	struct dmm_xdp_bpf *skel;
	struct xdp_program *prog;
	int ifindex;
	enum xdp_attach_mode mode;
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
	dmm_u32 len = sizeof(info), key = 0, value[16] = {};

	if (bpf_obj_get_info_by_fd(map, &info, &len) < 0 || !strstr(info.name, "rodata") ||
	    info.value_size > sizeof(value))
		return false;
	return bpf_map_lookup_elem(map, &key, value) == 0 && value[0] == stack;
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

/*
 * One end of a veth pair. There native XDP takes segmentation offload away from the peer and with
 * it three quarters of everybody's throughput, and copy mode is slower than behind generic XDP;
 * both measured in docs/benchmarks.md.
 */
static bool is_veth(const char *ifname)
{
	_cleanup_close_ int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	struct ifreq ifr = {};

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
	ifr.ifr_data = (char *)&info;
	return s >= 0 && ioctl(s, SIOCETHTOOL, &ifr) == 0 && strcmp(info.driver, "veth") == 0;
}

static int attach_as(struct xdp *x, enum dmm_xdp_mode mode, enum dmm_xdp_mode *ret_mode)
{
	int r;

	x->mode = mode == DMM_XDP_NATIVE ? XDP_MODE_NATIVE : XDP_MODE_SKB;
	r = xdp_program__attach(x->prog, x->ifindex, x->mode, 0);
	if (r == 0)
		*ret_mode = mode;
	return r;
}

static int attach(struct xdp *x, const char *ifname, enum dmm_xdp_mode want,
		  enum dmm_xdp_mode *ret_mode)
{
	bool generic_first = is_veth(ifname);
	int r;

	if (want != DMM_XDP_NONE)
		return attach_as(x, want, ret_mode);
	r = attach_as(x, generic_first ? DMM_XDP_GENERIC : DMM_XDP_NATIVE, ret_mode);
	if (r < 0)
		r = attach_as(x, generic_first ? DMM_XDP_NATIVE : DMM_XDP_GENERIC, ret_mode);
	return r;
}

int xdp_open(struct xdp **ret, struct tree *t, unsigned stack, int ifindex, enum dmm_xdp_mode want,
	     enum dmm_xdp_mode *ret_mode)
{
	char name[IF_NAMESIZE] = "?";
	struct xdp *x;
	int r;

	if_indextoname((unsigned)ifindex, name);
	x = calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	libxdp_set_print(silent);
	x->ifindex = ifindex;
	x->skel = dmm_xdp_bpf__open();
	r = -ENOMEM;
	if (!x->skel)
		goto fail;
	x->skel->rodata->dmm_stack_id = stack;
	r = tree_reuse_maps(t, x->skel->obj);
	if (r < 0)
		goto fail;
	xdp_sweep(t, stack, ifindex);
	/* libxdp loads the object itself, as it may have to make it an extension of its dispatcher
	 */
	x->prog = xdp_program__from_bpf_obj(x->skel->obj, "xdp.frags");
	r = libxdp_get_error(x->prog);
	if (r) {
		x->prog = NULL;
		goto fail;
	}
	r = attach(x, name, want, ret_mode);
	if (r < 0)
		goto fail;
	*ret = x;
	return 0;
fail:
	log_err("cannot attach the XDP program to %s: %s%s", name, strerror(-r),
		r == -EBUSY ? "; another program is attached, see: ip link show" : "");
	if (x->prog)
		xdp_program__close(x->prog);
	dmm_xdp_bpf__destroy(x->skel);
	free(x);
	return r;
}

void xdp_close(struct xdp *x)
{
	int r;

	if (!x)
		return;
	r = xdp_program__detach(x->prog, x->ifindex, x->mode, 0);
	if (r < 0 && r != -ENODEV && r != -ENOENT)
		log_warn("cannot detach the XDP program of interface %d: %s", x->ifindex,
			 strerror(-r));
	xdp_program__close(x->prog);
	dmm_xdp_bpf__destroy(x->skel);
	free(x);
}

int xdp_xskmap_fd(const struct xdp *x)
{
	return bpf_map__fd(x->skel->maps.xsks_map);
}

static int set(const struct bpf_map *map, const void *key, bool add)
{
	dmm_u8 one = 1;

	if (add)
		return bpf_map_update_elem(bpf_map__fd(map), key, &one, 0) < 0 ? -errno : 0;
	return bpf_map_delete_elem(bpf_map__fd(map), key) < 0 && errno != ENOENT ? -errno : 0;
}

static int flow_set(struct xdp *x, const struct dmm_addr *remote, const struct dmm_addr *local,
		    bool add)
{
	struct dmm_xflow_key k = {
		.remote_port = htons(remote->port),
		.local_port = htons(local->port),
		.proto = IPPROTO_TCP,
	};

	memcpy(k.remote, remote->ip, 16);
	memcpy(k.local, local->ip, 16);
	return set(x->skel->maps.dmm_xflow, &k, add);
}

int xdp_flow_add(struct xdp *x, const struct dmm_addr *remote, const struct dmm_addr *local)
{
	return flow_set(x, remote, local, true);
}

int xdp_flow_del(struct xdp *x, const struct dmm_addr *remote, const struct dmm_addr *local)
{
	return flow_set(x, remote, local, false);
}

static int port_set(struct xdp *x, const struct dmm_addr *local, bool add)
{
	struct dmm_xport_key k = {.port = htons(local->port), .proto = IPPROTO_TCP};

	memcpy(k.local, local->ip, 16);
	return set(x->skel->maps.dmm_xport, &k, add);
}

int xdp_port_add(struct xdp *x, const struct dmm_addr *local)
{
	return port_set(x, local, true);
}

int xdp_port_del(struct xdp *x, const struct dmm_addr *local)
{
	return port_set(x, local, false);
}

int xdp_addr_add(struct xdp *x, const dmm_u8 ip[16])
{
	return set(x->skel->maps.dmm_xaddr, ip, true);
}

int xdp_addr_del(struct xdp *x, const dmm_u8 ip[16])
{
	return set(x->skel->maps.dmm_xaddr, ip, false);
}
