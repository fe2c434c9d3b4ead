#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The port dpdk: curl and iperf3 over both engines, an instance that is killed, one that is idle; and
# what is said where DPDK is not installed.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx iperf3
plugin=$(find "$DMM_BUILD" -name dpdk.so -path '*userstack*' | head -n 1)
[ -n "$plugin" ] || skip_all "built without DPDK; see tests/packages.txt"
[ "$DMM_BASELINE" != 1 ] || skip_all "no instance in the baseline"
export DMM_PORT_DIR=${plugin%/*}
setup "$@"
far_nginx
spawn far-iperf in_far iperf3 -s -p 5301
wait_for far_listens 5301
# shellcheck disable=SC2119
reborn() { stack_up && [ "$(instance_pid)" != "$1" ]; }

for DMM_ENGINE in native lwip; do
	config | sed 's/driver: xsk/driver: dpdk/' | start_policyd
	check "$DMM_ENGINE: the port is dpdk" grep -q "port dpdk on near0" "$TMP/policyd.log"
	for host in "$FAR4" "[$FAR6]"; do
		big_both_ways "$host" "$DMM_ENGINE: "
	done
	for way in "" -R; do
		run_managed web timeout 30 iperf3 -J -t 2 -c $FAR4 -p 5301 $way >"$TMP/iperf.json" || true
		echo "# iperf3 $way: $(jq '.end.sum_received.bits_per_second // 0 | . / 1e6 | floor' "$TMP/iperf.json") Mbit/s"
		check "$DMM_ENGINE: iperf3 $way" at_least \
			"$(jq '.end.sum_received.bytes // 0' "$TMP/iperf.json" || true)" 1000000
	done
	# shellcheck disable=SC2119
	pid=$(instance_pid)
	before=$(cpu_ns "$pid")
	sleep 2
	check "$DMM_ENGINE: idle, below 1 % of a CPU" test $(($(cpu_ns "$pid") - before)) -lt 20000000
	kill -9 "$pid"
	wait_for gone "$pid"
	check "$DMM_ENGINE: another comes in its place" wait_for reborn "$pid"
	check "$DMM_ENGINE: and works" equal \
		"$(run_managed web curl -sS -m 20 "http://$FAR4:8080/small")" small
	stop_policyd
	check "$DMM_ENGINE: no program is left" equal "$(ip -n "$NEAR" -d link show near0 | grep -c xdp)" 0
done
check "no directory of DPDK is left" equal "$(ls -d /run/dpdk/dmm-* 2>/dev/null)" ""

# refused TEXT DIRECTORY: the daemon's instance does not start, and says that
refused() {
	DMM_PORT_DIR=$2 in_near timeout 5 "$(program dmm-stackd)" --name x --interface near0 \
		--driver dpdk >"$TMP/refused" 2>&1 && return 1
	grep -q "$1" "$TMP/refused"
}
mkdir -p "$TMP/none" "$TMP/without"
check "built without DPDK: that is said" refused "there is no $TMP/none/dpdk.so" "$TMP/none"
(umask 022 && echo "no library" >"$TMP/without/dpdk.so")
check "DPDK does not load: that is said" refused "cannot load the port dpdk" "$TMP/without"
finish
