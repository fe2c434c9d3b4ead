// SPDX-License-Identifier: Apache-2.0
/* What telemetry tells of connections, and what nRD's choices do to them. */
#include <CUnit/Basic.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "loader/maps.h"
#include "loader/measure.h"
#include "tests/bpf/tree.h"

#define KERNEL DMM_STACK_KERNEL
#define BYTES 1000
#define OTHER 3 /* another kernel stack, of the tests before */

static int do_connect(void)
{
	char bytes[BYTES] = {}, byte;
	int s = connect_to("127.0.0.1", server_port);

	if (s < 0)
		return -s;
	return write(s, bytes, BYTES) == BYTES && read(s, &byte, 1) <= 0 ? 0 : 201;
}

/* A connection that the server ends, by a reset or not. */
static int serve(bool reset)
{
	struct linger linger = {.l_onoff = reset};
	int l = listen_on("127.0.0.1", &server_port), c, status, r;
	char bytes[BYTES];
	pid_t pid = fork();

	if (pid == 0)
		_exit(in_group(do_connect));
	c = accept(l, NULL, NULL);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	r = recv(c, bytes, BYTES, MSG_WAITALL) == BYTES ? 0 : -1;
	close(c);
	close(l);
	waitpid(pid, &status, 0);
	return r < 0 ? r : WEXITSTATUS(status);
}

static bool next_sample(struct samples *s, struct dmm_sample *ret)
{
	dmm_u64 lost = 0;

	memset(ret, 0, sizeof(*ret));
	for (int i = 0; i < 2000 && !samples_next(s, ret, &lost); i++)
		usleep(1000);
	return ret->seq && !lost;
}

static void check_sample(struct samples *s, enum dmm_sample_kind kind, int error, unsigned stack,
			 struct dmm_sample *ret)
{
	dmm_u8 local[16];

	addr_parse_ip("127.0.0.1", local);
	CU_ASSERT_FATAL(next_sample(s, ret));
	CU_ASSERT_EQUAL(ret->kind, kind);
	CU_ASSERT_EQUAL(ret->error, error);
	CU_ASSERT_EQUAL(ret->stack, stack);
	CU_ASSERT_EQUAL(ret->measure, DMM_MEASURE_NUMBER(class->rule[0].measure));
	CU_ASSERT_EQUAL(memcmp(ret->remote, local, sizeof(local)), 0);
}

static dmm_u64 sum(const dmm_u64 *hist)
{
	dmm_u64 n = 0;

	for (unsigned i = 0; i < DMM_HIST_BUCKETS; i++)
		n += hist[i];
	return n;
}

static bool is_attached(void)
{
	char file[128];

	snprintf(file, sizeof(file), "%s/links/%s/dmm_measure", path, class->group[1].name);
	return access(file, F_OK) == 0;
}

/* The kernel counts SYN and FIN, too. */
static bool is_about(dmm_u64 bytes, dmm_u64 expected)
{
	return bytes >= expected && bytes <= expected + 10;
}

/* A socket that is used again, for what no rule measures. */
static int do_elsewhere(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server_port)};
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) == 0 || errno != ECONNREFUSED)
		return 1;
	to.sin_addr.s_addr = htonl(0x7fc80001); /* 127.200.0.1 */
	return connect(s, (struct sockaddr *)&to, sizeof(to)) == 0 || errno != ECONNREFUSED;
}

static void test_reused(struct samples *s)
{
	dmm_u64 lost = 0;
	struct dmm_sample d;

	CU_ASSERT_EQUAL(in_group(do_elsewhere), 0);
	check_sample(s, DMM_SAMPLE_BEGIN, ECONNREFUSED, KERNEL, &d);
	CU_ASSERT(!samples_next(s, &d, &lost));
}

