#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What an application sends at once, from another CPU than the one that ends the handshake with the
# carrier, and the hold filter drops: the instance sends it again, so that hardly one waits for the
# application's kernel to do that, which takes 16 ms. Whether there is any depends on the machine.
# shellcheck disable=SC2317 # functions are called by check
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
[ "$DMM_BASELINE" != 1 ] || skip_all "only with DMM"
setup "$@"
load=$(program load)
config | start_policyd
probes() { in_near nstat -asz TcpExtTCPLossProbes | awk '/LossProbes/ { print $2 }'; }
for far in $FAR4 $FAR6; do
	spawn "far-$far" in_far "$load" serve "$far" 7777
done
wait_for far_listens 7777
sleep 0.5
for far in $FAR4 $FAR6; do
	mark
	before=$(probes)
	run_managed web "$load" cycle 64 2 "$far" 7777 >"$TMP/load.json"
	lost=$(($(probes) - before)) again=$(since first_data_again)
	echo "# $far: $(jq .ops "$TMP/load.json") connections, $again sent again by the instance, $lost by the kernel"
	check "$far: connections are made" at_least "$(jq .ops "$TMP/load.json")" 100
	check "$far: none fails" equal "$(jq .errors "$TMP/load.json")" 0
	check "$far: first data do not wait" at_least $((again / 2)) "$lost"
done
finish
