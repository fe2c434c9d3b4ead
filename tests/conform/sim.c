// SPDX-License-Identifier: Apache-2.0
#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "tests/conform/invariant.h"
#include "tests/conform/sim.h"
#include "userstack/net/frame.h"

#define SIM_STEP (20 * MS) /* applications look at least that often */

static bool chance(struct sim *s, unsigned permille)
{
	return permille && rng_below(&s->rng, 1000) < permille;
}

/* ---- packets under way ---- */

static bool earlier(const struct sim_packet *a, const struct sim_packet *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void heap_push(struct sim *s, struct sim_packet p)
{
	size_t i;

	if (s->heap_n == s->heap_size) {
		s->heap_size = s->heap_size ? 2 * s->heap_size : 256;
		s->heap = realloc(s->heap, s->heap_size * sizeof(*s->heap));
		CU_ASSERT_PTR_NOT_NULL_FATAL(s->heap);
	}
	p.order = s->order++;
	for (i = s->heap_n++; i && earlier(&p, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = p;
}

static struct sim_packet heap_pop(struct sim *s)
{
	struct sim_packet first = s->heap[0], last = s->heap[--s->heap_n];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < s->heap_n) {
		if (child + 1 < s->heap_n && earlier(&s->heap[child + 1], &s->heap[child]))
			child++;
		if (!earlier(&s->heap[child], &last))
			break;
		s->heap[i] = s->heap[child];
		i = child;
	}
	s->heap[i] = last;
	return first;
}

static void link_mark(struct sim *s, uint8_t *pkt)
{
	uint16_t before, after, sum;

	if (pkt[0] >> 4 == 6) {
		if (!(pkt[1] & 0x30))
			return;
		pkt[1] |= 0x30;
	} else {
		if (!(pkt[1] & 3))
			return;
		memcpy(&before, pkt, 2);
		pkt[1] |= 3;
		memcpy(&after, pkt, 2);
		memcpy(&sum, pkt + 10, 2);
		sum = frame_sum_update(sum, before, after);
		memcpy(pkt + 10, &sum, 2);
	}
	s->marks++;
}

/* One packet, or a copy of it, takes its way. */
static void link_send(struct sim *s, struct sim_end *from, const uint8_t *pkt, size_t len)
{
	struct sim_link *l = &from->link;
	struct sim_end *to = &s->end[from == &s->end[0]];
	uint64_t start = MAX(l->free_at, s->now), waiting = 0, at;
	struct sim_packet p = {.to = to, .len = len};

	if (l->rate) {
		waiting = (start - s->now) * l->rate / SECOND;
		if (waiting + len > l->queue) {
			s->drops++;
			return;
		}
		start += len * SECOND / l->rate;
		l->free_at = start;
	}
	at = start + l->delay + (l->jitter ? rng_below(&s->rng, (uint32_t)l->jitter) : 0);
	at = MAX(at, l->last_at);
	if (chance(s, l->reorder))
		at += 1 + rng_below(&s->rng, (uint32_t)(l->delay / 2 + 2 * MS));
	else
		l->last_at = at;
	p.at = at;
	p.data = malloc(len);
	memcpy(p.data, pkt, len);
	if (l->mark && waiting > l->mark)
		link_mark(s, p.data);
	if (chance(s, l->corrupt)) {
		p.data[rng_below(&s->rng, (uint32_t)len)] ^= (uint8_t)(1 + rng_below(&s->rng, 255));
		s->corrupted++;
	}
	heap_push(s, p);
}

/* SIM_TRACE=1: every packet, as it is sent and as it arrives. */
static void trace(const struct sim *s, const struct sim_end *end, const char *what,
		  const uint8_t *pkt, const struct frame *f)
{
	static int on = -1;
	uint32_t ack;

	if (on < 0)
		on = getenv("SIM_TRACE") != NULL;
	if (!on)
		return;
	memcpy(&ack, pkt + f->l4_off + 8, 4);
	printf("%.6f %c %-7s flags %02x seq %u ack %u len %zu\n", (double)s->now / 1e9,
	       end == &s->end[0] ? 'C' : 'S', what, f->flags, f->seq, ntohl(ack),
	       f->l4_len - (pkt[f->l4_off + 12] >> 4) * 4u);
}

/* What routers may cut, and others are to put together (RFC 6864). */
static void note_id(struct sim_end *from, const uint8_t *pkt, size_t len)
{
	uint16_t id = be16(pkt + 4);

	CU_ASSERT_FALSE(from->id_used[id]);
	from->id_used[id] = true;
	from->cut += from->link.mtu && len > from->link.mtu;
}

static void host_output(void *ctx, const struct iovec *iov, unsigned n)
{
	static uint8_t pkt[70000];
	struct sim_end *from = ctx;
	struct sim *s = from->sim;
	struct sim_link *l = &from->link;
	struct frame f;
	size_t len = 0;
	bool whole;

	for (unsigned i = 0; i < n; len += iov[i++].iov_len)
		memcpy(pkt + len, iov[i].iov_base, iov[i].iov_len);
	CU_ASSERT(len <= from->e->c.mtu);
	CU_ASSERT_EQUAL_FATAL(frame_parse_ip(pkt, len, &f), FRAME_TCP);
	CU_ASSERT(frame_summed(pkt, &f));
	trace(s, from, "sends", pkt, &f);
	whole = f.v6 || pkt[6] & 0x40;
	if (!whole)
		note_id(from, pkt, len);
	from->packets++;
	from->bytes += len;
	if (chance(s, l->burst))
		l->burst_end = s->now + MS + rng_below(&s->rng, 100) * MS;
	if (l->down || s->now < l->burst_end || chance(s, l->loss)) {
		s->drops++;
		return;
	}
	if (l->mtu && len > l->mtu && whole) {
		struct sim_packet p = {.to = from, .len = 80, .too_big = l->mtu};

		s->drops++;
		if (!l->tell_mtu)
			return;
		p.at = s->now + l->delay / 2;
		p.data = malloc(p.len);
		memcpy(p.data, pkt, p.len);
		heap_push(s, p);
		return;
	}
	link_send(s, from, pkt, len);
	if (chance(s, l->duplicate))
		link_send(s, from, pkt, len);
}

static void put_sum(uint8_t *tcp, const struct frame *f, size_t len)
{
	uint16_t sum;

	memset(tcp + 16, 0, 2);
	sum = (uint16_t)~frame_fold(
		frame_sum(tcp, len, frame_pseudo(f->local.ip, f->remote.ip, 6, len)));
	memcpy(tcp + 16, &sum, 2);
}

/* A piece of pkt, which f tells of: as long as it is, from off on. */
static void cut_headers(uint8_t *piece, const struct frame *f, uint32_t off, size_t len, bool last)
{
	uint8_t *tcp = piece + f->l4_off;
	uint16_t ip_len = htons((uint16_t)(f->v6 ? len - 40 : len)), sum = 0;
	uint32_t seq = htonl(f->seq + off);

	memcpy(piece + (f->v6 ? 4 : 2), &ip_len, 2);
	if (!f->v6) {
		memset(piece + 10, 0, 2);
		sum = (uint16_t)~frame_fold(frame_sum(piece, 20, 0));
		memcpy(piece + 10, &sum, 2);
	}
	memcpy(tcp + 4, &seq, 4);
	if (!last)
		tcp[13] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
	put_sum(tcp, f, len - f->l4_off);
}

/* What a port does with what is to be cut: each piece is a packet as any other. And so is what only
 * lacks its checksum. */
static void host_output_partial(void *ctx, const struct iovec *iov, unsigned n, uint32_t mss)
{
	static uint8_t pkt[70000], piece[2000];
	struct sim_end *from = ctx;
	struct iovec out = {.iov_base = piece};
	size_t len = 0, headers, part;
	struct frame f;

	for (unsigned i = 0; i < n; len += iov[i++].iov_len)
		memcpy(pkt + len, iov[i].iov_base, iov[i].iov_len);
	CU_ASSERT_FATAL(len <= (mss ? from->e->c.super : from->e->c.mtu));
	CU_ASSERT_EQUAL_FATAL(frame_parse_ip(pkt, len, &f), FRAME_TCP);
	if (!mss) {
		CU_ASSERT(from->e->c.partial);
		CU_ASSERT(frame_unsummed(pkt, &f));
		from->partials++;
		put_sum(pkt + f.l4_off, &f, f.l4_len);
		out = (struct iovec){pkt, len};
		host_output(ctx, &out, 1);
		return;
	}
	headers = f.l4_off + (pkt[f.l4_off + 12] >> 4) * 4u;
	CU_ASSERT_EQUAL(iov[0].iov_len, headers);
	CU_ASSERT(len > headers + mss);
	CU_ASSERT_FATAL(headers + mss <= from->e->c.mtu);
	CU_ASSERT_FALSE(pkt[f.l4_off + 13] & (TCP_URG | TCP_CWR | TCP_SYN | TCP_RST));
	CU_ASSERT(frame_unsummed(pkt, &f));
	from->supers++;
	for (size_t off = headers; off < len; off += part) {
		part = MIN((size_t)mss, len - off);
		memcpy(piece, pkt, headers);
		memcpy(piece + headers, pkt + off, part);
		if (!f.v6)
			put16(piece + 4, be16(pkt + 4) + (uint32_t)((off - headers) / mss));
		cut_headers(piece, &f, (uint32_t)(off - headers), headers + part,
			    off + part == len);
		out.iov_len = headers + part;
		host_output(ctx, &out, 1);
	}
}

static void arrive(struct sim *s, struct sim_packet *p)
{
	struct frame f;

	if (p->too_big) {
		uint32_t seq;

		memcpy(&seq, p->data + (p->data[0] >> 4 == 6 ? 44 : 24), 4);
		for (unsigned i = 0; i < p->to->apps; i++)
			if (p->to->app[i].conn && !p->to->app[i].released)
				engine_native.too_big(p->to->app[i].conn, ntohl(seq), p->too_big);
	} else if (frame_parse_ip(p->data, p->len, &f) == FRAME_TCP && frame_summed(p->data, &f)) {
		trace(s, p->to, "gets", p->data, &f);
		engine_native.input(p->to->e, p->data, f.ip_len, s->now);
		p->to->next = s->now;
	}
	free(p->data);
}

/* ---- applications ---- */

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 16));
}

