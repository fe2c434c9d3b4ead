#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Live control on real traffic: what is switched off gets no new sockets, in both roles, and existing
# ones go on; drain waits for them; --terminate ends those that are chosen, in every network namespace,
# and no others. No application is restarted. dmm-policy runs outside of the namespaces here.
# shellcheck disable=SC2317 # functions are called by check
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need python3
setup "$@"
jq_says() { jq -e "$@" >/dev/null; }
[ "$DMM_BASELINE" != 1 ] || skip_all "only with DMM"

# an echo server, and a client that sends a line for each that it reads, and says what became of it
cat >"$TMP/server.py" <<'PY'
import socket, sys, threading
def serve(c):
    while True:
        try:
            b = c.recv(4096)
        except OSError as e:
            print("far end:", e.strerror, flush=True)
            return
        if not b:
            print("far end: closed", flush=True)
            return
        if b == b"bye\n":
            c.close()
            return
        c.sendall(b)
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
l = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family)
while True:
    threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
PY
cat >"$TMP/client.py" <<'PY'
import errno, os, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
print("connected", s.getsockname()[1], flush=True)
for line in open(sys.argv[3]):
    if line.strip() == "quit":
        break
    try:
        s.sendall(line.encode())
        print("echo", s.recv(4096).decode().strip(), flush=True)
    except OSError as e:
        print("error", errno.errorcode[e.errno], flush=True)
        break
PY

# client NAME HOW ADDRESS PORT: say NAME WORD makes it send; quit NAME ends it
client() {
	local name=$1 how=$2
	rm -f "$TMP/$name.in"
	mkfifo "$TMP/$name.in"
	if [ "$how" = far ]; then
		spawn "$name" in_far python3 "$TMP/client.py" "$3" "$4" "$TMP/$name.in"
	else
		spawn "$name" run_managed "$how" python3 "$TMP/client.py" "$3" "$4" "$TMP/$name.in"
	fi
	eval "exec {${name}_fd}>\"$TMP/$name.in\""
	wait_for grep -q connected "$TMP/$name.log"
}
say() {
	local fd=${1}_fd
	echo "$2" >&"${!fd}"
}
quit() {
	local fd=${1}_fd
	say "$1" quit
	eval "exec ${!fd}>&-"
}
echoes() { # echoes NAME WORD
	say "$1" "$2"
	wait_for grep -q "echo $2" "$TMP/$1.log"
}
fails() { # fails NAME ERROR
	say "$1" anything
	wait_for grep -q "error $2" "$TMP/$1.log"
}
status() { # status STATUS COMMAND...
	local want=$1 r=0
	shift
	"$@" >"$TMP/out" 2>&1 || r=$?
	equal "$r" "$want" || { sed 's/^/# /' "$TMP/out"; return 1; }
}
on() { # on STACK COUNT [FILTER]: connected sockets of it
	[ "$(flows ".stack == \"$1\" and .state == \"established\" and (${3:-true})")" = "$2" ]
}

config | start_policyd
spawn server6 in_far python3 "$TMP/server.py" $FAR6 7000
spawn server in_far python3 "$TMP/server.py" $FAR4 7000
far_pid=$SPAWNED
wait_for far_listens 7000

