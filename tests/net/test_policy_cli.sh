#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# dmm-policy against a real kernel, without a daemon: each verb, what is refused, several writers at
# once, what is shown is what is taken, nothing is left. A tree and a cgroup of its own.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DMM_BUILD=${DMM_BUILD:-$here/../../build}
export DMM_BPFFS=/sys/fs/bpf/dmm-cli$$
policy=$DMM_BUILD/policyd/dmm-policy
[ "$(id -u)" = 0 ] || { echo "SKIP: needs root"; exit 77; }
command -v jq >/dev/null || { echo "SKIP: needs jq"; exit 77; }
grep -q ' cgroup2 ' /proc/mounts || { echo "SKIP: no cgroup2 mount"; exit 77; }
TMP=$(mktemp -d)
export DMM_RUN=$TMP/run DMM_SOCKET=$TMP/none.sock
failed=0
# shellcheck disable=SC2317 # called by the trap
cleanup() {
	[ -z "${listener_PID:-}" ] || kill "$listener_PID" 2>/dev/null || true
	"$policy" detach --force >/dev/null 2>&1 || true
	rm -rf "$TMP"
}
trap cleanup EXIT

# says STATUS PATTERN ARGUMENT...: dmm-policy ends so and its output has a line like that
says() {
	local want=$1 pattern=$2 r=0
	shift 2
	"$policy" "$@" >"$TMP/out" 2>&1 || r=$?
	if [ $r = "$want" ] && grep -qE -- "$pattern" "$TMP/out"; then
		echo "ok - dmm-policy $*"
	else
		failed=1
		echo "not ok - dmm-policy $*: exit $r (expected $want), no line like: $pattern"
		sed 's/^/# /' "$TMP/out"
	fi
}
# holds FILTER ARGUMENT...: the JSON of dmm-policy -j passes the filter
holds() {
	local filter=$1
	shift
	if "$policy" -j "$@" | jq -e "$filter" >/dev/null; then
		echo "ok - $* | $filter"
	else
		failed=1
		echo "not ok - $* | $filter"
		"$policy" -p "$@" | sed 's/^/# /'
	fi
}

cat >"$TMP/a.yaml" <<Y
groups: {web: {cgroup: dmm-cli$$/web}}
stacks:
  edge0: {engine: lwip, port: {interface: dmm-no-such}}
  bulk: {kind: kernel, congestion: cubic, pacing: 1gbit}
rules:
  - {name: local, match: {group: web, remote: 127.0.0.0/8}, use: [bulk, kernel]}
  - {name: no-telnet, match: {remote_port: 23}, use: reject}
Y
sed 's/local,/lokal,/; s/group: web, remote/group: wbe, remot/' "$TMP/a.yaml" >"$TMP/bad.yaml"

says 1 'no policy is in force: there is no /sys/fs/bpf/dmm-cli' show
says 1 'no policy is in force' add x use kernel
says 0 'nothing to remove' detach
says 1 'bad.yaml:6:39: error: unknown key "remot".*did you mean "remote"' validate -f "$TMP/bad.yaml"
says 1 'nothing changed' apply -f "$TMP/bad.yaml"
says 1 'cannot be opened' apply -f "$TMP/nowhere.yaml"
says 1 'cannot be read' apply -f "$TMP"
[ ! -e "$DMM_BPFFS" ] || { failed=1; echo "not ok - a bad file made $DMM_BPFFS"; }
says 0 'valid: 1 group, 2 stacks, 2 rules' validate -f "$TMP/a.yaml"
says 0 '5 changes, not made' apply -f "$TMP/a.yaml" --dry-run
[ ! -e "$DMM_BPFFS" ] || { failed=1; echo "not ok - a dry run made $DMM_BPFFS"; }
says 0 'no interface dmm-no-such' apply -f "$TMP/a.yaml"
says 0 'no change' apply -f "$TMP/a.yaml"
holds '.generation == 1 and (.policy.rules | length) == 2' show
holds '.[0] | .name == "web" and .attached' group list
holds 'map(.name) == ["kernel", "edge0", "bulk", "reject"]' stack list
holds 'map(select(.kind == "userspace"))[0].up == false' stack list

