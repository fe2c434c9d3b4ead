/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading received frames out of the ring that the steering program at tc fills (struct dmm_frame).
 * It wakes nobody who does not say that he sleeps. The frames cannot be written to. Datagrams that
 * a sender on this host has put together (UDP_SEGMENT) are single ones again; TCP stays as it is.
 */
#ifndef DMM_USERSTACK_FRAMES_H
#define DMM_USERSTACK_FRAMES_H

#include "userstack/port/port.h"

struct frames;

/* The descriptor, of the ring buffer map, stays the caller's. 0 or -errno. */
int frames_open(struct frames **ret, const struct port_ring *ring);
void frames_close(struct frames *f); /* NULL is fine */

/* As port_ops.rx and port_ops.sleep. */
unsigned frames_rx(struct frames *f, unsigned budget, const struct port_sink *sink);
bool frames_sleep(struct frames *f, bool sleep);

/* The most bytes, of DMM_FRAMES_SIZE, that were there to read since the last call. */
uint64_t frames_most(struct frames *f);

#endif
