// SPDX-License-Identifier: Apache-2.0
/* The way from argv to a verb, by the tables. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/value.h"

/* "stack", of "stack fly" */
static bool begins_object(char **argv)
{
	for (size_t i = 0; i < ctl_n_verbs; i++)
		if (ctl_words_match(ctl_verbs[i].words, 1, argv, false) > 0)
			return true;
	return false;
}

int ctl_unknown_verb(int argc, char **argv, int candidates)
{
	const char *separator = "";

	if (argc == 0) {
		fputs("dmm-policy: what to do? Try: dmm-policy help\n", stderr);
		return CTL_USAGE;
	}
	if (candidates == 0 && argc > 1 && begins_object(argv)) {
		fprintf(stderr, "dmm-policy: unknown verb \"%s %s\"; known: ", argv[0], argv[1]);
		argc = 1;
	} else if (candidates == 0) {
		fprintf(stderr, "dmm-policy: unknown verb \"%s\"; try: dmm-policy help\n", argv[0]);
		return CTL_USAGE;
	} else {
		fprintf(stderr, "dmm-policy: \"%s\" is ambiguous: ", argv[0]);
	}
	for (size_t i = 0; i < ctl_n_verbs; i++) {
		if (ctl_words_match(ctl_verbs[i].words, argc, argv, false) <= 0)
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

/* "2", "0.5": from a tenth of a second to a day. */
static int option_seconds(const char *arg, unsigned *ret_ms)
{
	char *end;
	double s = strtod(arg, &end);

	if (*end || end == arg || !(s >= 0.1 && s <= 86400)) {
		fprintf(stderr, "dmm-policy: \"%s\" is not a number of seconds, at least 0.1\n",
			arg);
		return CTL_USAGE;
	}
	*ret_ms = (unsigned)(s * 1000);
	return CTL_OK;
}

static int option_count(const char *arg, unsigned *ret)
{
	dmm_u64 n;

	if (value_parse_number(arg, INT32_MAX, &n) < 0 || n == 0) {
		fprintf(stderr, "dmm-policy: \"%s\" is not a number from 1\n", arg);
		return CTL_USAGE;
	}
	*ret = (unsigned)n;
	return CTL_OK;
}

static int option_take(struct ctl *c, unsigned bit, const char *arg)
{
	c->given |= bit;
	if (bit == CTL_CONFIRM)
		return option_time(arg, &c->confirm_s);
	if (bit == CTL_TIMEOUT)
		return option_time(arg, &c->timeout_s);
	if (bit == CTL_COUNT)
		return option_count(arg, &c->count);
	if (bit == CTL_DELAY)
		return option_seconds(arg, &c->delay_ms);
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

/* A letter may mean different options of different verbs; one of `known` comes first. */
static const struct ctl_option_row *option_of_letter(char letter, unsigned known)
{
	const struct ctl_option_row *first = NULL;

	for (size_t i = 0; i < ctl_n_options; i++) {
		if (ctl_options[i].letter != letter)
			continue;
		if (ctl_options[i].bit & known)
			return &ctl_options[i];
		if (!first)
			first = &ctl_options[i];
	}
	return first;
}

#define LONG_BASE 256 /* what getopt_long() returns of the first long option */

struct getopts {
	struct option longs[CTL_MAX_OPTIONS + 1];
	char shorts[2 * CTL_MAX_OPTIONS + 2];
};

/* order: "+" to stop at the first word. */
static void getopts_fill(struct getopts *g, const char *order, unsigned known)
{
	char *s = stpcpy(g->shorts, order);

	memset(g->longs, 0, sizeof(g->longs));
	for (size_t i = 0; i < ctl_n_options && i < CTL_MAX_OPTIONS; i++) {
		const struct ctl_option_row *row = &ctl_options[i];

		g->longs[i] =
			(struct option){row->name, row->arg ? 1 : 0, NULL, LONG_BASE + (int)i};
		if (!row->letter || option_of_letter(row->letter, known) != row)
			continue;
		*s++ = row->letter;
		if (row->arg)
			*s++ = ':';
	}
	*s = '\0';
}

/* The verb, if letters mean the options that `known` has. NULL: not clear. */
static const struct ctl_verb *verb_if(int argc, char **argv, unsigned known)
{
	int words, candidates, quiet = opterr;
	struct getopts g;

	getopts_fill(&g, "+", known);
	optind = 0; /* getopt(3): all anew */
	opterr = 0;
	while (getopt_long(argc, argv, g.shorts, g.longs, NULL) != -1)
		;
	opterr = quiet;
	return ctl_find_verb(argc - optind, argv + optind, &words, &candidates);
}

/*
 * The verb, before the options are read for good: some letters depend on it. Before the verb such a
 * letter is tried as each of its options: "-n 5 top" has no verb "5".
 */
static const struct ctl_verb *verb_ahead(int argc, char **argv)
{
	const struct ctl_verb *v = verb_if(argc, argv, 0);

	for (size_t i = 0; !v && i < ctl_n_options; i++) {
		const struct ctl_option_row *row = &ctl_options[i];

		if (!row->letter || option_of_letter(row->letter, 0) == row)
			continue;
		v = verb_if(argc, argv, row->bit);
		if (v && !(v->options & row->bit))
			v = NULL;
	}
	return v;
}

/* Fill c; *ret_first is the first word in argv, which is permuted. */
static int options_parse(struct ctl *c, int argc, char **argv, int *ret_first)
{
	const struct ctl_verb *verb = verb_ahead(argc, argv);
	unsigned known = verb ? verb->options : 0;
	struct getopts g;
	int o;

	getopts_fill(&g, "", known);
	optind = 0;
	while ((o = getopt_long(argc, argv, g.shorts, g.longs, NULL)) != -1) {
		const struct ctl_option_row *row = o >= LONG_BASE
							   ? &ctl_options[o - LONG_BASE]
							   : option_of_letter((char)o, known);

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
	text_clean(c->how, sizeof(c->how) - 1, c->how);
}

static int run(int argc, char **argv)
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
		return ctl_unknown_verb(argc, argv, candidates);
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
	return verb->run(&c, argc, argv);
}

int ctl_run(int argc, char **argv)
{
	int r = run(argc, argv);

	/* whoever wrote has not looked: what failed before is remembered */
	if ((fflush(stdout) == 0) & !ferror(stdout))
		return r;
	log_err("standard output cannot be written to");
	return r == CTL_OK ? CTL_FAILED : r;
}
