// SPDX-License-Identifier: Apache-2.0
/*
 * Makes the man page of dmm-policy at build time: standard input is the prose, standard output the
 * page. In the prose these lines stand for what the tables say:
 *   .VERB stack list  the verb with its arguments, its options and its help; prose may follow
 *   .OPTIONS          all options
 *   .EXITS            the exit status
 * A verb without a line, or a line without a verb, is an error.
 */
#include <ctype.h>
#include <string.h>

#include "policyd/ctl.h"

/* Plain text as roff: a minus is a minus, and three dots are ASCII. */
static void put_text(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '-')
			fputs("\\-", stdout);
		else if (text[i] == '\\')
			fputs("\\e", stdout);
		else if (strncmp(text + i, "…", strlen("…")) == 0)
			fputs("...", stdout), i += strlen("…") - 1;
		else
			putchar(text[i]);
	}
}

/* "NAME… [first|before RULE]": what stands for something in italics, what is typed in bold. */
static void put_args(const char *args)
{
	while (*args) {
		size_t len = 0;

		while (isalpha((unsigned char)args[len]) || args[len] == '-')
			len++;
		if (len) {
			fputs(isupper((unsigned char)*args) ? "\\fI" : "\\fB", stdout);
			put_text(args, len);
			fputs("\\fR", stdout);
		} else {
			len = strncmp(args, "…", strlen("…")) == 0 ? strlen("…") : 1;
			put_text(args, len);
		}
		args += len;
	}
}

static void put_option(const struct ctl_option_row *o)
{
	fputs("\\fB\\-\\-", stdout);
	put_text(o->name, strlen(o->name));
	fputs("\\fR", stdout);
	if (o->arg)
		printf(" \\fI%s\\fR", o->arg);
}

/* A sentence: a capital letter first, a full stop last. */
static void put_sentence(const char *text)
{
	putchar(toupper((unsigned char)*text));
	put_text(text + 1, strlen(text + 1));
	fputs(".\n", stdout);
}

static void put_verb(const struct ctl_verb *v)
{
	printf(".TP\n\\fB%s\\fR", v->words);
	if (*v->args)
		putchar(' ');
	put_args(v->args);
	for (size_t i = 0; i < ctl_n_options; i++) {
		if (!(ctl_options[i].bit & v->options))
			continue;
		fputs(" [", stdout);
		put_option(&ctl_options[i]);
		putchar(']');
	}
	putchar('\n');
	put_sentence(v->help);
}

static void put_options(void)
{
	for (size_t i = 0; i < ctl_n_options; i++) {
		const struct ctl_option_row *o = &ctl_options[i];
		const char *separator = "Of ";

		fputs(".TP\n", stdout);
		if (o->letter)
			printf("\\fB\\-%c\\fR, ", o->letter);
		put_option(o);
		putchar('\n');
		for (size_t j = 0; j < ctl_n_verbs; j++) {
			if (!(o->bit & ctl_verbs[j].options))
				continue;
			printf("%s\\fB%s\\fR", separator, ctl_verbs[j].words);
			separator = ", ";
		}
		if (*separator == ',')
			fputs(":\n", stdout);
		put_sentence(o->help);
	}
}

static const struct ctl_verb *verb_named(const char *words)
{
	for (size_t i = 0; i < ctl_n_verbs; i++)
		if (strcmp(ctl_verbs[i].words, words) == 0)
			return &ctl_verbs[i];
	return NULL;
}

int main(void)
{
	unsigned long long seen = 0;
	char line[1024];
	int r = 0;

	while (fgets(line, sizeof(line), stdin)) {
		if (strncmp(line, ".VERB ", 6) == 0) {
			const struct ctl_verb *v;

			line[strcspn(line, "\n")] = '\0';
			v = verb_named(line + 6);
			if (!v) {
				fprintf(stderr, "%s: there is no such verb\n", line);
				r = 1;
				continue;
			}
			seen |= 1ULL << (v - ctl_verbs);
			put_verb(v);
		} else if (strcmp(line, ".OPTIONS\n") == 0) {
			put_options();
		} else if (strcmp(line, ".EXITS\n") == 0) {
			for (size_t i = 0; i < CTL_EXITS; i++) {
				printf(".TP\n.B %zu\n", i);
				put_sentence(ctl_exits[i]);
			}
		} else {
			fputs(line, stdout);
		}
	}
	for (size_t i = 0; i < ctl_n_verbs; i++)
		if (!(seen & 1ULL << i)) {
			fprintf(stderr, "there is no line .VERB %s\n", ctl_verbs[i].words);
			r = 1;
		}
	return r;
}
