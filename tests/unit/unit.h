/* SPDX-License-Identifier: Apache-2.0 */
/* What every CUnit program needs beside its tests. */
#ifndef DMM_TESTS_UNIT_H
#define DMM_TESTS_UNIT_H

#include <CUnit/Basic.h>
#include <stdint.h>
#include <stdlib.h>

/* Run suites; the exit status of the program. */
static inline int unit_run_suites(CU_SuiteInfo *suites)
{
	unsigned failed;

	if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS)
		return EXIT_FAILURE;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* The same of a single one. */
static inline int unit_run(const char *name, CU_TestInfo *tests)
{
	CU_SuiteInfo suites[] = {{.pName = name, .pTests = tests}, CU_SUITE_INFO_NULL};

	return unit_run_suites(suites);
}

/* A small generator that gives the same sequence everywhere. */
struct rng {
	uint64_t state;
};
static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
	r->state = r->state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(((r->state >> 32) * n) >> 32);
}

#endif
