#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A rule that leaves its stack to nRD, and an interface that loses its carrier: no new connection takes
# that stack meanwhile, and it is in use again when the carrier is there.
# shellcheck disable=SC2317 # functions are called by check
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx
[ "$DMM_BASELINE" != 1 ] || skip_all "only with DMM"
setup "$@"

# another way to the same address, which only the kernel's stack takes, by its mark
ip link add near1 netns "$NEAR" type veth peer name far1 netns "$FAR"
ip -n "$FAR" addr add $FAR4/32 dev far1
ip -n "$NEAR" addr add $NEAR4/32 dev near1
ip -n "$NEAR" link set near1 up
ip -n "$FAR" link set far1 up
ip -n "$NEAR" route add $FAR4/32 dev near1 src $NEAR4 table 8
ip -n "$NEAR" rule add fwmark 8 table 8
ip -n "$FAR" route add 10.55.0.0/24 dev far1 src $FAR4 metric 100
far_nginx

start_policyd <<-YAML
	groups:
	  web: {cgroup: $CGROUP/web}
	stacks:
	  edge0: {engine: $DMM_ENGINE, port: {driver: xsk, interface: near0}}
	  around: {kind: kernel, mark: 8}
	rules:
	  - name: cdn
	    match: {group: web, proto: tcp}
	    use: {auto: [edge0, around], cooldown: 10m}
	default: kernel
YAML

works() { run_managed web curl -sf --max-time 3 -o /dev/null "http://$FAR4:8080/small"; }
times() { for _ in $(seq 8); do works || return 1; done; }
carried_by() { # carried_by STACK: all of eight connections work, by that stack
	local before
	before=$(verdicts "$1" nrd)
	times && equal $(($(verdicts "$1" nrd) - before)) 8
}
in_use() { [ "$(policy -j nrd why cdn | jq -r '.choices[0].in_use')" = "$1" ]; }
decided() { policy -j nrd history | jq -e --arg a "$1" --arg r "$2" '.decisions | any(.action == $a and .reason == $r)' >/dev/null; }

check "the daemon has made its first turn" wait_for in_use edge0
check "the first stack of the rule carries" carried_by edge0
ip -n "$FAR" link set far0 down
check "a stack without a carrier is left" wait_for in_use around
check "and why it was is in the log" decided escape no-carrier
check "nrd why says that it has none" eval "policy nrd why cdn | grep -q 'edge0: .*; no carrier'"
check "no connection is lost to it" carried_by around
ip -n "$FAR" link set far0 up
check "with the carrier it is in use again" wait_for in_use edge0
check "and why is in the log" decided return carrier
check "and carries" carried_by edge0

ip -n "$NEAR" link del near0
check "an interface that is gone has no carrier either" wait_for in_use around
check "all go around" carried_by around
finish
