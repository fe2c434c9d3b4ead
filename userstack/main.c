// SPDX-License-Identifier: Apache-2.0
/* dmm-stackd: one userspace stack instance. */
#include <argp.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "userstack/engines.h"
#include "userstack/port/ports.h"
#include "userstack/instance.h"

#ifndef DMM_VERSION
#define DMM_VERSION "0"
#endif

const char *argp_program_version = "dmm-stackd " DMM_VERSION;

static const char *engine = "native", *driver = "xsk";

static const struct {
	const char *name;
	enum dmm_xdp_mode mode;
} modes[] = {
	{"auto", DMM_XDP_NONE},
	{"native", DMM_XDP_NATIVE},
	{"tc", DMM_XDP_TC},
	{"generic", DMM_XDP_GENERIC},
};

static const char *const polls[] = {DMM_POLL_WORDS};

enum {
	OPT_NAME = 256,
	OPT_ENGINE,
	OPT_DRIVER,
	OPT_THREADS,
	OPT_MODE,
	OPT_POLL,
	OPT_CONGESTION,
	OPT_ECN,
	OPT_KEEPALIVE,
	OPT_USER_TIMEOUT,
	OPT_BPFFS,
	OPT_ID,
	OPT_DEBUG
};

static const struct argp_option options[] = {
	{"name", OPT_NAME, "NAME", 0, "Name of the stack in the policy (required)", 0},
	{"interface", 'i', "IF", 0, "Network interface to share with the kernel (required)", 0},
	{"engine", OPT_ENGINE, "ENGINE", 0,
	 "Transport engine: native (default), lwip, or a plug-in", 0},
	{"driver", OPT_DRIVER, "DRIVER", 0, "Packet I/O: xsk (default), dpdk", 0},
	{"queue", 'q', "N", 0, "The only receive queue to take packets from (default: all)", 0},
	{"threads", OPT_THREADS, "N", 0,
	 "Threads, 1 (default), 2, 4 or 8, each with queues and an engine of its own", 0},
	{"mode", OPT_MODE, "MODE", 0,
	 "XDP mode: auto (default: native if the driver can, else generic), native, generic", 0},
	{"poll", OPT_POLL, "HOW", 0,
	 "When there is nothing to do: adaptive (default: look for a moment if that paid off, then "
	 "sleep), busy (never sleep: one CPU in full use), sleep",
	 0},
	{"congestion", OPT_CONGESTION, "NAME", 0, "Congestion control of the engine", 0},
	{"ecn", OPT_ECN, NULL, 0, "The engine asks for explicit congestion notification", 0},
	{"keepalive", OPT_KEEPALIVE, "S", 0, "Seconds of silence until a peer is asked", 0},
	{"user-timeout", OPT_USER_TIMEOUT, "MS", 0, "How long bytes may wait for their ACK", 0},
	{"bpffs", OPT_BPFFS, "PATH", 0, "Pin tree (default $" TREE_ENV " or " TREE_DEFAULT ")", 0},
	{"id", OPT_ID, "N", 0, "Stack id, instead of looking the name up", 0},
	{"debug", OPT_DEBUG, NULL, 0, "Log more", 0},
	{0},
};

static unsigned parse_number(struct argp_state *st, const char *what, const char *text,
			     unsigned max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || n > max)
		argp_error(st, "%s: '%s' is not a number from 0 to %u", what, text, max);
	return (unsigned)n;
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct instance_config *c = st->input;

	switch (key) {
	case OPT_NAME:
		c->name = arg;
		return 0;
	case 'i':
		c->interface = arg;
		return 0;
	case OPT_ENGINE:
		engine = arg;
		return 0;
	case OPT_DRIVER:
		driver = arg;
		return 0;
	case 'q':
		c->queue = (int)parse_number(st, "queue", arg, DMM_MAX_QUEUES - 1);
		return 0;
	case OPT_THREADS:
		c->threads = parse_number(st, "threads", arg, DMM_MAX_THREADS);
		if (!c->threads || (c->threads & (c->threads - 1)))
			argp_error(st, "threads: 1, 2, 4 or 8");
		return 0;
	case OPT_MODE:
		for (unsigned i = 0; i < ARRAY_SIZE(modes); i++)
			if (!strcmp(arg, modes[i].name)) {
				c->mode = modes[i].mode;
				return 0;
			}
		argp_error(st, "unknown mode '%s'", arg);
		return EINVAL;
	case OPT_POLL:
		for (unsigned i = 0; i < ARRAY_SIZE(polls); i++)
			if (!strcmp(arg, polls[i])) {
				c->poll = (enum dmm_poll)i;
				return 0;
			}
		argp_error(st, "unknown way to poll '%s'", arg);
		return EINVAL;
	case OPT_CONGESTION:
		c->congestion = arg;
		return 0;
	case OPT_ECN:
		c->ecn = true;
		return 0;
	case OPT_KEEPALIVE:
		c->keepalive_s = parse_number(st, "keepalive", arg, 32767);
		return 0;
	case OPT_USER_TIMEOUT:
		c->user_timeout_ms = parse_number(st, "user-timeout", arg, INT32_MAX);
		return 0;
	case OPT_BPFFS:
		c->bpffs = arg;
		return 0;
	case OPT_ID:
		c->id = (int)parse_number(st, "id", arg, DMM_MAX_STACKS - 1);
		return 0;
	case OPT_DEBUG:
		c->debug = true;
		log_init("dmm-stackd", LOG_L_DEBUG);
		return 0;
	case ARGP_KEY_ARG:
		argp_error(st, "unexpected argument '%s'", arg);
		return EINVAL;
	case ARGP_KEY_END:
		if (!c->name || !c->interface)
			argp_error(st, "--name and --interface are required");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Run one userspace stack instance of DMM.\v"
	       "Exit codes: 0 stopped by a signal, 1 could not start, 3 the interface went away.",
};

int main(int argc, char **argv)
{
	struct instance_config c = {.id = -1, .queue = -1, .threads = 1};
	struct instance *in;
	int r;

	log_init("dmm-stackd", LOG_L_INFO);
	argp_err_exit_status = 1;
	if (argp_parse(&argp, argc, argv, 0, NULL, &c))
		return 1;
	if (engine_find(engine, &c.engine) < 0 || port_find(driver, &c.port) < 0)
		return 1;
	if (instance_open(&in, &c) < 0)
		return 1;
	r = instance_run(in);
	instance_close(in);
	return r;
}
