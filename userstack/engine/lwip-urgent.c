// SPDX-License-Identifier: Apache-2.0
/*
 * The lwip engine: urgent data, of which lwIP knows nothing. What is received is looked at before
 * lwIP sees it; what is sent gets its urgent pointer on the way out. A connection is found there by
 * its addresses, not by its pcb: segments go out, again and again, after both ends are finished and
 * lwIP alone knows the pcb.
 */
#include <string.h>

#include <lwip/priv/tcp_priv.h>

#include "lib/base/addr.h"
#include "userstack/engine/lwip.h"
#include "userstack/net/frame.h"

#define LW_MARK_FAR 0x40000 /* beyond any window of lwIP and an urgent pointer */

static struct lw_conns *lw_bucket(struct engine *e, const struct dmm_addr *local,
				  const struct dmm_addr *remote)
{
	uint32_t h = ((uint32_t)local->port << 16 | remote->port) * 0x9e3779b1u;

	return &e->urgent[(h >> 16) % LW_URGENT_BUCKETS];
}

static struct engine_conn *lw_urgent_find(struct engine *e, const struct dmm_addr *local,
					  const struct dmm_addr *remote)
{
	struct engine_conn *c;

	TAILQ_FOREACH(c, lw_bucket(e, local, remote), urgent_entry)
	if (!memcmp(&c->local, local, sizeof(*local)) &&
	    !memcmp(&c->remote, remote, sizeof(*remote)))
		return c;
	return NULL;
}

/* No segment will need the mark any more. */
void lw_urgent_done(struct engine_conn *c)
{
	if (!c->urgent_out)
		return;
	TAILQ_REMOVE(lw_bucket(c->e, &c->local, &c->remote), c, urgent_entry);
	c->e->urgent_n--;
	c->urgent_out = false;
}

void lw_urgent_acked(struct engine_conn *c, u32_t ackno)
{
	if (c->urgent_out && TCP_SEQ_GEQ(ackno, c->snd_up))
		lw_urgent_done(c);
}

ssize_t lw_send_urgent(struct engine_conn *c, const void *byte)
{
	ssize_t n = lw_append(c, byte, 1);

	if (n < 0)
		return n;
	if (n == 1) {
		c->snd_up = c->pcb->snd_lbb;
		if (!c->urgent_out) {
			lw_from_lwip(&c->pcb->local_ip, c->pcb->local_port, &c->local);
			lw_from_lwip(&c->pcb->remote_ip, c->pcb->remote_port, &c->remote);
			TAILQ_INSERT_TAIL(lw_bucket(c->e, &c->local, &c->remote), c, urgent_entry);
			c->e->urgent_n++;
		}
		c->urgent_out = true;
	}
	tcp_output(c->pcb);
	return n;
}

/* tcp: the header of a segment that is about to be sent; its ports are not filled in here. */
static void lw_urgent_mark(struct engine *e, struct dmm_addr *local, struct dmm_addr *remote,
			   uint8_t *tcp)
{
	uint16_t port[2], word, before, sum;
	struct engine_conn *c;
	uint32_t seq;

	memcpy(port, tcp, sizeof(port));
	local->port = lwip_ntohs(port[0]);
	remote->port = lwip_ntohs(port[1]);
	c = lw_urgent_find(e, local, remote);
	if (!c || (tcp[13] & (TCP_SYN | TCP_RST)))
		return;
	memcpy(&seq, tcp + 4, sizeof(seq));
	seq = c->snd_up - lwip_ntohl(seq);
	if (seq == 0 || seq > 0xffff)
		return;
	memcpy(&sum, tcp + 16, sizeof(sum));
	memcpy(&before, tcp + 12, sizeof(before));
	tcp[13] |= TCP_URG;
	memcpy(&word, tcp + 12, sizeof(word));
	sum = frame_sum_update(sum, before, word);
	memcpy(&before, tcp + 18, sizeof(before)); /* not 0 when it is sent again */
	word = lwip_htons((uint16_t)seq);
	sum = frame_sum_update(sum, before, word);
	memcpy(tcp + 18, &word, sizeof(word));
	memcpy(tcp + 16, &sum, sizeof(sum));
}

void lw_urgent_output(struct engine *e, struct pbuf *p)
{
	struct dmm_addr local = {0}, remote = {0};
	uint8_t *ip = p->payload;
	uint32_t v4[2];

	if (ip[0] >> 4 == 6) {
		if (p->len < 60)
			return;
		memcpy(local.ip, ip + 8, 16);
		memcpy(remote.ip, ip + 24, 16);
		lw_urgent_mark(e, &local, &remote, ip + 40);
	} else if (p->len >= 40) {
		memcpy(v4, ip + 12, sizeof(v4));
		addr_from_v4(local.ip, v4[0]);
		addr_from_v4(remote.ip, v4[1]);
		lw_urgent_mark(e, &local, &remote, ip + 20);
	}
}

void lw_urgent_received(const ip_addr_t *remote, u16_t remote_port, const ip_addr_t *local,
			u16_t local_port, u32_t seq, size_t len, u16_t pointer)
{
	struct engine_conn *c;
	struct tcp_pcb *pcb;
	size_t *last;
	s32_t ahead;

	for (pcb = tcp_active_pcbs; pcb; pcb = pcb->next)
		if (pcb->remote_port == remote_port && pcb->local_port == local_port &&
		    ip_addr_cmp(&pcb->remote_ip, remote) && ip_addr_cmp(&pcb->local_ip, local))
			break;
	if (!pcb || pcb->state < ESTABLISHED || !(c = pcb->callback_arg) || c->fin_rcvd)
		return;
	/* Not acceptable, then neither is what it says. A full window does not matter. */
	if (TCP_SEQ_LT(seq + (u32_t)len, pcb->rcv_nxt) ||
	    TCP_SEQ_GT(seq, pcb->rcv_nxt + pcb->rcv_wnd))
		return;
	ahead = (s32_t)(seq + pointer - 1 - pcb->rcv_nxt);
	if (ahead < -(s32_t)c->rx_bytes || ahead > LW_MARK_FAR)
		return; /* read already, or nonsense */
	ahead += (s32_t)c->rx_bytes;
	last = c->marks ? &c->mark[c->marks - 1] : NULL;
	if (last && *last >= (size_t)ahead)
		return; /* known: each segment on the way to it tells */
	/* As long as its byte is not here a pointer moves on: 0xffff says "further than I can say",
	 * in every segment until the byte is near enough. */
	if (last && *last >= c->rx_bytes)
		*last = (size_t)ahead;
	else if (c->marks < LW_MARKS)
		c->mark[c->marks++] = (size_t)ahead;
}

bool lw_urgent(struct engine_conn *c, size_t *ret)
{
	if (!c->marks)
		return false;
	*ret = c->mark[0];
	return true;
}

void lw_urgent_advance(struct engine_conn *c, size_t len)
{
	unsigned left = 0;

	for (unsigned i = 0; i < c->marks; i++)
		if (c->mark[i] >= len)
			c->mark[left++] = c->mark[i] - len;
	c->marks = left;
}