static void app_write(struct sim_app *a)
{
	uint8_t buf[16384];
	size_t n;
	ssize_t r;

	while (a->sent < a->total) {
		n = MIN(MIN(engine_native.room(a->conn), sizeof(buf)), a->total - a->sent);
		if (!n)
			return;
		for (size_t i = 0; i < n; i++)
			buf[i] = pattern(a->sent + i);
		r = engine_native.send(a->conn, buf, n);
		CU_ASSERT_FATAL(r >= 0 && (size_t)r <= n);
		a->sent += (size_t)r;
		if ((size_t)r < n)
			return;
	}
	if (!a->finished && !a->more) {
		a->finished = true;
		CU_ASSERT_EQUAL(engine_native.shutdown(a->conn), 0);
	}
}

static void app_read(struct sim_app *a, uint64_t now)
{
	uint64_t may = a->read_rate ? (now - a->read_at) * a->read_rate / SECOND : UINT64_MAX;
	struct iovec iov[16];
	size_t n = 0;
	unsigned k = engine_native.peek(a->conn, iov, 16);

	for (unsigned i = 0; i < k; i++)
		for (size_t j = 0; j < iov[i].iov_len && n < may; j++, n++)
			a->bad |= ((uint8_t *)iov[i].iov_base)[j] != pattern(a->received + n);
	if (!n)
		return;
	engine_native.consume(a->conn, n);
	a->received += n;
	a->read_at = now;
}

