#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# nginx in the group, wrk and curl on the far host.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx wrk
setup "$@"
config | start_policyd
nginx_config near-nginx "$TMP/www" "0.0.0.0:8081" "[::]:8081 ipv6only=on"
head -c 20000000 /dev/urandom >"$TMP/www/big"
head -c 1000 /dev/urandom >"$TMP/www/small"
spawn near-nginx run_managed web nginx -c "$TMP/near-nginx.conf"
wait_for near_listens 8081

through_instance() { # until the listener is announced, the kernel serves
	mark
	in_far curl -sS -m 5 -o /dev/null "http://$NEAR4:8081/small"
	[ "$DMM_BASELINE" = 1 ] || [ "$(since connections_accepted)" -ge 1 ]
}
check "a request comes in" wait_for through_instance
start_capture
for host in "$NEAR4" "[$NEAR6]"; do
	mark
	in_far curl -sS -m 60 -o "$TMP/got" "http://$host:8081/big" || true
	check "GET of 20 MB from $host" equal "$(sum "$TMP/got")" "$(sum "$TMP/www/big")"
	through_port "it went through the port" tx 20000000
	mark
	in_far curl -sS -m 60 -T "$TMP/www/big" "http://$host:8081/put/up" || true
	check "PUT of 20 MB to $host" equal "$(sum "$TMP/www/put/up" 2>/dev/null)" \
		"$(sum "$TMP/www/big")"
	through_port "it came through the port" rx 20000000
	who=$(in_far curl -sS -m 10 -w '%{local_ip} %{local_port}\n' "http://$host:8081/who" || true)
	check "$host: nginx knows its client" equal "$(head -n1 <<<"$who")" "$(tail -n1 <<<"$who")"
	rm -f "$TMP/got" "$TMP/www/put/up"
done
stop_capture
check "the far host saw the server" at_least "$(captured "tcp src port 8081")" 100

mark
in_far timeout 60 wrk -t 2 -c 300 -d 5 --timeout 10 "http://$NEAR4:8081/small" >"$TMP/wrk" || true
sed 's/^/# /' "$TMP/wrk"
check "wrk finished requests" at_least \
	"$(sed -nE 's/^ *([0-9]+) requests in.*/\1/p' "$TMP/wrk")" 1000
check "wrk saw no error" equal "$(grep -cE 'Socket errors|Non-2xx' "$TMP/wrk")" 0
through_port "responses went through the port" tx 1000000
if [ "$DMM_BASELINE" != 1 ]; then
	check "300 connections were the instance's" at_least "$(since connections_accepted)" 300
fi
check "its log has the clients' address" grep -q "^$FAR4 .*small" "$TMP/near-nginx/access.log"
finish
