// SPDX-License-Identifier: Apache-2.0
/* A document of another host, taken in by an nRD that has something in it; and a turn after it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/nrd/document.h"
#include "tests/nrd/rule.h"

#define NOW 1790000000ULL

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct nrd *start(void)
{
	struct nrd *n = nrd_new(16, 1);

	if (!n || nrd_configure(n, &nrd_rule_cdn, 1) < 0)
		abort();
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct nrd *n;
	static dmm_u64 now;
	struct document_hosts hosts = {0};
	struct nrd_counters before, after;
	char why[256] = "";
	struct nrd_view v;
	int r;

	if (!n)
		n = start();
	nrd_counters(n, &before);
	r = document_take(n, &hosts, (const char *)data, size, NOW, why);
	nrd_counters(n, &after);
	if (r < 0 && (!why[0] || memcmp(&before, &after, sizeof(before)) != 0))
		abort(); /* refused whole, with a reason */
	nrd_turn(n, now += 1000000000ULL);
	if (after.paths > 16 || nrd_view(n, 0, NULL, &v) < 0 || v.now > 1)
		abort();
	return 0;
}
