/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of classify.c, and the same as nftables' own. */
#ifndef DMM_TESTS_NFT_H
#define DMM_TESTS_NFT_H

#include <stdbool.h>

/* n rules, a power of two up to 65 536, cut 127.0.0.0/8 in equal parts: rule i's, and the length of
 * its prefix. The text is valid until the next call. */
const char *bench_net(unsigned i, unsigned n);
unsigned bench_plen(unsigned n);

/*
 * A new network namespace with lo up, sockets that take what is sent to the ports 80 and 443, and n
 * such rules for what is sent: one after the other, or one map of verdicts. Returns its descriptor;
 * -1: nft is not there, or cannot do it.
 */
int bench_nft(unsigned n, bool as_map);

#endif
