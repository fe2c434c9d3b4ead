#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The engine and the kernel's TCP at the two ends of a long link that loses, overtakes, duplicates and
# corrupts: every byte arrives, in both directions, whoever calls, and with options that the kernel's end
# does without. The rates are told, not judged.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/net/long_link.sh
. "$here/long_link.sh"
need nginx ethtool
SIZE=${SIZE:-2000000}

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
kernel_cubic
config | start_policyd
far_nginx
nginx_config near-nginx "$TMP/near-www" "$NEAR4:8081"
head -c "$SIZE" /dev/urandom >"$TMP/www/file"
cp "$TMP/www/file" "$TMP/near-www/file"
spawn near-nginx run_managed web nginx -c "$TMP/near-nginx.conf"
wait_for near_listens 8081
sleep 0.5
mark
# far_tcp WORD...: settings of the far host's TCP, as sack=0; those that are not named are as usual
far_tcp() {
	in_far sysctl -qw net.ipv4.tcp_sack=1 net.ipv4.tcp_dsack=1 net.ipv4.tcp_timestamps=1 \
		net.ipv4.tcp_window_scaling=1 net.ipv4.tcp_ecn=2 "${@/#/net.ipv4.tcp_}"
}
# text, what the link is like, what the far host's TCP is like
while IFS=, read -r text options tcp; do
	# shellcheck disable=SC2086
	impair delay=10 rate=100 $options
	# shellcheck disable=SC2086
	far_tcp $tcp
	both_ways "$text"
done <<-END
	${CASES:-long
	all,loss=10 reorder=20 duplicate=10 corrupt=5
	narrow,mtu=1400
	no SACK,loss=10 reorder=20 duplicate=10,sack=0
	no timestamps,loss=10 reorder=20,timestamps=0
	no options,loss=10 reorder=20,sack=0 timestamps=0 window_scaling=0
	ECN,loss=10,ecn=1}
END
through_port "through the port" tx $((3 * SIZE))
finish
