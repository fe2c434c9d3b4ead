/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What has to be attached to the cgroups of groups, by what a policy can ever do to their sockets:
 * a program that is not attached costs no connection anything.
 */
#ifndef DMM_LOADER_NEEDS_H
#define DMM_LOADER_NEEDS_H

#include "loader/maps.h"

/* Bits. Every group needs the programs that decide at connect(). */
enum {
	NEED_DECIDE = 1,
	NEED_EVENTS = 2, /* sock_ops: a listener may get something else than the plain default, or
			    a socket an instance */
	NEED_NAMES = 4, /* a socket may get an instance: it is told other names than the kernel's */
	NEED_UDP = 16,	/* recvmsg of UDP: a UDP socket may get an instance; each datagram whose
			   source is asked for pays for it */
	NEED_MEASURE = 8, /* sock_ops of telemetry: a socket may get a rule that is measured */
};

/* For each group of c, whether there is one or not. Switched off rules count, as they are on again
 * at any time. */
void needs_of_groups(const struct dmm_class *c, dmm_u8 ret[DMM_MAX_GROUPS]);

#endif
