// SPDX-License-Identifier: Apache-2.0
/* What the formats have in common: names of stacks, rules, the YAML. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "policyd/diag.h"
#include "policyd/import.h"
#include "policyd/node.h"
#include "policyd/policy_keys.h"
#include "policyd/value.h"

static const char *const rd_kernel[] = {"nstack-kernel", "kernel", NULL};
static const char *const vma_kernel[] = {"os", NULL};

const struct import_format import_formats[] = {
	{"dmm-rd", "rd", rd_kernel,
	 "# ip_route is translated for connect(). FD.io DMM asks it for the address of bind() "
	 "too:\n"
	 "# for listeners add rules with role: server and local. Its default is in another file.\n",
	 import_rd},
	{"libvma", "vma", vma_kernel,
	 "# What no line matches is libvma's own, hence the default, and the last rule of a "
	 "program.\n",
	 import_vma},
};
const size_t import_n_formats = ARRAY_SIZE(import_formats);

const struct import_format *import_find_format(const char *name)
{
	for (size_t i = 0; i < import_n_formats; i++)
		if (strcmp(import_formats[i].name, name) == 0)
			return &import_formats[i];
	return NULL;
}

void import_pos(const struct import *im, unsigned line, unsigned column, struct policy_pos *ret)
{
	*ret = (struct policy_pos){.line = line, .column = column};
	snprintf(ret->file, sizeof(ret->file), "%s", im->file);
}

/* ---- stacks ---- */

int import_map_parse(const char *text, struct import_map *ret)
{
	/* The last one: names of ours have none. */
	const char *equals = strrchr(text, '=');

	if (!equals || equals == text || !value_is_name(equals + 1))
		return -EINVAL;
	*ret = (struct import_map){
		.from = text, .from_len = (size_t)(equals - text), .to = equals + 1};
	return 0;
}

static const char *map_find(struct import *im, const char *name)
{
	for (size_t i = 0; i < im->n_map; i++) {
		struct import_map *m = &im->map[i];

		if (strlen(name) == m->from_len && memcmp(name, m->from, m->from_len) == 0) {
			m->used = true;
			return m->to;
		}
	}
	return NULL;
}

/* A name of theirs that is to be a name of ours, said once. */
static int stack_undefined(struct import *im, const struct policy_pos *pos, const char *name)
{
	struct import_stack *list;

	for (size_t i = 0; i < im->n_stacks; i++)
		if (strcmp(im->stacks[i].name, name) == 0)
			return 0;
	list = realloc(im->stacks, (im->n_stacks + 1) * sizeof(*list));
	if (!list)
		return -ENOMEM;
	im->stacks = list;
	list[im->n_stacks] = (struct import_stack){.line = pos->line};
	strcpy(list[im->n_stacks++].name, name);
	diag_warn_at(&im->diags, pos,
		     "the stack \"%s\" has to be defined in stacks; --map %s=STACK names another",
		     name, name);
	return 0;
}

int import_stack(struct import *im, const struct policy_pos *pos, const char *name,
		 char ret[DMM_NAME_LEN])
{
	const char *to = map_find(im, name);
	int r;

	for (size_t i = 0; !to && im->format->kernel_names[i]; i++)
		if (strcmp(name, im->format->kernel_names[i]) == 0)
			to = "kernel";
	if (!to) {
		/* These mean something else here. */
		if (!value_is_name(name) || policy_reject(name) < DMM_REJECTS ||
		    strcmp(name, "kernel") == 0)
			return diag_error_at(&im->diags, pos,
					     "\"%.60s\" cannot be the name of a stack here; "
					     "--map NAME=STACK gives it another",
					     name);
		r = stack_undefined(im, pos, name);
		if (r < 0)
			return r;
		to = name;
	}
	snprintf(ret, DMM_NAME_LEN, "%s", to);
	return 0;
}

/* ---- rules ---- */

static void mask_host_bits(struct policy_prefix *p)
{
	for (unsigned i = p->plen; i < 128; i++)
		p->ip[i / 8] &= (dmm_u8) ~(0x80 >> (i % 8));
}

