// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "userstack/net/frame.h"

#define MTU_UNSAID 576u /* for routers that only say that it is less: RFC 1191, section 5 */
#define IPV6_MTU_MIN 1280u

uint64_t frame_sum(const void *data, size_t len, uint64_t sum)
{
	const uint8_t *p = data;
	uint64_t a = 0, b = 0;
	uint32_t w[4];
	uint16_t h = 0;

	/* Four independent 32-bit words a step: no carry can be lost below 16 GiB. */
	for (; len >= 16; len -= 16, p += 16) {
		memcpy(w, p, 16);
		a += (uint64_t)w[0] + w[1];
		b += (uint64_t)w[2] + w[3];
	}
	for (; len >= 4; len -= 4, p += 4) {
		memcpy(w, p, 4);
		a += w[0];
	}
	if (len >= 2) {
		memcpy(&h, p, 2);
		a += h;
		p += 2;
		len -= 2;
	}
	if (len) {
		h = 0;
		memcpy(&h, p, 1);
		a += h;
	}
	a += b;
	a = (a & 0xffffffff) + (a >> 32);
	return sum + a;
}

uint16_t frame_fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

uint16_t frame_sum_update(uint16_t field, uint16_t before, uint16_t after)
{
	return (uint16_t)~frame_fold((uint64_t)(uint16_t)~field + (uint16_t)~before + after);
}

uint64_t frame_pseudo(const dmm_u8 src[16], const dmm_u8 dst[16], uint8_t proto, size_t l4_len)
{
	size_t off = addr_is_v4(src) ? 12 : 0;
	uint64_t sum;

	sum = frame_sum(src + off, 16 - off, 0);
	sum = frame_sum(dst + off, 16 - off, sum);
	return sum + htonl((uint32_t)l4_len) + htons(proto);
}

/* Addresses of the IP header at p; swap: destination is remote. */
static void frame_addrs(struct frame *f, const uint8_t *p, bool swap)
{
	dmm_u8 *src = swap ? f->local.ip : f->remote.ip, *dst = swap ? f->remote.ip : f->local.ip;
	uint32_t v4;

	if (f->v6) {
		memcpy(src, p + 8, 16);
		memcpy(dst, p + 24, 16);
		return;
	}
	memcpy(&v4, p + 12, 4);
	addr_from_v4(src, v4);
	memcpy(&v4, p + 16, 4);
	addr_from_v4(dst, v4);
}

/* ICMPv6 codes as the kernel translates them for connect(). */
static int frame_error6(uint8_t type, uint8_t code)
{
	static const int unreach[] = {ENETUNREACH,  EACCES, EHOSTUNREACH, EHOSTUNREACH,
				      ECONNREFUSED, EACCES, EACCES};

	if (type == ICMP6_DST_UNREACH)
		return code < sizeof(unreach) / sizeof(unreach[0]) ? unreach[code] : EPROTO;
	if (type == ICMP6_TIME_EXCEEDED)
		return EHOSTUNREACH;
	return type == ICMP6_PARAM_PROB ? EPROTO : 0;
}

static int frame_error4(uint8_t type, uint8_t code)
{
	static const int unreach[] = {ENETUNREACH,  EHOSTUNREACH, ENOPROTOOPT,	ECONNREFUSED,
				      EMSGSIZE,	    EOPNOTSUPP,	  ENETUNREACH,	EHOSTDOWN,
				      ENONET,	    ENETUNREACH,  EHOSTUNREACH, ENETUNREACH,
				      EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH};

	if (type == ICMP_DEST_UNREACH)
		return code < sizeof(unreach) / sizeof(unreach[0]) ? unreach[code] : 0;
	if (type == ICMP_TIME_EXCEEDED) /* that of fragments says nothing of the path */
		return code == ICMP_EXC_FRAGTIME ? 0 : EHOSTUNREACH;
	return type == ICMP_PARAMETERPROB ? EPROTO : 0;
}

