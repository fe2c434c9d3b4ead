/* SPDX-License-Identifier: Apache-2.0 */
/* A received TCP segment, taken apart. Pure, over untrusted input. */
#ifndef DMM_USERSTACK_NATIVE_SEGMENT_H
#define DMM_USERSTACK_NATIVE_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10
#define TCP_URG 0x20
#define TCP_ECE 0x40
#define TCP_CWR 0x80

#define IP_ECT0 2
#define IP_CE 3

struct segment {
	uint32_t seq, ack;
	uint16_t window, urgent;
	uint8_t flags;
	uint8_t ecn; /* of the IP header */
	uint32_t len;
	const uint8_t *data;

	bool has_ts, sack_ok, has_scale;
	uint8_t scale;
	uint8_t sacks;
	uint16_t mss; /* 0: not said */
	uint32_t ts, ts_echo;
	struct {
		uint32_t from, to;
	} sack[4];
};

/* Sequence space that it takes. */
static inline uint32_t segment_space(const struct segment *s)
{
	return s->len + !!(s->flags & TCP_SYN) + (s->flags & TCP_FIN);
}

/* A SYN: would its sender use ECN? */
static inline bool segment_asks_ecn(const struct segment *s)
{
	return (s->flags & (TCP_ECE | TCP_CWR)) == (TCP_ECE | TCP_CWR);
}

/* tcp: the header, len: with the data. False: malformed. */
bool segment_parse(const uint8_t *tcp, size_t len, struct segment *ret);

#endif
