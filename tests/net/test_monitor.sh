#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# monitor tells each verdict, state and commit, to any number who listen, and says what it missed;
# while nobody listens nothing is told. top shows stacks and sockets with their rates.
# shellcheck source=tests/net/lib.sh
# shellcheck disable=SC2317 # functions are called by check
. "$(dirname "$0")/lib.sh"
need python3 bpftool script
setup "$@"
jq_says() { jq -se "$@" >/dev/null; }
[ "$DMM_BASELINE" != 1 ] || skip_all "only with DMM"

told() { # how many verdicts were ever told
	bpftool -j map dump pinned "$DMM_BPFFS/maps/dmm_meta" | jq '.[0].formatted.value.monitor_told'
}
# event FILE FILTER: a line of it passes
event() { jq -se "any(.[]; $2)" "$TMP/$1.log" >/dev/null; }
lines() { jq -s "map(select($2)) | length" "$TMP/$1.log"; }
# Connects that nobody answers, as fast as they come.
many() {
	run_managed web python3 -c 'import socket, sys
for i in range(int(sys.argv[1])):
    s = socket.socket()
    s.connect_ex(("127.0.0.1", 9))
    s.close()' "$1"
}
connect_one() { run_managed web "$HAZARD" connect $FAR4 9; } # refused by far
# The monitor has begun: a first verdict was told.
begun() {
	many 1
	sleep 0.1
	event "$1" '.event == "verdict"'
}

config | start_policyd
many 10
check "nobody listens: no verdict is told" equal "$(told)" 0

spawn all "$DMM_POLICY" -j monitor
all_pid=$SPAWNED
spawn text "$DMM_POLICY" monitor
spawn states "$DMM_POLICY" -j monitor states
spawn three "$DMM_POLICY" -j monitor verdicts --rule web-tcp --count 3
three_pid=$SPAWNED
check "a verdict is told" wait_for begun all
connect_one >/dev/null || true
check "connect: where to, what it got and why" wait_for event all ".event == \"verdict\" and
	.role == \"client\" and .remote == \"$FAR4:9\" and .stack == \"edge0\" and .rule == \"web-tcp\" and
	.reason == \"rule\" and .group == \"web\" and .program == \"hazard\" and .pid > 0"
check "its time is now" wait_for event all "(now - .time_ns / 1000000000) | . < 60 and . > -1"
check "to everybody who listens" wait_for grep -qE \
	"verdict stack edge0 reason rule rule web-tcp group web connect $FAR4:9 pid [0-9]+/hazard" "$TMP/text.log"
spawn server run_managed web python3 -m http.server --bind $NEAR4 7100
wait_for near_listens 7100
check "listen" wait_for event all ".role == \"server\" and .local == \"$NEAR4:7100\" and .remote == null"
in_far curl -sS -o /dev/null "http://$NEAR4:7100/" || true
check "accept" wait_for event all ".role == \"server\" and .local == \"$NEAR4:7100\" and .remote != null and
	.stack == \"edge0\""
check "in words" wait_for grep -qE 'verdict stack edge0 .* listen 10' "$TMP/text.log"
check "in words, accept" wait_for grep -qE 'verdict stack edge0 .* accept 10' "$TMP/text.log"
policy add x remote_port 1 use kernel >/dev/null
check "a commit, and what made it" wait_for event all '.event == "commit" and .generation == 2 and
	(.how | startswith("add x"))'
kill -STOP "$all_pid"
for n in 2 3 4; do policy add x$n remote_port $n use kernel >/dev/null; done
kill -CONT "$all_pid"
check "each of several since it looked" wait_for event all '.event == "commit" and .generation == 5'
check "in order" jq_says 'map(select(.event == "commit")) | map(.generation) == [2, 3, 4, 5] and
	all(.[]; .how | startswith("add x"))' "$TMP/all.log"
