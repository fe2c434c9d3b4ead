// SPDX-License-Identifier: Apache-2.0
/*
 * monitor: a line for each verdict, each change of a state, each commit. Verdicts are told by the
 * programs (loader/monitor.h); the rest is seen by looking at a few words of memory.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/base/util.h"
#include "loader/attach.h"
#include "loader/monitor.h"
#include "policyd/ctl.h"
#include "policyd/history.h"
#include "policyd/json.h"
#include "policyd/table.h"
#include "policyd/words.h"

#define POLL_MS 100
#define HISTORY_WAIT_MS 200 /* a commit is in force before it is in the history */

enum { EVENT_VERDICTS, EVENT_STATES, EVENT_COMMITS, EVENTS };
const char *const ctl_events[] = {"verdicts", "states", "commits", NULL};

enum state { STATE_NONE, STATE_UP, STATE_DOWN, STATE_OFF };
static const char *const state_words[] = {"gone", "up", "down", "off"};

struct watch {
	const struct ctl *c;
	struct ctl_state s;
	struct monitor monitor;
	bool wants[EVENTS];
	enum state stack[DMM_MAX_STACKS], group[DMM_MAX_GROUPS];
	unsigned told;
	bool failed; /* standard output */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

static bool is_over(const struct watch *w)
{
	return interrupted || w->failed || (w->c->count && w->told >= w->c->count);
}

/* ---- telling ---- */

/* Begin an event that was at when_ns (CLOCK_REALTIME): o is for JSON, else a line is begun. */
static json_t *event_begin(struct watch *w, const char *event, dmm_u64 when_ns)
{
	time_t t = (time_t)(when_ns / 1000000000ULL);
	char text[40];
	struct tm tm;

	if (w->c->given & CTL_JSON)
		return json_pack("{s:s, s:I}", "event", event, "time_ns", (json_int_t)when_ns);
	strftime(text, sizeof(text), "%F %T", localtime_r(&t, &tm));
	printf("%s.%03u %s ", text, (unsigned)(when_ns / 1000000 % 1000), event);
	return NULL;
}

static void event_end(struct watch *w, json_t *o)
{
	if (w->c->given & CTL_JSON)
		w->failed |= ctl_print_json(w->c, o) != CTL_OK;
	else
		putchar('\n');
	w->failed |= fflush(stdout) != 0;
	w->told++;
}

static void tell_verdict(struct watch *w, const struct dmm_sock *s)
{
	const struct dmm_flow_row row = {.sock = *s};
	dmm_u64 age = now_ns() - s->since_ns;
	json_t *o = event_begin(w, "verdict", realtime_ns() - ((int64_t)age > 0 ? age : 0));
	const struct dmm_addr *a = s->role == DMM_ROLE_CLIENT || s->remote.port ? &s->remote
										: &s->local;
	char text[ADDR_STRLEN], program[sizeof(s->comm) + 1];

	if (o) {
		/* what a socket has before it is connected */
		static const char *const keys[] = {
			"cookie", "group",  "role",    "proto",	     "local", "remote", "stack",
			"rule",	  "reason", "carrier", "generation", "pid",   "program"};
		json_t *flow = json_flow(&row, w->s.class);

		for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
			json_object_set(o, keys[i], json_object_get(flow, keys[i]));
		json_decref(flow);
	} else {
		printf("stack %s reason %s rule %s group %s %s %s pid %u/%s",
		       ctl_stack_name(w->s.class, s->stack),
		       s->reason < DMM_REASON_COUNT ? words_reason[s->reason] : "?",
		       ctl_rule_name(s), ctl_group_name(w->s.class, s->group),
		       s->role == DMM_ROLE_CLIENT ? "connect"
		       : s->remote.port		  ? "accept"
						  : "listen",
		       addr_format(a, text, sizeof(text)), s->pid,
		       text_clean(s->comm, sizeof(s->comm), program));
	}
	event_end(w, o);
}

static void tell_lost(struct watch *w, dmm_u64 lost)
{
	json_t *o = event_begin(w, "lost", realtime_ns());

	if (o)
		json_object_set_new(o, "verdicts", json_integer((json_int_t)lost));
	else
		printf("%llu verdicts: there were too many at once", lost);
	event_end(w, o);
}

/* While this was stopped, or could not write, nobody may have listened. */
static void tell_late(struct watch *w, dmm_u64 late_ns)
{
	json_t *o = event_begin(w, "lost", realtime_ns());
	char text[TABLE_TEXT];

	if (o) {
		json_object_set_new(o, "verdicts", json_null());
		json_object_set_new(o, "stopped_ns", json_integer((json_int_t)late_ns));
	} else {
		printf("any number of verdicts: this monitor was stopped, %s too long",
		       text_age(late_ns, text));
	}
	event_end(w, o);
}

static void tell_state(struct watch *w, const char *what, const char *name, enum state state,
		       unsigned pid)
{
	json_t *o = event_begin(w, "state", realtime_ns());

	if (o) {
		json_object_set_new(o, what, json_string(name));
		json_object_set_new(o, "state", json_string(state_words[state]));
		if (pid)
			json_object_set_new(o, "pid", json_integer(pid));
	} else {
		printf("%s %s %s", what, name, state_words[state]);
		if (pid)
			printf(", pid %u", pid);
	}
	event_end(w, o);
}

/* ---- commits ---- */

/* The history, once the generation is in it: one that is not kept is waited for in vain. */
static void history_with(struct watch *w, dmm_u64 generation, struct history_entry **ret,
			 size_t *ret_n)
{
	const struct timespec pause = {.tv_nsec = 10000000L};

	*ret = NULL;
	*ret_n = 0;
	for (int ms = 0; ms < HISTORY_WAIT_MS; ms += 10) {
		free(*ret);
		if (history_list(&w->s.tree, ret, ret_n) < 0) {
			*ret = NULL;
			*ret_n = 0;
			return;
		}
		if (*ret_n && (*ret)[*ret_n - 1].generation >= generation)
			return;
		nanosleep(&pause, NULL);
	}
}

static void tell_commit(struct watch *w, dmm_u64 generation, dmm_u64 when_ns, const char *how)
{
	json_t *o = event_begin(w, "commit", when_ns);

	if (o) {
		json_object_set_new(o, "generation", json_integer((json_int_t)generation));
		json_object_set_new(o, "how", json_text(how, strlen(how)));
	} else {
		printf("generation %llu%s%s", generation, *how ? " by " : "", how);
	}
	event_end(w, o);
}

/* Of several commits since the last look, those before the last are told from the history. */
static void check_commit(struct watch *w)
{
	dmm_u64 before = w->s.generation, now;
	const char *how = "";
	struct history_entry *list;
	size_t n;

	if (w->s.tree.meta->generation == before)
		return;
	if (maps_read(&w->s.tree, w->s.class, &w->s.generation) < 0 || !w->wants[EVENT_COMMITS])
		return; /* it is read again the next time */
	now = w->s.generation;
	history_with(w, now, &list, &n);
	for (size_t i = 0; i < n && !is_over(w); i++) {
		if (list[i].generation == now)
			how = list[i].how;
		else if (list[i].generation > before && list[i].generation < now)
			tell_commit(w, list[i].generation, list[i].when_ns, list[i].how);
	}
	if (!is_over(w))
		tell_commit(w, now, w->s.tree.meta->committed_ns, how);
	free(list);
}

/* ---- states ---- */

static enum state stack_state(const struct watch *w, unsigned id)
{
	if (w->s.class->stack[id].kind == DMM_KIND_FREE)
		return STATE_NONE;
	if (w->s.tree.rt[id].off)
		return STATE_OFF;
	if (w->s.class->stack[id].kind != DMM_KIND_USERSPACE)
		return STATE_UP;
	return maps_stack_up(&w->s.tree, id) ? STATE_UP : STATE_DOWN;
}

static enum state group_state(const struct watch *w, unsigned id)
{
	const struct dmm_group_rec *g = &w->s.class->group[id];

