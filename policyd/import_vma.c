// SPDX-License-Identifier: Apache-2.0
/*
 * libvma.conf: lines of words. The first application-id that a program matches has its rules, no
 * other: a list for each role, the first that matches decides, and what none matches is libvma's
 * own. The roles exclude each other but for udp_sender and udp_connect, so one list in the order of
 * the file decides the same; application-ids in the order of their first lines, each with a last
 * rule for the rest of its program's sockets where another one would get them.
 */
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/diag.h"
#include "policyd/import.h"
#include "policyd/value.h"

#define BLOCKS_MAX 4096
#define WORDS_MAX 6 /* kept of a line; more than any statement has */

/* What an application-id has. */
struct block {
	char program[DMM_PROGRAM_LEN]; /* "": every program */
	unsigned line;		       /* 0: rules that stand before every application-id */
};

struct reader {
	struct import *im;
	struct policy_pos pos; /* of the line, then of the word */
	struct block *block;   /* in the order in which libvma looks at them */
	size_t n_blocks, now;  /* now: whose lines these are */
	size_t *of;	       /* block of each rule of the policy */
	unsigned foreign;      /* line of the application-id that could not be translated; 0 */
	char *word[WORDS_MAX];
	size_t n;
	char *line;
	const struct role *udp; /* the first of udp_sender and udp_connect */
	bool udp_both;
};

static const struct role {
	const char *name;
	dmm_u8 proto;
	enum dmm_role role;
	bool pairs; /* far address first, then perhaps the own; else one address alone counts */
} roles[] = {
	{"tcp_server", IPPROTO_TCP, DMM_ROLE_SERVER, false},
	{"tcp_client", IPPROTO_TCP, DMM_ROLE_CLIENT, true},
	{"udp_receiver", IPPROTO_UDP, DMM_ROLE_SERVER, false},
	{"udp_sender", IPPROTO_UDP, DMM_ROLE_CLIENT, false},
	{"udp_connect", IPPROTO_UDP, DMM_ROLE_CLIENT, true},
};

/* An error at a word of the line. */
#define word_error(r, i, ...) \
	((r)->pos.column = (unsigned)((r)->word[i] - (r)->line) + 1, \
	 diag_error_at(&(r)->im->diags, &(r)->pos, __VA_ARGS__))

/* ---- addresses ---- */

static int add_ports(struct reader *r, const char *text, struct policy_ports **list, size_t *n)
{
	struct policy_ports ports;

	if (strcmp(text, "*") == 0)
		return 0;
	/* value_parse_ports() takes 0x50 too, libvma does not. */
	if (strspn(text, "0123456789-") != strlen(text) || value_parse_ports(text, &ports) < 0)
		return diag_error_at(&r->im->diags, &r->pos,
				     "\"%.60s\" is no port (1 … 65535), range of ports or *", text);
	*list = malloc(sizeof(ports));
	if (!*list)
		return -ENOMEM;
	**list = ports;
	*n = 1;
	return 0;
}

static int add_address(struct reader *r, const char *text, struct policy_prefix **list, size_t *n)
{
	return strcmp(text, "*") == 0 ? 0 : import_add_prefix(r->im, &r->pos, text, list, n);
}

/* "ADDRESS:PORTS[:ADDRESS:PORTS]" */
static int read_tuple(struct reader *r, const struct role *role, char *text, struct policy_match *m)
{
	bool far = role->role == DMM_ROLE_CLIENT;
	char *part[4] = {0}, *rest = text;
	size_t n = 0;
	int e;

	while (rest && n < ARRAY_SIZE(part))
		part[n++] = strsep(&rest, ":");
	if (rest || n % 2)
		return diag_error_at(&r->im->diags, &r->pos,
				     "the addresses must be ADDRESS:PORT or "
				     "ADDRESS:PORT:ADDRESS:PORT");
	e = add_address(r, part[0], far ? &m->remote : &m->local, far ? &m->n_remote : &m->n_local);
	if (e == 0)
		e = add_ports(r, part[1], far ? &m->remote_port : &m->local_port,
			      far ? &m->n_remote_port : &m->n_local_port);
	if (e < 0 || n == 2)
		return e;
	if (!role->pairs) {
		diag_warn_at(&r->im->diags, &r->pos,
			     "the second address and port count for nothing with %s, as in libvma",
			     role->name);
		return 0;
	}
	e = add_address(r, part[2], &m->local, &m->n_local);
	return e < 0 ? e : add_ports(r, part[3], &m->local_port, &m->n_local_port);
}

/* ---- statements ---- */

/* The block of this program, a new one at the end if there is none. */
static int choose_block(struct reader *r, const char *program)
{
	struct block *list;

	for (r->now = 0; r->now < r->n_blocks; r->now++)
		if (strcmp(r->block[r->now].program, program) == 0)
			return 0;
	if (r->n_blocks == BLOCKS_MAX)
		return word_error(r, 0, "an application-id too many; at most %d are possible",
				  BLOCKS_MAX);
	list = realloc(r->block, (r->n_blocks + 1) * sizeof(*list));
	if (!list)
		return -ENOMEM;
	r->block = list;
	list[r->n_blocks] = (struct block){.line = r->foreign};
	strcpy(list[r->n_blocks++].program, program);
	return 0;
}

