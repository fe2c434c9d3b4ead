// SPDX-License-Identifier: Apache-2.0
/* The command line of dmm-policy: words to rules, the tables of verbs and options. */
#include <errno.h>
#include <string.h>

#include "policyd/ctl.h"
#include "policyd/fields.h"
#include "policyd/policy_keys.h"
#include "policyd/table.h"
#include "tests/unit/policy_gen.h"

static struct policy_diags diags;
static struct ctl_place place;

/* Words separated by blanks to a rule. */
static int words(const char *line, struct dmm_rule *ret)
{
	static char copy[1024]; /* the place points into it */
	char *argv[32], *save = NULL;
	int argc = 0;

	policy_diags_fini(&diags);
	snprintf(copy, sizeof(copy), "%s", line);
	for (char *w = strtok_r(copy, " ", &save); w && argc < 32; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	return ctl_words_rule(argc, argv, ret, &place, &diags);
}

static void check_words(const char *line, const char *want)
{
	struct dmm_rule rule;
	struct fields f;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	CU_ASSERT_EQUAL(words(line, &rule), 0);
	if (diags.n)
		policy_diags_print(&diags, stderr);
	fields_of_rule(&rule, &f);
	fprintf(out, "%s ", rule.name);
	fields_print(&f, out);
	fclose(out);
	CU_ASSERT_STRING_EQUAL(text, want);
	fields_fini(&f);
	policy_rule_fini(&rule);
	free(text);
}

static void check_bad(const char *line, const char *want)
{
	struct dmm_rule rule;

	CU_ASSERT_EQUAL(words(line, &rule), -EINVAL);
	CU_ASSERT_EQUAL_FATAL(diags.n > 0, true);
	CU_ASSERT_STRING_EQUAL(diags.list[0].text, want);
	if (strcmp(diags.list[0].text, want) != 0)
		policy_diags_print(&diags, stderr);
	policy_rule_fini(&rule);
}

static void test_words(void)
{
	check_words("x use kernel", "x use=kernel");
	check_words("x group web,db proto tcp remote 10.0.0.0/8 remote_port 443,8000-8999 role "
		    "client use edge0,kernel carrier splice congestion newreno strict",
		    "x group=web,db role=client proto=tcp remote=10.0.0.0/8 "
		    "remote_port=443,8000-8999 use=edge0,kernel carrier=splice congestion=newreno "
		    "strict=true");
	check_words("name=x use=kernel group=web strict=false local=2001:db8::/32",
		    "x group=web local=2001:db8::/32 use=kernel");
	check_words("x uid 0,1000-1999,daemon program nginx,curl remote databases,10.0.0.0/8 "
		    "remote_port web,22 use weights=edge0:5,kernel:95 capture telemetry",
		    "x remote=databases,10.0.0.0/8 remote_port=web,22 uid=0,1000-1999,1 "
		    "program=nginx,curl weights=edge0:5,kernel:95 capture=true telemetry=true");
	check_words("x weights edge0:5,kernel:0x5f", "x weights=edge0:5,kernel:95");
	check_words("x use=weights=a:1", "x weights=a:1");
	check_words("x auto edge0,kernel", "x auto=edge0,kernel");
	check_words(
		"x use auto=edge0,kernel objective reliability sla p99:2ms min_gain 5 canary=20% "
		"dwell 90s cooldown 1h",
		"x auto=edge0,kernel objective=reliability sla=p99:2ms min_gain=5% dwell=90s "
		"cooldown=1h canary=20%");
	check_words("x use=kernel local_port 80 first", "x local_port=80 use=kernel");
	CU_ASSERT_EQUAL(place.where, PLACE_FIRST);
	check_words("x before other use kernel", "x use=kernel");
	CU_ASSERT_EQUAL(place.where, PLACE_BEFORE);
	CU_ASSERT_STRING_EQUAL(place.rule, "other");
}

static void test_bad_words(void)
{
	check_bad("x", "rule \"x\" has no \"use\": name the stacks that it chooses");
	check_bad("x use", "\"use\" needs a value");
	check_bad("x remot 10.0.0.0/8 use kernel",
		  "unknown word \"remot\"; did you mean \"remote\"?");
	check_bad("x fly me", "unknown word \"fly\"; see dmm-policy help keys for those of a rule");
	check_bad("x match a use b",
		  "unknown word \"match\"; see dmm-policy help keys for those of "
		  "a rule");
	check_bad("x use a use b", "\"use\" is there twice; separate its values by commas");
	check_bad("x use a remote 10.0.0.1/8",
		  "remote of match of rule \"x\": \"10.0.0.1/8\" has bits set beyond the prefix; "
		  "did you mean 10.0.0.0/8?");
	check_bad("x program ng\xa1nx use a",
		  "program of match of rule \"x\": has a character that is not ASCII text");
	check_bad("x weights a",
		  "weights of use of rule \"x\": \"\" is not a number from 0 to 65535");
	check_bad("x weights a:1:2",
		  "weights of use of rule \"x\": \"1:2\" is not a number from 0 to 65535");
	check_bad("x weights a:1,a:2", "weights of use of rule \"x\": \"a\" is there twice");
	check_bad("x weights a:1, ", "weights of use of rule \"x\": \"\" is not a name of a stack");
	check_bad("x weights a:1 use b", "\"use\" is there twice; separate its values by commas");
	check_bad("x auto a use b", "\"use\" is there twice; separate its values by commas");
	check_bad("x auto a weights a:1", "use of rule \"x\" has both \"weights\" and \"auto\"");
	check_bad("x use a objective latency",
		  "\"use\" is there twice; separate its values by commas");
	check_bad("x objective latency", "use of rule \"x\" has neither \"weights\" nor \"auto\"");
	check_bad("x objectve latency", "unknown word \"objectve\"; did you mean \"objective\"?");
	check_bad("x auto a,b sla p99",
		  "p99 of sla of use of rule \"x\": \"\" is not a time from 1us to 1m, such as "
		  "250us, 2ms, 30s or 5m");
	check_bad("x wieghts a:1", "unknown word \"wieghts\"; did you mean \"weights\"?");
	check_bad("x uid nobody-here use a",
		  "uid of match of rule \"x\": \"nobody-here\" is no user of this host; a number "
		  "works on every host");
	check_bad("x use a, ",
		  "use of rule \"x\": \"\" is not a name (letters, digits, _ - . and at most 31 "
		  "characters)");
	check_bad("x use a first last", "\"last\": a second place for the rule");
	check_bad("x use a before", "\"before\" needs the name of a rule");
	check_bad("use=a", "the rule needs a name");
	check_bad("a/b use c", "name of rule 1: \"a/b\" is not a name (letters, digits, _ - . and "
			       "at most 31 characters)");
}

/* What show prints of a rule is what add takes. */
static void test_round_trip(void)
{
	for (uint64_t seed = 0; seed < 300; seed++) {
		struct rng r = {.state = seed};
		struct dmm_policy *p = gen_policy_full(&r);

		for (size_t i = 0; i < p->n_rules; i++) {
			char *text = NULL;
			struct fields f;
			size_t len;
			FILE *out = open_memstream(&text, &len);

			fprintf(out, "%s ", p->rules[i].name);
			fields_of_rule(&p->rules[i], &f);
			fields_print(&f, out);
			fclose(out);
			check_words(text, text);
			fields_fini(&f);
			free(text);
		}
		policy_free(p);
	}
}

static const struct ctl_verb *find(const char *line, int *ret_candidates)
{
	char copy[64], *argv[4], *save = NULL;
	int argc = 0, n;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *w = strtok_r(copy, " ", &save); w && argc < 4; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	return ctl_find_verb(argc, argv, &n, ret_candidates);
}

static void test_verbs(void)
{
	unsigned all = CTL_COMMON;
	int n;

	for (size_t i = 0; i < ctl_n_verbs; i++) {
		const struct ctl_verb *v = &ctl_verbs[i];

		CU_ASSERT_PTR_EQUAL(find(v->words, &n), v);
		CU_ASSERT(strlen(v->help) > 0 && strlen(v->help) < 75);
		CU_ASSERT_PTR_NOT_NULL(v->run);
		CU_ASSERT(v->max_args < 0 || v->max_args >= v->min_args);
		CU_ASSERT_EQUAL(v->options & CTL_COMMON, 0);
		all |= v->options;
	}
	for (size_t i = 0; i < ctl_n_options; i++) {
		const struct ctl_option_row *o = &ctl_options[i];

		CU_ASSERT(o->bit & all);
		CU_ASSERT(strlen(o->help) > 0);
		for (size_t j = 0; j < i; j++)
			CU_ASSERT(!(o->bit & ctl_options[j].bit));
	}
	for (size_t i = 0; i < ctl_n_verbs; i++) { /* a letter means one option of each verb */
		unsigned known = ctl_verbs[i].options | CTL_COMMON;

		for (size_t j = 0; j < ctl_n_options; j++)
			for (size_t k = 0; k < j; k++)
				CU_ASSERT(!ctl_options[j].letter ||
					  ctl_options[j].letter != ctl_options[k].letter ||
					  !(ctl_options[j].bit & known) ||
					  !(ctl_options[k].bit & known));
	}
	CU_ASSERT_STRING_EQUAL(find("fl", &n)->words, "flows");
	CU_ASSERT_STRING_EQUAL(find("stac l", &n)->words, "stack list");
	CU_ASSERT_STRING_EQUAL(find("group", &n)->words, "group list");
	CU_ASSERT_PTR_NULL(find("st", &n));
	CU_ASSERT_EQUAL(n, 2);
	CU_ASSERT_PTR_NULL(find("capture", &n)); /* nothing to list */
	CU_ASSERT_EQUAL(n, 2);
	CU_ASSERT_PTR_NULL(find("group fly", &n));
	CU_ASSERT_EQUAL(n, 0);
	CU_ASSERT_PTR_NULL(find("", &n));
}

/* Every key that the reader knows can be given by words, and its row has help. */
static void test_keys(void)
{
	for (size_t i = 0; i < policy_n_objects; i++)
		for (size_t j = 0; j < policy_objects[i].n; j++) {
			const struct key *k = &policy_objects[i].keys[j];

			CU_ASSERT_PTR_NOT_NULL_FATAL(k->name);
			CU_ASSERT_PTR_NOT_NULL(k->read);
			CU_ASSERT_PTR_NOT_NULL(k->value);
			CU_ASSERT_PTR_NOT_NULL(k->help);
			CU_ASSERT_PTR_EQUAL(
				keys_find(policy_objects[i].keys, policy_objects[i].n, k->name), k);
		}
}

static void test_text(void)
{
	static const char *const headers[] = {"A", ">NUMBER"};
	char *text = NULL;
	size_t len;
	struct table t;
	FILE *out = open_memstream(&text, &len);

	table_init(&t, headers, 2);
	table_cell(&t, "long");
	table_cell(&t, "%d", 1);
	table_cell(&t, "\033[1m");
	table_cell(&t, "%d", 12345678);
	table_print(&t, out);
	fclose(out);
	CU_ASSERT_STRING_EQUAL(text, "A       NUMBER\nlong         1\n?[1m  12345678\n");
	free(text);
}

/* A table with columns of all kinds, for this look. */
static void check_look(struct table_look look, const char *want)
{
	static const char *const headers[] = {"A", "?>LEFT-OUT", "~CUT", "+WRAPPED"};
	char *text = NULL;
	size_t len;
	struct table t;
	FILE *out = open_memstream(&text, &len);

	table_init(&t, headers, 4);
	table_cell(&t, "up");
	table_tint(&t, TINT_GOOD);
	table_cell(&t, "12");
	table_cell(&t, "a…very…long…word");
	table_cell(&t, "some words in a row");
	table_print_as(&t, out, &look);
	fclose(out);
	CU_ASSERT_STRING_EQUAL(text, want);
	free(text);
}

static void test_look(void)
{
	const char *wide = "A   LEFT-OUT  CUT               WRAPPED\n"
			   "up        12  a…very…long…word  some words in a row\n";

	check_look((struct table_look){0}, wide);
	check_look((struct table_look){.width = 51}, wide);
	check_look((struct table_look){.width = 50},
		   "A   LEFT-OUT  CUT               WRAPPED\n"
		   "up        12  a…very…long…word  some words in a\n"
		   "                                row\n");
	check_look((struct table_look){.width = 46},
		   "A   LEFT-OUT  CUT              WRAPPED\n"
		   "up        12  a…very…long…wo…  some words in a\n"
		   "                               row\n");
	check_look((struct table_look){.width = 45}, "A   CUT               WRAPPED\n"
						     "up  a…very…long…word  some words in a row\n"
						     "(too narrow for: LEFT-OUT)\n");
	/* narrower than possible: nothing is lost beyond what may be */
	check_look((struct table_look){.width = 5}, "A   CUT              WRAPPED\n"
						    "up  a…very…long…wo…  some words in a\n"
						    "                     row\n"
						    "(too narrow for: LEFT-OUT)\n");
	check_look((struct table_look){.colour = true},
		   "\033[1mA\033[0m   \033[1mLEFT-OUT\033[0m  "
		   "\033[1mCUT\033[0m               \033[1mWRAPPED\033[0m\n"
		   "\033[32mup\033[0m        12  a…very…long…word  some words in a row\n");
}

/* The last column is the one that is left out; the last row is not whole. */
static void test_last_column(void)
{
	static const char *const headers[] = {"A", "~CUT", "?LEFT-OUT"};
	struct table_look look = {.width = 20};
	char *text = NULL;
	size_t len;
	struct table t;
	FILE *out = open_memstream(&text, &len);

	table_init(&t, headers, 3);
	for (int i = 0; i < 7; i++)
		table_cell(&t, "%d", i);
	table_print_as(&t, out, &look);
	fclose(out);
	CU_ASSERT_STRING_EQUAL(text, "A  CUT  LEFT-OUT\n"
				     "0  1    2\n"
				     "3  4    5\n"
				     "6\n");
	free(text);
	out = open_memstream(&text, &len);
	look.width = 15;
	table_init(&t, headers, 3);
	for (int i = 0; i < 7; i++)
		table_cell(&t, "%d", i);
	table_print_as(&t, out, &look);
	fclose(out);
	CU_ASSERT_STRING_EQUAL(text, "A  CUT\n"
				     "0  1\n"
				     "3  4\n"
				     "6\n"
				     "(too narrow for: LEFT-OUT)\n");
	free(text);
}

static void test_numbers(void)
{
	char buf[TABLE_TEXT];

	CU_ASSERT_STRING_EQUAL(text_bytes(0, buf), "0");
	CU_ASSERT_STRING_EQUAL(text_bytes(1023, buf), "1023");
	CU_ASSERT_STRING_EQUAL(text_bytes(1024, buf), "1.0K");
	CU_ASSERT_STRING_EQUAL(text_bytes(1023 * 1024, buf), "1.0M");
	CU_ASSERT_STRING_EQUAL(text_bytes(50ULL << 30, buf), "50G");
	CU_ASSERT_STRING_EQUAL(text_bytes(UINT64_MAX, buf), "16E");
	CU_ASSERT_STRING_EQUAL(text_age(350000000ULL, buf), "350ms");
	CU_ASSERT_STRING_EQUAL(text_age(61000000000ULL, buf), "1m01s");
	CU_ASSERT_STRING_EQUAL(text_age(3600000000000ULL, buf), "1h00m");
	CU_ASSERT_STRING_EQUAL(text_age(90000000000000ULL, buf), "1d1h");
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"words to a rule", test_words},
		{"mistakes", test_bad_words},
		{"what is shown is what is taken", test_round_trip},
		{"verbs and options", test_verbs},
		{"keys", test_keys},
		{"tables", test_text},
		{"tables on terminals", test_look},
		{"tables without their last column", test_last_column},
		{"sizes, times", test_numbers},
		CU_TEST_INFO_NULL,
	};
	int r = unit_run("words", tests);

	policy_diags_fini(&diags);
	return r;
}