# ---- terminate: of what a change came too late for
client old web $FAR4 7000
check "a flow through edge0" wait_for on edge0 1
policy rule disable web-tcp >/dev/null
client new web $FAR4 7000
check "a new socket is on the kernel stack, admin-off" wait_for on kernel 1 '.reason == "admin-off"'
check "the flow goes on" echoes old one
check "without a choice nothing is ended" status 2 "$DMM_POLICY" flows --terminate
nearest() { # nearest NAME COMMAND...: it fails, and names what may be meant
	status 1 "$DMM_POLICY" "${@:2}" && grep -qF "did you mean \"$1\"?" "$TMP/out"
}
check "a stack that does not exist" nearest edge0 flows --terminate --stack edge1
check "a group" nearest web flows --terminate --group wed
check "a rule" nearest web-tcp flows --terminate --rule web-udp
check "also of what only looks" nearest edge0 flows --stack edg0
check "top" nearest edge0 top -n 1 --stack ege0
check "monitor" nearest web monitor -n 1 --group webs
check "disable" nearest edge0 stack disable edge9
check "one of several" nearest web group disable web wed
check "and then none is switched" equal "$(policy -j group list | jq .[].off)" false
check "a dry run" status 0 "$DMM_POLICY" flows --terminate --old --dry-run
check "says what it would do" grep -q '^1 would be ended' "$TMP/out"
check "and does not" echoes old two
check "terminate by generation" status 0 "$DMM_POLICY" flows --terminate --old
check "one is ended" grep -q '^1 ended' "$TMP/out"
check "its application is told" fails old ECONNABORTED
check "so is the far end" wait_for grep -q 'far end: Connection reset' "$TMP/server.log"
check "the other one goes on" echoes new one
check "a socket that the kernel carries is ended too" status 0 \
	"$DMM_POLICY" -j flows --terminate --stack kernel --group web
check "JSON says so" jq_says '.ended == 1 and .failed == []' "$TMP/out"
check "its application is told" fails new ECONNABORTED
check "nothing is left to end" status 0 "$DMM_POLICY" -j flows --terminate --group web
check "and JSON says that" jq_says '.ended == 0' "$TMP/out"
policy rule enable web-tcp >/dev/null
client six web $FAR6 7000
check "IPv6: a flow through edge0" wait_for on edge0 1
check "terminate" status 0 "$DMM_POLICY" flows --terminate --stack edge0
check "its application is told" fails six ECONNABORTED
# connected UDP, and a connection in a namespace that has neither a name nor a process any more
cat >"$TMP/odd.py" <<'PY'
import ctypes, errno, os, socket, sys
if sys.argv[1] == "udp":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect((sys.argv[2], 7000))
else:
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    if libc.setns(os.open("/run/netns/" + sys.argv[2], os.O_RDONLY), 0) < 0:
        raise OSError(ctypes.get_errno(), "setns")
    l = socket.create_server(("127.0.0.1", 7000))
    s = socket.create_connection(("127.0.0.1", 7000))
    libc.setns(home, 0)
    os.closerange(s.fileno() + 1, 64)
print("connected", flush=True)
try:
    s.recv(1)
except OSError as e:
    print("error", errno.errorcode[e.errno], flush=True)
PY
spawn udp run_managed web python3 "$TMP/odd.py" udp $FAR4
udp_pid=$SPAWNED
wait_for grep -q connected "$TMP/udp.log"
check "connected UDP is ended" status 0 "$DMM_POLICY" -j flows --terminate --pid "$udp_pid"
check "it was one" jq_says '.ended == 1' "$TMP/out"
check "its application is told" wait_for grep -q "error ECONNABORTED" "$TMP/udp.log"
lost=dmm-lost-$ID
ip netns add "$lost"
ip -n "$lost" link set lo up
spawn lost run_managed web python3 "$TMP/odd.py" tcp "$lost"
lost_pid=$SPAWNED
wait_for grep -q connected "$TMP/lost.log"
ip netns del "$lost"
check "one that cannot be reached: exit status 1" status 1 "$DMM_POLICY" flows --terminate --pid "$lost_pid"
check "is named, with the reason" grep -qE \
	"  $lost_pid/python3, .* to 127.0.0.1:7000: its network namespace cannot be found" "$TMP/out"
end "$lost_pid"

