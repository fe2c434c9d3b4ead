#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An application gives up while it connects, in any of the ways there are. No SYN follows, and a far host
# that answers later gets a reset for its answer: it never has a connection that nobody wants.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/net/long_link.sh
. "$here/long_link.sh"
need python3
setup "$@"

# give_up.py WAYS HOST PORT SECONDS...: for each of the seconds and each of the ways a socket that
# connects to the next port, and gives up after so long.
cat >"$TMP/give_up.py" <<'PY'
import ctypes, os, signal, socket, struct, sys, time
ways, host, port = sys.argv[1].split(","), sys.argv[2], int(sys.argv[3])
def connect(to, blocks):
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    s.setblocking(blocks)
    s.connect_ex((host, to))
    return s
def child(way, to, after):
    pid = os.fork()
    if pid:
        return pid
    s = connect(to, way == "kill")
    time.sleep(after)
    os._exit(0)
left = []
for after in map(float, sys.argv[4:]):
    for way in ways:
        s = child(way, port, after) if way in ("exit", "kill") else connect(port, False)
        left.append((time.monotonic() + after, way, s))
        port += 1
for when, way, s in sorted(left, key=lambda l: l[0]):
    time.sleep(max(0, when - time.monotonic()))
    if way == "close":
        s.close()
    elif way == "shutdown":
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
    elif way == "unspec":
        ctypes.CDLL(None).connect(s.fileno(), struct.pack("H14x", socket.AF_UNSPEC), 16)
    elif way == "kill":
        os.kill(s, signal.SIGKILL)
time.sleep(3)
PY
give_up() { run_managed web python3 "$TMP/give_up.py" "$@"; }
cat >"$TMP/far.py" <<'PY'
import socket, time
listeners = [socket.create_server((h, p), family=f, backlog=64, **o)
             for p in range(7600, 7800) for f, h, o in ((socket.AF_INET, "0.0.0.0", {}),
                                                       (socket.AF_INET6, "::", {"dualstack_ipv6": False}))]
print("ready", flush=True)
time.sleep(1000)
PY
# sent PORT HOST: the flags of what near sent to there, in the order in which they came
sent() {
	tcpdump -r "$TMP/far.pcap" -nn "dst host $2 and dst port $1" 2>/dev/null |
		sed -nE 's/.*Flags \[([^]]*)\].*/\1/p' | sed 's/^R\.$/R/' | xargs
}
far_has() { in_far ss -Htn state established | grep -c . || true; }

config | start_policyd
spawn far in_far python3 "$TMP/far.py"
wait_for grep -q ready "$TMP/far.log"
ways=close,shutdown,unspec,exit,kill

# ---- nobody answers: a SYN would come again after a second ----
silent=(10.77.0.1 fd77::1 ::ffff:10.77.0.2)
start_capture
for host in "${silent[@]}"; do
	give_up $ways "$host" 7500 0.3 &
	running+=($!)
	sleep 0.25 # any time between two looks at the clock
done
wait "${running[@]}"
stop_capture
for host in "${silent[@]}"; do
	port=7500
	for way in ${ways//,/ }; do
		check "$way, $host is silent: no further SYN" equal "$(sent $port "${host#::ffff:}")" S
		port=$((port + 1))
	done
done

# ---- the answer comes when the application has left ----
impair delay=200
mark
start_capture
port=7600
for host in $FAR4 $FAR6 ::ffff:$FAR4; do
	give_up $ways "$host" $port 0.1 &
	APP=$!
	sleep 1
	check "$host: has no connection" equal "$(far_has)" 0
	wait "$APP"
	port=$((port + 10))
done
stop_capture
port=7600
for host in $FAR4 $FAR6 ::ffff:$FAR4; do
	at=$port
	for way in ${ways//,/ }; do
		check "$way, $host answers late: a reset" equal "$(sent $at "${host#::ffff:}")" "S R"
		at=$((at + 1))
	done
	port=$((port + 10))
done
check_dmm "by the instance" equal "$(since connections_opened)" 15
check_dmm "none of them was made" equal "$(since connections_established)" 0

# ---- it leaves just when the answer comes ----
impair delay=5
mapfile -t about < <(seq 0.008 0.0003 0.0257)
mark
for host in $FAR4 $FAR6; do
	give_up close,unspec "$host" 7650 "${about[@]}" &
	APP=$!
	sleep 1.5
	check "$host: has no connection with who left" equal "$(far_has)" 0
	wait "$APP"
done
[ "$DMM_BASELINE" = 1 ] || echo "# $(since connections_established) of $(since connections_opened) had the answer when they left"
finish
