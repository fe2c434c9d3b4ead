// SPDX-License-Identifier: Apache-2.0
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "lib/base/util.h"
#include "userstack/port/ports.h"

/* request: its cmd says what it is; false: the driver has no answer. */
static bool device_ask(const char *interface, void *request)
{
	_cleanup_close_ int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {.ifr_data = request};

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", interface);
	return s >= 0 && ioctl(s, SIOCETHTOOL, &ifr) == 0;
}

void port_channels(const char *interface, struct ethtool_channels *ret)
{
	*ret = (struct ethtool_channels){.cmd = ETHTOOL_GCHANNELS};
	if (!device_ask(interface, ret))
		*ret = (struct ethtool_channels){0};
}

bool port_device_sums(const char *interface)
{
	struct ethtool_value on = {.cmd = ETHTOOL_GTXCSUM};

	return device_ask(interface, &on) && on.data;
}

void port_queues(const char *interface, unsigned *ret_rx, unsigned *ret_tx)
{
	struct ethtool_channels c;

	port_channels(interface, &c);
	*ret_rx = MAX(c.rx_count + c.combined_count, 1u);
	*ret_tx = MAX(c.tx_count + c.combined_count, 1u);
}
