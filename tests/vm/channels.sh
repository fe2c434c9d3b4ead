#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An interface whose queues are for both directions (combined channels), as those of network cards, and
# not those of a veth: virtio-net of an emulated machine. channels.sh KERNEL boots it, between two taps
# that a bridge joins in a namespace of their own; in there the same script is the test.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if [ "${1:-}" != --guest ]; then
	[ -c /dev/net/tun ] || { echo "SKIP: no /dev/net/tun" && exit 77; }
	ns=dmm-vm-$$
	ip netns add $ns
	trap 'ip netns del $ns' EXIT
	ip -n $ns link add joined type bridge
	ip -n $ns link set joined up
	for side in near far; do
		ip -n $ns tuntap add dev $side mode tap multi_queue
		ip -n $ns link set $side master joined up
		DMM_VM_QEMU="${DMM_VM_QEMU:-} -netdev tap,id=$side,ifname=$side,script=no,downscript=no,queues=4
			-device virtio-net-pci,netdev=$side,mq=on,vectors=10,romfile="
	done
	export DMM_VM_QEMU DMM_VM_MODULES=virtio_net
	ip netns exec $ns "$here/boot.sh" "$1" "$here/channels.sh" --guest
	exit
fi

# shellcheck source=tests/net/lib.sh
. "$here/../net/lib.sh"
need nginx ethtool
link_hosts() { # the two network cards of the machine
	local card cards=()
	for card in /sys/class/net/*/device; do
		card=${card%/device}
		cards+=("${card##*/}")
	done
	ethtool -L "${cards[0]}" combined 4
	ip link set "${cards[0]}" netns "$NEAR" name near0
	ip link set "${cards[1]}" netns "$FAR" name far0
}
setup
far_nginx
export -f small

for DMM_DRIVER in xsk dpdk; do
	[ $DMM_DRIVER = xsk ] || need_dpdk
	spawn changes in_near ip -d monitor link dev near0
	changes=$SPAWNED
	config | sed "s/driver: $DMM_DRIVER/&, mode: native/" | start_policyd
	end "$changes"
	check "$DMM_DRIVER: four queues" grep -q "on 4 queues" "$TMP/policyd.log"
	grep -o 'prog/xdp id [0-9]*' "$TMP/changes.log" | sort -u >"$TMP/programs"
	if [ $DMM_DRIVER = xsk ]; then attached=1; else attached=2; fi
	check "$DMM_DRIVER: programs attached on the way" equal "$(wc -l <"$TMP/programs")" $attached
	mark
	check "$DMM_DRIVER: 60 connections" equal "$(run_managed web bash -c \
		"small http://$FAR4:8080/small http://[$FAR6]:8080/small")" 60
	check "$DMM_DRIVER: the instance carried them" at_least "$(since connections_opened)" 60
	check "$DMM_DRIVER: nothing arrived where nobody looks" equal "$(since xdp_pass_no_socket)" 0
	check "$DMM_DRIVER: a download" equal \
		"$(run_managed web curl -sS -m 60 "http://$FAR4:8080/big" | sha256sum)" "$(sha256sum <"$TMP/www/big")"
	stop_policyd
done
finish
