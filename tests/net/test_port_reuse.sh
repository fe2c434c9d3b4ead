#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A client that has few ports and no TIME-WAIT of its own: every connection comes from a port whose
# last one ended just now, whichever end closed first.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need
setup "$@"
iterations=${DMM_HAZARD_ITER:-200}
config | start_policyd
spawn serve run_managed web "$HAZARD" serve -N 0.0.0.0 7200
wait_for grep -q ready "$TMP/serve.log"
ip netns exec "$FAR" sysctl -qw net.ipv4.ip_local_port_range="40000 40015" \
	net.ipv4.tcp_max_tw_buckets=0
# the near end closes first and the far one has sent much; the far end closes first; one resets
for row in readv half-close splice-in recv-to-close send-close early-data reset-in reset-out names; do
	for mode in -b -N; do
		in_far timeout 120 "$HAZARD" reverse $mode -n "$iterations" -t 60 $NEAR4 7200 $row \
			>"$TMP/out" 2>&1 || true
		sed 's/^/# /' "$TMP/out"
		check "$row $mode" grep -q '^ok ' "$TMP/out"
	done
done
finish
