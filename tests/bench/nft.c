// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/nft.h"

const char *bench_net(unsigned i, unsigned n)
{
	static char text[INET_ADDRSTRLEN];
	struct in_addr a = {.s_addr = htonl(127u << 24 | i * (65536 / n) << 8)};

	return inet_ntop(AF_INET, &a, text, sizeof(text));
}

unsigned bench_plen(unsigned n)
{
	return 8 + (unsigned)__builtin_ctz(n);
}

/* The ports in a chain of their own: nft gets slow with thousands of sets. */
static void write_rules(FILE *out, unsigned n)
{
	fprintf(out, "table ip bench {\n chain ports { udp dport {80, 443} counter accept\n }\n"
		     " chain out { type filter hook output priority 0;\n");
	for (unsigned i = 0; i < n; i++)
		fprintf(out, "  ip daddr %s/%u jump ports\n", bench_net(i, n), bench_plen(n));
	fprintf(out, " }\n}\n");
}

static void write_map(FILE *out, unsigned n)
{
	fprintf(out, "table ip bench {\n map m { type ipv4_addr . inet_service : verdict; "
		     "flags interval; elements = {\n");
	for (unsigned i = 0; i < n; i++)
		fprintf(out, "  %1$s/%2$u . 80 : accept, %1$s/%2$u . 443 : accept,\n",
			bench_net(i, n), bench_plen(n));
	fprintf(out, " } }\n chain out { type filter hook output priority 0;\n"
		     "  ip daddr . udp dport vmap @m counter\n }\n}\n");
}

static bool run_nft(unsigned n, bool as_map)
{
	FILE *out;

	if (n == 0)
		return true;
	out = popen("PATH=$PATH:/usr/sbin nft -f - 2>/dev/null", "w");
	if (!out)
		return false;
	if (as_map)
		write_map(out, n);
	else
		write_rules(out, n);
	return pclose(out) == 0;
}

/* They hold the namespace's receivers; what they are sent is soon dropped, as nobody reads. */
static bool open_port(unsigned short port)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return s >= 0 && bind(s, (struct sockaddr *)&any, sizeof(any)) == 0;
}

static bool lo_up(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool ok = s >= 0 && ioctl(s, SIOCSIFFLAGS, &lo) == 0;

	close(s);
	return ok;
}

int bench_nft(unsigned n, bool as_map)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), ns = -1;

	if (home < 0 || unshare(CLONE_NEWNET) < 0)
		return -1;
	if (lo_up() && open_port(80) && open_port(443) && run_nft(n, as_map))
		ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (setns(home, CLONE_NEWNET) < 0)
		ns = -1;
	close(home);
	return ns;
}
