// SPDX-License-Identifier: Apache-2.0
/*
 * The policy language as tables. A new key is a row here, a member in policy.h, and its treatment
 * in check, compile, eval and format.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/diag.h"
#include "policyd/policy_read.h"
#include "policyd/value.h"

const char *const policy_role_words[] = {"client", "server", NULL};
const char *const policy_reject_words[] = {"refused", "unreachable", "permission", NULL};
const char *const policy_carrier_words[] = {"tcp", "splice", NULL};
static const char *const proto_words[] = {"tcp", "udp", NULL};

/* ---- rules ---- */

static int read_roles(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj)
{
	struct policy_match *m = obj;
	int r = key_read_bits(at, k, v, obj);

	if (m->roles == (1u << DMM_ROLES) - 1)
		m->roles = 0;
	return r;
}

/* tcp and udp are all there are: both is any. */
static int read_proto(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj)
{
	static const dmm_u8 protos[] = {0, IPPROTO_TCP, IPPROTO_UDP, 0};
	struct policy_match *m = obj;
	int r = key_read_bits(at, k, v, obj);

	m->proto = protos[m->proto & 3];
	return r;
}

const struct key policy_match_keys[POLICY_MATCH_KEYS] = {
	KEY_LIST("group", key_read_names, struct policy_match, group, "GROUP…",
		 "the application's group"),
	KEY_WORD("role", read_roles, struct policy_match, roles, policy_role_words,
		 "client or server", "client: it calls connect(); server: listen()",
		 .flags = KEY_MANY),
	KEY_WORD("proto", read_proto, struct policy_match, proto, proto_words, "tcp or udp",
		 "the transport protocol", .flags = KEY_MANY),
	KEY_LIST("remote", key_read_prefixes, struct policy_match, remote, "PREFIX…",
		 "the far address; 0.0.0.0/0 is any IPv4 address, ::/0 is no restriction"),
	KEY_LIST("remote_port", key_read_ports, struct policy_match, remote_port, "PORT…",
		 "the far port; ranges as 8000-8999"),
	KEY_LIST("local", key_read_prefixes, struct policy_match, local, "PREFIX…",
		 "the address that the socket is bound to"),
	KEY_LIST("local_port", key_read_ports, struct policy_match, local_port, "PORT…",
		 "the port that the socket is bound to"),
};

static int read_match(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj)
{
	struct dmm_rule *rule = obj;
	char object[DMM_NAME_LEN + 40];
	struct keys_at in = {.file = at->file, .diags = at->diags, .object = object};
	uint32_t mask;

	(void)k;
	if (node_is_null(v))
		return 0;
	snprintf(object, sizeof(object), "match of %s", at->object);
	return keys_read(&in, policy_match_keys, POLICY_MATCH_KEYS, v, &rule->match, &mask);
}

static int read_stack_names(const struct keys_at *at, const struct key *k, const struct node *v,
			    char (*ret)[DMM_NAME_LEN], unsigned *ret_n)
{
	struct {
		char (*name)[DMM_NAME_LEN];
		size_t n;
	} list = {0};
	struct key row = *k;
	int r;

	row.offset = 0;
	row.size = DMM_NAME_LEN;
	row.n_offset = sizeof(list.name);
	r = key_read_names(at, &row, v, &list);
	if (r == 0 && list.n > DMM_MAX_USE)
		r = keys_error_of(at, k, v, "%zu stacks; at most %d are possible", list.n,
				  DMM_MAX_USE);
	if (r == 0) {
		memcpy(ret, list.name, list.n * DMM_NAME_LEN);
		*ret_n = (unsigned)list.n;
	}
	free(list.name);
	return r;
}

static int read_use(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	struct dmm_rule *rule = obj;

	return read_stack_names(at, k, v, rule->use, &rule->n_use);
}

static int read_reject(const struct keys_at *at, const struct key *k, const struct node *v,
		       void *obj)
{
	struct dmm_rule *rule = obj;
	struct {
		dmm_u8 index;
	} word = {0};
	struct key row = *k;
	int r;

	row.offset = 0;
	row.size = sizeof(word.index);
	r = key_read_index(at, &row, v, &word);
	if (r == 0) {
		strcpy(rule->use[0], policy_reject_names[word.index % DMM_REJECTS]);
		rule->n_use = 1;
	}
	return r;
}

