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

# ---- a frame may tell a priority, by a tag of VLAN 0 (IEEE 802.1Q), to tc and to XDP ----
# A host that does nothing else: a handshake and ten bytes. Says what came back.
cat >"$TMP/priority.py" <<'PY'
import socket, struct, sys
near, mac, port = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", "")), int(sys.argv[3])
me, near = socket.inet_aton("10.55.0.50"), socket.inet_aton(near)
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
s.bind(("far0", 0))
s.settimeout(5)
def checksum(b):
    n = sum(struct.unpack(f"!{len(b) // 2}H", b))
    return ~(n % 65535 or 65535) & 65535
def send(flags, seq, ack, data=b""):
    tcp = struct.pack("!HHIIBBHHH", port, port, seq, ack, 0x50, flags, 65535, 0, 0) + data
    pseudo = me + near + struct.pack("!HH", 6, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack("!BBHIBBH", 0x45, 0, 20 + len(tcp), 0, 64, 6, 0) + me + near
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    s.send(mac + bytes([2, 0, 0, 0, 0, 80]) + struct.pack("!HHH", 0x8100, 0xA000, 0x0800) + ip + tcp)
def receive():
    while True:
        p = s.recv(2000)[14:]
        if p[16:20] == me and p[9] == 6:
            seq, ack, _, flags = struct.unpack("!IIBB", p[24:34])
            return flags, seq, ack
send(2, 1000, 0)
flags, seq, ack = receive()
print(flags, ack)
send(16, 1001, seq + 1)
send(24, 1001, seq + 1, b"0123456789")
flags, seq, ack = receive()
print(flags & 23, ack)
PY
mac=$(ip -n "$NEAR" -j link show near0 | jq -r '.[0].address')
ip -n "$NEAR" neigh replace 10.55.0.50 lladdr 02:00:00:00:00:50 dev near0
for mode in tc native; do
	if [ $mode = native ] && [ "$DMM_BASELINE" != 1 ]; then
		[ "$DMM_DRIVER" = xsk ] || break
		stop_policyd
		config | sed 's/interface: near0/interface: near0, mode: native/' | start_policyd
	fi
	port=$((port + 1))
	spawn "near-$mode" echo_near serve $NEAR4 $port
	wait_for near_listens $port
	mark
	check "priority, $mode: taken" equal "$(in_far python3 "$TMP/priority.py" $NEAR4 "$mac" $port | xargs)" "18 1001 16 1011"
	check_dmm "priority, $mode: by the instance" equal "$(since connections_accepted)" 1
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
