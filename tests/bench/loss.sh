#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Loss: what a connection carries over a link that loses packets at random, and how two share one. The
# far host, on the kernel stack, receives; near sends by
#
#   kernel  the kernel's CUBIC
#   native  an instance of the native engine, on the same interface, CUBIC too
#   bbr     the same instance, with BBR as a rule says
#
# A slice each in turns, in a random order within a round; medians, and the median of the ratios within a
# round. ROUNDS and SECONDS_EACH make it longer; LOSSES (per thousand), RTTS (ms) and SYSTEMS choose.
#
# What a connection carries here is the luck of a few losses: where the losses and not the link set its
# rate, several that leave most of the link free are as many samples, and their mean is told.
. "$(dirname "$0")/../net/lib.sh"
# shellcheck source=tests/net/long_link.sh
. "$here/long_link.sh"

ROUNDS=${ROUNDS:-5}
SECONDS_EACH=${SECONDS_EACH:-5}
SYSTEMS=${SYSTEMS:-kernel native bbr} # the kernel comes first, the others are compared with it
RATE=100                              # Mbit/s
need ethtool
setup
kernel_cubic
LOAD=$(program load)
results=$TMP/results
config | sed "/^rules:/a\\
  - {name: bbr, match: {group: web, role: server, local_port: 7703, proto: tcp}, use: edge0, congestion: bbr}" |
	start_policyd
spawn kernel in_near "$LOAD" serve $NEAR4 7701
spawn native run_managed web "$LOAD" serve $NEAR4 7702
spawn bbr run_managed web "$LOAD" serve $NEAR4 7703
wait_for near_listens 7701
wait_for near_listens 7702
wait_for near_listens 7703
sleep 1 # the instance has heard of the listener
declare -A port=([kernel]=7701 [native]=7702 [bbr]=7703)

# one SYSTEM CONNECTIONS SECONDS FIELD:VALUE...: a line of JSON, Mbit/s of a connection
one() {
	local system=$1 connections=$2 seconds=$3
	shift 3
	in_far "$LOAD" recv "$connections" "$seconds" $NEAR4 "${port[$system]}" |
		jq -c --arg s "$system" --argjson r "$round" --argjson n "$connections" \
			"{system: \$s, round: \$r, connections: \$n, mbit: (.bytes_per_s * 8 / 1e6 / \$n)$(printf ', %s' "$@")}" \
			>>"$results"
}
samples() { # samples LOSS RTT: so many connections that CUBIC leaves most of the link free
	if [ "$2" -lt 20 ]; then
		echo 1
	elif [ "$1" -lt 10 ]; then
		echo 2
	else
		echo 6
	fi
}

echo "rounds: $ROUNDS, ${SECONDS_EACH}s each; kernel $(uname -r), $RATE Mbit/s"
mark
for round in $(seq "$ROUNDS"); do
	for loss in ${LOSSES:-1 10 30}; do
		for rtt in ${RTTS:-1 20 100}; do
			for system in $(shuf -e $SYSTEMS); do
				impair delay="$(jq -n "$rtt / 2")" rate=$RATE queue=512 loss="$loss" seed="$round"
				one "$system" "$(samples "$loss" "$rtt")" "$SECONDS_EACH" "loss: $loss" "rtt: $rtt"
			done
		done
	done
	# a bottleneck, nothing is lost but what finds no room in its queue
	for flows in ${FLOWS:-1 4}; do
		for other in ${SYSTEMS#kernel}; do
			impair delay=10 rate=50 queue=256 seed="$round"
			for i in $(seq "$flows"); do
				for system in kernel $other; do
					one "$system" 1 $((4 * ${SECONDS_EACH%.*})) "flows: $flows" "beside: \"$other\"" &
					pids+=($!)
				done
			done
			wait "${pids[@]: -2 * flows}"
		done
	done
	echo "round $round of $ROUNDS done" >&2
done
[ "$(since connections_accepted)" -ge "$ROUNDS" ] || echo "the instance carried nothing"

jq -rs --arg systems "$SYSTEMS" '
($systems | split(" ")) as $all | ($all - ["kernel"]) as $ours |
def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def show: . * 100 | round / 100 | tostring;
def mean: add / length;
def of($s): map(select(.system == $s));
def ratio($s; $cell): of($s) | map(. as $n | $n.mbit / ($cell | of("kernel") | map(select(.round == $n.round))[0].mbit)) | median | show;
(["loss", "RTT", "connections"] + $all + [$ours[] | . + " / kernel"] | @tsv),
([.[] | select(.loss)] | group_by([.loss, .rtt])[] | . as $cell |
 ["\(.[0].loss / 10) %", "\(.[0].rtt) ms", .[0].connections] + [$all[] as $s | of($s) | map(.mbit) | median | show] +
 [$ours[] as $s | ratio($s; $cell)] | @tsv),
"",
(["flows", "RTT", "who", "kernel", "who", "who / kernel"] | @tsv),
([.[] | select(.flows)] | group_by([.flows, .beside])[] | .[0].beside as $who |
 ["\(.[0].flows) each", "20 ms", $who] + [("kernel", $who) as $s | of($s) | map(.mbit) | mean | show] +
 [group_by(.round) | map((of($who) | map(.mbit) | mean) / (of("kernel") | map(.mbit) | mean)) | median | show] | @tsv)' \
	"$results" | column -t -s "$(printf '\t')"
finished=1
exit 0
