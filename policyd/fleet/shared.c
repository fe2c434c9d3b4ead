// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "policyd/diag.h"
#include "policyd/fleet/shared.h"
#include "policyd/policy_read.h"

/* ---- one document ---- */

struct selector {
	char (*name)[64];
	size_t n_name;
	char (*stack)[DMM_NAME_LEN];
	size_t n_stack;
	struct policy_prefix *address;
	size_t n_address;
	bool rdma;
};

struct document {
	struct selector hosts;
	struct dmm_policy *policy; /* where the rules go */
	struct policy_diags *diags;
};

/* Patterns of names: text where the language has no form for it. */
static int read_patterns(const struct keys_at *at, const struct key *k, const struct node *v,
			 void *obj)
{
	struct selector *s = obj;
	size_t room = v->type == NODE_LIST ? v->n : 1;
	const struct node *item;

	if (room == 0 || room > 256)
		return keys_error_of(at, k, v, "%zu patterns; 1 to 256 are possible", room);
	s->name = calloc(room, sizeof(*s->name));
	if (!s->name)
		return -ENOMEM;
	for (size_t i = 0; (item = keys_item(v, i)); i++) {
		if (item->type != NODE_SCALAR || !*item->value ||
		    strlen(item->value) >= sizeof(*s->name))
			return keys_error_of(at, k, item, "expected a name such as web-*");
		strcpy(s->name[s->n_name++], item->value);
	}
	return 0;
}

static const struct key selector_keys[] = {
	{.name = "name", .read = read_patterns, .value = "PATTERN…", .help = "of the host"},
	KEY_LIST("stack", key_read_names, struct selector, stack, "STACK…", "it has one of these"),
	KEY_LIST("address", key_read_prefixes, struct selector, address, "PREFIX…",
		 "it has an address in one of these"),
	KEY_STRING("rdma", key_read_bool, struct selector, rdma, "true", "it has an RDMA device"),
};

static int read_hosts(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj)
{
	struct document *d = obj;
	struct keys_at in = {.file = at->file, .diags = at->diags, .object = "hosts"};
	uint32_t mask;

	(void)k;
	return node_is_null(v) ? 0
			       : keys_read(&in, selector_keys, ARRAY_SIZE(selector_keys), v,
					   &d->hosts, &mask);
}

static int read_rules(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj)
{
	struct document *d = obj;
	struct dmm_policy *p = d->policy;
	struct dmm_rule *list;
	int r = 0;

	if (v->type != NODE_LIST)
		return keys_error_of(at, k, v, "expected a list of rules");
	if (v->n > SHARED_RULES)
		return keys_error_of(at, k, v, "%zu rules; at most %d are possible", v->n,
				     SHARED_RULES);
	list = reallocarray(p->rules, p->n_rules + v->n + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	p->rules = list;
	for (size_t i = 0; r == 0 && i < v->n; i++) {
		struct dmm_rule *rule = &p->rules[p->n_rules++];

		*rule = (struct dmm_rule){.origin = DMM_ORIGIN_NRD};
		r = policy_read_rule(at->file, at->diags, v->child[i], i + 1, rule);
		if (r == 0 && !rule->name[0])
			r = keys_error(at, v->child[i], "a shared rule needs a name");
		rule->origin = DMM_ORIGIN_NRD;
	}
	return r;
}

static int read_version(const struct keys_at *at, const struct key *k, const struct node *v,
			void *obj)
{
	(void)obj;
	if (v->type == NODE_SCALAR && strcmp(v->value, "1") == 0)
		return 0;
	return keys_error_of(at, k, v, "\"%.20s\"; this program knows version 1",
			     v->type == NODE_SCALAR ? v->value : "");
}

static const struct key document_keys[] = {
	{.name = "version", .read = read_version, .value = "1", .help = "of this form"},
	{.name = "hosts", .read = read_hosts, .value = "{…}", .help = "which it is for"},
	{.name = "rules", .read = read_rules, .value = "[…]", .help = "behind the operator's"},
};

static int document_read(struct document *d, const char *name, const char *text)
{
	char file[DMM_PATH_LEN];
	struct keys_at at = {.file = file, .diags = d->diags, .object = ""};
	struct node *root = NULL;
	uint32_t mask;
	int r;

	snprintf(file, sizeof(file), "etcd:%s", name);
	if (strlen(text) > SHARED_DOCUMENT_MAX)
		return diag_error(d->diags, file, 0, 0, "%zu bytes; at most %d are possible",
				  strlen(text), SHARED_DOCUMENT_MAX);
	r = node_parse(file, text, strlen(text), &root, d->diags);
	if (r < 0)
		return r;
	if (!root || root->type != NODE_MAP || !node_get(root, "version"))
		r = diag_error(d->diags, file, 1, 1, "it is no document: it needs a version");
	if (r == 0) /* first, as a newer one has other keys */
		r = read_version(&at, &document_keys[0], node_get(root, "version"), d);
	if (r == 0)
		r = keys_read(&at, document_keys, ARRAY_SIZE(document_keys), root, d, &mask);
	node_free(root);
	return r;
}

static void selector_fini(struct selector *s)
{
	free(s->name);
	free(s->stack);
	free(s->address);
	*s = (struct selector){0};
}

/* ---- which hosts ---- */

static bool selected(const struct selector *s, const struct host_facts *f)
{
	bool name = !s->n_name, stack = !s->n_stack, address = !s->n_address;

	for (size_t i = 0; i < s->n_name && !name; i++)
		name = fnmatch(s->name[i], f->name, 0) == 0;
	for (size_t i = 0; i < s->n_stack && !stack; i++)
		for (size_t j = 0; j < f->n_stack; j++)
			stack |= strcmp(s->stack[i], f->stack[j]) == 0;
	for (size_t i = 0; i < s->n_address && !address; i++)
		for (size_t j = 0; j < f->n_address; j++)
			address |= addr_in_prefix(f->address[j].ip, s->address[i].ip,
						  s->address[i].plen);
	return name && stack && address && (!s->rdma || f->n_rdma > 0);
}

/* ---- all of them ---- */

void shared_remove(struct dmm_policy *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_rules; i++) {
		if (p->rules[i].origin == DMM_ORIGIN_NRD)
			policy_rule_fini(&p->rules[i]);
		else
			p->rules[n++] = p->rules[i];
	}
	p->n_rules = n;
}