	if (!g->name[0])
		return STATE_NONE;
	if (!g->cgroup_id)
		return STATE_DOWN;
	return attach_group_off(&w->s.tree, g) ? STATE_OFF : STATE_UP;
}

/* What is new or gone is the commit's to tell. quiet: only take notice. */
static void check_states(struct watch *w, bool quiet)
{
	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		enum state was = w->stack[id], is = stack_state(w, id);

		w->stack[id] = is;
		if (!quiet && was != is && was != STATE_NONE && is != STATE_NONE)
			tell_state(w, "stack", w->s.class->stack[id].name, is,
				   is == STATE_UP ? w->s.tree.rt[id].pid : 0);
	}
	for (unsigned id = 1; id < DMM_MAX_GROUPS; id++) {
		enum state was = w->group[id], is = group_state(w, id);

		w->group[id] = is;
		if (!quiet && was != is && was != STATE_NONE && is != STATE_NONE)
			tell_state(w, "group", w->s.class->group[id].name, is, 0);
	}
}

/* ---- all of it ---- */

static void check_verdicts(struct watch *w)
{
	struct dmm_sock s;
	dmm_u64 lost = 0, late = monitor_keep(&w->monitor);

	if (late)
		tell_late(w, late);
	while (!is_over(w) && monitor_next(&w->monitor, &s, &lost)) {
		if (lost)
			tell_lost(w, lost);
		lost = 0;
		if (ctl_socket_chosen(w->c, &w->s, &s))
			tell_verdict(w, &s);
	}
	if (lost)
		tell_lost(w, lost);
}

