// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "userstack/inject.h"
#include "userstack/net/frame.h"

#define TTL 64
#define MAX_PACKET (40 + 8 + DMM_SYN_HDR)

static int raw_open(int family)
{
	int mark = (int)DMM_MARK, on = 1, r;
	int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0 ||
	    (family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_HDRINCL, &on, sizeof(on)) < 0)) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

int inject_open(struct inject *i)
{
	i->raw6 = -1;
	i->raw4 = raw_open(AF_INET);
	if (i->raw4 < 0) {
		log_err("cannot open a raw socket: %s; needs CAP_NET_RAW and CAP_NET_ADMIN",
			strerror(-i->raw4));
		return i->raw4;
	}
	i->raw6 = raw_open(AF_INET6);
	if (i->raw6 < 0)
		log_warn("no raw IPv6 socket: %s; IPv6 carriers are off", strerror(-i->raw6));
	return 0;
}

void inject_close(struct inject *i)
{
	close_ptr(&i->raw4);
	close_ptr(&i->raw6);
	i->raw4 = i->raw6 = -1;
}

static int raw_send(const struct inject *i, const dmm_u8 dst[16], const uint8_t *pkt, size_t len)
{
	struct dmm_addr to = {0};
	struct sockaddr_storage sa;
	socklen_t sa_len;
	bool v4 = addr_is_v4(dst);

	memcpy(to.ip, dst, 16);
	sa_len = addr_to_sockaddr(&to, &sa);
	if (sendto(v4 ? i->raw4 : i->raw6, pkt, len, MSG_DONTWAIT, (struct sockaddr *)&sa, sa_len) <
	    0)
		return -errno;
	return 0;
}

/* The IP header, src and dst in the ABI's form. Returns its length. The kernel fills in the IPv4
 * checksum. */
static size_t put_ip(uint8_t *p, const dmm_u8 src[16], const dmm_u8 dst[16], uint8_t proto,
		     size_t l4_len)
{
	if (addr_is_v4(src)) {
		uint16_t len = htons((uint16_t)(20 + l4_len));

		memset(p, 0, 20);
		p[0] = 0x45;
		memcpy(p + 2, &len, 2);
		p[6] = 0x40; /* do not fragment */
		p[8] = TTL;
		p[9] = proto;
		memcpy(p + 12, src + 12, 4);
		memcpy(p + 16, dst + 12, 4);
		return 20;
	}
	uint16_t len = htons((uint16_t)l4_len);

	memset(p, 0, 8);
	p[0] = 0x60;
	memcpy(p + 4, &len, 2);
	p[6] = proto;
	p[7] = TTL;
	memcpy(p + 8, src, 16);
	memcpy(p + 24, dst, 16);
	return 40;
}

static void put_tcp_csum(uint8_t *tcp, size_t len, const dmm_u8 src[16], const dmm_u8 dst[16])
{
	uint16_t sum;

	memset(tcp + 16, 0, 2);
	sum = (uint16_t)~frame_fold(frame_sum(tcp, len, frame_pseudo(src, dst, IPPROTO_TCP, len)));
	memcpy(tcp + 16, &sum, 2);
}

/* Options of IP, which an application may set at any time, would be taken for a header of TCP. */
static bool is_of(const uint8_t *hdr, size_t l4_off, const struct dmm_tuple *t)
{
	uint16_t ports[2] = {htons(t->src.port), htons(t->dst.port)};

	return (addr_is_v4(t->src.ip) ? hdr[0] == 0x45 : hdr[6] == IPPROTO_TCP) &&
	       memcmp(hdr + l4_off, ports, sizeof(ports)) == 0;
}

/* What begins with the headers hdr, with another IP header. */
static int put_segment(const struct inject *i, const struct dmm_tuple *t, const uint8_t *hdr,
		       size_t hdr_len, size_t l4_off, const uint8_t *data, size_t len)
{
	uint8_t pkt[MAX_PACKET + DMM_AGAIN_MAX];
	size_t tcp_len, ip_len;

	if (l4_off + 20 > hdr_len || hdr_len > DMM_SYN_HDR || len > DMM_AGAIN_MAX ||
	    !is_of(hdr, l4_off, t))
		return -EINVAL;
	tcp_len = (size_t)(hdr[l4_off + 12] >> 4) * 4;
	if (tcp_len < 20 || l4_off + tcp_len > hdr_len)
		return -EINVAL;
	ip_len = put_ip(pkt, t->src.ip, t->dst.ip, IPPROTO_TCP, tcp_len + len);
	pkt[0] |= hdr[0] & 0x0f; /* type of service, or traffic class */
	pkt[1] = addr_is_v4(t->src.ip) ? hdr[1] : hdr[1] & 0xf0;
	memcpy(pkt + ip_len, hdr + l4_off, tcp_len);
	memcpy(pkt + ip_len + tcp_len, data, len);
	put_tcp_csum(pkt + ip_len, tcp_len + len, t->src.ip, t->dst.ip);
	return raw_send(i, t->dst.ip, pkt, ip_len + tcp_len + len);
}

