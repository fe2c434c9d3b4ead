#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every carrier hazard: over the kernel stack as the measure, then with the subject managed, as client
# and as server, on the tcp and the splice carrier, blocking and not, IPv4 and IPv6.
# DMM_HAZARD_ITER: iterations of the cheap ones (default 25; 10000 for the full run, about 5 minutes
# for each of the 18 passes).
# DMM_HAZARD_SEED: repeat a run. DMM_HAZARD: only these hazards. DMM_HAZARD_RUNS: only the runs whose
# title matches, as "^tcp server -N"; the totals are then not judged.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need
setup "$@"
iterations=${DMM_HAZARD_ITER:-25}
seed=${DMM_HAZARD_SEED:-$(date +%s)}
read -ra only <<<"${DMM_HAZARD:-}"
# softirqs of lo on every CPU: the first bytes overtake the registration of a carrier's other end
for q in $(ip netns exec "$NEAR" sh -c 'ls -d /sys/class/net/lo/queues/rx-*'); do
	ip netns exec "$NEAR" sh -c "echo f >$q/rps_cpus 2>/dev/null || echo 3 >$q/rps_cpus" || true
done

# What a carrier changes, by design and documented (docs/architecture.md, "What a carrier cannot carry").
differs() { # differs TEXT HAZARD: prints why
	case $2 in
	oob-*) [[ $1 != splice*-N* ]] || echo "sk_msg moves the byte without its mark" ;;
	fionread) [[ $1 != splice*-N* ]] || echo "FIONREAD counts only spliced bytes" ;;
	zerocopy-early) [[ $1 != "splice server -N"* ]] || echo "an accepted socket cannot be asked before" ;;
	zerocopy) [[ $1 != splice*-N* ]] || echo "no completions when asked for after connect()" ;;
	turn-blocking) [[ $1 != splice* ]] || echo "blocking again: EAGAIN from recv()" ;;
	esac
}

# hazards TEXT VERB OPTION ADDRESS PORT COMMAND...: begin; they wait for most of their time, so that
# several go at once
declare -A running=()
hazards() {
	local text=$1 verb=$2 mode=$3 address=$4 port=$5
	shift 5
	[[ $text =~ ${DMM_HAZARD_RUNS:-.} ]] || return 0
	"$@" "$HAZARD" "$verb" "$mode" -n "$iterations" -s "$seed" -t 120 -B 10.77.0.1 -U 10.66.0.1 \
		"$address" "$port" "${only[@]}" >"$TMP/hazards $text" 2>&1 &
	running[$text]=$!
}
# judge TEXT...: each line of these is a check, when they have ended
judge() {
	local text line name why

	for text in "$@"; do
		[ -n "${running[$text]:-}" ] || continue
		wait "${running[$text]}" || true
		while read -r line; do
			case $line in
			*'# skip'*) ;;
			ok*) ok "$text: ${line#ok }" ;;
			'not ok'*)
				name=${line#not ok } name=${name%%:*}
				why=$(case $text in kernel*) ;; *) differs "$text" "$name" ;; esac)
				if [ -n "$why" ]; then skip "$text: $name: $why"; else not_ok "$text: ${line#not ok }"; fi
				;;
			*passed*) echo "# $text: $line" ;;
			*) not_ok "$text: $line" ;;
			esac
		done <"$TMP/hazards $text"
		grep -q ' passed' "$TMP/hazards $text" || not_ok "$text: the program did not finish"
	done
}
total() { # a check over a whole run
	[ -n "${DMM_HAZARD_RUNS:-}${DMM_HAZARD:-}" ] || check "$@"
}
serve() { # serve NAME PORT OPTION COMMAND...: a listener on IPv4 and one on IPv6
	local name=$1 port=$2 mode=$3
	shift 3
	spawn "$name-4" "$@" "$HAZARD" serve "$mode" 0.0.0.0 "$port"
	servers+=("$SPAWNED")
	spawn "$name-6" "$@" "$HAZARD" serve "$mode" :: $((port + 1))
	servers+=("$SPAWNED")
	wait_for grep -q ready "$TMP/$name-4.log"
	wait_for grep -q ready "$TMP/$name-6.log"
}

servers=()
serve far 7000 -b in_far
servers=()
for mode in -b -N; do
	hazards "kernel client $mode" run $mode $FAR4 7000 in_near
done
judge "kernel client -b" "kernel client -N"

memory() { # of the instance, kB; its peak
	awk '/VmHWM/ { print $2 }' "/proc/$(instance_pid)/status"
}
for CARRIER in tcp splice; do
	[ "$DMM_BASELINE" != 1 ] || break
	config | start_policyd
	if [ $CARRIER = splice ]; then
		export HAZARD_NO_FIONREAD=1
	fi
	serve "near-b-$CARRIER" 7100 -b run_managed web
	serve "near-N-$CARRIER" 7200 -N run_managed web
	sleep 0.5
	start_capture
	for mode in -b -N; do
		mark
		hazards "$CARRIER client $mode" run $mode $FAR4 7000 run_managed web
		hazards "$CARRIER client $mode IPv6" run $mode $FAR6 7001 run_managed web
		judge "$CARRIER client $mode" "$CARRIER client $mode IPv6"
		total "$CARRIER client $mode: by the instance" \
			at_least "$(since connections_established)" "$iterations"
		case $CARRIER$mode in
		splice-N) total "joined by splice" at_least "$(since splice_pairs)" "$iterations" ;;
		# -b: only turn-blocking connects without blocking
		splice-b) total "few joined" test "$(since splice_pairs)" -le "$iterations" ;;
		*) total "none joined" equal "$(since splice_pairs)" 0 ;;
		esac
	done
	for mode in -b -N; do
		port=7100
		[ $mode = -b ] || port=7200
		mark
		hazards "$CARRIER server $mode" reverse -b $NEAR4 $port in_far
		hazards "$CARRIER server $mode IPv6" reverse -b $NEAR6 $((port + 1)) in_far
		judge "$CARRIER server $mode" "$CARRIER server $mode IPv6"
		total "$CARRIER server $mode: by the instance" \
			at_least "$(since connections_accepted)" "$iterations"
	done
	stop_capture
	total "$CARRIER: the far host saw both" at_least "$(captured 'tcp port 7000 or tcp port 7100')" 500
	check "$CARRIER: the instance's memory is bounded" test "$(memory)" -lt 300000
	# they hold the ports, and belong to a group that is gone
	for p in "${servers[@]}"; do end "$p"; done
	servers=()
	stop_policyd
done
finish
