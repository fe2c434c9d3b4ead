/* SPDX-License-Identifier: Apache-2.0 */
/* For tests that hold for every engine: which one it is. */
#ifndef DMM_TESTS_UNIT_ENGINE_H
#define DMM_TESTS_UNIT_ENGINE_H

#include <stdio.h>

#include "userstack/engines.h"

/* The engine that the first argument names, built in or a plug-in; NULL: none. */
static inline const struct engine_ops *unit_engine(int argc, char **argv)
{
	const struct engine_ops *named = NULL;

	if (argc != 2)
		fprintf(stderr, "which engine?\n");
	else
		(void)engine_find(argv[1], &named);
	return named;
}

#endif
