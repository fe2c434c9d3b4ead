#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Hosts that share a policy over a real etcd of three members: three daemons with trees and groups of
# their own. Members are killed, stopped and started again while the policy changes; changes are
# compacted away; all of etcd goes and comes. No change is lost, none is half in force, and a host
# without etcd keeps what it has and says so.
# shellcheck disable=SC2317 # functions are called by check
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need etcd etcdctl openssl
setup "$@"
DMM_NRD=$(program dmm-nrd)
[ "$DMM_BASELINE" != 1 ] || skip_all "only with DMM"

# ---- etcd ----
members=(1 2 3)
client() { echo "http://127.0.0.1:$((2379 + $1 * 10))"; }
peer() { echo "http://127.0.0.1:$((2380 + $1 * 10))"; }
cluster=$(for m in "${members[@]}"; do echo "m$m=$(peer "$m")"; done | paste -sd,)
endpoints=$(for m in "${members[@]}"; do client "$m"; done | paste -sd,)
declare -A member_pid
member() { # member N: start it, with what it has stored
	spawn "etcd$1" in_near etcd --name "m$1" --data-dir "$TMP/etcd$1" --initial-cluster "$cluster" \
		--listen-client-urls "$(client "$1")" --advertise-client-urls "$(client "$1")" \
		--listen-peer-urls "$(peer "$1")" --initial-advertise-peer-urls "$(peer "$1")" \
		--heartbeat-interval 50 --election-timeout 300
	member_pid[$1]=$SPAWNED
}
signal() { kill "-$1" "${member_pid[$2]}"; }
ctl() { in_near env ETCDCTL_API=3 etcdctl --endpoints "$endpoints" --dial-timeout=300ms --command-timeout=2s "$@"; }
leader() { # the number of the member that leads
	ctl endpoint status -w json 2>/dev/null |
		jq -r '.[] | select(.Status.leader == .Status.header.member_id) | .Endpoint | split(":")[2] | (tonumber - 2379) / 10'
}
put() { wait_for ctl put "/dmm/$1" "$2"; }

