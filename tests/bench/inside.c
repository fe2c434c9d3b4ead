// SPDX-License-Identifier: Apache-2.0
/*
 * An application inside an instance: on the engine's contract, in the instance's process and loop,
 * so without a carrier. It serves what `load` asks for: the first byte of a connection tells.
 *
 *   inside serve NAME IF ENGINE MODE POLL ADDR PORT   the stack NAME is in the tree; until a signal
 *   inside count NAME IF MODE SECONDS LOCAL REMOTE    frames that AF_XDP hands over, no engine
 *   inside blast IF SECONDS MAC LOCAL REMOTE          frames that AF_XDP sends, no tree either
 *
 * blast sends segments of 1448 bytes from LOCAL to REMOTE, both with port PORT_RAW, to the host
 * that has this MAC; count takes them. Both print a line of JSON.
 */
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "userstack/engines.h"
#include "userstack/net/frame.h"
#include "userstack/stack.h"

#define MESSAGE 64
#define CHUNK (64 << 10)
#define PORT_RAW 7000
#define PAYLOAD_RAW 1448
#define FRAME_RAW (FRAME_ETH_LEN + 20 + 32 + PAYLOAD_RAW)
#define BATCH_RAW 64

static struct stack *stack;

static void die(const char *what)
{
	log_err("%s", what);
	exit(1);
}

/* ---- the application ---- */

struct app {
	struct owned *owned;
	char mode;	/* 0 until the first byte came */
	unsigned have;	/* bytes of the message that is being received */
	unsigned owing; /* answers that there was no room for */
};

static const uint8_t chunk[CHUNK];

static size_t app_take(struct engine_conn *c)
{
	const struct engine_ops *e = stack->c.engine;
	struct iovec iov[32];
	size_t len, total = 0;
	unsigned n;

	while ((n = e->peek(c, iov, ARRAY_SIZE(iov)))) {
		len = 0;
		for (unsigned i = 0; i < n; i++)
			len += iov[i].iov_len;
		e->consume(c, len);
		total += len;
	}
	return total;
}

static void app_echo(struct app *a, struct engine_conn *c)
{
	const struct engine_ops *e = stack->c.engine;

	a->have += (unsigned)app_take(c);
	a->owing += a->have / MESSAGE;
	a->have %= MESSAGE;
	for (; a->owing && e->room(c) >= MESSAGE; a->owing--)
		if (e->send(c, chunk, MESSAGE) != MESSAGE)
			die("an answer was cut");
}

/* Written where it is sent from, as engines that have reserve() allow. */
static size_t app_write(struct engine_conn *c, size_t len)
{
	const struct engine_ops *e = stack->c.engine;
	struct iovec iov[16];
	unsigned n = e->reserve(c, len, iov, ARRAY_SIZE(iov));

	len = 0;
	for (unsigned i = 0; i < n; i++) {
		memset(iov[i].iov_base, 'x', iov[i].iov_len);
		len += iov[i].iov_len;
	}
	e->commit(c, len);
	return len;
}

static void app_generate(struct engine_conn *c)
{
	const struct engine_ops *e = stack->c.engine;
	size_t n;

	while (e->reserve && (n = e->room(c)))
		if (!app_write(c, n))
			break;
	while ((n = e->room(c)))
		if (e->send(c, chunk, MIN(n, sizeof(chunk))) <= 0)
			break;
}

static void app_event(void *ctx, void *user, unsigned events, int error)
{
	const struct engine_ops *e = stack->c.engine;
	struct app *a = user;
	struct engine_conn *c = a->owned->conn;
	struct iovec iov;

	(void)ctx;
	(void)error;
	if (!c)
		return;
	if (!a->mode && e->peek(c, &iov, 1)) {
		a->mode = *(const char *)iov.iov_base;
		e->consume(c, 1);
	}
	if (a->mode == 'r')
		app_echo(a, c);
	else if (a->mode == 's')
		app_take(c);
	else if (a->mode == 'g')
		app_generate(c);
	if (!(events & (ENGINE_EOF | ENGINE_FAILED)) && a->mode != 'c')
		return;
	a->owned->conn = NULL;
	if (events & ENGINE_FAILED)
		e->abort(c);
	else
		e->close(c);
}

