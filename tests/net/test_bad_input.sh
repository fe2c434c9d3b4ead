#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a user or a stranger gets wrong: each gets a clear message, a reason or a counter, and nothing
# that worked stops working. DMM_SEED: of the garbage.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx setpriv bpftool
setup "$@"
[ "$DMM_BASELINE" != 1 ] || skip_all "nothing to refuse in the baseline"
far_nginx
url=http://$FAR4:8080
listeners=$(program listeners)
garbage=$(program garbage)

# says TEXT STATUS PATTERN COMMAND...: it ends so, within 10 s, and has a line like that.
says() {
	local text=$1 want=$2 pattern=$3 r=0
	shift 3
	SPAWN='timeout 10' "$@" >"$TMP/said" 2>&1 </dev/null || r=$?
	if [ $r = "$want" ] && grep -qE -- "$pattern" "$TMP/said"; then
		ok "$text"
		return
	fi
	echo "# exit $r (expected $want), no line like: $pattern"
	sed 's/^/# /' "$TMP/said"
	not_ok "$text"
}
daemon_with() { in_near "$DMM_POLICYD" -c "$1"; }
get() { run_managed web curl -sS -m 5 -o /dev/null "$url/small"; }
generation() { policy -j show | jq .generation; }
via_instance() {
	mark
	get && [ "$(since connections_established)" -ge 1 ]
}
logged() { grep -qE -- "$1" "$TMP/policyd.log"; }
# fell_back TEXT: a request works, over the kernel and because the stack is down
fell_back() {
	local before
	before=$(verdicts kernel stack-down)
	check "$1: applications go on" get
	check "$1: with reason stack-down" at_least "$(verdicts kernel stack-down)" $((before + 1))
}

