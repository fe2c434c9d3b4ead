#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Benchmarks: every system does the same work in the same run, a slice of it at a time, in turns; the
# table shows medians, and ratios to the plain kernel as medians of the ratios within a round. The far host
# is on the kernel stack.
#
#   plain      a process in no group, on a link that no instance steers
#   unmanaged  a process in no group, on the link that the instance steers
#   cgroup     the same in a cgroup without programs: what it costs to live in one
#   managed    a process in a group whose verdict is the kernel, on that link
#   lwip       a process in a group whose verdict is the instance, of the lwIP engine
#   native     the same on a third link, whose instance is of the native engine
#   spliced    native, and its rule asks for carrier: splice; not among those that run by default
#   native-2   native on a fourth link, of two queues, with two threads; not among those that run by default
#   haproxy    a TCP relay on this host; its connect is open before the far side was asked, so that
#              only cycle compares connections with it
#
# connect: open and close; cycle: open, and the far side closes; rr: 64 bytes there and back; send,
# recv: bulk.
# Losses are printed as plainly as wins. ROUNDS and SECONDS_EACH make it longer, SYSTEMS and MODES choose.
. "$(dirname "$0")/../net/lib.sh"

ROUNDS=${ROUNDS:-11}
SECONDS_EACH=${SECONDS_EACH:-0.3}
DMM_ENGINE=lwip # of edge0
need haproxy

setup
LOAD=$(program load)
PROXY=7778
results=$TMP/results
LINK2=10.56.0.2 # the far host by the other links
LINK3=10.57.0.2
LINK4=10.58.0.2
for n in 1 2 3; do
	queues=$((n == 3 ? 2 : 1))
	ip link add near$n netns "$NEAR" numrxqueues $queues numtxqueues $queues type veth \
		peer name far$n netns "$FAR" numrxqueues $queues numtxqueues $queues
	ip -n "$NEAR" addr add 10.$((55 + n)).0.1/24 dev near$n
	ip -n "$FAR" addr add 10.$((55 + n)).0.2/24 dev far$n
	ip -n "$NEAR" link set near$n mtu 1500 up
	ip -n "$FAR" link set far$n mtu 1500 up
done

# The group "other" is managed, but its verdict is the kernel.
config | sed -e "s|^stacks:|  other: {cgroup: $CGROUP/other}\n  new: {cgroup: $CGROUP/new}\n  two: {cgroup: $CGROUP/two}\n  joined: {cgroup: $CGROUP/joined}\nstacks:|" \
	-e 's|^rules:|  edge1: {engine: native, port: {driver: xsk, interface: near2}}\n  edge2: {engine: native, threads: 2, port: {driver: xsk, interface: near3}}\nrules:|' \
	-e 's|^default:|  - {name: new-tcp, match: {group: new, proto: tcp}, use: [edge1, kernel]}\n  - {name: two-tcp, match: {group: two, proto: tcp}, use: [edge2, kernel]}\n  - {name: joined-tcp, match: {group: joined, proto: tcp}, use: [edge1, kernel], carrier: splice}\ndefault:|' |
	start_policyd
wait_for stack_up edge1
wait_for stack_up edge2
# A server for each system: what one left behind must not be another's burden.
port_of() {
	case $1 in plain) echo 7777 ;; unmanaged) echo 7781 ;; cgroup) echo 7786 ;; managed) echo 7782 ;; lwip) echo 7783 ;; native) echo 7785 ;; native-2) echo 7787 ;; spliced) echo 7788 ;; haproxy) echo 7784 ;; esac
}
for system in plain haproxy; do spawn "server-$system" in_far "$LOAD" serve $LINK2 "$(port_of $system)"; done
for system in native spliced; do spawn "server-$system" in_far "$LOAD" serve $LINK3 "$(port_of $system)"; done
spawn server-native-2 in_far "$LOAD" serve $LINK4 "$(port_of native-2)"
for system in unmanaged cgroup managed lwip; do spawn "server-$system" in_far "$LOAD" serve $FAR4 "$(port_of $system)"; done
for system in plain haproxy unmanaged cgroup managed lwip native spliced native-2; do wait_for far_listens "$(port_of $system)"; done
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
	server far $LINK2:$(port_of haproxy)
CFG
spawn haproxy in_near haproxy -db -f "$TMP/haproxy.cfg"
wait_for near_listens $PROXY

plain_cgroup=$(cgroup_root)/$CGROUP/plain
mkdir -p "$plain_cgroup"

