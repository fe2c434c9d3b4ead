#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sftp and ssh in the group to an sshd of our own on the far host.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need sshd ssh sftp ssh-keygen
setup "$@"
config | start_policyd
ssh-keygen -q -t ed25519 -N '' -f "$TMP/host"
ssh-keygen -q -t ed25519 -N '' -f "$TMP/user"
cat >"$TMP/sshd.conf" <<CONF
Port 2222
ListenAddress 0.0.0.0
ListenAddress ::
HostKey $TMP/host
AuthorizedKeysFile $TMP/user.pub
PidFile $TMP/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
CONF
made=0
[ -d /run/sshd ] || { mkdir -p /run/sshd; made=1; } # of privilege separation
spawn sshd in_far "$(command -v sshd)" -D -e -f "$TMP/sshd.conf"
wait_for far_listens 2222
head -c 20000000 /dev/urandom >"$TMP/file"
options=(-i "$TMP/user" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null
	-o LogLevel=ERROR -o BatchMode=yes -o ConnectTimeout=10 -o "IPQoS=cs5 cs1" -F none)

start_capture
for host in $FAR4 $FAR6; do
	mark
	printf 'put %s %s\nget %s %s\n' "$TMP/file" "$TMP/there" "$TMP/there" "$TMP/back" |
		run_managed web timeout 60 sftp -P 2222 -b - "${options[@]}" "root@[$host]" \
			>"$TMP/sftp.log" 2>&1 || sed 's/^/# /' "$TMP/sftp.log"
	check "sftp put of 20 MB to $host" cmp -s "$TMP/file" "$TMP/there"
	check "sftp get of 20 MB from $host" cmp -s "$TMP/file" "$TMP/back"
	through_port "$host: put went through the port" tx 20000000
	through_port "$host: get came through the port" rx 20000000
	rm -f "$TMP/there" "$TMP/back"
	# what sshd says of the connection is what the client has
	seen=$(run_managed web timeout 20 ssh -p 2222 "${options[@]}" "root@$host" \
		'echo $SSH_CONNECTION' </dev/null || true)
	near=$NEAR4
	[ "$host" = $FAR4 ] || near=$NEAR6
	check "$host: sshd sees $near" equal "$(cut -d' ' -f1,3,4 <<<"$seen")" "$near $host 2222"
done
stop_capture
check "the far host saw the client" at_least "$(captured 'tcp dst port 2222')" 100
# it asks for that when it knows what it is for
for tos in "src $NEAR4 and ip[1] = 0x20" "src $NEAR6 and ip6[0:2] & 0xff0 = 0x200"; do
	check "the far host saw the client's traffic class: $tos" at_least "$(captured "$tos and greater 1000")" 100
done
[ $made = 0 ] || rmdir /run/sshd 2>/dev/null || true
finish
