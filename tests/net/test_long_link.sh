#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The engine and the kernel's TCP at the two ends of a long link that loses, overtakes, duplicates and
# corrupts: every byte arrives, in both directions, whoever calls. The rates are told, not judged.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx ethtool
IMPAIR=$(program impair)
MID=dmm-mid-$ID
SIZE=${SIZE:-2000000}

# near0 and far0 end in a third host, which has no addresses; a program carries the frames.
link_hosts() {
	local ns
	ip netns add "$MID"
	ip netns exec "$MID" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
	ip link add near0 netns "$NEAR" type veth peer name mid0 netns "$MID"
	ip link add far0 netns "$FAR" type veth peer name mid1 netns "$MID"
	in_near ethtool -K near0 tx off tso off gso off >/dev/null
	# without probing the kernel has no way out of a black hole
	for ns in "$NEAR" "$FAR"; do
		ip netns exec "$ns" sysctl -qw net.ipv4.tcp_mtu_probing=1 net.ipv4.tcp_no_metrics_save=1
	done
	in_far ethtool -K far0 tx off tso off gso off >/dev/null
	ip -n "$MID" link set mid0 up
	ip -n "$MID" link set mid1 up
	impair
}
impair() { # impair OPTION...: the link is like this from now on
	[ -z "${IMPAIR_PID:-}" ] || end "$IMPAIR_PID"
	spawn impair nsenter --net="/run/netns/$MID" -- "$IMPAIR" mid0 mid1 "$@"
	IMPAIR_PID=$SPAWNED
	wait_for grep -q ready "$TMP/impair.log"
}

# timed TEXT FILE EXPECTED COMMAND...: what the command writes to FILE is EXPECTED
timed() {
	local text=$1 file=$2 expected=$3 begun
	shift 3
	rm -f "$file"
	begun=$(date +%s%N)
	"$@" || true
	echo "# $text: $((SIZE * 8000 / ($(date +%s%N) - begun))) Mbit/s"
	check "$text" cmp -s "$file" "$expected"
}
both_ways() { # both_ways TEXT: download, upload; managed client, then managed server
	local host
	for host in $FAR4 "[$FAR6]"; do
		timed "$1: from $host" "$TMP/got" "$TMP/www/file" \
			run_managed web curl -sS -m 120 -o "$TMP/got" "http://$host:8080/file"
		timed "$1: to $host" "$TMP/www/put/file" "$TMP/www/file" \
			run_managed web curl -sS -m 120 -o /dev/null -T "$TMP/www/file" "http://$host:8080/put/file"
	done
	timed "$1: from near" "$TMP/got" "$TMP/near-www/file" \
		in_far curl -sS -m 120 -o "$TMP/got" "http://$NEAR4:8081/file"
	timed "$1: to near" "$TMP/near-www/put/file" "$TMP/www/file" \
		in_far curl -sS -m 120 -o /dev/null -T "$TMP/www/file" "http://$NEAR4:8081/put/file"
}

setup "$@"
# the kernel with CUBIC whatever its default is, for those who compare
for host in "$NEAR near0 $NEAR4" "$FAR far0 $FAR4"; do
	read -r ns dev ip <<<"$host"
	ip -n "$ns" route replace 10.55.0.0/24 dev "$dev" proto kernel scope link src "$ip" congctl cubic
	ip -n "$ns" -6 route replace fd55::/64 dev "$dev" proto kernel metric 256 congctl cubic
done
config | start_policyd
far_nginx
nginx_config near-nginx "$TMP/near-www" "$NEAR4:8081"
head -c "$SIZE" /dev/urandom >"$TMP/www/file"
cp "$TMP/www/file" "$TMP/near-www/file"
spawn near-nginx run_managed web nginx -c "$TMP/near-nginx.conf"
wait_for near_listens 8081
sleep 0.5
mark
while read -r text options; do
	# shellcheck disable=SC2086
	impair delay=10 rate=100 $options
	both_ways "$text"
done <<-END
	${CASES:-long
	all loss=10 reorder=20 duplicate=10 corrupt=5
	narrow mtu=1400}
END
through_port "through the port" tx $((9 * SIZE))
finish
