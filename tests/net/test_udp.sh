#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Connected UDP through an instance: the same as over the kernel's stack, with real programs.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need python3 dig dnsmasq iperf3
setup "$@"
start_policyd <<-YAML
	groups:
	  web: {cgroup: $CGROUP/web}
	stacks:
	  edge0: {engine: $DMM_ENGINE,${DMM_THREADS:+ threads: $DMM_THREADS,} port: {driver: $DMM_DRIVER, interface: near0}}
	rules:
	  - name: web-never
	    match: {group: web, proto: udp, remote_port: 7099}
	    use: reject
	  - name: web-udp
	    match: {group: web, proto: udp}
	    use: [edge0, kernel]
	default: kernel
YAML
udp=$here/udp.py
far_serves() { in_far ss -Hlun "sport = :$1" | grep -q .; }
spawned=0
serve() { # serve WHERE ADDRESS PORT
	spawned=$((spawned + 1))
	spawn "serve$spawned" "$1" python3 "$udp" serve "$2" "$3"
	wait_for grep -q serving "$TMP/serve$spawned.log"
}
for port in 7007 7008; do
	serve in_far $FAR4 $port
	serve in_far $FAR6 $port
done
serve in_near $NEAR4 7008
serve in_near $NEAR6 7008

# ---- what a program sees, line by line, is what it sees on the kernel's stack ----
for far in $FAR4 $FAR6; do
	near=$NEAR4
	[ $far = $FAR4 ] || near=$NEAR6
	in_near python3 "$udp" client $far 7008 9 $near >"$TMP/plain" 2>&1 || true
	start_capture
	mark
	run_managed web python3 "$udp" client $far 7008 9 $near >"$TMP/managed" 2>&1 || true
	stop_capture
	check "$far: the client ran to its end" grep -q '^many True' "$TMP/plain"
	check "$far: the same as over the kernel" diff "$TMP/plain" "$TMP/managed"
	check_dmm "$far: sockets were carried" at_least "$(since udp_flows)" 500
	check_dmm "$far: datagrams went out through the port" at_least "$(since udp_transmits)" 500
	check_dmm "$far: and came back" at_least "$(since udp_receives)" 400
	check_dmm "$far: none was dropped" equal "$(since udp_drops)" 0
	check_dmm "$far: all could be served" equal "$(since udp_failures)" 0
	check_dmm "$far: refusals were told" at_least "$(since udp_errors)" 2
	check "$far: the far host saw them" at_least "$(captured 'udp port 7007')" 400
done

# ---- real programs ----
cat >"$TMP/dnsmasq.conf" <<-CONF
	port=5353
	bind-interfaces
	listen-address=$FAR4,$FAR6
	no-resolv
	no-hosts
	address=/x.test/192.0.2.77
	log-queries
	pid-file=
CONF
spawn dnsmasq in_far dnsmasq -k -C "$TMP/dnsmasq.conf" --log-facility=-
wait_for far_serves 5353
for host in $FAR4 $FAR6; do
	mark
	check "dig @$host" equal "$(run_managed web dig +short +tries=1 -p 5353 @$host x.test)" 192.0.2.77
	check_dmm "dig @$host: through the instance" equal "$(since udp_receives)" 1
done
spawn iperf in_far iperf3 -s -p 5301
wait_for far_listens 5301
for way in "" -R; do
	mark
	# shellcheck disable=SC2086
	run_managed web timeout 30 iperf3 -u -b 50M -l 1000 -t 2 -c $FAR4 -p 5301 $way -J >"$TMP/iperf.json" || true
	if [ -z "$way" ]; then # what the far side says that it got, and what the client itself saw
		name=udp_transmits sums=.end.sum
	else
		name=udp_receives sums='.intervals[].sum'
	fi
	packets=$(jq -n "[inputs | $sums | (.packets // 0) - (.lost_packets // 0)] | add // 0" "$TMP/iperf.json")
	echo "# iperf3 -u $way: $packets datagrams, and $(jq '.end.sum.lost_packets' "$TMP/iperf.json") lost"
	check "iperf3 -u $way" at_least "$packets" 1000
	check_dmm "iperf3 -u $way: through the instance" at_least "$(since $name)" "$packets"
done

# ---- datagrams that come in fragments ----
for far in $FAR4 $FAR6; do
	mark
	check "$far: long datagrams come back" equal "$(run_managed web python3 -c "
