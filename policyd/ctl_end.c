// SPDX-License-Identifier: Apache-2.0
/*
 * The end of sockets that exist: flows --terminate, after a change that they missed, and stack
 * drain. What listens is left alone: its program would not open it again.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/base/util.h"
#include "loader/destroy.h"
#include "policyd/ctl.h"
#include "policyd/json.h"
#include "policyd/table.h"

static bool is_connected(const struct dmm_flow_row *f)
{
	return f->tcp_state != TCP_LISTEN && f->tcp_state != TCP_CLOSE;
}

/* Drop what does not listen and is not connected either; count and drop what listens. */
static void keep_connected(struct ctl_sockets *l, size_t *ret_listening)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		*ret_listening += l->row[i].tcp_state == TCP_LISTEN;
		if (is_connected(&l->row[i]))
			l->row[n++] = l->row[i];
	}
	l->n = n;
}

static const char *text_error(int error)
{
	if (error == -EOPNOTSUPP)
		return "this kernel cannot (CONFIG_INET_DIAG_DESTROY)";
	if (error == -ENXIO)
		return "its network namespace cannot be found";
	return strerror(-error);
}

/* ---- end ---- */

int ctl_sockets_end(struct ctl_sockets *l, struct ctl_ended *ret)
{
	struct destroy *d;
	int r;

	*ret = (struct ctl_ended){0};
	keep_connected(l, &ret->kept);
	d = calloc(l->n + 1, sizeof(*d));
	ret->failed.row = calloc(l->n + 1, sizeof(struct dmm_flow_row));
	ret->error = calloc(l->n + 1, sizeof(int));
	r = d && ret->failed.row && ret->error ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && i < l->n; i++)
		d[i] = (struct destroy){.cookie = l->row[i].sock.cookie,
					.netns = l->row[i].netns,
					.pid = l->row[i].sock.pid,
					.proto = l->row[i].sock.proto};
	if (r == 0)
		r = destroy_sockets(d, l->n);
	for (size_t i = 0; r == 0 && i < l->n; i++) {
		ret->ended += d[i].error == 0;
		ret->gone += d[i].error == -ENOENT;
		if (d[i].error == 0 || d[i].error == -ENOENT)
			continue;
		ret->error[ret->failed.n] = d[i].error;
		ret->failed.row[ret->failed.n++] = l->row[i];
	}
	free(d);
	if (r < 0)
		log_err("the sockets cannot be ended: %s", strerror(-r));
	return r < 0 ? CTL_FAILED : CTL_OK;
}

void ctl_ended_fini(struct ctl_ended *e)
{
	free(e->failed.row);
	free(e->error);
	*e = (struct ctl_ended){0};
}

void ctl_ended_print(const struct ctl_ended *e)
{
	char local[ADDR_STRLEN], remote[ADDR_STRLEN], program[sizeof(e->failed.row->sock.comm) + 1];

	printf("%zu ended", e->ended);
	if (e->gone)
		printf(", %zu gone before", e->gone);
	if (e->kept)
		printf(", %zu listening: left alone", e->kept);
	if (e->failed.n)
		printf(", %zu could not be ended:", e->failed.n);
	putchar('\n');
	for (size_t i = 0; i < e->failed.n; i++) {
		const struct dmm_sock *s = &e->failed.row[i].sock;

		printf("  %u/%s, %s to %s: %s\n", s->pid,
		       text_clean(s->comm, sizeof(s->comm), program),
		       addr_format(&s->local, local, sizeof(local)),
		       addr_format(&s->remote, remote, sizeof(remote)), text_error(e->error[i]));
	}
}

json_t *ctl_ended_json(const struct ctl_ended *e, const struct dmm_class *class)
{
	json_t *failed = json_array();

	for (size_t i = 0; i < e->failed.n; i++) {
		json_t *o = json_flow(&e->failed.row[i], class);

		json_object_set_new(o, "error", json_string(text_error(e->error[i])));
		json_array_append_new(failed, o);
	}
	return json_pack("{s:I, s:I, s:I, s:o}", "ended", (json_int_t)e->ended, "gone",
			 (json_int_t)e->gone, "listening", (json_int_t)e->kept, "failed", failed);
}

/* ---- flows --terminate ---- */

static int would_end(const struct ctl *c, const struct ctl_state *s, struct ctl_sockets *l)
{
	size_t listening = 0;

	keep_connected(l, &listening);
	if (c->given & CTL_JSON)
		return ctl_print_json(c, json_pack("{s:I, s:I}", "would_end", (json_int_t)l->n,
						   "listening", (json_int_t)listening));
	ctl_sockets_print(s, l);
	printf("%zu would be ended (dry run), %zu listening: left alone\n", l->n, listening);
	return CTL_OK;
}

