#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# IP_TOS and IPV6_TCLASS: what an application asks for before connect() or listen(), or later, is in
# the packets that the far host sees, and nothing else is.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need python3 iperf3
setup "$@"

# tos.py how proto host port [when:tos]...: when is before, listening (behind listen()), heir (of
# another listener, with which the first one ends), after (connect() or accept()), later (some bytes
# have gone each way).
cat >"$TMP/tos.py" <<'PY'
import socket, sys, time
how, proto, host, port = sys.argv[1:5]
at = dict((w, int(t, 0)) for w, t in (a.split(":") for a in sys.argv[5:]))
six = ":" in host and "." not in host
OPTION = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if six else (socket.IPPROTO_IP, socket.IP_TOS)
def say(s, when):
    if when in at:
        s.setsockopt(*OPTION, at[when])
        got = s.getsockopt(*OPTION)
        want = at[when] if proto == "udp" else at[when] & 0xfc
        print("set" if got == want else f"set {want}, got {got}", flush=True)
def exact(s, n):
    while n:
        got = len(s.recv(n))
        if not got:
            raise EOFError
        n -= got
def talk(s, first):
    for when in "after", "later":
        say(s, when)
        s.sendall(bytes(20000)) if first else exact(s, 20000)
        exact(s, 20000) if first else s.sendall(bytes(20000))
