// SPDX-License-Identifier: Apache-2.0
/* explain: why a socket would get what it would get, by what is in force. */
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/diag.h"
#include "policyd/explain.h"
#include "policyd/json.h"
#include "policyd/value.h"
#include "policyd/words.h"

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

static int take_uid(const struct dmm_class *c, const char *v, struct eval_socket *s)
{
	dmm_u64 n;
	int r = value_parse_number(v, EVAL_NO_UID - 1, &n);

	(void)c;
	if (r == 0)
		s->uid = (dmm_u32)n;
	return r;
}

static int take_program(const struct dmm_class *c, const char *v, struct eval_socket *s)
{
	(void)c;
	if (!*v || strlen(v) >= sizeof(s->program))
		return -EINVAL;
	memset(s->program, 0, sizeof(s->program));
	memcpy(s->program, v, strlen(v));
	return 0;
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
	{"group", take_group, "a group in force"},
	{"role", take_role, "client or server"},
	{"proto", take_proto, "tcp or udp"},
	{"remote", take_remote, "an address"},
	{"remote_port", take_remote_port, "a port"},
	{"local", take_local, "an address"},
	{"local_port", take_local_port, "a port"},
	{"uid", take_uid, "a number"},
	{"program", take_program, "a name of at most 15 bytes"},
};

const char *ctl_explain_key(size_t i)
{
	return i < ARRAY_SIZE(words) ? words[i].name : NULL;
}

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

		if (value_parse_endpoint(argv[i], &s->remote) == 0)
			continue; /* 10.0.0.9:443 */
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

/* ---- telling ---- */

static json_t *steps_json(const struct dmm_class *class, const struct explanation *e)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < e->n; i++) {
		const struct explain_step *s = &e->step[i];

		json_array_append_new(
			list, json_pack("{s:s, s:b, s:b, s:s?, s:o?}", "stack",
					class->stack[s->stack].name, "reached", s->reached, "taken",
					s->taken, "reason",
					s->reached && !s->taken ? words_reason[s->why_not] : NULL,
					"share", e->weighted ? json_real(s->share / 10.0) : NULL));
	}
	return list;
}

/* As `show` counts them: places that are free are none. */
static unsigned rule_number(const struct dmm_class *class, unsigned at)
{
	unsigned n = 1;

	for (unsigned i = 0; i < at; i++)
		n += class_live(class, i);
	return n;
}

json_t *ctl_explanation_json(const struct dmm_class *class, dmm_u64 generation,
			     const struct explanation *e)
{
	const struct dmm_rule_rec *rec = e->rule < class->hdr.rules ? &class->rule[e->rule] : NULL;
	char file[DMM_PATH_LEN];
	json_t *o = json_pack("{s:s?, s:o, s:b, s:I, s:b, s:{s:s, s:s, s:b}, s:s?}", "rule",
			      rec ? rec->name : NULL, "use", steps_json(class, e), "strict",
			      rec ? rec->strict : class->hdr.strict, "generation",
			      (json_int_t)generation, "group_off", e->group_off, "result", "stack",
			      class->stack[e->stack].name, "reason", words_reason[e->reason],
			      "refused", e->refused, "congestion", explain_congestion(class, e));

	if (!rec)
		return o;
	json_object_set_new(o, "number", json_integer(rule_number(class, e->rule)));
	json_object_set_new(o, "disabled", json_boolean(rec->keep & DMM_KEEP_OFF));
	json_object_set_new(o, "capture", json_boolean(rec->keep & DMM_KEEP_CAPTURE));
	class_file(class, e->rule, file);
	json_object_set_new(o, "file", file[0] ? json_text(file, sizeof(file)) : json_null());
	json_object_set_new(o, "line", file[0] ? json_integer(rec->line) : json_null());
	return o;
}

void ctl_explanation_print(const struct dmm_class *class, dmm_u64 generation,
			   const struct explanation *e)
{
	const struct dmm_rule_rec *rec = e->rule < class->hdr.rules ? &class->rule[e->rule] : NULL;
	char file[DMM_PATH_LEN];
	bool kept; /* on the kernel stack, whatever the rule says */

	if (rec && class_file(class, e->rule, file) == 0)
		printf("rule %s (number %u, %s:%u)", rec->name, rule_number(class, e->rule), file,
		       rec->line);
	else if (rec)
		printf("rule %s (number %u)", rec->name, rule_number(class, e->rule));
	else
		printf("no rule matches: the default");
	printf("%s%s%s, generation %llu\n", rec && rec->keep & DMM_KEEP_OFF ? ", disabled" : "",
	       rec && rec->keep & DMM_KEEP_CAPTURE ? ", capture on" : "",
	       e->group_off ? ", group is off" : "", generation);
	kept = e->n && !e->step[0].reached;
	for (unsigned i = 0; i < e->n; i++) {
		const struct explain_step *s = &e->step[i];

		printf("  %u. %s", i + 1, class->stack[s->stack].name);
		if (e->weighted)
			printf(" (first for %u.%u %%)", s->share / 10, s->share % 10);
		fputs(": ", stdout);
		if (!s->reached && kept)
			puts("not asked");
		else if (!s->reached)
			puts("not asked, an earlier one takes the socket");
		else if (s->taken)
			puts("takes it");
		else
			printf("no, %s: %s\n", words_reason[s->why_not],
			       explain_reason(s->why_not));
	}
	if (e->refused)
		printf("connect() fails, reason %s\n", words_reason[e->reason]);
	else
		printf("stack %s, reason %s: %s\n", class->stack[e->stack].name,
		       words_reason[e->reason], explain_reason(e->reason));
	if (!e->refused && explain_congestion(class, e))
		printf("congestion control %s\n", explain_congestion(class, e));
}

static dmm_u64 own_netns(void)
{
	_cleanup_close_ int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	dmm_u64 cookie = 0;
	socklen_t len = sizeof(cookie);

	if (s >= 0)
		getsockopt(s, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len);
	return cookie;
}

/* A socket that might be: what --group and --proto and the words say of it. */
static int explain_words(const struct ctl *c, const struct ctl_state *s, int argc, char **argv)
{
	struct eval_socket socket = {.proto = IPPROTO_TCP, .uid = EVAL_NO_UID};
	struct explanation e;
	int r = CTL_OK;

	if (c->group)
		r = take_word(s->class, "group", 5, c->group, &socket);
	if (r == CTL_OK && c->proto)
		r = take_word(s->class, "proto", 5, c->proto, &socket);
	if (r == CTL_OK)
		r = take_words(s->class, argc, argv, &socket);
	if (r != CTL_OK)
		return r;
	explain_socket(&s->tree, s->class, &socket, 0, own_netns(), &e);
	if (c->given & CTL_JSON)
		return ctl_print_json(c, ctl_explanation_json(s->class, s->generation, &e));
	ctl_explanation_print(s->class, s->generation, &e);
	return CTL_OK;
}

int ctl_explain(const struct ctl *c, int argc, char **argv)
{
	bool live = c->given & (CTL_PID | CTL_FD);
	struct ctl_state s;
	int r;

	if (live && (argc > 0 || (c->given & (CTL_GROUP | CTL_PROTO)) || !(c->given & CTL_PID))) {
		fputs("dmm-policy: explain takes --pid N [--fd M], or what a socket might be\n",
		      stderr);
		return CTL_USAGE;
	}
	r = ctl_state_open(c, &s);
	if (r != CTL_OK)
		return r;
	r = live ? ctl_explain_live(c, &s) : explain_words(c, &s, argc, argv);
	ctl_state_close(&s);
	return r;
}
