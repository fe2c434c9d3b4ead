#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The congestion control of rules: connections of one instance have each that of its rule, before
# that of the stack, in both roles. DCTCP shows on the wire, as it alone asks for ECN. What a socket
# got stays when the rule changes. An engine without a choice carries the connections all the same.
# shellcheck disable=SC2317 # functions are called by check
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need python3
setup "$@"
[ "$DMM_BASELINE" != 1 ] || skip_all "only with DMM"

cat >"$TMP/talk.py" <<'PY'
import socket, sys, threading, time
def echo(c):
    while b := c.recv(65536):
        c.sendall(b)
def serve(l):
    while True:
        threading.Thread(target=echo, args=(l.accept()[0],), daemon=True).start()
how, address, *ports = sys.argv[1:]
if how == "serve":
    for p in ports:
        l = socket.create_server((address, int(p)))
        threading.Thread(target=serve, args=(l,), daemon=True).start()
else:
    held = [socket.create_connection((address, int(p)), timeout=10) for p in ports]
    for s in held:
        s.sendall(bytes(20000))
        got = 0
        while got < 20000:
            got += len(s.recv(65536))
print("ready", flush=True)
time.sleep(600)
PY

# by_rules FIRST STACK: what the first client rule says, and the stack
by_rules() {
	cat <<-YAML
		groups:
		  web: {cgroup: $CGROUP/web}
		stacks:
		  edge0: {$2, port: {driver: xsk, interface: near0}}
		rules:
		  - {name: to-first, match: {group: web, remote_port: 7201, proto: tcp}, use: edge0, congestion: $1}
		  - {name: to-second, match: {group: web, remote_port: 7202, proto: tcp}, use: edge0, congestion: cubic}
		  - {name: to-fourth, match: {group: web, remote_port: 7204, proto: tcp}, use: edge0, congestion: bbr}
		  - {name: at-first, match: {group: web, local_port: 7301, role: server}, use: edge0, congestion: dctcp}
		  - {name: at-second, match: {group: web, local_port: 7302, role: server}, use: edge0, congestion: cubic}
		  - {name: at-fourth, match: {group: web, local_port: 7304, role: server}, use: edge0, congestion: bbr}
		  - {name: others, match: {group: web, proto: tcp}, use: edge0}
		default: kernel
	YAML
}
# talk NAME HOW...: returns when all has been said
talk() {
	local name=$1
	shift
	rm -f "$TMP/$name.log" # of one before
	spawn "$name" "$@"
	wait_for grep -q ready "$TMP/$name.log"
}
# used ROLE PORT: of the live connections of edge0 with this port at the server's end
used() {
	local end=remote
	[ "$1" = client ] || end=local
	policy -j flows | jq -r "[.[] | select(.stack == \"edge0\" and .role == \"$1\" and
		.state == \"established\" and (.$end | endswith(\":$2\"))) | .congestion] | sort | join(\" \")"
}
# carried ROLE PORT: bytes that such a connection sent
carried() {
	local end=remote
	[ "$1" = client ] || end=local
	policy -j flows | jq "[.[] | select(.role == \"$1\" and .state == \"established\" and
		(.$end | endswith(\":$2\"))) | .tx_bytes] | add // 0"
}
explained() {
	policy -j explain "$@" | jq -r .congestion
}

ip netns exec "$FAR" sysctl -qw net.ipv4.tcp_ecn=1
by_rules dctcp "engine: native, congestion: newreno" | start_policyd
start_capture
talk far-serve in_far python3 "$TMP/talk.py" serve $FAR4 7201 7202 7203 7204
talk near-serve run_managed web python3 "$TMP/talk.py" serve 0.0.0.0 7301 7302 7303 7304
near_serve=$SPAWNED
talk near-hold run_managed web python3 "$TMP/talk.py" hold $FAR4 7201 7202 7203 7204
talk far-hold in_far python3 "$TMP/talk.py" hold $NEAR4 7301 7302 7303 7304
stop_capture
for role in client server; do
	[ $role = client ] && base=7200 || base=7300
	check "$role: as the first rule says" equal "$(used $role $((base + 1)))" dctcp
	check "$role: as the second rule says" equal "$(used $role $((base + 2)))" cubic
	check "$role: as the stack says, where the rule does not" equal "$(used $role $((base + 3)))" newreno
	check "$role: BBR" equal "$(used $role $((base + 4)))" bbr
	check "$role: and it carries" at_least "$(carried $role $((base + 4)))" 20000
done
syns='dst port %d and tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn and tcp[13] & 0xc0 == %s'
ecn='src host '$NEAR4' and dst port %d and tcp[tcpflags] & tcp-push != 0 and ip[1] & 3 == %d'
# shellcheck disable=SC2059 # the format is a filter
on_wire() { captured "$(printf "$1" "$2" "$3")"; }
check "DCTCP asks for ECN in its SYN" equal "$(on_wire "$syns" 7201 0xc0)" 1
check "DCTCP's segments are ECN-capable" at_least "$(on_wire "$ecn" 7201 2)" 1
for port in 7202 7203 7204; do
	check "to $port: the SYN does not" equal "$(on_wire "$syns" $port 0)" 1
	check "to $port: nor are segments" equal "$(on_wire "$ecn" $port 2)" 0
done
check "explain tells the rule's" equal "$(explained group web remote $FAR4 remote_port 7201)" dctcp
check "explain tells the stack's" equal "$(explained group web remote $FAR4 remote_port 7203)" newreno
check "explain tells of BBR" equal "$(explained group web remote $FAR4 remote_port 7204)" bbr
check "UDP has none" equal "$(explained group web remote $FAR4 remote_port 7201 proto udp)" null

# ---- a change is for sockets to come
by_rules newreno "engine: native, congestion: newreno" >"$TMP/dmm.yaml"
policy apply -f "$TMP/dmm.yaml" >/dev/null
talk near-again run_managed web python3 "$TMP/talk.py" hold $FAR4 7201
check "who was connected goes on as before" equal "$(used client 7201)" "dctcp newreno"
check "nothing was refused by the engine" equal "$(counter congestion_failures)" 0
stop_policyd
end $near_serve

# ---- an engine without a choice
by_rules dctcp "engine: lwip" | start_policyd
check "it is said beforehand" grep -q \
	'rule "to-first": congestion dctcp is not for stack "edge0": engine lwip has no choice' "$TMP/policyd.log"
talk near-serve run_managed web python3 "$TMP/talk.py" serve 0.0.0.0 7301
talk near-hold run_managed web python3 "$TMP/talk.py" hold $FAR4 7201
talk far-hold in_far python3 "$TMP/talk.py" hold $NEAR4 7301
for role in client server; do
	check "a $role is carried" equal \
		"$(flows ".stack == \"edge0\" and .role == \"$role\" and .state == \"established\"")" 1
done
check "both are counted" equal "$(counter congestion_failures)" 2
check "none is told" equal "$(used client 7201)$(used server 7301)" ""
finish
