// SPDX-License-Identifier: Apache-2.0
/*
 * UDP: pairs of addresses, and what is sent and received for them. A datagram that the path takes
 * whole goes with "don't fragment", as the kernel sends it, unless that is less than MTU_LEAST4; a
 * longer one in fragments that are made here, as the kernel's IP_PMTUDISC_WANT. Fragments that come
 * are put together before (net/plain.c).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "userstack/engine/native/native.h"
#include "userstack/net/frame.h"

#define UDP_HEADER 8u
#define FRAGMENT_HEADER 8u     /* RFC 8200, 4.5 */
#define MORE_FRAGMENTS 0x2000u /* IPv4 */

struct engine_udp {
	struct engine *e;
	struct conn_key key;
	void *user;
	uint32_t mtu; /* as ICMP said, until mtu_until */
	bool no_df;   /* as of a connection; likewise */
	uint64_t mtu_until;
	uint32_t largest; /* IP packet sent since */
	uint32_t label;	  /* IPv6 flow label */
	LIST_ENTRY(engine_udp) entry;
};

static unsigned udp_bucket(const struct engine *e, const struct conn_key *key)
{
	return table_hash(e->c.secret, key) % UDP_BUCKETS;
}

static int udp_open(struct engine *e, const struct dmm_addr *remote, const struct dmm_addr *local,
		    void *user, struct engine_udp **ret)
{
	struct engine_udp *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	u->e = e;
	u->key = (struct conn_key){.remote = *remote, .local = *local};
	u->user = user;
	u->label = packet_label(e, &u->key, 0);
	LIST_INSERT_HEAD(&e->udp[udp_bucket(e, &u->key)], u, entry);
	*ret = u;
	return 0;
}

static void udp_close(struct engine_udp *u)
{
	LIST_REMOVE(u, entry);
	free(u);
}

void udp_stop(struct engine *e)
{
	for (unsigned i = 0; i < UDP_BUCKETS; i++)
		while (!LIST_EMPTY(&e->udp[i]))
			udp_close(LIST_FIRST(&e->udp[i]));
}

/* Its checksum was looked at before. */
void udp_input(struct engine *e, const struct conn_key *key, const uint8_t *udp, size_t len)
{
	size_t said = (size_t)(udp[4] << 8 | udp[5]);
	struct engine_udp *u;

	if (said < UDP_HEADER || said > len) {
		engine_drop(e, ENGINE_DROP_SEGMENT);
		return;
	}
	LIST_FOREACH(u, &e->udp[udp_bucket(e, key)], entry)
	if (!memcmp(&u->key, key, sizeof(*key))) {
		e->c.host->datagram(e->c.host->ctx, u->user, udp + UDP_HEADER, said - UDP_HEADER);
		return;
	}
	engine_drop(e, ENGINE_DROP_STRANGER);
}

/* Its checksum covers the data, or, partial, the pseudo header alone. Zero would say that there is
 * none (RFC 768). */
static void udp_header(const struct engine_udp *u, const void *data, size_t len, bool partial,
		       uint8_t *ret)
{
	size_t l4_len = UDP_HEADER + len;
	uint64_t pseudo = frame_pseudo(u->key.local.ip, u->key.remote.ip, IPPROTO_UDP, l4_len);
	uint16_t sum;

	put16(ret, u->key.local.port);
	put16(ret + 2, u->key.remote.port);
	put16(ret + 4, (uint32_t)l4_len);
	put16(ret + 6, 0);
	if (partial)
		sum = frame_fold(pseudo);
	else
		sum = (uint16_t)~frame_fold(
			frame_sum(data, len, frame_sum(ret, UDP_HEADER, pseudo)));
	sum = sum ? sum : 0xffff;
	memcpy(ret + 6, &sum, 2);
}

static void udp_output(struct engine_udp *u, uint8_t *hdr, size_t hdr_len, const uint8_t *data,
		       size_t len, bool partial)
{
	struct iovec iov[2] = {{hdr, hdr_len}, {(void *)(uintptr_t)data, len}};
	const struct engine_host *h = u->e->c.host;

	if (partial)
		h->output_partial(h->ctx, iov, len ? 2 : 1, 0);
	else
		h->output(h->ctx, iov, len ? 2 : 1);
}

