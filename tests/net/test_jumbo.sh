#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Frames of 9000 bytes, larger than one of AF_XDP's, in both directions, however packets are steered.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx
setup "$@"
ip -n "$NEAR" link set near0 mtu 9000
ip -n "$FAR" link set far0 mtu 9000
far_nginx
head -c 6000 /dev/urandom >"$TMP/www/one"
for how in native tc; do
	config | sed "s/driver: xsk/&, mode: $how/" | start_policyd
	for host in "$FAR4" "[$FAR6]"; do
		rm -f "$TMP/www/put/one"
		start_capture
		run_managed web curl -sS -m 20 -T "$TMP/www/one" "http://$host:8080/put/one" || true
		stop_capture
		check "$how: PUT of 6000 bytes to $host" equal "$(sum "$TMP/www/put/one" 2>/dev/null)" \
			"$(sum "$TMP/www/one")"
		check "$how: in one frame" at_least \
			"$(captured greater 6000 and less 9014 and dst port 8080)" 1
		big_both_ways "$host" "$how: "
	done
	stop_policyd
done
finish
