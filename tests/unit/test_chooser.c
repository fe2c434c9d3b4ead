// SPDX-License-Identifier: Apache-2.0
/* What nRD knows, kept in a file for the next daemon: when, and what is taken of it. */
#include <errno.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/chooser.h"
#include "tests/nrd/rule.h"
#include "tests/unit/unit.h"

static char dir[] = "/tmp/dmm-chooser-XXXXXX", path[64];

static struct chooser begin(void)
{
	struct chooser c = {.nrd = nrd_new(16, 1), .n_rules = 1};

	CU_ASSERT_PTR_NOT_NULL_FATAL(c.nrd);
	return c;
}

/* A trial of the other stack begins sooner or later. */
static void decide(struct chooser *c)
{
	struct nrd_counters n = {0};

	nrd_configure(c->nrd, &nrd_rule_cdn, 1);
	for (dmm_u64 t = 1; !n.decisions; t += 1000000000ULL) {
		nrd_turn(c->nrd, t);
		nrd_counters(c->nrd, &n);
	}
	c->told = n.decisions;
}

static void test_kept(void)
{
	struct chooser c = begin(), next = begin();
	FILE *f;

	decide(&c);
	CU_ASSERT_TRUE(chooser_is_unsaved(&c));
	CU_ASSERT_EQUAL(chooser_save(&c, path), 0);
	CU_ASSERT_FALSE(chooser_is_unsaved(&c));
	chooser_load(&next, path);
	CU_ASSERT_EQUAL(next.told, c.told);
	CU_ASSERT_PTR_NOT_NULL(nrd_decision(next.nrd, 0));
	nrd_free(next.nrd);

	next = begin();
	f = fopen(path, "r+");
	CU_ASSERT(fseek(f, -1, SEEK_END) == 0 && fputc('x', f) == 'x');
	fclose(f);
	chooser_load(&next, path);
	CU_ASSERT_EQUAL(next.told, 0);
	CU_ASSERT_PTR_NULL(nrd_decision(next.nrd, 0));
	nrd_free(next.nrd);
	nrd_free(c.nrd);
}

/* Decisions that follow on one another do not make a slow disk the daemon's only work. */
static void test_paced(void)
{
	struct chooser c = begin();
	uint64_t begin_ns = now_ns(), took;

	decide(&c);
	CU_ASSERT_EQUAL(chooser_save(&c, path), 0);
	took = now_ns() - begin_ns;
	c.told++;
	CU_ASSERT(c.keep_after_ns > now_ns() || took > 1000000000ULL);
	CU_ASSERT(c.keep_after_ns <= now_ns() + 20 * took);
	c.keep_after_ns = now_ns() + 3600000000000ULL; /* as if it had taken minutes */
	CU_ASSERT_FALSE(chooser_is_unsaved(&c));
	c.keep_after_ns = now_ns();
	CU_ASSERT_TRUE(chooser_is_unsaved(&c));
	CU_ASSERT_EQUAL(chooser_save(&c, "/nowhere/file"), -ENOENT);
	nrd_free(c.nrd);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"what is known is kept", test_kept},
		{"not all the time", test_paced},
		CU_TEST_INFO_NULL,
	};
	int r;

	log_init("test_chooser", 0);
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/state", dir);
	r = unit_run("chooser", tests);
	unlink(path);
	rmdir(dir);
	return r;
}
