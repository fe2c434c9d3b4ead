// SPDX-License-Identifier: Apache-2.0
/*
 * SYN cookies: when too many handshakes are open, a SYN is answered and forgotten. All that a
 * connection needs is in the numbers that come back with the ACK (RFC 4987, 3.6): in the sequence
 * number a minute counter, the peer's MSS and a keyed hash; in our timestamp what else it can.
 */
#include <string.h>

#include "lib/base/util.h"
#include "userstack/engine/isn.h"
#include "userstack/engine/native/native.h"

#define COOKIE_MINUTE (64 * SECOND)
#define COOKIE_LIFE 2 /* minutes that an ACK may take */
#define NO_SCALE 15u
#define TS_SACK 16u
#define TS_ECN 32u
#define TS_BITS 63u

/* Ascending; an index has three bits. */
static const uint16_t cookie_mss[8] = {TCP_MSS_MIN, 536, 1220, 1360, 1440, 1460, 4312, 8960};

static uint32_t cookie_make(const struct engine *e, const struct conn_key *key, uint32_t irs,
			    uint32_t minute, uint32_t mss_index)
{
	uint64_t m[6];

	memcpy(m, key->remote.ip, 16);
	memcpy(m + 2, key->local.ip, 16);
	m[4] = (uint64_t)key->remote.port << 48 | (uint64_t)key->local.port << 32 | irs;
	m[5] = (uint64_t)minute << 8 | mss_index;
	return (minute & 31) << 27 | mss_index << 24 |
	       (uint32_t)(sip_hash(e->c.secret, m, 6) & 0xffffff);
}

static uint32_t cookie_minute(const struct engine *e)
{
	return (uint32_t)(e->now / COOKIE_MINUTE);
}

/* The clock, a little late, with what the SYN offered in its last bits. */
static uint32_t cookie_ts(const struct engine *e, const struct conn_key *key,
			  const struct segment *s)
{
	uint32_t ts = (uint32_t)(e->now / MS) + engine_ts_offset(e, key);
	uint32_t said = (s->has_scale ? s->scale : NO_SCALE) | (s->sack_ok ? TS_SACK : 0) |
			(segment_asks_ecn(s) ? TS_ECN : 0);

	return ((ts & ~TS_BITS) - (TS_BITS + 1)) | said;
}

void cookie_answer(const struct engine_listener *l, const struct conn_key *key,
		   const struct segment *s)
{
	struct packet k = {
		.key = key, .tos = l->tos, .flags = TCP_SYN | TCP_ACK, .ack = s->seq + 1};
	struct engine *e = l->e;
	uint32_t mss = open_peer_mss(key, s);
	unsigned i = 7;

	while (i && cookie_mss[i] > mss)
		i--;
	k.seq = cookie_make(e, key, s->seq, cookie_minute(e), i);
	k.window = 65535;
	packet_option_mss(&k, e);
	if (s->has_ts) {
		if (s->sack_ok)
			packet_option_sack_ok(&k);
		packet_option_ts(&k, cookie_ts(e, key, s), s->ts);
		if (s->has_scale)
			packet_option_scale(&k);
		if (segment_asks_ecn(s))
			k.flags |= TCP_ECE;
	}
	e->cookie_at = e->now;
	packet_send(e, &k);
}

bool cookie_check(const struct engine *e, const struct conn_key *key, const struct segment *s,
		  struct segment *ret_syn)
{
	uint32_t cookie = s->ack - 1, index = cookie >> 24 & 7, minute = cookie_minute(e);

	/* Nobody may guess when none was given. */
	if (!e->cookie_at || e->now - e->cookie_at > COOKIE_LIFE * COOKIE_MINUTE)
		return false;
	for (unsigned age = 0; age < COOKIE_LIFE; age++, minute--) {
		if (cookie != cookie_make(e, key, s->seq - 1, minute, index))
			continue;
		*ret_syn = (struct segment){
			.seq = s->seq - 1,
			.flags = TCP_SYN,
			.mss = cookie_mss[index],
			.window = s->window,
			.has_ts = s->has_ts,
			.ts = s->ts,
		};
		if (!s->has_ts)
			return true;
		ret_syn->sack_ok = s->ts_echo & TS_SACK;
		ret_syn->scale = s->ts_echo & NO_SCALE;
		ret_syn->has_scale = ret_syn->scale != NO_SCALE;
		if (s->ts_echo & TS_ECN)
			ret_syn->flags |= TCP_ECE | TCP_CWR;
		return true;
	}
	return false;
}