import os, socket
s = socket.socket(socket.AF_INET6 if ':' in '$far' else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
s.settimeout(3)
s.connect(('$far', 7007))
right = 0
for n in (1400, 1473, 4000, 30000, 65000, 65507):
    data = os.urandom(n)
    s.send(data)
    right += s.recv(70000) == data
print(right)" 2>&1)" 6
	check_dmm "$far: put together by the instance" at_least "$(since port_receive_reassembled)" 5
	check_dmm "$far: nothing went astray" equal "$(since port_receive_fragment_drops)" 0
done
[ "$DMM_BASELINE" = 1 ] && finish

# ---- what is said of it ----
spawn held run_managed web python3 -c "
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(('$FAR4', 7007))
s.send(b'echo')
s.recv(10)
print('held', *s.getsockname(), flush=True)
time.sleep(600)"
HELD=$SPAWNED
wait_for grep -q held "$TMP/held.log"
read -r _ address port <"$TMP/held.log"
check "flows shows it" equal "$(policy -j flows |
	jq -r '.[] | select(.proto == "udp") | "\(.stack) \(.reason) \(.carrier) \(.remote) \(.local)"')" \
	"edge0 rule udp $FAR4:7007 $address:$port"
check "explain says where one would go" equal \
	"$(policy -j explain group web proto udp remote $FAR4 remote_port 53 | jq -r '"\(.result.stack) \(.result.reason)"')" "edge0 rule"

# ---- what is sent while the flow begins is not refused ----
# The kernel may not find a socket while it connects. What does not find the one that is connected to
# the application's, as what a stranger sends never does, finds the other, until a little later.
for near in $NEAR4 $NEAR6; do
	far=$FAR4
	[ $near = $NEAR4 ] || far=$FAR6
	mark
	run_managed web python3 -c "
import socket, subprocess, time
family = socket.AF_INET6 if ':' in '$near' else socket.AF_INET
s, u = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
s.settimeout(3)
s.connect(('$far', 7007))
s.send(b'echo')
s.recv(10)
own = s.getsockname()[1]
ends = subprocess.run(['ss', '-Hanu', 'sport = :%d' % own], capture_output=True, text=True).stdout
carrier = int(ends.split()[4].rpartition(':')[2])
def refused():
    u.send(b'x')
    time.sleep(0.1)
    return u.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
u.connect(('$near', carrier))
print('at first', refused())
for _ in range(50):
    if refused():
        break
print('then', refused())
s.send(b'echo')
s.recv(10)
print('goes on')" >"$TMP/begins" 2>&1 || true
	check "$near: nothing is refused while a flow begins" equal "$(paste -sd' ' "$TMP/begins")" \
		"at first False then True goes on"
	check "$near: and what is not the flow's is not taken for its own" at_least "$(since carrier_strangers)" 1
done

# ---- a second address of the interface, which the kernel does not send from by itself ----
ip -n "$NEAR" addr add 10.55.0.5/24 dev near0
ip -n "$NEAR" addr add fd55::5/64 dev near0 nodad
for near in 10.55.0.5 fd55::5; do
	far=$FAR4
	[ $near = 10.55.0.5 ] || far=$FAR6
	mark
	check "$near: bound to a second address" equal "$(run_managed web python3 -c "
import socket
s = socket.socket(socket.AF_INET6 if ':' in '$near' else socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('$near', 20125))
s.settimeout(3)
s.connect(('$far', 7007))
s.send(b'who')
print(s.recv(100).decode())" 2>&1)" "$near 20125 7007"
	check "$near: through the instance" equal "$(since udp_receives)" 1
done

# ---- without a descriptor for the second socket of a flow the first one serves it ----
pid=$(instance_pid)
free=0
while [ -e "/proc/$pid/fd/$free" ]; do free=$((free + 1)); done
most=$(awk '/Max open files/ { print $5 }' "/proc/$pid/limits")
mark
prlimit --pid "$pid" --nofile=$free:"$most"
check "without descriptors: served" equal "$(run_managed web python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
s.connect(('$FAR4', 7007))
for _ in range(3):
    s.send(b'echo')
    print(s.recv(10).decode())" 2>&1 | paste -sd' ')" "echo echo echo"
prlimit --pid "$pid" --nofile="$most:$most"
check "without descriptors: by the instance" equal "$(since udp_receives)" 3

# ---- sockets that no instance could serve stay, and are counted ----
for option in IPPROTO_IP,2,9 IPPROTO_IP,8,1 IPPROTO_IP,11,1 IPPROTO_IP,10,2 SOL_SOCKET,25,near0 SOL_SOCKET,36,7; do
	before=$(verdicts kernel unsupported-socket)
	check "option $option: served by the kernel" run_managed web python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
