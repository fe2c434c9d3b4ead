// SPDX-License-Identifier: Apache-2.0
/* The tables that dmm-policy is made from, and the way from argv to a verb. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/value.h"

const struct ctl_verb ctl_verbs[] = {
	{"show", "", "the policy in force, with how often each rule decided", CTL_YAML, 0, 0,
	 ctl_show},
	{"add", "NAME KEY VALUE… use STACK,… [first|last|before RULE|after RULE]",
	 "add a rule, by default the last", CTL_REPLACE | CTL_DRY_RUN, 1, -1, ctl_add},
	{"del", "NAME…", "remove rules", CTL_DRY_RUN, 1, -1, ctl_del},
	{"apply", "", "put a file in force, or /etc/dmm/dmm.yaml with its policy.d",
	 CTL_FILE | CTL_DRY_RUN | CTL_CONFIRM, 0, 0, ctl_apply},
	{"history", "", "the generations that can be gone back to", 0, 0, 0, ctl_history},
	{"rollback", "[GENERATION]",
	 "put an earlier generation in force, by default the one before", CTL_DRY_RUN, 0, 1,
	 ctl_rollback},
	{"confirm", "", "keep what was applied with --confirm-within", 0, 0, 0, ctl_confirm},
	{"validate", "", "read and check a file, change nothing", CTL_FILE, 0, 0, ctl_validate},
	{"import", "FILE", "another system's file as a policy, on standard output; - is stdin",
	 CTL_FROM | CTL_MAP, 1, 1, ctl_import},
	{"explain", "[ADDRESS:PORT] [KEY VALUE…]",
	 "why a socket would get its stack, or a process's sockets have theirs",
	 CTL_GROUP | CTL_PROTO | CTL_PID | CTL_FD, 0, -1, ctl_explain},
	{"stack list", "", "the stacks and the state of their instances", 0, 0, 0, ctl_stack_list},
	{"group list", "", "the groups and their cgroups", 0, 0, 0, ctl_group_list},
	{"rule list", "", "the same as show", CTL_YAML, 0, 0, ctl_show},
	{"rule disable", "NAME…", "keep what these rules match on the kernel stack", CTL_DRY_RUN, 1,
	 -1, ctl_rule_disable},
	{"rule enable", "NAME…", "let these rules choose again", CTL_DRY_RUN, 1, -1,
	 ctl_rule_enable},
	{"stack disable", "NAME…", "give these stacks no new sockets", 0, 1, -1, ctl_stack_disable},
	{"stack enable", "NAME…", "give them new sockets again", 0, 1, -1, ctl_stack_enable},
	{"group disable", "NAME…", "keep new sockets of these groups on the kernel stack", 0, 1, -1,
	 ctl_group_disable},
	{"group enable", "NAME…", "let the rules choose for them again", 0, 1, -1,
	 ctl_group_enable},
	{"flows", "", "the live sockets of the groups", CTL_STACK | CTL_GROUP | CTL_RULE, 0, 0,
	 ctl_flows},
	{"stats", "", "everything that is counted", 0, 0, 0, ctl_stats},
	{"probe", "", "what this kernel can do for DMM", 0, 0, 0, ctl_probe},
	{"detach", "", "remove DMM from the kernel: programs, maps, links, groups", CTL_FORCE, 0, 0,
	 ctl_detach},
	{"help", "[VERB|keys|schema|completion]",
	 "this text; the keys of the policy, for people or for editors; for bash", 0, 0, 2,
	 ctl_help},
	{"version", "", "the version", 0, 0, 0, ctl_version},
};
const size_t ctl_n_verbs = ARRAY_SIZE(ctl_verbs);

const struct ctl_option_row ctl_options[] = {
	{"file", 'f', "FILE", CTL_FILE, "the policy, YAML or JSON; - is standard input"},
	{"dry-run", 'n', NULL, CTL_DRY_RUN, "print what would change, change nothing"},
	{"replace", 'r', NULL, CTL_REPLACE, "replace the rule of this name"},
	{"force", 0, NULL, CTL_FORCE, "although dmm-policyd runs"},
	{"yaml", 'y', NULL, CTL_YAML, "as YAML that apply takes"},
	{"stack", 0, "NAME", CTL_STACK, "only sockets on this stack"},
	{"group", 0, "NAME", CTL_GROUP, "only sockets of this group"},
	{"rule", 0, "NAME", CTL_RULE, "only sockets that this rule decided"},
	{"confirm-within", 0, "TIME", CTL_CONFIRM, "go back after 60s, 5m … unless confirmed"},
	{"proto", 0, "PROTO", CTL_PROTO, "tcp or udp"},
	{"pid", 0, "N", CTL_PID, "the sockets of this process"},
	{"fd", 0, "N", CTL_FD, "only this descriptor of it"},
	{"from", 0, "SYSTEM", CTL_FROM, "whose file it is: dmm-rd (FD.io DMM) or libvma"},
	{"map", 0, "NAME=STACK", CTL_MAP, "the stack that its NAME stands for; may be repeated"},
	{"json", 'j', NULL, CTL_JSON, "JSON on one line"},
	{"pretty", 'p', NULL, CTL_PRETTY, "JSON, indented"},
	{"bpffs", 0, "PATH", CTL_BPFFS, "the pin tree, default $DMM_BPFFS or /sys/fs/bpf/dmm"},
	{"help", 'h', NULL, CTL_HELP, "help, also of one verb"},
	{"version", 'V', NULL, CTL_VERSION, "the version"},
};
const size_t ctl_n_options = ARRAY_SIZE(ctl_options);

/* Words of `verb` that argv begins with, abbreviated or not; -1: it is another verb. */
static int words_match(const char *verb, int argc, char **argv, bool exact)
{
	int n = 0;

	while (*verb && n < argc) {
		size_t len = strcspn(verb, " "), given = strlen(argv[n]);

		if (given > len || (exact && given != len) || strncmp(verb, argv[n], given) != 0)
			return -1;
		verb += len + (verb[len] == ' ');
		n++;
	}
	return *verb && exact ? -1 : n;
}

