#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A rule is flipped: the connection that lives stays where it is, the next one takes the kernel, and
# both are seen in the flows.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx
setup "$@"
[ "$DMM_BASELINE" != 1 ] || skip_all "no policy in the baseline"
far_nginx
config | start_policyd
url=http://$FAR4:8080
remote=".remote == \"$FAR4:8080\" and .role == \"client\""

spawn first run_managed web curl -sS -m 60 --limit-rate 4M -o "$TMP/first" "$url/big"
first=$SPAWNED
wait_for test -s "$TMP/first"
check "the first flow is the instance's" \
	equal "$(flows "$remote and .stack == \"edge0\" and .reason == \"rule\" and .rule == \"web-tcp\"")" 1

start_capture
config '[kernel]' >"$TMP/flip.yaml"
check "the rule is flipped" policy apply -f "$TMP/flip.yaml"
mark
spawn second run_managed web curl -sS -m 60 --limit-rate 4M -o "$TMP/second" "$url/big"
second=$SPAWNED
wait_for test -s "$TMP/second"
policy flows | sed 's/^/# /'
check "the second flow is the kernel's" equal "$(flows "$remote and .stack == \"kernel\"")" 1
check "the first is still the instance's" equal "$(flows "$remote and .stack == \"edge0\"")" 1
check "no connection was opened in the instance" equal "$(since connections_opened)" 0
carrier=$(policy -j flows | jq -r "[.[] | select($remote) | .carrier] | sort | join(\" \")")
check "their carriers" equal "$carrier" "none tcp"
for p in "$first" "$second"; do
	r=0
	wait "$p" || r=$?
	check "a transfer went to its end" equal $r 0
done
check "the first is whole" equal "$(sum "$TMP/first")" "$(sum "$TMP/www/big")"
check "the second is whole" equal "$(sum "$TMP/second")" "$(sum "$TMP/www/big")"
stop_capture
check "the far host saw the second begin" \
	at_least "$(captured "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn and dst port 8080")" 1

check "the rule is flipped back" policy apply -f "$TMP/dmm.yaml"
mark
check "the next connection" run_managed web curl -sS -m 10 -o /dev/null "$url/small"
check "takes the instance" equal "$(since connections_established)" 1
config '[no-such-stack]' >"$TMP/bad.yaml"
check "a rule that names no stack is refused" eval '! policy apply -f "$TMP/bad.yaml" 2>"$TMP/bad.log"'
check "with its place" grep -qE 'bad\.yaml:[0-9]+:[0-9]+' "$TMP/bad.log"
check "and changes nothing" run_managed web curl -sS -m 10 -o /dev/null "$url/small"
check "the instance has it" equal "$(since connections_established)" 2
finish
