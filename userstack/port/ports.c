// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "lib/base/util.h"
#include "userstack/plugin.h"
#include "userstack/port/ports.h"

#ifndef DMM_PORT_DIR
#define DMM_PORT_DIR "/usr/lib/dmm/ports"
#endif

static const struct plugin_kind kind = {
	.word = "port",
	.built_in = "xsk",
	.dir = DMM_PORT_DIR,
	.dir_env = PORT_DIR_ENV,
	.symbol = PORT_SYMBOL,
	.header = "port.h",
	.abi = PORT_ABI,
};

_Static_assert(offsetof(struct port_ops, abi) == offsetof(struct plugin_head, abi) &&
		       offsetof(struct port_ops, name) == offsetof(struct plugin_head, name),
	       "a port begins as every plug-in does");

int port_find(const char *name, const struct port_ops **ret)
{
	const struct plugin_head *head;
	int r;

	if (!strcmp(name, port_xsk.name)) {
		*ret = &port_xsk;
		return 0;
	}
	r = plugin_load(&kind, name, &head);
	if (!r)
		*ret = (const struct port_ops *)head;
	return r;
}
