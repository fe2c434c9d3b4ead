/* SPDX-License-Identifier: Apache-2.0 */
/* The ports that there are: those built in, and those that are loaded when they are asked for. */
#ifndef DMM_USERSTACK_PORT_PORTS_H
#define DMM_USERSTACK_PORT_PORTS_H

#include "userstack/port/port.h"

#define PORT_DIR_ENV "DMM_PORT_DIR" /* instead of where they are installed */
#define PORT_SYMBOL "dmm_port"

/* The port of that name. Failures are logged, as those of plugin_load(). */
int port_find(const char *name, const struct port_ops **ret);

/* What the driver of the interface says of its channels; all 0: nothing. */
struct ethtool_channels;
void port_channels(const char *interface, struct ethtool_channels *ret);

/* How many queues the interface uses; 1 of each if its driver does not say. */
void port_queues(const char *interface, unsigned *ret_rx, unsigned *ret_tx);

/* Does its driver take packets without a TCP or UDP checksum? */
bool port_device_sums(const char *interface);

#endif
