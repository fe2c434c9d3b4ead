// SPDX-License-Identifier: Apache-2.0
/*
 * top: what stacks and live sockets do now, the busiest first. A screen is made in memory and
 * written at once over the one before; rates are of the time between two of them, of the first one
 * since the socket began.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/json.h"
#include "policyd/table.h"
#include "policyd/words.h"

#define DELAY_MS 2000

struct top_socket {
	struct dmm_flow_row row;
	dmm_u64 rx_s, tx_s; /* bytes per second */
};

struct sample {
	dmm_u64 when_ns;
	struct top_socket *socket;
	size_t n;
};

struct top {
	const struct ctl *c;
	struct ctl_state s;
	struct sample now, before;
	bool screen; /* a terminal, drawn over again and again */
	struct table_look look;
	unsigned lines; /* of the terminal; 0: no limit */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

/* ---- sampling ---- */

static int by_cookie(const void *a, const void *b)
{
	const struct top_socket *x = a, *y = b;

	return x->row.sock.cookie < y->row.sock.cookie ? -1
						       : x->row.sock.cookie > y->row.sock.cookie;
}

/* The busiest first, then the one that moved the most, then the newest. */
static int by_rate(const void *a, const void *b)
{
	const struct top_socket *x = a, *y = b;
	const dmm_u64 keys[][2] = {
		{x->rx_s + x->tx_s, y->rx_s + y->tx_s},
		{x->row.rx_bytes + x->row.tx_bytes, y->row.rx_bytes + y->row.tx_bytes},
		{x->row.sock.since_ns, y->row.sock.since_ns},
	};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (keys[i][0] != keys[i][1])
			return keys[i][0] > keys[i][1] ? -1 : 1;
	return by_cookie(a, b);
}

/* A socket that was not there before has done all of it since it began. */
static void rate_socket(struct top_socket *t, const struct sample *before, dmm_u64 now)
{
	const struct top_socket *old =
		before->n ? bsearch(t, before->socket, before->n, sizeof(*t), by_cookie) : NULL;
	dmm_u64 since = old ? before->when_ns : t->row.sock.since_ns;
	dmm_u64 rx = old ? old->row.rx_bytes : 0, tx = old ? old->row.tx_bytes : 0;
	double seconds = now > since ? (double)(now - since) / 1e9 : 0;

	if (seconds <= 0)
		return;
	t->rx_s = t->row.rx_bytes > rx ? (dmm_u64)((double)(t->row.rx_bytes - rx) / seconds) : 0;
	t->tx_s = t->row.tx_bytes > tx ? (dmm_u64)((double)(t->row.tx_bytes - tx) / seconds) : 0;
}

/* t->before is by cookie, t->now in the order of the screen. */
static int take_sample(struct top *t)
{
	struct ctl_sockets l;
	int r = ctl_sockets_read(t->c, &t->s, &l);

	free(t->before.socket);
	t->before = t->now;
	t->now = (struct sample){.when_ns = now_ns()};
	if (t->before.n)
		qsort(t->before.socket, t->before.n, sizeof(struct top_socket), by_cookie);
	if (r == CTL_OK && !(t->now.socket = calloc(l.n + 1, sizeof(struct top_socket)))) {
		log_err("out of memory");
		r = CTL_FAILED;
	}
	for (size_t i = 0; r == CTL_OK && i < l.n; i++) {
		struct top_socket *k = &t->now.socket[t->now.n++];

		k->row = l.row[i];
		rate_socket(k, &t->before, t->now.when_ns);
	}
	free(l.row);
	if (t->now.n)
		qsort(t->now.socket, t->now.n, sizeof(struct top_socket), by_rate);
	return r;
}

/* ---- stacks ---- */

struct stack_sum {
	dmm_u64 sockets, rx_s, tx_s;
};

static struct stack_sum stack_sum(const struct top *t, unsigned id)
{
	struct stack_sum sum = {0};

