// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "userstack/engine/isn.h"

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

static inline __attribute__((always_inline)) void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = ROTL(v[1], 13) ^ v[0];
	v[0] = ROTL(v[0], 32);
	v[2] += v[3];
	v[3] = ROTL(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = ROTL(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = ROTL(v[1], 17) ^ v[2];
	v[2] = ROTL(v[2], 32);
}

uint64_t sip_hash(const uint8_t key[16], const uint64_t *m, unsigned n)
{
	uint64_t k[2], v[4], last = (uint64_t)(n * 8) << 56;

	memcpy(k, key, sizeof(k));
	v[0] = 0x736f6d6570736575ULL ^ k[0];
	v[1] = 0x646f72616e646f6dULL ^ k[1];
	v[2] = 0x6c7967656e657261ULL ^ k[0];
	v[3] = 0x7465646279746573ULL ^ k[1];
	for (unsigned i = 0; i <= n; i++) {
		uint64_t w = i < n ? m[i] : last;

		v[3] ^= w;
		sip_round(v);
		sip_round(v);
		v[0] ^= w;
	}
	v[2] ^= 0xff;
	for (unsigned i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint32_t isn_make(const uint8_t secret[16], const struct dmm_addr *local,
		  const struct dmm_addr *remote, uint64_t now)
{
	uint64_t m[5];

	memcpy(m, local->ip, 16);
	memcpy(m + 2, remote->ip, 16);
	m[4] = (uint64_t)local->port << 16 | remote->port;
	return (uint32_t)sip_hash(secret, m, 5) + (uint32_t)(now / 4000);
}
