// SPDX-License-Identifier: Apache-2.0
/* nrd status, nrd why, nrd history: what the daemon's nRD decided, and what for. Only the daemon
 * knows. */
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/nrd/nrd.h"
#include "policyd/table.h"

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static void print_bound(const json_t *v, const char *key)
{
	const json_t *n = json_object_get(v, key);

	if (json_is_number(n))
		printf("%.0f", json_number_value(n));
	else
		printf("unknown");
}

static void print_stack(const json_t *s)
{
	const json_t *latency = json_object_get(s, "latency_us");
	json_int_t n = json_integer_value(json_object_get(s, "connections"));
	double banned = json_number_value(json_object_get(s, "banned_s"));

	printf("  %s: %.1f %% of new connections; ", text_of(s, "name"),
	       100 * json_number_value(json_object_get(s, "share")));
	if (n == 0) {
		printf("nothing known");
	} else {
		printf("%s ", text_of(s, "measured"));
		print_bound(latency, "estimate");
		printf(" us (");
		print_bound(latency, "low");
		printf(" to ");
		print_bound(latency, "high");
		printf(") of %lld connections, %lld failed", (long long)n,
		       (long long)json_integer_value(json_object_get(s, "failed")));
	}
	if (json_is_false(json_object_get(s, "carrier")))
		printf("; no carrier");
	if (banned > 0)
		printf("; not tried for %.0f s", banned);
	putchar('\n');
}

static void print_why(const json_t *o)
{
	const json_t *last = json_object_get(o, "last"), *s;
	char age[TABLE_TEXT];
	size_t i;

	printf("rule %s, %s%s: %s, stack %s in use", text_of(o, "rule"),
	       json_is_string(json_object_get(o, "remote")) ? "remote " : "all remotes",
	       text_of(o, "remote"), text_of(o, "phase"), text_of(o, "in_use"));
	if (*text_of(o, "beside"))
		printf(" beside %s", text_of(o, "beside"));
	printf(", objective %s\n", text_of(o, "objective"));
	json_array_foreach (json_object_get(o, "stacks"), i, s)
		print_stack(s);
	if (json_is_object(last))
		printf("  %s ago: %s\n",
		       text_age((uint64_t)(1e9 * json_number_value(json_object_get(last, "age_s"))),
				age),
		       text_of(last, "text"));
}

static int print_answer(const struct ctl *c, json_t *o, const char *list,
			void (*print)(const json_t *o))
{
	const json_t *entry;
	size_t i;

	if (!o)
		return CTL_FAILED;
	if (c->given & CTL_JSON)
		return ctl_print_json(c, o);
	json_array_foreach (json_object_get(o, list), i, entry)
		print(entry);
	json_decref(o);
	return ferror(stdout) ? CTL_FAILED : CTL_OK;
}

int ctl_nrd_why(const struct ctl *c, int argc, char **argv)
{
	char path[256], remote[ADDR_STRLEN] = "";
	unsigned plen;
	dmm_u8 ip[16];

	if (argc > 1 && addr_parse_prefix(argv[1], ip, &plen) < 0) {
		log_err("\"%s\" is no address or prefix", argv[1]);
		return CTL_USAGE;
	}
	if (argc > 1)
		addr_format_ip(ip, remote, sizeof(remote));
	if (strlen(argv[0]) >= DMM_NAME_LEN || strpbrk(argv[0], " &?%#\r\n")) {
		log_err("\"%s\" is no name of a rule", argv[0]);
		return CTL_USAGE;
	}
	snprintf(path, sizeof(path), "/v1/nrd/why?rule=%s%s%s", argv[0], *remote ? "&remote=" : "",
		 remote);
	return print_answer(c, ctl_ask_daemon(path), "choices", print_why);
}

static void print_decision(const json_t *d)
{
	char age[TABLE_TEXT];

	printf("%s ago: %s\n",
	       text_age((uint64_t)(1e9 * json_number_value(json_object_get(d, "age_s"))), age),
	       text_of(d, "text"));
}

int ctl_nrd_history(const struct ctl *c, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return print_answer(c, ctl_ask_daemon("/v1/nrd/history"), "decisions", print_decision);
}

static long long count_of(const json_t *o, const char *key)
{
	return (long long)json_integer_value(json_object_get(o, key));
}

static void print_etcd(const json_t *e)
{
	const json_t *age = json_object_get(e, "advice_age_s");
	char text[TABLE_TEXT];

	printf("etcd: host %s, %s by %s\n", text_of(e, "host"), text_of(e, "text"),
	       text_of(e, "endpoint"));
	printf("told %lld reports; took %lld pieces of advice", count_of(e, "reports"),
	       count_of(e, "advice"));
	if (json_is_number(age))
		printf(", the last %s ago",
		       text_age((uint64_t)(1e9 * json_number_value(age)), text));
	if (*text_of(e, "advice_error"))
		printf("; the last one was refused: %s", text_of(e, "advice_error"));
	putchar('\n');
}

int ctl_nrd_status(const struct ctl *c, int argc, char **argv)
{
	json_t *o = ctl_ask_daemon("/v1/nrd/status");
	const json_t *etcd = json_object_get(o, "etcd");

	(void)argc;
	(void)argv;
	if (!o)
		return CTL_FAILED;
	if (c->given & CTL_JSON)
		return ctl_print_json(c, o);
	printf("%lld auto rules, %lld prefixes; %lld samples of connections, %lld missed; %lld "
	       "decisions\n",
	       count_of(o, "rules"), count_of(o, "prefixes"), count_of(o, "samples"),
	       count_of(o, "missed"), count_of(o, "decisions"));
	if (json_is_object(etcd))
		print_etcd(etcd);
	else
		puts("etcd: not used");
	json_decref(o);
	return ferror(stdout) ? CTL_FAILED : CTL_OK;
}