static int read_carrier(const struct keys_at *at, const struct key *k, const struct node *v,
			void *obj)
{
	struct dmm_rule *rule = obj;
	int r = key_read_index(at, k, v, obj);

	rule->carrier = rule->carrier ? DMM_CARRIER_SPLICE : DMM_CARRIER_TCP;
	return r;
}

const struct key policy_rule_keys[POLICY_RULE_KEYS] = {
	KEY_STRING("name", key_read_name, struct dmm_rule, name, "NAME",
		   "unique; rule-N when it is left out"),
	{.name = "match",
	 .read = read_match,
	 .value = "{…}",
	 .help = "what a socket must be; all keys must agree, of a list one item",
	 .form = FORM_MAP,
	 .flags = KEY_NULL,
	 .keys = policy_match_keys,
	 .n_keys = POLICY_MATCH_KEYS},
	{.name = "use",
	 .read = read_use,
	 .value = "STACK…",
	 .help = "stacks in order of preference; kernel and reject are built in",
	 .form = FORM_NAME,
	 .flags = KEY_MANY,
	 .max = DMM_MAX_USE},
	{.name = "reject",
	 .read = read_reject,
	 .words = policy_reject_words,
	 .value = "refused, unreachable or permission",
	 .help = "in place of use: connect() fails with that",
	 .form = FORM_WORD},
	KEY_WORD("carrier", read_carrier, struct dmm_rule, carrier, policy_carrier_words,
		 "tcp or splice", "what moves the bytes to an instance; default tcp"),
	KEY_STRING("strict", key_read_bool, struct dmm_rule, strict, "true or false",
		   "true: connect() fails when no stack of the list can serve"),
	KEY_STRING("disabled", key_read_bool, struct dmm_rule, disabled, "true or false",
		   "true: what matches stays on the kernel stack, as with `rule disable`"),
};

int policy_read_rule(const char *file, struct policy_diags *diags, const struct node *v,
		     size_t number, struct dmm_rule *ret)
{
	const struct node *name = node_get(v, "name");
	char object[DMM_NAME_LEN + 20];
	struct keys_at at = {.file = file, .diags = diags, .object = object};
	bool uses, rejects;
	uint32_t mask;
	int r;

	*ret = (struct dmm_rule){.carrier = DMM_CARRIER_TCP};
	snprintf(ret->pos.file, sizeof(ret->pos.file), "%s", file);
	ret->pos.line = v->line;
	ret->pos.column = v->column;
	if (name && name->type == NODE_SCALAR && value_is_name(name->value))
		snprintf(object, sizeof(object), "rule \"%s\"", name->value);
	else
		snprintf(object, sizeof(object), "rule %zu", number);
	r = keys_read(&at, policy_rule_keys, POLICY_RULE_KEYS, v, ret, &mask);
	if (v->type != NODE_MAP || r == -ENOMEM)
		return r;
	uses = keys_seen(mask, policy_rule_keys, POLICY_RULE_KEYS, "use");
	rejects = keys_seen(mask, policy_rule_keys, POLICY_RULE_KEYS, "reject");
	if (!uses && !rejects)
		r = keys_error(&at, v, "%s has no \"use\": name the stacks that it chooses",
			       object);
	if (uses && rejects)
		r = keys_error(&at, v, "%s has both \"use\" and \"reject\"", object);
	return r;
}

/* ---- groups, daemon, the whole ---- */

static const struct key group_keys[] = {
	KEY_STRING("cgroup", key_read_cgroup, struct policy_group, cgroup, "PATH",
		   "below the mount of cgroup2; default dmm/NAME"),
};

static int read_group(const struct keys_at *at, const struct node *v, struct policy_group *ret)
{
	uint32_t mask;
	int r = 0;

	if (!node_is_null(v))
		r = keys_read(at, group_keys, ARRAY_SIZE(group_keys), v, ret, &mask);
	if (!ret->cgroup[0])
		snprintf(ret->cgroup, sizeof(ret->cgroup), "dmm/%s", ret->name);
	return r;
}

