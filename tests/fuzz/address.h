/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DMM_TESTS_FUZZ_ADDRESS_H
#define DMM_TESTS_FUZZ_ADDRESS_H

#include <arpa/inet.h>

#include "lib/base/addr.h"

/* 10.0.0.LAST, or fd00::LAST. */
static inline struct dmm_addr address(bool v6, uint8_t last, uint16_t port)
{
	struct dmm_addr a = {.port = port};

	if (v6)
		a.ip[0] = 0xfd;
	else
		addr_from_v4(a.ip, htonl(0x0a000000));
	a.ip[15] = last;
	return a;
}

#endif
