#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# connect() that fails gives the errno of the kernel stack, in about the same time.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need
setup "$@"
config | start_policyd

# what address port: HAZARD prints the errno and the milliseconds
table="refused ECONNREFUSED $FAR4 9
refused ECONNREFUSED $FAR6 9
icmp-unreachable EHOSTUNREACH 10.66.0.1 80
icmp-unreachable - fd66::1 80
no-neighbour EHOSTUNREACH 10.55.0.88 80
no-neighbour EHOSTUNREACH fd55::88 80
no-route ENETUNREACH 203.0.113.1 80
no-route ENETUNREACH 2001:db8::1 80
timed-out ETIMEDOUT 10.77.0.1 80
timed-out ETIMEDOUT fd77::1 80
self-refused ECONNREFUSED $NEAR4 9
loopback-refused ECONNREFUSED 127.0.0.1 9"

start_capture
while read -r what want address port; do
	for mode in -b -N; do
		read -r plain plain_ms <<<"$(in_near timeout 60 "$HAZARD" connect $mode "$address" "$port")"
		read -r got ms <<<"$(run_managed web timeout 60 "$HAZARD" connect $mode "$address" "$port")"
		echo "# $what $address $mode: unmanaged $plain ${plain_ms} ms, managed $got ${ms} ms"
		[ "$want" = - ] || check "$what $address $mode unmanaged" equal "$plain" "$want"
		check "$what $address $mode is the same managed" equal "$got" "$plain"
		check "$what $address $mode takes no longer" test "$ms" -le $((plain_ms * 2 + 1500))
	done
done <<<"$table"
stop_capture
check "the far host was asked" at_least "$(captured "tcp dst port 9 and src host $NEAR4")" 2
if [ "$DMM_BASELINE" != 1 ]; then
	check "by the instance" at_least "$(counter connections_failed)" 4
fi
finish
