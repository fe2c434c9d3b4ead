#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# iperf3 in both directions, the managed end as client and as server.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need iperf3
setup "$@"
config | start_policyd

# measure TEXT rx|tx COMMAND...: bytes as the receiver counted, and the port's share. A number of bytes and
# not of seconds, so that it does not matter what else the machine does; the end is told on a connection of
# its own, and what is still under way then does not count.
measure() {
	local text=$1 way=$2 bytes
	shift 2
	mark
	"$@" -J -n 100M >"$TMP/iperf.json" 2>"$TMP/iperf.err" || true
	bytes=$(jq '.end.sum_received.bytes // 0' "$TMP/iperf.json" || true)
	echo "# $text: $(jq '.end.sum_received.bits_per_second // 0 | . / 1e6 | floor' "$TMP/iperf.json") Mbit/s"
	check "$text" at_least "$bytes" 50000000
	through_port "$text: through the port" "$way" "${bytes:-0}"
}

spawn far-iperf in_far iperf3 -s -p 5301
wait_for far_listens 5301
start_capture
for host in $FAR4 $FAR6; do
	measure "client to $host" tx run_managed web timeout 30 iperf3 -c $host -p 5301
	measure "client from $host" rx run_managed web timeout 30 iperf3 -c $host -p 5301 -R
done
measure "4 streams out" tx run_managed web timeout 30 iperf3 -c $FAR4 -p 5301 -P 4
measure "4 streams in" rx run_managed web timeout 30 iperf3 -c $FAR4 -p 5301 -P 4 -R
stop_capture
check "the far host saw it" at_least "$(captured 'tcp port 5301')" 1000

spawn near-iperf run_managed web iperf3 -s -p 5302
wait_for near_listens 5302
sleep 0.5
measure "server from far" rx in_far timeout 30 iperf3 -c $NEAR4 -p 5302
measure "server to far" tx in_far timeout 30 iperf3 -c $NEAR4 -p 5302 -R
finish
