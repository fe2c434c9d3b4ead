/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Everything that is counted, one row each. Enums, `dmm-policy stats`, the Prometheus text and
 * docs/metrics.md are made from these rows. Includes nothing.
 */
#ifndef DMM_COUNTERS_H
#define DMM_COUNTERS_H

/* Why a socket has the stack that it has. X(NAME, text, meaning) */
#define DMM_REASONS(X) \
	X(RULE, "rule", "a rule named this stack") \
	X(DEFAULT, "default", "no rule matched: the policy's default") \
	X(STACK_DOWN, "stack-down", "the instance does not run or does not answer") \
	X(UNSUPPORTED, "unsupported-socket", "the stack cannot serve this socket truthfully") \
	X(MAP_FULL, "map-full", "no room for another connection in progress") \
	X(NO_LISTENER, "no-listener", "the instance has no carrier listener in this namespace") \
	X(NO_ROUTE, "no-route", "the instance's interface does not lead to this address") \
	X(ADMIN_OFF, "admin-off", "switched off by the operator") \
	X(NOT_MANAGED, "not-managed", "the group is not in force") \
	X(REJECTED, "rejected", "a rule rejects this socket") \
	X(CAPTURE, "capture", "a rule keeps it where tcpdump sees it") \
	X(INTERNAL, "internal", "no socket storage, or a policy that names nothing usable") \
	X(NRD, "nrd", "nRD chose this stack among those of a rule") \
	X(CHANGING, "policy-changing", "the policy was written over again and again meanwhile")

/* Counters of the BPF programs, summed over CPUs. X(NAME, metric, meaning) */
#define DMM_COUNTERS(X) \
	X(CONNECTS, "connects", "connect() calls decided") \
	X(LISTENS, "listens", "listen() calls decided") \
	X(STORAGE_FAIL, "storage_failures", "socket storage could not be had") \
	X(PLAIN_FULL, "plain_full", "kernel-stack verdicts kept in socket storage: no free slot") \
	X(TUPLE_FAIL, "tuple_failures", "carrier tuples that found no room") \
	X(PASSIVE_CARRIER, "carriers_accepted", "carrier connections established, accepting end") \
	X(ACTIVE_CARRIER, "carriers_connected", "carrier connections established, connecting end") \
	X(SPLICE_PAIRED, "splice_pairs", "carriers joined by sk_msg") \
	X(SPLICE_GATED, "splice_gated", "carriers left on tcp by the splice gate") \
	X(SPLICE_FAIL, "splice_failures", "sockets that could not enter the splice hash") \
	X(MSG_REDIRECT, "splice_redirects", "messages moved by sk_msg") \
	X(MSG_PASS_DRAIN, "splice_pass_undrained", "messages left to TCP: earlier bytes unread") \
	X(MSG_PASS_MEM, "splice_pass_memory", "messages left to TCP: receiver holds enough") \
	X(MSG_PASS_PEER, "splice_pass_no_peer", "messages left to TCP: peer not ready or gone") \
	X(EVENT_LOST, "events_lost", "events that found no room in an instance's ring") \
	X(LISTEN_FULL, "listens_full", "listeners that found no room in dmm_listen") \
	X(SETTINGS_FAIL, "settings_failures", \
	  "sockets that got not all of their stack's settings") \
	X(MEASURE_FAIL, "measure_failures", "measured sockets that got no storage for it") \
	X(SAMPLE_LOST, "samples_lost", "samples whose slot somebody else was still writing")

/* Counters of the hold filter, per instance. X(NAME, metric, meaning) */
#define DMM_HOLD_COUNTERS(X) \
	X(HELD, "syns_held", "SYNs held until the far side answered, with their retransmits") \
	X(RELEASED, "syns_released", "SYNs let through by the instance") \
	X(LOST, "syns_lost", "SYNs dropped because the event ring was full") \
	X(STRANGER, "syns_unknown", "SYNs to the carrier port from no managed socket") \
	X(AGAIN, "first_data_again", \
	  "first data that met the end of the handshake, given to the instance to be sent again")

