// SPDX-License-Identifier: Apache-2.0
/* Stacks, as tables of their keys. A new engine or driver is a word here. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/diag.h"
#include "policyd/policy_read.h"
#include "policyd/words.h"

static const char *const mode_words[] = {"auto", "native", "tc", "generic", NULL};
static const char *const driver_words[] = {"xsk", "dpdk", NULL};
static const char *const engine_words[] = {"native", "lwip", NULL};
static const char *const kind_words[] = {"kernel", "userspace", NULL};

static int read_kind(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	struct policy_stack *s = obj;
	int r = key_read_index(at, k, v, obj);

	s->rec.kind = r < 0 ? DMM_KIND_FREE : s->rec.kind ? DMM_KIND_USERSPACE : DMM_KIND_KERNEL;
	return r;
}

/* 0 in the record means that the application's own value stays: the record holds value + 1. */
static int read_priority(const struct keys_at *at, const struct key *k, const struct node *v,
			 void *obj)
{
	struct policy_stack *s = obj;
	int r = key_read_u32(at, k, v, obj);

	if (r < 0)
		return r;
	if (s->rec.priority == UINT32_MAX)
		return keys_error_of(at, k, v, "must be less than %u", UINT32_MAX);
	s->rec.priority++;
	return 0;
}

/* 0 in the record means all of them. */
static int read_queue(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj)
{
	struct policy_stack *s = obj;
	int r = key_read_u32(at, k, v, obj);

	if (r < 0)
		return r;
	if (s->rec.queue >= DMM_MAX_QUEUES)
		return keys_error_of(at, k, v, "must be at most %u", DMM_MAX_QUEUES - 1);
	s->rec.queue++;
	return 0;
}

static int read_threads(const struct keys_at *at, const struct key *k, const struct node *v,
			void *obj)
{
	struct policy_stack *s = obj;
	dmm_u32 n;
	int r = key_read_u32(at, k, v, obj);

	if (r < 0)
		return r;
	n = s->rec.threads;
	if (!n || n > DMM_MAX_THREADS || (n & (n - 1)))
		return keys_error_of(at, k, v, "must be 1, 2, 4 or %u", DMM_MAX_THREADS);
	return 0;
}

static int read_tos(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	struct policy_stack *s = obj;
	int r = key_read_u32(at, k, v, obj);

	if (r < 0)
		return r;
	if (s->rec.tos > 255)
		return keys_error_of(at, k, v, "must be at most 255");
	s->rec.tos++;
	return 0;
}

/* 1 … max of the kernel's: 32767 s for TCP_KEEPIDLE, INT_MAX ms for TCP_USER_TIMEOUT. */
static int read_time(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	dmm_u32 value, max = strcmp(k->name, "keepalive_s") == 0 ? 32767 : INT32_MAX;
	int r = key_read_u32(at, k, v, obj);

	if (r < 0)
		return r;
	memcpy(&value, (char *)obj + k->offset, sizeof(value));
	if (value == 0 || value > max)
		return keys_error_of(at, k, v, "must be 1 to %u", max);
	return 0;
}

static int read_mark(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	struct policy_stack *s = obj;
	int r = key_read_u32(at, k, v, obj);

	if (r == 0 && s->rec.mark == DMM_MARK)
		return keys_error_of(at, k, v, "0x%x is the mark that instances use", DMM_MARK);
	return r;
}

/* A word that is handed on: an interface, a congestion control, a file without its folder. */
static int read_token(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj)
{
	int r = key_read_text(at, k, v, obj);
	const char *text = (char *)obj + k->offset;

	if (r == 0 &&
	    (!*text || strpbrk(text, " /:\\") || !strcmp(text, ".") || !strcmp(text, "..")))
		return keys_error_of(at, k, v, "\"%s\" is not a name of this kind", text);
	return r;
}

/* One that is built in, or a plug-in's name; but what is almost one that is built in means that. */
static int read_engine(const struct keys_at *at, const struct key *k, const struct node *v,
		       void *obj)
{
	const char *text = (char *)obj + k->offset, *nearest = NULL;
	unsigned best = UINT_MAX;
	int r = read_token(at, k, v, obj);

	for (unsigned i = 0; r == 0 && k->words[i]; i++) {
		if (strcmp(k->words[i], text) == 0)
			return 0;
		if (diag_nearer(text, k->words[i], &best))
			nearest = k->words[i];
	}
	if (nearest)
		return keys_error_of(at, k, v, "\"%s\" is none of %s; did you mean \"%s\"?", text,
				     k->value, nearest);
	return r;
}