	for (size_t i = 0; i < t->now.n; i++) {
		const struct top_socket *k = &t->now.socket[i];

		if (k->row.sock.stack != id)
			continue;
		sum.sockets++;
		sum.rx_s += k->rx_s;
		sum.tx_s += k->tx_s;
	}
	return sum;
}

static const char *stack_state(const struct top *t, unsigned id)
{
	if (t->s.tree.rt[id].off)
		return "off";
	if (t->s.class->stack[id].kind == DMM_KIND_USERSPACE && !maps_stack_up(&t->s.tree, id))
		return "down";
	return "up";
}

static bool shown(const struct top *t, unsigned id)
{
	unsigned kind = t->s.class->stack[id].kind;

	return kind == DMM_KIND_KERNEL || kind == DMM_KIND_USERSPACE;
}

/* Returns the number of lines. */
static unsigned print_stacks(const struct top *t, FILE *out)
{
	static const char *const headers[] = {"STACK", "STATE", ">SOCKETS", ">RX/s", ">TX/s"};
	char text[TABLE_TEXT];
	struct table table;
	unsigned n = 1;

	table_init(&table, headers, ARRAY_SIZE(headers));
	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		struct stack_sum sum = stack_sum(t, id);
		const char *state = stack_state(t, id);

		if (!shown(t, id))
			continue;
		table_cell(&table, "%s", t->s.class->stack[id].name);
		table_cell(&table, "%s", state);
		table_tint(&table, *state == 'u'   ? TINT_GOOD
				   : *state == 'd' ? TINT_BAD
						   : TINT_WARN);
		table_cell(&table, "%llu", sum.sockets);
		table_cell(&table, "%s", text_bytes(sum.rx_s, text));
		table_cell(&table, "%s", text_bytes(sum.tx_s, text));
		n++;
	}
	table_print_as(&table, out, &t->look);
	return n;
}

/* ---- sockets ---- */

static void socket_row(struct table *table, const struct top *t, const struct top_socket *k)
{
	const struct dmm_sock *s = &k->row.sock;
	char text[TABLE_TEXT];

	table_cell(table, "%s", ctl_stack_name(t->s.class, s->stack));
	table_cell(table, "%s", text_bytes(k->rx_s, text));
	table_cell(table, "%s", text_bytes(k->tx_s, text));
	table_cell(table, "%s", text_bytes(k->row.rx_bytes, text));
	table_cell(table, "%s", text_bytes(k->row.tx_bytes, text));
	table_cell(table, "%s",
		   k->row.tcp_state < WORDS_TCP_STATES && words_tcp_state[k->row.tcp_state]
			   ? words_tcp_state[k->row.tcp_state]
			   : "?");
	ctl_endpoint_cell(table, &s->local);
	ctl_endpoint_cell(table, &s->remote);
	table_cell(table, "%s", ctl_rule_name(s));
	table_cell(table, "%u/%.*s", s->pid, (int)sizeof(s->comm), s->comm);
	table_cell(table, "%s",
		   text_age(t->now.when_ns > s->since_ns ? t->now.when_ns - s->since_ns : 0, text));
}

/* As many as there is room for; how many are not shown is said in the last line. */
static void print_sockets(const struct top *t, FILE *out, unsigned lines)
{
	static const char *const headers[] = {"STACK",	">RX/s",     ">TX/s",	"?>RX",
					      "?>TX",	"STATE",     "?~LOCAL", "~REMOTE",
					      "?~RULE", "~PID/COMM", "?>AGE"};
	size_t n = t->now.n;
	struct table table;

	if (t->screen && n + 1 > lines)
		n = lines > 3 ? lines - 3 : 0; /* headers, what is left out of either kind */
	table_init(&table, headers, ARRAY_SIZE(headers));
	for (size_t i = 0; i < n; i++)
		socket_row(&table, t, &t->now.socket[i]);
	table_print_as(&table, out, &t->look);
	if (n < t->now.n)
		fprintf(out, "(and %zu more)\n", t->now.n - n);
}

/* ---- a screen ---- */

static void print_screen(const struct top *t, FILE *out)
{
	time_t now = time(NULL);
	unsigned used = 3;
	char text[32];
	struct tm tm;

	strftime(text, sizeof(text), "%T", localtime_r(&now, &tm));
	fprintf(out, "dmm-policy top %s, generation %llu, %zu sockets\n\n", text, t->s.generation,
		t->now.n);
	used += print_stacks(t, out);
	fputc('\n', out);
	print_sockets(t, out, t->lines > used ? t->lines - used : 0);
}

