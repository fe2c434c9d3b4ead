// SPDX-License-Identifier: Apache-2.0
/* A segment as bytes: headers in one buffer, data where it lies. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "userstack/engine/isn.h"
#include "userstack/engine/native/native.h"
#include "userstack/net/frame.h"

#define PACKET_IOV 24 /* a frame of 64 KiB in chunks, and the headers */
#define TTL 64
#define LABEL_BITS 0xfffffu
#define ID_COUNTERS 256

/* Of all engines of the process: two hosts may exchange packets through several, with one secret,
 * and no ID may be there twice. */
static uint32_t ids[ID_COUNTERS];

enum hosts_use { HOSTS_ID = 1, HOSTS_TIME };

/* Of two hosts, which only we know, and another one for each use. No hash of ports has such a fifth
 * word. */
static uint64_t hosts_hash(const struct engine *e, const struct conn_key *key, enum hosts_use use)
{
	uint64_t m[5];

	memcpy(m, key->remote.ip, 16);
	memcpy(m + 2, key->local.ip, 16);
	m[4] = (uint64_t)use << 32;
	return sip_hash(e->c.secret, m, 5);
}

/* RFC 7739, 5.3: each two hosts have a place of their own to count from, and share their counter
 * with a few others: nobody learns from his own what others will have. For IPv4 the low 16 bits
 * count: they come again within the life of a fragment at more than about 1 MB/s (RFC 4963), as
 * those of every host do. */
uint32_t packet_id(const struct engine *e, const struct conn_key *key, uint32_t n)
{
	uint64_t h = hosts_hash(e, key, HOSTS_ID);

	return (uint32_t)h + __atomic_fetch_add(&ids[(h >> 32) % ID_COUNTERS], n, __ATOMIC_RELAXED);
}

/* RFC 6437: routers that have several paths choose by it. It is the same for all of a flow, and
 * what another one has cannot be told from it. */
uint32_t packet_label(const struct engine *e, const struct conn_key *key, uint32_t before)
{
	uint64_t m[6];

	if (addr_is_v4(key->remote.ip))
		return 0;
	memcpy(m, key->remote.ip, 16);
	memcpy(m + 2, key->local.ip, 16);
	m[4] = (uint64_t)key->remote.port << 16 | key->local.port;
	m[5] = before;
	return MAX((uint32_t)sip_hash(e->c.secret, m, 6) & LABEL_BITS, 1u);
}

size_t packet_ip(uint8_t *p, const struct conn_key *key, const struct packet_ip *h, size_t l4_len)
{
	const dmm_u8 *src = key->local.ip, *dst = key->remote.ip;
	uint16_t sum;

	if (!addr_is_v4(dst)) {
		put32(p, 6u << 28 | (uint32_t)h->tos << 20 | h->label);
		put16(p + 4, (uint32_t)l4_len);
		p[6] = h->proto;
		p[7] = TTL;
		memcpy(p + 8, src, 16);
		memcpy(p + 24, dst, 16);
		return 40;
	}
	p[0] = 0x45;
	p[1] = h->tos;
	put16(p + 2, (uint32_t)(20 + l4_len));
	put32(p + 4, h->fragment);
	p[8] = TTL;
	p[9] = h->proto;
	put16(p + 10, 0);
	memcpy(p + 12, src + 12, 4);
	memcpy(p + 16, dst + 12, 4);
	sum = (uint16_t)~frame_fold(frame_sum(p, 20, 0));
	memcpy(p + 10, &sum, 2);
	return 20;
}

/* Pieces of odd length shift the bytes of what follows: its sum is swapped. */
static uint64_t packet_sum(const struct packet *k, uint64_t sum)
{
	bool odd = false;
	uint16_t part;

	for (unsigned i = 0; i < k->data_n; i++) {
		part = frame_fold(frame_sum(k->data[i].iov_base, k->data[i].iov_len, 0));
		sum += odd ? (uint16_t)(part << 8 | part >> 8) : part;
		odd ^= k->data[i].iov_len & 1;
	}
	return sum;
}

