// SPDX-License-Identifier: Apache-2.0
/*
 * history, rollback, confirm: the way back. `apply --confirm-within` leaves a process behind that
 * goes back by itself unless it is told not to: for the rule that cuts its own author off.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/fleet/shared.h"
#include "policyd/history.h"
#include "policyd/json.h"
#include "policyd/table.h"
#include "policyd/value.h"

static const char *text_time(dmm_u64 ns, char *buf, size_t len)
{
	time_t t = (time_t)(ns / 1000000000ULL);
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(buf, len, "%F %T", &tm);
	return buf;
}

/* ---- history ---- */

static int history_json(const struct ctl *c, const struct history_entry *e, size_t n,
			dmm_u64 in_force, const struct history_pending *p)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_pack("{s:I, s:I, s:s, s:b, s:b}", "generation",
						      (json_int_t)e[i].generation, "committed_ns",
						      (json_int_t)e[i].when_ns, "how", e[i].how,
						      "in_force", e[i].generation == in_force,
						      "to_confirm",
						      p && e[i].generation == p->generation));
	return ctl_print_json(c, list);
}

/* With a message when it fails. */
static int read_generation(const struct ctl_state *s, dmm_u64 generation, struct dmm_policy **ret)
{
	int r = generation ? history_read(&s->tree, generation, ret) : -ENOENT;

	if (r == -ENOENT && generation)
		log_err("generation %llu is not in the history; see: dmm-policy history",
			generation);
	else if (r == -ENOENT)
		log_err("there is no generation before %llu in the history", s->generation);
	else if (r < 0)
		log_err("generation %llu cannot be read: %s", generation,
			r == -EPROTO ? "it was written by another build, or not as a whole"
				     : strerror(-r));
	return r;
}

static bool parse_generation(const char *text, dmm_u64 *ret)
{
	if (value_parse_number(text, UINT64_MAX, ret) == 0 && *ret)
		return true;
	fprintf(stderr, "dmm-policy: \"%s\" is not a generation\n", text);
	return false;
}

/* One generation as a file that apply takes. */
static int history_show(const struct ctl *c, const char *text)
{
	struct dmm_policy *p = NULL;
	struct ctl_state s;
	dmm_u64 generation;
	int r;

	if (!parse_generation(text, &generation))
		return CTL_USAGE;
	r = ctl_state_open(c, &s);
	if (r != CTL_OK)
		return r;
	r = read_generation(&s, generation, &p);
	ctl_state_close(&s);
	if (r < 0)
		return CTL_FAILED;
	if (c->given & CTL_JSON)
		r = ctl_print_json(c, json_policy(p));
	else
		r = policy_format(p, stdout) < 0 ? CTL_FAILED : CTL_OK;
	policy_free(p);
	return r;
}

int ctl_history(const struct ctl *c, int argc, char **argv)
{
	static const char *const headers[] = {">GENERATION", "COMMITTED", "", "~BY"};
	struct history_pending pending;
	struct history_entry *list;
	struct ctl_state s;
	struct table t;
	char text[64];
	bool waits;
	size_t n;
	int r;

	if (argc == 1)
		return history_show(c, argv[0]);
	r = ctl_state_open(c, &s);
	if (r != CTL_OK)
		return r;
	r = history_list(&s.tree, &list, &n);
	if (r < 0) {
		log_err("the history cannot be read: %s", strerror(-r));
		ctl_state_close(&s);
		return CTL_FAILED;
	}
	waits = history_pending(&s.tree, &pending) == 0;
	if (c->given & CTL_JSON) {
		r = history_json(c, list, n, s.generation, waits ? &pending : NULL);
	} else {
		table_init(&t, headers, ARRAY_SIZE(headers));
		for (size_t i = 0; i < n; i++) {
			bool now = list[i].generation == s.generation;

			table_cell(&t, "%llu", list[i].generation);
			table_cell(&t, "%s", text_time(list[i].when_ns, text, sizeof(text)));
			table_cell(&t, "%s", now && waits ? "to confirm" : now ? "in force" : "");
			table_cell(&t, "%s", list[i].how);
		}
		table_print(&t, stdout);
		r = CTL_OK;
	}
	free(list);
	ctl_state_close(&s);
	return r;
}

/* ---- rollback ---- */

