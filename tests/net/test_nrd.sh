#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A rule that leaves its stack to nRD: new connections leave a stack that fails, and come back when
# it works again; what was chosen lies in the maps while no daemon runs, and the next one goes on.
# shellcheck disable=SC2317 # functions are called by check
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx python3
[ "$DMM_BASELINE" != 1 ] || skip_all "only with DMM"
setup "$@"
far_nginx
start_policyd <<-YAML
	groups:
	  web: {cgroup: $CGROUP/web}
	stacks:
	  edge0: {engine: $DMM_ENGINE, port: {driver: xsk, interface: near0}}
	  bulk: {kind: kernel, mark: 7}
	rules:
	  - name: looked-at
	    match: {group: web, proto: tcp, remote_port: 8081}
	    use: [edge0, kernel]
	    telemetry: true
	  - name: cdn
	    match: {group: web, proto: tcp}
	    use: {auto: [bulk, edge0], objective: cost, dwell: 1s, cooldown: 10m, canary: 50%}
	default: kernel
YAML

# what has mark 7 goes nowhere, or where it should
ip -n "$NEAR" link add void0 type veth peer name void1
ip -n "$NEAR" link set void0 up
ip -n "$NEAR" link set void1 up
ip -n "$NEAR" neigh add "$FAR4" lladdr 02:00:00:00:00:09 dev void0
ip -n "$NEAR" route add "$FAR4/32" dev void0 src $NEAR4 table 7
break_bulk() { ip -n "$NEAR" rule add fwmark 7 table 7; }
mend_bulk() { ip -n "$NEAR" rule del fwmark 7 table 7; }

cat >"$TMP/load.py" <<'PY'
import socket, sys, threading
works = [0] * 16
def run(i):
    for _ in range(int(sys.argv[3])):
        try:
            s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1.2)
            s.sendall(b"GET /small HTTP/1.0\r\n\r\n")
            while s.recv(65536):
                pass
            s.close()
            works[i] += 1
        except OSError:
            pass
threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
for t in threads: t.start()
for t in threads: t.join()
print(sum(works))
PY
jq_says() { jq -e "$@" >/dev/null; }
refused() { ! "$@" 2>/dev/null; }
load() { run_managed web python3 "$TMP/load.py" $FAR4 8080 "$1"; }
said() { grep -q "nrd: cdn.*: $1" "$TMP/policyd.log"; }
load_until() { # load_until TEXT: connections, until nRD has said it, or a minute has passed
	for _ in $(seq 60); do
		said "$1" && return
		load 10 >"$TMP/works"
		sleep 0.3
	done
	tail -n5 "$TMP/policyd.log" | sed 's/^/# /'
	return 1
}

sleep 1.2 # a turn of nRD
before=$(verdicts bulk nrd)
check "at first all connections work" equal "$(load 2)" 32
check "on one of the two stacks, as nRD says" at_least "$(($(verdicts bulk nrd) + $(verdicts edge0 nrd)))" \
	$((before + 32))

break_bulk
check "a stack that fails is left" load_until 'escape edge0 in place of bulk: all-fail'
sleep 1.2
before=$(verdicts edge0 nrd)
check "then all connections work" equal "$(load 2)" 32
check "on the other stack" at_least "$(($(verdicts edge0 nrd) - before))" 32

kill -9 "$POLICYD_PID"
wait "$POLICYD_PID" 2>/dev/null || true
check "also while no daemon runs" equal "$(load 2)" 32
mend_bulk
launch_policyd
kept() { policy -j nrd history | jq -e '.decisions | any(.action == "escape" and .to == "edge0")'; }
check "the next one knows what was decided, though the first was killed" wait_for kept
check "and why" jq_says '.choices[0] | .in_use == "edge0" and .last.to == "edge0"' \
	<<<"$(policy -j nrd why cdn $FAR4)"
check "and that the stack which failed is not tried now" eval "policy nrd why cdn $FAR4 | grep -q 'bulk: .*not tried for'"
end "$POLICYD_PID"
rm "$DMM_RUN"/nrd-*.state
launch_policyd # which knows no more that the stack failed, and looks at it anew
check "the next one goes on with it" load_until 'try bulk beside edge0'
check "the first stack comes back when it works" load_until 'take bulk in place of edge0'

policy nrd why cdn $FAR4 | sed 's/^/# /'
check "nrd why tells the stack in use, and what is known of both" jq_says '.choices[0] |
	.in_use == "bulk" and (.stacks | length) == 2 and .last.rule == "cdn"' <<<"$(policy -j nrd why cdn $FAR4)"
check "nrd history has the decision" jq_says '.decisions | any(.action == "take" and .to == "bulk")' \
	<<<"$(policy -j nrd history)"
metrics() { curl -sS --unix-socket "$DMM_RUN/policyd.sock" http://dmm/metrics; }
taken() { metrics | sed -n 's/^dmm_nrd_decisions_total{rule="cdn",outcome="take"} //p'; }
check "metrics count the decisions" at_least "$(taken)" 1
check "and the samples" at_least "$(metrics | sed -n 's/^dmm_nrd_samples_total //p')" 100
sum_of() { metrics | sed -n "s/^$1 //p" | awk '{ n += $1 } END { print n + 0 }'; }
check "and how long connects took" at_least "$(sum_of 'dmm_connect_duration_seconds_count{stack="edge0"}')" 10
check "and how many failed" at_least "$(sum_of 'dmm_connect_failures_total{stack="bulk",failure="[a-z]*"}')" 1
counted() { sum_of 'dmm_rtt_seconds_count{stack="edge0"}'; }
if [ "$DMM_ENGINE" = native ]; then # lwip does not know them
	check "and the round trips of the engine's connections" at_least "$(counted)" 10
	check "and what was sent again, by stacks of both kinds" equal \
		"$(metrics | grep -c '^dmm_retransmits_total{stack="\(edge0\|bulk\)"}')" 2
	check "so that round trips are compared" jq_says '.decisions | any(.action == "take" and
		([.before, .after] | all(.measured == "round trips")))' <<<"$(policy -j nrd history)"
fi
for host in $FAR4 $FAR4 127.0.0.1; do run_managed web "$HAZARD" connect $host 8081 >/dev/null; done
check "the stacks of a rule that is only measured are counted" equal "$(metrics | grep '^dmm_rule_steered_total{rule="looked-at"' |
	sort | tr '\n' ' ')" 'dmm_rule_steered_total{rule="looked-at",stack="edge0"} 2 dmm_rule_steered_total{rule="looked-at",stack="kernel"} 1 '
check "as is which stack gave way to which" equal "$(sum_of 'dmm_fallbacks_total{from="edge0",to="kernel",reason="no-route"}')" 1
link_of() { metrics | sed -n 's/^dmm_link_up{stack="edge0"} //p'; }
check "metrics tell that the link is up" equal "$(link_of)" 1
ip -n "$FAR" link set far0 down
no_carrier() { [ "$(link_of)" = 0 ]; } # the kernel tells a moment later
check "and that it has no carrier" wait_for no_carrier
ip -n "$FAR" link set far0 up
check "nRD has no decisions of it" refused policy nrd why looked-at
check "no other rule is auto" refused policy nrd why web
finish
