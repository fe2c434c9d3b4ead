// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "lib/base/util.h"
#include "userstack/engine/native/segment.h"

enum { OPT_END, OPT_NOP, OPT_MSS, OPT_SCALE, OPT_SACK_OK, OPT_SACK, OPT_TS = 8 };
#define TS_ALONE 0x0101080au /* NOP, NOP, timestamps: what almost every segment has */

static void segment_sack(const uint8_t *p, uint8_t len, struct segment *ret)
{
	for (p += 2, len -= 2; len >= 8 && ret->sacks < 4; p += 8, len = (uint8_t)(len - 8)) {
		ret->sack[ret->sacks].from = be32(p);
		ret->sack[ret->sacks++].to = be32(p + 4);
	}
}

/* Unknown options and those of a wrong length are passed over; one that has no end ends them. */
static void segment_options(const uint8_t *p, const uint8_t *end, struct segment *ret)
{
	uint8_t len;

	for (; p < end && *p != OPT_END; p += len) {
		len = 1;
		if (*p == OPT_NOP)
			continue;
		if (end - p < 2 || p[1] < 2 || p[1] > end - p)
			return;
		len = p[1];
		if (*p == OPT_MSS && len == 4) {
			ret->mss = be16(p + 2);
		} else if (*p == OPT_SCALE && len == 3) {
			ret->has_scale = true;
			ret->scale = p[2] > 14 ? 14 : p[2]; /* RFC 7323, 2.3 */
		} else if (*p == OPT_SACK_OK && len == 2) {
			ret->sack_ok = true;
		} else if (*p == OPT_SACK) {
			segment_sack(p, len, ret);
		} else if (*p == OPT_TS && len == 10) {
			ret->has_ts = true;
			ret->ts = be32(p + 2);
			ret->ts_echo = be32(p + 6);
		}
	}
}

bool segment_parse(const uint8_t *tcp, size_t len, struct segment *ret)
{
	size_t hdr;

	if (len < 20)
		return false;
	hdr = (size_t)(tcp[12] >> 4) * 4;
	if (hdr < 20 || hdr > len)
		return false;
	*ret = (struct segment){
		.seq = be32(tcp + 4),
		.ack = be32(tcp + 8),
		.flags = tcp[13],
		.window = be16(tcp + 14),
		.urgent = be16(tcp + 18),
		.data = tcp + hdr,
		.len = (uint32_t)(len - hdr),
	};
	if (hdr == 20)
		return true;
	if (hdr == 32 && be32(tcp + 20) == TS_ALONE) {
		ret->has_ts = true;
		ret->ts = be32(tcp + 24);
		ret->ts_echo = be32(tcp + 28);
		return true;
	}
	segment_options(tcp + 20, tcp + hdr, ret);
	return true;
}
