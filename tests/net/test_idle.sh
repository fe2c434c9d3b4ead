#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An idle instance sleeps: less than 1 % of a CPU over 5 s, with and without an idle connection.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx
setup "$@"
[ "$DMM_BASELINE" != 1 ] || skip_all "no instance in the baseline"
far_nginx
config | start_policyd

idle() { # idle TEXT PID
	local before after
	before=$(cpu_ns "$2")
	sleep 5
	after=$(cpu_ns "$2")
	echo "# $1: $(((after - before) / 1000)) us in 5 s, $(since wakeups) wakeups so far"
	check "$1: below 1 % of a CPU" test $((after - before)) -lt 50000000
}

pid=$(instance_pid)
mark
sleep 1
idle "fresh" "$pid"
run_managed web curl -sS -m 30 -o /dev/null "http://$FAR4:8080/big"
sleep 1
idle "after traffic" "$pid"
spawn held run_managed web "$HAZARD" connect -k 30 "$FAR4" 8080
sleep 1
idle "with an idle connection" "$pid"
idle "the daemon" "$POLICYD_PID"
finish
