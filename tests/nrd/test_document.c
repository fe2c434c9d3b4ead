// SPDX-License-Identifier: Apache-2.0
/* What other hosts tell: taken whole, or refused whole with a reason. */
#include <errno.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "policyd/nrd/document.h"
#include "policyd/nrd/gather.h"
#include "tests/nrd/sim.h"
#include "tests/unit/unit.h"

#define NOW 1790000000ULL
#define HEAD "{\"nrd\": 1, \"host\": \"a\", \"sequence\": 1, \"issued\": 1790000000"
#define REPORT \
	"{\"rule\": \"cdn\", \"stack\": \"edge0\", \"remote\": \"10.0.0.1\", \"connections\": " \
	"10, " \
	"\"failed\": {\"timeout\": 1}, \"segments\": 200, \"resent\": 2, " \
	"\"connect_us\": {\"28\": 8, \"40\": 1}}"

static struct nrd *n;
static struct document_hosts hosts;
static char said[256];

static void start(void)
{
	struct nrd_rule rule = {.name = "cdn",
				.set = {.objective = NRD_LATENCY,
					.canary = NRD_CANARY,
					.min_gain = NRD_MIN_GAIN,
					.dwell_ms = NRD_DWELL_MS,
					.cooldown_ms = NRD_COOLDOWN_MS},
				.stack = {"edge0", "bulk", "kernel"},
				.n_stacks = 3};

	n = nrd_new(100, 1);
	CU_ASSERT_EQUAL_FATAL(nrd_configure(n, &rule, 1), 0);
	hosts = (struct document_hosts){0};
}

static int take(const char *text)
{
	said[0] = '\0';
	return document_take(n, &hosts, text, strlen(text), NOW, said);
}

static void check_refused(const char *text, const char *why)
{
	struct nrd_counters before, after;
	struct document_hosts known = hosts;

	nrd_counters(n, &before);
	CU_ASSERT_EQUAL(take(text), -EINVAL);
	CU_ASSERT_STRING_EQUAL(said, why);
	if (strcmp(said, why) != 0)
		fprintf(stderr, "\"%s\"\ninstead of \"%s\"\n", said, why);
	nrd_counters(n, &after);
	CU_ASSERT_EQUAL(memcmp(&before, &after, sizeof(before)), 0);
	CU_ASSERT_EQUAL(memcmp(&known, &hosts, sizeof(known)), 0);
}

static void test_taken(void)
{
	struct nrd_counters c;
	struct nrd_view v;

	start();
	CU_ASSERT_EQUAL(take(HEAD ", \"reports\": [" REPORT "]}"), 0);
	nrd_counters(n, &c);
	CU_ASSERT_EQUAL(c.reports, 1);
	CU_ASSERT_EQUAL(c.paths, 1);
	CU_ASSERT_EQUAL(nrd_view(n, 0, NULL, &v), 0);
	CU_ASSERT_EQUAL(v.arm[0].connections, 10);
	CU_ASSERT_EQUAL(v.arm[0].failed, 1);
	CU_ASSERT_EQUAL(v.arm[0].values, 9);
	CU_ASSERT_EQUAL(hosts.n, 1);
	CU_ASSERT_EQUAL(hosts.host[0].sequence, 1);
	/* nothing to say is allowed */
	CU_ASSERT_EQUAL(take("{\"nrd\": 1, \"host\": \"b\", \"sequence\": 1, "
			     "\"issued\": 1790000003}"),
			0);
	CU_ASSERT_EQUAL(hosts.n, 2);
	nrd_free(n);
}

