// SPDX-License-Identifier: Apache-2.0
/* Help, read from the tables. */
#include <string.h>

#include "policyd/ctl.h"
#include "policyd/policy_keys.h"
#include "policyd/table.h"

static void print_option(const struct ctl_option_row *o)
{
	char text[64];

	snprintf(text, sizeof(text), "%c%c%s--%s%s%s", o->letter ? '-' : ' ',
		 o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name, o->arg ? " " : "",
		 o->arg ? o->arg : "");
	printf("    %-22s %s\n", text, o->help);
}

static void print_options(unsigned mask)
{
	for (size_t i = 0; i < ctl_n_options; i++)
		if (ctl_options[i].bit & mask)
			print_option(&ctl_options[i]);
}

static void help_verb(const struct ctl_verb *v)
{
	printf("usage: dmm-policy %s%s%s%s\n\n    %s\n", v->words, *v->args ? " " : "", v->args,
	       v->options ? " [OPTION…]" : "", v->help);
	if (v->options) {
		fputs("\noptions:\n", stdout);
		print_options(v->options);
	}
	if (v->run == ctl_add || v->run == ctl_explain)
		fputs("\nThe keys are those of a rule and its match: see dmm-policy help keys.\n",
		      stdout);
}

/* The verbs of one object, as "stack", if that is what the words are. */
static bool help_object(int argc, char **argv)
{
	const struct ctl_verb *first = NULL;
	size_t n = 0;

	for (size_t i = 0; argc == 1 && i < ctl_n_verbs; i++) {
		if (ctl_words_match(ctl_verbs[i].words, argc, argv, false) <= 0)
			continue;
		if (first && !ctl_same_object(first, &ctl_verbs[i]))
			return false;
		first = first ? first : &ctl_verbs[i];
		n++;
	}
	for (size_t i = 0; n > 1 && i < n; i++) {
		if (i)
			putchar('\n');
		help_verb(&first[i]);
	}
	return n > 1;
}

const char *const ctl_help_topics[] = {"keys", "schema", NULL};

static int help_keys(void)
{
	static const char *const headers[] = {"IN", "KEY", "~VALUE", "+MEANING"};
	struct table t;

	table_init(&t, headers, 4);
	for (size_t i = 0; i < policy_n_objects; i++)
		for (size_t j = 0; j < policy_objects[i].n; j++) {
			const struct key *k = &policy_objects[i].keys[j];

			table_cell(&t, "%s", j ? "" : policy_objects[i].name);
			table_cell(&t, "%s", k->name);
			table_cell(&t, "%s", k->value);
			table_cell(&t, "%s", k->help);
		}
	table_print(&t, stdout);
	return CTL_OK;
}

static int help_schema(void)
{
	json_t *o = ctl_schema();
	int r = json_dumpf(o, stdout, JSON_INDENT(2));

	json_decref(o);
	putchar('\n');
	return r < 0 ? CTL_FAILED : CTL_OK;
}

static json_t *options_json(unsigned mask)
{
	json_t *list = json_array();

	for (size_t i = 0; i < ctl_n_options; i++) {
		const struct ctl_option_row *o = &ctl_options[i];
		char letter[2] = {o->letter};

		if (o->bit & mask)
			json_array_append_new(list, json_pack("{s:s, s:s, s:s?, s:s}", "name",
							      o->name, "letter", letter, "argument",
							      o->arg, "help", o->help));
	}
	return list;
}

/* The tables themselves, or what is in them of the verbs that argv begins. */
static int help_json(const struct ctl *c, int argc, char **argv)
{
	json_t *verbs = json_array(), *exits = json_array();

	for (size_t i = 0; i < ctl_n_verbs; i++) {
		const struct ctl_verb *v = &ctl_verbs[i];

		if (argc && ctl_words_match(v->words, argc, argv, false) <= 0)
			continue;
		json_array_append_new(verbs, json_pack("{s:s, s:s, s:s, s:o}", "verb", v->words,
						       "arguments", v->args, "help", v->help,
						       "options", options_json(v->options)));
	}
	for (size_t i = 0; i < CTL_EXITS; i++)
		json_array_append_new(exits, json_string(ctl_exits[i]));
	return ctl_print_json(c, json_pack("{s:o, s:o, s:o}", "verbs", verbs, "options",
					   options_json(CTL_COMMON), "exit_status", exits));
}

int ctl_help(const struct ctl *c, int argc, char **argv)
{
	const struct ctl_verb *v;
	int words, candidates;

	if (argc && strcmp(argv[0], "keys") == 0)
		return help_keys();
	if (argc && strcmp(argv[0], "schema") == 0)
		return help_schema();
	v = ctl_find_verb(argc, argv, &words, &candidates);
	if (c->given & CTL_JSON && (argc == 0 || candidates))
		return help_json(c, argc, argv);
	if (help_object(argc, argv))
		return CTL_OK;
	if (v) {
		help_verb(v);
		return CTL_OK;
	}
	if (argc)
		return ctl_unknown_verb(argc, argv, candidates);
	fputs("usage: dmm-policy [OPTION…] VERB …\n\nverbs (may be abbreviated):\n", stdout);
	for (size_t i = 0; i < ctl_n_verbs; i++)
		printf("    %-14s %s\n", ctl_verbs[i].words, ctl_verbs[i].help);
	fputs("\noptions of every verb:\n", stdout);
	print_options(CTL_COMMON);
	fputs("\nexit status:\n", stdout);
	for (size_t i = 0; i < CTL_EXITS; i++)
		printf("    %zu  %s\n", i, ctl_exits[i]);
	return CTL_OK;
}

int ctl_version(const struct ctl *c, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	if (c->given & CTL_JSON)
		return ctl_print_json(
			c, json_pack("{s:s, s:i}", "version", DMM_VERSION, "abi", DMM_ABI_VERSION));
	printf("dmm-policy %s (ABI %d)\n", DMM_VERSION, DMM_ABI_VERSION);
	return CTL_OK;
}
