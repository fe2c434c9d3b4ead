/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steering program of one interface: attached with libxdp, gives packets of owned flows and
 * ports to AF_XDP sockets, passes everything else to the kernel. Its maps are the instance's own.
 * 0 or -errno; failures are logged.
 */
#ifndef DMM_LOADER_XDP_H
#define DMM_LOADER_XDP_H

#include "loader/tree.h"

struct xdp;

/*
 * Load the program and attach it to ifindex. want DMM_XDP_NATIVE fails if the driver cannot,
 * DMM_XDP_NONE means native, else generic; on a veth the other way round. What an instance that
 * died left behind is replaced. *ret_mode: DMM_XDP_NATIVE or DMM_XDP_GENERIC.
 */
int xdp_open(struct xdp **ret, struct tree *t, unsigned stack, int ifindex, enum dmm_xdp_mode want,
	     enum dmm_xdp_mode *ret_mode);
/* Detach and unload. */
void xdp_close(struct xdp *x);

/* The XSKMAP, for xsk_socket__update_xskmap(). Owned by x. */
int xdp_xskmap_fd(const struct xdp *x);

/* Own one flow, one listening port. remote/local/port in the ABI's form: host order ports, local
 * all zero for every address of the interface. -ENOSPC: the map is full. */
int xdp_flow_add(struct xdp *x, const struct dmm_addr *remote, const struct dmm_addr *local);
int xdp_flow_del(struct xdp *x, const struct dmm_addr *remote, const struct dmm_addr *local);
int xdp_port_add(struct xdp *x, const struct dmm_addr *local);
int xdp_port_del(struct xdp *x, const struct dmm_addr *local);
/* Addresses of the interface, that a wildcard port answers on. */
int xdp_addr_add(struct xdp *x, const dmm_u8 ip[16]);
int xdp_addr_del(struct xdp *x, const dmm_u8 ip[16]);

/* Detach what an instance of this tree and stack that died left on ifindex. */
int xdp_sweep(const struct tree *t, unsigned stack, int ifindex);

#endif