# 1. configuration, with and without a policy in force
cat >"$TMP/malformed.yaml" <<-YAML
	groups:
	  web: {cgroup: $CGROUP/web
	rules: []
YAML
config | sed 's/interface:/interfase:/' >"$TMP/key.yaml"
config '[edge7, kernel]' >"$TMP/use.yaml"
{
	config | sed '/^default/d'
	for i in $(seq 65536); do
		echo "  - {name: r$i, match: {group: web, remote_port: $i}, use: kernel}"
	done
} >"$TMP/many.yaml"
refused() { # refused WHO COMMAND...: the bad files, each followed by its name
	local who=$1
	shift
	says "$who: malformed YAML" 1 'malformed.yaml:[0-9]+:[0-9]+: error: ' \
		"$@" "$TMP/malformed.yaml"
	says "$who: an unknown key" \
		1 'key.yaml:4:[0-9]+: error: .*"interfase".*did you mean "interface"' \
		"$@" "$TMP/key.yaml"
	says "$who: an unknown stack" \
		1 'use.yaml:6:[0-9]+: error: .*unknown stack "edge7".*did you mean "edge0"' \
		"$@" "$TMP/use.yaml"
	says "$who: too many rules" 1 'many.yaml:.*error: .*65537 rules' \
		"$@" "$TMP/many.yaml"
}
refused "dmm-policyd" daemon_with
check "no tree was made" test ! -e "$DMM_BPFFS"

# 2. an interface that does not exist, and then does
config | sed 's/near0/near7/' >"$TMP/dmm.yaml"
launch_policyd
check "the daemon runs without the interface" wait_for logged 'no interface named near7'
check "its log says when it tries again" wait_for logged 'edge0: down, .*starting again in'
fell_back "an unknown interface"
config >"$TMP/dmm.yaml"
kill -HUP "$POLICYD_PID"
check "with the right one the instance is up" wait_for stack_up
check "it carries" wait_for via_instance
now=$(generation)
refused "dmm-policy apply" policy apply -f
sed "s|$CGROUP/web|$(basename "$DMM_BPFFS")/instances/web|" "$TMP/dmm.yaml" >"$TMP/inside.yaml"
says "a group in the cgroup of this tree's instances" 1 'overlaps .*/instances, where the instances run' \
	policy apply -f "$TMP/inside.yaml"
check "is not in force" equal "$(generation)" "$now"
cp "$TMP/malformed.yaml" "$TMP/dmm.yaml"
kill -HUP "$POLICYD_PID"
check "a bad file on SIGHUP: the log says so" wait_for logged 'the policy in force stays'
config >"$TMP/dmm.yaml"
check "nothing of it is in force" equal "$(generation)" "$now"
check "the instance still carries" via_instance

# 3. names that do not exist, things that run already
says "dmm-run: an unknown group" 125 'no group "nope" in force' \
	in_near "$DMM_RUN_PROGRAM" -g nope -- true
says "dmm-run names those that exist" 125 "  web \(cgroup $CGROUP/web\)" \
	in_near "$DMM_RUN_PROGRAM" -g nope -- true
says "dmm-run: an unknown program" 127 'cannot run /nowhere: No such file' \
	in_near "$DMM_RUN_PROGRAM" -g web -- /nowhere
says "a second daemon" 1 'another dmm-policyd runs on .*; stop it first' \
	daemon_with "$TMP/dmm.yaml"
stackd=$(program dmm-stackd)
says "a second instance" 1 'edge0 runs already, as process [0-9]+' \
	in_near "$stackd" --name edge0 -i near0
says "an instance of no stack" 1 'no userspace stack named edge9 in force' \
	in_near "$stackd" --name edge9 -i near0
says "a tree that is not on bpffs" 1 'not on a bpf file system; try: mount -t bpf' \
	policy apply -f "$TMP/dmm.yaml" --bpffs "$TMP/nobpf"

# 4. no permission
mkdir "$TMP/bin"
cp "$DMM_POLICYD" "$DMM_POLICY" "$DMM_RUN_PROGRAM" "$stackd" "$TMP/bin"
nobody() {
	in_near setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all -- "$@"
}
says "nobody: dmm-policyd" 1 'Permission denied' \
	nobody "$TMP/bin/dmm-policyd" -c "$TMP/dmm.yaml"
says "nobody: dmm-policy show" 1 'Permission denied; run as root' \
	nobody "$TMP/bin/dmm-policy" show
says "nobody: dmm-policy add" 1 'Permission denied' \
	nobody "$TMP/bin/dmm-policy" add x use kernel
says "nobody: dmm-policy apply" 1 'Permission denied' \
	nobody "$TMP/bin/dmm-policy" apply -f "$TMP/dmm.yaml"
says "nobody: dmm-policy detach" 1 'Permission denied' \
	nobody "$TMP/bin/dmm-policy" detach
says "nobody: dmm-policy detach --force" 1 'Permission denied' \
	nobody "$TMP/bin/dmm-policy" detach --force
says "nobody: dmm-run" 125 'Permission denied; .*are you root' \
	nobody "$TMP/bin/dmm-run" -g web -- true
says "nobody: dmm-stackd" 1 'Permission denied; run as root' \
	nobody "$TMP/bin/dmm-stackd" --name edge0 -i near0
check "after all this the policy is the same" equal "$(generation)" "$now"
check "and the instance carries" via_instance

# 5. more listeners than there is room for
many=$((4096 + 100))
before=$(verdicts kernel map-full)
mark
spawn listeners run_managed web "$listeners" $many "$NEAR4"
listeners_pid=$SPAWNED
check "$many listeners" wait_for grep -q ' ' "$TMP/listeners.log"
read -r _ last <"$TMP/listeners.log"
check "what finds no room has reason map-full" \
	equal $(($(verdicts kernel map-full) - before)) 100
check "and is counted" equal "$(since listens_full)" 100
check "flows shows it" at_least "$(flows '.reason == "map-full" and .stack == "kernel"')" 100
hello=$(in_far timeout 5 bash -c "exec 3<>/dev/tcp/$NEAR4/$last && cat <&3" || true)
check "such a listener works, over the kernel" equal "$hello" here
end "$listeners_pid"
room() { [ "$(policy -j stats | jq .maps.listen.used)" = 0 ]; }
check "there is room again" wait_for room
check "the instance still carries" via_instance

# more connects in progress than there is room for
full=65536
batch() { # batch VERB [VALUE]: for keys that no socket has
	awk -v n=$full -v verb="$1" -v map="$DMM_BPFFS/maps/dmm_pending" -v value="${2:-}" 'BEGIN {
		for (i = 0; i < n; i++)
			printf "map %s pinned %s key hex %02x %02x 00 00 00 00 00 ff%s\n", verb, map,
				i % 256, int(i / 256), value
	}' >"$TMP/batch"
	bpftool batch file "$TMP/batch" >/dev/null 2>"$TMP/batch.log" || true
}
batch update " value hex$(printf ' 00%.0s' {1..72})"
check "dmm_pending is full" equal "$(policy -j stats | jq .maps.pending.used)" $full
before=$(verdicts kernel map-full)
check "a connect works, over the kernel" get
check "has reason map-full, and is counted" equal $(($(verdicts kernel map-full) - before)) 1
batch delete
check "with room again the instance carries" wait_for via_instance

