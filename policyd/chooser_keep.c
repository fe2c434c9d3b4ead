// SPDX-License-Identifier: Apache-2.0
/* What nRD knows, kept for the next daemon. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/chooser.h"

#define KEEP_NS 60000000000ULL
#define KEEP_SHARE 20	    /* a slow disk takes no more than this part of the daemon's time */
#define FILE_MAX (64 << 20) /* more than the rules and prefixes that are kept take */

static int load(struct chooser *c, FILE *f)
{
	_cleanup_free_ char *data = NULL;
	size_t len;
	int r = file_read(f, FILE_MAX, &data, &len);

	return r < 0 ? r : nrd_load(c->nrd, data, len, now_ns(), realtime_ns());
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

static int save(FILE *out, void *ctx)
{
	const struct chooser *c = ctx;

	return nrd_save(c->nrd, now_ns(), realtime_ns(), out);
}

int chooser_save(struct chooser *c, const char *path)
{
	dmm_u64 begin = now_ns(), end;
	int r = file_replace(path, 0600, save, c);

	end = now_ns();
	c->kept = c->told;
	c->keep_ns = end + KEEP_NS;
	c->keep_after_ns = end + KEEP_SHARE * (end - begin);
	return r;
}

bool chooser_is_unsaved(const struct chooser *c)
{
	dmm_u64 now = now_ns();

	return c->n_rules && now >= c->keep_after_ns && (c->kept != c->told || now >= c->keep_ns);
}
