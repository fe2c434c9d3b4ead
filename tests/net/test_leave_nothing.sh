#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# After --teardown nothing is left: no program, map or link, no pin, cgroup, address, route, rule,
# neighbour, sysctl, offload setting, XDP program or process.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx bpftool ethtool
setup "$@"
[ "$DMM_BASELINE" != 1 ] || skip_all "nothing to leave in the baseline"
far_nginx

# Ids of the BPF objects that are ours: pinned in our tree, open in a process of near, attached to
# near0, and the maps of these programs. Other copies of DMM on this host do not count.
ours() { # ours prog|map|link
	local pid id
	{
		bpftool -f -j "$1" show |
			jq --arg tree "$DMM_BPFFS/" '.[] | select(any(.pinned[]?; startswith($tree))) | .id' || true
		for pid in $(ip netns pids "$NEAR"); do
			sed -n "s/^$1_id:[[:space:]]*//p" "/proc/$pid/fdinfo/"* 2>/dev/null || true
		done
		if [ "$1" = prog ]; then
			in_near ip -j -d link show dev near0 | jq '.[].xdp.prog.id // empty'
		elif [ "$1" = map ]; then
			for id in $(ours prog); do
				bpftool -j prog show id "$id" 2>/dev/null | jq '.map_ids[]?' || true
			done
		fi
	} | sort -nu
}
left() { # BPF objects of ours that still exist
	local kind
	for kind in prog map link; do
		bpftool -j "$kind" show | jq -r '.[].id // empty' | grep -Fxf "$TMP/ours.$kind" | sed "s/^/$kind /" || true
	done
}
# Record them; left() finds each, or it would find nothing later either.
recorded() {
	local kind
	for kind in prog map link; do
		ours $kind >"$TMP/ours.$kind"
	done
	[ -s "$TMP/ours.prog" ] && [ "$(left | wc -l)" = "$(cat "$TMP"/ours.* | wc -l)" ]
}
remember() { # remember [PREFIX]
	local kind
	check "${1:-}all that is ours is found" wait_for recorded
	for kind in prog map link; do
		echo "# ${kind}s of ours: $(wc -l <"$TMP/ours.$kind")"
	done
}

state() {
	echo "== pins"
	find "$DMM_BPFFS" "$DMM_BPFFS".* 2>/dev/null || true
	echo "== cgroups"
	find "$(cgroup_root)" -type d | grep -E "($CGROUP|dmm-t$ID)(/|$)" || true
	echo "== network"
	in_near ip -o link | sed 's/state [A-Z]* //'
	in_near ip -o addr | sed 's/ valid_lft.*//'
	in_near ip route show table all
	in_near ip -6 route show table all | sed 's/ expires [0-9]*sec//'
	in_near ip rule
	in_near ip -6 rule
	in_near ip neigh show nud permanent
	in_near ethtool -k near0
	in_near ethtool -l near0 2>/dev/null || true
	echo "== sysctls" # what is available is the whole machine's
	ip netns exec "$NEAR" sysctl -a 2>/dev/null |
		grep -E '^net\.(core|ipv4|ipv6|mptcp)' | grep -vE '_count|_key|_available|stable_secret|netdev_rss'
	echo "== processes"
	for p in $(ip netns pids "$NEAR"); do cat "/proc/$p/comm" 2>/dev/null || true; done
}
same() {
	{
		echo "== BPF objects"
		left
		state
	} >"$TMP/after"
	diff "$TMP/before" "$TMP/after" >"$TMP/diff"
}

{
	echo "== BPF objects"
	state
} >"$TMP/before"
config | start_policyd
check "it works" run_managed web curl -sS -m 10 -o "$TMP/got" "http://$FAR4:8080/big"
nginx_config near-nginx "$TMP/www" "0.0.0.0:8081"
spawn near-nginx run_managed web nginx -c "$TMP/near-nginx.conf"
server=$SPAWNED
wait_for near_listens 8081
in_far curl -sS -m 10 -o /dev/null "http://$NEAR4:8081/small" || not_ok "a server in the group"
remember
check "there is something to leave" eval '! same && [ -s "$TMP/ours.prog" ] && [ -s "$TMP/ours.link" ]'

# 1. stopped in order, with a server still running in the group
check "teardown" stop_policyd
end "$server"
check "nothing is left" wait_for same || true
sed 's/^/# /' "$TMP/diff" | head -n 40

# 2. killed, then torn down, however packets are steered
for mode in auto generic native; do
	config | sed "s/interface: near0/interface: near0, mode: $mode/" | start_policyd
	run_managed web curl -sS -m 10 -o /dev/null "http://$FAR4:8080/small" || not_ok "start: $mode"
	remember "mode $mode: "
	kill -9 "$(instance_pid)" "$POLICYD_PID"
	wait "$POLICYD_PID" 2>/dev/null || true
	POLICYD_PID=
	check "mode $mode: teardown of what was killed" stop_policyd
	check "mode $mode: nothing is left of that either" wait_for same || true
	sed 's/^/# /' "$TMP/diff" | head -n 40
done
r=0
stop_policyd || r=$?
echo "# a teardown of nothing exits with $r"
check "near still reaches far" in_near curl -sS -m 5 -o /dev/null "http://$FAR4:8080/small"
finish