int ctl_terminate(const struct ctl *c, const struct ctl_state *s, struct ctl_sockets *l)
{
	struct ctl_ended e = {0};
	int r;

	if (c->given & CTL_DRY_RUN)
		return would_end(c, s, l);
	r = ctl_sockets_end(l, &e);
	if (r == CTL_OK && c->given & CTL_JSON)
		r = ctl_print_json(c, ctl_ended_json(&e, s->class));
	else if (r == CTL_OK)
		ctl_ended_print(&e);
	if (e.failed.n)
		r = CTL_FAILED;
	ctl_ended_fini(&e);
	return r;
}

/* ---- stack drain ---- */

#define DRAIN_POLL_MS 200
#define DRAIN_END_NS 5000000000ULL /* what was terminated is gone by then */

struct drain {
	const struct ctl *c;
	struct ctl_state s;
	const char *name;
	dmm_u64 began;
	size_t left, said; /* said: what was told last */
	bool line;	   /* on a terminal, progress is one line that is drawn anew */
};

static int drain_count(struct drain *d)
{
	struct ctl select = {.given = CTL_STACK, .stack = d->name};
	struct ctl_sockets l;
	size_t listening = 0;
	int r = ctl_sockets_read(&select, &d->s, &l);

	if (r == CTL_OK)
		keep_connected(&l, &listening);
	d->left = l.n;
	free(l.row);
	return r;
}

static void drain_say(struct drain *d, bool last)
{
	char text[TABLE_TEXT];

	if (d->c->given & CTL_JSON)
		return;
	text_age(now_ns() - d->began, text);
	if (d->line)
		printf("\r\033[Kstack %s is off, %zu left, %s%s", d->name, d->left, text,
		       last ? "\n" : "");
	else if (last || d->left != d->said)
		printf("stack %s is off, %zu left, %s\n", d->name, d->left, text);
	d->said = d->left;
	fflush(stdout);
}

/* Until none is left, or the time is over; 0: no limit. */
static int drain_wait(struct drain *d, dmm_u64 limit_ns)
{
	const struct timespec pause = {.tv_nsec = DRAIN_POLL_MS * 1000000L};
	dmm_u64 until = now_ns() + limit_ns;
	int r;

	for (;;) {
		r = drain_count(d);
		if (r != CTL_OK)
			return r;
		if (d->left == 0)
			return CTL_OK;
		if (limit_ns && now_ns() >= until)
			return CTL_NOT_YET;
		drain_say(d, false);
		nanosleep(&pause, NULL);
	}
}

static int drain_end(struct drain *d, struct ctl_ended *ret)
{
	struct ctl select = {.given = CTL_STACK, .stack = d->name};
	struct ctl_sockets l;
	int r = ctl_sockets_read(&select, &d->s, &l);

	if (r == CTL_OK)
		r = ctl_sockets_end(&l, ret);
	free(l.row);
	if (r != CTL_OK)
		return r;
	r = drain_wait(d, DRAIN_END_NS);
	return ret->failed.n ? CTL_FAILED : r;
}

static int drain_result(const struct drain *d, int r, const struct ctl_ended *e)
{
	json_t *o;

	if (!(d->c->given & CTL_JSON)) {
		if (e->error)
			ctl_ended_print(e);
		return r;
	}
	o = json_pack("{s:s, s:I, s:I, s:b}", "stack", d->name, "left", (json_int_t)d->left,
		      "waited_ns", (json_int_t)(now_ns() - d->began), "drained", d->left == 0);
	if (e->error)
		json_object_set_new(o, "terminated", ctl_ended_json(e, d->s.class));
	return ctl_print_json(d->c, o) == CTL_OK ? r : CTL_FAILED;
}

/* Switch it off, and let go of the lock: others may change things while this waits. */
static int drain_begin(struct drain *d)
{
	_cleanup_close_ int lock = -1;
	bool changed;
	int r;

	if (tree_lock(d->c->bpffs, true, &lock) < 0) {
		log_err("cannot take the writers' lock");
		return CTL_FAILED;
	}
	r = ctl_state_open(d->c, &d->s);
	if (r != CTL_OK)
		return r;
	if (ctl_switch_stack(&d->s, d->name, true, &changed) == 0)
		return CTL_OK;
	ctl_state_close(&d->s);
	return CTL_FAILED;
}

int ctl_stack_drain(const struct ctl *c, int argc, char **argv)
{
	struct drain d = {.c = c, .name = argv[0], .began = now_ns(), .said = SIZE_MAX};
	struct ctl_ended e = {0};
	int r;

	(void)argc;
	d.line = isatty(STDOUT_FILENO);
	r = drain_begin(&d);
	if (r != CTL_OK)
		return r;
	if (c->given & CTL_TERMINATE && !(c->given & CTL_TIMEOUT))
		r = CTL_NOT_YET; /* no patience at all */
	else
		r = drain_wait(&d, c->timeout_s * 1000000000ULL);
	if (r == CTL_NOT_YET && c->given & CTL_TERMINATE)
		r = drain_end(&d, &e);
	if (r != CTL_FAILED || e.error)
		drain_say(&d, true);
	r = drain_result(&d, r, &e);
	ctl_ended_fini(&e);
	ctl_state_close(&d.s);
	return r;
}
