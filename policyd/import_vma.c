// SPDX-License-Identifier: Apache-2.0
/*
 * libvma.conf: lines of words. libvma has a list of rules for each role, the first that matches
 * decides, and what none matches is libvma's own. The roles exclude each other but for udp_sender
 * and udp_connect, so one list in the order of the file decides the same.
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

#define WORDS_MAX 6 /* kept of a line; more than any statement has */

struct reader {
	struct import *im;
	struct policy_pos pos; /* of the line, then of the word */
	unsigned foreign;      /* line of the application-id that is not for every program; 0 */
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

static int read_application(struct reader *r)
{
	/* Whom the next lines are for is not known when this one cannot be read either. */
	r->foreign = r->pos.line;
	if (r->n != 3)
		return word_error(r, 0, "must be: application-id PROGRAM ID");
	if (strcmp(r->word[1], "*") == 0 && strcmp(r->word[2], "*") == 0) {
		r->foreign = 0;
		return 0;
	}
	return word_error(r, 1,
			  "what is for program %.60s, id %.60s alone has no equivalent: rules do "
			  "not know programs; make it a group and start the program by dmm-run",
			  r->word[1], r->word[2]);
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
		return import_add_rule(r->im, &r->pos, &rule.match, use);
	policy_rule_fini(&rule);
	return e;
}

static int read_use(struct reader *r)
{
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
	return role ? add_rule(r, role) : -EINVAL;
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

int import_vma(struct import *im, char *text, size_t len)
{
	struct policy_pos nowhere;
	struct reader r = {.im = im};
	int e;

	import_pos(im, 0, 0, &r.pos);
	for (size_t at = 0; at < len;) {
		char *end = memchr(text + at, '\n', len - at);
		size_t n = end ? (size_t)(end - (text + at)) : len - at;

		text[at + n] = '\0';
		r.pos.line++;
		e = read_line(&r, text + at, n);
		if (e == -ENOMEM)
			return e;
		at += n + 1;
	}
	import_pos(im, 0, 0, &nowhere);
	im->policy->n_def = 1;
	return import_stack(im, &nowhere, "vma", im->policy->def[0]);
}
