// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <string.h>

#include "tests/bpf/xdp_frame.h"

struct frame ether(unsigned type)
{
	struct frame f = {.len = ETH_HLEN};

	f.b[12] = (unsigned char)(type >> 8);
	f.b[13] = (unsigned char)type;
	return f;
}

void append(struct frame *f, const void *data, unsigned len)
{
	memcpy(f->b + f->len, data, len);
	f->len += len;
}

void append_ip4(struct frame *f, const char *src, const char *dst, int proto)
{
	struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = (unsigned char)proto};

	ip.saddr = inet_addr(src);
	ip.daddr = inet_addr(dst);
	append(f, &ip, sizeof(ip));
}

void append_ip6(struct frame *f, const char *src, const char *dst, int next)
{
	struct ipv6hdr ip = {.version = 6, .hop_limit = 64, .nexthdr = (unsigned char)next};

	inet_pton(AF_INET6, src, &ip.saddr);
	inet_pton(AF_INET6, dst, &ip.daddr);
	append(f, &ip, sizeof(ip));
}

void append_tcp(struct frame *f, unsigned sport, unsigned dport)
{
	struct tcphdr th = {.doff = 5, .syn = 1};

	th.source = htons((unsigned short)sport);
	th.dest = htons((unsigned short)dport);
	append(f, &th, sizeof(th));
}

struct frame tcp4(const char *src, const char *dst, unsigned sport, unsigned dport)
{
	struct frame f = ether(ETH_P_IP);

	append_ip4(&f, src, dst, IPPROTO_TCP);
	append_tcp(&f, sport, dport);
	return f;
}

struct frame udp(const char *src, const char *dst, unsigned sport, unsigned dport)
{
	struct udphdr uh = {.len = htons(sizeof(uh) + 4)};
	bool v6 = strchr(src, ':');
	struct frame f = ether(v6 ? ETH_P_IPV6 : ETH_P_IP);

	if (v6)
		append_ip6(&f, src, dst, IPPROTO_UDP);
	else
		append_ip4(&f, src, dst, IPPROTO_UDP);
	uh.source = htons((unsigned short)sport);
	uh.dest = htons((unsigned short)dport);
	append(&f, &uh, sizeof(uh));
	append(&f, "data", 4);
	return f;
}

struct frame tcp6(const char *src, const char *dst, unsigned sport, unsigned dport)
{
	struct frame f = ether(ETH_P_IPV6);

	append_ip6(&f, src, dst, IPPROTO_TCP);
	append_tcp(&f, sport, dport);
	return f;
}

struct frame tagged(const struct frame *f, unsigned tci)
{
	struct frame t = *f;
	unsigned char tag[4] = {0x81, 0, (unsigned char)(tci >> 8), (unsigned char)tci};

	memmove(t.b + 16, t.b + 12, t.len - 12);
	memcpy(t.b + 12, tag, sizeof(tag));
	t.len += sizeof(tag);
	return t;
}