int import_add_prefix(struct import *im, const struct policy_pos *pos, const char *text,
		      struct policy_prefix **list, size_t *n)
{
	struct policy_prefix p = {0}, *grown;
	char buf[VALUE_STRLEN];
	unsigned plen;
	int r = addr_parse_prefix(text, p.ip, &plen);

	if (r < 0 && r != -ERANGE)
		return diag_error_at(&im->diags, pos, "\"%.60s\" is no address and no prefix",
				     text);
	p.plen = (dmm_u8)plen;
	if (r == -ERANGE) {
		mask_host_bits(&p);
		diag_warn_at(&im->diags, pos, "%.60s is taken as %s: it has host bits", text,
			     addr_format_prefix(p.ip, p.plen, buf, sizeof(buf)));
	}
	grown = realloc(*list, (*n + 1) * sizeof(**list));
	if (!grown)
		return -ENOMEM;
	grown[(*n)++] = p;
	*list = grown;
	return 0;
}

int import_add_rule(struct import *im, const struct policy_pos *pos, struct policy_match *match,
		    const char *use)
{
	struct dmm_rule rule = {
		.pos = *pos, .match = *match, .n_use = 1, .carrier = DMM_CARRIER_TCP};
	struct dmm_policy *p = im->policy;
	struct dmm_rule *list;

	*match = (struct policy_match){0};
	if (p->n_rules == POLICY_MAX_RULES) {
		policy_rule_fini(&rule);
		return diag_error_at(&im->diags, pos, "a rule too many; at most %d are possible",
				     POLICY_MAX_RULES);
	}
	/* Room doubles: at sizes that are powers of two it is used up. */
	list = p->rules;
	if ((p->n_rules & (p->n_rules - 1)) == 0)
		list = reallocarray(list, p->n_rules ? p->n_rules * 2 : 1, sizeof(*list));
	if (!list) {
		policy_rule_fini(&rule);
		return -ENOMEM;
	}
	snprintf(rule.use[0], sizeof(rule.use[0]), "%s", use);
	list[p->n_rules++] = rule;
	p->rules = list;
	return 0;
}

/* ---- all of it ---- */

int import_text(struct import *im, const struct import_format *format, const char *text, size_t len)
{
	static const char bom[] = "\xef\xbb\xbf";
	_cleanup_free_ char *copy = NULL;
	int r;

	im->format = format;
	im->policy = policy_new();
	if (!im->policy)
		return -ENOMEM;
	im->policy->n_def = 0;
	if (len > NODE_MAX_BYTES)
		return diag_error(&im->diags, im->file, 0, 0, "larger than %d bytes",
				  NODE_MAX_BYTES);
	if (len >= 3 && memcmp(text, bom, 3) == 0) {
		text += 3;
		len -= 3;
	}
	copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, text, len);
	copy[len] = '\0';
	r = format->read(im, copy, len);
	for (size_t i = 0; i < im->policy->n_rules; i++)
		snprintf(im->policy->rules[i].name, DMM_NAME_LEN, "%s-%zu", format->rule, i + 1);
	return r == 0 && im->diags.errors ? -EINVAL : r;
}

void import_fini(struct import *im)
{
	policy_free(im->policy);
	policy_diags_fini(&im->diags);
	free(im->stacks);
	*im = (struct import){0};
}

/* A comment must not end early, and YAML allows no odd bytes in it. */
static void print_comment(FILE *out, const char *text)
{
	for (; *text; text++)
		fputc(*text >= 0x20 && *text < 0x7f ? *text : '?', out);
}

int import_print(const struct import *im, FILE *out)
{
	const struct dmm_policy *p = im->policy;

	fputs("# From ", out);
	print_comment(out, im->file);
	fprintf(out, " by dmm-policy import --from %s%s.\n%s", im->format->name,
		im->diags.errors ? "; NOT ALL of it could be translated" : "", im->format->note);
	for (size_t i = 0; i < im->n_stacks; i++) {
		fprintf(out, "# To be defined in stacks: %s", im->stacks[i].name);
		if (im->stacks[i].line)
			fprintf(out, " (line %u)", im->stacks[i].line);
		fputc('\n', out);
	}
	for (size_t i = 0; i < p->n_rules; i++)
		fprintf(out, "# %s: line %u\n", p->rules[i].name, p->rules[i].pos.line);
	return policy_format(p, out);
}