# 6. garbage from the far side, at a listener and at flows
nginx_config near-nginx "$TMP/www" "0.0.0.0:8081" "[::]:8081 ipv6only=on"
spawn near-nginx run_managed web nginx -c "$TMP/near-nginx.conf"
wait_for near_listens 8081
served() {
	mark
	in_far curl -sS -m 5 -o /dev/null "http://$NEAR4:8081/small" &&
		[ "$(since connections_accepted)" -ge 1 ]
}
check "the instance serves" wait_for served
spawn held4 run_managed web "$HAZARD" connect -k 60 "$FAR4" 8080
spawn held6 run_managed web "$HAZARD" connect -k 60 "$FAR6" 8080
flow_port() {
	policy -j flows | jq -r --arg r "$1:8080" \
		'[.[] | select(.remote == $r and .stack == "edge0")][0].local' | sed 's/.*://'
}
held() { [ "$(flows '.remote != null and .stack == "edge0"')" -ge 2 ]; }
wait_for held || true
port4=$(flow_port "$FAR4") port6=$(flow_port "[$FAR6]")
pid=$(instance_pid)
spawn download run_managed web curl -sS -m 60 --limit-rate 5M -o "$TMP/got" "$url/big"
download=$SPAWNED
wait_for test -s "$TMP/got"
mark
mac=$(ip -n "$NEAR" -j link show near0 | jq -r '.[0].address')
check "40000 frames of garbage" in_far "$garbage" far0 "$mac" 40000 "${DMM_SEED:-1}" \
	"$FAR4,0" "$NEAR4,8081" "$FAR6,0" "$NEAR6,8081" "$FAR4,8080" "$NEAR4,$port4" \
	"$FAR6,8080" "$NEAR6,$port6" "$FAR4,8080" "$NEAR4,0" 10.55.0.99,0 "$NEAR4,8081"
check "the instance lives" equal "$(instance_pid)" "$pid"
check "it counts what is malformed" at_least "$(since port_receive_malformed)" 500
check "and wrong checksums" at_least "$(since port_receive_bad_checksum)" 500
if [ "${DMM_ENGINE:-native}" = native ]; then # lwIP tells nothing
	check "and what no connection is for" at_least "$(since engine_drop_stranger)" 100
	check "the engine tells why" at_least "$(($(since engine_drop_window) + $(since engine_drop_ack) +
		$(since engine_drop_reset) + $(since engine_drop_timestamp)))" 20
fi
of_xdp() { # of_xdp NAME: the same, of the XDP program
	check "XDP counts $1" at_least "$(since "$1")" "$2"
}
of_xdp xdp_pass_truncated 500
of_xdp xdp_pass_fragment 50
of_xdp xdp_listen_redirects 500
of_xdp xdp_flow_redirects 500
of_xdp xdp_icmp_redirects 100
r=0
wait "$download" || r=$?
check "a download meanwhile is whole" equal "$r $(sum "$TMP/got")" "0 $(sum "$TMP/www/big")"
check "a new connection works" via_instance
check "the listener works" wait_for served
check "bounded memory" test "$(ps -o rss= -p "$pid")" -lt 200000

# 8. the interface goes away, and comes back
ip -n "$NEAR" link del near0
check "the interface vanishes: the instance ends with code 3" \
	wait_for logged 'edge0: down, its instance ended with exit code 3'
stack_is_down() { ! stack_up; }
check "the stack is down at once" wait_for stack_is_down
ip -n "$NEAR" addr add "$FAR4/32" dev lo # another way to the address
nginx_config stand-in "$TMP/www" "$FAR4:8080"
spawn stand-in in_near nginx -c "$TMP/stand-in.conf"
wait_for near_listens 8080
fell_back "the interface is gone"
check "the log says what is missing" wait_for logged 'no interface named near0'
end "$SPAWNED"
ip -n "$NEAR" addr del "$FAR4/32" dev lo
plug() {
	ip link add near0 netns "$NEAR" type veth peer name far0 netns "$FAR"
	ip -n "$NEAR" addr add "$NEAR4/24" dev near0
	ip -n "$FAR" addr add "$FAR4/24" dev far0
	ip -n "$NEAR" link set near0 mtu 1500 gro_max_size 185000
	ip -n "$NEAR" link set near0 up
	ip -n "$FAR" link set far0 mtu 1500 up
}
plug
check "it comes back: the instance too" eval 'WAIT_S=20 wait_for stack_up'
check "BIG TCP is warned of" logged 'near0 has BIG TCP'
check "and carries" wait_for via_instance
check "the daemon never ended" kill -0 "$POLICYD_PID"
check "no sanitizer complained" eval '! logged "Sanitizer|runtime error"'
finish