static int read_http(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	struct policy_daemon *d = obj;
	struct dmm_addr addr;
	int r = key_read_text(at, k, v, obj);

	if (r == 0 && value_parse_endpoint(d->http, &addr) < 0)
		return keys_error_of(at, k, v, "\"%s\" is not ADDRESS:PORT such as 127.0.0.1:9464",
				     d->http);
	return r;
}

static const struct key daemon_keys[] = {
	KEY_STRING("http", read_http, struct policy_daemon, http, "ADDRESS:PORT",
		   "serve the API and the metrics there too; default: not", .form = FORM_ENDPOINT),
	KEY_STRING("socket", key_read_text, struct policy_daemon, socket, "PATH",
		   "the Unix socket; default /run/dmm/policyd.sock"),
};

/* Add an item to a growing array. NULL: out of memory. */
static void *array_push(void *array, size_t *n, size_t size)
{
	void *list;
	char *item;

	memcpy(&list, array, sizeof(list));
	list = realloc(list, (*n + 1) * size);
	if (!list)
		return NULL;
	memcpy(array, &list, sizeof(list));
	item = (char *)list + (*n)++ * size;
	memset(item, 0, size);
	return item;
}

static void pos_set(struct policy_pos *pos, const char *file, const struct node *n)
{
	snprintf(pos->file, sizeof(pos->file), "%s", file);
	pos->line = n->line;
	pos->column = n->column;
}

/* One named entry of the mapping "groups" or "stacks". */
typedef int (*entry_fn)(struct policy_builder *b, const struct keys_at *at, const struct node *key,
			const struct node *v);

static int read_entries(const struct keys_at *at, const struct key *k, const struct node *v,
			struct policy_builder *b, const char *what, size_t max, entry_fn fn)
{
	int err = 0, r;

	if (node_is_null(v))
		return 0;
	if (v->type != NODE_MAP)
		return keys_error_of(at, k, v, "expected a mapping of names");
	if (v->n / 2 > max)
		return keys_error_of(at, k, v, "%zu entries; at most %zu are possible", v->n / 2,
				     max);
	for (size_t i = 0; i + 1 < v->n; i += 2) {
		const struct node *key = v->child[i];
		char object[DMM_NAME_LEN + 20];
		struct keys_at in = {.file = at->file, .diags = at->diags, .object = object};

		snprintf(object, sizeof(object), "%s \"%.31s\"", what, key->value);
		if (!value_is_name(key->value)) {
			err = keys_error(at, key,
					 "\"%.60s\" is not a name for a %s (letters, "
					 "digits, _ - . and at most %d characters)",
					 key->value, what, DMM_NAME_LEN - 1);
			continue;
		}
		r = fn(b, &in, key, v->child[i + 1]);
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			err = r;
	}
	return err;
}

static int add_group(struct policy_builder *b, const struct keys_at *at, const struct node *key,
		     const struct node *v)
{
	struct dmm_policy *p = b->policy;
	struct policy_group *g = array_push(&p->groups, &p->n_groups, sizeof(*g));

	if (!g)
		return -ENOMEM;
	strcpy(g->name, key->value);
	pos_set(&g->pos, at->file, key);
	return read_group(at, v, g);
}

static int add_stack(struct policy_builder *b, const struct keys_at *at, const struct node *key,
		     const struct node *v)
{
	struct dmm_policy *p = b->policy;
	struct policy_stack *s = array_push(&p->stacks, &p->n_stacks, sizeof(*s));

	if (!s)
		return -ENOMEM;
	strcpy(s->rec.name, key->value);
	pos_set(&s->pos, at->file, key);
	return policy_read_stack(at, v, s);
}

static int read_groups(const struct keys_at *at, const struct key *k, const struct node *v,
		       void *obj)
{
	return read_entries(at, k, v, obj, "group", k->max, add_group);
}

static int read_stacks(const struct keys_at *at, const struct key *k, const struct node *v,
		       void *obj)
{
	return read_entries(at, k, v, obj, "stack", k->max, add_stack);
}