# ---- capture
client wired web $FAR4 7000
check "a flow through edge0" wait_for on edge0 1
check "capture on" status 0 "$DMM_POLICY" capture on web-tcp
spawn near-tcpdump in_near tcpdump -i near0 -Z root -nn -l tcp port 7000 and src host $NEAR4
wait_for grep -q 'listening on' "$TMP/near-tcpdump.log"
client seen web $FAR4 7000
check "a new flow is on the kernel stack, capture" wait_for on kernel 1 '.reason == "capture"'
explains() { policy -j explain --group web $FAR4:7000 | jq -e "$1" >/dev/null; }
check "explain says the same" explains '.capture and .result.stack == "kernel" and .result.reason == "capture" and
	(.use | map(.stack)) == ["edge0", "kernel"] and all(.use[]; .reached | not)'
check "in words" status 0 policy explain --group web $FAR4:7000
check "with the rule, its state and what it means" eval \
	'grep -qE "^rule web-tcp .*, capture on, generation" "$TMP/out" &&
	grep -q "reason capture: a rule keeps it where tcpdump sees it" "$TMP/out"'
policy group disable web >/dev/null
check "a group that is off comes first" explains '.group_off and .result.reason == "admin-off"'
policy group enable web >/dev/null
check "tcpdump sees it" wait_for grep -qF "> $FAR4.7000: Flags [S]" "$TMP/near-tcpdump.log"
check "the old one goes on" echoes wired one
check "capture off" status 0 "$DMM_POLICY" capture off web-tcp
client again web $FAR4 7000
check "a new flow is on edge0 again" wait_for on edge0 2
for name in wired seen again; do quit $name; done
wait_for on edge0 0

# ---- drain
client one web $FAR4 7000
client two web $FAR4 7000
check "two flows through edge0" wait_for on edge0 2
check "a drain that takes too long: exit status 3" status 3 \
	"$DMM_POLICY" stack drain edge0 --timeout 1s
check "tells how many are left" grep -q 'stack edge0 is off, 2 left' "$TMP/out"
check "once" equal "$(grep -c '2 left' "$TMP/out")" 2 # and at the end
client three web $FAR4 7000
check "new sockets stay on the kernel stack" wait_for on kernel 1 '.reason == "admin-off"'
check "the old ones go on" echoes one one
spawn drain "$DMM_POLICY" stack drain edge0
drain_pid=$SPAWNED
wait_for grep -q '2 left' "$TMP/drain.log"
quit one
check "progress" wait_for grep -q '1 left' "$TMP/drain.log"
quit two
check "drained" wait_for gone "$drain_pid"
check "with exit status 0" wait "$drain_pid"
check "and says so" grep -q '0 left' "$TMP/drain.log"
check "the socket on the kernel stack is none of its business" echoes three one
check "a stack that does not exist" status 1 "$DMM_POLICY" stack drain nowhere
full() { "$@" >/dev/full; }
check "output that cannot be written: exit status 1" status 1 full "$DMM_POLICY" stack drain edge0
policy stack enable edge0 >/dev/null
client four web $FAR4 7000
check "enabled again" wait_for on edge0 1
check "drain with terminate" status 0 "$DMM_POLICY" -j stack drain edge0 --terminate
check "ends what is left" jq_says '.drained and .left == 0 and .terminated.ended == 1' "$TMP/out"
check "its application is told" fails four ECONNABORTED
check "on a terminal one line is drawn anew" \
	[ "$(script -qec "$DMM_POLICY stack drain edge0" /dev/null </dev/null | tr -cd '\r' | wc -c)" -ge 1 ]
policy stack enable edge0 >/dev/null

