#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Benchmarks: every system does the same work in the same run, interleaved round by round; the table
# shows medians, and ratios to the plain kernel (DMM not on this host) as medians of the ratios within a
# round. unmanaged, managed: the kernel stack beside DMM, outside a group and in one whose verdict is the
# kernel. haproxy: a TCP relay on this host; its connect is open before the far side was asked. Losses are
# printed as plainly as wins. ROUNDS and SECONDS_EACH make it longer.
. "$(dirname "$0")/../net/lib.sh"

ROUNDS=${ROUNDS:-5}
SECONDS_EACH=${SECONDS_EACH:-1}
need haproxy

setup
LOAD=$(program load)
PORT=7777 PROXY=7778
results=$TMP/results

# The group "other" is managed, but its verdict is the kernel.
dmm_on() {
	config | sed "s|^stacks:|  other: {cgroup: $CGROUP/other}\nstacks:|" | start_policyd
}
spawn server in_far "$LOAD" serve $FAR4 $PORT
wait_for far_listens $PORT
cat >"$TMP/haproxy.cfg" <<CFG
global
	maxconn 4096
	nbthread 1
defaults
	mode tcp
	timeout connect 5s
	timeout client 60s
	timeout server 60s
listen relay
	bind 127.0.0.1:$PROXY
	server far $FAR4:$PORT
CFG
spawn haproxy in_near haproxy -db -f "$TMP/haproxy.cfg"
wait_for near_listens $PROXY

one() { # one SYSTEM MODE CONNECTIONS: a line of JSON
	local run=(in_near "$LOAD" "$2" "$3" "$SECONDS_EACH") to=($FAR4 $PORT)
	case $1 in
	plain | unmanaged) ;;
	managed) run=(run_managed other "${run[@]:1}") ;;
	lwip) run=(run_managed web "${run[@]:1}") ;;
	haproxy) to=(127.0.0.1 $PROXY) ;;
	esac
	"${run[@]}" "${to[@]}" | jq -c --arg s "$1" --arg m "$2" --argjson c "$3" --argjson r "$round" \
		'. + {system: $s, mode: $m, connections: $c, round: $r}' >>"$results"
}

echo "rounds: $ROUNDS, ${SECONDS_EACH}s each; kernel $(uname -r), $(nproc) cores, veth MTU 1500, far host on the kernel stack"
# Within a round: first without DMM on this host, then beside it.
cells() { # cells SYSTEM...
	local mode n system
	for mode in connect rr send recv; do
		for n in 1 64; do
			for system in "$@"; do one "$system" $mode $n; done
		done
	done
}
for round in $(seq "$ROUNDS"); do
	cells plain haproxy
	dmm_on
	cells unmanaged managed lwip
	stop_policyd
	echo "round $round of $ROUNDS done" >&2
done

table() {
	jq -rs '
	def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor]
		else (.[length / 2 - 1] + .[length / 2]) / 2 end;
	def value: if .mode == "send" or .mode == "recv" then .bytes_per_s * 8 / 1e9 else .ops_per_s / 1e3 end;
	def show: . * 100 | round / 100 | tostring;
	. as $all |
	(["work", "connections", "unit", "system", "median", "x plain", "p50 us", "p99 us", "errors"] | @tsv),
	(["connect", "rr", "send", "recv"][] as $m | (1, 64) as $c | ["plain", "unmanaged", "managed", "lwip", "haproxy"][] as $s |
	 ($all | map(select(.mode == $m and .connections == $c))) as $cell |
	 ($cell | map(select(.system == $s))) as $mine |
	 ($mine | map(. as $x | value / ($cell | map(select(.system == "plain" and .round == $x.round))[0] | value)) | median) as $ratio |
	 [$m, $c, (if $m == "send" or $m == "recv" then "Gbit/s" else "1000/s" end), $s,
	  ($mine | map(value) | median | show), ($ratio | show),
	  (if $m == "connect" or $m == "rr" then ($mine | map(.p50_us) | median | tostring), ($mine | map(.p99_us) | median | tostring) else "-", "-" end),
	  ($mine | map(.errors) | add | tostring)] | @tsv)' "$results" | column -t -s "$(printf '\t')"
}
table
jq -rs '
	def median: sort | .[length / 2 | floor];
	def of($s; $f): map(select(.mode == "connect" and .connections == 1 and .system == $s)) | map(.[$f]) | median;
	"connect() through the held SYN adds \((of("lwip"; "p50_us") - of("plain"; "p50_us")) * 10 | round / 10) us at p50, \((of("lwip"; "p99_us") - of("plain"; "p99_us")) * 10 | round / 10) us at p99"' "$results"
finished=1
exit 0
