# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Instead of a veth pair a link of any length and quality between near and far; source it after lib.sh.
# Of the tests' own program, or with DMM_NETEM=1 of the kernel's netem.
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
	if [ "${DMM_NETEM:-0}" = 1 ]; then
		ip -n "$MID" link add bridge type bridge
		ip -n "$MID" link set mid0 master bridge
		ip -n "$MID" link set mid1 master bridge
		ip -n "$MID" link set bridge up
	fi
	impair
}
netem_words() { # netem_words OPTION...: the same as netem has it
	local option value
	for option in "$@"; do
		value=${option#*=}
		case $option in
		delay=*) echo "delay ${value}ms" ;;
		rate=*) echo "rate ${value}mbit" ;;
		loss=* | reorder=* | duplicate=* | corrupt=*)
			echo "${option%=*} $((value / 10)).$((value % 10))%" ;;
		*) echo "no $option with netem" >&2 ;;
		esac
	done
}
impair() { # impair OPTION...: the link is like this from now on
	local dev
	if [ "${DMM_NETEM:-0}" = 1 ]; then
		for dev in mid0 mid1; do
			# shellcheck disable=SC2046
			tc -n "$MID" qdisc replace dev $dev root netem limit 10000 $(netem_words "$@")
		done
		return
	fi
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
