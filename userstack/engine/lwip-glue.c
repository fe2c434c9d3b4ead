// SPDX-License-Identifier: Apache-2.0
/*
 * Functions that take the place of liblwip's own, by symbol interposition: the program's definition
 * is found first. Without them (a liblwip linked with -Bsymbolic) the engine works the same, but
 * slower and with sequence numbers that are easy to guess.
 */
#include <string.h>

#include <lwip/inet_chksum.h>
#include <lwip/nd6.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/sys.h>

#include "userstack/engine/isn.h"
#include "userstack/engine/lwip.h"
#include "userstack/net/frame.h"

u16_t lwip_standard_chksum(const void *data, int len);

/* Here, so that who links the engine from an archive gets this file too. */
struct engine *lw_engine;
struct pbuf *lw_verified;

/* lwIP's counts up from a constant. */
u32_t tcp_next_iss(struct tcp_pcb *pcb)
{
	struct dmm_addr local, remote;

	lw_from_lwip(&pcb->local_ip, pcb->local_port, &local);
	lw_from_lwip(&pcb->remote_ip, pcb->remote_port, &remote);
	return isn_make(lw_engine->c.secret, &local, &remote, lw_engine->now);
}

/* lwIP's arms a timer that nobody here runs. */
void tcp_timer_needed(void)
{
}

/* lwIP's looks into a cache that its own neighbour discovery fills. */
u16_t nd6_get_destination_mtu(const ip6_addr_t *dst, struct netif *n)
{
	const struct lw_path *p;
	dmm_u8 ip[16];

	memcpy(ip, dst->addr, 16);
	p = lw_path(lw_engine, ip);
	if (lw_engine->now < p->until && !memcmp(p->ip, ip, 16))
		return (u16_t)p->mtu;
	return n->mtu;
}

/* One thread: nothing to lock. */
sys_prot_t sys_arch_protect(void)
{
	return 0;
}

void sys_arch_unprotect(sys_prot_t pval)
{
	(void)pval;
}

u16_t lwip_standard_chksum(const void *data, int len)
{
	return frame_fold(frame_sum(data, (size_t)len, 0));
}

u16_t ip_chksum_pseudo(struct pbuf *p, u8_t proto, u16_t proto_len, const ip_addr_t *src,
		       const ip_addr_t *dst)
{
	struct dmm_addr from, to;
	uint64_t sum = 0;
	unsigned odd = 0;

	if (p == lw_verified)
		return 0;
	for (; p; p = p->next) {
		uint16_t part = frame_fold(frame_sum(p->payload, p->len, 0));

		sum += odd & 1 ? (uint16_t)(part << 8 | part >> 8) : part;
		odd += p->len;
	}
	lw_from_lwip(src, 0, &from);
	lw_from_lwip(dst, 0, &to);
	sum += frame_pseudo(from.ip, to.ip, proto, proto_len);
	return (u16_t)~frame_fold(sum);
}
