// SPDX-License-Identifier: Apache-2.0
/* dmm-policy import: another system's file in, YAML out; the policy in force is not looked at. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/import.h"
#include "policyd/json.h"
#include "policyd/node.h"

static int read_all(const char *path, char **ret, size_t *ret_len)
{
	bool is_stdin = strcmp(path, "-") == 0;
	FILE *f = is_stdin ? stdin : fopen(path, "re");
	int r;

	if (!f) {
		log_err("%s cannot be opened: %m", path);
		return -ENOENT;
	}
	/* One byte more than is taken: then import_text() says so. */
	r = file_read(f, NODE_MAX_BYTES + 1, ret, ret_len);
	if (r < 0 && r != -ENOMEM)
		log_err("%s cannot be read: %s", path, strerror(-r));
	if (!is_stdin)
		fclose(f);
	return r;
}

static const struct import_format *format_of(const struct ctl *c)
{
	const struct import_format *f = c->from ? import_find_format(c->from) : NULL;

	if (f)
		return f;
	if (c->from)
		fprintf(stderr, "dmm-policy: import knows no \"%s\"; --from is one of:", c->from);
	else
		fputs("dmm-policy: import needs --from, one of:", stderr);
	for (size_t i = 0; i < import_n_formats; i++)
		fprintf(stderr, " %s", import_formats[i].name);
	fputc('\n', stderr);
	return NULL;
}

/* The --map options. */
static int read_maps(const struct ctl *c, struct import_map *ret)
{
	if (c->n_map > CTL_MAX_MAP) {
		fprintf(stderr, "dmm-policy: %u --map; at most %d are possible\n", c->n_map,
			CTL_MAX_MAP);
		return CTL_USAGE;
	}
	for (unsigned i = 0; i < c->n_map; i++) {
		if (import_map_parse(c->map[i], &ret[i]) < 0) {
			fprintf(stderr, "dmm-policy: --map %s is not NAME=STACK\n", c->map[i]);
			return CTL_USAGE;
		}
		for (unsigned j = 0; j < i; j++) {
			if (ret[i].from_len != ret[j].from_len ||
			    memcmp(ret[i].from, ret[j].from, ret[j].from_len) != 0)
				continue;
			fprintf(stderr, "dmm-policy: --map %s: the name is mapped already\n",
				c->map[i]);
			return CTL_USAGE;
		}
	}
	return CTL_OK;
}

static int print(const struct ctl *c, const struct import *im)
{
	int r;

	if (c->given & CTL_JSON)
		return ctl_print_json(c, json_pack("{s:o, s:o}", "policy", json_policy(im->policy),
						   "diagnostics", json_diags(&im->diags)));
	policy_diags_print(&im->diags, stderr);
	r = import_print(im, stdout);
	if (r < 0)
		log_err("the policy cannot be written: %s", strerror(-r));
	return r < 0 ? CTL_FAILED : CTL_OK;
}

static int translate(const struct ctl *c, const struct import_format *format, const char *path,
		     struct import *im)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	int r = read_all(path, &text, &len), e;

	if (r == 0)
		r = import_text(im, format, text, len);
	if (r == -ENOMEM)
		log_err("out of memory");
	if (!im->policy || r == -ENOMEM)
		return CTL_FAILED;
	for (size_t i = 0; i < im->n_map; i++)
		if (!im->map[i].used)
			log_warn("%s has no \"%.*s\" that --map could name", im->file,
				 (int)im->map[i].from_len, im->map[i].from);
	e = print(c, im);
	return r < 0 ? CTL_FAILED : e;
}

int ctl_import(const struct ctl *c, int argc, char **argv)
{
	const struct import_format *format = format_of(c);
	struct import_map map[CTL_MAX_MAP];
	struct import im = {.map = map, .n_map = c->n_map};
	int r;

	(void)argc;
	if (!format)
		return CTL_USAGE;
	r = read_maps(c, map);
	if (r != CTL_OK)
		return r;
	im.file = strcmp(argv[0], "-") == 0 ? "stdin" : argv[0];
	r = translate(c, format, argv[0], &im);
	import_fini(&im);
	return r;
}
