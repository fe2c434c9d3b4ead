#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A path whose routers take less than a TCP is ready to believe (552 bytes): they cut what it sends.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx
setup "$@"
MID=dmm-mid-$ID
HOST=10.88.0.2
in_mid() { ${SPAWN:-} nsenter --net="/run/netns/$MID" -- "$@"; }
mid_listens() { in_mid ss -Hltn "sport = :8080" | grep -q .; }

# far is the router to a host behind a link of 400 bytes
ip netns add "$MID"
ip link add hop0 netns "$FAR" type veth peer name mid0 netns "$MID"
ip -n "$FAR" addr add 10.88.0.1/24 dev hop0
ip -n "$MID" addr add $HOST/24 dev mid0
ip -n "$FAR" link set hop0 mtu 400 up
ip -n "$MID" link set mid0 up
ip -n "$MID" route add default via 10.88.0.1
ip -n "$NEAR" route add 10.88.0.0/24 via $FAR4
nginx_config mid "$TMP/www" $HOST:8080
head -c 1000000 /dev/urandom >"$TMP/www/big"
spawn mid in_mid nginx -c "$TMP/mid.conf"
wait_for mid_listens

config | start_policyd
spawn tcpdump in_mid tcpdump -i mid0 -Z root -s 64 -B 16384 -w "$TMP/mid.pcap" 'ip[6:2] & 0x3fff = 0x2000'
CAPTURE_PID=$SPAWNED
wait_for grep -q 'listening on' "$TMP/tcpdump.log"
mark
run_managed web curl -sS -m 20 -T "$TMP/www/big" "http://$HOST:8080/put/up" || true
check "PUT through a link of 400 bytes" equal "$(sum "$TMP/www/put/up" 2>/dev/null)" "$(sum "$TMP/www/big")"
through_port "it went through the port" tx 1000000
stop_capture
ids=$(tcpdump -r "$TMP/mid.pcap" -nnv 2>/dev/null | grep -o ' id [0-9]*')
check "segments were cut on the way" at_least "$(wc -l <<<"$ids")" 1000
check "each had an ID of its own" equal "$(sort -u <<<"$ids" | wc -l)" "$(wc -l <<<"$ids")"
run_managed web curl -sS -m 20 -o "$TMP/got" "http://$HOST:8080/big" || true
check "GET" equal "$(sum "$TMP/got" 2>/dev/null)" "$(sum "$TMP/www/big")"
finish
