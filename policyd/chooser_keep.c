// SPDX-License-Identifier: Apache-2.0
/* What nRD knows, kept for the next daemon. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/chooser.h"

#define KEEP_NS 60000000000ULL
#define FILE_MAX (64 << 20)

static int load(struct chooser *c, FILE *f)
{
	_cleanup_free_ char *data = malloc(FILE_MAX);
	size_t len = data ? fread(data, 1, FILE_MAX, f) : 0;

	return data ? nrd_load(c->nrd, data, len, now_ns(), realtime_ns()) : -ENOMEM;
}

void chooser_load(struct chooser *c, const char *path)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	struct nrd_counters counters;
	int r = f ? load(c, f) : -errno;

	nrd_counters(c->nrd, &counters);
	c->told = c->kept = counters.decisions;
	if (r == 0)
		log_info("nrd: goes on from %s, after decision %llu", path, c->told);
	else if (r != -ENOENT)
		log_warn("nrd: begins anew, %s is not taken: %s", path,
			 r == -EBADMSG	? "it is damaged"
			 : r == -EPROTO ? "it is of another version"
					: strerror(-r));
}

int chooser_save(struct chooser *c, const char *path)
{
	char aside[PATH_MAX + 8];
	FILE *f;
	int r;

	snprintf(aside, sizeof(aside), "%s.new", path);
	f = fopen(aside, "we");
	if (!f)
		return -errno;
	r = nrd_save(c->nrd, now_ns(), realtime_ns(), f);
	if (fclose(f) != 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(aside, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(aside);
	c->kept = c->told;
	c->keep_ns = now_ns() + KEEP_NS;
	return r;
}

bool chooser_is_unsaved(const struct chooser *c)
{
	return c->n_rules && (c->kept != c->told || now_ns() >= c->keep_ns);
}