policy stack disable edge0 >/dev/null
check "a stack is off" wait_for event all '.event == "state" and .stack == "edge0" and .state == "off"'
policy stack enable edge0 >/dev/null
check "and on" wait_for event all '.event == "state" and .stack == "edge0" and .state == "up"'
policy group disable web >/dev/null
check "a group is off" wait_for event all '.event == "state" and .group == "web" and .state == "off"'
policy group enable web >/dev/null
kill -9 "$(instance_pid)"
check "an instance died" wait_for event all '.event == "state" and .stack == "edge0" and .state == "down"'
check "and came back" wait_for event states '.stack == "edge0" and .state == "up" and .pid > 0'
check "who asked for states gets no others" equal "$(lines states '.event != "state"')" 0
for _ in 1 2 3; do connect_one >/dev/null || true; done
check "after so many events it ends" wait_for gone "$three_pid"
check "with those that were asked for" equal "$(lines three '.rule == "web-tcp"')" 3

# ---- more at once than there is room for
before=$(told)
kill -STOP "$all_pid"
many 6000
kill -CONT "$all_pid"
whole() {
	[ "$(jq -s "[.[] | if .event == \"lost\" then .verdicts elif .event == \"verdict\" then 1 else 0 end] |
		add" "$TMP/all.log")" = "$(told)" ]
}
check "told or counted as lost, none is missing" wait_for whole
check "all of them" equal "$(($(told) - before))" 6000
check "some were lost" at_least "$(lines all '.event == "lost"')" 1
kill "$all_pid"
check "a signal ends it, exit status 0" wait "$all_pid"
for p in "${pids[@]}"; do
	[ "$p" = "${POLICYD_PID:-}" ] || kill "$p" 2>/dev/null || true
done
spawn stopped "$DMM_POLICY" -j monitor
stopped_pid=$SPAWNED
check "another one" wait_for begun stopped
kill -STOP "$stopped_pid"
sleep 3.5
n=$(told)
many 10
check "nobody listens any more: none is told" equal "$(told)" "$n"
kill -CONT "$stopped_pid"
check "who was stopped says that it missed some" wait_for event stopped \
	'.event == "lost" and .verdicts == null and .stopped_ns > 0'
check "and goes on" wait_for begun stopped
end "$stopped_pid"

# ---- a program can call itself anything
spawn odd_text "$DMM_POLICY" monitor
spawn odd_json "$DMM_POLICY" -j monitor
wait_for begun odd_json
cat >"$TMP/odd.py" <<'PY'
import socket, sys, time
open("/proc/self/comm", "wb").write(b"\033]0;a\n\x9b\"\xff\xc3\xa9\\")
l = socket.create_server((sys.argv[1], 7200))
c = socket.create_connection((sys.argv[1], 7200))
time.sleep(60)
PY
spawn odd run_managed web python3 "$TMP/odd.py" 127.0.0.1
odd_pid=$SPAWNED
odd='\u001b]0;a\n?\"?é\\'
odd_flows() { [ "$(policy -j flows | jq --arg p "\"$odd\"" '[.[] | select(.program == ($p | fromjson))] | length')" -ge 2 ]; }
check "flows -j: what is no UTF-8 is a question mark" wait_for odd_flows
check "monitor -j too" wait_for event odd_json ".program == \"$odd\""
policy -j explain --pid "$odd_pid" >"$TMP/odd.explain"
check "explain -j too" jq_says "map(.[] | select(.program == \"$odd\")) | length >= 2" "$TMP/odd.explain"
policy -j top -n 1 >"$TMP/odd.top"
check "top -j too" jq_says ".[0].flows | map(select(.program == \"$odd\")) | length >= 2" "$TMP/odd.top"
{
	policy flows
	policy top -b -n 1
	policy explain --pid "$odd_pid"
	policy flows --terminate --pid "$odd_pid" --dry-run
	cat "$TMP/odd_text.log"
} >"$TMP/odd.text"
check "nothing of it reaches a terminal" \
	[ "$(LC_ALL=C grep -cE $'[^\t -~\x80-\xff]|\x9b|\xff' "$TMP/odd.text")" = 0 ]
check "what is shown is text" iconv -f UTF-8 -t UTF-8 -o /dev/null "$TMP/odd.text"
check "with the rest of the name" at_least "$(grep -cF '/?]0;a??"?é\' "$TMP/odd.text")" 5
end "$odd_pid"

# ---- top
spawn far-server in_far python3 -c 'import socket, sys, time
c = socket.create_server((sys.argv[1], 8080)).accept()[0]
while True: # about 1 MB a second
    c.sendall(bytes(50000))
    time.sleep(0.05)' $FAR4
wait_for far_listens 8080
spawn load run_managed web curl -sS --http0.9 -o /dev/null "http://$FAR4:8080/"
loads() { [ "$(flows '.stack == "edge0" and .rx_bytes > 0')" -ge 1 ]; }
wait_for loads
"$DMM_POLICY" top -n 2 -d 0.5 -b >"$TMP/top"
check "two screens" equal "$(grep -c '^dmm-policy top' "$TMP/top")" 2
check "the stacks" grep -qE '^edge0 +up +[0-9]+ ' "$TMP/top"
check "the sockets" grep -qE "^edge0 .*established .*$FAR4:8080 .*/curl" "$TMP/top"
"$DMM_POLICY" -j top -n 2 -d 1 --group web >"$TMP/top.json"
rate=$(jq -s '.[1].flows[0].rx_bytes_per_second' "$TMP/top.json")
check "the busiest first, at its rate" at_least "$rate" 200000
check "which is not more than it can be" at_least 20000000 "$rate"
check "sum of a stack" jq_says '.[1].stacks[] | select(.stack == "edge0") | .rx_bytes_per_second >= '"$rate" "$TMP/top.json"
check "choices" equal "$("$DMM_POLICY" -j top -n 1 --stack kernel | jq '[.flows[] | select(.stack != "kernel")] | length')" 0
screen() { # screen ROWS COLUMNS WORD...: what a terminal of this size shows
	local size="stty rows $1 cols $2"
	shift 2
	TERM=xterm script -qec "$size; exec $DMM_POLICY $*" /dev/null </dev/null | tr -d '\r' | sed 's/\x1b\[[0-9]*[mJKH]//g'
}
screen 10 60 top -n 1 >"$TMP/screen"
check "a screen is as high as the terminal" at_least 10 "$(wc -l <"$TMP/screen")"
check "and as wide" at_least 60 "$(LC_ALL=C.UTF-8 wc -L <"$TMP/screen")"
fits() { # fits ROWS FILE: no screen of it is higher, so that nothing scrolls
	python3 -c 'import sys
screens = open(sys.argv[2], newline="").read().split("\033[H")[1:]
rows = [s.split("\033[J")[0].count("\n") for s in screens]
print("# new lines:", rows)
sys.exit(not rows or max(rows) > int(sys.argv[1]) - 1)' "$1" "$2"
}
spawn fill run_managed web python3 -c 'import socket, sys, time
l = [socket.create_server((sys.argv[1], 7300 + i)) for i in range(30)]
time.sleep(60)' 127.0.0.1
fill_pid=$SPAWNED
fills() { [ "$(flows '.state == "listen"')" -ge 30 ]; }
wait_for fills
TERM=xterm script -qec "stty rows 24 cols 80; exec $DMM_POLICY top -n 2 -d 0.2" "$TMP/screens" </dev/null >/dev/null
check "nothing scrolls off" fits 24 "$TMP/screens"
TERM=xterm script -qec "stty rows 6 cols 80; exec $DMM_POLICY top -n 1" "$TMP/screens" </dev/null >/dev/null
check "nor off a terminal that is too small for the stacks" fits 6 "$TMP/screens"
end "$fill_pid"
check "and says what it has no room for" grep -qE 'too narrow for|more\)' "$TMP/screen"
finish
