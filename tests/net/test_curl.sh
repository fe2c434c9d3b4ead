#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# curl in the group, nginx on the far host: 20 MB down and up, IPv4 and IPv6.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx
setup "$@"
far_nginx
config | start_policyd

for host in "$FAR4" "[$FAR6]"; do
	start_capture
	big_both_ways "$host"

	who=$(run_managed web curl -sS -m 10 -w '%{local_ip} %{local_port} %{remote_ip}\n' \
		"http://$host:8080/who" || true)
	names=$(tail -n1 <<<"$who")
	check "$host: both ends know the same client" equal "$(head -n1 <<<"$who")" "${names% *}"
	check "$host: the client knows the server" equal "${names##* }" "$(tr -d '[]' <<<"$host")"
	many=0
	for _ in 1 2 3 4 5; do
		n=$(run_managed web curl -sS -m 20 "http://$host:8080/small?[1-40]" | wc -l)
		many=$((many + n))
	done
	check "$host: 200 requests with keep-alive" equal "$many" 200
	stop_capture
	ip=ip
	[ "$host" = "$FAR4" ] || ip=ip6
	src=$NEAR4
	[ $ip = ip ] || src=$NEAR6
	check "$host: the far host saw the client" \
		at_least "$(captured "$ip and src host $src and tcp dst port 8080")" 100
done
kernel_counts() { [ "$(counter xsk_transmit_ring_empty)" -ge 1 ]; }
check_dmm "what the kernel counts of the AF_XDP socket is told" wait_for kernel_counts
finish
