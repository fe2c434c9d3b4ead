/* SPDX-License-Identifier: Apache-2.0 */
/* struct dmm_addr and prefixes: text, sockaddr, comparison. IPv4 is v4-mapped inside. */
#ifndef DMM_BASE_ADDR_H
#define DMM_BASE_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "bpf/dmm_abi.h"

#define ADDR_STRLEN 64 /* "[ipv6]:port" with room */

bool addr_is_v4(const dmm_u8 ip[16]);
bool addr_is_any(const dmm_u8 ip[16]);	      /* ::, ::ffff:0.0.0.0 */
bool addr_is_link_local(const dmm_u8 ip[16]); /* of IPv6: it has a scope */
void addr_from_v4(dmm_u8 ret[16], uint32_t be32);

/* -EINVAL: not an address. */
int addr_parse_ip(const char *text, dmm_u8 ret[16]);

/* "10.0.0.0/8", "10.0.0.1", "2001:db8::/32". *ret_plen counts bits of the v4-mapped form. Bits
 * beyond the prefix must be zero: -ERANGE if not. */
int addr_parse_prefix(const char *text, dmm_u8 ret[16], unsigned *ret_plen);

/* Return ret. "10.0.0.1", "2001:db8::1" / with the port, IPv6 in brackets / "10.0.0.0/8". */
char *addr_format_ip(const dmm_u8 ip[16], char *ret, size_t len);
char *addr_format(const struct dmm_addr *a, char *ret, size_t len);
char *addr_format_prefix(const dmm_u8 ip[16], unsigned plen, char *ret, size_t len);

/* True if the first plen bits agree. */
bool addr_in_prefix(const dmm_u8 ip[16], const dmm_u8 prefix[16], unsigned plen);

/* sockaddr_in for IPv4, sockaddr_in6 else; returns its length. */
socklen_t addr_to_sockaddr(const struct dmm_addr *a, struct sockaddr_storage *ret);
int addr_from_sockaddr(const struct sockaddr *sa, struct dmm_addr *ret);

#endif