static void app_turn(struct sim_app *a, uint64_t now)
{
	struct iovec iov;

	if (!a->connected || a->closed)
		return;
	if (!a->failed)
		app_write(a);
	app_read(a, now);
	if (a->failed || (a->eof && a->finished && !engine_native.peek(a->conn, &iov, 1))) {
		a->closed = true;
		a->done_at = now;
		if (a->failed)
			engine_native.abort(a->conn);
		else
			engine_native.close(a->conn);
	}
}

static void host_event(void *ctx, void *user, unsigned events, int error)
{
	struct sim_app *a = user;

	(void)ctx;
	CU_ASSERT_FALSE(a->closed || a->released);
	a->connected |= !!(events & ENGINE_CONNECTED);
	a->eof |= !!(events & ENGINE_EOF);
	if (events & ENGINE_FAILED) {
		a->failed = true;
		a->error = error;
		a->connected = true;
	}
}

static void *host_accepted(void *ctx, void *user, struct engine_conn *c,
			   const struct dmm_addr *remote, const struct dmm_addr *local)
{
	struct sim_end *end = ctx;
	struct sim_app *a = &end->app[end->apps];
	struct engine_options options = {.congestion = end->sim->congestion};

	(void)user;
	(void)remote;
	(void)local;
	if (end->apps == SIM_APPS)
		return NULL;
	CU_ASSERT_EQUAL(engine_native.set_options(c, &options), 0);
	end->apps++;
	*a = (struct sim_app){.end = end,
			      .conn = c,
			      .connected = true,
			      .total = end->sim->server_total,
			      .read_rate = end->sim->server_read_rate,
			      .read_at = end->sim->now};
	return a;
}

static void host_released(void *ctx, void *user)
{
	struct sim_app *a = user;

	(void)ctx;
	CU_ASSERT_FALSE(a->released);
	a->released = true;
}

/* ---- the run ---- */

static const char *const ips[2][2] = {{"10.0.0.1", "fd00::1"}, {"10.0.0.2", "fd00::2"}};

struct conn_key sim_key(unsigned end, bool v6)
{
	struct dmm_addr client = {.port = 50000}, server = {.port = 80};

	addr_parse_ip(ips[0][v6], client.ip);
	addr_parse_ip(ips[1][v6], server.ip);
	return end ? (struct conn_key){.remote = client, .local = server}
		   : (struct conn_key){.remote = server, .local = client};
}

