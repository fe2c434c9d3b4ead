// SPDX-License-Identifier: Apache-2.0
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

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

void port_queues(const char *interface, unsigned *ret_rx, unsigned *ret_tx)
{
	_cleanup_close_ int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
	struct ifreq ifr = {.ifr_data = (char *)&channels};

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", interface);
	if (s < 0 || ioctl(s, SIOCETHTOOL, &ifr) < 0)
		channels = (struct ethtool_channels){0};
	*ret_rx = MAX(channels.rx_count + channels.combined_count, 1u);
	*ret_tx = MAX(channels.tx_count + channels.combined_count, 1u);
}