void shared_last(struct dmm_policy *p)
{
	struct dmm_rule *list = calloc(p->n_rules + 1, sizeof(*list));
	size_t n = 0;

	if (!list)
		return;
	for (unsigned shared = 0; shared < 2; shared++)
		for (size_t i = 0; i < p->n_rules; i++)
			if ((p->rules[i].origin == DMM_ORIGIN_NRD) == shared)
				list[n++] = p->rules[i];
	free(p->rules);
	p->rules = list;
}

/* Names are the operator's first: a shared rule that has one of them would speak for it. */
static int check_names(const struct dmm_policy *p, size_t first, struct policy_diags *diags)
{
	for (size_t i = first; i < p->n_rules; i++)
		for (size_t j = 0; j < first; j++)
			if (strcmp(p->rules[i].name, p->rules[j].name) == 0)
				return diag_error_at(diags, &p->rules[i].pos,
						     "rule \"%s\" is the operator's",
						     p->rules[i].name);
	if (p->n_rules - first > SHARED_RULES)
		return diag_error_at(diags, &p->rules[p->n_rules - 1].pos,
				     "%zu rules for this host; at most %d are possible",
				     p->n_rules - first, SHARED_RULES);
	return 0;
}

static int merge(struct dmm_policy *p, const struct texts *documents, const struct host_facts *f,
		 struct policy_diags *diags)
{
	size_t first;
	int r = 0;

	shared_remove(p);
	first = p->n_rules;
	for (size_t i = 0; r == 0 && i < documents->n; i++) {
		struct document d = {.policy = p, .diags = diags};
		size_t before = p->n_rules;

		r = document_read(&d, documents->list[i].name, documents->list[i].text);
		if (r == 0 && !selected(&d.hosts, f))
			while (p->n_rules > before)
				policy_rule_fini(&p->rules[--p->n_rules]);
		selector_fini(&d.hosts);
	}
	if (r == 0)
		r = check_names(p, first, diags);
	return r < 0 || p->n_rules == first ? r : policy_check(p, diags);
}

static void first_error(const struct policy_diags *diags, char ret[320])
{
	const struct policy_diag *d = NULL;

	for (size_t i = 0; i < diags->n && !d; i++)
		d = diags->list[i].error ? &diags->list[i] : NULL;
	if (d)
		snprintf(ret, 320, "%.64s:%u:%u: %.200s", d->pos.file, d->pos.line, d->pos.column,
			 d->text);
	else
		snprintf(ret, 320, "it has an error");
}

int shared_merge(struct dmm_policy *p, const struct texts *documents, const struct host_facts *f,
		 char reterr[320])
{
	struct policy_diags diags = {0};
	int r = merge(p, documents, f, &diags);

	reterr[0] = '\0';
	if (r == -EINVAL)
		first_error(&diags, reterr);
	policy_diags_fini(&diags);
	return r;
}

int shared_check(const char *name, const char *text, struct dmm_policy *ret,
		 struct policy_diags *diags)
{
	struct document d = {.policy = ret, .diags = diags};
	int r = document_read(&d, name, text);

	selector_fini(&d.hosts);
	return r;
}
