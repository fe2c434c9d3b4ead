// SPDX-License-Identifier: Apache-2.0
/* dmm-run: start a program in a group's cgroup. */
#include <argp.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/cgroup.h"
#include "loader/maps.h"

const char *argp_program_version = "dmm-run " DMM_VERSION;

struct args {
	const char *group, *user, *bpffs;
	char **command;
};

static const struct argp_option options[] = {
	{"group", 'g', "NAME", 0, "run in this group (required)", 0},
	{"user", 'u', "USER", 0, "run as this user, with its groups; default: the caller", 0},
	{"bpffs", 'b', "PATH", 0, "pin tree; default $DMM_BPFFS or " TREE_DEFAULT, 0},
	{0},
};

static error_t on_option(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;

	switch (key) {
	case 'g':
		a->group = arg;
		return 0;
	case 'u':
		a->user = arg;
		return 0;
	case 'b':
		a->bpffs = arg;
		return 0;
	case ARGP_KEY_ARGS:
		a->command = state->argv + state->next;
		return 0;
	case ARGP_KEY_END:
		if (!a->group || !a->command)
			argp_error(state, "a group and a command are needed");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* The group of this name; NULL: there is none. */
static const struct dmm_group_rec *find_group(const struct dmm_group_rec *groups, const char *name)
{
	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++)
		if (strcmp(groups[i].name, name) == 0)
			return &groups[i];
	return NULL;
}

static void list_groups(const struct dmm_group_rec *groups)
{
	for (unsigned i = 1; i < DMM_MAX_GROUPS; i++)
		if (groups[i].name[0])
			log_err("  %s (cgroup %s)", groups[i].name, groups[i].cgroup);
}

static int move(const struct args *a, pid_t pid)
{
	struct dmm_group_rec groups[DMM_MAX_GROUPS] = {0};
	const struct dmm_group_rec *group = NULL;
	struct tree t;
	int r;

	r = tree_open(&t, a->bpffs);
	if (r < 0) {
		log_err("cannot open %s: %s; is dmm-policyd running, or was a policy applied, and "
			"are you root?",
			tree_path(a->bpffs), strerror(-r));
		return r;
	}
	r = maps_groups(&t, groups);
	if (r == 0)
		group = find_group(groups, a->group);
	if (group) {
		r = cgroup_join(group->cgroup, pid);
	} else if (r == 0) {
		r = -ENOENT;
		log_err("there is no group \"%s\" in force; groups are:", a->group);
		list_groups(groups);
	} else {
		log_err("cannot read the groups of %s: %s", t.path, strerror(-r));
	}
	tree_close(&t);
	return r;
}

/* From a child: opening the tree may change the mount namespace, which is not the command's
 * business. */
static int join(const struct args *a)
{
	pid_t self = getpid(), child = fork();
	int status = 0;

	if (child < 0)
		return -errno;
	if (child == 0)
		_exit(move(a, self) < 0 ? 1 : 0);
	if (waitpid(child, &status, 0) < 0)
		return -errno;
	return status == 0 ? 0 : -ECHILD;
}

static int become(const char *user)
{
	struct passwd *pw;

	errno = 0;
	pw = getpwnam(user);
	if (!pw) {
		log_err("there is no user \"%s\"", user);
		return -ENOENT;
	}
	if (initgroups(user, pw->pw_gid) < 0 || setgid(pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0) {
		log_err("cannot become %s: %s", user, strerror(errno));
		return -errno;
	}
	setenv("HOME", pw->pw_dir, 1);
	setenv("USER", user, 1);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = on_option,
		.args_doc = "-- COMMAND [ARGUMENT...]",
		.doc = "Start COMMAND in the cgroup of a DMM group: its sockets get the stacks "
		       "that "
		       "the policy names. Exit status is the command's; 125: the group could not "
		       "be joined; 126: the command cannot be run; 127: it was not found.",
	};
	struct args a = {0};

	log_init("dmm-run", LOG_L_INFO);
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &a);
	if (join(&a) < 0 || (a.user && become(a.user) < 0))
		return 125;
	execvp(a.command[0], a.command);
	log_err("cannot run %s: %s", a.command[0], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}
