# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Harness of the namespace tests. Two hosts joined by a veth pair:
#
#   near  near0 10.55.0.1/24 fd55::1/64   dmm-policyd, the instances, managed applications
#   far   far0  10.55.0.2/24 fd55::2/64   a kernel host with servers and a packet capture
#
# Beyond far: 10.66.0.0/16, fd66::/64 unreachable by ICMP; 10.77.0.0/16, fd77::/64 silent. On the
# link 10.55.0.88 and fd55::88 do not exist. All names carry the process id, so that copies run side
# by side. A test: source this file, need PROGRAM..., setup "$@", check/ok/not_ok..., finish.
#
# DMM_BUILD: the build directory. DMM_BASELINE=1: run the same programs without DMM, checks of its
# counters are skipped. DMM_ENGINE: of the instances, native or lwip; DMM_DRIVER: xsk or dpdk;
# DMM_THREADS: how many threads they have, on a link of as many queues. `test_x.sh --shell`: set up,
# then a shell in the environment.
set -euo pipefail
shopt -s lastpipe # `config | start_policyd` runs in this shell

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
DMM_BUILD=${DMM_BUILD:-$root/build}
DMM_BASELINE=${DMM_BASELINE:-0}
DMM_ENGINE=${DMM_ENGINE:-native}
DMM_DRIVER=${DMM_DRIVER:-xsk}
ID=$$
NEAR=dmm-near-$ID
FAR=dmm-far-$ID
NEAR4=10.55.0.1 NEAR6=fd55::1 FAR4=10.55.0.2 FAR6=fd55::2
CGROUP=dmm-test-$ID
TMP=
passed=0 failed=0 skipped=0
pids=()
finished=0
export DMM_BPFFS=/sys/fs/bpf/dmm-t$ID DMM_RUN=

ok() {
	passed=$((passed + 1))
	echo "ok - $*"
}
not_ok() {
	failed=$((failed + 1))
	echo "not ok - $*"
}
skip() {
	skipped=$((skipped + 1))
	echo "ok - $* # SKIP"
}
skip_all() {
	echo "SKIP: $*"
	finished=1
	exit 77
}

# check TEXT COMMAND...: one test, passed when the command succeeds.
check() {
	local text=$1
	shift
	if "$@"; then ok "$text"; else not_ok "$text"; fi
}
# The same for what only holds with DMM in the way.
check_dmm() {
	if [ "$DMM_BASELINE" = 1 ]; then skip "$1: baseline"; else check "$@"; fi
}
equal() {
	[ "$1" = "$2" ] && return
	echo "# got      '$1'"
	echo "# expected '$2'"
	return 1
}
at_least() {
	[ "${1:-0}" -ge "$2" ] && return
	echo "# got ${1:-nothing}, expected at least $2"
	return 1
}

need() {
	local p
	[ "$(id -u)" = 0 ] || skip_all "needs root"
	for p in ip nsenter jq tcpdump curl "$@"; do
		command -v "$p" >/dev/null || skip_all "needs $p; see tests/packages.txt"
	done
	grep -q ' cgroup2 ' /proc/mounts || skip_all "no cgroup2 mount"
	[ "$DMM_DRIVER" != dpdk ] || need_dpdk
}

