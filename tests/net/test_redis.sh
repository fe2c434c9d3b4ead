#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# redis-benchmark in the group against redis-server on the far host, and the other way round.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need redis-server redis-benchmark redis-cli
setup "$@"
config | start_policyd
redis=(redis-server --port 6399 --save '' --appendonly no --protected-mode no --dir "$TMP")

bench() { # bench TEXT OPTION...: 3 rows of CSV, each with a rate
	local text=$1
	shift
	"$@" -p 6399 --csv -t ping_mbulk,set,get >"$TMP/csv" 2>"$TMP/bench.err" || true
	sed 's/^/# /' "$TMP/csv" "$TMP/bench.err"
	check "$text" equal "$(grep -cE '^"(PING_MBULK|SET|GET)","[1-9]' "$TMP/csv")" 3
}

spawn far-redis in_far "${redis[@]}" --bind "$FAR4" "$FAR6"
far_redis=$SPAWNED
wait_for far_listens 6399
start_capture
mark
bench "50 clients" run_managed web timeout 60 redis-benchmark -h $FAR4 -n 20000 -c 50
bench "10 kB values" run_managed web timeout 60 redis-benchmark -h $FAR6 -n 2000 -c 20 -d 10000
bench "pipelines of 16" run_managed web timeout 60 redis-benchmark -h $FAR4 -n 50000 -c 10 -P 16
through_port "values went out through the port" tx 20000000
through_port "values came in through the port" rx 20000000
stop_capture
check "the far host saw the clients" at_least "$(captured 'tcp dst port 6399')" 1000
end "$far_redis"

spawn near-redis run_managed web "${redis[@]}" --bind 0.0.0.0 '::'
wait_for near_listens 6399
through_instance() {
	mark
	in_far redis-cli -h $NEAR4 -p 6399 ping | grep -q PONG
	[ "$DMM_BASELINE" = 1 ] || [ "$(since connections_accepted)" -ge 1 ]
}
check "a client comes in" wait_for through_instance
mark
bench "server: 50 clients" in_far timeout 60 redis-benchmark -h $NEAR4 -n 20000 -c 50
bench "server: 10 kB values" in_far timeout 60 redis-benchmark -h $NEAR6 -n 2000 -c 20 -d 10000
through_port "server: values went out through the port" tx 20000000
through_port "server: values came in through the port" rx 20000000
finish
