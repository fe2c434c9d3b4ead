/* SPDX-License-Identifier: Apache-2.0 */
/* Initial sequence numbers by RFC 6528: a clock of 4 µs plus a keyed hash of the connection. */
#ifndef DMM_USERSTACK_ISN_H
#define DMM_USERSTACK_ISN_H

#include <stdint.h>

#include "bpf/dmm_abi.h"

/* The keyed hash itself: SipHash-2-4 of n words. */
uint64_t sip_hash(const uint8_t key[16], const uint64_t *m, unsigned n);

uint32_t isn_make(const uint8_t secret[16], const struct dmm_addr *local,
		  const struct dmm_addr *remote, uint64_t now);

#endif
