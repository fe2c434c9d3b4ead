/* SPDX-License-Identifier: Apache-2.0 */
/* Shared objects that are loaded by name: engines and ports. */
#ifndef DMM_USERSTACK_PLUGIN_H
#define DMM_USERSTACK_PLUGIN_H

#include <stdint.h>

/* What the structs that plug-ins export begin with. */
struct plugin_head {
	uint32_t abi;
	const char *name;
};

struct plugin_kind {
	const char *word;     /* "engine", for messages */
	const char *built_in; /* the names that are not looked for */
	const char *dir;
	const char *dir_env; /* names another directory */
	const char *symbol;
	const char *header; /* of the contract */
	uint32_t abi;
};

/*
 * The struct that NAME.so of the directory exports; it stays loaded. Failures are logged: -ENOENT,
 * -EPERM (others may write the file or its directory), -EINVAL (no plug-in of the kind, or not of
 * this name), -EPROTO (made for another version of the contract).
 */
int plugin_load(const struct plugin_kind *k, const char *name, const struct plugin_head **ret);

#endif
