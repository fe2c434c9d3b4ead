#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# connect() that fails gives the errno of the kernel stack, in about the same time.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need
setup "$@"
config | start_policyd
# to port TYPE * 256 + CODE beyond it the far host answers with that ICMP error
spawn answer in_far python3 "$here/answer.py" far0 $NEAR4 $NEAR6
wait_for grep -q ready "$TMP/answer.log"

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
time-exceeded EHOSTUNREACH 10.77.0.1 $((11 << 8))
time-exceeded EHOSTUNREACH fd77::1 $((3 << 8))
time-exceeded-of-reassembly ETIMEDOUT 10.77.0.1 $((11 << 8 | 1))
time-exceeded-of-reassembly EHOSTUNREACH fd77::1 $((3 << 8 | 1))
parameter-problem EPROTO 10.77.0.1 $((12 << 8))
parameter-problem EPROTO fd77::1 $((4 << 8))
self-refused ECONNREFUSED $NEAR4 9
loopback-refused ECONNREFUSED 127.0.0.1 9"

# Each waits for an answer or for its absence, so all ask at once.
asked() { # asked FILE COMMAND...: ERRNO MILLISECONDS
	local file=$1
	shift
	"$@" >"$TMP/$file" 2>&1 &
	asking+=($!)
}
asking=()
start_capture
# one that does not wait for the answer; by the end of this test the SYN would be sent four times
run_managed web timeout 0.5 "$HAZARD" connect 10.77.0.1 81 || true
while read -r what want address port; do
	for mode in -b -N; do
		asked "plain$mode-$address-$port" in_near timeout 60 "$HAZARD" connect $mode "$address" "$port"
		asked "managed$mode-$address-$port" run_managed web timeout 60 "$HAZARD" connect $mode "$address" "$port"
	done
done <<<"$table"
for p in "${asking[@]}"; do wait "$p" || true; done
while read -r what want address port; do
	for mode in -b -N; do
		plain='' plain_ms='' got='' ms=''
		read -r plain plain_ms <"$TMP/plain$mode-$address-$port" || true
		read -r got ms <"$TMP/managed$mode-$address-$port" || true
		echo "# $what $address $mode: unmanaged $plain ${plain_ms} ms, managed $got ${ms} ms"
		[ "$want" = - ] || check "$what $address $mode unmanaged" equal "$plain" "$want"
		check "$what $address $mode is the same managed" equal "$got" "${plain:-an errno}"
		check "$what $address $mode takes no longer" test "${ms:-999999}" -le $((${plain_ms:-0} * 2 + 1500))
	done
done <<<"$table"
# the carrier's end is nobody's business, before the engine has chosen a port either
connecting_names() {
	"$@" python3 - 10.77.0.1 fd77::1 <<-'PYTHON'
		import socket, sys
		names = set()
		for far in sys.argv[1:]:
		    for _ in range(100):
		        s = socket.socket(socket.AF_INET6 if ":" in far else socket.AF_INET)
		        s.setblocking(False)
		        s.connect_ex((far, 80))
		        names.add(s.getsockname()[0])
		        s.close()
		print(*sorted(names & {"127.0.0.1", "::1"}))
	PYTHON
}
check "no carrier in the names of connecting sockets" equal "$(connecting_names run_managed web)" ""
stop_capture
check "the far host was asked" at_least "$(captured "tcp dst port 9 and src host $NEAR4")" 2
if [ "$DMM_BASELINE" != 1 ]; then
	check "no SYN for who has given up" test "$(captured 'tcp dst port 81')" -le 2
	check "by the instance" at_least "$(counter connections_failed)" 4
fi
finish
