// SPDX-License-Identifier: Apache-2.0
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "lib/base/util.h"
#include "userstack/port/ports.h"

void port_channels(const char *interface, struct ethtool_channels *ret)
{
	_cleanup_close_ int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {.ifr_data = (char *)ret};

	*ret = (struct ethtool_channels){.cmd = ETHTOOL_GCHANNELS};
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", interface);
	if (s < 0 || ioctl(s, SIOCETHTOOL, &ifr) < 0)
		*ret = (struct ethtool_channels){0};
}

void port_queues(const char *interface, unsigned *ret_rx, unsigned *ret_tx)
{
	struct ethtool_channels c;

	port_channels(interface, &c);
	*ret_rx = MAX(c.rx_count + c.combined_count, 1u);
	*ret_tx = MAX(c.tx_count + c.combined_count, 1u);
}
