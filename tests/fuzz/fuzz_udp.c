// SPDX-License-Identifier: Apache-2.0
/*
 * UDP of the native engine: pairs come and go, packets with any lengths come in, datagrams of any
 * length go out and packets are said to be too big. What goes out is whole, or in fragments that
 * cover the datagram once; what comes out was in the packet.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define INVARIANT(what) ((what) ? (void)0 : abort())
#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "tests/fuzz/address.h"
#include "userstack/engine/native/native.h"
#include "userstack/engines.h"
#include "userstack/net/frame.h"

#define PAIRS 8
#define MTU 1500u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	const uint8_t *at, *end;
	struct engine *e;
	struct engine_udp *pair[PAIRS];
	uint64_t now;
	size_t covered;	   /* of the datagram that is being sent */
	const uint8_t *in; /* the packet that is being given */
	size_t in_len;
} f;

static uint8_t take8(void)
{
	return f.at < f.end ? *f.at++ : 0;
}

static uint16_t take16(void)
{
	uint16_t hi = take8();

	return (uint16_t)(hi << 8 | take8());
}

static void host_output(void *ctx, const struct iovec *iov, unsigned n)
{
	uint8_t p[MTU];
	size_t len = 0, headers, at;
	struct frame fr;

	(void)ctx;
	for (unsigned i = 0; i < n; len += iov[i++].iov_len) {
		INVARIANT(len + iov[i].iov_len <= MTU);
		memcpy(p + len, iov[i].iov_base, iov[i].iov_len);
	}
	if (frame_parse_ip(p, len, &fr) == FRAME_UDP) {
		INVARIANT(frame_summed(p, &fr) && !f.covered);
		f.covered = fr.l4_len;
		return;
	}
	headers = p[0] >> 4 == 6 ? 48 : 20;
	at = p[0] >> 4 == 6 ? be16(p + 42) & ~7u : (be16(p + 6) & 0x1fff) * 8;
	INVARIANT(at == f.covered && len > headers);
	f.covered += len - headers;
}

static void host_datagram(void *ctx, void *user, const void *data, size_t len)
{
	const uint8_t *from = data;

	(void)ctx;
	INVARIANT(user == &f.pair);
	INVARIANT(from >= f.in && from + len <= f.in + f.in_len);
}

static const struct engine_host host = {.output = host_output, .datagram = host_datagram};

static void turn(uint8_t which)
{
	unsigned i = which % PAIRS;
	struct dmm_addr local = address(i & 1, 2, (uint16_t)(1000 + i)), remote;

	if (f.pair[i]) {
		native_udp.close(f.pair[i]);
		f.pair[i] = NULL;
		return;
	}
	remote = address(i & 1, 9, 53);
	INVARIANT(!native_udp.open(f.e, &remote, &local, &f.pair, &f.pair[i]));
}

static void send_some(uint8_t which)
{
	static const uint8_t data[70000];
	struct engine_udp *u = f.pair[which % PAIRS];
	size_t len = take16() + (which & 64 ? 1000u : 0);

	f.covered = 0;
	if (u && !native_udp.send(u, data, len, which, f.now))
		INVARIANT(f.covered == 8 + len);
	else
		INVARIANT(!f.covered);
}

static void give(uint8_t which)
{
	size_t len = take8() % 128, ip = which & 1 ? 40 : 20;
	struct dmm_addr a = address(which & 1, 9, 53), b = address(which & 1, 2, 1000);
	uint8_t *p = calloc(1, len ? len : 1); /* one byte too far is seen */
	uint8_t h[48] = {0};

	INVARIANT(p);
	h[0] = which & 1 ? 0x60 : 0x45;
	h[which & 1 ? 6 : 9] = IPPROTO_UDP;
	memcpy(h + (which & 1 ? 8 : 12), a.ip + (which & 1 ? 0 : 12), which & 1 ? 16 : 4);
	memcpy(h + (which & 1 ? 24 : 16), b.ip + (which & 1 ? 0 : 12), which & 1 ? 16 : 4);
	h[ip + 1] = (uint8_t)a.port;
	h[ip + 2] = (uint8_t)((1000 + which % PAIRS) >> 8);
	h[ip + 3] = (uint8_t)(1000 + which % PAIRS);
	h[ip + 4] = which & 32 ? take8() : 0;
	h[ip + 5] = take8();
	memcpy(p, h, MIN(len, ip + 8));
	f.in = p;
	f.in_len = len;
	engine_native.input(f.e, p, len, f.now);
	free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct engine_config c = {.mtu = MTU, .host = &host, .secret = "0123456789abcde"};

	memset(&f, 0, sizeof(f));
	f.at = data;
	f.end = data + size;
	f.now = c.now = 1000 * SECOND;
	INVARIANT(!engine_native.start(&f.e, &c));
	while (f.at < f.end) {
		uint8_t what = take8();

		if (what < 64)
			turn(what);
		else if (what < 128)
			send_some(what);
		else if (what < 160 && f.pair[what % PAIRS])
			native_udp.too_big(f.pair[what % PAIRS], take16(), f.now);
		else if (what < 170)
			f.now += take16() * SECOND;
		else
			give(what);
	}
	engine_native.stop(f.e);
	return 0;
}