/* The newest generation that is kept and older than the one in force; 0: none. */
static dmm_u64 generation_before(const struct ctl_state *s)
{
	struct history_entry *list;
	dmm_u64 before = 0;
	size_t n;

	if (history_list(&s->tree, &list, &n) < 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (list[i].generation < s->generation)
			before = list[i].generation;
	free(list);
	return before;
}

/* only_if: not 0: only while this generation is in force. */
static int go_back(const struct ctl *c, dmm_u64 to, dmm_u64 only_if, const char *how)
{
	struct ctl put = *c;
	struct dmm_policy *p;
	struct ctl_state s;
	int r = ctl_state_open(c, &s);

	if (r != CTL_OK)
		return r;
	if (!to)
		to = generation_before(&s);
	r = only_if && s.generation != only_if ? -ESTALE : 0;
	if (r == 0)
		r = read_generation(&s, to, &p);
	ctl_state_close(&s);
	if (r < 0)
		return CTL_FAILED;
	shared_remove(p); /* the daemon sees to those */
	snprintf(put.how, sizeof(put.how), "rollback to %llu%s%s", to, how ? ": " : "",
		 how ? how : "");
	put.confirmed = true;
	put.confirm_s = 0;
	put.only_if = only_if;
	return ctl_put(&put, p);
}

int ctl_rollback(const struct ctl *c, int argc, char **argv)
{
	dmm_u64 to = 0;

	if (argc == 1 && !parse_generation(argv[0], &to))
		return CTL_USAGE;
	return go_back(c, to, 0, NULL);
}

/* ---- confirm ---- */

int ctl_confirm(const struct ctl *c, int argc, char **argv)
{
	_cleanup_close_ int lock = -1;
	struct history_pending p;
	struct ctl_state s;
	int r = tree_lock(c->bpffs, true, &lock); /* not while the guard goes back */

	(void)argc;
	(void)argv;
	if (r < 0) {
		log_err("cannot take the writers' lock: %s", strerror(-r));
		return CTL_FAILED;
	}
	r = ctl_state_open(c, &s);
	if (r != CTL_OK)
		return r;
	if (history_pending(&s.tree, &p) < 0) {
		log_err("nothing waits to be confirmed; generation %llu is in force", s.generation);
		r = CTL_FAILED;
	} else {
		history_pending_end(&s.tree);
		if (c->given & CTL_JSON)
			r = ctl_print_json(
				c, json_pack("{s:I}", "generation", (json_int_t)p.generation));
		else
			printf("generation %llu is confirmed\n", p.generation);
	}
	ctl_state_close(&s);
	return r;
}

int ctl_refuse_pending(const struct ctl_state *s)
{
	struct history_pending p;
	char text[64];

	if (history_pending(&s->tree, &p) < 0)
		return CTL_OK;
	log_err("generation %llu waits to be confirmed until %s: dmm-policy confirm, or rollback",
		p.generation, text_time(p.until_ns, text, sizeof(text)));
	return CTL_FAILED;
}

int ctl_may_guard(const struct ctl_state *s)
{
	if (history_has(&s->tree, s->generation))
		return CTL_OK;
	log_err("generation %llu is not in the history: there would be no way back", s->generation);
	return CTL_FAILED;
}

/* The process that stays behind. */
static void guard(const struct ctl *c, const struct history_pending *p)
{
	struct timespec until;
	int null;

	setsid();
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	clock_gettime(CLOCK_BOOTTIME, &until); /* goes on while the host sleeps */
	until.tv_sec += (time_t)c->confirm_s;
	while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
	openlog("dmm-policy", LOG_PID, LOG_DAEMON);
	if (go_back(c, p->before, p->generation, "not confirmed in time") == CTL_OK)
		syslog(LOG_WARNING, "generation %llu was not confirmed: back to %llu",
		       p->generation, p->before);
	else
		syslog(LOG_ERR, "generation %llu was not confirmed, and could not be taken back",
		       p->generation);
	_exit(0);
}

int ctl_guard(const struct ctl *c, struct ctl_state *s, dmm_u64 generation, dmm_u64 before)
{
	struct history_pending p = {.generation = generation, .before = before};
	_cleanup_close_ int fd = history_pending_open(&s->tree);
	pid_t pid;
	int r = MIN(fd, 0);

	p.until_ns = realtime_ns() + (dmm_u64)c->confirm_s * 1000000000ULL;
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		log_err("no guard for generation %llu: %s; it stays in force", generation,
			strerror(errno));
		return CTL_FAILED;
	}
	if (pid == 0) {
		ctl_state_close(s);
		guard(c, &p);
	}
	p.guard = pid;
	if (r == 0)
		r = history_pending_set(fd, &p);
	if (r < 0)
		log_warn("cannot note that generation %llu waits: %s; confirm by: kill %d",
			 generation, strerror(-r), pid);
	return CTL_OK;
}