static void test_refused(void)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"", "it is no JSON: '[' or '{' expected near end of file, line 1"},
		{"[]", "it is no object"},
		{"{\"nrd\": 1, \"nrd\": 1}",
		 "it is no JSON: duplicate object key near '\"nrd\"', line 1"},
		{"{}", "its version is 0; 1 is known"},
		{"{\"nrd\": 2, \"new\": 1}", "its version is 2; 1 is known"},
		{"{\"nrd\": 1, \"new\": 1}", "it has an unknown key \"new\""},
		{"{\"nrd\": 1}", "\"host\" is no text of 1 to 63 bytes"},
		{"{\"nrd\": 1, \"host\": \"a\", \"issued\": 1.5}",
		 "\"issued\" is no whole number from 0 to 9223372036854775807"},
		{"{\"nrd\": 1, \"host\": \"a\", \"sequence\": -1}",
		 "\"sequence\" is no whole number from 0 to 9223372036854775807"},
		{"{\"nrd\": 1, \"host\": \"a\", \"sequence\": 1, \"issued\": 1790000006}",
		 "it is from the future, by 6 s"},
		{"{\"nrd\": 1, \"host\": \"a\", \"sequence\": 1, \"issued\": 1789999399}",
		 "it is 601 s old"},
		{"{\"nrd\": 1, \"host\": \"a\", \"sequence\": 0, \"issued\": 1790000000}",
		 "number 0 of host \"a\" is no news after 1"},
		{HEAD ", \"reports\": {}}", "\"reports\" is no list"},
		{HEAD ", \"reports\": [1]}", "a report is no object"},
		{HEAD ", \"reports\": [{}]}", "\"rule\" is no text of 1 to 31 bytes"},
		{HEAD ", \"reports\": [{\"rule\": \"db\", \"stack\": \"edge0\"}]}",
		 "rule \"db\" was not left to nRD"},
		{HEAD ", \"reports\": [{\"rule\": \"cdn\", \"stack\": \"reject\"}]}",
		 "stack \"reject\" is not in the list of rule \"cdn\""},
		{HEAD
		 ", \"reports\": [{\"rule\": \"cdn\", \"stack\": \"edge0\", \"remote\": \"x\"}]}",
		 "\"x\" is no address"},
		/* one that is good before does not count either */
		{HEAD ", \"reports\": [" REPORT ", {\"rule\": \"cdn\", \"stack\": \"edge0\", "
		      "\"remote\": \"::1\", \"connections\": 1, \"failed\": {\"reset\": 2}}]}",
		 "a report of rule \"cdn\": contradicts itself"},
		{HEAD
		 ", \"reports\": [{\"rule\": \"cdn\", \"stack\": \"edge0\", \"remote\": \"::1\"}]}",
		 "a report of rule \"cdn\": of no connection"},
		{HEAD
		 ", \"reports\": [{\"rule\": \"cdn\", \"stack\": \"edge0\", \"remote\": \"::1\", "
		 "\"connections\": 4294967296}]}",
		 "\"connections\" is no whole number from 0 to 4294967295"},
		{HEAD
		 ", \"reports\": [{\"rule\": \"cdn\", \"stack\": \"edge0\", \"remote\": \"::1\", "
		 "\"connections\": 1, \"srtt_us\": {\"112\": 1}}]}",
		 "\"112\" in \"srtt_us\" is no bucket"},
		{HEAD
		 ", \"reports\": [{\"rule\": \"cdn\", \"stack\": \"edge0\", \"remote\": \"::1\", "
		 "\"connections\": 1, \"srtt_us\": {\"1\": 4294967295, \"01\": 1}}]}",
		 "bucket 1 of \"srtt_us\" is no count"},
		{HEAD
		 ", \"reports\": [{\"rule\": \"cdn\", \"stack\": \"edge0\", \"remote\": \"::1\", "
		 "\"connections\": 1, \"failed\": {\"sad\": 1}}]}",
		 "\"failed\" has an unknown key \"sad\""},
		/* the operator's rules are none of its business, nor are their stacks */
		{HEAD ", \"advice\": [{\"rule\": \"db\", \"stack\": \"edge0\"}]}",
		 "rule \"db\" was not left to nRD"},
		{HEAD ", \"advice\": [{\"rule\": \"cdn\", \"stack\": \"evil\"}]}",
		 "stack \"evil\" is not in the list of rule \"cdn\""},
		{HEAD ", \"advice\": [{\"rule\": \"cdn\", \"stack\": \"bulk\", \"force\": true}]}",
		 "advice has an unknown key \"force\""},
	};

	start();
	CU_ASSERT_EQUAL(take(HEAD "}"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		/* as host a has told number 1 already, HEAD would be refused for that at the end */
		check_refused(bad[i].text, bad[i].why);
	}
	nrd_free(n);
}

static void test_large(void)
{
	char *text = malloc(DOCUMENT_MAX + 2);
	size_t at;

	start();
	memset(text, ' ', DOCUMENT_MAX + 1);
	text[DOCUMENT_MAX + 1] = '\0';
	check_refused(text, "1048577 bytes; at most 1048576 are possible");
	at = (size_t)sprintf(text, HEAD ", \"advice\": [");
	for (unsigned i = 0; i <= DOCUMENT_ENTRIES; i++)
		at += (size_t)sprintf(text + at, "%s{}", i ? "," : "");
	sprintf(text + at, "]}");
	check_refused(text, "4097 entries in \"advice\"; at most 4096 are possible");
	memset(text, '[', 100000);
	text[100000] = '\0';
	CU_ASSERT_EQUAL(take(text), -EINVAL);
	free(text);
	nrd_free(n);
}