const struct key policy_port_keys[POLICY_PORT_KEYS] = {
	KEY_WORD("driver", key_read_word, struct policy_stack, rec.driver, driver_words,
		 "xsk or dpdk",
		 "how packets are exchanged: AF_XDP, the default, or DPDK's driver for it"),
	KEY_STRING("interface", read_token, struct policy_stack, rec.interface, "INTERFACE",
		   "the network interface; its addresses and routes are shared with the kernel",
		   .form = FORM_TOKEN, .flags = KEY_REQUIRED),
	KEY_STRING("queue", read_queue, struct policy_stack, rec.queue, "NUMBER",
		   "the only receive queue to take packets from; default: all of them",
		   .form = FORM_NUMBER),
	KEY_WORD("mode", key_read_word, struct policy_stack, rec.mode, mode_words,
		 "auto, native, tc or generic",
		 "how packets are steered; default auto: the best that the device can"),
};

static int read_port(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	char object[DMM_NAME_LEN + 40];
	struct keys_at in = {.file = at->file, .diags = at->diags, .object = object};
	uint32_t mask;

	(void)k;
	snprintf(object, sizeof(object), "port of %s", at->object);
	return keys_read(&in, policy_port_keys, POLICY_PORT_KEYS, v, obj, &mask);
}

const struct key policy_stack_keys[POLICY_STACK_KEYS] = {
	KEY_WORD("kind", read_kind, struct policy_stack, rec.kind, kind_words,
		 "kernel or userspace", "userspace is implied by an engine"),
	KEY_WORD("engine", read_engine, struct policy_stack, rec.engine, engine_words,
		 "native, lwip or a plug-in", "userspace: the transport implementation",
		 .form = FORM_TOKEN),
	{.name = "port",
	 .read = read_port,
	 .value = "{…}",
	 .help = "userspace: packet I/O",
	 .form = FORM_MAP,
	 .keys = policy_port_keys,
	 .n_keys = POLICY_PORT_KEYS},
	KEY_WORD("poll", key_read_index, struct policy_stack, rec.poll, words_poll,
		 "adaptive, busy or sleep",
		 "userspace: what an instance does that has nothing to do; default adaptive: it "
		 "looks for work for a moment, where that paid off before, then sleeps"),
	KEY_STRING("threads", read_threads, struct policy_stack, rec.threads, "NUMBER",
		   "userspace: 1 (the default), 2, 4 or 8 threads, each with queues of the "
		   "interface and an engine of its own; not for engine lwip",
		   .form = FORM_NUMBER),
	KEY_STRING("congestion", read_token, struct policy_stack, rec.congestion, "NAME",
		   "the congestion control: kernel: as in tcp_available_congestion_control; engine "
		   "native: cubic (the default), newreno, dctcp or bbr",
		   .form = FORM_TOKEN),
	KEY_STRING("ecn", key_read_bool, struct policy_stack, rec.ecn, "true or false",
		   "engine native: ask for ECN; answered it is anyway. dctcp always asks",
		   .form = FORM_BOOL),
	KEY_STRING("pacing", key_read_rate, struct policy_stack, rec.pacing_bps, "RATE",
		   "kernel: the highest rate of one socket, as 1gbit"),
	KEY_STRING("mark", read_mark, struct policy_stack, rec.mark, "NUMBER", "kernel: SO_MARK",
		   .form = FORM_NUMBER),
	KEY_STRING("priority", read_priority, struct policy_stack, rec.priority, "NUMBER",
		   "kernel: SO_PRIORITY", .form = FORM_NUMBER),
	KEY_STRING("tos", read_tos, struct policy_stack, rec.tos, "NUMBER",
		   "kernel: IP_TOS and IPV6_TCLASS, 0 to 255", .form = FORM_NUMBER),
	KEY_STRING(
		"user_timeout_ms", read_time, struct policy_stack, rec.user_timeout_ms, "NUMBER",
		"how long bytes may wait for their ACK, in milliseconds; kernel: TCP_USER_TIMEOUT",
		.form = FORM_NUMBER),
	KEY_STRING("keepalive_s", read_time, struct policy_stack, rec.keepalive_s, "NUMBER",
		   "seconds of silence until the peer is asked; kernel: SO_KEEPALIVE, TCP_KEEPIDLE",
		   .form = FORM_NUMBER),
};

