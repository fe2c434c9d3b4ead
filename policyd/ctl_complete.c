// SPDX-License-Identifier: Apache-2.0
/*
 * Completion. The shell's part is a few lines that hand over what was typed; what it can become is
 * read here, from the tables and from the policy in force.
 */
#include <string.h>

#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/import.h"
#include "policyd/policy_keys.h"

#define WORDS_MAX 64

static const char bash_script[] =
	"# bash completion of dmm-policy\n"
	"_dmm_policy()\n{\n"
	"\tlocal word cur=${COMP_WORDS[COMP_CWORD]}\n"
	"\t[ \"$cur\" != = ] || cur=\n"
	"\tCOMPREPLY=()\n"
	"\twhile IFS= read -r word; do\n"
	"\t\tif [ \"$word\" = :file ]; then\n"
	"\t\t\tcompopt -o filenames\n"
	"\t\t\tmapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- \"$cur\")\n"
	"\t\telse\n"
	"\t\t\tCOMPREPLY+=(\"$word\")\n"
	"\t\tfi\n"
	"\tdone < <(\"${COMP_WORDS[0]}\" completion for -- "
	"\"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
	"}\n"
	"complete -F _dmm_policy dmm-policy\n";

struct typed {
	char *word[WORDS_MAX]; /* no options among them, nor the last */
	int n;
	const char *last;		     /* what is to be completed */
	const struct ctl_option_row *option; /* NULL, or the one whose argument `last` is */
	struct ctl c;
	FILE *out;
};

/* The option that a word begins, if it wants an argument in the next word. */
static const struct ctl_option_row *option_waits(const char *word)
{
	for (size_t i = 0; i < ctl_n_options; i++) {
		const struct ctl_option_row *o = &ctl_options[i];

		if (!o->arg)
			continue;
		if (strncmp(word, "--", 2) == 0 ? strcmp(word + 2, o->name) == 0
						: o->letter && word[1] == o->letter && !word[2])
			return o;
	}
	return NULL;
}

/* bash splits at "=", so that --stack=x and key=x are the same here as with a blank. */
static void typed_read(struct typed *t, int argc, char **argv)
{
	const struct ctl_option_row *option = NULL;

	t->last = "";
	for (int i = 0; i < argc; i++) {
		bool end = i == argc - 1;

		if (strcmp(argv[i], "=") == 0)
			continue;
		if (end)
			t->last = argv[i];
		else if (option && option->bit == CTL_BPFFS)
			t->c.bpffs = argv[i];
		else if (!option && argv[i][0] != '-' && t->n < WORDS_MAX)
			t->word[t->n++] = argv[i];
		if (!end)
			option = !option && argv[i][0] == '-' ? option_waits(argv[i]) : NULL;
	}
	t->option = option;
}

/* A candidate, if it goes on from what is there; of a list with commas, from its last item. */
static void offer(const struct typed *t, const char *word, size_t len)
{
	const char *comma = strrchr(t->last, ','), *item = comma ? comma + 1 : t->last;

	if (strlen(item) <= len && strncmp(word, item, strlen(item)) == 0)
		fprintf(t->out, "%.*s%.*s\n", (int)(item - t->last), t->last, (int)len, word);
}

static void offer_words(const struct typed *t, const char *const *words)
{
	for (; words && *words; words++)
		offer(t, *words, strlen(*words));
}

/* Names of the policy in force; none if there is no policy, or no right to read it. */
static void offer_objects(const struct typed *t, enum ctl_names names)
{
	struct ctl_state s;
	const char *name;

	if (ctl_state_open(&t->c, &s) != CTL_OK)
		return;
	for (unsigned i = 0; (name = ctl_name(s.class, names, i)); i++)
		if (*name)
			offer(t, name, strlen(name));
	ctl_state_close(&s);
}

static const struct key *key_named(const char *name)
{
	const struct key *k = keys_find(policy_match_keys, POLICY_MATCH_KEYS, name);

	if (!k)
		k = keys_find(policy_rule_keys, POLICY_RULE_KEYS, name);
	return k ? k : keys_find(policy_use_keys, POLICY_USE_KEYS, name);
}

static void offer_value(const struct typed *t, const struct key *k)
{
	if (strcmp(k->name, "group") == 0)
		offer_objects(t, CTL_N_GROUP);
	else if (strcmp(k->name, "use") == 0 || strcmp(k->name, "auto") == 0)
		offer_objects(t, CTL_N_STACK);
	else
		offer_words(t, k->words);
}

