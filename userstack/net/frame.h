/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ethernet, IPv4, IPv6, TCP, UDP and ICMP as bytes: parse what arrives, check and make checksums.
 * Pure functions over untrusted input; nothing reads beyond the given length.
 */
#ifndef DMM_USERSTACK_FRAME_H
#define DMM_USERSTACK_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/dmm_abi.h"

#define FRAME_ETH_LEN 14

enum frame_kind {
	FRAME_BAD,   /* malformed, or nothing that an engine takes */
	FRAME_TCP,   /* a TCP segment */
	FRAME_UDP,   /* a UDP datagram */
	FRAME_ERROR, /* an ICMP or ICMPv6 error about one of them */
	FRAME_ODD,   /* perhaps one of these, as plain.h finds out: a fragment, or there are options
		      * or extension headers. It has no l4_off, ports and the like yet */
};

/* For FRAME_TCP and FRAME_UDP: from remote to local. For FRAME_ERROR: what is quoted, which local
 * sent. */
struct frame {
	enum frame_kind kind;
	bool v6;
	uint8_t proto;	       /* IPPROTO_TCP or IPPROTO_UDP, of the quoted packet too */
	size_t ip_off, ip_len; /* the IP packet, without link-layer padding */
	size_t l4_off, l4_len; /* UDP: as its header says, which may be less than there is */
	struct dmm_addr remote, local;
	uint32_t seq;		      /* TCP */
	uint8_t flags;		      /* TCP: FRAME_SYN … */
	int error;		      /* FRAME_ERROR: what connect() says on it; 0: nothing */
	uint32_t mtu;		      /* FRAME_ERROR: packet too big: what fits; else 0 */
	uint8_t icmp_type, icmp_code; /* FRAME_ERROR */
};
#define FRAME_FIN 0x01
#define FRAME_SYN 0x02
#define FRAME_RST 0x04
#define FRAME_ACK 0x10

/* Parse an Ethernet frame. Sets ret->kind in any case and returns it; from an address that no host
 * has, FRAME_BAD. */
enum frame_kind frame_parse(const uint8_t *data, size_t len, struct frame *ret);

/* The remote address is one that no packet comes from, and no error is about: RFC 1122, 3.2.1.3;
 * RFC 4291, 2.5.2, 2.5.3, 2.7. Or a packet of IPv6 has IPv4 addresses: it would be taken for one of
 * IPv4. */
bool frame_from_nowhere(const struct frame *f);
/* The next header of IPv6 is one of extensions that plain.h can do without. */
bool frame_is_extension(uint8_t next);

/* The same as frame_parse() for what starts at the IP header, whoever sent it. */
enum frame_kind frame_parse_ip(const uint8_t *pkt, size_t len, struct frame *ret);

/* Is the checksum of a FRAME_TCP or FRAME_UDP right? UDP over IPv4 may have none (RFC 768), over
 * IPv6 not (RFC 8200, 8.1). */
bool frame_summed(const uint8_t *data, const struct frame *f);
/* A sender on this host leaves the sum to the device: the field holds only the folded sum of the
 * pseudo header, and nothing else of the packet can be checked. */
bool frame_unsummed(const uint8_t *data, const struct frame *f);

/* One's complement sum of len bytes, added to sum; fold gives the 16 bits in memory order. */
uint64_t frame_sum(const void *data, size_t len, uint64_t sum);
uint16_t frame_fold(uint64_t sum);
/* The checksum field when one 16-bit word of what it covers changes (RFC 1624). */
uint16_t frame_sum_update(uint16_t field, uint16_t before, uint16_t after);
/* Sum of the pseudo header; addresses in the ABI's form, both of one family. */
uint64_t frame_pseudo(const dmm_u8 src[16], const dmm_u8 dst[16], uint8_t proto, size_t l4_len);

/* Type of service of an IPv4 packet, traffic class of an IPv6 one. */
uint8_t frame_tos(const uint8_t *pkt);

/* Where the field is in the header of TCP or UDP. */
unsigned frame_sum_offset(uint8_t proto);

/* What of a packet is left to the port. */
struct frame_offload {
	bool sum;     /* the checksum, whose field holds the folded sum of the pseudo header */
	uint32_t mss; /* and to cut it into segments with so much payload; 0: it is not cut */
};

/* Write the Ethernet header for an IP packet. */
void frame_eth(uint8_t *ret, const uint8_t dst[6], const uint8_t src[6], bool v6);

#endif
