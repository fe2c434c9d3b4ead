// SPDX-License-Identifier: Apache-2.0
/* Stacks, as tables of their keys. A new engine or driver is a word here. */
#include <string.h>

#include "lib/base/util.h"
#include "policyd/policy_read.h"

static const char *const poll_words[] = {"sleep", "busy", NULL};
static const char *const mode_words[] = {"auto", "native", "tc", "generic", NULL};
static const char *const driver_words[] = {"xsk", NULL};
static const char *const engine_words[] = {"lwip", NULL};
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

static int read_mark(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	struct policy_stack *s = obj;
	int r = key_read_u32(at, k, v, obj);

	if (r == 0 && s->rec.mark == DMM_MARK)
		return keys_error_of(at, k, v, "0x%x is the mark that instances use", DMM_MARK);
	return r;
}

/* A word that is handed to the kernel: an interface, a congestion control. */
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

const struct key policy_port_keys[POLICY_PORT_KEYS] = {
	KEY_WORD("driver", key_read_word, struct policy_stack, rec.driver, driver_words, "xsk",
		 "how packets are exchanged: AF_XDP; the default"),
	KEY_STRING("interface", read_token, struct policy_stack, rec.interface, "INTERFACE",
		   "the network interface; its addresses and routes are shared with the kernel"),
	KEY_STRING("queue", key_read_u32, struct policy_stack, rec.queue, "NUMBER",
		   "the receive queue; default 0"),
	KEY_WORD("mode", key_read_word, struct policy_stack, rec.mode, mode_words,
		 "auto, native or generic",
		 "XDP in the driver or behind it; default auto: native if the driver can"),
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
	KEY_WORD("engine", key_read_word, struct policy_stack, rec.engine, engine_words, "lwip",
		 "userspace: the transport implementation"),
	{.name = "port", .read = read_port, .value = "{…}", .help = "userspace: packet I/O"},
	KEY_WORD("poll", key_read_index, struct policy_stack, rec.busy, poll_words, "sleep or busy",
		 "userspace: what an idle instance does; default sleep"),
	KEY_STRING("congestion", read_token, struct policy_stack, rec.congestion, "NAME",
		   "kernel: the congestion control, as in tcp_available_congestion_control"),
	KEY_STRING("pacing", key_read_rate, struct policy_stack, rec.pacing_bps, "RATE",
		   "kernel: the highest rate of one socket, as 1gbit"),
	KEY_STRING("mark", read_mark, struct policy_stack, rec.mark, "NUMBER", "kernel: SO_MARK"),
	KEY_STRING("priority", read_priority, struct policy_stack, rec.priority, "NUMBER",
		   "kernel: SO_PRIORITY"),
};

static bool stack_seen(uint32_t mask, const char *name)
{
	return keys_seen(mask, policy_stack_keys, POLICY_STACK_KEYS, name);
}

/* The keys of a stack must be those of its kind. */
static int stack_settle(const struct keys_at *at, const struct node *v, uint32_t mask,
			struct dmm_stack_rec *rec)
{
	static const char *const kernel_only[] = {"congestion", "pacing", "mark", "priority"};
	static const char *const user_only[] = {"engine", "port", "poll"};
	int err = 0;

	if (!stack_seen(mask, "kind") && stack_seen(mask, "engine"))
		rec->kind = DMM_KIND_USERSPACE;
	if (!stack_seen(mask, "kind") && !stack_seen(mask, "engine"))
		return keys_error(at, v, "%s needs an \"engine\" or \"kind: kernel\"", at->object);
	if (rec->kind == DMM_KIND_KERNEL) {
		for (size_t i = 0; i < ARRAY_SIZE(user_only); i++)
			if (stack_seen(mask, user_only[i]))
				err = keys_error(at, v, "%s of %s: not for kind kernel",
						 user_only[i], at->object);
		return err;
	}
	for (size_t i = 0; i < ARRAY_SIZE(kernel_only); i++)
		if (stack_seen(mask, kernel_only[i]))
			err = keys_error(at, v, "%s of %s: only for kind kernel", kernel_only[i],
					 at->object);
	if (!stack_seen(mask, "engine"))
		err = keys_error(at, v, "%s needs an \"engine\"", at->object);
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
