// SPDX-License-Identifier: Apache-2.0
#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/daemon.h"

#ifndef DMM_LIBEXEC
#define DMM_LIBEXEC "/usr/libexec/dmm"
#endif

const char *argp_program_version = "dmm-policyd " DMM_VERSION;

struct arguments {
	struct daemon_options opt;
	const char *run;
	bool teardown, check, verbose;
};

enum { OPT_BPFFS = 256, OPT_RUN, OPT_STACKD, OPT_TEARDOWN, OPT_CHECK, OPT_VERBOSE };

static const struct argp_option options[] = {
	{"config", 'c', "FILE", 0,
	 "policy to start with (default /etc/dmm/dmm.yaml); policy.d/*.yaml beside it belongs to "
	 "it",
	 0},
	{"bpffs", OPT_BPFFS, "DIR", 0,
	 "where maps are pinned (default $DMM_BPFFS or " TREE_DEFAULT ")", 0},
	{"run", OPT_RUN, "DIR", 0, "sockets and locks (default $DMM_RUN or /run/dmm)", 0},
	{"stackd", OPT_STACKD, "FILE", 0,
	 "the dmm-stackd to start (default: the one beside this program)", 0},
	{"check", OPT_CHECK, NULL, 0, "read and check the policy, change nothing", 0},
	{"teardown", OPT_TEARDOWN, NULL, 0, "stop all instances, remove everything, and exit", 0},
	{"verbose", OPT_VERBOSE, NULL, 0, "say more", 0},
	{0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'c':
		a->opt.config = arg;
		return 0;
	case OPT_BPFFS:
		a->opt.bpffs = arg;
		return 0;
	case OPT_RUN:
		a->run = arg;
		return 0;
	case OPT_STACKD:
		a->opt.program = arg;
		return 0;
	case OPT_CHECK:
		a->check = true;
		return 0;
	case OPT_TEARDOWN:
		a->teardown = true;
		return 0;
	case OPT_VERBOSE:
		a->verbose = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument '%s'", arg);
		return EINVAL;
	}
	return ARGP_ERR_UNKNOWN;
}

/* dmm-stackd beside this program, in the build tree, where it is installed, or in $PATH. */
static char *find_stackd(void)
{
	static const char *const beside[] = {"/dmm-stackd", "/../userstack/dmm-stackd"};
	char self[PATH_MAX], *dir, *path = NULL;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[MAX(n, 0)] = '\0';
	dir = strrchr(self, '/');
	for (unsigned i = 0; dir && i < ARRAY_SIZE(beside); i++) {
		*dir = '\0';
		if (asprintf(&path, "%s%s", self, beside[i]) < 0)
			return NULL;
		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	if (access(DMM_LIBEXEC "/dmm-stackd", X_OK) == 0)
		return strdup(DMM_LIBEXEC "/dmm-stackd");
	for (const char *p = getenv("PATH"); p && *p; p += strcspn(p, ":"), p += *p == ':') {
		if (asprintf(&path, "%.*s/dmm-stackd", (int)strcspn(p, ":"), p) < 0)
			return NULL;
		if (path[0] == '/' && access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return strdup(DMM_LIBEXEC "/dmm-stackd"); /* the message of a failed start names it */
}

static int check_only(const struct daemon_options *opt)
{
	struct policy_diags diags = {0};
	struct dmm_policy *p;
	int r = daemon_config(opt, &p, &diags);

	policy_diags_print(&diags, stderr);
	if (r == 0)
		printf("%s: %zu group%s, %zu stack%s, %zu rule%s\n", opt->config, p->n_groups,
		       p->n_groups == 1 ? "" : "s", p->n_stacks, p->n_stacks == 1 ? "" : "s",
		       p->n_rules, p->n_rules == 1 ? "" : "s");
	policy_diags_fini(&diags);
	policy_free(p);
	return r;
}

static int serve(const struct daemon_options *opt)
{
	struct policy_diags diags = {0};
	struct daemon d = {.epfd = -1};
	struct dmm_policy *p = NULL;
	int r;

	r = daemon_config(opt, &p, &diags);
	policy_diags_print(&diags, stderr);
	policy_diags_fini(&diags);
	if (r < 0) {
		log_err("%s: not started, nothing was changed", opt->config);
		return r;
	}
	r = daemon_init(&d, opt, p);
	policy_free(p);
	if (r == 0)
		r = daemon_run(&d);
	daemon_fini(&d);
	return r;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.doc = "Put the network policy of dmm.yaml in force, keep the userspace stacks "
		       "running, serve metrics. Runs in the foreground.",
	};
	struct arguments a = {.opt.config = "/etc/dmm/dmm.yaml"};
	_cleanup_free_ char *stackd = NULL, *sock = NULL;
	_cleanup_close_ int lock = -1;
	int r;

	if (argp_parse(&argp, argc, argv, 0, NULL, &a) != 0)
		return EXIT_FAILURE;
	log_init("dmm-policyd", a.verbose ? LOG_L_DEBUG : LOG_L_INFO);
	if (a.check)
		return check_only(&a.opt) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	if (a.run) {
		setenv("DMM_RUN", a.run, 1);
		if (mkdir(a.run, 0755) < 0 && errno != EEXIST)
			log_warn("cannot make %s: %s", a.run, strerror(errno));
	}
	if (getenv("DMM_RUN") && asprintf(&sock, "%s/policyd.sock", tree_run_dir()) < 0)
		return EXIT_FAILURE;
	a.opt.socket = sock;
	a.opt.bpffs = tree_path(a.opt.bpffs);
	if (!a.opt.program)
		a.opt.program = stackd = find_stackd();
	if (!a.opt.program)
		return EXIT_FAILURE;
	r = tree_lock_daemon(a.opt.bpffs, &lock);
	if (r == -EWOULDBLOCK)
		log_err("another dmm-policyd runs on %s; stop it first", a.opt.bpffs);
	if (r == 0)
		r = a.teardown ? daemon_teardown(a.opt.bpffs) : serve(&a.opt);
	return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
