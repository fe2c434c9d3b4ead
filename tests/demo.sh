#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job, shown on real traffic: unmodified curl, iperf3 and nginx in a managed cgroup talk to an
# ordinary host through a userspace TCP stack behind AF_XDP; a rule is flipped, and the next connection
# takes the kernel. Two network namespaces stand for the two hosts; everything is removed at the end.
set -eu

build=${DMM_BUILD:?the build directory}
PATH=$build/policyd:$build/userstack:$build/loader:$PATH:/usr/sbin:/sbin
id=demo$$
export DMM_BPFFS=/sys/fs/bpf/dmm-$id DMM_RUN=/tmp/dmm-$id
near=dmm-$id-near far=dmm-$id-far
dir=$DMM_RUN
bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
pids=()

say() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
show() { # the command, as typed, then what it prints
	printf '%s$ %s%s\n' "$bold" "$(printf '%s' "${*/in_near/ip netns exec near}" | sed "s|in_far|ip netns exec far|; s|$dir|/tmp/demo|g; s|%{[^\\n]*\\\\n|…|")" "$plain"
	"$@"
}
in_near() { ip netns exec "$near" "$@"; }
in_far() { ip netns exec "$far" "$@"; }
background() { # background HOST COMMAND...
	ip netns exec "$1" "${@:2}" >>"$dir/log" 2>&1 &
	pids+=($!)
}
fail() {
	printf '\nFAILED: %s\n' "$*"
	tail -n 20 "$dir/log"
	exit 1
}
wait_for() { # wait_for WHAT COMMAND...: at most 10 s
	local what=$1 n
	shift
	for n in $(seq 100); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.1
	done
	fail "$what"
}
counter() { # bytes that the instance's port received
	dmm-policy -j stats | jq ".instances.edge0.port_receive_bytes // 0"
}
cleanup() {
	local status=$?
	trap - EXIT
	set +e
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
	for p in "${pids[@]}"; do wait "$p" 2>/dev/null; done
	dmm-policy detach >/dev/null 2>&1
	ip netns del "$near" 2>/dev/null
	ip netns del "$far" 2>/dev/null
	rm -rf "$dir"
	exit $status
}
trap cleanup EXIT
mkdir -p "$dir"
[ "$(id -u)" = 0 ] || fail "run it as root"

say "Two hosts: $near runs DMM and the applications, $far is an ordinary kernel host with servers"
ip netns add "$near"
ip netns add "$far"
ip link add near0 netns "$near" type veth peer name far0 netns "$far"
for h in near far; do
	ip -n "dmm-$id-$h" link set lo up
	ip -n "dmm-$id-$h" link set ${h}0 up
done
ip -n "$near" addr add 10.55.0.1/24 dev near0
ip -n "$far" addr add 10.55.0.2/24 dev far0
ip -n "$near" addr add fd55::1/64 dev near0 nodad
ip -n "$far" addr add fd55::2/64 dev far0 nodad

mkdir -p "$dir/www"
head -c 50M /dev/urandom >"$dir/www/big"
cat >"$dir/nginx.conf" <<CONF
daemon off;
pid $dir/nginx-PLACE.pid;
error_log $dir/nginx-PLACE.log;
events {}
http {
	access_log $dir/access-PLACE.log;
	server { listen 80; listen [::]:80; root $dir/www; }
}
CONF
sed s/PLACE/far/ "$dir/nginx.conf" >"$dir/far.conf"
sed s/PLACE/near/ "$dir/nginx.conf" >"$dir/near.conf"
chmod 755 "$dir" "$dir/www"
background "$far" nginx -c "$dir/far.conf"
background "$far" iperf3 -s
background "$far" tcpdump -ni far0 -w "$dir/far.pcap" -U -s 96 tcp

say "The policy: what runs in group web goes through edge0, the native engine on AF_XDP; else the kernel"
cat >"$dir/dmm.yaml" <<YAML
groups:
  web: {cgroup: dmm-$id/web}
stacks:
  edge0: {engine: native, port: {driver: xsk, interface: near0}}
rules:
  - name: web-edge
    match: {group: web, proto: tcp}
    use: [edge0, kernel]
default: kernel
daemon: {http: "127.0.0.1:9464", socket: $dir/policyd.sock}
YAML
show cat "$dir/dmm.yaml"
background "$near" dmm-policyd -c "$dir/dmm.yaml"
stack_up() { [ "$(dmm-policy -j stack list | jq -r '.[] | select(.name == "edge0") | .up')" = true ]; }
wait_for "the instance did not come up" stack_up
show dmm-policy stack list

say "curl, unmodified, in the group: 50 MB over IPv4, then IPv6; checksums compared"
before=$(counter)
for url in http://10.55.0.2/big 'http://[fd55::2]/big'; do
	show in_near dmm-run -g web -- curl -sS -o "$dir/got" \
		-w 'code %{http_code}, %{size_download} bytes from %{remote_ip}:%{remote_port} to %{local_ip}:%{local_port}\n' "$url"
	cmp "$dir/got" "$dir/www/big" || fail "the body differs"
done
after=$(counter)
echo "bodies are identical; the instance's AF_XDP port received $((after - before)) bytes for them"
[ $((after - before)) -gt 104857600 ] || fail "the bytes did not go through the port"

say "nginx, unmodified, in the group, serves the far host"
background "$near" dmm-run -g web -- nginx -c "$dir/near.conf"
wait_for "nginx did not answer" in_far curl -s -o /dev/null http://10.55.0.1/
show in_far curl -sS -o "$dir/got" -w 'code %{http_code}, %{size_download} bytes\n' http://10.55.0.1/big
cmp "$dir/got" "$dir/www/big" || fail "the body differs"
echo "and its access log names the real client:"
show tail -n 1 "$dir/access-near.log"

say "iperf3 through edge0; while it runs, the rule is flipped: the next one takes the kernel"
in_near dmm-run -g web -- iperf3 -c 10.55.0.2 -t 6 -i 0 >"$dir/iperf-edge" 2>&1 &
first=$!
sleep 1.5
show dmm-policy del web-edge
background "$far" iperf3 -s -p 5202
sleep 0.3
in_near dmm-run -g web -- iperf3 -c 10.55.0.2 -p 5202 -t 3 -i 0 >"$dir/iperf-kernel" 2>&1 &
second=$!
sleep 1.5
show dmm-policy flows
wait $first || fail "iperf3 through edge0: $(cat "$dir/iperf-edge")"
wait $second || fail "iperf3 through the kernel: $(cat "$dir/iperf-kernel")"
echo "edge0:  $(grep receiver "$dir/iperf-edge")"
echo "kernel: $(grep receiver "$dir/iperf-kernel")"

say "The same from Prometheus' point of view"
metrics() { in_near curl -sS http://127.0.0.1:9464/metrics; }
metrics | grep -E '^dmm_(sockets_steered_total|stack_up|policy_generation|instance_port_(receive|transmit)_packets_total)'

say "What the far host saw on the wire, from its own capture"
sleep 0.5
echo "$(tcpdump -nr "$dir/far.pcap" 'host 10.55.0.1 and tcp' 2>/dev/null | wc -l) packets of 10.55.0.1, and IPv6: $(tcpdump -nr "$dir/far.pcap" 'host fd55::1 and tcp' 2>/dev/null | wc -l)"

say "Done. All of it is removed now."