/* A table full of hosts that are heard of takes no other; one that fell silent makes room. */
static void test_hosts(void)
{
	char text[200];

	start();
	for (unsigned i = 0; i < DOCUMENT_HOSTS; i++) {
		snprintf(text, sizeof(text),
			 "{\"nrd\": 1, \"host\": \"h%u\", \"sequence\": 5, \"issued\": %llu}", i,
			 NOW - (i == 7 ? DOCUMENT_OLD_S : 0));
		CU_ASSERT_EQUAL(take(text), 0);
	}
	check_refused(HEAD "}", "256 other hosts are known");
	snprintf(text, sizeof(text), "%s}", HEAD);
	CU_ASSERT_EQUAL(document_take(n, &hosts, text, strlen(text), NOW + 1, said), 0);
	CU_ASSERT_STRING_EQUAL(hosts.host[7].name, "a");
	nrd_free(n);
}

static int take_at(dmm_u64 sequence, dmm_u64 now)
{
	char text[128];

	snprintf(text, sizeof(text),
		 "{\"nrd\": 1, \"host\": \"a\", \"sequence\": %llu, \"issued\": %llu}", sequence,
		 now);
	return document_take(n, &hosts, text, strlen(text), now, said);
}

/* Numbers are those of a clock. One that was ahead for a while does not silence its host for as
 * long as it was ahead; and nothing is heard twice. */
static void test_clock_was_ahead(void)
{
	start();
	CU_ASSERT_EQUAL(take_at(NOW + 1000000, NOW), 0);
	CU_ASSERT(take_at(NOW + 10, NOW + 10) < 0); /* the host was started anew */
	CU_ASSERT(take_at(NOW + 600, NOW + 600) < 0);
	CU_ASSERT_EQUAL(take_at(NOW + 601, NOW + 601), 0);
	CU_ASSERT(take_at(NOW + 601, NOW + 602) < 0);
	CU_ASSERT_EQUAL(take_at(NOW + 603, NOW + 603), 0);
	nrd_free(n);
}