/* Do both act on the same kind of object? "stack list", "stack disable". */
static bool same_object(const struct ctl_verb *a, const struct ctl_verb *b)
{
	size_t len = strcspn(a->words, " ");

	return strcspn(b->words, " ") == len && strncmp(a->words, b->words, len) == 0;
}

static bool is_list(const struct ctl_verb *v)
{
	const char *space = strchr(v->words, ' ');

	return space && strcmp(space, " list") == 0;
}

const struct ctl_verb *ctl_find_verb(int argc, char **argv, int *ret_words, int *ret_candidates)
{
	const struct ctl_verb *found = NULL;

	*ret_candidates = 0;
	*ret_words = 0;
	if (argc == 0)
		return NULL;
	for (int exact = 1; exact >= 0; exact--) {
		for (size_t i = 0; i < ctl_n_verbs; i++) {
			int n = words_match(ctl_verbs[i].words, argc, argv, exact);

			if (n <= 0)
				continue;
			/* an object alone, as "stack": list them, as ip(8) does */
			if (n == 1 && argc == 1 && found && same_object(found, &ctl_verbs[i])) {
				if (is_list(&ctl_verbs[i]))
					found = &ctl_verbs[i];
				continue;
			}
			found = &ctl_verbs[i];
			*ret_words = n;
			(*ret_candidates)++;
		}
		if (*ret_candidates)
			break;
	}
	return *ret_candidates == 1 ? found : NULL;
}

static int usage_verb(int argc, char **argv, int candidates)
{
	const char *separator = "";

	if (argc == 0) {
		fputs("dmm-policy: what to do? Try: dmm-policy help\n", stderr);
		return CTL_USAGE;
	}
	if (candidates == 0) {
		fprintf(stderr, "dmm-policy: unknown verb \"%s\"; try: dmm-policy help\n", argv[0]);
		return CTL_USAGE;
	}
	fprintf(stderr, "dmm-policy: \"%s\" is ambiguous: ", argv[0]);
	for (size_t i = 0; i < ctl_n_verbs; i++) {
		if (words_match(ctl_verbs[i].words, argc, argv, false) <= 0)
			continue;
		fprintf(stderr, "%s%s", separator, ctl_verbs[i].words);
		separator = ", ";
	}
	fputc('\n', stderr);
	return CTL_USAGE;
}

static int option_number(const char *arg, unsigned *ret)
{
	dmm_u64 n;

	if (value_parse_number(arg, INT32_MAX, &n) < 0) {
		fprintf(stderr, "dmm-policy: \"%s\" is not a number of a process or descriptor\n",
			arg);
		return CTL_USAGE;
	}
	*ret = (unsigned)n;
	return CTL_OK;
}

/* "60", "60s", "5m", "1h": at most a day. */
static int option_time(const char *arg, unsigned *ret)
{
	size_t len = strlen(arg);
	char number[16];
	unsigned unit = 1;
	dmm_u64 n;

	if (len > 1 && strchr("smh", arg[len - 1]))
		unit = arg[--len] == 'h' ? 3600 : arg[len] == 'm' ? 60 : 1;
	snprintf(number, sizeof(number), "%.*s", (int)len, arg);
	if (len >= sizeof(number) || value_parse_number(number, 86400 / unit, &n) < 0 || n == 0) {
		fprintf(stderr, "dmm-policy: \"%s\" is not a time such as 60s, 5m or 1h\n", arg);
		return CTL_USAGE;
	}
	*ret = (unsigned)n * unit;
	return CTL_OK;
}

