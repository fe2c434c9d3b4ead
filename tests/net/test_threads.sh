#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An instance of several threads, each with queues, flows and an engine of its own: whatever comes on
# whichever queue reaches the thread that has the flow, and all of them have some.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx python3
QUEUES=4
setup "$@"
[ "$DMM_BASELINE" != 1 ] || skip_all "there are no threads in the baseline"
far_nginx
nginx_config near-nginx "$TMP/www" "$NEAR4:8081" "[$NEAR6]:8081"
spawn udp-echo in_far python3 "$here/udp.py" serve $FAR4 7007
want=$(sum "$TMP/www/big")

threads() { # threads NUMBER MODE [STACK OPTION]: the configuration
	config | sed "s/engine: $DMM_ENGINE,/& threads: $1,/; s/driver: $DMM_DRIVER/&, mode: $2/; s/, proto: tcp//"
}
big() { # big DIRECTORY URL: 8 downloads at a time; how many are right
	local args=() i
	mkdir -p "$1"
	rm -f "$1"/*
	for i in $(seq 8); do args+=(-o "$1/$i" "$2"); done
	curl -sS --no-progress-meter -m 60 -Z --parallel-immediate "${args[@]}" || true
	sha256sum "$1"/* | grep -c "^$want" || true
}
uploads() { # 8 uploads at a time; how many are right
	local pids=() i
	rm -rf "$TMP/www/put"
	for i in $(seq 8); do
		curl -sS -m 60 -T "$TMP/www/big" "http://$FAR4:8080/put/$i" &
		pids+=($!)
	done
	wait "${pids[@]}" || true
	sha256sum "$TMP/www/put/"* | grep -c "^$want" || true
}
udp() { # 40 connected sockets at a time, whose datagrams come back; how many are right
	python3 - "$FAR4" <<-'PY'
		import socket, sys
		socks = []
		for i in range(40):
		    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		    s.settimeout(5)
		    s.connect((sys.argv[1], 7007))
		    socks.append(s)
		right = 0
		for turn in range(5):
		    for i, s in enumerate(socks):
		        s.send(b"hello %d %d" % (turn, i))
		    for i, s in enumerate(socks):
		        right += s.recv(100) == b"hello %d %d" % (turn, i)
		print(right)
	PY
}
twins() { # 8 times two sockets of the same two ends: how often one gets all, and then the other
	python3 - "$NEAR4" "$FAR4" <<-'PY'
		import select, socket, sys, time
		def dial(port):
		    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
		    s.bind((sys.argv[1], port))
		    s.connect((sys.argv[2], 7007))
		    return s
		def answered(socks):
		    for _ in range(50):
		        socks[0].send(b"hello")
		        ready = select.select(socks, [], [], 0.1)[0]
		        if ready:
		            return ready[0]
		right = 0
		pairs = [[dial(port), dial(port)] for port in range(20200, 20208)]
		time.sleep(0.5)  # until their threads know them
		for pair in pairs:
		    one = answered(pair)
		    pair.remove(one)
		    one.close()
		for pair in pairs:
		    right += answered(pair) is pair[0]
		print(right)
	PY
}
export -f small big uploads udp twins
export want TMP NEAR4 FAR4

# each COUNTER: of every thread, since the mark, the least of them
each() {
	policy -j stats | jq -r --arg n "$1" --slurpfile before "$TMP/mark.json" '
		[.instances.edge0.threads | to_entries[] |
		 .value[$n] - ($before[0].instances.edge0.threads[.key][$n] // 0)] | min'
}
running() { stack_field edge0 .instance.threads; }
new_instance() { stack_up && [ "$(instance_pid)" != "$1" ]; }

traffic() { # traffic TEXT
	mark
	check "$1: 60 connections" equal "$(run_managed web bash -c \
		"small http://$FAR4:8080/small http://[$FAR6]:8080/small")" 60
	check "$1: 8 downloads" equal "$(run_managed web bash -c "big $TMP/got http://$FAR4:8080/big")" 8
	check "$1: 8 uploads" equal "$(run_managed web bash -c uploads)" 8
	check "$1: the instance carried them" at_least "$(since connections_established)" 76
	check "$1: every thread some" at_least "$(each connections_established)" 5
	mark
	check "$1: 60 connections to a server" equal \
		"$(in_far bash -c "small http://$NEAR4:8081/small http://[$NEAR6]:8081/small")" 60
	check "$1: 8 downloads from it" equal "$(in_far bash -c "big $TMP/got http://$NEAR4:8081/big")" 8
	check "$1: the instance accepted them" at_least "$(since connections_accepted)" 68
	check "$1: every thread some" at_least "$(each connections_accepted)" 5
	check "$1: UDP, 200 datagrams" equal "$(run_managed web bash -c udp)" 200
	check "$1: the instance carried them" at_least "$(since udp_flows)" 40
	check "$1: every thread some" at_least "$(each udp_flows)" 5
	mark
	check "$1: UDP sockets whose twin is closed go on" equal "$(run_managed web bash -c twins)" 8
	check "$1: they and their twins were of several threads" at_least "$(each udp_flows)" 5
	for _ in $(seq 8); do unreachable; done | sort -u >"$TMP/unreachable"
	check "$1: ICMP errors reach the thread of the flow" equal "$(cat "$TMP/unreachable")" EHOSTUNREACH
	check "$1: nothing was too long" equal "$(counter xdp_drop_too_long)" 0
	[ $DMM_DRIVER = dpdk ] || check "$1: nothing found the ring full" equal "$(counter xdp_drop_ring_full)" 0
}
unreachable() { run_managed web timeout 10 "$HAZARD" connect 10.66.0.1 80 | grep -o "E[A-Z]*"; }

for how in tc native; do
	threads 2 $how | start_policyd
	spawn near-nginx run_managed web nginx -c "$TMP/near-nginx.conf"
	nginx=$SPAWNED
	wait_for near_listens 8081
	check "$how: two threads" equal "$(running)" 2
	traffic "$how"
	if [ $how = tc ]; then
		check "$how: queues do not matter" equal "$(counter xdp_wrong_queue)" 0
	else
		check "$how: what came on another thread's queue was delivered" at_least "$(counter xdp_wrong_queue)" 1
	fi
	stop_policyd
	end "$nginx"
done

# A thread that stands still, by a tracer, as a signal would stop all of them.
threads 2 tc | start_policyd
pid=$(instance_pid)
end "$POLICYD_PID" # it would replace the instance
spawn freeze in_near python3 "$here/freeze.py" "$pid" dmm-stackd/1
wait_for grep -q frozen "$TMP/freeze.log"
hung() { [ "$(stack_field edge0 .instance.threads_hung)" = "$1" ]; }
check "the others see that a thread hangs" wait_for hung 1
mark
check "and serve what would be its" equal "$(run_managed web bash -c "small http://$FAR4:8080/small")" 60
check "through the instance" at_least "$(since connections_established)" 60
end "$SPAWNED"
check "it goes on" wait_for hung 0
spawn freeze in_near python3 "$here/freeze.py" "$pid" dmm-stackd/1
launch_policyd
check "a daemon replaces an instance of which a thread hangs" wait_for new_instance "$pid"
check "with as many threads" equal "$(running)" 2
mark
check "which works" equal "$(run_managed web bash -c "small http://$FAR4:8080/small")" 60
check "by all of them" at_least "$(each connections_established)" 10
pid=$(instance_pid)
kill -9 "$pid"
check "one that is killed is replaced" wait_for new_instance "$pid"
mark
check "and works" equal "$(run_managed web bash -c "small http://$FAR4:8080/small")" 60
check "by all of its threads" at_least "$(each connections_established)" 10
stop_policyd

# More threads than queues.
threads 8 auto | start_policyd
check "as many threads as there are queues" equal "$(running)" 4
check "and the log says so" grep -q 'near0 has 4 receive and 4 transmit queues: 4 of 8 threads' "$TMP/policyd.log"
check "60 connections" equal "$(run_managed web bash -c "small http://$FAR4:8080/small")" 60
stop_policyd
finish