one() { # one SYSTEM MODE CONNECTIONS: a line of JSON
	local run=(in_near "$LOAD" "$2" "$3" "$SECONDS_EACH") to=($FAR4 "$(port_of "$1")")
	case $1 in
	plain) to=($LINK2 "$(port_of plain)") ;;
	cgroup) run=(in_near sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$plain_cgroup" "${run[@]:1}") ;;
	managed) run=(run_managed other "${run[@]:1}") ;;
	lwip) run=(run_managed web "${run[@]:1}") ;;
	native) run=(run_managed new "${run[@]:1}") to=($LINK3 "$(port_of native)") ;;
	spliced) run=(run_managed joined "${run[@]:1}") to=($LINK3 "$(port_of spliced)") ;;
	native-2) run=(run_managed two "${run[@]:1}") to=($LINK4 "$(port_of native-2)") ;;
	haproxy) to=(127.0.0.1 $PROXY) ;;
	esac
	"${run[@]}" "${to[@]}" | jq -c --arg s "$1" --arg m "$2" --argjson c "$3" --argjson r "$round" \
		'. + {system: $s, mode: $m, connections: $c, round: $r}' >>"$results"
}

echo "rounds: $ROUNDS, ${SECONDS_EACH}s each; kernel $(uname -r), $(nproc) cores, veth MTU 1500, steering: $(stack_field edge0 .instance.xdp_mode)"
for round in $(seq "$ROUNDS"); do
	for mode in ${MODES:-connect cycle rr send recv}; do
		for n in 1 64; do
			for system in $(shuf -e ${SYSTEMS:-plain unmanaged cgroup managed lwip native haproxy}); do
				one "$system" $mode $n
				sleep 0.1 # connections that were cut are cleared away
			done
		done
	done
	echo "round $round of $ROUNDS done" >&2
done

table() {
	jq -rs '
	def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor]
		else (.[length / 2 - 1] + .[length / 2]) / 2 end;
	def bulk: .mode == "send" or .mode == "recv";
	def value: if bulk then .bytes_per_s * 8 / 1e9 else .ops_per_s / 1e3 end;
	def show: . * 100 | round / 100 | tostring;
	def ratio($cell; $to): map(. as $x | ($cell | map(select(.system == $to and .round == $x.round))[0]) as $base
		| if $base and ($base | value) > 0 then value / ($base | value) else empty end)
		| if length == 0 then "-" else median | show end;
	. as $all |
	(["work", "connections", "unit", "system", "median", "x plain", "x haproxy", "p50 us", "p99 us", "errors"] | @tsv),
	(["connect", "cycle", "rr", "send", "recv"][] as $m | (1, 64) as $c | ["plain", "unmanaged", "cgroup", "managed", "lwip", "native", "spliced", "native-2", "haproxy"][] as $s |
	 ($all | map(select(.mode == $m and .connections == $c))) as $cell |
	 ($cell | map(select(.system == $s))) as $mine |
	 select($mine != []) |
	 [$m, $c, (if $mine[0] | bulk then "Gbit/s" else "1000/s" end), $s,
	  ($mine | map(value) | median | show), ($mine | ratio($cell; "plain")), ($mine | ratio($cell; "haproxy")),
	  (if $mine[0] | bulk then "-", "-" else ($mine | map(.p50_us) | median | tostring), ($mine | map(.p99_us) | median | tostring) end),
	  ($mine | map(.errors) | add | tostring)] | @tsv)' "$results" | column -t -s "$(printf '\t')"
}
table
[[ " ${SYSTEMS:-lwip} " != *" lwip "* || " ${MODES:-connect} " != *" connect "* ]] || jq -rs '
	def median: sort | .[length / 2 | floor];
	def of($s; $f): map(select(.mode == "connect" and .connections == 1 and .system == $s)) | map(.[$f]) | median;
	"connect() through the held SYN adds \((of("lwip"; "p50_us") - of("plain"; "p50_us")) * 10 | round / 10) us at p50, \((of("lwip"; "p99_us") - of("plain"; "p99_us")) * 10 | round / 10) us at p99"' "$results"

# What the decision adds to a loopback connection, from socket() to close(), in one thread.
DECIDE=$(program decide)
in_near "$DECIDE" $((ROUNDS * 20)) 200 "$plain_cgroup" "$(cgroup_root)/$CGROUP/other" | jq -r '.[1] |
	"a decision for the kernel adds \(.added_ns) ns to a loopback connection of \(.ns - .added_ns) ns: \(.rate * 1000 | round / 1000) x plain"'

# What the number of rules adds, and what commits of many take.
[ -n "${MODES:-}" ] || in_near "$(program classify)" "$ROUNDS"
finished=1
exit 0