static int read_program(struct reader *r, const char *text)
{
	char program[DMM_PROGRAM_LEN];
	int e;

	if (strpbrk(text, "*?[\\"))
		return word_error(r, 1,
				  "program %.60s is a pattern, which has no equivalent; write an "
				  "application-id for each program",
				  text);
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f || strchr(",/", *c))
			return word_error(r, 1, "\"%.60s\" is not the name of a program", text);
	snprintf(program, sizeof(program), "%s", text);
	e = choose_block(r, program);
	if (e == 0 && strlen(text) >= sizeof(program)) {
		r->pos.column = (unsigned)(r->word[1] - r->line) + 1;
		diag_warn_at(&r->im->diags, &r->pos,
			     "program %.60s is taken as %s: the kernel keeps %d characters", text,
			     program, DMM_PROGRAM_LEN - 1);
	}
	return e;
}

static int read_application(struct reader *r)
{
	int e;

	/* Whom the next lines are for is not known when this one cannot be read either. */
	r->foreign = r->pos.line;
	if (r->n != 3)
		return word_error(r, 0, "must be: application-id PROGRAM ID");
	if (strcmp(r->word[2], "*") != 0)
		return word_error(r, 2,
				  "the id %.60s, which a process has in its environment, has no "
				  "equivalent; make it a group and start the program by dmm-run",
				  r->word[2]);
	e = strcmp(r->word[1], "*") == 0 ? choose_block(r, "") : read_program(r, r->word[1]);
	if (e == 0)
		r->foreign = 0;
	return e;
}

static const struct role *find_role(struct reader *r)
{
	const char *nearest = NULL;
	unsigned best = UINT_MAX;

	for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
		if (strcmp(roles[i].name, r->word[2]) == 0)
			return &roles[i];
		if (diag_nearer(r->word[2], roles[i].name, &best))
			nearest = roles[i].name;
	}
	if (nearest)
		word_error(r, 2, "unknown role \"%.60s\"; did you mean \"%s\"?", r->word[2],
			   nearest);
	else
		word_error(r, 2, "unknown role \"%.60s\"", r->word[2]);
	return NULL;
}

/* Rules do not tell a socket that sends from one that is connected. */
static void warn_udp(struct reader *r, const struct role *role)
{
	if (role->proto != IPPROTO_UDP || role->role != DMM_ROLE_CLIENT)
		return;
	if (!r->udp)
		r->udp = role;
	if (r->udp == role || r->udp_both)
		return;
	r->udp_both = true;
	diag_warn_at(&r->im->diags, &r->pos,
		     "%s is the same here as %s in lines above: of both, the first that matches "
		     "decides",
		     role->name, r->udp->name);
}

/* A rule of the block; takes match over. */
static int put_rule(struct reader *r, size_t block, const struct policy_pos *pos,
		    struct policy_match *match, const char *use)
{
	const char *program = r->block[block].program;
	struct dmm_policy *p = r->im->policy;
	size_t before = p->n_rules, *of = realloc(r->of, (before + 1) * sizeof(*of));
	int e;

	if (of)
		r->of = of;
	if (of && *program) {
		match->program = calloc(1, sizeof(*match->program));
		if (match->program)
			strcpy(match->program[match->n_program++], program);
	}
	if (!of || (*program && !match->program)) {
		struct dmm_rule none = {.match = *match};

		policy_rule_fini(&none);
		return -ENOMEM;
	}
	e = import_add_rule(r->im, pos, match, use);
	if (p->n_rules > before)
		of[before] = block;
	return e;
}

static int add_rule(struct reader *r, const struct role *role)
{
	struct dmm_rule rule = {
		.match = {.proto = role->proto, .roles = (dmm_u8)(1u << role->role)}};
	char use[DMM_NAME_LEN];
	int e;

	r->pos.column = (unsigned)(r->word[3] - r->line) + 1;
	e = read_tuple(r, role, r->word[3], &rule.match);
	r->pos.column = (unsigned)(r->word[1] - r->line) + 1;
	if (e == 0)
		e = import_stack(r->im, &r->pos, r->word[1], use);
	r->pos.column = 0;
	if (e == 0)
		warn_udp(r, role);
	if (e == 0)
		return put_rule(r, r->now, &r->pos, &rule.match, use);
	policy_rule_fini(&rule);
	return e;
}

/* The block that takes every program, if the current one is behind it. */
static const struct block *block_before(const struct reader *r)
{
	for (size_t i = 0; i < r->now; i++)
		if (!r->block[i].program[0])
			return &r->block[i];
	return NULL;
}

