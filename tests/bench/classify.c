// SPDX-License-Identifier: Apache-2.0
/*
 * What the number of rules costs: `classify ROUNDS` puts policies of 1, 1000 and 65 536 rules in
 * force, in turns, and lets a process of the group connect a UDP socket, which costs little beside
 * the decision, to 16, 4096 and 40 960 destinations of these rules; and beside it the same for a
 * process whose connects are looked up by a BPF program that takes one rule after the other. Then
 * the times of whole and of small commits, and the memory. Prints one line of JSON a row: medians
 * over the rounds.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/cgroup.h"
#include "loader/maps.h"
#include "policyd/edit.h"
#include "tests/bench/linear.h"

#include "linear.skel.h"

#define MAX_ROUNDS 101
#define CONNECTS 40960
#define DESTINATIONS 40960

static const unsigned sizes[] = {1, 1000, 65536};
/* The last is more than are remembered (DMM_MEMO_BITS). */
static const unsigned spread[] = {16, 4096, DESTINATIONS};
#define SIZES ARRAY_SIZE(sizes)
#define SPREADS ARRAY_SIZE(spread)

static char path[64], cgroup[64], cgroup_linear[64];
static struct linear_bpf *linear;
static struct tree tree;
static struct dmm_policy *policy[SIZES];
static struct dmm_class *class[SIZES];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Rule i: one /24 and two ports of it for a group. */
static struct dmm_policy *make_policy(unsigned n)
{
	struct policy_diags d = {0};
	struct dmm_policy *p;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	fprintf(out, "groups: {g: {cgroup: %s}}\nstacks: {a: {kind: kernel}}\nrules:\n", cgroup);
	for (unsigned i = 0; i < n; i++)
		fprintf(out,
			"  - {match: {group: g, remote: 127.%u.%u.0/24, remote_port: [80, 443]}, "
			"use: a}\n",
			i >> 8, i & 255);
	fprintf(out, "default: kernel\n");
	fclose(out);
	if (policy_parse_text("bench", text, len, &p, &d) < 0)
		die("policy");
	free(text);
	return p;
}

/* Destination k of many, spread over all rules of the policy. */
static struct sockaddr_in destination(unsigned k, unsigned n, unsigned of)
{
	unsigned rule = (unsigned)((unsigned long)((unsigned long)k * 7919 % of) * n / of);
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(k & 1 ? 80 : 443)};

	to.sin_addr.s_addr = htonl(127u << 24 | rule << 8 | 1);
	return to;
}

