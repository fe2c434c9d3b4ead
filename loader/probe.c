// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/if_xdp.h>

#include "lib/base/util.h"
#include "loader/cgroup.h"
#include "loader/destroy.h"
#include "loader/probe.h"

/* The smallest program: return a value. */
static int load_return(enum bpf_prog_type type, enum bpf_attach_type attach, int value,
		       const char *btf_func)
{
	struct bpf_insn insns[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = value},
		{.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = attach);
	int fd;

	if (btf_func) {
		struct btf *btf = btf__load_vmlinux_btf();
		int id = btf ? btf__find_by_name_kind(btf, btf_func, BTF_KIND_FUNC) : -ENOENT;

		btf__free(btf);
		if (id < 0)
			return -ENOENT;
		opts.attach_btf_id = (__u32)id;
	}
	fd = bpf_prog_load(type, "dmm_probe", "GPL", insns, ARRAY_SIZE(insns), &opts);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int probe_sock_addr(void)
{
	return load_return(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, 1, NULL);
}

static int probe_names(void)
{
	return load_return(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_GETPEERNAME, 1, NULL);
}

static int probe_sockops(void)
{
	return load_return(BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS, 1, NULL);
}

static int probe_msg(void)
{
	return load_return(BPF_PROG_TYPE_SK_MSG, BPF_SK_MSG_VERDICT, 1, NULL);
}

static int probe_filter(void)
{
	return load_return(BPF_PROG_TYPE_SOCKET_FILTER, 0, 0, NULL);
}

static int probe_xdp(void)
{
	return load_return(BPF_PROG_TYPE_XDP, BPF_XDP, 2, NULL);
}

static int probe_fmod_ret(void)
{
	return load_return(BPF_PROG_TYPE_TRACING, BPF_MODIFY_RETURN, 0, "update_socket_protocol");
}

static int probe_af_xdp(void)
{
	int s = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (s < 0)
		return -errno;
	close(s);
	return 0;
}

#ifndef XDP_USE_SG
#define XDP_USE_SG (1 << 4)
#endif

int probe_af_xdp_frags(void)
{
	/* no such interface: but a kernel that does not know the flag says so first */
	struct sockaddr_xdp nowhere = {.sxdp_family = AF_XDP, .sxdp_flags = XDP_USE_SG};
	int s = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0), r;

	if (s < 0)
		return -errno;
	r = bind(s, (struct sockaddr *)&nowhere, sizeof(nowhere)) < 0 ? -errno : 0;
	close(s);
	return r == -EINVAL ? -EOPNOTSUPP : 0;
}

static int probe_map(enum bpf_map_type type, unsigned key, unsigned value, unsigned entries)
{
	int fd = bpf_map_create(type, "dmm_probe", key, value, entries, NULL);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int probe_sockhash(void)
{
	return probe_map(BPF_MAP_TYPE_SOCKHASH, 8, 8, 16);
}

static int probe_ringbuf(void)
{
	return probe_map(BPF_MAP_TYPE_RINGBUF, 0, 0, 4096);
}

static int probe_cgroup_storage(void)
{
	return probe_map(BPF_MAP_TYPE_CGROUP_STORAGE, 8, 8, 0);
}

static int probe_cgroup2(void)
{
	char path[256];

	return cgroup_mount(path, sizeof(path));
}

static int probe_btf(void)
{
	return access("/sys/kernel/btf/vmlinux", R_OK) < 0 ? -errno : 0;
}

static int probe_loop(void)
{
	int r = libbpf_probe_bpf_helper(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_loop, NULL);

	return r == 1 ? 0 : -EOPNOTSUPP;
}

static int probe_iter(void)
{
	return load_return(BPF_PROG_TYPE_TRACING, BPF_TRACE_ITER, 0, "bpf_iter_task_file");
}

int probe_map_iterator(void)
{
	return load_return(BPF_PROG_TYPE_TRACING, BPF_TRACE_ITER, 0, "bpf_iter_bpf_sk_storage_map");
}

static int probe_mptcp(void)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 262);

	if (s < 0)
		return -errno;
	close(s);
	return 0;
}

struct row {
	struct probe p;
	int (*try)(void);
};

static struct row rows[] = {
	{{"cgroup2", "groups", "mount -t cgroup2 none /sys/fs/cgroup", true, 0}, probe_cgroup2},
	{{"btf", "programs that fit any kernel", "a kernel with CONFIG_DEBUG_INFO_BTF", true, 0},
	 probe_btf},
	{{"cgroup-connect", "decide at connect()", "root, CONFIG_CGROUP_BPF", true, 0},
	 probe_sock_addr},
	{{"cgroup-names", "true getpeername() and getsockname()", "Linux 5.8", true, 0},
	 probe_names},
	{{"sock-ops", "hand flows to instances", "root, CONFIG_CGROUP_BPF", true, 0},
	 probe_sockops},
	{{"cgroup-storage", "know the group in a program", "CONFIG_CGROUP_BPF", true, 0},
	 probe_cgroup_storage},
	{{"bpf-loop", "classify", "Linux 5.17", true, 0}, probe_loop},
	{{"ring-buffer", "events to instances", "Linux 5.8", true, 0}, probe_ringbuf},
	{{"socket-filter", "hold a SYN", "root", true, 0}, probe_filter},
	{{"files-iterator", "list live flows", "Linux 5.11", true, 0}, probe_iter},
	{{"map-iterator", "list flows that no process has open", "Linux 5.9", false, 0},
	 probe_map_iterator},
	{{"sock-destroy", "end sockets from outside", "CONFIG_INET_DIAG_DESTROY", false, 0},
	 destroy_probe},
	{{"xdp", "steer packets", "CONFIG_XDP_SOCKETS, a driver or generic XDP", true, 0},
	 probe_xdp},
	{{"af-xdp", "packets in userspace", "CONFIG_XDP_SOCKETS", true, 0}, probe_af_xdp},
	{{"af-xdp-frags", "frames of more than one buffer: generic XDP and tc with offloads",
	  "Linux 6.6", false, 0},
	 probe_af_xdp_frags},
	{{"sk-msg", "splice carrier", "CONFIG_BPF_STREAM_PARSER", true, 0}, probe_msg},
	{{"sock-hash", "splice carrier", "CONFIG_BPF_STREAM_PARSER", true, 0}, probe_sockhash},
	{{"fmod-ret", "MPTCP by protocol rewrite", "fmod_ret allowed, Linux 6.6", false, 0},
	 probe_fmod_ret},
	{{"mptcp", "MPTCP as a far leg", "CONFIG_MPTCP, net.mptcp.enabled=1", false, 0},
	 probe_mptcp},
};

static int no_print(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	(void)level;
	(void)fmt;
	(void)ap;
	return 0;
}

int probe_run(const struct probe **ret, unsigned *ret_n)
{
	static struct probe table[ARRAY_SIZE(rows)];
	libbpf_print_fn_t before = libbpf_set_print(no_print);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		table[i] = rows[i].p;
		table[i].error = rows[i].try();
	}
	libbpf_set_print(before);
	*ret = table;
	*ret_n = ARRAY_SIZE(rows);
	return 0;
}