# Instances find it in the build directory.
need_dpdk() {
	local plugin
	plugin=$(find "$DMM_BUILD" -name dpdk.so -path '*userstack*' | head -n 1)
	[ -n "$plugin" ] || skip_all "built without DPDK; see tests/packages.txt"
	[ "$DMM_BASELINE" != 1 ] || skip_all "no instance in the baseline"
	export DMM_PORT_DIR=${plugin%/*}
}

cgroup_root() {
	awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts
}

# The programs, wherever they are below the build directory.
program() {
	local p
	for p in "$DMM_BUILD/$1" "$DMM_BUILD"/*/"$1" "$DMM_BUILD"/*/*/"$1"; do
		[ -x "$p" ] && [ -f "$p" ] && echo "$p" && return
	done
	echo "not ok - no $1 in $DMM_BUILD" >&2
	return 1
}

# Not `ip netns exec`: that hides the mounts below /sys.
in_near() { ${SPAWN:-} nsenter --net="/run/netns/$NEAR" -- "$@"; }
in_far() { ${SPAWN:-} nsenter --net="/run/netns/$FAR" -- "$@"; }
policy() { in_near "$DMM_POLICY" "$@"; }

run_managed() { # run_managed GROUP COMMAND...
	local group=$1
	shift
	if [ "$DMM_BASELINE" = 1 ]; then
		in_near "$@"
	else
		in_near "$DMM_RUN_PROGRAM" -g "$group" -- "$@"
	fi
}

# spawn NAME COMMAND...: in the background, output in $TMP/NAME.log; $SPAWNED is its process.
spawn() {
	local name=$1
	shift
	(
		# shellcheck disable=SC2034
		SPAWN='exec'
		"$@"
	) >"$TMP/$name.log" 2>&1 </dev/null &
	SPAWNED=$!
	pids+=("$SPAWNED")
}
# end PID: stop a spawned process and wait for it.
end() {
	kill "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null || true
}

# wait_for COMMAND...: until it succeeds, 30 s (or $WAIT_S) at most.
wait_for() {
	local until=$((SECONDS + ${WAIT_S:-30}))
	while ! "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $until ] || { echo "# gave up waiting for: $*"; return 1; }
		sleep 0.05
	done
}
gone() { ! kill -0 "$1" 2>/dev/null; }
far_listens() { in_far ss -Hltn "sport = :$1" | grep -q .; }
near_listens() { in_near ss -Hltn "sport = :$1" | grep -q .; }

# A refusal from there is an answer.
link_works() { in_near timeout 5 "$HAZARD" connect "$1" 9 | grep -q ECONNREFUSED; }

# A test may have another link, or one with QUEUES.
link_hosts() {
	local n=${QUEUES:-${DMM_THREADS:-}} q
	q=${n:+numrxqueues $n numtxqueues $n}
	# shellcheck disable=SC2086
	ip link add near0 netns "$NEAR" $q type veth peer name far0 $q netns "$FAR"
}

namespaces() {
	local ns
	ip netns add "$NEAR"
	ip netns add "$FAR"
	link_hosts
	for ns in "$NEAR" "$FAR"; do
		ip netns exec "$ns" sysctl -qw net.ipv4.tcp_tw_reuse=1 net.ipv4.tcp_fastopen=3 \
			net.ipv6.conf.all.accept_dad=0
		ip -n "$ns" link set lo up
	done
	ip netns exec "$NEAR" sysctl -qw net.ipv6.conf.near0.accept_dad=0
	ip netns exec "$FAR" sysctl -qw net.ipv6.conf.far0.accept_dad=0
	ip netns exec "$FAR" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
		net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0
	ip -n "$NEAR" addr add $NEAR4/24 dev near0
	ip -n "$NEAR" addr add $NEAR6/64 dev near0 nodad
	ip -n "$FAR" addr add $FAR4/24 dev far0
	ip -n "$FAR" addr add $FAR6/64 dev far0 nodad
	ip -n "$NEAR" link set near0 mtu 1500 up
	ip -n "$FAR" link set far0 mtu 1500 up
	for ns in 66 77; do
		ip -n "$NEAR" route add 10.$ns.0.0/16 via $FAR4
		ip -n "$NEAR" route add fd$ns::/64 via $FAR6
	done
	ip -n "$FAR" route add unreachable 10.66.0.0/16
	ip -n "$FAR" route add unreachable fd66::/64
	ip -n "$FAR" route add blackhole 10.77.0.0/16
	ip -n "$FAR" route add blackhole fd77::/64
	wait_for link_works $FAR4
	wait_for link_works $FAR6
}

setup() {
	TMP=$(mktemp -d "${TMPDIR:-/tmp}/dmm-test-$ID.XXXXXX")
	chmod 755 "$TMP"
	export DMM_RUN=$TMP/run
	mkdir -p "$DMM_RUN"
	trap cleanup EXIT
	trap 'exit 130' INT TERM
	HAZARD=$(program hazard)
	if [ "$DMM_BASELINE" != 1 ]; then
		DMM_POLICYD=$(program dmm-policyd)
		DMM_POLICY=$(program dmm-policy)
		DMM_RUN_PROGRAM=$(program dmm-run)
		mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf ||
			skip_all "bpffs cannot be mounted"
	fi
	namespaces
	if [ "${1:-}" = --shell ]; then
		config | start_policyd
		echo "near: nsenter --net=/run/netns/$NEAR; far: nsenter --net=/run/netns/$FAR"
		echo "DMM_BPFFS=$DMM_BPFFS DMM_RUN=$DMM_RUN, group web, files in $TMP; exit cleans up"
		in_near env PATH="$DMM_BUILD/policyd:$DMM_BUILD/loader:$PATH" bash -i || true
		finished=1
		exit 0
	fi
}

# shellcheck disable=SC2120
# The usual configuration; $1 is what the rule uses, $CARRIER its carrier.
config() {
	cat <<-YAML
		groups:
		  web: {cgroup: $CGROUP/web}
		stacks:
		  edge0: {engine: $DMM_ENGINE,${DMM_THREADS:+ threads: $DMM_THREADS,} port: {driver: $DMM_DRIVER, interface: near0}}
		rules:
		  - name: web-tcp
		    match: {group: web, proto: tcp}
		    use: ${1:-[edge0, kernel]}
		    carrier: ${CARRIER:-tcp}
		default: kernel
	YAML
}

stack_field() { # stack_field STACK FILTER
	policy -j stack list 2>/dev/null | jq -r ".[] | select(.name == \"$1\") | $2"
}
stack_up() { [ "$(stack_field "${1:-edge0}" .up)" = true ]; }
instance_pid() { stack_field "${1:-edge0}" .instance.pid; }

# shellcheck disable=SC2120
# start_policyd [OPTION...] <CONFIG: the daemon in near, with its instances up.
start_policyd() {
	if [ "$DMM_BASELINE" = 1 ]; then
		cat >/dev/null
		return
	fi
	cat >"$TMP/dmm.yaml"
	launch_policyd "$@"
	# programs are verified and an instance starts: seconds, where others want the CPU too
	if ! WAIT_S=${WAIT_S:-60} wait_for stack_up edge0; then
		sed 's/^/# /' "$TMP/policyd.log"
		not_ok "dmm-policyd did not bring up edge0"
		exit 1
	fi
}
launch_policyd() {
	spawn policyd in_near "$DMM_POLICYD" -c "$TMP/dmm.yaml" "$@"
	POLICYD_PID=$SPAWNED
}
stop_policyd() {
	[ "$DMM_BASELINE" = 1 ] && return
	[ -z "${POLICYD_PID:-}" ] || end "$POLICYD_PID"
	POLICYD_PID=
	in_near "$DMM_POLICYD" --teardown >>"$TMP/teardown.log" 2>&1
}

# cpu_ns PID: that its threads were on a CPU: exact, where ticks are samples
cpu_ns() {
	cat "/proc/$1/task/"*/schedstat | awk '{ sum += $1 } END { printf "%d\n", sum }'
}

# counter NAME [STACK]: of an instance, or of the BPF programs. mark; … since NAME: what was added.
counter_of() {
	jq -r --arg n "$1" --arg s "${2:-edge0}" '.instances[$s][$n] // .counters[$n] // 0'
}
counter() {
	policy -j stats | counter_of "$@"
}
mark() {
	[ "$DMM_BASELINE" = 1 ] || policy -j stats >"$TMP/mark.json"
}
since() {
	local before after
	before=$(counter_of "$@" <"$TMP/mark.json")
	after=$(counter "$@")
	echo $((after - before))
}
verdicts() { # verdicts STACK REASON: sockets that got this, any role
	policy -j stats | jq -r --arg s "$1" --arg r "$2" \
		'[.verdicts[] | select(.stack == $s and .reason == $r) | .sockets] | add // 0'
}
flows() { # flows FILTER: how many live sockets it selects
	policy -j flows | jq "[.[] | select($1)] | length"
}
# through_port TEXT rx|tx BYTES: since the mark the instance's port has moved at least that.
through_port() {
	local name=port_transmit_bytes
	[ "$2" = tx ] || name=port_receive_bytes
	if [ "$DMM_BASELINE" = 1 ]; then
		skip "$1: baseline"
	else
		check "$1" at_least "$(since $name)" "$3"
	fi
}
# big_both_ways HOST [PREFIX]: 20 MB from far_nginx, and 20 MB to it; both through the port
big_both_ways() {
	local host=$1 text=${2:-} want
	want=$(sum "$TMP/www/big")
	rm -f "$TMP/got" "$TMP/www/put/up"
	mark
	run_managed web curl -sS -m 60 -o "$TMP/got" "http://$host:8080/big" || true
	check "${text}GET of 20 MB from $host" equal "$(sum "$TMP/got")" "$want"
	through_port "${text}GET from $host came through the port" rx 20000000
	mark
	run_managed web curl -sS -m 60 -T "$TMP/www/big" "http://$host:8080/put/up" || true
	check "${text}PUT of 20 MB to $host" equal "$(sum "$TMP/www/put/up" 2>/dev/null)" "$want"
	through_port "${text}PUT to $host went through the port" tx 20000000
}

# What the far host sees: headers of at most 300 000 packets.
start_capture() {
	rm -f "$TMP/far.pcap"
	spawn tcpdump in_far tcpdump -i far0 -Z root -s 128 -U -B 16384 -c 300000 -w "$TMP/far.pcap"
	CAPTURE_PID=$SPAWNED
	wait_for grep -q 'listening on' "$TMP/tcpdump.log"
}
stop_capture() {
	sleep 1.2 # the kernel hands a block of packets over once a second
	end "$CAPTURE_PID"
}
captured() { # captured FILTER: packets
	tcpdump -r "$TMP/far.pcap" -nn "$@" 2>/dev/null | wc -l
}

sum() { sha256sum "$@" | cut -d' ' -f1; }

# nginx NAME DIRECTORY LISTEN...: writes $TMP/NAME.conf, a server with GET, PUT and /who.
nginx_config() {
	local name=$1 dir=$2 l
	shift 2
	mkdir -p "$dir" "$TMP/$name"
	{
		echo "user root; daemon off; worker_processes 2; pid $TMP/$name/pid;"
		echo "error_log $TMP/$name/error.log warn; events { worker_connections 2048; }"
		echo "http { access_log $TMP/$name/access.log; client_max_body_size 64m;"
		for l in client_body proxy fastcgi uwsgi scgi; do
			echo "${l}_temp_path $TMP/$name/$l;"
		done
		echo "server {"
		for l in "$@"; do echo "listen $l backlog=1024;"; done
		echo "root $dir; sendfile on; keepalive_requests 1000000;"
		echo "location /who { return 200 \"\$remote_addr \$remote_port\\n\"; }"
		echo "location /put/ { dav_methods PUT; create_full_put_path on; } } }"
	} >"$TMP/$name.conf"
}
far_nginx() { # a server on far, port 8080, its files in $TMP/www
	nginx_config far-nginx "$TMP/www" "$FAR4:8080" "[$FAR6]:8080"
	head -c 20000000 /dev/urandom >"$TMP/www/big"
	echo small >"$TMP/www/small"
	spawn far-nginx in_far nginx -c "$TMP/far-nginx.conf"
	wait_for far_listens 8080
}
small() { # small URL...: far_nginx's from each, over connections of their own, 60 in all; how many came
	local urls=() u i
	for u in "$@"; do
		for ((i = 0; i < 60 / $#; i++)); do urls+=("$u"); done
	done
	curl -sS --no-progress-meter -m 20 -H 'Connection: close' -Z --parallel-immediate --parallel-max 60 "${urls[@]}" |
		grep -c '^small$' || true
}

cleanup() {
	local status=$? p
	trap - EXIT
	trap : INT TERM # timeout(1) sends its signal twice
	set +e
	if [ $finished = 0 ]; then
		not_ok "aborted"
		status=1
	fi
	if [ $failed != 0 ] && [ -s "$TMP/policyd.log" ]; then
		echo "# dmm-policyd:"
		tail -n 30 "$TMP/policyd.log" | sed 's/^/# /'
	fi
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
	if [ -n "${DMM_POLICYD:-}" ]; then
		wait "${POLICYD_PID:-}" 2>/dev/null
		in_near timeout 10 "$DMM_POLICYD" --teardown >/dev/null 2>&1
	fi
	sleep 0.1
	# whatever is left lives in namespaces that are ours alone
	for p in $(ip netns pids "$NEAR" 2>/dev/null) $(ip netns pids "$FAR" 2>/dev/null); do
		kill -9 "$p" 2>/dev/null
	done
	wait 2>/dev/null
	ip netns del "$NEAR" 2>/dev/null
	ip netns del "$FAR" 2>/dev/null
	[ -z "${MID:-}" ] || ip netns del "$MID" 2>/dev/null
	rm -rf "$DMM_BPFFS"
	find "$(cgroup_root)/$CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null
	if [ -n "${DMM_KEEP:-}" ]; then echo "# kept $TMP"; else rm -rf "$TMP"; fi
	[ $finished = 1 ] || echo "$passed passed, $failed failed, $skipped skipped"
	exit $status
}

finish() {
	finished=1
	echo "$passed passed, $failed failed, $skipped skipped"
	[ $failed = 0 ]
	exit
}
