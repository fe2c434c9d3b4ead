// SPDX-License-Identifier: Apache-2.0
/*
 * Hosts and leaders over a store in this process, whatever goes wrong on the way; and 10 000 hosts,
 * with what each of them sends, receives and waits. NRD_TRACE=1 prints the figures.
 */
#include <errno.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/etcd/kv.h"
#include "policyd/fleet/host.h"
#include "policyd/fleet/leader.h"
#include "tests/nrd/memory_etcd.h"
#include "tests/nrd/rule.h"
#include "tests/unit/unit.h"

#define SECOND_NS 1000000000ULL
#define MS_NS 1000000ULL
#define LEASE_S 15

static struct etcd_settings no_settings;

/* ---- a host ---- */

struct node {
	struct etcd *e;
	struct host host;
	unsigned number; /* of the pair in force */
	bool reports;
	uint64_t start_ns, at_ns; /* when it was started, and when that came into force */
	bool half, back;
};

static unsigned pair_number(const struct texts *t, const char *name)
{
	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->list[i].name, name) == 0)
			return (unsigned)strtoul(t->list[i].text, NULL, 10);
	return 0;
}

static int node_apply(void *ctx, const struct texts *documents, dmm_u64 revision, char reterr[320])
{
	struct node *n = ctx;
	unsigned one = pair_number(documents, "one"), two = pair_number(documents, "two");

	(void)revision;
	(void)reterr;
	n->half |= one != two;
	n->back |= one < n->number;
	if (one != n->number)
		n->at_ns = memory_now();
	n->number = one;
	return 0;
}

/* A report of the size of a busy host's: ten prefixes. */
static char *report_text(const struct node *n)
{
	json_t *reports = json_array();
	char ip[32], *text;
	json_t *root;

	for (unsigned i = 0; i < 10; i++) {
		snprintf(ip, sizeof(ip), "10.0.%u.0", i);
		json_array_append_new(reports,
				      json_pack("{s:s, s:s, s:s, s:i, s:{s:i}, s:i, s:i, s:{s:i, "
						"s:i, s:i}}",
						"rule", "cdn", "stack", i % 2 ? "edge0" : "kernel",
						"remote", ip, "connections", 10, "failed",
						"timeout", 1, "segments", 400, "resent", 2,
						"connect_us", "36", 3, "37", 4, "38", 2));
	}
	root = json_pack("{s:i, s:s, s:I, s:I, s:o}", "nrd", 1, "host",
			 strrchr(n->host.hold.key, '/') + 1, "sequence",
			 (json_int_t)(memory_now() / MS_NS), "issued",
			 (json_int_t)(memory_now() / SECOND_NS), "reports", reports);
	text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return text;
}

static void node_wake(void *ctx)
{
	struct node *n = ctx;

	if (n->reports && !n->host.report && memory_now() >= n->host.report_ns)
		host_report(&n->host, report_text(n));
	host_run(&n->host, memory_now());
	memory_wake_at(n->e, MIN(host_next_ns(&n->host),
				 n->reports ? n->host.report_ns : memory_now() + SECOND_NS));
}

static int node_advise(void *ctx, const char *text, char reterr[256])
{
	(void)ctx;
	(void)text;
	(void)reterr;
	return 0;
}

static void node_start(struct node *n, const char *name, uint64_t at_ns)
{
	*n = (struct node){.start_ns = MAX(at_ns, memory_now())};
	etcd_open(&n->e, -1, &no_settings);
	host_init(
		&n->host, n->e, "/dmm", name,
		strdup("{\"version\":1,\"name\":\"a-host-among-others\",\"dmm\":\"0.1.0\","
		       "\"stacks\":[\"edge0\",\"rdma0\"],\"addresses\":[\"10.0.0.1\",\"fd00::1\"],"
		       "\"rdma\":[\"mlx5_0\"]}"),
		LEASE_S, "", node_apply, node_advise, n);
	memory_wake(n->e, node_wake, n);
	memory_wake_at(n->e, at_ns);
}

static void node_stop(struct node *n)
{
	host_fini(&n->host);
	etcd_close(n->e);
}

