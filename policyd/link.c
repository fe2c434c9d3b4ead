// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "lib/base/util.h"
#include "policyd/link.h"

const char *const pressure_words[PRESSURES] = {"cpu", "io", "memory"};

static dmm_u64 speed_of(int fd, const char *name)
{
	struct ethtool_cmd cmd = {.cmd = ETHTOOL_GSET};
	struct ifreq ifr = {.ifr_data = (char *)&cmd};
	unsigned mbits;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, SIOCETHTOOL, &ifr) < 0)
		return 0;
	mbits = ethtool_cmd_speed(&cmd);
	return mbits == (unsigned)SPEED_UNKNOWN ? 0 : mbits * 125000ULL;
}

static void put(struct link_state *ret, const struct ifaddrs *a, int fd)
{
	const struct rtnl_link_stats *s = a->ifa_data;

	*ret = (struct link_state){.known = true};
	ret->up = (a->ifa_flags & IFF_UP) && (a->ifa_flags & IFF_RUNNING);
	ret->speed_bytes = speed_of(fd, a->ifa_name);
	if (!s)
		return;
	ret->rx_drops = s->rx_dropped;
	ret->tx_drops = s->tx_dropped;
	ret->rx_errors = s->rx_errors;
	ret->tx_errors = s->tx_errors;
}

int link_read(const char (*name)[16], unsigned n, struct link_state *ret)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifaddrs *all;

	memset(ret, 0, n * sizeof(*ret));
	if (fd < 0 || getifaddrs(&all) < 0)
		return -errno;
	for (const struct ifaddrs *a = all; a; a = a->ifa_next)
		for (unsigned i = 0; i < n; i++)
			if (a->ifa_addr && a->ifa_addr->sa_family == AF_PACKET &&
			    strcmp(a->ifa_name, name[i]) == 0)
				put(&ret[i], a, fd);
	freeifaddrs(all);
	return 0;
}

bool pressure_read(dmm_u64 ret_us[PRESSURES])
{
	char path[32];

	for (unsigned i = 0; i < PRESSURES; i++) {
		_cleanup_fclose_ FILE *f = NULL;
		unsigned long long total;

		snprintf(path, sizeof(path), "/proc/pressure/%s", pressure_words[i]);
		f = fopen(path, "re");
		if (!f || fscanf(f, "some avg10=%*f avg60=%*f avg300=%*f total=%llu", &total) != 1)
			return false;
		ret_us[i] = total;
	}
	return true;
}
