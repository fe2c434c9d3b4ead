// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "userstack/engines.h"

#ifndef DMM_ENGINE_DIR
#define DMM_ENGINE_DIR "/usr/lib/dmm/engines"
#endif

static const struct engine_ops *const built_in[] = {&engine_native, &engine_lwip};

/* Root runs it: nobody else may write it. */
static int plugin_stat(const char *path)
{
	struct stat st;
	int r = stat(path, &st) < 0 ? -errno : 0;

	if (!r && ((st.st_uid && st.st_uid != geteuid()) || (st.st_mode & 022))) {
		log_err("%s: others than its owner may write it, or it is not root's", path);
		return -EPERM;
	}
	return r;
}

/* Every function has to be there. */
static bool plugin_whole(const struct engine_ops *ops)
{
	const void *const *from = (const void *const *)&ops->start;
	const void *const *to = (const void *const *)&ops->too_big;

	for (; from <= to; from++)
		if (!*from)
			return false;
	return true;
}

static int plugin_check(const char *path, const char *name, const struct engine_ops *ops)
{
	if (!ops) {
		log_err("%s exports no " ENGINE_SYMBOL ": it is no engine", path);
		return -EINVAL;
	}
	if (ops->abi != ENGINE_ABI) {
		log_err("%s was made for version %u of engine.h, this is version %u: build it "
			"again",
			path, ops->abi, ENGINE_ABI);
		return -EPROTO;
	}
	if (!ops->name || strcmp(ops->name, name)) {
		log_err("%s says that its name is %s", path, ops->name ? ops->name : "nothing");
		return -EINVAL;
	}
	if (!plugin_whole(ops)) {
		log_err("%s lacks a function of struct engine_ops", path);
		return -EINVAL;
	}
	return 0;
}

static int plugin_load(const char *name, const struct engine_ops **ret)
{
	const char *dir = getenv(ENGINE_DIR_ENV);
	const struct engine_ops *ops;
	char path[512];
	void *so;
	int r;

	if (!*name || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(name)) {
		log_err("\"%s\" is no name of an engine", name);
		return -ENOENT;
	}
	snprintf(path, sizeof(path), "%s/%s.so", dir ? dir : DMM_ENGINE_DIR, name);
	r = plugin_stat(path);
	if (r == -ENOENT)
		log_err("unknown engine %s: neither native nor lwip, and there is no %s", name,
			path);
	if (r < 0)
		return r;
	so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!so) {
		log_err("cannot load the engine %s: %s", name, dlerror());
		return -EINVAL;
	}
	ops = dlsym(so, ENGINE_SYMBOL);
	r = plugin_check(path, name, ops);
	if (r < 0) {
		dlclose(so);
		return r;
	}
	*ret = ops;
	return 0;
}

int engine_find(const char *name, const struct engine_ops **ret)
{
	for (unsigned i = 0; i < ARRAY_SIZE(built_in); i++)
		if (!strcmp(name, built_in[i]->name)) {
			*ret = built_in[i];
			return 0;
		}
	return plugin_load(name, ret);
}