def listener(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind((host, int(port)))
    s.listen()
    return s
kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
s.settimeout(20)
say(s, "before")
if how == "call" and proto == "udp":
    s.connect((host, int(port)))
    for when in "after", "later":
        say(s, when)
        s.send(b"x" * (4000 if when == "later" else 10))
        s.recv(65536)
    if not six:  # of a single datagram
        s.sendmsg([b"y"], [(socket.IPPROTO_IP, socket.IP_TOS, bytes([0x1d, 0, 0, 0]))])
        s.recv(65536)
elif how == "call":
    s.connect((host, int(port)))
    talk(s, True)
elif proto == "udp":
    s.bind((host, int(port)))
    s.settimeout(None)
    while True:
        s.sendto(*s.recvfrom(65536))
else:
    s = listener(s)
    say(s, "listening")
    if "heir" in at:
        heir = socket.socket(s.family, kind)
        say(heir, "heir")
        first, s = s, listener(heir)
        first.close()
        print("alone", flush=True)
    s.settimeout(None)
    while True:
        c, _ = s.accept()
        try:
            talk(c, False)
        except EOFError:
            pass
        c.close()
PY
tos_far() { in_far python3 "$TMP/tos.py" "$@" 2>&1; }
tos_near() { run_managed web python3 "$TMP/tos.py" "$@" 2>&1; }
udp_listens() { in_far ss -Hlun "sport = :$1" | grep -q .; }
# seen FILTER: the types of service of what near has sent of this, in the order in which they came
seen() {
	tcpdump -r "$TMP/far.pcap" -nnv "$@" 2>/dev/null |
		sed -nE 's/.*\(tos (0x[0-9a-f]+),.*/\1/p; s/.*IP6 \((class (0x[0-9a-f]+), )?.*/\2/p' |
		sed 's/^$/0x0/' | uniq | xargs
}
# check_tos TEXT WANT FILTER
check_tos() { check "$1" equal "$(seen "$3")" "$2"; }

# a route of a type of service is no route for everybody
ip -n "$NEAR" route add unreachable $FAR4/32 tos 0x04
[ "$DMM_BASELINE" = 1 ] || config | sed 's/, proto: tcp//' | start_policyd
syn_ack=0xb8 # lwIP answers a SYN with none
[ "$DMM_ENGINE" = lwip ] && syn_ack=0x0
port=7400
# ---- nobody has used one yet: a listener's is taken back before anybody calls ----
for near in $NEAR4 $NEAR6; do
	spawn "back-$port" tos_near serve tcp $near $port before:0x48 listening:0
	wait_for near_listens $port
	start_capture
	check "$near: a listener's, taken back" tos_far call tcp $near $port
	stop_capture
	check "$near: is not in what was accepted" equal "$(seen "src $near and src port $port" | sed 's/.* //')" 0x0
	port=$((port + 1))
done
for far in $FAR4 $FAR6 ::ffff:$FAR4; do
	near=$NEAR4
	[ "$far" != $FAR6 ] || near=$NEAR6
	spawn "far-$port" tos_far serve tcp "$far" $port
	spawn "near-$port" tos_near serve tcp $near $((port + 1)) before:0xba
	spawn "late-$port" tos_near serve tcp $near $((port + 2)) after:0x48 later:0x20
	wait_for far_listens $port
	wait_for near_listens $((port + 1))
	wait_for near_listens $((port + 2))
	start_capture
	mark
	check "$far: set before connect(), read back" equal "$(tos_near call tcp "$far" $port before:0xb9)" set
	check "$far: set after connect(), twice" \
		equal "$(tos_near call tcp "$far" $port after:0x28 later:0x50 | xargs)" "set set"
	check "$far: set before, and taken back" \
		equal "$(tos_near call tcp "$far" $port before:0x88 later:0 | xargs)" "set set"
	check_dmm "$far: through the instance" equal "$(since connections_established)" 3
	check "$far: a listener's" tos_far call tcp $near $((port + 1))
	check "$far: of what was accepted" tos_far call tcp $near $((port + 2))
	check_dmm "$far: by the instance" equal "$(since connections_accepted)" 2
	stop_capture
	mapfile -t ports < <(tcpdump -r "$TMP/far.pcap" -nn "dst port $port and tcp[tcpflags] & tcp-syn != 0 or
		(ip6 and dst port $port and ip6[53] & 2 != 0)" 2>/dev/null | sed -E 's/.*[.]([0-9]+) > .*/\1/')
	check_tos "$far: before connect(): all of it" 0xb8 "src $near and src port ${ports[0]}"
	check_tos "$far: after connect(): as it was set" "0x0 0x28 0x50" "src $near and src port ${ports[1]}"
	check_tos "$far: taken back" "0x88 0x0" "src $near and src port ${ports[2]}"
	check_tos "$far: of a listener: from the answer on" "$([ $syn_ack = 0xb8 ] || echo "$syn_ack ")0xb8" \
		"src $near and src port $((port + 1))"
	check_tos "$far: of what was accepted: as it was set" "0x0 0x48 0x20" "src $near and src port $((port + 2))"
	port=$((port + 10))
done

# ---- the address of a listener that is gone: the answer to the SYN has the first one's ----
for near in $NEAR4 $NEAR6; do
	spawn "heir-$port" tos_near serve tcp $near $port heir:0x48
	wait_for grep -q alone "$TMP/heir-$port.log"
	start_capture
	mark
	check "$near: a second listener's" tos_far call tcp $near $port
	check_dmm "$near: by the instance" equal "$(since connections_accepted)" 1
	stop_capture
	check "$near: is in what it accepted" equal "$(seen "src $near and src port $port" | sed 's/.* //')" 0x48
	port=$((port + 10))
done

for far in $FAR4 $FAR6; do
	[ "$DMM_ENGINE" = native ] || break
	near=$NEAR4 last=" 0x1d"
	[ "$far" = $FAR4 ] || near=$NEAR6 last=
	spawn "far-$port" tos_far serve udp "$far" $port
	wait_for udp_listens $port
	start_capture
	mark
	check "$far: UDP, read back" \
		equal "$(tos_near call udp "$far" $port before:0xb9 later:0x22 | xargs)" "set set"
	check_dmm "$far: UDP through the instance" equal "$(since udp_flows)" 1
	stop_capture
	check_tos "$far: UDP: of each datagram, its fragments too" "0xb9 0x22$last" "src $near and (udp or ip6[40] = 17)"
	port=$((port + 10))
done

# ---- a real program ----
spawn iperf3 in_far iperf3 -s -p 7500
wait_for far_listens 7500
for far in $FAR4 $FAR6; do
	near=$NEAR4
	[ "$far" = $FAR4 ] || near=$NEAR6
	start_capture
	check "iperf3 -S to $far" run_managed web iperf3 -c "$far" -p 7500 -S 0x70 -n 50M >"$TMP/iperf3.out"
	stop_capture
	check "what it sends has it" at_least "$(captured "src $near and greater 1000 and
		(ip[1] = 0x70 or (ip6 and ip6[0:2] & 0xff0 = 0x700))")" 100
	check "all of them" equal "$(captured "src $near and greater 1000 and
		not (ip[1] = 0x70 or (ip6 and ip6[0:2] & 0xff0 = 0x700))")" 0
done
finish
