#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An engine by its own contract, with an application inside the instance, beside the kernel's stack: the
# same kernel client on the far host, each link a veth of its own, one core for each end, both never
# sleeping. Slices in turns within a round; medians, ratios as medians of those within a round.
#
#   kernel, lwip, native     as the link is: with segmentation and checksum offload, MTU 1500
#   kernel-, lwip-, native-  without, at both ends: frames of 1500 bytes, real checksums
#   raw                      frames through AF_XDP on such a link, no engine: payload of full segments
#
# recv: to the near host, where the systems are; send: from it; rr: 64 bytes there and back; cycle: a
# connection from SYN to the last FIN. CPU is of both processes, each end sleeping when it can.
# ROUNDS, SECONDS_EACH, WORKS, SYSTEMS and MODE (auto, tc, generic, native) choose.
. "$(dirname "$0")/../net/lib.sh"

ROUNDS=${ROUNDS:-7}
SECONDS_EACH=${SECONDS_EACH:-0.3}
MODE=${MODE:-auto}
SYSTEMS=${SYSTEMS:-kernel lwip native kernel- lwip- native- raw}
SLEEPERS=${SLEEPERS-kernel-s native-s}
WORKS=${WORKS:-recv:1 send:1 rr:1 rr:64 rr:1024 cycle:1 cycle:64}
PORT=7777
need ethtool

setup
LOAD=$(program load)
INSIDE=$(program inside)
results=$TMP/results
declare -A number=() server=()

engine_of() {
	case $1 in lwip*) echo lwip ;; *) echo native ;; esac
}
# The systems, each with its link: near<n> and far<n>, 10.60.<n>.1 and .2
n=1
stacks=
for system in $SYSTEMS $SLEEPERS; do
	number[$system]=$n
	ip link add near$n netns "$NEAR" type veth peer name far$n netns "$FAR"
	ip -n "$NEAR" addr add 10.60.$n.1/24 dev near$n
	ip -n "$FAR" addr add 10.60.$n.2/24 dev far$n
	for end in "$NEAR:near" "$FAR:far"; do
		ip -n "${end%:*}" link set "${end#*:}$n" mtu 1500 up
		case $system in *-* | raw) ip netns exec "${end%:*}" ethtool -K "${end#*:}$n" tx off tso off gso off gro off >/dev/null ;; esac
	done
	stacks+="  s$n: {engine: $(engine_of "$system"), port: {driver: xsk, interface: near$n}}"$'\n'
	n=$((n + 1))
done
printf 'groups: {}\nstacks:\n%sdefault: kernel\n' "$stacks" >"$TMP/policy.yaml"
policy apply -f "$TMP/policy.yaml" >"$TMP/apply.log" || { cat "$TMP/apply.log"; exit 1; }

near_ready() { # NUMBER SYSTEM
	in_near ss -Hltn "sport = :$PORT and src 10.60.$1.1" | grep -q . || grep -q ^ready "$TMP/server-$2.log"
}
# All servers are there from the start; who has no turn is stopped.
for system in $SYSTEMS $SLEEPERS; do
	n=${number[$system]}
	case $system in *-s) how="sleep" ;; *) how=busy ;; esac
	case $system in
	raw) continue ;;
	kernel-s) spawn "server-$system" in_near taskset -c 1 "$LOAD" serve 10.60.$n.1 $PORT ;;
	kernel*) spawn "server-$system" in_near taskset -c 1 "$LOAD" busy serve 10.60.$n.1 $PORT ;;
	*) spawn "server-$system" in_near taskset -c 1 "$INSIDE" serve s$n near$n "$(engine_of "$system")" "$MODE" $how 10.60.$n.1 $PORT ;;
	esac
	server[$system]=$SPAWNED
	wait_for near_ready $n "$system" || { cat "$TMP/server-$system.log"; exit 1; }
	kill -STOP "$SPAWNED"
done
far_mac() { ip -n "$FAR" -j link show "far$1" | jq -r '.[0].address'; }
near_mac() { ip -n "$NEAR" -j link show "near$1" | jq -r '.[0].address'; }

raw() { # raw recv|send
	local n=${number[raw]}
	if [ "$1" = recv ]; then
		in_near taskset -c 1 "$INSIDE" count s$n near$n "$MODE" "$SECONDS_EACH" 10.60.$n.1 10.60.$n.2 &
		local counter=$!
		sleep 0.5
		in_far taskset -c 0 "$INSIDE" blast far$n "$(awk "BEGIN { print $SECONDS_EACH + 0.5 }")" "$(near_mac $n)" 10.60.$n.2 10.60.$n.1 >/dev/null
		wait $counter
	else
		# to nobody: what the far stack does with it is not the link's
		in_near taskset -c 1 "$INSIDE" blast near$n "$SECONDS_EACH" 02:00:00:00:00:99 10.60.$n.1 10.60.$n.2
	fi
}