static bool stack_seen(uint32_t mask, const char *name)
{
	return keys_seen(mask, policy_stack_keys, POLICY_STACK_KEYS, name);
}

const char *const policy_kernel_only[] = {"pacing", "mark", "priority", "tos", NULL};
const char *const policy_user_only[] = {"engine", "port", "poll", "threads", "ecn", NULL};

static bool congestion_known(const char *name)
{
	for (unsigned i = 1; i < DMM_CONGESTIONS; i++)
		if (strcmp(words_congestion[i], name) == 0)
			return true;
	return false;
}

bool policy_congestion_of_rules(const struct dmm_stack_rec *s)
{
	return s->kind == DMM_KIND_USERSPACE && strcmp(s->engine, "lwip") != 0;
}

/* What the engines that are built in cannot do. A plug-in says so itself. */
static int stack_settle_engine(const struct keys_at *at, const struct node *v, uint32_t mask,
			       const struct dmm_stack_rec *rec)
{
	static const char *const tcp[] = {"congestion", "ecn", "user_timeout_ms", "keepalive_s"};
	int err = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(tcp) && strcmp(rec->engine, "lwip") == 0; i++)
		if (stack_seen(mask, tcp[i]))
			err = keys_error(at, v, "%s of %s: not for engine lwip", tcp[i],
					 at->object);
	if (rec->threads > 1 && strcmp(rec->engine, "lwip") == 0)
		err = keys_error(at, v, "threads of %s: engine lwip runs once in a process",
				 at->object);
	if (rec->threads > 1 && rec->queue)
		err = keys_error(at, v,
				 "threads of %s: \"queue\" is one queue, and each thread needs one",
				 at->object);
	if (rec->threads > 1 && strcmp(rec->mode, "generic") == 0)
		err = keys_error(at, v, "threads of %s: mode tc is for them, and generic is not",
				 at->object);
	if (strcmp(rec->engine, "native") == 0 && rec->congestion[0] &&
	    !congestion_known(rec->congestion))
		err = keys_error(at, v,
				 "congestion of %s: engine native has cubic, newreno, dctcp and "
				 "bbr, and no \"%s\"",
				 at->object, rec->congestion);
	return err;
}

/* The keys of a stack must be those of its kind. */
static int stack_settle(const struct keys_at *at, const struct node *v, uint32_t mask,
			struct dmm_stack_rec *rec)
{
	const char *const *only;
	int err = 0;

	if (!stack_seen(mask, "kind") && stack_seen(mask, "engine"))
		rec->kind = DMM_KIND_USERSPACE;
	if (!stack_seen(mask, "kind") && !stack_seen(mask, "engine"))
		return keys_error(at, v, "%s needs an \"engine\" or \"kind: kernel\"", at->object);
	if (rec->kind == DMM_KIND_KERNEL) {
		for (only = policy_user_only; *only; only++)
			if (stack_seen(mask, *only))
				err = keys_error(at, v, "%s of %s: not for kind kernel", *only,
						 at->object);
		return err;
	}
	for (only = policy_kernel_only; *only; only++)
		if (stack_seen(mask, *only))
			err = keys_error(at, v, "%s of %s: only for kind kernel", *only,
					 at->object);
	if (!stack_seen(mask, "engine"))
		err = keys_error(at, v, "%s needs an \"engine\"", at->object);
	else if (stack_settle_engine(at, v, mask, rec) < 0)
		err = -EINVAL;
	if (!rec->interface[0])
		err = keys_error(at, v, "%s needs a \"port\" with an \"interface\"", at->object);
	if (!rec->driver[0])
		strcpy(rec->driver, "xsk");
	if (!rec->mode[0])
		strcpy(rec->mode, "auto");
	return err;
}

int policy_read_stack(const struct keys_at *at, const struct node *v, struct policy_stack *ret)
{
	uint32_t mask;
	int r = keys_read(at, policy_stack_keys, POLICY_STACK_KEYS, v, ret, &mask);

	return r < 0 ? r : stack_settle(at, v, mask, &ret->rec);
}