void sim_start(struct sim *s, uint64_t seed, const struct sim_link *link)
{
	/* with some seeds a port that cuts, and one that takes little at a time, or that makes
	 * checksums */
	static const uint32_t supers[] = {0, 65535, 0, 10000};
	struct engine_config c = {.mtu = 1500,
				  .super = supers[seed / 2 % ARRAY_SIZE(supers)],
				  .partial = seed / 8 % 2};
	struct dmm_addr any = {.port = 80};

	*s = (struct sim){
		.now = SECOND * 1000, .rng = {seed}, .super = c.super, .partial = c.partial};
	for (unsigned i = 0; i < 2; i++) {
		struct sim_end *end = &s->end[i];
		dmm_u8 ip[16];

		end->sim = s;
		end->link = *link;
		end->host = (struct engine_host){
			.ctx = end,
			.output = host_output,
			.output_partial = host_output_partial,
			.event = host_event,
			.accepted = host_accepted,
			.released = host_released,
		};
		c.host = &end->host;
		c.now = s->now;
		for (unsigned k = 0; k < 16; k++)
			c.secret[k] = (uint8_t)rng_below(&s->rng, 256);
		CU_ASSERT_EQUAL_FATAL(engine_native.start(&end->e, &c), 0);
		for (unsigned k = 0; k < 2; k++) {
			addr_parse_ip(ips[i][k], ip);
			CU_ASSERT_EQUAL_FATAL(engine_native.addr_add(end->e, ip), 0);
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		addr_parse_ip(i ? "::" : "0.0.0.0", any.ip);
		CU_ASSERT_EQUAL_FATAL(
			engine_native.listen(s->end[1].e, &any, 0, s, &s->listener[i]), 0);
	}
}

struct sim_app *sim_connect(struct sim *s, uint64_t total, bool v6)
{
	struct engine_options options = {.congestion = s->congestion};
	struct sim_end *end = &s->end[0];
	struct sim_app *a = &end->app[end->apps];
	struct conn_key key = sim_key(0, v6);

	key.local.port = (dmm_u16)(key.local.port + end->apps++);
	*a = (struct sim_app){.end = end, .total = total, .read_at = s->now};
	CU_ASSERT_EQUAL_FATAL(engine_native.connect(end->e, &key.remote, &key.local, &options, a,
						    s->now, &a->conn),
			      0);
	end->next = s->now;
	return a;
}

void sim_check(const struct sim *s)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct table *t = &s->end[i].e->table;

		for (size_t k = 0; k < t->size; k++)
			if (t->slot[k].conn)
				invariant_conn(t->slot[k].conn);
	}
}

static bool sim_done(const struct sim *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < 2; i++)
		for (unsigned k = 0; k < s->end[i].apps; k++) {
			if (!s->end[i].app[k].closed)
				return false;
			n++;
		}
	return n && !s->heap_n;
}

/* Everything that is due by now. */
static void sim_turn(struct sim *s)
{
	while (s->heap_n && s->heap[0].at <= s->now) {
		struct sim_packet p = heap_pop(s);

		arrive(s, &p);
	}
	for (unsigned i = 0; i < 2; i++) {
		struct sim_end *end = &s->end[i];

		engine_native.poll(end->e, s->now, &end->next);
		CU_ASSERT_FATAL(end->next > s->now);
		for (unsigned k = 0; k < end->apps; k++)
			app_turn(&end->app[k], s->now);
		engine_native.poll(end->e, s->now, &end->next);
	}
	sim_check(s);
}

bool sim_run(struct sim *s, uint64_t ns)
{
	uint64_t until = s->now + ns, next;

	while (s->now < until && !sim_done(s)) {
		next = MIN(MIN(s->end[0].next, s->end[1].next), s->now + SIM_STEP);
		if (s->heap_n)
			next = MIN(next, s->heap[0].at);
		s->now = MAX(s->now, next);
		sim_turn(s);
	}
	return sim_done(s);
}

void sim_rest(struct sim *s, uint64_t ns)
{
	uint64_t until = s->now + ns;

	while (s->now < until) {
		s->now = MIN(MAX(MIN(s->end[0].next, s->end[1].next), s->now + MS), until);
		sim_turn(s);
	}
}

void sim_stop(struct sim *s)
{
	for (unsigned i = 0; i < 2; i++)
		engine_native.unlisten(s->listener[i]);
	for (unsigned i = 0; i < 2; i++) {
		engine_native.stop(s->end[i].e);
		for (unsigned k = 0; k < s->end[i].apps; k++)
			CU_ASSERT(s->end[i].app[k].released);
	}
	while (s->heap_n) {
		struct sim_packet p = heap_pop(s);

		free(p.data);
	}
	free(s->heap);
}
