// SPDX-License-Identifier: Apache-2.0
/*
 * Words, a line each, as the command line of dmm-policy: options, verb, and the rule where the verb
 * is one that adds it. No verb is run: the program has none of them (see meson.build).
 */
#include <stdint.h>
#include <stdio.h>

/* The mistakes of millions of command lines are not to be read. */
static int quiet(FILE *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int quiet(FILE *out, const char *fmt, ...)
{
	return !out || !fmt;
}
#define fprintf quiet
#include "policyd/ctl_run.c"
#undef fprintf

#define WORDS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_options(const struct ctl *c)
{
	if (c->given & CTL_CONFIRM && (c->confirm_s == 0 || c->confirm_s > 86400))
		abort();
	if (c->given & CTL_PRETTY && !(c->given & CTL_JSON))
		abort();
	if (!(c->given & CTL_FILE) != !c->file || !(c->given & CTL_FROM) != !c->from)
		abort();
	for (unsigned i = 0; i < c->n_map && i < CTL_MAX_MAP; i++)
		if (!c->map[i])
			abort();
}

static void take_rule(int argc, char **argv)
{
	struct policy_diags diags = {0};
	struct ctl_place place;
	struct dmm_rule rule;
	int r = ctl_words_rule(argc, argv, &rule, &place, &diags);

	if ((r < 0) != (diags.errors > 0))
		abort();
	if (r == 0 && (place.where == PLACE_BEFORE || place.where == PLACE_AFTER) && !place.rule)
		abort();
	policy_rule_fini(&rule);
	policy_diags_fini(&diags);
}

static void take(int argc, char **argv)
{
	int first, words, candidates;
	const struct ctl_verb *verb;
	struct ctl c = {0};

	if (options_parse(&c, argc, argv, &first) != CTL_OK)
		return;
	if (first < 1 || first > argc)
		abort();
	check_options(&c);
	argc -= first;
	argv += first;
	verb = ctl_find_verb(argc, argv, &words, &candidates);
	if (!verb) {
		ctl_unknown_verb(argc, argv, candidates);
		return;
	}
	if (words < 1 || words > argc || candidates != 1)
		abort();
	if (c.given & ~(verb->options | CTL_COMMON))
		usage_option(verb, c.given & ~(verb->options | CTL_COMMON));
	remember(&c, verb, argc - words, argv + words);
	if (!memchr(c.how, 0, sizeof(c.how)) || strchr(c.how, '\n'))
		abort();
	if (strcmp(verb->words, "add") == 0)
		take_rule(argc - words, argv + words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), *rest = text, *argv[WORDS + 2];
	int argc = 0;

	if (!text)
		return 0;
	opterr = 0;
	argv[argc++] = (char *)"dmm-policy";
	for (char *w; argc <= WORDS && (w = strsep(&rest, "\n"));)
		argv[argc++] = w;
	argv[argc] = NULL;
	take(argc, argv);
	free(text);
	return 0;
}
