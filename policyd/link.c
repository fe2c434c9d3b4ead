// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
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

static bool has_interface(const struct dmm_stack_rec *s)
{
	return s->kind == DMM_KIND_USERSPACE && s->interface[0];
}

int link_read(const struct dmm_class *class, struct link_state ret[DMM_MAX_STACKS])
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifaddrs *all;

	memset(ret, 0, DMM_MAX_STACKS * sizeof(*ret));
	if (fd < 0 || getifaddrs(&all) < 0)
		return -errno;
	for (const struct ifaddrs *a = all; a; a = a->ifa_next)
		for (unsigned id = 0; id < DMM_MAX_STACKS; id++)
			if (has_interface(&class->stack[id]) && a->ifa_addr &&
			    a->ifa_addr->sa_family == AF_PACKET &&
			    strcmp(a->ifa_name, class->stack[id].interface) == 0)
				put(&ret[id], a, fd);
	freeifaddrs(all);
	return 0;
}

int link_lost(const struct dmm_class *class, dmm_u32 *ret)
{
	struct link_state link[DMM_MAX_STACKS];
	int r = link_read(class, link);

	*ret = 0;
	for (unsigned id = 0; r == 0 && id < DMM_MAX_STACKS; id++)
		if (has_interface(&class->stack[id]) && !link[id].up)
			*ret |= 1u << id;
	return r;
}

int link_watch_open(void)
{
	struct sockaddr_nl links = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE), r;

	if (fd < 0 || bind(fd, (struct sockaddr *)&links, sizeof(links)) == 0)
		return fd < 0 ? -errno : fd;
	r = -errno;
	close(fd);
	return r;
}

/* What the messages say is asked for anew: one that was lost (ENOBUFS) is no loss then. */
void link_watch_clear(int fd)
{
	char message[64];

	while (recv(fd, message, sizeof(message), MSG_TRUNC) > 0 || errno == ENOBUFS)
		;
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
