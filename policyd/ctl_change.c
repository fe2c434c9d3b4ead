// SPDX-License-Identifier: Apache-2.0
/* The verbs that change the policy: read what is in force, edit, check, commit. */
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/fleet/shared.h"
#include "policyd/diag.h"
#include "policyd/history.h"
#include "policyd/json.h"
#include "policyd/node.h"

/* A change under way. */
struct edit {
	struct ctl_state state;
	struct dmm_policy *policy;	   /* as it is to be */
	struct policy_diags diags, before; /* before: of the policy in force */
	int lock;
};

static void edit_end(struct edit *e)
{
	policy_diags_fini(&e->diags);
	policy_diags_fini(&e->before);
	policy_free(e->policy);
	if (e->state.class)
		ctl_state_close(&e->state);
	if (e->lock >= 0)
		close(e->lock);
}

/* Lock and read. With make, the tree is made if it is not there. */
static int edit_begin(const struct ctl *c, bool make, struct edit *e)
{
	struct tree tree;
	int r;

	*e = (struct edit){.lock = -1};
	if (make) {
		r = tree_install(&tree, c->bpffs);
		if (r < 0) {
			log_err("cannot make %s: %s", tree_path(c->bpffs), strerror(-r));
			return CTL_FAILED;
		}
		tree_close(&tree);
	}
	r = tree_lock(c->bpffs, true, &e->lock);
	if (r < 0) {
		log_err("cannot take the writers' lock: %s", strerror(-r));
		return CTL_FAILED;
	}
	r = ctl_state_open(c, &e->state);
	if (r == CTL_OK && c->only_if && e->state.generation != c->only_if) {
		log_err("generation %llu is in force, not %llu", e->state.generation, c->only_if);
		return CTL_FAILED;
	}
	if (r == CTL_OK && !c->confirmed && !(c->given & CTL_DRY_RUN))
		r = ctl_refuse_pending(&e->state);
	if (r == CTL_OK && c->confirm_s)
		r = ctl_may_guard(&e->state);
	return r;
}

/* An edit of what is in force: its rules as a policy. */
static int edit_begin_rules(const struct ctl *c, struct edit *e)
{
	int r = edit_begin(c, false, e);

	if (r != CTL_OK)
		return r;
	r = class_decompile(e->state.class, &e->policy);
	if (r < 0) {
		log_err("the policy in force cannot be read back: %s", strerror(-r));
		return CTL_FAILED;
	}
	policy_check(e->policy, &e->before);
	return CTL_OK;
}

/* Leave out what was said about the policy in force already. */
static void diags_subtract(struct policy_diags *d, const struct policy_diags *before)
{
	size_t kept = 0;

	for (size_t i = 0; i < d->n; i++) {
		bool known = false;

		for (size_t j = 0; j < before->n && !known && !d->list[i].error; j++)
			known = strcmp(before->list[j].text, d->list[i].text) == 0;
		if (!known)
			d->list[kept++] = d->list[i];
	}
	d->n = kept;
}

static void warn_interfaces(const struct dmm_policy *p)
{
	for (size_t i = 0; i < p->n_stacks; i++) {
		const struct dmm_stack_rec *s = &p->stacks[i].rec;

		if (s->kind == DMM_KIND_USERSPACE && if_nametoindex(s->interface) == 0)
			log_warn("stack %s: there is no interface %s here now; the stack stays "
				 "down until there is",
				 s->name, s->interface);
	}
}

static json_t *changes_json(const char *text)
{
	json_t *list = json_array();

	while (*text) {
		size_t len = strcspn(text, "\n");

		json_array_append_new(list, json_stringn(text, len));
		text += len + (text[len] == '\n');
	}
	return list;
}

static int report(const struct ctl *c, const struct edit *e, const char *changes, int lines,
		  dmm_u64 generation)
{
	bool dry = c->given & CTL_DRY_RUN;

	if (c->given & CTL_JSON)
		return ctl_print_json(c, json_pack("{s:o, s:b, s:I, s:o}", "changes",
						   changes_json(changes), "dry_run", dry,
						   "generation", (json_int_t)generation,
						   "diagnostics", json_diags(&e->diags)));
	fputs(changes, stdout);
	if (dry)
		printf("%d change%s, not made (dry run); generation %llu stays in force\n", lines,
		       lines == 1 ? "" : "s", generation);
	else if (c->confirm_s && lines)
		printf("generation %llu in force for %u s, then %llu again, unless: dmm-policy "
		       "confirm\n",
		       generation, c->confirm_s, e->state.generation);
	else
		printf("generation %llu in force%s\n", generation, lines ? "" : ", no change");
	return CTL_OK;
}

