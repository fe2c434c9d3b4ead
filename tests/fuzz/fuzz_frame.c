// SPDX-License-Identifier: Apache-2.0
/*
 * The frame parser over arbitrary bytes. The first byte says which checksums are made right before:
 * nothing that is found by chance would pass them.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "userstack/net/frame.h"

#define FIX_IP 0x01
#define FIX_ICMP 0x02

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fix_ip4(uint8_t *ip, size_t len)
{
	uint16_t sum;

	size_t header = len ? (size_t)(ip[0] & 15) * 4 : 0;

	if (len < header || header < 20 || ip[0] >> 4 != 4)
		return;
	memset(ip + 10, 0, 2);
	sum = (uint16_t)~frame_fold(frame_sum(ip, header, 0));
	memcpy(ip + 10, &sum, 2);
}

/* The ICMP checksum over what the length field says. */
static void fix_icmp(uint8_t *ip, size_t len)
{
	bool v6 = len && ip[0] >> 4 == 6;
	size_t hdr = v6 ? 40 : 20, l4_len;
	dmm_u8 src[16], dst[16];
	uint64_t pseudo = 0;
	uint16_t sum;

	if (len < hdr + 8)
		return;
	l4_len = v6 ? (size_t)(ip[4] << 8 | ip[5]) : (size_t)(ip[2] << 8 | ip[3]) - 20;
	if (l4_len < 8 || l4_len > len - hdr)
		return;
	if (v6) {
		memcpy(src, ip + 8, 16);
		memcpy(dst, ip + 24, 16);
		pseudo = frame_pseudo(src, dst, 58, l4_len);
	}
	memset(ip + hdr + 2, 0, 2);
	sum = (uint16_t)~frame_fold(frame_sum(ip + hdr, l4_len, pseudo));
	memcpy(ip + hdr + 2, &sum, 2);
}

static void check(uint8_t *data, size_t size, const struct frame *f)
{
	if (f->kind == FRAME_BAD)
		return;
	if (f->kind == FRAME_ODD) {
		if (f->ip_off + f->ip_len > size)
			abort();
		return;
	}
	if (f->ip_off + f->ip_len > size || f->l4_off + f->l4_len > size || f->l4_len < 8)
		abort();
	if (f->kind == FRAME_ERROR && !f->error && !f->mtu)
		abort();
	if (f->kind != FRAME_TCP && f->kind != FRAME_UDP)
		return;
	if (f->kind == FRAME_TCP && f->l4_len < 20)
		abort();
	frame_summed(data, f);
	frame_unsummed(data, f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame f;
	uint8_t *copy;

	if (!size)
		return 0;
	/* Of exactly this size, so that one byte too far is seen; writable, as the port's is. */
	copy = malloc(size);
	if (!copy)
		return 0;
	memmove(copy, data + 1, --size);
	if (size > FRAME_ETH_LEN) {
		if (data[0] & FIX_ICMP)
			fix_icmp(copy + FRAME_ETH_LEN, size - FRAME_ETH_LEN);
		if (data[0] & FIX_IP)
			fix_ip4(copy + FRAME_ETH_LEN, size - FRAME_ETH_LEN);
	}
	copy = realloc(copy, size ? size : 1);
	if (!copy)
		return 0;
	frame_parse(copy, size, &f);
	check(copy, size, &f);
	frame_parse_ip(copy, size, &f);
	check(copy, size, &f);
	free(copy);
	return 0;
}
