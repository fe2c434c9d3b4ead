// SPDX-License-Identifier: Apache-2.0
/* explain: the classifier in userspace, over what is in force. */
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/diag.h"
#include "policyd/value.h"

static int take_group(const struct dmm_class *c, const char *v, struct eval_socket *s)
{
	int id = class_group(c, v);

	if (id < 0)
		return -EINVAL;
	s->group = (dmm_u8)id;
	return 0;
}

static int take_role(const struct dmm_class *c, const char *v, struct eval_socket *s)
{
	(void)c;
	s->role = strcmp(v, "server") == 0 ? DMM_ROLE_SERVER : DMM_ROLE_CLIENT;
	return strcmp(v, "server") == 0 || strcmp(v, "client") == 0 ? 0 : -EINVAL;
}

static int take_proto(const struct dmm_class *c, const char *v, struct eval_socket *s)
{
	(void)c;
	s->proto = strcmp(v, "udp") == 0 ? IPPROTO_UDP : IPPROTO_TCP;
	return strcmp(v, "udp") == 0 || strcmp(v, "tcp") == 0 ? 0 : -EINVAL;
}

static int take_remote(const struct dmm_class *c, const char *v, struct eval_socket *s)
{
	(void)c;
	return addr_parse_ip(v, s->remote.ip);
}

static int take_local(const struct dmm_class *c, const char *v, struct eval_socket *s)
{
	(void)c;
	return addr_parse_ip(v, s->local.ip);
}

static int take_port(const char *v, dmm_u16 *ret)
{
	dmm_u64 n;
	int r = value_parse_number(v, 65535, &n);

	if (r == 0)
		*ret = (dmm_u16)n;
	return r;
}

static int take_remote_port(const struct dmm_class *c, const char *v, struct eval_socket *s)
{
	(void)c;
	return take_port(v, &s->remote.port);
}

static int take_local_port(const struct dmm_class *c, const char *v, struct eval_socket *s)
{
	(void)c;
	return take_port(v, &s->local.port);
}

static const struct {
	const char *name;
	int (*take)(const struct dmm_class *c, const char *v, struct eval_socket *s);
	const char *value;
} words[] = {
	{"group", take_group, "a group in force"},   {"role", take_role, "client or server"},
	{"proto", take_proto, "tcp or udp"},	     {"remote", take_remote, "an address"},
	{"remote_port", take_remote_port, "a port"}, {"local", take_local, "an address"},
	{"local_port", take_local_port, "a port"},
};

static int take_word(const struct dmm_class *c, const char *key, size_t len, const char *value,
		     struct eval_socket *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strlen(words[i].name) != len || strncmp(words[i].name, key, len) != 0)
			continue;
		if (value && words[i].take(c, value, s) == 0)
			return CTL_OK;
		fprintf(stderr, "dmm-policy: %s: expected %s, found \"%s\"\n", words[i].name,
			words[i].value, value ? value : "");
		return CTL_USAGE;
	}
	fprintf(stderr, "dmm-policy: unknown word \"%.*s\"; known: ", (int)len, key);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		fprintf(stderr, "%s%s", i ? ", " : "", words[i].name);
	fputc('\n', stderr);
	return CTL_USAGE;
}

static int take_words(const struct dmm_class *c, int argc, char **argv, struct eval_socket *s)
{
	int r = CTL_OK;

	for (int i = 0; r == CTL_OK && i < argc; i++) {
		const char *equals = strchr(argv[i], '=');

		if (equals) {
			r = take_word(c, argv[i], (size_t)(equals - argv[i]), equals + 1, s);
		} else {
			r = take_word(c, argv[i], strlen(argv[i]),
				      i + 1 < argc ? argv[i + 1] : NULL, s);
			i++;
		}
	}
	return r;
}

static int explain(const struct ctl *c, struct ctl_state *s, unsigned rule)
{
	const struct dmm_class *class = s->class;
	const struct dmm_rule_rec *rec = rule < DMM_MAX_RULES ? &class->rule[rule] : NULL;
	const dmm_u8 *use = rec ? rec->use : class->hdr.use;
	unsigned n = rec ? rec->n_use : class->hdr.n_use;
	json_t *list = json_array();

	if (!(c->given & CTL_JSON)) {
		if (rec && rec->file[0])
			printf("rule %s (number %u, %s:%u)\n", rec->name, rule + 1, rec->file,
			       rec->line);
		else if (rec)
			printf("rule %s (number %u)\n", rec->name, rule + 1);
		else
			puts("no rule matches: the default");
	}
	for (unsigned i = 0; i < n; i++) {
		const struct dmm_stack_rec *st = &class->stack[use[i] % DMM_MAX_STACKS];
		bool up = st->kind != DMM_KIND_USERSPACE || maps_stack_up(&s->tree, use[i]);

		if (!(c->given & CTL_JSON))
			printf("  %u. %s%s\n", i + 1, st->name, up ? "" : ", down now");
		json_array_append_new(list, json_pack("{s:s, s:b}", "stack", st->name, "up", up));
	}
	if (c->given & CTL_JSON)
		return ctl_print_json(c, json_pack("{s:s?, s:o, s:b}", "rule",
						   rec ? rec->name : NULL, "use", list, "strict",
						   rec ? rec->strict : class->hdr.strict));
	json_decref(list);
	if (rec && rec->strict)
		puts("  then connect() fails: the rule is strict");
	return CTL_OK;
}

int ctl_explain(const struct ctl *c, int argc, char **argv)
{
	struct eval_socket socket = {.proto = IPPROTO_TCP};
	struct ctl_state s;
	int r = ctl_state_open(c, &s);

	if (r != CTL_OK)
		return r;
	r = take_words(s.class, argc, argv, &socket);
	if (r == CTL_OK)
		r = explain(c, &s, eval_rule(s.class, &socket));
	ctl_state_close(&s);
	return r;
}
