// SPDX-License-Identifier: Apache-2.0
/*
 * The classifier in the kernel and eval_rule() in userspace give the same answer: random policies,
 * and sockets at and around every boundary of their prefixes and ranges.
 */
#include <CUnit/Basic.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "match.skel.h"

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/maps.h"
#include "policyd/policy.h"

#define POLICIES 200
#define SOCKETS 600

struct question {
	struct dmm_addr remote, local;
	dmm_u32 group, role, proto, rule;
};

static char path[64];
static struct tree tree;
static struct match_bpf *skel;
static struct dmm_class *class;

static unsigned pick(unsigned n)
{
	return (unsigned)random() % n;
}

/* Few distinct bits, so that prefixes nest and sockets hit them. */
static void random_ip(dmm_u8 ip[16])
{
	memset(ip, 0, 16);
	if (pick(3)) {
		addr_from_v4(ip, htonl(0x0a000000u | (pick(4) << 16) | (pick(3) << 7) | pick(4)));
	} else {
		ip[0] = 0x20;
		ip[1] = 0x01;
		ip[7] = (dmm_u8)pick(3);
		ip[8] = (dmm_u8)(pick(2) << 7);
		ip[15] = (dmm_u8)pick(4);
	}
}

static void random_prefix(dmm_u8 ip[16], dmm_u8 *plen)
{
	static const dmm_u8 v4[] = {96, 104, 112, 120, 121, 127, 128};
	static const dmm_u8 v6[] = {1, 16, 63, 64, 65, 120, 128};
	unsigned n;

	random_ip(ip);
	*plen = 0;
	if (pick(3))
		*plen = addr_is_v4(ip) ? v4[pick(sizeof(v4))] : v6[pick(sizeof(v6))];
	for (n = *plen; n < 128; n++)
		ip[n / 8] &= (dmm_u8) ~(0x80 >> (n % 8));
}

static void random_ports(dmm_u16 *lo, dmm_u16 *hi)
{
	*lo = 0;
	*hi = 65535;
	if (pick(2))
		return;
	*lo = (dmm_u16)(1 + pick(5) * 100);
	*hi = (dmm_u16)(*lo + pick(3) * 50);
}

static void random_class(void)
{
	class->hdr.matches = 1 + pick(60);
	class->hdr.rules = class->hdr.matches;
	for (unsigned i = 0; i < class->hdr.matches; i++) {
		struct dmm_match *m = &class->match[i];

		memset(m, 0, sizeof(*m));
		m->rule = (dmm_u16)i;
		m->group = (dmm_u8)(pick(2) ? 0 : 1 + pick(3));
		m->roles = (dmm_u8)(1 + pick(3));
		m->proto = (dmm_u8)(pick(2) ? 0 : pick(2) ? IPPROTO_TCP : IPPROTO_UDP);
		random_prefix(m->remote, &m->remote_plen);
		if (pick(4) == 0)
			random_prefix(m->local, &m->local_plen);
		random_ports(&m->remote_port_lo, &m->remote_port_hi);
		if (pick(4) == 0)
			random_ports(&m->local_port_lo, &m->local_port_hi);
		else
			m->local_port_hi = 65535;
	}
}

/* A port on, just below or just above a boundary of some rule. */
static dmm_u16 boundary(const struct dmm_match *m, bool remote)
{
	dmm_u16 lo = remote ? m->remote_port_lo : m->local_port_lo;
	dmm_u16 hi = remote ? m->remote_port_hi : m->local_port_hi;

	return (dmm_u16)((pick(2) ? lo : hi) + pick(3) - 1);
}

static bool same_answer(void)
{
	const struct dmm_match *m = &class->match[pick(class->hdr.matches)];
	struct question q = {.group = pick(4), .role = pick(2)};
	LIBBPF_OPTS(bpf_test_run_opts, o, .ctx_in = &q, .ctx_size_in = sizeof(q));
	struct eval_socket s;

	q.proto = pick(2) ? IPPROTO_TCP : IPPROTO_UDP;
	if (q.role == DMM_ROLE_CLIENT || pick(3) == 0) {
		random_ip(q.remote.ip);
		q.remote.port = boundary(m, true);
	}
	if (pick(2))
		random_ip(q.local.ip);
	q.local.port = boundary(m, false);
	s = (struct eval_socket){.group = (dmm_u8)q.group,
				 .role = (dmm_u8)q.role,
				 .proto = (dmm_u8)q.proto,
				 .remote = q.remote,
				 .local = q.local};
	if (bpf_prog_test_run_opts(bpf_program__fd(skel->progs.dmm_ask), &o) < 0)
		return false;
	return q.rule == eval_rule(class, &s);
}

static void test_same(void)
{
	unsigned wrong = 0;

	srandom(7);
	for (unsigned p = 0; p < POLICIES; p++) {
		random_class();
		CU_ASSERT_EQUAL_FATAL(maps_commit(&tree, class, NULL), 0);
		for (unsigned i = 0; i < SOCKETS; i++)
			wrong += !same_answer();
	}
	CU_ASSERT_EQUAL(wrong, 0);
}

static int setup(void)
{
	snprintf(path, sizeof(path), "/sys/fs/bpf/dmm-match-%d", getpid());
	class = calloc(1, sizeof(*class));
	if (!class || tree_install(&tree, path) < 0 || maps_read(&tree, class, NULL) < 0)
		return -1;
	skel = match_bpf__open();
	if (!skel || tree_reuse_maps(&tree, skel->obj) < 0)
		return -1;
	return match_bpf__load(skel);
}

static int teardown(void)
{
	match_bpf__destroy(skel);
	tree_close(&tree);
	free(class);
	return tree_teardown(path);
}

int main(void)
{
	unsigned failed;
	CU_pSuite s;

	setenv("DMM_RUN", "/tmp", 0);
	log_init("test_match", LOG_L_INFO);
	if (geteuid() != 0) {
		puts("SKIP: needs root");
		return 77;
	}
	CU_initialize_registry();
	s = CU_add_suite("match", setup, teardown);
	CU_add_test(s, "BPF and eval agree", test_same);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures() + CU_get_number_of_suites_failed();
	CU_cleanup_registry();
	return failed ? 1 : 0;
}
