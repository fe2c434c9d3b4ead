// SPDX-License-Identifier: Apache-2.0
/*
 * What the number of rules costs: `classify ROUNDS` puts policies of 1, 1024 and 65 536 rules in
 * force, in turns, which together cut the same network into ever smaller parts, and lets a process
 * of the group connect a UDP socket, which costs little beside the decision, to 16, 4096 and 40 960
 * destinations all over it, the same ones with each policy. Beside it the same for a process whose
 * connects are looked up by a BPF program that takes one rule after the other, and what a packet
 * costs more in a namespace where the rules are rules, or a map of verdicts, of nftables, if nft is
 * there. Then the times of whole and of small commits, and the memory. Prints one line of JSON a
 * row: medians over the rounds.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
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
#include "tests/bench/nft.h"

#include "linear.skel.h"

#define MAX_ROUNDS 101
#define CONNECTS 40960
#define DESTINATIONS 40960

static const unsigned sizes[] = {1, 1024, 65536};
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

/* Rule i of n: its part of 127.0.0.0/8 and two ports of it, for a group. */
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
			"  - {match: {group: g, remote: %s/%u, remote_port: [80, 443]}, use: a}\n",
			bench_net(i, n), bench_plen(n));
	fprintf(out, "default: kernel\n");
	fclose(out);
	if (policy_parse_text("bench", text, len, &p, &d) < 0)
		die("policy");
	free(text);
	return p;
}

static struct sockaddr_in destination(unsigned k, unsigned of)
{
	unsigned part = (unsigned)((unsigned long)(k * 7919ul % of) * 65536 / of);
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(k & 1 ? 80 : 443)};

	to.sin_addr.s_addr = htonl(127u << 24 | part << 8 | 1);
	return to;
}

/* Of this process alone: others are on the CPU, too. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Who connects: in a cgroup or in none, in a network namespace or in this one (< 0). */
struct place {
	const char *cgroup;
	int netns;
	bool send; /* a byte each time: nftables sees packets */
};

static double connect_all(const struct place *p, unsigned of, unsigned connects)
{
	static struct sockaddr_in to[DESTINATIONS];
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t since;

	for (unsigned k = 0; k < of; k++)
		to[k] = destination(k, of);
	since = cpu_ns();
	for (unsigned i = 0; i < connects; i++) {
		if (connect(s, (struct sockaddr *)&to[i % of], sizeof(to[0])) < 0)
			die("connect");
		if (p->send && send(s, "", 1, 0) < 0)
			die("send");
	}
	close(s);
	return (double)(cpu_ns() - since) / connects;
}

/* In a child. */
static double measure(const struct place *where, unsigned of, unsigned connects)
{
	double took = 0;
	int p[2];
	pid_t pid;

	if (pipe(p) < 0)
		die("pipe");
	pid = fork();
	if (pid == 0) {
		if ((where->cgroup && cgroup_join(where->cgroup, 0) < 0) ||
		    (where->netns >= 0 && setns(where->netns, CLONE_NEWNET) < 0))
			_exit(1);
		connect_all(where, of, connects); /* warm */
		took = connect_all(where, of, connects);
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

/* The rules of make_policy() for the scan. */
static void linear_set(unsigned n)
{
	dmm_u32 zero = 0;

	for (dmm_u32 i = 0; i < n; i++) {
		struct linear_rule r = {.net = inet_addr(bench_net(i, n)),
					.mask = htonl(~0u << (32 - bench_plen(n))),
					.port = {htons(80), htons(443)}};

		if (bpf_map_update_elem(bpf_map__fd(linear->maps.linear_rules), &i, &r, 0) < 0)
			die("linear");
	}
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

/* What a connect(), or a packet, costs more than without any rules: by who looks. */
enum { DMM, SCAN, NFT_RULES, NFT_MAP, LOOKERS };

static double added[LOOKERS][SPREADS][SIZES][MAX_ROUNDS], plain[SPREADS][SIZES][MAX_ROUNDS];
static int netns[LOOKERS][SIZES], netns_plain = -1;

static void nft_open(void)
{
	for (int l = NFT_RULES; l <= NFT_MAP; l++)
		for (unsigned i = 0; i < SIZES; i++)
			netns[l][i] = bench_nft(sizes[i], l == NFT_MAP);
	netns_plain = netns[NFT_RULES][0] < 0 ? -1 : bench_nft(0, false);
}

/* One rule after the other takes long where there are many. */
static unsigned few_of(unsigned rules)
{
	return rules > 1024 ? 640 : CONNECTS;
}

static void decisions_once(unsigned s, unsigned i, unsigned round)
{
	const struct place none = {.netns = -1}, group = {cgroup, -1, false};
	const struct place scan = {cgroup_linear, -1, false};
	double base = measure(&none, spread[s], CONNECTS);

	plain[s][i][round] = base;
	put_in_force(class[i]);
	added[DMM][s][i][round] = measure(&group, spread[s], CONNECTS) - base;
	linear_set(sizes[i]);
	added[SCAN][s][i][round] = measure(&scan, spread[s], few_of(sizes[i])) - base;
	if (netns_plain < 0)
		return;
	base = measure(&(struct place){NULL, netns_plain, true}, spread[s], CONNECTS);
	for (int l = NFT_RULES; l <= NFT_MAP; l++)
		added[l][s][i][round] = measure(&(struct place){NULL, netns[l][i], true}, spread[s],
						l == NFT_RULES ? few_of(sizes[i]) : CONNECTS) -
					base;
}

static void decisions(unsigned rounds)
{
	nft_open();
	for (unsigned r = 0; r < rounds; r++)
		for (unsigned s = 0; s < SPREADS; s++)
			for (unsigned k = 0; k < SIZES; k++)
				decisions_once(s, (k + r) % SIZES, r); /* nobody is always first */
	for (unsigned s = 0; s < SPREADS; s++) {
		double first = median(added[DMM][s][0], rounds);

		for (unsigned i = 0; i < SIZES; i++) {
			printf("{\"rules\": %u, \"destinations\": %u, \"plain_ns\": %.0f, "
			       "\"added_ns\": %.0f, \"x_one_rule\": %.2f, \"linear_scan_ns\": %.0f",
			       sizes[i], spread[s], median(plain[s][i], rounds),
			       median(added[DMM][s][i], rounds),
			       median(added[DMM][s][i], rounds) / first,
			       median(added[SCAN][s][i], rounds));
			if (netns_plain >= 0)
				printf(", \"nft_rules_ns\": %.0f, \"nft_map_ns\": %.0f",
				       median(added[NFT_RULES][s][i], rounds),
				       median(added[NFT_MAP][s][i], rounds));
			printf("}\n");
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
	signal(SIGPIPE, SIG_IGN); /* of an nft that is not there */
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
