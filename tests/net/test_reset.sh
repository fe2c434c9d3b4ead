#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An application sends and resets at once, while the far side sends. What it sent arrives, and the reset
# that follows is the instance's: the kernel, which knows nothing of the connection, must not get what is
# still on its way and overtake both with a reset of its own.
# The other way round: the far side resets while the application does not read what it has sent. One that
# waits for its own bytes to be taken is told; one that does not still gets what came before.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
setup "$@"
config | start_policyd
spawn far-4 in_far "$HAZARD" serve -b 0.0.0.0 7000
spawn far-6 in_far "$HAZARD" serve -b :: 7001
wait_for grep -q ready "$TMP/far-4.log"
wait_for grep -q ready "$TMP/far-6.log"
mark
for to in "$FAR4 7000" "$FAR6 7001"; do
	# shellcheck disable=SC2086
	run_managed web "$HAZARD" run -b -n 600 -t 60 -B 10.77.0.1 -U 10.66.0.1 $to unspec >"$TMP/said ${to% *}" 2>&1 &
	running+=($!)
done
wait "${running[@]}" || true
for to in $FAR4 $FAR6; do
	check "$to: all arrived" grep -q '^ok unspec 600' "$TMP/said $to"
done
check "by the instance" at_least "$(since connections_reset)" 2400
check "the kernel got none of their packets" equal "$(since xdp_pass_unowned)" 0

for to in $FAR4 $FAR6; do
	spawn "flood-$to" in_far python3 "$here/told.py" flood "$to" 7010
	wait_for grep -q ready "$TMP/flood-$to.log"
	check "$to: who writes is told of a reset" equal "$(run_managed web python3 "$here/told.py" writes "$to" 7010)" told
	run_managed web python3 "$here/told.py" reads "$to" 7010 >"$TMP/read"
	check "$to: who reads gets what came before" grep -q '^[1-9][0-9]* ECONNRESET' "$TMP/read"
done
finish
