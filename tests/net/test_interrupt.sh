#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A test that is told to end, and told again while it tidies up, as timeout(1) does, leaves nothing.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
if [ "${1:-}" = victim ]; then
	setup
	spawn long in_far sleep 60
	echo "in $NEAR $FAR $TMP"
	wait
fi

setup
bash "$0" victim >"$TMP/victim.log" 2>&1 &
victim=$!
pids+=($victim)
wait_for grep -q ^in "$TMP/victim.log"
read -r _ near far tmp <"$TMP/victim.log"
check "there is something to leave" test -d "$tmp"
kill $victim
wait_for grep -q aborted "$TMP/victim.log" # the first is what it acts on
kill $victim 2>/dev/null || true
wait $victim || true
for name in "$near" "$far"; do
	check "no namespace ${name%-*}" eval "! ip netns list | grep -q '^$name\\b'"
done
check "no directory" eval "! test -e '$tmp'"
finish