/* ---- a leader ---- */

struct chief {
	struct etcd *e;
	struct leader leader;
};

static void chief_wake(void *ctx)
{
	struct chief *c = ctx;

	leader_run(&c->leader, memory_now(), memory_now() / SECOND_NS);
	memory_wake_at(c->e, leader_next_ns(&c->leader, memory_now()));
}

static void chief_start(struct chief *c, const char *name)
{
	struct texts none = {0};

	*c = (struct chief){0};
	etcd_open(&c->e, -1, &no_settings);
	CU_ASSERT_EQUAL_FATAL(leader_init(&c->leader, c->e, "/dmm", name, LEASE_S, 1), 0);
	CU_ASSERT_EQUAL(leader_want(&c->leader, &none, &nrd_rule_cdn, 1), 0);
	memory_wake(c->e, chief_wake, c);
	memory_wake_at(c->e, 0);
}

static void chief_stop(struct chief *c)
{
	leader_fini(&c->leader);
	etcd_close(c->e);
}

/* Both documents of pair `number`, with as much behind them as ten rules take. */
static void chief_want(struct chief *c, unsigned number)
{
	struct texts t = {0};
	struct nrd_rule rule = *nrd_rule(c->leader.nrd, 0);
	char text[1500];

	snprintf(text, sizeof(text), "%u %*s", number, 1400, "#");
	texts_put(&t, "one", text);
	texts_put(&t, "two", text);
	CU_ASSERT_EQUAL(leader_want(&c->leader, &t, &rule, 1), 0);
	texts_fini(&t);
	memory_wake_at(c->e, 0);
}

static void pass(uint64_t ns)
{
	static uint64_t start;

	if (memory_now() == 1000 * SECOND_NS)
		start = memory_now();
	memory_run(memory_now() - start + ns);
}

/* ---- what goes wrong ---- */

#define HOSTS 6

static bool all_have(const struct node *nodes, unsigned n, unsigned number)
{
	bool all = true;

	for (unsigned i = 0; i < n; i++)
		all &= nodes[i].number == number && !nodes[i].half;
	return all;
}

static struct node nodes[HOSTS];
static struct chief chiefs[2];

static void start_all(void)
{
	char name[16];

	memory_begin(2 * MS_NS, 100000, 7);
	for (unsigned i = 0; i < 2; i++)
		chief_start(&chiefs[i], i ? "second" : "first");
	for (unsigned i = 0; i < HOSTS; i++) {
		snprintf(name, sizeof(name), "host-%u", i);
		node_start(&nodes[i], name, 0);
	}
}

/* Of both leaders, so that the policy is the same whoever leads. */
static void want(unsigned number)
{
	for (unsigned i = 0; i < 2; i++)
		chief_want(&chiefs[i], number);
}

static void break_something(struct rng *rng, struct etcd *victim)
{
	switch (rng_below(rng, 6)) {
	case 0:
		memory_cut(victim, true);
		break;
	case 1:
		memory_restart();
		break;
	case 2:
		memory_compact();
		break;
	case 3:
		memory_drop_answers(victim, 1 + rng_below(rng, 3));
		break;
	}
}

static void mend_hosts(void)
{
	for (unsigned i = 0; i < HOSTS; i++)
		memory_cut(nodes[i].e, false);
}

static unsigned leading(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < 2; i++)
		n += leader_leads(&chiefs[i].leader, memory_now());
	return n;
}

static bool all_registered(void)
{
	bool all = memory_count("/dmm/hosts/") == HOSTS;

	for (unsigned i = 0; i < HOSTS; i++)
		all &= nodes[i].host.connected && !nodes[i].half && !nodes[i].back;
	return all;
}

/* Another store in its place: all is written, registered and read again. */
static void lose_store(unsigned number)
{
	memory_lose();
	pass(60 * SECOND_NS);
	CU_ASSERT_TRUE(all_have(nodes, HOSTS, number));
	CU_ASSERT_EQUAL(memory_count("/dmm/hosts/"), HOSTS);
	CU_ASSERT_EQUAL(memory_count("/dmm/policy/"), 2);
}

