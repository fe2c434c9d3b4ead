#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A statically linked Go program: no libc, no dynamic loader, nothing to preload into. kubectl is one
# (package kubernetes-client) and fetches any URL of a plain HTTP server. $DMM_STATIC_GO: another
# kubectl.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx readelf
go=${DMM_STATIC_GO:-$(command -v kubectl || true)}
[ -n "$go" ] || skip_all "needs kubectl (package kubernetes-client)"
if readelf -lW "$go" | grep -q INTERP || ! readelf -SW "$go" | grep -q go.buildinfo; then
	skip_all "$go is not a statically linked Go program"
fi
setup "$@"
far_nginx
config | start_policyd
echo "# $(readlink -f "$go")"

fetch() { # fetch HOST PATH FILE
	run_managed web env HOME="$TMP" KUBECONFIG=/dev/null timeout 60 \
		"$go" get --raw "$2" --server "http://$1:8080" >"$3" 2>"$TMP/go.err" ||
		sed 's/^/# /' "$TMP/go.err"
}
start_capture
for host in "$FAR4" "[$FAR6]"; do
	mark
	fetch "$host" /big "$TMP/got"
	check "GET of 20 MB from $host" equal "$(sum "$TMP/got")" "$(sum "$TMP/www/big")"
	through_port "it came through the port" rx 20000000
	if [ "$DMM_BASELINE" != 1 ]; then
		check "by connections of the instance" at_least "$(since connections_established)" 1
	fi
	fetch "$host" /who "$TMP/got"
	near=$NEAR4
	[ "$host" = "$FAR4" ] || near=$NEAR6
	check "$host: the server sees $near" equal "$(cut -d' ' -f1 "$TMP/got")" "$near"
done
stop_capture
check "the far host saw the client" at_least "$(captured 'tcp dst port 8080')" 20
finish
