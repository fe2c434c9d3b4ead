// SPDX-License-Identifier: Apache-2.0
/*
 * disable and enable: live control of stacks, groups and rules. Sockets that exist keep what they
 * have; new ones stay on the kernel stack, or go to the next stack of their list, with the reason
 * admin-off. A rule's switch is part of the policy, those of stacks and groups lie beside it.
 */
#include <errno.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/attach.h"
#include "policyd/ctl.h"

int ctl_switch_stack(struct ctl_state *s, const char *name, bool off, bool *ret_changed)
{
	int id = class_stack(s->class, name);

	if (id < 0) {
		ctl_unknown_name(s->class, CTL_N_STACK, name);
		return id;
	}
	if (id == DMM_STACK_KERNEL || s->class->stack[id].kind == DMM_KIND_REJECT) {
		log_err("stack \"%s\" is built in and always there; disable the rule, or the group",
			name);
		return -EINVAL;
	}
	*ret_changed = s->tree.rt[id].off != off;
	s->tree.rt[id].off = off;
	return 0;
}

static int switch_group(struct ctl_state *s, const char *name, bool off, bool *ret_changed)
{
	int id = class_group(s->class, name), r;

	if (id < 0) {
		ctl_unknown_name(s->class, CTL_N_GROUP, name);
		return id;
	}
	*ret_changed = attach_group_off(&s->tree, &s->class->group[id]) != off;
	r = attach_group_switch(&s->tree, (unsigned)id, off);
	if (r < 0)
		log_err("group \"%s\": %s", name,
			r == -ENOENT ? "it is not attached" : strerror(-r));
	return r;
}

/* All of them before any is switched. */
static int check_names(const struct dmm_class *class, enum ctl_names kind, int argc, char **argv)
{
	int r = CTL_OK;

	for (int i = 0; i < argc; i++) {
		if ((kind == CTL_N_STACK ? class_stack : class_group)(class, argv[i]) >= 0)
			continue;
		ctl_unknown_name(class, kind, argv[i]);
		r = CTL_FAILED;
	}
	return r;
}

static int switch_all(const struct ctl *c, int argc, char **argv, bool off, const char *what,
		      enum ctl_names kind,
		      int (*one)(struct ctl_state *s, const char *name, bool off,
				 bool *ret_changed))
{
	_cleanup_close_ int lock = -1;
	struct ctl_state s;
	json_t *list;
	int r;

	if (tree_lock(c->bpffs, true, &lock) < 0) {
		log_err("cannot take the writers' lock");
		return CTL_FAILED;
	}
	r = ctl_state_open(c, &s);
	if (r != CTL_OK)
		return r;
	r = check_names(s.class, kind, argc, argv);
	if (r != CTL_OK) {
		ctl_state_close(&s);
		return r;
	}
	list = json_array();
	for (int i = 0; i < argc; i++) {
		bool changed = false;

		if (one(&s, argv[i], off, &changed) < 0) {
			r = CTL_FAILED;
			continue;
		}
		json_array_append_new(list, json_pack("{s:s, s:b, s:b}", what, argv[i], "off", off,
						      "changed", changed));
		if (!(c->given & CTL_JSON))
			printf("%s %s %s%s\n", what, argv[i], changed ? "" : "was ",
			       off ? "off" : "on");
	}
	ctl_state_close(&s);
	if (c->given & CTL_JSON)
		return ctl_print_json(c, list) == CTL_OK ? r : CTL_FAILED;
	json_decref(list);
	return r;
}

int ctl_stack_disable(const struct ctl *c, int argc, char **argv)
{
	return switch_all(c, argc, argv, true, "stack", CTL_N_STACK, ctl_switch_stack);
}

int ctl_stack_enable(const struct ctl *c, int argc, char **argv)
{
	return switch_all(c, argc, argv, false, "stack", CTL_N_STACK, ctl_switch_stack);
}

int ctl_group_disable(const struct ctl *c, int argc, char **argv)
{
	return switch_all(c, argc, argv, true, "group", CTL_N_GROUP, switch_group);
}

int ctl_group_enable(const struct ctl *c, int argc, char **argv)
{
	return switch_all(c, argc, argv, false, "group", CTL_N_GROUP, switch_group);
}