/* Counters of the XDP program, per instance. X(NAME, metric, meaning) */
#define DMM_XDP_COUNTERS(X) \
	X(FLOW, "xdp_flow_redirects", "packets of owned flows given to the instance") \
	X(PORT, "xdp_listen_redirects", "packets to owned listening ports given to the instance") \
	X(ICMP, "xdp_icmp_redirects", "ICMP errors about owned flows given to the instance") \
	X(PASS_MISS, "xdp_pass_unowned", "packets of TCP and UDP of no owned flow or port") \
	X(PASS_PROTO, "xdp_pass_protocol", "packets of protocols that no instance takes") \
	X(PASS_FRAG, "xdp_pass_fragment", "IP fragments of no owned flow or port") \
	X(PASS_OPTION, "xdp_pass_option", \
	  "packets of no owned flow or port with IP options or extension headers") \
	X(PASS_VLAN, "xdp_pass_vlan", "VLAN-tagged frames") \
	X(PASS_SHORT, "xdp_pass_truncated", "frames too short to parse") \
	X(PASS_NOXSK, "xdp_pass_no_socket", "owned packets on a queue without an AF_XDP socket") \
	X(DROP_FULL, "xdp_drop_ring_full", \
	  "owned packets dropped, the ring of their thread was full (tc mode, several threads)") \
	X(DROP_LONG, "xdp_drop_too_long", \
	  "owned packets dropped, longer than a frame of the ring (tc mode, several threads)") \
	X(WRONG_QUEUE, "xdp_wrong_queue", \
	  "packets given to the instance that came on a queue of another thread than their " \
	  "flow's, by way of tc")

/* Counters of one thread of an instance, written by it alone. X(NAME, metric, meaning) */
#define DMM_INSTANCE_COUNTERS(X) \
	X(RX_PACKETS, "port_receive_packets", "packets taken from the port") \
	X(RX_BYTES, "port_receive_bytes", "bytes of these, from the Ethernet header") \
	X(TX_PACKETS, "port_transmit_packets", "packets given to the port") \
	X(TX_BYTES, "port_transmit_bytes", "bytes of these, from the Ethernet header") \
	X(TX_DROPS, "port_transmit_drops", "packets dropped: transmit ring full") \
	X(RX_BAD, "port_receive_malformed", \
	  "packets dropped: malformed, from no possible address, or for another host") \
	X(RX_CSUM, "port_receive_bad_checksum", "packets dropped: wrong checksum") \
	X(DROP_SEGMENT, "engine_drop_malformed", "packets dropped: no TCP or UDP header") \
	X(DROP_STRANGER, "engine_drop_stranger", \
	  "packets dropped: of no connection, and no listener takes them") \
	X(DROP_WINDOW, "engine_drop_window", \
	  "segments dropped: outside of the window, mostly sent again in vain") \
	X(DROP_CLOCK, "engine_drop_timestamp", "segments dropped: old timestamp (PAWS)") \
	X(DROP_ACK, "engine_drop_ack", \
	  "segments dropped: they acknowledge what cannot be, or nothing") \
	X(DROP_RESET, "engine_drop_reset", \
	  "resets and SYNs dropped that must not end a connection") \
	X(DROP_ROOM, "engine_drop_memory", "segments dropped: no memory, or too many holes") \
	X(REASSEMBLED, "port_receive_reassembled", "packets put together from fragments") \
	X(FRAG_LOST, "port_receive_fragment_drops", \
	  "fragments dropped that contradict others, and packets that lack some for too long") \
	X(CSUM_PARTIAL, "port_receive_partial_checksum", \
	  "packets from a local sender, checksum completed") \
	X(NEIGH_MISS, "neighbour_misses", "packets that waited for a link-layer address") \
	X(NEIGH_FAIL, "neighbour_failures", "packets dropped: next hop does not answer") \
	X(NO_ROUTE, "route_failures", "packets dropped: no route through the interface") \
	X(CONN_OPEN, "connections_opened", "client connections begun in the engine") \
	X(CONN_OK, "connections_established", "of these, established") \
	X(CONN_FAIL, "connections_failed", "of these, failed") \
	X(CONN_ACCEPT, "connections_accepted", "connections accepted by the engine") \
	X(CONGESTION_FAIL, "congestion_failures", \
	  "connections whose rule names a congestion control that the engine lacks") \
	X(CONN_CLOSED, "connections_closed", "connections of both kinds that ended") \
	X(CONN_RESET, "connections_reset", "of these, by a reset from either end") \
	X(APP_RX_BYTES, "carrier_receive_bytes", "bytes taken from applications") \
	X(APP_TX_BYTES, "carrier_transmit_bytes", "bytes given to applications") \
	X(KEEPALIVE, "keepalives", "keepalives of applications, which the far side was asked for") \
	X(URGENT_TX, "urgent_transmits", "urgent bytes (TCP URG) from applications") \
	X(URGENT_RX, "urgent_receives", "urgent bytes (TCP URG) given to applications") \
	X(UDP_FLOWS, "udp_flows", "UDP sockets that connected through the instance") \
	X(UDP_FAIL, "udp_failures", "of these, such as could not be served") \
	X(UDP_TX, "udp_transmits", "datagrams taken from applications and sent") \
	X(UDP_RX, "udp_receives", "datagrams received and given to applications") \
	X(UDP_DROPS, "udp_drops", \
	  "datagrams dropped: no room on the way to or from an application") \
	X(UDP_ERRORS, "udp_errors", "ICMP errors about datagrams told to applications") \
	X(CARRIER_STRANGER, "carrier_strangers", "carrier accepts without a flow, closed") \
	X(CARRIER_FAIL, "carrier_failures", "carrier connections to listeners that failed") \
	X(AGAIN_FAIL, "first_data_again_failures", \
	  "first data dropped by the hold filter that could not be sent again") \
	X(LISTEN_FAIL, "listen_failures", "announced listeners that the engine refused") \
	X(WAKEUPS, "wakeups", "times the instance woke up") \
	X(XSK_RX_FULL, "xsk_receive_ring_full", "packets dropped: the instance was too slow") \
	X(XSK_FILL_EMPTY, "xsk_fill_ring_empty", "packets dropped: no frame to receive into") \
	X(XSK_RX_DROPS, "xsk_receive_drops", "packets that AF_XDP dropped for other reasons") \
	X(XSK_TX_EMPTY, "xsk_transmit_ring_empty", "times the kernel had sent all that was there") \
	X(TX_PARTIAL, "port_transmit_partial_checksum", \
	  "packets given to the port one by one whose checksum was left to the kernel")

