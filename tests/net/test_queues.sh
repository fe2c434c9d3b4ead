#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An interface of four queues, over which the sender's hash spreads connections: all of them arrive,
# however packets are steered, whoever calls.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx
QUEUES=4
setup "$@"
far_nginx
nginx_config near-nginx "$TMP/www" "$NEAR4:8081" "[$NEAR6]:8081"
export -f small

# ring NAME: how full it was lately, in thousandths; nothing if it is not told
ring() {
	curl -sS --unix-socket "$DMM_RUN/policyd.sock" http://dmm/metrics |
		sed -n "s/^dmm_port_ring_fill_ratio{stack=\"edge0\",ring=\"$1\"} //p" | awk '{ print int($1 * 1000) }'
}
# While the instance stands still, what a sender may send waits in the ring.
fills() {
	local pid urls=()
	pid=$(instance_pid)
	for _ in $(seq 30); do urls+=(-o /dev/null "http://$FAR4:8080/big"); done
	run_managed web curl -sS -m 20 "${urls[@]}" &
	sleep 0.1
	kill -STOP "$pid"
	sleep 0.5
	kill -CONT "$pid"
	wait $!
	wait_for filled
}
filled() { [ "$(ring receive)" -ge 10 ]; }

for how in native generic tc; do
	config | sed "s/driver: $DMM_DRIVER/&, mode: $how/" | start_policyd
	spawn near-nginx run_managed web nginx -c "$TMP/near-nginx.conf"
	nginx=$SPAWNED
	wait_for near_listens 8081
	mark
	check "$how: 60 connections" equal "$(run_managed web bash -c \
		"small http://$FAR4:8080/small http://[$FAR6]:8080/small")" 60
	check "$how: 60 connections to a server" equal \
		"$(in_far bash -c "small http://$NEAR4:8081/small http://[$NEAR6]:8081/small")" 60
	check_dmm "$how: the instance carried them" at_least "$(since connections_opened)" 60
	check_dmm "$how: the server's, too" at_least "$(since connections_accepted)" 60
	check_dmm "$how: nothing arrived where nobody looks" equal "$(since xdp_pass_no_socket)" 0
	if [ "$DMM_BASELINE" != 1 ] && [ "$DMM_DRIVER" = xsk ]; then # DPDK does not tell
		check "$how: how full it was while the instance stood still" fills
		check "$how: the transmit ring is told, too" at_least "$(ring transmit)" 0
	fi
	stop_policyd
	end "$nginx"
done
finish
