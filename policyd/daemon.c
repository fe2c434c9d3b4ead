// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/attach.h"
#include "policyd/daemon.h"
#include "policyd/history.h"

#define SWEEP_NS 5000000000ULL
#define FOLLOW_MS 500	  /* how late a change by dmm-policy is seen, at most */
#define LOCK_WAIT_MS 2000 /* the loop stands still meanwhile */
#define LOCK_RETRY_US 20000
#define STATE_DEFAULT "/var/lib/dmm"

int daemon_config(const struct daemon_options *opt, struct dmm_policy **ret,
		  struct policy_diags *diags)
{
	struct dmm_policy *p = NULL;
	int r;

	*ret = NULL;
	r = policy_parse_dir(opt->config, &p, diags);
	if (r == 0)
		r = policy_check(p, diags);
	if (r < 0) {
		policy_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

int daemon_state_path(const struct daemon *d, const char *name, const char *suffix, bool make,
		      char ret[PATH_MAX])
{
	const char *dir = getenv("DMM_STATE");
	int n;

	if (!dir)
		dir = getenv("DMM_RUN") ? tree_run_dir() : STATE_DEFAULT;
	if (make && mkdir(dir, 0755) < 0 && errno != EEXIST)
		return -errno;
	n = snprintf(ret, PATH_MAX, "%s/%s", dir, name);
	for (const char *p = d->opt->bpffs; *p && n < PATH_MAX - 16; p++)
		ret[n++] = *p == '/' ? '-' : *p;
	if (n >= PATH_MAX - 16)
		return -ENAMETOOLONG;
	sprintf(ret + n, ".%.8s", suffix);
	return 0;
}

static int lock_tree(const char *bpffs, int *ret_fd)
{
	uint64_t end = now_ns() + LOCK_WAIT_MS * 1000000ULL;
	int r;

	while ((r = tree_lock(bpffs, false, ret_fd)) == -EWOULDBLOCK && now_ns() < end)
		usleep(LOCK_RETRY_US);
	if (r == -EWOULDBLOCK)
		log_err("policy: another program holds the lock of %s for more than %d s", bpffs,
			LOCK_WAIT_MS / 1000);
	return r;
}

int daemon_commit(struct daemon *d, struct dmm_policy *p)
{
	_cleanup_class_ struct dmm_class *prev = class_new();
	_cleanup_class_ struct dmm_class *next = class_new();
	_cleanup_close_ int lock = -1;
	dmm_u64 generation;
	int r, lines;

	if (!prev || !next)
		return -ENOMEM;
	r = lock_tree(d->opt->bpffs, &lock);
	if (r < 0)
		return r;
	r = maps_read(&d->tree, prev, &generation);
	if (r < 0)
		return r;
	share_merge(d, p);
	r = class_compile(p, prev, next);
	if (r < 0) {
		log_err("policy: cannot be compiled: %s", strerror(-r));
		return r;
	}
	lines = class_diff(prev, next, NULL);
	if (lines < 0)
		return lines;
	if (generation > 0 && class_equal(prev, next)) {
		log_info("policy: generation %llu is what the configuration says", generation);
		return 0;
	}
	r = history_commit(&d->tree, next, "dmm-policyd", &generation);
	if (r < 0) {
		log_err("policy: cannot be put in force: %s; the one before stays", strerror(-r));
		return r;
	}
	log_info("policy: generation %llu in force, %d change%s", generation, lines,
		 lines == 1 ? "" : "s");
	return 0;
}

/* Stacks whose link is gone are left at once, if nRD chose them. */
static void daemon_links(struct daemon *d)
{
	dmm_u32 lost;
	int r = link_lost(d->class, &lost);

	if (r < 0)
		log_err("links: cannot be read: %s", strerror(-r));
	else
		chooser_links(&d->chooser, lost, now_ns());
}

int daemon_follow(struct daemon *d)
{
	_cleanup_class_ struct dmm_class *next = NULL;
	struct dmm_class *old;
	dmm_u64 generation;
	int r;

	if (d->class && d->tree.meta->generation == d->generation)
		return 0;
	next = class_new();
	if (!next)
		return -ENOMEM;
	r = maps_read(&d->tree, next, &generation);
	if (r < 0) {
		log_err("policy: cannot be read from %s: %s", d->tree.path, strerror(-r));
		return r;
	}
	log_debug("policy: following generation %llu", generation);
	old = d->class;
	d->class = next;
	next = old;
	d->generation = generation;
	supervise_sync(&d->sup, d->class);
	r = chooser_configure(&d->chooser, d->class);
	if (r < 0)
		log_err("nrd: cannot take over the rules of generation %llu: %s", generation,
			strerror(-r));
	daemon_links(d);
	return 0;
}

int daemon_reload(struct daemon *d, struct policy_diags *diags)
{
	struct dmm_policy *p;
	int r;

	r = daemon_config(d->opt, &p, diags);
	policy_diags_print(diags, stderr);
	if (r < 0) {
		log_err("%s: not taken, the policy in force stays", d->opt->config);
		return r;
	}
	share_configure(d, &p->daemon.etcd, p); /* the policy does not wait for it */
	r = daemon_commit(d, p);
	if (r == 0)
		r = daemon_follow(d);
	if (r == 0)
		r = http_listen(d->http, p->daemon.http, p->daemon.http_name);
	policy_free(p);
	return r;
}

int daemon_measure(struct daemon *d)
{
	int r;

	r = daemon_follow(d);
	if (r < 0)
		return r;
	r = telemetry_read(d->telemetry, &d->tree, d->class, d->generation, &d->sup);
	if (r < 0)
		log_err("telemetry: cannot be read: %s", strerror(-r));
	d->telemetry->nrd.samples = d->chooser.samples_n;
	d->telemetry->nrd.missed = d->chooser.samples_lost;
	d->telemetry->nrd.age_s =
		d->chooser.sample_ns ? (double)(now_ns() - d->chooser.sample_ns) / 1e9 : -1;
	share_measure(d);
	d->telemetry->nrd.decided = d->chooser.decided;
	d->telemetry->nrd.sla_broken = d->chooser.sla_broken;
	return r;
}

/* At the first start the file counts; later what is in force, which dmm-policy may have changed. */
static int policy_start(struct daemon *d, struct dmm_policy *p)
{
	_cleanup_class_ struct dmm_class *now = NULL, *file = NULL;
	dmm_u64 generation;
	int r, lines;

	if (d->tree.meta->generation == 0)
		return daemon_commit(d, p);
	now = class_new();
	file = class_new();
	if (!now || !file)
		return -ENOMEM;
	r = maps_read(&d->tree, now, &generation);
	if (r < 0)
		return r;
	share_merge(d, p);
	r = class_compile(p, now, file);
	if (r < 0)
		return r;
	lines = class_diff(now, file, NULL);
	if (lines == 0)
		log_info("policy: generation %llu goes on, as the configuration says", generation);
	else
		log_info(
			"policy: generation %llu goes on; it differs from %s in %d place%s, SIGHUP "
			"puts the file in force",
			generation, d->opt->config, lines, lines == 1 ? "" : "s");
	return 0;
}

static void signals_event(struct loop_source *src, uint32_t events)
{
	struct daemon *d = container_of(src, struct daemon, signals);
	struct policy_diags diags = {0};
	struct signalfd_siginfo si;

	(void)events;
	if (read(d->signal_fd, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo == SIGHUP) {
		sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (dmm_u64)now_ns() / 1000);
		daemon_reload(d, &diags);
		policy_diags_fini(&diags);
		sd_notify(0, "READY=1");
		return;
	}
	log_info("%s: stopping; the policy and the instances go on", strsignal((int)si.ssi_signo));
	d->stop = true;
}

static int signals_open(struct daemon *d)
{
	d->signals.cb = signals_event;
	d->signal_fd = loop_add_signals(d->epfd, &d->signals);
	return MIN(d->signal_fd, 0);
}

static void links_event(struct loop_source *src, uint32_t events)
{
	struct daemon *d = container_of(src, struct daemon, links);

	(void)events;
	link_watch_clear(d->link_fd);
	if (d->class)
		daemon_links(d);
}

static int links_open(struct daemon *d)
{
	d->links.cb = links_event;
	d->link_fd = link_watch_open();
	return d->link_fd < 0 ? d->link_fd : loop_add(d->epfd, d->link_fd, EPOLLIN, &d->links);
}

int daemon_init(struct daemon *d, const struct daemon_options *opt, struct dmm_policy *p)
{
	char state[PATH_MAX];
	int r;

	d->opt = opt;
	d->signal_fd = d->link_fd = -1;
	d->telemetry = malloc(sizeof(*d->telemetry));
	d->epfd = epoll_create1(EPOLL_CLOEXEC);
	d->trend = trend_new();
	if (!d->telemetry || !d->trend || d->epfd < 0)
		return -ENOMEM;
	r = signals_open(d);
	if (r == 0)
		r = links_open(d);
	if (r < 0)
		return r;
	r = http_open(&d->http, d->epfd, opt->socket ? opt->socket : p->daemon.socket,
		      p->daemon.group, daemon_routes, d);
	if (r < 0)
		return r;
	r = http_listen(d->http, p->daemon.http, p->daemon.http_name);
	if (r < 0)
		return r;
	r = tree_install(&d->tree, opt->bpffs);
	if (r < 0)
		return r;
	r = chooser_open(&d->chooser, &d->tree);
	if (r < 0)
		return r;
	if (daemon_state_path(d, "nrd", "state", false, state) == 0)
		chooser_load(&d->chooser, state);
	supervise_init(&d->sup, d->epfd, &d->tree, opt->program);
	share_configure(d, &p->daemon.etcd, p);
	r = policy_start(d, p);
	if (r < 0)
		return r;
	r = supervise_adopt(&d->sup);
	if (r < 0) {
		log_err("cannot look for running instances: %s", strerror(-r));
		return r;
	}
	return daemon_follow(d);
}

static void keep_choices(struct daemon *d)
{
	char state[PATH_MAX];
	int r = daemon_state_path(d, "nrd", "state", true, state);

	if (r == 0)
		r = chooser_save(&d->chooser, state);
	if (r < 0 && !d->keep_failed)
		log_warn("nrd: what it knows cannot be kept: %s; DMM_STATE names a directory",
			 strerror(-r));
	d->keep_failed = r < 0;
}

void daemon_fini(struct daemon *d)
{
	http_close(d->http);
	share_close(d);
	if (d->sup.tree)
		supervise_fini(&d->sup);
	if (d->chooser.n_rules)
		keep_choices(d);
	chooser_close(&d->chooser);
	if (d->tree.path[0])
		tree_close(&d->tree);
	if (d->signal_fd >= 0)
		close(d->signal_fd);
	if (d->link_fd >= 0)
		close(d->link_fd);
	if (d->epfd >= 0)
		close(d->epfd);
	class_free(d->class);
	trend_free(d->trend);
	free(d->telemetry);
}

/* Tell the service manager that the loop turns, twice within the time that it waits. */
static void watchdog(struct daemon *d, uint64_t now)
{
	if (!d->watchdog_ns || now < d->watchdog_next)
		return;
	d->watchdog_next = now + d->watchdog_ns / 2;
	sd_notify(0, "WATCHDOG=1");
}

/* How long the loop may sleep. */
static int sleep_ms(const struct daemon *d)
{
	uint64_t now = now_ns(), next = supervise_next_ns(&d->sup);
	int ms = FOLLOW_MS, http = http_timeout_ms(d->http);

	if (d->watchdog_ns)
		next = MIN(next, d->watchdog_next);
	next = MIN(next, share_next_ns(d));
	next = MIN(next, chooser_next_ns(&d->chooser));
	if (next <= now)
		return 0;
	if (next - now < FOLLOW_MS * 1000000ULL)
		ms = (int)((next - now) / 1000000) + 1;
	return http >= 0 && http < ms ? http : ms;
}

/* What removed groups left attached for their flows goes when these have ended. */
static void daemon_sweep(struct daemon *d)
{
	_cleanup_close_ int lock = -1;
	uint64_t now = now_ns();

	if (now < d->sweep_ns)
		return;
	d->sweep_ns = now + SWEEP_NS;
	/* a writer that is at work will do it, or the next time */
	if (attach_has_left(&d->tree) && tree_lock(d->opt->bpffs, false, &lock) == 0)
		attach_sweep(&d->tree);
}

/* A browser reaches the page by TCP only: without, nothing is measured for it. */
static void daemon_trend(struct daemon *d)
{
	uint64_t now = now_ns(), at;

	if (now < d->trend_ns || !http_listens(d->http))
		return;
	d->trend_ns = now + TREND_S * 1000000000ULL;
	at = realtime_ns();
	if (daemon_measure(d) == 0)
		trend_add(d->trend, d->telemetry, at / 1000000);
}

int daemon_run(struct daemon *d)
{
	uint64_t usec = 0;
	int r = 0;

	if (sd_watchdog_enabled(0, &usec) > 0)
		d->watchdog_ns = usec * 1000;
	sd_notify(0, "READY=1");
	while (r == 0 && !d->stop) {
		watchdog(d, now_ns());
		r = loop_run(d->epfd, sleep_ms(d));
		http_run(d->http);
		daemon_follow(d);
		share_run(d, now_ns());
		chooser_run(&d->chooser, now_ns());
		if (chooser_is_unsaved(&d->chooser))
			keep_choices(d);
		supervise_tick(&d->sup, now_ns());
		daemon_sweep(d);
		daemon_trend(d);
	}
	if (r < 0)
		log_err("event loop: %s", strerror(-r));
	sd_notify(0, "STOPPING=1");
	return r;
}

int daemon_teardown(const char *bpffs)
{
	int r;

	r = instance_stop_all(bpffs, 2000);
	if (r < 0)
		log_err("cannot stop the instances of %s: %s", bpffs, strerror(-r));
	else if (r > 0)
		log_info("stopped %d instance%s", r, r == 1 ? "" : "s");
	if (r < 0)
		return r;
	r = tree_teardown(bpffs);
	if (r == -ENOENT) {
		log_info("%s: nothing to remove", bpffs);
		return 0;
	}
	if (r < 0)
		log_err("%s: cannot be removed completely: %s", bpffs, strerror(-r));
	return r;
}