level, name, value = '$option'.split(',')
s.setsockopt(getattr(socket, level), int(name), int(value) if value.isdigit() else value.encode())
s.settimeout(3)
s.connect(('$FAR4', 7007))
s.send(b'echo')
assert s.recv(10) == b'echo'"
	check "option $option: and counted" equal "$(verdicts kernel unsupported-socket)" $((before + 1))
done

# ---- a rule that rejects: the socket stays where it was ----
check "what is refused changes nothing" run_managed web python3 -c "
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
s.connect(('$FAR4', 7007))
for _ in range(2):
    try:
        s.connect(('$FAR4', 7099))
        raise SystemExit('not refused')
    except ConnectionRefusedError:
        pass
    time.sleep(1.2)
    assert s.getpeername() == ('$FAR4', 7007)
    s.send(b'echo')
    assert s.recvfrom(10) == (b'echo', ('$FAR4', 7007))"

# ---- what comes from elsewhere does not wait at a carrier ----
carriers() { in_near ss -Hanu | awk -v at="$1" '{ sub(/.*:/, "", $4); if (at == "" || $2 > 0) print $4 }'; }
check "carriers wait for flows" at_least "$(carriers "" | sort -u | wc -l)" 200
carriers "" | sort -u | in_far python3 -c "
import socket, sys
ports = [int(port) for port in sys.stdin.read().split()]
for family, near in ((socket.AF_INET, '$NEAR4'), (socket.AF_INET6, '$NEAR6')):
    s = socket.socket(family, socket.SOCK_DGRAM)
    for port in ports:
        s.sendto(b'x', (near, port))"
check "none of them took any" equal "$(carriers queued)" ""

# ---- while nothing happens, no carriers are made ----
made() { timeout 3 strace -f -e trace=socket -p "$(instance_pid)" 2>&1 | grep -c SOCK_DGRAM; }
if command -v strace >/dev/null; then
	check "no carriers are made meanwhile" equal "$(made)" 0
else
	skip "no carriers are made meanwhile: needs strace"
fi

# ---- nothing is left behind ----
records() { bpftool map dump pinned "$DMM_BPFFS/maps/dmm_udp" -j | jq length; }
fds() { find "/proc/$(instance_pid)/fd" -mindepth 1 | wc -l; }
check "one flow is left" wait_for equal "$(records)" 1
end "$HELD"
none() { [ "$(records)" = 0 ]; }
check "no flow is left" wait_for none
before=$(fds)
run_managed web python3 "$udp" client $FAR4 7008 9 $NEAR4 >/dev/null 2>&1 || true
wait_for none
check "no descriptor is left" equal "$(fds)" "$before"

# ---- the instance dies: its sockets are refused until another one has taken its place, and go on ----
spawn victim run_managed web python3 -c "
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.2)
s.connect(('$FAR4', 7007))
s.send(b'echo')
s.recv(10)
print('ready', s.getsockname()[1], flush=True)
for _ in range(2):
    bad = good = 0
    while not bad or good < 20:
        try:
            s.send(b'echo %d' % bad)
            if s.recv(10) == b'echo %d' % bad:
                good += 1
        except OSError as e:  # refused, or it was sent and went with the instance
            bad, good = bad + 1, 0
            print(e, flush=True)
        time.sleep(0.05)
    print('again', s.getpeername() == ('$FAR4', 7007), flush=True)
s.connect(('$FAR4', 7008))
s.send(b'echo')
print(s.recv(10), flush=True)"
wait_for grep -q ready "$TMP/victim.log"
# new carriers take nearly all ports of this range: the flow's is not among them
carrier=$(in_near ss -Hun "sport = :$(awk '/^ready/ { print $2 }' "$TMP/victim.log")" | sed 's/.*://')
in_near sysctl -qw net.ipv4.ip_local_port_range="$((carrier - 140)) $((carrier + 140))"
kill -9 "$(instance_pid)"
check "an instance that dies is noticed" wait_for grep -q "Connection refused" "$TMP/victim.log"
check "the next one goes on where it ended" wait_for grep -q "^again True" "$TMP/victim.log"
agains() { [ "$(grep -c "^again True" "$TMP/victim.log")" = 2 ]; }
kill "$(instance_pid)"
check "also if it was asked to end" wait_for agains
check "and connect() goes elsewhere" wait_for grep -q "b'echo'" "$TMP/victim.log"
check "which ends the flow" wait_for none
finish
