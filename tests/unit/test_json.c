// SPDX-License-Identifier: Apache-2.0
/* The JSON of the API: a policy reads back as the same policy, odd names do no harm. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "policyd/json.h"
#include "tests/unit/unit.h"

static const char policy[] =
	"groups:\n"
	"  web: {cgroup: dmm/web}\n"
	"  db: {}\n"
	"stacks:\n"
	"  edge0: {engine: lwip, port: {driver: xsk, interface: eth1, queue: 2}}\n"
	"  bulk: {kind: kernel, congestion: bbr, pacing: 1gbit, mark: 0x10, priority: 0}\n"
	"rules:\n"
	"  - name: db-latency\n"
	"    match: {group: [web, db], role: client, proto: tcp, remote: [10.0.0.0/8, "
	"'2001:db8::/32'],"
	" remote_port: [5432, 8000-8999]}\n"
	"    use: [edge0, kernel]\n"
	"    strict: true\n"
	"  - name: in\n"
	"    match: {role: server, local: 192.0.2.1, local_port: 80}\n"
	"    use: bulk\n"
	"    carrier: splice\n"
	"  - {name: none, match: {remote_port: 23}, use: reject}\n"
	"default: [edge0, kernel]\n";

static struct dmm_class *compile(const char *text, size_t len, struct dmm_policy **ret)
{
	struct dmm_class *c = class_new();
	struct policy_diags d = {0};

	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	*ret = NULL;
	CU_ASSERT_EQUAL(policy_parse_text("text", text, len, ret, &d), 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(*ret);
	CU_ASSERT_EQUAL(policy_check(*ret, &d), 0);
	policy_diags_print(&d, stderr);
	CU_ASSERT_EQUAL(class_compile(*ret, NULL, c), 0);
	policy_diags_fini(&d);
	return c;
}

static void test_policy(void)
{
	struct dmm_policy *p, *q;
	struct dmm_class *a = compile(policy, strlen(policy), &p), *b;
	json_t *j = json_policy(p);
	char *text = json_dumps(j, 0);

	CU_ASSERT_PTR_NOT_NULL_FATAL(text);
	b = compile(text, strlen(text), &q);
	CU_ASSERT_EQUAL(class_diff(a, b, stderr), 0);
	json_decref(j);
	free(text);
	class_free(a);
	class_free(b);
	policy_free(p);
	policy_free(q);
}

static void test_flow(void)
{
	struct dmm_class *c = class_new();
	struct dmm_flow_row f = {
		.sock = {.role = DMM_ROLE_SERVER,
			 .proto = IPPROTO_TCP,
			 .stack = DMM_STACK_NONE,
			 .rule = 3,
			 .group = 5,
			 .congestion = DMM_CONGESTION_NEWRENO,
			 .reason = DMM_REASON_REJECTED,
			 .comm = "\xff\xfe x\"",
			 .rule_name = "web",
			 .local = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1},
				   .port = 80}},
		.tcp_state = 10,
		.rx_bytes = 1ULL << 40,
	};
	json_t *j;

	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	j = json_flow(&f, c);
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(j, "role")), "server");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(j, "local")), "127.0.0.1:80");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(j, "program")), "?? x\"");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(j, "rule")), "web");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(j, "reason")), "rejected");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(j, "state")), "listen");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(j, "congestion")), "newreno");
	CU_ASSERT(json_is_null(json_object_get(j, "stack")));
	CU_ASSERT(json_is_null(json_object_get(j, "group")));
	CU_ASSERT(json_is_null(json_object_get(j, "remote")));
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(j, "rx_bytes")), 1LL << 40);
	json_decref(j);
	/* numbers that no table knows */
	f.sock.role = f.sock.reason = f.sock.carrier = f.tcp_state = 255;
	f.sock.congestion = 0;
	j = json_flow(&f, c);
	CU_ASSERT(json_is_null(json_object_get(j, "role")));
	CU_ASSERT(json_is_null(json_object_get(j, "state")));
	CU_ASSERT(json_is_null(json_object_get(j, "congestion")));
	json_decref(j);
	class_free(c);
}

/* What a program can call itself: for a terminal, and for JSON, which escapes what is ASCII. */
static void test_text(void)
{
	static const struct {
		const char *in, *terminal, *json;
	} names[] = {
		{"curl", "curl", "curl"},
		{"\033[2J\n\t\"\\", "?[2J??\"\\", "\033[2J\n\t\"\\"},
		{"\x7f\xc2\x9b", "???", "???"}, /* DEL, CSI */
		{"\xc3\xa9\xe2\x82\xac", "\xc3\xa9\xe2\x82\xac", "\xc3\xa9\xe2\x82\xac"}, /* é € */
		{"\xf0\x9f\x90\x8e!", "\xf0\x9f\x90\x8e!", "\xf0\x9f\x90\x8e!"},
		{"\xe2\x82", "??", "??"},					    /* cut */
		{"\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80", "?????????", "?????????"}, /* no UTF-8 */
		{"\xe0\x9f\xbf\xf0\x8f\xbf\xbf\xff", "????????", "????????"},
	};
	char buf[32];
	json_t *j;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		CU_ASSERT_STRING_EQUAL(text_clean(names[i].in, 16, buf), names[i].terminal);
		j = json_text(names[i].in, 16);
		CU_ASSERT_STRING_EQUAL_FATAL(json_string_value(j), names[i].json);
		json_decref(j);
	}
	CU_ASSERT_STRING_EQUAL(text_clean("\xe2\x82\xac", 2, buf),
			       "??"); /* a field without a NUL */
}

/* One message is one line, whatever is in the names that it tells. */
static double age_of(dmm_u64 at, dmm_u64 now)
{
	struct nrd_decision d = {.number = 1,
				 .at_ns = at,
				 .rule = "cdn",
				 .to = "kernel",
				 .action = NRD_OWN,
				 .reason = REASON_BUSY};
	json_t *o = json_nrd_decision(&d, now);
	double age = json_number_value(json_object_get(o, "age_s"));

	json_decref(o);
	return age;
}

/* How long ago it was, also before the host was started; by a clock that was set back meanwhile it
 * may be yet to come. */
static void test_decision_age(void)
{
	CU_ASSERT_EQUAL(age_of(5000000000ULL, 7000000000ULL), 2);
	CU_ASSERT_EQUAL(age_of(0 - 5000000000ULL, 7000000000ULL), 12);
	CU_ASSERT_EQUAL(age_of(7000000001ULL, 7000000000ULL), 0);
}

static void test_log(void)
{
	static const char want[] = "test: host a?<3>test: b is refused\n";
	int old = dup(STDERR_FILENO), p[2];
	char line[128] = "";

	CU_ASSERT_EQUAL_FATAL(pipe(p), 0);
	log_init("test", LOG_L_INFO);
	dup2(p[1], STDERR_FILENO);
	log_err("host %s is refused", "a\n<3>test: b");
	dup2(old, STDERR_FILENO);
	CU_ASSERT(read(p[0], line, sizeof(line) - 1) > 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(line, want));
	close(old);
	close(p[0]);
	close(p[1]);
}

int main(void)
{
	static CU_TestInfo tests[] = {
		{"a policy reads back as the same", test_policy},
		{"a flow, and numbers out of range", test_flow},
		{"names of programs", test_text},
		{"lines of the log", test_log},
		{"the age of a decision", test_decision_age},
		CU_TEST_INFO_NULL,
	};

	return unit_run("json", tests);
}