says 0 '^\+ rule out .*carrier=splice' add out group web remote 10.0.0.0/8 remote_port 443,8000-8999 \
	role client use edge0,kernel carrier splice before no-telnet
holds '[.policy.rules[].name] == ["local", "out", "no-telnet"]' show
says 1 'there already' add out use kernel
says 1 'unknown stack "kernell"; did you mean "kernel"' add x use kernell
says 2 'unknown word "remot"; did you mean "remote"' add x remot 10.0.0.0/8 use kernel
says 1 'no rule "nowhere"' add x use kernel after nowhere
says 0 'use=edge0,kernel -> edge0' add out group=web use=edge0 strict --replace
says 1 'no rule "nowhere"' del nowhere
says 0 'not made' del out -n
holds '.generation == 3' show

says 0 'rule local' explain group web remote 127.0.0.1 remote_port 80
holds '.rule == "no-telnet" and .use[0].stack == "reject"' explain remote 192.0.2.1 remote_port 23
holds '.rule == null' explain role server local_port 80
says 2 'expected a port' explain remote_port x
says 0 '^rule out \(number 2\)' explain --group web --proto tcp 10.0.0.9:443
says 0 '1. edge0: no, stack-down: the instance does not run' explain --group web 10.0.0.9:443
holds '.result == {"stack": "edge0", "reason": "stack-down", "refused": true} and .strict' \
	explain --group web --proto tcp 10.0.0.9:443
holds '.result == {"stack": "reject", "reason": "rejected", "refused": true}' explain 192.0.2.1:23
holds '.use[0].taken and (.use[1].reached | not)' explain group web remote 127.0.0.1
holds '.file != null and .line == 6' explain group web 127.0.0.1:80
says 2 'explain takes --pid' explain --fd 3
says 2 'not a number' explain --pid x
says 1 'process 4194304: ' explain --pid 4194304
says 1 'not an IP socket' explain --pid $$ --fd 0

"$policy" show --yaml >"$TMP/b.yaml"
says 0 'no change|~ .*moved' apply -f "$TMP/b.yaml"
"$policy" -j show | jq .policy >"$TMP/b.json"
says 0 'in force' apply -f "$TMP/b.json"
holds '[.policy.rules[].name] == ["local", "out", "no-telnet"]' show

# switched off and on
says 0 'stack bulk off' stack disable bulk
says 0 'stack bulk was off' stack disable bulk
holds 'map(select(.name == "bulk"))[0].off' stack list
says 0 'stack bulk on' stack enable bulk
says 1 'built in' stack disable kernel
says 1 'no stack "nowhere"' stack disable nowhere
says 0 'group web off' group disable web
holds '.[0].off' group list
says 0 'group web on' group enable web
says 0 'rule local: disabled=\(none\) -> true' rule disable local
holds '.policy.rules[0].disabled == true' show
says 0 'disabled=true -> \(none\)' rule enable local
says 1 'no rule "nowhere"' rule disable nowhere

# completion of names that are in force
says 0 '^edge0$' completion for -- stack disable e
says 0 '^no-telnet$' completion for -- del ''
says 0 '^web$' completion for -- flows --group = ''
says 0 '^kernel,edge0$' completion for -- add x use kernel,e
says 0 '^bulk$' completion for -- --bpffs "$DMM_BPFFS" stack enable bu

