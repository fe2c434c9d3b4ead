#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An engine that is a plug-in carries real programs: the example, with curl and nginx.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx cc
setup "$@"
export DMM_ENGINE_DIR=$TMP/engines DMM_ENGINE=stopwait
mkdir "$DMM_ENGINE_DIR"
cc -shared -fPIC -I"$root" -o "$DMM_ENGINE_DIR/stopwait.so" "$root/docs/examples/engine/stopwait.c"
config | start_policyd
check_dmm "the engine is the plug-in" grep -q "engine stopwait" "$TMP/policyd.log"
far_nginx
head -c 300000 /dev/urandom >"$TMP/www/file"
mkdir -p "$TMP/near-www"
cp "$TMP/www/file" "$TMP/near-www"
nginx_config near-nginx "$TMP/near-www" "$NEAR4:8081"
spawn near-nginx run_managed web nginx -c "$TMP/near-nginx.conf"
wait_for near_listens 8081
sleep 0.5
mark
for host in $FAR4 "[$FAR6]"; do
	run_managed web curl -sS -m 60 -o "$TMP/got" "http://$host:8080/file" || true
	check "download from $host" cmp -s "$TMP/got" "$TMP/www/file"
	rm -f "$TMP/www/put/file"
	run_managed web curl -sS -m 60 -o /dev/null -T "$TMP/www/file" "http://$host:8080/put/file" || true
	check "upload to $host" cmp -s "$TMP/www/put/file" "$TMP/www/file"
done
in_far curl -sS -m 60 -o "$TMP/far-got" "http://$NEAR4:8081/file" || true
check "download from near" cmp -s "$TMP/far-got" "$TMP/www/file"
check "refused" equal "$(run_managed web curl -sS -m 5 http://$FAR4:9 2>&1 | grep -c 'refused\|connect to')" 1
through_port "through the port" tx 900000
finish
