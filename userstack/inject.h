/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers to held SYNs, by raw sockets over loopback: the SYN itself, let go; a reset; an ICMP
 * error, which a datagram may get as well; and data that the hold filter dropped. The application's
 * kernel takes them for the far side's. Packets carry DMM_MARK, which lets them pass the hold
 * filter.
 */
#ifndef DMM_USERSTACK_INJECT_H
#define DMM_USERSTACK_INJECT_H

#include <stdint.h>

#include "bpf/dmm_abi.h"

struct inject {
	int raw4, raw6;
};

/* A SYN, or another packet without payload, as the hold filter copied it. */
struct inject_syn {
	uint32_t isn;
	uint16_t hdr_len, l4_off;
	dmm_u8 hdr[DMM_SYN_HDR];
};
void inject_copy(struct inject_syn *ret, const struct dmm_event *ev);

/* IPv6 may be missing on this host: raw6 is -1 then. 0 or -errno, logged. */
int inject_open(struct inject *i);
void inject_close(struct inject *i);

/* Send it on, without data that it may have had. -EINVAL: the copy is no segment. */
int inject_release(const struct inject *i, const struct dmm_tuple *t, const struct inject_syn *syn);
/* Reset: connect() fails with ECONNREFUSED. */
int inject_reset(const struct inject *i, const struct dmm_tuple *t, uint32_t isn);
/* connect() fails with `error` or, if no packet says exactly that, with EHOSTUNREACH. */
int inject_error(const struct inject *i, const struct dmm_tuple *t, const struct inject_syn *syn,
		 int error);

/* Send on first data that the hold filter dropped, as they were. -EINVAL: the copy is no segment of
 * that connection, or has options of IP. */
int inject_again(const struct inject *i, const struct dmm_again *a);

/* A datagram that went from src to dst gets this ICMP error (of IPv6: ICMPv6). */
int inject_icmp(const struct inject *i, const struct dmm_addr *src, const struct dmm_addr *dst,
		uint8_t type, uint8_t code);

#endif
