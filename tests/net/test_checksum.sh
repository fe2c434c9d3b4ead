#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checksums of what an instance sends over a veth are left to the kernel, which leaves them out: the
# far host sees the sum of the pseudo header. Where the device wants them they are there, whether the
# instance makes them or the kernel. And two instances, each of which gets what the other left out.
# shellcheck disable=SC2317 # functions are called by check
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx python3 tcpdump ethtool
setup "$@"
[ "$DMM_BASELINE" != 1 ] || skip_all "only with DMM"
[ "$(printf '%s\n' 6.11 "$(uname -r)" | sort -V | head -n 1)" = 6.11 ] ||
	skip_all "AF_XDP takes no metadata of sent frames before Linux 6.11"
far_nginx
for far in $FAR4 $FAR6; do
	spawn "udp-$far" in_far python3 "$here/udp.py" serve $far 7007
	wait_for grep -q serving "$TMP/udp-$far.log"
done
both() { config | sed 's/proto: tcp/proto: [tcp, udp]/'; }
says() { [ "$(grep -c 'checksums left to the kernel' "$TMP/policyd.log")" = "$1" ]; }

# datagram HOST BYTES: the far host has got as many, and answers what they add up to
cat >"$TMP/datagram.py" <<-'PYTHON'
	import hashlib, os, socket, sys
	s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
	s.settimeout(5)
	s.connect((sys.argv[1], 7007))
	data = b"sum " + os.urandom(int(sys.argv[2]) - 4)
	s.send(data)
	assert s.recv(100).decode() == f"{len(data)} {hashlib.sha256(data).hexdigest()}"
PYTHON
datagram() { run_managed web python3 "$TMP/datagram.py" "$@"; }
small_get() { run_managed web curl -sS -m 20 "http://$1:8080/small" | grep -q '^small$'; }
# left_out, made FILTER: packets from near whose checksum is not there, or right; of those captured whole
checksums() { tcpdump -r "$TMP/far.pcap" -vv -nn "(src $NEAR4 or src $NEAR6) and less 128 and $1" 2>/dev/null | grep -cE "$2" || true; }
left_out() { checksums "$1" '\(incorrect ->|\[bad udp cksum'; }
made() { checksums "$1" '\(correct\)|\[udp sum ok\]'; }
refused() { in_far nstat -asz TcpInCsumErrors UdpInCsumErrors Udp6InCsumErrors | awk '/Csum/ { n += $2 } END { print n + 0 }'; }

# exchange WHAT: some of everything, small and in several buffers
exchange() {
	local host
	mark
	start_capture
	for host in $FAR4 "[$FAR6]"; do check "$1: GET from $host" small_get "$host"; done
	for host in $FAR4 $FAR6; do
		check "$1: 50 bytes to $host" datagram $host 50
		check "$1: 8000 bytes to $host, in one frame" datagram $host 8000
		check "$1: 20000 bytes to $host, in fragments" datagram $host 20000
	done
	stop_capture
	check "$1: the far host refused none" equal "$(refused)" 0
}
# all_are WHAT MADE_OR_LEFT_OUT NEITHER
all_are() {
	local proto
	for proto in 'ip and tcp dst port 8080' 'ip6 and tcp dst port 8080' 'udp dst port 7007'; do
		check "$1: $proto" at_least "$("$2" "$proto")" 1
		check "$1: $proto: no others" equal "$("$3" "$proto")" 0
	done
}

ip -n "$NEAR" link set near0 mtu 9000
ip -n "$FAR" link set far0 mtu 9000
both | start_policyd
check "the log says it" says 1
exchange "left out"
all_are "left out" left_out made
check "left out: and counted" at_least "$(since port_transmit_partial_checksum)" 10

in_near ethtool -K near0 tx off >/dev/null
exchange "made by the kernel"
all_are "made by the kernel" made left_out
check "made by the kernel: left to it" at_least "$(since port_transmit_partial_checksum)" 10
stop_policyd

both | start_policyd
check "a device without: the log says nothing" says 0
exchange "made by the instance"
all_are "made by the instance" made left_out
check "made by the instance: none was left" equal "$(since port_transmit_partial_checksum)" 0
stop_policyd
in_near ethtool -K near0 tx on >/dev/null

# ---- two instances ----
far_dmm() { in_far env DMM_BPFFS="$DMM_BPFFS-far" DMM_RUN="$TMP/far" "$@"; }
far_up() { far_dmm "$DMM_POLICY" -j stack list | jq -e '.[] | select(.name == "edge0") | .up' >/dev/null; }
both | start_policyd
mkdir "$TMP/far"
config | sed "s|near0|far0|; s|$CGROUP/web|$CGROUP/far|" >"$TMP/far.yaml"
spawn far-policyd far_dmm "$DMM_POLICYD" -c "$TMP/far.yaml"
far_pid=$SPAWNED
wait_for far_up
nginx_config server "$TMP/www" "$FAR4:8081" "[$FAR6]:8081"
spawn server far_dmm "$DMM_RUN_PROGRAM" -g web -- nginx -c "$TMP/server.conf"
wait_for far_listens 8081
sleep 0.2
mark
for host in $FAR4 "[$FAR6]"; do
	check "two instances: GET of 20 MB from $host" equal \
		"$(run_managed web curl -sS -m 60 "http://$host:8081/big" | sum)" "$(sum "$TMP/www/big")"
	check "two instances: PUT of 20 MB to $host" run_managed web curl -sSf -m 60 -T "$TMP/www/big" "http://$host:8081/put/two"
	check "two instances: of the same bytes" equal "$(sum "$TMP/www/put/two")" "$(sum "$TMP/www/big")"
done
check "two instances: near left sums out" at_least "$(since port_transmit_partial_checksum)" 100
check "two instances: and got such" at_least "$(since port_receive_partial_checksum)" 100
check "two instances: it refused none" equal "$(since port_receive_bad_checksum)" 0
far_end() { far_dmm "$DMM_POLICY" -j stats | counter_of "$1"; }
check "two instances: the far one carried them" at_least "$(far_end connections_accepted)" 4
check "two instances: it left sums out" at_least "$(far_end port_transmit_partial_checksum)" 100
check "two instances: it refused none, too" equal "$(far_end port_receive_bad_checksum)" 0
end "$far_pid"
far_dmm "$DMM_POLICYD" --teardown >>"$TMP/teardown.log" 2>&1
finish
