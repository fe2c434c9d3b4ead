// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"

static const dmm_u8 mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool addr_is_v4(const dmm_u8 ip[16])
{
	return memcmp(ip, mapped, sizeof(mapped)) == 0;
}

bool addr_is_any(const dmm_u8 ip[16])
{
	static const dmm_u8 zero[16];

	if (addr_is_v4(ip))
		return memcmp(ip + 12, zero, 4) == 0;
	return memcmp(ip, zero, 16) == 0;
}

bool addr_is_link_local(const dmm_u8 ip[16])
{
	return ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80;
}

void addr_from_v4(dmm_u8 ret[16], uint32_t be32)
{
	memcpy(ret, mapped, sizeof(mapped));
	memcpy(ret + 12, &be32, 4);
}

int addr_parse_ip(const char *text, dmm_u8 ret[16])
{
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		addr_from_v4(ret, v4.s_addr);
		return 0;
	}
	return inet_pton(AF_INET6, text, ret) == 1 ? 0 : -EINVAL;
}

int addr_parse_prefix(const char *text, dmm_u8 ret[16], unsigned *ret_plen)
{
	char ip[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	size_t n = slash ? (size_t)(slash - text) : strlen(text);
	unsigned long bits, max;
	char *end;
	int r;

	if (n >= sizeof(ip))
		return -EINVAL;
	memcpy(ip, text, n);
	ip[n] = '\0';
	r = addr_parse_ip(ip, ret);
	if (r < 0)
		return r;
	max = strchr(ip, ':') ? 128 : 32;
	bits = max;
	if (slash) {
		if (slash[1] < '0' || slash[1] > '9')
			return -EINVAL;
		bits = strtoul(slash + 1, &end, 10);
		if (*end || bits > max)
			return -EINVAL;
	}
	*ret_plen = (unsigned)(128 - max + bits);
	for (unsigned i = *ret_plen; i < 128; i++)
		if (ret[i / 8] & (0x80 >> (i % 8)))
			return -ERANGE;
	return 0;
}

char *addr_format_ip(const dmm_u8 ip[16], char *ret, size_t len)
{
	if (addr_is_v4(ip))
		inet_ntop(AF_INET, ip + 12, ret, (socklen_t)len);
	else
		inet_ntop(AF_INET6, ip, ret, (socklen_t)len);
	return ret;
}

char *addr_format(const struct dmm_addr *a, char *ret, size_t len)
{
	char ip[INET6_ADDRSTRLEN];

	addr_format_ip(a->ip, ip, sizeof(ip));
	snprintf(ret, len, addr_is_v4(a->ip) ? "%s:%u" : "[%s]:%u", ip, a->port);
	return ret;
}

char *addr_format_prefix(const dmm_u8 ip[16], unsigned plen, char *ret, size_t len)
{
	char text[INET6_ADDRSTRLEN];
	bool v4 = plen >= 96 && addr_is_v4(ip);

	if (v4)
		addr_format_ip(ip, text, sizeof(text));
	else
		inet_ntop(AF_INET6, ip, text, sizeof(text));
	if (plen == 128)
		snprintf(ret, len, "%s", text);
	else
		snprintf(ret, len, "%s/%u", text, v4 ? plen - 96 : plen);
	return ret;
}

bool addr_in_prefix(const dmm_u8 ip[16], const dmm_u8 prefix[16], unsigned plen)
{
	unsigned bytes = plen / 8, bits = plen % 8;

	if (memcmp(ip, prefix, bytes) != 0)
		return false;
	return bits == 0 || ((ip[bytes] ^ prefix[bytes]) >> (8 - bits)) == 0;
}

socklen_t addr_to_sockaddr(const struct dmm_addr *a, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (addr_is_v4(a->ip)) {
		struct sockaddr_in *in = (struct sockaddr_in *)ret;

		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		memcpy(&in->sin_addr, a->ip + 12, 4);
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(a->port);
	memcpy(&in6->sin6_addr, a->ip, 16);
	return sizeof(*in6);
}

int addr_from_sockaddr(const struct sockaddr *sa, struct dmm_addr *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)sa;

		addr_from_v4(ret->ip, in->sin_addr.s_addr);
		ret->port = ntohs(in->sin_port);
		return 0;
	}
	if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;

		memcpy(ret->ip, &in6->sin6_addr, 16);
		ret->port = ntohs(in6->sin6_port);
		return 0;
	}
	return -EAFNOSUPPORT;
}
