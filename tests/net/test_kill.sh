#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Each part killed under load: the instance, the daemon, the group.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx
setup "$@"
[ "$DMM_BASELINE" != 1 ] || skip_all "nothing to kill in the baseline"
far_nginx
config | start_policyd
url=http://$FAR4:8080

# slow NAME RATE: a download in the group that takes a while; $slow is its process
slow() {
	spawn "$1" run_managed web curl -sS -m 60 --limit-rate "$2" -o "$TMP/$1" "$url/big"
	slow=$SPAWNED
	wait_for test -s "$TMP/$1"
}
get() { run_managed web curl -sS -m 5 -o /dev/null "$url/small"; }
new_instance() { stack_up && [ "$(instance_pid)" != "$old" ]; }
via_instance() {
	mark
	get && [ "$(since connections_established)" -ge 1 ]
}
fell_back() { # fell_back BEFORE
	get && [ "$(verdicts kernel stack-down)" -gt "$1" ]
}

# 1. the instance, with flows
slow load 2M
slow1=$slow
slow load2 2M
fails=0
kill_and_get() { # new connections from the death of the instance until the next one is there
	old=$(instance_pid)
	kill -9 "$old"
	for _ in $(seq 40); do
		get || fails=$((fails + 1))
		! new_instance || break
	done
}
before=$(verdicts kernel stack-down)
t0=${EPOCHREALTIME/./}
kill_and_get
WAIT_S=5 wait_for gone "$slow1" || true
r=0
wait "$slow1" || r=$?
check "a transfer in progress got an error" at_least "$r" 1
wait "$slow" || true
check "promptly" test $((${EPOCHREALTIME/./} - t0)) -lt 8000000
# the first one is replaced at once, which on a busy machine may be before anybody connects
for _ in 1 2 3; do
	[ "$(verdicts kernel stack-down)" -eq "$before" ] || break
	wait_for new_instance
	kill_and_get
done
check "no new connection failed while the instance was down" equal "$fails" 0
check "they fell back with reason stack-down" at_least "$(($(verdicts kernel stack-down) - before))" 1
check "the instance comes back" wait_for new_instance
check "new connections take it again" wait_for via_instance
check "dmm-policyd lives" kill -0 "$POLICYD_PID"

# 2. the instance again and again: backoff, still no failed connection
fails=0
for _ in 1 2 3; do
	old=$(instance_pid)
	kill -9 "$old" || true
	for _ in 1 2 3 4 5; do get || fails=$((fails + 1)); done
	WAIT_S=30 wait_for new_instance || fails=$((fails + 100))
done
check "killed three times in a row" equal "$fails" 0

# 3. the instance hangs: the heartbeat tells
old=$(instance_pid)
before=$(verdicts kernel stack-down)
kill -STOP "$old"
check "an instance that hangs is left" eval 'WAIT_S=15 wait_for fell_back "$before"'
kill -CONT "$old" 2>/dev/null || true
check "and comes back" eval 'WAIT_S=30 wait_for via_instance'

# 4. the daemon, with a flow
slow steady 4M
old=$(instance_pid)
kill -9 "$POLICYD_PID"
wait "$POLICYD_PID" 2>/dev/null || true
check "without the daemon a new connection takes the instance" via_instance
check "rules can be read without the daemon" policy show
launch_policyd
check "the next daemon starts" wait_for grep -q . "$TMP/policyd.log"
sleep 1
check "it takes over the instance that runs" equal "$(instance_pid)" "$old"
r=0
timeout 5 nsenter --net="/run/netns/$NEAR" "$DMM_POLICYD" -c "$TMP/dmm.yaml" \
	>"$TMP/second.log" 2>&1 || r=$?
check "a second daemon refuses to start" test "$r" -ne 0 -a "$r" -ne 124
r=0
wait "$slow" || r=$?
check "the flow never noticed" equal "$r $(sum "$TMP/steady")" "0 $(sum "$TMP/www/big")"

# 5. the group, with a flow and one that asks for its peer's name before and after
slow last 4M
spawn names run_managed web python3 -u -c '
import socket, sys, time, os
s = socket.create_connection((sys.argv[1], 8080))
print(s.getpeername()[1])
while not os.path.exists(sys.argv[2]): time.sleep(0.05)
print(s.getpeername()[1])
s.sendall(b"GET /small HTTP/1.0\r\n\r\n")
s.shutdown(socket.SHUT_WR)
while s.recv(4096): pass
print("end")' "$FAR4" "$TMP/removed"
wait_for grep -q 8080 "$TMP/names.log"
links() { find "$DMM_BPFFS/links" -name '@leaving-*' 2>/dev/null | wc -l; }
config | sed -e '/^groups:/,/^  web:/d' -e '/- name: web-tcp/,/carrier:/d' -e 's/^rules:/rules: []/' \
	>"$TMP/without.yaml"
check "the group is removed" policy apply -f "$TMP/without.yaml"
check "it is gone" equal "$(policy -j group list | jq 'length')" 0
touch "$TMP/removed"
wait_for grep -q end "$TMP/names.log"
check "its flows are told the same names" equal "$(tr '\n' ' ' <"$TMP/names.log")" "8080 8080 end "
check "by what stays attached for them" equal "$(links)" 1
r=0
wait "$slow" || r=$?
check "its live socket went on to the end" equal "$r $(sum "$TMP/last")" "0 $(sum "$TMP/www/big")"
swept() { [ "$(links)" = 0 ]; }
check "what stayed attached goes after the flows, by itself" eval 'WAIT_S=20 wait_for swept'
check "another group takes its id" policy apply -f <(config | sed 's/web/other/g')
check "the group comes back" policy apply -f "$TMP/dmm.yaml"
check "and takes the instance" wait_for via_instance
finish