static int read_use(struct reader *r)
{
	const struct block *all;
	const struct role *role;

	if (r->foreign)
		return word_error(r, 0,
				  "not translated: it is only for what the application-id in line "
				  "%u names",
				  r->foreign);
	if (r->n != 4)
		return word_error(r, 0, "must be: use os|vma ROLE ADDRESS:PORT[:ADDRESS:PORT]");
	if (strcmp(r->word[1], "os") != 0 && strcmp(r->word[1], "vma") != 0)
		return word_error(r, 1, "transport \"%.60s\" has no equivalent; os and vma have",
				  r->word[1]);
	role = find_role(r);
	if (!role)
		return -EINVAL;
	if (!r->n_blocks && choose_block(r, "") < 0)
		return -ENOMEM;
	all = block_before(r);
	if (!all)
		return add_rule(r, role);
	if (all->line)
		diag_warn_at(
			&r->im->diags, &r->pos,
			"counts for nothing, as in libvma: application-id * * in line %u takes "
			"every program",
			all->line);
	else
		diag_warn_at(&r->im->diags, &r->pos,
			     "counts for nothing, as in libvma: the lines before every "
			     "application-id take every program");
	return 0;
}

static int read_log(struct reader *r)
{
	return word_error(r, 0, "settings of the log have no equivalent in a policy");
}

static const struct {
	const char *word;
	int (*read)(struct reader *r);
} statements[] = {
	{"application-id", read_application},
	{"use", read_use},
	{"log", read_log},
};

static int read_statement(struct reader *r)
{
	const char *nearest = NULL;
	unsigned best = UINT_MAX;

	for (size_t i = 0; i < ARRAY_SIZE(statements); i++) {
		if (strcmp(statements[i].word, r->word[0]) == 0)
			return statements[i].read(r);
		if (diag_nearer(r->word[0], statements[i].word, &best))
			nearest = statements[i].word;
	}
	if (nearest)
		return word_error(r, 0, "unknown statement \"%.60s\"; did you mean \"%s\"?",
				  r->word[0], nearest);
	return word_error(r, 0, "unknown statement \"%.60s\"; use, application-id are known",
			  r->word[0]);
}

static int read_line(struct reader *r, char *line, size_t len)
{
	char *rest = line;

	r->line = line;
	r->n = 0;
	r->pos.column = 0;
	if (strlen(line) < len)
		return diag_error_at(&r->im->diags, &r->pos, "the line has a NUL in it");
	line[strcspn(line, "#")] = '\0';
	while (rest && r->n < WORDS_MAX) {
		char *word = strsep(&rest, " \t\r");

		if (*word)
			r->word[r->n++] = word;
	}
	return r->n ? read_statement(r) : 0;
}

/* ---- the order ---- */

/* What a program's own rules leave is libvma's, not the next application-id's. */
static int put_rests(struct reader *r, const char *vma)
{
	size_t all = 0, rules = r->im->policy->n_rules;
	bool needed = false;
	int e = 0;

	while (all < r->n_blocks && r->block[all].program[0])
		all++;
	for (size_t i = 0; i < rules; i++)
		needed |= r->of[i] == all;
	for (size_t i = 0; needed && e != -ENOMEM && i < all; i++) {
		struct policy_match none = {0};
		struct policy_pos pos;

		import_pos(r->im, r->block[i].line, 0, &pos);
		e = put_rule(r, i, &pos, &none, vma);
	}
	return e;
}

/* Block after block, each in the order of the file. */
static int order_rules(struct reader *r)
{
	struct dmm_policy *p = r->im->policy;
	_cleanup_free_ size_t *next = calloc(r->n_blocks + 1, sizeof(*next));
	struct dmm_rule *list = calloc(p->n_rules + 1, sizeof(*list));

	if (!next || !list) {
		free(list);
		return -ENOMEM;
	}
	/* next[b]: the place of the next rule of block b. */
	for (size_t i = 0; i < p->n_rules; i++)
		next[r->of[i] + 1]++;
	for (size_t b = 1; b < r->n_blocks; b++)
		next[b] += next[b - 1];
	for (size_t i = 0; i < p->n_rules; i++)
		list[next[r->of[i]]++] = p->rules[i];
	free(p->rules);
	p->rules = list;
	return 0;
}

static int read_lines(struct reader *r, char *text, size_t len)
{
	int e;

	for (size_t at = 0; at < len;) {
		char *end = memchr(text + at, '\n', len - at);
		size_t n = end ? (size_t)(end - (text + at)) : len - at;

		text[at + n] = '\0';
		r->pos.line++;
		e = read_line(r, text + at, n);
		if (e == -ENOMEM)
			return e;
		at += n + 1;
	}
	return 0;
}

int import_vma(struct import *im, char *text, size_t len)
{
	struct policy_pos nowhere;
	struct reader r = {.im = im};
	int e;

	import_pos(im, 0, 0, &r.pos);
	e = read_lines(&r, text, len);
	import_pos(im, 0, 0, &nowhere);
	im->policy->n_def = 1;
	if (e == 0)
		e = import_stack(im, &nowhere, "vma", im->policy->def[0]);
	if (e == 0)
		e = put_rests(&r, im->policy->def[0]);
	if (e != -ENOMEM && order_rules(&r) < 0)
		e = -ENOMEM;
	free(r.block);
	free(r.of);
	return e;
}
