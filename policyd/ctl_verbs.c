// SPDX-License-Identifier: Apache-2.0
/* The tables that dmm-policy is made from: its help, completion and man page too. */
#include <string.h>

#include "lib/base/util.h"
#include "policyd/ctl.h"

const char *const ctl_exits[CTL_EXITS] = {
	[CTL_OK] = "done",
	[CTL_FAILED] = "failed; standard error says why",
	[CTL_USAGE] = "wrong usage; nothing was done",
	[CTL_NOT_YET] = "the time given by --timeout is over, and it is not done yet",
};

/* One row a verb; those of one object stand together, its list first. */
const struct ctl_verb ctl_verbs[] = {
	{"show", "", "the policy in force, with how often each rule decided", CTL_YAML, 0, 0,
	 ctl_show, 0},
	{"add", "NAME KEY VALUE… use STACK,… [first|last|before RULE|after RULE]",
	 "add a rule, by default the last", CTL_REPLACE | CTL_DRY_RUN, 1, -1, ctl_add, CTL_N_ADD},
	{"del", "NAME…", "remove rules", CTL_DRY_RUN, 1, -1, ctl_del, CTL_N_RULE},
	{"apply", "", "put a file in force, or /etc/dmm/dmm.yaml with its policy.d",
	 CTL_FILE | CTL_DRY_RUN | CTL_CONFIRM, 0, 0, ctl_apply, 0},
	{"history", "[GENERATION]",
	 "the generations that can be gone back to, or one of them as a file", 0, 0, 1, ctl_history,
	 0},
	{"rollback", "[GENERATION]",
	 "put an earlier generation in force, by default the one before", CTL_DRY_RUN, 0, 1,
	 ctl_rollback, 0},
	{"confirm", "", "keep what was applied with --confirm-within", 0, 0, 0, ctl_confirm, 0},
	{"validate", "", "read and check a file, change nothing", CTL_FILE, 0, 0, ctl_validate, 0},
	{"import", "FILE", "another system's file as a policy, on standard output; - is stdin",
	 CTL_FROM | CTL_MAP, 1, 1, ctl_import, CTL_N_FILE},
	{"explain", "[ADDRESS:PORT] [KEY VALUE…]",
	 "why a socket would get its stack, or a process's sockets have theirs",
	 CTL_GROUP | CTL_PROTO | CTL_PID | CTL_FD, 0, -1, ctl_explain, CTL_N_PROPERTIES},
	{"rule list", "", "the same as show", CTL_YAML, 0, 0, ctl_show, 0},
	{"rule disable", "NAME…", "keep what these rules match on the kernel stack", CTL_DRY_RUN, 1,
	 -1, ctl_rule_disable, CTL_N_RULE},
	{"rule enable", "NAME…", "let these rules choose again", CTL_DRY_RUN, 1, -1,
	 ctl_rule_enable, CTL_N_RULE},
	{"stack list", "", "the stacks and the state of their instances", 0, 0, 0, ctl_stack_list,
	 0},
	{"stack disable", "NAME…", "give these stacks no new sockets", 0, 1, -1, ctl_stack_disable,
	 CTL_N_STACK},
	{"stack enable", "NAME…", "give them new sockets again", 0, 1, -1, ctl_stack_enable,
	 CTL_N_STACK},
	{"stack drain", "NAME", "give it no new sockets, and wait until the old ones have ended",
	 CTL_TIMEOUT | CTL_TERMINATE, 1, 1, ctl_stack_drain, CTL_N_STACK},
	{"group list", "", "the groups and their cgroups", 0, 0, 0, ctl_group_list, 0},
	{"group disable", "NAME…", "keep new sockets of these groups on the kernel stack", 0, 1, -1,
	 ctl_group_disable, CTL_N_GROUP},
	{"group enable", "NAME…", "let the rules choose for them again", 0, 1, -1, ctl_group_enable,
	 CTL_N_GROUP},
	{"capture on", "RULE…", "keep new flows of these rules where tcpdump sees them",
	 CTL_DRY_RUN, 1, -1, ctl_capture_on, CTL_N_RULE},
	{"capture off", "RULE…", "let these rules choose again", CTL_DRY_RUN, 1, -1,
	 ctl_capture_off, CTL_N_RULE},
	{"flows", "", "the live sockets of the groups, or the end of them",
	 CTL_STACK | CTL_GROUP | CTL_RULE | CTL_PID | CTL_OLD | CTL_TERMINATE | CTL_DRY_RUN, 0, 0,
	 ctl_flows, 0},
	{"top", "", "stacks and live sockets, the busiest first, again and again",
	 CTL_STACK | CTL_GROUP | CTL_RULE | CTL_PID | CTL_COUNT | CTL_DELAY | CTL_BATCH, 0, 0,
	 ctl_top, 0},
	{"monitor", "[verdicts|states|commits]…", "what happens, as it happens",
	 CTL_STACK | CTL_GROUP | CTL_RULE | CTL_PID | CTL_COUNT, 0, 3, ctl_monitor, CTL_N_EVENT},
	{"nrd status", "", "what nRD looks at, and whether etcd is heard", 0, 0, 0, ctl_nrd_status,
	 0},
	{"nrd why", "RULE [PREFIX]", "which stack nRD has chosen for a rule that is auto, and why",
	 0, 1, 2, ctl_nrd_why, CTL_N_RULE},
	{"nrd history", "", "the last decisions of nRD", 0, 0, 0, ctl_nrd_history, 0},
	{"stats", "", "everything that is counted", 0, 0, 0, ctl_stats, 0},
	{"probe", "", "what this kernel can do for DMM", 0, 0, 0, ctl_probe, 0},
	{"detach", "", "remove DMM from the kernel: programs, maps, links, groups", CTL_FORCE, 0, 0,
	 ctl_detach, 0},
	{"completion", "bash", "completion of this command, for a shell", 0, 1, -1, ctl_completion,
	 CTL_N_SHELL},
	{"help", "[VERB|keys|schema]",
	 "this text; the keys of the policy, for people or for editors", 0, 0, 2, ctl_help,
	 CTL_N_VERB},
	{"version", "", "the version", 0, 0, 0, ctl_version, 0},
};
const size_t ctl_n_verbs = ARRAY_SIZE(ctl_verbs);

