#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An application sends and resets at once, while the far side sends. What it sent arrives, and the reset
# that follows is the instance's: the kernel, which knows nothing of the connection, must not get what is
# still on its way and overtake both with a reset of its own.
# The other way round: the far side resets while the application does not read what it has sent. One that
# waits for its own bytes to be taken is told; one that does not still gets all that came before.
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
if [ "$DMM_BASELINE" != 1 ]; then
	check "by the instance" at_least "$(since connections_reset)" 2400
	check "the kernel got none of their packets" equal "$(since xdp_pass_unowned)" 0
fi

running=()
for to in $FAR4 $FAR6; do
	port=7010
	for how in writes reads slow; do
		spawn "flood-$how-$to" in_far python3 "$here/told.py" flood "$to" $port
		wait_for grep -q ready "$TMP/flood-$how-$to.log"
		run_managed web python3 "$here/told.py" "$how" "$to" $port >"$TMP/$how-$to" &
		running+=($!)
		port=$((port + 1))
	done
done
wait "${running[@]}" || true
for to in $FAR4 $FAR6; do
	check "$to: who writes is told of a reset" equal "$(cat "$TMP/writes-$to")" told
	for how in reads slow; do
		acked=$(tail -n 1 "$TMP/flood-$how-$to.log")
		got=$(cut -d' ' -f1 "$TMP/$how-$to")
		check "$to: who $how gets what came before" at_least "$got" "$acked"
	done
	check "$to: and then the reset" equal "$(cut -d' ' -f2 "$TMP/reads-$to")" ECONNRESET
done
finish
