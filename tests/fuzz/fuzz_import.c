// SPDX-License-Identifier: Apache-2.0
/*
 * Any text as each of the foreign configurations. What comes out must read back as the same policy,
 * and there is an error exactly if something is said to be one.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *print(const struct dmm_policy *p)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out || policy_format(p, out) < 0 || fclose(out) != 0)
		abort();
	return text;
}

static void check(const struct import *im)
{
	struct policy_diags diags = {0};
	struct dmm_policy *p;
	char *text = NULL, *a, *b;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out || import_print(im, out) < 0 || fclose(out) != 0)
		abort();
	if (policy_parse_text("again", text, len, &p, &diags) < 0 || diags.n)
		abort();
	/* A default that the import has not got is the parser's. */
	if (im->policy->n_def == 0)
		p->n_def = 0;
	a = print(im->policy);
	b = print(p);
	if (strcmp(a, b) != 0)
		abort();
	policy_free(p);
	policy_diags_fini(&diags);
	free(text);
	free(a);
	free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < import_n_formats; i++) {
		struct import_map map[1];
		struct import im = {.file = "fuzz", .map = map, .n_map = 1};
		int r;

		if (import_map_parse("nstack-lwip=edge0", &map[0]) < 0)
			abort();
		r = import_text(&im, &import_formats[i], (const char *)data, size);
		if ((r < 0) != (im.diags.errors > 0))
			abort();
		check(&im);
		import_fini(&im);
	}
	return 0;
}
