#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Very many connections of one instance at once, most of them idle: as client and as server. What one
# takes of the instance is told; each has its own bytes, also after all the others.
# They outnumber the ports that the kernel has for what goes to one address and port, as carriers do.
# DMM_MANY: how many (default: 15000, as many descriptors are had everywhere).
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
n=${DMM_MANY:-15000}
setup "$@"
many=$(program many)
for i in $(seq 10 17); do
	ip -n "$FAR" addr add 10.55.0.$i/24 dev far0
done
in_near sysctl -qw net.ipv4.ip_local_port_range="32768 $((32768 + n / 4))"
config | start_policyd

rss() { awk '/^VmRSS/ { print $2 }' "/proc/$(instance_pid)/status"; }
# crowd TEXT COUNTER COMMAND...: the connections, and what the instance counts of them
crowd() {
	local text=$1 counter=$2 before
	shift 2
	mark
	before=$(rss)
	mkfifo "$TMP/hold"
	"$@" <"$TMP/hold" >"$TMP/many.out" 2>"$TMP/many.err" &
	local pid=$!
	exec 8>"$TMP/hold"
	exchanged() { ! kill -0 $pid 2>/dev/null || grep -q exchanged "$TMP/many.out"; }
	WAIT_S=$((300 + n / 100)) wait_for exchanged || true
	sed 's/^/# /' "$TMP/many.out" "$TMP/many.err"
	check "$text: all are right" grep -q '"wrong": 0,' "$TMP/many.out"
	check "$text: by the instance" at_least "$(since "$counter")" "$n"
	echo "# $text: $((($(rss) - before) * 1024 / n)) bytes of the instance each"
	exec 8>&-
	wait "$pid" || true
	rm -f "$TMP/hold"
	sed -n '$s/^/# /p' "$TMP/many.out"
	check "$text: and still are" equal "$(grep -c '"wrong": 0,' "$TMP/many.out")" 2
}

spawn far in_far "$many" serve $FAR4 7000 40
wait_for grep -q ready "$TMP/far.log"
crowd client connections_established run_managed web "$many" open "$n" $FAR4 7000 40
# what ends at once is a storm of its own
quiet() {
	! in_far ss -Htn state established "sport >= :7000 and sport < :7040" | grep -q . &&
		! in_near ss -Htn state close-wait | grep -q . # carriers whose application has left
}
WAIT_S=$((60 + n / 100)) wait_for quiet
spawn near run_managed web "$many" serve 0.0.0.0 7100 1
wait_for grep -q ready "$TMP/near.log"
sleep 1
crowd server connections_accepted in_far "$many" open "$n" $NEAR4 7100 1 10.55.0.10 8
finish