/* Advice is tried, and what is measured here decides; it can be given once a cooldown. */
static void test_advice(void)
{
	static const char advice[] = HEAD
		", \"advice\": [{\"rule\": \"cdn\", \"stack\": \"kernel\"}]}";
	const struct nrd_decision *d;
	dmm_u64 t = 1;
	dmm_u8 ip[16];

	start();
	sim_address(0, ip);
	CU_ASSERT_EQUAL(take(advice), 0);
	for (unsigned i = 0; i < 60; i++)
		nrd_turn(n, t += 1000000000ULL);
	d = nrd_decision(n, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(d);
	CU_ASSERT_EQUAL(d->action, NRD_TRY);
	CU_ASSERT_EQUAL(d->reason, REASON_ADVISED);
	CU_ASSERT_STRING_EQUAL(d->from, "edge0");
	CU_ASSERT_STRING_EQUAL(d->to, "kernel");  /* bulk would have been first */
	CU_ASSERT_FALSE(nrd_advise(n, 0, ip, 2)); /* too soon */
	CU_ASSERT_FALSE(nrd_advise(n, 0, ip, 0)); /* it is in use */
	CU_ASSERT_FALSE(nrd_advise(n, 0, ip, 3));
	CU_ASSERT_FALSE(nrd_advise(n, 1, ip, 0));
	CU_ASSERT_TRUE(nrd_advise(n, 0, NULL, 1));
	for (unsigned i = 0; i < 300; i++)
		nrd_turn(n, t += 1000000000ULL);
	CU_ASSERT_TRUE(nrd_advise(n, 0, NULL, 2));
	nrd_free(n);
}

/* ---- what this host tells, and is advised ---- */

static struct report one_report(const char *ip, unsigned stack)
{
	struct report r = {.stack = stack, .connections = 3, .segments = 50, .resent = 2};

	addr_parse_ip(ip, r.remote);
	r.failed[DMM_FAIL_TIMEOUT] = 1;
	hist_add(&r.hist[REPORT_CONNECT], 300);
	hist_add(&r.hist[REPORT_CONNECT], 500);
	hist_add(&r.hist[REPORT_SRTT], 400);
	return r;
}

static void test_written(void)
{
	struct gather *g = calloc(1, sizeof(*g));
	struct report r = one_report("10.1.2.0", 2);
	struct nrd_counters c;
	struct nrd_view v;
	char *text;

	start();
	gather_add(g, &r);
	gather_add(g, &r); /* one path: one report */
	r = one_report("fd00::", 0);
	gather_add(g, &r);
	CU_ASSERT_EQUAL(g->n, 2);
	CU_ASSERT_EQUAL(g->report[0].connections, 6);
	text = document_write(n, g->report, g->n, "b", 5, NOW, 65536);
	CU_ASSERT_PTR_NOT_NULL_FATAL(text);
	CU_ASSERT_EQUAL(take(text), 0);
	CU_ASSERT_STRING_EQUAL(said, "");
	free(text);
	nrd_counters(n, &c);
	CU_ASSERT_EQUAL(c.reports, 2);
	CU_ASSERT_EQUAL(nrd_view(n, 0, NULL, &v), 0);
	CU_ASSERT_EQUAL(v.arm[2].connections, 6);
	CU_ASSERT_EQUAL(v.arm[2].failed, 2);
	CU_ASSERT_EQUAL(v.arm[0].connections, 3);
	/* no rule or stack that is not there, no more than there is room for */
	g->report[0].stack = 3;
	g->report[1].rule = 1;
	text = document_write(n, g->report, g->n, "b", 6, NOW, 65536);
	CU_ASSERT_PTR_NOT_NULL_FATAL(strstr(text, "\"reports\":[]"));
	free(text);
	for (unsigned i = 0; i < 2 * GATHER_MAX; i++) {
		r.remote[15] = (dmm_u8)i;
		gather_add(g, &r);
	}
	CU_ASSERT_EQUAL(g->n, GATHER_MAX);
	text = document_write(n, g->report, g->n, "b", 6, NOW, 3000);
	CU_ASSERT(strlen(text) <= 3000 && strlen(text) > 2000);
	CU_ASSERT_EQUAL(take(text), 0);
	free(text);
	free(g);
	nrd_free(n);
}

static bool is_other(void *ctx, const char *rule)
{
	return strcmp(rule, ctx) == 0;
}

static int take_advice(const char *list, unsigned number, dmm_u64 *ret_taken)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "{\"nrd\": 1, \"host\": \"a\", \"sequence\": %u, \"issued\": 1790000000, "
		 "\"advice\": [%s]}",
		 number, list);
	said[0] = '\0';
	return document_take_advice(n, &hosts, text, strlen(text), NOW, is_other, "other",
				    ret_taken, said);
}

/* Of a rule that other hosts have nothing is taken; of the operator's nothing of the whole. */
static void test_advice_elsewhere(void)
{
	dmm_u64 taken = 0;

	start();
	CU_ASSERT_EQUAL(take_advice("{\"rule\": \"other\", \"stack\": \"x\"}, "
				    "{\"rule\": \"cdn\", \"stack\": \"bulk\"}",
				    1, &taken),
			0);
	CU_ASSERT_EQUAL(taken, 1);
	CU_ASSERT_EQUAL(take_advice("{\"rule\": \"cdn\", \"stack\": \"bulk\"}, "
				    "{\"rule\": \"own\", \"stack\": \"kernel\"}",
				    2, &taken),
			-EINVAL);
	CU_ASSERT_STRING_EQUAL(said, "rule \"own\" was not left to nRD");
	CU_ASSERT_EQUAL(take_advice("{\"rule\": 7, \"stack\": \"kernel\"}", 3, &taken), -EINVAL);
	CU_ASSERT_EQUAL(take_advice("{\"rule\": \"other\", \"key\": 1}", 4, &taken), -EINVAL);
	CU_ASSERT_EQUAL(taken, 1);
	CU_ASSERT_EQUAL(hosts.host[0].sequence, 1);
	nrd_free(n);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a document is taken", test_taken},
		{"documents that are refused", test_refused},
		{"too large", test_large},
		{"too many hosts", test_hosts},
		{"a clock that was ahead", test_clock_was_ahead},
		{"advice", test_advice},
		{"what a host writes another takes", test_written},
		{"advice of rules that are elsewhere", test_advice_elsewhere},
		CU_TEST_INFO_NULL,
	};

	return unit_run("nrd documents", tests);
}
