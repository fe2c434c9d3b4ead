# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Instead of a veth pair a link of any length and quality between near and far; source it after lib.sh.
IMPAIR=$(program impair)
MID=dmm-mid-$ID

# near0 and far0 end in a third host, which has no addresses; a program carries the frames.
link_hosts() {
	local ns
	ip netns add "$MID"
	ip netns exec "$MID" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
	ip link add near0 netns "$NEAR" type veth peer name mid0 netns "$MID"
	ip link add far0 netns "$FAR" type veth peer name mid1 netns "$MID"
	in_near ethtool -K near0 tx off tso off gso off >/dev/null
	# without probing the kernel has no way out of a black hole
	for ns in "$NEAR" "$FAR"; do
		ip netns exec "$ns" sysctl -qw net.ipv4.tcp_mtu_probing=1 net.ipv4.tcp_no_metrics_save=1
	done
	in_far ethtool -K far0 tx off tso off gso off >/dev/null
	ip -n "$MID" link set mid0 up
	ip -n "$MID" link set mid1 up
	impair
}
impair() { # impair OPTION...: the link is like this from now on
	[ -z "${IMPAIR_PID:-}" ] || end "$IMPAIR_PID"
	spawn impair nsenter --net="/run/netns/$MID" -- "$IMPAIR" mid0 mid1 "$@"
	IMPAIR_PID=$SPAWNED
	wait_for grep -q ready "$TMP/impair.log"
}

# the kernel with CUBIC whatever its default is, for those who compare
kernel_cubic() {
	local host ns dev ip
	for host in "$NEAR near0 $NEAR4" "$FAR far0 $FAR4"; do
		read -r ns dev ip <<<"$host"
		ip -n "$ns" route replace 10.55.0.0/24 dev "$dev" proto kernel scope link src "$ip" congctl cubic
		ip -n "$ns" -6 route replace fd55::/64 dev "$dev" proto kernel metric 256 congctl cubic
	done
}
