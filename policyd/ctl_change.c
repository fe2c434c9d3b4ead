// SPDX-License-Identifier: Apache-2.0
/* The verbs that change the whole policy, and what those for single rules share with them. */
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl_change.h"
#include "policyd/diag.h"
#include "policyd/fleet/shared.h"
#include "policyd/history.h"
#include "policyd/json.h"
#include "policyd/node.h"

void ctl_edit_end(struct edit *e)
{
	policy_diags_fini(&e->diags);
	policy_free(e->policy);
	if (e->state.class)
		ctl_state_close(&e->state);
	if (e->lock >= 0)
		close(e->lock);
}

int ctl_edit_begin(const struct ctl *c, bool make, struct edit *e)
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

int ctl_edit_policy(struct edit *e)
{
	int r = class_decompile(e->state.class, &e->policy);

	if (r < 0) {
		log_err("the policy in force cannot be read back: %s", strerror(-r));
		return CTL_FAILED;
	}
	e->of_rules = true;
	return CTL_OK;
}

/* Leave out what is to be said about the policy in force already. */
static void leave_known_out(struct edit *e)
{
	struct policy_diags *d = &e->diags, before = {0};
	struct dmm_policy *p;
	size_t kept = 0;

	if (!e->of_rules || d->n == 0 || class_decompile(e->state.class, &p) < 0)
		return;
	policy_check(p, &before);
	for (size_t i = 0; i < d->n; i++) {
		bool known = false;

		for (size_t j = 0; j < before.n && !known && !d->list[i].error; j++)
			known = strcmp(before.list[j].text, d->list[i].text) == 0;
		if (!known)
			d->list[kept++] = d->list[i];
	}
	d->n = kept;
	policy_diags_fini(&before);
	policy_free(p);
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

int ctl_edit_put(const struct ctl *c, struct edit *e, const struct dmm_class *next,
		 const char *changes, int lines, bool same)
{
	dmm_u64 generation = e->state.generation;
	int r;

	if (c->given & CTL_DRY_RUN || (same && generation))
		return report(c, e, changes, lines, generation);
	r = history_commit(&e->state.tree, next, c->how, &generation);
	if (r < 0) {
		log_err("the change was not made: %s; generation %llu stays in force", strerror(-r),
			e->state.generation);
		return CTL_FAILED;
	}
	/* The daemon may want the lock. */
	close(e->lock);
	e->lock = -1;
	if (c->confirm_s && ctl_guard(c, &e->state, generation, e->state.generation) != CTL_OK)
		return CTL_FAILED;
	ctl_poke_daemon();
	return report(c, e, changes, lines, generation);
}

int ctl_edit_check(struct edit *e)
{
	int r;

	shared_last(e->policy);
	r = policy_check(e->policy, &e->diags);
	leave_known_out(e);
	policy_diags_print(&e->diags, stderr);
	return r < 0 ? CTL_FAILED : CTL_OK;
}

int ctl_edit_check_rule(struct edit *e, const char *name)
{
	size_t rule;
	int r;

	shared_last(e->policy);
	r = policy_find_rule(e->policy, name, &rule);
	if (r == 0)
		r = policy_check_added(e->policy, rule, &e->diags);
	policy_diags_print(&e->diags, stderr);
	return r < 0 ? CTL_FAILED : CTL_OK;
}

int ctl_edit_compile(const struct ctl *c, struct edit *e, const struct dmm_class *prev)
{
	_cleanup_class_ struct dmm_class *next = class_new();
	_cleanup_free_ char *changes = NULL;
	size_t len;
	FILE *out = open_memstream(&changes, &len);
	int r = next && out ? class_compile(e->policy, prev, next) : -ENOMEM;
	int lines = r < 0 ? r : class_diff(prev, next, out);

	if (out && fclose(out) != 0)
		lines = -ENOMEM;
	if (lines < 0) {
		log_err("the policy cannot be compiled: %s",
			lines == -E2BIG ? "it is too large" : strerror(-lines));
		return CTL_FAILED;
	}
	return ctl_edit_put(c, e, next, changes, lines, class_equal(prev, next));
}

/* Check e->policy, print what changes, put it in force. prev: what it is compared with. */
static int edit_commit(const struct ctl *c, struct edit *e, const struct dmm_class *prev)
{
	int r = ctl_edit_check(e);

	return r == CTL_OK ? ctl_edit_compile(c, e, prev) : r;
}

/* ---- files ---- */

static int read_stdin(struct dmm_policy **ret, struct policy_diags *diags)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(stdin, NODE_MAX_BYTES + 1, &text, &len);

	return r < 0 ? r : policy_parse_text("stdin", text, len, ret, diags);
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

/* What only shows when it is compiled: that it is too large. */
static int check_size(const struct dmm_policy *p, struct policy_diags *diags)
{
	_cleanup_class_ struct dmm_class *class = class_new();
	const struct policy_pos nowhere = {0};
	int r = class ? class_compile(p, NULL, class) : -ENOMEM;

	if (r < 0)
		diag_error_at(diags, &nowhere, "the policy cannot be compiled: %s",
			      r == -E2BIG ? "it is too large" : strerror(-r));
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
	if (r == 0)
		r = check_size(p, &diags);
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
		r = ctl_edit_begin(c, true, &e);
		e.policy = p;
		if (r == CTL_OK)
			r = edit_commit(c, &e, e.state.class);
	}
	ctl_edit_end(&e);
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