# ---- listening: the ports go back to the kernel, and come again
spawn managed run_managed web python3 "$TMP/server.py" $NEAR4 7100
managed_pid=$SPAWNED
spawn managed6 run_managed web python3 "$TMP/server.py" $NEAR6 7100
wait_for near_listens 7100
steered() { [ "$(flows '.stack == "edge0" and .state == "listen"')" = 2 ]; }
wait_for steered
server_flow() { # server_flow NAME STACK REASON: a new connection from far is on this stack
	client "$1" far $NEAR4 7100
	echoes "$1" hello
	wait_for on "$2" 1 ".role == \"server\" and .reason == \"$3\""
}
# A switch is seen within a second: ask again until a new connection goes the new way.
try=0
turned() { # turned STACK REASON [COUNT]: afterwards so many connections are on that stack
	local port
	for _ in $(seq 12); do
		sleep 0.25
		try=$((try + 1))
		client "probe$try" far $NEAR4 7100
		echoes "probe$try" hello
		port=$(sed -n 's/^connected //p' "$TMP/probe$try.log")
		sleep 0.05
		if [ "$(flows ".role == \"server\" and .stack == \"$1\" and .reason == \"$2\" and
			.remote == \"$FAR4:$port\"")" = 1 ]; then
			quit "probe$try"
			wait_for on "$1" "${3:-0}" '.role == "server"'
			return
		fi
		quit "probe$try"
	done
	echo "# no new connection got $1, $2"
	return 1
}
check "a connection that the engine accepted" server_flow first edge0 rule
policy stack disable edge0 >/dev/null
check "stack off: the kernel's listener answers, admin-off" turned kernel admin-off
check "the connection that exists goes on" echoes first again
policy stack enable edge0 >/dev/null
check "on again: the engine answers" turned edge0 rule 1
policy group disable web >/dev/null
check "group off: the kernel's listener answers, admin-off" turned kernel admin-off
policy group enable web >/dev/null
check "on again: the engine answers" turned edge0 rule 1
policy rule disable web-tcp >/dev/null
check "rule off: the kernel's listener answers, admin-off" turned kernel admin-off
policy rule enable web-tcp >/dev/null
check "on again: the engine answers" turned edge0 rule 1
policy capture on web-tcp >/dev/null
check "capture on: the kernel's listener answers, capture" turned kernel capture
policy capture off web-tcp >/dev/null
check "on again: the engine answers" turned edge0 rule 1
check "the first connection has seen nothing of it" echoes first still
check "the server was not restarted" kill -0 "$managed_pid"
# The same addresses again and again, and the server closes first: each side's late segments are its
# own, and a new connection is who's the port is.
cat >"$TMP/same.py" <<'PY'
import socket, sys
near, far, port = sys.argv[1:]
for line in sys.stdin:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.settimeout(8)
    s.bind((far, int(port)))
    s.connect((near, 7100))
    s.sendall(b"hello\n")
    assert s.recv(100) == b"hello\n"
    print("served", line.strip(), flush=True)
    sys.stdin.readline()
    s.sendall(b"bye\n")
    assert s.recv(100) == b"" # its end waits for our FIN now
    s.close()
    print("closed", line.strip(), flush=True)
