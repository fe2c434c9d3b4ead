// SPDX-License-Identifier: Apache-2.0
/*
 * The policy language as tables. A new key is a row here, a member in policy.h, and its treatment
 * in check, compile, eval and format.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/diag.h"
#include "policyd/policy_read.h"
#include "policyd/value.h"

/* ---- groups, stacks, sets ---- */

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

/* Add an item to a growing array. NULL: out of memory. */
static void *array_push(void *array, size_t *n, size_t size)
{
	void *list;
	char *item;

	memcpy(&list, array, sizeof(list));
	/* Room doubles: at sizes that are powers of two it is used up. */
	if ((*n & (*n - 1)) == 0) {
		list = reallocarray(list, *n ? *n * 2 : 1, size);
		if (!list)
			return NULL;
		memcpy(array, &list, sizeof(list));
	}
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

static const struct key set_prefix_key = KEY_LIST("items", key_read_prefixes, struct policy_set,
						  prefix, "PREFIX…", ""),
			set_ports_key = KEY_LIST("items", key_read_ports, struct policy_set, ports,
						 "PORT…", "");

/* For help and schema: one of the two. */
static const struct key policy_set_key = {
	.name = "NAME",
	.read = key_read_prefixes,
	.value = "PREFIX… or PORT…",
	.help = "the name begins with a letter or _; all prefixes or all ports",
	.form = FORM_SET,
	.flags = KEY_MANY,
};

/* One named entry of the mapping "groups", "stacks" or "sets". */
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

/* A set is of what its first item is. */
static int read_set(const struct keys_at *at, const struct node *v, struct policy_set *ret)
{
	const struct node *first = keys_item(v, 0);
	struct policy_ports ports;
	bool is_ports = first && first->type == NODE_SCALAR &&
			value_parse_ports(first->value, &ports) == 0;
	const struct key *k = is_ports ? &set_ports_key : &set_prefix_key;
	int r;

	if (v->type == NODE_LIST && v->n == 0)
		return keys_error(at, v, "%s is empty", at->object);
	r = k->read(at, k, v, ret);
	if (r == 0 && !ret->n_ports && !ret->n_prefix)
		r = keys_error_of(at, k, v, "::/0 is no restriction: it cannot be in a set");
	return r;
}

static int add_set(struct policy_builder *b, const struct keys_at *at, const struct node *key,
		   const struct node *v)
{
	struct dmm_policy *p = b->policy;
	struct policy_set *s;

	if (!value_is_set_name(key->value))
		return keys_error(at, key,
				  "\"%s\" reads as a number or an address: the name of a set "
				  "begins with a letter or _",
				  key->value);
	s = array_push(&p->sets, &p->n_sets, sizeof(*s));
	if (!s)
		return -ENOMEM;
	strcpy(s->name, key->value);
	pos_set(&s->pos, at->file, key);
	return read_set(at, v, s);
}

static int read_sets(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	return read_entries(at, k, v, obj, "set", k->max, add_set);
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
	if (p->n_rules + v->n > POLICY_MAX_RULES)
		return keys_error_of(at, k, v, "%zu rules; at most %d are possible",
				     p->n_rules + v->n, POLICY_MAX_RULES);
	for (size_t i = 0; i < v->n; i++) {
		struct dmm_rule *rule = array_push(&p->rules, &p->n_rules, sizeof(*rule));

		if (!rule)
			return -ENOMEM;
		r = policy_read_rule(at->file, at->diags, v->child[i], p->n_rules, rule);
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			err = r;
		else if (rule->origin == DMM_ORIGIN_NRD) /* it does not become the operator's */
			policy_rule_fini(&p->rules[--p->n_rules]);
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

	return r < 0 ? r : policy_read_stack_names(at, k, v, b->policy->def, &b->policy->n_def);
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
	return keys_read(&in, policy_daemon_keys, POLICY_DAEMON_KEYS, v, &b->policy->daemon, &mask);
}

/* Looked at before all else, by policy_read(). */
static int read_version(const struct keys_at *at, const struct key *k, const struct node *v,
			void *obj)
{
	const char *text = v->type == NODE_SCALAR ? v->value : "";
	dmm_u64 n;

	(void)obj;
	if (value_parse_number(text, UINT32_MAX, &n) < 0 || n == 0)
		return keys_error_of(at, k, v,
				     "\"%.60s\" is not a version of the language; it is %d", text,
				     POLICY_VERSION);
	if (n > POLICY_VERSION)
		return keys_error_of(at, k, v,
				     "the policy is written in version %llu of the language; this "
				     "program knows version %d: nothing of it is taken",
				     n, POLICY_VERSION);
	return 0;
}

static const struct key top_keys[] = {
	{.name = "version",
	 .read = read_version,
	 .value = "1",
	 .help = "of this language; a newer one is refused whole",
	 .form = FORM_VERSION},
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
	{.name = "sets",
	 .read = read_sets,
	 .value = "{NAME: …}",
	 .help = "prefixes, or ports, under a name that rules can have in their lists",
	 .form = FORM_NAMED_VALUES,
	 .flags = KEY_NULL,
	 .max = POLICY_MAX_SETS,
	 .keys = &policy_set_key,
	 .n_keys = 1},
	{.name = "rules",
	 .read = read_rules,
	 .value = "[…]",
	 .help = "in order: the first that matches decides",
	 .form = FORM_MAPS,
	 .flags = KEY_NULL,
	 .max = POLICY_MAX_RULES,
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
	 .keys = policy_daemon_keys,
	 .n_keys = POLICY_DAEMON_KEYS},
};

const struct policy_object policy_objects[] = {
	{"the file", top_keys, ARRAY_SIZE(top_keys)},
	{"a group", group_keys, ARRAY_SIZE(group_keys)},
	{"a stack", policy_stack_keys, POLICY_STACK_KEYS},
	{"port of a stack", policy_port_keys, POLICY_PORT_KEYS},
	{"sets", &policy_set_key, 1},
	{"a rule", policy_rule_keys, POLICY_RULE_KEYS},
	{"match of a rule", policy_match_keys, POLICY_MATCH_KEYS},
	{"use of a rule", policy_use_keys, POLICY_USE_KEYS},
	{"sla of a rule", policy_sla_keys, POLICY_SLA_KEYS},
	{"daemon", policy_daemon_keys, POLICY_DAEMON_KEYS},
	{"etcd of daemon", policy_etcd_keys, POLICY_ETCD_KEYS},
};
const size_t policy_n_objects = ARRAY_SIZE(policy_objects);

int policy_read(struct policy_builder *b, const char *file, const struct node *root)
{
	struct keys_at at = {.file = file, .diags = b->diags, .object = ""};
	const struct node *version = node_get(root, "version");
	uint32_t mask;
	int r = version ? read_version(&at, &top_keys[0], version, b) : 0;

	/* What a newer language has would only be called unknown. */
	if (r < 0)
		return r;
	return keys_read(&at, top_keys, ARRAY_SIZE(top_keys), root, b, &mask);
}