/* Another store, and nobody writes there: no document is no policy to take. */
static void lose_policy(unsigned number)
{
	for (unsigned i = 0; i < 2; i++)
		chief_stop(&chiefs[i]);
	memory_lose();
	pass(60 * SECOND_NS);
	CU_ASSERT_EQUAL(memory_count("/dmm/policy/"), 0);
	CU_ASSERT_TRUE(all_have(nodes, HOSTS, number));
	for (unsigned i = 0; i < HOSTS; i++)
		CU_ASSERT_TRUE(nodes[i].host.refused > 0);
}

static void test_faults(void)
{
	struct rng rng = {42};
	unsigned number = 1;

	start_all();
	want(number);
	for (unsigned turn = 0; turn < 400; turn++) {
		struct etcd *victim = turn % 3 ? nodes[rng_below(&rng, HOSTS)].e
					       : chiefs[rng_below(&rng, 2)].e;

		want(++number);
		break_something(&rng, victim);
		pass((uint64_t)rng_below(&rng, 30000) * MS_NS);
		if (rng_below(&rng, 3) == 0)
			mend_hosts();
		for (unsigned i = 0; i < 2; i++)
			memory_cut(chiefs[i].e, rng_below(&rng, 3) == 0);
		CU_ASSERT_TRUE(leading() <= 1);
	}
	mend_hosts();
	for (unsigned i = 0; i < 2; i++)
		memory_cut(chiefs[i].e, false);
	pass(60 * SECOND_NS);
	CU_ASSERT_TRUE(all_have(nodes, HOSTS, number));
	CU_ASSERT_TRUE(all_registered());
	lose_store(number);
	lose_policy(number);
	for (unsigned i = 0; i < HOSTS; i++)
		node_stop(&nodes[i]);
	memory_end();
}

/* Who was deposed and does not know it: only the store can tell. */
static void test_fence(void)
{
	struct chief c;

	memory_begin(2 * MS_NS, 100000, 7);
	chief_start(&c, "first");
	chief_want(&c, 1);
	pass(5 * SECOND_NS);
	CU_ASSERT_EQUAL(memory_count("/dmm/policy/"), 2);
	memory_put("/dmm/leader", NULL);
	memory_put("/dmm/leader", "another");
	CU_ASSERT_TRUE(leader_leads(&c.leader, memory_now()));
	chief_want(&c, 2);
	pass(60 * SECOND_NS);
	CU_ASSERT_EQUAL(strncmp(memory_get("/dmm/policy/one"), "1 ", 2), 0);
	CU_ASSERT_FALSE(leader_leads(&c.leader, memory_now()));
	CU_ASSERT_STRING_EQUAL(c.leader.hold.other, "another");
	memory_put("/dmm/leader", NULL);
	pass(20 * SECOND_NS);
	CU_ASSERT_EQUAL(strncmp(memory_get("/dmm/policy/one"), "2 ", 2), 0);
	chief_stop(&c);
	memory_end();
}

/* What others put there goes, whatever its name; and what it does not see does not stop it. */
static void test_foreign(void)
{
	char key[400];
	struct chief c;

	memory_begin(2 * MS_NS, 100000, 7);
	snprintf(key, sizeof(key), "/dmm/policy/%0380d", 1);
	memory_put(key, "version: 1");
	chief_start(&c, "first");
	chief_want(&c, 1);
	pass(5 * SECOND_NS);
	CU_ASSERT_EQUAL(memory_count("/dmm/policy/"), 2);
	c.leader.written += 1000; /* as of a write of nothing, while others wrote */
	chief_want(&c, 2);
	pass(10 * SECOND_NS);
	CU_ASSERT_EQUAL(strncmp(memory_get("/dmm/policy/one"), "2 ", 2), 0);
	chief_stop(&c);
	memory_end();
}

