#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# curl in the group, nginx on the far host: 20 MB down and up, IPv4 and IPv6.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx
setup "$@"
far_nginx
config | start_policyd
want=$(sum "$TMP/www/big")

for host in "$FAR4" "[$FAR6]"; do
	start_capture
	mark
	run_managed web curl -sS -m 60 -o "$TMP/got" "http://$host:8080/big" || true
	check "GET of 20 MB from $host" equal "$(sum "$TMP/got")" "$want"
	through_port "GET from $host came through the port" rx 20000000
	mark
	run_managed web curl -sS -m 60 -T "$TMP/www/big" "http://$host:8080/put/up" || true
	check "PUT of 20 MB to $host" equal "$(sum "$TMP/www/put/up" 2>/dev/null)" "$want"
	through_port "PUT to $host went through the port" tx 20000000
	rm -f "$TMP/got" "$TMP/www/put/up"

	who=$(run_managed web curl -sS -m 10 -w '%{local_ip} %{local_port} %{remote_ip}\n' \
		"http://$host:8080/who" || true)
	names=$(tail -n1 <<<"$who")
	check "$host: both ends know the same client" equal "$(head -n1 <<<"$who")" "${names% *}"
	check "$host: the client knows the server" equal "${names##* }" "$(tr -d '[]' <<<"$host")"
	many=0
	for _ in 1 2 3 4 5; do
		n=$(run_managed web curl -sS -m 20 "http://$host:8080/small?[1-40]" | wc -l)
		many=$((many + n))
	done
	check "$host: 200 requests with keep-alive" equal "$many" 200
	stop_capture
	ip=ip
	[ "$host" = "$FAR4" ] || ip=ip6
	src=$NEAR4
	[ $ip = ip ] || src=$NEAR6
	check "$host: the far host saw the client" \
		at_least "$(captured "$ip and src host $src and tcp dst port 8080")" 100
done
finish