/* Check e->policy, print what changes, put it in force. prev: what it is compared with. */
static int edit_commit(const struct ctl *c, struct edit *e, const struct dmm_class *prev)
{
	_cleanup_class_ struct dmm_class *next = class_new();
	_cleanup_free_ char *changes = NULL;
	dmm_u64 generation = e->state.generation;
	size_t len;
	FILE *out;
	int r, lines;

	shared_last(e->policy);
	r = policy_check(e->policy, &e->diags);
	diags_subtract(&e->diags, &e->before);
	policy_diags_print(&e->diags, stderr);
	if (r < 0)
		return CTL_FAILED;
	out = open_memstream(&changes, &len);
	r = next && out ? class_compile(e->policy, prev, next) : -ENOMEM;
	lines = r < 0 ? r : class_diff(prev, next, out);
	if (out && fclose(out) != 0)
		lines = -ENOMEM;
	if (lines < 0) {
		log_err("the policy cannot be compiled: %s", strerror(-lines));
		return CTL_FAILED;
	}
	if (c->given & CTL_DRY_RUN)
		return report(c, e, changes, lines, generation);
	if (generation == 0 || !class_equal(prev, next)) {
		r = history_commit(&e->state.tree, next, c->how, &generation);
		if (r < 0) {
			log_err("the change was not made: %s; generation %llu stays in force",
				strerror(-r), e->state.generation);
			return CTL_FAILED;
		}
		/* The daemon may want the lock. */
		close(e->lock);
		e->lock = -1;
		if (c->confirm_s &&
		    ctl_guard(c, &e->state, generation, e->state.generation) != CTL_OK)
			return CTL_FAILED;
		ctl_poke_daemon();
	}
	return report(c, e, changes, lines, generation);
}

/* ---- add, del ---- */

static int rule_index(const struct dmm_policy *p, const char *name, size_t *ret)
{
	for (size_t i = 0; i < p->n_rules; i++)
		if (strcmp(p->rules[i].name, name) == 0) {
			*ret = i;
			return 0;
		}
	return -ENOENT;
}

static void rule_remove(struct dmm_policy *p, size_t i)
{
	policy_rule_fini(&p->rules[i]);
	p->n_rules--;
	memmove(&p->rules[i], &p->rules[i + 1], (p->n_rules - i) * sizeof(p->rules[0]));
}

/* Takes rule over if it succeeds. */
static int rule_insert(struct dmm_policy *p, size_t i, struct dmm_rule *rule)
{
	struct dmm_rule *list = realloc(p->rules, (p->n_rules + 1) * sizeof(*list));

	if (!list)
		return -ENOMEM;
	p->rules = list;
	memmove(&list[i + 1], &list[i], (p->n_rules - i) * sizeof(*list));
	list[i] = *rule;
	p->n_rules++;
	*rule = (struct dmm_rule){0};
	return 0;
}

/* Where the rule goes; an old one of its name is removed. */
static int place_rule(const struct ctl *c, struct dmm_policy *p, const struct dmm_rule *rule,
		      const struct ctl_place *place, size_t *ret)
{
	bool replace = c->given & CTL_REPLACE;
	size_t i;

	*ret = p->n_rules;
	if (rule_index(p, rule->name, &i) == 0) {
		if (!replace) {
			log_err("rule \"%s\" is there already; --replace replaces it", rule->name);
			return -EEXIST;
		}
		rule_remove(p, i);
		*ret = i;
	}
	switch (place->where) {
	case PLACE_NONE:
		break;
	case PLACE_FIRST:
		*ret = 0;
		break;
	case PLACE_LAST:
		*ret = p->n_rules;
		break;
	case PLACE_BEFORE:
	case PLACE_AFTER:
		if (rule_index(p, place->rule, &i) < 0) {
			log_err("there is no rule \"%s\" to place this one %s", place->rule,
				place->where == PLACE_BEFORE ? "before" : "after");
			return -ENOENT;
		}
		*ret = i + (place->where == PLACE_AFTER);
		break;
	}
	return 0;
}

int ctl_add(const struct ctl *c, int argc, char **argv)
{
	struct policy_diags diags = {0};
	struct ctl_place place;
	struct dmm_rule rule;
	struct edit e;
	size_t at;
	int r;

	r = ctl_words_rule(argc, argv, &rule, &place, &diags);
	policy_diags_print(&diags, stderr);
	policy_diags_fini(&diags);
	if (r < 0) {
		policy_rule_fini(&rule);
		return CTL_USAGE;
	}
	r = edit_begin_rules(c, &e);
	if (r == CTL_OK) {
		if (place_rule(c, e.policy, &rule, &place, &at) < 0 ||
		    rule_insert(e.policy, at, &rule) < 0)
			r = CTL_FAILED;
		else
			r = edit_commit(c, &e, e.state.class);
	}
	policy_rule_fini(&rule);
	edit_end(&e);
	return r;
}

/* Do one thing to each of the rules that are named, and commit. */
static int change_rules(const struct ctl *c, int argc, char **argv,
			void (*change)(struct dmm_policy *p, size_t at))
{
	struct edit e;
	size_t at;
	int r = edit_begin_rules(c, &e);

	for (int i = 0; r == CTL_OK && i < argc; i++) {
		if (rule_index(e.policy, argv[i], &at) < 0) {
			ctl_unknown_name(e.state.class, CTL_N_RULE, argv[i]);
			r = CTL_FAILED;
		} else {
			change(e.policy, at);
		}
	}
	if (r == CTL_OK)
		r = edit_commit(c, &e, e.state.class);
	edit_end(&e);
	return r;
}