/* Of this process alone: others are on the CPU, too. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static double connect_all(unsigned n, unsigned of, unsigned connects)
{
	static struct sockaddr_in to[DESTINATIONS];
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t since;

	for (unsigned k = 0; k < of; k++)
		to[k] = destination(k, n, of);
	since = cpu_ns();
	for (unsigned i = 0; i < connects; i++)
		if (connect(s, (struct sockaddr *)&to[i % of], sizeof(to[0])) < 0)
			die("connect");
	close(s);
	return (double)(cpu_ns() - since) / connects;
}

/* In a child, in a cgroup or in none. */
static double measure(unsigned n, unsigned of, const char *where, unsigned connects)
{
	double took = 0;
	int p[2];
	pid_t pid;

	if (pipe(p) < 0)
		die("pipe");
	pid = fork();
	if (pid == 0) {
		if (where && cgroup_join(where, 0) < 0)
			_exit(1);
		connect_all(n, of, connects); /* warm */
		took = connect_all(n, of, connects);
		_exit(write(p[1], &took, sizeof(took)) != sizeof(took));
	}
	close(p[1]);
	if (read(p[0], &took, sizeof(took)) != sizeof(took))
		die("worker");
	close(p[0]);
	waitpid(pid, NULL, 0);
	return took;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

static void put_in_force(const struct dmm_class *c)
{
	if (maps_commit(&tree, c, NULL) < 0)
		die("commit");
}

/* The rules of make_policy() for the scan; the cgroup is made with the first. */
static void linear_set(unsigned n)
{
	static bool filled;
	dmm_u32 zero = 0;

	for (dmm_u32 i = 0; !filled && i < LINEAR_MAX; i++) {
		struct linear_rule r = {.net = htonl(127u << 24 | i << 8),
					.mask = htonl(0xffffff00),
					.port = {htons(80), htons(443)}};

		if (bpf_map_update_elem(bpf_map__fd(linear->maps.linear_rules), &i, &r, 0) < 0)
			die("linear");
	}
	filled = true;
	bpf_map_update_elem(bpf_map__fd(linear->maps.linear_count), &zero, &n, 0);
}

static void linear_open(void)
{
	unsigned made;
	int fd;

	linear = linear_bpf__open_and_load();
	if (!linear || cgroup_open(cgroup_linear, true, &fd, &made) < 0)
		die("linear");
	linear->links.linear_connect4 =
		bpf_program__attach_cgroup(linear->progs.linear_connect4, fd);
	if (!linear->links.linear_connect4)
		die("linear");
	close(fd);
}

static void linear_close(void)
{
	unsigned left;

	linear_bpf__destroy(linear);
	cgroup_remove(cgroup_linear, 1, &left);
}

static void decisions(unsigned rounds)
{
	static double added[SPREADS][SIZES][MAX_ROUNDS], plain[SPREADS][SIZES][MAX_ROUNDS];
	static double scan[SPREADS][SIZES][MAX_ROUNDS];

	for (unsigned r = 0; r < rounds; r++)
		for (unsigned s = 0; s < SPREADS; s++) {
			for (unsigned k = 0; k < SIZES; k++) {
				unsigned i = (k + r) % SIZES; /* nobody is always first */

				/* to the same places: the kernel's own part depends on them */
				plain[s][i][r] = measure(sizes[i], spread[s], NULL, CONNECTS);
				put_in_force(class[i]);
				added[s][i][r] = measure(sizes[i], spread[s], cgroup, CONNECTS) -
						 plain[s][i][r];
				linear_set(sizes[i]);
				scan[s][i][r] = measure(sizes[i], spread[s], cgroup_linear,
							sizes[i] > 1000 ? 640 : CONNECTS) -
						plain[s][i][r];
			}
		}
	for (unsigned s = 0; s < SPREADS; s++) {
		double first = 0;

		for (unsigned i = 0; i < SIZES; i++) {
			double ns = median(added[s][i], rounds);

			first = i ? first : ns;
			printf("{\"rules\": %u, \"destinations\": %u, \"added_ns\": %.0f, "
			       "\"x_one_rule\": %.2f, \"linear_scan_ns\": %.0f, \"plain_ns\": "
			       "%.0f}\n",
			       sizes[i], spread[s], ns, ns / first, median(scan[s][i], rounds),
			       median(plain[s][i], rounds));
		}
	}
}

static double ms_since(uint64_t since)
{
	return (double)(now_ns() - since) / 1e6;
}

/* Kinds of one-rule changes. */
enum { SWITCH, DEL, ADD, CHANGES };

static void change(struct dmm_class *c, int what, struct dmm_rule *rule)
{
	struct class_edit e;
	dmm_u32 at;
	int r = edit_begin(&e, c);

	rule->disabled = !rule->disabled;
	at = edit_find(&e, what == ADD ? "rule-40001" : rule->name);
	if (r == 0 && what == ADD)
		r = edit_place(&e, at, &at);
	if (r == 0)
		r = what == DEL ? edit_del(&e, at) : edit_put(&e, at, rule);
	edit_end(&e);
	if (r < 0)
		die("edit");
}

static void commits(unsigned rounds)
{
	static double compile[MAX_ROUNDS], whole[MAX_ROUNDS], edit[CHANGES][MAX_ROUNDS];
	static double small[CHANGES][MAX_ROUNDS];
	struct dmm_policy *p = policy[SIZES - 1];
	struct dmm_class *now = class_new();

	for (unsigned r = 0; r < rounds; r++) {
		uint64_t since = now_ns();

		if (class_compile(p, NULL, now) < 0)
			die("compile");
		compile[r] = ms_since(since);
		put_in_force(class[0]);
		put_in_force(class[0]);
		since = now_ns();
		put_in_force(now);
		whole[r] = ms_since(since);
		put_in_force(now);
		for (int k = 0; k < CHANGES; k++) {
			since = now_ns();
			change(now, k, &p->rules[39999]);
			edit[k][r] = ms_since(since);
			since = now_ns();
			put_in_force(now);
			small[k][r] = ms_since(since);
		}
	}
	printf("{\"rules\": 65536, \"compile_ms\": %.1f, \"commit_ms\": %.1f, "
	       "\"bytes_per_rule_and_generation\": %.0f}\n",
	       median(compile, rounds), median(whole, rounds), now->hdr.cells * 64.0 / 65536);
	for (int k = 0; k < CHANGES; k++) {
		static const char *const name[] = {"disable", "del", "add"};

		printf("{\"rules\": 65536, \"change\": \"%s\", \"edit_ms\": %.1f, "
		       "\"commit_ms\": %.1f}\n",
		       name[k], median(edit[k], rounds), median(small[k], rounds));
	}
	class_free(now);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 11;
	cpu_set_t one;

	setenv("DMM_RUN", "/tmp", 0);
	log_init("classify", LOG_L_ERROR);
	rounds = MIN(MAX(rounds, 1u), MAX_ROUNDS);
	snprintf(path, sizeof(path), "/sys/fs/bpf/dmm-classify-%d", getpid());
	snprintf(cgroup, sizeof(cgroup), "dmm-classify-%d/g", getpid());
	snprintf(cgroup_linear, sizeof(cgroup_linear), "dmm-classify-%d-linear", getpid());
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	if (tree_install(&tree, path) < 0)
		return 1;
	for (unsigned i = 0; i < SIZES; i++) {
		policy[i] = make_policy(sizes[i]);
		class[i] = class_new();
		if (class_compile(policy[i], NULL, class[i]) < 0)
			die("compile");
	}
	linear_open();
	if (rounds > 1)
		decisions(rounds);
	linear_close();
	commits(MIN(rounds, 11u));
	tree_close(&tree);
	return tree_teardown(path) < 0;
}