static int read_rules(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj)
{
	struct policy_builder *b = obj;
	struct dmm_policy *p = b->policy;
	int err = 0, r;

	if (node_is_null(v))
		return 0;
	if (v->type != NODE_LIST)
		return keys_error_of(at, k, v, "expected a list of rules");
	if (p->n_rules + v->n > DMM_MAX_RULES)
		return keys_error_of(at, k, v, "%zu rules; at most %d are possible",
				     p->n_rules + v->n, DMM_MAX_RULES);
	for (size_t i = 0; i < v->n; i++) {
		struct dmm_rule *rule = array_push(&p->rules, &p->n_rules, sizeof(*rule));

		if (!rule)
			return -ENOMEM;
		r = policy_read_rule(at->file, at->diags, v->child[i], p->n_rules, rule);
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			err = r;
	}
	return err;
}

/* A setting that only one of several files may make. */
static int only_once(const struct keys_at *at, const struct key *k, const struct node *v,
		     struct policy_pos *first)
{
	if (first->line)
		return keys_error_of(at, k, v, "set already in %s, line %u", first->file,
				     first->line);
	pos_set(first, at->file, v);
	return 0;
}

static int read_default(const struct keys_at *at, const struct key *k, const struct node *v,
			void *obj)
{
	struct policy_builder *b = obj;
	int r = only_once(at, k, v, &b->def);

	return r < 0 ? r : read_stack_names(at, k, v, b->policy->def, &b->policy->n_def);
}

static int read_daemon(const struct keys_at *at, const struct key *k, const struct node *v,
		       void *obj)
{
	struct policy_builder *b = obj;
	struct keys_at in = {.file = at->file, .diags = at->diags, .object = "daemon"};
	uint32_t mask;
	int r = only_once(at, k, v, &b->daemon);

	if (r < 0 || node_is_null(v))
		return r;
	return keys_read(&in, daemon_keys, ARRAY_SIZE(daemon_keys), v, &b->policy->daemon, &mask);
}

static const struct key top_keys[] = {
	{.name = "groups",
	 .read = read_groups,
	 .value = "{NAME: …}",
	 .help = "managed cgroups",
	 .form = FORM_NAMED,
	 .flags = KEY_NULL | KEY_NULLS,
	 .max = DMM_MAX_GROUPS,
	 .keys = group_keys,
	 .n_keys = ARRAY_SIZE(group_keys)},
	{.name = "stacks",
	 .read = read_stacks,
	 .value = "{NAME: …}",
	 .help = "ways to carry a socket",
	 .form = FORM_NAMED,
	 .flags = KEY_NULL,
	 .max = DMM_MAX_STACKS,
	 .keys = policy_stack_keys,
	 .n_keys = POLICY_STACK_KEYS},
	{.name = "rules",
	 .read = read_rules,
	 .value = "[…]",
	 .help = "in order: the first that matches decides",
	 .form = FORM_MAPS,
	 .flags = KEY_NULL,
	 .max = DMM_MAX_RULES,
	 .keys = policy_rule_keys,
	 .n_keys = POLICY_RULE_KEYS},
	{.name = "default",
	 .read = read_default,
	 .value = "STACK…",
	 .help = "where no rule matches; default kernel",
	 .form = FORM_NAME,
	 .flags = KEY_MANY,
	 .max = DMM_MAX_USE},
	{.name = "daemon",
	 .read = read_daemon,
	 .value = "{…}",
	 .help = "settings of dmm-policyd itself",
	 .form = FORM_MAP,
	 .flags = KEY_NULL,
	 .keys = daemon_keys,
	 .n_keys = ARRAY_SIZE(daemon_keys)},
};

const struct policy_object policy_objects[] = {
	{"the file", top_keys, ARRAY_SIZE(top_keys)},
	{"a group", group_keys, ARRAY_SIZE(group_keys)},
	{"a stack", policy_stack_keys, POLICY_STACK_KEYS},
	{"port of a stack", policy_port_keys, POLICY_PORT_KEYS},
	{"a rule", policy_rule_keys, POLICY_RULE_KEYS},
	{"match of a rule", policy_match_keys, POLICY_MATCH_KEYS},
	{"daemon", daemon_keys, ARRAY_SIZE(daemon_keys)},
};
const size_t policy_n_objects = ARRAY_SIZE(policy_objects);

int policy_read(struct policy_builder *b, const char *file, const struct node *root)
{
	struct keys_at at = {.file = file, .diags = b->diags, .object = ""};
	uint32_t mask;

	return keys_read(&at, top_keys, ARRAY_SIZE(top_keys), root, b, &mask);
}