/* What a host says of itself changes while the answer to what it said first is lost. */
static void test_changed(void)
{
	static struct node n;

	memory_begin(2 * MS_NS, 100000, 7);
	node_start(&n, "a", 0);
	while (n.host.hold.step != HOLD_CREATE || !n.host.hold.busy)
		pass(MS_NS / 2);
	memory_drop_answers(n.e, 2);
	hold_change(&n.host.hold, strdup("{}"));
	pass(60 * SECOND_NS);
	CU_ASSERT_STRING_EQUAL(memory_get("/dmm/hosts/a"), "{}");
	node_stop(&n);
	memory_end();
}

/* A second host of the same name does not take the first one's place. */
static void test_twins(void)
{
	static struct node one, two;

	memory_begin(2 * MS_NS, 100000, 7);
	node_start(&one, "twin", 0);
	pass(SECOND_NS);
	node_start(&two, "twin", 0);
	pass(60 * SECOND_NS);
	CU_ASSERT_TRUE(hold_held(&one.host.hold, memory_now()));
	CU_ASSERT_FALSE(hold_held(&two.host.hold, memory_now()));
	CU_ASSERT_STRING_EQUAL(two.host.hold.why, "somebody else holds it");
	node_stop(&one);
	pass(20 * SECOND_NS);
	CU_ASSERT_TRUE(hold_held(&two.host.hold, memory_now()));
	node_stop(&two);
	memory_end();
}

/* Reports lead to advice; what lies or is malformed is refused whole. */
static void test_reports(void)
{
	static const char *const bad[] = {"{", "{\"nrd\":2}", "[]",
					  "{\"nrd\":1,\"host\":\"x\",\"x\":1}"};
	char text[600];
	struct chief c;

	memory_begin(2 * MS_NS, 100000, 7);
	chief_start(&c, "first");
	pass(5 * SECOND_NS);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		memory_put("/dmm/reports/bad", bad[i]);
	pass(SECOND_NS);
	CU_ASSERT_EQUAL(c.leader.refused, ARRAY_SIZE(bad));
	CU_ASSERT_EQUAL(c.leader.taken, 0);
	/* What is in use fails, the other one does not. */
	for (unsigned i = 1; i < 60; i++) {
		for (unsigned host = 0; host < 3; host++) {
			char key[64];

			snprintf(key, sizeof(key), "/dmm/reports/host-%u", host);
			snprintf(text, sizeof(text),
				 "{\"nrd\":1,\"host\":\"host-%u\",\"sequence\":%u,\"issued\":%llu,"
				 "\"reports\":[{\"rule\":\"cdn\",\"stack\":\"edge0\",\"remote\":"
				 "\"10.0.0.1\",\"connections\":20,\"failed\":{\"timeout\":20}},"
				 "{\"rule\":\"cdn\",\"stack\":\"kernel\",\"remote\":\"10.0.0.1\","
				 "\"connections\":20,\"connect_us\":{\"30\":20}}]}",
				 host, i, (unsigned long long)(memory_now() / SECOND_NS));
			memory_put(key, text);
		}
		pass(SECOND_NS);
	}
	CU_ASSERT_EQUAL(c.leader.taken, 59 * 3);
	CU_ASSERT_PTR_NOT_NULL_FATAL(memory_get("/dmm/advice"));
	CU_ASSERT_PTR_NOT_NULL(
		strstr(memory_get("/dmm/advice"), "\"rule\":\"cdn\",\"stack\":\"kernel\""));
	chief_stop(&c);
	memory_end();
}

/* ---- many ---- */

#define MANY 10000

static struct node many[MANY];

