// SPDX-License-Identifier: Apache-2.0
/*
 * Packets with options, extension headers and in fragments, one after the other: each is two bytes,
 * how long it is and what is made right of it before, and itself. Time passes.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "userstack/net/frame.h"
#include "userstack/net/plain.h"

#define FIX_LEN 0x01
#define FIX_ADDRS 0x02 /* fragments meet if these are the same */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fix(uint8_t *p, size_t len, uint8_t how)
{
	bool v6 = p[0] >> 4 == 6;
	size_t header = (size_t)(p[0] & 15) * 4;
	uint16_t sum;

	if (how & FIX_LEN)
		put16(p + (v6 ? 4 : 2), (uint32_t)(v6 ? len - 40 : len));
	if (how & FIX_ADDRS)
		memset(p + (v6 ? 8 : 12), 9, v6 ? 32 : 8);
	if (v6 || header < 20 || header > len)
		return;
	put16(p + 10, 0);
	sum = (uint16_t)~frame_fold(frame_sum(p, header, 0));
	memcpy(p + 10, &sum, 2);
}

/* What is made of it is a packet, as long as it says. */
static void check(const uint8_t *p, size_t len)
{
	struct frame f;
	size_t says;

	if (len < 20 || len > 40 + 65535)
		abort();
	says = p[0] >> 4 == 6 ? 40u + be16(p + 4) : be16(p + 2);
	if (says != len || (p[0] >> 4 != 6 && (p[0] != 0x45 || be16(p + 6) & 0x3fff)))
		abort();
	frame_parse_ip(p, len, &f);
	if (f.kind == FRAME_TCP || f.kind == FRAME_UDP)
		frame_summed(p, &f);
}

static void one(struct plain *plain, const uint8_t *data, size_t len, uint8_t how, uint64_t now)
{
	uint8_t *copy = malloc(len + !len); /* of exactly this size */
	const uint8_t *ret;
	struct frame f;
	size_t ret_len;
	enum plain_is is;

	if (!copy)
		return;
	memcpy(copy, data, len);
	if (len >= 40)
		fix(copy, len, how);
	if (frame_parse_ip(copy, len, &f) == FRAME_ODD) {
		is = plain_make(plain, copy, f.ip_len, now, &ret, &ret_len);
		if (is == PLAIN_PACKET || is == PLAIN_WHOLE)
			check(ret, ret_len);
	}
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct plain *plain = plain_new();
	uint64_t now = 0;

	while (plain && size >= 2) {
		size_t len = MIN((size_t)data[0], size - 2);

		one(plain, data + 2, len, data[1], now);
		now += data[1] * (PLAIN_WAIT_NS / 1024);
		plain_expire(plain, now);
		data += 2 + len;
		size -= 2 + len;
	}
	plain_free(plain);
	return 0;
}
