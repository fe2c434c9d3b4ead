#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The daemon as its systemd unit runs it: with those capabilities and no others it carries, replaces an
# instance, answers and tears down. It tells the service manager that it is ready and that it lives.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx setpriv python3
setup "$@"
[ "$DMM_BASELINE" != 1 ] || skip_all "there is no unit in the baseline"
unit=$root/docs/dmm-policyd.service
far_nginx
nginx_config near-nginx "$TMP/www" "$NEAR4:8090"

caps=$(sed -n 's/^CapabilityBoundingSet=//p' "$unit" | tr 'A-Z ' 'a-z\n' | sed 's/^cap_/,+/' | tr -d '\n')
check "the unit names capabilities" test -n "$caps"
confined() { in_near setpriv --bounding-set="-all$caps" --no-new-privs "$@"; }
{
	echo "daemon: {socket_group: nogroup}"
	config
} >"$TMP/auto.yaml"
cp "$TMP/auto.yaml" "$TMP/dmm.yaml"

# What a service manager does: a datagram socket that is told.
spawn manager python3 -uc 'import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound")
while True: print(s.recv(4096).decode())' "$TMP/notify"
wait_for grep -q bound "$TMP/manager.log"
spawn policyd confined env NOTIFY_SOCKET="$TMP/notify" WATCHDOG_USEC=1000000 "$DMM_POLICYD" -c "$TMP/dmm.yaml"
POLICYD_PID=$SPAWNED
check "the instance comes up" wait_for stack_up
told() { [ "$(grep -c "^$1" "$TMP/manager.log")" -ge "$2" ]; }
check "the manager is told: ready" wait_for told READY=1 1
check "and that the daemon lives" wait_for told WATCHDOG=1 4
kill -HUP "$POLICYD_PID"
check "and that it reads its files again" wait_for told RELOADING=1 1
check "and is ready again" wait_for told READY=1 2

mark
check "a client over IPv4" run_managed web curl -fsS -m 5 -o /dev/null "http://$FAR4:8080/small"
check "a client over IPv6" run_managed web curl -fsS -m 5 -o /dev/null "http://[$FAR6]:8080/small"
check "by the instance" at_least "$(since connections_established)" 2
spawn near-nginx run_managed web nginx -c "$TMP/near-nginx.conf"
wait_for near_listens 8090
served() { in_far curl -fsS -m 2 -o /dev/null "http://$NEAR4:8090/small" && [ "$(since connections_accepted)" -ge 1 ]; }
check "a server, by the instance" wait_for served
check "the socket is of its group" equal "$(stat -c %G:%a "$TMP/run/policyd.sock")" nogroup:660
for what in metrics healthz v1/policy v1/flows v1/stacks v1/groups v1/stats; do
	check "GET /$what" curl -fsS -m 5 -o /dev/null --unix-socket "$TMP/run/policyd.sock" "http://dmm/$what"
done
replaced() { stack_up && [ "$(instance_pid)" != "$before" ]; }
for mode in auto native generic; do
	if [ $mode != auto ]; then
		sed "s/driver: xsk,/driver: xsk, mode: $mode,/" "$TMP/auto.yaml" >"$TMP/dmm.yaml"
		before=$(instance_pid)
		kill -HUP "$POLICYD_PID"
		check "mode $mode: the instance is another" eval 'WAIT_S=20 wait_for replaced'
	fi
	before=$(instance_pid)
	mark
	kill -9 "$before"
	check "mode $mode: an instance that died is replaced" eval 'WAIT_S=20 wait_for replaced'
	check "mode $mode: and carries" wait_for served
done
end "$SPAWNED"
end "$POLICYD_PID"
check "the manager is told: stopping" wait_for told STOPPING=1 1
POLICYD_PID=
check "teardown" confined "$DMM_POLICYD" --teardown
check "nothing is left" test ! -e "$DMM_BPFFS"

if command -v systemd-analyze >/dev/null; then
	sed "s|^ExecStart=.*|ExecStart=$DMM_POLICYD|" "$unit" >"$TMP/dmm-policyd.service"
	check "systemd finds no fault in the unit" eval 'systemd-analyze verify --man=no "$TMP/dmm-policyd.service" >"$TMP/verify" 2>&1 && [ ! -s "$TMP/verify" ]'
	sed 's/^/# /' "$TMP/verify"
	# tenths of systemd's score, 0 to 100; what is left are the rights that it needs
	exposed() { systemd-analyze security --offline=true --threshold="$2" "$root/docs/$1.service" >"$TMP/exposure"; }
	check "the daemon is exposed no more than it must be" exposed dmm-policyd 45
	check "dmm-nrd hardly is" exposed dmm-nrd 23
else
	skip "systemd finds no fault in the unit: no systemd-analyze"
fi
finish
