// SPDX-License-Identifier: Apache-2.0
/* When an instance looks for work, and when it sleeps at once. */
#include <CUnit/CUnit.h>

#include "tests/unit/unit.h"
#include "userstack/spin.h"

/* n times work, with a pause before each. */
static void work(struct spin *s, uint64_t *now, unsigned n, uint64_t pause)
{
	while (n--) {
		*now += pause;
		spin_worked(s, *now);
	}
}

static void test_begins_asleep(void)
{
	uint64_t now = 1000 * SPIN_NS;
	struct spin s;

	spin_init(&s);
	CU_ASSERT_FALSE(spin_again(&s, now));
	work(&s, &now, 1, SPIN_NS);
	CU_ASSERT_FALSE(spin_again(&s, now));
}

static void test_short_pauses(void)
{
	uint64_t now = 1000 * SPIN_NS;
	struct spin s;

	spin_init(&s);
	work(&s, &now, 100, SPIN_NS / 2);
	CU_ASSERT_TRUE(spin_again(&s, now));
	CU_ASSERT_TRUE(spin_again(&s, now + SPIN_NS - 1));
	CU_ASSERT_FALSE(spin_again(&s, now + SPIN_NS));
}

/* Work that comes later than a search takes is not waited for awake. */
static void test_long_pauses(void)
{
	uint64_t now = 1000 * SPIN_NS;
	struct spin s;

	spin_init(&s);
	work(&s, &now, 100, SPIN_NS / 2);
	work(&s, &now, 100, 3 * SPIN_NS);
	CU_ASSERT_FALSE(spin_again(&s, now));
	work(&s, &now, 100, SPIN_NS / 2);
	CU_ASSERT_TRUE(spin_again(&s, now));
}

/* One night does not take longer to forget than one long pause. */
static void test_after_a_night(void)
{
	uint64_t now = 1000 * SPIN_NS;
	struct spin s;

	spin_init(&s);
	work(&s, &now, 100, SPIN_NS / 2);
	work(&s, &now, 1, 1000000 * SPIN_NS);
	CU_ASSERT_FALSE(spin_again(&s, now));
	work(&s, &now, 30, SPIN_NS / 2);
	CU_ASSERT_TRUE(spin_again(&s, now));
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"who begins is asleep", test_begins_asleep},
		{"short pauses are waited for awake", test_short_pauses},
		{"long ones are not", test_long_pauses},
		{"a night is one long pause", test_after_a_night},
		CU_TEST_INFO_NULL,
	};

	return unit_run("spin", tests);
}