bool frame_from_nowhere(const struct frame *f)
{
	const dmm_u8 *ip = f->remote.ip, *v4 = ip + 12;
	static const dmm_u8 loopback[16] = {[15] = 1};

	if (f->v6)
		return ip[0] == 0xff || addr_is_v4(ip) || addr_is_v4(f->local.ip) ||
		       addr_is_any(ip) || !memcmp(ip, loopback, 16);
	return !v4[0] || v4[0] == 127 || (v4[0] & 0xf0) == 224 || be32(v4) == INADDR_BROADCAST;
}

/* An ICMP message at f->l4_off: of interest if it quotes a TCP segment or a UDP datagram. */
static enum frame_kind frame_icmp(const uint8_t *p, struct frame *f)
{
	const uint8_t *q = p + 8, *l4;
	size_t left, hdr;

	if (f->l4_len < 8)
		return FRAME_BAD;
	left = f->l4_len - 8;
	f->icmp_type = p[0];
	f->icmp_code = p[1];
	if (frame_fold(frame_sum(
		    p, f->l4_len,
		    f->v6 ? frame_pseudo(f->remote.ip, f->local.ip, IPPROTO_ICMPV6, f->l4_len)
			  : 0)) != 0xffff)
		return FRAME_BAD;
	if (f->v6) {
		if (left < 40 + 8 || q[0] >> 4 != 6)
			return FRAME_BAD;
		hdr = 40;
		f->proto = q[6];
		f->error = frame_error6(p[0], p[1]);
		if (p[0] == ICMP6_PACKET_TOO_BIG && be32(p + 4) >= IPV6_MTU_MIN)
			f->mtu = be32(p + 4); /* less is a lie: RFC 8201, section 4 */
	} else {
		if (left < 20 || q[0] >> 4 != 4)
			return FRAME_BAD;
		hdr = (size_t)(q[0] & 15) * 4;
		f->proto = q[9];
		if (hdr < 20 || left < hdr + 8)
			return FRAME_BAD;
		f->error = frame_error4(p[0], p[1]);
		if (p[0] == ICMP_DEST_UNREACH && p[1] == ICMP_FRAG_NEEDED) {
			f->error = 0;
			f->mtu = be16(p + 6) ? be16(p + 6) : MTU_UNSAID;
		}
	}
	if ((!f->error && !f->mtu) || (f->proto != IPPROTO_TCP && f->proto != IPPROTO_UDP))
		return FRAME_BAD;
	l4 = q + hdr;
	frame_addrs(f, q, true);
	f->local.port = be16(l4);
	f->remote.port = be16(l4 + 2);
	if (f->proto == IPPROTO_TCP)
		f->seq = be32(l4 + 4);
	return FRAME_ERROR;
}

static enum frame_kind frame_tcp(const uint8_t *p, struct frame *f)
{
	size_t doff;

	if (f->l4_len < 20)
		return FRAME_BAD;
	doff = (size_t)(p[12] >> 4) * 4;
	if (doff < 20 || doff > f->l4_len)
		return FRAME_BAD;
	f->remote.port = be16(p);
	f->local.port = be16(p + 2);
	f->seq = be32(p + 4);
	f->flags = p[13];
	return FRAME_TCP;
}

/* What the IP packet has behind the datagram is none of it. */
static enum frame_kind frame_udp(const uint8_t *p, struct frame *f)
{
	size_t len;

	if (f->l4_len < 8)
		return FRAME_BAD;
	len = be16(p + 4);
	if (len < 8 || len > f->l4_len)
		return FRAME_BAD;
	f->l4_len = len;
	f->remote.port = be16(p);
	f->local.port = be16(p + 2);
	return FRAME_UDP;
}

bool frame_is_extension(uint8_t next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT ||
	       next == IPPROTO_DSTOPTS;
}

static enum frame_kind frame_ip(const uint8_t *p, size_t len, struct frame *f)
{
	bool odd;
	size_t hdr;

