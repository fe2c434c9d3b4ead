// SPDX-License-Identifier: Apache-2.0
/* dmm-nrd: writes the policy that hosts share, one instance of several at a time. */
#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/fleet/leader.h"
#include "policyd/fleet/shared.h"
#include "policyd/loop.h"

const char *argp_program_version = "dmm-nrd " DMM_VERSION;

struct program {
	const char *config, *documents;
	bool check, verbose;
	int epfd, signal_fd;
	struct loop_source signals;
	struct etcd *e;
	struct leader leader;
	bool stop;
};

enum { OPT_CHECK = 256, OPT_VERBOSE };

static const struct argp_option options[] = {
	{"config", 'c', "FILE", 0,
	 "where daemon.etcd stands (default /etc/dmm/dmm.yaml); the rest of it does not matter", 0},
	{"documents", 'd', "DIR", 0,
	 "the policy: its NAME.yaml are the documents (default /etc/dmm/shared.d)", 0},
	{"check", OPT_CHECK, NULL, 0, "read and check the documents, change nothing", 0},
	{"verbose", OPT_VERBOSE, NULL, 0, "say more", 0},
	{0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct program *a = state->input;

	switch (key) {
	case 'c':
		a->config = arg;
		return 0;
	case 'd':
		a->documents = arg;
		return 0;
	case OPT_CHECK:
		a->check = true;
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

/* ---- the documents ---- */

static int read_whole(const char *path, char **ret)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	size_t n;
	int r = f ? file_read(f, SHARED_DOCUMENT_MAX + 1, ret, &n) : -errno;

	return r == 0 && strlen(*ret) < n ? -EBADMSG : r; /* a NUL */
}

static int yaml_only(const struct dirent *e)
{
	size_t len = strlen(e->d_name);

	return e->d_name[0] != '.' && len > 5 && strcmp(e->d_name + len - 5, ".yaml") == 0;
}

static int add_document(const char *dir, const char *file, struct texts *to, struct dmm_policy *p,
			struct policy_diags *diags)
{
	_cleanup_free_ char *text = NULL, *name = strndup(file, strlen(file) - 5);
	char path[PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	r = name ? read_whole(path, &text) : -ENOMEM;
	if (r == 0)
		r = shared_check(name, text, p, diags);
	if (r == 0)
		r = texts_put(to, name, text);
	if (r < 0 && !diags->errors)
		log_err("%s: cannot be taken: %s", path, strerror(-r));
	return r;
}

static int read_documents(const char *dir, struct texts *to, struct dmm_policy *p)
{
	struct policy_diags diags = {0};
	struct dirent **list;
	int n = scandir(dir, &list, yaml_only, alphasort), r = 0;

	if (n < 0) {
		log_err("cannot read the documents in %s: %s", dir, strerror(errno));
		return -errno;
	}
	if (n == 0) { /* more likely lost, or not mounted, than meant */
		log_err("%s has no NAME.yaml: the policy of all hosts is not taken away for that; "
			"that they share none is said by a document with \"rules: []\"",
			dir);
		free(list);
		return -ENOENT;
	}
	for (int i = 0; i < n; i++) {
		int e = add_document(dir, list[i]->d_name, to, p, &diags);

		r = e < 0 ? e : r;
		free(list[i]);
	}
	free(list);
	policy_diags_print(&diags, stderr);
	policy_diags_fini(&diags);
	return r;
}

/* The rules that nRD chooses for. Where several documents have one of a name, it is the first's. */
static size_t auto_rules(const struct dmm_policy *p, struct nrd_rule *ret)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_rules; i++) {
		const struct dmm_rule *rule = &p->rules[i];
		struct nrd_rule *to = &ret[n];
		bool known = false;

		for (size_t j = 0; j < n; j++)
			known |= strcmp(ret[j].name, rule->name) == 0;
		if (known || rule->nrd.objective == NRD_NONE)
			continue;
		memcpy(to->name, rule->name, sizeof(to->name));
		to->set = rule->nrd;
		to->n_stacks = rule->n_use;
		memcpy(to->stack, rule->use, sizeof(to->stack));
		n++;
	}
	return n;
}

static int reload(struct program *a)
{
	struct texts documents = {0};
	struct dmm_policy *p = policy_new();
	struct nrd_rule *rules = NULL;
	int r = p ? read_documents(a->documents, &documents, p) : -ENOMEM;

	if (r == 0) {
		rules = calloc(p->n_rules + 1, sizeof(*rules));
		r = !rules ? -ENOMEM
		    : a->e ? leader_want(&a->leader, &documents, rules, auto_rules(p, rules))
			   : 0;
		if (r < 0)
			log_err("%s: %zu documents, %zu bytes: %s", a->documents, documents.n,
				documents.bytes,
				r == -E2BIG ? "more than one transaction holds" : strerror(-r));
	}
	if (r == 0)
		log_info("%s: %zu document%s, %zu rule%s", a->documents, documents.n,
			 documents.n == 1 ? "" : "s", p->n_rules, p->n_rules == 1 ? "" : "s");
	texts_fini(&documents);
	free(rules);
	policy_free(p);
	return r;
}

/* ---- the loop ---- */

static void signals_event(struct loop_source *src, uint32_t events)
{
	struct program *a = container_of(src, struct program, signals);
	struct signalfd_siginfo si;

	(void)events;
	if (read(a->signal_fd, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo != SIGHUP)
		a->stop = true;
	else if (reload(a) < 0)
		log_err("the documents are not taken; those before stay");
}

static int signals_open(struct program *a)
{
	a->signals.cb = signals_event;
	a->signal_fd = loop_add_signals(a->epfd, &a->signals);
	return MIN(a->signal_fd, 0);
}

static int serve_loop(struct program *a)
{
	int r = 0;

	sd_notify(0, "READY=1");
	while (r == 0 && !a->stop) {
		uint64_t now = now_ns(),
			 next = MIN(etcd_next_ns(a->e), leader_next_ns(&a->leader, now));

		r = loop_run(a->epfd, next <= now ? 0 : (int)((next - now) / 1000000) + 1);
		etcd_run(a->e);
		leader_run(&a->leader, now_ns(), (dmm_u64)time(NULL));
		etcd_run(a->e);
	}
	sd_notify(0, "STOPPING=1");
	return r;
}

static int serve(struct program *a, const struct etcd_settings *set)
{
	char host[64] = "", name[96];
	uint64_t now;
	int r;

	gethostname(host, sizeof(host) - 1);
	snprintf(name, sizeof(name), "%s, process %d", set->name[0] ? set->name : host,
		 (int)getpid());
	a->epfd = epoll_create1(EPOLL_CLOEXEC);
	r = a->epfd < 0 ? -errno : signals_open(a);
	if (r == 0)
		r = etcd_open(&a->e, a->epfd, set);
	if (r == 0)
		r = leader_init(&a->leader, a->e, set->prefix, name, set->lease_s, now_ns());
	if (r == 0)
		r = reload(a);
	if (r == 0)
		r = serve_loop(a);
	if (a->leader.e)
		leader_fini(&a->leader);
	/* The next one need not wait for the lease. */
	for (now = now_ns(); a->e && a->stop && now_ns() < now + 200000000ULL;)
		etcd_run(a->e), usleep(5000);
	etcd_close(a->e);
	return r;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.doc = "Write the policy that hosts share over etcd. Of several instances one "
		       "leads, the others wait. Runs in the foreground.",
	};
	struct program a = {.config = "/etc/dmm/dmm.yaml", .documents = "/etc/dmm/shared.d"};
	struct policy_diags diags = {0};
	struct dmm_policy *p = NULL;
	int r;

	if (argp_parse(&argp, argc, argv, 0, NULL, &a) != 0)
		return EXIT_FAILURE;
	log_init("dmm-nrd", a.verbose ? LOG_L_DEBUG : LOG_L_INFO);
	if (a.check)
		return reload(&a) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	r = policy_parse_file(a.config, &p, &diags);
	policy_diags_print(&diags, stderr);
	policy_diags_fini(&diags);
	if (r == 0 && !p->daemon.etcd.n_endpoint) {
		log_err("%s: daemon.etcd is missing: there is nowhere to write to", a.config);
		r = -EINVAL;
	}
	if (r == 0)
		r = serve(&a, &p->daemon.etcd);
	policy_free(p);
	return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
