// SPDX-License-Identifier: Apache-2.0
/*
 * The verbs that change single rules. They edit the class in force in place, so that it does not
 * take longer the more rules there are; where there is no room, the whole policy is compiled.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl_change.h"
#include "policyd/diag.h"
#include "policyd/edit.h"

/* The lines about what an edit in place changed. */
struct changes {
	char *text;
	size_t len;
	FILE *out;
	int lines;
};

static int changes_open(struct changes *s)
{
	*s = (struct changes){0};
	s->out = open_memstream(&s->text, &s->len);
	return s->out ? 0 : -ENOMEM;
}

static void changes_rule(struct changes *s, const struct dmm_rule *old, const struct dmm_rule *now)
{
	s->lines += rule_diff(old, now, s->out);
}

/* r: how the edit went. The class in force was changed in place, or, -ENOSPC, is spoiled and read
 * again. An exit status or -errno; what went wrong was said but for -ENOSPC. */
static int changes_put(const struct ctl *c, struct edit *e, struct changes *s, int r)
{
	if (s->out && fclose(s->out) != 0 && r == 0)
		r = -ENOMEM;
	if (r == 0)
		r = ctl_edit_put(c, e, e->state.class, s->text, s->lines, s->lines == 0);
	else if (r == -ENOSPC && maps_read(&e->state.tree, e->state.class, NULL) < 0)
		r = -EIO;
	else if (r < 0 && r != -ENOSPC && r != -ENOENT)
		log_err("the rule cannot be changed: %s", strerror(-r));
	free(s->text);
	return r;
}

/* ---- add ---- */

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
	if (policy_find_rule(p, rule->name, &i) == 0) {
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
		if (policy_find_rule(p, place->rule, &i) < 0) {
			log_err("there is no rule \"%s\" to place this one %s", place->rule,
				place->where == PLACE_BEFORE ? "before" : "after");
			return -ENOENT;
		}
		*ret = i + (place->where == PLACE_AFTER);
		break;
	}
	return 0;
}

/* A rule that is there now, where e->policy has it. */
static int put_in_place(struct edit *e, const char *name, bool replace, struct changes *s)
{
	const struct dmm_policy *p = e->policy;
	struct dmm_rule old = {0};
	struct class_edit k;
	dmm_u32 at = DMM_RULE_NONE;
	size_t i;
	int r = edit_begin(&k, e->state.class);

	if (r == 0)
		r = policy_find_rule(p, name, &i);
	if (r == 0 && replace)
		at = edit_find(&k, name);
	if (r == 0 && at != DMM_RULE_NONE) {
		r = class_rule(k.c, k.frame, at, &old);
	} else if (r == 0) {
		if (i + 1 < p->n_rules)
			at = edit_find(&k, p->rules[i + 1].name);
		r = edit_place(&k, at, &at);
	}
	if (r == 0)
		r = edit_put(&k, at, &p->rules[i]);
	if (r == 0)
		changes_rule(s, old.n_use ? &old : NULL, &p->rules[i]);
	policy_rule_fini(&old);
	edit_end(&k);
	return r;
}

/* moved: it does not stay where the one that it replaces was. */
static int commit_rule(const struct ctl *c, struct edit *e, const char *name, bool replace,
		       bool moved)
{
	struct changes s;
	int r = ctl_edit_check_rule(e, name);

	if (r != CTL_OK)
		return r;
	r = moved ? -ENOSPC : changes_open(&s);
	if (r == 0)
		r = changes_put(c, e, &s, put_in_place(e, name, replace, &s));
	return r == -ENOSPC ? ctl_edit_compile(c, e, e->state.class) : r < 0 ? CTL_FAILED : r;
}

int ctl_add(const struct ctl *c, int argc, char **argv)
{
	struct policy_diags diags = {0};
	struct ctl_place place;
	char name[DMM_NAME_LEN];
	struct dmm_rule rule;
	struct edit e;
	size_t at, old = 0;
	bool there;
	int r;

	r = ctl_words_rule(argc, argv, &rule, &place, &diags);
	policy_diags_print(&diags, stderr);
	policy_diags_fini(&diags);
	if (r < 0) {
		policy_rule_fini(&rule);
		return CTL_USAGE;
	}
	memcpy(name, rule.name, sizeof(name));
	r = ctl_edit_begin(c, false, &e);
	if (r == CTL_OK)
		r = ctl_edit_policy(&e);
	if (r == CTL_OK) {
		there = policy_find_rule(e.policy, name, &old) == 0;
		if (place_rule(c, e.policy, &rule, &place, &at) < 0 ||
		    rule_insert(e.policy, at, &rule) < 0)
			r = CTL_FAILED;
		else
			r = commit_rule(c, &e, name, there, there && at != old);
	}
	policy_rule_fini(&rule);
	ctl_edit_end(&e);
	return r;
}