/* Over the screen before: each line is cleared to its end, then all below. Not more lines than
 * there are, and no new line behind the last: the terminal would scroll. */
static void put_over(const char *text, unsigned lines)
{
	fputs("\033[H", stdout);
	for (; *text && lines; text++) {
		lines -= *text == '\n';
		if (*text == '\n')
			fputs("\033[K", stdout);
		if (*text != '\n' || (lines && text[1]))
			putchar(*text);
	}
	fputs("\033[J", stdout);
}

static int draw(struct top *t)
{
	struct winsize size = {0};
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return CTL_FAILED;
	t->look = table_look(stdout);
	if (t->screen && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
		t->lines = size.ws_row;
	t->lines = t->lines ? t->lines : 24;
	print_screen(t, out);
	fclose(out);
	if (t->screen)
		put_over(text, t->lines);
	else
		printf("%s\n", text);
	free(text);
	return fflush(stdout) == 0 ? CTL_OK : CTL_FAILED;
}

static int draw_json(const struct top *t)
{
	json_t *stacks = json_array(), *flows = json_array();

	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		struct stack_sum sum = stack_sum(t, id);

		if (shown(t, id))
			json_array_append_new(
				stacks,
				json_pack("{s:s, s:s, s:I, s:I, s:I}", "stack",
					  t->s.class->stack[id].name, "state", stack_state(t, id),
					  "sockets", (json_int_t)sum.sockets, "rx_bytes_per_second",
					  (json_int_t)sum.rx_s, "tx_bytes_per_second",
					  (json_int_t)sum.tx_s));
	}
	for (size_t i = 0; i < t->now.n; i++) {
		json_t *o = json_flow(&t->now.socket[i].row, t->s.class);

		json_object_set_new(o, "rx_bytes_per_second",
				    json_integer((json_int_t)t->now.socket[i].rx_s));
		json_object_set_new(o, "tx_bytes_per_second",
				    json_integer((json_int_t)t->now.socket[i].tx_s));
		json_array_append_new(flows, o);
	}
	if (ctl_print_json(t->c,
			   json_pack("{s:I, s:o, s:o}", "generation", (json_int_t)t->s.generation,
				     "stacks", stacks, "flows", flows)) != CTL_OK)
		return CTL_FAILED;
	return fflush(stdout) == 0 ? CTL_OK : CTL_FAILED;
}

static int top_run(struct top *t)
{
	unsigned ms = t->c->given & CTL_DELAY ? t->c->delay_ms : DELAY_MS;
	const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	int r = CTL_OK;

	for (unsigned i = 0; r == CTL_OK && (!t->c->count || i < t->c->count); i++) {
		if (i && nanosleep(&pause, NULL) < 0)
			break; /* interrupted */
		/* names come and go with the policy */
		if (t->s.tree.meta->generation != t->s.generation &&
		    maps_read(&t->s.tree, t->s.class, &t->s.generation) < 0)
			return CTL_FAILED;
		r = take_sample(t);
		if (r == CTL_OK)
			r = t->c->given & CTL_JSON ? draw_json(t) : draw(t);
		if (interrupted)
			break;
	}
	return r;
}

int ctl_top(const struct ctl *c, int argc, char **argv)
{
	const struct sigaction sa = {.sa_handler = on_signal};
	struct top t = {.c = c};
	int r = ctl_state_open(c, &t.s);

	(void)argc;
	(void)argv;
	if (r != CTL_OK)
		return r;
	r = ctl_choice_check(c, &t.s);
	if (r != CTL_OK) {
		ctl_state_close(&t.s);
		return r;
	}
	t.screen = isatty(STDOUT_FILENO) && !(c->given & (CTL_BATCH | CTL_JSON));
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (t.screen)
		fputs("\033[2J", stdout);
	r = top_run(&t);
	if (t.screen)
		putchar('\n');
	free(t.now.socket);
	free(t.before.socket);
	ctl_state_close(&t.s);
	return r;
}
