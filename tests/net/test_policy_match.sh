#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What rules match on, in force: sets, users, programs, weights and capture decide about real sockets on
# loopback, explain says the same, and what is shown is what was written. A tree and a cgroup of its own.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DMM_BUILD=${DMM_BUILD:-$here/../../build}
export DMM_BPFFS=/sys/fs/bpf/dmm-match$$
policy=$DMM_BUILD/policyd/dmm-policy
[ "$(id -u)" = 0 ] || { echo "SKIP: needs root"; exit 77; }
for p in jq python3; do command -v $p >/dev/null || { echo "SKIP: needs $p"; exit 77; }; done
grep -q ' cgroup2 ' /proc/mounts || { echo "SKIP: no cgroup2 mount"; exit 77; }
TMP=$(mktemp -d)
export DMM_RUN=$TMP/run DMM_SOCKET=$TMP/none.sock
failed=0
# shellcheck disable=SC2317 # called by the trap
cleanup() {
	[ -z "${holder:-}" ] || kill "$holder" 2>/dev/null || true
	"$policy" detach --force >/dev/null 2>&1 || true
	rm -rf "$TMP"
}
trap cleanup EXIT

# expect WANT GOT WHAT...
expect() {
	local want=$1 got=$2
	shift 2
	if [ "$want" = "$got" ]; then
		echo "ok - $*: $got"
	else
		failed=1
		echo "not ok - $*: $got, expected $want"
	fi
}

cat >"$TMP/p.yaml" <<Y
groups: {g: {cgroup: dmm-match$$/g}}
stacks: {a: {kind: kernel, priority: 3}, b: {kind: kernel}}
sets:
  near: [127.1.0.0/16, 127.9.9.9]
  odd: [1001, 2000-2999]
rules:
  - {name: captured, match: {remote: 127.7.0.0/16}, use: a, capture: true}
  - {name: by-user, match: {remote: 127.2.0.0/16, uid: [4000-4999, 7]}, use: a}
  - {name: by-program, match: {remote: 127.2.0.0/16, program: [one-of-ours, another]}, use: a}
  - {name: by-sets, match: {remote: [near, 127.3.3.3], remote_port: [odd, 80]}, use: a}
  - {name: split, match: {remote: 127.4.0.0/16}, use: {weights: {a: 25, b: 75}}}
default: kernel
Y
expect 0 "$("$policy" apply -f "$TMP/p.yaml" >"$TMP/out" 2>&1; echo $?)" apply || cat "$TMP/out"

# In the group: a UDP socket a place, of this user and program, held open. UDP needs no listener. It is a
# thread with a name of its own that connects: that is not the program's.
cat >"$TMP/hold.py" <<'PY'
import ctypes, os, socket, sys, threading, time
uid, program, places = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
ctypes.CDLL(None).prctl(15, program.encode(), 0, 0, 0)
os.setresuid(uid, 0, 0)
held = []
def connect():
    ctypes.CDLL(None).prctl(15, b"a-thread", 0, 0, 0)
    for place in places:
        ip, port, n = place.split(":")
        for i in range(int(n)):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.connect((ip, int(port)))
            held.append(s)
t = threading.Thread(target=connect)
t.start()
t.join()
open(os.environ["READY"], "w").close()
time.sleep(60)
PY
hold() { # hold UID PROGRAM PLACE...
	rm -f "$TMP/ready"
	READY=$TMP/ready "$DMM_BUILD/loader/dmm-run" -g g -- python3 "$TMP/hold.py" "$@" &
	holder=$!
	for _ in $(seq 100); do
		[ ! -e "$TMP/ready" ] || return 0
		sleep 0.1
	done
	echo "not ok - the sockets are not there"
	exit 1
}
drop() {
	kill "$holder"
	wait "$holder" 2>/dev/null || true
	holder=
}
# verdict IP: rule and stack of the one socket that is connected to it
verdict() {
	"$policy" -j flows | jq -r --arg ip "$1" \
		'[.[] | select(.remote | tostring | contains($ip))][0] | "\(.rule // "default") \(.stack) \(.reason)"'
}
# told WORD...: what explain says of such a socket
told() {
	"$policy" -j explain group g proto udp "$@" |
		jq -r '"\(.rule // "default") \(.result.stack) \(.result.reason)"'
}
# both WANT IP PORT UID PROGRAM
both() {
	expect "$1" "$(verdict "$2")" "socket to $2:$3 of user $4, program $5"
	expect "$1" "$(told remote "$2" remote_port "$3" uid "$4" program "$5")" "explain of it"
}

hold 4321 other 127.2.0.1:9:1 127.1.2.3:2500:1 127.9.9.9:1001:1 127.3.3.3:80:1 127.1.2.4:3000:1 127.7.0.1:9:1
both "by-user a rule" 127.2.0.1 9 4321 other
both "by-sets a rule" 127.1.2.3 2500 4321 other
both "by-sets a rule" 127.9.9.9 1001 4321 other
both "by-sets a rule" 127.3.3.3 80 4321 other
both "default kernel default" 127.1.2.4 3000 4321 other
both "captured kernel capture" 127.7.0.1 9 4321 other
drop
hold 5000 one-of-ours 127.2.0.2:9:1
both "by-program a rule" 127.2.0.2 9 5000 one-of-ours
drop
hold 5000 one-of-theirs 127.2.0.3:9:1
both "default kernel default" 127.2.0.3 9 5000 one-of-theirs
drop

# 400 sockets of 25 to 75: 100 expected for a, and 60 to 140 is six standard deviations
hold 0 split 127.4.0.1:9:400
n=$("$policy" -j flows | jq '[.[] | select(.rule == "split" and .stack == "a")] | length')
all=$("$policy" -j flows | jq '[.[] | select(.rule == "split")] | length')
expect 400 "$all" "sockets of the split"
expect yes "$([ "$n" -ge 60 ] && [ "$n" -le 140 ] && echo yes || echo "$n")" "sockets of a quarter"
expect "25 75" "$("$policy" -j explain group g remote 127.4.0.1 | jq -r '[.use[] | {(.stack): .share}] | add | "\(.a) \(.b)"')" \
	"shares that explain tells"
drop

expect 1 "$("$policy" apply -f "$TMP/p.yaml" | grep -c 'no change')" "what is in force is what was written"
exit $failed
