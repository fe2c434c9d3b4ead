// SPDX-License-Identifier: Apache-2.0
/* A rule and its match, as tables of their keys. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/diag.h"
#include "policyd/policy_read.h"
#include "policyd/value.h"
#include "policyd/words.h"

const char *const policy_role_words[] = {"client", "server", NULL};
const char *const policy_reject_words[] = {"refused", "unreachable", "permission", NULL};
const char *const policy_carrier_words[] = {"tcp", "splice", NULL};
static const char *const origin_words[] = {"operator", "nrd", NULL}; /* enum dmm_origin */
static const char *const proto_words[] = {"tcp", "udp", NULL};

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
	KEY_LIST("remote", key_read_prefixes, struct policy_match, remote, "PREFIX|SET…",
		 "the far address; 0.0.0.0/0 is any IPv4 address, ::/0 is no restriction",
		 KEY_SETS(struct policy_match, remote_set)),
	KEY_LIST("remote_port", key_read_ports, struct policy_match, remote_port, "PORT|SET…",
		 "the far port; ranges as 8000-8999",
		 KEY_SETS(struct policy_match, remote_port_set)),
	KEY_LIST("local", key_read_prefixes, struct policy_match, local, "PREFIX|SET…",
		 "the address that the socket is bound to",
		 KEY_SETS(struct policy_match, local_set)),
	KEY_LIST("local_port", key_read_ports, struct policy_match, local_port, "PORT|SET…",
		 "the port that the socket is bound to",
		 KEY_SETS(struct policy_match, local_port_set)),
	KEY_LIST("uid", key_read_uids, struct policy_match, uid, "USER…",
		 "who calls connect() or listen(): numbers, ranges as 1000-1999, users by name"),
	KEY_LIST("program", key_read_programs, struct policy_match, program, "PROGRAM…",
		 "the program's name as ps(1) shows it, at most 15 characters"),
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

static int read_congestion(const struct keys_at *at, const struct key *k, const struct node *v,
			   void *obj)
{
	struct dmm_rule *rule = obj;
	int r = key_read_index(at, k, v, obj);

	if (r == 0)
		rule->congestion++; /* the words begin after DMM_CONGESTION_NONE */
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
	 .read = policy_read_use,
	 .value = "STACK…",
	 .help = "stacks in order of preference, weights or auto; kernel and reject are built in",
	 .form = FORM_NAME,
	 .flags = KEY_MANY,
	 .max = DMM_MAX_USE,
	 .keys = policy_use_keys,
	 .n_keys = POLICY_USE_KEYS},
	{.name = "reject",
	 .read = read_reject,
	 .words = policy_reject_words,
	 .value = "refused, unreachable or permission",
	 .help = "in place of use: connect() fails with that",
	 .form = FORM_WORD},
	KEY_WORD("carrier", read_carrier, struct dmm_rule, carrier, policy_carrier_words,
		 "tcp or splice", "what moves the bytes to an instance; default tcp"),
	KEY_WORD("congestion", read_congestion, struct dmm_rule, congestion, words_congestion + 1,
		 "cubic, newreno, dctcp or bbr",
		 "the congestion control of what an instance carries, before that of its stack; "
		 "dctcp asks for ECN. Not for engine lwip"),
	KEY_STRING("strict", key_read_bool, struct dmm_rule, strict, "true or false",
		   "true: connect() fails when no stack of the list can serve"),
	KEY_STRING("disabled", key_read_bool, struct dmm_rule, disabled, "true or false",
		   "true: what matches stays on the kernel stack, as with `rule disable`"),
	KEY_STRING("capture", key_read_bool, struct dmm_rule, capture, "true or false",
		   "true: the same, for tcpdump to see it"),
	KEY_STRING(
		"telemetry", key_read_bool, struct dmm_rule, telemetry, "true or false",
		"true: its connecting TCP sockets are measured, as those of auto rules always are"),
	KEY_WORD("origin", key_read_index, struct dmm_rule, origin, origin_words, "operator or nrd",
		 "nrd: shared by hosts, as `show -j` tells; a file's are left out, etcd has them"),
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
	if (ret->nrd.objective)
		ret->telemetry = false; /* it is measured anyway */
	uses = keys_seen(mask, policy_rule_keys, POLICY_RULE_KEYS, "use");
	rejects = keys_seen(mask, policy_rule_keys, POLICY_RULE_KEYS, "reject");
	if (!uses && !rejects)
		r = keys_error(&at, v, "%s has no \"use\": name the stacks that it chooses",
			       object);
	if (uses && rejects)
		r = keys_error(&at, v, "%s has both \"use\" and \"reject\"", object);
	return r;
}