/* The maps live on as long as they are open; but nothing happens in them any more. */
static bool tree_is_gone(const struct watch *w)
{
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/maps", w->s.tree.path);
	return access(path, F_OK) < 0;
}

static int wants_read(struct watch *w, int argc, char **argv)
{
	for (int e = 0; e < EVENTS; e++)
		w->wants[e] = argc == 0;
	for (int i = 0; i < argc; i++) {
		bool found = false;

		for (int e = 0; e < EVENTS; e++)
			if (strncmp(ctl_events[e], argv[i], strlen(argv[i])) == 0)
				found = w->wants[e] = true;
		if (!found) {
			fprintf(stderr,
				"dmm-policy: monitor: \"%s\" is none of verdicts, states, "
				"commits\n",
				argv[i]);
			return CTL_USAGE;
		}
	}
	return CTL_OK;
}

static int watch_run(struct watch *w)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};

	check_states(w, true);
	while (!is_over(w)) {
		check_commit(w);
		if (w->wants[EVENT_VERDICTS] && !is_over(w))
			check_verdicts(w);
		if (!is_over(w))
			check_states(w, !w->wants[EVENT_STATES]);
		if (tree_is_gone(w)) {
			log_err("%s is gone: DMM was removed", w->s.tree.path);
			return CTL_FAILED;
		}
		if (!is_over(w))
			nanosleep(&pause, NULL);
	}
	return w->failed ? CTL_FAILED : CTL_OK;
}

int ctl_monitor(const struct ctl *c, int argc, char **argv)
{
	const struct sigaction sa = {.sa_handler = on_signal};
	struct watch w = {.c = c};
	int r = wants_read(&w, argc, argv);

	if (r != CTL_OK)
		return r;
	r = ctl_state_open(c, &w.s);
	if (r != CTL_OK)
		return r;
	r = ctl_choice_check(c, &w.s);
	if (r == CTL_OK && w.wants[EVENT_VERDICTS] &&
	    (r = monitor_open(&w.monitor, &w.s.tree)) < 0) {
		log_err("cannot listen: %s", strerror(-r));
		r = CTL_FAILED;
	}
	if (r == CTL_OK) {
		sigaction(SIGINT, &sa, NULL);
		sigaction(SIGTERM, &sa, NULL);
		r = watch_run(&w);
		monitor_close(&w.monitor);
	}
	ctl_state_close(&w.s);
	return r;
}
