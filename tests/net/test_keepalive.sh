#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SO_KEEPALIVE of applications, connecting and accepting: it asks the far host, and not the instance.
# While that answers nothing happens; when it has vanished the application is told, as over the kernel's
# stack, after as many questions as it wanted.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need python3
setup "$@"
config | start_policyd

# keepalive.py connect|accept|hold HOST PORT [THEN]: with keepalive (but hold), one connection, and THEN half: it sends
# FIN first; class: it has a type of service; options: of IP. Says what ended it.
cat >"$TMP/keepalive.py" <<'PY'
import errno, socket, sys, time
how, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
if how == "connect":
    s.connect((host, port))
else:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    s.listen()
    print("listening", flush=True)
    s = s.accept()[0]
if how != "hold":
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
s.sendall(b"hello")
assert s.recv(5, socket.MSG_WAITALL) == b"hello"
then = sys.argv[4] if len(sys.argv) > 4 else ""
if then == "half":
    s.shutdown(socket.SHUT_WR)
elif then == "class":
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0xb8)
    s.sendall(b"again")
elif then == "options" and ":" in host:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, bytes([0, 0, 1, 4, 0, 0, 0, 0]))
elif then == "options":
    s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\1\1\1\0")
print("ready", flush=True)
try:
    while data := s.recv(100):
        print("got", data, flush=True)
    print("eof", flush=True)
except OSError as e:
    print(errno.errorcode[e.errno], flush=True)
time.sleep(100)
PY
py=$TMP/keepalive.py

flows=()
both() { # both NAME HOW ADDRESS PORT THEN COMMAND...: one that has keepalive, and its peer in the far host, or of it
	local name=$1 how=$2 address=$3 port=$4 then=$5
	shift 5
	if [ "$how" = connect ]; then
		spawn "$name-far" in_far python3 "$py" hold "$address" "$port"
		wait_for grep -q listening "$TMP/$name-far.log"
		# shellcheck disable=SC2086
		spawn "$name" "$@" python3 "$py" connect "$address" "$port" $then
	else
		# shellcheck disable=SC2086
		spawn "$name" "$@" python3 "$py" accept "$address" "$port" $then
		wait_for grep -q listening "$TMP/$name.log"
		spawn "$name-far" in_far python3 -c "
import socket, time
s = socket.create_connection(('$address', $port))
s.sendall(b'hello')
s.recv(100)
time.sleep(100)"
	fi
	wait_for grep -q ready "$TMP/$name.log"
	flows+=("$name")
}
both kernel connect $FAR4 7001 "" in_near
both kernel-accept accept $NEAR4 7002 "" in_near
mark
both connect4 connect $FAR4 7003 "" run_managed web
both connect6 connect $FAR6 7004 "" run_managed web
both accept4 accept $NEAR4 7005 "" run_managed web
both accept6 accept $NEAR6 7006 "" run_managed web
both half connect $FAR4 7007 half run_managed web
check_dmm "they are carried" equal "$(since connections_established)-$(since connections_accepted)" 3-2
both class connect $FAR6 7008 class run_managed web
ended=("${flows[@]}")
both options4 connect $FAR4 7009 options run_managed web
both options6 connect $FAR6 7010 options run_managed web

# ---- the far host answers ----
start_capture
sleep 5
stop_capture
for name in "${flows[@]}"; do
	check "$name: goes on" equal "$(tail -n1 "$TMP/$name.log")" ready
done
for port in 7001 7003 7007; do
	check "it is asked, port $port" at_least "$(captured "tcp dst port $port")" 3
done
check "it is asked, port 7005" at_least "$(captured "tcp src port 7005")" 3
check_dmm "that is counted" at_least "$(since keepalives)" 15
class=$(captured "ip6 dst $FAR6 and tcp dst port 7008 and ip6[0:2] & 0xff0 = 0xb80")
check "its type of service stays" equal "$class" "$(captured "ip6 dst $FAR6 and tcp dst port 7008")"
check "and it is asked" at_least "$class" 3

# ---- the flags of ECN tell the number of marks, with AccECN (RFC 9768), in every segment ----
if command -v nft >/dev/null; then
	in_near nft -f - <<-'NFT'
		table inet accurate {
			chain out {
				type filter hook output priority mangle
				oif lo tcp flags == ack tcp flags set ack | ecn | cwr
			}
		}
	NFT
	mark
	sleep 4
	check_dmm "those with flags of ECN are asked, too" at_least "$(since keepalives)" 12
	in_near nft delete table inet accurate
else
	skip "those with flags of ECN are asked, too: needs nft"
fi

# ---- it is gone ----
ip -n "$FAR" route add blackhole $NEAR4/32
ip -n "$FAR" route add blackhole $NEAR6/128
for name in "${ended[@]}"; do
	check "$name: the far host has vanished" wait_for grep -qx ETIMEDOUT "$TMP/$name.log"
done
check_dmm "their flows have ended" wait_for eval '[ "$(since connections_closed)" = 6 ]'
finish
