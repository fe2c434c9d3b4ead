// SPDX-License-Identifier: Apache-2.0
/* gen_policies N: the policies of the seeds 0 … N-1 as YAML documents, for tests that are no C. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/policy_gen.h"

int main(int argc, char **argv)
{
	uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

	for (uint64_t seed = 0; seed < n; seed++) {
		struct rng r = {.state = seed};
		struct dmm_policy *p = seed % 3 ? gen_policy_full(&r) : gen_policy(&r);
		int err;

		puts("---");
		err = policy_format(p, stdout);
		policy_free(p);
		if (err < 0)
			return EXIT_FAILURE;
	}
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
