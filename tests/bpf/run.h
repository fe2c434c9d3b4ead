/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs of tests/bpf have in common. */
#ifndef DMM_TESTS_BPF_RUN_H
#define DMM_TESTS_BPF_RUN_H

#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "loader/probe.h"

#define BPF_SKIP 77

/* BPF_SKIP, and the reason is said, unless root runs it on a kernel that has what DMM needs. */
static inline int bpf_skip(void)
{
	const struct probe *rows;
	unsigned n;

	if (geteuid() != 0) {
		puts("SKIP: needs root");
		return BPF_SKIP;
	}
	probe_run(&rows, &n);
	for (unsigned i = 0; i < n; i++)
		if (rows[i].required && rows[i].error) {
			printf("SKIP: this kernel lacks %s\n", rows[i].name);
			return BPF_SKIP;
		}
	return 0;
}

/* Run one suite; its exit status. */
static inline int bpf_run(const char *name, CU_InitializeFunc setup, CU_CleanupFunc teardown,
			  CU_TestInfo *tests)
{
	unsigned failed;
	CU_pSuite s;

	setenv("DMM_RUN", "/tmp", 0);
	CU_initialize_registry();
	s = CU_add_suite(name, setup, teardown);
	for (; tests->pName; tests++)
		CU_add_test(s, tests->pName, tests->pTestFunc);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures() + CU_get_number_of_suites_failed();
	CU_cleanup_registry();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