void inject_copy(struct inject_syn *ret, const struct dmm_event *ev)
{
	ret->isn = ev->isn;
	ret->hdr_len = (uint16_t)MIN(ev->hdr_len, sizeof(ret->hdr));
	ret->l4_off = ev->l4_off;
	memcpy(ret->hdr, ev->hdr, ret->hdr_len);
}

int inject_release(const struct inject *i, const struct dmm_tuple *t, const struct inject_syn *syn)
{
	return put_segment(i, t, syn->hdr, syn->hdr_len, syn->l4_off, syn->hdr, 0);
}

int inject_again(const struct inject *i, const struct dmm_again *a)
{
	return put_segment(i, &a->ev.tuple, a->ev.hdr, a->ev.hdr_len, a->ev.l4_off, a->data,
			   a->len);
}

int inject_reset(const struct inject *i, const struct dmm_tuple *t, uint32_t isn)
{
	uint16_t sport = htons(t->dst.port), dport = htons(t->src.port);
	uint8_t pkt[40 + 20];
	uint32_t ack = htonl(isn + 1);
	size_t ip_len = put_ip(pkt, t->dst.ip, t->src.ip, IPPROTO_TCP, 20);
	uint8_t *tcp = pkt + ip_len;

	memset(tcp, 0, 20);
	memcpy(tcp, &sport, 2);
	memcpy(tcp + 2, &dport, 2);
	memcpy(tcp + 8, &ack, 4);
	tcp[12] = 5 << 4;
	tcp[13] = FRAME_RST | FRAME_ACK;
	put_tcp_csum(tcp, 20, t->dst.ip, t->src.ip);
	return raw_send(i, t->src.ip, pkt, ip_len + 20);
}

static uint8_t code4(int error)
{
	switch (error) {
	case ENETUNREACH:
		return ICMP_NET_UNREACH;
	case ENOPROTOOPT:
		return ICMP_PROT_UNREACH;
	case EOPNOTSUPP:
		return ICMP_SR_FAILED;
	case EHOSTDOWN:
		return ICMP_HOST_UNKNOWN;
	case ENONET:
		return ICMP_HOST_ISOLATED;
	default:
		return ICMP_HOST_UNREACH;
	}
}

static uint8_t code6(int error)
{
	switch (error) {
	case ENETUNREACH:
		return ICMP6_DST_UNREACH_NOROUTE;
	case EACCES:
		return ICMP6_DST_UNREACH_ADMIN;
	default:
		return ICMP6_DST_UNREACH_ADDR;
	}
}

/* About the packet from src to dst that begins with these bytes. */
static int put_error(const struct inject *i, const dmm_u8 src[16], const dmm_u8 dst[16],
		     uint8_t type, uint8_t code, const uint8_t *quoted, size_t quoted_len)
{
	bool v4 = addr_is_v4(src);
	size_t len = 8 + quoted_len;
	uint8_t pkt[MAX_PACKET], *icmp;
	size_t ip_len = put_ip(pkt, dst, src, v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, len);
	uint16_t sum;

	icmp = pkt + ip_len;
	memset(icmp, 0, 8);
	icmp[0] = type;
	icmp[1] = code;
	memcpy(icmp + 8, quoted, quoted_len);
	sum = (uint16_t)~frame_fold(
		frame_sum(icmp, len, v4 ? 0 : frame_pseudo(dst, src, IPPROTO_ICMPV6, len)));
	memcpy(icmp + 2, &sum, 2);
	return raw_send(i, src, pkt, ip_len + len);
}

int inject_error(const struct inject *i, const struct dmm_tuple *t, const struct inject_syn *syn,
		 int error)
{
	bool v4 = addr_is_v4(t->src.ip);
	uint8_t type = v4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH;
	uint8_t code = v4 ? code4(error) : code6(error);

	if (error == ECONNREFUSED)
		return inject_reset(i, t, syn->isn);
	if (error == EPROTO) {
		type = v4 ? ICMP_PARAMETERPROB : ICMP6_PARAM_PROB;
		code = 0;
	}
	if (syn->hdr_len < syn->l4_off + 8u || syn->hdr_len > sizeof(syn->hdr))
		return -EINVAL;
	return put_error(i, t->src.ip, t->dst.ip, type, code, syn->hdr, syn->hdr_len);
}

int inject_icmp(const struct inject *i, const struct dmm_addr *src, const struct dmm_addr *dst,
		uint8_t type, uint8_t code)
{
	uint16_t udp[4] = {htons(src->port), htons(dst->port), htons(8)};
	uint8_t quoted[40 + 8];
	size_t ip_len = put_ip(quoted, src->ip, dst->ip, IPPROTO_UDP, 8);

	memcpy(quoted + ip_len, udp, 8);
	return put_error(i, src->ip, dst->ip, type, code, quoted, ip_len + 8);
}