/* What is only counted need not wait. */
static size_t app_received(void *ctx, void *user, const void *data, size_t len)
{
	const struct app *a = user;

	(void)ctx;
	(void)data;
	return a->mode == 's' ? len : 0;
}

static void *app_accepted(void *ctx, void *listener_user, struct engine_conn *c,
			  const struct dmm_addr *remote, const struct dmm_addr *local)
{
	struct app *a = calloc(1, sizeof(*a));

	(void)ctx;
	(void)listener_user;
	if (a && owned_accept(stack, c, remote, local, &a->owned) == 0)
		return a;
	free(a);
	return NULL;
}

static void app_released(void *ctx, void *user)
{
	struct app *a = user;

	(void)ctx;
	owned_free(stack, a->owned);
	free(a);
}

/* ---- the instance ---- */

static void start(const char *name, const char *interface, const char *engine, const char *mode,
		  const char *poll)
{
	static const char *const modes[DMM_XDP_MODES] = {[DMM_XDP_NONE] = "auto",
							 [DMM_XDP_GENERIC] = "generic",
							 [DMM_XDP_NATIVE] = "native",
							 [DMM_XDP_ZEROCOPY] = "",
							 [DMM_XDP_TC] = "tc"};
	static const char *const polls[] = {DMM_POLL_WORDS};
	struct instance_config c = {.id = -1,
				    .name = name,
				    .interface = interface,
				    .port = &port_xsk,
				    .queue = 0,
				    .threads = 1};
	struct instance *in;

	if (engine_find(engine, &c.engine) < 0)
		die("no such engine");
	for (unsigned i = 0; i < DMM_XDP_MODES; i++)
		if (!strcmp(modes[i], mode))
			c.mode = (enum dmm_xdp_mode)i;
	for (unsigned i = 0; i < ARRAY_SIZE(polls); i++)
		if (!strcmp(polls[i], poll))
			c.poll = (enum dmm_poll)i;
	if (instance_open(&in, &c) < 0)
		exit(1);
	stack = in->thread[0];
}

static struct dmm_addr address(const char *ip, unsigned port)
{
	struct dmm_addr a = {.port = (dmm_u16)port};

	if (addr_parse_ip(ip, a.ip) < 0)
		die("no such address");
	return a;
}

static int serve(char **argv)
{
	struct dmm_addr local = address(argv[5], (unsigned)atoi(argv[6]));
	struct engine_listener *l;
	int r;

	start(argv[0], argv[1], argv[2], argv[3], argv[4]);
	/* The path of packets is the instance's; who gets the connections is not. */
	stack->engine_host.event = app_event;
	stack->engine_host.accepted = app_accepted;
	stack->engine_host.received = app_received;
	stack->engine_host.released = app_released;
	if (stack->c.engine->listen(stack->engine, &local, 0, NULL, &l) < 0 ||
	    xdp_port_set(stack->xdp, 0, &local, DMM_XPORT_OWNED) < 0)
		die("cannot listen");
	puts("ready");
	fflush(stdout);
	r = instance_run(stack->inst);
	stack->c.engine->unlisten(l);
	instance_close(stack->inst);
	return r;
}

/* ---- without an engine ---- */

static void print_frames(uint64_t frames, uint64_t ns)
{
	double s = (double)ns / 1e9;

	printf("{\"ops_per_s\": %.1f, \"bytes_per_s\": %.0f}\n", (double)frames / s,
	       (double)frames * PAYLOAD_RAW / s);
}

static void count_frame(void *ctx, const uint8_t *frame, size_t len)
{
	(void)ctx;
	(void)frame;
	(void)len;
}

static const struct port_sink counter = {.frame = count_frame};

