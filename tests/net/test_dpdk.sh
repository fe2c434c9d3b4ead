#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The port dpdk, of two queues: curl and iperf3 over both engines, native with a thread for each
# queue, an instance that is killed, one that is idle; and what is said where DPDK is not installed, or
# another has the interface. More of queues and threads: DMM_DRIVER=dpdk test_queues.sh, test_threads.sh.
DMM_DRIVER=dpdk
QUEUES=2
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx iperf3
setup "$@"
far_nginx
spawn far-iperf in_far iperf3 -s -p 5301
wait_for far_listens 5301
# shellcheck disable=SC2119
reborn() { stack_up && [ "$(instance_pid)" != "$1" ]; }

for DMM_ENGINE in native lwip; do
	threads=1
	[ $DMM_ENGINE = lwip ] || threads=2
	config | sed "s/engine: $DMM_ENGINE,/& threads: $threads,/" | start_policyd
	check "$DMM_ENGINE: the port is dpdk" grep -q "port dpdk on near0" "$TMP/policyd.log"
	check "$DMM_ENGINE: threads" equal "$(stack_field edge0 .instance.threads)" $threads
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

# refused TEXT DIRECTORY: an instance does not start, and says that
refused() {
	DMM_PORT_DIR=$2 in_near timeout 5 "$(program dmm-stackd)" --name edge0 --interface near0 \
		--driver dpdk >"$TMP/refused" 2>&1 && return 1
	grep -q "$1" "$TMP/refused"
}
program_id() { ip -n "$NEAR" -d link show near0 | sed -n 's/.*prog\/xdp id \([0-9]*\).*/\1/p'; }
config >"$TMP/dmm.yaml"
policy apply -f "$TMP/dmm.yaml" >/dev/null
ip -n "$NEAR" link set near0 xdp obj "$DMM_BUILD/bpf/dmm_xdp.bpf.o" sec xdp.frags
id=$(program_id)
check "another has the interface: that is said" refused "has the interface another XDP program" "$DMM_PORT_DIR"
check "and keeps it" equal "$(program_id)" "${id:-one}"
ip -n "$NEAR" link set near0 xdp off
mkdir -p "$TMP/none" "$TMP/without"
check "built without DPDK: that is said" refused "there is no $TMP/none/dpdk.so" "$TMP/none"
(umask 022 && echo "no library" >"$TMP/without/dpdk.so")
check "DPDK does not load: that is said" refused "cannot load the port dpdk" "$TMP/without"
# An interface without native XDP, whose frames are what the far kernel has put together.
DMM_ENGINE=native
ip -n "$NEAR" addr flush dev near0
ip -n "$NEAR" link set near0 name under0
ip -n "$NEAR" link set under0 up
ip -n "$NEAR" link add near0 link under0 numrxqueues 2 numtxqueues 2 type macvlan mode bridge
ip -n "$NEAR" addr add $NEAR4/24 dev near0
ip -n "$NEAR" link set near0 up
config | start_policyd
check "no native XDP: tc instead" grep -q "port dpdk on near0, tc" "$TMP/policyd.log"
big_both_ways "$FAR4" "no native XDP: "
stop_policyd
finish
