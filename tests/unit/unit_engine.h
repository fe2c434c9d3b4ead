/* SPDX-License-Identifier: Apache-2.0 */
/* For tests that hold for every engine: which one it is. */
#ifndef DMM_TESTS_UNIT_ENGINE_H
#define DMM_TESTS_UNIT_ENGINE_H

#include <stdio.h>
#include <string.h>

#include "userstack/engine.h"

/* The engine that the first argument names; NULL: none. */
static inline const struct engine_ops *unit_engine(int argc, char **argv)
{
	static const struct engine_ops *const engines[] = {&engine_lwip, &engine_native};

	for (unsigned i = 0; argc == 2 && i < sizeof(engines) / sizeof(engines[0]); i++)
		if (!strcmp(argv[1], engines[i]->name))
			return engines[i];
	fprintf(stderr, "which engine?\n");
	return NULL;
}

#endif