/* Keys and their values by turns; the word before tells which. */
static void offer_keys(const struct typed *t, const char *before, bool rule)
{
	static const char *const places[] = {"first", "last", "before", "after", NULL};
	const struct key *k = key_named(before);

	if (rule && (strcmp(before, "before") == 0 || strcmp(before, "after") == 0)) {
		offer_objects(t, CTL_N_RULE);
		return;
	}
	if (k && k->form != FORM_BOOL) {
		offer_value(t, k);
		return;
	}
	if (!rule) {
		for (size_t i = 0; ctl_explain_key(i); i++)
			offer(t, ctl_explain_key(i), strlen(ctl_explain_key(i)));
		return;
	}
	for (size_t i = 0; i < POLICY_MATCH_KEYS; i++)
		offer(t, policy_match_keys[i].name, strlen(policy_match_keys[i].name));
	for (size_t i = 0; i < POLICY_RULE_KEYS; i++)
		if (policy_rule_keys[i].form != FORM_MAP)
			offer(t, policy_rule_keys[i].name, strlen(policy_rule_keys[i].name));
	for (size_t i = 0; i < POLICY_USE_KEYS; i++)
		offer(t, policy_use_keys[i].name, strlen(policy_use_keys[i].name));
	offer_words(t, places);
}

/* The next word of every verb that begins with these, each once. */
static void offer_verbs(const struct typed *t, int argc, char **argv)
{
	const char *before = "";
	size_t before_len = 0;

	for (size_t i = 0; i < ctl_n_verbs; i++) {
		const char *w = ctl_verbs[i].words;
		size_t len;

		if (ctl_words_match(w, argc, argv, false) != argc)
			continue;
		for (int skip = argc; skip > 0 && *w; skip--) {
			w += strcspn(w, " ");
			w += *w == ' ';
		}
		len = strcspn(w, " ");
		if (len && (len != before_len || strncmp(w, before, len) != 0))
			offer(t, w, len);
		before = w;
		before_len = len;
	}
}

/* n: arguments before the one that is completed. */
static void offer_names(const struct typed *t, enum ctl_names names, int n)
{
	static const char *const protos[] = {"tcp", "udp", NULL};
	static const char *const shells[] = {"bash", NULL};
	const char *before = n ? t->word[t->n - 1] : "";

	switch (names) {
	case CTL_N_NONE:
		break;
	case CTL_N_RULE:
	case CTL_N_STACK:
	case CTL_N_GROUP:
		offer_objects(t, names);
		break;
	case CTL_N_FILE:
		fputs(":file\n", t->out);
		break;
	case CTL_N_FORMAT:
		for (size_t i = 0; i < import_n_formats; i++)
			offer(t, import_formats[i].name, strlen(import_formats[i].name));
		break;
	case CTL_N_PROTO:
		offer_words(t, protos);
		break;
	case CTL_N_VERB:
		if (n == 0)
			offer_words(t, ctl_help_topics);
		offer_verbs(t, n, (char **)t->word + t->n - n);
		break;
	case CTL_N_ADD: /* its first argument is a new name */
		if (n)
			offer_keys(t, n > 1 ? before : "", true);
		break;
	case CTL_N_PROPERTIES:
		offer_keys(t, before, false);
		break;
	case CTL_N_EVENT:
		offer_words(t, ctl_events);
		break;
	case CTL_N_SHELL:
		if (n == 0)
			offer_words(t, shells);
		break;
	}
}

static void offer_options(const struct typed *t, unsigned known)
{
	for (size_t i = 0; i < ctl_n_options; i++) {
		char text[64];
		int len = snprintf(text, sizeof(text), "--%s", ctl_options[i].name);

		if (ctl_options[i].bit & known)
			offer(t, text, (size_t)len);
	}
}

/* The verb that all its words are there of; *ret_words: how many those are. */
static const struct ctl_verb *verb_whole(const struct typed *t, int *ret_words)
{
	int candidates, words = 1;
	const struct ctl_verb *v = ctl_find_verb(t->n, (char **)t->word, ret_words, &candidates);

	for (const char *p = v ? v->words : ""; *p; p++)
		words += *p == ' ';
	return v && *ret_words == words ? v : NULL;
}

void ctl_complete(int argc, char **argv, FILE *out)
{
	struct typed t = {.out = out};
	const struct ctl_verb *v;
	int words;

	typed_read(&t, argc, argv);
	v = verb_whole(&t, &words);
	if (t.option) {
		offer_names(&t, t.option->names, 0);
	} else if (t.last[0] == '-') {
		offer_options(&t, (v ? v->options : 0) | CTL_COMMON);
	} else if (v) {
		offer_names(&t, v->names, t.n - words);
	} else {
		offer_verbs(&t, t.n, t.word);
	}
}

int ctl_completion(const struct ctl *c, int argc, char **argv)
{
	(void)c;
	if (strcmp(argv[0], "for") == 0) {
		ctl_complete(argc - 1, argv + 1, stdout);
		return CTL_OK;
	}
	if (strcmp(argv[0], "bash") != 0 || argc > 1) {
		fprintf(stderr, "dmm-policy: completion: bash is the one shell that is known\n");
		return CTL_USAGE;
	}
	fputs(bash_script, stdout);
	return CTL_OK;
}