/* IP header of one fragment, and behind it what IPv6 has for that. Returns the length of both. */
static size_t fragment_headers(const struct engine_udp *u, uint8_t *p, uint8_t tos, uint32_t id,
			       size_t at, size_t len, bool last)
{
	uint32_t net_id = htonl(id);
	struct packet_ip h = {
		.proto = IPPROTO_UDP,
		.tos = tos,
		.fragment = id << 16 | (last ? 0 : MORE_FRAGMENTS) | (uint32_t)(at / 8),
		.label = u->label,
	};
	size_t ip;

	if (addr_is_v4(u->key.remote.ip))
		return packet_ip(p, &u->key, &h, len);
	h.proto = IPPROTO_FRAGMENT;
	ip = packet_ip(p, &u->key, &h, FRAGMENT_HEADER + len);
	p += ip;
	p[0] = IPPROTO_UDP;
	p[1] = 0;
	put16(p + 2, (uint32_t)at | !last);
	memcpy(p + 4, &net_id, 4);
	return ip + FRAGMENT_HEADER;
}

/* udp: its header. at, len: of the datagram, header included. */
static void udp_fragments(struct engine_udp *u, const uint8_t *udp, const uint8_t *data,
			  size_t l4_len, uint8_t tos, uint32_t mtu)
{
	size_t headers = addr_is_v4(u->key.remote.ip) ? 20 : 40 + FRAGMENT_HEADER;
	uint8_t hdr[PACKET_IP_MAX + FRAGMENT_HEADER + UDP_HEADER];
	size_t room = (mtu - headers) & ~(size_t)7, len, own, n;
	uint32_t id = packet_id(u->e, &u->key, 1);

	for (size_t at = 0; at < l4_len; at += len) {
		len = MIN(room, l4_len - at);
		own = at ? 0 : UDP_HEADER; /* the first has it */
		n = fragment_headers(u, hdr, tos, id, at, len, at + len == l4_len);
		memcpy(hdr + n, udp, own);
		udp_output(u, hdr, n + own, data + (at ? at - UDP_HEADER : 0), len - own, false);
	}
}

static uint32_t udp_mtu(const struct engine_udp *u, bool *ret_no_df)
{
	const struct path *p = engine_path_known(u->e, u->key.remote.ip);
	uint32_t mtu = MIN(u->e->c.mtu, p ? p->mtu : UINT32_MAX);

	*ret_no_df = p && p->no_df;
	if (u->e->now >= u->mtu_until)
		return mtu;
	*ret_no_df |= u->no_df;
	return MIN(mtu, u->mtu);
}

static int udp_send(struct engine_udp *u, const void *data, size_t len, uint8_t tos, uint64_t now)
{
	uint8_t hdr[PACKET_IP_MAX + UDP_HEADER], udp[UDP_HEADER];
	bool v4 = addr_is_v4(u->key.remote.ip);
	size_t l4_len = UDP_HEADER + len, ip = v4 ? 20 : 40;
	struct packet_ip h = {
		.proto = IPPROTO_UDP, .tos = tos, .fragment = PACKET_WHOLE, .label = u->label};
	bool whole, partial, no_df;
	uint32_t mtu;

	u->e->now = now;
	if (l4_len + (v4 ? ip : 0) > 65535) /* the length of IPv6 does not count its header */
		return -EMSGSIZE;
	mtu = udp_mtu(u, &no_df);
	whole = ip + l4_len <= mtu;
	partial = whole && u->e->c.partial;
	udp_header(u, data, len, partial, udp);
	u->largest = MAX(u->largest, (uint32_t)MIN(ip + l4_len, (size_t)mtu));
	if (!whole) {
		udp_fragments(u, udp, data, l4_len, tos, mtu);
		return 0;
	}
	if (no_df)
		h.fragment = packet_id(u->e, &u->key, 1) << 16;
	packet_ip(hdr, &u->key, &h, l4_len);
	memcpy(hdr + ip, udp, UDP_HEADER);
	udp_output(u, hdr, ip + UDP_HEADER, data, len, partial);
	return 0;
}

/* All that an ICMP error about UDP can be held against is what was sent (RFC 5927 has TCP's
 * sequence numbers): so it is believed of this pair alone. */
static void udp_too_big(struct engine_udp *u, uint32_t mtu, uint64_t now)
{
	struct mtu_told told = mtu_told(mtu, !addr_is_v4(u->key.remote.ip), UINT32_MAX);

	u->e->now = now;
	if (told.whole >= u->largest)
		return;
	u->no_df = told.no_df;
	u->mtu = told.mtu;
	u->mtu_until = now + MTU_RAISE;
	u->largest = 0;
}

const struct engine_udp_ops native_udp = {
	.open = udp_open,
	.close = udp_close,
	.send = udp_send,
	.too_big = udp_too_big,
};