static uint32_t packet_segments(const struct packet *k, size_t data_len)
{
	return k->mss ? (uint32_t)((data_len + k->mss - 1) / k->mss) : 1;
}

void packet_send(struct engine *e, const struct packet *k)
{
	uint8_t hdr[40 + 60], *tcp;
	struct iovec iov[PACKET_IOV];
	size_t tcp_len = 20 + k->options_len, l4_len = tcp_len, ip_len;
	struct packet_ip ip = {.proto = IPPROTO_TCP,
			       .tos = k->tos,
			       .fragment = PACKET_WHOLE,
			       .label = k->label ? k->label : packet_label(e, k->key, 0)};
	uint64_t pseudo;
	uint16_t sum;

	if (k->data_n >= PACKET_IOV)
		return;
	for (unsigned i = 0; i < k->data_n; i++) {
		iov[1 + i] = k->data[i];
		l4_len += k->data[i].iov_len;
	}
	if (k->no_df) /* whoever cuts it into segments counts on from the first ID */
		ip.fragment = packet_id(e, k->key, packet_segments(k, l4_len - tcp_len)) << 16;
	ip_len = packet_ip(hdr, k->key, &ip, l4_len);
	pseudo = frame_pseudo(k->key->local.ip, k->key->remote.ip, IPPROTO_TCP, l4_len);
	tcp = hdr + ip_len;
	put16(tcp, k->key->local.port);
	put16(tcp + 2, k->key->remote.port);
	put32(tcp + 4, k->seq);
	put32(tcp + 8, k->ack);
	tcp[12] = (uint8_t)(tcp_len / 4 << 4);
	tcp[13] = k->flags;
	put16(tcp + 14, k->window);
	put16(tcp + 16, 0);
	put16(tcp + 18, k->urgent);
	memcpy(tcp + 20, k->options, k->options_len);
	iov[0] = (struct iovec){hdr, ip_len + tcp_len};
	if (k->mss || e->c.partial) {
		sum = frame_fold(pseudo);
		memcpy(tcp + 16, &sum, 2);
		e->c.host->output_partial(e->c.host->ctx, iov, k->data_n + 1, k->mss);
		return;
	}
	sum = (uint16_t)~frame_fold(packet_sum(k, frame_sum(tcp, tcp_len, pseudo)));
	memcpy(tcp + 16, &sum, 2);
	e->c.host->output(e->c.host->ctx, iov, k->data_n + 1);
}

void packet_option_ts(struct packet *k, uint32_t value, uint32_t echo)
{
	uint8_t *p = k->options + k->options_len;

	put32(p, 0x0101080a); /* NOP, NOP, timestamps */
	put32(p + 4, value);
	put32(p + 8, echo);
	k->options_len += TCP_OPTIONS_TS;
}

static void packet_option4(struct packet *k, uint32_t option)
{
	put32(k->options + k->options_len, option);
	k->options_len += 4;
}

void packet_option_mss(struct packet *k, const struct engine *e)
{
	uint32_t headers = addr_is_v4(k->key->remote.ip) ? 40 : 60;

	packet_option4(k, 2u << 24 | 4u << 16 | (MIN(e->c.mtu, 65535u) - headers));
}

void packet_option_sack_ok(struct packet *k)
{
	packet_option4(k, 0x01010402);
}

void packet_option_scale(struct packet *k)
{
	packet_option4(k, 0x01030300 | TCP_WSCALE);
}

/* Milliseconds, from another point for each pair of hosts: a later connection of theirs continues
 * the clock of an earlier one (RFC 7323, 5.4; RFC 6191). */
uint32_t engine_ts_offset(const struct engine *e, const struct conn_key *key)
{
	return (uint32_t)hosts_hash(e, key, HOSTS_TIME);
}