# ---- hosts ----
refuses() { ! "$@" >/dev/null 2>&1; }
hosts=(a b c)
on() { # on HOST COMMAND...
	local h=$1
	shift
	in_near env DMM_BPFFS="$DMM_BPFFS-$h" DMM_RUN="$TMP/$h" "$@"
}
declare -A host_pid
host() { spawn "host-$1" on "$1" "$DMM_POLICYD" -c "$TMP/$1.yaml"; host_pid[$1]=$SPAWNED; }
rules() { on "$1" "$DMM_POLICY" -j show | jq -c '[.policy.rules[].name]'; }
generation() { on "$1" "$DMM_POLICY" -j show | jq .generation; }
has() { [ "$(rules "$1")" = "$2" ]; }
said() { grep -q "$2" "$TMP/host-$1.log"; }
registered() { [ "$(ctl get --prefix --keys-only /dmm/hosts/ | grep -c .)" = "$1" ]; }
teardown_hosts() {
	for h in "${hosts[@]}"; do on "$h" "$DMM_POLICYD" --teardown >>"$TMP/teardown.log" 2>&1; done
}
for h in "${hosts[@]}"; do
	mkdir "$TMP/$h"
	cat >"$TMP/$h.yaml" <<-YAML
		groups: {web: {cgroup: $CGROUP/$h}}
		stacks: {plain: {kind: kernel, priority: 1}}
		rules:
		  - {name: own, match: {group: web, remote_port: 22}, use: kernel}
		daemon:
		  etcd: {endpoints: [${endpoints//,/, }], name: host-$h, lease: 3s}
	YAML
done
# pair N: two documents of one revision; no host may ever see one without the other. Only after the pair
# before: a request to a member that was stopped may be carried out much later.
pair() {
	local doc='{version: 1, rules: [{name: X-N, match: {group: web, remote_port: 80}, use: kernel}]}'
	doc=${doc//N/$1}
	printf 'val("/dmm/pair") < "%02d"\n\nput /dmm/pair %02d\nput /dmm/policy/one "%s"\nput /dmm/policy/two "%s"\n\n\n' \
		"$1" "$1" "${doc/X/one}" "$(sed 's/X/two/; s/port: 80/port: 443/' <<<"$doc")" | ctl txn >/dev/null
}
all_have() { for h in "${hosts[@]}"; do has "$h" "$1" || return 1; done; }
pair_seen() { all_have "[\"own\",\"one-$1\",\"two-$1\"]"; }

for m in "${members[@]}"; do member "$m"; done
wait_for ctl endpoint health
for h in "${hosts[@]}"; do host "$h"; done
check "three hosts are registered" wait_for registered 3
check "with what they are" equal "$(ctl get /dmm/hosts/host-a --print-value-only | jq -c '[.version, .name, .addresses[0]]')" \
	"[1,\"host-a\",\"$NEAR4\"]"

put pair 00
wait_for pair 1
check "a policy comes to all hosts, behind the operator's rules" wait_for pair_seen 1
by_hand() { ! on a "$DMM_POLICY" "$@" 2>"$TMP/by-hand" && grep -q 'is shared by hosts' "$TMP/by-hand"; }
check "what they say is not switched off by hand" by_hand rule disable one-1
check "nor taken away" by_hand del two-1
put policy/c '{version: 1, hosts: {name: "*-c"}, rules: [{name: only-c, match: {group: web, remote_port: 81}, use: kernel}]}'
check "one for some hosts to these" wait_for has c '["own","only-c","one-1","two-1"]'
check "and not to others" has a '["own","one-1","two-1"]'
ctl del /dmm/policy/c >/dev/null
check "and it goes" wait_for pair_seen 1

# what hosts tell of shared rules, and what they are advised
put policy/auto '{version: 1, rules: [{name: shared, match: {group: web, remote_port: 90}, use: {auto: [kernel, plain]}}]}'
wait_for has a '["own","shared","one-1","two-1"]'
on a "$DMM_RUN_PROGRAM" -g web -- bash -c 'for _ in {1..20}; do : <>/dev/tcp/'$FAR4'/90; done' 2>/dev/null || true
told() { ctl get /dmm/reports/host-a --print-value-only | jq -e '.host == "host-a" and (.reports[0] |
	.rule == "shared" and .remote == "10.55.0.0" and .failed.refused == 20)' >/dev/null; }
check "a host tells what its connections were like" wait_for told
advice() { echo "{\"nrd\": 1, \"host\": \"dmm-nrd\", \"sequence\": $1, \"issued\": $(date +%s), \"advice\": [
	{\"rule\": \"elsewhere\", \"stack\": \"x\"}, {\"rule\": \"$2\", \"stack\": \"plain\"}]}"; }
put advice "$(advice 1 shared)"
status() { on a "$DMM_POLICY" -j nrd status | jq -c '[.rules, .etcd.reports, .etcd.advice, .etcd.advice_refused]'; }
advised() { [ "$(status)" = "$1" ]; }
check "it takes advice, but for rules that it does not have" wait_for advised '[1,1,1,0]'
put advice "$(advice 2 own)"
check "and none about a rule of its operator" wait_for said a 'advice is refused whole: rule "own" was not left to nRD'
check "so says nrd status" equal "$(status)" '[1,1,1,1]'
ctl del /dmm/policy/auto >/dev/null
wait_for pair_seen 1

# refused whole, and the policy that was there stays
refused() { for h in "${hosts[@]}"; do said "$h" "$1" || return 1; done; }
put policy/bad '{version: 1, rules: [{name: own, match: {group: web}, use: kernel}]}'
check "a rule of the operator's name is refused" wait_for refused 'refused whole: etcd:bad:1.*"own" is the operator'
put policy/bad '{version: 2, ruels: []}'
check "a document from the future is refused" wait_for refused 'refused whole: etcd:bad:1.*knows version 1'
put policy/bad '{version: 1, rules: [{name: x, use: nowhere}]}'
check "one of a stack that is not there is refused" wait_for refused 'refused whole: etcd:bad.*nowhere'
put policy/bad '{version: 1, rules: ['
check "one that is malformed is refused" wait_for refused 'refused whole: etcd:bad:1.*:'
printf '{version: 1}\0' | ctl put /dmm/policy/bad >/dev/null
check "one with a zero byte is refused, and not taken for gone" wait_for refused 'refused whole: etcd:bad:.*control characters'
check "and the policy stays" pair_seen 1
ctl del /dmm/policy/bad >/dev/null

# a member dies, is stopped, leads no more: under change
n=1
for how in KILL STOP; do
	victim=$(leader)
	signal $how "$victim"
	for _ in 1 2 3; do
		n=$((n + 1))
		wait_for pair $n || not_ok "etcd takes no change with two of three members"
	done
	check "changes come while the leader is gone ($how)" wait_for pair_seen $n
	if [ $how = KILL ]; then member "$victim"; else signal CONT "$victim"; fi
	wait_for ctl endpoint health
done
# each generation that ever was has both rules of a pair, or none
whole() {
	local h g ones twos all=0
	for h in "${!host_pid[@]}"; do
		for g in $(on "$h" "$DMM_POLICY" -j history | jq .[].generation); do
			on "$h" "$DMM_POLICY" history "$g" >"$TMP/generation"
			ones=$(sed -n 's/^# rule one-\([0-9]*\) .*/\1/p' "$TMP/generation")
			twos=$(sed -n 's/^# rule two-\([0-9]*\) .*/\1/p' "$TMP/generation")
			equal "$ones" "$twos" || return 1
			[ -z "$ones" ] || all=$((all + 1))
		done
	done
	at_least "$all" 9
}
check "no generation has half of a change" whole

# by hand, and from the file: the operator's are first, the shared ones stay
on a "$DMM_POLICY" add hand group web remote_port 25 use kernel >/dev/null
check "a rule that is added by hand comes before the shared ones" has a "[\"own\",\"hand\",\"one-$n\",\"two-$n\"]"
on a "$DMM_POLICY" -j show | jq .policy >"$TMP/a-as-told.json"
check "show -j tells whose a rule is" equal "$(jq -c '[.rules[].origin]' "$TMP/a-as-told.json")" '[null,null,"nrd","nrd"]'
on a "$DMM_POLICY" apply -f "$TMP/a-as-told.json" >/dev/null
check "which does not become the operator's when that is applied" wait_for has a "[\"own\",\"hand\",\"one-$n\",\"two-$n\"]"
on a "$DMM_POLICY" apply -f "$TMP/a.yaml" >/dev/null
check "a file that is applied loses none" wait_for has a "[\"own\",\"one-$n\",\"two-$n\"]"

# all of etcd goes, and a daemon is started anew meanwhile
for m in "${members[@]}"; do signal KILL "$m"; done
check "a host says that it is cut off" wait_for said b 'disconnected; the shared policy of revision [0-9]* is kept'
healthz() { on "$1" curl -s --unix-socket "$TMP/$1/policyd.sock" http://dmm/healthz; }
says_cut_off() { healthz "$1" | grep -q '^etcd: disconnected since 20.*policy of revision [0-9]* kept'; }
check "and over HTTP" wait_for says_cut_off b
check "which is no fault of the host" equal "$(healthz b | head -1)" ok
kill -9 "${host_pid[a]}"
before=$(generation a)
host a
check "a daemon that starts without etcd keeps the policy" wait_for said a 'goes on, as the configuration says'
check "it is the same" equal "$(generation a) $(rules a)" "$before [\"own\",\"one-$n\",\"two-$n\"]"
on c "$DMM_POLICYD" --teardown >/dev/null 2>&1 || true # refused: it runs
kill -9 "${host_pid[c]}"
wait_for gone "${host_pid[c]}"
on c "$DMM_POLICYD" --teardown >/dev/null 2>&1
host c
check "and one whose maps are gone too, as after a reboot" wait_for has c "[\"own\",\"one-$n\",\"two-$n\"]"
for m in "${members[@]}"; do member "$m"; done
wait_for ctl endpoint health
n=$((n + 1))
wait_for pair $n
check "etcd comes again: what changed comes" wait_for pair_seen $n

# forgotten while a host was away
kill -STOP "${host_pid[b]}"
for _ in 1 2 3; do n=$((n + 1)); wait_for pair $n; done
kill -9 "${host_pid[b]}"
revision=$(ctl endpoint status -w json | jq '.[0].Status.header.revision')
ctl compact "$revision" >/dev/null
host b
check "a host whose revision was compacted away reads all again" wait_for pair_seen $n
check "and says so" said b 'forgotten: all is read again'

# two that write the policy, each another one, so that it is seen who did
declare -A nrd_pid
nrd() { spawn "nrd$1" on a "$DMM_NRD" -c "$TMP/a.yaml" -d "$TMP/shared$1"; nrd_pid[$1]=$SPAWNED; }
wants() { # wants N RULE
	mkdir -p "$TMP/shared$1"
	echo "{version: 1, rules: [{name: $2, match: {group: web, remote_port: 80}, use: kernel}]}" >"$TMP/shared$1/all.yaml"
}
nrd_said() { grep -q "$2" "$TMP/nrd$1.log"; }
wants 1 by-1
wants 2 by-2
nrd 1
check "dmm-nrd writes the policy, in place of all that is there" wait_for all_have '["own","by-1"]'
nrd 2
wait_for nrd_said 2 '1 rule'
kill -STOP "${nrd_pid[1]}"
check "the one that waits leads when the leader is silent" wait_for all_have '["own","by-2"]'
kill -CONT "${nrd_pid[1]}"
check "who was deposed sees it" wait_for nrd_said 1 'leads no more'
check "and has written nothing" all_have '["own","by-2"]'
end "${nrd_pid[1]}"
# deposed while it holds its lease: only etcd can tell
ctl del /dmm/leader >/dev/null
ctl put /dmm/leader other >/dev/null
wants 2 by-2-again
kill -HUP "${nrd_pid[2]}"
check "who was deposed and does not know it writes nothing" wait_for nrd_said 2 'another one leads: nothing was written'
check "so it is" all_have '["own","by-2"]'
ctl del /dmm/leader >/dev/null
check "when it leads again it does" wait_for all_have '["own","by-2-again"]'
echo '{version: 1, rules: [{nam: x}]}' >"$TMP/shared2/bad.yaml"
kill -HUP "${nrd_pid[2]}"
check "documents with an error are not written" wait_for nrd_said 2 'not taken; those before stay'
rm "$TMP"/shared2/*.yaml
kill -HUP "${nrd_pid[2]}"
check "a directory that lost its documents takes nothing away" wait_for nrd_said 2 'has no NAME.yaml'
check "so it is still" all_have '["own","by-2-again"]'
end "${nrd_pid[2]}"

# by TLS with certificates of both ends, user and password; etcd wants certificates without a common name then
pki() { # pki NAME SUBJECT-ALTERNATIVE-NAME
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/O=$1" -keyout "$TMP/$1.key" 2>/dev/null |
		openssl x509 -req -CA "$TMP/ca.pem" -CAkey "$TMP/ca.key" -CAcreateserial -days 2 -out "$TMP/$1.pem" \
			-extfile <(echo "subjectAltName=$2"; echo "extendedKeyUsage=serverAuth,clientAuth") 2>/dev/null
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ca -keyout "$TMP/ca.key" \
	-out "$TMP/ca.pem" 2>/dev/null
pki server IP:127.0.0.1
pki client DNS:host-d
spawn etcd-tls in_near etcd --name t --data-dir "$TMP/etcd-tls" --listen-client-urls https://127.0.0.1:2479 \
	--advertise-client-urls https://127.0.0.1:2479 --listen-peer-urls http://127.0.0.1:2480 \
	--initial-advertise-peer-urls http://127.0.0.1:2480 --initial-cluster t=http://127.0.0.1:2480 \
	--cert-file "$TMP/server.pem" --key-file "$TMP/server.key" --trusted-ca-file "$TMP/ca.pem" --client-cert-auth
tls() { in_near env ETCDCTL_API=3 etcdctl --endpoints https://127.0.0.1:2479 --cacert "$TMP/ca.pem" --cert "$TMP/client.pem" \
	--key "$TMP/client.key" --command-timeout=3s "$@"; }
wait_for tls endpoint health
for word in 'user add root:all' 'role add root' 'user grant-role root root' 'user add dmm:secret' 'role add dmm' \
	'role grant-permission --prefix=true dmm readwrite /dmm/' 'user grant-role dmm dmm' 'auth enable'; do
	# shellcheck disable=SC2086
	tls $word >/dev/null 2>>"$TMP/tls.log" || true # a root role may be there
done
mkdir "$TMP/d"
echo secret >"$TMP/password"
chmod 600 "$TMP/password"
cat >"$TMP/d.yaml" <<-YAML
	groups: {web: {cgroup: $CGROUP/d}}
	daemon:
	  etcd: {endpoints: [https://127.0.0.1:2479], name: host-d, lease: 3s, ca: $TMP/ca.pem, cert: $TMP/client.pem,
	         key: $TMP/client.key, user: dmm, password_file: $TMP/password}
YAML
host d
as_root() { tls --user root:all "$@"; }
secure() { as_root get /dmm/hosts/host-d --print-value-only | jq -e '.name == "host-d"' >/dev/null; }
check "a host registers by TLS, with certificate, user and password" wait_for secure
as_root put /dmm/policy/one '{version: 1, rules: [{name: secure, match: {group: web}, use: kernel}]}' >/dev/null
check "and takes the policy" wait_for has d '["secure"]'
check "without the password nothing is told" refuses tls get /dmm/hosts/host-d
# who shows a certificate of another authority is not etcd, whatever it knows
mkdir "$TMP/e"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ca -keyout "$TMP/other.key" \
	-out "$TMP/other.pem" 2>/dev/null
sed "s/ca.pem/other.pem/; s/host-d/host-e/; s|$CGROUP/d|$CGROUP/e|" "$TMP/d.yaml" >"$TMP/e.yaml"
host e
check "a certificate of another authority is refused" wait_for said e 'SSL certificate problem'
check "and nothing is told to who shows it" equal "$(as_root get /dmm/hosts/host-e)" ""
end "${host_pid[e]}"
on e "$DMM_POLICYD" --teardown >>"$TMP/teardown.log" 2>&1
unset 'host_pid[e]'
end "${host_pid[d]}"
on d "$DMM_POLICYD" --teardown >>"$TMP/teardown.log" 2>&1
unset 'host_pid[d]'

kill "${host_pid[a]}"
check "a host that goes takes its registration along" wait_for registered 2
check "still no generation has half of a change" whole
for h in b c; do end "${host_pid[$h]}"; done
wait_for gone "${host_pid[a]}"
check "all is removed" teardown_hosts
finish