const struct ctl_option_row ctl_options[] = {
	{"file", 'f', "FILE", CTL_FILE, "the policy, YAML or JSON; - is standard input",
	 CTL_N_FILE},
	{"dry-run", 'n', NULL, CTL_DRY_RUN, "print what would change, change nothing", 0},
	{"replace", 'r', NULL, CTL_REPLACE, "replace the rule of this name", 0},
	{"force", 0, NULL, CTL_FORCE, "although dmm-policyd runs", 0},
	{"yaml", 'y', NULL, CTL_YAML, "as YAML that apply takes", 0},
	{"stack", 0, "NAME", CTL_STACK, "only sockets on this stack", CTL_N_STACK},
	{"group", 0, "NAME", CTL_GROUP, "only sockets of this group", CTL_N_GROUP},
	{"rule", 0, "NAME", CTL_RULE, "only sockets that this rule decided", CTL_N_RULE},
	{"old", 0, NULL, CTL_OLD, "only sockets that an earlier generation decided", 0},
	{"terminate", 0, NULL, CTL_TERMINATE, "end the sockets: a reset for both ends", 0},
	{"count", 'n', "N", CTL_COUNT, "end after so many screens or events", 0},
	{"delay", 'd', "SECONDS", CTL_DELAY, "between two screens, default 2", 0},
	{"batch", 'b', NULL, CTL_BATCH, "one screen below the other, all of it, for a file", 0},
	{"timeout", 0, "TIME", CTL_TIMEOUT, "wait so long at most: 60s, 5m …", 0},
	{"confirm-within", 0, "TIME", CTL_CONFIRM, "go back after 60s, 5m … unless confirmed", 0},
	{"proto", 0, "PROTO", CTL_PROTO, "tcp or udp", CTL_N_PROTO},
	{"pid", 0, "N", CTL_PID, "the sockets of this process", 0},
	{"fd", 0, "N", CTL_FD, "only this descriptor of it", 0},
	{"from", 0, "SYSTEM", CTL_FROM, "whose file it is: dmm-rd (FD.io DMM) or libvma",
	 CTL_N_FORMAT},
	{"map", 0, "NAME=STACK", CTL_MAP, "the stack that its NAME stands for; may be repeated", 0},
	{"json", 'j', NULL, CTL_JSON, "JSON on one line", 0},
	{"pretty", 'p', NULL, CTL_PRETTY, "JSON, indented", 0},
	{"bpffs", 0, "PATH", CTL_BPFFS, "the pin tree, default $DMM_BPFFS or /sys/fs/bpf/dmm",
	 CTL_N_FILE},
	{"help", 'h', NULL, CTL_HELP, "help, also of one verb", 0},
	{"version", 'V', NULL, CTL_VERSION, "the version", 0},
};
const size_t ctl_n_options = ARRAY_SIZE(ctl_options);
_Static_assert(ARRAY_SIZE(ctl_options) <= CTL_MAX_OPTIONS, "room for getopt");

int ctl_words_match(const char *verb, int argc, char **argv, bool exact)
{
	int n = 0;

	while (*verb && n < argc) {
		size_t len = strcspn(verb, " "), given = strlen(argv[n]);

		if (given > len || (exact && given != len) || strncmp(verb, argv[n], given) != 0)
			return -1;
		verb += len + (verb[len] == ' ');
		n++;
	}
	return *verb && exact ? -1 : n;
}

bool ctl_same_object(const struct ctl_verb *a, const struct ctl_verb *b)
{
	size_t len = strcspn(a->words, " ");

	return strcspn(b->words, " ") == len && strncmp(a->words, b->words, len) == 0;
}

static bool is_list(const struct ctl_verb *v)
{
	const char *space = strchr(v->words, ' ');

	return space && strcmp(space, " list") == 0;
}

const struct ctl_verb *ctl_find_verb(int argc, char **argv, int *ret_words, int *ret_candidates)
{
	const struct ctl_verb *found = NULL;

	*ret_candidates = 0;
	*ret_words = 0;
	if (argc == 0)
		return NULL;
	for (int exact = 1; exact >= 0; exact--) {
		for (size_t i = 0; i < ctl_n_verbs; i++) {
			int n = ctl_words_match(ctl_verbs[i].words, argc, argv, exact);

			if (n <= 0)
				continue;
			/* an object alone, as "stack": list them, as ip(8) does */
			if (n == 1 && argc == 1 && found && is_list(found) &&
			    ctl_same_object(found, &ctl_verbs[i]))
				continue;
			found = &ctl_verbs[i];
			*ret_words = n;
			(*ret_candidates)++;
		}
		if (*ret_candidates)
			break;
	}
	return *ret_candidates == 1 ? found : NULL;
}