static int option_take(struct ctl *c, unsigned bit, const char *arg)
{
	c->given |= bit;
	if (bit == CTL_CONFIRM)
		return option_time(arg, &c->confirm_s);
	if (bit == CTL_PID)
		return option_number(arg, &c->pid);
	if (bit == CTL_FD)
		return option_number(arg, &c->fd);
	if (bit == CTL_FILE)
		c->file = arg;
	else if (bit == CTL_STACK)
		c->stack = arg;
	else if (bit == CTL_GROUP)
		c->group = arg;
	else if (bit == CTL_RULE)
		c->rule = arg;
	else if (bit == CTL_BPFFS)
		c->bpffs = arg;
	else if (bit == CTL_PROTO)
		c->proto = arg;
	else if (bit == CTL_FROM)
		c->from = arg;
	else if (bit == CTL_MAP && c->n_map++ < CTL_MAX_MAP)
		c->map[c->n_map - 1] = arg;
	else if (bit == CTL_PRETTY)
		c->given |= CTL_JSON;
	return CTL_OK;
}

/* Fill c; *ret_first is the first word in argv, which is permuted. */
static int options_parse(struct ctl *c, int argc, char **argv, int *ret_first)
{
	struct option longs[ARRAY_SIZE(ctl_options) + 1] = {0};
	char shorts[2 * ARRAY_SIZE(ctl_options) + 2] = "", *s = shorts;
	int o;

	for (size_t i = 0; i < ctl_n_options; i++) {
		const struct ctl_option_row *row = &ctl_options[i];

		longs[i] = (struct option){row->name, row->arg ? 1 : 0, NULL, 256 + (int)i};
		if (!row->letter)
			continue;
		*s++ = row->letter;
		if (row->arg)
			*s++ = ':';
	}
	optind = 0; /* getopt(3): all anew */
	while ((o = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct ctl_option_row *row = NULL;

		for (size_t i = 0; i < ctl_n_options; i++)
			if (o == 256 + (int)i || o == ctl_options[i].letter)
				row = &ctl_options[i];
		if (!row)
			return CTL_USAGE; /* getopt has said why */
		if (option_take(c, row->bit, optarg) != CTL_OK)
			return CTL_USAGE;
	}
	*ret_first = optind;
	return CTL_OK;
}

static int usage_option(const struct ctl_verb *verb, unsigned wrong)
{
	for (size_t i = 0; i < ctl_n_options; i++)
		if (ctl_options[i].bit & wrong)
			fprintf(stderr, "dmm-policy: %s has no option --%s\n", verb->words,
				ctl_options[i].name);
	return CTL_USAGE;
}

/* The command as the history shows it. */
static void remember(struct ctl *c, const struct ctl_verb *verb, int argc, char **argv)
{
	size_t n = (size_t)snprintf(c->how, sizeof(c->how), "%s%s%s", verb->words,
				    c->file ? " -f " : "", c->file ? c->file : "");

	for (int i = 0; i < argc && n < sizeof(c->how); i++)
		n += (size_t)snprintf(c->how + n, sizeof(c->how) - n, " %s", argv[i]);
	for (char *p = c->how; *p; p++)
		if (*p == '\n')
			*p = ' ';
}

int ctl_run(int argc, char **argv)
{
	const struct ctl_verb *verb;
	int first, words, candidates, r;
	struct ctl c = {0};

	r = options_parse(&c, argc, argv, &first);
	if (r != CTL_OK)
		return r;
	argc -= first;
	argv += first;
	if (c.given & CTL_VERSION)
		return ctl_version(&c, 0, NULL);
	if (c.given & CTL_HELP)
		return ctl_help(&c, argc, argv);
	verb = ctl_find_verb(argc, argv, &words, &candidates);
	if (!verb)
		return usage_verb(argc, argv, candidates);
	if (c.given & ~(verb->options | CTL_COMMON))
		return usage_option(verb, c.given & ~(verb->options | CTL_COMMON));
	argc -= words;
	argv += words;
	if (argc < verb->min_args || (verb->max_args >= 0 && argc > verb->max_args)) {
		fprintf(stderr, "usage: dmm-policy %s%s%s\n", verb->words, *verb->args ? " " : "",
			verb->args);
		return CTL_USAGE;
	}
	remember(&c, verb, argc, argv);
	r = verb->run(&c, argc, argv);
	if (fflush(stdout) != 0 && r == CTL_OK) {
		log_err("standard output: %m");
		r = CTL_FAILED;
	}
	return r;
}