/* From the first frame on. */
static int count(char **argv)
{
	struct dmm_addr local = address(argv[4], PORT_RAW), remote = address(argv[5], PORT_RAW);
	uint64_t limit = (uint64_t)(atof(argv[3]) * 1e9), begin = 0, now = now_ns(), frames = 0;
	uint64_t give_up = now + limit + 5000000000ull;
	unsigned n, drops = 0;

	start(argv[0], argv[1], "native", argv[2], "busy");
	if (xdp_flow_set(stack->xdp, 0, &remote, &local, DMM_XFLOW_LIVE) < 0)
		die("cannot steer");
	for (; now < give_up && (!begin || now - begin < limit); now = now_ns()) {
		n = stack->c.port->rx(stack->port, 256, &counter, &drops);
		if (n && !begin)
			begin = now;
		frames += n;
	}
	print_frames(frames, begin ? now - begin : 1);
	instance_close(stack->inst);
	return 0;
}

static void raw_frame(uint8_t *p, const uint8_t dst[6], const struct dmm_addr *local,
		      const struct dmm_addr *remote)
{
	static const uint8_t src[6] = {2};
	uint8_t *ip = p + FRAME_ETH_LEN, *tcp = ip + 20;
	uint16_t sum, len = FRAME_RAW - FRAME_ETH_LEN;

	frame_eth(p, dst, src, false);
	memcpy(ip, (uint8_t[]){0x45, 0, (uint8_t)(len >> 8), (uint8_t)len, 0, 0, 0x40, 0, 64, 6},
	       10);
	memcpy(ip + 12, local->ip + 12, 4);
	memcpy(ip + 16, remote->ip + 12, 4);
	sum = (uint16_t)~frame_fold(frame_sum(ip, 20, 0));
	memcpy(ip + 10, &sum, 2);
	for (unsigned i = 0; i < 4; i++)
		tcp[i] = i % 2 ? (uint8_t)PORT_RAW : (uint8_t)(PORT_RAW >> 8);
	tcp[12] = 32 / 4 << 4;
	tcp[13] = FRAME_ACK;
}

static int blast(char **argv)
{
	struct dmm_addr local = address(argv[3], PORT_RAW), remote = address(argv[4], PORT_RAW);
	struct port_config pc = {
		.interface = argv[0], .ifindex = (int)if_nametoindex(argv[0]), .queues = 1};
	uint64_t begin, end, now, frames = 0;
	uint8_t frame[FRAME_RAW] = {0}, mac[6], *p;
	struct port *port;

	if (sscanf(argv[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3],
		   &mac[4], &mac[5]) != 6 ||
	    port_xsk.open(&port, &pc) < 0)
		die("cannot send");
	raw_frame(frame, mac, &local, &remote);
	begin = now = now_ns();
	for (end = begin + (uint64_t)(atof(argv[1]) * 1e9); now < end; now = now_ns()) {
		for (unsigned i = 0; i < BATCH_RAW && (p = port_xsk.tx_reserve(port, FRAME_RAW));
		     i++) {
			memcpy(p, frame, FRAME_RAW);
			port_xsk.tx_commit(port, FRAME_RAW, NULL);
			frames++;
		}
		port_xsk.flush(port);
	}
	print_frames(frames, now - begin);
	port_xsk.close(port);
	return 0;
}

static const struct {
	const char *name;
	int args;
	int (*run)(char **argv);
} commands[] = {{"serve", 7, serve}, {"count", 6, count}, {"blast", 5, blast}};

int main(int argc, char **argv)
{
	log_init("inside", LOG_L_WARNING);
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		if (argc == 2 + commands[i].args && !strcmp(argv[1], commands[i].name))
			return commands[i].run(argv + 2);
	fputs("inside serve NAME IF ENGINE MODE POLL ADDR PORT | count NAME IF MODE SECONDS LOCAL "
	      "REMOTE | blast IF SECONDS MAC LOCAL REMOTE\n",
	      stderr);
	return 2;
}