static int by_time(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Milliseconds from `since`, or its start, until a share of the hosts had it. */
static double waited_ms(uint64_t since, double share)
{
	static uint64_t at[MANY];

	for (unsigned i = 0; i < MANY; i++)
		at[i] = many[i].at_ns - MAX(since, many[i].start_ns);
	qsort(at, MANY, sizeof(at[0]), by_time);
	return (double)at[(size_t)(share * (MANY - 1))] / 1e6;
}

static struct etcd_traffic sum(void)
{
	struct etcd_traffic all = {0}, t;

	for (unsigned i = 0; i < MANY; i++) {
		etcd_traffic(many[i].e, &t);
		all.sent += t.sent;
		all.received += t.received;
		all.calls += t.calls;
		all.messages += t.messages;
	}
	return all;
}

struct figures {
	double calls, messages, sent, received; /* a host */
};

static struct figures since(const struct etcd_traffic *before)
{
	struct etcd_traffic now = sum();

	return (struct figures){(double)(now.calls - before->calls) / MANY,
				(double)(now.messages - before->messages) / MANY,
				(double)(now.sent - before->sent) / MANY,
				(double)(now.received - before->received) / MANY};
}

/* What was told since *before, which is then now; life: without so many signs of life of 20 s. */
static void say(const char *what, struct etcd_traffic *before, uint64_t from, double life,
		const struct figures *quiet)
{
	struct figures f = since(before);

	*before = sum();
	if (!getenv("NRD_TRACE"))
		return;
	printf("\n  %s: calls %.1f, messages %.1f, sent %.0f B, received %.0f B; in force after "
	       "%.0f ms (half), %.0f ms (99 of 100), %.0f ms (all)",
	       what, f.calls - life * quiet->calls, f.messages - life * quiet->messages,
	       f.sent - life * quiet->sent, f.received - life * quiet->received,
	       waited_ms(from, 0.5), waited_ms(from, 0.99), waited_ms(from, 1));
}

static void start_many(void)
{
	struct rng rng = {1};
	uint64_t now = memory_now();
	char name[24];

	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "host-%u.example.org", i);
		node_start(&many[i], name, now + rng_below(&rng, 10000) * MS_NS);
	}
	pass(30 * SECOND_NS);
	CU_ASSERT_TRUE(all_have(many, MANY, 1));
	CU_ASSERT_EQUAL(memory_count("/dmm/hosts/"), MANY);
}

static void report_many(bool on)
{
	for (unsigned i = 0; i < MANY; i++)
		many[i].reports = on;
}

static void test_many(void)
{
	struct etcd_traffic t = {0};
	struct figures quiet = {0};
	struct chief c;
	uint64_t from;

	memory_begin(MS_NS, 20000, 3);
	chief_start(&c, "first");
	chief_want(&c, 1);
	pass(5 * SECOND_NS);
	from = memory_now();
	start_many();
	say("start, 30 s", &t, from, 0, &quiet);

	pass(20 * SECOND_NS);
	quiet = since(&t);
	say("20 s in which nothing happens", &t, from, 0, &quiet);
	CU_ASSERT_TRUE(quiet.calls <= 5); /* a sign of life every 5 s */

	from = memory_now();
	chief_want(&c, 2);
	pass(2 * SECOND_NS);
	CU_ASSERT_TRUE(all_have(many, MANY, 2));
	CU_ASSERT_TRUE(waited_ms(from, 1) < 1000);
	pass(18 * SECOND_NS);
	say("a change", &t, from, 1, &quiet);

	report_many(true);
	pass(20 * SECOND_NS);
	CU_ASSERT_TRUE(since(&t).calls <= quiet.calls + 3);
	say("20 s of reports", &t, from, 1, &quiet);
	CU_ASSERT_TRUE(c.leader.taken >= 2 * MANY);
	CU_ASSERT_EQUAL(c.leader.refused, 0);
	report_many(false);

	memory_restart();
	from = memory_now();
	chief_want(&c, 3);
	pass(40 * SECOND_NS);
	CU_ASSERT_TRUE(all_have(many, MANY, 3));
	CU_ASSERT_TRUE(waited_ms(from, 1) < 2000);
	say("all watches break, and a change", &t, from, 2, &quiet);

	for (unsigned i = 0; i < MANY; i++)
		node_stop(&many[i]);
	chief_stop(&c);
	memory_end();
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"whatever goes wrong, no change is lost or half in force", test_faults},
		{"a leader that was deposed writes nothing", test_fence},
		{"what others wrote", test_foreign},
		{"a host that changes", test_changed},
		{"two hosts of one name", test_twins},
		{"reports in, advice out", test_reports},
		{"ten thousand hosts", test_many},
		CU_TEST_INFO_NULL,
	};

	log_init("test_fleet", 0);
	return unit_run("fleet", tests);
}
