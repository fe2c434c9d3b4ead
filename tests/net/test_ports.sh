#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Local ports. More connections to one server than the instance has of them, all closed by the near end:
# it does not wait until TIME-WAIT is over (tests/conform/test_endings.c: which of them may be succeeded).
# And one port of the application's choice for many connections.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need python3
setup "$@"
in_near sysctl -qw net.ipv4.ip_local_port_range="32768 64500" # 1035 are left
load=$(program load)
spawn far-4 in_far "$load" serve $FAR4 7000
spawn far-6 in_far "$load" serve $FAR6 7000
wait_for far_listens 7000
config | start_policyd

# client ADDRESS: 2500 connections, some 700 a second; how many, and the longest connect() in ms
client() {
	run_managed web timeout 60 python3 - "$1" <<-'EOF'
		import socket, sys, time
		worst = 0
		for i in range(2500):
		    begin = time.monotonic()
		    with socket.create_connection((sys.argv[1], 7000), 30):
		        worst = max(worst, time.monotonic() - begin)
		    time.sleep(max(0, 0.0014 - (time.monotonic() - begin)))
		print(2500, round(worst * 1000))
	EOF
}
for host in $FAR4 $FAR6; do
	mark
	read -r done worst < <(client "$host")
	check "$host: 2500 connections" equal "$done" 2500
	check "$host: by the instance" equal "$(since connections_established)" 2500
	# a SYN that had to wait for a port is sent again after a second, and again
	check "$host: none waited for TIME-WAIT" test "${worst:-99999}" -lt 10000
	echo "# $host: the longest connect() took $worst ms"
done

# from_one ADDRESS: ten connections from the same port to as many others, a byte over each
from_one() {
	run_managed web timeout 60 python3 - "$1" <<-'EOF'
		import socket, sys
		family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
		all = []
		for i in range(10):
		    s = socket.socket(family)
		    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		    s.bind(("", 5555))
		    s.connect((sys.argv[1], 7010 + i))
		    all.append(s)
		for s in all:
		    s.send(b"r" + b"x" * 64)
		right = sum(len(s.recv(1)) for s in all)
		print(right, len({s.getsockname()[1] for s in all}))
	EOF
}
for i in $(seq 7010 7019); do
	spawn "far-$i-4" in_far "$load" serve $FAR4 "$i"
	spawn "far-$i-6" in_far "$load" serve $FAR6 "$i"
	wait_for far_listens "$i"
done
for host in $FAR4 $FAR6; do
	mark
	before=$(verdicts kernel unsupported-socket)
	check "$host: ten connections from one port" equal "$(from_one $host)" "10 1"
	check "$host: by the instance, eight of them" equal "$(since connections_established)" 8
	check "$host: the others are told apart" \
		equal $(($(verdicts kernel unsupported-socket) - before)) 2
done
finish