/* Fill of the rings of an instance's port, each the most of the last ten to twenty seconds: parts
 * in a million, plus one; 0: the port does not tell. X(NAME, ring, meaning) */
#define DMM_RINGS(X) \
	X(RX, "receive", "frames that the instance has not taken yet") \
	X(TX, "transmit", "frames that the kernel has not sent yet")

#define DMM_ENUM_REASON(name, text, help) DMM_REASON_##name,
#define DMM_ENUM_COUNTER(name, text, help) DMM_C_##name,
#define DMM_ENUM_HOLD(name, text, help) DMM_H_##name,
#define DMM_ENUM_XDP(name, text, help) DMM_X_##name,
#define DMM_ENUM_INSTANCE(name, text, help) DMM_I_##name,
#define DMM_ENUM_RING(name, text, help) DMM_RING_##name,

enum dmm_reason { DMM_REASONS(DMM_ENUM_REASON) DMM_REASON_COUNT };
enum dmm_counter { DMM_COUNTERS(DMM_ENUM_COUNTER) DMM_C_COUNT };
enum dmm_hold_counter { DMM_HOLD_COUNTERS(DMM_ENUM_HOLD) DMM_H_COUNT };
enum dmm_xdp_counter { DMM_XDP_COUNTERS(DMM_ENUM_XDP) DMM_X_COUNT };
enum dmm_instance_counter { DMM_INSTANCE_COUNTERS(DMM_ENUM_INSTANCE) DMM_I_COUNT };
enum dmm_ring { DMM_RINGS(DMM_ENUM_RING) DMM_RING_COUNT };

/* Rows of one thread of an instance in dmm_instctr, from DMM_INSTANCE_ROW on: room for each kind,
 * so that a row may be added in place. Rings come from the end. */
#define DMM_INSTANCE_ROW(stack, thread) (((stack)*DMM_MAX_THREADS + (thread)) * DMM_INSTANCE_SPACE)
#define DMM_INSTANCE_SPACE 64
#define DMM_INSTANCE_RING(ring) (DMM_INSTANCE_SPACE - 1 - (ring))
#define DMM_HOLD_SPACE 8
#define DMM_XDP_SPACE 16
_Static_assert((int)DMM_I_COUNT + (int)DMM_RING_COUNT <= DMM_INSTANCE_SPACE, "they have room");
_Static_assert((int)DMM_H_COUNT <= DMM_HOLD_SPACE, "they have room");
_Static_assert((int)DMM_X_COUNT <= DMM_XDP_SPACE, "they have room");

#endif