one() { # one SYSTEM WORK CONNECTIONS: a line of JSON
	local system=$1 n=${number[$1]} pid=${server[$1]:-} work=$2 got before=0 after=0 how=busy
	case $work in # the client's word for it
	recv) work=send ;;
	send) work=recv ;;
	esac
	[[ $system != *-s ]] || how=
	if [ "$system" = raw ]; then
		[ "$work" = send ] || [ "$work" = recv ] || return 0
		got=$(raw "$2")
	else
		kill -CONT "$pid"
		before=$(cpu_ns "$pid")
		# shellcheck disable=SC2086
		got=$(in_far taskset -c 0 "$LOAD" $how "$work" "$3" "$SECONDS_EACH" 10.60.$n.1 $PORT)
		after=$(cpu_ns "$pid")
		sleep 0.1 # what the client left is cleared away
		kill -STOP "$pid"
	fi
	jq -c --arg s "$system" --arg w "$2" --argjson c "$3" --argjson r "$round" --argjson ns $((after - before)) \
		'. + {system: $s, work: $w, connections: $c, round: $r, server_ns: $ns}' <<<"$got" >>"$results"
}

echo "rounds: $ROUNDS, ${SECONDS_EACH}s each; kernel $(uname -r), $(nproc) cores, steering: $MODE"
for round in $(seq "$ROUNDS"); do
	for work in $WORKS; do
		# shellcheck disable=SC2086
		for system in $(shuf -e $SYSTEMS $SLEEPERS); do one "$system" "${work%:*}" "${work#*:}"; done
	done
	echo "round $round of $ROUNDS done" >&2
done

jq -rs '
	def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor]
		else (.[length / 2 - 1] + .[length / 2]) / 2 end;
	def bulk: .work == "recv" or .work == "send";
	def value: if bulk then .bytes_per_s * 8 / 1e9 else .ops_per_s / 1e3 end;
	def show: if . == null then "-" else . * 100 | round / 100 | tostring end;
	def cpu: if bulk then (.cpu_s * 1e9 + .server_ns) * 1024 / .bytes else (.cpu_s * 1e9 + .server_ns) / .ops end;
	def ratio($cell; $to; f): map(. as $x | ($cell | map(select(.system == $to and .round == $x.round))[0]) as $base
		| if $base and ($base | f) > 0 then f / ($base | f) else empty end) | median | show;
	. as $all |
	(["work", "conns", "unit", "system", "median", "x kernel-", "x kernel", "p50 us", "p99 us", "errors"] | @tsv),
	($all | map([.work, .connections]) | unique[] as [$w, $c] |
	 ($all | map(select(.work == $w and .connections == $c))) as $cell |
	 ["raw", "kernel-", "lwip-", "native-", "kernel", "lwip", "native"][] as $s |
	 ($cell | map(select(.system == $s))) as $mine | select($mine != []) |
	 [$w, $c, (if $mine[0] | bulk then "Gbit/s" else "1000/s" end), $s, ($mine | map(value) | median | show),
	  ($mine | ratio($cell; "kernel-"; value)), ($mine | ratio($cell; "kernel"; value)),
	  ($mine | map(.p50_us // 0) | median | show), ($mine | map(.p99_us // 0) | median | show),
	  ($mine | map(.errors // 0) | add)] | @tsv),
	"", (["CPU, both ends", "conns", "unit", "system", "median", "x kernel-s"] | @tsv),
	($all | map(select(.system | endswith("-s"))) | map([.work, .connections]) | unique[] as [$w, $c] |
	 ($all | map(select(.work == $w and .connections == $c and (.system | endswith("-s")) and (if bulk then .bytes else .ops end) > 0))) as $cell |
	 ["kernel-s", "native-s"][] as $s | ($cell | map(select(.system == $s))) as $mine | select($mine != []) |
	 [$w, $c, (if $mine[0] | bulk then "ns/KiB" else "ns" end), $s, ($mine | map(cpu) | median | show),
	  ($mine | ratio($cell; "kernel-s"; cpu))] | @tsv)' "$results" | column -t -s "$(printf '\t')"
finished=1
exit 0