	if (len < 1)
		return FRAME_BAD;
	if (p[0] >> 4 == 6) {
		if (len < 40)
			return FRAME_BAD;
		f->v6 = true;
		hdr = 40;
		f->proto = p[6];
		f->ip_len = 40u + be16(p + 4);
		odd = frame_is_extension(f->proto);
	} else if (p[0] >> 4 == 4) {
		hdr = (size_t)(p[0] & 15) * 4;
		if (hdr < 20 || len < hdr || frame_fold(frame_sum(p, hdr, 0)) != 0xffff)
			return FRAME_BAD;
		f->proto = p[9];
		f->ip_len = be16(p + 2);
		odd = hdr > 20 || be16(p + 6) & 0x3fff; /* fragments */
	} else {
		return FRAME_BAD;
	}
	if (f->ip_len < hdr || f->ip_len > len)
		return FRAME_BAD;
	frame_addrs(f, p, false);
	if (odd)
		return FRAME_ODD;
	f->l4_off = f->ip_off + hdr;
	f->l4_len = f->ip_len - hdr;
	if (f->proto == IPPROTO_TCP)
		return frame_tcp(p + hdr, f);
	if (f->proto == IPPROTO_UDP)
		return frame_udp(p + hdr, f);
	if (f->proto == (f->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return frame_icmp(p + hdr, f);
	return FRAME_BAD;
}

enum frame_kind frame_parse_ip(const uint8_t *pkt, size_t len, struct frame *ret)
{
	*ret = (struct frame){0};
	ret->kind = frame_ip(pkt, len, ret);
	return ret->kind;
}

enum frame_kind frame_parse(const uint8_t *data, size_t len, struct frame *ret)
{
	uint16_t type;

	*ret = (struct frame){.ip_off = FRAME_ETH_LEN};
	if (len < FRAME_ETH_LEN)
		return FRAME_BAD;
	type = be16(data + 12);
	if (type != ETHERTYPE_IP && type != ETHERTYPE_IPV6)
		return FRAME_BAD;
	ret->kind = frame_ip(data + FRAME_ETH_LEN, len - FRAME_ETH_LEN, ret);
	if (ret->kind != FRAME_BAD &&
	    (ret->v6 != (type == ETHERTYPE_IPV6) || frame_from_nowhere(ret)))
		ret->kind = FRAME_BAD;
	return ret->kind;
}

uint8_t frame_tos(const uint8_t *pkt)
{
	return pkt[0] >> 4 == 6 ? (uint8_t)(be16(pkt) >> 4) : pkt[1];
}

unsigned frame_sum_offset(uint8_t proto)
{
	return proto == IPPROTO_TCP ? 16 : 6;
}

/* The checksum field. */
static uint16_t frame_field(const uint8_t *data, const struct frame *f)
{
	uint16_t field;

	memcpy(&field, data + f->l4_off + frame_sum_offset(f->proto), 2);
	return field;
}

static uint64_t frame_pseudo_of(const struct frame *f)
{
	return frame_pseudo(f->remote.ip, f->local.ip, f->proto, f->l4_len);
}

bool frame_summed(const uint8_t *data, const struct frame *f)
{
	if (f->kind == FRAME_UDP && !frame_field(data, f))
		return !f->v6;
	return frame_fold(frame_sum(data + f->l4_off, f->l4_len, frame_pseudo_of(f))) == 0xffff;
}

bool frame_unsummed(const uint8_t *data, const struct frame *f)
{
	return frame_field(data, f) == frame_fold(frame_pseudo_of(f));
}

void frame_eth(uint8_t *ret, const uint8_t dst[6], const uint8_t src[6], bool v6)
{
	uint16_t type = htons(v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP);

	memcpy(ret, dst, 6);
	memcpy(ret + 6, src, 6);
	memcpy(ret + 12, &type, 2);
}
