/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of a tree share: one tree of their own, with one group, that they change one after
 * the other in the order of test_tree.c.
 */
#ifndef DMM_TESTS_TREE_H
#define DMM_TESTS_TREE_H

#include <sys/types.h>

#include "loader/tree.h"
#include "policyd/policy.h"

extern char path[64], group_cgroup[64];
extern struct tree tree;
extern struct dmm_class *class; /* in force; its stacks and groups may be changed for commit() */
extern unsigned rule_group;	/* group that the first rule is for; 0: any */
extern unsigned server_port;	/* of the listener that was made last */

/* Run fn in a child that has joined the group; its result. */
int in_group(int (*fn)(void));
/* Rule i that commit() will put in force: prefix NULL and port 0 are any. */
void rule(unsigned i, const char *name, const char *prefix, unsigned port, unsigned stack);
/* The same rule, of whose stack and another one nRD is to choose. */
void rule_auto(unsigned i, unsigned other);
int commit(void);
/* A socket, or -errno. */
int connect_to(const char *ip, unsigned port);
int listen_on(const char *ip, unsigned *ret_port);
dmm_u64 verdicts(unsigned stack, unsigned role, unsigned reason);
int do_accepted_congestion(void); /* for in_group() */
int flows_of_pid(pid_t pid);	  /* rows of its sockets */

void test_plain(void);
void test_attached(void);
void test_other_sockops(void);
void test_measured(void);
void test_chosen(void);
void test_rename_group(void);
void test_rename_listener(void);
void test_rename_busy(void);
void test_drop_group(void);
void test_upgrade(void);
void test_newer_abi(void);

#endif