void test_measured(void)
{
	struct dmm_measures m;
	struct dmm_sample d;
	struct samples s;

	rule(0, "cdn", "127.0.0.0/9", 0, KERNEL);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT(!is_attached());
	CU_ASSERT_EQUAL_FATAL(samples_open(&s, &tree), 0);
	CU_ASSERT_EQUAL(serve(false), 0);
	rule_auto(0, OTHER);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT(is_attached());
	CU_ASSERT(class->rule[0].measure & DMM_MEASURE_AUTO);

	CU_ASSERT_EQUAL(serve(false), 0); /* the first sample is of this one */
	check_sample(&s, DMM_SAMPLE_BEGIN, 0, KERNEL, &d);
	CU_ASSERT(d.connect_us > 0);
	check_sample(&s, DMM_SAMPLE_END, 0, KERNEL, &d);
	CU_ASSERT(d.srtt_us > 0 && d.life_us > 0 && d.segments >= 3);
	CU_ASSERT(is_about(d.bytes, BYTES));

	CU_ASSERT_EQUAL(serve(true), 0);
	check_sample(&s, DMM_SAMPLE_BEGIN, 0, KERNEL, &d);
	check_sample(&s, DMM_SAMPLE_END, ECONNRESET, KERNEL, &d);

	CU_ASSERT_EQUAL(in_group(do_connect), ECONNREFUSED); /* nobody listens any more */
	check_sample(&s, DMM_SAMPLE_BEGIN, ECONNREFUSED, KERNEL, &d);
	CU_ASSERT_EQUAL(d.connect_us, 0);

	test_reused(&s);

	CU_ASSERT_EQUAL(measures_read(&tree, KERNEL, &m), 0);
	CU_ASSERT_EQUAL(m.connections, 4);
	CU_ASSERT_EQUAL(m.ended, 2);
	CU_ASSERT_EQUAL(m.failed[DMM_FAIL_REFUSED], 2);
	CU_ASSERT_EQUAL(m.failed[DMM_FAIL_RESET], 1);
	CU_ASSERT_EQUAL(sum(m.connect), 2);
	CU_ASSERT_EQUAL(sum(m.srtt), 2);
	CU_ASSERT(is_about(m.tx_bytes, 2 * BYTES));
	samples_close(&s);
}

static void choose(const char *ip, dmm_u16 kernel, dmm_u16 other, unsigned second)
{
	struct dmm_choice c = {.weight = {kernel, other}, .use = {KERNEL, (dmm_u8)second}};
	struct dmm_choice_key key;
	dmm_u8 addr[16];

	if (ip)
		addr_parse_ip(ip, addr);
	choice_key(class->rule[0].measure, ip ? addr : NULL, &key);
	CU_ASSERT_EQUAL(choice_put(&tree, &key, &c), 0);
}

static void expect(unsigned stack, enum dmm_reason reason)
{
	dmm_u64 before = verdicts(stack, DMM_ROLE_CLIENT, reason);

	CU_ASSERT_EQUAL(serve(false), 0);
	CU_ASSERT_EQUAL(verdicts(stack, DMM_ROLE_CLIENT, reason), before + 1);
}

/* Of the rule test_measured() left. */
void test_chosen(void)
{
	unsigned number = class->rule[0].measure;

	expect(KERNEL, DMM_REASON_RULE); /* nothing is chosen yet: the first of the list */
	choose(NULL, 0, 1, OTHER);
	expect(OTHER, DMM_REASON_NRD);
	choose("127.0.0.9", 1, 0, OTHER); /* the same /24 */
	expect(KERNEL, DMM_REASON_NRD);
	choose("127.0.0.9", 1, 0, OTHER + 1); /* of another list: does not count */
	expect(OTHER, DMM_REASON_NRD);

	/* the rule keeps its number while others come and go, and loses it when it is not auto */
	rule(1, "other", "10.0.0.0/8", 0, KERNEL);
	rule_auto(1, OTHER);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(class->rule[0].measure, number);
	CU_ASSERT(class->rule[1].measure != number);
	rule(1, "other", "10.0.0.0/8", 0, KERNEL);
	rule(0, "cdn", "127.0.0.0/8", 0, KERNEL);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(class->rule[0].measure, 0);
	CU_ASSERT(!is_attached());
	expect(KERNEL, DMM_REASON_RULE);
	rule(0, "far", NULL, 0, OTHER); /* as it was */
	CU_ASSERT_EQUAL(commit(), 0);
}
