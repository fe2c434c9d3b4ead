// SPDX-License-Identifier: Apache-2.0
/* What the policy asks of the engine: for all of its connections, and by a rule for some. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <string.h>

#include "lib/base/util.h"
#include "tests/conform/peer.h"

static int started(const char *congestion, uint32_t keepalive_s, uint32_t user_timeout_ms)
{
	struct engine_config c = {.mtu = 1500, .host = &peer.host, .keepalive_s = keepalive_s};

	c.user_timeout_ms = user_timeout_ms;
	c.ecn = !strcmp(congestion, "ecn");
	strcpy(c.congestion, c.ecn ? "" : congestion);
	return engine_native.start(&peer.e, &c);
}

static void test_settings(void)
{
	CU_ASSERT_EQUAL_FATAL(started("", 0, 0), 0);
	CU_ASSERT(peer.e->tune.cc == &cc_cubic && !peer.e->tune.ecn);
	CU_ASSERT(!peer.e->tune.keepalive && !peer.e->tune.user_timeout);
	engine_native.stop(peer.e);
	CU_ASSERT_EQUAL_FATAL(started("newreno", 30, 5000), 0);
	CU_ASSERT(peer.e->tune.cc == &cc_newreno && !peer.e->tune.ecn);
	CU_ASSERT(peer.e->tune.keepalive == 30 * SECOND);
	CU_ASSERT(peer.e->tune.user_timeout == 5 * SECOND);
	engine_native.stop(peer.e);
	CU_ASSERT_EQUAL_FATAL(started("dctcp", 0, 0), 0);
	CU_ASSERT(peer.e->tune.cc == &cc_dctcp && !peer.e->tune.ecn);
	engine_native.stop(peer.e);
	CU_ASSERT_EQUAL_FATAL(started("bbr", 0, 0), 0);
	CU_ASSERT(peer.e->tune.cc == &cc_bbr && !peer.e->tune.ecn);
	engine_native.stop(peer.e);
	CU_ASSERT_EQUAL(started("vegas", 0, 0), -EOPNOTSUPP);
	CU_ASSERT_EQUAL_FATAL(started("ecn", 0, 0), 0);
	CU_ASSERT(peer.e->tune.cc == &cc_cubic && peer.e->tune.ecn);
	engine_native.stop(peer.e);
}

/* What connections of one engine ask for: how they call, and how far each shrinks, from a window of
 * twelve segments. */
static const struct asked {
	const char *congestion;
	uint8_t syn;	   /* beside SYN */
	uint32_t ssthresh; /* in bytes */
} asked[] = {
	{"cubic", 0, 12 * MSS * 7 / 10},
	{"newreno", 0, 6 * MSS},
	/* a window without a mark was before: alpha is 15/16 */
	{"dctcp", TCP_ECE | TCP_CWR, 12 * MSS * 17 / 32},
	{"bbr", 0, UINT32_MAX}, /* a model of its own */
	{NULL, 0, 12 * MSS * 7 / 10},
};

/* Two segments arrive, then the path is congested: it marks, or if it cannot it drops. */
static void check_shrink(const struct asked *a)
{
	struct engine_info info;

	engine_native.info(peer.conn, &info);
	CU_ASSERT_STRING_EQUAL(info.congestion, a->congestion ? a->congestion : "cubic");
	CU_ASSERT_EQUAL(peer.conn->ecn, a->syn != 0);
	peer_send(30 * MSS);
	peer_pass(10 * MS);
	peer_ack(1 + 2 * MSS);
	CU_ASSERT_EQUAL(peer.conn->cwnd, 12 * MSS);
	if (a->syn)
		GIVE(.flags = TCP_ACK | TCP_ECE, .seq = 1, .ack = 1 + 2 * MSS, .sacks = 1,
		     .sack = {{1 + 3 * MSS, 1 + 4 * MSS}});
	else
		GIVE(.flags = TCP_ACK, .seq = 1, .ack = 1 + 2 * MSS, .sacks = 1,
		     .sack = {{1 + 3 * MSS, 1 + 7 * MSS}});
	CU_ASSERT_EQUAL(peer.conn->ssthresh, a->ssthresh);
	peer_forget();
}

/* A rule goes before the engine's settings, for the connections of that rule alone. */
static void test_options_of_rules(void)
{
	struct given syn = peer_usual;
	const struct segment *s;

	peer_start();
	CU_ASSERT_EQUAL(peer_dial("vegas"), -EOPNOTSUPP);
	for (unsigned i = 0; i < ARRAY_SIZE(asked); i++, peer.port++) {
		CU_ASSERT_EQUAL_FATAL(peer_dial(asked[i].congestion), 0);
		s = peer_take();
		CU_ASSERT(s && s->flags == (TCP_SYN | asked[i].syn));
		peer_pass(10 * MS); /* the round trip */
		GIVE(.flags = TCP_SYN | TCP_ACK | (asked[i].syn & TCP_ECE), .ack = 1, .mss = MSS,
		     .sack_ok = true);
		check_shrink(&asked[i]);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(asked); i++, peer.port++) {
		peer.congestion = asked[i].congestion;
		syn.flags = asked[i].syn;
		peer_join(&syn);
		check_shrink(&asked[i]);
	}
	peer_stop();
	peer_forget();
	/* The settings were for DCTCP: who wants another one does not ask for marks. */
	CU_ASSERT_EQUAL_FATAL(started("dctcp", 0, 0), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(asked); i++, peer.port++) {
		CU_ASSERT_EQUAL_FATAL(peer_dial(asked[i].congestion), 0);
		s = peer_take();
		CU_ASSERT(s && s->flags == (TCP_SYN | (asked[i].congestion ? asked[i].syn
									   : TCP_ECE | TCP_CWR)));
	}
	engine_native.stop(peer.e);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"settings", test_settings},
		{"options of rules", test_options_of_rules},
		CU_TEST_INFO_NULL,
	};

	return peer_run("asked", tests);
}