/* ---- rules that are there ---- */

enum change { DEL, DISABLE, ENABLE, CAPTURE, UNCAPTURE };

static void rule_switch(struct dmm_rule *rule, enum change what)
{
	if (what == DISABLE || what == ENABLE)
		rule->disabled = what == DISABLE;
	else
		rule->capture = what == CAPTURE;
}

static int change_in_place(struct class_edit *k, dmm_u32 at, enum change what, struct changes *s)
{
	struct dmm_rule old, now;
	int r = class_rule(k->c, k->frame, at, &old);

	now = old; /* its lists are those of the old one */
	if (r == 0 && what == DEL) {
		changes_rule(s, &old, NULL);
		r = edit_del(k, at);
	} else if (r == 0) {
		rule_switch(&now, what);
		changes_rule(s, &old, &now);
		r = edit_put(k, at, &now);
	}
	policy_rule_fini(&old);
	return r;
}

/* -ENOENT: said already. */
static int change_all_in_place(struct edit *e, int argc, char **argv, enum change what,
			       struct changes *s)
{
	struct class_edit k;
	int r = edit_begin(&k, e->state.class);

	for (int i = 0; r == 0 && i < argc; i++) {
		dmm_u32 at = edit_find(&k, argv[i]);

		if (at == DMM_RULE_NONE) {
			ctl_unknown_name(e->state.class, CTL_N_RULE, argv[i]);
			r = -ENOENT;
		} else {
			r = change_in_place(&k, at, what, s);
		}
	}
	edit_end(&k);
	return r;
}

/* The same by way of the whole policy. */
static int change_whole(const struct ctl *c, struct edit *e, int argc, char **argv,
			enum change what)
{
	size_t at;
	int r = ctl_edit_policy(e);

	for (int i = 0; r == CTL_OK && i < argc; i++) {
		if (policy_find_rule(e->policy, argv[i], &at) < 0) {
			ctl_unknown_name(e->state.class, CTL_N_RULE, argv[i]);
			r = CTL_FAILED;
		} else if (what == DEL) {
			rule_remove(e->policy, at);
		} else {
			rule_switch(&e->policy->rules[at], what);
		}
	}
	if (r == CTL_OK)
		r = ctl_edit_check(e);
	return r == CTL_OK ? ctl_edit_compile(c, e, e->state.class) : r;
}

/* What a shared rule does is in its document: the daemon would put it back at once. */
static int refuse_shared(const struct dmm_class *class, int argc, char **argv)
{
	for (dmm_u32 at = 0; at < class->hdr.rules; at++)
		for (int i = 0; i < argc; i++)
			if (class_live(class, at) && class->rule[at].origin == DMM_ORIGIN_NRD &&
			    strcmp(class->rule[at].name, argv[i]) == 0) {
				log_err("rule \"%s\" is shared by hosts: its document in etcd says "
					"what it does; a rule of your own comes before it",
					argv[i]);
				return CTL_FAILED;
			}
	return CTL_OK;
}

/* Do one thing to each of the rules that are named, and commit. */
static int change_rules(const struct ctl *c, int argc, char **argv, enum change what)
{
	struct changes s;
	struct edit e;
	int r = ctl_edit_begin(c, false, &e);

	if (r == CTL_OK)
		r = refuse_shared(e.state.class, argc, argv);
	if (r == CTL_OK) {
		r = changes_open(&s);
		if (r == 0)
			r = changes_put(c, &e, &s, change_all_in_place(&e, argc, argv, what, &s));
		if (r == -ENOSPC)
			r = change_whole(c, &e, argc, argv, what);
		else if (r < 0)
			r = CTL_FAILED;
	}
	ctl_edit_end(&e);
	return r;
}

int ctl_del(const struct ctl *c, int argc, char **argv)
{
	return change_rules(c, argc, argv, DEL);
}

int ctl_rule_disable(const struct ctl *c, int argc, char **argv)
{
	return change_rules(c, argc, argv, DISABLE);
}

int ctl_rule_enable(const struct ctl *c, int argc, char **argv)
{
	return change_rules(c, argc, argv, ENABLE);
}

int ctl_capture_on(const struct ctl *c, int argc, char **argv)
{
	return change_rules(c, argc, argv, CAPTURE);
}

int ctl_capture_off(const struct ctl *c, int argc, char **argv)
{
	return change_rules(c, argc, argv, UNCAPTURE);
}
