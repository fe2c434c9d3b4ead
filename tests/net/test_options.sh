#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TCP whose packets have IPv4 options or IPv6 extension headers: neither side sees a difference, whoever
# calls (RFC 9293, MUST-50; RFC 8200, section 4). And what an application wants in the header itself;
# and link-local peers.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need python3
setup "$@"

# A server that echoes, or a client of one. The far end says such things in all that it sends.
cat >"$TMP/echo.py" <<'PY'
import os, socket, sys, threading
how, what, host, port = sys.argv[1:]
OPTIONS = {
    "timestamps": (socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([68, 36, 5, 0]) + bytes(32)),
    "alert": (socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([148, 4, 0, 0])),  # RFC 2113
    "destination": (socket.IPPROTO_IPV6, 59, bytes([0, 0, 1, 4, 0, 0, 0, 0])),  # padding
    "hop-by-hop": (socket.IPPROTO_IPV6, 54, bytes([0, 0, 1, 4, 0, 0, 0, 0])),
    "hops": (socket.IPPROTO_IP, socket.IP_TTL, 5),
    "limit": (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 5),
}
def say(s):
    if what in OPTIONS:
        s.setsockopt(*OPTIONS[what])
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
say(s)
if how == "serve":
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, int(port)))
    s.listen()
    while True:
        c, _ = s.accept()
        say(c)
        while data := c.recv(65536):
            c.sendall(data)
        c.close()
s.settimeout(20)
s.connect((host, int(port)))
data, got = os.urandom(300000), b""
t = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
t.start()
while part := s.recv(65536):
    got += part
t.join()
print(len(got), got == data)
PY
echo_far() { in_far python3 "$TMP/echo.py" "$@" 2>&1; }
echo_near() { run_managed web python3 "$TMP/echo.py" "$1" nothing "${@:2}" 2>&1; }

[ "$DMM_BASELINE" = 1 ] || config | start_policyd
port=7100
for what in timestamps alert destination hop-by-hop; do
	far=$FAR4 near=$NEAR4 name='ip[0] & 15 > 5'
	case $what in destination | hop-by-hop) far=$FAR6 near=$NEAR6 name='ip6[6] != 6' ;; esac
	port=$((port + 1))
	spawn "far-$what" echo_far serve $what $far $port
	wait_for far_listens $port
	mark
	start_capture
	check "$what: a client" equal "$(echo_near call $far $port)" "300000 True"
	check_dmm "$what: through the instance" equal "$(since connections_established)" 1
	check_dmm "$what: all of it" equal "$(since xdp_pass_option)" 0
	spawn "near-$what" echo_near serve $near $((port + 100))
	wait_for near_listens $((port + 100))
	mark
	check "$what: a server" equal "$(echo_far call $what $near $((port + 100)))" "300000 True"
	check_dmm "$what: by the instance" equal "$(since connections_accepted)" 1
	check_dmm "$what: all of it" equal "$(since xdp_pass_option)" 0
	stop_capture
	if [ $far = $FAR4 ]; then
		check "$what: the client was told" at_least "$(captured "src $far and src port $port and $name")" 10
		check "$what: the server was told" at_least "$(captured "src $far and dst port $((port + 100)) and $name")" 10
	else
		check "$what: they were told" at_least "$(captured "src $far and $name")" 20
	fi
done

# ---- what the application wants in every header is in it, whoever carries it ----
for what in hops limit; do
	far=$FAR4 near=$NEAR4 name='ip[8] = 5'
	[ "$what" = hops ] || far=$FAR6 near=$NEAR6 name='ip6[7] = 5'
	port=$((port + 1))
	spawn "far-$what" echo_far serve nothing $far $port
	spawn "near-$what" run_managed web python3 "$TMP/echo.py" serve $what $near $((port + 100))
	wait_for far_listens $port
	wait_for near_listens $((port + 100))
	start_capture
	check "$what: a client" equal "$(run_managed web python3 "$TMP/echo.py" call $what $far $port)" "300000 True"
	check "$what: a server" equal "$(echo_far call nothing $near $((port + 100)))" "300000 True"
	stop_capture
	for way in "dst port $port" "src port $((port + 100))"; do
		check "$what: $way has it" at_least "$(captured "src $near and $way and $name")" 3
		check "$what: $way has it in every packet" equal "$(captured "src $near and $way and not ($name)")" 0
	done
done

# ---- a peer whose address has a scope is told with it ----
spawn near-scope run_managed web python3 -u -c "
import socket
l = socket.create_server(('::', 7300), family=socket.AF_INET6)
while True:
    c, peer = l.accept()
    print('scope', peer[3] == socket.if_nametoindex('near0'), c.getsockname()[3] == peer[3])"
wait_for near_listens 7300
scoped() { ip -n "$NEAR" -j -6 addr show dev near0 scope link | jq -r '.[].addr_info[]? | select(.local).local' | grep .; }
wait_for scoped
check "a link-local peer connects" in_far python3 -c "
import socket
socket.create_connection(('$(scoped)%far0', 7300), 10)"
check "its interface is told" wait_for grep -q 'scope True True' "$TMP/near-scope.log"
finish
