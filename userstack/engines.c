// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "userstack/engines.h"
#include "userstack/plugin.h"

#ifndef DMM_ENGINE_DIR
#define DMM_ENGINE_DIR "/usr/lib/dmm/engines"
#endif

static const struct engine_ops *const built_in[] = {&engine_native, &engine_lwip};

static const struct plugin_kind kind = {
	.word = "engine",
	.built_in = "native and lwip",
	.dir = DMM_ENGINE_DIR,
	.dir_env = ENGINE_DIR_ENV,
	.symbol = ENGINE_SYMBOL,
	.header = "engine.h",
	.abi = ENGINE_ABI,
};

_Static_assert(offsetof(struct engine_ops, abi) == offsetof(struct plugin_head, abi) &&
		       offsetof(struct engine_ops, name) == offsetof(struct plugin_head, name),
	       "an engine begins as every plug-in does");

/* Every function has to be there, but those that engine.h says are optional. */
static bool engine_whole(const struct engine_ops *ops)
{
	const void *const *from = (const void *const *)&ops->start;
	const void *const *to = (const void *const *)&ops->too_big;

	for (; from <= to; from++)
		if (!*from)
			return false;
	return !ops->reserve == !ops->commit;
}

int engine_find(const char *name, const struct engine_ops **ret)
{
	const struct plugin_head *head;
	int r;

	for (unsigned i = 0; i < ARRAY_SIZE(built_in); i++)
		if (!strcmp(name, built_in[i]->name)) {
			*ret = built_in[i];
			return 0;
		}
	r = plugin_load(&kind, name, &head);
	if (r < 0)
		return r;
	if (!engine_whole((const struct engine_ops *)head)) {
		log_err("the engine %s lacks a function of struct engine_ops", name);
		return -EINVAL;
	}
	*ret = (const struct engine_ops *)head;
	return 0;
}