static void rule_disable(struct dmm_policy *p, size_t at)
{
	p->rules[at].disabled = true;
}

static void rule_enable(struct dmm_policy *p, size_t at)
{
	p->rules[at].disabled = false;
}

static void rule_capture(struct dmm_policy *p, size_t at)
{
	p->rules[at].capture = true;
}

static void rule_uncapture(struct dmm_policy *p, size_t at)
{
	p->rules[at].capture = false;
}

int ctl_del(const struct ctl *c, int argc, char **argv)
{
	return change_rules(c, argc, argv, rule_remove);
}

int ctl_rule_disable(const struct ctl *c, int argc, char **argv)
{
	return change_rules(c, argc, argv, rule_disable);
}

int ctl_rule_enable(const struct ctl *c, int argc, char **argv)
{
	return change_rules(c, argc, argv, rule_enable);
}

int ctl_capture_on(const struct ctl *c, int argc, char **argv)
{
	return change_rules(c, argc, argv, rule_capture);
}

int ctl_capture_off(const struct ctl *c, int argc, char **argv)
{
	return change_rules(c, argc, argv, rule_uncapture);
}

/* ---- files ---- */

static int read_stdin(struct dmm_policy **ret, struct policy_diags *diags)
{
	_cleanup_free_ char *text = malloc(NODE_MAX_BYTES + 1);
	size_t len;

	if (!text)
		return -ENOMEM;
	len = fread(text, 1, NODE_MAX_BYTES + 1, stdin);
	return policy_parse_text("stdin", text, len, ret, diags);
}

static int read_policy(const struct ctl *c, struct dmm_policy **ret, struct policy_diags *diags)
{
	int r;

	*ret = NULL;
	if (!c->file)
		r = policy_parse_dir(CTL_CONFIG, ret, diags);
	else if (strcmp(c->file, "-") == 0)
		r = read_stdin(ret, diags);
	else
		r = policy_parse_file(c->file, ret, diags);
	if (r == -ENOMEM)
		log_err("out of memory");
	return r;
}

int ctl_validate(const struct ctl *c, int argc, char **argv)
{
	struct policy_diags diags = {0};
	struct dmm_policy *p;
	int r = read_policy(c, &p, &diags);

	(void)argc;
	(void)argv;
	if (r == 0)
		r = policy_check(p, &diags);
	if (c->given & CTL_JSON)
		ctl_print_json(c, json_pack("{s:b, s:o}", "valid", r == 0, "diagnostics",
					    json_diags(&diags)));
	else
		policy_diags_print(&diags, stderr);
	if (r == 0 && !(c->given & CTL_JSON)) {
		warn_interfaces(p);
		printf("%s: valid: %zu group%s, %zu stack%s, %zu rule%s\n",
		       c->file ? c->file : CTL_CONFIG, p->n_groups, p->n_groups == 1 ? "" : "s",
		       p->n_stacks, p->n_stacks == 1 ? "" : "s", p->n_rules,
		       p->n_rules == 1 ? "" : "s");
	}
	policy_diags_fini(&diags);
	policy_free(p);
	return r < 0 ? CTL_FAILED : CTL_OK;
}

/* A dry run where nothing is in force yet compares with nothing. */
static int apply_dry(const struct ctl *c, struct edit *e)
{
	_cleanup_class_ struct dmm_class *nothing = class_new();
	struct tree tree;
	int r = tree_open(&tree, c->bpffs);

	if (r == -ENOENT)
		return nothing ? edit_commit(c, e, nothing) : CTL_FAILED;
	if (r == 0)
		tree_close(&tree);
	r = ctl_state_open(c, &e->state);
	return r == CTL_OK ? edit_commit(c, e, e->state.class) : r;
}

int ctl_put(const struct ctl *c, struct dmm_policy *p)
{
	struct edit e = {.lock = -1};
	int r;

	if (c->given & CTL_DRY_RUN) {
		e.policy = p;
		r = apply_dry(c, &e);
	} else {
		r = edit_begin(c, true, &e);
		e.policy = p;
		if (r == CTL_OK)
			r = edit_commit(c, &e, e.state.class);
	}
	edit_end(&e);
	return r;
}

int ctl_apply(const struct ctl *c, int argc, char **argv)
{
	struct policy_diags diags = {0};
	struct dmm_policy *p;
	int r = read_policy(c, &p, &diags);

	(void)argc;
	(void)argv;
	/* Look for all mistakes before the tree is touched. edit_commit() prints those of the
	 * check. */
	if (r == 0) {
		struct policy_diags found = {0};

		policy_diags_print(&diags, stderr);
		r = policy_check(p, &found);
		if (r < 0)
			policy_diags_print(&found, stderr);
		policy_diags_fini(&found);
	} else {
		policy_diags_print(&diags, stderr);
	}
	policy_diags_fini(&diags);
	if (r < 0) {
		log_err("%s: not taken, nothing changed", c->file ? c->file : CTL_CONFIG);
		policy_free(p);
		return CTL_FAILED;
	}
	warn_interfaces(p);
	return ctl_put(c, p);
}
