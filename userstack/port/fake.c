// SPDX-License-Identifier: Apache-2.0
/* A port without a network: two ends joined in memory, with loss on request. For tests. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "userstack/port/port.h"

#define FAKE_SLOTS 4096
#define FAKE_TX_MAX 65600

struct fake_frame {
	size_t len;
	uint8_t *data;
};

struct port {
	struct port *peer;		    /* NULL: closed */
	struct fake_frame ring[FAKE_SLOTS]; /* received, not taken */
	unsigned head, tail;
	unsigned loss_permille, seed;
	uint8_t tx[FAKE_TX_MAX];
};

static int fake_open(struct port **ret, const struct port_config *c)
{
	(void)ret;
	(void)c;
	return -ENOTSUP; /* fake_pair() */
}

static void fake_close(struct port *p)
{
	if (p->peer)
		p->peer->peer = NULL;
	for (; p->tail != p->head; p->tail++)
		free(p->ring[p->tail % FAKE_SLOTS].data);
	free(p);
}

static int fake_fd(const struct port *p, unsigned i)
{
	(void)p;
	(void)i;
	return -1;
}

static bool fake_zerocopy(const struct port *p)
{
	(void)p;
	return false;
}

static unsigned fake_rx(struct port *p, unsigned budget, const struct port_sink *sink,
			unsigned *drops)
{
	unsigned n;

	(void)drops;
	for (n = 0; n < budget && p->tail != p->head; n++) {
		struct fake_frame *f = &p->ring[p->tail++ % FAKE_SLOTS];

		sink->frame(sink->ctx, f->data, f->len);
		free(f->data);
		f->data = NULL;
	}
	return n;
}

static size_t fake_tx_max(const struct port *p)
{
	(void)p;
	return FAKE_TX_MAX;
}

static uint8_t *fake_tx_reserve(struct port *p, size_t len)
{
	return len <= FAKE_TX_MAX ? p->tx : NULL;
}

static void fake_tx_commit(struct port *p, size_t len, const struct port_sum *sum)
{
	struct port *to = p->peer;
	struct fake_frame *f;
	uint8_t *data;

	(void)sum; /* as on a veth: the frame stays as it is */
	if (!to || to->head - to->tail == FAKE_SLOTS)
		return;
	if (p->loss_permille && (unsigned)rand_r(&p->seed) % 1000 < p->loss_permille)
		return;
	data = malloc(len ? len : 1);
	if (!data)
		return;
	memcpy(data, p->tx, len);
	f = &to->ring[to->head++ % FAKE_SLOTS];
	*f = (struct fake_frame){len, data};
}

static void fake_flush(struct port *p)
{
	(void)p;
}

int fake_pair(struct port **ret_a, struct port **ret_b, unsigned loss_permille, unsigned seed)
{
	struct port *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));

	if (!a || !b) {
		free(a);
		free(b);
		return -ENOMEM;
	}
	a->peer = b;
	b->peer = a;
	a->loss_permille = b->loss_permille = loss_permille;
	a->seed = seed;
	b->seed = seed + 1;
	*ret_a = a;
	*ret_b = b;
	return 0;
}

const struct port_ops port_fake = {
	.abi = PORT_ABI,
	.name = "fake",
	.open = fake_open,
	.close = fake_close,
	.fd = fake_fd,
	.zerocopy = fake_zerocopy,
	.rx = fake_rx,
	.tx_max = fake_tx_max,
	.tx_reserve = fake_tx_reserve,
	.tx_commit = fake_tx_commit,
	.flush = fake_flush,
};