# the way back
generation() { "$policy" -j show | jq .generation; }
g=$(generation)
says 0 '^ *1  20' history
holds '.[-1] | .in_force and .how == "rule enable local"' history
says 0 "generation $((g + 1)) in force" del no-telnet
says 0 '\+ rule no-telnet' rollback
holds '[.policy.rules[].name] == ["local", "out", "no-telnet"]' show
# its lines are where they were written
holds '(.file | endswith("/b.json")) and .line > 1' explain --group web 10.0.0.1:23
says 1 'generation 999 is not in the history' rollback 999
says 1 'generation 999 is not in the history' history 999
says 2 'not a generation' history x
"$policy" history "$g" >"$TMP/back.yaml"
says 0 '^0 changes' apply -f "$TMP/back.yaml" --dry-run
says 2 'not a generation' rollback x
says 0 '\- rule out' rollback 1
holds '[.policy.rules[].name] == ["local", "no-telnet"]' show
says 0 'not made' rollback "$g" --dry-run
says 0 '\+ rule out' rollback "$g"
says 2 'not a time' apply -f "$TMP/a.yaml" --confirm-within 1d
says 1 'nothing waits' confirm
sleep 60 & # has the number of a guard that is gone
stranger=$!
generation=$("$policy" -j history | jq ".[-1].generation")
echo "$generation 1 9999999999999999999 $stranger" >"$(echo "$TMP"/run/history*)/pending"
says 1 'nothing waits' confirm
kill $stranger 2>/dev/null || { echo "not ok - confirm ended a process that has the number of a guard"; exit 1; }
says 0 'unless: dmm-policy confirm' apply -f "$TMP/a.yaml" --confirm-within 60s
says 1 'waits to be confirmed until' add x use kernel
holds '.[-1].to_confirm' history
says 0 'is confirmed' confirm
says 0 'in force' add x use kernel
says 0 'for 1 s, then' apply -f "$TMP/a.yaml" --confirm-within 1s
holds '[.policy.rules[].name] == ["local", "no-telnet"]' show
came_back() { "$policy" -j show | jq -e '[.policy.rules[].name] == ["local", "no-telnet", "x"]' >/dev/null; }
for _ in $(seq 40); do
	came_back && break
	sleep 0.1
done
holds '[.policy.rules[].name] == ["local", "no-telnet", "x"]' show
holds '.[-1].how | test("not confirmed in time")' history
says 0 'for 30 s, then' apply -f "$TMP/a.yaml" --confirm-within 30s
says 0 '\+ rule x' rollback
says 0 'in force' rollback "$g"
says 1 'nothing waits' confirm

# the history is bounded, also in bytes
kept=("$TMP"/run/history*/)
truncate -s 70M "${kept[0]}/2.class" # its first line stays
says 0 'in force' add y use kernel
holds '[.[].generation] | index(1) == null and index(2) == null and length >= 2' history
says 0 '\- rule y' rollback

# several writers at once: none is lost
writers=()
for i in $(seq 16); do
	"$policy" add "w$i" remote_port "$((1000 + i))" use kernel >/dev/null &
	writers+=($!)
done
wait "${writers[@]}"
holds '[.policy.rules[].name | select(startswith("w"))] | length == 16' show

# sockets of the group
coproc listener { exec python3 -uc 'import socket, time
s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1]); time.sleep(60)'; }
read -r port <&"${listener[0]}"
"$DMM_BUILD/loader/dmm-run" -g web -- bash -c \
	'exec 3<>/dev/tcp/127.0.0.1/'"$port"' && exec sleep 30' &
sleeper=$!
for _ in $(seq 50); do
	"$policy" -j flows | jq -e 'length > 0' >/dev/null && break
	sleep 0.1
done
holds '[.[] | select(.group == "web" and .rule == "local" and .stack == "bulk")] | length >= 1' flows
holds '. == []' flows --stack kernel
holds '[.rules[] | select(.name == "local")][0].hits == 1 and .maps.rule.used == 19' stats
holds '.[0] | .verdict and .rule == "local" and .stack == "bulk" and (.today_differs | not)' \
	explain --pid $sleeper --fd 3
says 0 'stack bulk, reason rule: a rule named this stack' explain --pid $sleeper
"$policy" rule disable local >/dev/null
holds '.[0] | .stack == "bulk" and .today_differs and .today.result.reason == "admin-off"' \
	explain --pid $sleeper
says 0 'would decide otherwise' explain --pid $sleeper
"$policy" rule enable local >/dev/null
says 0 'no verdict' explain --pid "$listener_PID"
kill $sleeper "$listener_PID"
says 2 'ambiguous: stack list, .*stats' st
says 2 'has no option --file' flows -f x
says 2 'usage: dmm-policy show' show x
says 2 'unknown verb' fly
says 0 'removed' detach
[ ! -e "$DMM_BPFFS" ] || { failed=1; echo "not ok - $DMM_BPFFS is left"; }
root=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
[ ! -e "$root/dmm-cli$$" ] || { failed=1; echo "not ok - the cgroup is left"; }
exit $failed