PY
same() { # same N STACK REASON: the N-th connection of these addresses got that
	echo "$1" >&"$same_fd"
	wait_for grep -q "^served $1" "$TMP/same.log"
	wait_for eval "[ \"\$(flows '.remote == \"$FAR4:20007\" and .role == \"server\" and .stack == \"$2\" and
		.reason == \"$3\" and .state == \"established\"')\" = 1 ]"
}
same_ends() { # same_ends N: the server closes it first, then the client
	echo bye >&"$same_fd"
	wait_for grep -q "^closed $1" "$TMP/same.log"
}
mkfifo "$TMP/same.in"
spawn same eval "in_far python3 '$TMP/same.py' $NEAR4 $FAR4 20007 <'$TMP/same.in'"
exec {same_fd}>"$TMP/same.in"
spawn resets in_far tcpdump -i far0 -Z root -nn -l 'tcp port 7100 and tcp[tcpflags] & tcp-rst != 0'
wait_for grep -q 'listening on' "$TMP/resets.log"
check "the engine has a connection" same 1 edge0 rule
policy stack disable edge0 >/dev/null
check "off" turned kernel admin-off 0 # but for those that are there
check "it ends as it should" same_ends 1
check "the next one of its addresses is the kernel's" same 2 kernel admin-off
check "it ends as it should" same_ends 2
check "and the next" same 3 kernel admin-off
in_near sysctl -qw net.ipv4.tcp_syncookies=2
client cookie far $NEAR4 7100
check "a handshake by SYN cookie is the kernel's" echoes cookie hello
client cookie6 far $NEAR6 7100
check "IPv6: also" echoes cookie6 hello
wait_for on kernel 3 '.role == "server" and .reason == "admin-off"'
quit cookie6
in_near sysctl -qw net.ipv4.tcp_syncookies=1
quit cookie
policy stack enable edge0 >/dev/null
check "on again: the engine answers" turned edge0 rule 1
check "what the kernel has goes on, and ends there" same_ends 3
check "the kernel's last word about these addresses is awaited" same 4 kernel no-route
check "it ends as it should" same_ends 4
exec {same_fd}>&-
check "nobody was reset" equal "$(grep -c 'Flags' "$TMP/resets.log" || true)" 0
# new connections one after the other while the switch is turned: none is lost, none is slow
cat >"$TMP/turns.py" <<'PY'
import socket, sys, time
end, n, slow = time.time() + 6, 0, 0
while time.time() < end:
    began = time.time()
    s = socket.create_connection((sys.argv[1], 7100), timeout=5)
    s.sendall(b"x")
    assert s.recv(10) == b"x"
    s.close()
    n += 1
    slow += time.time() - began > 0.9
print(n, "connections,", slow, "slow")
PY
spawn turns in_far python3 "$TMP/turns.py" $NEAR4
turns_pid=$SPAWNED
for _ in 1 2; do
	sleep 1.2
	policy stack disable edge0 >/dev/null
	sleep 1.2
	policy stack enable edge0 >/dev/null
done
check "no connection is lost while it is turned" wait "$turns_pid"
check "nor has to try twice" grep -q 'connections, 0 slow' "$TMP/turns.log"
check "terminate leaves what listens alone" status 0 "$DMM_POLICY" flows --terminate --pid "$managed_pid"
check "and says so" grep -q '1 listening: left alone' "$TMP/out"
check "the server is still there" turned edge0 rule
check "nor was the far server" kill -0 "$far_pid"

# ---- a group with a listener gets another name, then it is removed
sed "s/web/www/g; s|$CGROUP/www|$CGROUP/web|" "$TMP/dmm.yaml" >"$TMP/renamed.yaml"
check "the group gets another name" status 0 policy apply -f "$TMP/renamed.yaml"
check "its listener is of that group" [ "$(flows '.state == "listen" and .group == "www"')" -ge 1 ]
check "the engine answers" turned edge0 rule
policy group disable www >/dev/null
check "its switch counts" turned kernel admin-off
policy group enable www >/dev/null
check "on again: the engine answers" turned edge0 rule
spawn peer run_managed www python3 -u -c 'import socket, sys
l = socket.create_server((sys.argv[1], 7200))
print("listens", flush=True)
while True:
    c, who = l.accept()
    print("peer", who[0], flush=True)
    c.close()' $NEAR4
wait_for grep -q listens "$TMP/peer.log"
knock() { in_far timeout 5 bash -c "exec 3<>/dev/tcp/$NEAR4/7200 && cat <&3" >/dev/null; }
knocks() { knock && [ "$(counter connections_accepted)" -gt "$accepted" ]; }
accepted=$(counter connections_accepted)
check "another listener in it" wait_for knocks
sed -e '/^groups:/,/^  web:/d' -e '/- name: web-tcp/,/carrier:/d' -e 's/^rules:/rules: []/' "$TMP/dmm.yaml" \
	>"$TMP/without.yaml"
check "the group is removed" status 0 policy apply -f "$TMP/without.yaml"
for _ in $(seq 20); do
	knock || true
	sleep 0.1
done
check "its listener goes on, and is never told a wrong peer" \
	equal "$(sort -u "$TMP/peer.log" | paste -sd' ')" "listens peer $FAR4"
finish
