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
#include "userstack/plugin.h"

/* Root runs it: nobody else may write it, or put another in its place. */
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

static int plugin_check(const struct plugin_kind *k, const char *path, const char *name,
			const struct plugin_head *head)
{
	if (!head) {
		log_err("%s exports no %s: it is no %s", path, k->symbol, k->word);
		return -EINVAL;
	}
	if (head->abi != k->abi) {
		log_err("%s was made for version %u of %s, this is version %u: build it again",
			path, head->abi, k->header, k->abi);
		return -EPROTO;
	}
	if (!head->name || strcmp(head->name, name)) {
		log_err("%s says that its name is %s", path, head->name ? head->name : "nothing");
		return -EINVAL;
	}
	return 0;
}

int plugin_load(const struct plugin_kind *k, const char *name, const struct plugin_head **ret)
{
	const char *dir = getenv(k->dir_env);
	const struct plugin_head *head;
	char path[512];
	void *so;
	int r;

	if (!*name || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(name)) {
		log_err("\"%s\" is no name of an %s", name, k->word);
		return -ENOENT;
	}
	if (!dir)
		dir = k->dir;
	snprintf(path, sizeof(path), "%s/%s.so", dir, name);
	r = plugin_stat(path);
	if (r == -ENOENT)
		log_err("unknown %s %s: none of %s, and there is no %s", k->word, name, k->built_in,
			path);
	if (r == 0)
		r = plugin_stat(dir);
	if (r < 0)
		return r;
	so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!so) {
		log_err("cannot load the %s %s: %s", k->word, name, dlerror());
		return -EINVAL;
	}
	head = dlsym(so, k->symbol);
	r = plugin_check(k, path, name, head);
	if (r < 0) {
		dlclose(so);
		return r;
	}
	*ret = head;
	return 0;
}
