// SPDX-License-Identifier: Apache-2.0
/*
 * What is asked of the engine for one connection, beside what the stack asks for all of them. What
 * the rule says the BPF programs bring with the verdict, as the rule is of a generation that may be
 * gone by now; what the application says, its packets and its listener.
 */
#include <errno.h>
#include <string.h>

#include "lib/base/log.h"
#include "userstack/stack.h"

static const char *const congestion_word[DMM_CONGESTIONS] = {NULL, DMM_CONGESTION_WORDS};

static struct engine_options options_of(dmm_u8 congestion, uint8_t tos)
{
	return (struct engine_options){.congestion = congestion_word[congestion % DMM_CONGESTIONS],
				       .tos = tos};
}

static void options_lack(struct stack *s, const struct engine_options *options)
{
	STACK_COUNT(s, CONGESTION_FAIL, 1);
	if (stack_may_complain(s))
		log_warn("the engine %s has no congestion control %s, which a rule asks for",
			 s->c.engine->name, options->congestion);
}

int options_connect(struct stack *s, struct owned *o, const struct flow *f)
{
	struct engine_options options = options_of(f->rec.congestion, f->tos);
	const struct engine_ops *e = s->c.engine;
	int r = e->connect(s->engine, &o->remote, &o->local, &options, o, s->now, &o->conn);

	if (r != -EOPNOTSUPP || !options.congestion)
		return r;
	options_lack(s, &options);
	options.congestion = NULL;
	return e->connect(s->engine, &o->remote, &o->local, &options, o, s->now, &o->conn);
}

dmm_u8 options_accepted(struct stack *s, struct engine_conn *c, dmm_u8 congestion, uint8_t tos)
{
	struct engine_options options = options_of(congestion, tos);

	if (options.congestion &&
	    (!s->c.engine->set_options || s->c.engine->set_options(c, &options) < 0))
		options_lack(s, &options);
	if (s->c.engine->set_tos) /* the engine's listener may have another's */
		s->c.engine->set_tos(c, tos);
	return options_in_use(s, c);
}

dmm_u8 options_in_use(struct stack *s, const struct engine_conn *c)
{
	struct engine_info info;

	s->c.engine->info(c, &info);
	for (dmm_u8 i = 1; info.congestion && i < DMM_CONGESTIONS; i++)
		if (strcmp(congestion_word[i], info.congestion) == 0)
			return i;
	return DMM_CONGESTION_NONE;
}
