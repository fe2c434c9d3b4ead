// SPDX-License-Identifier: Apache-2.0
/*
 * One rule, as the words of `dmm-policy add` (a line each) and as a YAML flow mapping. What is
 * taken is written as YAML, which must read back as the same rule.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/ctl.h"

#define WORDS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *format(struct dmm_rule *rule)
{
	struct dmm_policy p = {.rules = rule, .n_rules = 1, .def = {"kernel"}, .n_def = 1};
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	strcpy(p.daemon.socket, "/run/dmm/policyd.sock");
	if (!out || policy_format(&p, out) < 0 || fclose(out) != 0)
		abort();
	return text;
}

static void check(struct dmm_rule *rule)
{
	struct policy_diags diags = {0};
	struct dmm_policy *p;
	char *text, *again;

	if (rule->n_use > DMM_MAX_USE || !memchr(rule->name, 0, sizeof(rule->name)))
		abort();
	if (!rule->name[0])
		strcpy(rule->name, "rule-1");
	text = format(rule);
	if (policy_parse_text("again", text, strlen(text), &p, &diags) < 0 || p->n_rules != 1)
		abort();
	again = format(&p->rules[0]);
	if (strcmp(text, again) != 0)
		abort();
	policy_free(p);
	policy_diags_fini(&diags);
	free(text);
	free(again);
}

static void words(char *text, struct policy_diags *diags)
{
	struct ctl_place place;
	struct dmm_rule rule;
	char *argv[WORDS];
	int argc = 0;

	for (char *w; argc < WORDS && (w = strsep(&text, "\n"));)
		argv[argc++] = w;
	if (ctl_words_rule(argc, argv, &rule, &place, diags) == 0)
		check(&rule);
	policy_rule_fini(&rule);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_diags diags = {0};
	struct dmm_rule rule;
	char *text = strndup((const char *)data, size);

	if (!text)
		return 0;
	if (policy_parse_rule(text, &rule, &diags) == 0) {
		check(&rule);
		policy_rule_fini(&rule);
	}
	words(text, &diags);
	free(text);
	policy_diags_fini(&diags);
	return 0;
}
