// SPDX-License-Identifier: Apache-2.0
/* Pools of the native engine: limits, and memory that goes back. */
#include <CUnit/CUnit.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "userstack/engine/native/pool.h"

#define SIZE 65536u
#define KEPT (8388608u / SIZE)

static void *object[10000];

static void test_limit(void)
{
	struct pool p;

	pool_init(&p, 100, 3);
	for (unsigned i = 0; i < 3; i++)
		CU_ASSERT_PTR_NOT_NULL(object[i] = pool_get(&p));
	CU_ASSERT_PTR_NULL(pool_get(&p));
	pool_put(&p, object[1]);
	CU_ASSERT_PTR_EQUAL(pool_get(&p), object[1]);
	for (unsigned i = 0; i < 3; i++)
		pool_put(&p, object[i]);
	CU_ASSERT_EQUAL(p.used, 0);
	pool_fini(&p);
}

/* Some are kept for those that come next, but not what a crowd needed. */
static void test_shrink(void)
{
	struct pool p;

	pool_init(&p, SIZE, 10000);
	for (unsigned i = 0; i < 10000; i++)
		object[i] = pool_get(&p);
	for (unsigned i = 0; i < 100; i++)
		pool_put(&p, object[i]);
	CU_ASSERT_EQUAL(p.spare, 100);
	for (unsigned i = 100; i < 9900; i++)
		pool_put(&p, object[i]);
	CU_ASSERT_EQUAL(p.used, 100);
	CU_ASSERT(p.spare >= KEPT && p.spare <= KEPT + 25);
	for (unsigned i = 9900; i < 10000; i++)
		pool_put(&p, object[i]);
	CU_ASSERT(p.spare <= KEPT);
	pool_fini(&p);
}

/* Whole and apart from each other, also those that were free in between; and when none is in use,
 * no slab is left but for what is kept. */
static void test_slabs(void)
{
	const size_t n = 10000, size = 1000;
	struct pool p;

	pool_init(&p, size, n);
	for (unsigned round = 0; round < 2; round++) {
		for (size_t i = round; i < n; i += 1 + round)
			object[i] = pool_get(&p);
		for (size_t i = 0; i < n; i++) {
			CU_ASSERT_EQUAL((uintptr_t)object[i] % 64, 0);
			memset(object[i], (int)i, size);
		}
		for (size_t i = 0; i < n; i++) {
			const uint8_t *o = object[i];

			CU_ASSERT(o[0] == (uint8_t)i && !memcmp(o, o + 1, size - 1));
		}
		CU_ASSERT(p.slabs >= n * size >> 21 && p.slabs <= (n * 1024 >> 21) + 2);
		for (size_t i = 1; i < n; i += 2)
			pool_put(&p, object[i]);
	}
	for (size_t i = 0; i < n; i += 2)
		pool_put(&p, object[i]);
	CU_ASSERT_EQUAL(p.used, 0);
	CU_ASSERT(p.slabs * (2u << 20) <= 2 * KEPT * SIZE);
	pool_fini(&p);
	CU_ASSERT_EQUAL(p.slabs, 0);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"the limit", test_limit},
		{"memory goes back", test_shrink},
		{"slabs", test_slabs},
		CU_TEST_INFO_NULL,
	};

	return unit_run("pool", tests);
}
